"""Boosted trees, many times over: a prediction, and how far the members disagree about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from nas_optuna.metrics import Metric, metric

Array: TypeAlias = npt.NDArray[np.float64]
Targets = Literal["log", "rank"]
TARGETS = ("log", "rank")
_LEAST = 1e-6  # gap to the perfect value, below which a logarithm says nothing more
# Measured on NAS-Bench-201, 100 known cells: bootstrapped samples, random forests, extremely
# random trees and Gaussian processes rank worse, depths of 2 and 4 no better.
_TREES = {"n_estimators": 100, "max_depth": 3, "subsample": 0.5, "max_features": 0.3}
_SHARE = 0.9  # of the known results that a member sees


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an ensemble expects of `n` networks.

    Args:
        mean: `(n,)` values, in the metric's unit.
        std: `(n,)` standard deviations over the members, in the same unit.
        doubt: `(n,)` standard deviations over the members as shares of the standard deviation
            of the known results, both in the unit that is learned: 0 is unanimous, 1 knows
            nothing.
    """

    mean: Array
    std: Array
    doubt: Array


class Ensemble:
    """Gradient-boosted trees (Friedman 2002), each member on a sample of what is known.

    Args:
        name: Name of the metric to learn.
        targets: `log` learns the logarithm of the gap to the perfect value (1 where larger is
            better, else 0). `rank` learns the place among the known results, which no outlier
            moves; a prediction then lies between the worst and the best of them.
        members: Number of boosted models.
        seed: Decides the samples.

    Example:
        >>> known = [{"width": float(w)} for w in range(20)]
        >>> ensemble = Ensemble("accuracy").fit(known, np.linspace(0.5, 0.9, 20))
        >>> bool(ensemble.predict([{"width": 16.0}]).mean[0] > 0.8)
        True
    """

    def __init__(
        self, name: str, *, targets: Targets = "log", members: int = 10, seed: int = 0
    ) -> None:
        self._metric = metric(name)
        self._targets = targets
        self._members = members
        self._seed = seed

    def fit(self, encodings: Sequence[Mapping[str, float]], values: npt.ArrayLike) -> Ensemble:
        """Learn from known results.

        Args:
            encodings: One per network; see `nas_optuna.spaces.encode`.
            values: `(n,)` results, in the metric's unit.
        """
        # Seconds to import, so only when used.
        from sklearn.ensemble import BaggingRegressor, GradientBoostingRegressor
        from sklearn.feature_extraction import DictVectorizer

        known = np.asarray(values, dtype=np.float64)
        self._scale = _SCALES[self._targets](self._metric, known)
        learned = self._scale.to(known)
        self._spread = float(learned.std()) or 1.0
        self._vectorizer = DictVectorizer(sparse=False)  # unseen names are dropped
        self._model: Any = BaggingRegressor(
            GradientBoostingRegressor(**_TREES),
            n_estimators=self._members,
            max_samples=round(_SHARE * len(known)),
            bootstrap=False,
            random_state=self._seed,
        ).fit(self._vectorizer.fit_transform(encodings), learned)
        return self

    def predict(self, encodings: Sequence[Mapping[str, float]]) -> Prediction:
        """Predict the results of networks, which need not be among the known ones."""
        x = self._vectorizer.transform(encodings)
        votes = np.stack([member.predict(x) for member in self._model.estimators_])
        values = self._scale.back(votes)  # (members, n)
        return Prediction(
            mean=self._scale.back(votes.mean(0)),
            std=values.std(0),
            doubt=votes.std(0) / self._spread,
        )


class _Ranks:
    """Places among the known results, in (0, 1); tied results share the mean of their places."""

    def __init__(self, measured: Metric, known: Array) -> None:
        self._values, first = np.unique(known, return_index=True)
        self._places = (rankdata(known) / (len(known) + 1))[first]

    def to(self, values: Array) -> Array:
        return np.asarray(np.interp(values, self._values, self._places), dtype=np.float64)

    def back(self, learned: Array) -> Array:
        return np.interp(learned, self._places, self._values)


class _Logarithms:
    """Logarithms of the gap to the perfect value."""

    def __init__(self, measured: Metric, known: Array) -> None:
        self._maximized = measured.maximized

    def to(self, values: Array) -> Array:
        gap = 1.0 - values if self._maximized else values
        return np.log(np.maximum(gap, _LEAST))

    def back(self, learned: Array) -> Array:
        gap = np.exp(learned)
        return 1.0 - gap if self._maximized else gap


_SCALES: dict[Targets, type[_Ranks] | type[_Logarithms]] = {"log": _Logarithms, "rank": _Ranks}

"""Fixed rulers for metrics, and the score that helps to pick one network of a front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_optuna.constraints import SearchConstraints
from nas_optuna.errors import SettingError, check_name
from nas_optuna.metrics import Metric, metric

FloatArray = NDArray[np.float64]

DEFAULT_WEIGHTS: Mapping[str, float] = {"accuracy": 0.6, "latency_ms": 0.2, "parameters": 0.2}


@dataclass(frozen=True, slots=True)
class Scale:
    """A fixed ruler for one metric: 0 at the best value, 1 at the worst that counts.

    Args:
        best: Value at position 0.
        worst: Value at position 1.
        logarithmic: Whether positions go by `log(1 + |value|)`, with the sign of the value.
    """

    best: float
    worst: float
    logarithmic: bool = False

    def positions(self, values: ArrayLike) -> FloatArray:
        """Where values lie on the ruler.

        Args:
            values: `(n,)` values in the metric's unit.

        Returns:
            `(n,)` in [0, 1], smaller is better; values beyond an end are put on it.

        Example:
            >>> Scale(best=0.0, worst=200.0).positions([50.0, 500.0]).tolist()
            [0.25, 1.0]
        """
        marks = np.append(np.asarray(values, dtype=np.float64), (self.best, self.worst))
        if self.logarithmic:
            marks = np.sign(marks) * np.log1p(np.abs(marks))
        best, worst = marks[-2:]
        share = np.clip((marks[:-2] - best) / (worst - best), 0.0, 1.0)
        return np.asarray(share, dtype=np.float64)


def scales(
    names: Sequence[str], constraints: SearchConstraints | None = None
) -> tuple[Scale, ...]:
    """Fixed rulers for metrics, known before the first trial and equal in every run of a study.

    Accuracy runs from 1 down to 0. A cost runs from 0 to its limit; without a limit, to the worst
    value the metric knows, on a logarithmic ruler. A score without a best value (`proxy`) has a
    logarithmic ruler with 0 in its middle.

    Args:
        names: Names of metrics.
        constraints: The limits of the search.

    Raises:
        UnknownNameError: A metric is unknown.

    Example:
        >>> scales(["parameters"], SearchConstraints(max_parameters=5000))
        (Scale(best=0.0, worst=5000.0, logarithmic=False),)
    """
    limits = constraints.limits if constraints else {}
    return tuple(_scale(metric(name), limits.get(f"max_{name}")) for name in names)


def _scale(measured: Metric, limit: float | None) -> Scale:
    if limit is not None:
        return Scale(best=measured.best, worst=float(limit))
    share = abs(measured.best - measured.worst) == 1.0  # else the ends are only far away
    return Scale(best=measured.best, worst=measured.worst, logarithmic=not share)


def positions(
    values: ArrayLike, names: Sequence[str], constraints: SearchConstraints | None = None
) -> FloatArray:
    """Values on the rulers of `scales`.

    Args:
        values: `(n, m)` objective values.
        names: `(m,)` their metrics.
        constraints: The limits of the search; see `scales`.

    Returns:
        `(n, m)` in [0, 1], smaller is better in every column.
    """
    columns = np.asarray(values, dtype=np.float64).reshape(-1, len(names)).T
    rulers = scales(names, constraints)
    return np.stack(
        [ruler.positions(column) for ruler, column in zip(rulers, columns, strict=True)], axis=1
    )


def scores(
    values: ArrayLike,
    names: Sequence[str],
    *,
    weights: Mapping[str, float] | None = None,
    constraints: SearchConstraints | None = None,
) -> FloatArray:
    """One number per network that helps to pick one: the weighted mean of `1 - position`.

    Args:
        values: `(n, m)` objective values.
        names: `(m,)` their metrics.
        weights: Weight by metric name, scaled to sum 1. By default 0.6 accuracy, 0.2 latency and
            0.2 parameters, as far as they are among `names`; all equal if none is.
        constraints: The limits of the search; see `scales`.

    Returns:
        `(n,)` in [0, 1], larger is better.

    Raises:
        UnknownNameError: A weight is for a metric that is not among `names`.
        SettingError: A weight is negative or not finite, or all are 0.

    Example:
        >>> limits = SearchConstraints(max_latency_ms=10.0, max_parameters=1000)
        >>> names = ["accuracy", "latency_ms", "parameters"]
        >>> scores([[1.0, 5.0, 500.0]], names, constraints=limits).round(3).tolist()
        [0.8]
    """
    share = _shares(names, weights)
    return np.asarray((1.0 - positions(values, names, constraints)) @ share, dtype=np.float64)


def _shares(names: Sequence[str], weights: Mapping[str, float] | None) -> FloatArray:
    if weights is None:
        chosen = {name: weight for name, weight in DEFAULT_WEIGHTS.items() if name in names}
        weights = chosen or dict.fromkeys(names, 1.0)
    for name, weight in weights.items():
        check_name("metric", name, names)
        if not (math.isfinite(weight) and weight >= 0):
            raise SettingError(f"The weight of {name!r} must be 0 or more, got {weight}.")
    column = np.array([weights.get(name, 0.0) for name in names], dtype=np.float64)
    if column.sum() == 0:
        raise SettingError("At least one weight must be above 0, got 0 for all.")
    return np.asarray(column / column.sum(), dtype=np.float64)

"""The numbers of a study: feasible trials, their front, its hypervolume, scores and spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.constraints import SearchConstraints
from nas_optuna.errors import SettingError, check_name
from nas_optuna.metrics import METRICS, Metric, metric

FloatArray = NDArray[np.float64]

DEFAULT_WEIGHTS: Mapping[str, float] = {"accuracy": 0.6, "latency_ms": 0.2, "parameters": 0.2}


@dataclass(frozen=True, slots=True)
class Scale:
    """A fixed ruler for one metric: 0 at the best value, 1 at the worst that counts.

    Args:
        best: Value at position 0.
        worst: Value at position 1.
        logarithmic: Whether positions grow with the logarithm of the distance from `best`.
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
        share = (np.asarray(values, dtype=np.float64) - self.best) / (self.worst - self.best)
        share = np.clip(share, 0.0, 1.0)
        if self.logarithmic:
            span = abs(self.worst - self.best)
            share = np.log1p(share * span) / np.log1p(span)
        return np.asarray(share, dtype=np.float64)


def scales(
    names: Sequence[str], constraints: SearchConstraints | None = None
) -> tuple[Scale, ...]:
    """Fixed rulers for metrics, known before the first trial and equal in every run of a study.

    Accuracy runs from 1 down to 0. A cost runs from 0 to its limit; without a limit, to the worst
    value the metric knows, on a logarithmic ruler.

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
    if measured.maximized:
        return Scale(best=1.0, worst=measured.worst)
    if limit is None:
        return Scale(best=0.0, worst=measured.worst, logarithmic=True)
    return Scale(best=0.0, worst=float(limit))


def feasible_trials(study: Study) -> list[FrozenTrial]:
    """Finished trials that keep every constraint, by number; not copied, so do not change them.

    A trial with a value that is not finite measured nothing and is left out.
    """
    return [trial for trial in study.get_trials(deepcopy=False) if is_feasible(trial)]


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial is finished, keeps every constraint and has finite values."""
    return (
        trial.state is TrialState.COMPLETE
        and all(violation <= 0 for violation in trial.constraints.values())
        and all(math.isfinite(value) for value in trial.values)
    )


def pareto_front(study: Study) -> list[FrozenTrial]:
    """Feasible trials that no other dominates, by number; not copied, so do not change them.

    Of trials with equal values only the first is kept. In a single-objective study this is the
    best trial alone.
    """
    trials = feasible_trials(study)
    if not trials:
        return []
    kept = moocore.is_nondominated(minimised(values_of(trials), study.directions))
    return [trial for trial, keep in zip(trials, kept, strict=True) if keep]


def values_of(trials: Sequence[FrozenTrial]) -> FloatArray:
    """Values of finished trials, `(n, m)`."""
    return np.array([trial.values for trial in trials], dtype=np.float64)


def minimised(values: ArrayLike, directions: Sequence[StudyDirection | str]) -> FloatArray:
    """Turn columns round so that smaller is better in each.

    Args:
        values: `(n, m)` objective values; empty becomes `(0, m)`.
        directions: `(m,)` "maximize" or "minimize" of each column.

    Example:
        >>> minimised([[0.5, 3.0]], ["maximize", "minimize"]).tolist()
        [[-0.5, 3.0]]
    """
    columns = np.asarray(values, dtype=np.float64).reshape(-1, len(directions))
    return np.asarray(columns * _signs(directions), dtype=np.float64)


def hypervolume(
    values: ArrayLike,
    directions: Sequence[StudyDirection | str],
    reference: ArrayLike,
    ideal: ArrayLike | None = None,
) -> float:
    """Volume between a set of points and a reference point; larger is better.

    With one reference, adding a point never makes it smaller.

    Args:
        values: `(n, m)` objective values, in any order; dominated rows and rows that do not
            better the reference in every column add nothing. Empty: 0.
        directions: `(m,)` "maximize" or "minimize" of each column.
        reference: `(m,)` the worst values that count.
        ideal: `(m,)` the best values there can be; with it the result is the share of the box
            between both points, in [0, 1].

    Raises:
        SettingError: Lengths differ, or `ideal` does not better `reference` in every column.

    Example:
        >>> hypervolume([[0.9, 20.0], [0.5, 10.0]], ["maximize", "minimize"], [0.0, 30.0])
        14.0
    """
    sign = _signs(directions)
    points = minimised(values, directions)
    worst = _point(reference, sign)
    if ideal is not None:
        best = _point(ideal, sign)
        if not (best < worst).all():
            raise SettingError(
                "`ideal` must be better than `reference` in every column, got "
                f"{(best * sign).tolist()} and {(worst * sign).tolist()}."
            )
        points, worst = (points - best) / (worst - best), np.ones_like(worst)
    # moocore gives NaN for a NaN and inf for an inf
    points = points[np.isfinite(points).all(axis=1)]
    return float(moocore.hypervolume(points, ref=worst)) if len(points) else 0.0


def study_hypervolume(study: Study, constraints: SearchConstraints | None = None) -> float:
    """Share of the box that the study's front covers, in [0, 1], on the rulers of `scales`.

    The rulers do not depend on the trials, so it never falls while a study goes on.

    Raises:
        UnknownNameError: An objective of the study is no metric of this package.
    """
    return front_hypervolume(pareto_front(study), metric_names(study), constraints)


def front_hypervolume(
    front: Sequence[FrozenTrial],
    names: Sequence[str],
    constraints: SearchConstraints | None = None,
) -> float:
    """Share of the box that a front covers; see `study_hypervolume`."""
    if not front:
        return 0.0
    ones = np.ones(len(names))
    return hypervolume(
        positions(values_of(front), names, constraints), ["minimize"] * len(names), ones
    )


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


def spread(values: ArrayLike, limit: int) -> list[int]:
    """Choose the members of a front that lie farthest apart.

    The best of each column is kept first; then, one by one, the member farthest from all kept
    ones (Gonzalez 1985), each column measured on the range it has in `values`.

    Args:
        values: `(n, m)` objective values of a front, finite, every column minimised.
        limit: How many to keep, at least 1; below `m`, the first columns' best are kept.

    Returns:
        Indices into `values`, ascending, `min(n, limit)` of them.

    Raises:
        SettingError: `limit` is below 1.

    Example:
        >>> spread([[0.0, 9.0], [1.0, 8.0], [5.0, 4.0], [9.0, 0.0]], 3)
        [0, 2, 3]
    """
    if limit < 1:
        raise SettingError(f"`limit` must be 1 or more, got {limit}.")
    points = np.asarray(values, dtype=np.float64)
    if len(points) <= limit:
        return list(range(len(points)))
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - low) / np.where(high > low, high - low, 1.0)
    kept = list(dict.fromkeys(points.argmin(axis=0).tolist()))[:limit]
    nearest = np.linalg.norm(points[:, None] - points[kept], axis=2).min(axis=1)  # (n,)
    while len(kept) < limit:
        nearest[kept] = -1.0  # members with equal values are at distance 0 too
        kept.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[kept[-1]], axis=1))
    return sorted(kept)


def metric_names(study: Study) -> list[str]:
    """Names of the study's objectives; `value_0`, `value_1`, ... where it has none."""
    names = study.metric_names
    return list(names) if names else [f"value_{i}" for i in range(len(study.directions))]


def are_metrics(names: Sequence[str]) -> bool:
    """Whether every name is a metric of this package, so that it has a ruler."""
    return all(name in METRICS for name in names)


def _signs(directions: Sequence[StudyDirection | str]) -> FloatArray:
    larger = (StudyDirection.MAXIMIZE, "maximize")
    return np.array([-1.0 if direction in larger else 1.0 for direction in directions])


def _point(point: ArrayLike, sign: FloatArray) -> FloatArray:
    columns = np.asarray(point, dtype=np.float64)
    if columns.shape != sign.shape:
        raise SettingError(
            f"A point needs one value per direction, got {columns.size} for {len(sign)}."
        )
    return np.asarray(columns * sign, dtype=np.float64)

"""The numbers of a study: feasible trials, their front, its hypervolume and spread."""

from __future__ import annotations

import math
from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.constraints import SearchConstraints
from nas_optuna.errors import SettingError
from nas_optuna.metrics import METRICS
from nas_optuna.report.scoring import FloatArray, positions


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

"""How good a set of networks is, and how that grows while a study spends its budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import ArrayLike

from nas_optuna.errors import SettingError
from nas_optuna.metrics import METRICS, metric
from nas_optuna.report.runs import Run
from nas_optuna.report.scoring import FloatArray
from nas_optuna.report.statistics import hypervolume, minimised

MARGIN = 0.1  # of the box beyond the worst member of the front, so that the ends of a front count
_POINTS = 200  # of a band


@dataclass(frozen=True, slots=True)
class Box:
    """The one ruler on which the fronts of all runs are measured.

    Args:
        names: `(m,)` names of the objectives.
        ideal: `(m,)` the best value of each objective on the front that spans the box.
        reference: `(m,)` the reference point: a tenth of the box worse than the worst value of
            each objective on that front (Ishibuchi et al. 2018). What is beyond it adds nothing.
    """

    names: tuple[str, ...]
    ideal: tuple[float, ...]
    reference: tuple[float, ...]

    @classmethod
    def around(
        cls, values: ArrayLike, names: Sequence[str], *, found: ArrayLike | None = None
    ) -> Box:
        """Make the box that the front of some values spans.

        Args:
            values: `(n, m)` values, in their own directions, finite, at least one row.
            names: `(m,)` names of their metrics.
            found: `(k, m)` more values; they, too, span a column in which the front has one
                value only.

        Example:
            >>> Box.around([[0.75, 20.0], [0.5, 10.0], [0.25, 30.0]], ["accuracy", "latency_ms"])
            Box(names=('accuracy', 'latency_ms'), ideal=(0.75, 10.0), reference=(0.475, 21.0))
        """
        directions = directions_of(names)
        more = None if found is None else minimised(found, directions)
        best, worst = spanned(minimised(values, directions), more)
        ends = minimised([best, worst], directions)  # turns the signs back
        return cls(tuple(names), tuple(ends[0].tolist()), tuple(ends[1].tolist()))

    def hypervolume(self, values: ArrayLike) -> float:
        """Share of the box that a set of values covers, in [0, 1].

        Args:
            values: `(n, m)` values, in their own directions; rows of NaN add nothing.
        """
        return hypervolume(values, directions_of(self.names), self.reference, self.ideal)


def spanned(losses: FloatArray, found: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Ideal and reference point of the box that a front spans; see `Box`.

    Args:
        losses: `(n, m)` values, smaller is better, finite, at least one row.
        found: `(k, m)` more of them, which are not asked for the front.

    Returns:
        `(m,)` each.
    """
    front = losses[moocore.is_nondominated(losses)]
    best, worst = front.min(axis=0), front.max(axis=0)
    # A front of one network spans nothing: the width of all values must do, or else 1.
    every = losses if found is None else np.concatenate([losses, found])
    for width in (np.ptp(every, axis=0), np.ones_like(best)):
        worst = np.where(worst > best, worst, best + width)
    return best, worst + MARGIN * (worst - best)


def directions_of(names: Sequence[str]) -> list[str]:
    """Directions of metrics.

    Raises:
        UnknownNameError: One is unknown.
    """
    return [metric(name).direction for name in names]


def front_of(values: ArrayLike, names: Sequence[str]) -> FloatArray:
    """Values that no other dominates, the best of the first metric first.

    Args:
        values: `(n, m)` values, in their own directions; rows of NaN are left out.
        names: `(m,)` names of their metrics.

    Returns:
        `(k, m)`, of equal rows one.
    """
    rows = np.asarray(values, dtype=np.float64).reshape(-1, len(names))
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return rows
    losses = minimised(rows, directions_of(names))
    kept = np.flatnonzero(moocore.is_nondominated(losses, keep_weakly=False))
    return np.asarray(rows[kept[np.lexsort(losses[kept].T[::-1])]])


def hypervolume_curve(run: Run, box: Box) -> FloatArray:
    """Hypervolume of a run after each of its trials, `(n,)`; it never falls."""
    directions = directions_of(box.names)
    ideal, reference = minimised([box.ideal, box.reference], directions)
    return growth(minimised(run.values, directions), ideal, reference)


def growth(losses: FloatArray, best: FloatArray, worst: FloatArray) -> FloatArray:
    """Hypervolume of a growing set after each of its members, `(n,)`; it never falls.

    Args:
        losses: `(n, m)` values in their order, smaller is better; rows of NaN add nothing.
        best: `(m,)` the ideal point of the box of which it is a share.
        worst: `(m,)` its reference point.

    Example:
        >>> losses = np.array([[2.0, 1.0], [3.0, 3.0], [1.0, 2.0]])
        >>> growth(losses, np.zeros(2), np.full(2, 4.0)).tolist()
        [0.375, 0.375, 0.5]
    """
    smaller = ["minimize"] * losses.shape[1]
    front = np.empty((0, losses.shape[1]))
    curve = np.zeros(len(losses))
    reached = 0.0
    for i, loss in enumerate(losses):
        # Most trials add nothing, and are not worth computing a volume. NaN compares as False.
        if np.isfinite(loss).all() and not (front <= loss).all(axis=1).any():
            front = np.vstack([front[~(loss <= front).all(axis=1)], loss])
            # Rounding must not let it fall when one member takes the place of another.
            reached = max(reached, hypervolume(front, smaller, worst, best))
        curve[i] = reached
    return curve


def best_curve(run: Run, names: Sequence[str], index: int = 0) -> FloatArray:
    """Best value of one objective after each trial, `(n,)`; NaN before the first feasible one."""
    values = run.values[:, index]
    best = np.fmax if METRICS[names[index]].maximized else np.fmin
    return np.asarray(best.accumulate(values), dtype=np.float64)


def at(curve: FloatArray, spent: FloatArray, budgets: ArrayLike) -> FloatArray:
    """What a curve had reached when a budget was spent.

    Args:
        curve: `(n,)` what was reached after each trial.
        spent: `(n,)` what was spent after each trial, ascending.
        budgets: `(k,)` budgets.

    Returns:
        `(k,)`; NaN for a budget below the first trial's.

    Example:
        >>> at(np.array([0.1, 0.4]), np.array([10.0, 20.0]), [5.0, 10.0, 19.0, 99.0]).tolist()
        [nan, 0.1, 0.1, 0.4]
    """
    places = np.searchsorted(spent, np.asarray(budgets, dtype=np.float64), side="right")
    return np.append(np.nan, curve)[places]


@dataclass(frozen=True, slots=True)
class Band:
    """A curve over a budget: its mean and quartiles over seeds.

    Args:
        spent: `(p,)` what is spent, up to where they are compared.
        mean: `(p,)` mean over seeds.
        low: `(p,)` lower quartile.
        high: `(p,)` upper quartile.
    """

    spent: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray


def band(curves: Sequence[FloatArray], spent: Sequence[FloatArray], end: float) -> Band:
    """Put curves of several seeds together.

    Args:
        curves: By seed, `(n_i,)` what was reached after each trial.
        spent: By seed, `(n_i,)` what was spent after each trial, ascending.
        end: What was spent at the end of the band.
    """
    start = max(column[0] for column in spent)
    grid = np.unique(np.concatenate([np.linspace(start, end, _POINTS), [end]]))
    grid = grid[grid >= start] if end > start else np.array([end])
    table = np.stack([at(c, s, grid) for c, s in zip(curves, spent, strict=True)])
    # A best value exists once every seed has found something feasible.
    known = np.isfinite(table).all(axis=0)
    table, grid = table[:, known], grid[known]
    if not len(grid):
        empty = np.empty(0)
        return Band(empty, empty, empty, empty)
    low, high = np.quantile(table, [0.25, 0.75], axis=0)
    return Band(grid, table.mean(axis=0), low, high)


def attainment(fronts: Sequence[ArrayLike], names: Sequence[str], percentile: float) -> FloatArray:
    """The surface that a share of the runs attains (Fonseca et al. 2011), of two objectives.

    Args:
        fronts: Values of each run, `(n_i, 2)`, in their own directions.
        names: Names of the two metrics.
        percentile: Share of the runs, in percent: 50 is the median front.

    Returns:
        `(k, 2)` corners of the surface, the best of the first metric first.

    Raises:
        SettingError: There are not two objectives, or no front.

    Example:
        >>> names = ["accuracy", "parameters"]
        >>> fronts = [[[0.9, 20.0]], [[0.8, 10.0]]]
        >>> attainment(fronts, names, 50).tolist(), attainment(fronts, names, 100).tolist()
        ([[0.9, 20.0], [0.8, 10.0]], [[0.8, 20.0]])
    """
    if len(names) != 2 or not fronts:
        raise SettingError(
            f"An attainment surface needs two objectives and one front, got {len(names)} "
            f"objectives and {len(fronts)} fronts."
        )
    directions = directions_of(names)
    losses = [minimised(front_of(front, names), directions) for front in fronts]
    found = [rows for rows in losses if len(rows)]  # a run may hold no feasible network
    least = max(math.ceil(percentile / 100 * len(fronts) - 1e-9), 1)  # runs that must attain it
    if least > len(found):
        return np.empty((0, 2))
    sets = np.repeat(np.arange(len(found)), [len(rows) for rows in found])
    level = 100 * least / len(found)
    corners = moocore.eaf(np.concatenate(found), sets, percentiles=[level])[:, :2]
    return minimised(corners[np.lexsort(corners.T[::-1])], directions)

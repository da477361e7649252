"""What a comparison found: all runs on one ruler, what each sampler reached, and who wins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import moocore
import numpy as np

from nas_optuna.errors import SettingError
from nas_optuna.metrics import METRICS
from nas_optuna.report import significance
from nas_optuna.report.indicators import (
    Box,
    at,
    best_curve,
    directions_of,
    front_of,
    hypervolume_curve,
)
from nas_optuna.report.runs import BUDGETS, Limits, Run
from nas_optuna.report.scoring import FloatArray
from nas_optuna.report.statistics import minimised
from nas_optuna.report.tables import format_value

_POINTS = 200  # of a curve over a budget


@dataclass(frozen=True, slots=True)
class Truth:
    """What there is to be found, known where all networks are in a table.

    Args:
        source: Name of the table.
        front: `(k, m)` values of the networks that no other dominates and that keep all limits.
    """

    source: str
    front: FloatArray


@dataclass(frozen=True, slots=True)
class Band:
    """A curve over a budget: its mean and quartiles over seeds.

    Args:
        spent: `(p,)` what is spent, up to where the first of the sampler's runs ends.
        mean: `(p,)` mean over seeds.
        low: `(p,)` lower quartile.
        high: `(p,)` upper quartile.
    """

    spent: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Outcome:
    """All runs of a comparison, on one ruler.

    Args:
        runs: The runs, each with at least one trial.
        metrics: Names of the objectives.
        limits: Where each run ends.
        truth: What there is to be found; None if that is not known.

    Raises:
        SettingError: There is no run, or none found a feasible network.
    """

    runs: tuple[Run, ...]
    metrics: tuple[str, ...]
    limits: Limits
    truth: Truth | None = None

    def __post_init__(self) -> None:
        if not any(run.feasible.any() for run in self.runs):
            raise SettingError(
                "There is nothing to compare: no study has found a feasible network yet. "
                "Give them more trials, or relax a limit."
            )
        if not self.seeds:
            raise SettingError(
                "There is nothing to compare: no seed has a study of every sampler yet. "
                "Run the comparison to its end."
            )

    @cached_property
    def by_sampler(self) -> dict[str, tuple[Run, ...]]:
        """Runs by sampler, those of seeds that every sampler has, in the order of the seeds."""
        names = list(dict.fromkeys(run.sampler for run in self.runs))
        seeds = [{run.seed for run in self.runs if run.sampler == name} for name in names]
        common = set.intersection(*seeds)
        return {
            name: tuple(
                sorted(
                    (run for run in self.runs if run.sampler == name and run.seed in common),
                    key=lambda run: run.seed,
                )
            )
            for name in names
        }

    @property
    def seeds(self) -> int:
        """Seeds that every sampler has."""
        return len(next(iter(self.by_sampler.values())))

    @cached_property
    def box(self) -> Box:
        """The ruler: spanned by the true front, or by the front of all that was found."""
        if self.truth is not None:
            return Box.around(self.truth.front, self.metrics)
        return Box.around(self.front, self.metrics)

    @cached_property
    def front(self) -> FloatArray:
        """`(k, m)` values of the front of all runs together."""
        return front_of(np.concatenate([run.values for run in self.runs]), self.metrics)

    @cached_property
    def genomes(self) -> tuple[list[Mapping[str, object]], list[Mapping[str, object]]]:
        """Genomes on the front of all runs together, and all feasible ones; each once."""
        found = {
            json.dumps(params, sort_keys=True, default=str): (params, values)
            for run in self.runs
            for params, values, feasible in zip(run.params, run.values, run.feasible, strict=True)
            if feasible
        }
        params, values = zip(*found.values(), strict=True)
        losses = minimised(values, directions_of(self.metrics))
        kept = moocore.is_nondominated(losses, keep_weakly=True)
        return [p for p, keep in zip(params, kept, strict=True) if keep], list(params)

    def end(self, budget: str) -> float:
        """The budget that every run has spent: comparisons are fair up to here."""
        return min(run.total(budget) for runs in self.by_sampler.values() for run in runs)

    def hypervolumes(self, budget: str, spent: float | None = None) -> dict[str, FloatArray]:
        """By sampler, `(k,)` hypervolume of each seed when a budget was spent.

        Args:
            budget: One of `BUDGETS`.
            spent: How much of it; by default what every run has spent.
        """
        where = self.end(budget) if spent is None else spent
        return {
            name: np.nan_to_num(
                np.concatenate(
                    [at(self._volumes[id(run)], run.spent[budget], [where]) for run in runs]
                )
            )
            for name, runs in self.by_sampler.items()
        }

    def bests(self, budget: str, spent: float | None = None) -> dict[str, FloatArray]:
        """By sampler, `(k,)` best value of the first objective; NaN if nothing was feasible."""
        where = self.end(budget) if spent is None else spent
        return {
            name: np.concatenate(
                [at(best_curve(run, self.metrics), run.spent[budget], [where]) for run in runs]
            )
            for name, runs in self.by_sampler.items()
        }

    @cached_property
    def _volumes(self) -> dict[int, FloatArray]:
        return {id(run): hypervolume_curve(run, self.box) for run in self.runs}

    def volumes(self, run: Run) -> FloatArray:
        """`(n,)` hypervolume after each trial of one of the runs."""
        return self._volumes[id(run)]

    def hypervolume_band(self, sampler: str, budget: str) -> Band:
        """Hypervolume over a budget."""
        runs = self.by_sampler[sampler]
        return _band([self.volumes(run) for run in runs], [run.spent[budget] for run in runs])

    def best_band(self, sampler: str, budget: str) -> Band:
        """Best value of the first objective over a budget."""
        runs = self.by_sampler[sampler]
        curves = [best_curve(run, self.metrics) for run in runs]
        return _band(curves, [run.spent[budget] for run in runs])

    @cached_property
    def scores(self) -> dict[str, FloatArray]:
        """By sampler, `(k,)` what the verdict goes by: hypervolumes at the compared budget."""
        return self.hypervolumes(self.limits.budget)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Samplers, the best mean hypervolume first."""
        return tuple(sorted(self.scores, key=lambda name: -self.scores[name].mean()))

    @cached_property
    def pairs(self) -> list[significance.Pair]:
        """Each pair of samplers, tested; empty for fewer than two seeds."""
        return significance.compare_pairs(self.scores) if self.seeds > 1 else []

    @cached_property
    def ranking(self) -> significance.Ranking:
        """Samplers by mean rank."""
        return significance.rank(self.scores)

    @cached_property
    def true_hypervolume(self) -> float | None:
        """Hypervolume of the true front."""
        return None if self.truth is None else self.box.hypervolume(self.truth.front)

    @cached_property
    def optimum(self) -> float | None:
        """The best value of the first objective that there is."""
        if self.truth is None:
            return None
        column = self.truth.front[:, 0]
        return float(column.max() if METRICS[self.metrics[0]].maximized else column.min())

    @property
    def spent_text(self) -> str:
        """The compared budget in words, as `100 trials`."""
        end = self.end(self.limits.budget)
        return f"{end:,.0f} {self.limits.budget}"

    @property
    def ruler_text(self) -> str:
        """Say in one sentence how hypervolume is measured."""
        ends = [
            f"{name} from {_end_text(name, worst)} to {_end_text(name, best)}"
            for name, worst, best in zip(
                self.metrics, self.box.reference, self.box.ideal, strict=True
            )
        ]
        source = f"the true front of {self.truth.source}" if self.truth else "all runs together"
        return (
            f"Hypervolume is the share of one box that a front covers, the same for all: "
            f"{', '.join(ends)} (reference point to ideal point; spanned by the front of "
            f"{source}, a tenth wider at the reference)."
        ).replace("the front of the true front of", "the true front of")


def _end_text(name: str, value: float) -> str:
    """A value as people read it; a reference point has fractions where no network has any."""
    return format_value(name, round(value) if abs(value) >= 1000 else value)


def _band(curves: list[FloatArray], spent: list[FloatArray]) -> Band:
    end = min(column[-1] for column in spent)
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


def budgets_spent(outcome: Outcome) -> Mapping[str, float]:
    """By budget, what every run has spent; budgets that cost nothing are left out.

    A table of trainings that was made without epochs has no such curve.
    """
    ends = {budget: outcome.end(budget) for budget in BUDGETS}
    return {budget: end for budget, end in ends.items() if end > 0}

"""What a comparison found: all runs on one ruler, what each sampler reached, and who wins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import moocore
import numpy as np

from nas_optuna.errors import SettingError
from nas_optuna.metrics import METRICS
from nas_optuna.report import significance
from nas_optuna.report.indicators import (
    Band,
    Box,
    at,
    band,
    best_curve,
    directions_of,
    front_of,
    hypervolume_curve,
)
from nas_optuna.report.runs import BUDGETS, Limits, Run
from nas_optuna.report.scoring import FloatArray
from nas_optuna.report.statistics import minimised
from nas_optuna.report.tables import format_value

_DIGITS = 9  # of a hypervolume, a share of the box; beyond is noise of the arithmetic


@dataclass(frozen=True, slots=True)
class Truth:
    """What there is to be found, known where all networks are in a table.

    Args:
        source: Name of the table.
        front: `(k, m)` values of the networks that no other dominates and that keep all limits.
    """

    source: str
    front: FloatArray


@dataclass(frozen=True)
class Outcome:
    """All runs of a comparison, on one ruler.

    Args:
        runs: The runs, each with at least one trial.
        metrics: Names of the objectives.
        limits: Where each run ends.
        truth: What there is to be found; None if that is not known.
        absent: Names of samplers that were to be compared and have no trial yet.

    Raises:
        SettingError: There is no run, or none found a feasible network.
    """

    runs: tuple[Run, ...]
    metrics: tuple[str, ...]
    limits: Limits
    truth: Truth | None = None
    absent: tuple[str, ...] = ()

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
        """The ruler: spanned by the true front, or by the front of all that was found.

        Where that front has one value only, as with a single objective, by all that was found.
        """
        found = np.concatenate([run.values[run.feasible] for run in self.runs])
        spanning = found if self.truth is None else self.truth.front
        return Box.around(spanning, self.metrics, found=found)

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
        """The budget that every run has spent: comparisons are fair up to here.

        Of the compared budget, runs that another limit ended have spent all they ever will. They
        keep what they had, and hold the others back no more.
        """
        return self._end([run for runs in self.by_sampler.values() for run in runs], budget)

    def _end(self, runs: Sequence[Run], budget: str) -> float:
        open_ended = [r.total(budget) for r in runs if not self._stopped_short(r, budget)]
        return min(open_ended) if open_ended else max(run.total(budget) for run in runs)

    def _stopped_short(self, run: Run, budget: str) -> bool:
        """Whether a limit on something else ended a run before the compared budget was spent."""
        if budget != self.limits.budget:
            return False
        ended = self.limits.reached({name: run.total(name) for name in BUDGETS})
        return ended and run.total(budget) < float(getattr(self.limits, budget))

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

    def reached(self, run: Run) -> FloatArray:
        """`(k, m)` values of the trials of one of the runs up to the compared budget."""
        budget = self.limits.budget
        return run.values[run.spent[budget] <= self.end(budget)]

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
        # Equal but for the last bits must not count as better or worse.
        return {id(run): hypervolume_curve(run, self.box).round(_DIGITS) for run in self.runs}

    def volumes(self, run: Run) -> FloatArray:
        """`(n,)` hypervolume after each trial of one of the runs."""
        return self._volumes[id(run)]

    def hypervolume_band(self, sampler: str, budget: str) -> Band:
        """Hypervolume over a budget."""
        runs = self.by_sampler[sampler]
        return self._band(runs, [self.volumes(run) for run in runs], budget)

    def best_band(self, sampler: str, budget: str) -> Band:
        """Best value of the first objective over a budget."""
        runs = self.by_sampler[sampler]
        return self._band(runs, [best_curve(run, self.metrics) for run in runs], budget)

    def _band(self, runs: Sequence[Run], curves: Sequence[FloatArray], budget: str) -> Band:
        return band(curves, [run.spent[budget] for run in runs], self._end(runs, budget))

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
        if self.truth is None:
            return None
        return round(self.box.hypervolume(self.truth.front), _DIGITS)

    @cached_property
    def optimum(self) -> float | None:
        """The best value of the first objective that there is."""
        if self.truth is None:
            return None
        column = self.truth.front[:, 0]
        return float(column.max() if METRICS[self.metrics[0]].maximized else column.min())

    @property
    def spent_text(self) -> str:
        """The compared budget in words, as `100 trials`, or `20 epochs or 100 trials`."""
        budget, limits = self.limits.budget, self.limits
        end = self.end(budget)
        short = [
            run
            for runs in self.by_sampler.values()
            for run in runs
            if self._stopped_short(run, budget) and run.total(budget) < end
        ]
        others = {"trials": limits.trials, "seconds": limits.seconds}
        ended_by = [
            f"{limit:,.0f} {name}"
            for name, limit in others.items()
            if limit is not None and any(run.total(name) >= limit for run in short)
        ]
        return " or ".join([f"{end:,.0f} {budget}", *ended_by])

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
        front = self.front if self.truth is None else self.truth.front
        flat = [
            n for n, width in zip(self.metrics, np.ptp(front, axis=0), strict=True) if not width
        ]
        rest = (
            f"; in {' and '.join(flat)}, where that front is of one value, by all networks found"
        )
        return (
            f"Hypervolume is the share of one box that a front covers, the same for all: "
            f"{', '.join(ends)} (reference point to ideal point; spanned by the front of "
            f"{source}, a tenth wider at the reference{rest if flat else ''})."
        ).replace("the front of the true front of", "the true front of")


def _end_text(name: str, value: float) -> str:
    """A value as people read it; a reference point has fractions where no network has any."""
    return format_value(name, round(value) if abs(value) >= 1000 else value)


def budgets_spent(outcome: Outcome) -> Mapping[str, float]:
    """By budget, what every run has spent; budgets that cost nothing are left out.

    A table of trainings that was made without epochs has no such curve.
    """
    ends = {budget: outcome.end(budget) for budget in BUDGETS}
    return {budget: end for budget, end in ends.items() if end > 0}

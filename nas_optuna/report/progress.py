"""The progress of a run: a tally kept trial by trial, shown as a bar or as plain lines."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from nas_optuna.constraints import SearchConstraints
from nas_optuna.recording import CACHED, EPOCHS, FINISHED, INFEASIBLE, PREDICTED
from nas_optuna.report import statistics
from nas_optuna.report.scoring import FloatArray
from nas_optuna.report.tables import format_value

_LINES = 10  # plain lines over the budget, if trials are quick
_LINE_SECONDS = 30.0  # after which a plain line is due in any case
_REFRESHES = 4  # of the bar, per second


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What ends a run; None does not.

    Args:
        trials: Finished trials.
        evaluations: Networks trained.
        timeout: Seconds.
    """

    trials: int | None = None
    evaluations: int | None = None
    timeout: float | None = None

    def share(self, tally: Tally) -> float:
        """Share of the trials or evaluations that is used up, in [0, 1]."""
        shares = [0.0]
        if self.trials is not None:
            shares.append(tally.done / self.trials)
        if self.evaluations is not None:
            shares.append(tally.trained / self.evaluations)
        return min(1.0, max(shares))

    def seconds_left(self, share: float, until_share: float, now: float) -> float | None:
        """Seconds until the run ends, if trials go on to take as long as they did.

        Args:
            share: What `share` returned after the last trial.
            until_share: Seconds from the start of the run to the end of that trial.
            now: Seconds from the start of the run until now.

        Returns:
            None as long as nothing tells it.

        Example:
            >>> Budget(trials=40).seconds_left(0.25, 10.0, 11.0)
            29.0
            >>> Budget(trials=40, timeout=15.0).seconds_left(0.25, 10.0, 11.0)
            4.0
        """
        left = [] if self.timeout is None else [self.timeout - now]
        if share > 0:
            left.append(until_share / share - now)
        return max(0.0, min(left)) if left else None

    def used(self, tally: Tally) -> str:
        """How much of the trials or evaluations is used up, in words."""
        if self.evaluations is not None:
            return f"{tally.trained}/{self.evaluations} trained"
        total = "" if self.trials is None else f"/{self.trials}"
        return f"{tally.done}{total} trials"


class Tally:
    """What a run has done so far, and the front of its study with the run's trials.

    The front is updated from each finished trial, so that a trial costs no reading of the study.
    Trials that other processes add meanwhile are not seen.

    Args:
        study: The study, before the run.
        constraints: The limits of the search, which scale the hypervolume.
    """

    def __init__(self, study: Study, constraints: SearchConstraints | None = None) -> None:
        self.names = statistics.metric_names(study)
        self._directions = study.directions
        self._constraints = constraints
        self.front = statistics.pareto_front(study)
        """The study's front; see `statistics.pareto_front`."""
        self._points = self._minimised(self.front)  # (k, m)
        self.hypervolume = self._hypervolume()
        """See `statistics.study_hypervolume`; 0 if an objective is no metric of this package."""
        self.done = 0
        """Finished trials of the run: trained, predicted, cached, infeasible or pruned."""
        self.trained = 0
        self.predicted = 0
        self.cached = 0
        self.infeasible = 0
        self.failed = 0

    def add(self, trial: FrozenTrial) -> None:
        """Count a trial of the run that has ended."""
        if trial.state not in FINISHED:
            self.failed += 1
            return
        marks = trial.user_attrs
        self.done += 1
        self.trained += EPOCHS in marks and CACHED not in marks and PREDICTED not in marks
        self.predicted += PREDICTED in marks
        self.cached += CACHED in marks
        self.infeasible += INFEASIBLE in marks
        if statistics.is_feasible(trial):
            self._extend_front(trial)

    @property
    def best(self) -> float | None:
        """Best value of the first metric on the front; None if the front is empty."""
        if not self.front:
            return None
        return float(self.front[int(self._points[:, 0].argmin())].values[0])

    def _extend_front(self, trial: FrozenTrial) -> None:
        point = self._minimised([trial])
        if (self._points <= point).all(axis=1).any():
            return  # dominated, or equal to an earlier trial
        kept = ~(point <= self._points).all(axis=1)
        self.front = [*(self.front[i] for i in np.flatnonzero(kept)), trial]
        self._points = np.concatenate([self._points[kept], point])
        self.hypervolume = self._hypervolume()

    def _minimised(self, trials: list[FrozenTrial]) -> FloatArray:
        return statistics.minimised([t.values for t in trials], self._directions)

    def _hypervolume(self) -> float:
        if not statistics.are_metrics(self.names):
            return 0.0
        return statistics.front_hypervolume(self.front, self.names, self._constraints)


class RunProgress(AbstractContextManager["RunProgress"]):
    """Shows a run while it goes on: a bar on a terminal, else a plain line now and then.

    It is a context around a run and a callback of it.

    Args:
        study: The study, before the run.
        budget: What ends the run.
        console: Where to show it.
        constraints: The limits of the search.
    """

    def __init__(
        self,
        study: Study,
        budget: Budget,
        console: Console,
        constraints: SearchConstraints | None = None,
    ) -> None:
        self.tally = Tally(study, constraints)
        self._budget = budget
        self._console = console
        self._began = self._last = self._shown = time.monotonic()
        self._share = 0.0
        self._lines = 0  # parts of the budget for which a line was printed
        self._bar = _Bar(self, console) if console.is_interactive else None

    def __enter__(self) -> Self:
        self._began = self._last = self._shown = time.monotonic()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif self._last > self._shown:
            self._print_line()

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Count a trial that has ended, and show what changed."""
        self.tally.add(trial)
        self._last = time.monotonic()
        self._share = self._budget.share(self.tally)
        if self._bar:
            self._bar.show(self._share)
        elif self._parts > self._lines or self._last - self._shown >= _LINE_SECONDS:
            self._print_line()

    @property
    def _parts(self) -> int:
        return math.floor(self._share * _LINES + 1e-9)  # 0.3 * 10 is a little less than 3

    def _print_line(self) -> None:
        self._shown, self._lines = self._last, self._parts
        line = ", ".join(filter(None, (self.used, *self.facts, self.left)))
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    @property
    def used(self) -> str:
        """How much of the budget is used up."""
        return self._budget.used(self.tally)

    @property
    def facts(self) -> list[str]:
        """What the run has found, in a few words each."""
        tally, name = self.tally, self.tally.names[0]
        best = "-" if tally.best is None else format_value(name, tally.best)
        found = [f"{name} {best}"]
        if len(tally.names) > 1:
            found += [f"front {len(tally.front)}", f"hypervolume {tally.hypervolume:.3f}"]
        found += [f"infeasible {tally.infeasible}", f"cached {tally.cached}"]
        return [*found, f"failed {tally.failed}"] if tally.failed else found

    @property
    def left(self) -> str:
        """Time left, in words."""
        seconds = self._budget.seconds_left(
            self._share, self._last - self._began, time.monotonic() - self._began
        )
        return "" if seconds is None else f"{clock(seconds)} left"


class _Bar(Progress):
    """A bar with what is used up and the time left, and a line of facts below it."""

    def __init__(self, run: RunProgress, console: Console) -> None:
        self._run = run
        self._facts = Text()
        super().__init__(
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            console=console,
            expand=True,
            refresh_per_second=_REFRESHES,
            redirect_stdout=False,
            redirect_stderr=sys.stderr.isatty(),  # a warning must not tear the bar
        )
        self._task = self.add_task(run.used, total=1.0)

    def show(self, share: float) -> None:
        """Take in what changed; the next refresh draws it."""
        self._facts = Text(" · ".join(self._run.facts), style="dim")
        self.update(self._task, completed=share)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the facts; called for every refresh."""
        for task in self.tasks:
            task.description = "  ".join(filter(None, (self._run.used, self._run.left)))
        yield self.make_tasks_table(self.tasks)
        yield self._facts


def clock(seconds: float) -> str:
    """Write a duration as on a clock.

    Example:
        >>> clock(75.4), clock(3675.0)
        ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

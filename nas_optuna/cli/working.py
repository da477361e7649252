"""`run --workers`, `--launcher ray` and `worker`: many processes on one study."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import optuna
import typer
from rich.console import Console

from nas_optuna.cli.failure import database_errors, tell
from nas_optuna.cli.given import Given
from nas_optuna.cli.running import Optimize, heeding, introduction, log_no_traceback
from nas_optuna.report.progress import Budget, RunProgress
from nas_optuna.search import Search
from nas_optuna.storage import mask
from nas_optuna.storage.budget import Goal, goal_of, leave_goal, set_goal, spent
from nas_optuna.storage.waiting import PATIENCE
from nas_optuna.workers import Crew, Job, LocalCrew, supervise, work


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """Who works, beside what is searched.

    Args:
        workers: How many processes.
        launcher: `local` for this machine, or `ray`.
        cpus: Cores of a worker on Ray.
        gpus: GPUs of a worker on Ray.
        hang: Seconds without a sign of life after which a worker is ended.
        debug: Whether workers show tracebacks.
    """

    workers: int
    launcher: str = "local"
    cpus: float = 1.0
    gpus: float = 0.0
    hang: float
    debug: bool = False

    def crew(self, job: Job) -> Crew:
        """The workers, not started."""
        if self.launcher == "ray":
            from nas_optuna.workers.on_ray import RayCrew

            return RayCrew(job, self.workers, cpus=self.cpus, gpus=self.gpus)
        return LocalCrew(job, self.workers)

    def job(self, given: Given, goal: Goal | None, timeout: float | None) -> Job:
        """What each worker does."""
        return Job(
            load=partial(_load, given, debug=self.debug),
            goal=goal,
            deadline=None if timeout is None else time.time() + timeout,
            hang=self.hang,
            tell=partial(tell, debug=self.debug),
        )


def _load(given: Given, *, debug: bool) -> Search:
    """Load the search in a worker, which logs as the launcher does."""
    if not debug:
        log_no_traceback()
    return given.search()


def optimize_with(staff: Staff, given: Given) -> Optimize:
    """Return what runs a budget with many workers, in the place of `Search.optimize`."""

    def optimize(
        search: Search, study: optuna.Study, budget: Budget, progress: RunProgress
    ) -> None:
        goal = set_goal(study, trials=budget.trials, evaluations=budget.evaluations)
        try:
            supervise(staff.crew(staff.job(given, goal, budget.timeout)), study, [progress])
        finally:
            leave_goal(study)

    return optimize


def join(given: Given, staff: Staff) -> int:
    """Work on a study beside others until it has what it was asked for; return the exit status.

    Args:
        given: Study file and options; `trials` is what the study is to have in all.
        staff: Who works; one worker is this process.
    """
    console = Console(highlight=False)
    search = given.search()
    if not staff.debug:
        log_no_traceback()
    with database_errors(search.storage):
        study = search.create(patience=PATIENCE)
        goal = None if given.trials is None else Goal(trials=given.trials)
        asked = goal or goal_of(study) or Goal(trials=search.planned(study))
        before = spent(study, asked)
        console.print(
            f"{introduction(search, study, Budget(trials=asked.trials))}, in all",
            soft_wrap=True,
            markup=False,
        )

        def start() -> None:
            if staff.workers == 1:
                work(search, study, goal=goal, timeout=search.timeout, hang=staff.hang)
            else:
                supervise(staff.crew(staff.job(given, goal, search.timeout)), study)

        status = heeding(start)
        after = spent(study, asked)
    typer.echo(
        f"The study {search.name!r} in {mask(search.storage)} has {after.finished} finished "
        f"trials, {after.finished - before.finished} of them since this worker came."
    )
    return status

"""`run` and `resume`: search, show how it goes, and say at the end what was found."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable
from typing import TypeAlias

import optuna
import typer
from rich.console import Console

from nas_optuna.cli.failure import database_errors
from nas_optuna.cli.given import Given
from nas_optuna.cli.views import print_front
from nas_optuna.recording import FINISHED
from nas_optuna.report.progress import Budget, RunProgress, Tally
from nas_optuna.search import Search
from nas_optuna.storage import mask

Optimize: TypeAlias = Callable[[Search, optuna.Study, Budget, RunProgress], None]


def optimize_here(
    search: Search, study: optuna.Study, budget: Budget, progress: RunProgress
) -> None:
    """Run a budget in this process."""
    search.optimize(
        study,
        trials=budget.trials,
        evaluations=budget.evaluations,
        timeout=budget.timeout,
        callbacks=[progress],
    )


def run_study(
    given: Given, *, create: bool, debug: bool, optimize: Optimize = optimize_here
) -> int:
    """Search, and return the exit status.

    Args:
        given: Study file and options.
        create: Whether to make the study if there is none.
        debug: Whether to leave Optuna's log of failed trials as it is.
        optimize: Runs the budget.
    """
    console = Console(highlight=False)
    search = given.search()
    if not debug:
        log_no_traceback()
    with database_errors(search.storage):
        study = search.create() if create else search.load()
        budget = _budget(search, given)
        console.print(introduction(search, study, budget), soft_wrap=True, markup=False)
        search.evaluator.measuring.prepare()
        progress = RunProgress(study, budget, console, search.constraints)

        def start() -> None:
            with progress:
                optimize(search, study, budget, progress)

        status = heeding(start)
        console.print()
        best = print_front(console, search, study)
        console.print(_summary(search, progress.tally), soft_wrap=True, markup=False)
        _print_next(console, given, best)
    return status


def introduction(search: Search, study: optuna.Study, budget: Budget) -> str:
    """Say in one line what is searched and how."""
    space = search.objective.space
    size = f"{'at most ' if space.conditional else ''}{amount(space.size)} genomes"
    before = len(study.get_trials(deepcopy=False, states=FINISHED))
    return ", ".join(
        [
            f"{search.name}: {space.name} ({size})",
            search.sampler,
            *([f"{budget.trials} trials"] if budget.trials else []),
            *([f"{budget.evaluations} evaluations"] if budget.evaluations else []),
            *([f"at most {budget.timeout:g} s"] if budget.timeout else []),
            *([f"after {before} trials"] if before else []),
            *([f"checked by {search.health.budget}"] if search.health else []),
            mask(search.storage),
        ]
    )


def in_file_name(name: str) -> str:
    """Write the name of a study so that it can be part of a file's."""
    return name.replace("/", "-")


def amount(number: float) -> str:
    """Write the size of a space.

    Example:
        >>> amount(15625), amount(3 * 10**400), amount(float("inf"))
        ('15,625', '3e+400', 'infinitely many')
    """
    if number == math.inf:
        return "infinitely many"
    if number < 1e9:
        return f"{number:,.0f}"
    exponent = math.floor(math.log10(number))  # too large for a float in a large space
    return f"{int(number) // 10 ** (exponent - 1) / 10:.2g}e+{exponent}"


def _budget(search: Search, given: Given) -> Budget:
    trials = given.trials
    if trials is None and given.evaluations is None:
        trials = search.trials
    return Budget(trials=trials, evaluations=given.evaluations, timeout=search.timeout)


def heeding(call: Callable[[], None]) -> int:
    """Call what heeds Ctrl-C and SIGTERM, and return the exit status."""
    try:
        call()
    except KeyboardInterrupt as interrupt:
        typer.echo("Interrupted; `resume` repeats the trial that was running.", err=True)
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        return 128 + int(number)  # as a shell reports a job that a signal ended
    return 0


def _summary(search: Search, tally: Tally) -> str:
    told = f"{tally.done} trial{'' if tally.done == 1 else 's'} in this run"
    predicted = f"{tally.predicted} predicted, " if tally.predicted else ""
    counts = f"{tally.trained} trained, {predicted}{tally.cached} cached"
    counts += f", {tally.infeasible} infeasible"
    return f"{told}: {counts}.\nStored as {search.name!r} in {mask(search.storage)}."


def _print_next(console: Console, given: Given, best: int | None) -> None:
    console.print("\nNext:")
    commands = [given.command("resume")]
    if best is not None:
        commands.append(given.command("show", trial=best))
    for command in commands:
        console.print(f"  {command}", soft_wrap=True, markup=False)


class _NoTraceback(logging.Filter):
    """Optuna logs the error of a trial and raises it too; a user should read it once."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.exc_info and "failed with value None" not in record.getMessage()


def log_no_traceback() -> None:
    """Keep tracebacks of failed trials off the terminal; the error itself is told."""
    logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.ERROR)
    for handler in logging.getLogger("optuna").handlers:
        handler.addFilter(_NoTraceback())

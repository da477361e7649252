"""`compare`: run samplers x seeds, show how it goes, and say at the end who wins."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nas_optuna.cli.failure import database_errors
from nas_optuna.cli.given import Given
from nas_optuna.cli.running import in_file_name, log_no_traceback
from nas_optuna.comparison import Comparison, default_workers, run
from nas_optuna.errors import SettingError
from nas_optuna.report.comparison_page import Findings, write_findings
from nas_optuna.report.progress import clock
from nas_optuna.report.verdict import verdict
from nas_optuna.storage import mask

_LINES = 10  # printed in a run where no bar can be shown
_TABLES = 2  # of the page that are printed as well: what was reached, and what was spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What `compare` was asked for.

    Args:
        given: Study file and options that other commands have too.
        samplers: Names of strategies, separated by commas.
        seeds: Studies of each sampler.
        epochs: Epochs after which a study ends.
        debug: Whether to leave Optuna's log of failed trials as it is.
    """

    given: Given
    samplers: str
    seeds: int
    epochs: float | None = None
    debug: bool = False

    def comparison(self) -> Comparison:
        """Read the study file; called in each worker, too.

        Raises:
            NasOptunaError: The file or an option cannot be used.
        """
        if not self.debug:
            log_no_traceback()  # workers, too, fail the trial that a signal meets
        names = [name.strip() for name in self.samplers.split(",") if name.strip()]
        search = self.given.search()
        return Comparison(
            search=search,
            samplers=names,
            seeds=self.seeds,
            trials=search.trials,
            epochs=self.epochs,
            timeout=self.given.timeout,
        )


def compare_samplers(contest: Contest, *, workers: int | None, out: Path | None) -> int:
    """Compare, and return the exit status.

    Args:
        contest: What is compared.
        workers: Processes; None for one per core.
        out: Folder for page, tables and pictures; None for one named after the study.
    """
    console = Console(highlight=False)
    comparison = contest.comparison()
    folder = Path(f"{in_file_name(comparison.search.name)}-comparison") if out is None else out
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"--out must be a folder, and {str(folder)!r} is a file.")
    team = default_workers(len(comparison.entries)) if workers is None else workers
    url = comparison.search.storage
    with database_errors(url):
        console.print(introduction(comparison, team), soft_wrap=True, markup=False)
        try:
            with CompareProgress(comparison, console) as progress:
                run(comparison, workers=team, make=contest.comparison, progress=progress)
        except KeyboardInterrupt as interrupt:
            typer.echo("Interrupted; the same command goes on and repeats nothing.", err=True)
            number = interrupt.args[0] if interrupt.args else signal.SIGINT
            return 128 + int(number)
        findings = comparison.findings()
    _tell(console, findings, folder)
    console.print(f"Studies are in {mask(url)}.", soft_wrap=True, markup=False)
    return 0


def introduction(comparison: Comparison, workers: int) -> str:
    """Say in one line what is compared."""
    limits = comparison.limits
    ends = [f"{limits.trials} trials"]
    ends += [f"{limits.epochs:g} epochs"] if limits.epochs else []
    ends += [f"{limits.seconds:g} s"] if limits.seconds else []
    return (
        f"{comparison.search.name}: {', '.join(comparison.compared)}; {comparison.seeds} seeds, "
        f"at most {' or '.join(ends)} each; {workers} process{'es' * (workers > 1)}"
    )


def _tell(console: Console, findings: Findings, folder: Path) -> None:
    console.print()
    for sheet in findings.sheets[:_TABLES]:
        console.print(sheet.rich())
    console.print()
    console.print(verdict(findings.outcome).text, markup=False)
    console.print(f"\n{findings.outcome.ruler_text}\n", markup=False, style="dim")
    written, left_out = write_findings(findings, folder)
    for line in left_out:
        typer.echo(f"Left out: {line}", err=True)
    names = ", ".join(file.name for file in written)
    console.print(f"Written to {folder}: {names}.", soft_wrap=True, markup=False)


class CompareProgress(AbstractContextManager["CompareProgress"]):
    """Shows how far the studies are: a bar on a terminal, else a plain line now and then.

    Args:
        comparison: What is compared.
        console: Where to show it.
    """

    def __init__(self, comparison: Comparison, console: Console) -> None:
        limits = comparison.limits
        self._each = limits.trials
        # A study that something else ends counts as whole, though it has fewer trials.
        self._in_trials = limits.epochs is None and limits.seconds is None
        self._total = self._each * len(comparison.entries)
        self._console = console
        self._before: int | None = None  # trials that were there already
        self._began = time.monotonic()
        self._lines = 0
        self._full = False
        self._bar = None
        if console.is_interactive:
            self._bar = Progress(
                BarColumn(), TextColumn("{task.description}"), console=console, transient=True
            )
            self._task = self._bar.add_task("starting", total=self._total)

    def __enter__(self) -> Self:
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

    def __call__(self, counts: Sequence[int]) -> None:
        """Show the progress of each study, in trials of the most that it may have."""
        done = sum(counts)
        if self._before is None and done:
            self._before, self._began = done, time.monotonic()
        text = self._text(counts)
        if self._bar:
            self._bar.update(self._task, completed=done, description=text)
        elif (lines := done * _LINES // self._total) > self._lines or self._ends(counts):
            self._lines = lines
            self._console.print(text, soft_wrap=True, markup=False)

    def _ends(self, counts: Sequence[int]) -> bool:
        """Whether the last study has become full since the last line."""
        before, self._full = self._full, all(count >= self._each for count in counts)
        return self._full and not before

    def _text(self, counts: Sequence[int]) -> str:
        done, full = sum(counts), sum(count >= self._each for count in counts)
        share = f"{100 * done / self._total:.0f} % done"
        told = f"{done:,}/{self._total:,} trials" if self._in_trials else share
        told += f", {full}/{len(counts)} studies"
        fresh = done - (self._before or 0)
        if not fresh or done >= self._total:
            return told
        seconds = (self._total - done) * (time.monotonic() - self._began) / fresh
        return f"{told}, {clock(seconds)} left"

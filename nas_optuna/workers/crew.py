"""A crew of workers: what each of them does, and what whoever launched them watches."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import optuna
from optuna.trial import FrozenTrial

from nas_optuna.errors import NasOptunaError, WorkerError
from nas_optuna.interruption import Interruption
from nas_optuna.liveness import HANG
from nas_optuna.recording import FINISHED
from nas_optuna.running import Callback
from nas_optuna.search import Search
from nas_optuna.storage.budget import Goal
from nas_optuna.storage.waiting import PATIENCE
from nas_optuna.workers.loop import work

LOOK = 0.25  # seconds between two looks at workers and trials


def tell_plainly(error: Exception) -> int:
    """Write an error as one line on stderr, and return the exit status."""
    kind = "" if isinstance(error, NasOptunaError) else f"{type(error).__name__}: "
    sys.stderr.write(f"error: {kind}{' '.join(str(error).split())}\n")
    return 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each worker of a crew does. It is pickled on the way to the worker.

    Args:
        load: Returns what is searched; its study exists.
        goal: What the study is to have in all; see `work`.
        deadline: Seconds since the epoch after which no further trial starts; None for no end.
        hang: Seconds without a sign of life after which a worker kills itself.
        tell: Says what went wrong and returns the exit status.
    """

    load: Callable[[], Search]
    goal: Goal | None = None
    deadline: float | None = None
    hang: float = HANG
    tell: Callable[[Exception], int] = tell_plainly

    def __call__(self) -> int:
        """Work, and return the exit status: 0, or 1 after an error, or 128 + a signal."""
        try:
            search = self.load()
            study = search.load(patience=PATIENCE)
            left = None if self.deadline is None else max(0.0, self.deadline - time.time())
            work(search, study, goal=self.goal, timeout=left, hang=self.hang)
        except KeyboardInterrupt as interrupt:
            return 128 + int(interrupt.args[0] if interrupt.args else 2)
        except Exception as error:  # noqa: BLE001 - each is told, once, by the worker that met it
            return self.tell(error)
        return 0


class Crew(AbstractContextManager["Crew"], ABC):
    """Workers somewhere. The context starts them, and ends those that are left.

    Args:
        job: What each does.
        count: How many there are.
    """

    def __init__(self, job: Job, count: int) -> None:
        self.job = job
        self.count = count
        self.failed = 0
        """Workers that ended with an error, or died too often."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Start the workers."""

    @abstractmethod
    def look_after(self, finished: int) -> bool:
        """Replace workers that died; return whether any is at work.

        Args:
            finished: Trials that are finished by now. While they grow, deaths are not held
                against a crew.
        """

    @abstractmethod
    def stop(self) -> None:
        """Let the workers tell their trials and leave, and end those that do not."""


def supervise(crew: Crew, study: optuna.Study, callbacks: Sequence[Callback] = ()) -> None:
    """Let a crew work until it is done.

    Args:
        crew: The crew, not started.
        study: What it works on.
        callbacks: Called with the study and each trial that finishes meanwhile, by number.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the workers have left.
        WorkerError: All workers failed.
    """
    told = {trial.number for trial in _finished(study)}
    interruption = Interruption()
    with interruption.caught(), crew:
        while crew.look_after(len(told)) and interruption.number is None:
            time.sleep(LOOK)
            _tell(study, told, callbacks)
    _tell(study, told, callbacks)
    if interruption.number is not None:
        raise KeyboardInterrupt(interruption.number)
    if crew.failed == crew.count:
        raise WorkerError(
            f"All {crew.count} workers failed; the lines above say why. Finished trials are kept."
        )


def _tell(study: optuna.Study, told: set[int], callbacks: Sequence[Callback]) -> None:
    for trial in _finished(study):
        if trial.number not in told:
            told.add(trial.number)
            for callback in callbacks:
                callback(study, trial)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=FINISHED)

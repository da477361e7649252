"""Run trials: with Ctrl-C and SIGTERM heeded, and without Optuna's lines."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.interruption import Interruption
from nas_optuna.objective import Objective
from nas_optuna.recording import TrialRecord
from nas_optuna.samplers.timed import timed
from nas_optuna.storage import ownership

Callback = Callable[[optuna.Study, FrozenTrial], None]

_logger = logging.getLogger(__name__)


def run_trials(
    study: optuna.Study,
    objective: Objective,
    *,
    timeout: float | None,
    callbacks: Sequence[Callback],
    interruption: Interruption,
) -> None:
    """Run trials until a callback stops the study.

    A trial that was given to another worker meanwhile, because this process was not heard of for
    too long (a machine that slept, a network that was cut), is left to that one.

    Args:
        study: The study.
        objective: What is optimised.
        timeout: Seconds after which no further trial starts; None for no end.
        callbacks: Called after each trial with the study and the trial.
        interruption: Catches signals around this call.

    Raises:
        KeyboardInterrupt: A signal came; the trial it met is told as failed, and its repetition
            enqueued.
    """
    heeding = _Heeding(objective, interruption)
    deadline = time.monotonic() + (math.inf if timeout is None else timeout)
    while True:
        left = deadline - time.monotonic()
        try:
            with quiet(), timed(study):
                study.optimize(heeding, timeout=left, callbacks=[*callbacks, heeding.stop])
            if interruption.number is not None:
                raise KeyboardInterrupt(interruption.number)
            return
        except KeyboardInterrupt:
            _repeat(study, heeding.number)
            raise
        except Exception:
            if not _was_taken(study, heeding.number):
                raise
            _logger.warning(
                "Trial %d was given to another worker: this one was not heard of for too long.",
                heeding.number,
            )
            heeding.number = None  # what is raised before the next trial is no word on this one


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's line per trial, and its notes on experimental features, off the terminal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class _Heeding:
    """An objective that a signal ends, and which knows the trial it was last given.

    `number` is None before the first trial, and again after one that was lost to another worker.
    """

    def __init__(self, objective: Objective, interruption: Interruption) -> None:
        self._objective = objective
        self._interruption = interruption
        self.number: int | None = None

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        self.number = trial.number
        try:
            with self._interruption.judging():
                return self._objective(trial)
        except KeyboardInterrupt as stopped:
            # The objective says so too, but does not begin if the signal came before the trial.
            TrialRecord(trial).failed(stopped)
            raise

    def stop(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Stop the study if a signal came."""
        if self._interruption.number is not None:
            study.stop()


def _repeat(study: optuna.Study, number: int | None) -> None:
    """Enqueue the repetition of a trial that a signal stopped, if nobody did."""
    if number is None or _was_taken(study, number):
        return
    stopped = study.get_trials(deepcopy=False)[number]
    if stopped.state is TrialState.FAIL:
        ownership.retry(study, stopped)


def _was_taken(study: optuna.Study, number: int | None) -> bool:
    if number is None:
        return False
    return ownership.REAPED in study.get_trials(deepcopy=False)[number].system_attrs

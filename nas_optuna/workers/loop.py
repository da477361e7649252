"""What one worker does: run trials until the study has what it was asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import optuna
from optuna.trial import FrozenTrial

from nas_optuna.escape import Escape
from nas_optuna.interruption import Interruption
from nas_optuna.liveness import HANG
from nas_optuna.running import Callback
from nas_optuna.search import Search
from nas_optuna.storage import Storage, ownership
from nas_optuna.storage.budget import Goal, NoRoomError, goal_of, spent
from nas_optuna.storage.ownership import backend_of
from nas_optuna.workers.watchdog import Watchdog

LONGEST_PAUSE = 2.0  # seconds between two looks at whether there is room for one more trial
_FIRST_PAUSE = 0.05


def work(
    search: Search,
    study: optuna.Study,
    *,
    goal: Goal | None = None,
    timeout: float | None = None,
    hang: float = HANG,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Run trials, beside any number of other workers, until the goal is met.

    The goal is met exactly, whoever runs the trials. A trial whose worker died or hangs is
    repeated. Ctrl-C and SIGTERM tell the running trial as failed and leave its repetition to
    whoever comes next.

    Args:
        search: What is searched.
        study: From `search.load` or `search.create`; it is in a database.
        goal: What the study is to have in all; by default what it was last asked for with
            `nas_optuna.storage.budget.set_goal`, or else the number of trials it was planned
            for. The default is followed when it grows.
        timeout: Seconds after which no further trial starts.
        hang: Seconds without any sign of life after which this process is killed; it must be
            longer than an epoch.
        callbacks: Called after each trial of this worker with the study and the trial.

    Raises:
        KeyboardInterrupt: A signal stopped the work; its argument is the number of the signal.
    """
    backend = backend_of(study._storage)
    assert isinstance(backend, Storage)  # Search opens no other
    deadline = None if timeout is None else time.monotonic() + timeout
    escape = Escape(search.objective)
    interruption = Interruption()
    with interruption.caught(), Watchdog(backend.engine, hang):
        while True:
            asked = goal or goal_of(study) or Goal(trials=search.planned(study))
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            stop = _StopIfExhausted(asked, escape)
            ownership.reap(study)
            try:
                with backend.sharing(asked):
                    search.run_trials(
                        study,
                        timeout=left,
                        callbacks=[_reap, _if_room(escape), *callbacks, stop],
                        interruption=interruption,
                    )
                return
            except NoRoomError:
                if _wait_for_room(study, asked, deadline, interruption):
                    continue
                if goal is not None or goal_of(study) in (None, asked):
                    return


def _wait_for_room(
    study: optuna.Study, goal: Goal, deadline: float | None, interruption: Interruption
) -> bool:
    """Wait while the last trials run elsewhere; return whether one of them made room."""
    pause = _FIRST_PAUSE
    while True:
        if interruption.number is not None:
            raise KeyboardInterrupt(interruption.number)
        now = spent(study, goal)
        if now.meets(goal) or (deadline is not None and time.monotonic() > deadline):
            return False
        if now.leaves_room(goal):
            return True
        ownership.reap(study)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _reap(study: optuna.Study, trial: FrozenTrial) -> None:
    ownership.reap(study)


def _if_room(escape: Escape) -> Callback:
    def call(study: optuna.Study, trial: FrozenTrial) -> None:
        with suppress(NoRoomError):  # what it would enqueue would be left over
            escape(study, trial)

    return call


class _StopIfExhausted:
    """Ends a worker where no unseen network is left and networks are what was asked for."""

    def __init__(self, goal: Goal, escape: Escape) -> None:
        self._goal = goal
        self._escape = escape

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if self._goal.evaluations is not None and self._escape.exhausted:
            study.stop()

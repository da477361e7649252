"""Run the studies of a comparison, one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.comparison.plan import Comparison, Entry
from nas_optuna.recording import FINISHED
from nas_optuna.report.runs import Account, Limits, finished_trials
from nas_optuna.storage import ownership

Told = Callable[[int], None]
"""Called when a study goes on, with how many of its planned trials are behind it."""


class Meter:
    """A callback that stops a study at its limits, whoever adds its trials.

    Args:
        study: The study, before it goes on.
        limits: Where it ends.
        account: Adds up what the study spends; it is empty.
        told: Called with `progress` after each finished trial.
    """

    def __init__(
        self, study: optuna.Study, limits: Limits, *, account: Account, told: Told
    ) -> None:
        self._account = account
        self._limits = limits
        self._told = told
        for trial in finished_trials(study):
            self._account.add(trial)

    @property
    def finished(self) -> int:
        """Finished trials of the study."""
        return int(self._account.spent["trials"])

    @property
    def full(self) -> bool:
        """Whether the study is at its end."""
        return self._limits.reached(self._account.spent)

    @property
    def progress(self) -> int:
        """How many trials are behind it: of a study at its end all, whatever ended it."""
        return self._limits.trials if self.full else self.finished

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Count a trial that has ended."""
        if trial.state in FINISHED:
            self._account.add(trial)
            self._told(self.progress)
        if self.full:
            study.stop()


def run_entry(comparison: Comparison, entry: Entry, told: Told) -> None:
    """Create a study or go on with it, until it is at its end.

    A study that another process is running is left to that process.

    Args:
        comparison: The comparison.
        entry: Its study.
        told: Called with the progress (see `Meter`), at once and after each finished trial.

    Raises:
        KeyboardInterrupt: The run was stopped from outside.
        NasOptunaError: The study cannot be run.
    """
    contender = comparison.contender(entry)
    study = contender.create()
    ownership.reap(study)
    meter = Meter(study, comparison.limits, account=comparison.account(), told=told)
    told(meter.progress)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if meter.full or running:
        return
    contender.evaluator.measuring.prepare()
    left = comparison.limits.trials - meter.finished
    contender.optimize(study, trials=left, callbacks=[meter])

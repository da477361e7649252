"""One study of a comparison, as it would have been alone, whatever the others left behind."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from nas_optuna.metrics import Metrics
from nas_optuna.objective import Objective
from nas_optuna.recording import (
    CURVE,
    DIGEST,
    EPOCHS,
    NOTES,
    PREDICTED,
    SECONDS,
    TrialRecord,
)
from nas_optuna.report.runs import finished_trials
from nas_optuna.search import Search

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

    from nas_optuna.evaluators import Candidate


class Contender(Search):
    """A search whose study goes as if its database held no other."""

    @classmethod
    def of(cls, search: Search, *, name: str, sampler: str, seed: int, trials: int) -> Contender:
        """Return the search that asks the same question as `search` with another sampler.

        Args:
            search: What is searched and how.
            name: Name of the study.
            sampler: Name of the strategy.
            seed: Seed of the strategy.
            trials: Finished trials that a new study plans for.
        """
        same = {field.name: getattr(search, field.name) for field in fields(Search)}
        changed = {"name": name, "sampler": sampler, "seed": seed, "trials": trials}
        return cls(**{**same, **changed, "timeout": None})

    @cached_property
    def objective(self) -> Objective:
        """What is optimised."""
        return ReplayingObjective(
            self.space,
            self.evaluator,
            self.metrics,
            self.constraints,
            latency=self.latency,
            pruner=self.pruner,
        )


class ReplayingObjective(Objective):
    """Replays a stored learning curve, so that a pruner stops what it would have stopped.

    A result that another study left in the cache would otherwise spare a trial the pruner, and
    the study would know more than it paid for. Without a pruner it is `Objective`.
    """

    def _recalled(
        self, trial: optuna.Trial, record: TrialRecord, candidate: Candidate, stored: Metrics
    ) -> Metrics:
        if self.pruner is not None:
            earlier = _first_told(trial, candidate.key)
            if earlier is None:
                self._replay(trial, record, self.pruner, stored)
            elif earlier.state is TrialState.PRUNED:
                record.evaluated(_spent(earlier), cached=True)
                raise optuna.TrialPruned
        return super()._recalled(trial, record, candidate, stored)

    def _replay(
        self, trial: optuna.Trial, record: TrialRecord, pruner: BasePruner, stored: Metrics
    ) -> None:
        for step, accuracy in enumerate(stored.curve, start=1):
            record.report(step, accuracy)
            if self._prunes(trial, pruner):
                seconds = stored.seconds * step / len(stored.curve)
                curve = stored.curve[:step]
                epochs = step * self.evaluator.epochs_per_report
                spent = Metrics({}, epochs, seconds, curve, {"stopped": "pruned"})
                record.evaluated(spent, cached=True)
                raise optuna.TrialPruned


def _first_told(trial: optuna.Trial, key: str) -> FrozenTrial | None:
    """The study's first trial of the same network that was trained, or would have been."""
    for earlier in finished_trials(trial.study):
        attrs = earlier.user_attrs
        if attrs.get(DIGEST) == key and EPOCHS in attrs and PREDICTED not in attrs:
            return earlier
    return None


def _spent(pruned: FrozenTrial) -> Metrics:
    attrs = pruned.user_attrs
    curve = tuple(attrs.get(CURVE, ()))
    return Metrics({}, attrs[EPOCHS], attrs[SECONDS], curve, attrs.get(NOTES, {}))

"""A way out for samplers that propose the same architectures over and over.

Under a tight limit every strategy collapses sooner or later (multivariate TPE: 8 different
networks in 400 trials). After a few repeats in a row the next trial is an unseen feasible
neighbour of a network on the front, or a random one. It is enqueued, so it works for any sampler.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.errors import SpaceError
from nas_optuna.objective import Objective
from nas_optuna.recording import DIGEST, FINISHED
from nas_optuna.report.statistics import feasible_trials, pareto_front

PATIENCE = 3  # repeats in a row
ATTEMPTS = 100  # neighbours, and as many random genomes, tried before the space counts as known
ESCAPE = "nas:escape"

_logger = logging.getLogger(__name__)


class Escape:
    """A callback for `study.optimize(..., callbacks=[Escape(objective)])`.

    What it enqueues is a function of the finished trials alone, so that a study which was killed
    and resumed goes on as if it had not been.

    Args:
        objective: Knows the space and the limits.
        patience: Repeats in a row that call for it.
    """

    def __init__(self, objective: Objective, *, patience: int = PATIENCE) -> None:
        self._objective = objective
        self._patience = patience
        self.exhausted = False
        """Whether a way out was sought and nothing new found: the space is nearly exhausted."""

    def __call__(self, study: optuna.Study, trial: FrozenTrial | None = None) -> None:
        """Enqueue a way out if the last trials were all repeats and none is waiting."""
        trials = study.get_trials(deepcopy=False)
        if any(t.state is TrialState.WAITING for t in trials):
            return
        told = [t for t in trials if t.state in FINISHED]
        if repeats_in_a_row(told) < self._patience:
            return
        seen = {t.user_attrs[DIGEST] for t in told if DIGEST in t.user_attrs}
        params = self._unseen(study, seen, np.random.default_rng([len(told), 0x5EED]))
        if params is not None:
            study.enqueue_trial(params, user_attrs={ESCAPE: True})
        elif not self.exhausted:
            self.exhausted = True
            _logger.warning(
                "The space is nearly exhausted: %d different architectures were seen, and %d "
                "neighbours and random draws hold no new one within the limits.",
                len(seen),
                2 * ATTEMPTS,
            )

    def _unseen(
        self, study: optuna.Study, seen: set[str], rng: np.random.Generator
    ) -> dict[str, Any] | None:
        for params in self._genomes(study, rng):
            proposal = self._objective.proposal(params)
            if proposal is not None and proposal.candidate.key not in seen:
                return params
        return None

    def _genomes(self, study: optuna.Study, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        """Neighbours of the front at a growing distance, then random genomes."""
        space = self._objective.space
        front = [t.params for t in pareto_front(study) or feasible_trials(study)[:1]]
        for i in range(ATTEMPTS if front else 0):
            params = front[int(rng.integers(len(front)))]
            with suppress(SpaceError):  # there may be nothing to change
                for _ in range(1 + i // 25):
                    params = space.mutate(params, rng)
            yield params
        for _ in range(ATTEMPTS):
            yield space.sample(rng)


def repeats_in_a_row(told: list[FrozenTrial]) -> int:
    """How many of the last finished trials repeat an architecture of an earlier one."""
    first: dict[str, int] = {}
    for t in told:
        first.setdefault(t.user_attrs.get(DIGEST, f"unbuildable {t.number}"), t.number)
    count = 0
    for t in reversed(told):
        if first.get(t.user_attrs.get(DIGEST, "")) in (None, t.number):
            break
        count += 1
    return count

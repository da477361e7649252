"""Whether a cheap evaluator can be trusted: some of what it judged is trained in full.

Which networks, and when, is a function of the finished trials and the seed. Each truth is one
attribute of the study, written by one process, so that workers do not undo each other.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial

from nas_optuna.candidates import propose_params
from nas_optuna.errors import ArchitectureError, SettingError
from nas_optuna.evaluators import Evaluator
from nas_optuna.liveness import sign_of_life
from nas_optuna.metrics import Metrics
from nas_optuna.objective import Objective, evaluation_key
from nas_optuna.recording import COSTS, DIGEST, EPOCHS, HEALTH, PREDICTED
from nas_optuna.report.agreement import agreement, agreement_text
from nas_optuna.report.statistics import feasible_trials
from nas_optuna.storage import EvaluationCache, ownership

_SCORES = ("accuracy", "proxy")  # what a cheap evaluator ranks networks by
_TOP = 0.75  # quantile from which a score is among the best
_GOLDEN = 0.6180339887498949  # multiples of it modulo 1 fill [0, 1) evenly, however many

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProxyHealth:
    """Now and then trains a network in full that a cheap evaluator judged.

    For any evaluator that is cheaper than the truth: `ProxyTask`, `ZeroCost`, `WeightSharing`,
    and `PerformancePrediction`, of which only predictions are checked. Every second network is of
    the best quarter by its cheap score, the others are spread over all scores; their rank
    correlation is therefore a little lower than over networks drawn evenly.

    The trainings count neither as trials nor as evaluations of a run; they cost at most
    `at_most` of the reference's, and what they did cost is said with the result. What the
    database already knows is not trained again.

    Args:
        reference: Trains in full.
        every: Different networks, judged and feasible, after which another one is trained.
        at_most: Trainings in a study.

    Raises:
        SettingError: A number is below 1, or the reference measures no accuracy.

    Example:
        >>> import nas_optuna as nas
        >>> ProxyHealth(nas.evaluators.FullTraining("digits", epochs=12), every=20).budget
        'FullTraining of 1 network in 20, at most 20'
    """

    reference: Evaluator
    _: KW_ONLY
    every: int = 10
    at_most: int = 20

    def __post_init__(self) -> None:
        for name in ("every", "at_most"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, got {getattr(self, name)!r}.")
        if "accuracy" not in self.reference.provides:
            raise SettingError(
                f"{self.reference.name} measures no accuracy to compare with; a reference is an "
                "evaluator that trains in full, such as FullTraining."
            )

    @property
    def budget(self) -> str:
        """What is trained, in words."""
        return f"{self.reference.name} of 1 network in {self.every}, at most {self.at_most}"

    def on(self, device: str | torch.device) -> ProxyHealth:
        """Return a copy that trains on `device`."""
        return replace(self, reference=self.reference.on(device))


class HealthCheck:
    """A callback for `study.optimize` that trains in full what is due.

    Args:
        objective: What the study optimises.
        health: How often, and by whom.
        seed: Decides which networks are taken.

    Raises:
        SettingError: The study's metrics hold no score of the evaluator, or the evaluator is the
            reference itself.
    """

    def __init__(self, objective: Objective, health: ProxyHealth, *, seed: int = 0) -> None:
        self._objective = objective
        self._health = health
        self._seed = seed
        self._warned = False
        evaluator = objective.evaluator
        self._predicts = evaluator.measuring is not evaluator
        scores = [name for name in _SCORES if name in objective.metrics]
        if not scores:
            raise SettingError(
                "Proxy health goes by accuracy or proxy, which is none of the metrics "
                f"{objective.metrics}; add it, or leave the health out."
            )
        self._score = objective.metrics.index(scores[0])
        if not self._predicts and evaluator.fingerprint == health.reference.fingerprint:
            raise SettingError(
                f"Proxy health compares {evaluator.name} with itself; the reference is the full "
                "training, and the evaluator of the search a cheaper one."
            )

    def __call__(self, study: optuna.Study, trial: FrozenTrial | None = None) -> None:
        """Train whatever is due; called after a trial, and before the first one of a run."""
        while True:
            judged = self._judged(study)
            due = min(len(judged) // self._health.every, self._health.at_most)
            if due == 0:
                return
            taken = self._taken(study)
            if len(taken) >= due:
                return
            # As many as there were when it became due, so that a late check takes the same one.
            pool = judged[: (len(taken) + 1) * self._health.every]
            scores = [t.values[self._score] for t in pool]
            free = [i for i, t in enumerate(pool) if t.number not in taken]
            chosen = choose(scores, free, count=len(taken), seed=self._seed)
            top = float(scores[chosen]) >= float(np.quantile(scores, _TOP))
            self._check(study, pool[chosen], top=top)
            self._warn(study)

    def _judged(self, study: optuna.Study) -> list[FrozenTrial]:
        """The first feasible trial of each network that was judged cheaply, by number."""
        first: dict[str, FrozenTrial] = {}
        for trial in feasible_trials(study):
            attrs = trial.user_attrs
            if EPOCHS in attrs and (PREDICTED in attrs or not self._predicts):
                first.setdefault(attrs[DIGEST], trial)
        return list(first.values())

    def _taken(self, study: optuna.Study) -> set[int]:
        """Numbers of the trials that are checked, or that a living process is checking."""
        backend = ownership.backend_of(study._storage)
        one_machine = backend is not None and backend.engine.dialect.name == "sqlite"
        taken = set()
        for key, record in study.user_attrs.items():
            if key.startswith(HEALTH) and record:
                who = record.get("owner")
                if who is None or not ownership.is_dead(who, one_machine=one_machine):
                    taken.add(int(key.removeprefix(HEALTH)))
        return taken

    def _check(self, study: optuna.Study, trial: FrozenTrial, *, top: bool) -> None:
        key = f"{HEALTH}{trial.number}"
        study.set_user_attr(key, {"owner": ownership.owner()})  # so that no other worker takes it
        try:
            study.set_user_attr(key, {**self._truth(study, trial), "top": top})
        except (RuntimeError, ArchitectureError) as error:  # it may need memory that is not there
            study.set_user_attr(key, {"failed": " ".join(str(error).split())})
            _logger.warning("The network of trial %d cannot be trained: %s", trial.number, error)
        except BaseException:
            study.set_user_attr(key, None)
            raise

    def _truth(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        candidate = propose_params(self._objective.space, trial.params).candidate
        if candidate.key != trial.user_attrs[DIGEST]:
            raise ArchitectureError("The space makes another network of its parameters by now.")
        reference = self._health.reference
        cache = EvaluationCache.of(study._storage)
        key = evaluation_key(reference, candidate.key)
        stored = cache.get(key) if reference.cacheable else None
        found: Metrics = stored or reference.evaluate(candidate, lambda *_: sign_of_life())
        if stored is None and reference.cacheable:
            found = cache.put(key, found)
        return {
            "accuracy": found.values["accuracy"],
            "score": trial.values[self._score],
            "parameters": trial.user_attrs[COSTS]["parameters"],
            "reference": reference.name,
            "epochs": found.epochs,
            "seconds": found.seconds,
            "cached": stored is not None,
        }

    def _warn(self, study: optuna.Study) -> None:
        found = None if self._warned else agreement(study)
        if found is not None and found.useless:
            self._warned = True
            _logger.warning("%s", agreement_text(found))


def choose(scores: Sequence[float], free: Collection[int], *, count: int, seed: int) -> int:
    """Choose the next network to train: one over all scores, one of the best quarter, in turn.

    Args:
        scores: `(n,)` cheap scores, larger is better.
        free: Indices into `scores` of those that may be chosen, at least one.
        count: How many were chosen before.
        seed: Decides where the sequence begins.

    Returns:
        An index into `scores`.

    Example:
        >>> scores = [0.1, 0.9, 0.5, 0.7, 0.3, 0.2, 0.8, 0.6]
        >>> best = [choose(scores, range(8), count=count, seed=0) for count in (1, 3, 5)]
        >>> all(scores[i] in (0.9, 0.8) for i in best)  # of the best quarter
        True
    """
    places = np.empty(len(scores))
    places[np.argsort(scores, kind="stable")] = (np.arange(len(scores)) + 0.5) / len(scores)
    start = np.random.default_rng([seed, 0x4EA1]).random()
    share = (start + count // 2 * _GOLDEN) % 1.0
    wanted = _TOP + (1 - _TOP) * share if count % 2 else share
    return min(free, key=lambda i: (abs(places[i] - wanted), i))

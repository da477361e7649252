"""The finished trials of a study as what a model learns from: genomes, losses and violations."""

from __future__ import annotations

from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.recording import DIGEST
from nas_optuna.samplers.gaussian import FloatArray
from nas_optuna.spaces.drawing import Params

TOLD = (TrialState.COMPLETE, TrialState.PRUNED)
_RHO = 0.05  # weight of the sum beside the maximum in ParEGO's scalarisation
_RESOLUTION = 0.3  # share of the median distance to the best below which targets hardly differ


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The finished trials of a study, by number.

    Args:
        genomes: The n genomes.
        losses: `(n, m)` values, minimised; NaN for trials that are pruned or infeasible, or have
            a value that is not finite.
        violations: `(n,)` worst violation of each, squashed into (-1, 1): positive if a limit is
            broken; NaN where a trial told none.
        pruned: `(n,)` whether the trial was pruned.
        digests: Digests of the networks, as far as they were recorded.
    """

    genomes: list[Params]
    losses: FloatArray
    violations: FloatArray
    pruned: NDArray[np.bool_]
    digests: frozenset[str]

    @classmethod
    def of(cls, study: Study) -> Outcomes:
        """Read a study."""
        trials = sorted(
            study._get_trials(deepcopy=False, states=TOLD, use_cache=True),
            key=lambda trial: trial.number,
        )
        signs = [-1.0 if d is StudyDirection.MAXIMIZE else 1.0 for d in study.directions]
        unknown = [np.nan] * len(signs)
        values = [trial.values if _counts(trial) else unknown for trial in trials]
        return cls(
            genomes=[trial.params for trial in trials],
            losses=np.array(values, dtype=np.float64).reshape(-1, len(signs)) * signs,
            violations=np.array([_violation(trial) for trial in trials], dtype=np.float64),
            pruned=np.array([trial.state is TrialState.PRUNED for trial in trials], dtype=bool),
            digests=frozenset(t.user_attrs[DIGEST] for t in trials if DIGEST in t.user_attrs),
        )

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Whether each trial has values that count, `(n,)`."""
        return np.asarray(np.isfinite(self.losses).all(axis=1), dtype=np.bool_)

    def best(self, count: int) -> list[Params]:
        """Return the first `count` feasible genomes by rank; all of the front if it is larger.

        As long as none is feasible, those with the least violation.
        """
        places = np.flatnonzero(self.feasible)
        if not len(places):
            order = np.argsort(self.violations, kind="stable")
            return [self.genomes[i] for i in order[:count]]
        ranks = moocore.pareto_rank(self.losses[places])
        if self.losses.shape[1] > 1:
            count = max(count, int((ranks == 0).sum()))
        return [self.genomes[i] for i in places[np.argsort(ranks, kind="stable")][:count]]

    def targets(self, weights: FloatArray) -> FloatArray:
        """One number for each trial, larger is better; NaN where there are no values.

        Several losses are put on their range in the study so far, and made one by the augmented
        Chebyshev function (Knowles 2006, equation 2).

        Args:
            weights: `(m,)`, their sum 1.
        """
        told, losses = self.feasible, self.losses[self.feasible]
        if losses.shape[1] > 1 and len(losses):
            spans = np.maximum(np.ptp(losses, axis=0), 1e-12)
            shares = (losses - losses.min(axis=0)) / spans * weights
            losses = shares.max(axis=1) + _RHO * shares.sum(axis=1)
        targets = np.full(len(told), np.nan)
        targets[told] = closeness(losses.ravel())
        return targets


def closeness(losses: FloatArray) -> FloatArray:
    """How close losses come to the least, on a logarithmic scale, of mean 0 and variance 1.

    It tells good from very good, and takes all failures for about the same.

    Args:
        losses: `(n,)`, smaller is better.

    Example:
        >>> closeness(np.array([1.0, 2.0, 3.0, 1000.0])).round(1).tolist()
        [0.9, 0.5, 0.3, -1.7]
    """
    if not len(losses):
        return losses
    gaps = losses - losses.min()
    targets = -np.log(gaps / max(float(np.median(gaps)), 1e-12) + _RESOLUTION)
    return np.asarray((targets - targets.mean()) / (targets.std() or 1.0), dtype=np.float64)


def chosen(targets: FloatArray, count: int) -> NDArray[np.int64]:
    """Return the places of the best half and the newest half of `count` targets, ascending.

    Args:
        targets: `(n,)` larger is better; NaN counts as worst.
        count: How many; all if there are no more.

    Example:
        >>> chosen(np.array([9.0, np.nan, 1.0, 8.0, 0.0, 2.0]), 4).tolist()
        [0, 3, 4, 5]
    """
    places = np.arange(len(targets), dtype=np.int64)
    if len(targets) <= count:
        return places
    best = np.argsort(-np.where(np.isnan(targets), -np.inf, targets), kind="stable")[: count // 2]
    newest = places[~np.isin(places, best)][-(count - len(best)) :]
    return np.sort(np.concatenate([best, newest]))


def _counts(trial: FrozenTrial) -> bool:
    if trial.state is not TrialState.COMPLETE or not np.isfinite(trial.values).all():
        return False
    return all(violation <= 0 for violation in trial.constraints.values())


def _violation(trial: FrozenTrial) -> float:
    worst = float(np.clip(max(trial.constraints.values(), default=np.nan), -1e6, 1e6))
    return worst / (1.0 + abs(worst))

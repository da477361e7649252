"""Who may be a parent: the finished trials of a study, sorted as NSGA-II sorts them.

Deb, Pratap, Agarwal & Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm:
    NSGA-II", IEEE Transactions on Evolutionary Computation 6(2).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.recording import FINISHED
from nas_optuna.samplers.genomes import Answers, Genetics, Known, Recorded, answers
from nas_optuna.samplers.registry import Space as Askable
from nas_optuna.spaces import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage

    from nas_optuna.spaces.drawing import Params

POPULATION = 5  # parents at least; all of the first front, if it is larger,
LARGEST = 50  # but no more, since with many objectives most trials are on it
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Individual:
    """A finished trial: its number, its genome, and its values, minimised."""

    number: int
    params: Params
    answers: Answers
    losses: tuple[float, ...]
    violation: float


class History:
    """What the trials of one study have told, each read once.

    Args:
        space: The space. If there is none, or if it asks other questions from trial to trial, the
            questions are gathered from the trials too.
    """

    def __init__(self, space: Askable | None) -> None:
        self._fixed = space if isinstance(space, Space) and not space.conditional else None
        self._asked: dict[str, BaseDistribution] = dict(space.genes) if space else {}
        self.lock = threading.Lock()  # `optimize(n_jobs=2)` shares the sampler
        self._clear()

    def _clear(self) -> None:
        self._study: tuple[BaseStorage, int] | None = None
        self._read: set[int] = set()
        self.genes = dict(self._asked)
        self.genetics: Genetics = self._fixed or Recorded(self.genes)
        self.known = Known()
        self.finished: list[Individual] = []  # by number
        self.told = 0

    def read(self, study: Study) -> None:
        """Read the trials that have finished since."""
        if self._study != (study._storage, study._study_id):
            self._clear()
            self._study = (study._storage, study._study_id)
        signs = [-1.0 if d is StudyDirection.MAXIMIZE else 1.0 for d in study.directions]
        for trial in study._get_trials(deepcopy=False, states=FINISHED, use_cache=True):
            if trial.number not in self._read:
                self._read.add(trial.number)
                self._add(trial, signs)
        self.finished.sort(key=lambda one: one.number)

    def holds(self, number: int) -> bool:
        """Whether a trial was read."""
        return number in self._read

    def answers(self, params: Params) -> Answers:
        """Return the answers of a genome that count."""
        return answers(params, self._fixed)

    def _add(self, trial: FrozenTrial, signs: list[float]) -> None:
        if self._fixed is None:
            self.genes.update(trial.distributions)
        told = self.answers(trial.params)
        self.known.add(told)
        self.told += 1
        if trial.state is TrialState.COMPLETE:
            losses = tuple(sign * v for sign, v in zip(signs, trial.values, strict=True))
            violation = sum(max(excess, 0.0) for excess in trial.constraints.values())
            self.finished.append(Individual(trial.number, trial.params, told, losses, violation))


def select(trials: Sequence[Individual]) -> list[Individual]:
    """Return the population, best first; of trials with one genome, the first counts."""
    first: dict[Answers, Individual] = {}
    for one in trials:
        first.setdefault(one.answers, one)
    unique = list(first.values())
    losses = np.array([one.losses for one in unique], dtype=np.float64)
    ranks = _ranks(losses, np.array([one.violation for one in unique]))
    chosen: list[int] = []
    for rank in np.unique(ranks):
        front = np.flatnonzero(ranks == rank)
        sparse_first = np.argsort(-crowding(losses[front]), kind="stable")
        room = LARGEST if not chosen else POPULATION - len(chosen)
        chosen.extend(front[sparse_first][:room].tolist())
        if len(chosen) >= POPULATION:
            break
    return [unique[i] for i in chosen]


def _ranks(losses: FloatArray, violations: FloatArray) -> NDArray[np.int64]:
    """Rank by constrained domination (Deb et al., section VI).

    Args:
        losses: `(n, m)` values, every column minimised.
        violations: `(n,)` how far limits are broken; 0 where none is.

    Returns:
        `(n,)` number of the front, from 0; after the fronts of feasible trials come infeasible
        ones by their violation.
    """
    ranks = np.zeros(len(losses), dtype=np.int64)
    feasible = violations <= 0
    if feasible.any():
        ranks[feasible] = moocore.pareto_rank(losses[feasible])
    worse = np.unique(violations[~feasible], return_inverse=True)[1]
    ranks[~feasible] = ranks[feasible].max(initial=-1) + 1 + worse
    return ranks


def crowding(losses: FloatArray) -> FloatArray:
    """Distance of each point of a front to its neighbours (Deb et al., section III-B).

    Args:
        losses: `(n, m)` values; they may be infinite.

    Returns:
        `(n,)` sum over the columns of the gap between the two neighbours, as a share of the span
        of the finite values; infinite at either end, 0 in a column of one value.

    Example:
        >>> crowding(np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]])).tolist()
        [inf, 2.0, inf]
    """
    distances = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        values = column[order]
        if values[0] == values[-1]:
            continue
        finite = values[np.isfinite(values)]
        span = np.ptp(finite) if len(finite) else 0.0
        around = np.concatenate([[-np.inf], values, [np.inf]])
        left, right = around[:-2], around[2:]
        gaps = np.zeros(len(values))
        np.subtract(right, left, out=gaps, where=left != right)  # two infinities have no gap
        distances[order] += gaps / (span or 1.0)
    return distances

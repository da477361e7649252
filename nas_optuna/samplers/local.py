"""Hill climbing over the neighbours of a space with restarts, for one or several objectives.

White, Nolen & Savani 2021, "Exploring the Loss Landscape in Neural Architecture Search", UAI:
    local search is a baseline that many published methods fail to beat.
Paquete, Chiarandini & Stützle 2004, "Pareto Local Optimum Sets in the Biobjective Traveling
    Salesman Problem: An Experimental Study": the same for a front.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import moocore
import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.recording import FINISHED
from nas_optuna.samplers import seeded
from nas_optuna.samplers.genomes import INTENDED, Known, Recorded, answers, intended
from nas_optuna.samplers.registry import Settings
from nas_optuna.spaces import Space
from nas_optuna.spaces.drawing import Params, cardinality, values
from nas_optuna.spaces.variation import live_genes
from nas_optuna.storage.ownership import RETRY_HISTORY, draw_index

CLIMB = "nas:proposal:climb"  # system attribute: number of the climb that a trial belongs to
_RESTARTS = 100  # random genomes that are looked at for a new one
_ROUNDS = 10  # proposals until one is no other worker's; a clash is rare, two in a row rarer
_GRID = 20  # a continuous gene moves on a grid of so many steps
_STRIDES = (-4, -1, 1, 4)  # by so many of them

_Genomes: TypeAlias = Space | Recorded


class LocalSampler(BaseSampler):
    """Proposes an unseen neighbour of the best trials of a climb, else a new random start.

    A climb is a random start and the trials after it. Its best trials are those that no other
    dominates; feasible ones come before infeasible ones, and of these only the least violation
    counts. They are gone through in random order, and so are the neighbours of each (one gene
    that counts is changed), until there is one that no trial has tried or is trying. So a step up
    is taken as soon as it is found, where White et al. look at all neighbours first: that needs
    more trials. A climb whose best trials have no unseen neighbour is over.

    All of it is found from the trials, whoever proposed them: in a study that another strategy
    began, the first climb goes on from its best trials. What a trial is to try is an attribute of
    the trial, so that workers know each other's and a retried trial tries the same again.

    Args:
        seed: The study's seed.
        space: The space; None to go by the questions that the trials were asked.

    Example:
        >>> import optuna
        >>> from nas_optuna.spaces import NASBench201Space
        >>> space = NASBench201Space()
        >>> study = optuna.create_study(sampler=LocalSampler(seed=0, space=space))
        >>> first = study.ask(space.genes)
        >>> _ = study.tell(first, 0.0)
        >>> second = study.ask(space.genes)
        >>> sum(first.params[gene] != second.params[gene] for gene in space.genes)
        1
    """

    def __init__(self, *, seed: int, space: _Genomes | None = None) -> None:
        self._seed = seed
        self._space = space
        self._random = seeded.random(Settings(seed=seed))

    def __repr__(self) -> str:
        return f"LocalSampler(seed={self._seed})"

    def reseed_rng(self) -> None:
        """Do nothing: every draw has a generator of its own."""

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the genes of the space, or all questions that finished trials were asked."""
        if self._space is not None:
            return dict(self._space.genes)
        genes: dict[str, BaseDistribution] = {}
        for told in study.get_trials(deepcopy=False, states=FINISHED):
            genes |= told.distributions
        return genes

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a whole genome; of a conditional space only a part of it may be asked for."""
        if not search_space:
            return {}
        params = trial.system_attrs.get(INTENDED) or self._intend(study, trial, search_space)
        return {name: value for name, value in params.items() if name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw at random what no trial was asked before."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _intend(
        self, study: Study, trial: FrozenTrial, genes: dict[str, BaseDistribution]
    ) -> Params:
        """Propose a genome, and write it down where other workers and a retry see it."""
        rng = np.random.default_rng([self._seed, draw_index(study, trial)])
        space = self._space or Recorded(genes)
        write = study._storage.set_trial_system_attr
        genome: Params = {}
        for _ in range(_ROUNDS):
            climb, genome = _next(space, study, _others(study, trial), rng)
            write(trial._trial_id, CLIMB, climb)
            write(trial._trial_id, INTENDED, genome)
            # Of two workers that propose the same, the one that wrote later sees the other's.
            if all(intended(other) != genome for other in _others(study, trial)):
                break
        return genome


def create(settings: Settings) -> BaseSampler:
    """Make hill climbing with restarts."""
    space = settings.space
    if isinstance(space, Space) or space is None:
        return LocalSampler(seed=settings.seed, space=space)
    return LocalSampler(seed=settings.seed, space=Recorded(space.genes))


def _others(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """Return all other trials, but of one that died and was retried only the retry."""
    trials = study.get_trials(deepcopy=False)
    known = {n for other in trials for n in other.system_attrs.get(RETRY_HISTORY, ())}
    known.add(trial.number)
    return [other for other in trials if other.number not in known]


def _tried(trial: FrozenTrial) -> Params:
    """Return what a trial tried, or is to try."""
    return trial.params if trial.state in FINISHED else {**intended(trial), **trial.params}


def _next(
    space: _Genomes, study: Study, trials: list[FrozenTrial], rng: np.random.Generator
) -> tuple[int, Params]:
    """Return the number of a climb and the genome to try in it."""
    known = Known()
    for trial in trials:
        known.add(answers(_tried(trial)))
    climb, members = _current_climb(trials)
    best = _best(study, members)
    for genome in _around(space, best, rng):
        if genome not in known:
            return climb, genome
    # Without a finished trial the climb has only begun, and this is one more start of it.
    return climb + bool(best), _start(space, trials, known, rng)


def _current_climb(trials: list[FrozenTrial]) -> tuple[int, list[FrozenTrial]]:
    """Return the newest climb and its trials; what others propose counts to the climb it is in."""
    climb = 0
    members: list[FrozenTrial] = []
    for trial in trials:
        number = trial.system_attrs.get(CLIMB, climb)
        if number > climb:
            climb, members = number, []
        if number == climb:
            members.append(trial)
    return climb, members


def _best(study: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials with the least violation that no other of them dominates."""
    told = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if not told:
        return []
    excess = [sum(max(value, 0.0) for value in trial.constraints.values()) for trial in told]
    least = min(excess)
    told = [trial for trial, over in zip(told, excess, strict=True) if over == least]
    maximized = [direction is StudyDirection.MAXIMIZE for direction in study.directions]
    points = np.array([trial.values for trial in told], dtype=np.float64)
    front = moocore.is_nondominated(points, maximise=maximized, keep_weakly=True)
    return [told[int(i)] for i in np.flatnonzero(front)]


def _around(
    space: _Genomes, trials: list[FrozenTrial], rng: np.random.Generator
) -> Iterator[Params]:
    """Go through the neighbours of trials, both in random order."""
    for i in rng.permutation(len(trials)):
        params = trials[int(i)].params
        changes = [
            (name, value)
            for name in live_genes(space, params)
            for value in _other_values(space.genes[name], params[name])
        ]
        for j in rng.permutation(len(changes)):
            name, value = changes[int(j)]
            yield _whole(space, {**params, name: value})


def _whole(space: _Genomes, params: Params) -> Params:
    """Answer what a changed answer may lead to, in the same way in every call."""
    rng = np.random.default_rng(0)
    if isinstance(space, Recorded):
        return {**space.sample(rng), **space.complete(params, rng)}
    return space.complete(params, rng)


def _other_values(gene: BaseDistribution, value: Any) -> Iterator[Any]:
    """Go through all other values of a finite gene, and some near ones of a continuous one."""
    if math.isfinite(cardinality(gene)):
        yield from (other for other in values(gene) if other != value)
    elif isinstance(gene, FloatDistribution) and not gene.single():
        low, high = (math.log(x) if gene.log else x for x in (gene.low, gene.high))
        at = math.log(value) if gene.log else value
        place = round((at - low) / (high - low) * _GRID)
        for stride in _STRIDES:
            if 0 <= place + stride <= _GRID:
                moved = low + (high - low) * (place + stride) / _GRID
                yield min(max(math.exp(moved) if gene.log else moved, gene.low), gene.high)


def _start(
    space: _Genomes, trials: list[FrozenTrial], known: Known, rng: np.random.Generator
) -> Params:
    """Draw a genome that is not known; where all seem to be, any."""
    for _ in range(_RESTARTS):
        genome = space.sample(rng)
        if genome not in known:
            return genome
    told = [trial for trial in trials if trial.state in FINISHED]
    return next((g for g in _around(space, told, rng) if g not in known), genome)

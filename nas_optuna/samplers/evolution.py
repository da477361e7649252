"""Evolution of architectures: NSGA-II with the space's own crossover and mutation, and ageing.

Deb, Pratap, Agarwal & Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm:
    NSGA-II", IEEE Transactions on Evolutionary Computation 6(2): ranks, crowding, tournament,
    constrained domination.
Durillo, Nebro, Luna & Alba 2009, "On the Effect of the Steady-State Selection Scheme in
    Multi-Objective Genetic Algorithms", EMO: one child at a time.
Real, Aggarwal, Huang & Le 2019, "Regularized Evolution for Image Classifier Architecture Search",
    AAAI: ageing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_optuna.errors import SettingError
from nas_optuna.samplers.genomes import INTENDED, Known, at_work, intended, is_open
from nas_optuna.samplers.population import History, Individual, select
from nas_optuna.samplers.registry import Settings
from nas_optuna.samplers.seeded import SeededSampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from nas_optuna.spaces.drawing import Params

PARENTS = "nas:proposal:parents"  # system attribute: numbers of the trials that a child is of
STARTUP = 10  # random trials first
CROSSOVER = 0.75  # share of children that have two parents,
MUTATION = 0.5  # and share of these that are mutated even if they are new
AGEING_POPULATION = 20  # the newest trials, of which
AGEING_TOURNAMENT = 5  # so many are compared for a parent
_ATTEMPTS = 100  # mutations on top of each other until a child is new
_ROUNDS = 10  # proposals until one is no other worker's; a clash is rare, two in a row rarer


def create(settings: Settings, *, ageing: bool = False) -> BaseSampler:
    """Make NSGA-II, or regularised evolution.

    Args:
        settings: Space, seed and budget. Without a space, or with one whose questions change
            from trial to trial, the questions are those that finished trials were asked.
        ageing: Regularised evolution (Real et al. 2019), for one objective: the parent is the
            best of a few of the newest trials, and a child is a mutant of it.

    Example:
        >>> import optuna
        >>> from nas_optuna.spaces import NASBench201Space
        >>> space = NASBench201Space()
        >>> study = optuna.create_study(sampler=create(Settings(space=space, trials=50)))
        >>> for _ in range(30):
        ...     trial = study.ask(space.genes)
        ...     _ = study.tell(trial, list(trial.params.values()).count("none"))
        >>> study.best_value, len({str(trial.params) for trial in study.trials})
        (0.0, 30)
    """
    history = History(settings.space)
    startup = min(max(settings.trials // 4, 2), STARTUP)

    def build(seed: int) -> BaseSampler:
        return _Evolution(history, seed, startup=startup, ageing=ageing)

    return SeededSampler(build, name="ageing" if ageing else "nsga2", seed=settings.seed)


class _Evolution(BaseSampler):
    """Proposes the genome of one trial.

    The first trials are random. Then each is a child of the best trials so far: all finished ones
    are sorted as NSGA-II sorts (by front, feasible ones first, then by crowding), the first ones
    may be parents, and each parent wins a tournament of two. Children are made by the crossover
    and the mutation of the space, and mutated further until they are new.

    Departures from the paper: the population is replaced trial by trial, not by generations. That
    needs fewer trials, no worker waits for another, and nothing but finished trials decides what
    comes next. A pruned trial is no parent, since its accuracy is that of another epoch; neither
    is it tried again. Workers never intend one genome at the same time; of a space whose questions
    change, two genomes may differ in what is then not asked.

    Args:
        history: What the study has told; shared by the samplers of one study.
        seed: Seed of the trial's draws.
        startup: Finished trials before the first child.
        ageing: See `create`.
    """

    def __init__(self, history: History, seed: int, *, startup: int, ageing: bool) -> None:
        self._history = history
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed=seed)
        self._startup = startup
        self._ageing = ageing

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all questions that are known."""
        with self._history.lock:
            self._history.read(study)
            return dict(self._history.genes)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a whole genome; of a conditional space only a part of it may be asked for."""
        if self._ageing and len(study.directions) > 1:
            raise SettingError(
                f"Ageing evolution is for one objective, and the study has "
                f"{len(study.directions)}; leave ageing out."
            )
        if not is_open(search_space):
            return {}
        genome = trial.system_attrs.get(INTENDED) or self._intend(study, trial)
        return {name: value for name, value in genome.items() if name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw at random what no trial was asked before."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _intend(self, study: Study, trial: FrozenTrial) -> Params:
        """Propose a genome, and write it down where other workers and a retry see it."""
        genome: Params = {}
        write = study._storage.set_trial_system_attr
        for _ in range(_ROUNDS):
            with self._history.lock:
                genome, parents = self._propose(study, trial)
            write(trial._trial_id, INTENDED, genome)
            # Of two workers that propose the same, the one that wrote later sees the other's.
            others = at_work(study, trial, self._history.holds)
            if all(intended(other) != genome for other in others):
                break
        if parents:
            write(trial._trial_id, PARENTS, parents)
        return genome

    def _propose(self, study: Study, trial: FrozenTrial) -> tuple[Params, list[int]]:
        """Return a genome, new if one is found, and the numbers of its parents."""
        history, rng = self._history, self._rng
        history.read(study)
        space, known, tried = history.genetics, history.known, _tried(study, trial, history)
        given = trial.system_attrs.get("fixed_params", {}) | trial.params
        parents = self._parents(history)
        if parents:
            genome = parents[0].params
            if len(parents) > 1:
                genome = space.crossover(genome, parents[1].params, rng)
            if len(parents) == 1 or rng.random() < MUTATION:
                genome = space.mutate(genome, rng)
        else:
            genome = space.sample(rng)
        genome = space.complete({**genome, **given}, rng)
        for _ in range(_ATTEMPTS):
            if genome not in known and genome not in tried:
                break
            genome = space.complete({**space.mutate(genome, rng), **given}, rng)
        return genome, [parent.number for parent in parents]

    def _parents(self, history: History) -> list[Individual]:
        if history.told < self._startup or not history.finished:
            return []
        rng = self._rng
        if self._ageing:
            newest = history.finished[-AGEING_POPULATION:]
            drawn = rng.permutation(len(newest))[:AGEING_TOURNAMENT]
            return [min((newest[i] for i in drawn), key=lambda one: (one.violation, one.losses))]
        population = select(history.finished)
        count = 2 if rng.random() < CROSSOVER and len(population) > 1 else 1
        winners: list[int] = []
        while len(winners) < count:
            # The population is sorted: of two, the first is in a better front or less crowded.
            winner = int(rng.integers(len(population), size=2).min())
            if winner not in winners:
                winners.append(winner)
        return [population[winner] for winner in winners]


def _tried(study: Study, trial: FrozenTrial, history: History) -> Known:
    """What trials that the history does not hold intend, or were asked where that is all."""
    tried = Known()
    for other in at_work(study, trial, history.holds):
        tried.add(history.answers(intended(other)))
        asked = history.answers(other.params)
        if asked[0] in history.known.by_names:
            tried.add(asked)
    return tried

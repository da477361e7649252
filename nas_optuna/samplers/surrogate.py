"""Model-based search: a Gaussian process over graphs proposes what may be best.

Kandasamy et al. 2018, "Neural Architecture Search with Bayesian Optimisation and Optimal
    Transport", NeurIPS; White, Neiswanger & Savani 2021, "BANANAS: Bayesian Optimization with
    Neural Architectures for Neural Architecture Search", AAAI: candidates are mutants of the best.
Ru et al. 2021, "Interpretable Neural Architecture Search via Bayesian Optimisation with
    Weisfeiler-Lehman Kernels", ICLR: kernels on counts of small subgraphs.
Ponweiser et al. 2008, "Multiobjective Optimization on a Limited Budget of Evaluations Using
    Model-Assisted S-Metric Selection", PPSN X: optimistic hypervolume.
Xu, Jiang & Jones 2022, "CONFIG: Constrained Efficient Global Optimization for Expensive Black-box
    Optimization": optimism for the constraints too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_optuna.errors import SettingError
from nas_optuna.recording import DIGEST, FINISHED
from nas_optuna.samplers.acquisition import fit, rows, value_bounds, within_limits
from nas_optuna.samplers.features import Encoder, scaled
from nas_optuna.samplers.gaussian import FloatArray, Kernel, Posterior
from nas_optuna.samplers.genomes import (
    INTENDED,
    Genetics,
    Known,
    Recorded,
    answers,
    at_work,
    intended,
    is_open,
)
from nas_optuna.samplers.improvement import front_gains
from nas_optuna.samplers.outcomes import Outcomes, chosen
from nas_optuna.samplers.registry import Settings
from nas_optuna.samplers.seeded import SeededSampler
from nas_optuna.spaces import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from nas_optuna.spaces.drawing import Params

STARTUP = 8  # random trials first
MUTANTS, FRESH = 48, 16  # candidates; each costs the building of a graph, some milliseconds
PARENTS = 10  # trials that mutants are made of, or the whole front if it is larger
MODELLED = 400  # trials in the model, half of them the best and half the newest
_EDITS = 4  # most mutations on top of each other
_TRIES = 4  # draws for each candidate that is wanted
_ROUNDS = 10  # proposals until one is no other worker's; a clash is rare, two in a row rarer


def create(settings: Settings, *, warm: Study | None = None) -> BaseSampler:
    """Make model-based search.

    Args:
        settings: Space, seed and budget. Without a space the questions are those that finished
            trials were asked. An `evaluator` that keeps its results has one result for isomorphic
            networks, so that only one of them is proposed.
        warm: An older study of the same space, such as one with zero-cost scores or on other
            data. What a model of it says of a genome becomes a feature here, which counts for as
            much as it turns out to tell; its objectives may be others.

    Raises:
        SettingError: `warm` has fewer than two feasible trials.

    Example:
        >>> import optuna
        >>> from nas_optuna.spaces import NASBench201Space
        >>> space = NASBench201Space(cells_per_stage=1)
        >>> study = optuna.create_study(sampler=create(Settings(space=space, trials=50)))
        >>> for _ in range(20):
        ...     trial = study.ask(space.genes)
        ...     _ = study.tell(trial, 6 - list(trial.params.values()).count("avg_pool_3x3"))
        >>> study.best_value
        0.0
    """
    space = settings.space
    genetics = space if isinstance(space, Space) or space is None else Recorded(space.genes)
    distinct = bool(getattr(settings.evaluator, "cacheable", False))
    memory = _Memory(genetics, None if warm is None else _Advice(warm), distinct=distinct)
    startup = min(max(settings.trials // 4, 2), STARTUP)

    def build(seed: int) -> BaseSampler:
        return _Surrogate(memory, seed, startup=startup)

    return SeededSampler(build, name="surrogate", seed=settings.seed)


class _Surrogate(BaseSampler):
    """Proposes the genome of one trial.

    1. The first trials are random; with an older study, what its model thinks best.
    2. Candidates are new mutants of the best trials, and fresh genomes.
    3. A Gaussian process over genes and graphs tells what each candidate may be worth at best:
       the mean and a standard deviation (upper confidence bound). It learns the logarithm of the
       distance to the best. Trials that run are believed to reach their mean, so that workers
       spread; pruned ones too, but no more than the median.
    4. Of several objectives each has a model of its own, with that logarithm or without it, and
       what counts is the hypervolume that a candidate may add to the front at best.
    5. Another one models the worst violation of a trial. Candidates that cannot keep the limits,
       by the same optimism, come last. A limit that is known by counting is tried for nothing,
       since what breaks it is not trained.

    The model is made anew for every trial from finished trials alone, and from no more than
    `MODELLED`, so that its cost is bounded.

    Args:
        memory: What the samplers of one study share.
        seed: Seed of the trial's draws.
        startup: Finished trials before the first model.
    """

    def __init__(self, memory: _Memory, seed: int, *, startup: int) -> None:
        self._memory = memory
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed=seed)
        self._startup = startup

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the genes of the space, or all questions that finished trials were asked."""
        return self._memory.genes(study)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a whole genome; of a conditional space only a part of it may be asked for."""
        if not is_open(search_space):
            return {}
        genome = trial.system_attrs.get(INTENDED) or self._intend(study, trial, search_space)
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

    def _intend(
        self, study: Study, trial: FrozenTrial, genes: Mapping[str, BaseDistribution]
    ) -> Params:
        """Propose a genome, and write it down where other workers and a retry see it."""
        genome: Params = {}
        space = self._memory.space or Recorded(genes)
        given = intended(trial) | trial.params
        outcomes = Outcomes.of(study)
        knows = outcomes.numbers.__contains__
        for _ in range(_ROUNDS):
            with self._memory.lock:
                genome = self._propose(space, outcomes, at_work(study, trial, knows))
            if given:
                genome = space.complete({**genome, **given}, self._rng)
            study._storage.set_trial_system_attr(trial._trial_id, INTENDED, genome)
            # Of two workers that propose the same, the one that wrote later sees the other's.
            if all(intended(other) != genome for other in at_work(study, trial, knows)):
                break
        return genome

    def _propose(self, space: Genetics, outcomes: Outcomes, others: list[FrozenTrial]) -> Params:
        """Return a genome, new if one is found."""
        memory = self._memory
        tried = [genome for genome in map(intended, others) if genome]
        known = Known()
        for genome in (*outcomes.genomes, *tried):
            known.add(answers(genome, memory.space))
        ready = len(outcomes.genomes) >= self._startup
        candidates = self._candidates(space, outcomes.best(PARENTS) if ready else [], known)
        if not candidates:  # all seems to be known
            return space.sample(self._rng)
        encoder = memory.encoder(space)
        if ready:
            scores = self._scores(encoder, outcomes, tried, candidates)
        elif memory.advice is not None:
            scores = memory.advice.on(encoder, candidates).mean(axis=1)
        else:
            scores = np.zeros(len(candidates))
        order = np.argsort(-scores, kind="stable")
        digests = {trial.user_attrs.get(DIGEST, "") for trial in others} | outcomes.digests
        return memory.first_new([candidates[i] for i in order], encoder, digests)

    def _candidates(self, space: Genetics, parents: list[Params], known: Known) -> list[Params]:
        """Return new genomes, no two of which are the same."""
        found: list[Params] = []
        drawn = Known()

        def fill(genomes: Iterable[Params], count: int) -> None:
            for genome in genomes:
                if genome not in known and genome not in drawn:
                    drawn.add(answers(genome))
                    found.append(genome)
                if len(found) == count:
                    break

        tries = range(_TRIES * MUTANTS)
        if parents:
            fill((self._mutant(space, parents) for _ in tries), MUTANTS)
        fill((space.sample(self._rng) for _ in tries), MUTANTS + FRESH)
        return found

    def _mutant(self, space: Genetics, parents: list[Params]) -> Params:
        genome = parents[int(self._rng.integers(len(parents)))]
        for _ in range(min(int(self._rng.geometric(0.5)), _EDITS)):
            genome = space.mutate(genome, self._rng)
        return genome

    def _scores(
        self, encoder: Encoder, outcomes: Outcomes, tried: list[Params], candidates: list[Params]
    ) -> FloatArray:
        """How much each candidate is worth trying, `(k,)`."""
        modelled = chosen(outcomes.standing, MODELLED)
        genomes = [*(outcomes.genomes[i] for i in modelled), *tried, *candidates]
        groups = encoder.matrices(genomes)
        if self._memory.advice is not None:
            groups.append(self._memory.advice.on(encoder, genomes))
        told, asked = scaled(groups, len(modelled) + len(tried))
        if not told:  # all trials are alike
            return np.zeros(len(candidates))
        running = np.arange(len(told[0])) >= len(modelled)
        pruned = np.append(outcomes.pruned[modelled], np.zeros(len(tried), dtype=np.bool_))
        violations = _with_unknown(outcomes.violations[modelled], len(tried))
        # An infeasible trial says nothing of values; it is the other model's.
        counted = np.append(outcomes.feasible[modelled], running[len(modelled) :]) | pruned
        if outcomes.losses.shape[1] > 1:
            losses = _with_unknown(outcomes.losses[modelled], len(tried))
            bounds = front_gains(rows(told, counted), losses[counted], running[counted], asked)
        else:
            targets = _with_unknown(outcomes.targets[modelled, 0], len(tried))
            bounds = value_bounds(rows(told, counted), targets[counted], pruned[counted], asked)
        return within_limits(bounds, told, violations, asked)


def _with_unknown(values: FloatArray, count: int) -> FloatArray:
    """Append rows of NaN."""
    return np.concatenate([values, np.full((count, *values.shape[1:]), np.nan)])


class _Advice:
    """What models of an older study say of genomes.

    Args:
        study: The older study.
    """

    def __init__(self, study: Study) -> None:
        outcomes = Outcomes.of(study)
        places = np.flatnonzero(outcomes.feasible)
        if len(places) < 2:
            raise SettingError(
                f"`warm` must have two feasible trials or more, and has {len(places)}; run it "
                "first, or leave it out."
            )
        targets = outcomes.targets[places]
        kept = chosen(targets.mean(axis=1), MODELLED)
        self._genomes = [outcomes.genomes[i] for i in places[kept]]
        self._targets = targets[kept]
        self._kernels: list[Kernel] = []

    def on(self, encoder: Encoder, genomes: list[Params]) -> FloatArray:
        """Predict the targets of the older study, `(n, m)`; larger is better."""
        told, asked = scaled(encoder.matrices([*self._genomes, *genomes]), len(self._genomes))
        if not told:
            return np.zeros((len(genomes), self._targets.shape[1]))
        if not self._kernels:
            self._kernels = [fit(told, column).kernel for column in self._targets.T]
        columns = [
            Posterior(kernel, told, column).predict(asked)[0]
            for kernel, column in zip(self._kernels, self._targets.T, strict=True)
        ]
        return np.stack(columns, axis=1)


class _Memory:
    """What the samplers of one study share; it could be made anew at any time.

    Args:
        space: The space; None to go by the questions that trials were asked.
        advice: What an older study says.
        distinct: Whether isomorphic networks count as one.
    """

    def __init__(
        self, space: Space | Recorded | None, advice: _Advice | None, *, distinct: bool
    ) -> None:
        self.lock = threading.Lock()  # `optimize(n_jobs=2)` shares the sampler
        self.space = space
        self.advice = advice
        self._distinct = distinct
        self._encoder: Encoder | None = None

    def genes(self, study: Study) -> dict[str, BaseDistribution]:
        """Return the questions that are known."""
        if self.space is not None:
            return dict(self.space.genes)
        genes: dict[str, BaseDistribution] = {}
        for trial in study._get_trials(deepcopy=False, states=FINISHED, use_cache=True):
            genes |= trial.distributions
        return genes

    def encoder(self, space: Genetics) -> Encoder:
        """Return the encoder of the space; a new one where questions are still found."""
        if self.space is None:
            return Encoder(space)
        if self._encoder is None:
            self._encoder = Encoder(space)
        return self._encoder

    def first_new(self, genomes: list[Params], encoder: Encoder, digests: set[str]) -> Params:
        """Return the first genome whose network has none of the digests; else the first."""
        if self._distinct:
            for genome in genomes:
                if encoder.digest(genome) not in digests:
                    return genome
        return genomes[0]

"""Complexity that grows by schedule, around any other strategy.

The choices of a gene are listed from simple to complex, so the first ones of each gene are the
simple networks: shallow, narrow, of cheap operations, without skip connections. A schedule opens
more and more of them.

Liu et al. 2018, "Progressive Neural Architecture Search", ECCV: searching from simple to complex
finds good cells with fewer trainings. There the cell grows by blocks; here every gene does, since
any space has genes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.errors import SettingError
from nas_optuna.recording import FINISHED
from nas_optuna.samplers import seeded
from nas_optuna.samplers.registry import Settings
from nas_optuna.spaces.drawing import cardinality, contains, draw
from nas_optuna.storage.ownership import draw_index

STAGES = (1, 2, 3, 5, 7, 10)
# Share of the planned trials after which all is open. On NAS-Bench-201 a quarter costs accuracy
# at 200 trials, since what is closed there is what is good; a tenth does not.
GROWTH = 0.1


@dataclass(frozen=True, slots=True)
class Stage:
    """From trial `start` on, the first `share` of each gene is open."""

    start: int
    share: float


def schedule(
    genes: Mapping[str, BaseDistribution],
    trials: int,
    stages: Sequence[int] = STAGES,
    growth: float = GROWTH,
) -> tuple[Stage, ...]:
    """Return which share of each gene is open from when on.

    The stages take equally many trials, and the last one, in which all is open, has the rest. A
    stage that would hold fewer genomes than there are planned trials is left out: it would be
    tried out before anything is learned.

    Args:
        genes: The questions of the space; empty if not known yet.
        trials: Planned trials of the whole study.
        stages: Complexities, growing; the last one stands for all of a gene.
        growth: Share of the trials after which all is open.

    Example:
        >>> from nas_optuna.spaces import NASBench201Space
        >>> for stage in schedule(NASBench201Space().genes, trials=200):
        ...     print(stage.start, stage.share)
        0 0.5
        10 0.7
        20 1.0
    """
    shares = [stage / stages[-1] for stage in stages]
    if genes:
        shares = [share for share in shares if share == 1 or _size(genes, share) >= trials]
    length = growth * trials / max(len(shares) - 1, 1)
    return tuple(Stage(round(i * length), share) for i, share in enumerate(shares))


def opened(gene: BaseDistribution, share: float) -> BaseDistribution:
    """Return the simple part of a gene: its first choices, or the lower part of its range.

    Args:
        gene: A question, with choices from simple to complex.
        share: Above 0; of 1 all is open, and at least one value always is.

    Example:
        >>> opened(CategoricalDistribution(("conv3", "conv5", "conv7")), 0.5).choices
        ('conv3', 'conv5')
        >>> opened(IntDistribution(3, 50), 0.1)
        IntDistribution(high=7, log=False, low=3, step=1)
    """
    if share >= 1:
        return gene
    if isinstance(gene, CategoricalDistribution):
        return CategoricalDistribution(gene.choices[: _count(gene, share)])
    if isinstance(gene, IntDistribution | FloatDistribution) and gene.log:
        high = math.exp(math.log(gene.low) + share * math.log(gene.high / gene.low))
        if isinstance(gene, IntDistribution):
            return IntDistribution(gene.low, max(int(round(high, 9)), gene.low), log=True)
        return FloatDistribution(gene.low, high, log=True)
    if isinstance(gene, IntDistribution):
        high = gene.low + (_count(gene, share) - 1) * gene.step
        return IntDistribution(gene.low, int(high), step=gene.step)
    if isinstance(gene, FloatDistribution) and gene.step is not None:
        high = gene.low + (_count(gene, share) - 1) * gene.step
        return FloatDistribution(gene.low, round(high, 12), step=gene.step)
    if isinstance(gene, FloatDistribution):
        return FloatDistribution(gene.low, gene.low + share * (gene.high - gene.low))
    return gene


def _count(gene: BaseDistribution, share: float) -> int:
    # Rounded first: 0.7 of 10 is 7, whatever the last bit says.
    return max(math.ceil(round(cardinality(gene) * share, 9)), 1)


def _size(genes: Mapping[str, BaseDistribution], share: float) -> float:
    return math.prod(cardinality(opened(gene, share)) for gene in genes.values())


class ProgressiveSampler(BaseSampler):
    """Lets another sampler propose, and draws anew what lies beyond the open part of a gene.

    The stage of a trial follows from its place in the study alone. Distributions stay whole, so
    that the wrapped sampler learns from all trials of all stages. What it proposes beyond the open
    part is replaced by a uniform draw from it, which is a function of the seed, the trial's place
    and the gene's name; so a study that was killed and resumed goes on as if nothing had happened.

    Args:
        inner: The sampler that proposes; of one study, like this one.
        seed: The study's seed.
        trials: Planned trials of the whole study.
        genes: The questions of the space; None to go by those that finished trials were asked.
        stages: Complexities, growing; the last one stands for all of a gene.
        growth: Share of the trials after which all is open.

    Raises:
        SettingError: The stages do not grow from 1 or more, or `growth` is no share.

    Example:
        >>> import optuna
        >>> from nas_optuna import samplers
        >>> sampler = ProgressiveSampler(samplers.create("nsga2"), seed=0, trials=100)
        >>> study = optuna.create_study(sampler=sampler)
        >>> study.optimize(lambda trial: trial.suggest_int("layers", 1, 1000), n_trials=20)
        >>> layers = [trial.params["layers"] for trial in study.trials]
        >>> max(layers[:2]) <= 100, max(layers[:10]) <= 700, max(layers) > 700
        (True, True, True)
    """

    def __init__(
        self,
        inner: BaseSampler,
        *,
        seed: int,
        trials: int,
        genes: Mapping[str, BaseDistribution] | None = None,
        stages: Sequence[int] = STAGES,
        growth: float = GROWTH,
    ) -> None:
        if not stages or stages[0] < 1 or list(stages) != sorted(set(stages)):
            raise SettingError(
                f"stages must grow, from 1 or more, got {tuple(stages)}; the default is {STAGES}."
            )
        if not 0 <= growth <= 1:
            raise SettingError(f"growth is a share of at most 1, got {growth!r}; try {GROWTH}.")
        self._inner = inner
        self._seed = seed
        self._growing = growth * trials
        self._genes = genes
        self._schedule = partial(schedule, trials=trials, stages=tuple(stages), growth=growth)
        self._scheduled = 0, self._schedule({})  # for so many known questions
        self._places: dict[int, _Place] = {}  # by thread: `optimize(n_jobs=2)` shares the sampler

    def __repr__(self) -> str:
        return f"ProgressiveSampler({self._inner!r}, seed={self._seed})"

    def reseed_rng(self) -> None:
        """Pass the call on."""
        self._inner.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Pass the call on."""
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Pass the call on: distributions stay whole."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Let the wrapped sampler propose, and bring the proposal into the open part."""
        proposal = self._inner.sample_relative(study, trial, search_space)
        at = self._at(study, trial)
        return {
            name: self._open(at, name, search_space[name], value)
            for name, value in proposal.items()
        }

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Let the wrapped sampler draw, and bring the value into the open part."""
        value = self._inner.sample_independent(study, trial, param_name, param_distribution)
        return self._open(self._at(study, trial), param_name, param_distribution, value)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Pass the call on."""
        self._inner.after_trial(study, trial, state, values)

    def _open(self, at: _Place, name: str, gene: BaseDistribution, value: Any) -> Any:
        part = opened(gene, at.share)
        if part is gene or contains(part, value):
            return value
        text = f"{self._seed}:{at.index}:{name}"
        seed = int.from_bytes(sha256(text.encode()).digest()[:8])
        return draw(part, np.random.default_rng(seed))

    def _at(self, study: Study, trial: FrozenTrial) -> _Place:
        kept = self._places.get(threading.get_ident())
        if kept is None or kept.trial_id != trial._trial_id:
            index = draw_index(study, trial)
            kept = _Place(trial._trial_id, index, self._share(study, index))
            self._places[threading.get_ident()] = kept
        return kept

    def _share(self, study: Study, index: int) -> float:
        if index >= self._growing:
            return 1.0
        genes = self._genes
        if genes is None:
            genes = {}
            for told in study.get_trials(deepcopy=False, states=FINISHED):
                genes |= told.distributions
        known, stages = self._scheduled
        if len(genes) != known:
            stages = self._schedule(genes)
            self._scheduled = len(genes), stages
        return max(stage.share for stage in stages if stage.start <= index)


@dataclass(frozen=True, slots=True)
class _Place:
    """What a thread keeps of the trial it is at."""

    trial_id: int
    index: int
    share: float


def create(settings: Settings) -> BaseSampler:
    """Make TPE that begins with simple networks."""
    return ProgressiveSampler(
        seeded.tpe(settings),
        seed=settings.seed,
        trials=settings.trials,
        genes=settings.space.genes if settings.space else None,
    )

"""`darts`: differentiable search. A supernet is trained, and its alphas make the proposals.

A trial does three things:

1. train the relaxed network one epoch further: weights on one half of the training part, alphas
   on the other (`bilevel`);
2. derive a genome from the alphas: the strongest answer to each choice, or, when that was proposed
   before, a sample of softmax(alpha);
3. let the objective judge it like any other.

So the supernet costs as many epochs as the study has trials, up to `BilevelSettings.epochs`; later
trials are samples from the last alphas. Questions that are no choice of an operation (widths,
depths) are answered by TPE.

With several objectives the expected cost joins the alphas' loss, with a weight that is drawn anew
for each epoch: the alphas wander along the front instead of settling in one place of it.

One process trains at a time; the others propose from the newest alphas. A study that was killed
goes on from its last epoch (`supernet_memory`).

Liu, Simonyan & Yang 2019, "DARTS: Differentiable Architecture Search", ICLR.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from nas_optuna.errors import SettingError
from nas_optuna.models.relaxed import RelaxedNetwork
from nas_optuna.relaxation import open_choices
from nas_optuna.samplers import seeded
from nas_optuna.samplers.bilevel import BilevelSettings, BilevelTraining
from nas_optuna.samplers.registry import Settings
from nas_optuna.samplers.supernet_memory import Alphas, SupernetMemory
from nas_optuna.storage.ownership import draw_index

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from nas_optuna.architecture import Architecture
    from nas_optuna.data import DataSet

Logits = Mapping[str, Mapping[str, float]]  # by choice, by answer

_MOST_EPOCHS = 50  # as in the paper
_TRIES = 50  # samples before a genome is proposed a second time
# What the alphas' loss knows of an objective: latency grows with the operations' FLOPs.
_FOLLOWED_BY = {
    "parameters": "parameters", "memory_mb": "parameters", "flops": "flops", "latency_ms": "flops",
}  # fmt: skip
_logger = logging.getLogger(__name__)


class RelaxableSpace(Protocol):
    """What a differentiable search asks of a space; see `nas_optuna.spaces.Space`."""

    @property
    def genes(self) -> Mapping[str, BaseDistribution]:
        """The questions."""

    @property
    def fingerprint(self) -> str:
        """Stands for the space in the stored state."""

    def relaxed(self, params: Mapping[str, Any], partial_channels: int = 1) -> Architecture | None:
        """The network that holds all candidates."""

    def derive(self, logits: Logits) -> dict[str, Any]:
        """The answers that the logits prefer."""


class DartsSampler(BaseSampler):
    """Proposes what the alphas of a relaxed network prefer; see the module.

    Args:
        space: The space that is searched; it must leave a choice of an operation open.
        data: The data set. The training part is used; the validation part is left to the trials.
        bilevel: How the relaxed network is trained.
        seed: The study's seed.
        device: Where the relaxed network is trained.

    Raises:
        SettingError: The space has no choice of an operation.

    Example:
        >>> import nas_optuna as nas
        >>> data = nas.data.load("digits")
        >>> space = nas.spaces.NASBench201Space(
        ...     data.input_shape, data.num_classes, channels=4, cells_per_stage=1
        ... )
        >>> DartsSampler(space, data, BilevelSettings(epochs=10))
        DartsSampler(6 choices, seed=0)
    """

    def __init__(
        self,
        space: RelaxableSpace,
        data: DataSet,
        bilevel: BilevelSettings,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        relaxed = space.relaxed(middle(space.genes), bilevel.partial_channels)
        if relaxed is None:
            raise SettingError(
                "The space marks no choice of an operation, so darts has nothing to relax; mark "
                "one by ArchitectureBuilder.choose, or take another sampler, such as tpe."
            )
        self._space, self._data, self._bilevel = space, data, bilevel
        self._relaxed, self._choices = relaxed, open_choices(relaxed)
        self._seed, self._device = seed, torch.device(device)
        self._rest = seeded.tpe(Settings(seed=seed))
        self._memories: dict[str, SupernetMemory] = {}  # by study

    def __repr__(self) -> str:
        return f"DartsSampler({len(self._choices)} choices, seed={self._seed})"

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Train an epoch further, then derive; TPE answers what is no choice of an operation."""
        others = {name: d for name, d in search_space.items() if name not in self._derived}
        proposal = self._rest.sample_relative(study, trial, others)
        index = draw_index(study, trial)
        with torch.device("cpu"):  # a space may ask under `torch.device("meta")`
            alphas = self._memory(study).alphas(min(index + 1, self._bilevel.epochs))
        return {**proposal, **self._derive(study, trial, alphas, self._rng("genome", index))}

    def _derive(
        self, study: Study, trial: FrozenTrial, alphas: Alphas, rng: np.random.Generator
    ) -> dict[str, Any]:
        """Return the strongest answers that were not proposed yet.

        Gumbel noise makes the strongest answer a sample of softmax(alpha).
        """
        seen = {
            tuple(other.params.get(name) for name in self._derived)
            for other in study.get_trials(deepcopy=False)
            if other.number < trial.number and other.state is not TrialState.FAIL
        }
        genome = self._space.derive(self._named(alphas))
        for _ in range(_TRIES):
            if tuple(genome[name] for name in self._derived) not in seen:
                break
            genome = self._space.derive(self._named(alphas + rng.gumbel(size=alphas.shape)))
        return genome

    @cached_property
    def _derived(self) -> tuple[str, ...]:
        """The genes that the alphas answer."""
        size = sum(map(len, self._choices.values()))
        return tuple(self._space.derive(self._named(np.zeros(size, np.float32))))

    def _named(self, alphas: np.ndarray) -> dict[str, dict[str, float]]:
        values = iter(alphas.tolist())
        return {
            gene: {answer: next(values) for answer in answers}
            for gene, answers in self._choices.items()
        }

    # The relaxed network of each study.

    def _memory(self, study: Study) -> SupernetMemory:
        if study.study_name not in self._memories:
            settings = f"{self._space.fingerprint} {self._data.fingerprint} {self._bilevel!r}"
            memory = SupernetMemory(
                study,
                self._training,
                f"{settings} {self._seed} {_costs(study)}",
                lambda epoch: self._cost_weights(_costs(study), epoch),
            )
            self._memories.setdefault(study.study_name, memory)  # unless a thread was faster
        return self._memories[study.study_name]

    def _training(self) -> BilevelTraining:
        return BilevelTraining(
            RelaxedNetwork(self._relaxed, self._seed, self._device),
            self._data.train.to(self._device),
            self._bilevel,
            seed=self._seed,
            augmentation=self._data.augmentation,
        )

    def _cost_weights(self, costs: Sequence[str], epoch: int) -> dict[str, float]:
        """Draw how much each cost counts in an epoch: all of them together from 0 to 1."""
        rng = self._rng("cost", epoch)
        if not costs:
            return {}
        shares = rng.uniform() * rng.dirichlet(np.ones(len(costs)))
        return dict(zip(costs, shares.tolist(), strict=True))

    def _rng(self, purpose: str, index: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, len(purpose), index])

    # What else Optuna asks of a sampler.

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Name the genes that the alphas answer, and those that TPE samples jointly."""
        rest = self._rest.infer_relative_search_space(study, trial)
        return {**rest, **{name: self._space.genes[name] for name in self._derived}}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Let TPE answer."""
        return self._rest.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Pass the call on to TPE."""
        self._rest.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Pass the call on to TPE."""
        self._rest.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Do nothing: no draw depends on a generator that threads share."""


def _costs(study: Study) -> list[str]:
    """The costs among the objectives, as the alphas' loss knows them."""
    return sorted({_FOLLOWED_BY[n] for n in study.metric_names or [] if n in _FOLLOWED_BY})


def middle(genes: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return the genome in the middle of each gene: how large the relaxed network is.

    Example:
        >>> from optuna.distributions import IntDistribution
        >>> middle({"depth": IntDistribution(1, 5), "width": CategoricalDistribution([8, 16, 32])})
        {'depth': 3, 'width': 16}
    """
    genome: dict[str, Any] = {}
    for name, gene in genes.items():
        if isinstance(gene, CategoricalDistribution):
            genome[name] = gene.choices[len(gene.choices) // 2]
        elif isinstance(gene, FloatDistribution):
            genome[name] = (gene.low + gene.high) / 2
        else:
            low, step = cast(Any, gene).low, cast(Any, gene).step
            genome[name] = low + (cast(Any, gene).high - low) // (2 * step) * step
    return genome


def create(settings: Settings) -> BaseSampler:
    """Make `darts` for a study; it is TPE, and the log says so, where there is nothing to relax.

    Raises:
        SettingError: There is no data to train on.
    """
    space = cast(RelaxableSpace, settings.space)
    if settings.space is None or space.relaxed(middle(space.genes)) is None:
        _logger.warning(
            "No choice of an operation is marked (by ArchitectureBuilder.choose, or in a cell "
            "space), so darts has nothing to relax and is tpe here."
        )
        return seeded.tpe(settings)
    data = getattr(settings.evaluator, "dataset", None)
    if data is None:
        raise SettingError(
            "darts trains a supernet and needs data: pass evaluator=, one that trains "
            "(FullTraining, EarlyStopping, ProxyTask, WeightSharing), or take another sampler."
        )
    wanted = str(getattr(settings.evaluator, "device", "auto"))
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return DartsSampler(
        space,
        data,
        BilevelSettings(epochs=min(settings.trials, _MOST_EPOCHS)),
        seed=settings.seed,
        device=automatic if wanted == "auto" else wanted,
    )

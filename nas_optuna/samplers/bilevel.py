"""Bilevel training of a relaxed network: weights on one half of the data, alphas on the other.

    min over alpha of L_b(w*(alpha), alpha)   with   w*(alpha) = argmin over w of L_a(w, alpha)

[liu2019] H. Liu, K. Simonyan, Y. Yang. DARTS: Differentiable Architecture Search. ICLR, 2019.
[ye2022] P. Ye, B. Li, Y. Li, T. Chen, J. Fan, W. Ouyang. beta-DARTS: Beta-Decay Regularization
    for Differentiable Architecture Search. CVPR, 2022.
[dong2019] X. Dong, Y. Yang. Searching for a Robust Neural Architecture in Four GPU Hours. CVPR,
    2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_optuna.data import Augmentation, Split, batches
from nas_optuna.errors import SettingError, check_name
from nas_optuna.models.relaxed import RelaxedNetwork

Batch = tuple[Tensor, Tensor]
REGULARISATIONS = ("beta", "gumbel", "none")


@dataclass(frozen=True, kw_only=True)
class BilevelSettings:
    """How alphas and weights are trained; what is not said otherwise is as in [liu2019].

    Args:
        epochs: Length of the schedule, in passes over half of the training part.
        batch_size: Samples per step, of either half.
        learning_rate: Of the weights, at first; it falls to a hundredth by a cosine.
        alpha_learning_rate: Of the alphas; None for what moves each by up to `ALPHA_REACH` over
            the whole schedule, as the paper's 3e-4 does in its 19,500 steps.
        second_order: Whether the alphas' gradient takes into account how the weights follow them
            (equation 7, by the finite difference of equation 8); three times the work.
        regularisation: Against the collapse to skip connections: `beta` adds the decay of
            [ye2022], `gumbel` draws the candidates' shares as [dong2019] do (all candidates stay
            in the sum, unlike there), `none` is the paper's DARTS.
        beta_weight: Weight of `beta` in the last epoch; it grows from 0 in proportion.
        cost_weight: Largest weight of the expected cost in the alphas' loss.
        partial_channels: Let the candidates on a cell's edge see one channel in so many, for
            wide networks that would not fit in memory; see `relaxation.RelaxedTrial`.

    Raises:
        SettingError: A setting is out of its range.
        UnknownNameError: There is no such regularisation.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.05
    alpha_learning_rate: float | None = None
    second_order: bool = False
    regularisation: Literal["beta", "gumbel", "none"] = "beta"
    beta_weight: float = 25.0
    cost_weight: float = 0.5
    partial_channels: int = 1

    def __post_init__(self) -> None:
        check_name("regularisation", self.regularisation, REGULARISATIONS)
        for name, value, holds in (
            ("epochs", self.epochs, self.epochs >= 1),
            ("batch_size", self.batch_size, self.batch_size >= 2),
            ("learning_rate", self.learning_rate, self.learning_rate > 0),
            ("beta_weight", self.beta_weight, self.beta_weight >= 0),
            ("cost_weight", self.cost_weight, self.cost_weight >= 0),
            ("partial_channels", self.partial_channels, self.partial_channels >= 1),
        ):
            if not holds:
                raise SettingError(f"{name} of darts is out of its range: {value!r}.")


ALPHA_REACH = 6.0
_TEMPERATURES = 5.0, 0.5  # of the Gumbel-softmax, in the first and the last epoch
_GRADIENT_CLIP = 5.0
RADIUS = 0.01  # how far the finite difference moves the weights, as in the paper


class BilevelTraining:
    """A relaxed network in training, epoch by epoch; each epoch is a function of seed and state.

    Args:
        network: What is trained, in place.
        training: The part it is trained on, on the network's device; halved at random.
        settings: How.
        seed: Decides the halves and every draw.
        augmentation: What to do to each batch.
    """

    def __init__(
        self,
        network: RelaxedNetwork,
        training: Split,
        settings: BilevelSettings,
        *,
        seed: int,
        augmentation: Augmentation,
    ) -> None:
        self.network = network
        self.settings = settings
        self.epoch = 0  # epochs trained so far
        self._seed = seed
        self._augmentation = augmentation
        self._halves = halves(training, seed)
        alpha_rate = settings.alpha_learning_rate
        if alpha_rate is None:
            alpha_rate = ALPHA_REACH / (settings.epochs * self._steps)
        self._weights = torch.optim.SGD(
            network.weights, settings.learning_rate, momentum=0.9, weight_decay=3e-4
        )
        self._alphas = torch.optim.Adam(
            list(network.alphas.values()), alpha_rate, betas=(0.5, 0.999), weight_decay=1e-3
        )

    @property
    def _steps(self) -> int:
        return math.ceil(len(self._halves[0]) / self.settings.batch_size)

    def train_epoch(self, cost_weights: Mapping[str, float]) -> float:
        """Train for one pass over the first half.

        Args:
            cost_weights: Share of each cost in the cost term, by name of `models.relaxed.COSTS`;
                empty for accuracy alone.

        Returns:
            Mean training loss of the pass; not finite if the training broke down.
        """
        device = self._halves[0].inputs.device
        generator = torch.Generator(device).manual_seed(self._seed * 1_000_003 + self.epoch)
        size, (first, second) = self.settings.batch_size, self._halves
        self.network.network.train()
        total, steps = torch.zeros((), device=device), 0
        ours = batches(first, size, generator, self._augmentation)
        theirs = self._cycle(second, generator)
        for step, (train, validate) in enumerate(zip(ours, theirs, strict=False)):
            self._set_rate(self.epoch + step / self._steps)
            self._step_alphas(train, validate, cost_weights, generator)
            total += self._step_weights(train, generator)
            steps += 1
        self.epoch += 1
        return float(total) / steps

    def _cycle(self, half: Split, generator: torch.Generator) -> Iterator[Batch]:
        """Pass over a half again and again; the last batches of an epoch may need a few more."""
        size = self.settings.batch_size
        return chain.from_iterable(
            batches(half, size, generator, self._augmentation) for _ in repeat(None)
        )

    def _set_rate(self, epoch: float) -> None:
        low, high = self.settings.learning_rate / 100, self.settings.learning_rate
        progress = min(epoch / self.settings.epochs, 1.0)
        rate = low + (high - low) * (1 + math.cos(math.pi * progress)) / 2
        for group in self._weights.param_groups:
            group["lr"] = rate

    def _step_weights(self, batch: Batch, generator: torch.Generator) -> Tensor:
        self._weights.zero_grad()
        loss = self._loss(batch, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.weights, _GRADIENT_CLIP)
        self._weights.step()
        return loss.detach()

    def _step_alphas(
        self,
        train: Batch,
        validate: Batch,
        cost_weights: Mapping[str, float],
        generator: torch.Generator,
    ) -> None:
        alphas = list(self.network.alphas.values())
        if self.settings.second_order:
            gradients = self._unrolled_gradients(train, validate, generator)
        else:
            gradients = torch.autograd.grad(self._loss(validate, generator), alphas)
        extra = torch.autograd.grad(self._penalty(cost_weights), alphas)
        for alpha, gradient, more in zip(alphas, gradients, extra, strict=True):
            alpha.grad = gradient + more
        self._alphas.step()

    def _loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        inputs, targets = batch
        return F.cross_entropy(self.network(inputs, self._shares(generator)), targets)

    def _shares(self, generator: torch.Generator) -> dict[str, Tensor]:
        if self.settings.regularisation != "gumbel":
            return self.network.shares()
        first, last = _TEMPERATURES
        progress = min(self.epoch / max(self.settings.epochs - 1, 1), 1.0)
        temperature = first + (last - first) * progress
        return {
            gene: F.softmax((alpha + _gumbel(alpha, generator)) / temperature, dim=0)
            for gene, alpha in self.network.alphas.items()
        }

    def _penalty(self, cost_weights: Mapping[str, float]) -> Tensor:
        """The decay of [ye2022], equation 10, and the expected cost; zero without either."""
        alphas = self.network.alphas.values()
        penalty = torch.stack([0.0 * alpha.sum() for alpha in alphas]).sum()
        if self.settings.regularisation == "beta":
            progress = min(self.epoch / self.settings.epochs, 1.0)
            mean = torch.stack([torch.logsumexp(alpha, dim=0) for alpha in alphas]).mean()
            penalty = penalty + self.settings.beta_weight * progress * mean
        for name, weight in cost_weights.items():
            cost = self.network.expected_cost(name)
            penalty = penalty + self.settings.cost_weight * weight * cost
        return penalty

    def _unrolled_gradients(
        self, train: Batch, validate: Batch, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Gradients of the alphas through one step of the weights; equations 7 and 8 of [liu2019].

        Departure: the step is plain gradient descent, without momentum and weight decay.
        """
        weights, alphas = self.network.weights, list(self.network.alphas.values())
        rate = float(self._weights.param_groups[0]["lr"])
        step = torch.autograd.grad(self._loss(train, generator), weights)
        _move(weights, step, -rate)
        loss = self._loss(validate, generator)
        ahead = torch.autograd.grad(loss, [*weights, *alphas])
        direction, direct = ahead[: len(weights)], ahead[len(weights) :]
        _move(weights, step, rate)
        norm = torch.stack([d.norm() for d in direction]).norm()
        radius = RADIUS / max(float(norm), 1e-8)
        _move(weights, direction, radius)
        above = torch.autograd.grad(self._loss(train, generator), alphas)
        _move(weights, direction, -2 * radius)
        below = torch.autograd.grad(self._loss(train, generator), alphas)
        _move(weights, direction, radius)
        return tuple(
            d - rate * (a - b) / (2 * radius) for d, a, b in zip(direct, above, below, strict=True)
        )

    def state(self) -> dict[str, Tensor]:
        """Return all that training goes on from, for `load`; tensors by name, not copies."""
        kept = {f"network/{name}": t for name, t in self.network.network.state_dict().items()}
        kept |= {f"alpha/{gene}": alpha.detach() for gene, alpha in self.network.alphas.items()}
        for name, optimizer in (("weights", self._weights), ("alphas", self._alphas)):
            for index, of in optimizer.state_dict()["state"].items():
                kept |= {f"{name}/{index}/{key}": tensor for key, tensor in of.items()}
        return kept

    def load(self, state: Mapping[str, Tensor], epoch: int) -> None:
        """Go on from what `state` returned after so many epochs.

        Raises:
            KeyError: It is not the state of this network.
            RuntimeError: Neither are the shapes.
        """
        network = {
            k.removeprefix("network/"): t for k, t in state.items() if k.startswith("network/")
        }
        self.network.network.load_state_dict(network)
        with torch.no_grad():
            for gene, alpha in self.network.alphas.items():
                alpha.copy_(state[f"alpha/{gene}"])
        for name, optimizer in (("weights", self._weights), ("alphas", self._alphas)):
            of: dict[int, dict[str, Tensor]] = {}
            for key, tensor in state.items():
                kind, *rest = key.split("/")
                if kind == name:
                    of.setdefault(int(rest[0]), {})[rest[1]] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": of})
        self.epoch = epoch


def halves(training: Split, seed: int) -> tuple[Split, Split]:
    """Divide a part at random in two of equal size, within one."""
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed))
    middle = (len(training) + 1) // 2
    return tuple(  # type: ignore[return-value]
        Split(training.inputs[part], training.targets[part])
        for part in (order[:middle], order[middle:])
    )


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.rand(like.shape, generator=generator, device=like.device)
    return -torch.log(-torch.log(noise.clamp(1e-9, 1 - 1e-7)))


@torch.no_grad()
def _move(weights: list[torch.nn.Parameter], direction: tuple[Tensor, ...], by: float) -> None:
    for weight, step in zip(weights, direction, strict=True):
        weight.add_(step, alpha=by)

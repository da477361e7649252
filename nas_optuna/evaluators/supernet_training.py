"""Train a supernet: in each step a few fairly dealt paths on one batch, saved epoch by epoch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_optuna.architecture import Architecture
from nas_optuna.data import NO_AUGMENTATION, DataSet, batch_count, batches
from nas_optuna.errors import ArchitectureError, SettingError, SpaceError
from nas_optuna.evaluators.checkpoint import load_checkpoint, save_checkpoint
from nas_optuna.evaluators.paths import fair_paths
from nas_optuna.evaluators.recipe import (
    TrainingSettings,
    make_optimizer,
    make_schedule,
    pick_device,
)
from nas_optuna.evaluators.training import training_seed
from nas_optuna.liveness import sign_of_life
from nas_optuna.models import SharedWeights, seeded
from nas_optuna.spaces import UNBUILDABLE, Space
from nas_optuna.spaces.drawing import Params

_WEIGHT, _MOMENTUM = "weight ", "momentum "  # before the names of tensors in the file
_UNBUILDABLE_IN_A_ROW = 200
_CLIP = 5.0  # norm of all gradients of a step; networks without norms would diverge else
_BUFFER = "momentum_buffer"  # as torch's SGD calls it

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SupernetPlan:
    """What a supernet is and how it is trained.

    Args:
        space: The space, whose genomes make architectures.
        data: What it is trained on: the training part.
        settings: How. The learning rate is for the sum of the gradients of the paths of a step.
        epochs: Passes over the training part.
        paths: Networks per step.
        seed: Decides every draw.
    """

    space: Space
    data: DataSet
    settings: TrainingSettings
    epochs: int
    paths: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return batch_count(len(self.data.train), self.settings.batch_size)


@dataclass
class Supernet:
    """A supernet on its way.

    Args:
        shared: The weights.
        momentum: Of each parameter that has one, by key.
        epoch: Epochs done.
        dealt: Genomes dealt so far.
        losses: Mean training loss of each epoch.
    """

    shared: SharedWeights
    momentum: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    dealt: int = 0
    losses: list[float] = field(default_factory=list)

    def save(self, path: Path, *, whole: bool) -> None:
        """Write it; `whole` with what only further training needs."""
        tensors = {f"{_WEIGHT}{key}": t for key, t in self.shared.state().items()}
        if whole:
            tensors |= {f"{_MOMENTUM}{key}": t for key, t in self.momentum.items()}
        about = {"epoch": self.epoch, "dealt": self.dealt, "losses": self.losses}
        save_checkpoint(path, tensors, about)

    @classmethod
    def load(cls, path: Path, seed: int, device: torch.device) -> Supernet:
        """Read what `save` wrote; a new one if there is no such file.

        Args:
            path: The file.
            seed: Decides the initial weights.
            device: Where the weights are to be.
        """
        net = cls(SharedWeights(seed, device))
        read = load_checkpoint(path)
        if read is not None:
            tensors, about = read
            net.shared.load(_named(tensors, _WEIGHT))
            net.momentum = {k: t.to(device) for k, t in _named(tensors, _MOMENTUM).items()}
            net.epoch, net.dealt, net.losses = about["epoch"], about["dealt"], about["losses"]
        return net


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def train_supernet(
    plan: SupernetPlan, path: Path, watch: Callable[[Supernet], None] = lambda net: None
) -> Supernet:
    """Train a supernet to its last epoch, from wherever the file has it; return it.

    After each epoch the file is written and a sign of life is given. All that an epoch does
    follows from the file and the plan, so a training that was killed and goes on ends with the
    same weights (on one device and number of threads).

    Args:
        plan: What is trained.
        path: The file; nobody else may work on it meanwhile.
        watch: Called with the supernet as it begins and after each epoch.

    Raises:
        SettingError: The loss is no longer finite.
        SpaceError: The space makes no architectures.
        ArchitectureError: A path fails.
        StorageError: The file cannot be read or written.
    """
    device = pick_device(plan.settings.device)
    net = Supernet.load(path, plan.seed, device)
    watch(net)
    if net.epoch >= plan.epochs:
        return net
    if net.epoch:
        _logger.warning("The supernet goes on after epoch %d of %d.", net.epoch, plan.epochs)
    rates = _learning_rates(plan)
    genomes = islice(fair_paths(plan.space, plan.seed, plan.paths), net.dealt, None)
    while net.epoch < plan.epochs:
        paths = _deal(plan, net, genomes)
        loss = _train_epoch(plan, net, paths, rates, device)
        if not math.isfinite(loss):
            raise SettingError(
                f"The supernet's loss is {loss} in epoch {net.epoch + 1}; lower learning_rate, "
                f"which is {plan.settings.learning_rate}. {path} still holds epoch {net.epoch}."
            )
        net.epoch += 1
        net.losses.append(loss)
        net.save(path, whole=net.epoch < plan.epochs)
        sign_of_life()
        watch(net)
    return net


def _learning_rates(plan: SupernetPlan) -> list[float]:
    """The learning rate of every step of the training."""
    steps = plan.epochs * plan.steps
    optimizer = make_optimizer(nn.Linear(1, 1), plan.settings)
    schedule = make_schedule(optimizer, plan.settings, steps)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return rates


def _deal(plan: SupernetPlan, net: Supernet, genomes: Iterator[Params]) -> list[Params]:
    """Deal the genomes of an epoch, and make the weights that their networks use."""
    dealt: list[Params] = []
    failures = 0
    while len(dealt) < plan.steps * plan.paths:
        genome = next(genomes)
        net.dealt += 1
        try:
            network = plan.space.architecture(genome)
        except UNBUILDABLE as error:
            failures += 1
            if failures == _UNBUILDABLE_IN_A_ROW:
                raise SpaceError(
                    f"None of {failures} genomes in a row of {plan.space.name} can be built; "
                    f"the last one fails with {type(error).__name__}: {error}"
                ) from error
            continue
        net.shared.path(network)
        dealt.append(genome)
        failures = 0
    return dealt


def _train_epoch(
    plan: SupernetPlan,
    net: Supernet,
    genomes: list[Params],
    rates: list[float],
    device: torch.device,
) -> float:
    """Train for one epoch; return the mean loss."""
    settings = plan.settings
    augmentation = plan.data.augmentation if settings.augment else NO_AUGMENTATION
    training = plan.data.train.to(device)
    on_cuda = device.type == "cuda"
    precision = torch.autocast(device.type, dtype=torch.bfloat16, enabled=on_cuda)
    optimizer = _optimizer(net, settings)
    total = torch.zeros((), device=device)

    with seeded(training_seed(plan.seed, f"epoch {net.epoch}"), device) as generator:
        data = batches(training, settings.batch_size, generator, augmentation)
        for step, (inputs, targets) in enumerate(data):
            optimizer.zero_grad()
            for genome in genomes[step * plan.paths : (step + 1) * plan.paths]:
                network = plan.space.architecture(genome)
                with _named_failure(network, genome), precision:
                    logits = net.shared.path(network).train()(inputs)  # (b, num_classes)
                    loss = F.cross_entropy(
                        logits, targets, label_smoothing=settings.label_smoothing
                    )
                    loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
            nn.utils.clip_grad_norm_(net.shared.parameters.values(), _CLIP)
            for group in optimizer.param_groups:
                group["lr"] = rates[net.epoch * plan.steps + step]
            optimizer.step()

    net.momentum = {
        key: optimizer.state[p][_BUFFER]
        for key, p in net.shared.parameters.items()
        if settings.momentum
    }
    return float(total) / len(genomes)


def _optimizer(net: Supernet, settings: TrainingSettings) -> torch.optim.SGD:
    """An optimizer that goes on with the momentum of the last epoch."""
    parameters = net.shared.parameters
    optimizer = make_optimizer(nn.ParameterList(parameters.values()), settings)
    for key, p in parameters.items() if settings.momentum else ():
        # From zeros, as torch would; but it cannot mix those that moved before with new ones.
        momentum = torch.zeros_like(p)
        if key in net.momentum:  # a tensor may have grown since
            old = net.momentum[key]
            momentum[tuple(slice(size) for size in old.shape)] = old
        optimizer.state[p][_BUFFER] = momentum
    return optimizer


@contextmanager
def _named_failure(network: Architecture, genome: Params) -> Iterator[None]:
    """Say which path failed; a bare RuntimeError would pass for a trial's own.

    Raises:
        ArchitectureError: The block failed.
    """
    try:
        yield
    except RuntimeError as error:
        raise ArchitectureError(
            f"A path of the supernet fails, {network!r} of {genome}: {error}; lower batch_size if "
            "that is for want of memory."
        ) from error

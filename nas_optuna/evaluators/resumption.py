"""Where a long training stands, kept in a file, so that a repeated trial goes on from there."""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nas_optuna.errors import StorageError
from nas_optuna.evaluators.base import Report
from nas_optuna.evaluators.checkpoint import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from nas_optuna.evaluators.loop import BestEpoch

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """All that changes while a network is trained.

    Args:
        model: The network.
        optimizer: Its optimizer.
        schedule: Its learning rate.
        best: Its best epoch.
        generator: Decides the order of samples and their augmentation.
        device: Where it is trained.
        epochs: Epochs of the whole training.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    best: BestEpoch
    generator: torch.Generator
    device: torch.device
    epochs: int


class Resumption:
    """Where an interrupted training goes on from; this one keeps nothing."""

    seconds = 0.0
    """Seconds that the training took before it was interrupted."""

    def restore(self, training: Training, report: Report) -> tuple[int, list[float]]:
        """Put a training where it was interrupted.

        Args:
            training: As at its beginning.
            report: Told anew what was reported before the interruption.

        Returns:
            Epochs that are done, fewer than there are, and their curve.
        """
        return 0, []

    def keep(self, training: Training, epoch: int, curve: list[float]) -> None:
        """Keep where the training stands, if it is time for it.

        Args:
            training: After an epoch.
            epoch: Epochs that are done.
            curve: Their curve.
        """

    def remove(self) -> None:
        """Keep nothing any more: the training is over."""


class FileResumption(Resumption):
    """The file of one training. Restored, a training ends as if it had never been interrupted.

    Args:
        folder: Where files of trainings lie; all workers that may repeat a trial must see it.
        of: What tells this training from all others.
        every: Least seconds between two writes; a training that is shorter is never written.
    """

    def __init__(self, folder: str | Path, of: str, *, every: float) -> None:
        name = hashlib.sha256(of.encode()).hexdigest()[:32]
        self.path = Path(folder) / f"{name}.safetensors"
        self._every = every
        self._began = self._written = time.monotonic()
        self._works = True

    def restore(self, training: Training, report: Report) -> tuple[int, list[float]]:
        """Put a training where the file left it; a file that cannot be used is told of.

        Args:
            training: As at its beginning.
            report: Told the curve of the file.

        Returns:
            Epochs that are done, and their curve; `(0, [])` without a file.
        """
        try:
            read = load_checkpoint(self.path)
        except StorageError as error:
            _logger.warning("%s", error)
            return 0, []
        if read is None or read[1]["for"] != _signature(training):
            return 0, []
        tensors, about = read
        _unpack(training, tensors, about)
        self.seconds = float(about["seconds"])
        for epoch, accuracy in enumerate(about["curve"], start=1):
            report(epoch, accuracy)
        return int(about["epoch"]), list(about["curve"])

    def keep(self, training: Training, epoch: int, curve: list[float]) -> None:
        """Write where the training stands, if the last time is long enough ago.

        A disk that is full is told of once, and the training goes on.

        Args:
            training: After the epoch.
            epoch: Epochs that are done.
            curve: Their curve.
        """
        now = time.monotonic()
        due = now - self._written >= self._every and epoch < training.epochs
        if not self._works or not due:
            return
        tensors, about = _pack(training)
        about |= {"epoch": epoch, "curve": curve, "seconds": self.seconds + now - self._began}
        try:
            save_checkpoint(self.path, tensors, about)
        except StorageError as error:
            self._works = False
            with suppress(OSError):  # what was begun takes room
                self.path.with_suffix(".new").unlink()
            _logger.warning("%s The training goes on without.", error)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the training is over."""
        with suppress(OSError):  # mostly there is none
            self.path.unlink()


def _signature(training: Training) -> dict[str, Any]:
    """What a file must agree with."""
    shapes = {name: list(tensor.shape) for name, tensor in training.model.state_dict().items()}
    return {"shapes": shapes, "device": training.device.type}


def _pack(training: Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    optimizer, best = training.optimizer.state_dict(), training.best
    tensors = {f"model/{name}": t for name, t in training.model.state_dict().items()}
    tensors |= {f"best/{name}": t for name, t in best.weights.items()}
    scalars: dict[str, dict[str, Any]] = {}
    for number, state in optimizer["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{number}/{name}"] = value
            else:
                scalars.setdefault(str(number), {})[name] = value
    tensors |= {f"random/{name}": t for name, t in _random(training).items()}
    about = {
        "for": _signature(training),
        "groups": optimizer["param_groups"],
        "scalars": scalars,
        "schedule": training.schedule.state_dict(),
        "best": {"epoch": best.epoch, "score": best.score},
    }
    # Copies, since a file holds no two tensors that share memory, as tied weights do.
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, about


def _unpack(training: Training, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}, "random": {}}
    for full, tensor in tensors.items():
        part, _, name = full.partition("/")
        parts[part][name] = tensor
    training.model.load_state_dict(parts["model"])
    state: dict[int, dict[str, Any]] = {
        int(number): dict(values) for number, values in about["scalars"].items()
    }
    for full, tensor in parts["optimizer"].items():
        number, _, name = full.partition("/")
        state.setdefault(int(number), {})[name] = tensor
    training.optimizer.load_state_dict({"state": state, "param_groups": about["groups"]})
    training.schedule.load_state_dict(about["schedule"])
    training.best.restore_from(about["best"]["epoch"], about["best"]["score"], parts["best"])
    torch.set_rng_state(parts["random"]["cpu"])
    training.generator.set_state(parts["random"]["generator"])
    if "device" in parts["random"]:
        module = torch.get_device_module(training.device)
        module.set_rng_state(parts["random"]["device"], training.device)


def _random(training: Training) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state(), "generator": training.generator.get_state()}
    if training.device.type != "cpu":
        module = torch.get_device_module(training.device)
        states["device"] = module.get_rng_state(training.device)
    return states

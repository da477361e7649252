"""Train a network from scratch on all but the test part, from several seeds, and test it once."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_optuna.data import DataSet, Split
from nas_optuna.errors import ExportError, SettingError, StorageError
from nas_optuna.evaluators import (
    Candidate,
    Evaluator,
    PerformancePrediction,
    ProxyTask,
    TrainingSettings,
    WeightSharing,
    pick_device,
    score,
    seeded,
    train,
)
from nas_optuna.evaluators.checkpoint import load_checkpoint, save_checkpoint
from nas_optuna.evaluators.resumption import FileResumption

LONGER = 3  # times the epochs of the search
_EPOCHS = 20  # of a search whose evaluator names none
_KEEP_SECONDS = 10.0
_MOST_HALVINGS = 4  # of the learning rate


@dataclass(frozen=True)
class Schedule:
    """How a network is trained anew.

    Args:
        data: Trained on `train` and `validation`, tested on `test`.
        settings: As in the search.
        search_epochs: Passes of the search's own trainings, at most.
        epochs: Passes over train + validation.
        seeds: One network from each.
        halvings: How often the learning rate was halved since a training diverged.
    """

    data: DataSet
    settings: TrainingSettings
    search_epochs: int
    epochs: int
    seeds: tuple[int, ...]
    halvings: int = 0

    def gentler(self) -> Schedule:
        """Return one with half the learning rate."""
        rate = self.settings.learning_rate / 2
        return replace(
            self,
            settings=replace(self.settings, learning_rate=rate),
            halvings=self.halvings + 1,
        )

    @property
    def rest(self) -> Split:
        """All but the test part."""
        parts = self.data.train, self.data.validation
        return Split(
            torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts])
        )

    def told(self) -> dict[str, Any]:
        """All that changes results, as JSON values."""
        settings = asdict(self.settings)
        del settings["device"]
        augmentation = asdict(self.data.augmentation) if self.settings.augment else None
        return {
            "data": self.data.fingerprint,
            "epochs": self.epochs,
            "settings": settings | {"augment": augmentation},
        }


@dataclass(frozen=True)
class Trained:
    """A network after its training.

    Args:
        seed: Decided initial weights, order and augmentation.
        accuracy: Share of the test part classified right.
        loss: Mean cross-entropy on the test part.
        seconds: What the training took.
        state: Its state dictionary, on the CPU.
    """

    seed: int
    accuracy: float
    loss: float
    seconds: float
    state: dict[str, Tensor]


def spread(accuracies: Sequence[float]) -> float:
    """Standard deviation over seeds; NaN of one."""
    return statistics.stdev(accuracies) if len(accuracies) > 1 else float("nan")


def schedule_of(evaluator: Evaluator, *, epochs: int | None, seeds: int) -> Schedule:
    """Take data and settings of a search's evaluator, and make the schedule longer.

    An evaluator that makes another one cheaper (`ProxyTask`, `PerformancePrediction`) stands for
    that one; one that does not train each network (`ZeroCost`, `WeightSharing`) for the default
    number of epochs.

    Args:
        evaluator: The search's.
        epochs: Passes over train + validation; by default three times those of the search.
        seeds: Networks to train.

    Raises:
        ExportError: The evaluator has no data.
        SettingError: A number is below 1.
    """
    for name, value in (("seeds", seeds), ("epochs", 1 if epochs is None else epochs)):
        if value < 1:
            raise SettingError(f"{name} must be at least 1, got {value}.")
    while isinstance(evaluator, ProxyTask | PerformancePrediction):
        evaluator = evaluator.evaluator
    data = getattr(evaluator, "dataset", None)
    if not isinstance(data, DataSet):
        raise ExportError(
            f"There is nothing to train on: {evaluator.name} has no data. Name a training "
            "evaluator: Search(health=nas.ProxyHealth(nas.evaluators.FullTraining(data)))."
        )
    device = getattr(evaluator, "device", "auto")
    settings = TrainingSettings(device=device)
    if isinstance(evaluator, TrainingSettings):
        own = {f.name: getattr(evaluator, f.name) for f in fields(TrainingSettings)}
        settings = TrainingSettings(**own)
    searched = getattr(evaluator, "max_epochs", getattr(evaluator, "epochs", _EPOCHS))
    if isinstance(evaluator, WeightSharing):  # those are its supernet's
        searched = _EPOCHS
    longer = LONGER * searched if epochs is None else epochs
    return Schedule(data, settings, searched, longer, tuple(range(seeds)))


def retrain(
    candidate: Candidate, schedule: Schedule, folder: Path, progress: Callable[[str], None]
) -> tuple[Schedule, list[Trained]]:
    """Train from each seed; what an earlier call in the same folder finished is read.

    A longer schedule may diverge where the search's was cut short in time. All seeds are then
    trained with half the learning rate, so that their spread stays one of seeds alone.

    Args:
        candidate: The network.
        schedule: How to train it.
        folder: Keeps finished networks, and how far the unfinished one is.
        progress: Told a line before and after each training.

    Returns:
        The schedule that all were trained by, and one network for each seed, in their order.

    Raises:
        ExportError: All trainings diverge.
        StorageError: The folder cannot be written.
    """
    while True:
        try:
            return schedule, _all_seeds(candidate, schedule, folder, progress)
        except _DivergedError as error:
            told = f"The training from seed {error.seed} diverged in epoch {error.epoch}"
            rate = schedule.settings.learning_rate
            if schedule.halvings == _MOST_HALVINGS:
                raise ExportError(
                    f"{told}, even with a learning_rate of {rate:g}; lower that of the evaluator."
                ) from None
            schedule = schedule.gentler()
            progress(f"{told}: all anew with a learning_rate of {rate / 2:g}")


class _DivergedError(Exception):
    """A loss was not finite any more."""

    def __init__(self, seed: int, epoch: int) -> None:
        super().__init__(seed, epoch)
        self.seed, self.epoch = seed, epoch


def _all_seeds(
    candidate: Candidate, schedule: Schedule, folder: Path, progress: Callable[[str], None]
) -> list[Trained]:
    of = json.dumps([candidate.key, schedule.told()], sort_keys=True)
    name = hashlib.sha256(of.encode()).hexdigest()[:12]
    trained = []
    for seed in schedule.seeds:
        path = folder / f"{name}-seed{seed}.safetensors"
        done = _finished(path, seed)
        if done is None:
            progress(f"seed {seed}: training for {schedule.epochs} epochs")
            keeping = FileResumption(folder, f"{name} {seed}", every=_KEEP_SECONDS)
            done = _train(candidate, schedule, seed, keeping)
            about = {"accuracy": done.accuracy, "loss": done.loss, "seconds": done.seconds}
            save_checkpoint(path, done.state, about)
            keeping.remove()
        progress(f"seed {seed}: {done.accuracy:.4f} on the test part after {done.seconds:.0f} s")
        trained.append(done)
    return trained


def _finished(path: Path, seed: int) -> Trained | None:
    try:
        read = load_checkpoint(path)
    except StorageError:  # damaged: trained anew
        return None
    return read and Trained(seed, state=read[0], **read[1])


def _train(
    candidate: Candidate, schedule: Schedule, seed: int, keeping: FileResumption
) -> Trained:
    began = time.perf_counter()
    settings, data = schedule.settings, schedule.data
    device = pick_device(settings.device)
    with seeded(seed, device):
        model: nn.Module = candidate.build()
    result = train(
        model,
        schedule.rest,
        settings,
        epochs=schedule.epochs,
        seed=seed,
        augmentation=data.augmentation,
        resumption=keeping,
    )
    if result.stopped:
        raise _DivergedError(seed, result.epochs)
    tested = score(model, data.test.to(device))
    # Copies, since a file holds no two tensors that share memory, as tied weights do.
    state = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
    seconds = keeping.seconds + time.perf_counter() - began
    return Trained(seed, tested.accuracy, tested.loss, round(seconds, 2), state)

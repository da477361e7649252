"""The training loop: one flat page, for every evaluator that trains and for retraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from nas_optuna.data import NO_AUGMENTATION, Augmentation, Split, batch_count, batches
from nas_optuna.evaluators.base import Report
from nas_optuna.evaluators.recipe import (
    TrainingSettings,
    make_optimizer,
    make_schedule,
    pick_device,
)
from nas_optuna.evaluators.resumption import Resumption, Training
from nas_optuna.liveness import sign_of_life
from nas_optuna.models import seeded

NOWHERE = Resumption()
SCORING_BATCH = 512  # without gradients no activations are kept, so it may be large


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """Stop after `patience` epochs without a better accuracy, but not before `min_epochs`."""

    patience: int
    min_epochs: int


class Score(NamedTuple):
    """Share of samples classified right, and mean cross-entropy (without label smoothing)."""

    accuracy: float
    loss: float


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training.

    Args:
        epochs: Epochs run.
        curve: `(epochs,)` validation accuracies; empty without a validation part.
        score: Validation score of the weights that the network has now; None without the part.
        stopped: `"early_stopping"` or `"nan"` if it ended before the last epoch, else empty.
    """

    epochs: int
    curve: tuple[float, ...]
    score: Score | None
    stopped: str


def _tell_nobody(epoch: int, accuracy: float) -> None:
    pass


def train(
    model: nn.Module,
    training: Split,
    settings: TrainingSettings,
    *,
    epochs: int,
    seed: int,
    validation: Split | None = None,
    augmentation: Augmentation = NO_AUGMENTATION,
    stopping: Stopping | None = None,
    report: Report = _tell_nobody,
    resumption: Resumption = NOWHERE,
) -> TrainingResult:
    """Train a network in place, on the device of the settings.

    Order, augmentation and dropout are drawn from `seed` alone; torch's global generators are
    left as they were.

    Args:
        model: Maps `(b, *input_shape)` to logits `(b, num_classes)`.
        training: The part to train on.
        settings: How to train.
        epochs: Passes over `training`, at most.
        seed: Decides every draw.
        validation: Scored after each epoch.
        augmentation: What to do to each batch, if `settings.augment`.
        stopping: When to stop early; the weights of the best epoch are then restored. It goes by
            the accuracy on `validation`.
        report: Told the validation accuracy after each epoch. What it raises passes through.
        resumption: Where to go on from and to keep how far it is; what was done is reported anew.

    Returns:
        Curve and score. A loss that is not finite ends the training with the weights as they are.
    """
    # Everything onto the device. Memory format and precision are CUDA's: on a CPU they are slower.
    device = pick_device(settings.device)
    on_cuda = device.type == "cuda"
    model.to(device)
    if on_cuda:
        convert_conv2d_weight_memory_format(model, torch.channels_last)
    training = training.to(device)
    validation = validation.to(device) if validation is not None else None
    augmentation = augmentation if settings.augment else NO_AUGMENTATION
    precision = torch.autocast(device.type, dtype=torch.bfloat16, enabled=on_cuda)

    optimizer = make_optimizer(model, settings)
    schedule = make_schedule(
        optimizer, settings, steps=epochs * batch_count(len(training), settings.batch_size)
    )
    best, stopped = BestEpoch(stopping), ""

    with seeded(seed, device) as generator:
        standing = Training(model, optimizer, schedule, best, generator, device, epochs)
        done, curve = resumption.restore(standing, report)
        for epoch in range(done + 1, epochs + 1):
            # One pass over the training part. The loss is summed where it is: reading it in each
            # step would make the CPU wait for the device.
            model.train()
            total = torch.zeros((), device=device)
            for inputs, targets in batches(training, settings.batch_size, generator, augmentation):
                with precision:
                    logits = model(inputs)  # (b, num_classes)
                    loss = F.cross_entropy(
                        logits, targets, label_smoothing=settings.label_smoothing
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += loss.detach()

            # How good it is now.
            sign_of_life()
            now = score(model, validation) if validation is not None else None
            if now is not None:
                curve.append(now.accuracy)
                report(epoch, now.accuracy)

            # Whether to go on.
            if not torch.isfinite(total):
                stopped = "nan"
                break
            if now is not None and best.stalls(epoch, now, model):
                stopped = "early_stopping"
                break
            resumption.keep(standing, epoch, curve)

    if stopped != "nan":
        now = best.restore(model) or now
    return TrainingResult(epoch, tuple(curve), now, stopped)


class BestEpoch:
    """Remembers the weights of the best epoch, if there is a rule to stop by."""

    def __init__(self, stopping: Stopping | None) -> None:
        self.stopping = stopping
        self.epoch = 0
        self.score: Score | None = None
        self.weights: dict[str, Tensor] = {}

    def stalls(self, epoch: int, now: Score, model: nn.Module) -> bool:
        """Take an epoch's score in; return whether there is nothing more to expect."""
        if self.stopping is None:
            return False
        if self.score is None or now.accuracy > self.score.accuracy:
            self.epoch, self.score = epoch, now
            # state_dict() gives the tensors themselves, which the next step changes
            self.weights = {name: value.clone() for name, value in model.state_dict().items()}
        waited = epoch - self.epoch
        return epoch >= self.stopping.min_epochs and waited >= self.stopping.patience

    def restore_from(
        self, epoch: int, score: Sequence[float] | None, weights: dict[str, Tensor]
    ) -> None:
        """Remember what an interrupted training had come to."""
        self.epoch, self.weights = epoch, weights
        self.score = None if score is None else Score(*score)

    def restore(self, model: nn.Module) -> Score | None:
        """Give the network its best weights back, and return their score."""
        if self.score is not None:
            model.load_state_dict(self.weights)
        return self.score


@torch.no_grad()  # not inference mode: a module may keep a tensor and train with it later
def score(model: nn.Module, split: Split) -> Score:
    """Score a network on a part of the data, in full precision; it is left in evaluation mode.

    Args:
        model: Maps `(b, *input_shape)` to logits `(b, num_classes)`; on the device of `split`.
        split: The part. The loss is NaN if a logit is; the accuracy never is.
    """
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=split.targets.device)
    loss = torch.zeros((), device=split.targets.device)
    for inputs, targets in zip(
        torch.split(split.inputs, SCORING_BATCH),
        torch.split(split.targets, SCORING_BATCH),
        strict=True,
    ):
        logits = model(inputs)
        right += (logits.argmax(1) == targets).sum()
        loss += F.cross_entropy(logits, targets, reduction="sum")
    return Score(accuracy=right.item() / len(split), loss=loss.item() / len(split))

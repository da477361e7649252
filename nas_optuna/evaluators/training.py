"""Train a candidate: for a fixed number of epochs, or until its accuracy stalls."""

from __future__ import annotations

import hashlib
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import optuna
import torch

from nas_optuna.data import DataSet, load
from nas_optuna.evaluators.base import Candidate, Evaluator, Report
from nas_optuna.evaluators.loop import NOWHERE, Stopping, train
from nas_optuna.evaluators.recipe import TrainingSettings, pick_device, require
from nas_optuna.evaluators.resumption import FileResumption, Resumption
from nas_optuna.metrics import METRICS, Metrics
from nas_optuna.models import seeded


def training_seed(seed: int, key: str) -> int:
    """The seed for one network: a function of the evaluator's seed and the candidate's key."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:7])


@dataclass(frozen=True)
class _Training(TrainingSettings, Evaluator):
    """What the two evaluators share."""

    provides: ClassVar[frozenset[str]] = frozenset({"accuracy", "loss"})

    data: DataSet | str | Path
    _: KW_ONLY
    seed: int = 0
    checkpoints: str | Path | None = None
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        seconds = self.checkpoint_seconds
        require("checkpoint_seconds", seconds, "at least 0", holds=seconds >= 0)

    @abstractmethod
    def _plan(self) -> tuple[int, Stopping | None]:
        """Most epochs, and when to stop before."""

    @cached_property
    def dataset(self) -> DataSet:
        """The data; loaded at the first use if it was given by name."""
        return self.data if isinstance(self.data, DataSet) else load(self.data)

    def identity(self) -> Mapping[str, Any]:
        """Every setting that changes results, as JSON values: seed and data, not the device."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("device", "checkpoints", "checkpoint_seconds"):
            del own[name]
        own["data"] = self.dataset.fingerprint
        own["augment"] = asdict(self.dataset.augmentation) if self.augment else None
        return own

    def on(self, device: str | torch.device) -> Self:
        """Return a copy that trains on `device`."""
        return replace(self, data=self.dataset, device=device)

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Train a candidate; equal keys give equal results at an equal number of threads.

        Args:
            candidate: The network.
            report: Told the validation accuracy after each epoch. What it raises passes through.
        """
        began = time.perf_counter()
        device = pick_device(self.device)
        data = self.dataset.to(device)
        seed = training_seed(self.seed, candidate.key)
        epochs, stopping = self._plan()
        resumption = self._resumption(candidate)
        with seeded(seed, device):
            model = candidate.build()
        with _until_over(resumption):
            result = train(
                model,
                data.train,
                self,
                epochs=epochs,
                seed=seed,
                validation=data.validation,
                augmentation=data.augmentation,
                stopping=stopping,
                report=report,
                resumption=resumption,
            )
        assert result.score is not None  # there was a validation part
        worst = METRICS["loss"].worst
        loss = result.score.loss
        return Metrics(
            values={
                "accuracy": result.score.accuracy,
                "loss": loss if loss < worst else worst,  # NaN is no value for a study
            },
            epochs=result.epochs,
            seconds=time.perf_counter() - began + resumption.seconds,
            curve=result.curve,
            notes={"stopped": result.stopped} if result.stopped else {},
        )

    def _resumption(self, candidate: Candidate) -> Resumption:
        if self.checkpoints is None:
            return NOWHERE
        of = f"{self.fingerprint}:{candidate.key}"
        return FileResumption(self.checkpoints, of, every=self.checkpoint_seconds)


@contextmanager
def _until_over(resumption: Resumption) -> Iterator[None]:
    """Keep where a training stands only until it ends or is pruned."""
    try:
        yield
    except optuna.TrialPruned:
        resumption.remove()
        raise
    resumption.remove()


@dataclass(frozen=True)
class FullTraining(_Training):
    """Train for a fixed number of epochs and score the last one.

    Args:
        data: A data set, or its name or path for `nas_optuna.data.load`.
        epochs: Passes over the training part.
        seed: Decides initial weights, order and augmentation, together with the candidate's key.
        checkpoints: Folder in which a long training keeps how far it is, so that a repeated trial
            goes on from its last epoch, with the same result; None keeps nothing.
        checkpoint_seconds: Least seconds between two such writes.

    The other settings are those of `TrainingSettings`.

    Example:
        >>> FullTraining("digits", epochs=5).provides == {"accuracy", "loss"}
        True
    """

    name: ClassVar[str] = "FullTraining"

    _: KW_ONLY
    epochs: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        require("epochs", self.epochs, "at least 1", holds=self.epochs >= 1)

    def _plan(self) -> tuple[int, Stopping | None]:
        return self.epochs, None


@dataclass(frozen=True)
class EarlyStopping(_Training):
    """Train until the validation accuracy stalls and score the best epoch.

    Args:
        data: A data set, or its name or path for `nas_optuna.data.load`.
        max_epochs: Passes over the training part, at most; the schedule is made for as many.
        patience: Stop after this many epochs without a better accuracy.
        min_epochs: Never stop before this epoch.
        seed: Decides initial weights, order and augmentation, together with the candidate's key.
        checkpoints: Folder in which a long training keeps how far it is, so that a repeated trial
            goes on from its last epoch, with the same result; None keeps nothing.
        checkpoint_seconds: Least seconds between two such writes.

    The other settings are those of `TrainingSettings`.

    Example:
        >>> EarlyStopping("digits", max_epochs=12).patience
        5
    """

    name: ClassVar[str] = "EarlyStopping"

    _: KW_ONLY
    max_epochs: int = 20
    patience: int = 5
    min_epochs: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require("patience", self.patience, "at least 1", holds=self.patience >= 1)
        within = 1 <= self.min_epochs <= self.max_epochs
        require("min_epochs", self.min_epochs, f"in [1, {self.max_epochs}]", holds=within)

    def _plan(self) -> tuple[int, Stopping | None]:
        return self.max_epochs, Stopping(patience=self.patience, min_epochs=self.min_epochs)

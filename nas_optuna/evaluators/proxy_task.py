"""Train on an easier task: less data, fewer epochs, smaller images, a narrower network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from nas_optuna.data import Augmentation, DataSet, Split
from nas_optuna.errors import SettingError
from nas_optuna.evaluators.base import Candidate, Evaluator, Report
from nas_optuna.evaluators.recipe import require
from nas_optuna.evaluators.scaling import scaled
from nas_optuna.evaluators.training import EarlyStopping, FullTraining
from nas_optuna.metrics import Metrics
from nas_optuna.models import build


@dataclass(frozen=True)
class ProxyTask(Evaluator):
    """Lets a training evaluator judge a candidate on an easier task; any mix of four.

    What comes out is the accuracy of that task, not of the one asked for, and each result says
    so in its notes. It serves to rank. Costs that are counted or measured outside, such as
    parameters and latency, stay those of the whole network.

    Args:
        evaluator: `FullTraining` or `EarlyStopping`.
        data_fraction: Share of the training part, of every class alike. The validation part
            stays whole.
        epochs: Most epochs, over what is left of the training part; None for as many as before.
        resolution: Longer side in pixels to which images are averaged; None to leave them.
            Shifts and cut-outs shrink alike.
        width: Factor on channels and features of an `Architecture`; see `scaled`. A module of the
            user's own cannot be narrowed.

    Raises:
        SettingError: A setting is out of its range, or nothing is made easier.

    Example:
        >>> cheap = ProxyTask(FullTraining("digits", epochs=12), data_fraction=0.25, epochs=4)
        >>> cheap.easier
        '25 % of the data, 4 epochs'
    """

    name: ClassVar[str] = "ProxyTask"
    provides: ClassVar[frozenset[str]] = FullTraining.provides

    evaluator: FullTraining | EarlyStopping
    _: KW_ONLY
    data_fraction: float = 1.0
    epochs: int | None = None
    resolution: int | None = None
    width: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.evaluator, FullTraining | EarlyStopping):
            raise SettingError(
                "ProxyTask makes the task of a training evaluator easier, got "
                f"{type(self.evaluator).__name__}; wrap FullTraining or EarlyStopping."
            )
        for name in ("data_fraction", "width"):
            value = getattr(self, name)
            require(name, value, "in (0, 1]", holds=0 < value <= 1)
        for name in ("epochs", "resolution"):
            value = getattr(self, name)
            require(name, value, "at least 1", holds=value is None or value >= 1)
        if not self.easier:
            raise SettingError(
                "ProxyTask makes nothing easier; set data_fraction, epochs, resolution or width."
            )

    @property
    def easier(self) -> str:
        """What is made easier, in words."""
        parts = (
            f"{100 * self.data_fraction:.3g} % of the data" if self.data_fraction < 1 else "",
            f"{self.epochs} epochs" if self.epochs else "",
            f"images of {self.resolution} pixels" if self.resolution else "",
            f"width x {self.width:g}" if self.width < 1 else "",
        )
        return ", ".join(part for part in parts if part)

    @property
    def dataset(self) -> DataSet:
        """The whole data, for which the candidates are made."""
        return self.evaluator.dataset

    def identity(self) -> Mapping[str, Any]:
        """Every setting that changes results, as JSON values."""
        return {
            **self._training.identity(),
            "evaluator": self.evaluator.name,
            "width": self.width,
        }

    def on(self, device: str | torch.device) -> Self:
        """Return a copy that trains on `device`."""
        return replace(self, evaluator=self.evaluator.on(device))

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Train the candidate, scaled to the easier task.

        Args:
            candidate: The network.
            report: Told the validation accuracy after each epoch of the easier task. What it
                raises passes through.

        Returns:
            The metrics of the easier task; `epochs` counts passes over the full training part,
            so four epochs on a quarter of the data are one.

        Raises:
            SettingError: A module of the user's own was to be narrowed.
        """
        metrics = self._training.evaluate(self._scaled(candidate), report)
        notes = {**metrics.notes, "proxy_task": self.easier}
        return replace(metrics, epochs=metrics.epochs * self.epochs_per_report, notes=notes)

    @property
    def epochs_per_report(self) -> float:
        """Passes over the full training part that an epoch of the easier task is worth."""
        return len(self._training.dataset.train) / len(self.dataset.train)

    @cached_property
    def _training(self) -> FullTraining | EarlyStopping:
        """The wrapped evaluator with less to do."""
        evaluator = replace(self.evaluator, data=self._easier_data())
        if self.epochs is None:
            return evaluator
        if isinstance(evaluator, FullTraining):
            return replace(evaluator, epochs=self.epochs)
        least = min(evaluator.min_epochs, self.epochs)
        return replace(evaluator, max_epochs=self.epochs, min_epochs=least)

    def _easier_data(self) -> DataSet:
        data = self.dataset
        if self.data_fraction < 1:
            data = _fewer(data, self.data_fraction, self.evaluator.seed)
        if self.resolution is not None:
            data = _smaller(data, self.resolution)
        return data

    def _scaled(self, candidate: Candidate) -> Candidate:
        if candidate.architecture is None:
            if self.width < 1:
                raise SettingError(
                    "width narrows an Architecture, and this space returns modules; leave width "
                    "at 1, or describe the networks with nas.ArchitectureBuilder."
                )
            return candidate
        shape = self._training.dataset.input_shape
        if self.width == 1 and shape == candidate.architecture.input_shape:
            return candidate
        narrow = scaled(candidate.architecture, width=self.width, input_shape=shape)
        return replace(candidate, architecture=narrow, build=partial(build, narrow))


def _fewer(data: DataSet, fraction: float, seed: int) -> DataSet:
    """Keep a share of the training part, at least one sample of each class, and two in all."""
    targets = data.train.targets.cpu().numpy()
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    chosen = [
        of_class[: max(1, round(fraction * len(of_class)))]
        for of_class in (shuffled[targets[shuffled] == c] for c in np.unique(targets))
    ]
    kept = torch.from_numpy(np.sort(np.concatenate(chosen))).to(data.train.targets.device)
    train = Split(data.train.inputs[kept], data.train.targets[kept])
    return replace(data, train=train, fingerprint=_digest(data, f"{fraction!r} by {seed}"))


def _smaller(data: DataSet, resolution: int) -> DataSet:
    """Average images to a longer side of `resolution` pixels; all else stays."""
    if len(data.input_shape) != 3:
        raise SettingError(
            f"resolution is for images of shape (C, H, W), but {data.name} has inputs of shape "
            f"{data.input_shape}; leave it out."
        )
    _, height, width = data.input_shape
    share = resolution / max(height, width)
    if share > 1:
        raise SettingError(
            f"resolution must be at most {max(height, width)}, the size of {data.name}, "
            f"got {resolution}."
        )
    size = max(1, round(height * share)), max(1, round(width * share))
    parts = (
        Split(adaptive_avg_pool2d(part.inputs, size), part.targets)
        for part in (data.train, data.validation, data.test)
    )
    old = data.augmentation
    augmentation = Augmentation(
        shift=round(old.shift * share), flip=old.flip, cutout=round(old.cutout * share)
    )
    train, validation, test = parts
    return replace(
        data,
        train=train,
        validation=validation,
        test=test,
        augmentation=augmentation,
        fingerprint=_digest(data, f"{size}"),
    )


def _digest(data: DataSet, change: str) -> str:
    return hashlib.sha256(f"{data.fingerprint} {change}".encode()).hexdigest()

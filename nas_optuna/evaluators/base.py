"""What every evaluator is: a candidate goes in, metrics come out, with one report per epoch."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, cast

import numpy as np

from nas_optuna.metrics import Metrics

if TYPE_CHECKING:
    import torch
    from optuna.trial import FrozenTrial
    from torch import nn

    from nas_optuna.architecture import Architecture

Report: TypeAlias = Callable[[int, float], None]
"""Called with the epoch, from 1, and the validation accuracy; may raise `optuna.TrialPruned`."""

Finished: TypeAlias = "Callable[[], Sequence[FrozenTrial]]"
"""Returns the finished trials of a study, by number."""


@dataclass(frozen=True)
class Candidate:
    """A network to be judged.

    Args:
        key: Canonical digest of the architecture, or a digest of the parameters for a module of
            the user's own. Networks of equal keys are the same network.
        params: The parameters of the trial, by name.
        architecture: The architecture; None for a module of the user's own.
        build: Makes the network with real weights, on the CPU, initialised from torch's global
            generator.
    """

    key: str
    params: Mapping[str, Any]
    architecture: Architecture | None
    build: Callable[[], nn.Module]


class Evaluator(ABC):
    """Judges candidates. The same candidate gets the same metrics, whoever asks and whenever."""

    name: ClassVar[str]
    provides: ClassVar[frozenset[str]]  # names of the metrics in `Metrics.values`
    cacheable: ClassVar[bool] = True  # whether equal keys give equal results

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Every setting that changes results, as JSON values: seed and data, not the device."""

    @abstractmethod
    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Judge a candidate.

        Args:
            candidate: The network.
            report: Told the validation accuracy after each epoch. What it raises passes through.

        Returns:
            A value for each metric in `provides`, and what the evaluation cost.
        """

    def predict(
        self, candidate: Candidate, costs: Mapping[str, float], finished: Finished
    ) -> Metrics | None:
        """Estimate what `evaluate` would return, if that can be done well enough.

        Args:
            candidate: The network.
            costs: Its costs known without training, by metric name.
            finished: Returns the finished trials of the study, by number. The estimate depends
                on nothing else that changes, so that a resumed study goes on as it would have.

        Returns:
            Metrics with the note `predicted`, which are told to the study, marked, and never
            stored as a result; None to have the candidate evaluated.
        """
        return None

    def prepare(self) -> None:  # noqa: B027 - most evaluators have nothing to prepare
        """Do what is done once for all candidates, such as training a supernet; mostly nothing.

        The first `evaluate` does it too, but not before a run shows its progress.
        """

    @property
    def epochs_per_report(self) -> float:
        """Passes over the full training part that lie between two reports."""
        return 1.0

    @property
    def measuring(self) -> Evaluator:
        """The evaluator whose results `evaluate` returns, and under which they are stored."""
        return self

    @abstractmethod
    def on(self, device: str | torch.device) -> Self:
        """Return a copy that works on `device`."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits that differ when results may differ: part of the cache's key."""
        return digest_of([type(self).__name__, dict(self.identity())])


def digest_of(settings: Any) -> str:
    """Return 16 hex digits that stand for JSON values and numbers of numpy.

    Raises:
        TypeError: There are others among them.

    Example:
        >>> digest_of({"seed": np.int64(3)}) == digest_of({"seed": 3})
        True
    """
    text = json.dumps(settings, sort_keys=True, default=_as_number)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_number(setting: Any) -> int | float:
    """What JSON writes for a number of numpy, such as a seed out of `np.arange`."""
    if isinstance(setting, np.number):
        return cast(int | float, setting.item())
    raise TypeError(f"{setting!r} is no number")

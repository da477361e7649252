"""Scores of untrained networks, from one batch: they rank, and measure nothing.

[Abdelfattah2021] "Zero-Cost Proxies for Lightweight NAS", ICLR: `grad_norm`, and `synflow` as one
    number.
[Lin2021] "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", ICCV: `zen`.
[Mellor2021] "Neural Architecture Search without Training", ICML: `naswot`.
[Tanaka2020] "Pruning neural networks without any data by iteratively conserving synaptic flow",
    NeurIPS: `synflow`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from nas_optuna.data import DataSet, Split, load
from nas_optuna.errors import SettingError, check_name
from nas_optuna.evaluators.base import Candidate, Evaluator, Report
from nas_optuna.evaluators.recipe import pick_device, require
from nas_optuna.evaluators.training import training_seed
from nas_optuna.metrics import METRICS, Metrics
from nas_optuna.models import seeded

ScoreName = Literal["synflow", "naswot", "parameters", "grad_norm", "zen"]
_RIDGE = 1e-3  # on a kernel of whole numbers; what keeps two equal codes from -infinity
_STEP = 1e-2  # of the input, as in the code of [Lin2021]
_TINY = 1e-300  # a logarithm of less is not asked for
_aten = torch.ops.aten
_ACTIVATIONS = frozenset(
    {
        _aten.relu, _aten.relu_, _aten.hardtanh, _aten.hardtanh_, _aten.leaky_relu,
        _aten.leaky_relu_, _aten.elu, _aten.elu_, _aten.gelu, _aten.silu, _aten.silu_,
        _aten.hardswish, _aten.hardswish_, _aten.hardsigmoid, _aten.sigmoid, _aten.tanh,
    }
)  # fmt: skip


@dataclass(frozen=True)
class ZeroCost(Evaluator):
    """Scores a network without training it, as the metric `proxy`; larger is better.

    A score is no accuracy and never told as one. It costs one pass of one batch, and often ranks
    no better than `parameters`, the baseline: check it against some full trainings.

    - `synflow`: logarithm of the sum of |weight x gradient| when all weights are made positive
      and all inputs are one; without batch norm, whose statistics would undo it.
    - `naswot`: log-determinant of how alike a batch's patterns of active units are; in training
      mode, so that batch norm takes the batch's statistics.
    - `grad_norm`: logarithm of the sum of the norms of the weights' gradients after one batch,
      in training mode.
    - `zen`: logarithm of how far the features before the classifier move with a small step of a
      Gaussian input, weights being Gaussian too, plus the logarithms of the scales that batch
      norm took out; in training mode.
    - `parameters`: trainable numbers, the baseline.

    Departures from the papers: logarithms (the order stays) and layer norm left out as batch norm
    is in `synflow`; any activation has a pattern (active where its input is positive) and a ridge
    keeps the determinant finite in `naswot`; shortcuts stay and features are taken after the
    pooling in `zen`, since a network of any space tells neither.

    Args:
        data: A data set, or its name or path for `nas_optuna.data.load`.
        score: Which one.
        batch_size: Samples of the training part in the one batch, at most.
        seed: Decides the batch, and with the candidate's key the weights.
        device: `"auto"` is CUDA where there is one, else the CPU.

    Raises:
        UnknownNameError: There is no such score.
        SettingError: The batch is too small, or `zen` meets token numbers.

    Example:
        >>> ZeroCost("digits", "naswot").provides
        frozenset({'proxy'})
    """

    name: ClassVar[str] = "ZeroCost"
    provides: ClassVar[frozenset[str]] = frozenset({"proxy"})

    data: DataSet | str | Path
    score: ScoreName = "synflow"
    _: KW_ONLY
    batch_size: int = 64
    seed: int = 0
    device: str | torch.device = "auto"

    def __post_init__(self) -> None:
        check_name("score", self.score, _SCORES)
        require("batch_size", self.batch_size, "at least 2", holds=self.batch_size >= 2)

    @cached_property
    def dataset(self) -> DataSet:
        """The data; loaded at the first use if it was given by name."""
        return self.data if isinstance(self.data, DataSet) else load(self.data)

    def identity(self) -> Mapping[str, Any]:
        """Every setting that changes results, as JSON values."""
        return {
            "data": self.dataset.fingerprint,
            "score": self.score,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def on(self, device: str | torch.device) -> Self:
        """Return a copy that works on `device`."""
        return replace(self, data=self.dataset, device=device)

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Score a candidate; equal keys get equal scores.

        Args:
            candidate: The network.
            report: Never told anything: nothing is trained.
        """
        began = time.perf_counter()
        device = pick_device(self.device)
        batch = self._batch.to(device)
        with seeded(training_seed(self.seed, candidate.key), device):
            model = candidate.build().to(device)
            score = _SCORES[self.score](model, batch)
        worst = METRICS["proxy"].worst
        seen = len(batch) if self.score in _LOOK_AT_DATA else 0
        return Metrics(
            {"proxy": min(max(score, worst), -worst) if math.isfinite(score) else worst},
            epochs=seen / len(self.dataset.train),
            seconds=time.perf_counter() - began,
            notes={"score": self.score},
        )

    @cached_property
    def _batch(self) -> Split:
        """Drawn from the seed alone: all candidates see the same samples."""
        train = self.dataset.train
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))
        chosen = order[: self.batch_size].to(train.targets.device)
        return Split(train.inputs[chosen], train.targets[chosen])


def _parameters(model: nn.Module, batch: Split) -> float:
    return float(sum(p.numel() for p in model.parameters() if p.requires_grad))


def _synflow(model: nn.Module, batch: Split) -> float:
    for module in model.modules():
        if isinstance(module, _BatchNorm | nn.LayerNorm):
            module.forward = lambda x: x  # type: ignore[assignment,method-assign]
    model.double().eval()  # a product of all layers' weights: float32 would overflow
    with torch.no_grad():
        for weight in model.parameters():
            weight.abs_()
    x = batch.inputs[:1]
    _sum = model(torch.ones_like(x, dtype=torch.float64) if x.is_floating_point() else x).sum()
    _sum.backward()
    return _log(sum(float((w * g).abs().sum()) for w, g in _gradients(model)))


def _grad_norm(model: nn.Module, batch: Split) -> float:
    model.train()
    F.cross_entropy(model(batch.inputs), batch.targets).backward()  # type: ignore[no-untyped-call]
    return _log(sum(float(g.norm()) for _, g in _gradients(model)))


def _gradients(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Kernels and matrices with their gradients; those that the output does not use have none."""
    return [(p.detach(), p.grad) for p in model.parameters() if p.ndim >= 2 and p.grad is not None]


def _log(value: float) -> float:
    return math.log(max(value, _TINY)) if value < math.inf else math.inf


class _Patterns(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up how alike the samples of a batch are in which units are active."""

    def __init__(self, samples: int, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernel = torch.zeros(samples, samples, dtype=torch.float64, device=device)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # torch's own signature
        if func.overloadpacket in _ACTIVATIONS and len(args[0]) == len(self.kernel):
            active = (args[0] > 0).flatten(1).double()
            # units at which two samples agree: N - Hamming distance
            self.kernel += active @ active.T + (1 - active) @ (1 - active).T
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _naswot(model: nn.Module, batch: Split) -> float:
    model.train()
    with _Patterns(len(batch), batch.targets.device) as patterns:
        model(batch.inputs)
    ridge = _RIDGE * torch.eye(len(batch), dtype=torch.float64, device=batch.targets.device)
    return float(torch.linalg.slogdet(patterns.kernel + ridge).logabsdet)


class _Watch:
    """What `zen` needs of one pass: the classifier's input, and what batch norm divided by."""

    def __init__(self, model: nn.Module) -> None:
        self.features: Tensor | None = None
        self.log_scale = 0.0
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_pre_hook(self._linear)
            if isinstance(module, _BatchNorm):
                module.register_forward_pre_hook(self._norm)

    def _linear(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0]  # the last one to run is the classifier

    def _norm(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1)  # (C, N * ...)
        self.log_scale += 0.5 * _log(float(x.var(1).mean()))


@torch.no_grad()
def _zen(model: nn.Module, batch: Split) -> float:
    if not batch.inputs.is_floating_point():
        raise SettingError("score 'zen' needs inputs that can be shifted, got token numbers; "
                           "choose 'naswot' or 'synflow'.")  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    model.double().train()
    watch = _Watch(model)
    x = torch.randn_like(batch.inputs, dtype=torch.float64)
    features = []
    for step in (0.0, _STEP):
        watch.log_scale = 0.0
        logits = model(x + step * torch.randn_like(x))
        features.append(logits if watch.features is None else watch.features)
    moved = (features[1] - features[0]).flatten(1).norm(dim=1).mean()
    return _log(float(moved)) + watch.log_scale


_SCORES: dict[str, Callable[[nn.Module, Split], float]] = {
    "synflow": _synflow,
    "naswot": _naswot,
    "parameters": _parameters,
    "grad_norm": _grad_norm,
    "zen": _zen,
}
_LOOK_AT_DATA = frozenset({"naswot", "grad_norm"})

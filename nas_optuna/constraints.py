"""Limits a search must keep, told to the study as graded, named violations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

from nas_optuna.errors import SettingError, check_name
from nas_optuna.metrics import metric

Platform = Literal["cpu", "gpu", "mobile", "edge"]

# Which metric each limit bounds, cheapest to know first: the order in which they are checked.
LIMITS: dict[str, str] = {
    "max_layers": "layers",
    "max_parameters": "parameters",
    "max_flops": "flops",
    "max_memory_mb": "memory_mb",
    "max_latency_ms": "latency_ms",
    "min_accuracy": "accuracy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConstraints:
    """Limits of a search; `None` switches one off.

    Args:
        max_layers: Most operations with weights on the longest path.
        max_parameters: Most trainable numbers.
        max_latency_ms: Longest median forward pass of one sample, in milliseconds.
        max_memory_mb: Largest peak memory of one forward pass, weights included, in MB (1e6):
            counted, and on CUDA measured, too.
        max_flops: Most floating-point operations of one forward pass (a multiply-add is two).
        min_accuracy: Least validation accuracy, in [0, 1]; the only limit that needs training.
        target_platform: Where the network will run, which decides how latency comes: `cpu` is
            timed by torch on this machine's CPU, `gpu` on CUDA (as is the peak memory), `mobile`
            and `edge` by ONNX Runtime on this machine's CPU (extra `export`). A
            `nas_optuna.LatencyTable` made on the device itself predicts instead, wherever the
            search runs.

    Raises:
        SettingError: A limit is not positive or infinite.
        UnknownNameError: The platform is unknown.

    Example:
        >>> limits = SearchConstraints(max_parameters=1000)
        >>> limits.violations({"parameters": 1500.0, "layers": 3})
        {'max_layers': -0.94, 'max_parameters': 0.5}
    """

    max_layers: int | None = 50
    max_parameters: int | None = 50_000_000
    max_latency_ms: float | None = 100.0
    max_memory_mb: float | None = 1000.0
    max_flops: float | None = None
    min_accuracy: float | None = None
    target_platform: Platform = "cpu"

    def __post_init__(self) -> None:
        check_name("target_platform", self.target_platform, get_args(Platform))
        for name, limit in self.limits.items():
            if not limit > 0:
                raise SettingError(f"{name} must be greater than 0, got {limit!r}.")
            if limit == math.inf:
                raise SettingError(f"{name} must be finite, got inf; write None for no limit.")
        if self.min_accuracy is not None and self.min_accuracy > 1:
            raise SettingError(
                f"min_accuracy is a share of at most 1, got {self.min_accuracy!r}; "
                f"write {self.min_accuracy / 100:g} for {self.min_accuracy:g} %."
            )

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are on, by name, cheapest to check first."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: values[name] for name in LIMITS if values[name] is not None}

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """Grade each limit whose metric is known.

        Args:
            values: Metric values by metric name; metrics without a limit are ignored.

        Returns:
            By limit, how far the value is beyond it, as a share of the limit: 0.5 is half too
            large, zero or less is within. It is rounded, but never to zero.
        """
        graded = {}
        for name, limit in self.limits.items():
            value = values.get(LIMITS[name])
            if value is not None:
                excess = value / limit - 1 if name.startswith("max") else 1 - value / limit
                graded[name] = round(excess, 6) or excess  # its sign says whether it is within
        return graded

    def worst(self, name: str) -> float:
        """Value of metric `name` told for an architecture that was ruled out before measuring.

        It is the limit where there is one, so that it stays on the scale of real values.
        """
        bound = self.limits.get(f"max_{name}")
        return metric(name).worst if bound is None else float(bound)


def explain(violations: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """Say in words which limits are broken and by how much; empty if none is.

    Example:
        >>> explain({"max_parameters": 0.5, "max_layers": -0.2}, {"max_parameters": 1000})
        'max_parameters 1,000 exceeded by 50 %'
    """
    parts = []
    for name, excess in violations.items():
        if excess > 0:
            limit = f" {limits[name]:,g}" if name in limits else ""
            verb = "missed" if name.startswith("min") else "exceeded"
            share = f"{excess:.0%}" if excess >= 0.01 else "less than 1%"
            parts.append(f"{name}{limit} {verb} by {share}".replace("%", " %"))
    return "; ".join(parts)

"""What can be measured of an architecture (`Metric`), and the result of one evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nas_optuna.errors import UnknownNameError

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One measurable property of an architecture.

    Args:
        name: The name used in `metrics=(...)`, in tables and as the objective's name in Optuna.
        unit: Unit of the value, empty for a share or a count.
        direction: Whether a search maximises or minimises it; fixed, never a user's choice.
        worst: Value told to the study when it was not measured because a cheaper check
            already ruled the architecture out.
        text: What it is, in a few words.
        best: The best value there can be, or one beyond all that occur.
    """

    name: str
    unit: str
    direction: Direction
    worst: float
    text: str
    best: float = 0.0

    @property
    def maximized(self) -> bool:
        """Whether larger is better."""
        return self.direction == "maximize"


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", "", "maximize", 0.0, "share of validation samples classified right", 1),
        Metric("loss", "", "minimize", 1e3, "mean cross-entropy on the validation part"),
        Metric("latency_ms", "ms", "minimize", 1e4, "median time of one forward pass"),
        Metric("parameters", "", "minimize", 1e12, "trainable numbers"),
        Metric("flops", "", "minimize", 1e15, "floating-point operations of one forward pass"),
        Metric("memory_mb", "MB", "minimize", 1e6, "peak memory of one forward pass"),
        Metric("layers", "", "minimize", 1e6, "operations with weights on the longest path"),
        # What a score without training tells is the order of networks, and no share of anything.
        Metric("proxy", "", "maximize", -1e12, "score without training; it only ranks", 1e12),
    )
}


def metric(name: str) -> Metric:
    """Look a metric up by its name.

    Raises:
        UnknownNameError: There is no such metric.

    Example:
        >>> metric("latency_ms").direction
        'minimize'
    """
    try:
        return METRICS[name]
    except KeyError:
        raise UnknownNameError("metric", name, METRICS) from None


@dataclass(frozen=True, slots=True)
class Metrics:
    """The result of evaluating one architecture once.

    Args:
        values: Measured values by metric name, in the metric's unit.
        epochs: What the evaluation cost, in passes over the full training part.
        seconds: What it cost in wall-clock time.
        curve: Validation accuracy after each epoch, `(epochs,)`; empty if nothing was trained.
        notes: Marks in words, such as `{"stopped": "early_stopping"}`.
    """

    values: Mapping[str, float]
    epochs: float = 0.0
    seconds: float = 0.0
    curve: tuple[float, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write as one JSON document."""
        return json.dumps(
            {
                "values": dict(self.values),
                "epochs": self.epochs,
                "seconds": self.seconds,
                "curve": list(self.curve),
                "notes": dict(self.notes),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Metrics:
        """Read what `to_json` wrote.

        Example:
            >>> m = Metrics({"accuracy": 0.9}, epochs=2, curve=(0.5, 0.9))
            >>> Metrics.from_json(m.to_json()) == m
            True
        """
        data: dict[str, Any] = json.loads(text)
        return cls(
            values={str(k): float(v) for k, v in data["values"].items()},
            epochs=float(data["epochs"]),
            seconds=float(data["seconds"]),
            curve=tuple(float(v) for v in data["curve"]),
            notes={str(k): str(v) for k, v in data["notes"].items()},
        )

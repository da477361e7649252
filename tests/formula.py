"""Training replaced by a formula, for tests of everything around it."""

import hashlib
import math
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from nas_optuna.evaluators import Candidate, Evaluator
from nas_optuna.metrics import Metrics


class Formula(Evaluator):
    """Accuracy as a smooth function of size plus a fixed noise of each architecture's own.

    Args:
        epochs: Points of the learning curve.
        seconds: Time that an epoch takes.
        kill_at: In the middle of this evaluation of the process, send it a signal.
        number: That signal; by default the one that nothing survives.
    """

    name: ClassVar[str] = "Formula"
    provides: ClassVar[frozenset[str]] = frozenset({"accuracy", "loss"})

    def __init__(
        self,
        *,
        epochs: int = 2,
        seconds: float = 0.0,
        kill_at: int | None = None,
        number: signal.Signals = signal.SIGKILL,
    ):
        self.epochs = epochs
        self.seconds = seconds
        self.kill_at = kill_at
        self.number = number
        self.judged: list[str] = []

    def identity(self) -> Mapping[str, Any]:
        return {"seed": 0, "data": "formula"}

    def on(self, device):
        return self

    def evaluate(self, candidate: Candidate, report) -> Metrics:
        self.judged.append(candidate.key)
        noise = int.from_bytes(hashlib.sha256(candidate.key.encode()).digest()[:4]) / 2**32
        nodes = len(candidate.architecture.nodes) if candidate.architecture else 5
        accuracy = 0.5 + 0.35 * (1 - math.exp(-nodes / 12)) + 0.1 * noise
        curve = [accuracy * (epoch + 1) / self.epochs for epoch in range(self.epochs)]
        for epoch, point in enumerate(curve, start=1):
            report(epoch, point)
            time.sleep(self.seconds)
            if len(self.judged) == self.kill_at:
                os.kill(os.getpid(), self.number)
        return Metrics(
            {"accuracy": accuracy, "loss": 1 - accuracy},
            epochs=self.epochs,
            seconds=0.0,
            curve=tuple(curve),
        )

"""Where the latency of a candidate comes from: measured on this machine, or from a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from nas_optuna.constraints import Platform
from nas_optuna.errors import SettingError, check_name
from nas_optuna.evaluators import Candidate
from nas_optuna.metrics import Metrics
from nas_optuna.models import (
    LatencyTable,
    device_fingerprint,
    device_name,
    measure_latency,
    seeded,
)
from nas_optuna.models.latency import SPREAD
from nas_optuna.models.memory import measure_memory_mb
from nas_optuna.models.runtimes import RUNTIMES, RuntimeName
from nas_optuna.recording import TrialRecord
from nas_optuna.storage import EvaluationCache, EvaluationKey

# What runs networks on a platform. Phones and boards seldom run PyTorch.
_RUNS: Mapping[Platform, RuntimeName] = {
    "cpu": "torch",
    "gpu": "torch",
    "mobile": "onnxruntime",
    "edge": "onnxruntime",
}


@dataclass(frozen=True, slots=True)
class LatencySettings:
    """How latency is measured; part of the cache's key.

    Args:
        batch_size: Samples in one pass.
        threads: Threads on the CPU. One is the steadiest, and what a busy server has to spare.
        seconds: Least time spent measuring one network; the most is ten times as much.
        spread: Interquartile range, as a share of the median, at which a measurement is done.
        runtime: What runs the network, `torch` or `onnxruntime`; None for what the platform of
            the limits runs.

    Raises:
        UnknownNameError: There is no such runtime.
    """

    batch_size: int = 1
    threads: int = 1
    seconds: float = 0.1
    spread: float = SPREAD
    runtime: RuntimeName | None = None

    def __post_init__(self) -> None:
        if self.runtime is not None:
            check_name("runtime", self.runtime, RUNTIMES)


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Tells the latency of candidates.

    Args:
        source: How to measure, or the table that predicts.
        input_shape: Shape of one sample without the batch.
        platform: Where the network will run: `gpu` is timed on CUDA, `mobile` and `edge` after
            an export by ONNX Runtime on this machine's CPU, `cpu` by torch.
    """

    source: LatencySettings | LatencyTable
    input_shape: tuple[int, ...]
    platform: Platform = "cpu"

    @property
    def runtime(self) -> RuntimeName:
        """What runs a network that is measured."""
        chosen = None if isinstance(self.source, LatencyTable) else self.source.runtime
        return chosen or _RUNS[self.platform]

    @property
    def device(self) -> torch.device:
        """Where a network is measured.

        Raises:
            SettingError: The platform is `gpu`, and there is none.
        """
        if self.platform != "gpu":
            return torch.device("cpu")
        if not torch.cuda.is_available():
            raise SettingError(
                "target_platform 'gpu' needs a CUDA device, and torch sees none; choose 'cpu', "
                "run where there is one, or predict: latency=nas.LatencyTable(FILE)."
            )
        return torch.device("cuda")

    def within(self, seconds: float) -> Stopwatch:
        """Return one that measures each network for so long only."""
        if isinstance(self.source, LatencyTable):
            return self
        return replace(self, source=replace(self.source, seconds=seconds))

    def latency(self, candidate: Candidate) -> Metrics:
        """Measure or predict; on CUDA the peak memory is measured, too.

        Raises:
            SettingError: A table is to predict a module, which has no graph of operations, or
                was made on another platform.
            DataError: The table is not usable, or has no operation of some node's kind.
        """
        source = self.source
        if isinstance(source, LatencyTable):
            return self._predicted(source, candidate)
        with seeded(0, torch.device("cpu")):  # or it would change what another thread draws
            model = candidate.build()
        latency = measure_latency(
            model,
            self.input_shape,
            device=self.device,
            batch_size=source.batch_size,
            threads=source.threads,
            seconds=source.seconds,
            spread=source.spread,
            runtime=self.runtime,
        )
        values = {"latency_ms": latency.median_ms}
        peak = measure_memory_mb(
            model, self.input_shape, device=self.device, batch_size=source.batch_size
        )
        if peak is not None:
            values["memory_mb"] = peak
        return Metrics(values, notes={"iqr_ms": f"{latency.iqr_ms:.6f}"})

    def _predicted(self, table: LatencyTable, candidate: Candidate) -> Metrics:
        if candidate.architecture is None:
            raise SettingError(
                f"{table!r} predicts architectures, not a torch.nn.Module; write the space "
                "with nas_optuna.ArchitectureBuilder, or leave the table out."
            )
        if table.data.device.startswith("cuda") != (self.platform == "gpu"):
            raise SettingError(
                f"{table!r} was made on {table.data.device}, and target_platform is "
                f"{self.platform!r}; set the platform, or make a table where it runs."
            )
        ms = table.predict(candidate.architecture)
        return Metrics({"latency_ms": ms}, notes={"table": table.path.name})

    def recorded(
        self, candidate: Candidate, cache: EvaluationCache, record: TrialRecord
    ) -> Metrics:
        """As `latency`, but measured once per database, and kept in the trial."""
        source = self.source
        if isinstance(source, LatencyTable):
            told, data = self.latency(candidate), source.data
            record.latency(told, threads=data.threads, device=_place(data.device, data.runtime))
            return told
        fingerprint = device_fingerprint(self.device, threads=source.threads, runtime=self.runtime)
        key = EvaluationKey(
            digest=candidate.key,
            evaluator=f"latency b{source.batch_size} s{source.seconds:g} i{source.spread:g}",
            data=f"{fingerprint} {self.input_shape}",
            seed=0,
        )
        told = cache.get(key) or cache.put(key, self.latency(candidate))
        place = _place(device_name(self.device), self.runtime)
        record.latency(told, threads=source.threads, device=place)
        return told


def _place(device: str, runtime: str) -> str:
    return device if runtime == "torch" else f"{device}, {runtime}"

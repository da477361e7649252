"""Where the latency of a candidate comes from: measured on this machine, or from a table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from nas_optuna.errors import SettingError
from nas_optuna.evaluators import Candidate
from nas_optuna.metrics import Metrics
from nas_optuna.models import LatencyTable, device_fingerprint, device_name, measure_latency
from nas_optuna.models.latency import SPREAD
from nas_optuna.recording import TrialRecord
from nas_optuna.storage import EvaluationCache, EvaluationKey


@dataclass(frozen=True, slots=True)
class LatencySettings:
    """How latency is measured; part of the cache's key.

    Args:
        batch_size: Samples in one pass.
        threads: Threads on the CPU. One is the steadiest, and what a busy server has to spare.
        seconds: Least time spent measuring one network; the most is ten times as much.
        spread: Interquartile range, as a share of the median, at which a measurement is done.
    """

    batch_size: int = 1
    threads: int = 1
    seconds: float = 0.1
    spread: float = SPREAD


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Tells the latency of candidates.

    Args:
        source: How to measure, or the table that predicts.
        input_shape: Shape of one sample without the batch.
        device: Where to measure.
    """

    source: LatencySettings | LatencyTable
    input_shape: tuple[int, ...]
    device: torch.device

    def within(self, seconds: float) -> Stopwatch:
        """Return one that measures each network for so long only."""
        if isinstance(self.source, LatencyTable):
            return self
        return replace(self, source=replace(self.source, seconds=seconds))

    def latency(self, candidate: Candidate) -> Metrics:
        """Measure or predict.

        Raises:
            SettingError: A table is to predict a module, which has no graph of operations.
            DataError: The table is not usable, or knows nothing like one of the operations.
        """
        source = self.source
        if isinstance(source, LatencyTable):
            if candidate.architecture is None:
                raise SettingError(
                    f"{source!r} predicts architectures, not a torch.nn.Module; write the space "
                    "with nas_optuna.ArchitectureBuilder, or leave the table out."
                )
            ms = source.predict(candidate.architecture)
            return Metrics({"latency_ms": ms}, notes={"table": source.path.name})
        latency = measure_latency(
            candidate.build(),
            self.input_shape,
            device=self.device,
            batch_size=source.batch_size,
            threads=source.threads,
            seconds=source.seconds,
            spread=source.spread,
        )
        return Metrics(
            {"latency_ms": latency.median_ms}, notes={"iqr_ms": f"{latency.iqr_ms:.6f}"}
        )

    def recorded(
        self, candidate: Candidate, cache: EvaluationCache, record: TrialRecord
    ) -> Metrics:
        """As `latency`, but measured once per database, and kept in the trial."""
        source = self.source
        if isinstance(source, LatencyTable):
            told = self.latency(candidate)
            record.latency(told, threads=source.data.threads, device=source.data.device)
            return told
        fingerprint = device_fingerprint(self.device, threads=source.threads)
        key = EvaluationKey(
            digest=candidate.key,
            evaluator=f"latency b{source.batch_size} s{source.seconds:g} i{source.spread:g}",
            data=f"{fingerprint} {self.input_shape}",
            seed=0,
        )
        told = cache.get(key) or cache.put(key, self.latency(candidate))
        record.latency(told, threads=source.threads, device=device_name(self.device))
        return told

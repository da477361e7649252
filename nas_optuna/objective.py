"""The way of a trial, cheap first, as one callable for `study.optimize`.

    space(trial) -> candidate -> cost -> constraints -> cache -> latency -> evaluator -> values

An architecture beyond a limit is told at once and never trained; one that was evaluated before
is answered from the cache. See `Objective`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import optuna
import torch

from nas_optuna.candidates import Proposal, propose
from nas_optuna.constraints import SearchConstraints, explain
from nas_optuna.errors import SettingError
from nas_optuna.evaluators import Candidate, Evaluator
from nas_optuna.metrics import Direction, Metrics, metric
from nas_optuna.models import Cost, measure_latency
from nas_optuna.models.latency import device_name
from nas_optuna.recording import TrialRecord
from nas_optuna.spaces import UNBUILDABLE, Space, as_space
from nas_optuna.storage import EvaluationCache, EvaluationKey

DEFAULT_METRICS = ("accuracy", "latency_ms", "parameters")
_COSTS = frozenset(Cost.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class LatencySettings:
    """How latency is measured; part of the cache's key.

    Args:
        batch_size: Samples in one pass.
        threads: Threads on the CPU. One is the steadiest, and what a busy server has to spare.
        seconds: Least time spent measuring one network.
    """

    batch_size: int = 1
    threads: int = 1
    seconds: float = 0.1


class Objective:
    """Judges the architecture of a trial, for `study.optimize`.

    A trial that breaks a limit, or whose network cannot be built or run, is told as finished
    with its real costs, the worst value for what was not measured, and its violations as Optuna
    constraints, so that samplers learn from it. A trial whose architecture was evaluated before,
    in any study of the same database, gets the stored values and the mark `nas:cached`.

    Args:
        space: A search space, or a function `trial -> Architecture` or `trial -> nn.Module`.
        evaluator: Judges what is within the limits.
        metrics: What is returned to the study, in order; names of `nas_optuna.METRICS`. Their
            directions are fixed.
        constraints: Limits; None for none.
        latency: How latency is measured.

    Raises:
        UnknownNameError: A metric is unknown.
        SettingError: No metric, one named twice, or one that nothing here can measure.

    Example:
        >>> import nas_optuna as nas
        >>> space = nas.spaces.MacroSpace(input_shape=(1, 8, 8), num_classes=10, max_layers=4)
        >>> objective = Objective(
        ...     space,
        ...     nas.evaluators.FullTraining("digits", epochs=1),
        ...     metrics=("accuracy", "flops"),
        ... )
        >>> objective.directions
        ['maximize', 'minimize']
    """

    def __init__(
        self,
        space: Space | Callable[[Any], Any],
        evaluator: Evaluator,
        metrics: Sequence[str] = DEFAULT_METRICS,
        constraints: SearchConstraints | None = None,
        latency: LatencySettings | None = None,
    ) -> None:
        self.space = _as_space(space, evaluator)
        self.evaluator = evaluator
        self.metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics)
        self.constraints = constraints
        self.latency = latency or LatencySettings()
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise SettingError(f"metrics must name each metric once, got {self.metrics}.")
        measurable = {*_COSTS, "latency_ms", *evaluator.provides}
        for name in self.metrics:
            if metric(name).name not in measurable:
                raise SettingError(
                    f"{evaluator.name} does not measure {name!r}; "
                    f"choose from {', '.join(sorted(measurable))}."
                )

    @property
    def directions(self) -> list[Direction]:
        """`maximize` or `minimize` for each metric, for `optuna.create_study`."""
        return [metric(name).direction for name in self.metrics]

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are on, by name."""
        return self.constraints.limits if self.constraints else {}

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        """Judge a trial; returns one value per metric.

        Raises:
            optuna.TrialPruned: The evaluator was told to stop.
        """
        record = TrialRecord(trial)
        try:
            proposal = propose(self.space, trial)
        except UNBUILDABLE as error:
            return self._infeasible(record, {}, unbuildable=str(error))
        record.architecture(proposal.candidate.key, proposal.candidate.architecture)
        values = proposal.cost.values()
        record.costs(values)
        if self._breaks(values):
            return self._infeasible(record, values)
        cache = EvaluationCache.of(trial.storage)
        try:
            values |= self._latency(record, cache, proposal.candidate)
            if self._breaks(values):
                return self._infeasible(record, values)
            values |= self._evaluate(record, cache, proposal.candidate).values
        except torch.OutOfMemoryError as error:
            return self._infeasible(record, values, out_of_memory=str(error))
        except RuntimeError as error:
            # What passed on the meta device may still fail with real numbers.
            if "not enough memory" in str(error):
                return self._infeasible(record, values, out_of_memory=str(error))
            return self._infeasible(record, values, unbuildable=str(error))
        if self._breaks(values):
            return self._infeasible(record, values)
        record.constraints(self._violations(values))
        return self._told(values)

    def proposal(self, params: Mapping[str, Any]) -> Proposal | None:
        """Return what the space makes of `params` if it is within all limits known by counting."""
        try:
            proposal = propose(self.space, optuna.trial.FixedTrial(dict(params)))
        except UNBUILDABLE:
            return None
        return None if self._breaks(proposal.cost.values()) else proposal

    def _violations(self, values: Mapping[str, float]) -> dict[str, float]:
        return self.constraints.violations(values) if self.constraints else {}

    def _breaks(self, values: Mapping[str, float]) -> bool:
        return any(excess > 0 for excess in self._violations(values).values())

    def _told(self, values: Mapping[str, float]) -> float | tuple[float, ...]:
        told = tuple(
            float(values[name]) if name in values else self._worst(name) for name in self.metrics
        )
        return told if len(told) > 1 else told[0]

    def _worst(self, name: str) -> float:
        return self.constraints.worst(name) if self.constraints else metric(name).worst

    def _infeasible(
        self,
        record: TrialRecord,
        values: Mapping[str, float],
        *,
        unbuildable: str = "",
        out_of_memory: str = "",
    ) -> float | tuple[float, ...]:
        violations = self._violations(values)
        reason = unbuildable or out_of_memory or explain(violations, self.limits)
        if unbuildable:
            violations["build"] = 1.0
        if out_of_memory:
            violations["device_memory"] = 1.0
        record.infeasible(violations, reason)
        return self._told(values)

    def _latency(
        self, record: TrialRecord, cache: EvaluationCache, candidate: Candidate
    ) -> dict[str, float]:
        """Measure latency if someone asks for it and the evaluator does not bring it."""
        asked = "latency_ms" in self.metrics or "max_latency_ms" in self.limits
        if not asked or "latency_ms" in self.evaluator.provides:
            return {}
        device, threads = self.latency_device, self.latency.threads
        key = EvaluationKey(
            digest=candidate.key,
            evaluator=f"latency b{self.latency.batch_size} t{threads} s{self.latency.seconds:g}",
            data=f"{device_name(device)} {self.space.input_shape}",
            seed=0,
        )
        measured = cache.get(key)
        if measured is None:
            latency = measure_latency(
                candidate.build(),
                self.space.input_shape,
                device=device,
                batch_size=self.latency.batch_size,
                threads=threads,
                seconds=self.latency.seconds,
            )
            measured = Metrics(
                {"latency_ms": latency.median_ms}, notes={"iqr_ms": f"{latency.iqr_ms:.6f}"}
            )
            measured = cache.put(key, measured)
        record.latency(measured, threads=threads, device=device_name(device))
        return dict(measured.values)

    @cached_property
    def latency_device(self) -> torch.device:
        """Where latency is measured: CUDA for `gpu`, else the CPU."""
        platform = self.constraints.target_platform if self.constraints else "cpu"
        if platform == "gpu":
            if not torch.cuda.is_available():
                raise SettingError(
                    "target_platform 'gpu' needs a CUDA device, and torch sees none; "
                    "choose 'cpu', or run where there is one."
                )
            return torch.device("cuda")
        return torch.device("cpu")

    def _evaluate(
        self, record: TrialRecord, cache: EvaluationCache, candidate: Candidate
    ) -> Metrics:
        identity = self.evaluator.identity()
        key = EvaluationKey(
            digest=candidate.key,
            evaluator=self.evaluator.fingerprint,
            data=str(identity.get("data", "")),
            seed=int(cast(int, identity.get("seed", 0))),
        )
        stored = cache.get(key)
        if stored is not None:
            record.evaluated(stored, cached=True)
            return stored
        metrics = self.evaluator.evaluate(candidate, record.report)
        metrics = cache.put(key, metrics)
        record.evaluated(metrics, cached=False)
        return metrics


def _as_space(space: Space | Callable[[Any], Any], evaluator: Evaluator) -> Space:
    if isinstance(space, Space):
        return space
    data = getattr(evaluator, "dataset", None)
    if data is None:
        raise SettingError(
            f"{evaluator.name} has no data that tells the input shape of a function; wrap it: "
            "nas.spaces.FunctionSpace(function, input_shape=..., num_classes=...)."
        )
    return as_space(space, input_shape=data.input_shape, num_classes=data.num_classes)

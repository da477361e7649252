"""The way of a trial, cheap first, as one callable for `study.optimize`.

    space(trial) -> candidate -> cost -> constraints -> cache -> latency -> evaluator -> values

An architecture beyond a limit is told at once and never trained; one that was evaluated before
is answered from the cache. See `Objective`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import optuna
import torch
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from nas_optuna.candidates import Proposal, propose, propose_params
from nas_optuna.constraints import SearchConstraints, explain
from nas_optuna.errors import SettingError
from nas_optuna.evaluators import Candidate, Evaluator
from nas_optuna.metrics import Direction, Metrics, metric
from nas_optuna.models import Cost, LatencyTable
from nas_optuna.pruners import should_prune
from nas_optuna.recording import CACHED, COSTS, CURVE, DIGEST, EPOCHS, NOTES, SECONDS, TrialRecord
from nas_optuna.spaces import UNBUILDABLE, Space, as_space
from nas_optuna.storage import EvaluationCache, EvaluationKey, claimed
from nas_optuna.timing import LatencySettings, Stopwatch

DEFAULT_METRICS = ("accuracy", "latency_ms", "parameters")
_NO_MEMORY = ("not enough memory", "CUDA error: out of memory")  # in the text of an error
_COSTS = frozenset(Cost.__dataclass_fields__)


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
        latency: How latency is measured, or a `nas_optuna.LatencyTable` that predicts it.
        pruner: Stops trainings early: `nas_optuna.pruners.ParetoPruner` or one of Optuna's. The
            study's own is not asked. See `nas_optuna.pruners.should_prune` for what is compared.
            An architecture that was pruned in a study is not trained again in it.

    Raises:
        UnknownNameError: A metric is unknown.
        SettingError: No metric, one named twice, or one that nothing here can measure; a pruner
            that is none, or accuracy, which it goes by, is no metric.

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
        latency: LatencySettings | LatencyTable | None = None,
        pruner: BasePruner | None = None,
    ) -> None:
        self.space = _as_space(space, evaluator)
        self.evaluator = evaluator
        self.metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics)
        self.constraints = constraints
        self.latency: LatencySettings | LatencyTable = latency or LatencySettings()
        self.pruner = _checked(pruner, self.metrics)
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
            optuna.TrialPruned: The pruner or the evaluator stopped the training.
            RuntimeError: The GPU broke, which says nothing about the architecture.
        """
        record = TrialRecord(trial)
        try:
            return self._judge(trial, record)
        except optuna.TrialPruned:
            raise
        except BaseException as error:
            record.failed(error)
            raise

    def _judge(self, trial: optuna.Trial, record: TrialRecord) -> float | tuple[float, ...]:
        try:
            proposal = propose(self.space, trial)
        except UNBUILDABLE as error:
            return self._infeasible(record, {}, unbuildable=str(error))
        record.architecture(proposal.candidate.key, proposal.candidate.architecture)
        values = proposal.cost.values()
        record.costs(values)
        if self.breaks(values):
            return self._infeasible(record, values)
        cache = EvaluationCache.of(trial.storage)
        try:
            values |= self._latency(record, cache, proposal.candidate)
            if self.breaks(values):
                return self._infeasible(record, values)
            values |= self._evaluate(trial, record, cache, proposal.candidate).values
        except optuna.TrialPruned:
            record.constraints(self._violations(values))
            raise
        except RuntimeError as error:
            # What passed on the meta device may still fail with real numbers.
            return self._infeasible(record, values, **_blame(error))
        return self._judged(record, values)

    def _judged(
        self, record: TrialRecord, values: Mapping[str, float]
    ) -> float | tuple[float, ...]:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        wrong = [name for name in self.metrics if name in values and name not in finite]
        if wrong:  # Optuna would fail the trial, and samplers learn nothing from that
            return self._infeasible(record, finite, unbuildable=f"{wrong[0]} is not finite")
        if self.breaks(finite):
            return self._infeasible(record, finite)
        record.constraints(self._violations(finite))
        return self._told(finite)

    def proposal(self, params: Mapping[str, Any]) -> Proposal | None:
        """Return what the space makes of `params` if it is within all limits known by counting."""
        try:
            proposal = propose_params(self.space, params)
        except UNBUILDABLE:
            return None
        return None if self.breaks(proposal.cost.values()) else proposal

    def _violations(self, values: Mapping[str, float]) -> dict[str, float]:
        return self.constraints.violations(values) if self.constraints else {}

    def breaks(self, values: Mapping[str, float]) -> bool:
        """Whether metric values, as far as they are known, are beyond a limit."""
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
        """Ask for the latency if someone wants it and the evaluator does not bring it."""
        asked = "latency_ms" in self.metrics or "max_latency_ms" in self.limits
        if not asked or "latency_ms" in self.evaluator.provides:
            return {}
        return dict(self.stopwatch.recorded(candidate, cache, record).values)

    @cached_property
    def stopwatch(self) -> Stopwatch:
        """What tells the latency of a candidate."""
        platform = self.constraints.target_platform if self.constraints else "cpu"
        return Stopwatch(self.latency, self.space.input_shape, platform)

    def _evaluate(
        self,
        trial: optuna.Trial,
        record: TrialRecord,
        cache: EvaluationCache,
        candidate: Candidate,
    ) -> Metrics:
        predicted = self._predict(trial, record, candidate)
        if predicted is not None:
            return predicted
        measuring = self.evaluator.measuring
        key = evaluation_key(measuring, candidate.key)
        if not measuring.cacheable:
            metrics = self._train(trial, record, candidate)
            record.evaluated(metrics, cached=False)
            return metrics
        with claimed(trial, key, cache) as stored:
            if stored is None:
                self._prune_again(trial, record, candidate)
                metrics = cache.put(key, self._train(trial, record, candidate))
        if stored is not None:
            return self._recalled(trial, record, candidate, stored)
        record.evaluated(metrics, cached=False)
        return metrics

    def _prune_again(self, trial: optuna.Trial, record: TrialRecord, candidate: Candidate) -> None:
        """Prune a trial whose network was pruned before."""
        stopped = None if self.pruner is None else _pruned_before(trial, candidate.key)
        if stopped is not None:
            record.evaluated(stopped, cached=True)
            raise optuna.TrialPruned

    def _recalled(
        self, trial: optuna.Trial, record: TrialRecord, candidate: Candidate, stored: Metrics
    ) -> Metrics:
        """Answer with a stored result."""
        record.evaluated(stored, cached=True)
        return stored

    def _predict(
        self, trial: optuna.Trial, record: TrialRecord, candidate: Candidate
    ) -> Metrics | None:
        """Ask the evaluator for an estimate, which is marked and never stored as a result."""
        study, states = trial.study, (TrialState.COMPLETE,)
        predicted = self.evaluator.predict(
            candidate,
            trial.user_attrs[COSTS],
            lambda: study.get_trials(deepcopy=False, states=states),
        )
        if predicted is not None:
            record.predicted(predicted)
        return predicted

    def _train(self, trial: optuna.Trial, record: TrialRecord, candidate: Candidate) -> Metrics:
        """Let the evaluator judge, under the pruner's eyes; what was spent is kept either way."""
        began = time.perf_counter()
        curve: list[float] = []

        def watch(step: int, accuracy: float) -> None:
            record.report(step, accuracy)
            curve.append(accuracy)
            if self.pruner is not None and self._prunes(trial, self.pruner):
                raise optuna.TrialPruned

        try:
            return self.evaluator.evaluate(candidate, watch)
        except optuna.TrialPruned:
            seconds = time.perf_counter() - began
            epochs = len(curve) * self.evaluator.epochs_per_report
            spent = Metrics({}, epochs, seconds, tuple(curve), {"stopped": "pruned"})
            record.evaluated(spent, cached=False)
            raise

    def _prunes(self, trial: optuna.Trial, pruner: BasePruner) -> bool:
        try:
            return should_prune(trial, pruner, metrics=self.metrics)
        except RuntimeError as error:  # which would otherwise pass for one of the network's
            raise SettingError(f"The pruner {type(pruner).__name__} failed: {error}") from error


def evaluation_key(evaluator: Evaluator, digest: str) -> EvaluationKey:
    """Under what the result of an evaluator is stored.

    Args:
        evaluator: One that measures.
        digest: Key of the candidate.
    """
    identity = evaluator.identity()
    return EvaluationKey(
        digest=digest,
        evaluator=evaluator.fingerprint,
        data=str(identity.get("data", "")),
        seed=int(cast(int, identity.get("seed", 0))),
    )


def _blame(error: RuntimeError) -> dict[str, str]:
    """What a failure says against the network: it is too large for the device, or unbuildable.

    Raises:
        RuntimeError: It is `error` that says nothing against it, since the device broke. After
            most such errors no other network runs in this process either.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY):
        return {"out_of_memory": text}
    broken = getattr(torch, "AcceleratorError", ())  # which torch 2.6 has not
    if isinstance(error, broken) or text.startswith("CUDA error"):
        raise error
    return {"unbuildable": text}


def _checked(pruner: BasePruner | None, metrics: Sequence[str]) -> BasePruner | None:
    if pruner is not None and not isinstance(pruner, BasePruner):
        raise SettingError(
            f"pruner must be an Optuna pruner or nas.pruners.ParetoPruner(), got {pruner!r}."
        )
    if pruner is not None and "accuracy" not in metrics:
        raise SettingError(
            f"A pruner goes by the accuracy, which is none of the metrics {tuple(metrics)}; "
            "add it, or leave the pruner out."
        )
    return pruner


def _pruned_before(trial: optuna.Trial, key: str) -> Metrics | None:
    """What an earlier trial spent on the same network until it was pruned."""
    # One that another worker is about to tell as pruned counts too: its claim is released by then.
    states = (TrialState.PRUNED, TrialState.RUNNING)
    for earlier in trial.study.get_trials(deepcopy=False, states=states):
        attrs = earlier.user_attrs
        stopped = attrs.get(NOTES, {}).get("stopped") == "pruned"
        if stopped and attrs.get(DIGEST) == key and CACHED not in attrs and CURVE in attrs:
            return Metrics(
                {},
                epochs=attrs[EPOCHS],
                seconds=attrs[SECONDS],
                curve=tuple(attrs[CURVE]),
                notes=attrs.get(NOTES, {}),
            )
    return None


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

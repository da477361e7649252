"""What a trial keeps beside its values: attributes under the prefix `nas:`, and constraints."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from nas_optuna.architecture import Architecture
from nas_optuna.metrics import Metrics

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)  # count as trials, and are learned from

ARCHITECTURE = "nas:architecture"  # JSON text
DIGEST = "nas:digest"
COSTS = "nas:costs"  # by metric name
# median_ms, iqr_ms or the table that predicts, threads, device; on CUDA memory_mb
LATENCY = "nas:latency"
INFEASIBLE = "nas:infeasible"  # why, in words; absent if feasible
CACHED = "nas:cached"  # true if the values come from an earlier evaluation
EPOCHS = "nas:epochs"  # what the evaluation cost, also where it was answered from the cache
SECONDS = "nas:seconds"
CURVE = "nas:curve"  # validation accuracy after each epoch
NOTES = "nas:notes"
MEASURED = "nas:measured"  # what the evaluator measured, by metric name
SAMPLING = "nas:sampling_seconds"  # spent in the sampler, if `Search` ran the trial
PREDICTED = "nas:predicted"  # true if the evaluator estimated the values and measured nothing

FAILED = "nas:failed"  # what ended a trial that failed, in words; absent if its process died
STOPPED = "stopped by a signal"  # what it says where a signal ended the trial

QUESTION = "nas:search"  # study attribute: what was asked, compared when a study is resumed
# Study attribute, followed by a digest: how and where some of its trials were run.
SETUP = "nas:setup:"
# Study attribute, followed by a trial's number: what its network reached after full training.
HEALTH = "nas:health:"

_LONGEST_REASON = 500  # characters


class TrialRecord:
    """Writes what became of one trial into its attributes.

    Args:
        trial: The running trial.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def architecture(self, key: str, architecture: Architecture | None) -> None:
        """Keep the digest, and the architecture if there is one."""
        self._trial.set_user_attr(DIGEST, key)
        if architecture is not None:
            self._trial.set_user_attr(ARCHITECTURE, architecture.to_json())

    def costs(self, values: Mapping[str, float]) -> None:
        """Keep all costs, also those that are no objective."""
        self._trial.set_user_attr(COSTS, dict(values))

    def latency(self, measured: Metrics, *, threads: int, device: str) -> None:
        """Keep the latency with its spread, or the table it is from, and where it was measured.

        On a device that keeps count the peak memory was measured with it.
        """
        kept: dict[str, Any] = {"median_ms": measured.values["latency_ms"]}
        if "table" in measured.notes:
            kept["table"] = measured.notes["table"]
        else:
            kept["iqr_ms"] = float(measured.notes.get("iqr_ms", "nan"))
        if "memory_mb" in measured.values:
            kept["memory_mb"] = measured.values["memory_mb"]
        self._trial.set_user_attr(LATENCY, {**kept, "threads": threads, "device": device})

    def report(self, step: int, accuracy: float) -> None:
        """Keep one point of the learning curve while the trial runs.

        Optuna's own `trial.report` refuses in multi-objective studies; its storage does not.
        """
        storage, trial_id = self._trial.storage, self._trial._trial_id
        storage.set_trial_intermediate_value(trial_id, step, accuracy)

    def evaluated(self, metrics: Metrics, *, cached: bool) -> None:
        """Keep what the evaluation cost and its learning curve."""
        self._trial.set_user_attr(EPOCHS, metrics.epochs)
        self._trial.set_user_attr(SECONDS, round(metrics.seconds, 4))
        if cached:
            self._trial.set_user_attr(CACHED, True)
        if metrics.curve:
            self._trial.set_user_attr(CURVE, [round(value, 6) for value in metrics.curve])
        if metrics.values:
            self._trial.set_user_attr(MEASURED, dict(metrics.values))
        if metrics.notes:
            self._trial.set_user_attr(NOTES, dict(metrics.notes))

    def predicted(self, metrics: Metrics) -> None:
        """Mark the trial as one whose values are an estimate; its spread is in the notes."""
        self._trial.set_user_attr(PREDICTED, True)
        self._trial.set_user_attr(EPOCHS, metrics.epochs)
        self._trial.set_user_attr(SECONDS, round(metrics.seconds, 4))
        self._trial.set_user_attr(NOTES, dict(metrics.notes))

    def infeasible(self, violations: Mapping[str, float], reason: str) -> None:
        """Mark the trial as infeasible, with the reason in words and the violations graded."""
        self._trial.set_user_attr(INFEASIBLE, reason)
        self.constraints(violations)

    def failed(self, error: BaseException) -> None:
        """Keep what ended the trial, unless that is the database itself."""
        if isinstance(error, SQLAlchemyError | StorageInternalError):
            return
        told = STOPPED if isinstance(error, KeyboardInterrupt) else _in_a_line(error)
        with suppress(Exception):  # another worker may have taken the trial over
            self._trial.set_user_attr(FAILED, told)

    def constraints(self, violations: Mapping[str, float]) -> None:
        """Tell Optuna the violations, and the dashboard, which reads only the older list."""
        if not violations:
            return
        for name, excess in violations.items():
            self._trial.set_constraint(name, excess)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            storage, trial_id = self._trial.storage, self._trial._trial_id
            storage.set_trial_system_attr(trial_id, "constraints", list(violations.values()))


def _in_a_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST_REASON]

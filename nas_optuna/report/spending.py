"""What became of the trials of a study, what they cost, and why some failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.recording import CACHED, EPOCHS, FAILED, INFEASIBLE, PREDICTED, SAMPLING, SECONDS
from nas_optuna.report.progress import clock
from nas_optuna.report.tables import percent
from nas_optuna.storage.ownership import RETRY_OF

_LOST = "Its process ended without a word, or was not heard of for too long"


@dataclass(frozen=True, slots=True)
class Spending:
    """The account of a study.

    Args:
        counts: Trials by what became of them, those that there are.
        evaluations: Networks that were really judged: not answered from the cache or predicted.
        epochs: What these cost, in passes over the full training part.
        seconds: What these cost in wall-clock time, over all workers.
        saved_epochs: What the answers from the cache would have cost.
        sampling: Seconds of the sampler; None if nothing timed it.
        elapsed: Seconds from the first start of a trial to the last end; None before that.
        failures: Numbers of failed trials by reason.
        retries: Trials that repeat a failed one.
    """

    counts: dict[str, int]
    evaluations: int
    epochs: float
    seconds: float
    saved_epochs: float
    sampling: float | None
    elapsed: float | None
    failures: dict[str, list[int]]
    retries: int

    @property
    def rows(self) -> list[tuple[str, str]]:
        """It as names and texts."""
        rows = [(name, f"{count:,}") for name, count in self.counts.items()]
        rows.append(("evaluations", f"{self.evaluations:,}, {self._cost(self.epochs)}"))
        rows.append(("evaluating", f"{_time(self.seconds)} over all workers"))
        if self.counts.get("answered from the cache"):
            rows.append(("saved by the cache", self._cost(self.saved_epochs)))
        if self.sampling is not None:
            whole = self.sampling + self.seconds
            share = f" ({percent(self.sampling / whole, 1)})" if whole else ""
            rows.append(("sampler", f"{_time(self.sampling)}{share}"))
        if self.elapsed is not None:
            rows.append(("from first to last", _time(self.elapsed)))
        return rows

    @staticmethod
    def _cost(epochs: float) -> str:
        return f"{epochs:,.4g} epochs" if epochs < 1000 else f"{epochs:,.0f} epochs"


def spending(study: Study) -> Spending:
    """Add up what a study has spent."""
    trials = study.get_trials(deepcopy=False)
    judged = [t for t in trials if EPOCHS in t.user_attrs]
    paid = [t for t in judged if not {CACHED, PREDICTED} & set(t.user_attrs)]
    cached = [t for t in judged if CACHED in t.user_attrs]
    times = [t.user_attrs[SAMPLING] for t in trials if SAMPLING in t.user_attrs]
    return Spending(
        counts=_counts(trials),
        evaluations=len(paid),
        epochs=sum(t.user_attrs[EPOCHS] for t in paid),
        seconds=sum(t.user_attrs[SECONDS] for t in paid),
        saved_epochs=sum(t.user_attrs[EPOCHS] for t in cached),
        sampling=sum(times) if times else None,
        elapsed=_elapsed(trials),
        failures=_failures(trials),
        retries=sum(RETRY_OF in t.system_attrs for t in trials),
    )


def _counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    counts = Counter(_became(trial) for trial in trials)
    order = (
        "evaluated", "predicted", "answered from the cache", "stopped early", "infeasible",
        "failed", "running", "waiting",
    )  # fmt: skip
    return {"trials": len(trials)} | {name: counts[name] for name in order if counts[name]}


def _became(trial: FrozenTrial) -> str:
    states = {
        TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed",
        TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
    }  # fmt: skip
    if trial.state in states:
        return states[trial.state]
    marks = {INFEASIBLE: "infeasible", PREDICTED: "predicted", CACHED: "answered from the cache"}
    return next((told for mark, told in marks.items() if mark in trial.user_attrs), "evaluated")


def _elapsed(trials: Sequence[FrozenTrial]) -> float | None:
    starts = [t.datetime_start for t in trials if t.datetime_start]
    ends = [t.datetime_complete for t in trials if t.datetime_complete]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else None


def _failures(trials: Sequence[FrozenTrial]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for trial in trials:
        if trial.state is TrialState.FAIL:
            found.setdefault(trial.user_attrs.get(FAILED, _LOST), []).append(trial.number)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{clock(seconds)} {'min' if seconds < 3600 else 'h'}"

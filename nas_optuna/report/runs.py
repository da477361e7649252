"""One study of a comparison as numbers: what its trials found, and what they cost alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.recording import DIGEST, EPOCHS, FINISHED, PREDICTED, SAMPLING, SECONDS
from nas_optuna.report import statistics
from nas_optuna.report.scoring import FloatArray

BUDGETS = ("trials", "evaluations", "epochs", "seconds")
"""What a study spends: finished trials; evaluations, of each network one unless it is judged
again; passes over the training data; seconds of evaluations and of the sampler."""

KINDS = ("evaluated", "predicted", "pruned", "repeated", "infeasible")
"""What becomes of a trial. A repeated one had a network that the study had judged before."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where each study of a comparison ends, whichever comes first.

    Args:
        trials: Finished trials.
        epochs: Epochs spent; None for no limit.
        seconds: Seconds spent; None for no limit.
    """

    trials: int
    epochs: float | None = None
    seconds: float | None = None

    @property
    def budget(self) -> str:
        """The budget that is compared at: the one that was limited on purpose."""
        if self.epochs is not None:
            return "epochs"
        return "trials" if self.seconds is None else "seconds"

    def reached(self, spent: Mapping[str, float]) -> bool:
        """Whether a study that has spent so much is at its end."""
        limits = {"trials": self.trials, "epochs": self.epochs, "seconds": self.seconds}
        return any(
            limit is not None and spent[budget] >= limit for budget, limit in limits.items()
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One sampler from one seed.

    Args:
        sampler: Name of the strategy.
        seed: Its seed.
        values: `(n, m)` objective values of finished trials, in order; NaN where a trial is
            infeasible or was pruned.
        spent: By budget, `(n,)` what the study has spent after each trial. A network costs what
            its evaluation cost, also where another study had paid for it, and only once unless
            it is judged again.
        kinds: `(n,)` what became of each trial, one of `KINDS`.
        params: `(n,)` the genomes.
        sampling: `(n,)` seconds that the sampler took.
    """

    sampler: str
    seed: int
    values: FloatArray
    spent: Mapping[str, FloatArray]
    kinds: tuple[str, ...]
    params: tuple[Mapping[str, object], ...]
    sampling: FloatArray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def feasible(self) -> np.ndarray:
        """`(n,)` whether a trial has values and keeps all limits."""
        return np.asarray(np.isfinite(self.values).all(axis=1))

    def share(self, kind: str) -> float:
        """Share of the trials that are of one kind, in [0, 1]."""
        return self.kinds.count(kind) / len(self)

    def total(self, budget: str) -> float:
        """What the study has spent in all."""
        return float(self.spent[budget][-1])


class Account:
    """Adds up what a study spends, as if it had been alone with its database.

    Args:
        by_digest: Whether networks of one digest have one result, and are paid once; else those
            of one genome.
        free_repeats: Whether a network that was judged costs nothing the next time; False where
            it is judged again.
    """

    def __init__(self, *, by_digest: bool = True, free_repeats: bool = True) -> None:
        self._by_digest = by_digest
        self._free_repeats = free_repeats
        self._paid: set[str] = set()
        self.spent = dict.fromkeys(BUDGETS, 0.0)
        """What was spent so far, by budget."""

    def add(self, trial: FrozenTrial) -> str:
        """Count a finished trial; returns what became of it, one of `KINDS`."""
        attrs = trial.user_attrs
        kind = self._kind(trial)
        self.spent["trials"] += 1
        self.spent["seconds"] += attrs.get(SAMPLING, 0.0)
        if EPOCHS in attrs and not (self._free_repeats and kind == "repeated"):
            self.spent["evaluations"] += PREDICTED not in attrs
            self.spent["epochs"] += attrs[EPOCHS]
            self.spent["seconds"] += attrs[SECONDS]
        return kind

    def _kind(self, trial: FrozenTrial) -> str:
        attrs = trial.user_attrs
        key = self._key(trial)
        repeated = key in self._paid
        if PREDICTED not in attrs:
            self._paid.add(key)
        if repeated:
            return "repeated"
        if trial.state is TrialState.PRUNED:
            return "pruned"
        if not statistics.is_feasible(trial):
            return "infeasible"
        return "predicted" if PREDICTED in attrs else "evaluated"

    def _key(self, trial: FrozenTrial) -> str:
        if self._by_digest and DIGEST in trial.user_attrs:
            return str(trial.user_attrs[DIGEST])
        return json.dumps(trial.params, sort_keys=True, default=str)


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Trials that are complete or pruned, by number; not copied, so do not change them."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def read_run(
    study: Study, *, sampler: str, seed: int, limits: Limits, account: Account | None = None
) -> Run:
    """Read a study's finished trials, up to the limits.

    Args:
        study: The study.
        sampler: Name of its strategy.
        seed: Its seed.
        limits: What comes after them is left out.
        account: Adds up what the study spends; it is empty. None for one with a cache.
    """
    account = account or Account()
    trials: list[FrozenTrial] = []
    kinds: list[str] = []
    spent: list[list[float]] = []
    for trial in finished_trials(study):
        if limits.reached(account.spent):
            break
        trials.append(trial)
        kinds.append(account.add(trial))
        spent.append([account.spent[budget] for budget in BUDGETS])
    columns = np.array(spent, dtype=np.float64).reshape(-1, len(BUDGETS)).T
    return Run(
        sampler=sampler,
        seed=seed,
        values=_values(trials, len(study.directions)),
        spent=dict(zip(BUDGETS, columns, strict=True)),
        kinds=tuple(kinds),
        params=tuple(dict(trial.params) for trial in trials),
        sampling=np.array([trial.user_attrs.get(SAMPLING, 0.0) for trial in trials]),
    )


def _values(trials: Sequence[FrozenTrial], width: int) -> FloatArray:
    missing = [np.nan] * width
    rows = [t.values if statistics.is_feasible(t) else missing for t in trials]
    return np.array(rows, dtype=np.float64).reshape(-1, width)

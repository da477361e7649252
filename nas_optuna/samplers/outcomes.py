"""The finished trials of a study as what a model learns from: genomes, losses and violations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.recording import DIGEST, FINISHED
from nas_optuna.samplers.gaussian import FloatArray
from nas_optuna.spaces.drawing import Params

_RESOLUTION = 0.3  # share of the median distance to the best below which targets hardly differ
_LARGEST = 50.0  # exponent


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The finished trials of a study, by number.

    Args:
        numbers: Numbers of the n trials.
        genomes: Their genomes.
        losses: `(n, m)` values, minimised; NaN for trials that are pruned or infeasible, or have
            a value that is not finite.
        violations: `(n,)` worst violation of each, squashed into (-1, 1): positive if a limit is
            broken; NaN where a trial told none.
        pruned: `(n,)` whether the trial was pruned.
        digests: Digests of the networks, as far as they were recorded.
    """

    numbers: frozenset[int]
    genomes: list[Params]
    losses: FloatArray
    violations: FloatArray
    pruned: NDArray[np.bool_]
    digests: frozenset[str]

    @classmethod
    def of(cls, study: Study) -> Outcomes:
        """Read a study."""
        trials = sorted(
            study._get_trials(deepcopy=False, states=FINISHED, use_cache=True),
            key=lambda trial: trial.number,
        )
        signs = [-1.0 if d is StudyDirection.MAXIMIZE else 1.0 for d in study.directions]
        unknown = [np.nan] * len(signs)
        values = [trial.values if _counts(trial) else unknown for trial in trials]
        return cls(
            numbers=frozenset(trial.number for trial in trials),
            genomes=[trial.params for trial in trials],
            losses=np.array(values, dtype=np.float64).reshape(-1, len(signs)) * signs,
            violations=np.array([_violation(trial) for trial in trials], dtype=np.float64),
            pruned=np.array([trial.state is TrialState.PRUNED for trial in trials], dtype=bool),
            digests=frozenset(t.user_attrs[DIGEST] for t in trials if DIGEST in t.user_attrs),
        )

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Whether each trial has values that count, `(n,)`."""
        return np.asarray(np.isfinite(self.losses).all(axis=1), dtype=np.bool_)

    @property
    def standing(self) -> FloatArray:
        """Minus the front that each trial is in, `(n,)`: 0 is best; NaN where no values count."""
        standing = np.full(len(self.genomes), np.nan)
        if self.feasible.any():
            standing[self.feasible] = -moocore.pareto_rank(self.losses[self.feasible])
        return standing

    def best(self, count: int) -> list[Params]:
        """Return the first `count` feasible genomes by rank; all of the front if it is larger.

        As long as none is feasible, those with the least violation.
        """
        standing = self.standing
        if np.isnan(standing).all():
            order = np.argsort(self.violations, kind="stable")
            return [self.genomes[i] for i in order[:count]]
        if self.losses.shape[1] > 1:
            count = max(count, int((standing == 0).sum()))
        count = min(count, int(self.feasible.sum()))
        return [self.genomes[i] for i in np.argsort(-standing, kind="stable")[:count]]

    @property
    def targets(self) -> FloatArray:
        """How close each trial comes to the best of each objective, `(n, m)`; see `Scale`.

        NaN where there are no values.
        """
        targets = np.full(self.losses.shape, np.nan)
        for target, losses in zip(targets.T, self.losses[self.feasible].T, strict=True):
            target[self.feasible] = Scale.of(losses, logarithmic=True).targets(losses)
        return targets


@dataclass(frozen=True, slots=True)
class Scale:
    """Losses as what a model learns: larger is better, of mean 0 and variance 1.

    The logarithmic one is of the distance to the least loss. It tells good from very good, and
    takes all failures for about the same.

    Args:
        least: Least loss.
        unit: Median distance to it.
        centre: Mean of the targets before they are standardised,
        spread: and their standard deviation.
        logarithmic: Whether targets are logarithms.
    """

    least: float
    unit: float
    centre: float
    spread: float
    logarithmic: bool

    @classmethod
    def of(cls, losses: FloatArray, *, logarithmic: bool) -> Scale:
        """Fit the scale to losses, `(n,)`.

        Example:
            >>> losses = np.array([1.0, 2.0, 3.0, 1000.0])
            >>> scale = Scale.of(losses, logarithmic=True)
            >>> scale.targets(losses).round(1).tolist()
            [0.9, 0.5, 0.3, -1.7]
            >>> scale.losses(scale.targets(losses)).round().tolist()
            [1.0, 2.0, 3.0, 1000.0]
        """
        if not len(losses):
            return cls(0.0, 1.0, 0.0, 1.0, logarithmic)
        least = float(losses.min())
        plain = cls(least, max(float(np.median(losses - least)), 1e-12), 0.0, 1.0, logarithmic)
        targets = plain.targets(losses)
        return replace(plain, centre=float(targets.mean()), spread=float(targets.std()) or 1.0)

    def targets(self, losses: FloatArray) -> FloatArray:
        """Return the targets of losses, `(n,)`."""
        gaps = (losses - self.least) / self.unit
        raw = -np.log(gaps + _RESOLUTION) if self.logarithmic else -gaps
        return np.asarray((raw - self.centre) / self.spread, dtype=np.float64)

    def losses(self, targets: FloatArray) -> FloatArray:
        """Return the losses of targets, `(n,)`; some may be less than the least."""
        raw = targets * self.spread + self.centre
        gaps = np.exp(np.minimum(-raw, _LARGEST)) - _RESOLUTION if self.logarithmic else -raw
        return np.asarray(self.least + self.unit * gaps, dtype=np.float64)

    def log_slope(self, losses: FloatArray) -> float:
        """Sum of the logarithms of the slope at each loss, which a likelihood has as a factor."""
        steepness = -np.log(self.unit * self.spread) * len(losses)
        if self.logarithmic:
            steepness -= np.log((losses - self.least) / self.unit + _RESOLUTION).sum()
        return float(steepness)


def chosen(targets: FloatArray, count: int) -> NDArray[np.int64]:
    """Return the places of the best half and the newest half of `count` targets, ascending.

    Args:
        targets: `(n,)` larger is better; NaN counts as worst.
        count: How many; all if there are no more.

    Example:
        >>> chosen(np.array([9.0, np.nan, 1.0, 8.0, 0.0, 2.0]), 4).tolist()
        [0, 3, 4, 5]
    """
    places = np.arange(len(targets), dtype=np.int64)
    if len(targets) <= count:
        return places
    best = np.argsort(-np.where(np.isnan(targets), -np.inf, targets), kind="stable")[: count // 2]
    newest = places[~np.isin(places, best)][-(count - len(best)) :]
    return np.sort(np.concatenate([best, newest]))


def _counts(trial: FrozenTrial) -> bool:
    if trial.state is not TrialState.COMPLETE or not np.isfinite(trial.values).all():
        return False
    return all(violation <= 0 for violation in trial.constraints.values())


def _violation(trial: FrozenTrial) -> float:
    worst = float(np.clip(max(trial.constraints.values(), default=np.nan), -1e6, 1e6))
    return worst / (1.0 + abs(worst))

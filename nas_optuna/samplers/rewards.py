"""What finished trials are worth to a strategy that learns from rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import rankdata

from nas_optuna.errors import SettingError

FloatArray = NDArray[np.float64]

_INFEASIBLE, _PRUNED, _COMPLETE = 0.0, 1.0, 2.0


class Reward(Protocol):
    """Makes one number of several objectives.

    Its `repr` names all its settings.
    """

    @property
    def weighted(self) -> bool:
        """Whether each episode draws weights, which the controller reads."""

    def __call__(
        self, values: FloatArray, directions: Sequence[StudyDirection], weights: FloatArray
    ) -> FloatArray:
        """Score trials against each other; larger is better.

        Args:
            values: `(n, m)` objective values of feasible finished trials, all finite.
            directions: `(m,)` directions of the objectives.
            weights: `(m,)` weights of the objectives in this episode, not negative, of sum 1;
                empty if it is not `weighted`.

        Returns:
            `(n,)` scores, of which only the order counts.
        """


@dataclass(frozen=True)
class RandomWeights:
    """Scalarise by the episode's own weights, so that all episodes together cover the front.

    The augmented Chebyshev scalarisation `-max_j(w_j q_j) - augmentation sum_j(w_j q_j)` (Knowles
    2006, eq. 2), where `q_j` is the share of trials that are not worse in objective j: shares
    need no ranges of the objectives to be known, and no outlier changes them.

    Args:
        augmentation: Weight of the sum; above 0, so that no weakly dominated trial wins.
    """

    augmentation: float = 0.05
    weighted: ClassVar[bool] = True

    def __call__(
        self, values: FloatArray, directions: Sequence[StudyDirection], weights: FloatArray
    ) -> FloatArray:
        """Score trials; see `Reward`."""
        shares = rankdata(_minimised(values, directions), method="max", axis=0) / len(values)
        weighted = shares * weights
        return np.asarray(-weighted.max(axis=1) - self.augmentation * weighted.sum(axis=1))


@dataclass(frozen=True)
class MnasNet:
    """`accuracy * prod_j (cost_j / target_j)^exponent` (Tan et al. 2019, eq. 2).

    The first objective is the accuracy, which is maximised, the others are costs above 0.

    Args:
        targets: A target for each cost, in its unit.
        exponent: -0.07 in the paper: a cost twice as high must buy 5 % more accuracy.
    """

    targets: tuple[float, ...]
    exponent: float = -0.07
    weighted: ClassVar[bool] = False

    def __call__(
        self, values: FloatArray, directions: Sequence[StudyDirection], weights: FloatArray
    ) -> FloatArray:
        """Score trials; see `Reward`.

        Raises:
            SettingError: The objectives are not one accuracy and a cost for each target.
        """
        wanted = [StudyDirection.MAXIMIZE] + [StudyDirection.MINIMIZE] * len(self.targets)
        if list(directions) != wanted:
            raise SettingError(
                f"The reward MnasNet wants an accuracy to maximise and {len(self.targets)} costs "
                f"to minimise, one for each target, got {[d.name.lower() for d in directions]}."
            )
        ratios = np.maximum(values[:, 1:] / self.targets, 1e-12)
        return np.asarray(values[:, 0] * np.prod(ratios**self.exponent, axis=1))


@dataclass(frozen=True)
class HypervolumeImprovement:
    """What the front's hypervolume would lose without a trial; others by their layer.

    All trials of a later non-dominated layer score below those of an earlier one. The reference
    point is a tenth of each objective's range beyond the worst.
    """

    weighted: ClassVar[bool] = False

    def __call__(
        self, values: FloatArray, directions: Sequence[StudyDirection], weights: FloatArray
    ) -> FloatArray:
        """Score trials; see `Reward`."""
        losses = _minimised(values, directions)
        layers = np.asarray(moocore.pareto_rank(losses), dtype=np.float64)
        span = losses.max(axis=0) - losses.min(axis=0)
        reference = losses.max(axis=0) + 0.1 * np.where(span > 0, span, 1.0)
        front = layers == layers.min()
        shares = np.zeros(len(losses))
        shares[front] = moocore.hv_contributions(losses[front], ref=reference)
        return np.asarray(shares / max(shares.sum(), 1e-300) - layers)


def standings(
    trials: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
    reward: Reward,
    weights: FloatArray,
) -> FloatArray:
    """Share of trials that each trial is better than; equals share their places.

    Feasible finished trials come first, then pruned ones by the last point of their curve, then
    those that broke a constraint by how far they are beyond it. In a study of several objectives
    curves are accuracies.

    Args:
        trials: n finished or pruned trials.
        directions: `(m,)` directions of the study.
        reward: Makes one score of several objectives.
        weights: `(m,)` weights that it uses.

    Returns:
        `(n,)` in (0, 1).
    """
    keys = np.array([_key(trial, directions) for trial in trials])
    complete = keys[:, 0] == _COMPLETE
    if complete.any() and len(directions) > 1:
        finished = [
            trial for trial, is_complete in zip(trials, complete, strict=True) if is_complete
        ]
        values = np.array([trial.values for trial in finished], dtype=np.float64)
        keys[complete, 1] = reward(values, directions, weights)
    places = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    return np.asarray((rankdata(places) - 0.5) / len(trials))


def _key(trial: FrozenTrial, directions: Sequence[StudyDirection]) -> tuple[float, float]:
    """Kind of a trial, and its place among its kind; larger is better in both."""
    violations = [violation for violation in trial.constraints.values() if violation > 0]
    if violations:
        return _INFEASIBLE, -min(sum(violations), 1e300)
    if trial.state is TrialState.PRUNED:
        curve = trial.intermediate_values
        if not curve:
            return _PRUNED, -math.inf
        last = curve[max(curve)]
        rising = len(directions) > 1 or directions[0] is StudyDirection.MAXIMIZE
        return _PRUNED, -math.inf if math.isnan(last) else last if rising else -last
    if not all(math.isfinite(value) for value in trial.values):
        return _INFEASIBLE, -math.inf
    value = trial.values[0]
    return _COMPLETE, value if directions[0] is StudyDirection.MAXIMIZE else -value


def _minimised(values: FloatArray, directions: Sequence[StudyDirection]) -> FloatArray:
    signs = [-1.0 if direction is StudyDirection.MAXIMIZE else 1.0 for direction in directions]
    return np.asarray(values * signs)

"""`ParetoPruner`: successive halving by Pareto rank, and no training that cannot reach the front.

[schmucker2021] R. Schmucker, M. Donini, M. B. Zafar, D. Salinas, C. Archambeau. Multi-objective
    Asynchronous Successive Halving. arXiv:2106.12639, 2021.
[laumanns2002] M. Laumanns, L. Thiele, K. Deb, E. Zitzler. Combining Convergence and Diversity in
    Evolutionary Multiobjective Optimization. Evolutionary Computation 10(3), 2002.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.errors import SettingError
from nas_optuna.pruners.view import known_costs, no_larger

_REACHED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class _Curve:
    """A learning curve, upwards, and what its trial costs."""

    steps: Sequence[int]  # ascending
    best: Sequence[float]  # the best accuracy up to each step
    costs: dict[str, float]
    finished: bool

    @classmethod
    def of(cls, trial: FrozenTrial, sign: float) -> _Curve:
        steps = sorted(trial.intermediate_values)
        points = [sign * trial.intermediate_values[step] for step in steps]
        best = np.fmax.accumulate(points).tolist()  # NaN only before the first number
        complete = trial.state is TrialState.COMPLETE
        return cls(steps, best, known_costs(trial), complete)

    def at(self, step: int) -> float:
        """The best accuracy up to `step`; NaN if there is none."""
        reached = [best for s, best in zip(self.steps, self.best, strict=True) if s <= step]
        return reached[-1] if reached else math.nan

    def worse(self, accuracy: float, cost: float) -> _Curve:
        """The curve lowered by `accuracy`, at costs larger by the share `cost`."""
        best = [point - accuracy for point in self.best]
        costs = {name: value * (1 + cost) for name, value in self.costs.items()}
        return _Curve(self.steps, best, costs, self.finished)


class ParetoPruner(BasePruner):
    """Prunes what is dominated by too many at a rung, or can no longer reach the front.

    - **Rungs** at `min_resource` times the powers of `reduction_factor`: a trial goes on if its
      rank by non-dominated sorting is among the best `1 / reduction_factor` of all trials that
      reached the rung. Costs are known from the start and count as they are; the accuracy is
      the best up to the rung.
    - **The front**: a trial stops when the most that can be hoped for is less than a finished
      trial reached that is larger in no cost. Hoped for is the larger of two gains: its own
      steepest rise of late, kept up until the longest curve ends; and the largest gain that any
      finished trial made from this step on.
    - **Tolerances** make both stricter: the trial is judged as if it were less accurate and
      larger by so much (epsilon-dominance, [laumanns2002]). Differences within them are hardly
      worth a training, and where networks crowd the front they keep most of them going. With 0,
      what nothing could dominate is never pruned.

    A trial that is as far as the longest finished one goes on: there is nothing left to save.

    Departures from [schmucker2021]: a trial that none dominates always goes on, also where the
    front is larger than the share that a rung lets through, since its hypervolume would be lost;
    ties of rank go on together.

    In a study of several objectives use it through `nas_optuna.pruners.should_prune`, or as
    `pruner=` of `Objective` or `Search`. With a single objective it is successive halving that
    also looks ahead.

    Args:
        min_resource: The first rung, in steps.
        reduction_factor: One of so many trials passes a rung.
        n_startup_trials: Finished trials before the first is pruned.
        accuracy_tolerance: In units of the curve; about its noise, such as 0.01.
        cost_tolerance: As a share of the trial's own costs, such as 0.25.

    Raises:
        SettingError: A setting is out of its range.

    Example:
        >>> import nas_optuna as nas
        >>> search = nas.Search(
        ...     name="digits",
        ...     space=nas.spaces.MacroSpace(input_shape=(1, 8, 8), num_classes=10),
        ...     evaluator=nas.evaluators.FullTraining("digits", epochs=12),
        ...     pruner=ParetoPruner(min_resource=2),
        ... )
        >>> search.pruner
        ParetoPruner(min_resource=2, reduction_factor=3, n_startup_trials=4)
    """

    def __init__(
        self,
        *,
        min_resource: int = 1,
        reduction_factor: int = 3,
        n_startup_trials: int = 4,
        accuracy_tolerance: float = 0.0,
        cost_tolerance: float = 0.0,
    ) -> None:
        for name, value, least in (
            ("min_resource", min_resource, 1),
            ("reduction_factor", reduction_factor, 2),
            ("n_startup_trials", n_startup_trials, 1),
            ("accuracy_tolerance", accuracy_tolerance, 0),
            ("cost_tolerance", cost_tolerance, 0),
        ):
            if not value >= least:  # so that NaN is refused, too
                raise SettingError(f"{name} must be at least {least}, got {value!r}.")
        self._min_resource = min_resource
        self._reduction_factor = reduction_factor
        self._n_startup_trials = n_startup_trials
        self._accuracy_tolerance = accuracy_tolerance
        self._cost_tolerance = cost_tolerance

    def __repr__(self) -> str:
        tolerances = {
            "accuracy_tolerance": self._accuracy_tolerance,
            "cost_tolerance": self._cost_tolerance,
        }
        set_ones = "".join(f", {name}={value}" for name, value in tolerances.items() if value)
        return (
            f"ParetoPruner(min_resource={self._min_resource}, "
            f"reduction_factor={self._reduction_factor}, "
            f"n_startup_trials={self._n_startup_trials}{set_ones})"
        )

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Judge a trial by its curve so far.

        Args:
            study: A study of one objective, the curve; its further metric names are costs.
            trial: The running trial.
        """
        if trial.last_step is None or trial.last_step < self._min_resource:
            return False
        sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
        own = _Curve.of(trial, sign).worse(self._accuracy_tolerance, self._cost_tolerance)
        if math.isnan(trial.intermediate_values[trial.last_step]):
            return True
        others = [
            _Curve.of(other, sign)
            for other in study.get_trials(deepcopy=False, states=_REACHED)
            if other.number != trial.number and other.intermediate_values
        ]
        finished = [curve for curve in others if curve.finished]
        if len(finished) < self._n_startup_trials or left(own, finished) == 0:
            return False
        names = (study.metric_names or [])[1:]
        return self._is_outranked(own, others, names) or is_hopeless(own, finished, names)

    def _is_outranked(self, own: _Curve, others: Sequence[_Curve], names: Sequence[str]) -> bool:
        """Whether the trial came to a rung that it does not pass."""
        rung = self._rung(own.steps)
        if rung is None:
            return False
        here = [c for c in others if c.finished or c.steps[-1] >= rung]
        reached = [own.best[-1], *(curve.at(rung) for curve in here)]
        points = np.array(
            [
                [-accuracy, *(curve.costs.get(name, math.inf) for name in names)]
                for accuracy, curve in zip(reached, (own, *here), strict=True)
                if not math.isnan(accuracy)
            ]
        )
        ranks = moocore.pareto_rank(points)
        pass_on = max(len(points) // self._reduction_factor, 1)
        return bool(ranks[0] > 0 and (ranks < ranks[0]).sum() >= pass_on)

    def _rung(self, steps: Sequence[int]) -> int | None:
        """The highest rung that the last step reached and the one before did not."""
        rung = self._min_resource
        while rung * self._reduction_factor <= steps[-1]:
            rung *= self._reduction_factor
        return rung if len(steps) < 2 or steps[-2] < rung else None


def left(own: _Curve, finished: Sequence[_Curve]) -> int:
    """Steps until the longest finished curve ends; 0 from there on."""
    return max(0, *(curve.steps[-1] - own.steps[-1] for curve in finished))


def is_hopeless(own: _Curve, finished: Sequence[_Curve], names: Sequence[str]) -> bool:
    """Whether not even an optimistic end of the curve would reach the front at its cost."""
    front = [c.best[-1] for c in finished if no_larger(c.costs, own.costs, names)]
    step, now = own.steps[-1], own.best[-1]
    if not front or len(own.steps) < 2:
        return False
    rises = np.diff(own.best) / np.diff(own.steps)
    steepest = np.nanmax([0.0, *rises[len(rises) // 2 :]])
    gains = [curve.best[-1] - curve.at(step) for curve in finished]
    return bool(now + max(steepest * left(own, finished), np.nanmax([0.0, *gains])) < max(front))

"""Latency of operations that were not measured, learned from those of the same kind that were."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from sklearn.ensemble import ExtraTreesRegressor

from nas_optuna.models.cost import NodeKey, node_cost
from nas_optuna.operations import Setting

_ENOUGH = 10  # measured operations to learn from; with fewer the nearest one's time is taken
_BEYOND = 10.0  # times what was measured: from there on time is taken to grow in proportion
_TREES = 50
_TINY = 1e-12

Array = npt.NDArray[np.float64]


class Estimator:
    """Estimates one kind of operation.

    Time grows in proportion to what is computed and moved, which holds for sizes not seen as
    well; trees over the settings and shapes learn how far off that is. Of a kind with few
    measured members, each other takes as long as the measured one nearest in size, unless it is
    far larger.

    Args:
        measured: Median milliseconds by operation, all of one kind, at least one.
    """

    def __init__(self, measured: Mapping[NodeKey, float]) -> None:
        texts = {value for _, settings, _ in measured for _, value in settings}
        self._texts = sorted(value for value in texts if isinstance(value, str))
        times = np.array(list(measured.values()))
        x = np.array([_work(key) for key in measured])
        self._largest = x.max(axis=0)
        self._known, self._times = x, times
        self._learned = len(times) >= _ENOUGH
        if self._learned:
            self._learn(measured, x, times)

    def _learn(self, measured: Mapping[NodeKey, float], x: Array, times: Array) -> None:
        # Errors relative to the time, and columns of one scale for the solver.
        relative = x / times[:, None]
        scale = np.maximum(relative.max(axis=0), _TINY)
        self._per_unit = nnls(relative / scale, np.ones(len(times)))[0] / scale
        self._trees = ExtraTreesRegressor(_TREES, random_state=0, n_jobs=1)
        self._trees.fit([self._features(key) for key in measured], np.log(times / self._linear(x)))

    def estimate(self, keys: Sequence[NodeKey]) -> list[float]:
        """Milliseconds of each operation."""
        x = np.array([_work(key) for key in keys])
        times = self._predicted(keys, x) if self._learned else self._nearest(x)
        return [float(time) for time in times]

    def _predicted(self, keys: Sequence[NodeKey], x: Array) -> Array:
        corrections = np.exp(self._trees.predict([self._features(key) for key in keys]))
        # Far beyond what was measured trees know nothing; there the proportion has to do.
        near = (x <= _BEYOND * self._largest).all(axis=1)
        return self._linear(x) * np.where(near, corrections, 1.0)

    def _nearest(self, x: Array) -> Array:
        distances = np.linalg.norm(np.log1p(x)[:, None] - np.log1p(self._known), axis=2)
        chosen = distances.argmin(axis=1)
        growth = (x / np.maximum(self._known[chosen], 1.0)).max(axis=1)
        return np.asarray(self._times[chosen] * np.where(growth > _BEYOND, growth, 1.0))

    def _linear(self, work: Array) -> Array:
        """`(n, features) -> (n,)` milliseconds."""
        return np.asarray(np.maximum(work @ self._per_unit, _TINY), dtype=np.float64)

    def _features(self, key: NodeKey) -> list[float]:
        _, settings, inputs = key
        sides = [*inputs[0], 1, 1][:3]
        numbers = [self._number(value) for _, value in settings]
        return [*map(math.log1p, (*_work(key), *sides)), *numbers]

    def _number(self, value: Setting) -> float:
        if not isinstance(value, str):
            return float(value)
        place = self._texts.index(value) if value in self._texts else len(self._texts)
        return -1.0 - place


def _work(key: NodeKey) -> list[float]:
    return [1.0, len(key[2]), *sizes(key)]


def sizes(key: NodeKey) -> tuple[float, float, float]:
    """How much an operation computes and moves: FLOPs, bytes of weights and of activations."""
    cost = node_cost(*key)
    read = 4 * sum(math.prod(shape) for shape in key[2])
    return cost.flops, cost.weight_bytes, read + cost.peak_bytes

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

ENOUGH = 10  # measured operations of one kind that others are estimated from
_BEYOND = 10.0  # times the largest measured: nobody knows what lies further out
_TREES = 50
_TINY = 1e-12

Array = npt.NDArray[np.float64]


class Estimator:
    """Estimates one kind of operation.

    Time grows in proportion to what is computed and moved, which holds for sizes not seen as
    well; trees over the settings and shapes learn how far off that is.

    Args:
        measured: Median milliseconds by operation, all of one kind, at least `ENOUGH`.
    """

    def __init__(self, measured: Mapping[NodeKey, float]) -> None:
        texts = {value for _, settings, _ in measured for _, value in settings}
        self._texts = sorted(value for value in texts if isinstance(value, str))
        times = np.array(list(measured.values()))
        x = np.array([_work(key) for key in measured])
        self._largest = x.max(axis=0)
        # Errors relative to the time, and columns of one scale for the solver.
        relative = x / times[:, None]
        scale = np.maximum(relative.max(axis=0), _TINY)
        self._per_unit = nnls(relative / scale, np.ones(len(times)))[0] / scale
        self._trees = ExtraTreesRegressor(_TREES, random_state=0, n_jobs=1)
        self._trees.fit([self._features(key) for key in measured], np.log(times / self._linear(x)))

    def estimate(self, keys: Sequence[NodeKey]) -> list[float | None]:
        """Milliseconds of each operation; None for one far larger than all that were measured."""
        x = np.array([_work(key) for key in keys])
        corrections = np.exp(self._trees.predict([self._features(key) for key in keys]))
        near = (x <= _BEYOND * self._largest).all(axis=1)
        times = self._linear(x) * corrections
        return [float(time) if ok else None for time, ok in zip(times, near, strict=True)]

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

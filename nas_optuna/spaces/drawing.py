"""A trial without a study: it answers from given params, and at random where they are silent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FixedTrial

from nas_optuna.errors import SpaceError

Params = dict[str, Any]


class DrawingTrial(FixedTrial):
    """Answers each question from `params` if it has a valid answer there, else by a draw.

    Args:
        params: Answers by name.
        rng: Source of the draws.
        turn: Where given, questions with finitely many answers are not drawn but get the answer
            of this number, counted round: as many turns as there are answers give each once.
    """

    def __init__(
        self, params: Mapping[str, Any], rng: np.random.Generator, *, turn: int | None = None
    ) -> None:
        self._answers = dict(params)
        self._rng = rng
        self._turn = turn
        super().__init__(self._answers)

    def _answer(self, name: str, gene: BaseDistribution) -> None:
        if name not in self._answers or not contains(gene, self._answers[name]):
            count = cardinality(gene)
            if self._turn is None or math.isinf(count):
                self._answers[name] = draw(gene, self._rng)
            else:
                self._answers[name] = next(islice(values(gene), self._turn % int(count), None))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Answer a number in `[low, high]`."""
        self._answer(name, FloatDistribution(low, high, log=log, step=step))
        return super().suggest_float(name, low, high, step=step, log=log)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Answer a whole number in `[low, high]`."""
        self._answer(name, IntDistribution(low, high, log=log, step=step))
        return super().suggest_int(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Answer one of `choices`."""
        self._answer(name, CategoricalDistribution(choices))
        return super().suggest_categorical(name, choices)


def contains(gene: BaseDistribution, value: Any) -> bool:
    """Whether `value` is among a gene's values."""
    if isinstance(gene, CategoricalDistribution):
        return value in gene.choices
    if not isinstance(value, int | float):
        return False
    if isinstance(gene, IntDistribution):
        return gene.low <= value <= gene.high and (value - gene.low) % gene.step == 0
    return isinstance(gene, FloatDistribution) and gene.low <= value <= gene.high


def cardinality(gene: BaseDistribution) -> float:
    """Number of values of a gene; infinite if it is continuous and has more than one."""
    if gene.single():
        return 1
    if isinstance(gene, CategoricalDistribution):
        return len(gene.choices)
    if isinstance(gene, IntDistribution):
        return (gene.high - gene.low) // gene.step + 1
    if isinstance(gene, FloatDistribution) and gene.step is not None:
        return math.floor((gene.high - gene.low) / gene.step + 1e-9) + 1
    return math.inf


def values(gene: BaseDistribution) -> Iterator[Any]:
    """Go through the values of a gene in order, from simple to complex or small to large.

    Raises:
        SpaceError: The gene is continuous and has more than one.
    """
    if isinstance(gene, CategoricalDistribution):
        yield from gene.choices
    elif isinstance(gene, IntDistribution):
        yield from range(gene.low, gene.high + 1, gene.step)
    elif isinstance(gene, FloatDistribution) and math.isfinite(cardinality(gene)):
        yield from (_step(gene, i) for i in range(int(cardinality(gene))))
    else:
        raise SpaceError(f"{gene!r} has no end of values; give it a step.")


def draw(gene: BaseDistribution, rng: np.random.Generator) -> Any:
    """Draw a value uniformly; log-uniformly where the gene says so.

    Raises:
        SpaceError: It is no categorical, int or float gene.
    """
    if isinstance(gene, CategoricalDistribution):
        return gene.choices[int(rng.integers(len(gene.choices)))]
    if isinstance(gene, IntDistribution):
        if gene.log:
            return round(math.exp(rng.uniform(math.log(gene.low), math.log(gene.high))))
        return gene.low + int(rng.integers(int(cardinality(gene)))) * gene.step
    if isinstance(gene, FloatDistribution):
        count = cardinality(gene)
        if math.isfinite(count):
            return _step(gene, int(rng.integers(int(count))))
        if gene.log:  # rounding may end just beyond a limit
            drawn = math.exp(rng.uniform(math.log(gene.low), math.log(gene.high)))
            return min(max(drawn, gene.low), gene.high)
        return float(rng.uniform(gene.low, gene.high))
    raise SpaceError(f"Cannot draw from {gene!r}; use suggest_categorical, _int or _float.")


def _step(gene: FloatDistribution, number: int) -> float:
    """The value so many steps above the lowest; the sum of floats may end beyond the highest."""
    return min(gene.low + number * (gene.step or 0.0), gene.high)

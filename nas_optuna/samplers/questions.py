"""The questions of a trial as a finite set of choices each, and what was answered before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

BINS = 16  # choices of a number that could take more values


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a trial.

    A number of more than `BINS` values is cut into as many bins of equal width, on a logarithmic
    axis if its distribution is logarithmic; the place in a bin is left to chance.

    Args:
        key: Tells questions apart: the parameter's name and the number of choices.
        count: Number of choices.
        exact: Whether each choice is one value.
        distribution: What Optuna asks.
        edges: `(count + 1,)` limits of the bins of a number, in steps above the lowest value if
            it has steps, else as values; None for categories.
    """

    key: str
    count: int
    exact: bool
    distribution: BaseDistribution = field(compare=False)
    edges: np.ndarray | None = field(default=None, compare=False)

    def choice(self, value: Any) -> int:
        """Number of the choice that a value belongs to; a value out of range to the nearest."""
        if self.edges is None:
            return int(self.distribution.to_internal_repr(value))
        low, _, step = self._grid
        place = value if step is None else round((value - low) / step)
        found = int(np.searchsorted(self.edges, place, side="right")) - 1
        return min(max(found, 0), self.count - 1)

    def value(self, choice: int, place: float) -> Any:
        """The value at `place`, in [0, 1), of a choice."""
        if self.edges is None:
            return self.distribution.to_external_repr(float(choice))
        left, right = self.edges[choice : choice + 2]
        low, high, step = self._grid
        if step is not None:  # the sum of floats may end beyond the highest value
            return min(low + int(left + np.floor(place * (right - left))) * step, high)
        if getattr(self.distribution, "log", False):
            return float(np.clip(left * (right / left) ** place, left, right))
        return float(left + place * (right - left))

    @property
    def _grid(self) -> tuple[Any, Any, Any]:
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return self.distribution.low, self.distribution.high, self.distribution.step


def question(name: str, distribution: BaseDistribution) -> Question:
    """The question behind `trial.suggest_...(name, ...)`.

    Example:
        >>> asks = question("width", IntDistribution(8, 64, step=8))
        >>> asks.count, asks.choice(24), asks.value(2, 0.5)
        (8, 2, 24)
    """
    if isinstance(distribution, CategoricalDistribution):
        count = len(distribution.choices)
        return Question(f"{name}/{count}", count, True, distribution)
    edges = _edges(distribution)
    count = len(edges) - 1
    exact = edges.dtype.kind == "i" and bool((np.diff(edges) == 1).all())
    return Question(f"{name}/{count}", count, exact, distribution, edges)


@lru_cache(maxsize=4096)
def _edges(distribution: BaseDistribution) -> np.ndarray:
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is None:
        space = np.geomspace if distribution.log else np.linspace
        return np.asarray(space(low, high, BINS + 1), dtype=np.float64)
    values = round((high - low) / step) + 1
    if values <= BINS:
        return np.arange(values + 1)
    if distribution.log:
        edges = np.geomspace(low, high + 1, BINS + 1) - low
    else:
        edges = np.linspace(0, values, BINS + 1)
    return np.unique(np.round(edges).astype(np.int64))


Step = tuple[Question, int]  # a question and the number of the choice that answered it


def steps_of(trial: FrozenTrial) -> list[Step]:
    """What a trial was asked and answered so far, in order; questions of one choice are none."""
    asked = (
        (question(name, trial.distributions[name]), value)
        for name, value in trial.params.items()
        if not trial.distributions[name].single()
    )
    return [(asks, asks.choice(value)) for asks, value in asked]


_Path = tuple[tuple[str, int], ...]
_Place = tuple[_Path, str]  # a question, after the answers before it


class Asked:
    """The tree of all answers given so far: which choices would only repeat a trial?

    What a space asks is a function of the answers, so that a trial whose answers equal those of
    an earlier one ends where that one did. A choice is spent if all trials behind it are known.

    Example:
        >>> first, second = (question(name, IntDistribution(0, 1)) for name in "ab")
        >>> asked = Asked()
        >>> asked.add([(first, 0), (second, 1)])
        >>> asked.spent([(first, 0)], second), asked.spent([], first)
        ({1}, set())
        >>> asked.spent([], first, running=[[(first, 0), (second, 0)]])
        {0}
    """

    def __init__(self) -> None:
        self._spent: dict[_Place, set[int]] = {}
        self._inner: set[_Path] = set()  # answers after which a trial was asked more
        self._ends: dict[str, bool] = {}  # by key of a question: was it a trial's last one?

    def add(self, steps: Sequence[Step]) -> None:
        """Add the answers of a trial that has ended."""
        path = _path(steps)
        for length, (asks, _) in enumerate(steps):
            if length and path[:length] not in self._inner:  # a trial failed there halfway
                before = (path[: length - 1], steps[length - 1][0].key)
                self._spent.get(before, set()).discard(steps[length - 1][1])
            self._inner.add(path[:length])
            self._ends.setdefault(asks.key, False)
        if steps:
            self._ends[steps[-1][0].key] = True
        self._spend(steps, self._spent)

    def _spend(self, steps: Sequence[Step], spent: dict[_Place, set[int]]) -> None:
        """Note in `spent` what is known behind each answer of a trial, from the last one on."""
        path = _path(steps)
        if path in self._inner:
            return
        for length in reversed(range(len(steps))):
            asks, choice = steps[length]
            place = (path[:length], asks.key)
            choices = spent.setdefault(place, set())
            if asks.exact:
                choices.add(choice)
            if len(choices | self._spent.get(place, set())) < asks.count:
                return

    def spent(
        self, steps: Sequence[Step], asks: Question, running: Sequence[Sequence[Step]] = ()
    ) -> set[int]:
        """Choices that answer `asks`, after `steps`, with what would repeat a trial.

        Args:
            steps: What was answered before.
            asks: The question.
            running: Answers so far of trials that have not ended; one that is not known to go on
                counts as complete.
        """
        also: dict[_Place, set[int]] = {}
        for theirs in running:
            self._spend(theirs, also)
        place = (_path(steps), asks.key)
        return self._spent.get(place, set()) | also.get(place, set())

    def may_end(self, asks: Question) -> bool:
        """Whether `asks` may be a trial's last question, as far as is known."""
        return self._ends.get(asks.key, True)


def _path(steps: Sequence[Step]) -> _Path:
    return tuple((asks.key, choice) for asks, choice in steps)

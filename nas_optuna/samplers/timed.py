"""How long the sampler of a study takes for each trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.samplers import BaseSampler

from nas_optuna.recording import SAMPLING

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

T = TypeVar("T")


@contextmanager
def timed(study: Study) -> Iterator[None]:
    """Keep with each trial that is run inside the block the time that its sampler took."""
    sampler = study.sampler
    study.sampler = TimedSampler(sampler)
    try:
        yield
    finally:
        study.sampler = sampler


class TimedSampler(BaseSampler):
    """Keeps with each trial the time that its sampler took, reads of the database included.

    Args:
        sampler: The sampler that is timed.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler
        self._seconds = 0.0  # a process runs one trial at a time

    def __repr__(self) -> str:
        return f"TimedSampler({self._sampler!r})"

    def reseed_rng(self) -> None:
        """Pass the call on."""
        self._sampler.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Start the clock and pass the call on."""
        self._seconds = 0.0
        self._timed(self._sampler.before_trial, study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Pass the call on."""
        return self._timed(self._sampler.infer_relative_search_space, study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Pass the call on."""
        return self._timed(self._sampler.sample_relative, study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Pass the call on."""
        return self._timed(
            self._sampler.sample_independent, study, trial, param_name, param_distribution
        )

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Pass the call on, then keep the time."""
        self._timed(self._sampler.after_trial, study, trial, state, values)
        seconds = round(self._seconds, 6)
        study._storage.set_trial_user_attr(trial._trial_id, SAMPLING, seconds)

    def _timed(self, function: Callable[..., T], *arguments: Any) -> T:
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self._seconds += time.perf_counter() - began

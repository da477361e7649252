"""Optuna's own Gaussian process, made so that each draw is a function of the trials.

A Matern kernel with a length scale for each gene, and the logarithm of the expected (hypervolume)
improvement: Ament et al. 2023, "Unexpected Improvements to Expected Improvement for Bayesian
Optimization", NeurIPS.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import optuna
import torch
from optuna.samplers import BaseSampler

from nas_optuna.samplers.registry import Settings
from nas_optuna.samplers.seeded import SeededSampler, TPESampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_STARTUP = 10  # random trials first; Optuna's default


class GPSampler(optuna.samplers.GPSampler):
    """Optuna's Gaussian process that copes with trials which broke a limit early.

    Optuna models each constraint on its own and refuses trials with different ones. Here a trial
    over a limit that is known by counting is never measured, so that its other constraints are
    missing. So one constraint is modelled, the worst of a trial's, which is as feasible as all.
    """

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample jointly; see the base class."""
        view: Any = _WorstConstraint(study)
        # A space may ask under `torch.device("meta")`, where nothing is computed.
        with torch.device("cpu"):
            return super().sample_relative(view, trial, search_space)


class _WorstConstraint:
    """A study in which each trial has its worst constraint alone, and none where none has any."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(self, **how: Any) -> list[FrozenTrial]:
        trials = self._study._get_trials(**how)
        constrained = any(trial.constraints for trial in trials)
        return [_with_worst(trial) for trial in trials] if constrained else trials


def _with_worst(trial: FrozenTrial) -> FrozenTrial:
    worst = max(trial.constraints.values(), default=0.0)
    others = {
        key: value
        for key, value in trial.system_attrs.items()
        if key.partition(":")[0] != "constraints"
    }
    view = copy.copy(trial)
    view.system_attrs = {**others, "constraints": [worst]}
    return view


def create(settings: Settings) -> BaseSampler:
    """Make the Gaussian process; genes that are not always asked for are left to TPE."""
    startup = min(max(settings.trials // 4, 1), _STARTUP)

    def build(seed: int) -> BaseSampler:
        return GPSampler(
            seed=seed,
            n_startup_trials=startup,
            independent_sampler=TPESampler(seed=seed, n_startup_trials=startup),
            warn_independent_sampling=False,
        )

    return SeededSampler(build, name="gp", seed=settings.seed)

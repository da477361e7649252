"""Optuna's own samplers, made so that each draw is a function of (study seed, draw index)."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection

from nas_optuna.samplers.registry import Settings
from nas_optuna.storage.ownership import draw_index

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState


@dataclass(slots=True)
class _Draw:
    """What a thread keeps of the trial it is at."""

    trial_id: int
    index: int
    sampler: BaseSampler
    inferred: bool = False


class SeededSampler(BaseSampler):
    """Rebuilds a sampler for every trial, with a seed of that trial's own.

    The seed of a trial's joint draw comes from (study seed, draw index), that of a parameter
    drawn on its own from (study seed, draw index, parameter name). So neither the process that
    draws, nor what it drew before, nor the parameters a retried trial already has change a draw:
    a study that was killed and resumed goes on trial for trial, and workers never repeat each
    other.

    Args:
        build: Makes the wrapped sampler from a seed in `[0, 2**32)`. It must learn everything
            else from the study.
        name: Name of the strategy, for `repr`.
        seed: The study's seed.
    """

    def __init__(self, build: Callable[[int], BaseSampler], *, name: str, seed: int) -> None:
        self._build = build
        self._name = name
        self._seed = seed
        self._draws: dict[int, _Draw] = {}  # by thread: `optimize(n_jobs=2)` shares the sampler

    def __repr__(self) -> str:
        return f"SeededSampler({self._name!r}, seed={self._seed})"

    def reseed_rng(self) -> None:
        """Do nothing: no draw depends on a generator that threads share."""

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Build the trial's sampler and pass the call on."""
        self._start(study, trial).sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Pass the call on to the trial's sampler."""
        draw = self._of(study, trial)
        draw.inferred = True
        return draw.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Pass the call on to the trial's sampler."""
        draw = self._of(study, trial)
        if not draw.inferred:  # grouped TPE samples what it inferred, and this one is new
            draw.sampler.infer_relative_search_space(study, trial)
            draw.inferred = True
        return draw.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw with a sampler of the parameter's own."""
        sampler = self._build(self._derive(self._of(study, trial).index, param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Pass the call on to the trial's sampler."""
        self._of(study, trial).sampler.after_trial(study, trial, state, values)

    def _start(self, study: Study, trial: FrozenTrial) -> _Draw:
        index = draw_index(study, trial)
        draw = _Draw(trial._trial_id, index, self._build(self._derive(index)))
        self._draws[threading.get_ident()] = draw
        return draw

    def _of(self, study: Study, trial: FrozenTrial) -> _Draw:
        # Trials that are asked for side by side take turns in the slot: rebuilding loses nothing.
        draw = self._draws.get(threading.get_ident())
        if draw is None or draw.trial_id != trial._trial_id:
            draw = self._start(study, trial)
        return draw

    def _derive(self, index: int, param_name: str = "") -> int:
        text = f"{self._seed}:{index}:{param_name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


class _CurveStudy:
    """A multi-objective study that tells TPE which way its learning curves go.

    TPE ranks pruned trials by the last point of their curve, and asks `study.direction` for its
    sense, which raises in a multi-objective study. There a curve is validation accuracy: Optuna's
    own `trial.report` refuses, and `nas_optuna.pruners` reports nothing else.
    """

    direction = StudyDirection.MAXIMIZE

    def __init__(self, study: Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


def _with_curves(study: Study) -> Any:
    return _CurveStudy(study) if len(study.directions) > 1 else study


class TPESampler(optuna.samplers.TPESampler):
    """TPE that copes with pruned trials in multi-objective studies."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample jointly; see the base class."""
        return super().sample_relative(_with_curves(study), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample one parameter; see the base class."""
        return super().sample_independent(
            _with_curves(study), trial, param_name, param_distribution
        )


def random(settings: Settings) -> BaseSampler:
    """Make random search."""
    return SeededSampler(lambda seed: RandomSampler(seed=seed), name="random", seed=settings.seed)


def tpe(settings: Settings) -> BaseSampler:
    """Make multivariate, grouped TPE."""
    # 20 or 40 random trials first gained no hypervolume over 10, after 60 trials or after 200.
    startup = min(max(settings.trials // 4, 1), 10)
    # Once and for all: silencing each build would reset what was warned of, and not by thread.
    warnings.filterwarnings("ignore", "Argument ``group`` is an experimental", ExperimentalWarning)

    def build(seed: int) -> BaseSampler:
        return TPESampler(
            seed=seed,
            n_startup_trials=startup,
            multivariate=True,
            group=True,
            constant_liar=True,  # for workers; costs a single one 2 ms of 35 per trial
        )

    return SeededSampler(build, name="tpe", seed=settings.seed)

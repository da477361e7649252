"""What the controller knows of a study, with its checkpoint in the study's database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_optuna.samplers.controller import Controller
from nas_optuna.samplers.questions import Asked, steps_of
from nas_optuna.storage import SamplerStates, State
from nas_optuna.storage.ownership import RETRY_HISTORY


class ControllerMemory:
    """The controller of one study, its checkpoint, and which trials have ended.

    Args:
        study: The study; it must have a trial.
        seed: Seed of the controller.
        weights: How many weights of objectives an episode is conditioned on.
        baseline: The expected reward before anything was learned.
        settings: All settings that what is learned depends on, as text.
    """

    def __init__(
        self, study: Study, *, seed: int, weights: int, baseline: float, settings: str
    ) -> None:
        self._storage, self._study_id = study._storage, study._study_id
        self.asked = Asked()
        self._ended: set[int] = set()
        self._seed = seed
        self._initial_baseline = baseline
        self.weights = weights
        self._states = SamplerStates(study, "reinforce", settings)
        self._version = 0
        self._start()

    def is_of(self, study: Study) -> bool:
        """Whether this is the memory of `study`."""
        return self._storage is study._storage and self._study_id == study._study_id

    def _start(self) -> None:
        self.controller = Controller(conditions=self.weights, seed=self._seed)
        self.learned: set[int] = set()  # numbers of trials
        self.baseline = self._initial_baseline

    def load(self) -> None:
        """Go on from the stored state, if it is another than the last one seen here."""
        if self._states.version() == self._version:
            return
        stored = self._states.load(self._fits)
        self._version = stored.version
        self._start()
        if stored.state is not None:
            meta = stored.state.meta
            self.learned = set(meta["learned"])
            self.baseline = meta["baseline"]
            for key, count in meta["vocabulary"]:
                self.controller.meet(key, count)
            self.controller.restore(stored.state.arrays["weights"])

    def _fits(self, state: State) -> bool:
        """Whether a state can be restored."""
        controller = Controller(conditions=self.weights, seed=self._seed)
        for key, count in state.meta["vocabulary"]:
            controller.meet(key, count)
        weights = state.arrays["weights"]
        return weights.shape == (controller.size,) and bool(np.isfinite(weights).all())

    def store(self) -> bool:
        """Write a checkpoint; False if another worker wrote one since `load`."""
        meta: Mapping[str, Any] = {
            "learned": sorted(self.learned),
            "baseline": self.baseline,
            "vocabulary": self.controller.vocabulary,
        }
        written = self._states.store(
            State(meta, {"weights": self.controller.vector()}), self._version
        )
        self._version += written
        return written

    def knows(self, number: int) -> bool:
        """Whether a trial has ended, as far as was noted."""
        return number in self._ended

    def note_ended(self, trials: Sequence[FrozenTrial]) -> None:
        """Note the answers of trials that will not be asked more, except those to be repeated."""
        retried = {n for trial in trials for n in trial.system_attrs.get(RETRY_HISTORY, ())}
        for trial in trials:
            number = trial.number
            if trial.state.is_finished() and number not in self._ended and number not in retried:
                self._ended.add(number)
                self.asked.add(steps_of(trial))

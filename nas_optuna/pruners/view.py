"""A study of several objectives as Optuna's pruners want it: one, the learning curve.

The projection sits at the storage, below the study, because Hyperband makes its own `Study` from
it and successive halving writes its rungs through it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Mapping, Sequence
from typing import Any, NoReturn

from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.recording import COSTS, LATENCY

PREFIX = "nas:pruner:"  # of what pruners write, so that nothing else takes it for its own
_METRIC_NAMES = "study:metric_names"  # Optuna's key
_CURVES = frozenset({"accuracy", "loss"})  # what training decides; all other metrics are costs
_COUNTED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


def known_costs(trial: FrozenTrial) -> dict[str, float]:
    """What a trial says of its costs, by metric name; known before it is trained."""
    costs = dict(trial.user_attrs.get(COSTS, {}))
    latency = trial.user_attrs.get(LATENCY)
    if latency is not None:
        costs["latency_ms"] = latency["median_ms"]
    return costs


def compared_costs(
    names: Sequence[str] | None, costs: Mapping[str, float]
) -> tuple[str, ...] | None:
    """Choose the costs that decide which trials could dominate another.

    Args:
        names: Names of the study's objectives; None if they are not known.
        costs: What the trial says of its costs.

    Returns:
        Names of costs; None if one of them is not known.

    Example:
        >>> compared_costs(["accuracy", "parameters"], {"parameters": 90, "flops": 800})
        ('parameters',)
        >>> compared_costs(["accuracy", "latency_ms"], {"parameters": 90}) is None
        True
    """
    if names is None:
        return tuple(costs) or None
    others = [name for name in names if name not in costs and name not in _CURVES]
    # An accuracy may have another name in a study of the user's own.
    curves = 0 if _CURVES.intersection(names) else 1
    return tuple(name for name in names if name in costs) if len(others) <= curves else None


def no_larger(costs: Mapping[str, float], than: Mapping[str, float], names: Sequence[str]) -> bool:
    """Whether `costs` are at most those of `than` in every name; a missing one is not."""
    return all(name in costs and costs[name] <= than[name] for name in names)


def view(
    trial: Trial, metrics: Sequence[str] | None, *, peers_only: bool
) -> tuple[Study, FrozenTrial]:
    """Make the view of a trial's study as it is now.

    It shows the running and finished trials that are feasible and have a learning curve. They are
    numbered as if no trial had ever failed, so that a study that was killed and resumed looks as
    if it had not been.

    Args:
        trial: The running trial.
        metrics: Names of the study's objectives; taken from the study if None.
        peers_only: Show only trials that could dominate `trial`.

    Returns:
        The study and the trial in it. The study's `metric_names` are that of the curve and those
        of the costs that are compared; None if a cost is not known, and then no other trial is
        shown.
    """
    base, study_id = trial.storage, trial.study._study_id
    counted = base.get_all_trials(study_id, deepcopy=False, states=_COUNTED)
    own = next(t for t in counted if t._trial_id == trial._trial_id)
    directions = trial.study.directions
    costs, names = known_costs(own), _compared(trial.study, metrics, own)
    single = len(directions) == 1
    shown = []
    for number, other in enumerate(counted):
        if other is own or (
            names is not None
            and other.intermediate_values
            and all(excess <= 0 for excess in other.constraints.values())
            and (not peers_only or no_larger(known_costs(other), costs, names))
        ):
            shown.append(_project(other, number, keep_values=single))
    storage = ObjectiveViewStorage(
        base,
        study_id,
        study_name=trial.study.study_name,
        direction=directions[0] if single else StudyDirection.MAXIMIZE,
        metric_names=None if names is None else ("accuracy", *names),
        trials=shown,
    )
    study = Study(
        trial.study.study_name, storage, sampler=trial.study.sampler, pruner=trial.study.pruner
    )
    return study, storage.get_trial(own._trial_id)


def _compared(
    study: Study, metrics: Sequence[str] | None, own: FrozenTrial
) -> tuple[str, ...] | None:
    if len(study.directions) == 1:
        return ()
    return compared_costs(study.metric_names if metrics is None else metrics, known_costs(own))


def _project(trial: FrozenTrial, number: int, *, keep_values: bool) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.number = number
    shown.system_attrs = {
        key.removeprefix(PREFIX): value for key, value in trial.system_attrs.items()
    }
    if not keep_values:
        curve = [point for point in trial.intermediate_values.values() if not math.isnan(point)]
        finished = trial.state is TrialState.COMPLETE
        shown.values = [max(curve, default=-math.inf)] if finished else None
    return shown


class _ReadOnly(BaseStorage):
    """A storage that refuses to be written to."""

    def _refuse(self) -> NoReturn:
        raise NotImplementedError("A pruner may write nothing but attributes of its trial.")

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Refuse."""
        self._refuse()

    def delete_study(self, study_id: int) -> None:
        """Refuse."""
        self._refuse()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Refuse."""
        self._refuse()

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Refuse."""
        self._refuse()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Refuse."""
        self._refuse()

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Refuse."""
        self._refuse()

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Refuse."""
        self._refuse()

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Refuse."""
        self._refuse()

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Refuse."""
        self._refuse()


class ObjectiveViewStorage(_ReadOnly):
    """Some trials of a study at one moment, with one objective: the learning curve.

    A finished trial's value is the best point of its curve. What a pruner writes goes to the
    real trial, under a prefix.

    Args:
        base: The real storage.
        study_id: The study's id there.
        study_name: The study's name.
        direction: The sense of the curve.
        metric_names: Names of the curve and of the costs that are compared; None if not known.
        trials: The projected trials.
    """

    def __init__(
        self,
        base: BaseStorage,
        study_id: int,
        *,
        study_name: str,
        direction: StudyDirection,
        metric_names: Sequence[str] | None,
        trials: Sequence[FrozenTrial],
    ) -> None:
        self._base = base
        self._study_id = study_id
        self._study_name = study_name
        self._direction = direction
        self._metric_names = metric_names
        self._trials = {trial._trial_id: trial for trial in trials}

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the id of the one study; Hyperband asks."""
        return self._study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return the name of the one study."""
        return self._study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return one direction."""
        return [self._direction]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Read those of the real study."""
        return self._base.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Read the names of the metrics; nothing else of the study's is for pruners."""
        return {} if self._metric_names is None else {_METRIC_NAMES: list(self._metric_names)}

    def get_all_studies(self) -> list[FrozenStudy]:
        """Refuse: there is one, and it is known."""
        self._refuse()

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write to the real trial: the rungs of successive halving."""
        self._base.set_trial_system_attr(trial_id, PREFIX + key, value)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return one projected trial."""
        return self._trials[trial_id]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 (Optuna's signature)
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the projected trials."""
        found = [t for t in self._trials.values() if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found

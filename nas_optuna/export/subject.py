"""What is exported: the network of one trial, and what the search recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.candidates import propose_params
from nas_optuna.errors import ExportError
from nas_optuna.evaluators import Candidate
from nas_optuna.models import build
from nas_optuna.recording import COSTS, DIGEST, INFEASIBLE, LATENCY, MEASURED, PREDICTED
from nas_optuna.report.show import architecture_of, find_trial
from nas_optuna.report.statistics import metric_names

if TYPE_CHECKING:
    from nas_optuna.objective import Objective


@dataclass(frozen=True)
class Subject:
    """The network of a trial.

    Args:
        study: Name of the study.
        number: Number of the trial.
        candidate: The network.
        values: Metric values that the study was told, by name.
        costs: What was counted: parameters, flops, memory_mb, layers.
        latency: What was recorded of its latency; None if nobody asked for it.
        accuracy: Measured validation accuracy; None if there is none.
    """

    study: str
    number: int
    candidate: Candidate
    values: Mapping[str, float]
    costs: Mapping[str, float]
    latency: Mapping[str, Any] | None
    accuracy: float | None


def subject_of(study: Study, objective: Objective, number: int) -> Subject:
    """Look a trial up and make its network again.

    Args:
        study: The study.
        objective: What was optimised in it.
        number: Number of the trial.

    Raises:
        SettingError: There is no such trial.
        ExportError: It did not finish, is beyond a limit, or its network cannot be made again.
    """
    trial = find_trial(study, number)
    attrs = trial.user_attrs
    _check_worth_it(trial)
    values = dict(zip(metric_names(study), trial.values, strict=True))
    measured = {**values, **attrs.get(MEASURED, {})}
    return Subject(
        study=study.study_name,
        number=number,
        candidate=_candidate(trial, objective),
        values=values,
        costs=attrs[COSTS],
        latency=attrs.get(LATENCY),
        accuracy=None if PREDICTED in attrs else measured.get("accuracy"),
    )


def _check_worth_it(trial: FrozenTrial) -> None:
    attrs = trial.user_attrs
    if INFEASIBLE in attrs:
        raise ExportError(
            f"Trial {trial.number} is infeasible: {attrs[INFEASIBLE]}; export one that is within "
            "the limits, such as those that `nas-optuna pareto` lists."
        )
    if trial.state != TrialState.COMPLETE:
        raise ExportError(
            f"Trial {trial.number} is {trial.state.name.lower()}; export one that finished."
        )
    if DIGEST not in attrs or COSTS not in attrs:
        raise ExportError(
            f"Trial {trial.number} holds no network: it was not judged by nas_optuna.Objective."
        )


def _candidate(trial: FrozenTrial, objective: Objective) -> Candidate:
    architecture = architecture_of(trial)
    if architecture is not None:
        key = trial.user_attrs[DIGEST]
        return Candidate(key, trial.params, architecture, partial(build, architecture))
    candidate = propose_params(objective.space, trial.params).candidate
    if candidate.key != trial.user_attrs[DIGEST]:
        raise ExportError(
            f"The function {objective.space.name} is not the one that made the network of trial "
            f"{trial.number}: its code was changed since. Undo the change."
        )
    return candidate

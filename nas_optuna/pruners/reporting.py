"""`report` and `should_prune` for any study; Optuna's own refuse if it has several objectives."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

from optuna import Trial
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    NopPruner,
    PatientPruner,
    SuccessiveHalvingPruner,
)
from optuna.trial import BaseTrial

from nas_optuna.errors import SettingError
from nas_optuna.pruners.pareto import ParetoPruner
from nas_optuna.pruners.view import view
from nas_optuna.recording import COSTS, TrialRecord

# They work resources that are "auto" out once, from what they see first, and wrap each other. A
# decision must be a function of the trials, or a resumed study would differ.
_REMEMBERING = (HyperbandPruner, PatientPruner, SuccessiveHalvingPruner)


def report(trial: BaseTrial, step: int, accuracy: float) -> None:
    """Keep one point of a trial's learning curve.

    Args:
        trial: The running trial; a `FixedTrial` keeps nothing.
        step: Resource spent so far, such as the epoch, not negative. A step that is reported
            again is overwritten.
        accuracy: Validation accuracy there. In a study of one objective, any value of that
            objective's sense.

    Raises:
        SettingError: `step` is negative.
    """
    if step < 0:
        raise SettingError(f"`step` must be 0 or more, got {step}. Count epochs from 1.")
    if isinstance(trial, Trial):
        TrialRecord(trial).report(int(step), float(accuracy))


def should_prune(
    trial: BaseTrial, pruner: BasePruner | None = None, *, metrics: Sequence[str] | None = None
) -> bool:
    """Whether a pruner would stop the trial where it is; raise `optuna.TrialPruned` if so.

    In a study of several objectives a trial is compared only with those that could dominate it:
    feasible, and larger in none of the costs that are objectives. A trial's costs are its user
    attributes `nas:costs`, a number by name, and `nas:latency`, whose `median_ms` counts as
    `latency_ms`. `Objective` writes them; write them yourself, before the first report, in an
    objective of your own. A trial that lacks one is compared with nothing.

    Args:
        trial: The running trial; a `FixedTrial` is never pruned.
        pruner: A pruner of Optuna's or `ParetoPruner`; `trial.study.pruner` by default. For
            Hyperband in a study of several objectives give it here, and `NopPruner()` to the
            study: samplers of a study that has it see one bracket only.
        metrics: Names of the study's objectives; `study.metric_names` by default. If neither is
            known, every cost that the trial has counts.

    Example:
        >>> import optuna
        >>> from nas_optuna import pruners
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(directions=["maximize", "minimize"])
        >>> def objective(trial):
        ...     width = trial.suggest_int("width", 1, 64)
        ...     trial.set_user_attr("nas:costs", {"parameters": 9 * width})
        ...     for epoch in range(1, 4):
        ...         pruners.report(trial, epoch, accuracy=0.3 * epoch - 1 / width)
        ...         if pruners.should_prune(trial, pruners.ParetoPruner()):
        ...             raise optuna.TrialPruned
        ...     return 0.9 - 1 / width, 9 * width
        >>> study.optimize(objective, n_trials=3)
        >>> [sorted(trial.intermediate_values) for trial in study.trials]
        [[1, 2, 3], [1, 2, 3], [1, 2, 3]]
    """
    if not isinstance(trial, Trial):
        return False
    pruner = trial.study.pruner if pruner is None else pruner
    if isinstance(pruner, NopPruner):
        return False
    study, shown = view(trial, metrics, peers_only=not _ranks_all(pruner))
    if study.metric_names is None:
        warnings.warn(
            "A trial without its costs is compared with nothing, so it is hardly pruned: set its "
            f"user attribute {COSTS!r} to a number for each objective but the accuracy.",
            stacklevel=2,
        )
    if isinstance(pruner, _REMEMBERING):
        pruner = copy.deepcopy(pruner)
    return bool(pruner.prune(study, shown))


def _ranks_all(pruner: BasePruner) -> bool:
    return isinstance(getattr(pruner, "_wrapped_pruner", pruner), ParetoPruner)

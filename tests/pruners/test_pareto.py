"""`ParetoPruner`: what its tolerances stop, and that the end of a training is left alone."""

import math

import optuna
import pytest
from optuna.pruners import NopPruner

from nas_optuna import pruners
from nas_optuna.errors import SettingError
from nas_optuna.pruners import ParetoPruner
from nas_optuna.recording import COSTS


def begun(study, parameters, points):
    """A trial that has reported `points` so far."""
    trial = study.ask()
    trial.set_user_attr(COSTS, {"parameters": parameters})
    for step, accuracy in enumerate(points, start=1):
        pruners.report(trial, step, accuracy)
    return trial


@pytest.fixture
def study():
    """Four finished trials, equally large and good."""
    made = optuna.create_study(directions=["maximize", "minimize"], pruner=NopPruner())
    made.set_metric_names(["accuracy", "parameters"])
    for _ in range(4):
        made.tell(begun(made, 100, [0.3, 0.4, 0.5]), (0.5, 100))
    return made


@pytest.mark.parametrize(
    ("parameters", "accuracy", "stopped"),
    [
        (100, 0.305, True),  # better by less than the tolerance
        (95, 0.3, True),  # smaller by less
        (100, 0.32, False),
        (80, 0.3, False),
    ],
)
def test_tolerances_stop_what_is_hardly_better(study, parameters, accuracy, stopped):
    trial = begun(study, parameters, [accuracy])
    tolerant = ParetoPruner(accuracy_tolerance=0.01, cost_tolerance=0.1)
    assert pruners.should_prune(trial, tolerant) is stopped
    assert not pruners.should_prune(trial, ParetoPruner())


def test_tolerances_hold_for_what_is_hoped_for(study):
    """Between two rungs; it can at best gain 0.1, as the others do."""
    trial = begun(study, 100, [0.32, 0.405])
    assert pruners.should_prune(trial, ParetoPruner(accuracy_tolerance=0.01))
    assert not pruners.should_prune(trial, ParetoPruner(accuracy_tolerance=0.001))


def test_a_training_at_its_end_is_left_alone(study):
    """The last step is a rung, too, but nothing could be saved there."""
    assert pruners.should_prune(begun(study, 100, [0.1]), ParetoPruner())
    assert not pruners.should_prune(begun(study, 100, [0.1, 0.1, 0.1]), ParetoPruner())
    for _ in range(4):
        study.tell(begun(study, 100, [0.3, 0.4, 0.5, 0.5]), (0.5, 100))
    assert pruners.should_prune(begun(study, 100, [0.1, 0.1, 0.1]), ParetoPruner())


@pytest.mark.parametrize(
    "setting",
    [
        {"min_resource": 0},
        {"reduction_factor": 1},
        {"n_startup_trials": 0},
        {"accuracy_tolerance": -0.1},
        {"cost_tolerance": math.nan},
    ],
)
def test_settings_are_checked(setting):
    (name,) = setting
    with pytest.raises(SettingError, match=f"{name} must be at least"):
        ParetoPruner(**setting)


def test_settings_are_shown():
    shown = "ParetoPruner(min_resource=1, reduction_factor=3, n_startup_trials=4"
    assert repr(ParetoPruner()) == f"{shown})"
    assert repr(ParetoPruner(cost_tolerance=0.1)) == f"{shown}, cost_tolerance=0.1)"

"""TPE in multi-objective studies with pruned trials, where Optuna's own raises."""

import warnings

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from nas_optuna import samplers

SPACE = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
# The curve's sense must come neither from the first objective nor from the last.
DIRECTIONS = ["minimize", "maximize", "minimize"]


def study_of_pruned_trials(sampler):
    """Trials pruned at one step, whose accuracy there was their `x`."""
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    for i in range(40):
        x = i / 39
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"x": x, "y": (7 * x) % 1},
                distributions=SPACE,
                intermediate_values={3: x},
            )
        )
    return study


def test_optunas_own_raises_here():
    """When this fails, Optuna has mended it and `_CurveStudy` can go."""
    study = study_of_pruned_trials(optuna.samplers.TPESampler(seed=0, multivariate=True))
    with pytest.raises(RuntimeError, match="A single direction cannot be retrieved"):
        study.ask(SPACE)


def test_pruned_trials_are_learned_from_by_accuracy():
    study = study_of_pruned_trials(samplers.create("tpe", seed=0))
    draws = [study.ask(SPACE).params["x"] for _ in range(30)]
    # 4 of 40 trials are good: x above 0.9. Uniform draws would have a mean of 0.5 with a standard
    # error of 0.05, draws towards low accuracy one well below.
    assert sum(draws) / len(draws) > 0.7


def test_a_parameter_drawn_on_its_own_survives_pruned_trials():
    study = study_of_pruned_trials(samplers.create("tpe", seed=0))
    value = study.sampler.sample_independent(
        study, study.ask()._cached_frozen_trial, "x", SPACE["x"]
    )
    assert 0 <= value <= 1


def test_no_experimental_warning_reaches_the_user():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        sampler = samplers.create("tpe", seed=0)
        optuna.create_study(sampler=sampler).optimize(lambda t: t.suggest_float("x", 0, 1), 12)
    assert [str(warning.message) for warning in seen] == []

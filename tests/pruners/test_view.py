"""Who is compared with whom, and what a pruner sees and writes."""

import copy
import math
import warnings

import numpy as np
import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.trial import TrialState, create_trial

from nas_optuna import pruners, samplers
from nas_optuna.errors import SettingError
from tests.pruners.workers import PRUNERS

DIRECTIONS = ("maximize", "minimize", "minimize")
NAMES = ("accuracy", "latency_ms", "parameters")
# These two look at nothing but the trial's own curve.
COMPARING = [name for name in PRUNERS if name not in ("threshold", "patient")]


class Spy(BasePruner):
    """Keeps what it is shown, and lets another decide."""

    def __init__(self, inner=None):
        self.inner = inner or NopPruner()
        self.shown = []
        self.study = None

    def prune(self, study, trial):
        self.study = study
        self.shown = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        return self.inner.prune(study, trial)


def costs(latency, parameters):
    return {
        "nas:costs": {"parameters": parameters, "flops": 7.0},
        "nas:latency": {"median_ms": latency, "iqr_ms": 0.0},
    }


def study_of(*peers, names=NAMES, directions=DIRECTIONS, **options):
    """A study of finished trials (accuracy, latency, parameters), with curves of two points."""
    study = optuna.create_study(directions=directions, pruner=NopPruner(), **options)
    for accuracy, latency, parameters in peers:
        study.add_trial(
            create_trial(
                values=(accuracy, latency, parameters)[: len(directions)],
                intermediate_values={1: accuracy / 2, 2: accuracy},
                user_attrs=costs(latency, parameters),
            )
        )
    if names:
        study.set_metric_names(list(names))
    return study


def running(study, latency, parameters, *curve):
    trial = study.ask()
    for key, value in costs(latency, parameters).items():
        trial.set_user_attr(key, value)
    for step, accuracy in enumerate(curve, start=1):
        pruners.report(trial, step, accuracy)
    return trial


def shown(trial, **options):
    spy = Spy()
    pruners.should_prune(trial, spy, **options)
    return spy


def test_peers_are_those_not_slower_and_not_bigger(storage_url):
    study = study_of((0.9, 1, 10), (0.8, 2, 20), (0.7, 3, 10), (0.6, 1, 30), storage=storage_url)
    spy = shown(running(study, 2, 20, 0.5))
    assert [t.value for t in spy.shown] == [0.9, 0.8]
    assert spy.study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert spy.study.metric_names == ["accuracy", "latency_ms", "parameters"]


def test_a_cost_that_is_no_objective_does_not_count():
    study = study_of((0.9, 9, 10), names=None)
    trial = running(study, 2, 20, 0.5)
    assert len(shown(trial, metrics=("accuracy", "parameters")).shown) == 1
    assert shown(trial, metrics=("accuracy", "parameters", "latency_ms")).shown == []
    # Names not known: every cost counts, and the trial is the slower one in one of them.
    assert shown(trial).shown == []


def test_what_broke_a_limit_failed_waits_or_has_no_curve_is_not_shown():
    study = study_of((0.5, 1, 1))
    study.add_trial(
        create_trial(
            values=(0.9, 1, 1),
            intermediate_values={1: 0.9},
            user_attrs=costs(1, 1),
            system_attrs={"constraints:max_layers": 0.5},
        )
    )
    study.add_trial(create_trial(values=(0.9, 1, 1), user_attrs=costs(1, 1)))
    failed = running(study, 1, 1, 0.9)
    study.tell(failed, state=TrialState.FAIL)
    study.enqueue_trial({})
    spy = shown(running(study, 2, 2, 0.1))
    assert [t.value for t in spy.shown] == [0.5]


def test_numbers_are_those_of_a_history_without_failures():
    study = study_of((0.5, 1, 1))
    study.tell(running(study, 1, 1, 0.9), state=TrialState.FAIL)
    seen = []
    first = running(study, 1, 1, 0.5)
    second = running(study, 1, 1, 0.5)
    for trial in (first, second):
        spy = shown(trial)
        seen.append([t.number for t in spy.shown])
    assert seen == [[0, 2], [0, 1]]


def test_an_unknown_cost_means_no_comparison_and_is_said():
    study = study_of((0.9, 1, 10), (0.9, 1, 10), (0.9, 1, 10))
    trial = study.ask()
    trial.set_user_attr("nas:costs", {"parameters": 99})
    pruners.report(trial, 1, 0.1)
    with pytest.warns(UserWarning, match="without its costs is compared with nothing"):
        assert not pruners.should_prune(trial, MedianPruner(n_startup_trials=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert pruners.should_prune(trial, ThresholdPruner(lower=0.2))


def test_rungs_are_written_to_the_trial_under_a_prefix(storage_url):
    study = study_of((0.9, 1, 10), (0.8, 1, 10), storage=storage_url)
    trial = running(study, 2, 20, 0.5)
    for _ in range(2):
        pruners.should_prune(trial, SuccessiveHalvingPruner())
    attrs = study.get_trials()[trial.number].system_attrs
    assert attrs["nas:pruner:completed_rung_0"] == 0.5
    assert not any(key.startswith("completed_rung") for key in attrs)


@pytest.mark.parametrize(
    "write",
    [
        lambda storage, _: storage.create_new_study([]),
        lambda storage, _: storage.delete_study(0),
        lambda storage, _: storage.set_study_user_attr(0, "k", 1),
        lambda storage, _: storage.set_study_system_attr(0, "k", 1),
        lambda storage, _: storage.create_new_trial(0),
        lambda storage, t: storage.set_trial_param(t, "x", 0.0, None),
        lambda storage, t: storage.set_trial_state_values(t, TrialState.FAIL),
        lambda storage, t: storage.set_trial_intermediate_value(t, 1, 0.0),
        lambda storage, t: storage.set_trial_user_attr(t, "k", 1),
    ],
)
def test_a_pruner_can_write_nothing_else(write):
    trial = running(study_of((0.9, 1, 10)), 2, 20, 0.5)
    with pytest.raises(NotImplementedError, match="nothing but attributes of its trial"):
        write(shown(trial).study._storage, trial._trial_id)


def test_the_studys_own_pruner_is_asked_if_none_is_given():
    study = optuna.create_study(directions=DIRECTIONS, pruner=ThresholdPruner(lower=0.5))
    assert pruners.should_prune(running(study, 1, 1, 0.4))
    assert not pruners.should_prune(running(study, 1, 1, 0.6))


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("name", COMPARING)
def test_in_a_study_of_one_objective_it_decides_as_optuna_does(name, direction):
    """The same curves through Optuna's own calls and through these."""
    decisions = []
    for ours in (False, True):
        rng = np.random.default_rng(0)
        study = optuna.create_study(
            study_name="one",
            direction=direction,
            pruner=copy.deepcopy(PRUNERS[name]),  # some remember
            sampler=samplers.create("random"),
        )
        stops = []

        def objective(trial, rng=rng, ours=ours, stops=stops):
            end = rng.uniform()
            for step in range(1, 10):
                value = end * step / 9
                if ours:
                    pruners.report(trial, step, value)
                    stop = pruners.should_prune(trial)
                else:
                    trial.report(value, step)
                    stop = trial.should_prune()
                if stop:
                    stops.append((trial.number, step))
                    raise optuna.TrialPruned
            return end

        study.optimize(objective, n_trials=40)
        decisions.append(stops)
    assert decisions[0] == decisions[1] != []


@pytest.mark.parametrize("name", COMPARING)
def test_what_nothing_could_dominate_is_never_pruned(name):
    """Random trials: whatever is pruned has a peer no larger in any cost, and better so far."""
    rng = np.random.default_rng(1)
    study = optuna.create_study(directions=DIRECTIONS, pruner=NopPruner())
    study.set_metric_names(list(NAMES))
    pruned = 0
    for _ in range(40):
        latency, parameters = rng.integers(1, 9, size=2).tolist()
        trial = running(study, latency, parameters)
        curve = np.maximum.accumulate(rng.uniform(size=9)).tolist()
        for step, accuracy in enumerate(curve, start=1):
            pruners.report(trial, step, accuracy)
            if not pruners.should_prune(trial, PRUNERS[name]):
                continue
            pruned += 1
            rivals = [
                t
                for t in study.get_trials(deepcopy=False)
                if t.number != trial.number
                and t.user_attrs["nas:latency"]["median_ms"] <= latency
                and t.user_attrs["nas:costs"]["parameters"] <= parameters
                and max(t.intermediate_values.values()) >= accuracy
            ]
            assert rivals
            study.tell(trial, state=TrialState.PRUNED)
            break
        else:
            study.tell(trial, (curve[-1], latency, parameters))
    assert pruned >= 5


def test_reports_are_checked_and_a_fixed_trial_takes_them():
    trial = running(study_of(), 1, 1)
    with pytest.raises(SettingError, match="`step` must be 0 or more, got -1"):
        pruners.report(trial, -1, 0.5)
    pruners.report(trial, 1, np.float32(0.5))
    pruners.report(trial, 2, math.nan)
    assert pruners.should_prune(trial, PRUNERS["pareto"])
    fixed = optuna.trial.FixedTrial({})
    pruners.report(fixed, 1, 0.5)
    assert not pruners.should_prune(fixed, PRUNERS["threshold"])

"""Search: create and continue, budgets, stops from outside, and what it refuses."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import optuna
import pytest

import nas_optuna as nas
from nas_optuna.errors import (
    SettingError,
    SpaceError,
    StorageError,
    StudyMismatchError,
    UnknownNameError,
)
from nas_optuna.recording import QUESTION
from nas_optuna.spaces import MacroSpace
from tests.formula import Formula
from tests.storage.processes import CONTEXT, together

SPACE = MacroSpace((1, 8, 8), 10, max_layers=4, widths=(8, 16))


@pytest.fixture
def search(tmp_path) -> nas.Search:
    return nas.Search(
        name="test",
        space=SPACE,
        evaluator=Formula(),
        metrics=("accuracy", "flops", "parameters"),
        sampler="random",
        trials=5,
        storage=f"sqlite:///{tmp_path}/nas.db",
    )


def finished(study):
    return study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))


def test_a_run_adds_the_planned_trials_and_the_next_continues(search):
    search.optimize(search.create())
    study = search.create()
    assert len(finished(study)) == 5
    search.optimize(study, trials=3)
    assert len(finished(search.load())) == 8
    assert study.metric_names == ["accuracy", "flops", "parameters"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]


def test_evaluations_count_what_is_trained(search):
    limits = nas.SearchConstraints(max_parameters=1500, max_latency_ms=None)
    search = replace(search, constraints=limits)
    study = search.create()
    search.optimize(study, evaluations=6)
    assert len(search.evaluator.judged) == 6
    assert len(finished(study)) > 6


def test_a_budget_of_evaluations_ends_when_the_space_does(search):
    tiny = MacroSpace(
        (1, 8, 8), 10, min_layers=1, max_layers=1, operations=("conv",), widths=(8, 16),
        kernel_sizes=(1,), strides=(1,), activations=("relu",), connections=("sequential",),
        batch_norm=(True,),
    )  # fmt: skip
    search = replace(search, space=tiny, evaluator=Formula())
    search.optimize(search.create(), evaluations=50)
    assert len(search.evaluator.judged) == 2


def test_both_budgets_hold(search):
    search = replace(search, evaluator=Formula(seconds=0.05))
    study = search.create()
    began = time.monotonic()
    search.optimize(study, trials=1000, timeout=1.0)
    assert time.monotonic() - began < 10
    assert 1 <= len(finished(study)) < 100
    search.optimize(study, trials=2, timeout=100)
    assert len(finished(study)) < 102


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_from_outside_tells_the_running_trial_and_the_next_run_repeats_it(search, number):
    search = replace(search, evaluator=Formula(kill_at=4, number=number))
    study = search.create()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        search.optimize(study, trials=100)
    assert signal.getsignal(signal.SIGTERM) is before
    states = [t.state.name for t in study.get_trials()]
    assert states.count("FAIL") == 1
    assert states[-1] == "WAITING"
    stopped = next(t for t in study.get_trials() if t.state.name == "FAIL")
    assert stopped.params
    search = replace(search, evaluator=Formula())
    search.optimize(study, trials=1)
    assert study.get_trials()[-1].params == stopped.params


def test_another_question_is_not_continued(search):
    search.optimize(search.create())
    changed = {
        "directions": {"metrics": ("accuracy", "flops")},
        "metrics": {"metrics": ("accuracy", "parameters", "flops")},
        "space": {"space": MacroSpace((1, 8, 8), 10, max_layers=5, widths=(8, 16))},
        "max_parameters None, not 50000000": {"constraints": nas.SearchConstraints()},
        "evaluator": {"evaluator": nas.evaluators.FullTraining("digits", epochs=1)},
    }
    for part, change in changed.items():
        with pytest.raises(StudyMismatchError, match=f"was made with .*{part}") as caught:
            replace(search, **change).create()
        assert "\n" not in str(caught.value)
    assert len(finished(search.load())) == 5


def test_a_study_continues_under_another_strategy_and_seed(search):
    search.optimize(search.create())
    for sampler in nas.samplers.names():
        other = replace(search, sampler=sampler, seed=3)
        other.optimize(other.create(), trials=4)
    assert len(finished(search.load())) == 5 + 4 * len(nas.samplers.names())


def create(search):
    return len(search.create().get_trials())


def die_while_creating(search, method):
    setattr(optuna.Study, method, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    search.create()


def assert_asks(search):
    """Whether the stored study asks what `search` does, and nothing else."""
    assert search.load().metric_names == list(search.metrics)
    with pytest.raises(StudyMismatchError, match="max_parameters 50000000, not None"):
        replace(search, constraints=None).load()
    with pytest.raises(StudyMismatchError, match="evaluator"):
        replace(search, evaluator=nas.evaluators.FullTraining("digits", epochs=1)).create()


@pytest.mark.parametrize("method", ["set_metric_names", "set_user_attr"])
def test_a_study_whose_maker_was_killed_is_made_whole(search, storage_url, method):
    search = replace(search, storage=storage_url, constraints=nas.SearchConstraints())
    maker = CONTEXT.Process(target=die_while_creating, args=(search, method))
    maker.start()
    maker.join()
    assert maker.exitcode == -signal.SIGKILL
    assert together(create, 2, search) == [0, 0]
    assert_asks(search)


def test_a_worker_may_come_while_the_study_is_made(search, storage_url, monkeypatch):
    search = replace(search, storage=storage_url, constraints=nas.SearchConstraints())
    name = optuna.Study.set_metric_names

    def after_another(study, names):
        monkeypatch.undo()
        replace(search, trials=7).create()
        name(study, names)

    monkeypatch.setattr(optuna.Study, "set_metric_names", after_another)
    search.create()
    assert_asks(search)


def test_a_study_that_was_made_without_a_question_is_continued(search):
    """It has trials, so that nobody can say any more which limits they were under."""
    storage = nas.storage.open(search.storage)
    directions = search.objective.directions
    study = optuna.create_study(storage=storage, study_name="test", directions=directions)
    study.add_trial(optuna.trial.create_trial(values=[0.5, 1.0, 1.0]))
    search = replace(search, constraints=nas.SearchConstraints())
    assert len(search.load().get_trials()) == 1
    assert QUESTION not in study.user_attrs


def test_resume_needs_a_study(search):
    with pytest.raises(StudyMismatchError, match=r"no study 'test' in sqlite:.*it is empty"):
        search.load()


def test_nothing_feasible_is_said_before_the_study_is_made(search):
    impossible = nas.SearchConstraints(max_parameters=3)
    with pytest.raises(SpaceError, match=r"max_parameters 3 lets 0 % through, [\d,.e+]+ would"):
        replace(search, constraints=impossible).create()
    with pytest.raises(StudyMismatchError):
        search.load()


def test_a_network_that_never_builds_is_said_with_its_reason(search):
    def broken(trial):
        trial.suggest_int("x", 0, 1)
        raise ValueError("the wheel came off")

    function = nas.spaces.FunctionSpace(broken, input_shape=(1, 8, 8), num_classes=10)
    with pytest.raises(SpaceError, match="the wheel came off"):
        replace(search, space=function).create()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"sampler": "nsga3"}, UnknownNameError, "Did you mean 'nsga2'"),
        ({"trials": 0}, SettingError, "trials must be a whole number of at least 1, got 0"),
        ({"seed": -1}, SettingError, "seed must be a whole number of at least 0, got -1"),
        ({"seed": None}, SettingError, "seed must be a whole number of at least 0, got None"),
        ({"timeout": 0}, SettingError, "timeout must be more than 0"),
    ],
)
def test_wrong_settings_are_refused_when_made(search, change, error, says):
    with pytest.raises(error, match=says):
        replace(search, **change)


@pytest.mark.parametrize("budget", [{"trials": -1}, {"evaluations": 0}, {"timeout": -2.0}])
def test_wrong_budgets_are_refused(search, budget):
    study = search.create()
    with pytest.raises(SettingError, match=next(iter(budget))):
        search.optimize(study, **budget)
    assert not study.get_trials()


def test_an_unreachable_database_is_one_line_without_the_password(search):
    url = "postgresql://ada:secret@127.0.0.1:1/nas"
    with pytest.raises(StorageError) as caught:
        replace(search, storage=url).create()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sampler", nas.samplers.names())
def test_a_tight_limit_trains_nothing_infeasible_and_still_improves(search, sampler):
    """A limit that rules out nine tenths of the space, training a formula."""
    # Those that model every trial take up to half a second a draw with three objectives.
    early, later = {"gp": (8, 20), "surrogate": (30, 40)}.get(sampler, (50, 100))
    rng = np.random.default_rng(0)
    sizes = [nas.models.cost(SPACE.architecture(SPACE.sample(rng))).parameters for _ in range(300)]
    limit = int(np.quantile(sizes, 0.1))
    limits = nas.SearchConstraints(max_parameters=limit, max_latency_ms=None)
    search = replace(search, constraints=limits, sampler=sampler, trials=200, evaluator=Formula())
    study = search.create()
    search.optimize(study, trials=early)
    before = nas.report.study_hypervolume(study, limits)
    search.optimize(study, trials=later)
    trained = [t for t in finished(study) if "nas:curve" in t.user_attrs]
    assert all(t.values[2] <= limit for t in trained)
    assert len(search.evaluator.judged) == len({t.user_attrs["nas:digest"] for t in trained})
    assert nas.report.study_hypervolume(study, limits) > before > 0

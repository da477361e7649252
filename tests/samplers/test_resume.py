"""A study that is killed and resumed equals one that never was, trial for trial."""

import os
import subprocess
import sys
from functools import cache

import optuna
import pytest
from optuna.trial import TrialState

import nas_optuna.storage
from nas_optuna import samplers
from nas_optuna.storage import ownership

SEED = 7
BUDGET = 80  # NSGA-II: a population of 8; TPE: 10 random trials first
LENGTH = 60
ALL = 5
# After so many finished trials one is killed that has asked this many of its questions. The first
# is in TPE's random phase, 24 opens a generation, and the two at 40 are one trial killed twice.
KILLS = {
    "just asked": [(5, 0), (24, 0), (25, 0), (40, 0), (40, 0)],
    "half asked": [(5, 2), (24, 2), (25, 3), (40, 2), (40, 3)],
    "all asked": [(5, ALL), (24, ALL), (25, ALL), (40, ALL), (40, ALL)],
    "mixed": [(5, 3), (24, 1), (25, ALL), (40, 2), (40, 0)],
}
STRATEGIES = ["random", "tpe", "nsga2"]
OBJECTIVES = pytest.mark.parametrize("objectives", [1, 3])
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # asks outside `optimize`


def ask(trial, questions=ALL):
    """Ask the first few questions of a small space, the last of which is conditional."""
    steps = (
        lambda: trial.suggest_categorical("operation", ["conv", "pool", "skip"]),
        lambda: trial.suggest_int("width", 1, 8),
        lambda: trial.suggest_float("dropout", 0.0, 0.5),
        lambda: trial.suggest_categorical("norm", [True, False]),
        lambda: trial.params["operation"] == "conv" and trial.suggest_int("kernel", 1, 7, step=2),
    )
    for step in steps[:questions]:
        step()


def evaluate(study, trial, *, constrained):
    """Tell a formula's values; in multi-objective studies some trials are pruned with a curve."""
    p = trial.params
    size = p["width"] ** 2 * p.get("kernel", 1) + {"conv": 3, "pool": 1, "skip": 0}[p["operation"]]
    accuracy = 1 - 1 / (1 + size) - (p["dropout"] - 0.2) ** 2 + 0.01 * p["norm"]
    if constrained:
        trial.set_constraint("size", size / 100 - 1)
    objectives = len(study.directions)
    if objectives > 1 and p["width"] == 1:
        trial.storage.set_trial_intermediate_value(trial._trial_id, 1, accuracy / 2)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, [accuracy, size, size * p["dropout"]][:objectives])


def load(storage, strategy):
    """What a new process does."""
    return optuna.load_study(
        study_name="s",
        storage=storage,
        sampler=samplers.create(strategy, seed=SEED, trials=BUDGET),
    )


def run(storage, strategy, objectives, *, constrained, kills=(), bury=None, length=LENGTH):
    """Finish `length` trials, with kills; returns the finished ones as plain values."""
    directions = ["maximize", "minimize", "minimize"][:objectives]
    optuna.create_study(study_name="s", storage=storage, directions=directions)
    study = load(storage, strategy)
    kills = list(kills)
    for finished in range(length):
        while kills and kills[0][0] == finished:
            questions = kills.pop(0)[1]
            trial = study.ask()
            ask(trial, questions)
            bury(study, trial)
            study = load(storage, strategy)
        trial = study.ask()
        ask(trial)
        evaluate(study, trial, constrained=constrained)
    assert not kills
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [(t.state, t.params, t.values) for t in trials]


def bury_in_memory(study, trial):
    """A database's reaper, for a storage that knows no owners."""
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    ownership.retry(study, study._storage.get_trial(trial._trial_id))


def in_memory():
    return optuna.storages.InMemoryStorage()


@cache
def never_killed(strategy, objectives, constrained):
    return run(in_memory(), strategy, objectives, constrained=constrained)


@OBJECTIVES
@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_killed_in_memory(strategy, kills, constrained, objectives):
    killed = run(
        in_memory(),
        strategy,
        objectives,
        constrained=constrained,
        kills=KILLS[kills],
        bury=bury_in_memory,
    )
    assert killed == never_killed(strategy, objectives, constrained)


@pytest.fixture(scope="session")
def dead_process():
    """Process id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_killed_in_a_database(strategy, storage_url, dead_process):
    def bury(study, trial):
        owner = trial.storage.get_trial_system_attrs(trial._trial_id)[ownership.OWNER]
        assert owner["pid"] == os.getpid()
        trial.storage.set_trial_system_attr(
            trial._trial_id, ownership.OWNER, owner | {"pid": dead_process}
        )
        assert ownership.reap(study) == [trial.number]

    with_kills = run(
        nas_optuna.storage.open(storage_url),
        strategy,
        3,
        constrained=True,
        kills=KILLS["mixed"][:3],
        bury=bury,
        length=28,
    )
    assert with_kills == never_killed(strategy, 3, True)[:28]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stopped_between_trials(strategy):
    storage = in_memory()
    whole = never_killed(strategy, 3, False)
    run(storage, strategy, 3, constrained=False, length=25)
    for _ in range(20):  # a process of its own for each
        study = load(storage, strategy)
        trial = study.ask()
        ask(trial)
        evaluate(study, trial, constrained=False)
    trials = study.get_trials(deepcopy=False)
    assert [(t.state, t.params, t.values) for t in trials] == whole[:45]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_test_objective_uses_every_path(strategy):
    """Guards the tests above against a formula that leaves a path out."""
    history = never_killed(strategy, 3, True)
    states = [state for state, _, _ in history]
    assert 0 < states.count(TrialState.PRUNED) < LENGTH
    assert 0 < sum("kernel" in params for _, params, _ in history) < LENGTH
    assert any(values and values[1] > 100 for _, _, values in history)
    assert any(values and values[1] <= 100 for _, _, values in history)

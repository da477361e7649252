"""What every strategy of the table keeps; a new one joins by itself.

A seed gives one history. A study that is killed and resumed equals one that never was, trial for
trial. Processes side by side lose nothing. Any strategy continues a study of any other.
"""

import os
import subprocess
import sys
import time
from functools import cache
from itertools import product

import optuna
import pytest
from optuna.trial import TrialState, create_trial

import nas_optuna.storage
from nas_optuna import samplers
from nas_optuna.samplers.genomes import intended
from nas_optuna.spaces import FunctionSpace, NASBench201Space
from nas_optuna.storage import ownership
from tests.storage.processes import together

SEED = 7
BUDGET = 32  # populations of 8, and 8 random trials first
LENGTH = 24
SHORT = {"gp": 14}  # what 0.1 s a draw allows; past its warm-up all the same
DISTINCT = ("local", "nsga2")  # never propose what another trial tried or is trying
UNTRAINED = tuple(name for name in samplers.names() if name != "darts")  # its own tests train it
SHORTEST = 13  # in a database: five past the random ones
PROCESSES, EACH = 4, 4
DIRECTIONS = ["maximize", "minimize", "minimize"]
TOLD = (TrialState.COMPLETE, TrialState.PRUNED)
ALL = 5  # questions
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # asks outside `optimize`


def steps(trial):
    """The questions of a small space, the last of which is conditional."""
    return (
        lambda: trial.suggest_categorical("operation", ["skip", "pool", "conv"]),
        lambda: trial.suggest_int("width", 1, 8),
        lambda: trial.suggest_float("dropout", 0.0, 0.5, step=0.125),
        lambda: trial.suggest_categorical("norm", [False, True]),
        lambda: trial.params["operation"] == "conv" and trial.suggest_int("kernel", 1, 7, step=2),
    )


def ask(trial, questions=ALL):
    for step in steps(trial)[:questions]:
        step()


SPACE = FunctionSpace(ask, input_shape=(1, 8, 8), num_classes=10)


def sampler(strategy, *, space=SPACE, seed=SEED):
    return samplers.create(strategy, space=space, seed=seed, trials=BUDGET)


def formula(p):
    """Accuracy and two costs."""
    size = p["width"] ** 2 * p.get("kernel", 1) + {"conv": 3, "pool": 1, "skip": 0}[p["operation"]]
    accuracy = 1 - 1 / (1 + size) - (p["dropout"] - 0.2) ** 2 + 0.01 * p["norm"]
    return [accuracy, size, size * p["dropout"]]


def tell(study, trial):
    """With several objectives some trials are pruned with a curve, and some break a limit."""
    values, objectives = formula(trial.params), len(study.directions)
    if objectives == 1:
        study.tell(trial, values[0])
        return
    trial.set_constraint("size", values[1] / 100 - 1)
    if trial.params["width"] == 2:
        trial.storage.set_trial_intermediate_value(trial._trial_id, 1, values[0] / 2)
        study.tell(trial, state=TrialState.PRUNED)
        return
    if values[1] <= 100:  # what breaks a limit known by counting is not measured
        trial.set_constraint("dropout", trial.params["dropout"] - 0.3)
    study.tell(trial, values[:objectives])


def create(storage, objectives):
    optuna.create_study(study_name="s", storage=storage, directions=DIRECTIONS[:objectives])


def load(storage, made):
    """What a new process does."""
    return optuna.load_study(study_name="s", storage=storage, sampler=made)


def run(storage, make, objectives, length, *, bury=None, every=1):
    """Finish `length` trials; returns them as plain values.

    Args:
        storage: An empty one.
        make: Makes the sampler of a process.
        objectives: How many.
        length: Trials to finish.
        bury: Called with a trial whose process died; None for no kills. The trials are killed
            after one question more than the one before, the first right after it was asked for.
        every: Only every so many trials are killed.
    """
    create(storage, objectives)
    study = load(storage, make())
    for finished in range(length):
        if bury and finished % every == 0:
            trial = study.ask()
            ask(trial, finished // every % (ALL + 1))
            bury(study, trial)
            study = load(storage, make())
        trial = study.ask()
        ask(trial)
        tell(study, trial)
    return history(study)


def trials(study, count):
    """Finish `count` more trials; returns their parameters."""
    for _ in range(count):
        trial = study.ask()
        ask(trial)
        tell(study, trial)
    return [t.params for t in study.get_trials(deepcopy=False)[-count:]]


def history(study):
    trials = study.get_trials(deepcopy=False, states=TOLD)
    return [(t.state, t.params, t.values) for t in trials]


def in_memory():
    return optuna.storages.InMemoryStorage()


def bury_in_memory(study, trial):
    """A database's reaper, for a storage that knows no owners."""
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    ownership.retry(study, study._storage.get_trial(trial._trial_id))


def length_of(strategy):
    return SHORT.get(strategy, LENGTH)


@cache
def never_killed(strategy, objectives):
    """With the space where there are several objectives, and without it where there is one."""
    make = maker(strategy, objectives)
    return run(in_memory(), make, objectives, length_of(strategy))


def maker(strategy, objectives):
    space = SPACE if objectives > 1 else None
    return lambda: sampler(strategy, space=space)


@pytest.fixture(params=UNTRAINED)
def strategy(request):
    return request.param


@pytest.mark.parametrize("objectives", [1, 3])
def test_killed_at_every_trial_equals_never_killed(strategy, objectives):
    """So the same seed gives the same trials too."""
    make, length = maker(strategy, objectives), length_of(strategy)
    killed = run(in_memory(), make, objectives, length, bury=bury_in_memory)
    assert killed == never_killed(strategy, objectives)


@pytest.fixture(scope="session")
def dead_process():
    """Process id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_killed_in_a_database_equals_never_killed(strategy, storage_url, dead_process):
    def bury(study, trial):
        owner = trial.storage.get_trial_system_attrs(trial._trial_id)[ownership.OWNER]
        assert owner["pid"] == os.getpid()
        trial.storage.set_trial_system_attr(
            trial._trial_id, ownership.OWNER, owner | {"pid": dead_process}
        )
        assert ownership.reap(study) == [trial.number]

    storage = nas_optuna.storage.open(storage_url)
    killed = run(storage, maker(strategy, 3), 3, SHORTEST, bury=bury, every=3)
    assert killed == never_killed(strategy, 3)[:SHORTEST]


def test_another_seed_gives_other_trials(strategy):
    """Guards the tests above against a strategy that asks no seed."""
    study = optuna.create_study(sampler=sampler(strategy, seed=SEED + 1), directions=DIRECTIONS)
    assert trials(study, 5) != [params for _, params, _ in never_killed(strategy, 3)[:5]]


@pytest.mark.parametrize("space", [SPACE, None])
def test_strategies_continue_each_others_studies(strategy, space):
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler("random"))
    trials(study, 9)
    for name in (strategy, "random", "tpe", strategy):
        study.sampler = sampler(name, space=space)
        trials(study, 2)
    assert len(history(study)) == 17


def work(url):
    """Add trials to the study of each strategy, side by side with the other processes."""
    storage = nas_optuna.storage.open(url)
    for name in UNTRAINED:
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler(name))
        for _ in range(EACH):
            trial = study.ask()
            ask(trial)
            time.sleep(0.01)  # so that trials overlap, which draws of a millisecond hardly do
            tell(study, trial)


def test_four_processes_lose_nothing(storage_url):
    """One test for all strategies, since what takes long is to start processes."""
    storage = nas_optuna.storage.open(storage_url)
    for name in UNTRAINED:
        optuna.create_study(study_name=name, storage=storage, directions=DIRECTIONS)
    assert together(work, PROCESSES, storage_url) == [None] * PROCESSES
    for name in UNTRAINED:
        study = optuna.load_study(study_name=name, storage=storage)
        told = study.get_trials(deepcopy=False)
        assert [t.number for t in told] == list(range(PROCESSES * EACH)), name
        assert all(t.state in TOLD for t in told), name
        assert all(t.values is None or t.values == formula(t.params) for t in told), name
        if name in DISTINCT:
            # Two genomes may differ in `kernel` alone, and then not be asked for it.
            assert different(intended(t) or t.params for t in told) == len(told), name


@pytest.mark.parametrize("objectives", [1, 3])
@pytest.mark.parametrize("name", DISTINCT)
def test_what_was_tried_is_not_tried_again(name, objectives):
    told = never_killed(name, objectives)
    assert different(params for _, params, _ in told) == len(told)


def different(genomes):
    return len({tuple(sorted(params.items())) for params in genomes})


def test_the_formula_uses_every_path():
    """Guards the tests above against a formula that leaves a path out."""
    told = never_killed("random", 3)
    states = [state for state, _, _ in told]
    assert 0 < states.count(TrialState.PRUNED) < LENGTH
    assert 0 < sum("kernel" in params for _, params, _ in told) < LENGTH
    assert any(values and values[1] > 100 for _, _, values in told)
    assert any(values and values[1] <= 100 for _, _, values in told)


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("name", ["surrogate", "reinforce", "local"])
def test_what_ends_while_a_proposal_is_made_is_not_proposed_again(name, left, monkeypatch):
    """Two genomes are left; another worker finishes one after the study was read."""
    space = NASBench201Space(operations=("none", "skip_connect"))
    rows = [dict(zip(space.genes, row, strict=True)) for row in product(*[space.operations] * 6)]
    storage = optuna.storages.InMemoryStorage()
    mine = optuna.create_study(study_name="s", storage=storage)
    mine.sampler = samplers.create(name, space=space, seed=0, trials=100)
    for row in rows[:-2]:
        value = float(sum(answer == "none" for answer in row.values()))
        mine.add_trial(create_trial(params=row, distributions=dict(space.genes), value=value))
    last = rows[-2:]
    theirs = optuna.load_study(study_name="s", storage=storage)
    theirs.enqueue_trial(last[left])
    other = theirs.ask(space.genes)
    begin = mine.sampler.before_trial

    def ended_meanwhile(study, trial):
        begin(study, trial)
        study._get_trials(deepcopy=False, use_cache=True)  # what samplers go by from here on
        theirs.tell(other, 1.0)

    monkeypatch.setattr(mine.sampler, "before_trial", ended_meanwhile)
    assert mine.ask(space.genes).params == last[1 - left]

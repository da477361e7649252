import threading
import time

import optuna
import pytest
from optuna.trial import TrialState

import nas_optuna.storage
from nas_optuna.metrics import Metrics
from nas_optuna.storage import Claims, EvaluationCache, EvaluationKey, claimed, claims
from nas_optuna.storage.ownership import OWNER

from .processes import CONTEXT, ask_and_wait, start, study_of, together

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")
KEY = EvaluationKey("digest", evaluator="e", data="d", seed=0)
RESULT = Metrics({"loss": 0.25})


@pytest.fixture
def study(storage_url):
    return study_of(storage_url)


def test_a_claim_is_held_until_it_is_released(study):
    held, first, second = Claims.of(study._storage), study.ask(), study.ask()
    assert held.take(KEY, first._trial_id)
    assert held.take(KEY, first._trial_id)  # again, as after a lost answer
    assert not held.take(KEY, second._trial_id)
    held.release(KEY, second._trial_id)  # not its own
    assert held.holder(KEY) == first._trial_id
    held.release(KEY, first._trial_id)
    assert held.holder(KEY) is None
    assert held.take(KEY, second._trial_id)


@pytest.mark.parametrize("part", ["digest", "evaluator", "data"])
def test_other_evaluations_are_not_claimed(study, part):
    held = Claims.of(study._storage)
    other = EvaluationKey(**{"digest": "digest", "evaluator": "e", "data": "d", part: "x"}, seed=0)
    assert held.take(KEY, study.ask()._trial_id)
    assert held.take(other, study.ask()._trial_id)


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
def test_a_claim_expires_with_its_trial(study, state):
    held, first, second = Claims.of(study._storage), study.ask(), study.ask()
    assert held.take(KEY, first._trial_id)
    study.tell(first, [1.0] if state is TrialState.COMPLETE else None, state=state)
    assert held.take(KEY, second._trial_id)
    assert held.holder(KEY) == second._trial_id


def test_a_claim_expires_with_its_process(storage_url, study):
    ready = CONTEXT.Event()
    process = start(ask_and_wait, storage_url, 1, ready)
    assert ready.wait(timeout=60)
    (dead,) = study.get_trials(deepcopy=False)
    held, mine = Claims.of(study._storage), study.ask()
    assert held.take(KEY, dead._trial_id)
    assert not held.take(KEY, mine._trial_id)
    process.kill()
    process.join()
    assert held.take(KEY, mine._trial_id)


def elsewhere(study):
    """A trial that another machine runs."""
    trial = study.ask()
    owner = {**study.trials[trial.number].system_attrs[OWNER], "boot": "b", "host": "elsewhere"}
    study._storage.set_trial_system_attr(trial._trial_id, OWNER, owner)
    return trial


def test_a_claim_expires_with_its_heartbeat(postgres_url):
    study = study_of(postgres_url)
    held, far, mine = Claims.of(study._storage), elsewhere(study), study.ask()
    study._storage.record_heartbeat(far._trial_id)
    assert held.take(KEY, far._trial_id)
    assert not held.take(KEY, mine._trial_id)
    with nas_optuna.storage.engine_of(study._storage).begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01'")
    assert held.take(KEY, mine._trial_id)


def test_nobody_waits_for_ever_for_a_trial_without_heartbeat(postgres_url, monkeypatch):
    monkeypatch.setattr(claims, "UNWATCHED", 0.3)
    study = study_of(postgres_url)
    far, mine = elsewhere(study), study.ask()
    assert Claims.of(study._storage).take(KEY, far._trial_id)
    began = time.monotonic()
    with claimed(mine, KEY, EvaluationCache.of(study._storage)) as stored:
        assert stored is None
    assert time.monotonic() - began >= 0.3


def test_who_waits_gets_the_result(study):
    held, cache = Claims.of(study._storage), EvaluationCache.of(study._storage)
    first, second = study.ask(), study.ask()
    assert held.take(KEY, first._trial_id)

    def evaluate():
        cache.put(KEY, RESULT)
        held.release(KEY, first._trial_id)

    timer = threading.Timer(0.3, evaluate)
    timer.start()
    with claimed(second, KEY, cache) as stored:
        assert stored == RESULT
    timer.join()
    assert held.holder(KEY) is None


def test_a_block_that_raises_releases_its_claim(study):
    held, cache, trial = Claims.of(study._storage), EvaluationCache.of(study._storage), study.ask()

    def prune():
        with claimed(trial, KEY, cache) as stored:
            assert stored is None
            assert held.holder(KEY) == trial._trial_id
            raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        prune()
    assert held.holder(KEY) is None


def take(url, all_tried):
    study = study_of(url)
    taken = Claims.of(study._storage).take(KEY, study.ask()._trial_id)
    all_tried.wait(timeout=60)  # a process that ends gives its claim up
    return taken


def test_of_several_heirs_one_takes_a_claim(storage_url, study):
    dead = study.ask()
    assert Claims.of(study._storage).take(KEY, dead._trial_id)
    study.tell(dead, state=TrialState.FAIL)
    found = together(take, 4, storage_url, CONTEXT.Barrier(4))
    assert sorted(found) == [False] * 3 + [True]


def test_a_study_in_memory_has_no_other_process():
    study = optuna.create_study()
    cache = EvaluationCache.of(study._storage)
    for _ in range(2):
        with claimed(study.ask(), KEY, cache) as stored:
            assert stored is None
    cache.put(KEY, RESULT)
    with claimed(study.ask(), KEY, cache) as stored:
        assert stored == RESULT

import itertools
import os
import random
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import TrialState, create_trial

import nas_optuna.storage
from nas_optuna.recording import FAILED, STOPPED
from nas_optuna.storage import draw_index, reap, retry, waiting
from nas_optuna.storage.ownership import (
    MAX_RETRIES,
    OWNER,
    RETRY_HISTORY,
    RETRY_OF,
    RETRY_STOPS,
    backend_of,
    clean_retry,
    is_dead,
    is_gone,
    owner,
)

from .processes import (
    CONTEXT,
    DrawSampler,
    ask_and_wait,
    fail_stale_until_statement,
    formula,
    reap_now,
    search,
    search_until_statement,
    start,
    study_of,
    together,
)

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


def facts(trial):
    """All of a trial but the identity that its database gave it, its owner, and the hour."""
    system_attrs = {k: v for k, v in trial.system_attrs.items() if k != OWNER}
    known = {k: v for k, v in vars(trial).items() if not k.startswith(("_trial_id", "_datetime"))}
    hours = (trial.datetime_start is None, trial.datetime_complete is None)
    return known | {"_system_attrs": system_attrs, "hours": hours}


def owner_in(trial):
    """The owner without the number that tells its trials apart."""
    who = trial.system_attrs.get(OWNER)
    return who and {key: value for key, value in who.items() if key != "ticket"}


def template(state):
    value = 1.0 if state is TrialState.COMPLETE else None
    return create_trial(
        state=state,
        value=value,
        params={"x": 3},
        distributions={"x": IntDistribution(0, 9)},
        user_attrs={"u": 1},
        system_attrs={"s": 2},
        intermediate_values={0: 0.5},
    )


@pytest.mark.parametrize(
    "given", [None, *map(template, (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE))]
)
def test_a_new_trial_is_optunas_and_has_its_owner(storage_url, given):
    ours = nas_optuna.storage.open(storage_url)
    study_id = ours.create_new_study([optuna.study.StudyDirection.MINIMIZE])
    stock = RDBStorage(storage_url)
    made, expected = (s._create_new_trial(study_id, given) for s in (ours, stock))
    stored, expected_stored = (ours.get_trial(t._trial_id) for t in (made, expected))
    expected.number = expected_stored.number = made.number
    assert facts(made) == facts(expected)
    assert facts(stored) == facts(expected_stored)
    assert made == stored
    # A trial that comes ready made, as in a copied study, is not this process's.
    assert owner_in(stored) == (owner() if given is None else None)


def test_a_popped_trial_has_its_owner(storage_url):
    study = study_of(storage_url)
    study.enqueue_trial({"x0": 7})
    assert OWNER not in study.trials[0].system_attrs
    trial = study.ask()
    [popped] = study.trials
    assert popped.state is TrialState.RUNNING
    assert popped.datetime_start is not None
    assert owner_in(popped) == owner()
    assert popped.system_attrs.keys() == {"fixed_params", OWNER}
    assert popped.system_attrs["fixed_params"] == {"x0": 7}
    assert trial.suggest_int("x0", 0, 9) == 7


def test_a_trial_that_is_not_waiting_is_not_claimed(storage_url):
    storage = nas_optuna.storage.open(storage_url)
    study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE])
    trial_id = storage._create_new_trial(study_id, template(TrialState.RUNNING))._trial_id
    assert not storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert OWNER not in storage.get_trial(trial_id).system_attrs
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.RUNNING)


def test_the_living_and_the_dead():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = {**owner(), "pid": child.pid, "started": _started(child.pid)}
    assert not is_dead(owner(), one_machine=True)
    assert not is_dead(started, one_machine=True)
    assert is_dead({**started, "started": started["started"] - 60}, one_machine=True)  # reused id
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie until it is waited for
    assert is_dead(started, one_machine=False)
    child.wait()
    assert is_dead(started, one_machine=False)
    assert not is_dead({**started, "host": "elsewhere"}, one_machine=False)
    assert not is_dead({**started, "namespace": "pid:[0]"}, one_machine=True)
    # Another boot: another machine of that name, or the one before a restart.
    assert not is_dead({**started, "boot": "b"}, one_machine=False)
    assert is_dead({**owner(), "boot": "b"}, one_machine=True)


def _started(pid):
    code = "import psutil, sys; p = psutil.Process(int(sys.argv[1]))"
    code += "; print(p.create_time() - psutil.boot_time())"
    return float(subprocess.check_output([sys.executable, "-c", code, str(pid)]))


def leave_dead(url, trials):
    ready = CONTEXT.Event()
    process = start(ask_and_wait, url, trials, ready)
    assert ready.wait(timeout=60)
    return process


def test_reap_waits_for_death_and_then_retries_once(storage_url):
    study = study_of(storage_url)
    process = leave_dead(storage_url, 2)
    mine = study.ask()
    assert reap(study) == []
    process.kill()
    process.join()
    assert reap(study) == [0, 1]
    assert reap(study) == []
    states = [t.state.name for t in study.trials]
    assert states == ["FAIL", "FAIL", "RUNNING", "WAITING", "WAITING"]
    assert mine.number == 2
    for dead, again in zip(study.trials[:2], study.trials[3:], strict=True):
        assert dead.datetime_complete is not None
        assert again.system_attrs == {
            "fixed_params": dead.params,
            RETRY_OF: dead.number,
            RETRY_HISTORY: [dead.number],
        }


def test_of_several_reapers_one_retries_each_trial(storage_url):
    study = study_of(storage_url)
    process = leave_dead(storage_url, 8)
    process.kill()
    process.join()
    reaped = together(reap_now, 4, storage_url)
    assert sorted(number for numbers in reaped for number in numbers) == list(range(8))
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert sorted(t.system_attrs[RETRY_OF] for t in waiting) == list(range(8))


def test_reap_leaves_those_it_cannot_judge(postgres_url):
    study = study_of(postgres_url)
    elsewhere = {**owner(), "boot": "another", "pid": 2**22}
    study.add_trial(create_trial(state=TrialState.RUNNING))
    study.add_trial(create_trial(state=TrialState.RUNNING, system_attrs={OWNER: elsewhere}))
    assert reap(study) == []
    assert reap(optuna.create_study()) == []


def age_heartbeats(study):
    age = sa.text("UPDATE trial_heartbeats SET heartbeat = :long_ago")
    with nas_optuna.storage.engine_of(study._storage).begin() as connection:
        connection.execute(age, {"long_ago": "2020-01-01 00:00:00"})


def test_a_trial_without_heartbeat_is_retried_by_optuna(storage_url):
    study = study_of(storage_url)
    storage, trial = study._storage, study.ask()
    trial.suggest_int("x0", 0, 999)
    trial.set_constraint("limit", 1.0)
    storage.record_heartbeat(trial._trial_id)
    fail_stale_trials(study)
    assert study.trials[0].state is TrialState.RUNNING
    age_heartbeats(study)
    fail_stale_trials(study)
    dead, again = study.trials
    assert (dead.state, again.state) == (TrialState.FAIL, TrialState.WAITING)
    assert again.system_attrs["fixed_params"] == dead.params
    assert again.constraints == {}


# Looking for the silent, failing one and enqueuing its repetition takes some 28 statements.
def test_optuna_killed_while_it_fails_a_silent_trial_loses_nothing(storage_url):
    study = study_of(storage_url)
    study._storage.record_heartbeat(study.ask()._trial_id)
    age_heartbeats(study)
    seen = []
    for count in itertools.count(1, 5):
        process = start(fail_stale_until_statement, storage_url, count)
        process.join()
        seen.append([t.state.name for t in study.trials])
        if process.exitcode == 0:
            break
    assert len(seen) >= 4
    assert seen[0] == ["RUNNING"]
    assert seen[-1] == ["FAIL", "WAITING"]
    assert all(states in (seen[0], seen[-1]) for states in seen)


class Clock:
    """Time that passes when it is slept, and no other."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_silence_tells_nothing_right_after_the_database_was_away(storage_url, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    study = study_of(storage_url)
    storage, trial = study._storage, study.ask()
    process = leave_dead(storage_url, 1)
    storage.record_heartbeat(trial._trial_id)
    age_heartbeats(study)  # as during an outage of more than the grace period
    back = clock.now + 200.0

    def begin(_):
        if clock.now < back:
            raise sqlite3.OperationalError("database is locked")

    sa.event.listen(nas_optuna.storage.engine_of(storage), "begin", begin, insert=True)
    process.kill()
    process.join()
    assert reap(study) == [1]  # its process is known to be dead; the other's heartbeat is due
    assert clock.now >= back
    fail_stale_trials(study)
    assert not is_gone(backend_of(storage), trial._trial_id)
    clock.sleep(60.0)
    assert reap(study) == []
    clock.sleep(10.0)  # an interval and the longest pause are over, and it came not
    assert is_gone(backend_of(storage), trial._trial_id)
    assert reap(study) == [0]


def test_a_retry_keeps_the_proposal_and_nothing_measured():
    dead = create_trial(
        state=TrialState.RUNNING,
        params={"x": 3},
        distributions={"x": IntDistribution(0, 9)},
        user_attrs={"nas:digest": "d"},
        intermediate_values={1: 0.5},
        constraints={"latency_ms": 2.0},
        system_attrs={
            "NSGAIISampler:generation": 4,
            "nas:proposal:arm": "b",
            "nas:pruner:accuracy:completed_rung_0": 0.5,
            "constraints": [2.0],
            "fixed_params": {"x": 3, "y": 5},  # y was not asked for before it died
            OWNER: owner(),
        },
    )
    dead.number = 6
    again = clean_retry(dead)
    assert again.state is TrialState.WAITING
    assert again.system_attrs == {
        "NSGAIISampler:generation": 4,
        "nas:proposal:arm": "b",
        "fixed_params": {"x": 3, "y": 5},
        RETRY_OF: 6,
        RETRY_HISTORY: [6],
    }
    assert (again.params, again.user_attrs, again.intermediate_values) == ({}, {}, {})
    assert again.values is None
    assert again.datetime_start is None


def test_a_chain_ends_after_its_retries(storage_url):
    study = study_of(storage_url)
    for number in range(MAX_RETRIES + 1):
        process = leave_dead(storage_url, 1)
        process.kill()
        process.join()
        assert reap(study) == [number]
    assert [t.state for t in study.trials] == [TrialState.FAIL] * (MAX_RETRIES + 1)
    assert study.trials[-1].system_attrs[RETRY_HISTORY] == list(range(MAX_RETRIES))
    assert [draw_index(study, t) for t in study.trials] == [0] * (MAX_RETRIES + 1)
    study.ask()
    assert draw_index(study, study.trials[-1]) == 1


def test_what_a_signal_stopped_does_not_count():
    stops, deaths, number = 0, 0, 0
    again = create_trial(state=TrialState.WAITING)
    while again is not None:
        stopped = number % 3 > 0
        ended = create_trial(
            state=TrialState.FAIL,
            user_attrs={FAILED: STOPPED} if stopped else {},
            system_attrs=again.system_attrs,
        )
        ended.number = number
        stops, deaths, number = stops + stopped, deaths + (not stopped), number + 1
        again = clean_retry(ended)
        if again is not None:
            assert again.system_attrs.get(RETRY_STOPS, 0) == stops
            assert again.system_attrs[RETRY_HISTORY] == list(range(number))
    assert (deaths, stops) == (MAX_RETRIES + 1, 2 * MAX_RETRIES)


def test_draw_index_skips_retries():
    study = optuna.create_study()
    for _ in range(4):
        study.ask()
    for number in (1, 3):
        study.tell(number, state=TrialState.FAIL)
        retry(study, study.trials[number])
    again = study.ask()  # number 4, repeats 1
    study.tell(again, state=TrialState.FAIL)
    retry(study, study.trials[4])  # number 6, repeats 1 once more; 5 repeats 3
    for _ in range(4):
        study.ask()
    #         numbers 0  1  2  3  4  5  6  7  8
    expected = [0, 1, 2, 3, 1, 3, 1, 4, 5]
    assert [draw_index(study, t) for t in study.trials] == expected


@dataclass
class Outcome:
    finished: list
    failed: set
    retried: list


def outcome(study):
    trials = study.get_trials(deepcopy=False)
    assert [t.number for t in trials] == list(range(len(trials)))
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    return Outcome(
        [(t.params, t.values, t.constraints) for t in trials if t.state is TrialState.COMPLETE],
        {t.number for t in trials if t.state is TrialState.FAIL},
        [t.system_attrs[RETRY_HISTORY][-1] for t in trials if RETRY_OF in t.system_attrs],
    )


def never_killed(trials):
    study = optuna.create_study(sampler=DrawSampler())
    study.optimize(formula, n_trials=trials)
    return outcome(study).finished


# A search of one trial makes some 110 (PostgreSQL) to 130 (SQLite) statements, reaping included.
def test_killed_at_any_statement_equals_never_killed(storage_url):
    study = study_of(storage_url)
    for count in range(3, 112, 22):
        for last in (40, count):  # the second one dies while it takes the first one's place
            process = start(search_until_statement, storage_url, last)
            process.join()
            assert process.exitcode == -9
        reap(study)
        study.optimize(formula, n_trials=1)
    result = outcome(study)
    assert sorted(result.retried) == sorted(result.failed)
    assert len(result.failed) >= 5
    assert result.finished == never_killed(len(result.finished))


@pytest.mark.slow
def test_killed_twenty_times_equals_never_killed(storage_url):
    rng = random.Random(0)
    study = study_of(storage_url)
    for _ in range(20):
        ready = CONTEXT.Event()
        process = start(search, storage_url, 1000, ready)
        assert ready.wait(timeout=60)
        time.sleep(rng.uniform(0.0, 0.1))
        process.kill()
        process.join()
    reap(study)
    study.optimize(formula, n_trials=5)
    result = outcome(study)
    assert len(result.failed) >= 10  # a kill between two trials fails none
    assert sorted(result.retried) == sorted(result.failed)
    assert result.finished == never_killed(len(result.finished))

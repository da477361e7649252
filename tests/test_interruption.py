"""A signal stops a run wherever it comes, and leaves no trial that runs for ever."""

import os
import signal
import threading
from dataclasses import replace

import pytest
from optuna.trial import TrialState

import nas_optuna as nas
from nas_optuna.escape import Escape
from nas_optuna.interruption import Interruption
from nas_optuna.objective import Objective
from nas_optuna.recording import FAILED, STOPPED
from nas_optuna.storage import Storage
from nas_optuna.storage.ownership import MAX_RETRIES, RETRY_HISTORY
from tests.formula import Formula

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def search(tmp_path):
    return nas.Search(
        name="s",
        space=nas.spaces.MacroSpace((1, 8, 8), 10, max_layers=3),
        evaluator=Formula(),
        metrics=("accuracy", "parameters"),
        storage=f"sqlite:///{tmp_path}/nas.db",
        sampler="random",
    )


def send(number):
    os.kill(os.getpid(), number)


def at_trial(place, number, monkeypatch):
    """Send a signal at one place of the third trial's way."""
    owner, name, when = {
        "judged": (Objective, "_evaluate", "before"),
        "asked": (Storage, "_create_new_trial", "after"),
        "told": (Storage, "set_trial_state_values", "before"),
        "called back": (Escape, "__call__", "before"),
    }[place]
    original, calls = getattr(owner, name), []

    def signalled(*args, **kwargs):
        calls.append(place)
        if len(calls) == 3 and when == "before":
            send(number)
        result = original(*args, **kwargs)
        if len(calls) == 3 and when == "after":
            send(number)
        return result

    monkeypatch.setattr(owner, name, signalled)


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("judged", signal.SIGINT),
        ("judged", signal.SIGTERM),
        ("asked", signal.SIGTERM),
        ("told", signal.SIGINT),
        ("called back", signal.SIGTERM),
    ],
)
def test_a_signal_at_any_place_stops_a_run(search, monkeypatch, place, number):
    study = search.create()
    handlers = [signal.getsignal(s) for s in SIGNALS]
    with monkeypatch.context() as patch:
        at_trial(place, number, patch)
        with pytest.raises(KeyboardInterrupt) as stopped:
            search.optimize(study, trials=20)
    assert stopped.value.args == (number,)
    assert [signal.getsignal(s) for s in SIGNALS] == handlers
    states = [t.state for t in study.get_trials(deepcopy=False)]
    assert TrialState.RUNNING not in states
    for failed in study.get_trials(states=(TrialState.FAIL,)):
        assert failed.user_attrs[FAILED] == STOPPED  # or its repetitions would be counted
    finished = states.count(TrialState.COMPLETE)
    assert 2 <= finished <= 3
    assert states.count(TrialState.WAITING) == states.count(TrialState.FAIL) <= 1

    search.optimize(study, trials=3)
    states = [t.state for t in study.get_trials(deepcopy=False)]
    assert states.count(TrialState.COMPLETE) == finished + 3
    assert TrialState.WAITING not in states


def test_an_interrupted_study_goes_on_as_if_it_had_not_been(search, monkeypatch, tmp_path):
    study = search.create()
    with monkeypatch.context() as patch:
        at_trial("judged", signal.SIGTERM, patch)
        with pytest.raises(KeyboardInterrupt):
            search.optimize(study, trials=6)
    search.optimize(study, trials=4)
    calm = replace(search, storage=f"sqlite:///{tmp_path}/calm.db")
    other = calm.create()
    calm.optimize(other, trials=6)
    finished = (TrialState.COMPLETE,)
    assert [(t.params, t.values) for t in study.get_trials(states=finished)] == [
        (t.params, t.values) for t in other.get_trials(states=finished)
    ]


def test_a_trial_that_is_stopped_each_time_is_repeated_until_it_ends(search):
    study = search.create()
    for _ in range(MAX_RETRIES + 2):
        stopped = replace(search, evaluator=Formula(kill_at=1, number=signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            stopped.optimize(study, trials=1)
    search.optimize(study, trials=1)
    *failed, last = study.trials
    assert [t.state for t in failed] == [TrialState.FAIL] * (MAX_RETRIES + 2)
    assert last.state is TrialState.COMPLETE
    assert last.params == failed[0].params
    assert last.system_attrs[RETRY_HISTORY] == [t.number for t in failed]


def test_a_second_signal_ends_what_hangs(monkeypatch):
    clock = iter([10.0, 10.5, 12.0])
    monkeypatch.setattr("nas_optuna.interruption.time.monotonic", lambda: next(clock))
    interruption = Interruption()
    with interruption.caught():
        send(signal.SIGINT)
        send(signal.SIGINT)  # half a second later: the same Ctrl-C, sent on by a parent
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert interruption.number == signal.SIGINT


def test_a_handler_of_the_users_own_stays():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        with Interruption().caught():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [1]


def test_a_run_in_another_thread_leaves_signals_alone(search):
    study = search.create()
    thread = threading.Thread(target=search.optimize, args=(study,), kwargs={"trials": 1})
    thread.start()
    thread.join()
    assert [t.state for t in study.trials] == [TrialState.COMPLETE]

"""Ctrl-C and SIGTERM in the middle of a run, and the run that goes on after it."""

import signal
import sqlite3
import subprocess
import time
from collections import Counter

import optuna
import pytest

from tests.cli.conftest import SMALL, command

SLOW = SMALL.replace("[4, 6, 8, 256]", "list(range(4, 40))").replace("epochs=2", "epochs=4")


def states(folder):
    if not (folder / "nas.db").exists():
        return Counter()
    connection = sqlite3.connect(folder / "nas.db")
    try:
        return Counter(state for (state,) in connection.execute("SELECT state FROM trials"))
    except sqlite3.OperationalError:  # its tables are not there yet
        return Counter()
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_cleanly(folder, call, number):
    (folder / "small.py").write_text(SLOW)
    run = subprocess.Popen(
        command("run", "small.py", "--trials", 1000), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    began = time.monotonic()
    while states(folder)["COMPLETE"] < 2:
        assert run.poll() is None
        assert time.monotonic() - began < 100
        time.sleep(0.02)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 128 + number
    assert err == "Interrupted; `resume` repeats the trial that was running.\n"
    assert "Pareto front of small" in out or "No feasible network" in out
    assert "nas-optuna resume small.py" in out
    stopped = states(folder)
    assert stopped["RUNNING"] == 0

    again = call(folder, "resume", "small.py", "--trials", 2)
    assert (again.status, again.err) == (0, "")
    assert states(folder)["COMPLETE"] == stopped["COMPLETE"] + 2
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/nas.db")
    for failed in study.get_trials(states=[optuna.trial.TrialState.FAIL]):
        (retry,) = (t for t in study.trials if t.system_attrs.get("nas:retry_of") == failed.number)
        assert retry.state.name == "COMPLETE"
        assert failed.params.items() <= retry.params.items()

"""Workers side by side: an exact budget, nothing trained twice, and what happens when they die."""

import os
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import optuna
import psutil
import pytest
import yaml
from optuna.trial import TrialState
from typer.testing import CliRunner

import nas_optuna as nas
from nas_optuna import running
from nas_optuna.cli.app import app
from nas_optuna.errors import StorageError
from nas_optuna.liveness import sign_of_life
from nas_optuna.storage import ownership
from nas_optuna.storage.budget import Goal, goal_of, leave_goal, set_goal, spent
from nas_optuna.workers import LocalCrew, watchdog, work
from nas_optuna.workers.processes import MOST_DEATHS, places
from tests.cli.conftest import SMALL, command
from tests.crews import ONE, SPACE, evaluations, finish, goal, search, start
from tests.formula import Formula
from tests.storage.processes import CONTEXT, together

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def states(study):
    return Counter(t.state.name for t in study.get_trials(deepcopy=False))


def test_four_workers_finish_a_hundred_trials(storage_url, tmp_path):
    log = tmp_path / "log"
    study = search(storage_url, log).create()
    finish(storage_url, log, goal(100), count=4, seconds=0.005)
    trials = study.get_trials()
    assert [t.number for t in trials] == list(range(100))
    assert states(study) == {"COMPLETE": 100}
    done = evaluations(log)
    assert len(set(done)) == len(done)  # none twice
    cached = sum("nas:cached" in t.user_attrs for t in trials)
    infeasible = sum("nas:infeasible" in t.user_attrs for t in trials)
    assert len(done) + cached + infeasible == 100
    assert cached > 20  # so there was something to train twice
    owners = {t.system_attrs[ownership.OWNER]["pid"] for t in trials}
    assert len(owners) == 4


def test_a_budget_of_trainings_is_exact(storage_url, tmp_path):
    log = tmp_path / "log"
    study = search(storage_url, log).create()
    finish(storage_url, log, goal(evaluations=12), count=3, seconds=0.02)
    assert len(evaluations(log)) == len(set(evaluations(log))) == 12
    assert spent(study, goal(evaluations=12)).trained == 12
    assert states(study).keys() == {"COMPLETE"}


def test_workers_wait_for_a_network_that_another_one_trains(storage_url, tmp_path):
    log = tmp_path / "log"
    study = search(storage_url, log, space=ONE).create()
    finish(storage_url, log, goal(6), count=3, space=ONE, epochs=3, seconds=0.3)
    assert len(evaluations(log)) == 1
    assert sum("nas:cached" in t.user_attrs for t in study.trials) == 5
    assert len({tuple(t.values) for t in study.trials}) == 1


def test_the_trial_and_the_claim_of_a_killed_worker_pass_on(storage_url, tmp_path):
    log = tmp_path / "log"
    study = search(storage_url, log, space=ONE).create()
    killed = start(storage_url, log, goal(2), space=ONE, kill_at=1)
    killed.join(timeout=60)
    assert killed.exitcode == -signal.SIGKILL
    assert states(study) == {"RUNNING": 1}
    finish(storage_url, log, goal(2), count=2, space=ONE)
    assert states(study) == {"FAIL": 1, "COMPLETE": 2}
    assert len(evaluations(log)) == 1
    first, again = study.trials[0], study.trials[1]
    assert again.system_attrs[ownership.RETRY_OF] == first.number
    assert again.params == first.params


def test_a_worker_that_hangs_ends_itself_and_its_trial_is_repeated(tmp_path):
    url, log, settings = f"sqlite:///{tmp_path}/nas.db", tmp_path / "log", {"hang": 2.0}
    study = search(url, log).create()
    hanging = start(url, log, goal(1), settings=settings, hang=True)
    hanging.join(timeout=60)
    assert hanging.exitcode == -signal.SIGKILL
    # One that works, in epochs shorter than that, is left alone.
    finish(url, log, goal(1), count=1, settings=settings, epochs=4, seconds=0.6)
    assert states(study) == {"FAIL": 1, "COMPLETE": 1}


class Clock:
    """Stands still until it is told how late it is."""

    def __init__(self):
        self.now = 0.0
        self.read = Event()

    def monotonic(self):
        self.read.set()
        return self.now

    def wait_until_read(self, times):
        for _ in range(times):
            self.read.clear()
            assert self.read.wait(60)


def test_signs_of_life_keep_a_worker_alive(tmp_path, monkeypatch):
    """As those of a training whose epochs are in no trial: of a supernet, or of proxy health."""
    clock, killed = Clock(), Event()
    monkeypatch.setattr(watchdog, "time", clock)
    monkeypatch.setattr(
        watchdog, "os", SimpleNamespace(getpid=os.getpid, kill=lambda *_: killed.set())
    )
    storage = nas.storage.open(f"sqlite:///{tmp_path}/nas.db")
    with watchdog.Watchdog(storage.engine, 0.04):  # so it looks every 0.01 s
        for _ in range(5):
            clock.now += 0.03
            sign_of_life()
        clock.now += 0.03
        clock.wait_until_read(3)
        assert not killed.is_set()
        other = Thread(target=sign_of_life)  # which says nothing about the one that is watched
        clock.now += 0.03
        other.start()
        other.join()
        assert killed.wait(60)
    sign_of_life()  # nobody hears it any more


def test_a_worker_taken_for_dead_gives_up_its_trial_and_goes_on(storage_url, tmp_path):
    """It was stopped, as a machine that sleeps, and another worker took its trial over."""
    log = tmp_path / "log"
    study = search(storage_url, log).create()
    stopped = start(storage_url, log, goal(6), epochs=10, seconds=0.1)
    while not any(t.intermediate_values for t in study.get_trials(deepcopy=False)):
        time.sleep(0.05)
    os.kill(stopped.pid, signal.SIGSTOP)
    age_heartbeats(study)
    assert len(ownership.reap(study)) == 1
    os.kill(stopped.pid, signal.SIGCONT)
    finish(storage_url, log, goal(6), count=1)
    stopped.join(timeout=60)
    assert stopped.exitcode == 0
    assert states(study) == {"FAIL": 1, "COMPLETE": 6}


class Slept(Formula):
    """Judges its first network while this worker counts as dead.

    Args:
        meanwhile: Called in the middle of that; None in a worker that is awake.
    """

    def __init__(self, meanwhile=None):
        super().__init__()
        self.meanwhile = meanwhile

    def evaluate(self, candidate, report):
        metrics = super().evaluate(candidate, report)
        if self.meanwhile and len(self.judged) == 1:
            self.meanwhile()
        return metrics


def sleeping_and_awake(url, meanwhile):
    """A search that sleeps in its first trial, and another on the same study that is awake."""
    awake = nas.Search(
        name="crew", space=SPACE, evaluator=Slept(), metrics=("accuracy", "parameters"),
        sampler="random", storage=url,
    )  # fmt: skip
    return replace(awake, evaluator=Slept(lambda: meanwhile(awake))), awake


def age_heartbeats(study):
    with ownership.backend_of(study._storage).engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")


def test_a_worker_that_lost_its_trial_leaves_when_the_others_met_the_goal(tmp_path, monkeypatch):
    def meanwhile(awake):
        age_heartbeats(study)
        awake.optimize(awake.load(), trials=3)

    told = []

    def tell(*args):
        told.append(args)
        assert len(told) < 3  # it went on for ever

    monkeypatch.setattr(running._logger, "warning", tell)
    sleeping, _ = sleeping_and_awake(f"sqlite:///{tmp_path}/nas.db", meanwhile)
    study = sleeping.create()
    work(sleeping, study, goal=goal(3))
    assert len(told) == 1
    assert states(study) == {"FAIL": 1, "COMPLETE": 3}


def test_a_trial_that_optuna_finds_silent_is_given_up_by_its_worker(storage_url):
    """Optuna looks before each trial, without our asking for it."""

    def meanwhile(awake):
        other = awake.load()
        age = [lambda study, trial: age_heartbeats(study) if trial.number == 1 else None]
        awake.optimize(other, trials=2, callbacks=age)

    sleeping, _ = sleeping_and_awake(storage_url, meanwhile)
    study = sleeping.create()
    sleeping.optimize(study, trials=1)
    assert [t.state.name for t in study.trials] == ["FAIL", *["COMPLETE"] * 3]
    first, _, again, _ = study.trials
    assert first.system_attrs[ownership.REAPED]
    assert again.system_attrs[ownership.RETRY_OF] == first.number
    assert again.params == first.params


def test_a_signal_lets_a_worker_leave_and_its_trial_pass_on(storage_url, tmp_path):
    log = tmp_path / "log"
    study = search(storage_url, log).create()
    told = start(storage_url, log, goal(3), epochs=50, seconds=0.1)
    while not any(t.intermediate_values for t in study.get_trials(deepcopy=False)):
        time.sleep(0.05)
    told.terminate()
    told.join(timeout=60)
    assert told.exitcode == 128 + signal.SIGTERM
    assert states(study) == {"FAIL": 1, "WAITING": 1}
    finish(storage_url, log, goal(3), count=2)
    assert states(study) == {"FAIL": 1, "COMPLETE": 3}


def aim(url, log, trials):
    study = search(url, log).load()
    return set_goal(study, trials=trials, evaluations=None).trials


def test_what_launchers_ask_for_adds_up(storage_url, tmp_path):
    made = search(storage_url, tmp_path / "log")
    study = made.create()
    assert goal_of(study) is None
    made.optimize(study, trials=3)
    assert set_goal(study, trials=5, evaluations=None) == Goal(trials=8)
    assert set_goal(study, trials=5, evaluations=None) == Goal(trials=8)  # the same call again
    other = CONTEXT.Process(target=aim, args=(storage_url, tmp_path / "log", 10))
    other.start()
    other.join()
    assert goal_of(study) == Goal(trials=18)
    trained = spent(study, goal(evaluations=1)).trained
    # That launcher died, so what it asked for is no longer open.
    assert set_goal(study, trials=1, evaluations=2) == Goal(trials=4, evaluations=trained + 2)
    leave_goal(study)
    assert goal_of(study) == Goal(trials=4, evaluations=trained + 2)
    assert set_goal(study, trials=1, evaluations=None) == Goal(trials=4)


def test_launchers_at_once(storage_url, tmp_path):
    search(storage_url, tmp_path / "log").create()
    asked = together(aim_and_stay, 4, storage_url, tmp_path / "log", CONTEXT.Barrier(4))
    assert sorted(asked) == [5, 10, 15, 20]


def aim_and_stay(url, log, barrier):
    asked = aim(url, log, 5)
    barrier.wait(timeout=60)
    return asked


def test_a_study_in_memory_has_no_workers():
    with pytest.raises(StorageError, match=r"nas_optuna\.storage\.open"):
        set_goal(optuna.create_study(), trials=1, evaluations=None)


@pytest.mark.parametrize(
    ("environment", "gpus", "expected"),
    [
        ({}, 2, ["0", "1", "0"]),
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, 8, ["3", "5", "3"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, 8, [None] * 3),
        ({}, 0, [None] * 3),
    ],
)
def test_gpus_are_given_out_in_turn(environment, gpus, expected):
    found = places(3, environment=environment, gpus=gpus)
    assert [place.get("CUDA_VISIBLE_DEVICES") for place in found] == expected


def test_cores_are_divided(monkeypatch):
    monkeypatch.setattr("nas_optuna.workers.processes.cores", lambda: 8)
    assert {p["OMP_NUM_THREADS"] for p in places(3, environment={}, gpus=0)} == {"2"}
    assert {p["OMP_NUM_THREADS"] for p in places(9, environment={}, gpus=0)} == {"1"}
    chosen = places(3, environment={"OMP_NUM_THREADS": "5"}, gpus=0)
    assert {p["OMP_NUM_THREADS"] for p in chosen} == {"5"}


@pytest.mark.parametrize(("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (35, "signal 35")])
def test_every_signal_that_ends_a_worker_has_a_name(number, name, caplog):
    """Also the real-time ones, most of which Python knows by number only."""
    crew = LocalCrew(lambda: 0, 1)
    crew._deaths = MOST_DEATHS  # so that no other is started in its place
    crew._processes[0] = SimpleNamespace(exitcode=-number)
    assert not crew.look_after(finished=0)
    assert f"Worker 0 was ended by {name} once too often." in caplog.messages


@pytest.mark.parametrize(
    ("threads", "expected"),
    [("2,1", "2"), (" 3 , 2", "3"), ("0", "4"), ("-1", "4"), ("many", "4"), ("", "4")],
)
def test_of_a_list_of_threads_the_first_counts_and_what_is_no_number_does_not(
    monkeypatch, threads, expected
):
    monkeypatch.setattr("nas_optuna.workers.processes.cores", lambda: 8)
    (place, _) = places(2, environment={"OMP_NUM_THREADS": threads}, gpus=0)
    assert place == {"OMP_NUM_THREADS": expected, "MKL_NUM_THREADS": expected}


SLOW = SMALL.replace("[4, 6, 8, 256]", "list(range(4, 40))").replace("epochs=2", "epochs=40")


def launch(folder, *words, **streams):
    return subprocess.Popen(command(*words), cwd=folder, text=True, **streams)


def wait_until(condition, run):
    began = time.monotonic()
    while not condition():
        assert run.poll() is None
        assert time.monotonic() - began < 100
        time.sleep(0.05)


def stored(folder):
    """The study of a folder; None until it has a trial."""
    try:
        url = f"sqlite:///{folder}/nas.db"
        study = optuna.load_study(study_name="small", storage=nas.storage.open(url))
    except (KeyError, nas.errors.NasOptunaError):
        return None
    return study if study.get_trials(deepcopy=False) else None


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.py").write_text(SLOW)
    return tmp_path


@pytest.mark.slow
def test_the_command_line_replaces_a_killed_worker(folder):
    run = launch(
        folder, "run", "small.py", "--workers", 2, "--trials", 7,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: stored(folder), run)
    study = stored(folder)
    running = study.get_trials(deepcopy=False)[0].system_attrs[ownership.OWNER]["pid"]
    assert psutil.Process(running).ppid() == run.pid
    os.kill(running, signal.SIGKILL)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0
    assert "was ended by SIGKILL and is replaced" in err
    assert "7/7 trials" in out
    counts = states(study)
    assert counts["COMPLETE"] == 7
    assert counts.keys() <= {"COMPLETE", "FAIL"}
    # Two more, by a worker that is told how many there shall be in all; and then nothing.
    for trials in (9, 9):
        done = subprocess.run(
            command("worker", "small.py", "--trials", trials), cwd=folder, timeout=120
        )
        assert done.returncode == 0
        assert states(study)["COMPLETE"] == 9


@pytest.mark.slow
def test_a_signal_ends_the_workers_of_a_launcher(folder):
    run = launch(
        folder, "run", "small.py", "--workers", 2, "--trials", 500,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: stored(folder), run)
    workers = psutil.Process(run.pid).children()
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM
    # Python tells of an exception that a signal raises within a finaliser, and drops it.
    assert err.endswith("Interrupted; `resume` repeats the trial that was running.\n")
    assert psutil.wait_procs(workers, timeout=10)[1] == []  # the last ones leave with their pipes
    assert states(stored(folder))["RUNNING"] == 0


@pytest.mark.slow
def test_workers_leave_when_their_launcher_is_killed(folder):
    run = launch(folder, "run", "small.py", "--workers", 1, "--trials", 500, "--launcher", "local")
    wait_until(lambda: stored(folder), run)
    run.kill()
    run.wait()
    run = launch(folder, "run", "small.py", "--workers", 2, "--trials", 500)
    study = stored(folder)
    before = len(study.get_trials(deepcopy=False))
    wait_until(lambda: len(study.get_trials(deepcopy=False)) > before + 1, run)
    workers = [w for w in psutil.Process(run.pid).children() if "spawn_main" in str(w.cmdline())]
    assert len(workers) == 2
    run.kill()
    run.wait()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (2, [])
    ownership.reap(study)
    assert states(study)["RUNNING"] == 0


@pytest.mark.slow
def test_an_error_is_one_line_of_each_worker(folder):
    (folder / "small.py").write_text(SMALL)
    subprocess.run(command("run", "small.py", "--trials", 1), cwd=folder, check=True, timeout=60)
    text = SMALL.replace(
        "    net = nas", "    if trial.number: raise NameError('mine')\n    net = nas"
    )
    (folder / "small.py").write_text(text)
    done = subprocess.run(
        command("run", "small.py", "--workers", 2), cwd=folder, text=True, capture_output=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert sum("NameError: mine" in line for line in lines) == 2
    assert lines[-1].startswith("error: All 2 workers failed")
    assert len(lines) == 3


GUIDE = (Path(__file__).parent.parent / "docs/workers.md").read_text()
MANIFEST = yaml.safe_load(re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[1])
JOB = MANIFEST["spec"]["template"]["spec"]["containers"][0]


def test_the_guide_names_commands_and_options_that_are_there():
    runner = CliRunner()
    lines = re.findall(r"nas-optuna ((?:run|resume|worker) .*?)(?:`|\s+#|$)", GUIDE, re.MULTILINE)
    assert len(lines) >= 8
    shown = {
        verb: runner.invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
        for verb in ("run", "resume", "worker")
    }
    for line in [*lines, " ".join(JOB["command"][1:] + JOB["args"])]:
        verb, *words = line.split()
        for option in words:
            assert not option.startswith("--") or option in shown[verb], line

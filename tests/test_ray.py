"""Workers on a Ray cluster of this machine."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

import nas_optuna as nas
from nas_optuna.errors import WorkerError
from nas_optuna.workers import Job
from nas_optuna.workers.on_ray import RayCrew
from tests.cli.conftest import command

STUDY = Path(__file__).parent.parent / "studies/digits.py"


@pytest.mark.slow
def test_ray_runs_a_study_on_two_workers(tmp_path):
    """That of `studies/digits.py`, with less to train; its budget is met exactly."""
    text = STUDY.read_text().replace("max_epochs=12", "max_epochs=1").replace("=40", "=6")
    assert text.count("max_epochs=1)") == text.count("trials=6") == 1
    (tmp_path / "digits.py").write_text(text)
    run = [*command("run", "digits.py", "--launcher", "ray"), "--workers", "2", "--cpus", "0.5"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "6/6 trials" in done.stdout
    storage = nas.storage.open(f"sqlite:///{tmp_path}/nas.db")
    trials = optuna.load_study(study_name="digits", storage=storage).get_trials()
    assert Counter(t.state.name for t in trials) == {"COMPLETE": 6}
    owners = {t.system_attrs["nas:owner"]["pid"] for t in trials}
    assert 1 <= len(owners) <= 2


def test_ray_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkerError, match=r"pip install nas-optuna\[ray\]"):
        RayCrew(Job(load=lambda: None), 2)


class Cluster:
    """The machines of a cluster, as Ray tells them."""

    def __init__(self, *machines):
        self.machines = machines

    def is_initialized(self):
        return True

    def nodes(self):
        return [{"Alive": True, "Resources": resources} for resources in self.machines]


@pytest.mark.parametrize(
    ("machines", "asked", "message"),
    [
        ([{"CPU": 8.0}], {"cpus": 9}, "has 9 cores and 0 GPUs"),
        ([{"CPU": 8.0}, {"CPU": 2.0, "GPU": 4.0}], {"cpus": 4, "gpus": 1}, "4 cores and 1 GPUs"),
        ([{"CPU": 8.0}, {"CPU": 8.0}], {}, "2 machines, and a SQLite file"),
    ],
)
def test_what_a_cluster_cannot_do_is_said_before_it_starts(machines, asked, message):
    small = nas.Search(
        name="s",
        space=nas.spaces.MacroSpace((1, 8, 8), 10),
        evaluator=nas.evaluators.FullTraining("digits"),
    )
    crew = RayCrew(Job(load=lambda: replace(small)), 2, **asked)
    crew._ray = Cluster(*machines)
    with pytest.raises(WorkerError, match=message):
        crew.start()

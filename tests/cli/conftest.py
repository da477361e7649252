"""Study files that train in a moment, and two ways to call the command line."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from nas_optuna.cli import main

SMALL = """
import nas_optuna as nas

data = nas.data.load("digits")


def network(trial):
    width = trial.suggest_categorical("width", [4, 6, 8, 256])
    kernel_size = trial.suggest_categorical("kernel_size", [1, 3])
    depth = trial.suggest_int("depth", 1, 2)
    net = nas.ArchitectureBuilder(data.input_shape, data.num_classes)
    x = net.input
    for i in range(depth):
        with net.scope(f"layer{i}"):
            x = net.conv2d(x, width, kernel_size, stride=2, name="conv")
    return net.build(net.classifier(x))


search = nas.Search(
    name="small",
    space=network,
    evaluator=nas.evaluators.FullTraining(data, epochs=2),
    constraints=nas.SearchConstraints(max_parameters=1000),
    latency=nas.objective.LatencySettings(seconds=0.005),
    sampler="random",
    trials=3,
)
"""

MODULE = """
from torch import nn

import nas_optuna as nas

data = nas.data.load("digits")


def perceptron(trial):
    hidden = trial.suggest_categorical("hidden", [4, 8])
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


search = nas.Search(
    name="perceptrons",
    space=perceptron,
    evaluator=nas.evaluators.FullTraining(data, epochs=1),
    metrics=("accuracy",),
    sampler="random",
)
"""


@dataclass
class Called:
    """What a call gave."""

    status: int
    out: str
    err: str


def command(*words):
    """The command line as a list of words for a process of its own."""
    return [sys.executable, "-m", "nas_optuna.cli", *map(str, words)]


def process(folder, *words):
    """Call the command line in a process of its own, in `folder`."""
    done = subprocess.run(command(*words), cwd=folder, capture_output=True, text=True, timeout=120)
    return Called(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def call(capfd, monkeypatch):
    """Calls the command line in this process, which spares the imports."""

    def call(folder, *words):
        monkeypatch.chdir(folder)
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        printed = capfd.readouterr()
        return Called(end.value.code, printed.out, printed.err)

    return call


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with the two study files and nothing else."""
    (tmp_path / "small.py").write_text(SMALL)
    (tmp_path / "module.py").write_text(MODULE)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder where `small.py` was run in a process of its own for 8 trials, and what it said.

    With its seed 3 are trained, 3 cached and 2 infeasible.
    """
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.py").write_text(SMALL)
    return folder, process(folder, "run", "small.py", "--trials", 8)

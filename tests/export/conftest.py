"""One network, shipped once by the command line in this process."""

import io
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from nas_optuna.cli import main
from nas_optuna.export import check
from nas_optuna.study_file import load_search

STUDY = """
import nas_optuna as nas

data = nas.data.load("digits")


def network(trial):
    width = trial.suggest_categorical("width", [4, 256])
    net = nas.ArchitectureBuilder(data.input_shape, data.num_classes)
    stem = net.conv2d(net.input, width, stride=2, name="stem")
    with net.scope("block"):
        x = net.add(net.conv2d(stem, width, name="conv"), stem, name="add")
    return net.build(net.classifier(x))


search = nas.Search(
    name="tiny",
    space=network,
    evaluator=nas.evaluators.FullTraining(data, epochs=1),
    constraints=nas.SearchConstraints(max_parameters=1000, max_flops=100_000),
    latency=nas.LatencySettings(seconds=0.02),
    sampler="random",
    storage="sqlite:///FOLDER/nas.db",
)
"""
FINISHED, INFEASIBLE = 0, 1


@dataclass
class Shipped:
    """What the export wrote and said, and the study file."""

    study: Path
    folder: Path
    status: int
    said: str


@pytest.fixture(scope="session")
def study_file(tmp_path_factory) -> Path:
    """A study of two trials: one finished, one infeasible."""
    folder = tmp_path_factory.mktemp("study")
    file = folder / "tiny.py"
    file.write_text(STUDY.replace("FOLDER", str(folder)))
    search = load_search(file)
    study = search.create()
    study.enqueue_trial({"width": 4})
    study.enqueue_trial({"width": 256})
    search.optimize(study, trials=2)
    return file


@pytest.fixture(scope="session")
def shipped(study_file) -> Shipped:
    """The finished trial, retrained from two seeds, with an int8 file."""
    out = study_file.parent / "shipped"
    words = ["export", study_file, "--trial", FINISHED, "--out", out, "--seeds", 2]
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as end:
        main([str(word) for word in (*words, "--epochs", 3, "--int8")])
    return Shipped(study_file, out, end.value.code, said.getvalue())


@pytest.fixture
def copy(shipped, tmp_path) -> Path:
    """A copy of the shipped folder to do harm to."""
    return Path(shutil.copytree(shipped.folder, tmp_path / "copy"))


@pytest.fixture
def quick(monkeypatch):
    """Time programs for a moment only."""
    monkeypatch.setattr(check, "BLOCKS", 2)
    monkeypatch.setattr(check, "BLOCK_SECONDS", 1e-4)


def drifts(folder) -> list[str]:
    """What has drifted; latency may do what it likes on a busy machine."""
    found = check.check(folder, slower=1e6)
    return [text for status, text in found if status == "DRIFT"]

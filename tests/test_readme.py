"""The README is true: its Python runs, its files exist, its commands are there."""

import re
from pathlib import Path

import optuna
import pytest
from torch import nn
from typer.testing import CliRunner

import nas_optuna as nas
from nas_optuna.cli.app import app

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def block(marker: str) -> str:
    (found,) = [text for text in BLOCKS if marker in text]
    return found


@pytest.fixture
def names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {"nas": nas, "nn": nn, "data": nas.data.load("digits")}


def test_the_study_file_defines_a_search(names):
    exec(block('name="digits"'), names)
    assert isinstance(names["search"], nas.Search)


def test_the_script_runs(names):
    text = block("study.optimize").replace("n_trials=50", "n_trials=1")
    exec(text.replace("max_epochs=12", "max_epochs=1, min_epochs=1"), names)
    assert len(names["study"].trials) == 1


@pytest.mark.parametrize("marker", ["ArchitectureBuilder(data", "nn.Sequential"])
def test_both_kinds_of_function_run(names, marker):
    exec(block(marker), names)
    evaluator = nas.evaluators.FullTraining("digits", epochs=1)
    objective = nas.Objective(names["network"], evaluator, ("accuracy", "parameters"))
    study = optuna.create_study(directions=objective.directions)
    study.optimize(objective, n_trials=2)
    assert all("nas:curve" in trial.user_attrs for trial in study.trials)


def test_every_linked_file_is_there():
    links = re.findall(r"\]\(((?:docs|nas_optuna|scripts|studies)/[^)]*)\)", TEXT)
    assert len(links) > 10
    for link in links:
        path, _, section = link.partition("#")
        assert (ROOT / path).exists(), link
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
        assert not section or section in [h.lower().replace(" ", "-") for h in headings], link


def test_every_command_and_option_is_there():
    runner = CliRunner()
    for line in re.findall(r"^nas-optuna (.*?)(?:\s+#.*)?$", TEXT, re.MULTILINE):
        command, *options = line.split()
        shown = runner.invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for option in options:
            if option.startswith("--"):
                assert option in shown, (command, option)


def test_every_space_sampler_and_evaluator_is_named():
    spaces = {name for name in nas.spaces.__all__ if name.endswith("Space")}
    listed = [*(spaces - {"Space", "FunctionSpace", "CellSpace"}), *nas.samplers.names()]
    assert [name for name in listed if f"`{name}`" not in TEXT] == []

"""The packages for OptunaHub load as it loads them, and hold what it asks for."""

from pathlib import Path

import optuna
import optunahub
import pytest

import nas_optuna as nas
from nas_optuna import samplers

ROOT = Path(__file__).parents[1] / "studies/optunahub/package"
PACKAGES = ("samplers/nas_optuna", "benchmarks/nas_tabular")
CATEGORIES = {"samplers": "sampler", "benchmarks": "benchmark"}
TABLE = {"width": [8, 8, 16, 16], "depth": [1, 2, 1, 2], "accuracy": [0.6, 0.7, 0.8, 0.75],
         "parameters": [10, 20, 30, 40]}  # fmt: skip


def load(name):
    return optunahub.load_local_module(name, registry_root=str(ROOT))


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_what_the_registry_asks_for(name):
    folder = ROOT / name
    assert {"__init__.py", "LICENSE", "README.md", "example.py", "requirements.txt"} <= {
        file.name for file in folder.iterdir()
    }
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    lines = dict(line.split(": ", 1) for line in head.strip().splitlines())
    assert list(lines) == [
        "author", "title", "description", "tags", "optuna_versions", "license"
    ]  # fmt: skip
    assert CATEGORIES[name.partition("/")[0]] in lines["tags"].strip("[]").split(", ")
    assert lines["license"] == "MIT License"
    for heading in ("Abstract", "APIs", "Installation", "Example"):
        assert f"## {heading}\n" in body
    compile((folder / "example.py").read_text(), "example.py", "exec")


def test_the_samplers_are_ours():
    module = load("samplers/nas_optuna")
    assert module.names() == samplers.names()
    space = nas.spaces.NASBench201Space()
    study = optuna.create_study(sampler=module.create("nsga2", space=space, seed=0, trials=8))
    study.optimize(lambda trial: len(space(trial).nodes), n_trials=3)
    again = optuna.create_study(sampler=samplers.create("nsga2", space=space, seed=0, trials=8))
    again.optimize(lambda trial: len(space(trial).nodes), n_trials=3)
    assert [t.params for t in study.trials] == [t.params for t in again.trials]


def test_the_benchmark_is_the_table():
    problem = load("benchmarks/nas_tabular").Problem(
        nas.evaluators.Tabular(TABLE), metrics=("accuracy", "parameters")
    )
    assert isinstance(problem, optunahub.benchmarks.BaseProblem)
    assert [d.name for d in problem.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert {name: d.choices for name, d in problem.search_space.items()} == {
        "width": (8, 16), "depth": (1, 2)
    }  # fmt: skip
    assert problem.evaluate({"width": 8, "depth": 2}) == [0.7, 20.0]
    study = optuna.create_study(
        directions=problem.directions, sampler=optuna.samplers.BruteForceSampler()
    )
    study.optimize(problem, n_trials=4)
    found = sorted(t.values for t in study.best_trials)
    assert found == sorted(
        [row.values["accuracy"], row.values["parameters"]] for row in problem.true_front
    )


def test_nasbench201_is_offered_as_a_benchmark():
    problem = load("benchmarks/nas_tabular").Problem("cifar10")
    space = nas.spaces.NASBench201Space()
    assert {n: d.choices for n, d in problem.search_space.items()} == {
        name: gene.choices for name, gene in space.genes.items()
    }
    study = optuna.create_study(directions=problem.directions)
    cell = {"0->1": "nor_conv_3x3", "0->2": "nor_conv_3x3", "1->2": "skip_connect",
            "0->3": "nor_conv_1x1", "1->3": "nor_conv_3x3", "2->3": "skip_connect"}  # fmt: skip
    study.enqueue_trial(cell)
    study.optimize(problem, n_trials=3)
    assert 0.85 < study.trials[0].values[0] < 0.92  # of convolutions; the best has 0.916
    for trial in study.trials:
        row = problem.table.row(trial.params).values
        assert trial.values == [row["accuracy"], row["latency_ms"]]
    assert len(problem.true_front) == 25

"""`pareto`, `show`, `profile` and the lists."""

import csv
import io
import json

import optuna
import pytest

from nas_optuna import samplers
from tests.cli.conftest import SMALL


@pytest.fixture
def views(finished, call):
    """Calls a command on the finished study."""
    return lambda name, *words: call(finished[0], name, "small.py", *words)


@pytest.fixture(scope="module")
def trials(finished):
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{finished[0]}/nas.db")
    return study.get_trials(deepcopy=False)


def first(trials, mark):
    return next(t for t in trials if mark in t.user_attrs)


@pytest.mark.parametrize("words", [["pareto"], ["show", "--trial", 0], ["report"]])
def test_who_only_reads_makes_no_database_and_writes_none(finished, views, words):
    folder = finished[0]
    mistyped = views(*words, "--storage", "sqlite:///typo.db")
    error = "error: There is no database 'typo.db'; `nas-optuna run` makes one.\n"
    assert (mistyped.status, mistyped.err) == (1, error)
    assert not (folder / "typo.db").exists()
    looking = f"sqlite:///file:{folder}/nas.db?mode=ro&uri=true"  # any writing would fail
    assert views(*words, "--storage", looking).status == 0


def test_formats_hold_the_same_front(views):
    records = json.loads(views("pareto", "--format", "json").out)
    rows = list(csv.DictReader(io.StringIO(views("pareto", "--format", "csv").out)))
    table = views("pareto").out
    assert len(records) > 1
    assert [int(row["number"]) for row in rows] == [record["number"] for record in records]
    assert f"Pareto front of small: {len(records)} networks" in table
    for record in records:
        assert f"{record['values']['parameters']:,.0f}" in table


def test_a_limit_and_weights(views):
    everything = json.loads(views("pareto", "--format", "json").out)
    small = views("pareto", "--format", "json", "--limit", 1, "--weights", "parameters=1")
    (record,) = json.loads(small.out)
    assert record["score"] == pytest.approx(1 - record["values"]["parameters"] / 1000)
    table = views("pareto", "--limit", 1)
    assert f"Pareto front of small: 1 of {len(everything)} networks" in table.out


def test_weights_of_the_file(finished, call):
    weighted = SMALL.replace("trials=3", 'trials=3, weights={"parameters": 1.0}')
    (finished[0] / "weighted.py").write_text(weighted)
    (line,) = (
        line
        for line in call(finished[0], "pareto", "weighted.py", "--limit", 1).out.splitlines()
        if line.startswith("│")
    )
    parameters, score = (float(cell.replace(",", "")) for cell in line.split("│")[-3:-1])
    assert score == pytest.approx(1 - parameters / 1000, abs=5e-4)


def test_a_study_without_a_feasible_network(folder, call):
    strict = SMALL.replace("max_parameters=1000", "min_accuracy=1.0")
    (folder / "small.py").write_text(strict)
    run = call(folder, "run", "small.py", "--trials", 1)
    assert (run.status, run.err) == (0, "")
    assert "No feasible network in study 'small' yet." in run.out
    assert "nas-optuna show" not in run.out
    assert call(folder, "pareto", "small.py", "--format", "json").out == "[]\n"


def test_show_a_trained_network(views, trials):
    trial = next(t for t in trials if "nas:curve" in t.user_attrs)
    shown = views("show", "--trial", trial.number)
    assert (shown.status, shown.err) == (0, "")
    words = shown.out.split()
    assert shown.out.startswith(f"Trial {trial.number} of small: ")
    for part in ("layer0.conv", "conv", "/2,", "global", "accuracy", "IQR", "epochs,"):
        assert part in words or f"({part}" in words, part
    assert f"{trial.values[2]:,.0f}" in words
    curve = trial.user_attrs["nas:curve"]
    assert f"first {curve[0]:.3f}, best {max(curve):.3f}" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


@pytest.mark.parametrize(("name", "begins"), [("n.svg", b"<svg"), ("n[bold].png", b"\x89PNG")])
def test_show_draws_the_network(views, trials, tmp_path, name, begins):
    file = tmp_path / name
    shown = views("show", "--trial", trials[0].number, "--diagram", file)
    assert shown.status == 0
    assert shown.out.rstrip().endswith(name + ".")
    assert file.read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("name", "says"), [("n.jpg", "a .svg or .png file"), ("nowhere/n.svg", "Cannot write")]
)
def test_a_diagram_that_cannot_be_drawn_is_one_line(views, trials, tmp_path, name, says):
    shown = views("show", "--trial", trials[0].number, "--diagram", tmp_path / name)
    assert shown.status == 1
    assert says in shown.err
    assert shown.err.count("\n") == 1


def test_show_an_infeasible_network(views, trials):
    trial = first(trials, "nas:infeasible")
    shown = views("show", "--trial", trial.number)
    assert f"Trial {trial.number} of small: infeasible" in shown.out
    assert "max_parameters 1,000 exceeded by" in shown.out
    assert "layer0.conv" in shown.out
    assert shown.out.count("not measured") == 2  # accuracy and latency


def test_show_a_cached_network(views, trials):
    assert "(from the cache)" in views("show", "--trial", first(trials, "nas:cached").number).out


def test_show_a_module(folder, call):
    run = call(folder, "run", "module.py", "--trials", 1)
    assert "Best network of perceptrons" in run.out
    assert "front" not in run.out
    shown = call(folder, "show", "module.py", "--trial", 0)
    assert (shown.status, shown.err) == (0, "")
    assert "the best so far" in shown.out
    assert "(1): Linear(in_features=64" in shown.out
    assert "hidden" in shown.out
    changed = (folder / "module.py").read_text().replace("nn.ReLU", "nn.GELU")
    (folder / "module.py").write_text(changed)  # what is in the file is not what was judged
    assert "Linear(" not in call(folder, "show", "module.py", "--trial", 0).out


def test_show_a_network_that_cannot_be_built(folder, call):
    broken = (folder / "module.py").read_text().replace("Linear(64", "Linear(63")
    broken = broken.replace("trial):", "trial):\n    wide = trial.suggest_int('wide', 63, 64)")
    broken = broken.replace("Linear(63", "Linear(wide")
    (folder / "module.py").write_text(broken)
    assert call(folder, "run", "module.py", "--trials", 4).status == 0
    study = optuna.load_study(study_name="perceptrons", storage=f"sqlite:///{folder}/nas.db")
    number = next(t.number for t in study.trials if t.params["wide"] == 63)
    shown = call(folder, "show", "module.py", "--trial", number)
    assert shown.status == 0
    assert f"Trial {number} of perceptrons: infeasible" in shown.out
    assert "accuracy  not measured" in shown.out
    assert "wide" in shown.out


def test_profile(views):
    shown = views("profile", "--samples", 30)
    assert (shown.status, shown.err) == (0, "")
    assert "network: 30 random networks" in shown.out
    for part in ("parameters", "flops", "memory_mb", "latency_ms", "all limits", "1,000"):
        assert part in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_profile_gives_advice(folder, call):
    (folder / "small.py").write_text(SMALL.replace("=1000)", "=60)"))
    shown = call(folder, "profile", "small.py", "--samples", 40)
    assert "Tight: max_parameters 60 lets " in shown.out


def test_lists_say_what_each_name_is(folder, call):
    for name, some in [
        ("samplers", samplers.names()),
        ("spaces", ("MacroSpace", "NASBench201Space")),
        ("evaluators", ("EarlyStopping", "FullTraining")),
    ]:
        listed = call(folder, name)
        assert (listed.status, listed.err) == (0, "")
        lines = listed.out.splitlines()
        assert set(some) <= {line.split()[0] for line in lines}
        assert all(len(line.split()) > 1 for line in lines)
        assert not {"Evaluator", "Space"} & {line.split()[0] for line in lines}

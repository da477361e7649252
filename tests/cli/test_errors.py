"""Wrong input of every kind: one clear line on stderr, nothing on stdout, a non-zero status."""

import shutil

import optuna
import pytest

from nas_optuna.cli import working
from tests.cli.conftest import SMALL, process

BROKEN = {
    "empty.py": "",
    "syntax.py": "search = (",
    "other_type.py": "search = 3",
    "crash.py": "search = serch",
    "unknown_sampler.py": SMALL.replace('"random"', '"nsga3"'),
    "unknown_metric.py": SMALL.replace('"random",', '"random", metrics=("acuracy",),'),
    "unmeasured_metric.py": SMALL.replace(
        "data, epochs=2)", 'data, epochs=2), metrics=("accuracy", "accuracy")'
    ),
    "negative_limit.py": SMALL.replace("=1000)", "=-5)"),
    "impossible_limit.py": SMALL.replace("=1000)", "=10)"),
    "unknown_limit.py": SMALL.replace("max_parameters=", "max_paramters="),
    "nan.py": SMALL.replace(
        '.load("digits")',
        '.from_arrays(torch.full((60, 1, 8, 8), float("nan")), torch.arange(60) % 10)',
    ).replace("import nas", "import torch\nimport nas"),
    "shape.py": SMALL.replace(
        '.load("digits")', ".from_arrays(torch.zeros(60, 1, 8, 8), torch.arange(50) % 10)"
    ).replace("import nas", "import torch\nimport nas"),
    "unknown_data.py": SMALL.replace('"digits"', '"digit"'),
    "other_directions.py": SMALL.replace('"random",', '"random", metrics=("parameters",),'),
    "other_metrics.py": SMALL.replace(
        '"random",', '"random", metrics=("accuracy", "flops", "parameters"),'
    ),
    "other_space.py": SMALL.replace("[4, 6, 8, 256]", "[4, 6]"),
    "other_limits.py": SMALL.replace("=1000)", "=2000)"),
}

CASES = {
    "missing file": ("run missing.py", "no study file 'missing.py'"),
    "no search": ("run empty.py", "must define `search"),
    "syntax error": ("run syntax.py", "syntax.py, line 1: '(' was never closed"),
    "other type": ("run other_type.py", "`search` is a int"),
    "crash": ("run crash.py", "crash.py fails: NameError: name 'serch' is not defined"),
    "unknown sampler in the file": ("run unknown_sampler.py", "Did you mean 'nsga2'?"),
    "unknown sampler": ("run small.py --sampler tpee", "Did you mean 'tpe'?"),
    "unknown metric": ("run unknown_metric.py", "Did you mean 'accuracy'?"),
    "metric named twice": ("run unmeasured_metric.py", "each metric once"),
    "negative limit": ("run negative_limit.py", "max_parameters must be greater than 0, got -5"),
    "impossible limit": (
        "run impossible_limit.py --name tight",
        "max_parameters 10 lets 0 % through",
    ),
    "unknown limit": ("run unknown_limit.py", "max_paramters"),
    "NaN in data": ("run nan.py", "NaN"),
    "data of wrong shape": ("run shape.py", "50"),
    "unknown data": ("run unknown_data.py", "digit"),
    "unreachable database": (
        "run small.py --storage postgresql://ada:s3cret@127.0.0.1:1/nas",
        "postgresql+psycopg://ada:***@127.0.0.1:1/nas",
    ),
    "unknown database": ("run small.py --storage mysql://localhost/nas", "sqlite:///FILE or "),
    "folder of database": ("run small.py --storage sqlite:///no/nas.db", "'no' does not"),
    "not a database": ("run small.py --storage sqlite:///small.py", "not a database"),
    "other directions": ("run other_directions.py", "directions ['maximize', 'minimize', "),
    "other metrics": ("resume other_metrics.py", "metrics ['accuracy', 'latency_ms', "),
    "other space": ("run other_space.py", "made with space"),
    "other limits": ("resume other_limits.py", "max_parameters 1000, not 2000"),
    "no such study": ("resume small.py --name big", "There is no study 'big'"),
    "no such trial": ("show small.py --trial 99", "no trial 99; it has 0 to 7"),
    "negative trials": ("run small.py --trials -1", "'--trials'"),
    "no evaluations": ("run small.py --evaluations 0", "'--evaluations'"),
    "trials in words": ("run small.py --trials ten", "'--trials'"),
    "zero timeout": ("run small.py --timeout 0", "timeout must be more than 0 seconds, got 0.0"),
    "NaN timeout": ("resume small.py --timeout nan", "timeout must be more than 0"),
    "negative seed": ("run small.py --seed -1", "'--seed'"),
    "absent device": ("run small.py --device cuda", "device must be one of this machine"),
    "unknown device": ("run small.py --device tpu", "'--device'"),
    "unknown format": ("pareto small.py --format xml", "'--format'"),
    "weights": ("pareto small.py --weights accuracy", "must be like accuracy=0.6"),
    "unknown weight": ("pareto small.py --weights flops=1", "Unknown metric 'flops'"),
    "negative weight": ("pareto small.py --weights accuracy=-1", "must be 0 or more"),
    "no samples": ("profile small.py --samples 0", "'--samples'"),
    "unknown option": ("run small.py --trails 3", "--trails"),
    "unknown command": ("rum small.py", "'rum'"),
    "no study file": ("run", "STUDY.py"),
    "no trial": ("show small.py", "'--trial'"),
}


@pytest.fixture(scope="module")
def prepared(finished, tmp_path_factory):
    """A folder with every broken study file, and the finished study of `small.py`."""
    folder = tmp_path_factory.mktemp("errors")
    shutil.copytree(finished[0], folder, dirs_exist_ok=True)
    for name, text in BROKEN.items():
        (folder / name).write_text(text)
    return folder


def one_line(err):
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_gives_one_line(prepared, call, case):
    words, text = CASES[case]
    done = call(prepared, *words.split())
    assert done.status in (1, 2)
    assert done.out == ""
    one_line(done.err)
    assert text in done.err
    assert "s3cret" not in done.err


@pytest.mark.parametrize(("words", "status"), [("run small.py --trails 3", 2), ("run no.py", 1)])
def test_a_process_ends_with_the_status(folder, words, status):
    done = process(folder, *words.split())
    assert (done.status, done.out) == (status, "")
    one_line(done.err)


@pytest.mark.parametrize("words", ["--debug run no.py", "run --debug no.py", "run no.py --debug"])
def test_debug_shows_the_traceback(folder, call, words):
    done = call(folder, *words.split())
    assert done.status == 1
    assert done.err.startswith("Traceback (most recent call last):")
    assert done.err.splitlines()[-1].startswith("error: There is no study file 'no.py'.")


def test_wrong_options_leave_no_study_behind(folder, call):
    for option in (["--trials", 0], ["--timeout", 0], ["--device", "tpu"], ["--sampler", "x"]):
        assert call(folder, "run", "small.py", *option).status != 0
    assert not list(folder.glob("*.db"))


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_in_the_users_function(folder, call, debug):
    text = SMALL.replace(
        "    net = ",
        "    if getattr(trial, 'study', None) and trial.number == 1: oops\n    net = ",
    )
    (folder / "small.py").write_text(text)
    if debug:  # in a process of its own, where no other call has changed Optuna's log
        done = process(folder, "run", "small.py", "--debug")
    else:
        done = call(folder, "run", "small.py")
    assert done.status == 1
    *before, last = done.err.splitlines()
    assert last.startswith("error: Unexpected NameError: name 'oops' is not defined.")
    assert ("Traceback (most recent call last):" in before) == debug
    assert debug or not before
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/nas.db")
    assert [t.state.name for t in study.trials] == ["COMPLETE", "FAIL"]


@pytest.mark.parametrize("debug", [False, True])
def test_a_worker_hides_tracebacks_unless_asked_for_them(folder, call, monkeypatch, debug):
    hidden = []
    monkeypatch.setattr(working, "log_no_traceback", lambda: hidden.append(True))
    words = ["module.py", "--trials", 1, *["--debug"] * debug]
    assert call(folder, "worker", *words).status == 0
    assert bool(hidden) is not debug


def test_a_database_that_fails_in_mid_run(folder, call):
    text = SMALL.replace(
        "    net = ",
        "    if getattr(trial, 'study', None) and trial.number == 1:\n"
        "        sqlite3.connect('nas.db').execute('DROP TABLE trial_user_attributes')\n"
        "    net = ",
    )
    (folder / "small.py").write_text("import sqlite3\n" + text)
    done = call(folder, "run", "small.py")
    assert done.status == 1
    one_line(done.err)
    assert "The database sqlite:///nas.db failed: no such table" in done.err


def test_no_command_shows_the_help(folder, call):
    done = call(folder)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("Usage: nas-optuna")

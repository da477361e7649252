"""`compare` on a table: what it prints and writes, and that it goes on where it stopped."""

import csv
import io
import os
import signal
import subprocess
import time

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from nas_optuna.cli.comparing import CompareProgress
from nas_optuna.report.runs import Limits
from nas_optuna.storage.ownership import RETRY_OF
from tests.cli.conftest import command
from tests.cli.test_signals import states

STUDY = """
import nas_optuna as nas

values = {"a": [], "b": [], "accuracy": [], "latency_ms": [], "epochs": [], "seconds": []}
for a in range(8):
    for b in range(8):
        row = (a, b, 0.5 + 0.04 * a + 0.02 * (3 * b % 8), 1.0 + a + 0.5 * (5 * b % 8), 10, 2.5)
        for column, value in zip(values.values(), row):
            column.append(value)


def pair(trial):
    width = 4 + trial.suggest_int("a", 0, 7)
    kernel_size = 1 + trial.suggest_int("b", 0, 7)
    net = nas.ArchitectureBuilder((1, 8, 8), 10)
    return net.build(net.classifier(net.conv2d(net.input, width, kernel_size)))


search = nas.Search(
    name="pairs",
    space=nas.spaces.FunctionSpace(pair, input_shape=(1, 8, 8), num_classes=10),
    evaluator=nas.evaluators.Tabular(values),
    metrics=("accuracy", "latency_ms"),
    trials=6,
)
"""
OPTIONS = ["compare", "pairs.py", "--samplers", "nsga2", "--seeds", 2]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder where Ctrl-C stopped a comparison, and what that said and left behind."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "pairs.py").write_text(STUDY)
    run = subprocess.Popen(
        command(*OPTIONS, "--trials", 30, "--workers", 2), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    began = time.monotonic()
    while states(folder)["COMPLETE"] < 8:
        assert run.poll() is None
        assert time.monotonic() - began < 100
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: all processes get it
    _, err = run.communicate(timeout=60)
    return folder, run.returncode, err, states(folder)


def finished(folder):
    """Finished trials of each study."""
    url = f"sqlite:///{folder}/nas.db"
    studies = [
        optuna.load_study(study_name=name, storage=url) for name in optuna.get_all_study_names(url)
    ]
    return {
        study.study_name: len(study.get_trials(states=[TrialState.COMPLETE])) for study in studies
    }


def test_ctrl_c_stops_all_workers_and_leaves_nothing_running(stopped):
    _, status, err, left = stopped
    assert status == 130
    assert err == "Interrupted; the same command goes on and repeats nothing.\n"
    assert left["RUNNING"] == 0
    assert left["COMPLETE"] < 180


def test_the_next_call_goes_on_and_tells_prints_and_writes_what_was_found(stopped, call):
    folder, _, _, _ = stopped
    before = finished(folder)
    done = call(folder, *OPTIONS, "--trials", 6, "--workers", 1)
    assert (done.status, done.err) == (0, "")
    check_printed(done.out)
    check_written(folder / "pairs-comparison")
    after = finished(folder)
    assert len(after) == 6
    # Of a study that the first call took beyond six trials, nothing is run or lost.
    assert after == {name: max(6, before.get(name, 0)) for name in after}
    assert sum(before.values()) >= 8
    for name in optuna.get_all_study_names(f"sqlite:///{folder}/nas.db"):
        study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/nas.db")
        for failed in study.get_trials(states=[TrialState.FAIL]):  # what Ctrl-C met
            again = [t for t in study.trials if t.system_attrs.get(RETRY_OF) == failed.number]
            assert len(again) == 1


def check_printed(out):
    assert out.splitlines()[0] == (
        "pairs: random, local, nsga2; 2 seeds, at most 6 trials each; 1 process"
    )
    assert "6/6 studies" in out
    assert "After 6 trials, 2 seeds" in out
    for name in ("random", "local", "nsga2"):
        assert sum(line.split()[:1] == [name] for line in out.splitlines()) == 2
    flat = " ".join(out.split())
    assert "No difference is shown between" in flat
    assert "seeds would decide it" in flat or "more than 1,000 seeds" in flat
    assert "the true front of table, a tenth wider" in flat
    tables = out[out.index("After 6") : out.index("No difference")]
    assert max(map(len, tables.splitlines())) <= 80


def check_written(folder):
    files = {file.name for file in folder.iterdir()}
    assert {"comparison.html", "comparison.md", "runs.csv", "curves.csv", "pairs.csv"} <= files
    assert {"hypervolume.png", "attainment.png", "ranking.png", "cost.png"} <= files
    rows = list(csv.DictReader((folder / "runs.csv").open()))
    assert len(rows) == 6
    assert {row["trials"] for row in rows} == {"6.0"}
    assert {float(row["epochs"]) for row in rows} <= {10.0 * n for n in range(1, 7)}


class Told:
    """A comparison as far as its progress goes."""

    entries = range(4)

    def __init__(self, limits):
        self.limits = limits


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        (Limits(40), ["8/160 trials, 0/4 studies", "88/160 trials, 2/4 studies, ",
                      "160/160 trials, 4/4 studies"]),
        (Limits(40, epochs=9.0), ["5 % done, 0/4 studies", "55 % done, 2/4 studies, ",
                                  "100 % done, 4/4 studies"]),
    ],
)  # fmt: skip
def test_progress_ends_where_all_studies_are_at_their_ends(limits, lines):
    console = Console(file=io.StringIO(), force_terminal=False)
    progress = CompareProgress(Told(limits), console)
    progress([8, 0, 0, 0])
    assert progress._text([8, 0, 0, 0]) == lines[0]
    assert progress._text([40, 40, 8, 0]).startswith(lines[1])
    progress([40, 40, 40, 40])
    assert console.file.getvalue() == f"{lines[2]}\n"


def test_wrong_options_are_told_in_one_line(call, tmp_path):
    (tmp_path / "pairs.py").write_text(STUDY)
    (tmp_path / "file").touch()
    wrong = call(tmp_path, "compare", "pairs.py", "--samplers", "tpee")
    assert (wrong.status, wrong.out) == (1, "")
    assert wrong.err.startswith("error: Unknown sampler 'tpee'. Did you mean 'tpe'?")
    wrong = call(tmp_path, "compare", "pairs.py", "--out", "file")
    assert wrong.err == "error: --out must be a folder, and 'file' is a file.\n"
    (tmp_path / "some-pairs-comparison").touch()  # the folder of a name with a slash
    wrong = call(tmp_path, "compare", "pairs.py", "--name", "some/pairs")
    assert wrong.err.startswith("error: --out must be a folder, and 'some-pairs-comparison' is")
    wrong = call(tmp_path, "compare", "pairs.py", "--epochs", "0")
    assert wrong.err.startswith("error: epochs must be more than 0")
    assert not (tmp_path / "nas.db").exists()

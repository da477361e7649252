"""`latency-table`: measures, writes, says how well it predicts; and refuses in a line."""

import json
import sys

import pytest

from nas_optuna import LatencyTable
from nas_optuna.cli import tabulating
from nas_optuna.models import cost
from nas_optuna.study_file import load_search
from tests.cli.conftest import SMALL

FEW = ("--networks", 6, "--checks", 5)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_table_is_made_and_used(folder, call, runtime):
    done = call(folder, "latency-table", "small.py", "--out", "t.json", "--runtime", runtime, *FEW)
    assert (done.status, done.err) == (0, "")
    data = LatencyTable(folder / "t.json").data
    assert data.runtime == runtime
    assert f"{len(data.entries)} operations on {data.device}, 1 thread, {runtime}" in done.out
    assert f"Kendall tau {data.check.kendall_tau:.2f}" in done.out
    assert json.loads((folder / "t.json").read_text())["check"]["networks"] == data.check.networks
    measured = "nas.objective.LatencySettings(seconds=0.005)"
    (folder / "small.py").write_text(SMALL.replace(measured, 'nas.LatencyTable("t.json")'))
    assert call(folder, "run", "small.py", "--trials", 2).status == 0
    front = call(folder, "pareto", "small.py")
    assert "~ predicted, not measured" in front.out
    (record, *_) = json.loads(call(folder, "pareto", "small.py", "--format", "json").out)
    assert record["predicted"] == ["latency_ms"]
    shown = call(folder, "show", "small.py", "--trial", record["number"]).out
    assert "predicted by t.json" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("small.py", "'--out'"),
        ("small.py --out no/t.json", "the folder 'no' is absent"),
        ("small.py --out t.json --threads 0", "'--threads'"),
        ("small.py --out t.json --runtime tflite", "'--runtime'"),
        ("module.py --out t.json", "returns torch.nn.Modules"),
        ("small.py --out t.json --runtime onnxruntime", "nas-optuna[export]"),
    ],
)
def test_wrong_input_is_one_line(folder, call, monkeypatch, words, text):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not there
    done = call(folder, "latency-table", *words.split())
    assert done.status in (1, 2)
    assert (done.out, done.err.count("\n")) == ("", 1)
    assert text in done.err
    assert not (folder / "t.json").exists()


def test_drawn_networks_differ_and_keep_the_limits(folder):
    networks = tabulating.draw(load_search(folder / "small.py").objective, 100)
    assert 5 < len({network.digest for network in networks}) == len(networks) < 100
    assert all(cost(network).parameters <= 1000 for network in networks)

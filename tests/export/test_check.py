"""The check passes without this package on what was shipped, and fails on every drift."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from nas_optuna.export import check
from nas_optuna.models import device_fingerprint
from tests.export.conftest import drifts

# What a machine that only runs networks does not have. Name another Python to try a real one:
# python -m venv fresh; fresh/bin/pip install -c constraints.txt torch onnxruntime numpy
FRESH = os.environ.get("NAS_OPTUNA_FRESH_PYTHON")
ABSENT = ("nas_optuna", "safetensors", "onnx", "onnxscript", "optuna", "sklearn", "scipy")
BLOCKED = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({() if FRESH else ABSENT!r}))
sys.argv = ["check.py", "--slower", "1e6"]
runpy.run_path("check.py", run_name="__main__")
"""


def test_a_process_without_the_package_finds_no_drift(copy):
    before = {path.name for path in copy.iterdir()}
    words = [FRESH or sys.executable, "-I", "-c", BLOCKED]
    done = subprocess.run(words, cwd=copy, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stderr) == (0, "")
    *findings, last = done.stdout.splitlines()
    assert last == "no drift"
    assert all(line.startswith("ok") for line in findings)
    for name in ("model.py with weights.safetensors", "model.pt2", "model.onnx"):
        assert any(f"ok     {name}: logits within" in line for line in findings)
    assert {path.name for path in copy.iterdir()} == before


def change_record(folder, *keys, value):
    record = json.loads((folder / "record.json").read_text())
    *path, last = keys
    part = record
    for key in path:
        part = part[key]
    part[last] = value
    (folder / "record.json").write_text(json.dumps(record))


def harm_weights(folder):
    weights = load_file(folder / "weights.safetensors")
    weights["logits.bias"][0] += 0.01
    save_file(weights, folder / "weights.safetensors")


def harm_onnx(folder):
    model = onnx.load(folder / "model.onnx")
    bias = next(i for i in model.graph.initializer if i.name == "logits.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 0.01, bias.name))
    onnx.save(model, folder / "model.onnx")


HARMS = {
    "weights": (harm_weights, ["model.py with weights.safetensors: logits within 1.0e-02"]),
    "onnx": (harm_onnx, ["model.onnx: logits within 1.0e-02"]),
    "code": (
        lambda folder: (folder / "model.py").write_text("import nothing_like_it"),
        ["model.py cannot be run: ModuleNotFoundError"],
    ),
    "absent": (
        lambda folder: (folder / "model.pt2").unlink(),
        ["model.pt2 cannot be run"],
    ),
    "cut off": (
        lambda folder: (folder / "weights.safetensors").write_bytes(b"\x08"),
        ["model.py cannot be run", "weights.safetensors cannot be read"],
    ),
    "record": (
        lambda folder: (folder / "record.json").write_text("{"),
        ["record.json or samples.npz cannot be read"],
    ),
    "samples": (
        lambda folder: (folder / "samples.npz").write_bytes(b"PK"),
        ["record.json or samples.npz cannot be read"],
    ),
    "int8": (
        lambda folder: change_record(folder, "programs", "model.int8.onnx", "right", value=10),
        ["model.int8.onnx: "],
    ),
    "parameters": (
        lambda folder: change_record(folder, "network", "parameters", value=100),
        ["model.py with weights.safetensors: ", "model.pt2: ", "weights.safetensors: "],
    ),
    "FLOPs": (lambda folder: change_record(folder, "network", "flops", value=100), ["FLOPs"]),
    "accuracy": (
        lambda folder: change_record(folder, "search", "least_accuracy", value=1.1),
        ["by chance it may be 1.1"],
    ),
    "limits": (
        lambda folder: change_record(
            folder,
            "search",
            "limits",
            value={"max_layers": 1, "max_flops": 10, "max_latency_ms": 1e-6, "min_accuracy": 1},
        ),
        ["limit max_layers 1: ", "max_flops 10: ", "max_latency_ms 1e-06: ", "min_accuracy 1: "],
    ),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.usefixtures("quick")
def test_drift_is_found(copy, harm):
    assert drifts(copy) == []
    change, texts = HARMS[harm]
    change(copy)
    found = drifts(copy)
    for text in texts:
        assert any(text in drift for drift in found), found


@pytest.mark.usefixtures("quick")
def test_drift_ends_with_status_1(copy, monkeypatch, capsys):
    harm_weights(copy)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "argv", ["check.py", str(copy), "--slower", "1e6"])
    assert check.main() == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == f"{sum(line.startswith('DRIFT') for line in out)} drifts"


@pytest.mark.usefixtures("quick")
def test_latency_is_compared_on_the_same_machine_only(copy):
    def latency():
        return [f for f in check.check(copy) if f.text.startswith("latency")]

    change_record(copy, "latency", "median_ms", value=1e-6)
    change_record(copy, "search", "latency", "median_ms", value=1e-6)
    assert [finding.status for finding in latency()] == ["DRIFT"]
    change_record(copy, "latency", "median_ms", value=1e6)
    (finding,) = latency()
    assert finding.status == "DRIFT"
    assert "was 1e+06 ms when it was shipped and 1e-06 ms in the search" in finding.text
    change_record(copy, "search", "latency", "device", value="cpu of a phone")
    assert [finding.status for finding in latency()] == ["ok", "-"]
    change_record(copy, "latency", "machine", value="cpu of a phone, 1 thread, torch 0.1")
    (finding,) = latency()
    assert finding.status == "-"
    assert "not compared, it was measured on cpu of a phone, 1 thread, torch 0.1" in finding.text


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_machines_are_named_as_the_search_names_them(runtime):
    timing = {"device": "cpu", "threads": 2, "runtime": runtime}
    assert check.machine(timing) == device_fingerprint("cpu", threads=2, runtime=runtime)


def test_weights_are_read_as_safetensors_reads_them(tmp_path):
    tensors = {
        "a": torch.randn(2, 3),
        "scalar": torch.tensor(3),
        "none": torch.empty(0, 4),
        "half": torch.randn(5).to(torch.bfloat16),
        "flags": torch.tensor([True, False]),
    }
    save_file(tensors, tmp_path / "t.safetensors", {"format": "pt"})
    read = check.read_safetensors(tmp_path / "t.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_samples_are_run_alone_and_together():
    sizes = []

    def run(inputs):
        sizes.append(len(inputs))
        return inputs

    inputs = np.arange(600.0).reshape(300, 2)
    assert np.array_equal(check.run_all(check.Program("", run, None), inputs), inputs)
    assert sizes == [1, 256, 43]

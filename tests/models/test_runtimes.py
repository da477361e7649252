"""Runtimes: what is exported computes the same, and what cannot be run is refused in a line."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.models import build, device_fingerprint, measure_latency
from nas_optuna.models.cost import node_keys
from nas_optuna.models.network import example_input
from nas_optuna.models.operations import FACTORIES, make
from nas_optuna.models.runtimes import runtime_named
from tests.spaces.spaces import SPACES

CPU = torch.device("cpu")


def one_of_each_operation():
    rng = np.random.default_rng(0)
    found = {}
    for space in SPACES.values():
        for _ in range(4):
            network = space.architecture(space.sample(rng))
            found.update({key[0]: key for key in node_keys(network)})
    return found


OPERATIONS = one_of_each_operation()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_exported_operation_computes_the_same(operation):
    _, settings, shapes = OPERATIONS[operation]
    torch.manual_seed(0)
    module = make(operation, dict(settings), shapes).eval()
    inputs = [example_input(module, shape, batch_size=1, device=CPU) for shape in shapes]
    inputs = [torch.randn_like(x) if x.is_floating_point() else x for x in inputs]
    with torch.inference_mode():
        (ours,) = runtime_named("onnxruntime").prepare(module, inputs, 1)()
        theirs = runtime_named("torch").prepare(module, inputs, 1)()
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_most_operations_are_covered():
    assert len(OPERATIONS) > 0.7 * len(FACTORIES)


def test_a_whole_network_computes_the_same():
    space = SPACES["nasbench201"]
    network = space.architecture(dict.fromkeys(space.genes, "nor_conv_3x3"))
    model, x = build(network).eval(), torch.randn(2, *network.input_shape)
    with torch.inference_mode():
        (ours,) = runtime_named("onnxruntime").prepare(model, [x], 1)()
        np.testing.assert_allclose(ours, model(x).numpy(), atol=1e-4)


def test_threads_are_those_asked_for_and_the_fingerprint_names_the_runtime():
    latency = measure_latency(
        nn.Linear(8, 2), (8,), runtime="onnxruntime", threads=2, seconds=0.01
    )
    assert latency.threads == 2
    assert latency.median_ms > 0
    fingerprint = device_fingerprint("cpu", threads=2, runtime="onnxruntime")
    assert "2 threads, onnxruntime " in fingerprint
    assert fingerprint != device_fingerprint("cpu", threads=2)


def test_unknown_runtimes_and_devices_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'onnxruntime'"):
        measure_latency(nn.Linear(8, 2), (8,), runtime="onnxrutime")
    with pytest.raises(SettingError, match="is timed on a CPU, not on 'meta'"):
        runtime_named("onnxruntime").prepare(
            nn.Linear(2, 2), [torch.zeros(1, 2, device="meta")], 1
        )


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_extra_is_one_line(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # what an import of it then does: fail
    with pytest.raises(SettingError, match=r"pip install 'nas-optuna\[export\]'") as caught:
        runtime_named("onnxruntime")
    assert "\n" not in str(caught.value)

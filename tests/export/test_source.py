"""The code that is written computes exactly what the network does, in every space."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nas_optuna import Architecture
from nas_optuna.architecture import Node
from nas_optuna.export.check import load_source
from nas_optuna.export.source import write_source
from nas_optuna.models import build
from nas_optuna.models import operations as modules
from tests.spaces.spaces import SPACES

NETWORKS_PER_SPACE = 4


def rebuilt(architecture, folder, title="A network."):
    """The network as built, and as its code makes it from its weights."""
    model = build(architecture)
    for norm in model.modules():  # as after a training: no statistic is what it began as
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
    source = write_source(architecture, title=title, input_stats=None)
    (folder / "model.py").write_text(source.text)
    weights = {source.names[name]: t.clone() for name, t in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    return model.eval(), load_source(folder / "model.py").load(), source.text


@pytest.mark.parametrize("name", SPACES)
def test_code_computes_what_the_network_does(name, tmp_path):
    rng = np.random.default_rng(3)
    torch.manual_seed(0)
    for _ in range(NETWORKS_PER_SPACE):
        architecture = SPACES[name].architecture(SPACES[name].sample(rng))
        model, written, text = rebuilt(architecture, tmp_path)
        shape = (3, *architecture.input_shape)
        x = torch.randint(0, 20, shape) if architecture.tokens else torch.randn(shape)
        with torch.inference_mode():
            assert torch.equal(written(x), model(x))
        assert sum(p.numel() for p in written.parameters()) == sum(
            p.numel() for p in model.parameters()
        )
        assert max(map(len, text.splitlines())) <= 99
        assert "nas_optuna" not in text


def test_names_and_titles_that_are_no_python(tmp_path):
    nodes = [
        Node.make("class", "conv2d", ["input"], {"channels": 4}),
        Node.make("1.a b", "conv2d", ["class"], {"channels": 4}),
        Node.make("zero.grad", "conv2d", ["1.a b"], {"channels": 4}),
        Node.make("unused.x", "conv2d", ["class"], {"channels": 4}),
        Node.make("x", "add", ["class", "1.a b", "zero.grad"], {}),
        Node.make("x.y", "zero", ["x"], {}),
        Node.make("x_y", "concat", ["x.y", "x", "input"], {}),
        Node.make("shuffle", "channel_shuffle", ["x_y"], {"groups": 2}),
        Node.make("slice", "channel_slice", ["shuffle"], {"start": 1, "channels": 7}),
        Node.make("mean", "global_avg_pool", ["slice"], {}),
        Node.make("self", "linear", ["mean"], {"features": 3}),
    ]
    architecture = Architecture(tuple(nodes), (2, 5, 5), 3)
    title = 'A """ title \\ that "ends" the \n docstring'
    model, written, text = rebuilt(architecture, tmp_path, title)
    x = torch.randn(2, 2, 5, 5)
    with torch.inference_mode():
        assert torch.equal(written(x), model(x))
    assert "# nothing takes it" in text


def test_there_is_no_code_for_a_module_that_is_not_torchs(monkeypatch):
    class Odd(nn.Module):
        def forward(self, x):
            return x

    monkeypatch.setitem(modules.FACTORIES, "dropout", lambda settings, inputs: Odd())
    nodes = (
        Node.make("odd", "dropout", ["input"], {"rate": 0.31}),
        Node.make("logits", "linear", ["odd"], {"features": 3}),
    )
    assert write_source(Architecture(nodes, (4,), 3), title="Odd.", input_stats=None) is None

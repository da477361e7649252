"""The macro space: every genome builds, trains and keeps its connections."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.models import build, cost
from nas_optuna.spaces import MacroSpace

SPACE = MacroSpace((1, 8, 8), 10)


def params(space=SPACE, **changes):
    """A plain genome: convolutions of width 16, one after another, with some genes changed."""
    plain = {"layers": 3, "connection": "sequential", "activation": "relu", "batch_norm": True}
    for i in range(space.max_layers):
        plain |= {
            f"layer{i}.operation": "conv",
            f"layer{i}.width": 16,
            f"layer{i}.kernel_size": 3,
            f"layer{i}.stride": 1,
        }
        if i:
            plain[f"layer{i}.skip"] = 0
    return plain | {name.replace("__", "."): value for name, value in changes.items()}


def names(made):
    return [node.name for node in made.nodes]


@pytest.mark.slow
def test_1000_random_genomes_build_train_and_cost_what_is_counted():
    rng = np.random.default_rng(0)
    space = MacroSpace((1, 8, 8), 10, widths=(16, 24, 32))  # up to 20 layers
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([3, 7])
    for _ in range(1000):
        made = space.architecture(space.sample(rng))
        counted, model = cost(made), build(made)
        assert counted.parameters == sum(p.numel() for p in model.parameters())
        model.eval()
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            model(x[:1])
        assert counted.flops == flops.get_total_flops()
        model.train()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        missing = [n for n, p in model.named_parameters() if p.grad is None]
        assert not missing


def test_the_same_questions_in_every_trial():
    assert not SPACE.conditional
    assert len(SPACE.genes) == 4 + 20 * 4 + 19


def test_layers_beyond_the_depth_are_ignored():
    shallow, ignored = params(), params(layer7__width=256, layer5__skip=2)
    assert SPACE.architecture(shallow) == SPACE.architecture(ignored)


def test_a_sequence_is_a_chain():
    made = SPACE.architecture(params(layer1__operation="max_pool", layer1__stride=2))
    assert names(made) == ["layer0.conv", "layer1.max_pool", "layer2.conv", "pool", "logits"]
    assert made.shapes["layer2.conv"] == (16, 4, 4)


def test_residual_layers_add_what_they_got():
    made = SPACE.architecture(params(connection="residual"))
    assert names(made)[:5] == [
        "layer0.conv", "layer0.residual.projection1", "layer0.residual",
        "layer1.conv", "layer1.residual",
    ]  # fmt: skip


def test_dense_layers_see_all_before_them():
    made = SPACE.architecture(params(connection="dense"))
    assert made.shapes["layer2.dense"] == (1 + 16 + 16, 8, 8)


def test_free_skip_connections_reach_back():
    made = SPACE.architecture(params(layer2__skip=2, layer1__stride=2))
    added = next(node for node in made.nodes if node.name == "layer2.skip")
    assert added.inputs == ("layer1.conv", "layer2.skip.projection1")
    source = next(node for node in made.nodes if node.name == "layer2.skip.projection1")
    assert source.inputs == ("input",)


def test_a_linear_layer_turns_the_rest_into_a_perceptron():
    made = SPACE.architecture(
        params(layer0__operation="linear", layer1__operation="avg_pool", layers=4)
    )
    assert names(made) == [
        "layer0.flatten", "layer0.linear", "layer2.linear", "layer3.linear", "logits",
    ]  # fmt: skip


def test_strides_stop_at_one_pixel():
    genome = params(layers=6, **{f"layer{i}__stride": 2 for i in range(6)})
    made = SPACE.architecture(genome)
    assert made.shapes["layer5.conv"] == (16, 1, 1)


def test_logits_come_straight_from_a_linear_map():
    last = SPACE.architecture(params()).nodes[-1]
    assert (last.operation, last.complete()["activation"]) == ("linear", "none")


@pytest.mark.parametrize("connection", ["sequential", "residual", "dense"])
def test_every_input_of_a_sum_has_a_gradient(connection):
    """No skip edge is lost: each input of each sum and concatenation moves the logits."""
    rng = np.random.default_rng(5)
    space = MacroSpace((1, 8, 8), 10, max_layers=8, widths=(8, 16), connections=(connection,))
    for _ in range(15):
        made = space.architecture(space.sample(rng))
        model = build(made).eval().double()
        grads = {}
        for node in made.nodes:
            if node.operation in ("add", "concat"):
                module = model.nodes[node.name.replace(".", "/")]
                module.register_forward_pre_hook(_watch(node, grads))
        model(torch.randn(4, 1, 8, 8, dtype=torch.float64)).sum().backward()
        for (name, source), edge in grads.items():
            assert edge.grad is not None, (name, source)
            assert edge.grad.abs().max() > 0, (name, source)


def _watch(node, grads):
    def hook(module, inputs):
        edges = tuple(x * 1.0 if x.requires_grad else x.clone().requires_grad_() for x in inputs)
        for name, edge in zip(node.inputs, edges, strict=True):
            edge.retain_grad()
            grads[node.name, name] = edge
        return edges

    return hook


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"max_layers": 51}, SettingError, "50 must hold, got 3 and 51"),
        ({"min_layers": 9, "max_layers": 5}, SettingError, "got 9 and 5"),
        ({"kernel_sizes": (3, 4)}, SettingError, "odd"),
        ({"operations": ("conv", "convv")}, UnknownNameError, "Did you mean 'conv'"),
        ({"connections": ("resnet",)}, UnknownNameError, "connection"),
        ({"activations": ("swish",)}, UnknownNameError, "activation"),
    ],
)
def test_wrong_settings_are_refused(options, error, says):
    with pytest.raises(error, match=says):
        MacroSpace((1, 8, 8), 10, **options)


def test_vectors_are_refused():
    with pytest.raises(SettingError, match="MLPSpace"):
        MacroSpace((64,), 10)

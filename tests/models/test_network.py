"""Networks: they follow the graph, carry the node's names, and fail in words."""

import pytest
import torch
from torch import nn

from nas_optuna import ArchitectureBuilder
from nas_optuna.errors import ArchitectureError, SettingError
from nas_optuna.models import build, dry_run
from nas_optuna.models.operations import FACTORIES, make
from nas_optuna.operations import ACTIVATIONS, OPERATIONS, operation
from nas_optuna.spaces import NASBench201Space

EXAMPLES = {
    "conv2d": [{"channels": 6}, {"channels": 6, "kernel_size": 5, "stride": 2, "dilation": 2}],
    "separable_conv2d": [{"channels": 6, "stride": 2}, {"channels": 6, "preactivation": True}],
    "max_pool2d": [{"kernel_size": 3, "stride": 2}],
    "avg_pool2d": [{"kernel_size": 7, "stride": 1}],
    "resize": [{"height": 3, "width": 2}],
}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("shape", [(4, 9, 8), (4, 1, 1), (4, 7, 7)])
def test_the_shape_rule_is_what_the_module_does(name, shape):
    for given in EXAMPLES[name]:
        settings = operation(name).complete(given)
        y = make(name, settings, (shape,)).eval()(torch.zeros(2, *shape))
        assert tuple(y.shape[1:]) == operation(name).shape(settings, (shape,))


def test_an_even_window_halves_and_does_not_fit_into_one_pixel():
    halved = operation("max_pool2d").shape({"kernel_size": 2, "stride": 2}, ((4, 8, 6),))
    assert halved == (4, 4, 3)
    with pytest.raises(SettingError, match="kernel_size 2 does not fit into 1 x 1"):
        operation("max_pool2d").shape({"kernel_size": 2, "stride": 2}, ((4, 1, 1),))


def test_both_tables_hold_the_same_operations():
    assert set(FACTORIES) == set(OPERATIONS)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_every_activation_is_made(kind):
    y = make("activation", {"kind": kind}, ((3,),))(torch.tensor([-2.0, 0.0, 2.0]))
    assert torch.isfinite(y).all()


def test_the_network_computes_its_graph():
    net = ArchitectureBuilder((2, 4, 4), 3)
    x = net.conv2d(net.input, 2, 1, norm=False, activation="none", name="a")
    y = net.max_pool2d(x, name="b")
    made = net.build(net.classifier(net.add(y, x, net.input, name="sum")))
    model = build(made)
    images = torch.randn(5, 2, 4, 4)
    a = nn.functional.conv2d(images, *model.nodes["a"].parameters())
    total = nn.functional.max_pool2d(a, 3, 1, 1) + a + images
    expected = model.nodes["logits"](total.mean((2, 3)))
    assert torch.equal(model(images), expected)


def test_parameters_are_named_after_nodes():
    net = ArchitectureBuilder((1, 4, 4), 3)
    with net.scope("stage0"):
        x = net.conv2d(net.input, 2, name="conv")
    names = set(build(net.build(net.classifier(x))).state_dict())
    assert {"nodes.stage0/conv.0.weight", "nodes.logits.0.bias"} <= names


def meta(made):
    with torch.device("meta"):
        return build(made)


def twin_cells():
    """Two nodes of one kind, with weights, buffers and children."""
    space = NASBench201Space((3, 8, 8), 10, channels=4, cells_per_stage=2)
    return space.architecture(dict.fromkeys(space.genes, "nor_conv_3x3"))


def test_on_the_meta_device_nodes_of_one_kind_share_nothing():
    model = meta(twin_cells())
    for tensors in (list(model.parameters()), list(model.buffers())):
        assert len({id(t) for t in tensors}) == len(tensors)
    modules = [m for _, m in model.named_modules(remove_duplicate=False)]
    assert len({id(m) for m in modules}) == len(modules)


def test_on_the_meta_device_the_network_is_the_same():
    made = twin_cells()
    real, hollow = build(made), meta(made)
    assert repr(hollow) == repr(real)
    assert all(t.is_meta for t in hollow.state_dict().values())
    for kind in ("named_parameters", "named_buffers"):
        there = {name: (t.shape, t.dtype) for name, t in getattr(hollow, kind)()}
        assert there == {name: (t.shape, t.dtype) for name, t in getattr(real, kind)()}


def test_a_network_from_the_meta_device_takes_weights():
    made = twin_cells()
    real, filled = build(made).eval(), meta(made).to_empty(device="cpu").eval()
    filled.load_state_dict(real.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(filled(images), real(images))


def test_a_preactivation_comes_first():
    module = make(
        "conv2d",
        operation("conv2d").complete({"channels": 2, "preactivation": True}),
        ((1, 4, 4),),
    )
    assert [type(m) for m in module] == [nn.ReLU, nn.Conv2d, nn.BatchNorm2d]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Linear(3, 2), "fails on an input of shape"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
            r"must return \(2, 5\) logits, got \(2, 3\)",
        ),
        (nn.Flatten(0), r"got \(32,\)"),
    ],
)
def test_a_dry_run_says_what_is_wrong(model, says):
    with pytest.raises(ArchitectureError, match=says):
        dry_run(model, (1, 4, 4), 5)


@pytest.mark.parametrize("name", ["keys", "values", "pop", "forward", "training", "_modules"])
def test_a_node_may_have_any_name(name):
    net = ArchitectureBuilder((1, 8, 8), num_classes=10)
    x = net.conv2d(net.input, 4, name=name)
    network = build(net.build(net.classifier(x)))
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    keys = network.state_dict()
    assert sum(key.startswith(f"nodes.{name}/.") for key in keys) > 0
    again = build(network.architecture)
    again.load_state_dict(keys)


def test_names_whose_weights_would_have_one_name_are_refused():
    net = ArchitectureBuilder((1, 8, 8), num_classes=10)
    x = net.conv2d(net.input, 4, name="a/b")
    x = net.conv2d(x, 4, name="a.b")
    with pytest.raises(ArchitectureError, match=r"'a\.b' is taken; .* a slash counts as a dot"):
        net.build(net.classifier(x))

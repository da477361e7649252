"""What an encoding knows: isomorphic graphs are one, and what does nothing does not count."""

import math

import numpy as np
import pytest

import nas_optuna as nas
from nas_optuna.models import cost
from nas_optuna.spaces import FunctionSpace, NASBench201Space, encode
from tests.spaces.spaces import SPACES

CELL = NASBench201Space((1, 8, 8), 10, channels=4, cells_per_stage=1)
NONE = dict.fromkeys(CELL.genes, "none")


def structure(genome):
    encoding = encode(CELL, genome, CELL.architecture(genome))
    return {name: value for name, value in encoding.items() if not name.startswith("gene ")}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"0->1": "nor_conv_3x3", "1->3": "nor_conv_1x1"},
         {"0->2": "nor_conv_3x3", "2->3": "nor_conv_1x1"}),  # isomorphic
        ({"0->3": "nor_conv_3x3"}, {"0->3": "nor_conv_3x3", "0->1": "nor_conv_1x1"}),  # dead
        ({"0->3": "nor_conv_3x3"}, {"0->1": "skip_connect", "1->3": "nor_conv_3x3"}),  # identity
        ({"0->3": "nor_conv_3x3"}, {"0->3": "nor_conv_3x3", "1->3": "avg_pool_3x3"}),  # from zero
    ],
)  # fmt: skip
def test_equal_functions_have_equal_structure(a, b):
    first, second = NONE | a, NONE | b
    assert structure(first) == structure(second)
    assert encode(CELL, first) != encode(CELL, second)  # the genes differ


def test_order_matters():
    a = {"0->1": "nor_conv_3x3", "1->3": "nor_conv_1x1"}
    b = {"0->1": "nor_conv_1x1", "1->3": "nor_conv_3x3"}
    assert structure(NONE | a) != structure(NONE | b)


def test_paths_are_counted_and_measured():
    net = nas.ArchitectureBuilder((1, 8, 8), 10)
    x = net.conv2d(net.input, 4, name="stem")
    y = net.conv2d(net.conv2d(x, 4), 4)
    network = net.build(net.classifier(net.add(x, y)))
    space = FunctionSpace(lambda trial: network, input_shape=(1, 8, 8), num_classes=10)
    encoding = encode(space, {}, network, {"parameters": 99.0})
    assert encoding["longest"] == 4
    assert encoding["shortest"] == 2
    assert encoding["mean length"] == 3
    assert encoding["log paths"] == pytest.approx(math.log(2))
    assert encoding["chain conv2d3"] == 3
    assert encoding["chain conv2d3 > conv2d3"] == 2
    assert encoding["chain input > conv2d3"] == 1
    assert encoding["log parameters"] == pytest.approx(math.log(100))


def test_genes_are_numbers_or_choices_and_idle_ones_are_left_out():
    space = SPACES["macro"]
    params = space.sample(np.random.default_rng(0)) | {"layers": 2}
    names = encode(space, params)
    assert names["gene layers"] == 2
    assert any(name.startswith("gene layer1.operation=") for name in names)
    assert not any(name.startswith("gene layer5.") for name in names)


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_encoded_in_finite_numbers(name):
    space, rng = SPACES[name], np.random.default_rng(0)
    for _ in range(10):
        params = space.sample(rng)
        network = space.architecture(params)
        encoding = encode(space, params, network, cost(network).values())
        assert len(encoding) < 400
        assert all(math.isfinite(value) for value in encoding.values())


def test_a_deep_cell_network_with_many_paths_is_encoded_fast():
    """4^20 paths per stage: nothing here grows with their number."""
    deep = NASBench201Space((3, 32, 32), 10, cells_per_stage=20)
    genome = dict.fromkeys(deep.genes, "nor_conv_3x3")
    encoding = encode(deep, genome, deep.architecture(genome))
    assert encoding["log paths"] > 60 * math.log(4) - 1

"""The architecture value: checks when made, JSON both ways, shapes, depth."""

import json

import pytest

from nas_optuna import Architecture, ArchitectureBuilder
from nas_optuna.architecture import Node
from nas_optuna.errors import ArchitectureError


def chain(*nodes: Node) -> Architecture:
    head = (
        Node.make("pool", "global_avg_pool", [nodes[-1].name], {}),
        Node.make("logits", "linear", ["pool"], {"features": 10}),
    )
    return Architecture((*nodes, *head), (1, 8, 8), 10)


def conv(name="conv", source="input", **settings):
    return Node.make(name, "conv2d", [source], {"channels": 4, **settings})


def test_json_round_trip_keeps_every_part():
    made = chain(conv(kernel_size=5, norm=False, activation="gelu"), conv("b", "conv", stride=2))
    again = Architecture.from_json(made.to_json())
    assert again == made
    assert again.digest == made.digest
    assert hash(again.nodes) == hash(made.nodes)
    assert json.loads(made.to_json())["format"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Not an architecture"),
        ("[]", "Not an architecture"),
        ('{"format": 1, "nodes": []}', "Not an architecture"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1, "input_shape": [1], "num_classes": 2, "nodes": []}', "at least one node"),
    ],
)
def test_what_is_no_architecture_is_refused_in_words(text, says):
    with pytest.raises(ArchitectureError, match=says):
        Architecture.from_json(text)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (conv(source="nowhere"), "'conv'.*nowhere"),
        (conv(chanels=3), "Did you mean 'channels'"),
        (conv(kernel_size=0), "kernel_size must be a whole number of at least 1, got 0"),
        (conv(groups=3), "groups 3 must divide"),
        (conv("input"), "'input' is taken"),
        (Node.make("x", "convolve2d", ["input"], {}), "Did you mean 'conv2d'"),
        (Node.make("x", "conv2d", ["input"], {}), "needs channels"),
        (Node.make("x", "conv2d", ["input", "input"], {"channels": 1}), "one input, got 2"),
        (Node.make("x", "linear", ["input"], {"features": 3}), "flatten first"),
    ],
)
def test_an_architecture_that_cannot_be_built_names_its_node(node, says):
    with pytest.raises(ArchitectureError, match=says):
        chain(node)


def test_the_last_node_must_return_logits():
    with pytest.raises(ArchitectureError, match=r"'conv', the last one, must return \(10,\)"):
        Architecture((conv(),), (1, 8, 8), 10)


def test_layers_count_weights_on_the_longest_path():
    net = ArchitectureBuilder((1, 8, 8), 10)
    x = net.conv2d(net.input, 8)
    long = net.conv2d(net.conv2d(x, 8), 8)
    y = net.max_pool2d(net.add(long, net.conv2d(x, 8)))
    assert net.build(net.classifier(y)).layers == 4


def test_repr_tells_what_it_is():
    text = repr(chain(conv()))
    assert "conv2d > global_avg_pool > linear" in text
    assert "2 layers, 10 classes" in text

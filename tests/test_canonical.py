"""The canonical digest: equal for equal functions, different for anything else."""

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_optuna import Architecture, ArchitectureBuilder
from nas_optuna.architecture import Node


def digest(write) -> str:
    net = ArchitectureBuilder((3, 8, 8), 10)
    return net.build(net.classifier(write(net)), keep_dead=True).digest


def plain(net):
    return net.conv2d(net.conv2d(net.input, 8, name="a"), 8, name="b")


EQUAL_TO_PLAIN = {
    "other names": lambda net: net.conv2d(net.conv2d(net.input, 8, name="x.y"), 8, name="z"),
    "defaults written out": lambda net: net.conv2d(
        net.conv2d(net.input, 8, 3, stride=1, activation="relu"), 8, norm=True
    ),
    "an identity": lambda net: net.conv2d(net.node("identity", [net.conv2d(net.input, 8)]), 8),
    "a dead node": lambda net: (
        x := net.conv2d(net.input, 8),
        net.conv2d(x, 8, 5),
        net.conv2d(x, 8),
    )[-1],
    "an edge that is not there": lambda net: (
        x := net.conv2d(net.input, 8),
        net.add(net.conv2d(x, 8), net.zero(x)),
    )[-1],
    "a sum of one": lambda net: net.add(net.conv2d(net.conv2d(net.input, 8), 8)),
    "a pooled zero": lambda net: (
        x := net.conv2d(net.input, 8),
        net.add(net.max_pool2d(net.zero(x)), net.conv2d(x, 8)),
    )[-1],
}


@pytest.mark.parametrize("write", EQUAL_TO_PLAIN.values(), ids=EQUAL_TO_PLAIN)
def test_what_changes_no_function_changes_no_digest(write):
    assert digest(write) == digest(plain)


def test_order_of_a_sum_and_nesting_do_not_count():
    def nested(order, inner):
        def write(net):
            x = net.conv2d(net.input, 8)
            a, b, c = net.conv2d(x, 8, 1), net.conv2d(x, 8, 3), net.conv2d(x, 8, 5)
            parts = [(a, b, c)[i] for i in order]
            return net.add(net.add(*parts[:2]), parts[2]) if inner else net.add(*parts)

        return digest(write)

    assert len({nested(o, i) for o in ((0, 1, 2), (2, 0, 1), (1, 2, 0)) for i in (0, 1)}) == 1


def test_two_convolutions_differ_from_one_used_twice():
    def twice(net):
        x = net.conv2d(net.input, 8)
        return net.add(x, x)

    def two(net):
        return net.add(net.conv2d(net.input, 8), net.conv2d(net.input, 8))

    assert digest(twice) != digest(two)


def test_one_pooling_used_twice_equals_two_poolings():
    def twice(net):
        x = net.max_pool2d(net.conv2d(net.input, 8))
        return net.add(net.conv2d(x, 4), net.conv2d(x, 4))

    def two(net):
        x = net.conv2d(net.input, 8)
        return net.add(net.conv2d(net.max_pool2d(x), 4), net.conv2d(net.max_pool2d(x), 4))

    assert digest(twice) == digest(two)


def test_who_shares_with_whom_counts_where_every_node_looks_alike():
    """Two triangles and a hexagon: equal to every count of neighbours, yet different graphs."""

    def ring(links):
        def write(net):
            a = [net.conv2d(net.input, 8) for _ in range(6)]
            return net.add(*[net.conv2d(net.add(a[i], a[j]), 8) for i, j in links])

        return digest(write)

    hexagon = [(i, (i + 1) % 6) for i in range(6)]
    triangles = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
    other_hexagon = [((i * 5) % 6, (i * 5 + 5) % 6) for i in range(6)]
    assert ring(hexagon) != ring(triangles)
    assert ring(hexagon) == ring(other_hexagon)


def test_input_and_classes_count():
    def of(shape, classes):
        net = ArchitectureBuilder(shape, classes)
        return net.build(net.classifier(net.conv2d(net.input, 4))).digest

    assert len({of((1, 8, 8), 10), of((1, 9, 9), 10), of((1, 8, 8), 9)}) == 3


@st.composite
def graphs(draw):
    """A random graph of convolutions, poolings and sums, as (kind, inputs) per node."""
    nodes = []
    for i in range(draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(["conv1", "conv3", "pool", "add", "zero", "identity"]))
        count = draw(st.integers(1, min(3, i + 1))) if kind == "add" else 1
        nodes.append((kind, [draw(st.integers(0, i)) for _ in range(count)]))
    return nodes


def build(graph, order=None, prefix="n") -> Architecture:
    """Write the graph down, its nodes in some topological order; node i + 1 of the graph is i."""
    made = [Node.make(f"{prefix}0", "conv2d", ["input"], {"channels": 4})]
    names = {0: made[0].name}
    waiting = list(order or range(len(graph)))
    while waiting:
        i = next(i for i in waiting if all(source in names for source in graph[i][1]))
        waiting.remove(i)
        kind, inputs = graph[i]
        operation, options = {
            "conv1": ("conv2d", {"channels": 4, "kernel_size": 1}),
            "conv3": ("conv2d", {"channels": 4, "kernel_size": 3}),
            "pool": ("max_pool2d", {}),
        }.get(kind, (kind, {}))
        names[i + 1] = f"{prefix}{len(made)}"
        made.append(Node.make(names[i + 1], operation, [names[s] for s in inputs], options))
    last = names[len(graph)]
    made += [
        Node.make(f"{prefix}pool", "global_avg_pool", [last], {}),
        Node.make(f"{prefix}logits", "linear", [f"{prefix}pool"], {"features": 3}),
    ]
    return Architecture(tuple(made), (1, 8, 8), 3)


@settings(max_examples=200, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_any_order_and_any_names_give_one_digest(graph, rng: random.Random):
    order = list(range(len(graph)))
    rng.shuffle(order)
    assert build(graph).digest == build(graph, order, prefix="other").digest


@settings(max_examples=200, deadline=None)
@given(graphs(), st.data())
def test_changing_any_setting_of_a_live_node_changes_the_digest(graph, data):
    made = build(graph)
    live = _live(made)
    at = data.draw(st.sampled_from([i for i, n in enumerate(made.nodes) if n.name in live]))
    node = made.nodes[at]
    changes = {"conv2d": ("activation", "gelu"), "max_pool2d": ("kernel_size", 5)}
    if node.operation not in changes:
        return
    name, value = changes[node.operation]
    options = {**dict(node.settings), name: value}
    changed = Node.make(node.name, node.operation, node.inputs, options)
    other = Architecture((*made.nodes[:at], changed, *made.nodes[at + 1 :]), (1, 8, 8), 3)
    assert other.digest != made.digest


def _live(made: Architecture) -> set[str]:
    """Names that the output depends on through something that is not zero."""
    zero, live = set(), {made.nodes[-1].name}
    for node in made.nodes:
        folds = node.operation in ("identity", "add", "max_pool2d", "global_avg_pool")
        if node.operation == "zero" or (folds and all(i in zero for i in node.inputs)):
            zero.add(node.name)
    for node in reversed(made.nodes):
        if node.name in live and node.name not in zero:
            live.update(node.inputs)
    return live - zero


def test_the_digest_is_the_same_in_every_process():
    program = (
        "import nas_optuna as nas, numpy as np\n"
        "space = nas.spaces.MacroSpace((1, 8, 8), 10, max_layers=8)\n"
        "rng = np.random.default_rng(0)\n"
        "print([space.architecture(space.sample(rng)).digest for _ in range(20)])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert len(set(outputs.pop().split(","))) > 15

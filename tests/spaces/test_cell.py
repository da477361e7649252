"""The DARTS space and the operations of an edge, against the published definitions."""

import statistics
import time

import numpy as np
import pytest
import torch
from torch import nn

from nas_optuna import ArchitectureBuilder
from nas_optuna.architecture import INPUT
from nas_optuna.errors import ArchitectureError, SettingError, UnknownNameError
from nas_optuna.models import build, cost
from nas_optuna.models.operations import make
from nas_optuna.spaces import DartsSpace
from nas_optuna.spaces.cell import CANDIDATES, NONE, edge_operation, reached
from nas_optuna.spaces.darts import EDGES, KINDS, NODES
from tests.spaces.edges import lost_edges

PUBLISHED = (
    "skip_connect", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "sep_conv_5x5",
    "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
DARTS_V2 = {
    "normal": [
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
    ],
    "reduce": [
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
    ],
}  # fmt: skip
SMALL = DartsSpace((1, 8, 8), 10, channels=4, cells=4)


def all_of(operation, space=SMALL):
    """The genome with one operation on every edge, each node on the first two states."""
    sources = {name: "0,1" for name in space.genes if name.endswith("sources")}
    return sources | dict.fromkeys(space.operation_genes, operation)


def test_parameters_of_the_published_network():
    space = DartsSpace((3, 32, 32), 10, channels=36, cells=20)
    made = space.architecture(space.from_genotype(**DARTS_V2))
    # The authors' code prints 3.349342 M without the auxiliary head.
    assert cost(made).parameters == 3_349_342
    with torch.device("meta"):
        assert sum(p.numel() for p in build(made).parameters()) == 3_349_342


def test_as_many_members_as_published():
    space = DartsSpace((3, 32, 32), 10, operations=PUBLISHED)
    assert space.size == (180 * 7**8) ** 2  # "about 10^18", section 3.1 of the paper
    assert not space.conditional


def test_the_skeleton_of_the_published_network():
    space = DartsSpace((3, 32, 32), 10, channels=36, cells=20)
    shapes = space.architecture(space.from_genotype(**DARTS_V2)).shapes
    cells = [shapes[f"cell{i}.concat"] for i in range(20)]
    assert shapes["stem"] == (108, 32, 32)
    assert cells == [(144, 32, 32)] * 6 + [(288, 16, 16)] * 7 + [(576, 8, 8)] * 7


def test_a_genotype_says_which_edges_are_there():
    genome = SMALL.from_genotype(**DARTS_V2)
    nodes = {node.name: node for node in SMALL.architecture(genome).nodes}
    assert set(genome) == set(SMALL.genes)
    assert genome["normal.node5.sources"] == "0,2"
    assert genome["normal.node5.operation1"] == "dil_conv_3x3"
    assert nodes["cell0.node5"].inputs == ("cell0.preprocess0", "cell0.edge25.dil_conv_3x3")
    assert nodes["cell1.edge02.max_pool_3x3"].complete()["stride"] == 2
    # A skip between nodes is a plain edge; one from a larger image has weights.
    assert nodes["cell1.node3"].inputs == ("cell1.edge13.max_pool_3x3", "cell1.node2")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda pairs: pairs[:-1], SettingError, r"normal must have 8 .* got 7"),
        (lambda pairs: [("skip_connect", 2), *pairs[1:]], SettingError, r"node 2: .* got 1 and 2"),
        (lambda pairs: [("skip_connect", 1), *pairs[1:]], SettingError, r"got 1 and 1"),
        (lambda pairs: [("sep_conv_9x9", 0), *pairs[1:]], UnknownNameError, "sep_conv_9x9"),
    ],
)
def test_a_wrong_genotype_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        SMALL.from_genotype(change(DARTS_V2["normal"]), DARTS_V2["reduce"])


def test_every_pick_of_two_edges_for_each_node_is_a_genome():
    # As a relaxed search derives a cell: two of the edges into each node, an operation on either.
    assert len(EDGES) == 14
    rng = np.random.default_rng(0)
    for _ in range(50):
        picked = {}
        for kind in KINDS:
            picked[kind] = [
                (str(rng.choice(SMALL.operations)), int(source))
                for node in NODES
                for source in rng.permutation([a for a, b in EDGES if b == node])[:2]
            ]
        genome = SMALL.from_genotype(**picked)
        assert genome == SMALL.complete(genome, rng)
        SMALL.architecture(genome)


def test_the_genes():
    assert list(SMALL.genes)[:5] == [
        "normal.node2.operation0", "normal.node2.operation1", "normal.node3.sources",
        "normal.node3.operation0", "normal.node3.operation1",
    ]  # fmt: skip
    assert SMALL.genes["reduce.node4.sources"].choices == (
        "0,1",
        "0,2",
        "1,2",
        "0,3",
        "1,3",
        "2,3",
    )
    assert len(SMALL.operation_genes) == 16


def test_rewiring_changes_the_sources_of_one_node():
    rng = np.random.default_rng(0)
    params = SMALL.sample(rng)
    for _ in range(20):
        rewired = SMALL.rewire(params, rng)
        changed = [name for name in params if params[name] != rewired[name]]
        assert len(changed) == 1
        assert changed[0].endswith(".sources")


@pytest.mark.parametrize("shape", [(4, 8, 8), (3, 7, 5), (2, 1, 1), (4, 1, 9)])
@pytest.mark.parametrize("operation", CANDIDATES)
@pytest.mark.parametrize("stride", [1, 2])
def test_an_edge_keeps_channels_and_halves_with_stride_2(operation, shape, stride):
    net = ArchitectureBuilder(shape, 3)
    y = edge_operation(net, net.input, operation, (0, 2), stride=stride)
    side = [-(-size // stride) for size in shape[1:]]
    assert y.shape == (shape[0], *side)
    model = build(net.build(net.classifier(y)))
    assert model(torch.randn(4, *shape)).shape == (4, 3)


C = 12


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("skip_connect", 0),
        ("max_pool_3x3", 0),
        ("avg_pool_3x3", 0),
        ("nor_conv_1x1", C * C + 2 * C),
        ("nor_conv_3x3", 9 * C * C + 2 * C),
        ("nor_conv_5x5", 25 * C * C + 2 * C),
        ("sep_conv_3x3", 2 * (9 * C + C * C + 2 * C)),
        ("sep_conv_5x5", 2 * (25 * C + C * C + 2 * C)),
        ("dil_conv_3x3", 9 * C + C * C + 2 * C),
        ("dil_conv_5x5", 25 * C + C * C + 2 * C),
    ],
)
def test_parameters_of_each_operation(operation, parameters):
    net = ArchitectureBuilder((C, 8, 8), 3)
    head = cost(net.build(net.classifier(net.input))).parameters
    net = ArchitectureBuilder((C, 8, 8), 3)
    y = edge_operation(net, net.input, operation, (0, 1))
    assert cost(net.build(net.classifier(y))).parameters - head == parameters


def test_dilated_convolutions_reach_further():
    net = ArchitectureBuilder((1, 9, 9), 3)
    y = edge_operation(net, net.input, "dil_conv_5x5", (0, 1))
    model = build(net.build(net.classifier(y))).eval().nodes[y.name.replace(".", "/")]
    x = torch.ones(1, 1, 9, 9, requires_grad=True)
    model(x)[0, 0, 4, 4].backward()
    rows = x.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
    assert rows.tolist() == [0, 2, 4, 6, 8]


def test_factorized_reduce_is_the_published_one():
    torch.manual_seed(0)
    ours = make("factorized_reduce", {"channels": 6}, ((4, 8, 8),)).eval()
    x = torch.randn(2, 4, 8, 8)
    r = torch.relu(x)
    published = torch.cat([ours.even(r), ours.odd(r[:, :, 1:, 1:])], dim=1)
    assert torch.equal(ours(x), ours.norm(published))


def test_factorized_reduce_sees_every_place_of_an_odd_image():
    ours = make("factorized_reduce", {"channels": 2}, ((1, 5, 5),)).eval()
    for weight in (ours.even.weight, ours.odd.weight):
        nn.init.ones_(weight)
    x = torch.ones(1, 1, 5, 5, requires_grad=True)
    ours(x).sum().backward()
    seen = x.grad[0, 0] > 0
    assert seen[::2, ::2].all()
    assert seen[1::2, 1::2].all()


def test_factorized_reduce_needs_two_halves():
    net = ArchitectureBuilder((1, 8, 8))
    with pytest.raises(ArchitectureError, match="at least 2, one for each half, got 1"):
        net.node("factorized_reduce", [net.input], channels=1)


def test_edges_that_nothing_reaches_are_left_out():
    edges = {(0, 1): NONE, (0, 2): "nor_conv_1x1", (1, 2): "nor_conv_3x3", (0, 3): NONE}
    assert reached({**edges, (1, 3): "skip_connect", (2, 3): "skip_connect"}) == {
        (0, 2): "nor_conv_1x1",
        (2, 3): "skip_connect",
    }
    assert reached({**edges, (1, 3): "skip_connect", (2, 3): NONE}) == {}


def test_a_node_without_edges_is_zero_and_costs_nothing():
    genome = all_of("nor_conv_3x3")
    without = genome | {f"normal.node5.operation{i}": NONE for i in (0, 1)}
    made, full = SMALL.architecture(without), SMALL.architecture(genome)
    assert made.shapes["cell0.concat"] == full.shapes["cell0.concat"]
    lost = 4 * (9 * 4 * 4 + 2 * 4)  # before the reductions: in cell 0, two edges of 4 channels
    assert cost(made).parameters <= cost(full).parameters - lost
    with torch.no_grad():
        zero = build(made).nodes["cell0/node5"](torch.ones(2, 1, 8, 8))
    assert zero.shape == (2, 4, 8, 8)
    assert not zero.any()


def test_a_network_of_nothing_still_builds_and_trains():
    made = SMALL.architecture(all_of(NONE))
    assert cost(made).layers == 1  # nothing is left but the head
    model = build(made).train()
    nn.functional.cross_entropy(model(torch.randn(4, 1, 8, 8)), torch.arange(4)).backward()


def test_random_genomes_build_train_and_lose_no_edge():
    rng = np.random.default_rng(0)
    x, y = torch.randn(4, 1, 8, 8), torch.arange(4)
    for _ in range(15):
        made = SMALL.architecture(SMALL.sample(rng))
        assert lost_edges(made) == []
        counted, model = cost(made), build(made).train()
        assert counted.parameters == sum(p.numel() for p in model.parameters())
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("cells", [1, 2, 3, 8])
def test_any_number_of_cells(cells):
    space, rng = DartsSpace((1, 8, 8), 10, channels=2, cells=cells), np.random.default_rng(0)
    made = space.architecture(space.sample(rng))
    assert build(made)(torch.randn(4, 1, 8, 8)).shape == (4, 10)


def test_a_name_stands_for_one_operation_in_every_genome():
    # Shared weights follow the names.
    rng, seen = np.random.default_rng(0), {}
    for _ in range(200):
        made = SMALL.architecture(SMALL.sample(rng))
        for node in made.nodes:
            if node.operation not in ("add", "concat", "zero"):
                shape = made.shapes[node.inputs[0]] if node.inputs != (INPUT,) else None
                meaning = (node.operation, node.settings, shape)
                assert seen.setdefault(node.name, meaning) == meaning


def test_choices_go_from_simple_to_complex():
    assert SMALL.operations == (NONE, *(o for o in CANDIDATES if o != "nor_conv_1x1"))


def test_a_network_and_its_costs_take_milliseconds():
    space, rng, taken = DartsSpace((3, 32, 32), 10, cells=20), np.random.default_rng(0), []
    for _ in range(20):
        began = time.process_time()  # of this process: other load does not count
        cost(space.architecture(space.sample(rng)))
        taken.append(time.process_time() - began)
    assert statistics.median(taken) < 0.03


@pytest.mark.parametrize(
    ("operation", "settings", "message"),
    [
        (
            "conv2d",
            {"channels": 4, "bias": "yes"},
            "bias must be 'auto', True or False, got 'yes'",
        ),
        ("zero", {"channels": 4, "height": 0, "width": 8}, "height must be .* at least 1, got 0"),
    ],
)
def test_wrong_settings_of_an_operation_are_refused(operation, settings, message):
    net = ArchitectureBuilder((1, 8, 8))
    with pytest.raises(ArchitectureError, match=message):
        net.node(operation, [net.input], **settings)


@pytest.mark.parametrize(
    ("norm", "bias", "expected"),
    [(True, "auto", False), (False, "auto", True), (False, False, False), (True, True, True)],
)
def test_a_convolution_has_a_bias_where_no_norm_follows_unless_told(norm, bias, expected):
    settings = {"channels": 4, "kernel_size": 1, "norm": norm, "bias": bias}
    net = ArchitectureBuilder((1, 8, 8))
    x = net.node("conv2d", [net.input], **settings, name="conv")
    model = build(net.build(net.classifier(x)))
    assert (model.nodes["conv"][0].bias is not None) == expected

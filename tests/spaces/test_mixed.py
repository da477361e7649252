"""The mixed space: stages, depth and width around one cell."""

import statistics
import time

import numpy as np
import pytest
import torch
from torch import nn

from nas_optuna.errors import SettingError
from nas_optuna.models import build, cost
from nas_optuna.spaces import MixedSpace
from nas_optuna.spaces.mixed import OPERATIONS
from tests.spaces.edges import lost_edges

SPACE = MixedSpace((1, 8, 8), 10, max_stages=3, max_cells=3, widths=(4, 8))


def genome(space=SPACE, *, stages=2, cells=2, width=8, operations=("nor_conv_3x3",) * 6):
    made = {"stages": stages}
    for i in range(space.max_stages):
        made |= {f"stage{i}.cells": cells, f"stage{i}.width": width}
    return made | dict(zip(space.operation_genes, operations, strict=True))


def test_the_same_questions_in_every_trial():
    assert list(SPACE.genes) == [
        "stages",
        *[f"stage{i}.{gene}" for i in range(3) for gene in ("cells", "width")],
        *["0->1", "0->2", "1->2", "0->3", "1->3", "2->3"],
    ]
    assert not SPACE.conditional
    assert SPACE.size == 3 * (3 * 2) ** 3 * 8**6
    assert SPACE.operation_genes == ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")


def test_stages_cells_and_widths():
    made = SPACE.architecture({**genome(stages=3, cells=3), "stage1.cells": 1, "stage1.width": 4})
    cells = {name.rpartition(".")[0]: s for name, s in made.shapes.items() if "node3" in name}
    assert cells == {
        **{f"stage0.cell{i}": (8, 8, 8) for i in range(3)},
        "stage1.cell0": (4, 4, 4),
        **{f"stage2.cell{i}": (8, 2, 2) for i in range(3)},
    }
    assert made.shapes["stage2.norm"] == (8, 2, 2)


def test_genes_of_stages_beyond_the_last_are_ignored():
    plain = SPACE.architecture(genome(stages=1))
    assert SPACE.architecture({**genome(stages=1), "stage2.cells": 3, "stage1.width": 4}) == plain


def test_a_stage_can_be_inserted_and_removed():
    rng = np.random.default_rng(0)
    params = {**genome(stages=2), "stage0.cells": 1, "stage1.cells": 3}
    assert SPACE.insert_layer(params, rng)["stages"] == 3
    assert SPACE.remove_layer(params, rng)["stages"] == 1
    assert SPACE.insert_layer(genome(stages=3), rng) is None


def test_what_nothing_reaches_is_not_built():
    none, conv = "none", "nor_conv_3x3"
    dead = SPACE.architecture(genome(operations=(none, none, conv, conv, conv, conv)))
    live = SPACE.architecture(genome(operations=(none, none, none, conv, none, none)))
    assert dead == live
    # Nor what leads nowhere.
    assert SPACE.architecture(genome(operations=(conv, none, none, conv, none, none))) == live


def test_a_cell_without_a_way_through_is_left_out():
    empty = SPACE.architecture(genome(operations=("none",) * 6))
    assert not [node.name for node in empty.nodes if "cell" in node.name]
    assert [n.name for n in empty.nodes][-3:] == ["stage1.norm", "pool", "logits"]
    skip = ("none", "none", "none", "skip_connect", "none", "none")
    assert SPACE.architecture(genome(operations=skip)).digest == empty.digest


def test_random_genomes_build_train_and_lose_no_edge():
    rng = np.random.default_rng(0)
    x, y = torch.randn(4, 1, 8, 8), torch.arange(4)
    for _ in range(25):
        made = SPACE.architecture(SPACE.sample(rng))
        assert lost_edges(made) == []
        counted, model = cost(made), build(made).train()
        assert counted.parameters == sum(p.numel() for p in model.parameters())
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (1, 1, 1), (2, 1, 9)])
def test_every_genome_builds_on_small_inputs(shape):
    space, rng = MixedSpace(shape, 4, max_cells=2, widths=(1, 3)), np.random.default_rng(0)
    for _ in range(10):
        model = build(space.architecture(space.sample(rng)))
        assert model(torch.randn(4, *shape)).shape == (4, 4)


def test_a_name_stands_for_one_operation_in_every_genome():
    # Shared weights follow the names; widths are sliced.
    rng, seen = np.random.default_rng(0), {}
    for _ in range(200):
        for node in SPACE.architecture(SPACE.sample(rng)).nodes:
            settings = {name: value for name, value in node.settings if name != "channels"}
            assert seen.setdefault(node.name, (node.operation, settings)) == (
                node.operation,
                settings,
            )


def test_settings_are_checked():
    with pytest.raises(SettingError, match="min_stages must be at most max_stages, got 4 and 3"):
        MixedSpace((1, 8, 8), 10, min_stages=4)
    with pytest.raises(SettingError, match="max_cells must be 1 or more, got 0"):
        MixedSpace((1, 8, 8), 10, max_cells=0)
    with pytest.raises(SettingError, match="widths"):
        MixedSpace((1, 8, 8), 10, widths=())


def test_choices_go_from_simple_to_complex():
    taken = [cost(SPACE.architecture(genome(operations=(o,) * 6))).parameters for o in OPERATIONS]
    assert taken[:6] == sorted(taken[:6])


def test_a_network_and_its_costs_take_milliseconds():
    space, rng, taken = MixedSpace((3, 32, 32), 10, max_stages=4), np.random.default_rng(0), []
    for _ in range(60):  # the first ones fill the table of node costs
        began = time.process_time()  # of this process: other load does not count
        cost(space.architecture(space.sample(rng)))
        taken.append(time.process_time() - began)
    assert statistics.median(taken) < 0.03

"""Which paths train a supernet: every choice equally often, and all widths."""

from collections import Counter
from itertools import islice

import pytest

import nas_optuna as nas
from nas_optuna.evaluators.paths import fair_paths, width_genes
from nas_optuna.spaces import FunctionSpace
from tests.spaces.spaces import SPACES
from tests.spaces.test_function import conditional


def dealt(space, count, seed=0, **settings):
    return list(islice(fair_paths(space, seed, **settings), count))


def test_every_step_trains_each_choice_once():
    """Strict fairness: five paths in a row hold the five operations of each edge."""
    space = SPACES["nasbench201"]
    genomes = dealt(space, 100)
    for start in range(0, 100, 5):
        for name, gene in space.genes.items():
            assert {g[name] for g in genomes[start : start + 5]} == set(gene.choices)
    assert len({tuple(g.values()) for g in genomes}) > 90  # and the genes are not tied


def test_choices_of_any_number_are_equally_frequent():
    space = SPACES["macro"]
    genomes = dealt(space, 210)
    counts = Counter(g["layer0.operation"] for g in genomes)
    assert max(counts.values()) - min(counts.values()) <= 1
    depths = Counter(g["layers"] for g in genomes)  # an int gene of 8 values
    assert max(depths.values()) - min(depths.values()) <= 1
    assert len(depths) == 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nasbench201", set()),
        ("mlp", {f"layer{i}.width" for i in range(6)}),
        ("mixed", {f"stage{i}.width" for i in range(3)}),
        ("mobile per stage", {"width_multiplier", "stage0.expansion", "stage1.expansion"}),
        ("tokens", {"width", *(f"layer{i}.ratio" for i in range(3))}),
    ],
)
def test_genes_of_width_are_found(name, expected):
    """Not depth, kernel, stride, dropout or resolution, numbers though they are."""
    assert set(width_genes(SPACES[name])) == expected


def test_widths_are_sandwiched():
    space = SPACES["mlp"]
    widths = width_genes(space)
    genomes = dealt(space, 45)
    for i, genome in enumerate(genomes):
        if i % 3 < 2:
            assert all(genome[name] == ends[i % 3] for name, ends in widths.items())
    between = Counter(genome["layer0.width"] for genome in genomes[2::3])
    assert between == dict.fromkeys((16, 32, 64, 128, 256), 3)
    assert {genome["layers"] for genome in genomes[::3]} == set(range(1, 7))
    rare = dealt(space, 10, sandwich=5)
    assert [g["layer0.width"] == 256 for g in rare[::5]] == [True, True]
    assert len({g["layer0.width"] for g in rare[2:5] + rare[7:10]}) == 5 + 0


def test_paths_follow_the_seed_alone_and_answer_conditional_spaces():
    space = FunctionSpace(conditional, input_shape=(1, 8, 8), num_classes=10)
    genomes = dealt(space, 30)
    assert genomes == dealt(space, 30)
    assert genomes != dealt(space, 30, seed=1)
    assert Counter(g["layers"] for g in genomes) == {1: 10, 2: 10, 3: 10}
    for genome in genomes:
        assert isinstance(space.architecture(genome), nas.Architecture)
        assert ("operation2" in genome) == (genome["layers"] == 3)

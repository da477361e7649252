"""Mutation, neighbours and crossover: always a genome of the space, and the change they name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution

from nas_optuna.errors import SpaceError
from nas_optuna.spaces import FunctionSpace, MacroSpace
from nas_optuna.spaces.drawing import cardinality, contains, draw, values
from tests.spaces.spaces import SPACES, generators, genomes

each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
few = settings(max_examples=25, deadline=None, derandomize=True)
CHAINED = {name: space for name, space in SPACES.items() if space.chains}
each_chained = pytest.mark.parametrize("space", CHAINED.values(), ids=CHAINED)


def is_genome(space, params):
    """Whether it has a valid value for each gene and nothing else, and builds."""
    assert params.keys() == space.genes.keys()
    assert all(contains(gene, params[name]) for name, gene in space.genes.items())
    return bool(space.architecture(params).nodes)


def changed(a, b):
    return [name for name in a if a[name] != b[name]]


@each_space
@few
@given(data=st.data(), rng=generators)
def test_mutants_are_members(space, data, rng):
    params = data.draw(genomes(space))
    before = dict(params)
    for _ in range(4):
        mutant = space.mutate(params, rng)
        assert is_genome(space, mutant)
        assert mutant != params
    assert params == before


@each_space
@few
@given(data=st.data(), rng=generators)
def test_children_are_members_with_genes_of_either_parent(space, data, rng):
    a, b = data.draw(genomes(space)), data.draw(genomes(space))
    child = space.crossover(a, b, rng)
    assert is_genome(space, child)
    assert all(child[name] in (a[name], b[name]) for name in child)


@each_space
def test_children_have_genes_of_both_parents(space):
    rng = np.random.default_rng(0)
    a = {name: next(iter(values(gene))) for name, gene in space.genes.items()}
    b = {name: list(values(gene))[-1] for name, gene in space.genes.items()}
    children = [space.crossover(a, b, rng) for _ in range(20)]
    assert any(changed(a, child) and changed(child, b) for child in children)


@each_space
@few
@given(data=st.data())
def test_neighbours_differ_in_one_gene_and_there_are_all(space, data):
    params = data.draw(genomes(space))
    neighbours = list(space.neighbours(params))
    assert all(len(changed(params, neighbour)) == 1 for neighbour in neighbours)
    assert len(neighbours) == sum(cardinality(gene) - 1 for gene in space.genes.values())
    assert len({tuple(neighbour.items()) for neighbour in neighbours}) == len(neighbours)
    for neighbour in neighbours[:3]:
        assert is_genome(space, neighbour)


@each_chained
@few
@given(data=st.data(), rng=generators)
def test_a_changed_gene_counts(space, data, rng):
    """Genes of layers that are not there are left alone."""
    params = data.draw(genomes(space))
    (name,) = changed(params, space.change_gene(params, rng))
    for chain in space.chains:
        layer = chain.layer_of(name)
        assert layer is None or layer < params[chain.length]


@each_chained
@few
@given(data=st.data(), rng=generators)
def test_an_inserted_layer_is_one_more_and_the_others_stay(space, data, rng):
    params = data.draw(genomes(space))
    longer = space.insert_layer(params, rng)
    if longer is None:
        full = [params[c.length] == space.genes[c.length].high for c in space.chains]
        assert all(full)
        return
    assert is_genome(space, longer)
    assert one_layer_apart(space, params, longer)


@each_chained
@few
@given(data=st.data(), rng=generators)
def test_a_removed_layer_is_one_less_and_the_others_stay(space, data, rng):
    params = data.draw(genomes(space))
    shorter = space.remove_layer(params, rng)
    if shorter is None:
        short = [params[c.length] == space.genes[c.length].low for c in space.chains]
        assert all(short)
        return
    assert is_genome(space, shorter)
    assert one_layer_apart(space, shorter, params)


def one_layer_apart(space, short, long):
    """Whether taking one layer out of one chain of `long` leaves the layers of `short`."""
    differing = []
    for chain in space.chains:
        a, b = layers_of(space, chain, short), layers_of(space, chain, long)
        if a != b:
            assert any(b[:i] + b[i + 1 :] == a for i in range(len(b)))
            differing.append(chain)
    others = [
        name
        for name in changed(short, long)
        if all(c.layer_of(name) is None and c.length != name for c in space.chains)
    ]
    lengths = sum(long[c.length] - short[c.length] for c in space.chains)
    return lengths == 1 and len(differing) <= 1 and not others


def layers_of(space, chain, params):
    """Genes of each layer, skips left out: those are counted from the layer they are in."""
    return [
        {
            name.removeprefix(f"{chain.prefix}{i}."): value
            for name, value in params.items()
            if chain.layer_of(name) == i and not (chain.skip and name.endswith(chain.skip))
        }
        for i in range(params[chain.length])
    ]


def a_chain_of_five(**changes):
    space = MacroSpace((1, 8, 8), 10, max_layers=8, max_skip=3)
    params = {name: next(iter(values(gene))) for name, gene in space.genes.items()}
    params |= {"layers": 5} | {f"layer{i}.width": w for i, w in enumerate((16, 24, 32, 48, 64))}
    return space, params | {name.replace("__", "."): value for name, value in changes.items()}


def skips(space, params):
    """Free skip connections as pairs of widths: where each comes from and where it goes."""
    widths = ["input", *(params[f"layer{i}.width"] for i in range(params["layers"]))]
    return {
        (widths[i - back], widths[i + 1])
        for i in range(1, params["layers"])
        if (back := params[f"layer{i}.skip"])
    }


def test_skips_reach_the_same_layers_after_an_insertion():
    space, params = a_chain_of_five(layer3__skip=2)
    assert skips(space, params) == {(16, 48)}
    seen = set()
    for seed in range(60):
        longer = space.insert_layer(params, np.random.default_rng(seed))
        widths = [longer[f"layer{i}.width"] for i in range(6)]
        if widths.count(48) == 1:  # else the new layer is as wide as one of the two
            seen.add(longer[f"layer{widths.index(48)}.skip"])
            assert (16, 48) in skips(space, longer)
    assert seen == {2, 3}  # with the new layer outside and inside the reach


def test_skips_reach_the_same_layers_after_a_removal():
    space, params = a_chain_of_five(layer3__skip=2)
    seen = set()
    for seed in range(60):
        shorter = space.remove_layer(params, np.random.default_rng(seed))
        widths = [shorter[f"layer{i}.width"] for i in range(4)]
        if {16, 48} <= set(widths):
            seen.add(shorter[f"layer{widths.index(48)}.skip"])
            assert skips(space, shorter) == {(16, 48)}
    assert seen == {1, 2}


def test_rewiring_changes_a_connection_and_nothing_else():
    space, params = a_chain_of_five()
    for seed in range(30):
        rewired = space.rewire(params, np.random.default_rng(seed))
        (name,) = changed(params, rewired)
        assert name == "connection" or name.endswith(".skip")
    dense = params | {"connection": "dense"}  # where free skips are ignored
    (name,) = changed(dense, space.rewire(dense, np.random.default_rng(0)))
    assert name == "connection"


def test_nothing_to_change_is_an_error():
    space = FunctionSpace(lambda trial: None, input_shape=(4,), num_classes=2)
    with pytest.raises(SpaceError, match="no gene with more than one choice"):
        space.mutate({}, np.random.default_rng(0))


def test_genes_with_steps_and_without_end():
    def numbers(trial):
        trial.suggest_float("rate", 0.0, 0.5, step=0.1)
        trial.suggest_float("scale", 1e-3, 1.0, log=True)
        trial.suggest_int("width", 8, 32, step=8)

    space = FunctionSpace(numbers, input_shape=(4,), num_classes=2)
    params = {"rate": 0.1 + 0.2, "scale": 0.5, "width": 16}
    neighbours = list(space.neighbours(params))
    assert len(neighbours) == 5 + 3  # the continuous gene has no neighbours
    assert all(n["scale"] == 0.5 for n in neighbours)
    assert space.complete({"width": 20, "scale": 7.0}, np.random.default_rng(0))["width"] != 20
    with pytest.raises(SpaceError, match="no end"):
        list(values(FloatDistribution(0, 1)))


@pytest.mark.parametrize(
    "gene",
    [
        FloatDistribution(0.1, 0.1),
        FloatDistribution(0.1, 0.1, log=True),
        FloatDistribution(0.1, 0.1, step=0.2),
    ],
)
def test_a_number_of_one_value_is_a_gene_of_one_choice(gene):
    assert cardinality(gene) == 1
    assert list(values(gene)) == [0.1]
    assert draw(gene, np.random.default_rng(0)) == 0.1


@pytest.mark.timeout(60)
def test_a_gene_of_one_value_is_never_changed():
    def numbers(trial):
        trial.suggest_float("rate", 0.1, 0.1)
        trial.suggest_int("width", 1, 3)

    space = FunctionSpace(numbers, input_shape=(4,), num_classes=2)
    assert space.size == 3
    rng = np.random.default_rng(0)
    mutants = [space.mutate({"rate": 0.1, "width": 2}, rng) for _ in range(20)]
    assert {(m["rate"], m["width"]) for m in mutants} == {(0.1, 1), (0.1, 3)}


@pytest.mark.parametrize("high", [0.3, 0.6, 0.7])  # 3 * 0.1 > 0.3
def test_no_step_leads_beyond_the_highest_value(high):
    gene = FloatDistribution(0.0, high, step=0.1)
    rng = np.random.default_rng(0)
    drawn = {draw(gene, rng) for _ in range(200)}
    assert sorted(drawn) == list(values(gene))
    assert max(drawn) == high
    assert all(contains(gene, value) for value in drawn)


def test_neighbours_of_a_conditional_genome_are_whole():
    def network(trial):
        if trial.suggest_categorical("kind", ["pool", "conv"]) == "conv":
            trial.suggest_int("width", 1, 3)

    space = FunctionSpace(network, input_shape=(4,), num_classes=2)
    assert space.conditional
    assert [n.keys() for n in space.neighbours({"kind": "pool"})] == [{"kind", "width"}]
    found = list(space.neighbours({"kind": "conv", "width": 1}))
    assert found == [
        {"kind": "pool"},
        {"kind": "conv", "width": 2},
        {"kind": "conv", "width": 3},
    ]
    child = space.crossover(
        {"kind": "pool"}, {"kind": "conv", "width": 2}, np.random.default_rng(0)
    )
    assert child in ({"kind": "pool"}, {"kind": "conv", "width": 2})

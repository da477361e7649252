"""Which networks a supernet is trained by: every choice equally often, every width in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from nas_optuna.architecture import Architecture, Node
from nas_optuna.models.supernet import fixed_settings
from nas_optuna.spaces import UNBUILDABLE, Space
from nas_optuna.spaces.drawing import Params, cardinality, draw, values

_MOST_VALUES = 1_000  # of a gene whose values are dealt; more are drawn
_GENOMES = 16  # tried to find some by which a gene is judged
_LOOKS = 2  # that decide
_SANDWICH = 3  # paths with the largest, the smallest, and random widths


def fair_paths(space: Space, seed: int, sandwich: int = _SANDWICH) -> Iterator[Params]:
    """Deal genomes without end, each choice of each gene equally often.

    The values of a gene are dealt like cards: shuffled, one to each genome, and shuffled again
    when all are dealt. So any number of genomes in a row holds all choices of a gene equally
    often, within one or two (strict fairness; Chu et al. 2021, "FairNAS"). Genes that only make
    the network wider are all at their largest in the first of `sandwich` genomes, at their
    smallest in the second, and dealt in the others (the sandwich rule; Yu and Huang 2019,
    "Universally Slimmable Networks").

    Args:
        space: The space; what it asks beyond its `genes` is drawn.
        seed: Decides all draws.
        sandwich: Genomes after which the largest widths come again; at least 3.
    """
    rng = np.random.default_rng([seed, 0])
    widths = width_genes(space)
    decks: dict[str, list[Any]] = {name: [] for name in space.genes}
    number = 0
    while True:
        turn = number % max(sandwich, _SANDWICH)
        genome = {}
        for name, gene in space.genes.items():
            if turn < 2 and name in widths:
                genome[name] = widths[name][turn]
            else:
                genome[name] = _deal(gene, decks[name], rng)
        yield space.complete(genome, rng)
        number += 1


def _deal(gene: BaseDistribution, deck: list[Any], rng: np.random.Generator) -> Any:
    if cardinality(gene) > _MOST_VALUES:
        return draw(gene, rng)
    if not deck:
        cards = list(values(gene))
        deck += [cards[int(i)] for i in rng.permutation(len(cards))]
    return deck.pop()


def width_genes(space: Space) -> dict[str, tuple[Any, Any]]:
    """Return the largest and the smallest value of each gene that changes nothing but widths.

    These are genes with numbers for values that leave the operations and other settings of all
    nodes as they are, and change the channels or features of some.

    Args:
        space: The space.

    Example:
        >>> from nas_optuna.spaces import MLPSpace
        >>> sorted(width_genes(MLPSpace((30,), 2, max_layers=2)))
        ['layer0.width', 'layer1.width']
    """
    rng = np.random.default_rng(0)
    genomes = [space.sample(rng) for _ in range(_GENOMES)]
    ends = {name: _ends(gene) for name, gene in space.genes.items()}
    return {
        name: pair
        for name, pair in ends.items()
        if pair is not None and _only_widens(space, name, pair, genomes)
    }


def _ends(gene: BaseDistribution) -> tuple[Any, Any] | None:
    """Largest and smallest value of a gene of numbers; None if there are not two."""
    if not isinstance(gene, CategoricalDistribution):
        low, high = gene.low, gene.high  # type: ignore[attr-defined]  # an int or a float gene
        return (high, low) if high > low else None
    numbers = [c for c in gene.choices if isinstance(c, int | float) and not isinstance(c, bool)]
    both = len(numbers) == len(gene.choices) > 1
    return (max(numbers), min(numbers)) if both else None


def _only_widens(space: Space, name: str, ends: tuple[Any, Any], genomes: list[Params]) -> bool:
    """Whether a gene changes widths and nothing else, in the first genomes where it matters."""
    looks = 0
    for genome in genomes:
        try:
            wide, narrow = (space.architecture({**genome, name: end}) for end in ends)
        except UNBUILDABLE:  # or a conditional space that asks more then
            continue
        pairs = _common(wide, narrow)
        if any(
            a.operation != b.operation or fixed_settings(a) != fixed_settings(b) for a, b in pairs
        ):
            return False
        looks += any(a.settings != b.settings for a, b in pairs)
        if looks == _LOOKS:
            break
    return looks > 0


def _common(wide: Architecture, narrow: Architecture) -> list[tuple[Node, Node]]:
    """Nodes by name; those that only one has, such as projections, are left out."""
    others = {node.name: node for node in narrow.nodes}
    return [(node, others[node.name]) for node in wide.nodes if node.name in others]

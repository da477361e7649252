"""How genomes vary: one gene, a layer more or less, a cross of two; all within the space.

The functions take any `Space`; its methods of the same names call them. What comes out is made
whole by `Space.complete`, so it is a genome of the space whatever went in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution, IntDistribution

from nas_optuna.spaces.drawing import Params, cardinality, contains, draw, values


@dataclass(frozen=True, slots=True)
class Chain:
    """A row of layers in a genome: a gene counts them, and each has genes of its own.

    Args:
        length: Name of the gene that counts the layers.
        prefix: The genes of layer `i` are named `{prefix}{i}.` and more; layers from `length` on
            are asked for and ignored.
        skip: Name, after the prefix, of the gene that says how many layers back a connection
            reaches; empty if there is none.

    Example:
        >>> Chain("layers", "layer").layer_of("layer12.width")
        12
    """

    length: str
    prefix: str
    skip: str = ""

    def layer_of(self, gene: str) -> int | None:
        """Number of the layer that a gene belongs to; None if it is not of this chain."""
        number, dot, _ = gene.removeprefix(self.prefix).partition(".")
        own = gene.startswith(self.prefix) and dot and number.isdecimal()
        return int(number) if own else None


class GeneticSpace(Protocol):
    """What variation asks of a space."""

    @property
    def chains(self) -> tuple[Chain, ...]:
        """The rows of layers in its genomes."""

    @property
    def name(self) -> str:
        """Name, for messages."""

    @property
    def genes(self) -> Mapping[str, BaseDistribution]:
        """The questions, by name."""

    def complete(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Make a genome whole; see `Space.complete`."""


def live_genes(space: GeneticSpace, params: Mapping[str, Any]) -> list[str]:
    """Names of the genes that count: those of layers beyond the length of their chain do not."""
    return [name for name in params if name in space.genes and not _idle(space, params, name)]


def _idle(space: GeneticSpace, params: Mapping[str, Any], gene: str) -> bool:
    for chain in space.chains:
        layer = chain.layer_of(gene)
        if layer is not None and layer >= params.get(chain.length, math.inf):
            return True
    return False


def neighbours(space: GeneticSpace, params: Mapping[str, Any]) -> Iterator[Params]:
    """Go through all genomes that differ in one finite gene, those of live genes first."""
    live = live_genes(space, params)
    idle = [name for name in params if name in space.genes and name not in live]
    for name in (*live, *idle):
        gene = space.genes[name]
        if math.isinf(cardinality(gene)):
            continue
        for value in values(gene):
            if not _same(value, params[name]):
                # A conditional space may ask more then; the answers are the same in every call.
                yield space.complete({**params, name: value}, np.random.default_rng(0))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return bool(a == b)


def change_gene(
    space: GeneticSpace, params: Mapping[str, Any], rng: np.random.Generator, among: list[str]
) -> Params | None:
    """Give one of the genes `among` another value; None if none of them has another."""
    open_genes = [name for name in among if cardinality(space.genes[name]) > 1]
    if not open_genes:
        return None
    chosen = open_genes[int(rng.integers(len(open_genes)))]
    value = params[chosen]
    while _same(value, params[chosen]):
        value = draw(space.genes[chosen], rng)
    return space.complete({**params, chosen: value}, rng)


def insert_layer(
    space: GeneticSpace, params: Mapping[str, Any], rng: np.random.Generator
) -> Params | None:
    """Put a random layer between two; None if every chain is as long as it may be."""
    chain = _open_chain(space, params, rng, change=1)
    if chain is None:
        return None
    place = int(rng.integers(params[chain.length] + 1))

    def reconnect(layer: int, back: int) -> int:
        return back + (layer - back <= place)  # it reaches over the new layer

    moved = _renumber(space, params, chain, lambda i: i + (i >= place), reconnect)
    return space.complete({**moved, chain.length: params[chain.length] + 1}, rng)


def remove_layer(
    space: GeneticSpace, params: Mapping[str, Any], rng: np.random.Generator
) -> Params | None:
    """Take a layer out; None if every chain is as short as it may be."""
    chain = _open_chain(space, params, rng, change=-1)
    if chain is None:
        return None
    place = int(rng.integers(params[chain.length]))

    def reconnect(layer: int, back: int) -> int:
        return back - (layer - back <= place)  # it reached over the layer that is gone

    moved = _renumber(
        space, params, chain, lambda i: None if i == place else i - (i > place), reconnect
    )
    return space.complete({**moved, chain.length: params[chain.length] - 1}, rng)


def _open_chain(
    space: GeneticSpace, params: Mapping[str, Any], rng: np.random.Generator, change: int
) -> Chain | None:
    chains = [
        chain
        for chain in space.chains
        if chain.length in params
        and contains(space.genes[chain.length], params[chain.length] + change)
    ]
    return chains[int(rng.integers(len(chains)))] if chains else None


def _renumber(
    space: GeneticSpace,
    params: Mapping[str, Any],
    chain: Chain,
    number: Callable[[int], int | None],
    reconnect: Callable[[int, int], int],
) -> Params:
    """Move the genes of layer `i` to layer `number(i)`; skips go on to reach the same layer."""
    moved: Params = {}
    for name, value in params.items():
        layer = chain.layer_of(name)
        if layer is None:
            moved[name] = value
            continue
        to = number(layer)
        if to is None:
            continue
        gene = name.removeprefix(f"{chain.prefix}{layer}.")
        renamed = f"{chain.prefix}{to}.{gene}"
        if gene == chain.skip and value and to != layer:
            reach = space.genes.get(renamed)
            longest = reach.high if isinstance(reach, IntDistribution) else 0
            value = min(reconnect(layer, value), longest)
        moved[renamed] = value
    return moved


def crossover(
    space: GeneticSpace, a: Mapping[str, Any], b: Mapping[str, Any], rng: np.random.Generator
) -> Params:
    """Take each gene from one of two parents; genes of one scope (`layer3.`) stay together."""
    child: Params = {}
    sides: dict[str, bool] = {}
    for name in (*a, *(name for name in b if name not in a)):
        scope = name.rpartition(".")[0] or name
        if scope not in sides:
            sides[scope] = bool(rng.integers(2))
        first, second = (a, b) if sides[scope] else (b, a)
        child[name] = first[name] if name in first else second[name]
    return space.complete(child, rng)

"""The DARTS space: a normal and a reduction cell, each stacked (Liu et al. 2019).

    stem -> normal cells -> reduction cell -> normal cells -> reduction cell -> normal cells ->
    pool -> logits

A cell takes the outputs of the two cells before it (its states 0 and 1) and has four nodes (states
2 to 5). A node sums what two operations make of two different earlier states; the cell returns the
four nodes joined.

Liu, Simonyan & Yang 2019, "DARTS: Differentiable Architecture Search", ICLR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.trial import BaseTrial

from nas_optuna.architecture import Architecture
from nas_optuna.builder import ArchitectureBuilder
from nas_optuna.errors import SettingError, check_name
from nas_optuna.nodes import Output
from nas_optuna.relaxation import NONE, RelaxedTrial
from nas_optuna.spaces.cell import CellSpace, Edge, edge_operation, total, zeros
from nas_optuna.spaces.drawing import Params
from nas_optuna.spaces.variation import change_gene

OPERATIONS = (
    NONE, "skip_connect", "max_pool_3x3", "avg_pool_3x3", "nor_conv_3x3", "nor_conv_5x5",
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
KINDS = ("normal", "reduce")
NODES = (2, 3, 4, 5)  # the states a cell makes itself
# What DARTS relaxes over: the fourteen edges of each cell, of which a genome keeps eight.
EDGES: tuple[Edge, ...] = tuple((source, node) for node in NODES for source in range(node))

Genotype = Sequence[tuple[str, int]]  # (operation, source), two for each node in turn


class DartsSpace(CellSpace):
    """Networks of DARTS cells.

    The genome is the discrete form of the published space: for each node of each cell which two
    states it takes, and an operation for either. With the seven published operations it has as
    many members as the paper counts, (180 * 7^8)^2. An edge with `none` is left out; a node
    without edges is zero. What nothing uses is not built.

    For a relaxed search `EDGES` are the edges of a cell, `operations` the choices of each, and
    `from_genotype` makes a genome of the two edges and operations picked for each node.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: Number of logits.
        channels: Channels of a node; each reduction cell doubles them.
        cells: Cells in the network; those at one and two thirds of the depth are reduction cells.
        operations: Choices of each edge, simple to complex.
        stem_multiplier: Channels of the stem, in multiples of `channels`.

    Raises:
        SettingError: A setting is out of its range.
        UnknownNameError: An operation is unknown.

    Example:
        >>> import numpy as np
        >>> space = DartsSpace((1, 8, 8), 10, channels=4, cells=3)
        >>> params = space.sample(np.random.default_rng(0))
        >>> space.architecture(params).shapes["cell2.concat"]
        (64, 2, 2)
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        channels: int = 16,
        cells: int = 8,
        operations: Sequence[str] = OPERATIONS,
        stem_multiplier: int = 3,
    ) -> None:
        skeleton = {"channels": channels, "cells": cells, "stem_multiplier": stem_multiplier}
        super().__init__(input_shape, num_classes, operations, skeleton)
        self.channels = channels
        self.cells = cells
        self.stem_multiplier = stem_multiplier

    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask for both cells, then stack them."""
        chosen = {kind: self._ask_cell(trial, kind) for kind in KINDS}
        net = ArchitectureBuilder(self.input_shape, self.num_classes)
        channels = self.channels
        stem = channels * self.stem_multiplier
        before = x = net.conv2d(net.input, stem, 3, activation="none", name="stem")
        for i in range(self.cells):
            reduction = i in (self.cells // 3, 2 * self.cells // 3)
            channels *= 2 if reduction else 1
            with net.scope(f"cell{i}"):
                edges = chosen["reduce" if reduction else "normal"]
                before, x = x, _cell(net, before, x, channels, edges, reduction=reduction)
        return net.build(net.classifier(x))

    def _ask_cell(self, trial: BaseTrial, kind: str) -> dict[Edge, str]:
        if isinstance(trial, RelaxedTrial):
            return {
                edge: trial.suggest_categorical(_edge_gene(kind, edge), self.operations)
                for edge in EDGES
            }
        edges: dict[Edge, str] = {}
        for node in NODES:
            for i, source in enumerate(_ask_sources(trial, kind, node)):
                name = f"{kind}.node{node}.operation{i}"
                edges[source, node] = trial.suggest_categorical(name, self.operations)
        return edges

    def rewire(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params | None:
        """Let one node take another pair of states."""
        return change_gene(self, params, rng, [name for name in params if "sources" in name])

    def derive(self, logits: Mapping[str, Mapping[str, float]]) -> Params:
        """Keep for each node the two edges with the strongest operation other than `none`.

        Section 2.4 of the paper. The strength of an operation is its share of the softmax over
        all of its edge's, `none` among them.

        Args:
            logits: By open choice (an edge of a cell), the logit of each operation.
        """
        genotypes = {}
        for kind in KINDS:
            pairs: list[tuple[str, int]] = []
            for node in NODES:
                best = [
                    (*_strongest(logits[_edge_gene(kind, (source, node))]), source)
                    for source in range(node)
                ]
                best.sort(key=lambda pick: -pick[0])
                pairs += [(operation, source) for _, operation, source in best[:2]]
            genotypes[kind] = pairs
        return self.from_genotype(genotypes["normal"], genotypes["reduce"])

    def from_genotype(self, normal: Genotype, reduce: Genotype) -> Params:
        """Return the genome of a published genotype.

        Args:
            normal: `(operation, source)` pairs, two for node 2, two for node 3, and so on.
            reduce: The same for the reduction cell.

        Raises:
            SettingError: There are not eight pairs, or a node's sources are not two different
                states before it.
            UnknownNameError: An operation is not among the space's.

        Example:
            >>> pairs = [("sep_conv_3x3", 0), ("skip_connect", 1)] * 4
            >>> genome = DartsSpace((3, 32, 32), 10).from_genotype(pairs, pairs)
            >>> genome["normal.node5.sources"], genome["normal.node5.operation0"]
            ('0,1', 'sep_conv_3x3')
        """
        genome: Params = {}
        for kind, pairs in zip(KINDS, (normal, reduce), strict=True):
            if len(pairs) != 2 * len(NODES):
                raise SettingError(
                    f"{kind} must have {2 * len(NODES)} (operation, source) pairs, two for each "
                    f"node, got {len(pairs)}."
                )
            for i, node in enumerate(NODES):
                genome |= self._node_genes(kind, node, pairs[2 * i : 2 * i + 2])
        return genome

    def _node_genes(self, kind: str, node: int, pairs: Genotype) -> Params:
        (first, a), (second, b) = sorted(pairs, key=lambda pair: pair[1])
        for operation in (first, second):
            check_name("operation", operation, self.operations)
        if not 0 <= a < b < node:
            raise SettingError(
                f"{kind}, node {node}: the sources must be two different states of 0 to "
                f"{node - 1}, got {a} and {b}."
            )
        name = f"{kind}.node{node}"
        sources = {f"{name}.sources": f"{a},{b}"} if node > NODES[0] else {}
        return {**sources, f"{name}.operation0": first, f"{name}.operation1": second}


def _edge_gene(kind: str, edge: Edge) -> str:
    """Name of the open choice on an edge of a relaxed cell; a genome has no gene of this name."""
    return f"{kind}.edge{edge[0]}{edge[1]}"


def _ask_sources(trial: BaseTrial, kind: str, node: int) -> tuple[int, ...]:
    """Ask which two states a node takes. One gene for both: no genome is there twice."""
    pairs = {f"{a},{b}": (a, b) for b in range(node) for a in range(b)}
    if len(pairs) == 1:  # the first node has no choice
        return 0, 1
    return pairs[trial.suggest_categorical(f"{kind}.node{node}.sources", list(pairs))]


def _strongest(logits: Mapping[str, float]) -> tuple[float, str]:
    """Share of the softmax and name of the strongest operation other than `none`."""
    largest = max(logits.values())
    total_share = sum(math.exp(value - largest) for value in logits.values())
    names = [name for name in logits if name != NONE] or [NONE]
    best = max(names, key=lambda name: logits[name])
    return math.exp(logits[best] - largest) / total_share, best


def _cell(
    net: ArchitectureBuilder,
    before: Output,
    x: Output,
    channels: int,
    edges: Mapping[Edge, str],
    *,
    reduction: bool,
) -> Output:
    """Build a cell on the outputs of the last two: `(4 * channels, H, W)`, halved by reduction."""
    states: list[Output | None] = [
        _preprocess(net, before, x.shape, channels, name="preprocess0"),
        _preprocess(net, x, x.shape, channels, name="preprocess1"),
    ]
    for node in NODES:
        terms = []
        for source, state in enumerate(states):
            operation = edges.get((source, node), NONE)
            if operation != NONE and state is not None:
                stride = 2 if reduction and source < NODES[0] else 1
                edge = (source, node)
                terms.append(edge_operation(net, state, operation, edge, stride=stride))
        states.append(total(net, terms, name=f"node{node}") if terms else None)
    side = [-(-size // 2) if reduction else size for size in x.shape[1:]]
    return net.concat(
        *[
            zeros(net, (channels, *side), name=f"node{node}") if state is None else state
            for node, state in enumerate(states)
            if node in NODES
        ],
        name="concat",
    )


def _preprocess(
    net: ArchitectureBuilder, x: Output, target: tuple[int, ...], channels: int, *, name: str
) -> Output:
    """Bring an input of a cell to its channels, and to the size of the other, smaller input."""
    if x.shape[1:] != target[1:]:
        return net.node("factorized_reduce", [x], channels=channels, name=name)
    return net.conv2d(x, channels, 1, preactivation=True, name=name)

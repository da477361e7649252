"""The canonical digest: one value for all graphs that compute the same family of functions.

Folded before comparison: names and order of nodes, nodes nobody uses, identities, zeros in sums,
sums of sums, sums of one, what maps zero to zero (pooling, flattening), and repeated weight-free
operations on the same input. Kept apart: two operations with weights of their own and one
operation used twice, since they train differently.

The folded graph is labelled by colour refinement from both ends. Where colours still tie, one of
the tied terms is individualised, the one whose refinement comes first in order (the search-tree
idea of McKay & Piperno 2014, "Practical graph isomorphism II"; one level deep). The digest hashes
the whole labelled graph, so two graphs that differ never share it, short of a SHA-256 collision.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nas_optuna.operations import Operation, Setting, Shape, operation


class GraphNode(Protocol):
    """What the digest asks of a node."""

    @property
    def name(self) -> str:
        """Name, for the edges alone."""

    @property
    def operation(self) -> str:
        """Name in the table of operations."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the nodes before it."""

    def complete(self) -> dict[str, Setting]:
        """All settings, defaults filled in."""


class Graph(Protocol):
    """What the digest asks of an architecture; nodes stand after their inputs."""

    @property
    def nodes(self) -> Sequence[GraphNode]:
        """The nodes, the output last."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Output shapes by name."""

    @property
    def input_shape(self) -> Shape:
        """Shape of one sample."""

    @property
    def num_classes(self) -> int:
        """Number of logits."""


Sum = tuple[int, ...]  # sorted indices of the terms it adds; () is zero
_INPUT: Sum = (0,)


@dataclass(frozen=True, slots=True)
class _Term:
    """An operation that survives folding; its inputs are sums of other terms."""

    label: str
    inputs: tuple[Sum, ...]


def canonical_digest(architecture: Graph) -> str:
    """Return 32 hex digits, equal for functionally equal architectures.

    Args:
        architecture: The graph; its input shape and number of classes count too.
    """
    terms, output = _live(*_fold(architecture))
    rank = _rank(terms, output)
    table = sorted(
        (rank[i], term.label, [sorted(rank[t] for t in parts) for parts in term.inputs])
        for i, term in enumerate(terms)
    )
    head = (architecture.input_shape, architecture.num_classes, sorted(rank[t] for t in output))
    return hashlib.sha256(repr((head, table)).encode()).hexdigest()[:32]


def _fold(architecture: Graph) -> tuple[list[_Term], Sum]:
    terms = [_Term("input", ())]
    values: dict[str, Sum] = {"input": _INPUT}
    shared: dict[_Term, int] = {}  # weight-free terms: the same on the same input is the same
    for node in architecture.nodes:
        kind = operation(node.operation)
        inputs = tuple(values[name] for name in node.inputs)
        folded = _folded_value(kind, inputs)
        if folded is not None:
            values[node.name] = folded
            continue
        term = _Term(_label(architecture, node, inputs), inputs)
        if kind.weighted or term not in shared:
            shared[term] = len(terms)
            terms.append(term)
        values[node.name] = (shared[term],)
    return terms, values[architecture.nodes[-1].name]


def _folded_value(kind: Operation, inputs: tuple[Sum, ...]) -> Sum | None:
    if kind.folds == "identity":
        return inputs[0]
    if kind.folds == "zero" or (kind.folds == "linear" and inputs == ((),)):
        return ()
    if kind.folds == "sum":
        return tuple(sorted(term for parts in inputs for term in parts))
    return None


def _label(architecture: Graph, node: GraphNode, inputs: tuple[Sum, ...]) -> str:
    label = f"{node.operation}{sorted(node.complete().items())}"
    if () in inputs:
        # A zero among the inputs has no term that would tell its shape.
        label += str([architecture.shapes[name] for name in node.inputs])
    return label


def _live(terms: list[_Term], output: Sum) -> tuple[list[_Term], Sum]:
    """Drop the terms the output does not depend on and number the rest anew."""
    live = set(output)
    for i in reversed(range(len(terms))):
        if i in live:
            live.update(t for parts in terms[i].inputs for t in parts)
    new = {old: i for i, old in enumerate(sorted(live))}
    kept = [
        _Term(terms[i].label, tuple(tuple(new[t] for t in parts) for parts in terms[i].inputs))
        for i in sorted(live)
    ]
    return kept, tuple(new[t] for t in output)


def _hash(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def _rank(terms: Sequence[_Term], output: Sum) -> list[int]:
    """Order the terms by colour; ties are broken until every term has its own place."""
    colours = _forward(terms, [""] * len(terms))
    if len(set(colours)) < len(colours):
        users = _users(terms, output)
        colours = _refine(terms, users, colours)
        while tied := _first_tie(colours):
            colours = min((_individualised(terms, users, colours, i) for i in tied), key=sorted)
    order = {colour: i for i, colour in enumerate(sorted(colours))}
    return [order[colour] for colour in colours]


def _forward(terms: Sequence[_Term], marks: Sequence[str]) -> list[str]:
    """Colour each term by all that leads to it. Terms stand after their inputs."""
    colours: list[str] = []
    for term, mark in zip(terms, marks, strict=True):
        inputs = [sorted(colours[t] for t in parts) for parts in term.inputs]
        colours.append(_hash(mark, term.label, inputs))
    return colours


def _users(terms: Sequence[_Term], output: Sum) -> list[list[tuple[int, int]]]:
    """For each term, who uses it and as which input; -1 stands for the output."""
    users: list[list[tuple[int, int]]] = [[] for _ in terms]
    for i, term in enumerate(terms):
        for place, parts in enumerate(term.inputs):
            for t in parts:
                users[t].append((i, place))
    for t in output:
        users[t].append((-1, 0))
    return users


def _refine(
    terms: Sequence[_Term], users: Sequence[Sequence[tuple[int, int]]], colours: Sequence[str]
) -> list[str]:
    """Alternate colouring from the users and from the inputs until no class splits."""
    current = list(colours)
    while True:
        marks = list(current)
        for i in reversed(range(len(terms))):
            above = sorted((marks[u] if u >= 0 else "output", place) for u, place in users[i])
            marks[i] = _hash(current[i], above)
        refined = _forward(terms, marks)
        if len(set(refined)) == len(set(current)):
            return refined
        current = refined


def _first_tie(colours: Iterable[str]) -> list[int]:
    """Indices of the smallest tied class, the first in order of colour; empty if none ties."""
    colours = list(colours)
    tied = [(n, colour) for colour, n in Counter(colours).items() if n > 1]
    if not tied:
        return []
    return [i for i, colour in enumerate(colours) if colour == min(tied)[1]]


def _individualised(
    terms: Sequence[_Term],
    users: Sequence[Sequence[tuple[int, int]]],
    colours: Sequence[str],
    chosen: int,
) -> list[str]:
    marked = [_hash(colour, i == chosen) for i, colour in enumerate(colours)]
    return _refine(terms, users, marked)

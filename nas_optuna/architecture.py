"""An architecture as a value: a frozen graph of named operations, JSON both ways, one digest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nas_optuna.canonical import canonical_digest
from nas_optuna.errors import ArchitectureError, NasOptunaError
from nas_optuna.operations import Setting, Shape, operation

INPUT = "input"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of an architecture.

    Args:
        name: Scoped name, unique in its architecture, such as `stage1.block0.conv`. Shared
            weights and state dictionaries follow it.
        operation: Name in the table of operations.
        inputs: Names of the nodes whose outputs it takes, in order; `input` is the network's.
        settings: Pairs (name, value) sorted by name; make nodes with `Node.make` to pass a
            mapping.
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    settings: tuple[tuple[str, Setting], ...] = ()

    @classmethod
    def make(
        cls, name: str, operation: str, inputs: Sequence[str], settings: Mapping[str, Setting]
    ) -> Node:
        """Make a node from a mapping of settings."""
        return cls(name, operation, tuple(inputs), tuple(sorted(settings.items())))

    def complete(self) -> dict[str, Setting]:
        """Return all settings, defaults filled in."""
        return operation(self.operation).complete(dict(self.settings))


@dataclass(frozen=True)
class Architecture:
    """A neural network as plain data: a directed acyclic graph of operations.

    Nodes stand in an order in which each one's inputs come before it; the last node's output
    is the network's. Shapes are checked when the value is made, so an `Architecture` that
    exists can be built.

    Args:
        nodes: The operations, inputs before users.
        input_shape: Shape of one sample without the batch: `(C, H, W)`, `(T, D)` or `(F,)`.
        num_classes: Number of logits the last node returns.

    Raises:
        ArchitectureError: A name is taken or unknown, or an operation does not fit its inputs.

    Example:
        >>> nodes = (
        ...     Node.make("conv", "conv2d", ["input"], {"channels": 8}),
        ...     Node.make("pool", "global_avg_pool", ["conv"], {}),
        ...     Node.make("logits", "linear", ["pool"], {"features": 10}),
        ... )
        >>> network = Architecture(nodes, input_shape=(1, 8, 8), num_classes=10)
        >>> network.shapes["conv"]
        (8, 8, 8)
        >>> Architecture.from_json(network.to_json()) == network
        True
    """

    nodes: tuple[Node, ...]
    input_shape: Shape
    num_classes: int

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ArchitectureError("An architecture needs at least one node, got none.")
        output = self.shapes[self.nodes[-1].name]
        if output != (self.num_classes,):
            raise ArchitectureError(
                f"Node {self.nodes[-1].name!r}, the last one, must return ({self.num_classes},) "
                f"logits, got shape {output}; end with global pooling and a linear node."
            )
        for node in self.nodes if self.tokens else ():
            if INPUT in node.inputs and not operation(node.operation).tokens:
                raise ArchitectureError(
                    f"Node {node.name!r} ({node.operation}) takes the input, which is tokens, "
                    "since an embedding takes it too; connect it to the embedding's output."
                )

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of every node by name, the input's too; no batch."""
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        dotted = {INPUT}  # weights are named with slashes for dots
        for node in self.nodes:
            plain = node.name.replace("/", ".")
            if plain in dotted:
                raise ArchitectureError(
                    f"Node name {node.name!r} is taken; names are unique, a slash counts as a dot."
                )
            dotted.add(plain)
            shapes[node.name] = infer_shape(node, shapes)
        return shapes

    @cached_property
    def digest(self) -> str:
        """Canonical digest: equal for functionally equal graphs, whatever their names.

        See `nas_optuna.canonical` for what counts as equal.
        """
        return canonical_digest(self)

    @cached_property
    def tokens(self) -> bool:
        """Whether the input is token numbers (int64), for an embedding, instead of floats."""
        return any(operation(node.operation).tokens for node in self.nodes)

    @cached_property
    def layers(self) -> int:
        """Number of operations with weights on the longest path from input to output.

        Norms and tables of positions stand on their own and do not count.
        """
        depth = {INPUT: 0}
        for node in self.nodes:
            before = max((depth[name] for name in node.inputs), default=0)
            depth[node.name] = before + _is_layer(node)
        return depth[self.nodes[-1].name]

    def to_json(self) -> str:
        """Write as one JSON document."""
        return json.dumps(
            {
                "format": _FORMAT,
                "input_shape": list(self.input_shape),
                "num_classes": self.num_classes,
                "nodes": [
                    {
                        "name": node.name,
                        "operation": node.operation,
                        "inputs": list(node.inputs),
                        "settings": dict(node.settings),
                    }
                    for node in self.nodes
                ],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read what `to_json` wrote.

        Raises:
            ArchitectureError: The text is not such a document, or of a newer format.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data["format"] != _FORMAT:
                raise ArchitectureError(
                    f"Architecture has format {data['format']!r}, this version reads {_FORMAT}; "
                    "update nas-optuna."
                )
            nodes = tuple(
                Node.make(n["name"], n["operation"], n["inputs"], n["settings"])
                for n in data["nodes"]
            )
            return cls(nodes, tuple(data["input_shape"]), data["num_classes"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, NasOptunaError):
                raise
            raise ArchitectureError(f"Not an architecture in JSON: {error!r}.") from error

    def __repr__(self) -> str:
        operations = " > ".join(node.operation for node in self.nodes[:6])
        more = f" > ... {len(self.nodes) - 6} more" if len(self.nodes) > 6 else ""
        return (
            f"<Architecture {self.digest[:8]}: {self.input_shape} > {operations}{more}, "
            f"{self.layers} layers, {self.num_classes} classes>"
        )


def _is_layer(node: Node) -> bool:
    kind = operation(node.operation)
    return kind.weighted and kind.layer


def infer_shape(node: Node, shapes: Mapping[str, Shape]) -> Shape:
    """Return the output shape of `node`, given the shapes of the nodes before it.

    Raises:
        ArchitectureError: The operation, a setting or an input is unknown or does not fit.
    """
    try:
        kind = operation(node.operation)
        settings = kind.complete(dict(node.settings))
        unknown = [name for name in node.inputs if name not in shapes]
        if unknown:
            raise ArchitectureError(f"input {unknown[0]!r} is not a node before it.")
        if not node.inputs or (len(node.inputs) > 1 and not kind.many):
            raise ArchitectureError(f"takes one input, got {len(node.inputs)}.")
        if kind.tokens and node.inputs != (INPUT,):
            raise ArchitectureError(f"takes the network's input, got {node.inputs[0]!r}.")
        return kind.shape(settings, tuple(shapes[name] for name in node.inputs))
    except NasOptunaError as error:
        raise ArchitectureError(f"Node {node.name!r} ({node.operation}): {error}") from error

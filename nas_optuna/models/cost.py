"""What a network costs, known in milliseconds: everything runs on the meta device.

The cost of an architecture is put together from the costs of its nodes, and each distinct
(operation, settings, shapes) is counted once per process; the result equals a count over the
whole network exactly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from nas_optuna.architecture import INPUT, Architecture
from nas_optuna.models.metering import NodeMeter, PeakMemory
from nas_optuna.models.network import example_input
from nas_optuna.models.operations import make
from nas_optuna.operations import Setting, Shape

# Operation, all settings sorted by name, and input shapes: what a node costs depends on no more.
NodeKey = tuple[str, tuple[tuple[str, Setting], ...], tuple[Shape, ...]]

_BYTES = 4  # float32
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """Costs of one forward pass of one sample in float32; all minimised.

    Args:
        parameters: Trainable numbers.
        flops: Floating-point operations of convolutions and matrix products; a multiply-add
            counts as two (torch's `FlopCounterMode`).
        memory_mb: Peak memory of inference in MB (1e6 bytes): weights, buffers and the
            activations alive at the worst moment.
        layers: Operations with weights on the longest path.
    """

    parameters: int
    flops: int
    memory_mb: float
    layers: int

    def values(self) -> dict[str, float]:
        """Values by metric name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Counted:
    parameters: int
    flops: int
    weight_bytes: int
    peak_bytes: int  # allocated during the pass at the worst moment, inputs left out


def count(model: nn.Module, *input_shapes: Shape) -> _Counted:
    """Count a module's parameters, FLOPs and memory in one pass of one sample.

    Args:
        model: The module, best on the meta device.
        input_shapes: Shapes of its inputs, no batch.
    """
    device = next((p.device for p in model.parameters()), torch.device("meta"))
    inputs = [example_input(model, shape, batch_size=1, device=device) for shape in input_shapes]
    weights = [*model.parameters(), *model.buffers()]
    flops, memory = FlopCounterMode(display=False), PeakMemory([*weights, *inputs])
    with torch.no_grad(), flops, memory:
        model.eval()(*inputs)
    return _counted(model, flops.get_total_flops(), memory.peak)


def _counted(model: nn.Module, flops: int, peak_bytes: int) -> _Counted:
    parameters = list(model.parameters())
    return _Counted(
        parameters=sum(p.numel() for p in parameters),
        flops=flops,
        weight_bytes=sum(w.numel() * w.element_size() for w in (*parameters, *model.buffers())),
        peak_bytes=peak_bytes,
    )


@lru_cache(maxsize=100_000)
def node_cost(
    operation: str, settings: tuple[tuple[str, Setting], ...], inputs: tuple[Shape, ...]
) -> _Counted:
    """Count what one node costs, given its `NodeKey`."""
    meta = torch.device("meta")
    with torch.no_grad(), meta:
        module = make(operation, dict(settings), inputs).eval()
        xs = [example_input(module, shape, batch_size=1, device=meta) for shape in inputs]
        with NodeMeter([*module.parameters(), *module.buffers(), *xs]) as meter:
            module(*xs)
    return _counted(module, meter.flops, meter.peak)


def cost(architecture: Architecture) -> Cost:
    """Cost of an architecture; nothing is allocated.

    Example:
        >>> from nas_optuna import ArchitectureBuilder
        >>> net = ArchitectureBuilder((1, 8, 8), num_classes=10)
        >>> x = net.conv2d(net.input, 4, kernel_size=3)
        >>> cost(net.build(net.classifier(x))).parameters  # 4 * 9 + 2 * 4 + 4 * 10 + 10
        94
    """
    counted = _count_nodes(architecture)
    weights = sum(c.weight_bytes for c in counted)
    return Cost(
        parameters=sum(c.parameters for c in counted),
        flops=sum(c.flops for c in counted),
        memory_mb=(weights + _peak_bytes(architecture, counted)) / _MB,
        layers=architecture.layers,
    )


def node_parameters(architecture: Architecture) -> dict[str, int]:
    """Trainable numbers of each node of an architecture, by the node's name."""
    counted = _count_nodes(architecture)
    return {node.name: c.parameters for node, c in zip(architecture.nodes, counted, strict=True)}


def node_keys(architecture: Architecture) -> list[NodeKey]:
    """What the cost of each node depends on, in the order of the nodes."""
    shapes = architecture.shapes
    return [
        (
            node.operation,
            tuple(sorted(node.complete().items())),
            tuple(shapes[name] for name in node.inputs),
        )
        for node in architecture.nodes
    ]


def _count_nodes(architecture: Architecture) -> list[_Counted]:
    return [node_cost(*key) for key in node_keys(architecture)]


def _peak_bytes(architecture: Architecture, counted: list[_Counted]) -> int:
    """Walk through the forward pass: what is alive before each node plus what it allocates.

    The input stays to the end, since whoever calls the network holds it. A node that allocates
    nothing (flattening) returns a view, so what it views lives as long as it does.
    """
    holder = {INPUT: INPUT}
    last_use: dict[str, str] = {}
    for node, c in zip(architecture.nodes, counted, strict=True):
        holder[node.name] = node.name if c.peak_bytes else holder[node.inputs[0]]
        for name in (*node.inputs, node.name):
            last_use[holder[name]] = node.name
    free_after: dict[str, list[str]] = {}
    for name, user in last_use.items():
        free_after.setdefault(user, []).append(name)
    sizes = {
        name: _BYTES * _numel(shape) if holder[name] == name else 0
        for name, shape in architecture.shapes.items()
    }
    sizes[INPUT] *= 2 if architecture.tokens else 1  # int64
    alive = peak = sizes[INPUT]
    for node, c in zip(architecture.nodes, counted, strict=True):
        peak = max(peak, alive + c.peak_bytes)
        done = (name for name in free_after.get(node.name, ()) if name != INPUT)
        alive += sizes[node.name] - sum(sizes[name] for name in done)
    return peak


def _numel(shape: Shape) -> int:
    return torch.Size(shape).numel()


def module_cost(model: nn.Module, input_shape: Shape) -> Cost:
    """Cost of a user's own module.

    Args:
        model: The module, best made under `torch.device("meta")`.
        input_shape: Shape of one sample, no batch.

    Returns:
        The cost; `layers` counts its convolutions and linear layers, since a module does not
        tell which of them lie on one path.
    """
    counted = count(model, input_shape)
    input_bytes = _BYTES * _numel(input_shape)
    return Cost(
        parameters=counted.parameters,
        flops=counted.flops,
        memory_mb=(counted.weight_bytes + input_bytes + counted.peak_bytes) / _MB,
        layers=sum(isinstance(m, nn.Linear | _ConvNd) for m in model.modules()),
    )

"""From an `Architecture` to a PyTorch module that follows its graph node by node."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from nas_optuna.architecture import INPUT, Architecture, Node
from nas_optuna.errors import ArchitectureError
from nas_optuna.models.operations import make
from nas_optuna.operations import Setting, Shape

# What a forward pass raises whose input or parts do not fit.
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
_NO_MODULES = nn.ModuleDict()


NodeFactory: TypeAlias = Callable[[Node, tuple[Shape, ...]], nn.Module]
"""Makes the module of a node, given the shapes of its inputs (no batch)."""


class Network(nn.Module):
    """The network of an architecture; parameters are named after its nodes.

    Args:
        architecture: What to build.
        factory: Makes the module of each node; by default with weights of its own.

    Example:
        >>> from nas_optuna import ArchitectureBuilder
        >>> net = ArchitectureBuilder((1, 8, 8), num_classes=10)
        >>> model = build(net.build(net.classifier(net.conv2d(net.input, 4, name="stem"))))
        >>> model(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
        >>> next(iter(model.state_dict()))
        'nodes.stem.0.weight'
    """

    def __init__(self, architecture: Architecture, factory: NodeFactory | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        shapes = architecture.shapes
        self.nodes = nn.ModuleDict()
        factory = factory or _own_weights()
        for node in architecture.nodes:
            inputs = tuple(shapes[name] for name in node.inputs)
            self.nodes[_key(node.name)] = factory(node, inputs)
        self._plan = _plan(architecture)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, *input_shape) -> (N, num_classes)` logits."""
        values: dict[str, Tensor] = {INPUT: x}
        for key, name, inputs, last_used in self._plan:
            values[name] = self.nodes[key](*[values[i] for i in inputs])
            for i in last_used:  # free what no later node needs
                del values[i]
        return values[self._plan[-1][1]]


def _own_weights() -> NodeFactory:
    """Make modules with weights of their own.

    On the meta device no weights are drawn: there a module is made once for each kind of node in
    a process, and copied, which takes a fifth of the time. A network of 20 cells has some 300
    nodes of 40 kinds.
    """
    if torch.get_default_device().type == "meta":
        return lambda node, inputs: _twin(_hollow(node.operation, node.settings, inputs))
    return lambda node, inputs: make(node.operation, node.complete(), inputs)


@lru_cache(maxsize=10_000)
def _hollow(
    operation: str, settings: tuple[tuple[str, Setting], ...], inputs: tuple[Shape, ...]
) -> nn.Module:
    """The module of a kind of node, without weights; never handed out, only copied."""
    node = Node(operation, operation, (), settings)
    return make(operation, node.complete(), inputs)


def _twin(module: nn.Module) -> nn.Module:
    """Return a copy that shares no tensor and no child with `module`."""
    twin = copy.copy(module)
    own: dict[str, dict[str, object]] = {
        "_parameters": {
            name: None if p is None else nn.Parameter(_empty(p), p.requires_grad)
            for name, p in module._parameters.items()
        },
        "_buffers": {
            name: None if b is None else _empty(b) for name, b in module._buffers.items()
        },
        "_modules": {
            name: None if child is None else _twin(child)
            for name, child in module._modules.items()
        },
    }
    vars(twin).update(own)
    return twin


def _empty(tensor: Tensor) -> Tensor:
    # `empty_like` is written in Python for the meta device and takes ten times as long.
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def _key(name: str) -> str:
    """A module's name may not hold a dot nor be that of a method of `nn.ModuleDict`."""
    key = name.replace(".", "/")
    return f"{key}/" if hasattr(_NO_MODULES, key) else key


def _plan(
    architecture: Architecture,
) -> tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]:
    """For each node in order: module key, name, inputs, and the values to free after it."""
    done: dict[str, list[str]] = {}
    for name, user in _last_users(architecture).items():
        done.setdefault(user, []).append(name)
    return tuple(
        (_key(node.name), node.name, node.inputs, tuple(done.get(node.name, ())))
        for node in architecture.nodes
    )


def _last_users(architecture: Architecture) -> dict[str, str]:
    """By value, the node after which it is not needed any more; the output is needed to the end.

    A node nobody uses is done with after itself.
    """
    users = {}
    for node in architecture.nodes:
        users[node.name] = node.name
        for name in node.inputs:
            users[name] = node.name
    del users[architecture.nodes[-1].name]
    return users


def build(architecture: Architecture) -> Network:
    """Build the network of an architecture on torch's current default device.

    Under `torch.device("meta")` nothing is allocated.

    Raises:
        ArchitectureError: A node cannot be built; the message names it.
    """
    try:
        return Network(architecture)
    except (ValueError, RuntimeError, KeyError) as error:
        raise ArchitectureError(f"{architecture!r} cannot be built: {error}") from error


def example_input(
    model: nn.Module, input_shape: tuple[int, ...], *, batch_size: int, device: torch.device
) -> Tensor:
    """Zeros of the kind a model takes: int64 for token numbers, else float32.

    Args:
        model: The network, or a module of one node.
        input_shape: Shape of one sample without the batch.
        batch_size: Samples.
        device: Where they lie.
    """
    x = torch.zeros(batch_size, *input_shape, device=device)
    return x.long() if _takes_tokens(model, x) else x


def _takes_tokens(model: nn.Module, x: Tensor) -> bool:
    if isinstance(model, Network):
        return model.architecture.tokens
    if not any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in model.modules()):
        return False
    # A user's module does not say; one that turns columns of floats into tokens itself takes both.
    try:
        with torch.no_grad():
            model.eval()(x)
    except _FAILURES:
        return True
    return False


def dry_run(model: nn.Module, input_shape: tuple[int, ...], num_classes: int | None) -> None:
    """Run one forward pass of two samples where the model lies and check what comes out.

    Raises:
        ArchitectureError: The pass fails, or does not return `(2, num_classes)` logits.
    """
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    x = example_input(model, input_shape, batch_size=2, device=device)
    model.eval()
    try:
        with torch.no_grad():
            y = cast(object, model(x))
    except _FAILURES as error:
        raise ArchitectureError(
            f"The network fails on an input of shape {tuple(x.shape)}: {error}"
        ) from error
    if not isinstance(y, Tensor) or (num_classes and tuple(y.shape) != (2, num_classes)):
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ArchitectureError(f"The network must return (2, {num_classes}) logits, got {got}.")

"""Weights that all networks of a space share: by name, operation and settings, not by width.

Two nodes share weights if they have one name, one operation, and equal settings but for how wide
they are; where one is narrower, it gets the first channels of the wider one's tensors (Yu et al.
2019, "Slimmable Neural Networks"). So the nodes of any space share, a user's function included, as
long as they keep their names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas_optuna.architecture import Architecture, Node
from nas_optuna.models.network import Network, build
from nas_optuna.models.operations import make
from nas_optuna.models.seeding import seeded
from nas_optuna.operations import Setting, Shape

_WIDTHS = ("channels", "features")  # settings that say how wide a node is
_BUFFERS = ("running_", "num_batches_")


class SharedWeights:
    """One set of weights for all architectures of a space; grows as wider nodes come.

    What is shared is said in the module's text, with two exceptions: grouped convolutions (not
    depthwise ones) and attention of several heads share only at equal widths, since the first
    channels of a wide one belong to other groups. Where inputs are joined, the first channels of
    the joined tensor count, whatever they come from.

    Args:
        seed: Decides the initial weights, together with the node they are for.
        device: Where the tensors lie.

    Example:
        >>> from nas_optuna import ArchitectureBuilder
        >>> def network(width):
        ...     net = ArchitectureBuilder((1, 8, 8), num_classes=10)
        ...     return net.build(net.classifier(net.conv2d(net.input, width, name="stem")))
        >>> shared = SharedWeights()
        >>> wide, narrow = shared.path(network(8)), shared.path(network(4))
        >>> narrow(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
        >>> sum(p.numel() for p in shared.parameters.values())  # those of the wide one
        178
    """

    def __init__(self, seed: int = 0, device: str | torch.device = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self._tensors: dict[str, Tensor] = {}
        self._modules: dict[Hashable, _SharedModule] = {}

    def path(self, architecture: Architecture) -> Network:
        """Return the network of an architecture on the shared weights; they grow if need be.

        Gradients of what it computes are gradients of the shared tensors; its own `parameters()`
        are empty. It is for use at once: paths share modules, and so their training mode.

        Args:
            architecture: A network of the space.
        """
        return Network(architecture, self.module)

    def module(self, node: Node, inputs: tuple[Shape, ...]) -> nn.Module:
        """Return the module of one node on the shared weights; a path is made of them.

        Args:
            node: The node.
            inputs: Shapes of its inputs, no batch.
        """
        kind = (node.name, node.operation, tuple(node.complete().items()), inputs)
        if kind not in self._modules:
            with torch.device("meta"):
                body = make(node.operation, node.complete(), inputs)
            key = sharing_key(node, inputs)
            if self._lacks(key, body):
                self._reserve(key, self._initial(node, inputs))
            self._modules[kind] = _SharedModule(body, key, self)
        return self._modules[kind]

    def extract(self, architecture: Architecture) -> Network:
        """Return a network of its own, with copies of its share of the weights.

        It computes what its path does; the shared weights stay as they are. What they do not
        hold (see `missing`) is initialised as it would be for the path.

        Args:
            architecture: A network of the space.
        """
        with torch.device("meta"):
            network = build(architecture)
        for node, inputs, body in nodes_of(network):
            key, shapes = sharing_key(node, inputs), _shapes(body)
            held: Mapping[str, Tensor] = self._tensors
            if self._lacks(key, body):
                held = self._widened(key, self._initial(node, inputs))
            cut = _cut(held, key, shapes)
            own = {name: tensor.detach().clone() for name, tensor in cut.items()}
            body.load_state_dict(own, assign=True)
        return network.to(self.device)

    def missing(self, architecture: Architecture) -> list[str]:
        """Names of the nodes with weights that no path has used yet, or not as wide ones."""
        with torch.device("meta"):
            network = build(architecture)
        return [
            node.name
            for node, inputs, body in nodes_of(network)
            if self._lacks(sharing_key(node, inputs), body)
        ]

    def cut(self, key: str, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """Return the tensors of a node, by their names in its module.

        Args:
            key: The node's `sharing_key`.
            shapes: How large they are to be, by name.
        """
        return _cut(self._tensors, key, shapes)

    def state(self) -> dict[str, Tensor]:
        """Return all tensors by key, parameters and buffers; not copies."""
        return {key: tensor.detach() for key, tensor in self._tensors.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over copies of what `state` returned, in place of all that is held."""
        self._modules.clear()
        self._tensors = {}
        for key, tensor in state.items():
            copied = tensor.to(self.device, copy=True)
            # torch names the buffers of all norms so; parameters have other names.
            is_buffer = key.rpartition(".")[2].startswith(_BUFFERS)
            self._tensors[key] = copied if is_buffer else nn.Parameter(copied)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by key; a tensor that grows stays the same `nn.Parameter`."""
        return {key: t for key, t in self._tensors.items() if isinstance(t, nn.Parameter)}

    def _lacks(self, key: str, body: nn.Module) -> bool:
        for name, shape in _shapes(body).items():
            held = self._tensors.get(f"{key}/{name}")
            if held is None or _union(held.shape, shape) != held.shape:
                return True
        return False

    def _reserve(self, key: str, initial: nn.Module) -> None:
        """See to it that the tensors of a node are there and wide enough."""
        parameters = dict(initial.named_parameters())
        for full, tensor in self._widened(key, initial).items():
            held = self._tensors.get(full)
            if isinstance(held, nn.Parameter):
                held.data = tensor
            elif full.removeprefix(f"{key}/") in parameters:
                self._tensors[full] = nn.Parameter(tensor)
            else:
                self._tensors[full] = tensor

    def _widened(self, key: str, initial: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of a node, by key, wide enough for it and for what is held."""
        widened = {}
        for name, new in initial.state_dict().items():
            full = f"{key}/{name}"
            held = self._tensors.get(full)
            widened[full] = new if held is None else _grown(held.detach(), new)
        return widened

    def _initial(self, node: Node, inputs: tuple[Shape, ...]) -> nn.Module:
        """A module of the node's own; the same one whenever and wherever it is asked for."""
        text = f"{self.seed} {sharing_key(node, inputs)} {node.settings} {inputs}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
        with seeded(seed, torch.device("cpu")), torch.device("cpu"):
            return make(node.operation, node.complete(), inputs).to(self.device)


class _SharedModule(nn.Module):
    """The operation of one node; its weights are looked up, and cut to size, in each pass.

    Args:
        body: The operation, on the meta device.
        key: The node's `sharing_key`.
        shared: Where the weights are.
    """

    def __init__(self, body: nn.Module, key: str, shared: SharedWeights) -> None:
        super().__init__()
        # In a tuple, so that its weightless tensors do not pass for this module's parameters.
        self._body, self._key, self._shared = (body,), key, shared
        self._wanted = _shapes(body)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - as in nn.Module
        """Set the training mode, of the operation too."""
        self._body[0].train(mode)
        return super().train(mode)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Apply the operation; running statistics of norms are updated where they lie."""
        body = self._body[0]
        if not self._wanted:
            return cast(Tensor, body(*inputs))
        tensors = self._shared.cut(self._key, self._wanted)
        return cast(Tensor, functional_call(body, tensors, inputs))


def sharing_key(node: Node, inputs: tuple[Shape, ...]) -> str:
    """Return what nodes that share weights have in common, as text.

    Args:
        node: The node.
        inputs: Shapes of its inputs, no batch.

    Example:
        >>> narrow = Node.make("logits", "linear", ["pool"], {"features": 10})
        >>> sharing_key(narrow, ((8,),))
        'logits|linear|{"activation": "none", "norm": false}'
    """
    settings = fixed_settings(node)
    if _is_grouped(settings):
        settings = {**node.complete(), "inputs": str(inputs)}
    return f"{node.name}|{node.operation}|{json.dumps(settings, sort_keys=True)}"


def fixed_settings(node: Node) -> dict[str, Setting]:
    """Return the settings of a node that do not say how wide it is."""
    return {name: value for name, value in node.complete().items() if name not in _WIDTHS}


def _is_grouped(settings: Mapping[str, Setting]) -> bool:
    """Whether channels belong to groups, so that the first of many are no smaller whole."""
    return settings.get("groups", 1) not in (1, "depthwise") or settings.get("heads", 1) != 1


def nodes_of(network: Network) -> Iterator[tuple[Node, tuple[Shape, ...], nn.Module]]:
    """Go through the nodes of a network with the shapes of their inputs and their modules."""
    architecture = network.architecture
    for node, module in zip(architecture.nodes, network.nodes.children(), strict=True):
        yield node, tuple(architecture.shapes[name] for name in node.inputs), module


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _union(a: torch.Size, b: torch.Size) -> torch.Size:
    return torch.Size(map(max, a, b))


def _cut(
    tensors: Mapping[str, Tensor], key: str, shapes: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    return {name: _first(tensors[f"{key}/{name}"], shape) for name, shape in shapes.items()}


def _first(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The first part of a tensor along every axis, in one piece as a network's own would be."""
    if tensor.shape == shape:
        return tensor
    return tensor[tuple(slice(size) for size in shape)].contiguous()


def _grown(held: Tensor, new: Tensor) -> Tensor:
    """Return a tensor as large as both, with `held` in its first corner.

    The rest is `new`, or drawn from its values where that is not large enough either: weights
    stay spread as they are initialised, and the ones and zeros of norms stay ones and zeros.
    """
    shape = _union(held.shape, new.shape)
    grown = new.clone()
    if new.shape != shape:
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randint(new.numel(), tuple(shape), generator=generator)
        grown = new.flatten()[chosen.to(new.device)]
    grown[tuple(slice(size) for size in held.shape)] = held
    return grown

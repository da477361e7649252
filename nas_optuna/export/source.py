"""Write an architecture as a Python file that needs only torch."""

from __future__ import annotations

import inspect
import keyword
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nas_optuna.architecture import INPUT, Architecture, Node
from nas_optuna.export.template import INDENT, sides, source_file
from nas_optuna.models import build
from nas_optuna.models.operations import Attention, FactorizedReduce, Positions, SqueezeExcite
from nas_optuna.operations import Setting

_WIDTH = 99
_RESERVED = {
    "self",
    "x",
    "raw",
    "inputs",
    "torch",
    "nn",
    "functional",
    "mean",
    "scale",
    "normalize",
}

# Modules of this package, whose code is copied, and what they are made with.
_OWN: dict[type[nn.Module], Callable[[Any], list[str]]] = {
    FactorizedReduce: lambda m: [str(m.even.in_channels), str(m.norm.num_features)],
    Positions: lambda m: [str(side) for side in m.weight.shape],
    Attention: lambda m: [str(m.query.in_features), str(m.heads)],
    SqueezeExcite: lambda m: [
        str(m.weigh[0].in_features),
        str(m.weigh[0].out_features),
        constructor(m.weigh[1]),
        constructor(m.weigh[3]),
    ],
}

_POOLINGS = {"first": "[:, 0]", "mean": ".mean(dim=1)", "max": ".amax(dim=1)"}

Inline = Callable[[Mapping[str, Setting], Sequence[str], int], str]
# Operations without weights as expressions of their inputs, which have so many dimensions.
_INLINE: dict[str, Inline] = {
    "add": lambda settings, names, dims: " + ".join(names),
    "channel_slice": lambda settings, names, dims: _slice(settings, names[0]),
    "concat": lambda settings, names, dims: (
        f"torch.cat([{', '.join(names)}], dim={1 if dims == 3 else -1})"
    ),
    "flatten": lambda settings, names, dims: f"{names[0]}.flatten(1)",
    "global_avg_pool": lambda settings, names, dims: f"{names[0]}.mean(dim=(2, 3))",
    "identity": lambda settings, names, dims: names[0],
    "sequence_pool": lambda settings, names, dims: names[0] + _POOLINGS[str(settings["kind"])],
    "zero": lambda settings, names, dims: _zeros(settings, names[0]),
}


@dataclass(frozen=True)
class Source:
    """A network as code.

    Args:
        text: The file.
        names: By name of a tensor in the state dictionary of the built network, its name in that
            of the file's.
    """

    text: str
    names: Mapping[str, str]


def write_source(
    architecture: Architecture, *, title: str, input_stats: Sequence[int] | None
) -> Source | None:
    """Write an architecture as code with a layer for each node that has weights or a state.

    Args:
        architecture: The network.
        title: First line of the file: what the network is.
        input_stats: Shape of the mean and scale by which inputs are normalised, which the file
            then holds as buffers; None if inputs are taken as they are.

    Returns:
        The code; None if an operation is neither torch's nor this package's.
    """
    with torch.device("meta"):
        network = build(architecture)
    attributes = _attributes(architecture)
    layers, own, names = [], dict[str, type[nn.Module]](), dict[str, str]()
    for node, (key, module) in zip(architecture.nodes, network.nodes.items(), strict=True):
        if node.operation in _INLINE:
            continue
        plain, inner = _plain(module)
        if not all(_is_known(part) for part in (plain, *plain.modules())):
            return None
        own |= {type(m).__name__: type(m) for m in plain.modules() if type(m) in _OWN}
        attribute = attributes[node.name]
        layers.append(_assignment(attribute, plain))
        prefix = f"nodes.{key}.{inner}"
        names |= {prefix + name: f"{attribute}.{name}" for name in plain.state_dict()}
    title = textwrap.shorten(re.sub(r'["\\]', "'", title), _WIDTH - 3)  # it is in a docstring
    text = source_file(
        title, architecture, input_stats, layers, _forward(architecture, attributes), own
    )
    return Source(text, names)


def _attributes(architecture: Architecture) -> dict[str, str]:
    """A name for each node that can be an attribute of a module and a variable."""
    taken, attributes = set(_RESERVED), dict[str, str]()
    for node in architecture.nodes:
        base = re.sub(r"\W", "_", node.name, flags=re.ASCII)
        base = f"layer_{base}" if base[0].isdigit() or base.startswith("_") else base
        if keyword.iskeyword(base) or hasattr(nn.Module(), base):
            base += "_"
        name, number = base, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        attributes[node.name] = name
    return attributes


def _plain(module: nn.Module) -> tuple[nn.Module, str]:
    """A sequence of one is that one; the second value is its name in the sequence."""
    if type(module) is nn.Sequential and len(module) == 1:
        return module[0], "0."
    return module, ""


def _is_known(module: nn.Module) -> bool:
    return type(module) in _OWN or type(module).__module__.startswith("torch.nn.")


def _assignment(attribute: str, module: nn.Module) -> str:
    if type(module) is not nn.Sequential:
        line = f"{INDENT}self.{attribute} = {constructor(module)}"
        if len(line) <= _WIDTH:
            return line
        head, _, arguments = line[:-1].partition("(")
        return "\n".join([f"{head}(", f"{INDENT}    {arguments}", f"{INDENT})"])
    parts = [f"{INDENT}    {constructor(part)}," for part in module]
    return "\n".join([f"{INDENT}self.{attribute} = nn.Sequential(", *parts, f"{INDENT})"])


def constructor(module: nn.Module) -> str:
    """Write what makes a module like this one.

    Example:
        >>> constructor(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False))
        'nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)'
        >>> constructor(nn.AvgPool2d(3, 1, 1, count_include_pad=False))
        'nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)'
    """
    kind = type(module)
    if kind in _OWN:
        return f"{kind.__name__}({', '.join(_OWN[kind](module))})"
    words = []
    for name, parameter in inspect.signature(kind).parameters.items():
        if name.startswith("_") or name in ("device", "dtype"):
            continue
        value = getattr(module, name, parameter.default)
        value = value is not None if name == "bias" else _short(value)
        if parameter.default is inspect.Parameter.empty:
            words.append(repr(value))
        elif value != parameter.default:
            words.append(f"{name}={value!r}")
    return f"nn.{kind.__name__}({', '.join(words)})"


def _short(value: object) -> object:
    """One number for equal ones: `(3, 3)` is `3`."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _slice(settings: Mapping[str, Setting], name: str) -> str:
    start = int(settings["start"])
    return f"{name}[:, {start}:{start + int(settings['channels'])}]"


def _zeros(settings: Mapping[str, Setting], name: str) -> str:
    if not settings["channels"]:
        return f"torch.zeros_like({name})"
    sides = ", ".join(str(settings[side]) for side in ("channels", "height", "width"))
    return f"{name}.new_zeros({name}.shape[0], {sides})"


def _forward(architecture: Architecture, attributes: Mapping[str, str]) -> list[str]:
    """One line for each node. A value that only the next line takes is called `x`."""
    nodes, shapes = architecture.nodes, architecture.shapes
    users: dict[str, set[int]] = {name: set() for name in shapes}
    for i, node in enumerate(nodes):
        for name in node.inputs:
            users[name].add(i)
    users[nodes[-1].name].add(len(nodes))
    variables = {INPUT: "x" if users[INPUT] == {0} else "inputs"}
    for i, node in enumerate(nodes):
        variables[node.name] = "x" if users[node.name] == {i + 1} else attributes[node.name]
    lines = []
    for node in nodes:
        taken = [variables[name] for name in node.inputs]
        dims = len(shapes[node.inputs[0]])
        call = _call(node, attributes[node.name], taken, dims)
        note = "" if shapes[node.name] == shapes[node.inputs[0]] else f"  # {shapes[node.name]}"
        if not users[node.name]:
            note = "  # nothing takes it"
        line = f"{INDENT}{variables[node.name]} = {call}"
        lines += _wrapped(line, note)
    first = f"    def forward(self, {variables[INPUT]}: Tensor) -> Tensor:"
    takes, gives = sides(architecture.input_shape), architecture.num_classes
    text = f'{INDENT}"""`(N, {takes})` to `(N, {gives})` logits."""'
    return [first, text, *lines, f"{INDENT}return {variables[nodes[-1].name]}"]


def _call(node: Node, attribute: str, taken: Sequence[str], dims: int) -> str:
    if node.operation in _INLINE:
        return _INLINE[node.operation](node.complete(), taken, dims)
    return f"self.{attribute}({', '.join(taken)})"


def _wrapped(line: str, note: str) -> list[str]:
    """Break a sum or a list of many parts."""
    if len(line) <= _WIDTH:
        return [line + note if len(line + note) <= _WIDTH else line]
    head, _, body = line.partition(" = ")
    separator = " + " if " + " in body else ", "
    inner = f"{INDENT}    "
    parts = f"{separator.rstrip()}\n{inner}".join(body.split(separator))
    return [f"{head} = ({note}", f"{inner}{parts}", f"{INDENT})"]

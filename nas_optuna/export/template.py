"""The file around a network's layers and its forward pass: head, weights, normalisation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from string import Template

from torch import nn

from nas_optuna.architecture import Architecture
from nas_optuna.export.check import read_safetensors

INDENT = " " * 8  # of what stands in a method


def sides(shape: Sequence[int]) -> str:
    """Write a shape without its brackets."""
    return ", ".join(str(side) for side in shape)


def source_file(
    title: str,
    architecture: Architecture,
    input_stats: Sequence[int] | None,
    layers: Sequence[str],
    forward: Sequence[str],
    own: Mapping[str, type[nn.Module]],
) -> str:
    """Put a file together.

    Args:
        title: First line: what the network is.
        architecture: The network.
        input_stats: Shape of mean and scale; None if inputs are taken as they are.
        layers: Lines that make the layers.
        forward: Lines of the forward pass.
        own: Modules of this package whose code is copied, by name.
    """
    copied = [inspect.getsource(kind).rstrip() for kind in own.values()]
    needed = "\n".join(copied)
    imports = ["from typing import cast"] if "cast(" in needed else []
    imports += ["", "import torch", "from torch import Tensor, nn"]
    imports += ["from torch.nn import functional"] if "functional." in needed else []
    head = _HEAD.substitute(
        title=title,
        input="inputs" if input_stats is None else "network.normalize(raw)",
        shape=f"(N, {sides(architecture.input_shape)})",
        type="int64" if architecture.tokens else "float32",
        imports="\n".join(imports),
    )
    network = _NETWORK.substitute(
        layers=architecture.layers,
        classes=architecture.num_classes,
        init="\n".join([*layers, *_buffers(input_stats)]),
        forward="\n".join(forward),
    )
    network += "" if input_stats is None else _NORMALIZE
    parts = [head, *copied, network, inspect.getsource(read_safetensors).rstrip(), _LOAD]
    return "\n\n\n".join(parts) + "\n"


def _buffers(input_stats: Sequence[int] | None) -> list[str]:
    if input_stats is None:
        return []
    zeros = f"torch.zeros({sides(input_stats)})"
    return [
        f"{INDENT}# Of the training data; their values come with the weights.",
        *(f'{INDENT}self.register_buffer("{name}", {zeros})' for name in ("mean", "scale")),
    ]


_HEAD = Template(
    '''"""$title

Needs only torch; the weights are in weights.safetensors beside this file.

    network = load()
    logits = network($input)  # $shape $type
"""

import json
from pathlib import Path
$imports'''
)

_NETWORK = Template(
    '''class Network(nn.Module):
    """$layers layers, $classes classes."""

    def __init__(self) -> None:
        super().__init__()
$init

$forward'''
)

_NORMALIZE = '''

    def normalize(self, raw: Tensor) -> Tensor:
        """Turn measurements as they come into what `forward` takes."""
        return (raw - self.mean) / self.scale'''

_LOAD = '''def load(folder: str | Path = Path(__file__).parent) -> Network:
    """Make the network with its weights, on the CPU and ready to use."""
    network = Network()
    network.load_state_dict(read_safetensors(Path(folder) / "weights.safetensors"))
    return network.eval()'''

"""Macro space: a chain of layers, how they are joined, and free skip connections.

    input -> layer0 -> layer1 -> ... -> global pooling -> linear -> logits

Each layer is convolution - norm - activation, a pooling, or a linear layer; `connection` joins
them one after another (`sequential`), each around a shortcut (`residual`, He et al. 2016), or each
to all before it (`dense`, Huang et al. 2017). `skip` adds the output of an earlier layer to a
layer's input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import BaseTrial

from nas_optuna.architecture import Architecture
from nas_optuna.builder import ArchitectureBuilder
from nas_optuna.errors import SettingError, check_name
from nas_optuna.nodes import Output
from nas_optuna.operations import ACTIVATIONS
from nas_optuna.spaces.base import Space
from nas_optuna.spaces.drawing import Params
from nas_optuna.spaces.variation import Chain, change_gene, live_genes

MAX_LAYERS = 50

# Simple to complex: progressive search opens them in this order.
OPERATIONS = ("max_pool", "avg_pool", "linear", "conv", "separable_conv")
CONNECTIONS = ("sequential", "residual", "dense")


@dataclass(frozen=True, slots=True)
class _Layer:
    operation: str
    width: int
    kernel_size: int
    stride: int
    skip: int


class MacroSpace(Space):
    """Chains of `min_layers` to `max_layers` layers.

    Every genome gives a network that builds: strides stop at one pixel, a linear layer turns the
    rest of the chain into a multilayer perceptron (kernel, stride and pooling are ignored from
    there on), and where branches of different shape meet a projection is inserted.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: Number of logits.
        min_layers: Fewest layers, at least 1.
        max_layers: Most layers, up to 50; the number of genes grows with it.
        operations: Choices of each layer, simple to complex, out of `max_pool`, `avg_pool`,
            `linear`, `conv`, `separable_conv`.
        widths: Choices of output channels (of features, in a linear layer).
        kernel_sizes: Choices of the kernel's side; odd.
        strides: Choices of the step.
        activations: Choices of the activation, one for the network.
        batch_norm: Choices of whether layers are normalised, one for the network.
        connections: Choices out of `sequential`, `residual`, `dense`.
        max_skip: How many layers back a free skip connection may reach; 0 for none.

    Raises:
        SettingError: A setting is out of its range or not among the known names.

    Example:
        >>> import numpy as np
        >>> space = MacroSpace(input_shape=(1, 8, 8), num_classes=10, max_layers=4)
        >>> params = space.sample(np.random.default_rng(0))
        >>> space.architecture(params).shapes["logits"]
        (10,)
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        min_layers: int = 3,
        max_layers: int = 20,
        operations: Sequence[str] = OPERATIONS,
        widths: Sequence[int] = (16, 24, 32, 48, 64, 96, 128, 192, 256),
        kernel_sizes: Sequence[int] = (1, 3, 5, 7),
        strides: Sequence[int] = (1, 2),
        activations: Sequence[str] = ("relu", "gelu", "silu"),
        batch_norm: Sequence[bool] = (False, True),
        connections: Sequence[str] = CONNECTIONS,
        max_skip: int = 3,
    ) -> None:
        if len(input_shape) != 3:
            raise SettingError(
                "MacroSpace takes images (channels, height, width), got input_shape "
                f"{input_shape}; use MLPSpace for vectors."
            )
        if not 1 <= min_layers <= max_layers <= MAX_LAYERS:
            raise SettingError(
                f"1 <= min_layers <= max_layers <= {MAX_LAYERS} must hold, got "
                f"{min_layers} and {max_layers}."
            )
        if any(k % 2 == 0 for k in kernel_sizes):
            raise SettingError(f"kernel_sizes must be odd, got {tuple(kernel_sizes)}.")
        for kind, names, known in (
            ("operation", operations, OPERATIONS),
            ("connection", connections, CONNECTIONS),
            ("activation", activations, ACTIVATIONS),
        ):
            for name in names:
                check_name(kind, name, known)
        super().__init__(input_shape, num_classes)
        self.min_layers = min_layers
        self.max_layers = max_layers
        self.operations = tuple(operations)
        self.widths = tuple(widths)
        self.kernel_sizes = tuple(kernel_sizes)
        self.strides = tuple(strides)
        self.activations = tuple(activations)
        self.batch_norm = tuple(batch_norm)
        self.connections = tuple(connections)
        self.max_skip = max_skip

    @property
    def chains(self) -> tuple[Chain, ...]:
        """One: the layers."""
        return (Chain("layers", "layer", skip="skip"),)

    def rewire(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params | None:
        """Change how the layers are joined, or where one free skip connection comes from."""
        free = params["connection"] != "dense"
        wires = [
            name
            for name in live_genes(self, params)
            if name == "connection" or (free and name.endswith(".skip"))
        ]
        return change_gene(self, params, rng, wires)

    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask all questions, then put the layers together."""
        depth = trial.suggest_int("layers", self.min_layers, self.max_layers)
        connection = trial.suggest_categorical("connection", self.connections)
        activation = trial.suggest_categorical("activation", self.activations)
        norm = trial.suggest_categorical("batch_norm", self.batch_norm)
        layers = [self._ask_layer(trial, i) for i in range(self.max_layers)]
        net = ArchitectureBuilder(self.input_shape, self.num_classes, projection_norm=norm)
        outputs = [net.input]
        for i, layer in enumerate(layers[:depth]):
            with net.scope(f"layer{i}"):
                x = _layer_input(net, outputs, layer.skip, connection)
                y = _layer_output(net, x, layer, activation=activation, norm=norm)
                if connection == "residual" and y is not x:
                    y = net.add(y, x, name="residual")
            outputs.append(y)
        return net.build(net.classifier(outputs[-1]))

    def _ask_layer(self, trial: BaseTrial, i: int) -> _Layer:
        reach = min(i, self.max_skip)
        return _Layer(
            operation=trial.suggest_categorical(f"layer{i}.operation", self.operations),
            width=trial.suggest_categorical(f"layer{i}.width", self.widths),
            kernel_size=trial.suggest_categorical(f"layer{i}.kernel_size", self.kernel_sizes),
            stride=trial.suggest_categorical(f"layer{i}.stride", self.strides),
            skip=trial.suggest_int(f"layer{i}.skip", 0, reach) if reach else 0,
        )


def _layer_input(
    net: ArchitectureBuilder, outputs: Sequence[Output], skip: int, connection: str
) -> Output:
    """What a layer sees of the layers before it; `outputs` begins with the network's input."""
    if connection == "dense":
        # All earlier outputs are here already, so a free skip would add nothing new.
        return net.concat(*outputs, name="dense") if len(outputs) > 1 else outputs[0]
    if skip:
        return net.add(outputs[-1], outputs[-1 - skip], name="skip")
    return outputs[-1]


def _layer_output(
    net: ArchitectureBuilder, x: Output, layer: _Layer, *, activation: str, norm: bool
) -> Output:
    if len(x.shape) == 1 or layer.operation == "linear":
        if layer.operation.endswith("_pool"):
            return x  # a vector has no places to pool
        x = net.flatten(x, name="flatten") if len(x.shape) > 1 else x
        return net.linear(x, layer.width, norm=norm, activation=activation, name="linear")
    stride = layer.stride if min(x.shape[1:]) > 1 else 1
    if layer.operation == "max_pool":
        return net.max_pool2d(x, layer.kernel_size, stride=stride, name="max_pool")
    if layer.operation == "avg_pool":
        return net.avg_pool2d(x, layer.kernel_size, stride=stride, name="avg_pool")
    convolve = net.conv2d if layer.operation == "conv" else net.separable_conv2d
    return convolve(
        x, layer.width, layer.kernel_size, stride=stride, norm=norm, activation=activation,
        name=layer.operation,
    )  # fmt: skip

"""Nodes by name: one method for each operation of the table that a person writes.

`ArchitectureBuilder` has them all; what they share is that each is one call of `node`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from nas_optuna.operations import Setting, Shape


@dataclass(frozen=True, slots=True)
class Output:
    """What a node returns: its name and shape (no batch). Made by an `ArchitectureBuilder`."""

    name: str
    shape: Shape


class NodeMethods(ABC):
    """The operations of the table as methods: each adds one node, and returns its output."""

    @abstractmethod
    def node(
        self,
        operation: str,
        inputs: Sequence[Output],
        *,
        name: str | None = None,
        **settings: Setting,
    ) -> Output:
        """Add a node of any operation in the table."""

    def conv2d(
        self,
        x: Output,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int | str = 1,
        norm: bool = True,
        activation: str = "relu",
        preactivation: bool = False,
        name: str | None = None,
    ) -> Output:
        """Convolution, batch norm, activation: `(C, H, W) -> (channels, H / stride, W / stride)`.

        Args:
            x: An image.
            channels: Output channels.
            kernel_size: Side of the kernel, odd.
            stride: Step of the kernel.
            dilation: Distance between the kernel's taps.
            groups: Number of groups, or `"depthwise"`.
            norm: Whether batch norm follows; without it the convolution has a bias.
            activation: One of `nas_optuna.operations.ACTIVATIONS`.
            preactivation: Whether the activation comes before the convolution instead.
            name: Name within the current scope.
        """
        return self.node(
            "conv2d", [x], name=name, channels=channels, kernel_size=kernel_size, stride=stride,
            dilation=dilation, groups=groups, norm=norm, activation=activation,
            preactivation=preactivation,
        )  # fmt: skip

    def separable_conv2d(
        self,
        x: Output,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: bool = True,
        activation: str = "relu",
        preactivation: bool = False,
        name: str | None = None,
    ) -> Output:
        """Depthwise then pointwise convolution, batch norm, activation; shapes as `conv2d`."""
        return self.node(
            "separable_conv2d", [x], name=name, channels=channels, kernel_size=kernel_size,
            stride=stride, dilation=dilation, norm=norm, activation=activation,
            preactivation=preactivation,
        )  # fmt: skip

    def max_pool2d(
        self, x: Output, kernel_size: int = 3, *, stride: int = 1, name: str | None = None
    ) -> Output:
        """Largest value in each window: `(C, H, W) -> (C, H / stride, W / stride)`."""
        return self.node("max_pool2d", [x], name=name, kernel_size=kernel_size, stride=stride)

    def avg_pool2d(
        self, x: Output, kernel_size: int = 3, *, stride: int = 1, name: str | None = None
    ) -> Output:
        """Mean of each window, padding left out: `(C, H, W) -> (C, H / stride, W / stride)`."""
        return self.node("avg_pool2d", [x], name=name, kernel_size=kernel_size, stride=stride)

    def squeeze_excite(
        self,
        x: Output,
        channels: int,
        *,
        activation: str = "relu",
        gate: str = "hardsigmoid",
        name: str | None = None,
    ) -> Output:
        """Channels weighted by what two linear maps make of their means; the shape stays.

        Args:
            x: An image.
            channels: Width between the two maps, a quarter of the image's channels or less.
            activation: Between the two maps.
            gate: What makes the weights; `sigmoid` or its cheap likeness.
            name: Name within the current scope.
        """
        return self.node(
            "squeeze_excite", [x], name=name, channels=channels, activation=activation, gate=gate
        )

    def embedding(
        self, x: Output, vocabulary: int, features: int, *, name: str | None = None
    ) -> Output:
        """A learned vector for each token, 0 to `vocabulary - 1`: `(T,) -> (T, features)`."""
        return self.node("embedding", [x], name=name, vocabulary=vocabulary, features=features)

    def positions(self, x: Output, *, name: str | None = None) -> Output:
        """A learned vector added at each step of a sequence `(T, D)`; the shape stays."""
        return self.node("positions", [x], name=name)

    def layer_norm(self, x: Output, *, name: str | None = None) -> Output:
        """Layer norm over the features of each step; the shape stays."""
        return self.node("layer_norm", [x], name=name)

    def attention(self, x: Output, heads: int = 1, *, name: str | None = None) -> Output:
        """Self-attention among the steps of a sequence; `heads` divides D, the shape stays."""
        return self.node("attention", [x], name=name, heads=heads)

    def sequence_pool(self, x: Output, kind: str = "mean", *, name: str | None = None) -> Output:
        """The `first` step, or the `mean` or `max` over all: `(T, D) -> (D,)`."""
        return self.node("sequence_pool", [x], name=name, kind=kind)

    def global_avg_pool(self, x: Output, *, name: str | None = None) -> Output:
        """Mean over all places: `(C, H, W) -> (C,)`."""
        return self.node("global_avg_pool", [x], name=name)

    def flatten(self, x: Output, *, name: str | None = None) -> Output:
        """All numbers in one vector: `(C, H, W) -> (C * H * W,)`."""
        return self.node("flatten", [x], name=name)

    def linear(
        self,
        x: Output,
        features: int,
        *,
        norm: bool = False,
        activation: str = "none",
        name: str | None = None,
    ) -> Output:
        """Linear map, batch norm, activation on the last axis: `(..., D) -> (..., features)`."""
        return self.node(
            "linear", [x], name=name, features=features, norm=norm, activation=activation
        )

    def activation(self, x: Output, kind: str = "relu", *, name: str | None = None) -> Output:
        """An activation on its own; the shape stays."""
        return self.node("activation", [x], name=name, kind=kind)

    def dropout(self, x: Output, rate: float = 0.1, *, name: str | None = None) -> Output:
        """Dropout in training; the shape stays."""
        return self.node("dropout", [x], name=name, rate=rate)

    def zero(self, x: Output, *, name: str | None = None) -> Output:
        """Zeros of the shape of `x`: an edge that is not there."""
        return self.node("zero", [x], name=name)

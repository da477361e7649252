"""The modules behind the table of operations: one small factory each."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_optuna.errors import SettingError, check_name
from nas_optuna.operations import ACTIVATIONS, Setting, Shape, conv_groups, padding

Settings = dict[str, Setting]
Factory = Callable[[Settings, tuple[Shape, ...]], nn.Module]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def activation(kind: str) -> nn.Module:
    """Make an activation by name.

    Raises:
        UnknownNameError: There is no such activation.
    """
    return _ACTIVATIONS[check_name("activation", kind, ACTIVATIONS)]()


class Add(nn.Module):
    """Sum of equal shapes."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Add `(N, ...)` tensors."""
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total


class Mixture(nn.Module):
    """Weighed sum of equal shapes: the candidates of one open choice.

    Args:
        gene: The choice.
    """

    def __init__(self, gene: str) -> None:
        super().__init__()
        self.gene = gene
        self.weights: Tensor | None = None  # (n,), set before each pass; None for equal weights

    def forward(self, *inputs: Tensor) -> Tensor:
        """Add `n` weighed `(N, ...)` tensors."""
        weights = self.weights
        if weights is None:
            weights = inputs[0].new_full((len(inputs),), 1 / len(inputs))
        total = weights[0] * inputs[0]
        for weight, x in zip(weights[1:], inputs[1:], strict=True):
            total = total + weight * x
        return total


class Concat(nn.Module):
    """Joined channels: axis 1 of images, the last axis of sequences and vectors."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Join `(N, ...)` tensors."""
        return torch.cat(inputs, dim=1 if inputs[0].dim() == 4 else -1)


class Zero(nn.Module):
    """Zeros.

    Args:
        shape: Shape of one sample; None for the input's.
    """

    def __init__(self, shape: Shape | None) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """`(N, ...) -> (N, *shape)`, all zero."""
        return torch.zeros_like(x) if self.shape is None else x.new_zeros(x.shape[0], *self.shape)


class FactorizedReduce(nn.Module):
    """Halves an image without losing a place (Liu et al. 2019, "DARTS", their code).

    Args:
        channels_in: Channels in.
        channels: Channels out; the first half sees the even places, the rest the odd ones.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.even = nn.Conv2d(channels_in, half, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels - half, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W) -> (N, channels, H / 2, W / 2)`, sizes rounded up."""
        x = functional.relu(x)
        # Padded so that the two halves have one size where a side is odd; zeros join there.
        shifted = functional.pad(x, (-1, 1, -1, 1))
        joined = torch.cat([self.even(x), self.odd(shifted)], dim=1)
        return cast(Tensor, self.norm(joined))


class ChannelSlice(nn.Module):
    """Some neighbouring channels of an image.

    Args:
        start: Number of the first.
        channels: How many.
    """

    def __init__(self, start: int, channels: int) -> None:
        super().__init__()
        self.start, self.channels = start, channels

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W) -> (N, channels, H, W)`."""
        return x.narrow(1, self.start, self.channels)


class GlobalAveragePool(nn.Module):
    """Mean over all places."""

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W) -> (N, C)`."""
        return x.mean(dim=(2, 3))


class SqueezeExcite(nn.Module):
    """Each channel times a weight in [0, 1] that is made of all channels' means.

    Hu et al. 2018, "Squeeze-and-Excitation Networks"; the gate of Howard et al. 2019.
    """

    def __init__(self, channels: int, squeezed: int, act: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Linear(channels, squeezed), act, nn.Linear(squeezed, channels), gate
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W) -> (N, C, H, W)`."""
        return x * cast(Tensor, self.weigh(x.mean(dim=(2, 3))))[:, :, None, None]


class Positions(nn.Module):
    """Adds a learned vector for each place in the sequence."""

    def __init__(self, steps: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(steps, features))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, T, D) -> (N, T, D)`."""
        return x + self.weight


class Attention(nn.Module):
    """Multi-head self-attention over all steps (Vaswani et al. 2017), without dropout.

    Written out, since `FlopCounterMode` sees no FLOPs in what torch runs on a CPU instead: neither
    in its fused attention nor in the fast path of `nn.MultiheadAttention`. Queries, keys and
    values are maps of their own, so that each can be sliced when a supernet shares it.
    """

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (features // heads) ** -0.5
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.out = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, T, D) -> (N, T, D)`."""
        q, k, v = (self._split(f(x)) for f in (self.query, self.key, self.value))
        weights = torch.softmax((q * self.scale) @ k.transpose(-2, -1), dim=-1)  # (N, heads, T, T)
        joined = (weights @ v).transpose(1, 2).flatten(2)  # (N, T, D)
        return cast(Tensor, self.out(joined))

    def _split(self, x: Tensor) -> Tensor:
        """`(N, T, D) -> (N, heads, T, D / heads)`."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class SequencePool(nn.Module):
    """The first step, or the mean or maximum over all steps."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """`(N, T, D) -> (N, D)`."""
        if self.kind == "first":
            return x[:, 0]
        return x.mean(dim=1) if self.kind == "mean" else x.amax(dim=1)


def _conv(settings: Settings, channels_in: int, channels: int, kernel: int) -> nn.Conv2d:
    dilation = int(settings["dilation"])
    return nn.Conv2d(
        channels_in,
        channels,
        kernel,
        stride=int(settings["stride"]),
        padding=padding(kernel, dilation),
        dilation=dilation,
        groups=conv_groups(settings, channels_in),
        bias=_bias(settings),
    )


def _bias(settings: Settings) -> bool:
    bias = settings.get("bias", "auto")
    return not settings["norm"] if bias == "auto" else bool(bias)


def _with_norm_and_activation(settings: Settings, layers: list[nn.Module]) -> nn.Module:
    """Wrap convolutions: activation before them, or batch norm and activation after them."""
    after: list[nn.Module] = (
        [nn.BatchNorm2d(int(settings["channels"]))] if settings["norm"] else []
    )
    if settings["activation"] != "none":
        act = activation(str(settings["activation"]))
        layers, after = (
            ([act, *layers], after) if settings["preactivation"] else (layers, [*after, act])
        )
    return nn.Sequential(*layers, *after)


def _conv2d(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    conv = _conv(settings, inputs[0][0], int(settings["channels"]), int(settings["kernel_size"]))
    return _with_norm_and_activation(settings, [conv])


def _separable(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    channels_in, channels = inputs[0][0], int(settings["channels"])
    depthwise = _conv(
        {**settings, "groups": "depthwise", "norm": True},
        channels_in,
        channels_in,
        int(settings["kernel_size"]),
    )
    pointwise = _conv({**settings, "stride": 1, "dilation": 1}, channels_in, channels, 1)
    return _with_norm_and_activation(settings, [depthwise, pointwise])


def _factorized_reduce(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    return FactorizedReduce(inputs[0][0], int(settings["channels"]))


def _batch_norm(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    norm = nn.BatchNorm2d(inputs[0][0])
    return nn.Sequential(norm, activation(str(settings["activation"])))


def _max_pool(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    kernel = int(settings["kernel_size"])
    return nn.MaxPool2d(kernel, int(settings["stride"]), padding(kernel))


def _avg_pool(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    kernel = int(settings["kernel_size"])
    return nn.AvgPool2d(kernel, int(settings["stride"]), padding(kernel), count_include_pad=False)


def _linear(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    features, norm = int(settings["features"]), bool(settings["norm"])
    if norm and len(inputs[0]) != 1:
        raise SettingError(f"batch norm in a linear node needs a vector, got {inputs[0]}.")
    layers: list[nn.Module] = [nn.Linear(inputs[0][-1], features, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm1d(features))
    if settings["activation"] != "none":
        layers.append(activation(str(settings["activation"])))
    return nn.Sequential(*layers)


def _zero(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    if not settings["channels"]:
        return Zero(None)
    return Zero(tuple(int(settings[side]) for side in ("channels", "height", "width")))


def _resize(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.AdaptiveAvgPool2d((int(settings["height"]), int(settings["width"])))


def _squeeze_excite(settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    return SqueezeExcite(
        inputs[0][0],
        int(settings["channels"]),
        activation(str(settings["activation"])),
        activation(str(settings["gate"])),
    )


FACTORIES: dict[str, Factory] = {
    "conv2d": _conv2d,
    "separable_conv2d": _separable,
    "factorized_reduce": _factorized_reduce,
    "batch_norm": _batch_norm,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "resize": _resize,
    "global_avg_pool": lambda settings, inputs: GlobalAveragePool(),
    "squeeze_excite": _squeeze_excite,
    "embedding": lambda settings, inputs: nn.Embedding(
        int(settings["vocabulary"]), int(settings["features"])
    ),
    "positions": lambda settings, inputs: Positions(*inputs[0]),
    "layer_norm": lambda settings, inputs: nn.LayerNorm(inputs[0][-1]),
    "attention": lambda settings, inputs: Attention(inputs[0][-1], int(settings["heads"])),
    "sequence_pool": lambda settings, inputs: SequencePool(str(settings["kind"])),
    "flatten": lambda settings, inputs: nn.Flatten(),
    "linear": _linear,
    "activation": lambda settings, inputs: activation(str(settings["kind"])),
    "dropout": lambda settings, inputs: nn.Dropout(cast(float, settings["rate"])),
    "add": lambda settings, inputs: Add(),
    "concat": lambda settings, inputs: Concat(),
    "channel_slice": lambda settings, inputs: ChannelSlice(
        cast(int, settings["start"]), cast(int, settings["channels"])
    ),
    "channel_shuffle": lambda settings, inputs: nn.ChannelShuffle(cast(int, settings["groups"])),
    "mixture": lambda settings, inputs: Mixture(str(settings["gene"])),
    "identity": lambda settings, inputs: nn.Identity(),
    "zero": _zero,
}


def make(operation: str, settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    """Make the module of one node.

    Args:
        operation: Name in the table of operations.
        settings: All settings, defaults filled in.
        inputs: Shapes of the inputs, no batch.

    Raises:
        UnknownNameError: The operation has no module.
    """
    return FACTORIES[check_name("operation", operation, FACTORIES)](settings, inputs)

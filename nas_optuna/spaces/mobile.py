"""Mobile space: stages of inverted residual blocks, down to the input's resolution.

    input -> resize -> stem -> stage0 -> stage1 -> ... -> head -> global pooling -> logits

A block widens its input by a 1x1 convolution, filters each channel, may weigh the channels
(squeeze-and-excite), and narrows again; it adds its input where the shapes allow. MobileNetV2
(Sandler et al. 2018) and its relatives are members. What is asked follows ProxylessNAS (Cai et al.
2019), MobileNetV3 (Howard et al. 2019) and Once-for-all (Cai et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import BaseTrial

from nas_optuna.architecture import Architecture
from nas_optuna.builder import ArchitectureBuilder
from nas_optuna.errors import SettingError, check_name
from nas_optuna.nodes import Output
from nas_optuna.operations import ACTIVATIONS
from nas_optuna.spaces.base import Space
from nas_optuna.spaces.variation import Chain

LEAST_SIDE = 4  # the default stages halve the image no further than to so many pixels


@dataclass(frozen=True, slots=True)
class MobileStage:
    """A stage of a mobile network: blocks of one width.

    Args:
        width: Output channels at width multiplier 1.
        stride: Step of the first block.
        depths: Fewest and most blocks.
        expansions: Choices of how many times wider a block is inside than its input.

    Raises:
        SettingError: A value is out of its range.
    """

    width: int
    stride: int = 1
    depths: tuple[int, int] = (1, 4)
    expansions: tuple[int, ...] = (3, 4, 6)

    def __post_init__(self) -> None:
        if min(self.width, self.stride, *self.expansions) < 1:
            raise SettingError(f"width, stride and expansions must be at least 1, got {self}.")
        if not 1 <= self.depths[0] <= self.depths[1]:
            raise SettingError(f"depths must be (fewest, most) from 1 on, got {self.depths}.")


# MobileNetV2, with freedom of depth and expansion where it repeats blocks.
MOBILENET_V2_STAGES = (
    MobileStage(16, depths=(1, 1), expansions=(1,)),
    MobileStage(24, stride=2),
    MobileStage(32, stride=2),
    MobileStage(64, stride=2),
    MobileStage(96),
    MobileStage(160, stride=2),
    MobileStage(320, depths=(1, 1)),
)


class MobileSpace(Space):
    """Networks of inverted residual blocks.

    Depth and squeeze-and-excite are asked for each stage, kernel and expansion for each block or
    each stage, and width multiplier, activation and resolution once. Widths are rounded to
    multiples of 8, as in the papers. A block counts as three layers and MobileNetV2 as 53: the
    default `max_layers` of `SearchConstraints` rules out the deeper half of the default stages.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: Number of logits.
        stages: The stages. By default those of MobileNetV2, whose first strides are left out
            where the image would become smaller than 4 pixels: 224 pixels keep all.
        stem_stride: Step of the first convolution; by default 2 for images of at least 128
            pixels, as above, else 1.
        stem_width: Channels after the first convolution, at width multiplier 1.
        head_width: Channels before the pooling; a multiplier below 1 leaves them.
        kernel_sizes: Choices of the side of each channel's filter; odd.
        width_multipliers: Choices of a factor on all widths.
        squeeze_excite: Choices of whether blocks weigh their channels.
        activations: Choices of the activation, one for the network.
        resolutions: Choices of the image's height in pixels, small to large; the image is scaled
            to it at the input. By default half, three quarters and all of it.
        per_block: Whether kernel and expansion are asked for each block (ProxylessNAS,
            Once-for-all) or, with fewer genes, for each stage.

    Raises:
        SettingError: A setting is out of its range or not among the known names.

    Example:
        >>> import numpy as np
        >>> stages = (MobileStage(16, depths=(1, 2)), MobileStage(24, stride=2, depths=(1, 2)))
        >>> space = MobileSpace((1, 8, 8), 10, stages=stages, head_width=64)
        >>> space.resolutions
        (4, 6, 8)
        >>> space.architecture(space.sample(np.random.default_rng(0))).shapes["head"][0]
        64
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        stages: Sequence[MobileStage] | None = None,
        stem_stride: int | None = None,
        stem_width: int = 32,
        head_width: int = 1280,
        kernel_sizes: Sequence[int] = (3, 5, 7),
        width_multipliers: Sequence[float] = (0.35, 0.5, 0.75, 1.0),
        squeeze_excite: Sequence[bool] = (False, True),
        activations: Sequence[str] = ("relu", "relu6", "hardswish"),
        resolutions: Sequence[int] | None = None,
        per_block: bool = True,
    ) -> None:
        if len(input_shape) != 3:
            raise SettingError(
                f"MobileSpace takes images (channels, height, width), got input_shape "
                f"{input_shape}; use MLPSpace for vectors, TransformerSpace for sequences."
            )
        height, side = input_shape[1], min(input_shape[1:])
        strides, fitted = _fit_strides(side)
        self.stages = fitted if stages is None else tuple(stages)
        self.stem_stride = strides if stem_stride is None else stem_stride
        quarters = sorted({max(1, height * part // 4) for part in (2, 3, 4)})
        self.resolutions = tuple(quarters if resolutions is None else resolutions)
        super().__init__(input_shape, num_classes)
        self.stem_width = stem_width
        self.head_width = head_width
        self.kernel_sizes = tuple(kernel_sizes)
        self.width_multipliers = tuple(width_multipliers)
        self.squeeze_excite = tuple(squeeze_excite)
        self.activations = tuple(activations)
        self.per_block = per_block
        self._check()

    def _check(self) -> None:
        if not self.stages:
            raise SettingError("stages must hold at least one MobileStage, got none.")
        if any(kernel % 2 == 0 for kernel in self.kernel_sizes):
            raise SettingError(f"kernel_sizes must be odd, got {self.kernel_sizes}.")
        if min(self.resolutions) < 1:
            raise SettingError(f"resolutions must be at least 1 pixel, got {self.resolutions}.")
        if min(self.width_multipliers) <= 0:
            raise SettingError(f"width_multipliers must be above 0, got {self.width_multipliers}.")
        if min(self.stem_width, self.head_width, self.stem_stride) < 1:
            raise SettingError(
                "stem_width, head_width and stem_stride must be at least 1, got "
                f"{self.stem_width}, {self.head_width} and {self.stem_stride}."
            )
        for name in self.activations:
            check_name("activation", name, ACTIVATIONS)

    @property
    def fixed(self) -> object:
        """The widths and strides of stem, stages and head."""
        stages = [(stage.width, stage.stride) for stage in self.stages]
        return self.stem_stride, self.stem_width, self.head_width, stages

    @property
    def chains(self) -> tuple[Chain, ...]:
        """One for each stage: its blocks."""
        return tuple(Chain(f"stage{i}.depth", f"stage{i}.block") for i in range(len(self.stages)))

    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask all questions, then put the stages together."""
        resolution = trial.suggest_categorical("resolution", self.resolutions)
        multiplier = trial.suggest_categorical("width_multiplier", self.width_multipliers)
        activation = trial.suggest_categorical("activation", self.activations)
        answers = [self._ask_stage(trial, f"stage{i}", s) for i, s in enumerate(self.stages)]
        net = ArchitectureBuilder(self.input_shape, self.num_classes)
        x = net.conv2d(
            self._resized(net, resolution), divisible(self.stem_width * multiplier), 3,
            stride=self.stem_stride, activation=activation, name="stem",
        )  # fmt: skip
        for i, (stage, blocks) in enumerate(zip(self.stages, answers, strict=True)):
            for j, block in enumerate(blocks):
                with net.scope(f"stage{i}"), net.scope(f"block{j}"):
                    expanded = x.shape[0] * block.expansion
                    x = inverted_residual(
                        net, x, divisible(stage.width * multiplier), expanded=expanded,
                        kernel_size=block.kernel_size, stride=1 if j else stage.stride,
                        squeezed=divisible(expanded / 4) if block.squeeze_excite else 0,
                        activation=activation,
                    )  # fmt: skip
        head = divisible(self.head_width * max(1.0, multiplier))
        x = net.conv2d(x, head, 1, activation=activation, name="head")
        return net.build(net.classifier(x))

    def _ask_stage(self, trial: BaseTrial, name: str, stage: MobileStage) -> list[_Block]:
        """Ask for all blocks that there may be and return those that there are."""
        depth = trial.suggest_int(f"{name}.depth", *stage.depths)
        excite = trial.suggest_categorical(f"{name}.squeeze_excite", self.squeeze_excite)
        scopes = [f"{name}.block{j}" if self.per_block else name for j in range(stage.depths[1])]
        blocks = [
            _Block(
                kernel_size=trial.suggest_categorical(f"{scope}.kernel_size", self.kernel_sizes),
                expansion=trial.suggest_categorical(f"{scope}.expansion", stage.expansions),
                squeeze_excite=excite,
            )
            for scope in scopes
        ]
        return blocks[:depth]

    def _resized(self, net: ArchitectureBuilder, resolution: int) -> Output:
        _, height, width = self.input_shape
        if resolution == height:
            return net.input
        scaled = max(1, round(width * resolution / height))
        return net.node("resize", [net.input], name="resize", height=resolution, width=scaled)


@dataclass(frozen=True, slots=True)
class _Block:
    kernel_size: int
    expansion: int
    squeeze_excite: bool


def inverted_residual(
    net: ArchitectureBuilder,
    x: Output,
    channels: int,
    *,
    expanded: int,
    kernel_size: int = 3,
    stride: int = 1,
    squeezed: int = 0,
    activation: str = "relu6",
) -> Output:
    """Add an inverted residual block in the builder's current scope.

    Args:
        net: The network that it is added to.
        x: An image.
        channels: Output channels.
        expanded: Channels inside the block; no first convolution if they are those of `x`.
        kernel_size: Side of each channel's filter, odd.
        stride: Step of the filter.
        squeezed: Width inside squeeze-and-excite; 0 for none.
        activation: After the first two convolutions.

    Example:
        >>> net = ArchitectureBuilder((8, 4, 4))
        >>> inverted_residual(net, net.input, 8, expanded=32).name
        'add'
    """
    y = x
    if expanded != x.shape[0]:
        y = net.conv2d(y, expanded, 1, activation=activation, name="expand")
    y = net.conv2d(
        y, expanded, kernel_size, stride=stride, groups="depthwise", activation=activation,
        name="depthwise",
    )  # fmt: skip
    if squeezed:
        y = net.squeeze_excite(y, squeezed, name="squeeze_excite")
    y = net.conv2d(y, channels, 1, activation="none", name="project")
    return net.add(y, x, name="add") if stride == 1 and y.shape == x.shape else y


def divisible(width: float, by: int = 8) -> int:
    """Round a width to a multiple of `by`, at least `by`, and by no more than a tenth down.

    The rule of the reference implementations of MobileNetV2 and V3 (`_make_divisible`).

    Example:
        >>> divisible(32 * 0.35), divisible(24 * 0.75), divisible(3)
        (16, 24, 8)
    """
    rounded = max(by, int(width + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * width else rounded


def _fit_strides(side: int) -> tuple[int, tuple[MobileStage, ...]]:
    """The stem's stride and the default stages, without the first strides if `side` is small."""
    halvings = 0
    while side // 2 ** (halvings + 1) >= LEAST_SIDE:
        halvings += 1
    fitted = []
    for stage in reversed(MOBILENET_V2_STAGES):
        if stage.stride > 1 and not halvings:
            stage = MobileStage(stage.width, 1, stage.depths, stage.expansions)
        halvings -= stage.stride > 1
        fitted.append(stage)
    return (2 if halvings else 1), tuple(reversed(fitted))

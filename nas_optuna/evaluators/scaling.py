"""The same architecture, narrower or for smaller images; what then does not fit is projected."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas_optuna.architecture import INPUT, Architecture, Node
from nas_optuna.builder import ArchitectureBuilder
from nas_optuna.nodes import Output
from nas_optuna.operations import Setting, Shape, convolved, operation

_WIDTHS = ("channels", "features")  # settings that say how wide a node's output is
_LEAST = 2  # channels; some operations halve them


def scaled(
    architecture: Architecture, *, width: float = 1.0, input_shape: Shape | None = None
) -> Architecture:
    """Return an architecture of other widths, or for inputs of another size.

    Nodes keep their names, operations and connections. All channels and features are scaled but
    those of the logits, rounded to what groups and heads divide, and at least 2. Where inputs of
    a node then differ in shape, they are projected; a window larger than its image becomes 1x1.

    Args:
        architecture: The original.
        width: Factor on channels and features.
        input_shape: Shape of one sample; None for the original's.

    Example:
        >>> net = ArchitectureBuilder((1, 8, 8), num_classes=10)
        >>> network = net.build(net.classifier(net.conv2d(net.input, 16, name="stem")))
        >>> scaled(network, width=0.25, input_shape=(1, 4, 4)).shapes["stem"]
        (4, 4, 4)
    """
    scaling = _Scaling(architecture, width, input_shape or architecture.input_shape)
    output = [scaling.add(node) for node in architecture.nodes][-1]
    return scaling.net.build(output, keep_dead=True)


class _Scaling:
    """Builds the scaled architecture node by node.

    Args:
        architecture: The original.
        width: Factor on channels and features.
        input_shape: Shape of one sample.
    """

    def __init__(self, architecture: Architecture, width: float, input_shape: Shape) -> None:
        self.net = ArchitectureBuilder(input_shape, architecture.num_classes)
        self._shapes = architecture.shapes
        self._width = width
        self._unit = _unit(architecture)
        self._fixed = _fixed(architecture)
        self._made = {INPUT: self.net.input}
        # What became of each shape, for the nodes that name a size.
        self._became = {architecture.input_shape: input_shape}

    def add(self, node: Node) -> Output:
        inputs = [self._made[name] for name in node.inputs]
        if operation(node.operation).many:
            inputs = self._fitted(node, inputs)
        made = self.net.node(
            node.operation, inputs, name=node.name, **self._settings(node, inputs)
        )
        self._made[node.name] = made
        self._became.setdefault(self._shapes[node.name], made.shape)
        return made

    def _settings(self, node: Node, inputs: Sequence[Output]) -> dict[str, Setting]:
        settings = dict(node.settings)
        if settings.get("height"):  # 0 in a `zero` of its input's shape
            was = self._shapes[node.name]
            channels, height, width = self._became.get(was, self._shrunk(was))
            settings |= {"height": height, "width": width}
            return settings | ({"channels": channels} if "channels" in settings else {})
        if len(inputs[0].shape) == 3 and not _fits(node, inputs[0].shape):
            settings["kernel_size"] = 1
        if node.name in self._fixed:
            return settings
        if settings.get("groups") == "depthwise":
            multiple = int(settings["channels"]) // self._shapes[node.inputs[0]][0]
            return settings | {"channels": multiple * inputs[0].shape[0]}
        for name in _WIDTHS:
            if name in settings:
                settings[name] = self._narrowed(int(settings[name]))
        return settings

    def _narrowed(self, channels: int) -> int:
        unit = self._unit
        return max(unit * round(channels * self._width / unit), min(channels, max(unit, _LEAST)))

    def _shrunk(self, shape: Shape) -> tuple[int, int, int]:
        """An image of a size that no node before it has had."""
        old, new = self._shapes[INPUT], self.net.input.shape
        height, width = (math.ceil(shape[i] * new[i] / old[i]) for i in (1, 2))
        return self._narrowed(shape[0]), height, width

    def _fitted(self, node: Node, inputs: Sequence[Output]) -> list[Output]:
        """Project what differs from the first input of a sum, or in size from that of a join."""
        target, fitted = inputs[0].shape, []
        for i, x in enumerate(inputs):
            shape = target
            if node.operation == "concat":
                shape = (x.shape[0], *target[1:]) if len(x.shape) == 3 else x.shape
            name = f"{node.name}.scaled{i}"
            fitted.append(x if x.shape == shape else self.net.project(x, shape, name=name))
        return fitted


def _fits(node: Node, image: Shape) -> bool:
    """Whether a window is no larger than the image; padding makes odd ones fit always."""
    window = node.complete()
    kernel, stride, dilation = (
        int(window.get(n, 1)) for n in ("kernel_size", "stride", "dilation")
    )
    return all(convolved(side, kernel, stride, dilation) >= 1 for side in image[1:])


def _unit(architecture: Architecture) -> int:
    """What every width must be a multiple of: all numbers of groups and heads divide it."""
    settings = [node.complete() for node in architecture.nodes]
    numbers = [s.get(name, 1) for s in settings for name in ("groups", "heads")]
    return math.lcm(*(n for n in numbers if isinstance(n, int)))


def _fixed(architecture: Architecture) -> set[str]:
    """Nodes that decide the number of logits: their widths stay."""
    nodes = {node.name: node for node in architecture.nodes}
    fixed: set[str] = set()
    ahead = [architecture.nodes[-1].name]
    while ahead:
        name = ahead.pop()
        if name in fixed or name == INPUT:
            continue
        fixed.add(name)
        settings = dict(nodes[name].settings)
        decides = any(setting in settings for setting in _WIDTHS)
        keeps = nodes[name].operation == "squeeze_excite" or settings.get("groups") == "depthwise"
        if keeps or not decides:
            ahead += nodes[name].inputs
    return fixed

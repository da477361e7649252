"""The table of operations: what settings each takes and what shape comes out. No torch here.

`models/operations.py` holds the modules of the same names. Shapes never include the batch:
`(C, H, W)` images, `(T, D)` sequences, `(F,)` feature vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from nas_optuna.errors import SettingError, UnknownNameError, check_name

Setting = str | int | float | bool
Settings = Mapping[str, Setting]
Shape = tuple[int, ...]
ShapeRule = Callable[[Settings, tuple[Shape, ...]], Shape]

ACTIVATIONS = (
    "none", "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "hardswish", "hardsigmoid",
    "sigmoid", "tanh",
)  # fmt: skip
SEQUENCE_POOLINGS = ("first", "mean", "max")

REQUIRED: Setting = "<required>"


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of node.

    Args:
        name: Name in architectures and in the table.
        shape: `(settings, input shapes) -> output shape`; raises `SettingError` where the
            operation does not fit its inputs.
        settings: Names with default values; `REQUIRED` marks those without a default.
        many: Whether it takes any number of inputs instead of one.
        weighted: Whether it has weights of its own.
        layer: Whether weights make it a layer; a norm or a table of positions is none.
        tokens: Whether it takes token numbers (int64), as only the network's input can be.
        folds: What it is to functional equality: an `identity`, a constant `zero`, a `sum`
            whose inputs have no order, `linear` (maps zero to zero), or nothing special.
    """

    name: str
    shape: ShapeRule
    settings: Settings = field(default_factory=dict)
    many: bool = False
    weighted: bool = False
    layer: bool = True
    tokens: bool = False
    folds: Literal["identity", "zero", "sum", "linear", ""] = ""

    def complete(self, settings: Settings) -> dict[str, Setting]:
        """Return `settings` with every default filled in, in the table's order.

        Raises:
            UnknownNameError: A setting is not one of this operation's.
            SettingError: A setting without a default is missing.
        """
        for name in settings:
            check_name(f"setting of {self.name}", name, self.settings)
        complete = {name: settings.get(name, default) for name, default in self.settings.items()}
        missing = [name for name, value in complete.items() if value == REQUIRED]
        if missing:
            raise SettingError(f"{self.name} needs {', '.join(missing)}.")
        return complete


OPERATIONS: dict[str, Operation] = {}


def register(operation: Operation) -> Operation:
    """Add an operation to the table.

    Raises:
        SettingError: The name is taken.
    """
    if operation.name in OPERATIONS:
        raise SettingError(
            f"Operation {operation.name!r} is already registered; pick another name."
        )
    OPERATIONS[operation.name] = operation
    return operation


def operation(name: str) -> Operation:
    """Look an operation up.

    Raises:
        UnknownNameError: There is no such operation.

    Example:
        >>> operation("conv2d").shape({"channels": 8, "kernel_size": 3, "stride": 2}, ((1, 9, 9),))
        (8, 5, 5)
    """
    try:
        return OPERATIONS[name]
    except KeyError:
        raise UnknownNameError("operation", name, OPERATIONS) from None


def padding(kernel_size: int, dilation: int = 1) -> int:
    """Padding that keeps the size at stride 1 (odd kernels); even kernels get what halves it."""
    return dilation * (kernel_size - 1) // 2


def convolved(size: int, kernel_size: int, stride: int, dilation: int = 1) -> int:
    """Length of one axis after a padded convolution or pooling."""
    span = size + 2 * padding(kernel_size, dilation) - dilation * (kernel_size - 1) - 1
    return span // stride + 1


def _image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise SettingError(f"needs an image (channels, height, width), got shape {shape}.")
    return shape[0], shape[1], shape[2]


def _positive(settings: Settings, *names: str) -> list[int]:
    values = [settings.get(name, 1) for name in names]
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SettingError(f"{name} must be a whole number of at least 1, got {value!r}.")
    return [int(value) for value in values]


def _window(settings: Settings, shape: Shape) -> tuple[int, int]:
    """Height and width after a window moved over an image; at least 1 each, or an error."""
    _, height, width = _image(shape)
    kernel, stride, dilation = _positive(settings, "kernel_size", "stride", "dilation")
    size = convolved(height, kernel, stride, dilation), convolved(width, kernel, stride, dilation)
    if min(size) < 1:
        raise SettingError(f"kernel_size {kernel} does not fit into {height} x {width}.")
    return size


def _conv2d(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    (channels,) = _positive(settings, "channels")
    groups = conv_groups(settings, _image(inputs[0])[0])
    if inputs[0][0] % groups or channels % groups:
        raise SettingError(
            f"groups {groups} must divide the channels in ({inputs[0][0]}) and out ({channels})."
        )
    if settings.get("bias", "auto") not in ("auto", True, False):
        raise SettingError(f"bias must be 'auto', True or False, got {settings['bias']!r}.")
    return channels, *_window(settings, inputs[0])


def conv_groups(settings: Settings, channels_in: int) -> int:
    """Number of groups of a `conv2d`; `"depthwise"` means one per input channel."""
    groups = settings.get("groups", 1)
    if groups == "depthwise":
        return channels_in
    return _positive(settings, "groups")[0]


def _separable(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    return _positive(settings, "channels")[0], *_window(settings, inputs[0])


def _factorized_reduce(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    (channels,) = _positive(settings, "channels")
    if channels < 2:
        raise SettingError(f"channels must be at least 2, one for each half, got {channels}.")
    return channels, *_window({"stride": 2}, inputs[0])


def _batch_norm(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    return _image(inputs[0])


def _pool(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    return inputs[0][0], *_window(settings, inputs[0])


def _resize(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    height, width = _positive(settings, "height", "width")
    return _image(inputs[0])[0], height, width


def _global_pool(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    return (_image(inputs[0])[0],)


def _squeeze_excite(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    _positive(settings, "channels")
    return _image(inputs[0])


def _sequence(shape: Shape) -> tuple[int, int]:
    if len(shape) != 2:
        raise SettingError(f"needs a sequence (steps, features), got shape {shape}.")
    return shape[0], shape[1]


def _embedding(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    if len(inputs[0]) != 1:
        raise SettingError(f"needs tokens of shape (steps,), got shape {inputs[0]}.")
    _, features = _positive(settings, "vocabulary", "features")
    return inputs[0][0], features


def _positions(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    return _sequence(inputs[0])


def _layer_norm(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    if len(inputs[0]) > 2:
        raise SettingError(f"needs a vector or a sequence, got shape {inputs[0]}.")
    return inputs[0]


def _attention(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    steps, features = _sequence(inputs[0])
    (heads,) = _positive(settings, "heads")
    if features % heads:
        raise SettingError(f"heads {heads} must divide the {features} features.")
    return steps, features


def _sequence_pool(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    check_name("kind of pooling", str(settings.get("kind", "mean")), SEQUENCE_POOLINGS)
    return (_sequence(inputs[0])[1],)


def _flatten(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    return (math.prod(inputs[0]),)


def _linear(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    if len(inputs[0]) > 2:
        raise SettingError(f"needs a vector or a sequence, got shape {inputs[0]}; flatten first.")
    return *inputs[0][:-1], _positive(settings, "features")[0]


def _same(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    return inputs[0]


def _zero(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    if not settings.get("channels"):
        return inputs[0]
    channels, height, width = _positive(settings, "channels", "height", "width")
    return channels, height, width


def _add(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    if len(set(inputs)) != 1:
        raise SettingError(f"adds equal shapes only, got {', '.join(map(str, inputs))}.")
    return inputs[0]


def _concat(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    # The channel axis is the first of an image and the last of a sequence or vector.
    axis = 0 if len(inputs[0]) == 3 else len(inputs[0]) - 1
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in inputs}
    if len(rest) != 1 or len({len(shape) for shape in inputs}) != 1:
        raise SettingError(
            f"joins shapes that differ in channels only, got {', '.join(map(str, inputs))}."
        )
    total = sum(shape[axis] for shape in inputs)
    return *inputs[0][:axis], total, *inputs[0][axis + 1 :]


def _channel_slice(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    channels, height, width = _image(inputs[0])
    start, (taken,) = int(settings["start"]), _positive(settings, "channels")
    if not 0 <= start <= channels - taken:
        raise SettingError(f"takes {taken} channels from {start} on, and there are {channels}.")
    return taken, height, width


def _channel_shuffle(settings: Settings, inputs: tuple[Shape, ...]) -> Shape:
    (groups,) = _positive(settings, "groups")
    if _image(inputs[0])[0] % groups:
        raise SettingError(f"groups {groups} must divide the {inputs[0][0]} channels.")
    return inputs[0]


_CONVOLUTION: Settings = {
    "channels": REQUIRED, "kernel_size": 3, "stride": 1, "dilation": 1, "norm": True,
    "activation": "relu", "preactivation": False,
}  # fmt: skip
_POOL: Settings = {"kernel_size": 3, "stride": 1}

for _operation in (
    # convolution - batch norm - activation; with `preactivation` the activation comes first;
    # `bias` is on where no norm follows, unless it says otherwise
    Operation("conv2d", _conv2d, {**_CONVOLUTION, "groups": 1, "bias": "auto"}, weighted=True),
    # depthwise then pointwise convolution - batch norm - activation
    Operation("separable_conv2d", _separable, _CONVOLUTION, weighted=True),
    # ReLU - half of the channels from the even places, half from the odd ones - batch norm
    Operation("factorized_reduce", _factorized_reduce, {"channels": REQUIRED}, weighted=True),
    Operation("batch_norm", _batch_norm, {"activation": "none"}, weighted=True, layer=False),
    Operation("max_pool2d", _pool, _POOL, folds="linear"),
    Operation("avg_pool2d", _pool, _POOL, folds="linear"),
    Operation("resize", _resize, {"height": REQUIRED, "width": REQUIRED}, folds="linear"),
    Operation("global_avg_pool", _global_pool, folds="linear"),
    # channels weighted by what a small network makes of their means; `channels` between its layers
    Operation(
        "squeeze_excite",
        _squeeze_excite,
        {"channels": REQUIRED, "activation": "relu", "gate": "hardsigmoid"},
        weighted=True,
    ),
    Operation(
        "embedding",
        _embedding,
        {"vocabulary": REQUIRED, "features": REQUIRED},
        weighted=True,
        tokens=True,
    ),
    Operation("positions", _positions, weighted=True, layer=False),
    Operation("layer_norm", _layer_norm, weighted=True, layer=False),
    Operation("attention", _attention, {"heads": 1}, weighted=True),
    Operation("sequence_pool", _sequence_pool, {"kind": "mean"}, folds="linear"),
    Operation("flatten", _flatten, folds="linear"),
    Operation(
        "linear",
        _linear,
        {"features": REQUIRED, "norm": False, "activation": "none"},
        weighted=True,
    ),
    Operation("activation", _same, {"kind": "relu"}),
    Operation("dropout", _same, {"rate": 0.1}),
    Operation("add", _add, many=True, folds="sum"),
    Operation("concat", _concat, many=True),
    # `channels` of the input's from number `start` on
    Operation("channel_slice", _channel_slice, {"start": 0, "channels": REQUIRED}, folds="linear"),
    # the first channel of each group, then the second of each, and so on
    Operation("channel_shuffle", _channel_shuffle, {"groups": REQUIRED}, folds="linear"),
    # all answers to an open choice, weighed; stands in no network that a trial judges
    Operation("mixture", _add, {"gene": REQUIRED, "choices": REQUIRED}, many=True),
    Operation("identity", _same, folds="identity"),
    # zeros of the input's shape, or of the shape in the settings
    Operation("zero", _zero, {"channels": 0, "height": 0, "width": 0}, folds="zero"),
):
    register(_operation)

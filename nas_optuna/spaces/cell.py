"""What the cell spaces share: candidate operations of an edge, and the blocks around the cells.

A cell keeps the shape of an image (or halves its sides, where an edge has stride 2) and is stacked
many times; a space decides which operation stands on which of its edges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from nas_optuna.builder import ArchitectureBuilder
from nas_optuna.errors import SettingError, check_name
from nas_optuna.nodes import Output
from nas_optuna.relaxation import NONE, Open
from nas_optuna.spaces.base import Space

Net = ArchitectureBuilder
Edge = tuple[int, int]  # from state, to state
Candidate = Callable[[Net, Output, int], Output]


def _skip_connect(net: Net, x: Output, stride: int) -> Output:
    if stride == 1:
        return x
    return net.node("factorized_reduce", [x], channels=x.shape[0], name="skip_connect")


def _max_pool(net: Net, x: Output, stride: int) -> Output:
    return net.max_pool2d(x, 3, stride=stride, name="max_pool_3x3")


def _avg_pool(net: Net, x: Output, stride: int) -> Output:
    return net.avg_pool2d(x, 3, stride=stride, name="avg_pool_3x3")


def _nor_conv(net: Net, x: Output, stride: int, *, kernel_size: int) -> Output:
    name = f"nor_conv_{kernel_size}x{kernel_size}"
    return net.conv2d(x, x.shape[0], kernel_size, stride=stride, preactivation=True, name=name)


def _sep_conv(net: Net, x: Output, stride: int, *, kernel_size: int) -> Output:
    with net.scope(f"sep_conv_{kernel_size}x{kernel_size}"):
        for i, step in enumerate((stride, 1)):
            x = net.separable_conv2d(
                x, x.shape[0], kernel_size, stride=step, preactivation=True, name=str(i)
            )
    return x


def _dil_conv(net: Net, x: Output, stride: int, *, kernel_size: int) -> Output:
    return net.separable_conv2d(
        x, x.shape[0], kernel_size, stride=stride, dilation=2, preactivation=True,
        name=f"dil_conv_{kernel_size}x{kernel_size}",
    )  # fmt: skip


# By published name, simple to complex. `nor_conv` is ReLU - convolution - batch norm; `sep_conv` a
# depthwise-separable convolution twice; `dil_conv` one of dilation 2. Channels stay.
CANDIDATES: dict[str, Candidate] = {
    "skip_connect": _skip_connect,
    "max_pool_3x3": _max_pool,
    "avg_pool_3x3": _avg_pool,
    "nor_conv_1x1": partial(_nor_conv, kernel_size=1),
    "nor_conv_3x3": partial(_nor_conv, kernel_size=3),
    "nor_conv_5x5": partial(_nor_conv, kernel_size=5),
    "sep_conv_3x3": partial(_sep_conv, kernel_size=3),
    "sep_conv_5x5": partial(_sep_conv, kernel_size=5),
    "dil_conv_3x3": partial(_dil_conv, kernel_size=3),
    "dil_conv_5x5": partial(_dil_conv, kernel_size=5),
}


def edge_operation(net: Net, x: Output, operation: str, edge: Edge, *, stride: int = 1) -> Output:
    """Put a candidate operation on an edge; its nodes are named `edge02.nor_conv_3x3` and so on.

    Args:
        net: The network being built.
        x: Output of the state the edge comes from.
        operation: One of `CANDIDATES`, or an open choice among them and `none`.
        edge: Number of the state it comes from, and of the one it goes to.
        stride: 2 to halve the image.
    """
    name = f"edge{edge[0]}{edge[1]}"
    if isinstance(operation, Open):
        return _mixture(net, x, operation, name, stride=stride)
    with net.scope(name):
        return CANDIDATES[operation](net, x, stride)


def _mixture(net: Net, x: Output, operation: Open, name: str, *, stride: int) -> Output:
    """Put all candidates on an edge, whose weights lie under the names that each has alone."""
    share = operation.partial_channels
    if share > 1 and x.shape[0] % share == 0:
        return _partial_mixture(net, x, operation, name, stride=stride)
    made: dict[str, Output] = {}
    with net.scope(name):
        for choice in operation.choices:
            if choice != NONE:
                made[choice] = CANDIDATES[choice](net, x, stride)
        if NONE in operation.choices:
            shape = next(iter(made.values())).shape
            made[NONE] = zeros(net, shape, name=NONE)
    return net.mixture(operation, [made[choice] for choice in operation.choices], name=name)


def _partial_mixture(net: Net, x: Output, operation: Open, name: str, *, stride: int) -> Output:
    """Let candidates see a share of the channels, and mix the two parts for the next edge.

    Xu et al. 2020, "PC-DARTS", ICLR, section 3.2. Departures: where an edge halves the image, the
    channels that pass by are pooled by 3x3, not 2x2, and there is no edge normalisation.
    """
    share, channels = operation.partial_channels, x.shape[0] // operation.partial_channels
    seen = net.node("channel_slice", [x], channels=channels, name=f"{name}.seen")
    rest = net.node(
        "channel_slice", [x], start=channels, channels=x.shape[0] - channels, name=f"{name}.rest"
    )
    if stride > 1:
        rest = net.max_pool2d(rest, 3, stride=stride, name=f"{name}.passing")
    whole = Open(operation, operation.gene, operation.choices)
    mixed = _mixture(net, seen, whole, name, stride=stride)
    joined = net.concat(mixed, rest, name=f"{name}.joined")
    return net.node("channel_shuffle", [joined], groups=share, name=f"{name}.shuffled")


def total(net: Net, terms: Sequence[Output], *, name: str) -> Output:
    """Sum of one or more outputs; one alone is itself."""
    return net.add(*terms, name=name) if len(terms) > 1 else terms[0]


def zeros(net: Net, shape: tuple[int, ...], *, name: str) -> Output:
    """Zeros of an image's shape, made from nothing but the network's input."""
    channels, height, width = shape
    return net.node("zero", [net.input], channels=channels, height=height, width=width, name=name)


# The cell of NAS-Bench-201: four states, each fed by all before it.
DENSE_EDGES: tuple[Edge, ...] = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def edge_name(edge: Edge) -> str:
    """Name of an edge's gene."""
    return f"{edge[0]}->{edge[1]}"


def dense_cell(net: Net, x: Output, operations: Mapping[Edge, str]) -> Output:
    """Build a cell of four states; a state sums what its edges bring, and is zero without any.

    Args:
        net: The network being built.
        x: Input of the cell, its state 0.
        operations: A candidate operation or `none` by edge, in the order of `DENSE_EDGES`.

    Returns:
        State 3, of the shape of `x`.
    """
    states = [x]
    for state in (1, 2, 3):
        terms = [
            edge_operation(net, states[edge[0]], operation, edge)
            for edge, operation in operations.items()
            if edge[1] == state and operation != NONE
        ]
        name = f"node{state}"
        states.append(total(net, terms, name=name) if terms else zeros(net, x.shape, name=name))
    return states[-1]


def reached(operations: Mapping[Edge, str]) -> dict[Edge, str]:
    """Return the edges of a `dense_cell` that the cell's input reaches; none if not the output.

    Example:
        >>> reached({(0, 1): "none", (1, 2): "nor_conv_1x1", (0, 3): "avg_pool_3x3"})
        {(0, 3): 'avg_pool_3x3'}
    """
    states = {0}
    edges: dict[Edge, str] = {}
    for edge, operation in operations.items():
        if edge[0] in states and operation != NONE:
            edges[edge] = operation
            states.add(edge[1])
    return edges if 3 in states else {}


def stem(net: Net, channels: int) -> Output:
    """Convolution 3x3 and batch norm, no activation: `(C, H, W) -> (channels, H, W)`."""
    return net.conv2d(net.input, channels, 3, activation="none", name="stem")


def residual_reduction(net: Net, x: Output, channels: int) -> Output:
    """The block between two stages: `(C, H, W) -> (channels, H / 2, W / 2)`, sizes rounded up.

    Two convolutions, each with an activation before and a norm after it, around a shortcut of
    average pooling and a convolution without norm or bias.
    """
    with net.scope("reduction"):
        y = net.conv2d(x, channels, 3, stride=2, preactivation=True, name="conv0")
        y = net.conv2d(y, channels, 3, preactivation=True, name="conv1")
        # 2x2 is the published window; where a side is odd it would leave the last row out.
        window = 3 if x.shape[1] % 2 or x.shape[2] % 2 else 2
        shortcut = net.avg_pool2d(x, window, stride=2, name="pool")
        shortcut = net.node(
            "conv2d", [shortcut], channels=channels, kernel_size=1, norm=False, bias=False,
            activation="none", name="shortcut",
        )  # fmt: skip
        return net.add(y, shortcut, name="add")


def normalised(net: Net, x: Output) -> Output:
    """Batch norm and ReLU, as before the classifier; the shape stays."""
    return net.node("batch_norm", [x], activation="relu", name="norm")


class CellSpace(Space):
    """What the cell spaces are made from: an image and the choices of an edge.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: Number of logits.
        operations: Choices of each edge, simple to complex: `none` and `CANDIDATES`.
        skeleton: Fixed numbers of the network around the cells, by name; 1 or more.

    Raises:
        SettingError: The input is no image, a number is too small, or there is no choice.
        UnknownNameError: An operation is unknown.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        operations: Sequence[str],
        skeleton: Mapping[str, int],
    ) -> None:
        if len(input_shape) != 3:
            raise SettingError(
                f"{self.name} takes images (channels, height, width), got input_shape "
                f"{tuple(input_shape)}; use MLPSpace for vectors, TransformerSpace for sequences."
            )
        if not operations or len(set(operations)) < len(operations):
            raise SettingError(
                f"operations must name each choice once, at least one, got {tuple(operations)}."
            )
        for operation in operations:
            check_name("operation", operation, (NONE, *CANDIDATES))
        for name, value in skeleton.items():
            if not isinstance(value, int) or value < 1:
                raise SettingError(f"{self.name}: {name} must be 1 or more, got {value!r}.")
        self._skeleton = dict(skeleton)
        super().__init__(input_shape, num_classes)
        self.operations = tuple(operations)

    @property
    def fixed(self) -> object:
        """The numbers of the skeleton."""
        return sorted(self._skeleton.items())

    @property
    def operation_genes(self) -> tuple[str, ...]:
        """Names of the genes that pick the operation of an edge, out of `operations`."""
        return tuple(
            name
            for name, gene in self.genes.items()
            if getattr(gene, "choices", None) == self.operations
        )

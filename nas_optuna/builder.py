"""Write an architecture as code: say what is connected to what, shapes and names follow.

Where branches that meet have different shapes, a projection node is inserted; it stands in the
architecture like any other node, so costs, digest and diagram show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from nas_optuna.architecture import INPUT, Architecture, Node, infer_shape
from nas_optuna.errors import ArchitectureError
from nas_optuna.nodes import NodeMethods, Output
from nas_optuna.operations import Setting, Shape, convolved
from nas_optuna.relaxation import SEPARATOR, Open

Candidates = Mapping[str, Callable[[Output], Output]]


class ArchitectureBuilder(NodeMethods):
    """Builds an `Architecture` call by call, like a PyTorch `forward` without the numbers.

    Args:
        input_shape: Shape of one sample without the batch.
        num_classes: Number of logits.
        projection_norm: Whether inserted projections are followed by batch norm.

    Example:
        >>> net = ArchitectureBuilder(input_shape=(1, 8, 8), num_classes=10)
        >>> x = net.conv2d(net.input, 16)
        >>> y = net.conv2d(x, 32, stride=2)
        >>> network = net.build(net.classifier(net.add(y, x)))  # x is projected to y's shape
        >>> [node.name for node in network.nodes]
        ['conv2d0', 'conv2d1', 'add0.projection1', 'add0', 'pool', 'logits']
    """

    def __init__(
        self, input_shape: Sequence[int], num_classes: int = 10, *, projection_norm: bool = True
    ) -> None:
        self.input = Output(INPUT, tuple(input_shape))
        self._num_classes = num_classes
        self._projection_norm = projection_norm
        self._shapes: dict[str, Shape] = {INPUT: self.input.shape}
        self._nodes: list[Node] = []
        self._scope: tuple[str, ...] = ()

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Put `name.` before the names of all nodes made inside the `with` block."""
        outer, self._scope = self._scope, (*self._scope, name)
        try:
            yield
        finally:
            self._scope = outer

    def node(
        self,
        operation: str,
        inputs: Sequence[Output],
        *,
        name: str | None = None,
        **settings: Setting,
    ) -> Output:
        """Add a node of any operation in the table; the named methods of `NodeMethods` call this.

        Args:
            operation: Name in the table of operations.
            inputs: Outputs it takes, in order.
            name: Name within the current scope; by default the operation and a number. Nodes
                with the same name and settings share weights in a supernet.
            **settings: Settings of the operation.

        Raises:
            ArchitectureError: The name is taken, or the operation does not fit.
        """
        full = self._name(operation, name)
        node = Node.make(full, operation, [x.name for x in inputs], settings)
        self._shapes[full] = infer_shape(node, self._shapes)
        self._nodes.append(node)
        return Output(full, self._shapes[full])

    def _name(self, operation: str, name: str | None) -> str:
        if name is not None:
            full = ".".join((*self._scope, name))
            if full in self._shapes:
                raise ArchitectureError(f"Node name {full!r} is taken; names are unique.")
            return full
        number = 0
        while (full := ".".join((*self._scope, f"{operation}{number}"))) in self._shapes:
            number += 1
        return full

    def add(self, *xs: Output, name: str | None = None) -> Output:
        """Sum. Inputs that differ from the first one's shape are projected to it."""
        name = name or self._name("add", None).removeprefix(".".join((*self._scope, "")))
        target = xs[0].shape
        fitted = [
            x if x.shape == target else self.project(x, target, name=f"{name}.projection{i}")
            for i, x in enumerate(xs)
        ]
        return self.node("add", fitted, name=name)

    def concat(self, *xs: Output, name: str | None = None) -> Output:
        """Joined channels. Images of other sizes are pooled to the last one's size first."""
        name = name or self._name("concat", None).removeprefix(".".join((*self._scope, "")))
        fitted = [
            self._align(x, xs[-1].shape, name=f"{name}.alignment{i}") for i, x in enumerate(xs)
        ]
        return self.node("concat", fitted, name=name)

    def project(self, x: Output, shape: Shape, *, name: str) -> Output:
        """Bring `x` to `shape` with as little as does it: 1x1 convolution, pooling, linear map.

        An image becomes a smaller or larger image, a sequence one of other features, and both
        become a vector; a vector becomes another.

        Raises:
            ArchitectureError: There is no such way (a vector has no places to become an image).
        """
        if len(shape) == 1 and len(x.shape) > 1:
            x = self._pooled(x, name=f"{name}.pool")
            return x if x.shape == shape else self.linear(x, shape[0], name=name)
        if len(x.shape) != len(shape) or (x.shape[:-1] != shape[:-1] and len(shape) == 2):
            raise ArchitectureError(
                f"Node {name!r}: shape {x.shape} cannot be projected to {shape}; "
                "connect an earlier node of the same kind."
            )
        if len(shape) < 3:
            return self.linear(x, shape[-1], name=name)
        stride = _stride(x.shape, shape)
        if stride is None:
            x = self.node("resize", [x], name=f"{name}.resize", height=shape[1], width=shape[2])
            if x.shape == shape:
                return x
        return self.conv2d(
            x, shape[0], 1, stride=stride or 1, norm=self._projection_norm, activation="none",
            name=name,
        )  # fmt: skip

    def _align(self, x: Output, shape: Shape, *, name: str) -> Output:
        if len(shape) == 1 and len(x.shape) > 1:
            return self._pooled(x, name=name)
        if len(x.shape) != 3 or x.shape[1:] == shape[1:]:
            return x
        stride = _stride(x.shape, shape)
        if stride is not None:
            # The window covers all that the stride steps over, so that no place is lost.
            return self.avg_pool2d(x, 2 * (stride // 2) + 1, stride=stride, name=name)
        return self.node("resize", [x], name=name, height=shape[1], width=shape[2])

    def _pooled(self, x: Output, *, name: str) -> Output:
        pool = self.global_avg_pool if len(x.shape) == 3 else self.sequence_pool
        return pool(x, name=name)

    def choose(
        self,
        choice: str,
        x: Output,
        candidates: Candidates,
        *,
        name: str,
    ) -> Output:
        """Put the candidate that was chosen on `x`; this marks a gene as a choice of operation.

        A differentiable search answers with an open choice: then all candidates are built, in
        scopes of their own, and a `mixture` node weighs them.

        Args:
            choice: The trial's answer.
            x: What the candidate takes.
            candidates: By answer, what makes the output; all make one shape.
            name: Scope of the candidates' nodes.

        Raises:
            ArchitectureError: There is no such candidate, or they make different shapes.

        Example:
            >>> import optuna
            >>> trial = optuna.trial.FixedTrial({"op": "conv"})
            >>> net = ArchitectureBuilder((1, 8, 8))
            >>> stem = net.conv2d(net.input, 4, name="stem")
            >>> candidates = {
            ...     "skip": lambda x: x,
            ...     "conv": lambda x: net.conv2d(x, 4, name="body"),
            ... }
            >>> op = trial.suggest_categorical("op", list(candidates))
            >>> net.choose(op, stem, candidates, name="block").name
            'block.conv.body'
        """
        if not isinstance(choice, Open):
            return self._candidate(choice, x, candidates, name)
        outputs = [self._candidate(each, x, candidates, name) for each in choice.choices]
        return self.mixture(choice, outputs, name=name)

    def _candidate(
        self,
        choice: str,
        x: Output,
        candidates: Mapping[str, Callable[[Output], Output]],
        name: str,
    ) -> Output:
        if choice not in candidates:
            raise ArchitectureError(
                f"{name!r} has no candidate {choice!r}; there are {', '.join(candidates)}."
            )
        with self.scope(name), self.scope(choice):
            return candidates[choice](x)

    def mixture(self, choice: Open, outputs: Sequence[Output], *, name: str) -> Output:
        """Weigh the outputs of all answers to an open choice, in the order of its choices."""
        return self.node(
            "mixture", outputs, name=f"{name}.mixture", gene=choice.gene,
            choices=SEPARATOR.join(choice.choices),
        )  # fmt: skip

    def classifier(self, x: Output) -> Output:
        """The head: the mean over places or steps, if there are any, and a linear map."""
        if len(x.shape) > 1:
            x = self._pooled(x, name="pool")
        return self.linear(x, self._num_classes, name="logits")

    def build(self, output: Output, *, keep_dead: bool = False) -> Architecture:
        """Return the architecture whose logits are `output`.

        Args:
            output: Returned by `classifier`, or any vector of `num_classes` values.
            keep_dead: Whether nodes that `output` does not depend on stay (they cost parameters
                and change nothing); by default they are left out.

        Raises:
            ArchitectureError: `output` is not a vector of `num_classes` values.
        """
        names = [node.name for node in self._nodes]
        nodes = self._nodes[: names.index(output.name) + 1]
        if not keep_dead:
            nodes = _ancestors(nodes)
        return Architecture(tuple(nodes), self.input.shape, self._num_classes)


def _ancestors(nodes: Sequence[Node]) -> list[Node]:
    live = {nodes[-1].name}
    for node in reversed(nodes):
        if node.name in live:
            live.update(node.inputs)
    return [node for node in nodes if node.name in live]


def _stride(shape: Shape, target: Shape) -> int | None:
    """The stride that takes an image of `shape` to the height and width of `target`, if any."""
    for stride in range(1, max(shape[1:]) + 1):
        size = tuple(convolved(side, 1, stride) for side in shape[1:])
        if size == target[1:]:
            return stride
        if min(size) < min(target[1:]) and max(size) < max(target[1:]):
            break
    return None

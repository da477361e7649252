"""The NAS-Bench-201 space: one cell of six edges, in the published skeleton (Dong & Yang 2020).

    stem -> N cells -> reduction -> N cells -> reduction -> N cells -> norm -> pool -> logits

Dong & Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search",
ICLR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.trial import BaseTrial

from nas_optuna.architecture import Architecture
from nas_optuna.builder import ArchitectureBuilder
from nas_optuna.relaxation import NONE
from nas_optuna.spaces.cell import (
    DENSE_EDGES,
    CellSpace,
    dense_cell,
    edge_name,
    normalised,
    residual_reduction,
    stem,
)

OPERATIONS = (NONE, "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_STAGES = 3


class NASBench201Space(CellSpace):
    """The 15,625 cells of NAS-Bench-201; six genes, one per edge.

    With the default settings the parameters of each network are the published ones: operations
    that do not reach the output are built and counted too, as they are in the benchmark.

    The digest tells 5,875 different networks apart. The published number is 6,466, which counts
    strings; see `published_class`.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: Number of logits.
        channels: Channels of the first stage; each further one has twice as many.
        cells_per_stage: Cells in each of the three stages.
        operations: Choices of each edge; the published ones by default.

    Raises:
        SettingError: A setting is out of its range.
        UnknownNameError: An operation is unknown.

    Example:
        >>> from nas_optuna.models import cost
        >>> space = NASBench201Space()
        >>> list(space.genes), space.size
        (['0->1', '0->2', '1->2', '0->3', '1->3', '2->3'], 15625)
        >>> cost(space.architecture(dict.fromkeys(space.genes, "nor_conv_3x3"))).parameters
        1531546
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 10,
        *,
        channels: int = 16,
        cells_per_stage: int = 5,
        operations: Sequence[str] = OPERATIONS,
    ) -> None:
        skeleton = {"channels": channels, "cells_per_stage": cells_per_stage}
        super().__init__(input_shape, num_classes, operations, skeleton)
        self.channels = channels
        self.cells_per_stage = cells_per_stage

    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask for the operation of each edge, then stack the cells."""
        chosen = {
            edge: trial.suggest_categorical(edge_name(edge), self.operations)
            for edge in DENSE_EDGES
        }
        net = ArchitectureBuilder(self.input_shape, self.num_classes)
        x = stem(net, self.channels)
        for stage in range(_STAGES):
            with net.scope(f"stage{stage}"):
                if stage:
                    x = residual_reduction(net, x, self.channels * 2**stage)
                for cell in range(self.cells_per_stage):
                    with net.scope(f"cell{cell}"):
                        x = dense_cell(net, x, chosen)
        return net.build(net.classifier(normalised(net, x)), keep_dead=True)

    @staticmethod
    def published_class(params: Mapping[str, str]) -> str:
        """The benchmark's own name for what a cell computes; there are 6,466.

        It is the string of `to_unique_str(consider_zero=True)` in the authors' code. It differs
        from the digest in two ways. It tells some equal cells apart, since it writes a zero for
        each missing edge and keeps sums within sums. And it equates some different ones: a
        convolution that is used twice reads like two convolutions.

        Args:
            params: A genome over the published operations.

        Example:
            >>> genome = dict.fromkeys(["0->1", "0->2", "1->2", "0->3", "1->3", "2->3"], "none")
            >>> NASBench201Space.published_class({**genome, "0->3": "nor_conv_1x1"})
            '#+#+(0)@nor_conv_1x1'
        """
        states = {0: "0"}
        for state in (1, 2, 3):
            terms = [
                _published_term(states[edge[0]], params[edge_name(edge)])
                for edge in DENSE_EDGES
                if edge[1] == state
            ]
            states[state] = "+".join(sorted(terms))
        return states[3]


def _published_term(state: str, operation: str) -> str:
    if operation == NONE or state == "#":
        return "#"
    return state if operation == "skip_connect" else f"({state})@{operation}"

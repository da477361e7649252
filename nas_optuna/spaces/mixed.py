"""Mixed space: how many stages, how deep, how wide (macro), and what a cell is inside (micro).

    stem -> stage0 -> reduction -> stage1 -> reduction -> ... -> norm -> pool -> logits

A stage is a row of cells of one width; all cells of the network are the same inside, with the four
states and six edges of NAS-Bench-201.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import BaseTrial

from nas_optuna.architecture import Architecture
from nas_optuna.builder import ArchitectureBuilder
from nas_optuna.errors import SettingError
from nas_optuna.relaxation import NONE
from nas_optuna.spaces.cell import (
    DENSE_EDGES,
    CellSpace,
    dense_cell,
    edge_name,
    normalised,
    reached,
    residual_reduction,
    stem,
)
from nas_optuna.spaces.variation import Chain

OPERATIONS = (
    NONE, "skip_connect", "max_pool_3x3", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3",
    "sep_conv_3x3", "dil_conv_3x3",
)  # fmt: skip


class MixedSpace(CellSpace):
    """Networks of one to `max_stages` stages of cells, their number, width and inside open.

    One cell serves all stages. Six genes then decide the inside of every cell, few enough for a
    budget of some hundred trials to learn, and each is felt in the whole network; what the stages
    need of their own they have in width and depth.

    Genes of stages beyond the last are asked and ignored. Edges that nothing reaches are left out,
    and so are all cells if no edge leads through them: the network is then its stem and
    reductions.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: Number of logits.
        min_stages: Fewest stages.
        max_stages: Most stages; between two of them the image is halved.
        max_cells: Most cells in a stage.
        widths: Choices of a stage's channels.
        operations: Choices of each edge, simple to complex.

    Raises:
        SettingError: A setting is out of its range.
        UnknownNameError: An operation is unknown.

    Example:
        >>> import numpy as np
        >>> space = MixedSpace((1, 8, 8), 10, max_stages=2, max_cells=3, widths=(8, 16))
        >>> list(space.genes)[:5]
        ['stages', 'stage0.cells', 'stage0.width', 'stage1.cells', 'stage1.width']
        >>> space.architecture(space.sample(np.random.default_rng(0))).shapes["logits"]
        (10,)
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        min_stages: int = 1,
        max_stages: int = 3,
        max_cells: int = 5,
        widths: Sequence[int] = (8, 16, 24, 32, 48, 64),
        operations: Sequence[str] = OPERATIONS,
    ) -> None:
        skeleton = {"min_stages": min_stages, "max_stages": max_stages, "max_cells": max_cells}
        super().__init__(input_shape, num_classes, operations, skeleton)
        if min_stages > max_stages:
            raise SettingError(
                f"min_stages must be at most max_stages, got {min_stages} and {max_stages}."
            )
        if not widths or min(widths) < 1:
            raise SettingError(f"widths must be 1 or more, at least one, got {tuple(widths)}.")
        self.min_stages = min_stages
        self.max_stages = max_stages
        self.max_cells = max_cells
        self.widths = tuple(widths)

    @property
    def chains(self) -> tuple[Chain, ...]:
        """The stages."""
        return (Chain("stages", "stage"),)

    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask all questions, then put the stages together."""
        depth = trial.suggest_int("stages", self.min_stages, self.max_stages)
        stages = [self._ask_stage(trial, i) for i in range(self.max_stages)]
        edges = reached(
            {
                edge: trial.suggest_categorical(edge_name(edge), self.operations)
                for edge in DENSE_EDGES
            }
        )
        net = ArchitectureBuilder(self.input_shape, self.num_classes)
        x = stem(net, stages[0][1])
        for i, (cells, width) in enumerate(stages[:depth]):
            with net.scope(f"stage{i}"):
                if i:
                    x = residual_reduction(net, x, width)
                for cell in range(cells if edges else 0):
                    with net.scope(f"cell{cell}"):
                        x = dense_cell(net, x, edges)
                if i == depth - 1:
                    x = normalised(net, x)
        return net.build(net.classifier(x))

    def _ask_stage(self, trial: BaseTrial, i: int) -> tuple[int, int]:
        """Ask for a stage's number of cells and width."""
        cells = trial.suggest_int(f"stage{i}.cells", 1, self.max_cells)
        return cells, trial.suggest_categorical(f"stage{i}.width", self.widths)

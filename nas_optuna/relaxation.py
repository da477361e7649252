"""Choices left open: what a differentiable search answers, so that all candidates are built.

A space asks which operation stands at a place, and hands the answer to
`ArchitectureBuilder.choose`. A `RelaxedTrial` answers with an `Open` choice, for which `choose`
builds every candidate and a `mixture` node that weighs them. The same space then describes one
network that holds all of them: what DARTS trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from optuna.trial import FixedTrial

from nas_optuna.architecture import Architecture

NONE = "none"  # the choice of no operation at all
SEPARATOR = "|"


class Open(str):
    """An answer that is not settled: it reads like one choice, and knows all of them.

    Args:
        choice: What it is taken for by code that does not know of open choices.
        gene: The question.
        choices: All answers, in the order of the question.
        partial_channels: Candidates see one in so many of the channels; see `RelaxedTrial`.

    Example:
        >>> answer = Open("conv", "edge", ("skip", "conv"))
        >>> answer == "conv", answer.gene, answer.choices
        (True, 'edge', ('skip', 'conv'))
    """

    __slots__ = ("choices", "gene", "partial_channels")

    gene: str
    choices: tuple[str, ...]
    partial_channels: int

    def __new__(
        cls, choice: str, gene: str, choices: Sequence[str], partial_channels: int = 1
    ) -> Self:
        """Make the string that carries the question."""
        made = super().__new__(cls, choice)
        made.gene, made.choices = gene, tuple(choices)
        made.partial_channels = partial_channels
        return made


class RelaxedTrial(FixedTrial):
    """Answers as a genome does, but leaves open the choices among names.

    Args:
        params: A genome, for all questions but the open ones.
        closed: Questions to answer as `params` does in any case.
        partial_channels: K: on an edge of a cell, the candidates see one channel in K, and the
            others pass by (Xu et al. 2020, "PC-DARTS", ICLR); where K does not divide the
            channels, all are seen.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        closed: frozenset[str] = frozenset(),
        partial_channels: int = 1,
    ) -> None:
        super().__init__(dict(params))
        self._closed = closed
        self._partial_channels = partial_channels

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return an open choice, which reads like the last, most complex one."""
        names = all(isinstance(choice, str) for choice in choices)
        if name in self._closed or len(choices) < 2 or not names:
            return super().suggest_categorical(name, choices)
        return Open(choices[-1], name, choices, self._partial_channels)


def open_choices(architecture: Architecture) -> dict[str, tuple[str, ...]]:
    """The answers to each choice that an architecture leaves open, by gene; mostly none."""
    return {
        str(node.complete()["gene"]): tuple(str(node.complete()["choices"]).split(SEPARATOR))
        for node in architecture.nodes
        if node.operation == "mixture"
    }

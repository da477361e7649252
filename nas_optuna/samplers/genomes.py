"""The genomes of a study: what its trials were asked, what they answered, and what is being tried.

A strategy that varies genomes needs a space to do it in. Where there is none, `Recorded` takes
its place: it knows only the questions that earlier trials were asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.recording import FINISHED
from nas_optuna.spaces import variation
from nas_optuna.spaces.drawing import Params, cardinality, contains, draw
from nas_optuna.spaces.variation import Chain, GeneticSpace

INTENDED = "nas:proposal:genome"  # system attribute: what a trial is to try
Answers = tuple[tuple[str, ...], tuple[Any, ...]]
"""The names of questions, and the answers to them in the same order."""


class Genetics(GeneticSpace, Protocol):
    """What evolution asks of a space; any `nas_optuna.spaces.Space` has it."""

    def sample(self, rng: np.random.Generator) -> Params:
        """Draw a genome at random."""

    def mutate(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Return a genome one change away."""

    def crossover(
        self, a: Mapping[str, Any], b: Mapping[str, Any], rng: np.random.Generator
    ) -> Params:
        """Return a child of two genomes."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The questions that trials were asked, as a space.

    Its genomes may answer more questions than a trial will ask. So what one branch of a
    conditional function needs is inherited also from a parent that took another branch.

    Args:
        genes: The questions, by name.

    Example:
        >>> from optuna.distributions import IntDistribution
        >>> space = Recorded({"depth": IntDistribution(1, 2), "width": IntDistribution(1, 9)})
        >>> a, b = {"depth": 1}, {"depth": 1, "width": 5}
        >>> space.crossover(a, b, np.random.default_rng(0))
        {'depth': 1, 'width': 5}
    """

    genes: Mapping[str, BaseDistribution]

    @property
    def name(self) -> str:
        """Name, for messages."""
        return "the study"

    @property
    def chains(self) -> tuple[Chain, ...]:
        """None is known."""
        return ()

    def sample(self, rng: np.random.Generator) -> Params:
        """Draw an answer to every question."""
        # Sorted, since the order in which questions came up is another one after a restart.
        return {name: draw(gene, rng) for name, gene in sorted(self.genes.items())}

    def complete(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Answer every question: as `params` does where its answer is in range, else at random."""
        return self.sample(rng) | _Partial(self.genes).complete(params, rng)

    def mutate(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Give one question of `params` another answer; the same if none has another."""
        among = [name for name in params if name in self.genes]
        return variation.change_gene(_Partial(self.genes), params, rng, among) or dict(params)

    def crossover(
        self, a: Mapping[str, Any], b: Mapping[str, Any], rng: np.random.Generator
    ) -> Params:
        """Take each answer from one of two genomes, or from the one that has it."""
        return variation.crossover(_Partial(self.genes), a, b, rng)


@dataclass(frozen=True, slots=True)
class _Partial:
    """Questions as a space in which a genome need not answer all of them.

    Variation in it changes nothing but what parents were asked.
    """

    genes: Mapping[str, BaseDistribution]
    name: str = "the study"
    chains: tuple[Chain, ...] = ()

    def complete(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Leave out what is out of range."""
        genes = self.genes
        return {
            name: value
            for name, value in params.items()
            if name in genes and contains(genes[name], value)
        }


@dataclass(slots=True)
class Known:
    """Genomes that were tried or are being tried.

    A genome is known if it holds all answers of a trial: the same answers lead to the same
    questions, so that the trial would repeat itself.

    Example:
        >>> known = Known()
        >>> known.add(answers({"depth": 1}))
        >>> {"depth": 1, "width": 5} in known, {"depth": 2, "width": 5} in known
        (True, False)
    """

    by_names: dict[tuple[str, ...], set[tuple[Any, ...]]] = field(default_factory=dict)

    def add(self, told: Answers) -> None:
        """Add a genome; one without an answer is left out."""
        names, values = told
        if names:
            self.by_names.setdefault(names, set()).add(values)

    def __contains__(self, genome: Mapping[str, Any]) -> bool:
        return any(
            all(name in genome for name in names)
            and tuple(genome[name] for name in names) in values
            for names, values in self.by_names.items()
        )


def answers(params: Mapping[str, Any], genes: GeneticSpace | None = None) -> Answers:
    """Return the answers that count, sorted by the name of the question.

    Args:
        params: A genome.
        genes: The space, if it is known; it tells which layers are switched off.
    """
    names = tuple(sorted(params if genes is None else variation.live_genes(genes, params)))
    return names, tuple(params[name] for name in names)


def intended(trial: FrozenTrial) -> Params:
    """Return what a trial is to try, as its strategy or who enqueued it said; empty if unknown."""
    attrs = trial.system_attrs
    return dict(attrs.get(INTENDED) or attrs.get("fixed_params") or {})


def at_work(study: Study, trial: FrozenTrial, knows: Callable[[int], bool]) -> list[FrozenTrial]:
    """Return other trials that run, or have finished since a strategy read the study.

    They are read anew: what a sampler reads is as old as its trial, since Optuna keeps it.

    Args:
        study: The study.
        trial: The trial that is being asked for.
        knows: Whether the strategy has read a finished trial, by its number.
    """
    return [
        other
        for other in study.get_trials(deepcopy=False)
        if other.number != trial.number
        and (
            other.state is TrialState.RUNNING
            or (other.state in FINISHED and not knows(other.number))
        )
    ]


def is_open(genes: Mapping[str, BaseDistribution]) -> bool:
    """Whether any question has more than one answer."""
    return any(cardinality(gene) > 1 for gene in genes.values())

"""What every search space can do, whoever wrote it: a function that asks a trial and returns.

A space is define-by-run code: called with a trial it asks its questions (genes) and returns an
`Architecture`. All else is found by running that code: which genes there are, how large the space
is, a random member, the neighbours of one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import BaseTrial, FixedTrial

from nas_optuna.architecture import Architecture
from nas_optuna.errors import NasOptunaError, SpaceError
from nas_optuna.relaxation import RelaxedTrial, open_choices
from nas_optuna.spaces import variation
from nas_optuna.spaces.drawing import DrawingTrial, Params, cardinality, contains, draw

_RECORDINGS = 8  # runs from random answers that tell whether the questions change
_TURNS = 16  # and runs that give every answer once, as far as that takes no more than so many

# What code raises whose network does not fit together. A slip of the pen in the user's code
# (NameError, AttributeError, ImportError, ...) is none of these and ends the search at once.
UNBUILDABLE = (
    NasOptunaError, RuntimeError, ValueError, TypeError, IndexError, ArithmeticError,
    AssertionError,
)  # fmt: skip

_logger = logging.getLogger(__name__)


class Space(ABC):
    """A search space: called with a trial, it returns what the trial's answers describe.

    Subclasses write `__call__`; it asks the same questions in every call wherever it can (a gene
    that another switches off is asked and ignored), lists choices from simple to complex, and
    uses only strings, numbers and booleans as choices. Samplers rely on the first, progressive
    search on the second, every database on the third.

    Args:
        input_shape: Shape of one sample without the batch.
        num_classes: Number of logits.
    """

    _told = False  # whether it was said that the space is conditional

    def __init__(self, input_shape: Sequence[int], num_classes: int) -> None:
        self._input_shape = tuple(input_shape)
        self._num_classes = num_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample without the batch."""
        return self._input_shape

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self._num_classes

    @abstractmethod
    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask the trial and return an architecture."""

    @property
    def name(self) -> str:
        """Name shown in tables."""
        return type(self).__name__

    @cached_property
    def _recorded(self) -> tuple[dict[str, BaseDistribution], bool]:
        """All genes seen in a few runs, and whether some run asked only part of them."""
        genes: dict[str, BaseDistribution] = {}
        runs: list[dict[str, BaseDistribution]] = []  # that came to an end
        turns: list[int | None] = [None] * _RECORDINGS
        for seed, turn in enumerate(chain(turns, range(_TURNS))):
            if turn is not None and turn >= max(map(cardinality, genes.values()), default=0):
                break
            trial = DrawingTrial({}, np.random.default_rng(seed), turn=turn)
            if self._ask(trial):
                runs.append(trial.distributions)
            genes |= trial.distributions
        common = set(genes).intersection(*runs)
        sometimes = [name for name in genes if name not in common]
        if sometimes and not self._told:
            self._told = True
            _logger.warning(
                "%s asks other questions from run to run: %d always, %d only sometimes (%s%s). "
                "Optuna's NSGA-II evolves only the first, and draws the others at random; TPE "
                "learns less of each; nsga2 of this package evolves all. Ask all in every run "
                "where you can, and ignore the answers that are not needed.",
                self.name,
                len(common),
                len(sometimes),
                ", ".join(sometimes[:5]),
                ", ..." if len(sometimes) > 5 else "",
            )
        return genes, bool(sometimes)

    def _ask(self, trial: BaseTrial) -> bool:
        """Ask all questions; return whether it came to the last one.

        What comes out does not matter. A network that cannot be built is told by the objective.
        """
        try:
            self(trial)
        except UNBUILDABLE:
            return False
        return True

    @property
    def genes(self) -> dict[str, BaseDistribution]:
        """The questions it asks, by name, in order."""
        return self._recorded[0]

    @property
    def conditional(self) -> bool:
        """Whether its questions change from run to run.

        Such a space is searched worse: Optuna's NSGA-II evolves only the questions that all trials
        have in common, so that it is hardly better than random search, and TPE loses part of its
        lead; the strategy `nsga2` evolves them all. Asking all questions always, and ignoring some
        answers, costs nothing. A space that is so is told it once, in the log.
        """
        return self._recorded[1]

    @property
    def size(self) -> float:
        """Number of genomes (an upper bound if conditional); infinite with a continuous gene."""
        return math.prod(cardinality(gene) for gene in self.genes.values())

    @property
    def fixed(self) -> object:
        """What shapes the networks and is no gene, with a stable `str`; None if nothing does."""
        return None

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of questions, shapes and `fixed`; a study is resumed only with the same."""
        genes = {name: distribution_to_json(gene) for name, gene in sorted(self.genes.items())}
        digest = _digest(json.dumps([self.name, self.input_shape, self.num_classes, genes]))
        return digest if self.fixed is None else _digest(f"{digest} {self.fixed}")

    def architecture(self, params: Mapping[str, Any]) -> Architecture:
        """Return the architecture of a genome.

        Args:
            params: Answers by gene name, as in `trial.params`.

        Raises:
            SpaceError: A gene is missing or has a value that is not among its choices.
        """
        try:
            return self(FixedTrial(dict(params)))
        except ValueError as error:
            raise SpaceError(
                f"{self.name}: {error}; pass a value for every gene of `genes`."
            ) from error

    def sample(self, rng: np.random.Generator) -> Params:
        """Draw a genome at random, every gene uniformly (log-uniformly if it is so declared)."""
        return self.complete({}, rng)

    def complete(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Return the genome that answers as `params` does, and at random where it is asked more.

        Answers that are not asked for are dropped, and those out of range drawn anew.
        """
        if not self.conditional:
            return {
                name: params[name]
                if name in params and contains(gene, params[name])
                else draw(gene, rng)
                for name, gene in self.genes.items()
            }
        trial = DrawingTrial(params, rng)
        self._ask(trial)
        return trial.params

    @property
    def chains(self) -> tuple[variation.Chain, ...]:
        """Rows of layers in a genome, where one can be inserted or removed; mostly none."""
        return ()

    def neighbours(self, params: Mapping[str, Any]) -> Iterator[Params]:
        """Go through all genomes that differ from `params` in one gene with finitely many values.

        Args:
            params: A genome.
        """
        return variation.neighbours(self, params)

    def mutate(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Return a genome one change away; the kind of change is drawn from those that apply.

        Args:
            params: A genome.
            rng: Source of the draws.

        Raises:
            SpaceError: Nothing in the space can change.
        """
        kinds = (self.change_gene, self.insert_layer, self.remove_layer, self.rewire)
        for i in rng.permutation(len(kinds)):
            mutant = kinds[int(i)](params, rng)
            if mutant is not None:
                return mutant
        raise SpaceError(f"{self.name} has no gene with more than one choice to change.")

    def change_gene(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params | None:
        """Give one gene another value, one that counts; None if there is none with another."""
        live = variation.live_genes(self, params)
        return variation.change_gene(self, params, rng, live)

    def insert_layer(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params | None:
        """Put a random layer between two of a chain; None if there is no room for one."""
        return variation.insert_layer(self, params, rng)

    def remove_layer(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params | None:
        """Take a layer out of a chain; None if there is none to spare."""
        return variation.remove_layer(self, params, rng)

    def rewire(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params | None:
        """Change what one layer is connected to; None if the space has no such genes."""
        return None

    def crossover(
        self, a: Mapping[str, Any], b: Mapping[str, Any], rng: np.random.Generator
    ) -> Params:
        """Return a child of two genomes: each layer, or gene without a layer, from one of them."""
        return variation.crossover(self, a, b, rng)

    def derive(self, logits: Mapping[str, Mapping[str, float]]) -> Params:
        """Return the answers that a relaxed search prefers: the largest logit of each choice.

        Args:
            logits: By open choice of `relaxed`, the logit of each answer.
        """
        return {gene: max(of, key=of.__getitem__) for gene, of in logits.items()}

    def relaxed(self, params: Mapping[str, Any], partial_channels: int = 1) -> Architecture | None:
        """Return the network that holds all candidates of each choice of an operation.

        Such choices are those that `ArchitectureBuilder.choose` is given. All other questions
        are answered as `params` does.

        Args:
            params: A genome.
            partial_channels: On an edge of a cell, candidates see one channel in so many; see
                `nas_optuna.relaxation.RelaxedTrial`. Other choices see all channels.

        Returns:
            A network with a `mixture` node for each place of a choice; None if there is none.
        """
        first = self(RelaxedTrial(params))  # reads each choice among names as its last
        opened = open_choices(first) if isinstance(first, Architecture) else {}
        if not opened:
            return None
        closed = frozenset(self.genes) - set(opened)
        return self(RelaxedTrial(params, closed, partial_channels))

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.genes)} genes, {self.size:.3g} genomes>"


class FunctionSpace(Space):
    """A user's function `trial -> Architecture` or `trial -> nn.Module` as a space.

    Args:
        function: Asks the trial and returns an `Architecture` or a PyTorch module.
        input_shape: Shape of one sample without the batch.
        num_classes: Number of logits.

    Example:
        >>> from nas_optuna import ArchitectureBuilder
        >>> def network(trial):
        ...     net = ArchitectureBuilder((1, 8, 8), num_classes=10)
        ...     x = net.conv2d(net.input, trial.suggest_categorical("width", [8, 16]))
        ...     return net.build(net.classifier(x))
        >>> FunctionSpace(network, input_shape=(1, 8, 8), num_classes=10).size
        2
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
    ) -> None:
        self.function = function
        super().__init__(input_shape, num_classes)
        self._asked: frozenset[str] | None = None  # in the first run
        self._watched = False

    @property
    def name(self) -> str:
        """Name of the function."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def _ask(self, trial: BaseTrial) -> bool:
        """As in any space, but without weights where the function makes a module."""
        torch = sys.modules.get("torch")
        if torch is not None:
            with torch.device("meta"):
                if super()._ask(trial):
                    return True
        return super()._ask(trial)  # it may need numbers to build the module; same answers again

    def __call__(self, trial: BaseTrial) -> Any:
        """Ask the trial; returns an `Architecture` or a module, as the function does."""
        made = self.function(trial)
        asked = frozenset(trial.params)
        if self._asked is None:
            self._asked = asked
        elif asked != self._asked and not self._watched:
            self._watched = True
            _ = self.conditional  # says so, where nobody asked yet
        return made


def as_space(
    space: Space | Callable[[Any], Any], *, input_shape: tuple[int, ...], num_classes: int
) -> Space:
    """Return `space` itself, or a user's function wrapped as a space."""
    if isinstance(space, Space):
        return space
    return FunctionSpace(space, input_shape=input_shape, num_classes=num_classes)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

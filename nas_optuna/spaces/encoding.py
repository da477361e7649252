"""A network as named numbers, for predictors: its genes, and what its graph looks like.

The numbers of the graph are the same for isomorphic graphs, and know no dead nodes, identities or
zeros: operations, the chains of two and three of them (a cut-down path encoding), and how long and
how many the paths from input to output are. They are few also where paths are many.

White et al. 2020, "A Study on Encodings for Neural Architecture Search", NeurIPS: path encoding.
Ru et al. 2021, "Interpretable Neural Architecture Search via Bayesian Optimisation with
Weisfeiler-Lehman Kernels", ICLR: counts of small subgraphs instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution

from nas_optuna.architecture import INPUT, Architecture, Node
from nas_optuna.operations import operation
from nas_optuna.spaces.variation import GeneticSpace, live_genes

Encoding = dict[str, float]
_CHAIN = 3  # operations in the longest chain; four rank hardly better and are three times as many
_OUTPUT = "output"


def encode(
    space: GeneticSpace,
    params: Mapping[str, Any],
    architecture: Architecture | None = None,
    costs: Mapping[str, float] | None = None,
) -> Encoding:
    """Describe a network by named numbers; a name that is absent stands for 0.

    Args:
        space: Whose genes `params` answers.
        params: The genome. A number is its own feature, or its logarithm where the gene is
            logarithmic; of other choices each is a feature, 1 if it was chosen. Genes that are
            switched off are left out.
        architecture: What the space made of it; None for a module of the user's own.
        costs: Numbers known without training, such as parameters and FLOPs; taken as logarithms.

    Example:
        >>> from nas_optuna.spaces import NASBench201Space
        >>> space = NASBench201Space(cells_per_stage=1)
        >>> genome = dict.fromkeys(space.genes, "none") | {"0->3": "nor_conv_1x1"}
        >>> encoding = encode(space, genome, space.architecture(genome))
        >>> encoding["gene 0->3=nor_conv_1x1"], encoding["chain conv2d1"], encoding["longest"]
        (1.0, 5.0, 9.0)
    """
    encoding = _genes(space, params)
    for name, value in (costs or {}).items():
        encoding[f"log {name}"] = math.log1p(max(value, 0.0))
    if architecture is not None:
        encoding |= _graph(architecture)
    return encoding


def _genes(space: GeneticSpace, params: Mapping[str, Any]) -> Encoding:
    encoding: Encoding = {}
    for name in live_genes(space, params):
        gene, value = space.genes[name], params[name]
        choices = gene.choices if isinstance(gene, CategoricalDistribution) else ()
        ordinal = all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices)
        if ordinal:
            encoding[f"gene {name}"] = math.log(value) if getattr(gene, "log", False) else value
        else:
            encoding[f"gene {name}={value}"] = 1.0
    return encoding


@dataclass(frozen=True, slots=True)
class _Term:
    """An operation that is left after folding, and the terms whose sum it takes."""

    token: str
    layer: bool  # whether it counts towards the length of a path
    inputs: tuple[int, ...]


def _graph(architecture: Architecture) -> Encoding:
    terms = _terms(architecture)
    live = _live(terms)
    encoding: Counter[str] = Counter()
    chains: dict[int, Counter[tuple[str, ...]]] = {}
    for i in live:
        ending: Counter[tuple[str, ...]] = Counter({(terms[i].token,): 1})
        for source in terms[i].inputs:
            for chain, count in chains[source].items():
                if len(chain) < _CHAIN:
                    ending[(*chain, terms[i].token)] += count
        chains[i] = ending
        for chain, count in ending.items():
            encoding[f"chain {' > '.join(chain)}"] += count
    return {name: float(count) for name, count in encoding.items()} | _paths(terms, live)


def _terms(architecture: Architecture) -> list[_Term]:
    """Fold identities, zeros and sums; the first term is the input, the last the output."""
    terms = [_Term(INPUT, layer=False, inputs=())]
    values: dict[str, tuple[int, ...]] = {INPUT: (0,)}
    for node in architecture.nodes:
        kind = operation(node.operation)
        inputs = tuple(dict.fromkeys(term for name in node.inputs for term in values[name]))
        if kind.folds == "zero" or (kind.folds == "linear" and not inputs):
            values[node.name] = ()
        elif kind.folds in ("identity", "sum"):
            values[node.name] = inputs
        else:
            values[node.name] = (len(terms),)
            terms.append(_Term(_token(node), kind.weighted and kind.layer, inputs))
    output = values[architecture.nodes[-1].name]
    return [*terms, _Term(_OUTPUT, layer=False, inputs=output)]


def _token(node: Node) -> str:
    """An operation and the side of its kernel; other settings are among the genes and costs."""
    return f"{node.operation}{node.complete().get('kernel_size', '')}"


def _live(terms: list[_Term]) -> list[int]:
    live = {len(terms) - 1}
    for i in reversed(range(len(terms))):
        if i in live:
            live.update(terms[i].inputs)
    return sorted(live)


def _paths(terms: list[_Term], live: list[int]) -> Encoding:
    """Length in layers of the longest, shortest and average path, and how many there are."""
    longest: dict[int, float] = {}
    shortest: dict[int, float] = {}
    mean: dict[int, float] = {}
    count: dict[int, float] = {}
    for i in live:
        own, sources = float(terms[i].layer), terms[i].inputs
        count[i] = sum(count[s] for s in sources) if sources else 1.0
        longest[i] = own + max((longest[s] for s in sources), default=0.0)
        shortest[i] = own + min((shortest[s] for s in sources), default=0.0)
        mean[i] = own + sum(count[s] * mean[s] for s in sources) / count[i]
    last = live[-1]
    return {
        "longest": longest[last],
        "shortest": shortest[last],
        "mean length": mean[last],
        "log paths": math.log(count[last]),
    }

"""Genomes as matrices, one for each kind of feature: the encoding that a surrogate compares.

The groups are the genes, the operations, the chains of two and of three operations, and the
lengths of the paths (see `nas_optuna.spaces.encoding`). All but the genes are equal for isomorphic
networks. A warm start adds a group: what an older study says of a genome.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas_optuna.architecture import Architecture
from nas_optuna.samplers.gaussian import FloatArray
from nas_optuna.spaces import UNBUILDABLE, Space
from nas_optuna.spaces.encoding import encode
from nas_optuna.spaces.variation import GeneticSpace

GROUPS = ("gene", "chain1", "chain2", "chain3", "shape")
_KEPT = 4096  # encodings in memory
_PROBES = 8  # genomes that tell whether a space makes architectures
Grouped = dict[str, dict[str, float]]


class Encoder:
    """Encodes the genomes of a space, each once as long as it is remembered.

    Args:
        space: The space. One that knows no architecture, or makes PyTorch modules, which take too
            long to make, is encoded by its genes alone.

    Example:
        >>> from nas_optuna.spaces import NASBench201Space
        >>> space = NASBench201Space(cells_per_stage=1)
        >>> genome = dict.fromkeys(space.genes, "none")
        >>> a, b = genome | {"0->1": "skip_connect"}, genome | {"0->2": "avg_pool_3x3"}
        >>> [len(np.unique(group, axis=0)) for group in Encoder(space).matrices([a, b])]
        [2, 1, 1, 1, 1]
    """

    def __init__(self, space: GeneticSpace) -> None:
        self._space = space
        self._builder = space if isinstance(space, Space) and _makes_graphs(space) else None
        self._encodings: OrderedDict[tuple[Any, ...], Grouped] = OrderedDict()

    def matrices(self, genomes: Sequence[Mapping[str, Any]]) -> list[FloatArray]:
        """Return the features of genomes, `(n, d)` for each group that has any."""
        encodings = [self._encode(genome) for genome in genomes]
        found = []
        for group in GROUPS:
            rows = [encoding[group] for encoding in encodings]
            places = {name: i for i, name in enumerate(sorted(set().union(*rows)))}
            matrix = np.zeros((len(rows), len(places)))
            for row, encoding in zip(matrix, rows, strict=True):
                row[[places[name] for name in encoding]] = list(encoding.values())
            found.append(matrix)
        return [matrix for matrix in found if matrix.size]

    def digest(self, genome: Mapping[str, Any]) -> str | None:
        """Return the canonical digest of what the space makes of a genome; None if unknown."""
        architecture = _architecture(self._builder, genome)
        return None if architecture is None else architecture.digest

    def _encode(self, genome: Mapping[str, Any]) -> Grouped:
        key = tuple(sorted(genome.items()))
        if key not in self._encodings:
            self._encodings[key] = _grouped(
                encode(self._space, genome, _architecture(self._builder, genome))
            )
            if len(self._encodings) > _KEPT:
                self._encodings.popitem(last=False)
        self._encodings.move_to_end(key)
        return self._encodings[key]


def scaled(groups: Sequence[FloatArray], told: int) -> tuple[list[FloatArray], list[FloatArray]]:
    """Scale features so that two told genomes lie at a distance of about 1 in each group.

    Features that are equal in all told genomes are left out: nothing is known of them.

    Args:
        groups: `(n, d)` features of each group.
        told: Of these rows, the first so many are told.

    Returns:
        The told rows and the others, of all groups in which told genomes differ.
    """
    ours, theirs = [], []
    for features in groups:
        deviation = features[:told].std(axis=0)
        varying = deviation > 1e-9
        if varying.any():
            unit = deviation[varying] * math.sqrt(2.0 * varying.sum())
            whole = (features[:, varying] - features[:told, varying].mean(axis=0)) / unit
            ours.append(whole[:told])
            theirs.append(whole[told:])
    return ours, theirs


def _grouped(encoding: Mapping[str, float]) -> Grouped:
    grouped: Grouped = {group: {} for group in GROUPS}
    for name, value in encoding.items():
        if name.startswith("gene "):
            grouped["gene"][name] = value
        elif name.startswith("chain "):
            grouped[f"chain{name.count(' > ') + 1}"][name] = math.log1p(value)
        else:
            grouped["shape"][name] = value
    return grouped


def _makes_graphs(space: Space) -> bool:
    for seed in range(_PROBES):
        try:
            made: Any = space.architecture(space.sample(np.random.default_rng(seed)))
        except UNBUILDABLE:
            continue
        return isinstance(made, Architecture)
    return False


def _architecture(space: Space | None, genome: Mapping[str, Any]) -> Architecture | None:
    """Return what the space makes of a genome; None if it cannot be built."""
    if space is None:
        return None
    try:
        return space.architecture(genome)
    except UNBUILDABLE:
        return None

"""Genomes as matrices, one for each kind of feature: the encoding that a surrogate compares.

The groups are the genes, the operations, the chains of two and of three operations, and the
lengths of the paths (see `nas_optuna.spaces.encoding`). All but the genes are equal for isomorphic
networks. A warm start adds a group: what an older study says of a genome.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from nas_optuna.architecture import Architecture
from nas_optuna.samplers.gaussian import FloatArray
from nas_optuna.spaces import UNBUILDABLE, Space
from nas_optuna.spaces.encoding import encode
from nas_optuna.spaces.variation import GeneticSpace

GROUPS = ("gene", "chain1", "chain2", "chain3", "shape")
_KEPT = 16384  # encodings in memory for each space, of some kilobyte
_PROBES = 8  # genomes that tell whether a space makes architectures


@dataclass(frozen=True, slots=True)
class _Group:
    """Features of one group that are not 0."""

    names: tuple[str, ...]
    values: tuple[float, ...]


_Encoded = Mapping[str, _Group]
# What a genome looks like is a function of the space alone, so studies of one space share it.
_encodings: WeakKeyDictionary[Space, dict[tuple[Any, ...], _Encoded]] = WeakKeyDictionary()


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
        self._encodings: dict[tuple[Any, ...], _Encoded] = {}
        if self._builder is not None and isinstance(self._builder, Hashable):
            self._encodings = _encodings.setdefault(self._builder, self._encodings)

    def matrices(self, genomes: Sequence[Mapping[str, Any]]) -> list[FloatArray]:
        """Return the features of genomes, `(n, d)` for each group that has any."""
        encodings = [self._encode(genome) for genome in genomes]
        found = []
        for group in GROUPS:
            rows = [encoding[group] for encoding in encodings]
            names = sorted(set().union(*(row.names for row in rows)))
            places = {name: i for i, name in enumerate(names)}
            matrix = np.zeros((len(rows), len(places)))
            for row, features in zip(matrix, rows, strict=True):
                row[[places[name] for name in features.names]] = features.values
            found.append(matrix)
        return [matrix for matrix in found if matrix.size]

    def digest(self, genome: Mapping[str, Any]) -> str | None:
        """Return the canonical digest of what the space makes of a genome; None if unknown."""
        architecture = _architecture(self._builder, genome)
        return None if architecture is None else architecture.digest

    def _encode(self, genome: Mapping[str, Any]) -> _Encoded:
        key = tuple(sorted(genome.items()))
        encoded = self._encodings.get(key)
        if encoded is None:
            architecture = _architecture(self._builder, genome)
            encoded = _grouped(encode(self._space, genome, architecture))
            if len(self._encodings) >= _KEPT:
                self._encodings.clear()
            self._encodings[key] = encoded
        return encoded


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


def _grouped(encoding: Mapping[str, float]) -> _Encoded:
    grouped: dict[str, dict[str, float]] = {group: {} for group in GROUPS}
    for name, value in encoding.items():
        if name.startswith("gene "):
            grouped["gene"][name] = value
        elif name.startswith("chain "):
            grouped[f"chain{name.count(' > ') + 1}"][name] = math.log1p(value)
        else:
            grouped["shape"][name] = value
    return {
        group: _Group(tuple(map(sys.intern, features)), tuple(features.values()))
        for group, features in grouped.items()
    }


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

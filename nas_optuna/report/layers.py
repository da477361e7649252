"""Layered drawing of an acyclic graph: ranks, lanes for long edges, few crossings.

Follows Sugiyama, Tagawa & Toda 1981 ("Methods for visual understanding of hierarchical system
structures"): longest-path ranks, a lane through each rank that an edge only passes, order by
barycentres and swaps. Places are found as by Brandes & Koepf 2002 ("Fast and simple horizontal
coordinate assignment"): what should be straight is one rigid block, blocks are packed to the
left. Then, other than there, each block moves to the mean of its neighbours as far as it is free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

_SWEEPS = 4


@dataclass(slots=True)
class Cell:
    """One thing with a place in a rank.

    Args:
        width: Its extent in x; 0 for what is only passed by a line.
        height: Its extent in y.
        inlets: How far right of its centre an edge enters, by source; at the centre by default.
        outlets: The same for leaving edges.
        least: Smallest x of its left side.
        minor: Whether it gives way to others: a lane, or a port of an earlier source.
        rank: Its rank from the top.
        x: Its centre.
        top: Its upper side.
    """

    width: float = 0.0
    height: float = 0.0
    inlets: dict[str, float] = field(default_factory=dict)
    outlets: dict[str, float] = field(default_factory=dict)
    least: float = 0.0
    minor: bool = False
    rank: int = 0
    x: float = 0.0
    top: float = 0.0


class Net(NamedTuple):
    """All edges of one source: the cell it leaves and the cells it enters."""

    source: str
    start: int
    ends: tuple[int, ...]


class Hop(NamedTuple):
    """An edge, or a piece of one, from a rank to the next."""

    upper: int
    lower: int
    source: str


@dataclass(slots=True)
class Layering:
    """Cells in ranks, each rank from left to right, and the hops between them.

    Args:
        cells: The given cells, then the lanes.
        ranks: Indices of cells.
        hops: Hops by the rank they leave.
        lanes: The lane of a source in a rank that it passes.
        spine: Hops of the longest way from the first cell to the last one: the main line.
    """

    cells: list[Cell]
    ranks: list[list[int]]
    hops: list[list[Hop]]
    lanes: dict[tuple[str, int], int]
    spine: set[Hop]


def layered(cells: Sequence[Cell], nets: Sequence[Net], *, last: int = 0) -> Layering:
    """Give every cell a rank and an order in it, with few crossings.

    Args:
        cells: Each after those it is entered from; those entered from none come first.
        nets: The edges.
        last: So many cells at the end share the last rank.
    """
    _rank(cells, nets, last)
    ranks: list[list[int]] = [[] for _ in range(1 + max(cell.rank for cell in cells))]
    for i, cell in enumerate(cells):
        ranks[cell.rank].append(i)
    layering = Layering(list(cells), ranks, [[] for _ in ranks], {}, set())
    # The latest source first: its lane is then the innermost, and no lane crosses another.
    for net in sorted(nets, key=lambda net: -net.start):
        _add_net(layering, net)
    _find_spine(layering, len(cells) - 1, nets)
    _order(layering)
    return layering


def _rank(cells: Sequence[Cell], nets: Sequence[Net], last: int) -> None:
    feeders: dict[int, list[int]] = defaultdict(list)
    for net in nets:
        for end in net.ends:
            feeders[end].append(net.start)
    for i, cell in enumerate(cells):
        cell.rank = max((cells[start].rank + 1 for start in feeders[i]), default=0)
    lowest = max(cell.rank for cell in cells)
    for cell in cells[len(cells) - last :]:
        cell.rank = lowest


def _add_net(layering: Layering, net: Net) -> None:
    cells = layering.cells
    at = {cells[net.start].rank: net.start}
    for rank in range(cells[net.start].rank + 1, max(cells[end].rank for end in net.ends)):
        at[rank] = layering.lanes[net.source, rank] = len(cells)
        layering.ranks[rank].append(len(cells))
        layering.hops[rank - 1].append(Hop(at[rank - 1], len(cells), net.source))
        cells.append(Cell(rank=rank, minor=True))
    for end in net.ends:
        above = cells[end].rank - 1
        layering.hops[above].append(Hop(at[above], end, net.source))


def _find_spine(layering: Layering, last: int, nets: Sequence[Net]) -> None:
    """Follow the longest way from cell 0 to cell `last`, lanes not counted."""
    feeders: dict[int, list[Net]] = defaultdict(list)
    for net in nets:
        for end in net.ends:
            feeders[end].append(net)
    length, before = {0: 0}, dict[int, Net]()
    for i in range(1, last + 1):
        known = [net for net in feeders[i] if net.start in length]
        if known:
            before[i] = max(known, key=lambda net: length[net.start])
            length[i] = length[before[i].start] + 1
    end = last
    while end in before:
        net = before[end]
        passed = range(layering.cells[net.start].rank + 1, layering.cells[end].rank)
        stops = [net.start, *(layering.lanes[net.source, rank] for rank in passed), end]
        layering.spine.update(Hop(a, b, net.source) for a, b in pairwise(stops))
        end = net.start


# Order


def _order(layering: Layering) -> None:
    """Sort the ranks by barycentres, down and up, then swap neighbours; keep the best found."""
    best, fewest = [list(rank) for rank in layering.ranks], _all_crossings(layering)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        _sweep(layering, down=sweep % 2 == 0)
        _swap_neighbours(layering)
        crossings = _all_crossings(layering)
        if crossings < fewest:
            best, fewest = [list(rank) for rank in layering.ranks], crossings
    layering.ranks[:] = best


def _places(layering: Layering) -> dict[int, int]:
    return {i: place for rank in layering.ranks for place, i in enumerate(rank)}


def _spots(layering: Layering, place: dict[int, int], hop: Hop) -> tuple[float, float]:
    """Where a hop begins and ends, in steps of one cell; ports of wide cells lie in between."""
    upper, lower = layering.cells[hop.upper], layering.cells[hop.lower]
    return (
        place[hop.upper] + upper.outlets.get(hop.source, 0.0) / (upper.width + 1),
        place[hop.lower] + lower.inlets.get(hop.source, 0.0) / (lower.width + 1),
    )


def _all_crossings(layering: Layering) -> int:
    place = _places(layering)
    return sum(
        _crossings([(*_spots(layering, place, hop), _weight(layering, hop)) for hop in hops])
        for hops in layering.hops
    )


def _weight(layering: Layering, hop: Hop) -> int:
    """How much a crossing of this hop is worth avoiding: long lines are to stay straight."""
    straight = layering.cells[hop.upper].minor and layering.cells[hop.lower].minor
    return 3 if straight or hop in layering.spine else 1


def _crossings(spots: list[tuple[float, float, int]]) -> int:
    spots.sort()
    return sum(
        weight * other
        for i, (_, lower, weight) in enumerate(spots)
        for _, lower_before, other in spots[:i]
        if lower_before > lower
    )


def _sweep(layering: Layering, *, down: bool) -> None:
    ranks = range(len(layering.ranks))
    for r in ranks if down else reversed(ranks):
        neighbours = _neighbour_spots(layering, r - 1 if down else r, of_lower=down)
        place = {i: float(p) for p, i in enumerate(layering.ranks[r])}
        place.update((i, sum(p for p, _ in spots) / len(spots)) for i, spots in neighbours.items())
        layering.ranks[r].sort(key=place.__getitem__)


def _neighbour_spots(
    layering: Layering, gap: int, *, of_lower: bool
) -> dict[int, list[tuple[float, int]]]:
    """For each cell on one side of a gap: where its hops meet the other side, and weights."""
    spots: dict[int, list[tuple[float, int]]] = defaultdict(list)
    if not 0 <= gap < len(layering.ranks) - 1:
        return spots
    place = {i: p for rank in layering.ranks[gap : gap + 2] for p, i in enumerate(rank)}
    for hop in layering.hops[gap]:
        upper, lower = _spots(layering, place, hop)
        spots[hop.lower if of_lower else hop.upper].append(
            (upper if of_lower else lower, _weight(layering, hop))
        )
    return spots


def _swap_neighbours(layering: Layering) -> None:
    for r, rank in enumerate(layering.ranks):
        above = _neighbour_spots(layering, r - 1, of_lower=True)
        below = _neighbour_spots(layering, r, of_lower=False)
        for i in range(len(rank) - 1):
            a, b = rank[i], rank[i + 1]
            gain = sum(
                ((p > q) - (p < q)) * weight * other
                for side in (above, below)
                for p, weight in side.get(a, ())
                for q, other in side.get(b, ())
            )
            if gain > 0:
                rank[i], rank[i + 1] = b, a

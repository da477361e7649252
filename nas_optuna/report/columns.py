"""Long pictures in columns: where to cut, and how edges go from the foot of one to the next head.

An edge leaves a column downwards, runs up through the space between the columns on a track of its
own, and enters the next column from above.
"""

from __future__ import annotations

import math

from nas_optuna.report.compound import Box, Point, Wiring, layer, settle, stack
from nas_optuna.report.layers import Layering
from nas_optuna.report.places import place

_TRACK, _MARGIN = 8.0, 14.0
_TALL = 1000.0  # a picture up to this height needs no further column
_ASPECT = 1.5  # nor does one that is at most so much taller than wide
_EDGE_COST = 30.0  # so much taller may a column be for each edge less that goes to the next


def arrange_columns(root: Box, wiring: Wiring) -> None:
    """Place the children of the outermost group in one or more columns.

    Args:
        root: The group; its size, its ways and the places of its children are set.
        wiring: The edges between its children.
    """
    layering = layer(root.children, wiring)
    columns = _cut(layering)
    tracks = [_MARGIN + _TRACK * len(_tracks(layering, ranks[-1])) for ranks in columns[:-1]]
    head = max(tracks, default=0.0)
    lines: dict[int, Point] = {}
    right = 0.0
    via: dict[tuple[str, int], tuple[Point, ...]] = {}
    for i, ranks in enumerate(columns):
        left = right + (tracks[i - 1] + _MARGIN if i else 0.0)
        right = left + place(layering, ranks)
        for cell in (layering.cells[c] for r in ranks for c in layering.ranks[r]):
            cell.x += left
        lines.update(stack(layering, ranks, head if i else 0.0))
        foot = lines[ranks[-1]][1]
        if i < len(tracks):
            via.update(_detours(layering, ranks[-1], right, foot, head))
            foot += tracks[i]
        root.height = max(root.height, foot)
    root.width = right
    root.ways = settle(root.children, layering, wiring, lines, via)


def _cut(layering: Layering) -> list[range]:
    """Cut the ranks into as few columns as make a picture of sane proportions."""
    ranks = range(len(layering.ranks))
    width = place(layering, ranks)
    lines = stack(layering, ranks, 0.0)
    passing = [_EDGE_COST * len(_tracks(layering, r)) for r in ranks]

    def cost(column: range) -> float:
        return lines[column[-1]][1] - lines[column[0]][0] + passing[column[-1]]

    # The best ways to put the first ranks into so many columns: the tallest column, its columns.
    best = [(cost(range(r + 1)), [range(r + 1)]) for r in ranks]
    count = 1
    while count < len(ranks) and best[-1][0] > max(_TALL, _ASPECT * count * width):
        count += 1
        best = [
            min(
                (
                    (
                        max(best[r][0], cost(range(r + 1, end + 1))),
                        [*best[r][1], range(r + 1, end + 1)],
                    )
                    for r in range(count - 2, end)
                ),
                key=lambda way: way[0],
                default=(math.inf, []),
            )
            for end in ranks
        ]
    return best[-1][1]


def _tracks(layering: Layering, rank: int) -> list[str]:
    """Sources whose edges pass below a rank."""
    return list(dict.fromkeys(hop.source for hop in layering.hops[rank]))


def _detours(
    layering: Layering, rank: int, right: float, foot: float, head: float
) -> dict[tuple[str, int], tuple[Point, ...]]:
    """Ways from below a rank, the last of its column, to above the next one.

    Args:
        layering: Placed cells.
        rank: The rank.
        right: Right side of its column.
        foot: Lower side of its column.
        head: Upper side of the next column.

    Returns:
        Points by source and the cell it enters.
    """
    leaves = {
        hop.source: layering.cells[hop.upper].x
        + layering.cells[hop.upper].outlets.get(hop.source, 0.0)
        for hop in layering.hops[rank]
    }
    # The rightmost one goes innermost, so that the tracks do not cross.
    order = sorted(leaves, key=leaves.__getitem__, reverse=True)
    points: dict[str, tuple[Point, ...]] = {}
    for i, source in enumerate(order):
        x = right + _MARGIN + _TRACK * i
        low = foot + _MARGIN + _TRACK * i
        high = head - _MARGIN - _TRACK * (len(order) - 1 - i)
        points[source] = (leaves[source], low), (x, low), (x, high)
    return {(hop.source, hop.lower): points[hop.source] for hop in layering.hops[rank]}

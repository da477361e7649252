"""A layered drawing of groups within groups: each group is drawn first, then placed as one box.

An edge that leaves or enters a group passes a port in its border, so its way is put together from
one piece per group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nas_optuna.report.labels import TIMES, text_width
from nas_optuna.report.layers import Cell, Layering, Net, layered
from nas_optuna.report.outline import Card, Group, Link
from nas_optuna.report.places import place

SMALL_SIZE = 10.0
STACK = 4.0  # how far the sheets behind a repeated group look out
_PADDING = 12.0
_HEADER, _FOOTER = 16.0, 12.0
_STRAIGHT_GAP, _GAP, _MOST_GAP = 16.0, 22.0, 64.0
_INLET_STEP = 9.0

Point = tuple[float, float]


class Stop(NamedTuple):
    """A vertical piece of an edge's way, and the points it passes on the way there."""

    x: float
    top: float
    bottom: float
    via: tuple[Point, ...] = ()

    def moved(self, dx: float, dy: float) -> Stop:
        """The same, elsewhere."""
        via = tuple((x + dx, y + dy) for x, y in self.via)
        return Stop(self.x + dx, self.top + dy, self.bottom + dy, via)


@dataclass(slots=True)
class Box:
    """A card or a group with its size, and its place within the group around it.

    Args:
        content: What it is.
        width: Extent in x, the sheets of a repeated group included.
        height: Extent in y, the same.
        children: What is in it.
        ways: Pieces of edges in it: by source, and the child it goes to (-1: out of the group).
        x: Left side.
        y: Upper side.
        inlets: Where edges enter, right of the centre, by source.
        outlets: Where they leave.
    """

    content: Card | Group
    width: float
    height: float
    children: list[Box] = field(default_factory=list)
    ways: dict[tuple[str, int], list[Stop]] = field(default_factory=dict)
    x: float = 0.0
    y: float = 0.0
    inlets: dict[str, float] = field(default_factory=dict)
    outlets: dict[str, float] = field(default_factory=dict)


def title_of(group: Group) -> str:
    """What stands in the upper left corner of a group."""
    return f"{group.title}  {TIMES}{group.times}" if group.times > 1 else group.title


def names_in(content: Card | Group) -> Iterator[str]:
    """Names of all cards in a group."""
    if isinstance(content, Card):
        yield content.name
    else:
        for child in content.children:
            yield from names_in(child)


class Wiring(NamedTuple):
    """The edges as one group sees them; cells are numbered entries, children, exits."""

    nets: list[Net]
    entries: list[str]
    exits: list[str]


def wire(group: Group, links: Sequence[Link]) -> Wiring:
    """Find the edges between the children of a group, into it and out of it.

    Args:
        group: The group.
        links: All edges of the picture, by target, inputs before users.
    """
    child = {name: i for i, c in enumerate(group.children) for name in names_in(c)}
    made = {name: i for i, name in enumerate(dict.fromkeys(link.target for link in links))}
    entering = {k.source for k in links if k.target in child and k.source not in child}
    entries = sorted(entering, key=lambda name: -made.get(name, -1))  # the latest first
    leaving = {k.source for k in links if k.source in child and k.target not in child}
    exits = sorted(leaving, key=made.__getitem__)  # the latest last: the main line ends there
    start = {name: i for i, name in enumerate(entries)}
    start |= {name: len(entries) + i for name, i in child.items()}
    ends: dict[str, dict[int, None]] = defaultdict(dict)
    for link in links:
        if link.target in child and child.get(link.source) != child[link.target]:
            ends[link.source][len(entries) + child[link.target]] = None
    for i, name in enumerate(exits, len(entries) + len(group.children)):
        ends[name][i] = None
    nets = [Net(name, start[name], tuple(to)) for name, to in ends.items()]
    return Wiring(nets, entries, exits)


def boxes_of(group: Group, links: Sequence[Link], sizes: Mapping[str, Point]) -> list[Box]:
    """Boxes of the children of a group, each drawn inside but without a place.

    Args:
        group: The group.
        links: All edges of the picture.
        sizes: Width and height of every card by name.
    """
    return [
        Box(c, *sizes[c.name]) if isinstance(c, Card) else _enclosed(c, links, sizes)
        for c in group.children
    ]


def _enclosed(group: Group, links: Sequence[Link], sizes: Mapping[str, Point]) -> Box:
    children, wiring = boxes_of(group, links, sizes), wire(group, links)
    title = text_width(title_of(group), SMALL_SIZE)
    layering = layer(children, wiring, clear=title + 8)
    ranks = range(len(layering.ranks))
    width = max(place(layering, ranks), title) + 2 * _PADDING
    for cell in layering.cells:
        cell.x += _PADDING
    lines = stack(layering, ranks, 0.0, header=_HEADER)
    upper, lower = lines[ranks[-1]]
    height = lower + (_FOOTER if lower > upper else 0.0)  # a card there if its output is unused
    first_exit = len(wiring.entries) + len(children)
    entries, exits = layering.cells[: len(wiring.entries)], layering.cells[first_exit:]
    for cell in entries:
        cell.top = 0.0
    for _, cell in zip(wiring.exits, exits, strict=False):
        cell.top = height
    sheets = 2 * STACK if group.times > 1 else 0.0
    box = Box(group, width + sheets, height + sheets, children)
    box.ways = settle(children, layering, wiring, lines, {})
    box.inlets = {
        name: cell.x - box.width / 2 for name, cell in zip(wiring.entries, entries, strict=True)
    }
    box.outlets = {
        name: cell.x - box.width / 2 for name, cell in zip(wiring.exits, exits, strict=False)
    }
    return box


def layer(children: Sequence[Box], wiring: Wiring, *, clear: float = 0.0) -> Layering:
    """Put the children of a group into ranks.

    Args:
        children: Boxes that have their size.
        wiring: What `wire` found.
        clear: Width of the upper left corner that no edge may enter.
    """
    entries = [Cell(least=clear, minor=i > 0) for i, _ in enumerate(wiring.entries)]
    boxes = [
        Cell(box.width, box.height, inlets=dict(box.inlets), outlets=box.outlets)
        for box in children
    ]
    exits = [Cell() for _ in wiring.exits]
    return layered([*entries, *boxes, *exits], wiring.nets, last=len(exits))


def stack(
    layering: Layering, ranks: range, y: float, *, header: float = 0.0
) -> dict[int, tuple[float, float]]:
    """Set the y of the cells in some consecutive ranks, one rank below the other.

    Args:
        layering: Cells that have their x.
        ranks: Which ranks.
        y: Where the first one begins.
        header: Least height of the first one.

    Returns:
        Upper and lower side of each rank.
    """
    lines: dict[int, tuple[float, float]] = {}
    for r in ranks:
        cells = [layering.cells[i] for i in layering.ranks[r]]
        height = max(header if r == ranks[0] else 0.0, *(cell.height for cell in cells), 0.0)
        for cell in cells:
            cell.top = y + (height - cell.height) / 2
        lines[r] = y, y + height
        y += height + _gap(layering, r)
    return lines


def _gap(layering: Layering, rank: int) -> float:
    """Space below a rank: the more, the further its edges go sideways."""
    furthest = max((abs(start - end) for start, end in _slants(layering, rank)), default=0.0)
    return _STRAIGHT_GAP if furthest < 1 else min(_MOST_GAP, _GAP + furthest / 10)


def _slants(layering: Layering, rank: int) -> Iterator[Point]:
    for hop in layering.hops[rank]:
        upper, lower = layering.cells[hop.upper], layering.cells[hop.lower]
        yield (
            upper.x + upper.outlets.get(hop.source, 0.0),
            lower.x + lower.inlets.get(hop.source, 0.0),
        )


def settle(
    children: Sequence[Box],
    layering: Layering,
    wiring: Wiring,
    lines: Mapping[int, tuple[float, float]],
    via: Mapping[tuple[str, int], tuple[Point, ...]],
) -> dict[tuple[str, int], list[Stop]]:
    """Give the boxes the places of their cells, and find the ways of the edges between them.

    Args:
        children: The boxes.
        layering: Their cells, placed.
        wiring: The edges.
        lines: Upper and lower side of each rank.
        via: Points on the way of a source to a cell, where it does not go straight there.

    Returns:
        The ways by source and index of the child they lead to, -1 for out of the group.
    """
    first = len(wiring.entries)
    cells = layering.cells
    for i, (box, cell) in enumerate(zip(children, cells[first:], strict=False), first):
        box.x, box.y = cell.x - box.width / 2, cell.top
        if isinstance(box.content, Card):
            _spread_inlets(layering, i)
    ways: dict[tuple[str, int], list[Stop]] = {}
    for net in wiring.nets:
        for end in net.ends:
            child = end - first if end - first < len(children) else -1
            ways[net.source, child] = _way(layering, net, end, lines, via)
    return ways


def _spread_inlets(layering: Layering, i: int) -> None:
    """Let several edges enter a card side by side; one from straight above stays in the middle."""
    card = layering.cells[i]
    hops = [hop for hop in layering.hops[card.rank - 1] if hop.lower == i] if card.rank else []
    offset = {
        hop.source: layering.cells[hop.upper].x
        + layering.cells[hop.upper].outlets.get(hop.source, 0.0)
        - card.x
        for hop in hops
    }
    left = sorted((s for s, dx in offset.items() if dx < -1), key=offset.__getitem__, reverse=True)
    right = sorted((s for s, dx in offset.items() if dx > 1), key=offset.__getitem__)
    straight = len(left) + len(right) < len(offset)
    if len(offset) < 2:
        return
    most = max(len(left), len(right))
    step = min(_INLET_STEP, 0.42 * card.width / most)
    for side, sign in ((left, -1), (right, 1)):
        for nth, source in enumerate(side, 1):
            card.inlets[source] = sign * step * (nth if straight else nth - 0.5)


def _way(
    layering: Layering,
    net: Net,
    end: int,
    lines: Mapping[int, tuple[float, float]],
    via: Mapping[tuple[str, int], tuple[Point, ...]],
) -> list[Stop]:
    start, target = layering.cells[net.start], layering.cells[end]
    leave = start.top + start.height
    stops = [Stop(start.x + start.outlets.get(net.source, 0.0), leave, lines[start.rank][1])]
    for rank in range(start.rank + 1, target.rank):
        lane = layering.lanes[net.source, rank]
        around = via.get((net.source, lane), ())
        stops.append(Stop(layering.cells[lane].x, *lines[rank], around))
    x = target.x + target.inlets.get(net.source, 0.0)
    around = via.get((net.source, end), ())
    return [*stops, Stop(x, lines[target.rank][0], target.top, around)]

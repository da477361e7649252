"""Where everything in a picture of an architecture stands; what draws it only draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nas_optuna.report.columns import arrange_columns
from nas_optuna.report.compound import (
    SMALL_SIZE,
    STACK,
    Box,
    Point,
    Stop,
    boxes_of,
    wire,
)
from nas_optuna.report.labels import TIMES, text_width
from nas_optuna.report.outline import Card, Group, Link, Outline

LABEL_SIZE = 12.0
LINE_HEIGHT = 15.0
CARD_PADDING = 10.0
_WIDEST_LINE, _LEAST_WIDTH = 190.0, 110.0
_SMALL_LINE, _FLAT_HEIGHT = 14.0, 25.0


@dataclass(frozen=True, slots=True)
class CardBox:
    """A card in its place.

    Args:
        card: What it shows.
        lines: Its label.
        flat: Whether the shape stands beside the label instead of below it.
        x: Left side.
        y: Upper side.
        width: Extent in x.
        height: Extent in y.
    """

    card: Card
    lines: tuple[str, ...]
    flat: bool
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Frame:
    """The box around a group, without the sheets behind a repeated one; `depth` from 1 on."""

    title: str
    times: int
    depth: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Route:
    """The way of an edge, from the lower side of its source to the upper side of its target."""

    link: Link
    stops: tuple[Stop, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole picture, from 0 to `width` and `height`; frames stand before those within them."""

    width: float
    height: float
    cards: tuple[CardBox, ...]
    frames: tuple[Frame, ...]
    routes: tuple[Route, ...]


def arrange(outline: Outline) -> Layout:
    """Find a place for everything in an outline.

    What is long is put into columns, read from top to bottom and from left to right.
    """
    cards = {card.name: card for card in _cards(outline.root)}
    lines = {name: _lines(card) for name, card in cards.items()}
    sizes = _sizes(cards, lines)
    root = Box(outline.root, 0.0, 0.0, boxes_of(outline.root, outline.links, sizes))
    arrange_columns(root, wire(outline.root, outline.links))
    placed = list(_placed(root, 0.0, 0.0, 0))
    return Layout(
        root.width,
        root.height,
        tuple(
            CardBox(c, lines[c.name], _is_flat(c), x, y, box.width, box.height)
            for box, x, y, _ in placed
            if isinstance(c := box.content, Card)
        ),
        tuple(
            _frame(g, box, x, y, d)
            for box, x, y, d in placed
            if isinstance(g := box.content, Group) and d
        ),
        tuple(_routes(root, outline.links)),
    )


def _cards(group: Group) -> Iterator[Card]:
    for child in group.children:
        if isinstance(child, Card):
            yield child
        else:
            yield from _cards(child)


def _is_flat(card: Card) -> bool:
    return len(card.parts) == 1 and TIMES not in card.parts[0] and not card.caption


def _lines(card: Card) -> tuple[str, ...]:
    """The label in as few lines as fit, about equally long, broken between parts."""
    best = _broken(card.parts, _WIDEST_LINE)
    for limit in range(int(_WIDEST_LINE) - 10, 0, -10):
        lines = _broken(card.parts, limit)
        if len(lines) > len(best):
            break
        best = lines
    return best


def _broken(parts: Sequence[str], limit: float) -> tuple[str, ...]:
    lines = [parts[0]]
    for part in parts[1:]:
        if text_width(f"{lines[-1]}, {part}", LABEL_SIZE) <= limit:
            lines[-1] += f", {part}"
        else:
            lines[-1] += ","
            lines.append(part)
    return tuple(lines)


def _sizes(cards: Mapping[str, Card], lines: Mapping[str, Sequence[str]]) -> dict[str, Point]:
    """Width and height of each card; all but the flat ones are equally wide."""
    width = _LEAST_WIDTH
    for name, card in cards.items():
        if not _is_flat(card):
            below = text_width(card.shape, SMALL_SIZE) + 14 + text_width(card.caption, SMALL_SIZE)
            width = max(width, below, *(text_width(line, LABEL_SIZE) for line in lines[name]))
    sizes = {}
    for name, card in cards.items():
        if _is_flat(card):
            own = text_width(card.parts[0], LABEL_SIZE) + 12 + text_width(card.shape, SMALL_SIZE)
            sizes[name] = own + 2 * CARD_PADDING, _FLAT_HEIGHT
        else:
            height = LINE_HEIGHT * len(lines[name]) + _SMALL_LINE + CARD_PADDING
            sizes[name] = width + 2 * CARD_PADDING, height
    return sizes


def _placed(box: Box, x: float, y: float, depth: int) -> Iterator[tuple[Box, float, float, int]]:
    """Every box with its place in the whole picture, those around it first."""
    yield box, x, y, depth
    for child in box.children:
        yield from _placed(child, x + child.x, y + child.y, depth + 1)


def _frame(group: Group, box: Box, x: float, y: float, depth: int) -> Frame:
    sheets = 2 * STACK if group.times > 1 else 0.0
    return Frame(group.title, group.times, depth, x, y, box.width - sheets, box.height - sheets)


def _routes(root: Box, links: Sequence[Link]) -> Iterator[Route]:
    paths = dict(_paths(root))
    for link in links:
        yield Route(link, tuple(_stops(root, link.source, paths[link.source], paths[link.target])))


def _paths(box: Box) -> Iterator[tuple[str, tuple[int, ...]]]:
    """For each card, the indices of the children that lead to it."""
    for i, child in enumerate(box.children):
        if isinstance(child.content, Card):
            yield child.content.name, (i,)
        for name, path in _paths(child):
            yield name, (i, *path)


def _stops(root: Box, source: str, start: Sequence[int], end: Sequence[int]) -> Iterator[Stop]:
    """Join the pieces of a way: out of the groups around its source, then into the target's."""
    shared = 0
    while start[shared] == end[shared]:
        shared += 1
    for depth in reversed(range(shared + 1, len(start))):
        yield from _piece(root, start[:depth], source, -1)
    for depth in range(shared, len(end)):
        yield from _piece(root, end[:depth], source, end[depth])


def _piece(root: Box, path: Sequence[int], source: str, child: int) -> list[Stop]:
    box, x, y = root, 0.0, 0.0
    for i in path:
        box = box.children[i]
        x, y = x + box.x, y + box.y
    return [stop.moved(x, y) for stop in box.ways[source, child]]

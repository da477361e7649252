"""A layout as shapes: rectangles, curves and text, the same for every file format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from nas_optuna.report.compound import SMALL_SIZE, STACK, Point, Stop
from nas_optuna.report.labels import KINDS, TIMES, text_width
from nas_optuna.report.layout import (
    CARD_PADDING,
    LABEL_SIZE,
    LINE_HEIGHT,
    CardBox,
    Frame,
    Layout,
    Route,
)

BACKGROUND = "#ffffff"
LINE_WIDTH = 1.1  # of the outline of a rectangle
_INK, _FAINT = "#1e293b", "#64748b"
_EDGE, _SKIP = "#7b8798", "#f0763a"
_COLOURS = {  # fill and line by kind, in the order of `KINDS`
    kind: colours
    for kind, colours in zip(
        KINDS,
        (
            ("#e2e8f0", "#475569"),
            ("#dbeafe", "#3b82f6"),
            ("#d9f5e3", "#2f9e5f"),
            ("#ebe5fd", "#8659e0"),
            ("#fde2ef", "#d6408b"),
            ("#fdf0c8", "#c98a12"),
            ("#f5f7fa", "#64748b"),
            ("#f3efe9", "#8a7661"),
            ("#ffffff", "#c5cfdb"),
        ),
        strict=True,
    )
}
_FRAMES = ("#f6f8fb", "#eef2f7")
_FRAME_LINE = "#c5cfdb"
_MARGIN, _LEAST_WIDTH = 20.0, 240.0
_EDGE_WIDTH, _CORNER = 1.6, 7.0


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A rectangle with round corners."""

    x: float
    y: float
    width: float
    height: float
    radius: float
    fill: str
    line: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of pieces: each one point (straight on), or three (a cubic Bezier curve)."""

    start: Point
    pieces: tuple[tuple[Point, ...], ...]
    colour: str
    width: float
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text; `anchor` is `start`, `middle` or `end`, `y` its base line."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: str = "start"


Shape = Rectangle | Curve | Text


@dataclass(frozen=True, slots=True)
class Mark:
    """Shapes that belong together.

    Args:
        role: `frame`, `edge`, `skip edge`, `node` or `legend`.
        names: What they stand for: a node's name, an edge's two ends, a group's title.
        details: What can be said about it, in one line.
        shapes: In the order of drawing.
    """

    role: str
    names: tuple[str, ...]
    details: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Painting:
    """A picture ready to be written: what is seen, in pixels, and the marks on it."""

    left: float
    top: float
    width: float
    height: float
    marks: tuple[Mark, ...]


def paint(layout: Layout) -> Painting:
    """Turn a layout into shapes, with a legend below and a margin around it."""
    width = max(layout.width, _LEAST_WIDTH)
    left = (layout.width - width) / 2
    legend, foot = _legend(layout, left, width)
    routes = sorted(layout.routes, key=lambda route: not route.link.skip)  # skips below
    marks = (
        *(_frame(frame) for frame in layout.frames),
        *(_edge(route) for route in routes),
        *(_node(box) for box in layout.cards),
        legend,
    )
    size = width + 2 * _MARGIN, foot + 2 * _MARGIN
    return Painting(left - _MARGIN, -_MARGIN, *size, marks)


def _node(box: CardBox) -> Mark:
    fill, line = _COLOURS[box.card.kind]
    radius = box.height / 2 if box.flat else 7.0
    shapes: list[Shape] = [Rectangle(box.x, box.y, box.width, box.height, radius, fill, line)]
    left, right = box.x + CARD_PADDING, box.x + box.width - CARD_PADDING
    y = box.y + (17.0 if box.flat else CARD_PADDING / 2 - 3)
    for line_of_label in box.lines:
        y += 0.0 if box.flat else LINE_HEIGHT
        shapes.append(Text(left, y, line_of_label, LABEL_SIZE, _INK))
    y += 0.0 if box.flat else LINE_HEIGHT
    if box.card.caption:
        shapes.append(Text(right, y, box.card.caption, SMALL_SIZE, _FAINT, "end"))
    x, anchor = (right, "end") if box.flat else (left, "start")
    shapes.append(Text(x, y, box.card.shape, SMALL_SIZE, _FAINT, anchor))
    return Mark("node", (box.card.name,), box.card.details, tuple(shapes))


def _frame(frame: Frame) -> Mark:
    fill = _FRAMES[frame.depth % 2]
    sheets = (2, 1, 0) if frame.times > 1 else (0,)
    shapes: list[Shape] = [
        Rectangle(
            frame.x + STACK * i, frame.y + STACK * i, frame.width, frame.height, 9.0, fill,
            _FRAME_LINE,
        )
        for i in sheets
    ]  # fmt: skip
    x, y = frame.x + 9, frame.y + 14
    shapes.append(Text(x, y, frame.title, SMALL_SIZE, _FAINT))
    details = frame.title
    if frame.times > 1:
        x += text_width(frame.title, SMALL_SIZE) + 3
        shapes += _badge(x, y, f"{TIMES}{frame.times}")
        details = f"{frame.title}: {frame.times} equal ones in a chain, drawn once"
    return Mark("frame", (frame.title,), details, tuple(shapes))


def _badge(x: float, y: float, text: str) -> tuple[Shape, Shape]:
    width = text_width(text, SMALL_SIZE) + 8
    return (
        Rectangle(x, y - 10.5, width, 14.0, 7.0, _FAINT, _FAINT),
        Text(x + width / 2, y, text, SMALL_SIZE, BACKGROUND, "middle"),
    )


def _edge(route: Route) -> Mark:
    link, colour = route.link, _SKIP if route.link.skip else _EDGE
    tip = route.stops[-1].x, route.stops[-1].bottom
    shapes: list[Shape] = [_trace(route.stops, colour), _arrow_head(tip, colour)]
    if link.count > 1:
        shapes.append(Text(tip[0] + 6, tip[1] - 4, f"{TIMES}{link.count}", SMALL_SIZE, colour))
    role = "skip edge" if link.skip else "edge"
    return Mark(role, (link.source, link.target), f"{link.source} -> {link.target}", tuple(shapes))


def _arrow_head(tip: Point, colour: str) -> Curve:
    x, y = tip
    return Curve((x, y), (((x - 3.6, y - 6.5),), ((x + 3.6, y - 6.5),)), colour, 0.0, filled=True)


def _trace(stops: Sequence[Stop], colour: str) -> Curve:
    """The line of an edge: straight down in a rank, an S between two ranks, round corners."""
    start = stops[0].x, stops[0].top
    pieces: list[tuple[Point, ...]] = []
    for above, below in pairwise(stops):
        leave, reach = (above.x, above.bottom), (below.x, below.top)
        if below.via:
            corners = (leave, *below.via, (below.x, below.via[-1][1]), reach)
            pieces += _rounded(corners)
        elif abs(above.x - below.x) > 0.5:
            middle = (above.bottom + below.top) / 2
            pieces += [(leave,), ((above.x, middle), (below.x, middle), reach)]
    pieces.append(((stops[-1].x, stops[-1].bottom - 5),))
    return Curve(start, tuple(pieces), colour, _EDGE_WIDTH)


def _rounded(corners: Sequence[Point]) -> Iterator[tuple[Point, ...]]:
    yield (corners[0],)
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        near, far = _towards(corner, before), _towards(corner, after)
        yield (near,)
        yield near, corner, far
    yield (corners[-1],)


def _towards(corner: Point, other: Point) -> Point:
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    share = min(_CORNER / max(abs(dx) + abs(dy), 1e-9), 0.5)
    return corner[0] + share * dx, corner[1] + share * dy


def _legend(layout: Layout, left: float, width: float) -> tuple[Mark, float]:
    """Explain the colours in rows as wide as the picture; returns where it ends too."""
    x, y = left, layout.height + 34
    shapes: list[Shape] = []
    for words, swatch in _entries(layout):
        wide = 20 + text_width(words, SMALL_SIZE) + 16
        if x > left and x + wide - 16 > left + width:
            x, y = left, y + 18
        shapes += swatch(x, y)
        shapes.append(Text(x + 20, y, words, SMALL_SIZE, _FAINT))
        x += wide
    return Mark("legend", (), "", tuple(shapes)), y


_Swatch = Callable[[float, float], tuple[Shape, ...]]


def _entries(layout: Layout) -> Iterator[tuple[str, _Swatch]]:
    used = {box.card.kind for box in layout.cards}
    for kind in KINDS:
        if kind in used:
            yield kind, partial(_kind_swatch, kind)
    if any(route.link.skip for route in layout.routes):
        yield "skip connection", _line_swatch
    if any(frame.times > 1 for frame in layout.frames):
        yield "repeated, drawn once", _sheets_swatch


def _kind_swatch(kind: str, x: float, y: float) -> tuple[Shape, ...]:
    fill, line = _COLOURS[kind]
    return (Rectangle(x, y - 10, 14.0, 12.0, 3.5, fill, line),)


def _line_swatch(x: float, y: float) -> tuple[Shape, ...]:
    return (Curve((x, y - 4), (((x + 15, y - 4),),), _SKIP, _EDGE_WIDTH),)


def _sheets_swatch(x: float, y: float) -> tuple[Shape, ...]:
    return tuple(
        Rectangle(x + 2 * i, y - 10 + 2 * i, 11.0, 8.0, 2.0, _FRAMES[1], _FAINT) for i in (2, 1, 0)
    )

"""A chart as numbers, which `plots` draws on pages and `images` into files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from nas_optuna.report.scoring import FloatArray

# Okabe and Ito's colours, which the colour-blind can tell apart, without their yellow.
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8659e0", "#64748b",
    "#7a4f1d",
)  # fmt: skip
INK = "#1e293b"


@dataclass(frozen=True, slots=True)
class Curve:
    """A line from point to point, maybe in steps, maybe with a band around it.

    Args:
        name: Name in the legend; equal names share an entry and a colour.
        x: `(p,)` places.
        y: `(p,)` values.
        low: `(p,)` lower side of the band; None for no band.
        high: `(p,)` upper side of it.
        colour: Hex colour.
        step: Whether a value holds until the next place.
        dashed: Whether the line is broken.
        thin: Whether the line is faint, without an entry in the legend.
    """

    name: str
    x: FloatArray
    y: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    colour: str = INK
    step: bool = False
    dashed: bool = False
    thin: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """The values of one group: each as a point, and their quartiles as a box."""

    name: str
    values: FloatArray
    colour: str = INK


@dataclass(frozen=True, slots=True)
class Bars:
    """One value for each category; several on one panel are stacked."""

    name: str
    categories: tuple[str, ...]
    values: tuple[float, ...]
    colour: str = INK


@dataclass(frozen=True, slots=True)
class Interval:
    """A row with a value and what is around it, from left to right."""

    name: str
    value: float
    low: float
    high: float
    colour: str = INK


@dataclass(frozen=True, slots=True)
class Points:
    """Single places, each with a text of its own that is shown to whom points at it.

    Args:
        name: Name in the legend; equal names share an entry.
        x: `(p,)` places; NaN breaks a line.
        y: `(p,)` places on the second axis.
        z: `(p,)` places on the third axis, in a `Cloud`; None on a panel.
        texts: `(p,)` plain texts, of lines; without any the numbers are shown.
        colour: Hex colour.
        symbol: `circle` or `x`.
        size: Diameter in pixels.
        joined: Whether a thin line goes from each to the next.
    """

    name: str
    x: FloatArray
    y: FloatArray
    z: FloatArray | None = None
    texts: tuple[str, ...] = ()
    colour: str = INK
    symbol: Literal["circle", "x"] = "circle"
    size: float = 6.0
    joined: bool = False


Mark: TypeAlias = Curve | Spread | Bars | Interval | Points


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes; all its marks are of one kind, or curves and points.

    Args:
        x: Label of the x axis.
        y: Label of the y axis.
        marks: What is drawn.
        title: Title above the panel.
        flat: Whether bars lie, with their categories on the y axis.
        logarithmic: Whether the x axis and the y axis are.
    """

    x: str
    y: str
    marks: tuple[Mark, ...]
    title: str = ""
    flat: bool = False
    logarithmic: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels side by side, under one title.

    Args:
        name: Stem of the file it is kept in.
        title: What it shows.
        text: How to read it, in a sentence or two.
        panels: The panels; at least one.
    """

    name: str
    title: str
    text: str
    panels: tuple[Panel, ...]
    columns: int = field(default=2)

    @property
    def rows(self) -> int:
        """Rows of panels."""
        return -(-len(self.panels) // self.width)

    @property
    def width(self) -> int:
        """Panels in a row."""
        return min(self.columns, len(self.panels))


@dataclass(frozen=True, slots=True)
class Cloud:
    """Points in space, which can be turned; only pages have them.

    Args:
        title: What it shows.
        text: How to read it, in a sentence or two.
        axes: Labels of the x, y and z axis.
        marks: The points.
        logarithmic: Whether each axis is.
    """

    title: str
    text: str
    axes: tuple[str, str, str]
    marks: tuple[Points, ...]
    logarithmic: tuple[bool, bool, bool] = (False, False, False)


def palette(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name; after nine they come again.

    Example:
        >>> palette(["random", "tpe"])
        {'random': '#0072b2', 'tpe': '#d55e00'}
    """
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}

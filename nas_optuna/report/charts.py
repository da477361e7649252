"""A chart as numbers, which `plots` draws on pages and `images` into files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

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


Mark: TypeAlias = Curve | Spread | Bars | Interval


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes; all its marks are of one kind.

    Args:
        x: Label of the x axis.
        y: Label of the y axis.
        marks: What is drawn.
        title: Title above the panel.
        flat: Whether bars lie, with their categories on the y axis.
    """

    x: str
    y: str
    marks: tuple[Mark, ...]
    title: str = ""
    flat: bool = False


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


def palette(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name; after nine they come again.

    Example:
        >>> palette(["random", "tpe"])
        {'random': '#0072b2', 'tpe': '#d55e00'}
    """
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}

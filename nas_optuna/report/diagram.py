"""An architecture as a picture: SVG with nothing but the standard library, PNG by matplotlib."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree

from nas_optuna.architecture import Architecture
from nas_optuna.errors import SettingError
from nas_optuna.report.layout import arrange
from nas_optuna.report.outline import outline
from nas_optuna.report.paint import (
    BACKGROUND,
    LINE_WIDTH,
    Curve,
    Mark,
    Rectangle,
    Shape,
    paint,
)

_NOT_IN_XML = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def diagram_svg(architecture: Architecture) -> str:
    """Draw an architecture as an SVG document.

    Nodes show their operation and output shape, scopes are boxes, equal blocks in a row are drawn
    once with their number, and edges that skip nodes have their own colour. Pointing at a node
    shows all its settings. The document holds no script and no ids, so that several of them fit
    on one page.

    Example:
        >>> from nas_optuna import ArchitectureBuilder
        >>> net = ArchitectureBuilder((1, 8, 8), num_classes=10)
        >>> x = net.conv2d(net.input, 8)
        >>> diagram_svg(net.build(net.classifier(net.add(net.conv2d(x, 8), x))))[:4]
        '<svg'
    """
    painting = paint(arrange(outline(architecture)))
    box = (painting.left, painting.top, painting.width, painting.height)
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": " ".join(map(_number, box)),
            "width": _number(painting.width),
            "height": _number(painting.height),
            "font-family": "sans-serif",
            "role": "img",
        },
    )
    ElementTree.SubElement(svg, "title").text = _title(architecture)
    names = ("x", "y", "width", "height")
    page = dict(zip(names, map(_number, box), strict=True))
    ElementTree.SubElement(svg, "rect", {**page, "fill": BACKGROUND})
    for mark in painting.marks:
        _add_mark(svg, mark)
    return ElementTree.tostring(svg, encoding="unicode")


def diagram_png(architecture: Architecture, path: str | os.PathLike[str] | None = None) -> bytes:
    """Draw an architecture as a PNG image, the same picture as the SVG.

    Args:
        architecture: What to draw.
        path: A file to write as well.

    Returns:
        The content of the file.

    Raises:
        SettingError: matplotlib is not installed.
    """
    try:
        from nas_optuna.report.raster import png
    except ImportError as error:
        raise SettingError(
            "A PNG diagram needs matplotlib; pip install nas-optuna[plots], or write an SVG."
        ) from error
    content = png(paint(arrange(outline(architecture))))
    if path is not None:
        Path(path).write_bytes(content)
    return content


def _title(architecture: Architecture) -> str:
    return f"Network of {architecture.layers} layers for {architecture.num_classes} classes"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _readable(text: str) -> str:
    """Text without control characters, which XML cannot hold even escaped."""
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _add_mark(svg: ElementTree.Element, mark: Mark) -> None:
    group = ElementTree.SubElement(svg, "g", {"class": mark.role})
    for key, name in zip(_keys(mark), mark.names, strict=False):
        group.set(key, _readable(name))
    if mark.details:
        ElementTree.SubElement(group, "title").text = _readable(mark.details)
    for shape in mark.shapes:
        _add_shape(group, shape)


def _keys(mark: Mark) -> tuple[str, ...]:
    return ("data-name",) if len(mark.names) == 1 else ("data-source", "data-target")


def _add_shape(group: ElementTree.Element, shape: Shape) -> None:
    if isinstance(shape, Rectangle):
        numbers = {
            "x": shape.x, "y": shape.y, "width": shape.width, "height": shape.height,
            "rx": shape.radius, "stroke-width": LINE_WIDTH,
        }  # fmt: skip
        colours = {"fill": shape.fill, "stroke": shape.line}
        written = {name: _number(value) for name, value in numbers.items()}
        ElementTree.SubElement(group, "rect", {**written, **colours})
    elif isinstance(shape, Curve):
        stroke = {"fill": "none", "stroke": shape.colour, "stroke-width": _number(shape.width)}
        fill = {"fill": shape.colour}
        ElementTree.SubElement(
            group, "path", {"d": _path(shape), **(fill if shape.filled else stroke)}
        )
    else:
        where = {"x": _number(shape.x), "y": _number(shape.y), "font-size": _number(shape.size)}
        style = {"fill": shape.colour, "text-anchor": shape.anchor}
        ElementTree.SubElement(group, "text", {**where, **style}).text = _readable(shape.text)


def _path(curve: Curve) -> str:
    def points(piece: tuple[tuple[float, float], ...]) -> str:
        return " ".join(f"{_number(x)},{_number(y)}" for x, y in piece)

    steps = [f"{'L' if len(piece) == 1 else 'C'}{points(piece)}" for piece in curve.pieces]
    return f"M{points((curve.start,))}{''.join(steps)}{'Z' if curve.filled else ''}"

"""Shapes as PNG pixels, by matplotlib; nothing else of this package imports it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D

from nas_optuna.report.paint import BACKGROUND, LINE_WIDTH, Curve, Painting, Rectangle, Text

_FONT = "DejaVu Sans"  # comes with matplotlib, so every machine draws the same picture
_PIXELS_PER_INCH = 100.0
_SHARPNESS = 2.0  # pixels of the image for each pixel of the painting
_MOST_PIXELS = 9e6  # of the image; a larger picture is less sharp
_QUARTER = 0.5523  # how far the handles of a Bezier curve are out that looks like a quarter circle


def png(painting: Painting) -> bytes:
    """Draw a painting; returns the content of a PNG file."""
    width, height = painting.width, painting.height
    sharpness = min(_SHARPNESS, (_MOST_PIXELS / (width * height)) ** 0.5)
    figure = Figure(
        figsize=(width / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH),
        dpi=_PIXELS_PER_INCH * sharpness,
        facecolor=BACKGROUND,
    )
    to_pixels = Affine2D().translate(-painting.left, -painting.top - height)
    to_pixels = to_pixels.scale(sharpness, -sharpness)
    for patch in _patches(painting):
        patch.set_transform(to_pixels)
        figure.add_artist(patch)
    content = io.BytesIO()
    # Level 1 is several times as fast as the default, and such pictures compress well anyway.
    figure.savefig(content, format="png", pil_kwargs={"compress_level": 1})
    return content.getvalue()


def _patches(painting: Painting) -> Iterator[PathPatch]:
    """Shapes in their order, then all text: one patch for each colour, which is fast."""
    letters: dict[str, list[Path]] = {}
    for order, shape in enumerate(shape for mark in painting.marks for shape in mark.shapes):
        if isinstance(shape, Rectangle):
            yield _patch(_outline(shape), shape.fill, shape.line, LINE_WIDTH, order)
        elif isinstance(shape, Curve):
            fill = shape.colour if shape.filled else "none"
            yield _patch(_path(shape), fill, shape.colour, shape.width, order)
        elif shape.text:
            letters.setdefault(shape.colour, []).append(_letters(shape))
    for colour, paths in letters.items():
        yield _patch(Path.make_compound_path(*paths), colour, "none", 0.0, order + 1)


def _patch(path: Path, fill: str, line: str, width: float, order: int) -> PathPatch:
    points = width * 72 / _PIXELS_PER_INCH
    return PathPatch(path, facecolor=fill, edgecolor=line, linewidth=points, zorder=order)


def _path(curve: Curve) -> Path:
    vertices = [curve.start, *(point for piece in curve.pieces for point in piece)]
    codes = [Path.MOVETO]
    for piece in curve.pieces:
        codes += [Path.LINETO] if len(piece) == 1 else [Path.CURVE4] * 3
    return Path(vertices, codes)


def _outline(box: Rectangle) -> Path:
    """A rectangle with round corners, from the middle of its upper side to the right."""
    half_width, half_height = box.width / 2, box.height / 2
    radius = min(box.radius, half_width, half_height)
    near = radius * (1 - _QUARTER)
    corner = np.array([(-radius, 0), (-near, 0), (0, near), (0, radius)])
    corners = []
    for right, down in ((1, -1), (1, 1), (-1, 1), (-1, -1)):
        turned = corner if right * down < 0 else corner[::-1]
        turned = turned * (right, -down) + (right * half_width, down * half_height)
        corners.append(turned)
    vertices = np.concatenate([*corners, corners[0][:1]])
    vertices += (box.x + half_width, box.y + half_height)
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, *([Path.LINETO] + [Path.CURVE4] * 3) * 3]
    return Path(vertices, [*codes, Path.CLOSEPOLY])


def _letters(text: Text) -> Path:
    vertices, codes = _shape_of(text.text, text.size)
    width = float(vertices[:, 0].max(initial=0.0))
    start = text.x - {"start": 0.0, "middle": width / 2, "end": width}[text.anchor]
    return Path(vertices * (1, -1) + (start, text.y), codes)


@lru_cache(maxsize=1000)
def _shape_of(text: str, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Outline of a line of text from 0 on its base line, upwards: `(n, 2)` points, their codes."""
    vertices, codes = text_to_path.get_text_path(FontProperties(family=_FONT), text)
    points = np.array(vertices, dtype=float).reshape(-1, 2)
    return points * (size / text_to_path.FONT_SCALE), codes

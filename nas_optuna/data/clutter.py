"""Cluttered digits: find and read one enlarged digit among pieces of others.

After the cluttered MNIST of Mnih et al., "Recurrent Models of Visual Attention" (2014), made of
scikit-learn's 8x8 digits instead, on a canvas of 24x24. Architectures differ much more on it than
on the centred digits, and an epoch still takes a second or two on one core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CANVAS = 24
DIGIT = 16  # side of an enlarged digit
PIECE = 8  # side of a piece of another digit
PIECES = 4


def clutter(
    digits: Array, classes: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw images whose digits and pieces all come from `digits`.

    Args:
        digits: `(m, 8, 8)` grey values from 0 to 16.
        classes: `(m,)` classes of the digits.
        count: How many images to make; every digit is used equally often, within one.
        rng: Where places and pieces are drawn from.

    Returns:
        `(count, 1, 24, 24)` float32 images with values from 0 to 16, and their `(count,)` classes.
    """
    large = enlarge(digits)
    rounds = -(-count // len(digits))
    main = np.concatenate([rng.permutation(len(digits)) for _ in range(rounds)])[:count]
    canvas = np.zeros((count, CANVAS, CANVAS), dtype=np.float32)
    _paint(canvas, large[main], rng)
    for _ in range(PIECES):
        other = rng.integers(len(digits), size=count)
        _paint(canvas, _pieces(large[other], rng), rng)
    return canvas[:, None], classes[main]


def enlarge(digits: Array) -> Array:
    """Double the size, bilinearly and without rounding: `(m, 8, 8)` to `(m, 16, 16)`."""
    side = digits.shape[1]
    weights = np.zeros((2 * side, side), dtype=np.float32)
    for row in range(2 * side):
        near, far = row // 2, row // 2 + (1 if row % 2 else -1)
        weights[row, near] += 0.75
        weights[row, np.clip(far, 0, side - 1)] += 0.25
    enlarged: Array = weights @ digits.astype(np.float32) @ weights.T
    return enlarged


def _pieces(large: Array, rng: np.random.Generator) -> Array:
    """Cut a random square out of each image: `(n, 16, 16)` to `(n, 8, 8)`."""
    rows, columns = _windows(len(large), DIGIT, PIECE, rng)
    cut: Array = large[np.arange(len(large))[:, None, None], rows, columns]
    return cut


def _paint(canvas: Array, patches: Array, rng: np.random.Generator) -> None:
    """Paint each patch, `(n, s, s)`, at a random place of its canvas; the brighter pixel stays."""
    rows, columns = _windows(len(canvas), CANVAS, patches.shape[1], rng)
    at = (np.arange(len(canvas))[:, None, None], rows, columns)
    canvas[at] = np.maximum(canvas[at], patches)


def _windows(n: int, outer: int, inner: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Row `(n, s, 1)` and column `(n, 1, s)` indices of a random inner square in an outer one."""
    corners = rng.integers(outer - inner + 1, size=(2, n, 1))
    rows, columns = corners + np.arange(inner)  # each (n, s)
    return rows[:, :, None], columns[:, None, :]

"""What arrays must be like to be classification data; each rule broken is one clear error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from nas_optuna.errors import DataError, SettingError

Array = npt.NDArray[Any]

_SHAPES = "(n, C, H, W) images, (n, T, D) series or (n, F) vectors"


def check_split(seed: int, validation_fraction: float, test_fraction: float) -> None:
    """Check that each part gets a share, drawn by a usable seed.

    Raises:
        SettingError: The seed is out of range, a fraction not above 0, or their sum not below 1.
    """
    if not 0 <= seed < 2**32:
        raise SettingError(f"seed must be at least 0 and below 2**32, got {seed}; try 0.")
    for name, value in (
        ("validation_fraction", validation_fraction),
        ("test_fraction", test_fraction),
    ):
        if not 0 < value < 1:
            raise SettingError(f"{name} must be above 0 and below 1, got {value}; try 0.2.")
    if validation_fraction + test_fraction >= 1:
        raise SettingError(
            f"validation_fraction + test_fraction must be below 1 to leave training data, got "
            f"{validation_fraction} + {test_fraction}; try 0.2 each."
        )


def read_inputs(inputs: npt.ArrayLike | Tensor, name: str) -> Array:
    """Read inputs as float32, or as int64 if they are tokens.

    Returns:
        `(n, *input_shape)` with an input shape of one to three dimensions.

    Raises:
        DataError: They are no numbers, of the wrong shape, or not finite.
    """
    array = _as_array(inputs, "inputs", name)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: inputs must be real numbers, got {array.dtype}; convert them.")
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise DataError(
            f"{name}: inputs must be {_SHAPES}, got shape {array.shape}; reshape them "
            "(grey images need a channel: (n, 1, H, W))."
        )
    if array.dtype == np.int64 and array.ndim == 2:
        if array.min() < 0:
            raise DataError(
                f"{name}: int64 inputs of shape (n, T) are tokens and must be at least 0, got "
                f"{array.min()}; make measurements float32."
            )
        return array
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, refused just below
        array = array.astype(np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argwhere(~finite)[0, 0])
        raise DataError(
            f"{name}: inputs must be finite float32 numbers, but {int((~finite).sum())} are NaN, "
            f"infinite or too large, the first in sample {row}; fill or drop them."
        )
    return array


def encode_classes(targets: npt.ArrayLike | Tensor, name: str) -> tuple[Array, Array]:
    """Number the classes from 0, in sorted order.

    Returns:
        `(n,)` int64 class numbers, and the `(num_classes,)` labels they stand for.

    Raises:
        DataError: Targets are not one class per sample, or there are fewer than 2 classes.
    """
    array = _as_array(targets, "targets", name)
    if array.ndim != 1:
        raise DataError(
            f"{name}: targets must be one class per sample, shape (n,), got {array.shape}; "
            "turn one-hot rows into classes with argmax(1)."
        )
    if array.dtype.kind not in "biufUS":
        raise DataError(f"{name}: targets must be integers or strings, got {array.dtype}.")
    if array.dtype.kind == "f" and not np.all(np.isfinite(array) & (array == np.floor(array))):
        raise DataError(
            f"{name}: targets must be classes, but some are fractions or NaN; "
            "regression is not supported, drop samples without a class."
        )
    labels, classes = np.unique(array, return_inverse=True)
    if len(labels) < 2:
        raise DataError(
            f"{name}: classification needs at least 2 classes, got {len(labels)}; check targets."
        )
    return classes.astype(np.int64), labels


def check_same_length(inputs: Array, classes: Array, name: str) -> None:
    """Check that there is one target per input.

    Raises:
        DataError: The lengths differ.
    """
    if len(inputs) != len(classes):
        raise DataError(
            f"{name}: inputs and targets must be of equal length, got {len(inputs)} and "
            f"{len(classes)}."
        )


def check_samples_per_class(
    classes: Array, labels: Array, smallest_fraction: float, name: str
) -> None:
    """Check that every class can be in every part.

    Raises:
        DataError: A class has too few samples for a part of `smallest_fraction`.
    """
    needed = math.ceil(1 / smallest_fraction - 1e-9)
    counts = np.bincount(classes, minlength=len(labels))
    if counts.min() < needed:
        label = labels[counts.argmin()].item()
        raise DataError(
            f"{name}: every class needs at least {needed} samples to be in every part, but class "
            f"{label!r} has {counts.min()}; drop it, merge it, or make the fractions larger."
        )


def _as_array(values: npt.ArrayLike | Tensor, role: str, name: str) -> Array:
    if isinstance(values, Tensor):
        # numpy knows no bfloat16
        values = (values.float() if values.is_floating_point() else values).detach().cpu().numpy()
    try:
        array = np.asarray(values)
    except ValueError:  # nested lists of unequal length
        raise DataError(f"{name}: {role} must be a full array, but the rows differ.") from None
    if array.dtype == object:
        raise DataError(
            f"{name}: {role} must be numbers, got Python objects; convert them with "
            "astype(...), and fill missing values."
        )
    return array

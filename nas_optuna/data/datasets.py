"""A data set as a search needs it: three fixed parts, checked, and normalised by the first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas_optuna.data.augmentation import NO_AUGMENTATION, Augmentation
from nas_optuna.data.checks import (
    check_same_length,
    check_samples_per_class,
    check_split,
    encode_classes,
    read_inputs,
)
from nas_optuna.errors import DataError

Array: TypeAlias = npt.NDArray[Any]
Part: TypeAlias = tuple[Array, Array]  # inputs (n, *input_shape), classes (n,) from 0


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set, as tensors on one device.

    Args:
        inputs: `(n, *input_shape)`, float32 and normalised; int64 for tokens.
        targets: `(n,)` int64 classes, from 0.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"Split({len(self)} of shape {tuple(self.inputs.shape[1:])})"

    def to(self, device: str | torch.device) -> Split:
        """Return this part on `device`; itself if it is there already."""
        if self.inputs.device == torch.device(device):
            return self
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """Train, validation and test parts of one classification task.

    A search only ever touches `train` and `validation`: networks are trained on the one and
    compared on the other. `test` is for the network picked at the end, once.

    Make one with `load`, `from_arrays` or `from_datasets`.

    Args:
        name: For tables and messages.
        train: The part that networks are trained on; mean and scale come from it alone.
        validation: The part that networks are compared on.
        test: The part no search looks at.
        num_classes: Number of classes.
        augmentation: What training may do to a batch of `train`.
        fingerprint: SHA-256 (hex) over the content of the three parts before normalisation; equal
            in every process and on every device, and different for another split.
        mean: What was taken off the inputs, of a shape that broadcasts to theirs: `(C, 1, 1)`,
            `(D,)` or `(F,)`; None if they were left as they are, as tokens are.
        scale: What they were divided by then, of the same shape.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    augmentation: Augmentation
    fingerprint: str
    mean: Array | None = None
    scale: Array | None = None
    _elsewhere: dict[torch.device, DataSet] = field(default_factory=dict, init=False)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: `(C, H, W)`, `(F,)`, `(T, D)`, or `(T,)` for tokens."""
        return tuple(self.train.inputs.shape[1:])

    def to(self, device: str | torch.device) -> DataSet:
        """Return the data set on `device`; the copy is made once and kept."""
        device = torch.device(device)
        if self.train.inputs.device == device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = DataSet(
                self.name,
                self.train.to(device),
                self.validation.to(device),
                self.test.to(device),
                self.num_classes,
                self.augmentation,
                self.fingerprint,
                self.mean,
                self.scale,
            )
        return self._elsewhere[device]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataSet):
            return NotImplemented
        return (self.fingerprint, self.augmentation) == (other.fingerprint, other.augmentation)

    def __hash__(self) -> int:
        return hash((self.fingerprint, self.augmentation))

    def __repr__(self) -> str:
        return (
            f"DataSet({self.name!r}, train={len(self.train)}, validation={len(self.validation)}, "
            f"test={len(self.test)}, input_shape={self.input_shape}, "
            f"num_classes={self.num_classes})"
        )


def from_arrays(
    inputs: npt.ArrayLike | Tensor,
    targets: npt.ArrayLike | Tensor,
    *,
    name: str = "arrays",
    seed: int = 0,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    augmentation: Augmentation = NO_AUGMENTATION,
) -> DataSet:
    """Make a data set of arrays or tensors, split by `seed` with equal shares of every class.

    Args:
        inputs: `(n, C, H, W)` images, `(n, T, D)` series or `(n, F)` vectors, of any real type;
            `(n, T)` of type int64 are tokens and are not normalised.
        targets: `(n,)` classes: integers or strings. They are numbered in sorted order.
        name: For tables and messages.
        seed: Decides which sample is in which part.
        validation_fraction: Share of all samples in the validation part.
        test_fraction: Share of all samples in the test part.
        augmentation: What training may do to images.

    Raises:
        DataError: The arrays are no usable classification data.
        SettingError: The seed is negative, a fraction is not above 0, or no training data is left.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> from_arrays(rng.normal(size=(50, 3)), np.arange(50) % 2)
        DataSet('arrays', train=30, validation=10, test=10, input_shape=(3,), num_classes=2)
    """
    check_split(seed, validation_fraction, test_fraction)
    x = read_inputs(inputs, name)
    y, labels = encode_classes(targets, name)
    check_same_length(x, y, name)
    chosen = split_three(
        y,
        labels,
        name=name,
        seed=seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
    )
    parts = [(x[part], y[part]) for part in chosen]
    return assemble(name, parts, num_classes=len(labels), augmentation=augmentation)


def split_three(
    classes: Array,
    labels: Array,
    *,
    name: str,
    seed: int,
    validation_fraction: float,
    test_fraction: float,
) -> tuple[Array, Array, Array]:
    """Return the indices of train, validation and test part, stratified by `classes`, `(n,)`.

    Raises:
        DataError: A class has too few samples to be in every part.
    """
    fractions = (validation_fraction, test_fraction, 1 - validation_fraction - test_fraction)
    check_samples_per_class(classes, labels, min(fractions), name)
    rest, test = split_two(np.arange(len(classes)), classes, test_fraction, seed=seed)
    train, validation = split_two(
        rest, classes[rest], validation_fraction / (1 - test_fraction), seed=seed
    )
    return train, validation, test


def split_two(
    indices: Array, classes: Array, fraction: float, *, seed: int
) -> tuple[Array, Array]:
    """Divide `indices`, `(n,)`, into a larger part and `fraction` of them, stratified."""
    from sklearn.model_selection import train_test_split  # seconds to import, so only when used

    larger, smaller = train_test_split(
        indices, test_size=fraction, stratify=classes, random_state=seed
    )
    return larger, smaller


def assemble(
    name: str, parts: Sequence[Part], *, num_classes: int, augmentation: Augmentation
) -> DataSet:
    """Make the data set of its checked train, validation and test parts.

    Raises:
        DataError: The augmentation does not fit the inputs.
    """
    _check_augmentation(augmentation, parts[0][0].shape[1:], name)
    digest = hashlib.sha256(f"{num_classes}".encode())
    for inputs, targets in parts:
        digest.update(f"{inputs.shape}{inputs.dtype}".encode())
        digest.update(np.ascontiguousarray(inputs).data)
        digest.update(np.ascontiguousarray(targets).data)
    mean, scale = _mean_and_scale(parts[0][0])
    train, validation, test = (
        Split(torch.from_numpy(_normalised(x, mean, scale)), torch.from_numpy(y)) for x, y in parts
    )
    tokens = parts[0][0].dtype == np.int64
    return DataSet(
        name, train, validation, test, num_classes, augmentation, digest.hexdigest(),
        mean=None if tokens else mean, scale=None if tokens else scale,
    )  # fmt: skip


def _check_augmentation(
    augmentation: Augmentation, input_shape: tuple[int, ...], name: str
) -> None:
    if not augmentation:
        return
    if len(input_shape) != 3:
        raise DataError(
            f"{name}: {augmentation} is for images of shape (C, H, W), but the input shape is "
            f"{input_shape}; leave the augmentation out."
        )
    if max(augmentation.shift, augmentation.cutout) >= min(input_shape[1:]):
        raise DataError(
            f"{name}: {augmentation} is as large as the images of shape {input_shape}; "
            "make it smaller."
        )


def _mean_and_scale(inputs: Array) -> tuple[Array, Array]:
    """Statistics per channel `(C, 1, 1)`, per series dimension `(D,)` or per feature `(F,)`."""
    axes = {2: (0,), 3: (0, 1), 4: (0, 2, 3)}[inputs.ndim]
    mean = inputs.mean(axis=axes, dtype=np.float64)
    scale = inputs.std(axis=axes, dtype=np.float64)
    # A constant feature has a deviation of rounding errors: dividing by those would make noise.
    scale = np.where(scale > 1e-6 * np.abs(mean), scale, 1.0)
    trailing = (1,) * (2 if inputs.ndim == 4 else 0)
    return mean.reshape(mean.shape + trailing), scale.reshape(scale.shape + trailing)


def _normalised(inputs: Array, mean: Array, scale: Array) -> Array:
    if inputs.dtype == np.int64:
        return inputs
    return ((inputs - mean) / scale).astype(np.float32)

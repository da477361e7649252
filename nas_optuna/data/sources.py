"""Where data comes from: a name, a file, OpenML, or a pair of torch datasets."""

from __future__ import annotations

import re
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from nas_optuna.data.augmentation import NO_AUGMENTATION, Augmentation
from nas_optuna.data.checks import (
    check_samples_per_class,
    check_split,
    encode_classes,
    read_inputs,
)
from nas_optuna.data.clutter import clutter
from nas_optuna.data.datasets import (
    DataSet,
    assemble,
    from_arrays,
    split_three,
    split_two,
)
from nas_optuna.errors import DataError, UnknownNameError

Array: TypeAlias = npt.NDArray[Any]

BUILT_IN = ("digits", "cluttered-digits")
CLUTTERED_IMAGES = 6_000

# What numpy raises for a file that is no archive, a damaged one, or one with Python objects in it.
_UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def load(
    name: str | Path,
    *,
    seed: int = 0,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
) -> DataSet:
    """Load a data set by name, split by `seed` with equal shares of every class.

    Args:
        name: One of

            - `"digits"`: 1,797 grey images of scikit-learn, `(1, 8, 8)`, 10 classes;
            - `"cluttered-digits"`: 6,000 images made of them, `(1, 24, 24)`, 10 classes. The parts
              share no source digit, not even in the clutter;
            - `"openml:<id>"`: a data set of openml.org, as vectors `(F,)`;
            - a path to an `.npz` file with the arrays `inputs` and `targets` (or `x` and `y`), as
              `from_arrays` takes them.
        seed: Decides which sample is in which part.
        validation_fraction: Share of all samples in the validation part.
        test_fraction: Share of all samples in the test part.

    Raises:
        DataError: There is no such data set, or it is no usable classification data.
        SettingError: The seed is negative, a fraction is not above 0, or no training data is left.

    Example:
        >>> digits = load("digits")
        >>> digits.input_shape, len(digits.train), len(digits.validation)
        ((1, 8, 8), 1077, 360)
    """
    check_split(seed, validation_fraction, test_fraction)
    name = str(name)
    if name == "digits":
        return _digits(seed, validation_fraction, test_fraction)
    if name == "cluttered-digits":
        return _cluttered_digits(seed, validation_fraction, test_fraction)
    if name.startswith("openml:"):
        inputs, targets = _read_openml(name)
    elif name.endswith(".npz"):
        inputs, targets = _read_npz(Path(name))
    else:
        known = [*BUILT_IN, "openml:<id>", "<path>.npz"]
        raise DataError(str(UnknownNameError("data set", name, known)))
    return from_arrays(
        inputs,
        targets,
        name=name,
        seed=seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
    )


def from_datasets(
    train: Dataset[Any],
    test: Dataset[Any] | None = None,
    *,
    name: str = "datasets",
    seed: int = 0,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    augmentation: Augmentation = NO_AUGMENTATION,
) -> DataSet:
    """Make a data set of torch datasets with `(input, class)` items, each read once.

    Random transforms are drawn once, too: leave them out and give an `augmentation`.

    Args:
        train: A dataset with a length; the validation part is split off from it.
        test: The test part. Without it, that is split off from `train` as well.
        name: For tables and messages.
        seed: Decides which sample is in which part.
        validation_fraction: Share of `train` in the validation part.
        test_fraction: Share of `train` in the test part, if there is no `test`.
        augmentation: What training may do to images.

    Raises:
        DataError: The items are no usable classification data.
        SettingError: The seed is negative, a fraction is not above 0, or no training data is left.
    """
    inputs, targets = _read_items(train, name)
    if test is None:
        return from_arrays(
            inputs,
            targets,
            name=name,
            seed=seed,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            augmentation=augmentation,
        )
    check_split(seed, validation_fraction, test_fraction)
    test_inputs, test_targets = _read_items(test, name)
    if test_inputs.shape[1:] != inputs.shape[1:]:
        raise DataError(
            f"{name}: train and test inputs must be of one shape, got {inputs.shape[1:]} and "
            f"{test_inputs.shape[1:]}."
        )
    x, x_test = read_inputs(inputs, name), read_inputs(test_inputs, name)
    both, labels = encode_classes(np.concatenate([targets, test_targets]), name)
    y, y_test = both[: len(x)], both[len(x) :]
    check_samples_per_class(y, labels, min(validation_fraction, 1 - validation_fraction), name)
    larger, smaller = split_two(np.arange(len(y)), y, validation_fraction, seed=seed)
    parts = [(x[larger], y[larger]), (x[smaller], y[smaller]), (x_test, y_test)]
    return assemble(name, parts, num_classes=len(labels), augmentation=augmentation)


@lru_cache(maxsize=4)
def _digits(seed: int, validation_fraction: float, test_fraction: float) -> DataSet:
    images, classes = _read_digits()
    return from_arrays(
        images[:, None],
        classes,
        name="digits",
        seed=seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        # None: on these tight 8 x 8 crops moving by a pixel costs half a point of accuracy.
        augmentation=NO_AUGMENTATION,
    )


@lru_cache(maxsize=4)
def _cluttered_digits(seed: int, validation_fraction: float, test_fraction: float) -> DataSet:
    images, classes = _read_digits()
    sources = split_three(
        classes,
        np.arange(10),
        name="cluttered-digits",
        seed=seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
    )
    parts = []
    for number, chosen in enumerate(sources):
        count = round(CLUTTERED_IMAGES * len(chosen) / len(classes))
        rng = np.random.default_rng([seed, number])
        parts.append(clutter(images[chosen], classes[chosen], count, rng))
    return assemble("cluttered-digits", parts, num_classes=10, augmentation=Augmentation(shift=2))


def _read_digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits  # seconds to import, so only when used

    digits = load_digits()
    return digits.images, digits.target.astype(np.int64)


def _read_npz(path: Path) -> tuple[Array, Array]:
    if not path.is_file():
        raise DataError(f"There is no file {path}; check the path.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for names in (("inputs", "targets"), ("x", "y")):
                if set(names) <= set(arrays.files):
                    return arrays[names[0]], arrays[names[1]]
            found = ", ".join(arrays.files) or "nothing"
    except _UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read ({_one_line(error)}); write it with "
            "numpy.savez(path, inputs=..., targets=...), arrays of numbers only."
        ) from None
    raise DataError(f"{path} must hold the arrays inputs and targets (or x and y), found {found}.")


def _read_openml(name: str) -> tuple[Array, Array]:
    from sklearn.datasets import fetch_openml  # seconds to import, so only when used

    identifier = name.removeprefix("openml:")
    if not re.fullmatch(r"[0-9]+", identifier):
        raise DataError(
            f"An OpenML data set is named by its number, got {name!r}; see it in the address "
            "openml.org/d/<id>, for example openml:61."
        )
    try:
        bunch = fetch_openml(
            data_id=int(identifier), as_frame=False, parser="liac-arff", n_retries=1
        )
    except (OSError, ValueError) as error:  # no network; no such number, or columns of text
        raise DataError(
            f"{name} cannot be fetched ({_one_line(error)}); check the number and the network, "
            "or save the arrays as .npz."
        ) from error
    inputs = bunch.data.toarray() if hasattr(bunch.data, "toarray") else bunch.data
    targets = bunch.target
    if targets is None:
        raise DataError(f"{name} has no default target; save the arrays as .npz.")
    if targets.dtype == object and all(isinstance(target, str) for target in targets):
        targets = targets.astype(str)
    return inputs, targets


def _read_items(dataset: Dataset[Any], name: str) -> tuple[Array, Array]:
    if not hasattr(dataset, "__len__"):
        raise DataError(f"{name}: a dataset must have a length and items; read the stream first.")
    try:
        pairs = [dataset[i] for i in range(len(dataset))]
        inputs = [torch.as_tensor(x).numpy() for x, _ in pairs]
        targets = [torch.as_tensor(y).item() for _, y in pairs]
        return np.stack(inputs), np.asarray(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name}: items must be (input, class) pairs of numbers, all of one shape "
            f"({_one_line(error)}); convert images with a transform such as ToTensor."
        ) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

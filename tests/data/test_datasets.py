"""A data set has fixed stratified parts, is normalised by the first, and refuses bad arrays."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from nas_optuna.data import Augmentation, from_arrays
from nas_optuna.errors import DataError, NasOptunaError, SettingError

RNG = np.random.default_rng(0)
CLASSES = np.arange(100) % 4


def inputs(*shape: int, n: int = 100) -> np.ndarray:
    return RNG.normal(3.0, 5.0, size=(n, *shape))


def parts(data):
    return data.train, data.validation, data.test


@pytest.mark.parametrize("shape", [(7,), (6, 3), (2, 5, 4)])
def test_vectors_series_and_images_are_float32_normalised_by_the_train_part(shape):
    data = from_arrays(inputs(*shape), CLASSES)
    assert data.input_shape == shape
    assert data.num_classes == 4
    assert [len(part) for part in parts(data)] == [60, 20, 20]
    assert all(part.inputs.dtype == torch.float32 for part in parts(data))
    assert all(part.targets.dtype == torch.int64 for part in parts(data))
    axes = {1: (0,), 2: (0, 1), 3: (0, 2, 3)}[len(shape)]
    train = data.train.inputs
    assert train.mean(axes).abs().max() < 1e-5  # float32 rounding
    assert (train.std(axes, correction=0) - 1).abs().max() < 1e-5
    assert data.validation.inputs.mean(axes).abs().max() > 1e-4  # not by its own statistics


def test_channels_are_normalised_one_by_one():
    x = inputs(2, 4, 4)
    x[:, 1] = x[:, 1] * 100 + 7
    train = from_arrays(x, CLASSES).train.inputs
    assert torch.allclose(train.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6])
def test_a_constant_feature_becomes_zero(constant):
    x = inputs(3)
    x[:, 1] = constant
    assert from_arrays(x, CLASSES).test.inputs[:, 1].abs().max() == 0


def test_a_tiny_feature_is_normalised_as_well():
    x = inputs(3) - 3
    x[:, 1] *= 1e-12
    train = from_arrays(x, CLASSES).train.inputs
    assert abs(train[:, 1].std(correction=0) - 1) < 1e-4


def test_tokens_stay_as_they_are():
    tokens = RNG.integers(0, 50, size=(100, 9))
    data = from_arrays(tokens, CLASSES)
    assert data.train.inputs.dtype == torch.int64
    assert data.input_shape == (9,)
    assert set(data.test.inputs.flatten().tolist()) <= set(tokens.flatten().tolist())


def test_parts_are_stratified_disjoint_and_complete():
    x = np.arange(100.0)[:, None] * np.ones(2)
    data = from_arrays(x, CLASSES, seed=3)
    for part in parts(data):
        assert torch.bincount(part.targets).unique().numel() == 1
    values = torch.cat([part.inputs[:, 0] for part in parts(data)])
    assert values.unique().numel() == 100


def test_fractions_are_shares_of_the_whole():
    data = from_arrays(inputs(2), CLASSES, validation_fraction=0.3, test_fraction=0.1)
    assert [len(part) for part in parts(data)] == [60, 30, 10]


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25])
def test_every_class_is_in_every_part_with_just_the_least_number_of_samples(fraction):
    needed = 10 if fraction == 0.1 else 5  # the test part takes 0.2
    for seed in range(5):
        counts = np.random.default_rng(seed).integers(needed, needed + 4, size=5)
        counts[0] = needed
        y = np.repeat(np.arange(5), counts)
        data = from_arrays(inputs(2, n=len(y)), y, seed=seed, validation_fraction=fraction)
        assert all(part.targets.unique().numel() == 5 for part in parts(data))
    with pytest.raises(DataError, match=f"at least {needed} samples"):
        from_arrays(inputs(2, n=len(y) - 1), y[1:], validation_fraction=fraction)


def test_classes_are_numbered_in_sorted_order():
    x = inputs(2)
    names = np.array(["cat", "ant", "dog", "bee"])[CLASSES]
    assert from_arrays(x, names) == from_arrays(x, np.array([2, 0, 3, 1])[CLASSES])


def test_torch_tensors_and_lists_are_taken():
    x = torch.randn(100, 3, dtype=torch.bfloat16)
    data = from_arrays(x, torch.from_numpy(CLASSES))
    assert data == from_arrays(x.float().tolist(), CLASSES.tolist())


def test_fingerprint_is_of_content_and_split_alone():
    x = inputs(3)
    data = from_arrays(x, CLASSES)
    assert data.fingerprint == from_arrays(x.copy(), CLASSES, name="other").fingerprint
    changed = x.copy()
    changed[17, 1] += 1
    relabelled = CLASSES.copy()
    relabelled[[0, 1]] = relabelled[[1, 0]]
    others = [
        from_arrays(changed, CLASSES),
        from_arrays(x, relabelled),
        from_arrays(x, CLASSES, seed=1),
        from_arrays(x, CLASSES, test_fraction=0.3),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_fingerprint_is_the_same_in_another_process():
    code = (
        "import numpy as np; from nas_optuna.data import from_arrays;"
        "x = np.random.default_rng(5).normal(size=(60, 3));"
        "print(from_arrays(x, np.arange(60) % 3).fingerprint)"
    )
    x = np.random.default_rng(5).normal(size=(60, 3))
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == from_arrays(x, np.arange(60) % 3).fingerprint


def test_moving_to_a_device_is_done_once():
    data = from_arrays(inputs(3), CLASSES)
    assert data.to("cpu") is data
    moved = data.to("meta")
    assert moved is data.to(torch.device("meta"))
    assert moved.train.inputs.device.type == "meta"
    assert moved == data
    assert hash(moved) == hash(data)


def test_repr_is_one_line():
    data = from_arrays(inputs(3), CLASSES, name="mine")
    assert repr(data).startswith("DataSet('mine', train=60,")
    assert "\n" not in repr(data.train)


def nan(x):
    x[5, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (nan(inputs(3)), CLASSES, "1 are NaN.*sample 5"),
        (inputs(3) * 1e300, CLASSES, "too large"),
        (inputs(), CLASSES, r"got shape \(100,\)"),
        (inputs(1, 2, 3, 4), CLASSES, r"got shape \(100, 1, 2, 3, 4\)"),
        (inputs(0), CLASSES, r"got shape \(100, 0\)"),
        (inputs(3), CLASSES[:-1], "got 100 and 99"),
        (inputs(3), CLASSES * 0, "at least 2 classes, got 1"),
        (inputs(3), np.eye(4)[CLASSES], "argmax"),
        (inputs(3), CLASSES + 0.5, "fractions"),
        (inputs(3), np.where(CLASSES == 0, np.nan, CLASSES), "fractions or NaN"),
        (inputs(3), np.where(np.arange(100) < 2, 9, CLASSES), "class 9 has 2"),
        (inputs(3).astype(object), CLASSES, "Python objects"),
        (inputs(3), CLASSES.astype(object), "targets must be numbers, got Python objects"),
        (inputs(3).astype(complex), CLASSES, "real numbers"),
        (inputs(3).astype(str), CLASSES, "real numbers"),
        ([[1.0, 2.0], [3.0]], [0, 1], "rows differ"),
        (-np.ones((100, 3), dtype=np.int64), CLASSES, "tokens"),
    ],
)
def test_bad_arrays_are_one_clear_error(x, y, message):
    with pytest.raises(DataError, match=message) as caught:
        from_arrays(x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"validation_fraction": 0.0},
        {"test_fraction": 1.0},
        {"validation_fraction": 0.5, "test_fraction": 0.5},
        {"seed": -1},
    ],
)
def test_bad_split_settings_are_refused(settings):
    with pytest.raises(SettingError):
        from_arrays(inputs(3), CLASSES, **settings)


@pytest.mark.parametrize(
    ("shape", "augmentation"),
    [((3,), Augmentation(flip=True)), ((1, 4, 4), Augmentation(shift=4))],
)
def test_augmentation_that_does_not_fit_is_refused(shape, augmentation):
    with pytest.raises(NasOptunaError, match="Augmentation"):
        from_arrays(inputs(*shape), CLASSES, augmentation=augmentation)

"""A fingerprint differs exactly when results may differ."""

import dataclasses

import numpy as np
import pytest

from nas_optuna.data import Augmentation, load
from nas_optuna.evaluators import EarlyStopping, FullTraining

BASE = FullTraining("digits", epochs=3)


def test_fingerprint_is_short_hex_and_the_same_for_equal_settings():
    assert len(BASE.fingerprint) == 16
    assert int(BASE.fingerprint, 16) >= 0
    assert BASE.fingerprint == FullTraining(load("digits"), epochs=3).fingerprint


def test_numbers_of_numpy_are_numbers():
    """As from `for seed in np.arange(3)`."""
    given = FullTraining("digits", epochs=np.int64(3), seed=np.int64(0))
    assert given.fingerprint == BASE.fingerprint
    assert FullTraining("digits", epochs=3, learning_rate=np.float32(0.5)).fingerprint


def test_the_device_is_no_part_of_it():
    assert BASE.on("cpu").fingerprint == BASE.fingerprint
    assert BASE.on("cpu").device == "cpu"


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"seed": 1},
        {"batch_size": 32},
        {"learning_rate": 0.3},
        {"momentum": 0.8},
        {"weight_decay": 0.0},
        {"label_smoothing": 0.0},
        {"schedule": "cosine"},
        {"augment": False},
        {"data": load("digits", seed=1)},
        {"data": dataclasses.replace(load("digits"), augmentation=Augmentation(shift=2))},
    ],
)
def test_every_other_setting_is(change):
    assert dataclasses.replace(BASE, **change).fingerprint != BASE.fingerprint


def test_augmentation_that_is_off_is_no_part_of_it():
    off = dataclasses.replace(BASE, augment=False)
    other = dataclasses.replace(load("digits"), augmentation=Augmentation(flip=True))
    assert dataclasses.replace(off, data=other).fingerprint == off.fingerprint


def test_classes_differ():
    kinds = [EarlyStopping("digits"), FullTraining("digits", epochs=20)]
    assert len({kind.fingerprint for kind in kinds}) == 2
    early = EarlyStopping("digits")
    assert dataclasses.replace(early, patience=2).fingerprint != early.fingerprint

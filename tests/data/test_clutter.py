"""Cluttered digits: every image and its clutter come from the digits it was given."""

import time

import numpy as np
import torch

from nas_optuna.data import load, sources
from nas_optuna.data.clutter import CANVAS, clutter, enlarge
from nas_optuna.data.sources import _cluttered_digits


def solid(value: float, n: int = 5) -> np.ndarray:
    return np.full((n, 8, 8), value)


def test_the_digit_is_whole_when_it_is_the_brightest():
    digits = np.concatenate([solid(16.0), solid(3.0)])
    images, classes = clutter(digits, np.repeat([0, 1], 5), 40, np.random.default_rng(0))
    assert images.shape == (40, 1, CANVAS, CANVAS)
    assert images.dtype == np.float32
    bright = images[classes == 0, 0] == 16.0
    assert (bright.sum((1, 2)) >= 16 * 16).all()
    rows = (bright.sum(2) >= 16).sum(1)
    assert (rows >= 16).all()


def test_images_hold_nothing_but_the_given_digits():
    ones, _ = clutter(solid(3.0), np.zeros(5, dtype=int), 30, np.random.default_rng(0))
    assert set(np.unique(ones)) == {0.0, 3.0}


def test_digits_are_used_equally_often():
    classes = np.arange(7)
    _, made = clutter(np.zeros((7, 8, 8)), classes, 24, np.random.default_rng(0))
    assert set(np.bincount(made)) == {3, 4}


def test_enlarging_keeps_constants_and_is_linear_between_pixels():
    assert np.array_equal(enlarge(solid(5.0)), np.full((5, 16, 16), 5.0))
    ramp = np.tile(np.arange(8.0), (1, 8, 1))
    expected = np.clip(np.arange(16) / 2 - 0.25, 0, 7)  # pixel centres, clipped at the border
    assert np.array_equal(enlarge(ramp)[0, 3], expected)


def test_parts_share_no_source_digit(monkeypatch):
    given = []

    def record(digits, classes, count, rng):
        given.append({digit.tobytes() for digit in digits})
        return clutter(digits, classes, count, rng)

    monkeypatch.setattr(sources, "clutter", record)
    _cluttered_digits.cache_clear()
    load("cluttered-digits")
    _cluttered_digits.cache_clear()
    train, validation, test = given
    # Two of the 1,797 scans may be equal by chance; none are.
    assert train.isdisjoint(validation)
    assert train.isdisjoint(test)
    assert validation.isdisjoint(test)


def test_the_data_set_is_quick_balanced_fixed_and_kept():
    load("digits")  # scikit-learn is imported
    _cluttered_digits.cache_clear()
    began = time.process_time()
    data = load("cluttered-digits")
    assert time.process_time() - began < 2
    assert load("cluttered-digits") is data
    assert data.input_shape == (1, 24, 24)
    assert data.num_classes == 10
    sizes = [len(part) for part in (data.train, data.validation, data.test)]
    assert sum(sizes) == 6_000
    assert sizes[1] == sizes[2]
    counts = torch.bincount(data.train.targets)
    assert counts.max() < 1.1 * counts.min()
    _cluttered_digits.cache_clear()
    assert load("cluttered-digits") == data
    assert load("cluttered-digits", seed=1) != data

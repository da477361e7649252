"""Boxes, hypervolume curves and attainment surfaces against values worked out by hand."""

from itertools import pairwise

import moocore
import numpy as np
import pytest

from nas_optuna.errors import SettingError
from nas_optuna.report.indicators import (
    Box,
    at,
    attainment,
    best_curve,
    front_of,
    hypervolume_curve,
)
from tests.report.contests import METRICS, draw, make_run

PAIR = ["accuracy", "parameters"]


def test_a_box_is_spanned_by_the_front_alone():
    values = [[0.9, 200.0], [0.5, 100.0], [0.1, 900.0]]  # the third is dominated
    box = Box.around(values, PAIR)
    assert box.ideal == (0.9, 100.0)
    assert box.reference == pytest.approx((0.46, 210.0))
    # In shares of the box: 1 x 0.0909 for the first, and 0.0909 x 0.909 more for the second.
    assert box.hypervolume(values) == pytest.approx(1 / 11 + (1 / 11) * (10 / 11))
    assert box.hypervolume([[0.9, 100.0]]) == pytest.approx(1.0)
    # At the reference nothing is covered, up to the rounding of its coordinates.
    assert box.hypervolume([[0.46, 100.0], [np.nan, np.nan]]) == pytest.approx(0.0, abs=1e-12)


def test_a_front_of_one_network_is_measured_on_all_values():
    box = Box.around([[0.9, 100.0], [0.5, 300.0]], PAIR)
    assert (box.ideal, box.reference) == ((0.9, 100.0), pytest.approx((0.46, 320.0)))
    assert Box.around([[0.9, 100.0]], PAIR).reference == pytest.approx((-0.2, 101.1))
    box = Box.around([[0.9, 100.0]], PAIR, found=[[0.5, 300.0], [0.7, 200.0]])
    assert (box.ideal, box.reference) == ((0.9, 100.0), pytest.approx((0.46, 320.0)))
    single = Box.around([[0.5], [0.7]], ["accuracy"])
    assert (single.ideal, single.reference) == ((0.7,), pytest.approx((0.48,)))


def test_the_curve_of_a_run_by_hand():
    box = Box(("accuracy", "latency_ms"), ideal=(1.0, 0.0), reference=(0.0, 10.0))
    values = [[np.nan, np.nan], [0.5, 5.0], [0.4, 6.0], [0.8, 8.0], [0.1, 11.0]]
    run = make_run("s", 0, values)
    assert hypervolume_curve(run, box) == pytest.approx([0.0, 0.25, 0.25, 0.31, 0.31])
    assert best_curve(run, METRICS) == pytest.approx([np.nan, 0.5, 0.5, 0.8, 0.8], nan_ok=True)
    assert best_curve(run, METRICS, 1)[1:] == pytest.approx([5.0, 5.0, 5.0, 5.0])


@pytest.mark.parametrize("width", [2, 3])
def test_a_curve_is_the_hypervolume_of_all_so_far_and_never_falls(width):
    names = ["accuracy", "latency_ms", "parameters"][:width]
    rng = np.random.default_rng(width)
    for _ in range(5):
        values = rng.random((40, width))
        values[rng.random(40) < 0.2] = np.nan
        box = Box.around(values[np.isfinite(values).all(axis=1)], names)
        curve = hypervolume_curve(make_run("s", 0, values), box)
        assert all(later >= earlier for earlier, later in pairwise(curve))
        assert curve[::7] == pytest.approx(
            [box.hypervolume(values[: i + 1]) for i in range(40)][::7]
        )


def test_a_front_is_sorted_and_free_of_copies():
    values = [[0.5, 1.0], [0.9, 3.0], [0.5, 1.0], [np.nan, np.nan], [0.6, 3.0]]
    assert front_of(values, PAIR).tolist() == [[0.9, 3.0], [0.5, 1.0]]
    assert front_of([], PAIR).shape == (0, 2)


def test_a_value_counts_from_where_it_was_paid_for():
    curve, spent = np.array([1.0, 2.0, 3.0]), np.array([10.0, 10.0, 30.0])
    assert at(curve, spent, [9.9, 10.0, 29.9, 30.0]) == pytest.approx(
        [np.nan, 2.0, 2.0, 3.0], nan_ok=True
    )


def test_attainment_of_three_fronts_by_hand():
    fronts = [[[0.9, 30.0], [0.6, 10.0]], [[0.8, 20.0]], [[0.7, 10.0]]]
    assert attainment(fronts, PAIR, 0).tolist() == [[0.9, 30.0], [0.8, 20.0], [0.7, 10.0]]
    # Two of three: accuracy 0.8 at 30 (first and second), 0.7 at 20, and 0.6 at 10.
    assert attainment(fronts, PAIR, 50).tolist() == [[0.8, 30.0], [0.7, 20.0], [0.6, 10.0]]
    # All three: the second has nothing below 20, the first 0.6 there, and 0.7 at 30.
    assert attainment(fronts, PAIR, 100).tolist() == [[0.7, 30.0], [0.6, 20.0]]


def test_a_run_without_a_network_attains_nothing():
    fronts = [[[0.9, 30.0]], [[np.nan, np.nan]], [[0.8, 30.0]]]
    assert attainment(fronts, PAIR, 50).tolist() == [[0.8, 30.0]]
    assert attainment(fronts, PAIR, 100).tolist() == []


def test_attainment_of_a_published_example():
    # The first data set of the EAF tools of Fonseca et al.: its median surface has 15 corners.
    data = moocore.get_dataset("input1.dat")
    fronts = [data[data[:, -1] == i, :2] for i in np.unique(data[:, -1])]
    surface = attainment(fronts, ["latency_ms", "parameters"], 50)
    assert len(surface) == 15
    assert surface[0] == pytest.approx([0.53173087, 9.73244829])
    assert surface[-1] == pytest.approx([9.7398055, 1.00153569])


def test_attainment_needs_two_objectives():
    with pytest.raises(SettingError, match="two objectives"):
        attainment([[[0.5]]], ["accuracy"], 50)


def test_more_skill_covers_more():
    box = Box.around(draw(np.random.default_rng(0), 500, 1.0), METRICS)
    curves = [
        hypervolume_curve(make_run("s", 0, draw(np.random.default_rng(1), 30, skill)), box)[-1]
        for skill in (0.0, 0.5, 1.0)
    ]
    assert curves == sorted(curves)

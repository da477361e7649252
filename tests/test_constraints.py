"""Limits: defaults of the field, graded violations, words."""

import pytest

from nas_optuna import SearchConstraints
from nas_optuna.constraints import explain
from nas_optuna.errors import SettingError, UnknownNameError


def test_defaults():
    assert SearchConstraints().limits == {
        "max_layers": 50,
        "max_parameters": 50_000_000,
        "max_memory_mb": 1000.0,
        "max_latency_ms": 100.0,
    }


def test_violations_are_graded_by_share_and_only_of_what_is_known():
    limits = SearchConstraints(max_flops=200, min_accuracy=0.8, max_layers=None)
    graded = limits.violations({"flops": 300, "accuracy": 0.6, "layers": 99, "loss": 3.0})
    assert graded == {"max_flops": 0.5, "min_accuracy": 0.25}
    assert limits.violations({"flops": 200, "accuracy": 0.8}) == {
        "max_flops": 0.0,
        "min_accuracy": 0.0,
    }


def test_what_was_not_measured_is_told_at_its_limit():
    limits = SearchConstraints(max_latency_ms=7.0, max_flops=None)
    assert limits.worst("latency_ms") == 7.0
    assert limits.worst("accuracy") == 0.0
    assert limits.worst("flops") == 1e15


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"max_layers": 0}, SettingError, "max_layers must be greater than 0, got 0"),
        ({"max_latency_ms": -1.0}, SettingError, "max_latency_ms"),
        ({"max_parameters": float("nan")}, SettingError, "max_parameters"),
        (
            {"max_parameters": float("inf")},
            SettingError,
            "max_parameters.* write None for no limit",
        ),
        ({"min_accuracy": 95}, SettingError, "write 0.95 for 95 %"),
        ({"target_platform": "cpuu"}, UnknownNameError, "Did you mean 'cpu'"),
    ],
)
def test_a_limit_out_of_range_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        SearchConstraints(**options)


def test_a_value_just_beyond_a_limit_breaks_it():
    limits = SearchConstraints(min_accuracy=0.5)
    for name, value, broken in [
        ("parameters", 50_000_000, False),
        ("parameters", 50_000_024, True),
        ("latency_ms", 100.0, False),
        ("latency_ms", 100.00000000000002, True),
        ("accuracy", 0.5, False),
        ("accuracy", 0.4999999, True),
    ]:
        (excess,) = limits.violations({name: value}).values()
        assert (excess > 0) is broken
    graded = limits.violations({"parameters": 50_000_024})
    assert explain(graded, {}) == "max_parameters exceeded by less than 1 %"


def test_explained_in_words():
    limits = SearchConstraints(max_parameters=5000, min_accuracy=0.9)
    graded = limits.violations({"parameters": 7500, "layers": 3, "accuracy": 0.45})
    assert explain(graded, limits.limits) == (
        "max_parameters 5,000 exceeded by 50 %; min_accuracy 0.9 missed by 50 %"
    )

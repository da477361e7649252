"""Errors: suggestions, and that they survive the way between processes."""

import pickle

import pytest

from nas_optuna import metrics
from nas_optuna.errors import NasOptunaError, UnknownNameError, check_name


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        metrics.metric("latency")
    assert "Did you mean 'latency_ms'?" in str(caught.value)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, NasOptunaError)


def test_without_a_near_name_all_are_listed():
    with pytest.raises(UnknownNameError) as caught:
        check_name("thing", "zzz", ["b", "a"])
    assert str(caught.value) == "Unknown thing 'zzz'. Known: a, b."


def test_a_worker_can_send_it_home():
    error = UnknownNameError("thing", "x", ["y"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

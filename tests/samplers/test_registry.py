"""The table of strategies: names, errors, and what a new entry gets."""

import subprocess
import sys

import pytest
from optuna.samplers import RandomSampler

from nas_optuna import samplers
from nas_optuna.errors import SettingError, UnknownNameError


@pytest.fixture
def table(monkeypatch):
    """A copy of the table, so that a test may add to it."""
    table = dict(samplers.STRATEGIES)
    monkeypatch.setattr("nas_optuna.samplers.registry.STRATEGIES", table)
    return table


def test_each_strategy_says_what_it_does_in_one_line():
    for name, strategy in samplers.STRATEGIES.items():
        assert strategy.name == name
        assert strategy.text
        assert "\n" not in strategy.text


def test_the_three_optuna_strategies_are_there():
    assert {"random", "tpe", "nsga2"} <= set(samplers.names())


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'nsga2'"):
        samplers.create("nsga")


def test_a_name_is_registered_once(table):
    taken = samplers.Strategy("tpe", "another", lambda settings: RandomSampler())
    with pytest.raises(SettingError, match="'tpe' is registered already"):
        samplers.register(taken)
    assert table["tpe"] is not taken


def test_a_new_strategy_gets_space_seed_and_budget(table):
    seen = []

    def factory(settings):
        seen.append(settings)
        return RandomSampler(seed=settings.seed)

    samplers.register(samplers.Strategy("mine", "a test", factory))
    space = object()
    samplers.create("mine", space=space, seed=3, trials=70)
    assert (seen[0].space, seen[0].seed, seen[0].trials) == (space, 3, 70)


def test_no_seed_is_one_drawn_at_random():
    first, second = (repr(samplers.create("tpe", seed=None)) for _ in range(2))
    assert first != second  # but once in 2**32


@pytest.mark.parametrize(("seed", "trials"), [(-1, 10), (0, 0), (0, -5)])
def test_numbers_out_of_range_are_refused(seed, trials):
    with pytest.raises(SettingError, match="must be"):
        samplers.create("random", seed=seed, trials=trials)


def test_the_samplers_do_not_import_torch():
    code = "import sys, nas_optuna.samplers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Killed with -9 and resumed equals never killed, also with a pruner."""

from dataclasses import replace

import pytest

from tests.pruners.workers import PRUNERS, NamedFormula, search
from tests.test_resume import SPACE, history, killed_process

TRIALS = 24


def made(url, sampler, pruner, kill_after=None):
    # Of one name: Hyperband's brackets are drawn from it.
    evaluator = NamedFormula("s", kill_after=kill_after)
    small = search(url, sampler, PRUNERS[pruner], name="s", evaluator=evaluator, trials=TRIALS)
    return replace(small, space=SPACE)


def run_until_killed(url, sampler, pruner, kill_after):
    killed = made(url, sampler, pruner, kill_after)
    killed.optimize(killed.create())


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        ("nsga2", "pareto"),
        ("tpe", "hyperband"),
        pytest.param("random", "successive halving", marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_equals_never_killed(sampler, pruner, tmp_path):
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("never", "killed")]
    killed_process(run_until_killed, urls[1], sampler, pruner, 31)
    resumed = made(urls[1], sampler, pruner)
    study = resumed.load()
    resumed.optimize(study, trials=TRIALS - len(history(study)))
    never = made(urls[0], sampler, pruner)
    whole = never.create()
    never.optimize(whole)
    states = [t.state.name for t in study.get_trials()]
    assert states.count("FAIL") == 1
    assert "PRUNED" in states[states.index("FAIL") :]
    expected, got = history(whole), history(study)
    assert len(expected) == len(got) == TRIALS
    curves = [[t[3].get("nas:curve") for t in one] for one in (expected, got)]
    assert curves[0] == curves[1]
    assert [t[:3] for t in expected] == [t[:3] for t in got]

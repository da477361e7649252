"""The tally of a run equals the study's own numbers; what a terminal and a log show of it."""

import io
import re
import time
from contextlib import suppress

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from nas_optuna import SearchConstraints, report
from nas_optuna.report.progress import Budget, RunProgress, Tally

LIMITS = SearchConstraints(max_latency_ms=10.0, max_parameters=1000)
METRICS = ["accuracy", "latency_ms", "parameters"]
DIRECTIONS = ["maximize", "minimize", "minimize"]


def new_study(metrics=METRICS, directions=DIRECTIONS):
    study = optuna.create_study(directions=directions)
    study.set_metric_names(metrics)
    return study


def trained(*values, **attrs):
    return create_trial(values=values, user_attrs={"nas:epochs": 2.0, **attrs})


def infeasible(*values):
    return create_trial(
        values=values,
        user_attrs={"nas:infeasible": "too large"},
        system_attrs={"constraints:max_parameters": 0.5},
    )


def add(study, trial):
    study.add_trial(trial)
    return study.get_trials(deepcopy=False)[-1]


def coarse_trials(rng, count):
    """Random trials of few distinct values, so that equal and dominated ones are frequent."""
    for values in rng.integers(0, 5, (count, 3)) * [0.2, 2.0, 200]:
        make = infeasible if rng.random() < 0.2 else trained
        yield make(*values.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_the_tally_follows_the_study(seed):
    study, rng = new_study(), np.random.default_rng(seed)
    for trial in coarse_trials(rng, 10):  # of an earlier run
        study.add_trial(trial)
    tally = Tally(study, LIMITS)
    for trial in coarse_trials(rng, 60):
        tally.add(add(study, trial))
        front = report.pareto_front(study)
        assert {t.number for t in tally.front} == {t.number for t in front}
        assert tally.hypervolume == pytest.approx(report.study_hypervolume(study, LIMITS))
        assert tally.best == max((t.values[0] for t in front), default=None)
    assert tally.done == 60


def test_the_tally_counts_each_kind():
    study = new_study()
    tally = Tally(study)
    for trial in (
        trained(0.9, 1.0, 100),
        trained(0.9, 1.0, 100, **{"nas:cached": True}),
        infeasible(0.0, 10.0, 2000),
        create_trial(state=TrialState.PRUNED),
        create_trial(state=TrialState.FAIL),
    ):
        tally.add(add(study, trial))
    counts = (tally.done, tally.trained, tally.cached, tally.infeasible, tally.failed)
    assert counts == (4, 1, 1, 1, 1)
    assert [t.number for t in tally.front] == [0]


def test_one_objective_to_minimise():
    study = new_study(["loss"], ["minimize"])
    tally = Tally(study)
    for value in (2.0, 1.0, 3.0):
        tally.add(add(study, trained(value)))
    assert (tally.best, len(tally.front)) == (1.0, 1)


def test_a_study_of_another_program_has_no_hypervolume():
    study = optuna.create_study(directions=["minimize", "minimize"])
    tally = Tally(study)
    tally.add(add(study, create_trial(values=[1.0, 2.0])))
    assert (tally.hypervolume, len(tally.front)) == (0.0, 1)


def test_budgets():
    tally = Tally(new_study())
    assert Budget(trials=4).share(tally) == 0.0
    tally.done, tally.trained = 2, 1
    assert Budget(trials=4).share(tally) == 0.5
    assert Budget(evaluations=4).share(tally) == 0.25
    assert Budget(trials=4, evaluations=1).share(tally) == 1.0
    assert Budget(trials=4).used(tally) == "2/4 trials"
    assert Budget(evaluations=4).used(tally) == "1/4 trained"
    assert Budget(trials=4).seconds_left(0.0, 0.0, 3.0) is None
    assert Budget(timeout=10.0).seconds_left(0.0, 0.0, 3.0) == 7.0
    assert Budget(trials=4).seconds_left(0.5, 10.0, 30.0) == 0.0  # a trial far longer than usual


def console(*, terminal):
    return Console(
        file=io.StringIO(), width=80, force_terminal=terminal, force_interactive=terminal
    )


def run(console, count, metrics=METRICS, directions=DIRECTIONS):
    study = new_study(metrics, directions)
    with RunProgress(study, Budget(trials=count), console, LIMITS) as progress:
        for i in range(count):
            values = [0.5 + i / (4 * count), 1.0 + i, 100 + i]
            progress(study, add(study, trained(*values[: len(metrics)])))
    return console.file.getvalue()


def test_a_log_gets_a_line_for_each_tenth_of_the_budget():
    lines = run(console(terminal=False), 40).splitlines()
    assert len(lines) == 10
    number = r"\d+(\.\d+)?"
    assert re.fullmatch(
        rf"4/40 trials, accuracy {number}, front 4, hypervolume {number}, infeasible 0, "
        r"cached 0, \d+:\d\d left",
        lines[0],
    )
    assert lines[-1].startswith("40/40 trials, ")


def test_a_log_gets_the_state_at_an_interruption():
    shown, study = console(terminal=False), new_study()
    with suppress(KeyboardInterrupt), RunProgress(study, Budget(trials=1000), shown) as progress:
        progress(study, add(study, trained(0.5, 1.0, 100)))
        raise KeyboardInterrupt
    assert shown.file.getvalue().startswith("1/1000 trials, accuracy 0.500, front 1, ")


def test_a_terminal_gets_a_bar_that_fits():
    text = run(console(terminal=True), 40)
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)
    last = [line for line in re.split(r"[\r\n]+", plain) if line.strip()][-2:]
    assert "━━━━" in last[0]
    assert last[0].rstrip().endswith("40/40 trials  0:00 left")
    assert "accuracy 0.744 · front 40 · hypervolume 0." in last[1]
    assert "infeasible 0 · cached 0" in last[1]
    assert all(len(line) <= 80 for line in last)


def test_one_objective_has_no_front():
    line = run(console(terminal=False), 1, ["accuracy"], ["maximize"])
    assert line.startswith("1/1 trials, accuracy 0.500, infeasible 0, cached 0, ")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_trial_costs_little_after_a_thousand(terminal):
    # Processor time of this thread, since other tests run beside it. The front has some 500
    # members, far more than a search finds; the bound is 2 ms.
    study, rng = new_study(), np.random.default_rng(0)
    points = rng.dirichlet(np.ones(3), 1100) * rng.uniform(0.9, 1.0, (1100, 1))
    with RunProgress(study, Budget(trials=1100), console(terminal=terminal), LIMITS) as progress:
        trials = [trained(a, 10 * (1 - b), 1000 * (1 - c)) for a, b, c in points.tolist()]
        for trial in trials[:1000]:
            progress(study, trial)
        began = time.thread_time()
        for trial in trials[1000:]:
            progress(study, trial)
        seconds = (time.thread_time() - began) / 100
    assert len(progress.tally.front) > 200
    assert seconds < 2e-3

"""Fronts, hypervolume, scores and spread against values worked out by hand."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from nas_optuna import SearchConstraints, report
from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.report import statistics

METRICS = ["accuracy", "latency_ms", "parameters"]
DIRECTIONS = ["maximize", "minimize", "minimize"]
LIMITS = SearchConstraints(max_latency_ms=10.0, max_parameters=1000)


def study_of(rows, directions=DIRECTIONS, storage=None):
    """A study with one finished trial per row; a row may be (values, constraint)."""
    study = optuna.create_study(directions=directions, storage=storage)
    for row in rows:
        values, violation = row if isinstance(row, tuple) else (row, None)
        constraints = None if violation is None else {"limit": violation}
        study.add_trial(create_trial(values=values, constraints=constraints))
    return study


def numbers(trials):
    return [trial.number for trial in trials]


def test_the_front_of_three_objectives():
    rows = [
        [0.9, 5.0, 500],
        [0.8, 5.0, 500],  # dominated by 0
        [0.8, 4.0, 600],
        [0.9, 5.0, 500],  # equal to 0
        [0.5, 9.0, 100],
        [0.5, 9.0, 101],  # dominated by 4 in one column
    ]
    assert numbers(report.pareto_front(study_of(rows))) == [0, 2, 4]


def test_infeasible_and_unfinished_trials_are_no_members():
    study = study_of([([1.0, 1.0, 1], 0.1), ([0.5, 5.0, 500], 0.0), [0.4, 4.0, 400]])
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.9}))
    study.add_trial(create_trial(state=TrialState.FAIL))
    study.ask()
    assert numbers(report.feasible_trials(study)) == [1, 2]
    assert numbers(report.pareto_front(study)) == [1, 2]


def test_optunas_older_list_of_constraints_counts_too():
    study = study_of([])
    for violation in (0.5, -0.5):
        attrs = {"constraints": [violation, -1.0]}
        study.add_trial(create_trial(values=[0.5, 5.0, 5], system_attrs=attrs))
    assert numbers(report.feasible_trials(study)) == [1]


def test_values_that_are_not_finite_are_no_measurements():
    study = study_of([[float("inf"), 1.0, 1], [0.5, 5.0, 500]])
    assert numbers(report.pareto_front(study)) == [1]


@pytest.mark.parametrize(("direction", "best"), [("maximize", 1), ("minimize", 0)])
def test_a_single_objective_has_its_best_trial(direction, best):
    study = study_of([[0.2], [0.7], [0.7], [0.5], ([0.0], 1.0), ([0.9], 1.0)], [direction])
    assert numbers(report.pareto_front(study)) == [best]


def test_the_front_of_nothing():
    assert report.pareto_front(study_of([])) == []
    assert report.study_hypervolume(named(study_of([]))) == 0.0


def test_the_front_is_read_from_a_database(tmp_path):
    study = study_of([[0.9, 5.0, 500], [0.8, 6.0, 600]], storage=f"sqlite:///{tmp_path}/a.db")
    assert numbers(report.pareto_front(study)) == [0]


def test_the_front_agrees_with_optunas():
    rng = np.random.default_rng(0)
    rows = [
        (values.tolist(), float(violation))
        for values, violation in zip(
            rng.integers(0, 8, (300, 3)).astype(float), rng.normal(size=300), strict=True
        )
    ]
    study = study_of(rows)
    theirs = {tuple(trial.values) for trial in study.best_trials}
    ours = [tuple(trial.values) for trial in report.pareto_front(study)]
    assert len(ours) == len(set(ours))
    assert set(ours) == theirs


def test_hypervolume_of_two_rectangles():
    # 0.9 x 10 + 0.5 x 10 more; the third point is dominated, the fourth beyond the reference
    values = [[0.9, 20.0], [0.5, 10.0], [0.4, 25.0], [0.99, 31.0]]
    directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert report.hypervolume(values, directions, [0.0, 30.0]) == pytest.approx(14.0)


def test_hypervolume_of_a_box_is_a_share():
    share = report.hypervolume([[0.5, 5.0, 500]], DIRECTIONS, [0, 10, 1000], [1, 0, 0])
    assert share == pytest.approx(0.125)
    both = report.hypervolume([[0.5, 5, 500], [1, 10, 0]], DIRECTIONS, [0, 10, 1000], [1, 0, 0])
    assert both == pytest.approx(0.125)  # on the reference in one column: no volume
    assert report.hypervolume([[1, 0, 0]], DIRECTIONS, [0, 10, 1000], [1, 0, 0]) == 1.0


def test_hypervolume_of_one_objective_is_the_gain():
    assert report.hypervolume([[0.5], [0.75]], ["maximize"], [0.25]) == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_hypervolume_leaves_out_what_is_not_finite(bad):
    rows = [[0.5, bad], [0.5, 5.0]]
    assert report.hypervolume(rows, ["maximize", "minimize"], [0, 10]) == pytest.approx(2.5)
    assert report.hypervolume([], ["maximize", "minimize"], [0, 10]) == 0.0


def test_hypervolume_refuses_points_that_do_not_fit():
    with pytest.raises(SettingError, match="one value per direction, got 2 for 3"):
        report.hypervolume([[1, 2, 3]], DIRECTIONS, [0, 10])
    with pytest.raises(SettingError, match="`ideal` must be better"):
        report.hypervolume([[1, 2, 3]], DIRECTIONS, [0, 10, 10], [1, 0, 10])


def named(study):
    study.set_metric_names(METRICS)
    return study


@pytest.mark.parametrize("constraints", [None, LIMITS])
def test_the_hypervolume_of_a_study_never_falls(constraints):
    rng = np.random.default_rng(1)
    study = named(study_of([]))
    history = []
    for _ in range(60):
        values = (rng.random(3) * [1.0, 12.0, 1200]).tolist()
        violation = float(values[1] > 10 or values[2] > 1000)
        study.add_trial(create_trial(values=values, constraints={"limit": violation}))
        history.append(report.study_hypervolume(study, constraints))
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(history))
    assert 0 <= history[0] < history[-1] < 1


def test_the_hypervolume_of_a_study_by_hand():
    study = named(study_of([[0.5, 5.0, 500], ([1.0, 1.0, 1], 1.0)]))
    assert report.study_hypervolume(study, LIMITS) == pytest.approx(0.125)


def test_a_metric_without_a_limit_has_a_logarithmic_ruler():
    (scale,) = report.scales(["parameters"], SearchConstraints(max_parameters=None))
    # log1p of 1e12 is 27.6: a tenth of the parameters is a twelfth of the ruler
    steps = np.diff(scale.positions([0, 1e3, 1e4, 1e5, 1e12]))
    assert steps[1:3] == pytest.approx([1 / 12, 1 / 12], abs=1e-4)
    assert scale.positions([0, 1e12, 1e13]).tolist() == pytest.approx([0, 1, 1])


def test_accuracy_has_the_whole_ruler_whatever_its_limit():
    (scale,) = report.scales(["accuracy"], SearchConstraints(min_accuracy=0.9))
    assert scale.positions([1.0, 0.75, 0.0]).tolist() == [0.0, 0.25, 1.0]


def test_scores_by_hand():
    values = [[0.9, 2.0, 500], [0.5, 0.0, 0], [1.0, 99.0, 9999]]
    scores = report.scores(values, METRICS, constraints=LIMITS)
    # costs beyond their limit are worth 0, not less
    assert scores == pytest.approx([0.54 + 0.16 + 0.1, 0.3 + 0.4, 0.6])


def test_weights_are_scaled_to_one():
    weights = {"accuracy": 3.0, "parameters": 1.0}
    scores = report.scores([[0.8, 9.0, 500]], METRICS, weights=weights, constraints=LIMITS)
    assert scores == pytest.approx([0.75 * 0.8 + 0.25 * 0.5])


def test_default_weights_are_shared_by_the_metrics_there_are():
    scores = report.scores([[0.8, 500]], ["accuracy", "parameters"], constraints=LIMITS)
    assert scores == pytest.approx([0.75 * 0.8 + 0.25 * 0.5])
    limits = SearchConstraints(max_flops=100.0)
    scores = report.scores([[25.0, 10.0]], ["flops", "layers"], constraints=limits)
    assert scores == pytest.approx([0.5 * 0.75 + 0.5 * 0.8])  # max_layers is 50


def test_wrong_weights_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        report.scores([[0.5, 1, 1]], METRICS, weights={"acuracy": 1.0})
    with pytest.raises(UnknownNameError, match="'flops'"):
        report.scores([[0.5, 1, 1]], METRICS, weights={"flops": 1.0})
    for weight in (-1.0, float("nan")):
        with pytest.raises(SettingError, match="must be 0 or more"):
            report.scores([[0.5, 1, 1]], METRICS, weights={"accuracy": weight})
    with pytest.raises(SettingError, match="above 0"):
        report.scores([[0.5, 1, 1]], METRICS, weights={"accuracy": 0.0})


def test_spread_keeps_the_best_of_each_column():
    rng = np.random.default_rng(2)
    values = rng.random((100, 3))
    kept = report.spread(values, 6)
    assert set(values.argmin(axis=0)) <= set(kept)
    assert len(kept) == len(set(kept)) == 6
    assert kept == sorted(kept)


def test_spread_leaves_no_gap_on_a_line():
    # Eleven even steps with a crowd at one end: the crowd gets no more than its share.
    line = np.linspace(0, 1, 11)
    x = np.concatenate([line, np.linspace(0.0, 0.01, 50)])
    values = np.stack([x, 1 - x], axis=1)
    chosen = np.sort(x[report.spread(values, 6)])
    assert np.diff(chosen).max() <= 0.3
    assert np.diff(chosen).min() >= 0.1


def test_spread_of_small_and_equal_fronts():
    assert report.spread(np.empty((0, 2)), 3) == []
    assert report.spread([[1.0, 2.0], [2.0, 1.0]], 5) == [0, 1]
    assert report.spread(np.ones((5, 2)), 3) == [0, 1, 2]
    assert report.spread([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]], 1) == [0]
    with pytest.raises(SettingError, match="1 or more, got 0"):
        report.spread([[1.0]], 0)


def test_names_of_a_study_without_any():
    assert statistics.metric_names(study_of([])) == ["value_0", "value_1", "value_2"]


def test_the_report_does_not_import_torch():
    code = "import sys, nas_optuna.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

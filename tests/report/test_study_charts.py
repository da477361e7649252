"""The numbers of a study's charts against studies written down by hand."""

from itertools import pairwise

import numpy as np
import optuna
import pytest
from matplotlib.figure import Figure
from optuna.trial import TrialState, create_trial

from nas_optuna.recording import CACHED, LATENCY, PREDICTED
from nas_optuna.report.charts import Curve, Panel
from nas_optuna.report.images import _draw_panel, chart_png
from nas_optuna.report.landscape import FEASIBLE, FRONT, INFEASIBLE, landscape
from nas_optuna.report.study_charts import (
    PRUNED,
    curves_chart,
    front_chart,
    front_cloud,
    growth_chart,
)
from nas_optuna.report.study_plots import curves_figure, front_figures, hypervolume_figure
from tests.report.studies import LIMIT, empty, judged, pruned, too_large


@pytest.fixture
def study():
    made = empty()
    rows = [
        judged([0.90, 2.0, 1000.0]),
        judged([0.80, 1.0, 2000.0]),
        judged([0.70, 3.0, 3000.0]),  # dominated
        judged([0.95, 9.0, 90_000.0]),
        too_large(2.0 * LIMIT),
        pruned([0.1, 0.2]),
        create_trial(state=TrialState.FAIL),
    ]
    for row in rows:
        made.add_trial(row)
    return made


def marks_of(panel):
    return {mark.name: mark for mark in panel.marks}


def test_each_trial_lies_where_its_values_are(study):
    seen = landscape(study)
    assert [t.number for t in seen.trials] == [0, 1, 2, 3, 4]
    assert seen.kinds.tolist() == [FRONT, FRONT, FEASIBLE, FRONT, INFEASIBLE]
    assert seen.values[:4].tolist() == [list(t.values) for t in seen.trials[:4]]
    assert seen.logarithmic == (False, False, True)
    assert seen.text(0) == "trial 0\naccuracy 0.900\nlatency_ms 2.00 ms\nparameters 1,000"


def test_what_was_not_measured_lies_beyond_the_worst(study):
    seen = landscape(study)
    accuracy, latency, parameters = seen.values[4]
    assert seen.measured[4].tolist() == [False, False, True]
    assert parameters == 2.0 * LIMIT
    assert accuracy == pytest.approx(0.70 - 0.06 * 0.25)
    assert latency == pytest.approx(9.0 + 0.06 * 8.0)
    assert seen.text(4).splitlines()[1:3] == ["accuracy not measured", "latency_ms not measured"]


def test_a_predicted_value_is_marked():
    made = empty()
    made.add_trial(judged([0.9, 2.0, 1000.0], **{PREDICTED: True}))
    told = {"median_ms": 2.0, "iqr_ms": 0.1, "threads": 1, "device": "cpu"}
    made.add_trial(judged([0.8, 2.0, 900.0], **{PREDICTED: True, LATENCY: told}))
    first, second = (landscape(made).text(i) for i in range(2))
    assert "accuracy ~0.900\nlatency_ms ~2.00 ms\nparameters 1,000" in first
    assert "accuracy ~0.800\nlatency_ms 2.00 ms\nparameters 900" in second


def test_the_front_of_two_objectives_is_a_staircase(study):
    chart = front_chart(landscape(study))
    assert [(panel.x, panel.y) for panel in chart.panels] == [
        ("latency_ms (ms)", "accuracy"),
        ("parameters", "accuracy"),
        ("parameters", "latency_ms (ms)"),
    ]
    stairs = marks_of(chart.panels[0])["front of these two alone"]
    assert stairs.x.tolist() == [1.0, 2.0, 9.0]
    assert stairs.y.tolist() == [0.80, 0.90, 0.95]
    small = marks_of(chart.panels[2])["front of these two alone"]
    assert (small.x.tolist(), small.y.tolist()) == ([1000.0, 2000.0], [2.0, 1.0])
    assert chart.panels[1].logarithmic == (True, False)
    points = marks_of(chart.panels[0])
    assert points[FRONT].x.tolist() == [2.0, 1.0, 9.0]
    assert list(points)[:3] == [INFEASIBLE, FEASIBLE, FRONT]  # the front is drawn last
    assert (
        "5 finished trials, 3 on the front; 1 infeasible ones in grey, at the edge" in chart.text
    )


def test_stairs_follow_the_directions():
    made = empty(names=None, directions=["maximize", "maximize"])
    for values in ([1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [1.0, 1.0]):
        made.add_trial(create_trial(values=values))
    (panel,) = front_chart(landscape(made)).panels
    stairs = marks_of(panel)["front"]
    assert (panel.x, panel.y) == ("value_1", "value_0")
    assert stairs.x.tolist() == [3.0, 2.0, 1.0]  # from the best of x on, which holds below it
    assert stairs.y.tolist() == [1.0, 2.0, 3.0]


def test_three_dimensions(study):
    cloud = front_cloud(landscape(study))
    assert cloud.axes == ("parameters", "latency_ms (ms)", "accuracy")
    assert cloud.logarithmic == (True, False, False)
    front = {mark.name: mark for mark in cloud.marks}[FRONT]
    assert front.z.tolist() == [0.90, 0.80, 0.95]
    assert front_cloud(landscape(empty(["accuracy", "flops"], ["maximize", "minimize"]))) is None


def test_hypervolume_grows_with_the_front(study):
    chart = growth_chart(study)
    labels = [panel.x for panel in chart.panels]
    assert labels[0] == "finished trials"
    assert labels[-1] == "seconds of evaluations and sampler"
    (curve,) = chart.panels[0].marks
    assert curve.x.tolist() == [1.0, 2.0, 4.0, 6.0]  # where it grew, and where the study ended
    assert all(b >= a for a, b in pairwise(curve.y))
    # Sides: accuracy 0.785 to 0.95, latency 9.8 to 1, parameters 98,900 to 1,000.
    first = (0.90 - 0.785) / 0.165 * (9.8 - 2.0) / 8.8 * 1.0
    assert curve.y[0] == pytest.approx(first)
    assert chart.panels[-1].marks[0].x[-1] == pytest.approx(4 * 2.5 + 1.0)


def test_a_study_of_one_objective_shows_its_best_value():
    made = empty(["loss"], ["minimize"])
    for value in (3.0, 5.0, 2.0):
        made.add_trial(judged([value], names=["loss"]))
    chart = growth_chart(made)
    (curve,) = chart.panels[0].marks
    assert (chart.title, curve.x.tolist()) == ("Best loss over what was spent", [1.0, 3.0])
    assert curve.y.tolist() == [3.0, 2.0]
    points = marks_of(front_chart(landscape(made)).panels[0])
    assert points[FRONT].x.tolist() == [2.0]
    assert points[FEASIBLE].y.tolist() == [3.0, 5.0]
    assert len(front_figures(made)) == 1


def test_curves_end_where_they_were_stopped():
    made = empty()
    made.add_trial(judged([0.9, 2.0, 1000.0], curve=[0.5, 0.9]))
    made.add_trial(judged([0.8, 3.0, 2000.0], curve=[0.4, 0.8]))
    made.add_trial(judged([0.8, 3.0, 2000.0], curve=[0.4, 0.8], **{CACHED: True}))  # seen before
    made.add_trial(pruned([0.1, 0.2, 0.15]))
    chart = curves_chart(made)
    marks = marks_of(chart.panels[0])
    np.testing.assert_array_equal(marks[FRONT].y, [0.5, 0.9, np.nan])
    np.testing.assert_array_equal(marks[FEASIBLE].y, [0.4, 0.8, np.nan])
    np.testing.assert_array_equal(marks[PRUNED].x, [1, 2, 3, np.nan])
    stopped = marks["where it was stopped"]
    assert (stopped.x.tolist(), stopped.y.tolist(), stopped.symbol) == ([3.0], [0.15], "x")
    assert chart.text == "All curves; a cross marks where the pruner stopped a training."
    assert marks[FRONT].texts[1] == "trial 0, epoch 2\n0.900"


def test_of_many_curves_some_are_drawn_and_that_is_said():
    made = empty()
    made.add_trials([judged([0.5, 1.0 + i, 1e3 + i], curve=[0.1] * 200) for i in range(300)])
    chart = curves_chart(made)
    assert chart.text == "31 of 300 curves, evenly chosen."
    lines = marks_of(chart.panels[0])[FEASIBLE]
    drawn = np.split(lines.x, np.flatnonzero(np.isnan(lines.x)))
    assert len(drawn) - 1 == 30
    assert (len(drawn[0]), drawn[0][0], drawn[0][-1]) == (60, 1.0, 200.0)
    assert lines.texts[-2].startswith("trial 299,")


def test_without_a_finished_trial_there_is_an_empty_chart():
    made = empty()
    made.ask()
    assert front_chart(landscape(made)).text == "No trial has finished yet."
    assert growth_chart(made).text == "No feasible network has been found yet."
    assert curves_chart(made).text == "No training has reported its epochs yet."
    assert front_cloud(landscape(made)) is None
    assert len(front_figures(made)) == 1


def test_a_study_without_a_feasible_trial():
    made = empty()
    made.add_trial(too_large(2.0 * LIMIT))
    assert landscape(made).values.tolist() == [[0.0, 0.0, 2.0 * LIMIT]]
    assert list(marks_of(front_chart(landscape(made)).panels[0])) == [INFEASIBLE]
    assert growth_chart(made).panels[0].marks == ()


def test_figures_have_a_title_and_escape_names():
    made = empty(["<b>&", "flops"], ["maximize", "minimize"])
    made.add_trial(create_trial(values=[1.0, 2.0]))
    plane, growth, curves = (
        *front_figures(made), hypervolume_figure(made), curves_figure(made),
    )  # fmt: skip
    assert plane.layout.title.text.startswith("Pareto front<br><sup>1 finished trial")
    assert plane.data[0].hovertext == ("trial 0<br>&lt;b&gt;&amp; 1<br>flops 2",)
    assert "<b>" not in plane.to_json()
    assert plane.layout.yaxis.title.text == "&lt;b&gt;&amp;"
    assert growth.layout.title.text.startswith("Hypervolume")
    assert curves.layout.title.text.startswith("Learning curves")


def test_charts_are_drawn_into_files_too(study):
    for chart in (front_chart(landscape(study)), growth_chart(study), curves_chart(study)):
        assert chart_png(chart).startswith(b"\x89PNG")


@pytest.mark.parametrize(("epochs", "halves"), [([1.0, 2.0, 3.0], False), ([1.0, 1.5, 2.0], True)])
def test_whole_numbers_get_no_ticks_between_them(epochs, halves):
    ax = Figure().subplots()
    curve = Curve(name="a", x=np.array(epochs), y=np.array([0.1, 0.2, 0.3]), colour="#000000")
    _draw_panel(ax, Panel(title="", x="epoch", y="accuracy", marks=(curve,)))
    assert any(tick % 1 for tick in ax.get_xticks()) == halves


def test_a_trial_of_another_program_is_taken_at_its_word():
    made = optuna.create_study(directions=["minimize", "minimize"])
    made.add_trial(create_trial(values=[1.0, 2.0], constraints={"c": 1.0}))
    made.add_trial(create_trial(values=[float("inf"), 2.0]))
    seen = landscape(made)
    assert (seen.values.tolist(), seen.kinds.tolist()) == ([[1.0, 2.0]], [INFEASIBLE])

"""Charts by their numbers, files by their content, and the page in a real browser."""

import csv
import io
import sys
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from nas_optuna.errors import SettingError
from nas_optuna.report.charts import Bars, Chart, Curve, Interval, Panel, Points, Spread
from nas_optuna.report.comparison_charts import (
    attainment_chart,
    best_chart,
    cost_chart,
    final_chart,
    hypervolume_chart,
    importance_chart,
    ranking_chart,
)
from nas_optuna.report.comparison_page import (
    Findings,
    comparison_html,
    comparison_markdown,
    write_findings,
)
from nas_optuna.report.comparison_tables import choices_sheet, standings_sheet
from nas_optuna.report.images import chart_png
from nas_optuna.report.importance import Choice
from nas_optuna.report.outcome import Outcome, Truth
from nas_optuna.report.page import Page
from nas_optuna.report.plots import plotly_figure
from nas_optuna.report.runs import BUDGETS, Limits
from tests.report.contests import METRICS, contest, make_run

IMPORTANCES = {"accuracy": {"gene": 0.7, "other": 0.3}, "latency_ms": {"gene": 1.0}}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def findings():
    choices = [Choice("gene", "<b>conv</b>", 0.75, 0.25)]
    outcome = contest({"random": 0.0, "tpe": 0.6, "a<b>&": 0.3}, truth=True)
    return Findings("Samplers on digits & <more>", outcome, IMPORTANCES, choices)


def test_hypervolume_is_drawn_over_each_budget(findings):
    chart = hypervolume_chart(findings.outcome)
    assert len(chart.panels) == len(BUDGETS)
    for panel in chart.panels:
        *curves, level = panel.marks
        assert [curve.name for curve in curves] == ["random", "tpe", "a<b>&"]
        assert level.name == "true front"
        for curve in curves:
            assert all(b >= a for a, b in pairwise(curve.y))
            assert (curve.low <= curve.high).all()
            assert curve.y[-1] < level.y[0]
    epochs = chart.panels[2].marks[0]
    assert (epochs.x[0], epochs.x[-1]) == (1.0, 20.0)


def test_a_budget_that_nothing_costs_is_not_drawn():
    run = make_run("a", 0, [[0.5, 1.0], [0.6, 0.5]], costs=[0.0, 0.0])
    outcome = Outcome((run,), METRICS, Limits(2))
    assert len(hypervolume_chart(outcome).panels) == 2


def test_best_accuracy_starts_where_all_seeds_have_one():
    runs = [
        make_run("a", 0, [[np.nan, np.nan], [np.nan, np.nan], [0.7, 1.0], [0.8, 2.0]]),
        make_run("a", 1, [[0.5, 1.0], [0.4, 1.0], [0.6, 1.0], [0.5, 1.0]]),
    ]
    (curve,) = best_chart(Outcome(tuple(runs), METRICS, Limits(4))).panels[0].marks
    assert curve.x[0] == pytest.approx(3.0, abs=0.02)
    assert (curve.y[0], curve.y[-1]) == (pytest.approx(0.65), pytest.approx(0.7))


def test_surfaces_go_from_cheap_and_bad_to_dear_and_good(findings):
    (panel,) = attainment_chart(findings.outcome).panels
    solid = [mark for mark in panel.marks if not mark.thin]
    assert [mark.name for mark in solid] == ["random", "tpe", "a<b>&", "true front"]
    assert solid[-1].dashed
    for mark in panel.marks:
        assert all(b > a for a, b in pairwise(mark.x))
        assert all(b > a for a, b in pairwise(mark.y))


def test_surfaces_end_where_the_runs_are_compared():
    values = [[0.5, 1.0], [0.6, 2.0], [0.9, 3.0]]
    cheap, dear = make_run("a", 0, values), make_run("b", 0, values, costs=[1.0, 2.0, 1.0])
    outcome = Outcome((cheap, dear), METRICS, Limits(4, epochs=9.0))
    assert outcome.end("epochs") == 3.0
    chart = attainment_chart(outcome)
    (panel,) = chart.panels
    solid = {mark.name: mark.y.tolist() for mark in panel.marks if not mark.thin}
    assert solid == {"a": [0.5, 0.6, 0.9], "b": [0.5, 0.6], "all runs": [0.5, 0.6, 0.9]}
    assert chart.text.startswith("After 3 epochs.")


def test_ranks_lie_in_the_middle_of_their_bars(findings):
    (panel,) = ranking_chart(findings.outcome).panels
    ranking = findings.outcome.ranking
    for mark in panel.marks:
        assert mark.value == ranking.ranks[mark.name]
        assert mark.high - mark.low == pytest.approx(ranking.critical)
    assert panel.marks[0].name == "tpe"


def test_each_seed_is_a_point(findings):
    volumes, bests = final_chart(findings.outcome).panels
    assert [mark.name for mark in volumes.marks] == list(findings.outcome.order)
    assert volumes.marks[0].values.tolist() == findings.outcome.scores["tpe"].tolist()
    assert len(bests.marks[0].values) == 8


def test_trials_are_split_by_what_became_of_them():
    values = [[0.5, 1.0], [0.5, 1.0], [np.nan, np.nan], [np.nan, np.nan]]
    kinds = ["evaluated", "repeated", "infeasible", "pruned"]
    run = make_run("a", 0, values, kinds=kinds, sampling=0.25)
    trials, judging, sampling = cost_chart(Outcome((run,), METRICS, Limits(4))).panels
    assert {mark.name: mark.values for mark in trials.marks} == dict.fromkeys(kinds, (0.25,))
    assert judging.marks[0].values == (7.0,)  # 8 seconds less one of the sampler
    assert sampling.marks[0].values == (250.0,)


def test_answers_of_a_table_of_cells_stay_in_their_cell():
    sheet = choices_sheet([Choice("op\nof 1", "|nor_conv_3x3~0|+|none~0|", 0.5, 0.2)])
    *_, row = sheet.markdown().splitlines()
    answer = r"\|nor\_conv\_3x3\~0\|+\|none\~0\|"
    assert row == rf"| op of 1 | {answer} | 50 % | 20 % |"


@pytest.mark.parametrize("name", ["a$x_{$", r"\$a$b_{$"])
def test_dollars_in_names_are_drawn_as_they_are(name):
    chart = importance_chart({name: {name: 1.0, "b": 0.3}})
    assert chart_png(chart).startswith(PNG)
    marks = (
        Curve(name, np.array([1.0, 2.0]), np.array([1.0, 2.0]), colour="#000000"),
        Points(name, np.array([1.0]), np.array([1.0]), colour="#000000"),
        Bars(name, (name,), (1.0,), "#000000"),
    )
    spreads = (Spread(name, np.array([1.0, 2.0]), "#000000"),)
    ranks = (Interval(name, 1.0, 0.5, 1.5, "#000000"),)
    panels = [Panel(name, name, (mark,), title=name) for mark in (*marks, *spreads, *ranks)]
    assert chart_png(Chart("c", name, "", tuple(panels))).startswith(PNG)


def test_a_chart_of_importances_shows_the_largest():
    chart = importance_chart({"accuracy": {f"g{i}": i / 100 for i in range(30)}, "flops": {}})
    (panel,) = chart.panels
    assert len(panel.marks[0].categories) == 15
    assert panel.marks[0].values[0] == 0.29


def test_every_mark_is_drawn_once(findings):
    for chart in findings.charts:
        figure = plotly_figure(chart)
        wanted = sum(
            3 if isinstance(mark, Curve) and mark.low is not None else 1
            for panel in chart.panels
            for mark in panel.marks
        )
        assert len(figure.data) == wanted
        named = [trace.name for trace in figure.data if trace.showlegend]
        assert len(named) == len(set(named))


def test_tables_and_verdict_are_in_the_markdown(findings):
    text = comparison_markdown(findings)
    assert text.startswith("# Samplers on digits \\& \\<more\\>\n\ntpe wins: at 20 trials")
    assert "\n| gene | \\<b\\>conv\\</b\\> |" in text
    rows = [line for line in text.splitlines() if line.startswith("| tpe |")]
    assert rows[0].count("|") == text[text.index("| sampler |") :].splitlines()[0].count("|")
    mean = findings.outcome.scores["tpe"].mean()
    assert f"{mean:.4f} (" in rows[0]
    assert "the true front of a line" in text


def test_seeds_that_found_nothing_are_told_beside_the_mean():
    runs = [make_run("a", seed, [[np.nan, np.nan]]) for seed in range(9)]
    runs += [make_run("a", 9, [[0.9, 1.0]])]
    runs += [make_run("b", seed, [[0.8, 1.0]]) for seed in range(10)]
    truth = Truth("a table", np.array([[0.95, 1.0], [0.5, 0.5]]))
    rows = standings_sheet(Outcome(tuple(runs), METRICS, Limits(1), truth)).rows
    cells = {row[0]: row[3:5] for row in rows}
    assert cells["a"] == ("0.9000 (1 of 10 seeds)", "0.0500 (1 of 10 seeds)")
    assert cells["b"] == ("0.8000", "0.1500")
    nothing = standings_sheet(Outcome((*runs[:9], *runs[10:19]), METRICS, Limits(1), truth)).rows
    assert {row[0]: row[3:5] for row in nothing}["a"] == ("-", "-")


def test_csv_files_hold_all_numbers(findings, tmp_path):
    written, left_out = write_findings(findings, tmp_path / "out")
    assert left_out == []
    assert {file.name for file in written} == {file.name for file in (tmp_path / "out").iterdir()}
    pictures = [file for file in written if file.suffix == ".png"]
    assert len(pictures) == len(findings.charts)
    assert all(file.read_bytes().startswith(PNG) for file in pictures)
    rows = {
        name: list(csv.DictReader(io.StringIO((tmp_path / f"out/{name}.csv").read_text())))
        for name in ("runs", "curves", "pairs")
    }
    assert (len(rows["runs"]), len(rows["curves"]), len(rows["pairs"])) == (24, 24 * 20, 3)
    last = [row for row in rows["curves"] if row["sampler"] == "tpe" and row["seed"] == "3"][-1]
    run = next(row for row in rows["runs"] if row["sampler"] == "tpe" and row["seed"] == "3")
    assert last["hypervolume"] == run["hypervolume"]
    assert float(run["hypervolume"]) == findings.outcome.scores["tpe"][3]


class Tags(HTMLParser):
    """Collects what a page would load."""

    def __init__(self):
        super().__init__()
        self.loads = []

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href") and value]


def test_a_page_loads_nothing(findings):
    tags = Tags()
    tags.feed(comparison_html(findings))
    assert all(load.startswith("data:") for load in tags.loads)


def test_a_page_of_tables_carries_no_code():
    page = Page("a & b")
    page.section("x", page.table(["<i>"], [["1 < 2"]]), page.picture(PNG, 'a "dot"'))
    html = page.html()
    assert "<script" not in html
    assert "<title>a &amp; b</title>" in html
    assert "<th>&lt;i&gt;</th>" in html
    assert "1 &lt; 2" in html
    assert 'alt="a &quot;dot&quot;"' in html


def test_a_browser_draws_every_figure_without_network_and_without_complaint(
    findings, browser, tmp_path
):
    file = tmp_path / "comparison.html"
    file.write_text(comparison_html(findings), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.context.set_offline(True)
    complaints, loaded = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_function(
        """() => [...document.querySelectorAll('.plotly-graph-div')]
            .every(div => div.querySelector('.main-svg'))""",
        timeout=30_000,
    )
    drawn = page.evaluate(
        """() => [...document.querySelectorAll('.plotly-graph-div')].map(div => ({
            wanted: div.data.length, drawn: div.querySelectorAll('.trace').length,
            wide: div.getBoundingClientRect().width, high: div.getBoundingClientRect().height,
        }))"""
    )
    assert len(drawn) == len(findings.charts) == 7
    for figure in drawn:
        assert figure["drawn"] == figure["wanted"] > 0
        assert figure["wide"] > 600
        assert figure["high"] > 300
    assert complaints == []
    assert loaded == [file.as_uri()]
    assert page.locator("h1").inner_text() == "Samplers on digits & <more>"
    assert page.locator("p.lead").inner_text().startswith("tpe wins")
    assert page.locator("td", has_text="a<b>&").count() > 0
    assert page.locator("b").count() == 0  # nothing of a name became a tag
    page.close()


def test_a_missing_extra_costs_one_line(findings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    written, left_out = write_findings(findings, tmp_path)
    assert left_out == ["Figures as PNG need matplotlib: pip install 'nas-optuna[plots]'"]
    assert [file.suffix for file in written] == [".html", ".md", ".csv", ".csv", ".csv"]
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(SettingError, match=r"plotly: pip install 'nas-optuna\[dashboard\]'"):
        comparison_html(findings)


def test_panels_share_rows():
    panel = Panel("x", "y", (Curve("a", np.arange(2.0), np.arange(2.0)),))
    assert [Chart("n", "t", "", (panel,) * n).rows for n in (1, 2, 3, 4)] == [1, 1, 2, 2]

"""The report of a study: its facts, its Markdown, and the page in a real browser."""

from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from nas_optuna import ArchitectureBuilder, SearchConstraints
from nas_optuna.errors import SettingError
from nas_optuna.recording import ARCHITECTURE, CACHED, FAILED, HEALTH, INFEASIBLE, PREDICTED
from nas_optuna.report.document import document_html, document_markdown
from nas_optuna.report.infeasibility import broken_limits, infeasibility_text
from nas_optuna.report.spending import spending
from nas_optuna.report.study_page import Asked, study_document, write_study_report
from nas_optuna.storage.ownership import retry
from tests.report.studies import LIMIT, empty, judged, large, pruned, too_large
from tests.report.test_comparison_page import Tags

LIMITS = SearchConstraints(max_parameters=LIMIT)
EVIL = "<script>alert(1)</script>"
ASKED = Asked(
    title=f"digits {EVIL}",
    facts=[("space", f"cells & {EVIL}")],
    runs=[("Run since noon", [("strategy", "tpe"), ("seed", "7")])],
    genes=[(f"g0 {EVIL}", "a, b")],
    commands=["nas-optuna run digits.py --seed 7"],
    source=f"search = 1 < 2  # {EVIL}",
    constraints=LIMITS,
)


def network(width, name="conv"):
    net = ArchitectureBuilder((1, 8, 8), num_classes=10)
    return net.build(net.classifier(net.conv2d(net.input, width, name=name))).to_json()


@pytest.fixture(scope="module")
def study():
    """Three on the front, one of them predicted; others of all kinds."""
    made = empty()
    curve = [0.2, 0.6, 0.9]
    hostile = {f"g{EVIL}": EVIL, "g1": "b"}
    made.add_trials(
        [
            judged([0.90, 2.0, 1000.0], curve=curve, params=hostile, **{ARCHITECTURE: network(8)}),
            judged([0.80, 1.0, 2000.0], **{PREDICTED: True, ARCHITECTURE: network(16)}),
            judged([0.95, 9.0, 9000.0], curve=curve),
            judged([0.60, 9.5, 9500.0], curve=curve),
            judged([0.60, 9.5, 9500.0], curve=curve, **{CACHED: True}),
            too_large(2.0 * LIMIT),
            too_large(3.0 * LIMIT),
            pruned([0.1]),
            create_trial(state=TrialState.FAIL, user_attrs={FAILED: f"NameError: {EVIL}"}),
            create_trial(state=TrialState.FAIL),
        ]
    )
    retry(made, made.trials[8])
    return made


@pytest.fixture(scope="module")
def markdown(study):
    return document_markdown(study_document(study, ASKED))


def section(markdown, heading):
    """The lines of one section."""
    return markdown.split(f"\n## {heading}\n")[1].split("\n## ")[0].strip().splitlines()


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_front_is_listed_with_values_and_costs(markdown):
    lines = section(markdown, "The front")
    rows = {cells(line)[0]: cells(line)[1:] for line in lines[2:] if line.startswith("|")}
    assert set(rows) == {"0", "1", "2"}
    assert rows["0"][:3] == ["0.900", "2.00 ms", "1,000"]
    assert rows["0"][4:] == ["3", "2.0"]
    assert rows["1"][0] == r"\~0.800"
    assert lines[-1] == r"\~ is predicted, not measured."
    lead = "3 networks on the Pareto front of 8 finished trials, 1 of them stopped early. Best "
    assert f"\n{lead}score: trial " in markdown


def test_networks_come_with_words_and_curves(markdown):
    lines = section(markdown, "Networks")
    text = "\n".join(lines)
    assert "From 1x8x8 to 10 classes, up to 8 wide" in text.replace("\N{MULTIPLICATION SIGN}", "x")
    assert "first 0.200, best 0.900 (epoch 3), last 0.900" in text
    assert r"1,000 \[≤ 400,000\]" in text
    assert "Its space returns a module, so there is no graph to draw." in text  # trial 2
    assert text.index("### Trial 1") < text.index("### Trial 2")


def test_trials_and_costs_are_counted(study):
    spent = spending(study)
    assert spent.counts == {
        "trials": 11, "evaluated": 3, "predicted": 1, "answered from the cache": 1,
        "stopped early": 1, "infeasible": 2, "failed": 2, "waiting": 1,
    }  # fmt: skip
    assert (spent.evaluations, spent.epochs, spent.seconds) == (4, 10.0, 7.0)
    assert spent.saved_epochs == 3.0
    assert spent.sampling == 2.5
    assert dict(spent.rows)["sampler"] == "2.5 s (26.3 %)"
    assert spent.failures == {
        f"NameError: {EVIL}": [8],
        "Its process ended without a word, or was not heard of for too long": [9],
    }
    assert spent.retries == 1
    long = replace(spent, sampling=90.0, elapsed=3675.0)
    assert dict(long.rows)["sampler"] == "1:30 min (92.8 %)"
    assert dict(long.rows)["from first to last"] == "1:01:15 h"


def test_failures_are_told_with_their_reasons(markdown):
    lines = section(markdown, "Trials and what they cost")
    assert [cells(line) for line in lines if "NameError" in line] == [
        [r"NameError: \<script\>alert(1)\</script\>", "1", "8"]
    ]
    assert "1 of them were repeated." in lines[-1]


def test_limits_are_told_in_words():
    made = empty()
    for share in (0.5, 0.9, *[1.5] * 3, *[4.0] * 5):
        made.add_trial(too_large(share * LIMIT) if share > 1 else judged([0.5, 1, share * LIMIT]))
    text = infeasibility_text(made.trials, {"max_parameters": LIMIT, "max_layers": 9})
    assert text == (
        "8 of 10 (80 %) are infeasible. 80 % break max_parameters 400,000; 1,100,000 would let "
        "50 % pass."
    )


def test_the_limit_that_lets_half_pass_is_right_for_accuracy_too():
    trials = [
        create_trial(value=value, constraints={"min_accuracy": 1 - value / 0.9})
        for value in (0.3, 0.5, 0.7, 0.95)
    ]
    (broken,) = broken_limits(trials, {"min_accuracy": 0.9})
    assert (broken.known, broken.share, broken.half) == (4, 0.75, pytest.approx(0.6))
    assert broken.text == "75 % break min_accuracy 0.9; 0.600 would let 50 % pass"


def test_networks_that_do_not_run_are_another_reason():
    trials = [
        create_trial(value=0.0, constraints={"build": 1.0}, user_attrs={INFEASIBLE: "no kernel"}),
        create_trial(value=0.5, constraints={"max_layers": -0.5}),
    ]
    text = infeasibility_text(trials, {"max_layers": 9})
    assert text == "1 of 2 (50 %) are infeasible. 1 for another reason."
    made = optuna.create_study(direction="maximize")
    made.add_trials(trials)
    lines = section(document_markdown(study_document(made, ASKED)), "Limits")
    assert cells(lines[-1]) == ["no kernel", "1"]
    assert infeasibility_text(trials[1:], {}) == "All 1 are feasible."


def test_all_that_repeats_it_is_there(markdown):
    lines = section(markdown, "The question")
    for line in ("| seed | 7 |", "    nas-optuna run digits.py --seed 7"):
        assert line in lines
    assert f"    search = 1 < 2  # {EVIL}" in lines  # code, which is shown as it is


def test_proxy_health_is_told_where_there_is_some(markdown):
    assert "Proxy health" not in markdown
    made = empty()
    made.add_trial(judged([0.9, 2.0, 1000.0]))
    record = {
        "accuracy": 0.9, "score": 0.5, "parameters": 3.0, "reference": "FullTraining",
        "epochs": 3, "seconds": 1.0, "cached": False, "top": True,
    }  # fmt: skip
    made.set_user_attr(f"{HEALTH}0", record)
    made.set_user_attr(f"{HEALTH}1", {**record, "accuracy": 0.8, "score": 0.4})
    lines = section(document_markdown(study_document(made, ASKED)), "Proxy health")
    assert lines[0].startswith("Proxy health: 2 networks trained by FullTraining")
    assert "Kendall tau 1.00" in lines[0]


@pytest.mark.parametrize(
    ("trials", "lead"),
    [
        ([], "No trial has finished yet."),
        ([create_trial(state=TrialState.FAIL)], "No trial has finished yet."),
        ([too_large(2.0 * LIMIT)], "None of 1 finished trial is feasible; see Limits below."),
        (
            [too_large(2.0 * LIMIT), pruned([0.1])],
            "None of 2 finished trials, 1 of them stopped early, is feasible; see Limits below.",
        ),
        ([pruned([0.1, 0.2])] * 3, "No trial has run to its end; 3 were stopped early."),
        ([pruned([0.1])], "No trial has run to its end; 1 was stopped early."),
    ],
)
def test_a_study_that_found_nothing_says_so(trials, lead):
    made = empty()
    made.add_trials(trials)
    document = study_document(made, ASKED)
    assert document.lead == lead
    headings = [part.heading for part in document.sections]
    assert "The front" not in headings
    assert headings[-1] == "Trials and what they cost"
    assert "<h1>" in document_html(document)


def test_curves_are_drawn_where_every_training_was_stopped_early():
    made = empty()
    made.add_trials([pruned([0.1, 0.2]), pruned([0.3])])
    (section,) = (
        s for s in study_document(made, ASKED).sections if s.heading == "Learning curves"
    )
    (chart,) = section.blocks
    assert chart.text == "All curves; a cross marks where the pruner stopped a training."
    lines, ends = chart.panels[0].marks
    assert lines.y[~np.isnan(lines.y)].tolist() == [0.1, 0.2, 0.3]
    assert ends.y.tolist() == [0.2, 0.3]


def test_a_study_of_one_objective():
    made = empty(["accuracy"], ["maximize"])
    for value in (0.5, 0.9):
        made.add_trial(judged([value], names=["accuracy"]))
    document = study_document(made, ASKED)
    assert document.lead == "Best of 2 finished trials: trial 1, accuracy 0.900."
    assert document.sections[1].heading == "The best network"


def test_a_drawing_that_cannot_be_made_costs_only_itself():
    made = empty()
    made.add_trial(judged([0.9, 2.0, 1000.0], **{ARCHITECTURE: '{"nodes": []}'}))
    text = document_markdown(study_document(made, ASKED))
    assert "It cannot be drawn: " in text


def test_nothing_in_a_text_becomes_a_tag(study, tmp_path):
    page, twin = write_study_report(study, ASKED, tmp_path / "out" / "page.html")
    html = page.read_text()
    assert EVIL not in html
    assert twin.name == "page.md"
    outside = [line for line in twin.read_text().splitlines() if not line.startswith("    ")]
    assert not any("<script" in line.replace(r"\<", "") for line in outside)
    tags = Tags()
    tags.feed(html)
    assert all(load.startswith("data:") for load in tags.loads)


def test_a_file_that_cannot_be_written_is_one_line(study, tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(SettingError, match=r"Cannot write .*page.html': Is a directory"):
        write_study_report(study, ASKED, tmp_path / "page.html")


DRAWN = """() => [...document.querySelectorAll('.plotly-graph-div:not(.late)')]
    .every(div => div.querySelector('.main-svg'))"""


def opened(browser, file, complaints):
    """Open a page and wait until it is drawn; returns it, and what that took."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.context.set_offline(True)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    # Drivers that draw in software warn that they are slow.
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_function(DRAWN, timeout=60_000)
    told = session.send("Performance.getMetrics")["metrics"]
    return page, {metric["name"]: metric["value"] for metric in told}


def test_a_browser_draws_all_of_it(study, browser, tmp_path):
    file, _ = write_study_report(study, ASKED, tmp_path / "page.html")
    complaints = []
    page, _ = opened(browser, file, complaints)
    figures = page.locator(".plotly-graph-div")
    assert figures.count() == 5  # curves of the networks, front twice, hypervolume, all curves
    points = "div => div.querySelectorAll('.scatterlayer .point').length"
    plane = page.locator("section", has_text="7 finished trials").locator(".plotly-graph-div")
    assert plane.evaluate(points) == 3 * 7
    cloud = page.locator(".late")
    assert cloud.locator("canvas").count() == 0  # until it is scrolled to
    cloud.scroll_into_view_if_needed()
    cloud.locator("canvas").first.wait_for(timeout=60_000)
    assert sum(cloud.evaluate("div => div.data.map(trace => trace.hovertext.length)")) == 7
    assert page.locator("article svg").count() == 2  # diagrams
    assert page.locator("h1").inner_text() == f"Study digits {EVIL}"
    assert not page.locator("pre", has_text="1 < 2").is_visible()
    page.get_by_text("The study file", exact=True).click()
    assert page.locator("pre", has_text="1 < 2").is_visible()
    assert complaints == []
    page.close()


def test_two_thousand_trials_are_a_page_that_opens(browser, tmp_path):
    made = large()
    asked = Asked(title="large", facts=[], constraints=LIMITS)
    file, twin = write_study_report(made, asked, tmp_path / "large.html")
    assert file.stat().st_size < 8e6  # of which plotly is more than half
    assert twin.stat().st_size < 1e5
    complaints = []
    page, metrics = opened(browser, file, complaints)
    assert metrics["TaskDuration"] < 5.0  # seconds of the processor, whatever else is running
    finished = len(made.get_trials(states=(TrialState.COMPLETE,)))
    plane = page.locator(".plotly-graph-div").nth(1)
    assert (
        plane.evaluate("div => div.querySelectorAll('.scatterlayer .point').length")
        == 3 * finished
    )
    assert (
        "8 most spread-out of" in page.locator("section", has_text="Networks").first.inner_text()
    )
    assert complaints == []
    page.close()

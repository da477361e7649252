"""What a comparison makes of its runs: charges, common budgets, bands and the verdict."""

import re
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from nas_optuna.errors import SettingError
from nas_optuna.metrics import METRICS as METRIC_TABLE
from nas_optuna.recording import (
    CACHED,
    DIGEST,
    EPOCHS,
    INFEASIBLE,
    PREDICTED,
    SAMPLING,
    SECONDS,
)
from nas_optuna.report.outcome import Outcome, Truth
from nas_optuna.report.runs import Account, Limits, read_run
from nas_optuna.report.verdict import verdict
from tests.report.contests import METRICS, contest, draw, make_run


def told(digest, values=(0.5, 1.0), *, state=TrialState.COMPLETE, x=0, **attrs):
    """A finished trial as the objective leaves it."""
    names = {"epochs": EPOCHS, "seconds": SECONDS, "cached": CACHED, "predicted": PREDICTED}
    attrs = {names.get(key, key): value for key, value in attrs.items()}
    infeasible = INFEASIBLE in attrs
    return create_trial(
        values=None if state is TrialState.PRUNED else list(values),
        state=state,
        params={"x": x},
        distributions={"x": optuna.distributions.IntDistribution(0, 9)},
        user_attrs={DIGEST: digest, SAMPLING: 0.5, **attrs},
        constraints={"limit": 1.0} if infeasible else None,
    )


def run_of(*trials, limits=None, by_digest=True):
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials(trials)
    account = Account(by_digest=by_digest)
    return read_run(study, sampler="s", seed=0, limits=limits or Limits(100), account=account)


def test_a_study_pays_each_network_once_whoever_trained_it():
    run = run_of(
        told("a", epochs=4, seconds=2.0),
        told("b", epochs=6, seconds=3.0, cached=True),  # another study had trained it
        told("a", epochs=4, seconds=2.0, cached=True, x=1),  # its own repeat
        told("c", (0.0, 9.0), **{INFEASIBLE: "too large"}, x=2),
        told("d", state=TrialState.PRUNED, epochs=1, seconds=0.25, x=3),
        told("e", epochs=0, seconds=0.125, predicted=True, x=4),
    )
    assert run.kinds == (
        "evaluated", "evaluated", "repeated", "infeasible", "pruned", "predicted",
    )  # fmt: skip
    assert run.spent["trials"].tolist() == [1, 2, 3, 4, 5, 6]
    assert run.spent["evaluations"].tolist() == [1, 2, 2, 2, 3, 3]
    assert run.spent["epochs"].tolist() == [4, 10, 10, 10, 11, 11]
    # half a second of the sampler for each
    assert run.spent["seconds"].tolist() == [2.5, 6.0, 6.5, 7.0, 7.75, 8.375]
    assert run.feasible.tolist() == [True, True, True, False, False, True]
    assert run.share("repeated") == pytest.approx(1 / 6)


def test_networks_of_one_digest_count_apart_where_their_results_differ():
    trials = [told("a", epochs=2, seconds=1.0, x=i) for i in (0, 1, 0)]
    assert run_of(*trials, by_digest=False).kinds == ("evaluated", "evaluated", "repeated")
    assert run_of(*trials).kinds == ("evaluated", "repeated", "repeated")


@pytest.mark.parametrize(
    ("limits", "left"),
    [(Limits(3), 3), (Limits(9, epochs=7.0), 4), (Limits(9, epochs=8.0), 4), (Limits(9), 5)],
)
def test_what_comes_after_the_limits_is_left_out(limits, left):
    trials = [told(f"{i}", epochs=2, seconds=1.0, x=i) for i in range(5)]
    assert len(run_of(*trials, limits=limits)) == left


def test_the_budget_is_the_one_that_was_limited_on_purpose():
    assert Limits(9).budget == "trials"
    assert Limits(9, epochs=5.0).budget == "epochs"
    assert Limits(9, seconds=5.0).budget == "seconds"


def test_runs_are_compared_where_all_have_spent_as_much():
    values = draw(np.random.default_rng(0), 10)
    cheap = make_run("cheap", 0, values, costs=np.full(10, 1.0))
    dear = make_run("dear", 0, values, costs=np.full(10, 2.0))
    outcome = Outcome((cheap, dear), METRICS, Limits(11, epochs=100.0))  # both go on
    assert outcome.end("trials") == 10
    assert outcome.end("epochs") == 10.0
    assert outcome.hypervolumes("trials")["cheap"] == outcome.hypervolumes("trials")["dear"]
    at_end = outcome.scores
    assert at_end["cheap"] == outcome.volumes(cheap)[-1]
    assert at_end["dear"] == outcome.volumes(dear)[4]
    assert outcome.hypervolumes("epochs", 1.0)["dear"] == [0.0]  # it has nothing yet
    assert np.isnan(outcome.bests("epochs", 1.0)["dear"])


def test_a_run_that_its_trials_ended_keeps_what_it_had_and_holds_no_other_back():
    values = draw(np.random.default_rng(0), 10)
    lost = make_run("a", 0, np.full((10, 2), np.nan), costs=np.zeros(10))  # never trained any
    short = make_run("a", 1, values, costs=np.full(10, 0.5))
    full = make_run("b", 0, values[:8])
    over = make_run("b", 1, values[:4], costs=np.full(4, 2.25))
    outcome = Outcome((lost, short, full, over), METRICS, Limits(10, epochs=8.0))
    assert outcome.end("epochs") == 8.0
    assert outcome.scores["a"].tolist() == [0.0, outcome.volumes(short)[-1]]
    assert outcome.scores["b"].tolist() == [outcome.volumes(full)[-1], outcome.volumes(over)[2]]
    assert outcome.spent_text == "8 epochs or 10 trials"
    assert outcome.hypervolume_band("a", "epochs").spent[-1] == 5.0
    # What was not limited is compared where all have spent as much.
    assert outcome.end("trials") == 4
    ended = Outcome((lost, short), METRICS, Limits(10, epochs=8.0))
    assert (ended.end("epochs"), ended.spent_text) == (5.0, "5 epochs or 10 trials")


@pytest.mark.parametrize("metric", ["latency_ms", "parameters", "proxy", "loss"])
def test_one_objective_is_measured_on_all_that_was_found(metric):
    rng = np.random.default_rng(1)
    sign = -1 if METRIC_TABLE[metric].maximized else 1
    runs = [
        make_run(name, seed, [[sign * scale * (1 + 0.3 * rng.random())]])
        for seed in range(10)
        for name, scale in (("bad", 9e4), ("good", 1e4))
    ]
    outcome = Outcome(tuple(runs), (metric,), Limits(1))
    assert outcome.scores["good"].min() > 0.9
    assert 0 < outcome.scores["bad"].max() < 0.4
    assert verdict(outcome).winner == "good"
    assert (
        f"; in {metric}, where that front is of one value, by all networks" in outcome.ruler_text
    )


def test_a_true_front_of_one_network_is_measured_on_all_that_was_found():
    runs = [make_run("bad", seed, [[0.7 + seed / 100, 3000.0 - seed]]) for seed in range(10)] + [
        make_run("good", seed, [[0.8 + seed / 100, 2000.0 - seed]]) for seed in range(10)
    ]
    names = ("accuracy", "parameters")
    outcome = Outcome(tuple(runs), names, Limits(1), Truth("table", np.array([[0.9, 1000.0]])))
    assert outcome.box.ideal == (0.9, 1000.0)
    assert outcome.box.reference == pytest.approx((0.68, 3200.0))
    assert outcome.true_hypervolume == 1.0
    assert verdict(outcome).winner == "good"
    assert "; in accuracy and parameters, where" in outcome.ruler_text
    # A front that is not of one value spans the box alone, whatever was found.
    wide = Outcome(
        tuple(runs), names, Limits(1), Truth("table", np.array([[0.9, 5e3], [0.8, 1e3]]))
    )
    assert wide.box.reference == pytest.approx((0.79, 5400.0))
    assert "where" not in wide.ruler_text


def test_equal_but_for_rounding_is_equal():
    # Either end of a front covers 1/11 of its box.
    front = np.array([[0.8931141904150612, 1440.0], [0.87, 1200.0], [0.8376543219876, 1000.0]])
    runs = [
        make_run(name, seed, [end])
        for seed in range(10)
        for name, end in (("a", front[0]), ("b", front[2]))
    ]
    outcome = Outcome(tuple(runs), ("accuracy", "flops"), Limits(1), Truth("table", front))
    assert outcome.scores["a"] == pytest.approx([1 / 11] * 10)
    assert outcome.scores["a"].tolist() == outcome.scores["b"].tolist()
    assert verdict(outcome).winner is None


def test_a_band_holds_the_mean_and_the_quartiles():
    outcome = contest({"a": 0.0}, seeds=5, n=10)
    band = outcome.hypervolume_band("a", "trials")
    assert (band.spent[0], band.spent[-1]) == (1.0, 10.0)
    final = [outcome.volumes(run)[-1] for run in outcome.by_sampler["a"]]
    assert band.mean[-1] == pytest.approx(np.mean(final))
    assert (band.low[-1], band.high[-1]) == pytest.approx(np.quantile(final, [0.25, 0.75]))


def test_only_seeds_that_all_have_are_compared():
    runs = [make_run("a", seed, draw(np.random.default_rng(seed), 5)) for seed in range(4)]
    runs += [make_run("b", seed, draw(np.random.default_rng(seed), 5)) for seed in (2, 0, 7)]
    outcome = Outcome(tuple(runs), METRICS, Limits(5))
    assert outcome.seeds == 2
    assert [run.seed for run in outcome.by_sampler["b"]] == [0, 2]
    with pytest.raises(SettingError, match="no seed"):
        Outcome((runs[1], runs[4]), METRICS, Limits(5))


def test_nothing_feasible_is_nothing_to_compare():
    run = make_run("a", 0, [[np.nan, np.nan]])
    with pytest.raises(SettingError, match="no study has found a feasible network"):
        Outcome((run,), METRICS, Limits(5))


def test_the_true_front_gives_regret_and_the_share_of_its_hypervolume():
    front = np.array([[0.9, 1.0], [0.5, 0.0]])
    run = make_run("a", 0, [[0.5, 0.0], [0.8, 1.0]])
    outcome = Outcome((run,), METRICS, Limits(2), Truth("table", front))
    assert outcome.optimum == 0.9
    assert outcome.box.ideal == (0.9, 0.0)
    assert outcome.true_hypervolume == pytest.approx(outcome.box.hypervolume(front))
    assert 0 < outcome.volumes(run)[-1] < outcome.true_hypervolume
    assert "the true front of table" in outcome.ruler_text
    assert "reference point" in outcome.ruler_text


def test_genomes_of_the_front_are_found_again():
    run = make_run("a", 0, [[0.5, 1.0], [0.9, 0.5], [0.4, 0.1], [0.3, 2.0]])
    outcome = Outcome((run,), METRICS, Limits(4))
    front, feasible = outcome.genomes
    assert [p["gene"] for p in front] == [1, 2]
    assert [p["gene"] for p in feasible] == [0, 1, 2]  # the fourth has the first one's genome


def test_two_equal_samplers_show_no_difference():
    found = [verdict(contest({"a": 0.3, "b": 0.3}, seeds=10, seed=s)) for s in range(20)]
    assert sum(v.winner is None and "No difference" in v.text for v in found) >= 18
    named = {int(n.replace(",", "")) for v in found for n in re.findall(r"About ([\d,]+)", v.text)}
    assert min(named) > 10


def test_three_equal_samplers_show_no_difference():
    skills = dict.fromkeys("abc", 0.3)
    found = [verdict(contest(skills, seeds=10, seed=100 + s)) for s in range(20)]
    assert sum(v.winner is None and len(v.tied) == 2 for v in found) >= 18


def test_a_better_sampler_is_named():
    for seed in range(5):
        outcome = contest({"random": 0.0, "good": 0.8, "fair": 0.2}, seeds=10, seed=seed)
        found = verdict(outcome)
        assert found.winner == "good"
        lead = outcome.scores["good"].mean() - max(
            outcome.scores[name].mean() for name in ("random", "fair")
        )
        assert f"{lead:.4f} more" in found.text
        assert "good wins: at 20 trials" in found.text
        assert "10 seeds" in found.text


def test_few_seeds_decide_nothing_however_large_the_lead():
    found = verdict(contest({"random": 0.0, "good": 0.9}, seeds=4))
    assert (found.winner, found.leader, found.tied) == (None, "good", ("random",))
    assert found.seeds >= 6
    assert f"About {found.seeds} seeds would decide it." in found.text
    assert "One seed decides nothing" in verdict(contest({"a": 0.0, "b": 0.9}, seeds=1)).text


def test_the_same_runs_under_two_names_can_never_be_told_apart():
    runs = [
        make_run(name, seed, draw(np.random.default_rng(seed), 9))
        for name in ("a", "b")
        for seed in range(9)
    ]
    found = verdict(Outcome(tuple(runs), METRICS, Limits(9)))
    assert (found.winner, found.seeds) == (None, None)
    assert "more than 1,000 seeds" in found.text


def test_a_better_mean_with_worse_ranks_names_no_winner():
    values = {"a": [0.88] + [0.88] * 11, "b": [0.1] + [0.9 + i / 1000 for i in range(11)]}
    runs = [
        make_run(name, seed, [[value + seed / 1e4, 1.0]])
        for name, column in values.items()
        for seed, value in enumerate(column)
    ]
    truth = Truth("a table", np.array([[1.0, 1.0], [0.0, 0.5]]))
    found = verdict(Outcome(tuple(runs), METRICS, Limits(1), truth))
    assert (found.winner, found.leader, found.tied, found.seeds) == (None, "a", ("b",), None)
    assert found.text.startswith("No winner can be named between a and b by 12 seeds: at 1 trials")
    assert "Seed by seed b is the better one" in found.text
    assert "would decide" not in found.text


def test_what_is_beaten_is_said_beside_what_is_not_decided():
    found = verdict(contest({"bad": 0.0, "x": 0.8, "y": 0.8}, seeds=10))
    assert found.winner is None
    assert found.tied in (("x",), ("y",))
    assert "it is better than bad." in found.text


def test_a_sampler_without_trials_is_named():
    outcome = contest({"a": 0.0, "b": 0.9})
    found = verdict(outcome)
    named = verdict(replace(outcome, absent=("tpe", "nsga2")))
    assert named.text == f"{found.text} Without a trial yet, so not compared: tpe and nsga2."
    assert replace(named, text="") == replace(found, text="")


def test_one_sampler_has_nobody_to_be_compared_with():
    assert "nobody" in verdict(contest({"a": 0.0})).text

"""Proxy health: which networks are trained in full, what is kept of it, what is said."""

import logging
import math
import os
from dataclasses import replace
from typing import ClassVar

import numpy as np
import optuna
import pytest
from scipy.stats import kendalltau

import nas_optuna as nas
from nas_optuna.errors import SettingError
from nas_optuna.evaluators import FullTraining, ProxyTask, ZeroCost
from nas_optuna.health import HealthCheck, ProxyHealth, choose
from nas_optuna.liveness import heard_by
from nas_optuna.metrics import Metrics
from nas_optuna.recording import HEALTH
from nas_optuna.report.agreement import Agreement, Taus, agreement, agreement_text
from nas_optuna.spaces import MacroSpace
from nas_optuna.storage.ownership import owner
from tests.formula import Formula

SPACE = MacroSpace((1, 8, 8), 10, max_layers=4, widths=(8, 16))
COUNTED = ("accuracy", "flops", "parameters")


class Cheap(Formula):
    """Says of every network what `truth` says, or the opposite, or nothing."""

    name: ClassVar[str] = "Cheap"

    def __init__(self, sign=1.0):
        super().__init__()
        self.sign = sign

    def identity(self):
        return {"seed": 0, "data": "cheap", "sign": self.sign}

    def evaluate(self, candidate, report):
        told = super().evaluate(candidate, report)
        accuracy = 0.5 + self.sign * (told.values["accuracy"] - 0.5)
        return Metrics({"accuracy": accuracy, "loss": 1.0}, epochs=0.1)


@pytest.fixture
def search(tmp_path):
    return nas.Search(
        name="health",
        space=SPACE,
        evaluator=Cheap(),
        metrics=COUNTED,
        sampler="random",
        trials=18,
        storage=f"sqlite:///{tmp_path}/nas.db",
        health=ProxyHealth(Formula(), every=2, at_most=8),
    )


def records(study):
    return {
        int(key.removeprefix(HEALTH)): record
        for key, record in study.user_attrs.items()
        if key.startswith(HEALTH)
    }


def run(search, trials=None):
    study = search.create()
    search.optimize(study, trials=trials)
    return study


def test_some_networks_are_trained_in_full_each_once(search):
    study = run(search)
    told, reference = records(study), search.health.reference
    assert len(told) == len(reference.judged) == len(set(reference.judged)) == 8
    for number, record in told.items():
        trial = study.trials[number]
        assert record["accuracy"] == pytest.approx(trial.values[0])
        assert record["score"] == trial.values[0]
        assert record["parameters"] == trial.values[2]
    found = agreement(study)
    assert found.everywhere.proxy == pytest.approx(1.0)
    assert found.everywhere.networks == 8
    assert found.top.networks >= 4  # every second one
    assert found.epochs == 16
    # Reference trainings are no trials, and no evaluations of the search.
    assert len(study.trials) == 18
    assert len(search.evaluator.judged) == len({t.user_attrs["nas:digest"] for t in study.trials})


def test_taus_are_those_of_scipy(search):
    study = run(search)
    told = list(records(study).values())
    truth, parameters = ([r[key] for r in told] for key in ("accuracy", "parameters"))
    expected = kendalltau(parameters, truth).statistic
    assert agreement(study).everywhere.parameters == pytest.approx(expected)
    top = [r for r in told if r["top"]]
    expected = kendalltau([r["parameters"] for r in top], [r["accuracy"] for r in top]).statistic
    assert agreement(study).top.parameters == pytest.approx(expected)


@pytest.mark.parametrize("sign", [-1.0, 0.0])
def test_a_score_that_ranks_no_better_than_size_is_warned_about_once(search, caplog, sign):
    with caplog.at_level(logging.WARNING, logger="nas_optuna"):
        study = run(replace(search, evaluator=Cheap(sign)))
    found = agreement(study)
    assert found.useless
    assert math.isnan(found.everywhere.proxy) if sign == 0 else found.everywhere.proxy < -0.9
    assert caplog.text.count("ranks no better than the number of parameters") == 1


def test_a_killed_check_is_made_up_for_and_takes_the_same_network(search, tmp_path):
    whole = records(run(replace(search, storage=f"sqlite:///{tmp_path}/whole.db")))
    child = os.fork()
    if child == 0:  # a process of its own, killed with -9 in its third full training
        dying = ProxyHealth(Formula(kill_at=3), every=2, at_most=8)
        run(replace(search, health=dying))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9
    study = search.load()
    before = records(study)
    assert sum("owner" in record for record in before.values()) == 1
    done = len([t for t in study.trials if t.state.is_finished()])
    search.optimize(study, trials=18 - done)
    after = records(study)
    assert after.keys() == whole.keys()
    for number, record in after.items():
        assert record["accuracy"] == whole[number]["accuracy"]


def test_each_epoch_of_a_check_is_a_sign_of_life(search):
    """A watchdog would kill the worker, and then each one that makes up for the check."""
    signs = []
    health = replace(search.health, reference=Formula(epochs=5))
    with heard_by(lambda: signs.append(1)):
        study = run(replace(search, health=health), trials=6)
    assert len(records(study)) > 1
    assert len(signs) == 5 * len(records(study))


def test_what_another_worker_checks_is_left_to_it(search):
    study = run(replace(search, health=None))
    check = HealthCheck(search.objective, replace(search.health, at_most=1))
    check(study)
    (number,) = records(study)
    study.set_user_attr(f"{HEALTH}{number}", {"owner": owner()})  # this process lives
    check(study)
    assert list(records(study).values()) == [{"owner": owner()}]


def test_an_interrupted_check_is_free_again(search):
    class Stopped(Formula):
        def evaluate(self, candidate, report):
            raise KeyboardInterrupt

    study = search.create()
    with pytest.raises(KeyboardInterrupt):
        replace(search, health=replace(search.health, reference=Stopped())).optimize(study)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * len(study.trials)
    assert list(records(study).values()) == [None]
    search.optimize(study, trials=1)
    assert any(record for record in records(study).values())


def test_a_network_that_does_not_fit_in_memory_costs_its_check_alone(search, caplog):
    class Large(Formula):
        def evaluate(self, candidate, report):
            if not self.judged:
                self.judged.append(candidate.key)
                raise RuntimeError("not enough memory:\n you tried to allocate it all")
            return super().evaluate(candidate, report)

    study = run(replace(search, health=ProxyHealth(Large(), every=2, at_most=3)))
    failed = [r["failed"] for r in records(study).values() if "failed" in r]
    assert failed == ["not enough memory: you tried to allocate it all"]
    assert len(study.trials) == 18
    assert "1 further training failed" in agreement_text(agreement(study))


def test_what_the_database_knows_is_not_trained_again(search):
    study = run(search)
    first = list(search.health.reference.judged)
    again = replace(search, name="again", health=ProxyHealth(Formula(), every=2, at_most=8))
    found = agreement(run(again))
    assert not again.health.reference.judged
    assert found.epochs == 0
    assert found.everywhere == agreement(study).everywhere
    assert len(first) == 8


def test_choices_are_spread_and_half_of_them_among_the_best():
    scores = np.random.default_rng(0).random(200)
    places = scores.argsort().argsort() / 200
    free = set(range(200))
    chosen = []
    for count in range(40):
        chosen.append(choose(scores, free, count=count, seed=3))
        free.discard(chosen[-1])
    assert len(set(chosen)) == 40
    assert (places[chosen[1::2]] >= 0.74).all()
    gaps = np.diff(np.sort(places[chosen[::2]]))
    assert gaps.max() < 0.15  # 20 of them over all scores


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"at_most": 0}, "at_most must be at least 1"),
        ({"reference": ZeroCost("digits")}, "ZeroCost measures no accuracy"),
    ],
)
def test_wrong_settings_are_refused(change, says):
    with pytest.raises(SettingError, match=says):
        ProxyHealth(**{"reference": Formula(), **change})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metrics": ("loss", "flops")}, "accuracy or proxy, which is none of the metrics"),
        ({"evaluator": Formula()}, "compares Formula with itself"),
    ],
)
def test_a_search_it_does_not_fit_is_refused_before_it_is_made(search, change, says):
    search = replace(search, **change)
    with pytest.raises(SettingError, match=says):
        search.create()
    with pytest.raises(nas.errors.StudyMismatchError):
        search.load()


def test_of_a_prediction_only_predictions_are_checked(search):
    evaluator = nas.evaluators.PerformancePrediction(Formula(), SPACE, warmup=8, tolerance=9.0)
    study = run(replace(search, evaluator=evaluator))
    told = records(study)
    assert told
    assert all("nas:predicted" in study.trials[number].user_attrs for number in told)


def test_a_real_proxy_on_digits(tmp_path):
    """Trained for real; that the numbers add up, not how good the proxy is."""
    full = FullTraining("digits", epochs=3)
    search = nas.Search(
        name="digits",
        space=MacroSpace((1, 8, 8), 10, min_layers=1, max_layers=3, widths=(4, 8)),
        evaluator=ProxyTask(full, data_fraction=0.3, epochs=1),
        metrics=("accuracy", "parameters"),
        sampler="random",
        trials=12,
        storage=f"sqlite:///{tmp_path}/nas.db",
        health=ProxyHealth(full, every=3),
    )
    study = run(search)
    told = records(study)
    assert len(told) == len({t.user_attrs["nas:digest"] for t in study.trials}) // 3
    number, record = next(iter(told.items()))
    candidate = search.objective.proposal(study.trials[number].params).candidate
    assert full.evaluate(candidate, lambda *_: None).values["accuracy"] == record["accuracy"]
    text = agreement_text(agreement(study))
    assert f"{len(told)} networks trained by FullTraining ({3 * len(told)} epochs" in text


def test_it_is_said_in_words():
    taus = Taus(networks=8, proxy=0.25, parameters=0.5)
    top = Taus(networks=1, proxy=math.nan, parameters=math.nan)
    found = Agreement(taus, top, reference="FullTraining", epochs=96.0, seconds=4.04, failed=0)
    assert agreement_text(found) == (
        "Proxy health: 8 networks trained by FullTraining (96 epochs, 4.0 s). Kendall tau 0.25, "
        "parameters alone 0.50. The cheap score ranks no better than the number of parameters "
        "does: make it less cheap (more epochs, more data), or train in full."
    )
    assert not replace(found, everywhere=replace(taus, proxy=0.51)).useless
    assert not replace(found, everywhere=replace(taus, networks=5)).useless


def test_a_study_without_health_says_nothing(search):
    assert agreement(optuna.create_study()) is None

"""A way out for samplers that repeat themselves."""

import logging

import optuna
import pytest

import nas_optuna as nas
from nas_optuna.escape import ESCAPE, Escape, repeats_in_a_row
from nas_optuna.spaces import MacroSpace
from tests.formula import Formula

COUNTED = ("accuracy", "parameters", "flops")
SPACE = MacroSpace((1, 8, 8), 10, max_layers=5, widths=(8, 16, 32))


class Stubborn(optuna.samplers.RandomSampler):
    """Proposes the same genome for ever."""

    def sample_independent(self, study, trial, name, distribution):
        if isinstance(distribution, optuna.distributions.CategoricalDistribution):
            return distribution.choices[0]
        return distribution.low


def search(sampler, trials, space=SPACE, limits=None):
    evaluator = Formula()
    objective = nas.Objective(space, evaluator, COUNTED, limits)
    study = optuna.create_study(directions=objective.directions, sampler=sampler)
    escape = Escape(objective)
    study.optimize(objective, n_trials=trials, callbacks=[escape])
    return study, evaluator, escape


def test_after_three_repeats_comes_an_unseen_network():
    study, evaluator, _ = search(Stubborn(), 21)
    ways_out = [t for t in study.trials if t.user_attrs.get(ESCAPE)]
    assert [t.number for t in ways_out] == [4, 8, 12, 16, 20]
    assert len(set(evaluator.judged)) == 1 + len(ways_out)


def test_ways_out_keep_the_limits():
    limits = nas.SearchConstraints(max_parameters=1500, max_latency_ms=None)
    study, _, _ = search(Stubborn(), 30, limits=limits)
    ways_out = [t for t in study.trials if t.user_attrs.get(ESCAPE)]
    assert ways_out
    assert all("nas:infeasible" not in t.user_attrs for t in ways_out)


def test_a_collapsed_tpe_sees_many_networks_under_a_tight_limit():
    """Without the way out multivariate TPE trains about ten networks here."""
    limits = nas.SearchConstraints(max_parameters=900, max_latency_ms=None)

    def trained(callback):
        evaluator = Formula()
        objective = nas.Objective(SPACE, evaluator, ("accuracy",), limits)
        sampler = nas.samplers.create("tpe", space=SPACE, seed=0, trials=150)
        study = optuna.create_study(directions=objective.directions, sampler=sampler)
        study.optimize(objective, 150, callbacks=[Escape(objective)] if callback else [])
        return len(evaluator.judged)

    with_way_out, without = trained(callback=True), trained(callback=False)
    assert with_way_out >= without


def test_a_space_that_is_nearly_exhausted_is_said_to_be_so(caplog):
    tiny = MacroSpace(
        (1, 8, 8), 10, min_layers=1, max_layers=1, operations=("conv",), widths=(8, 16),
        kernel_sizes=(1, 3), strides=(1,), activations=("relu",), connections=("sequential",),
        batch_norm=(True,),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, logger="nas_optuna"):
        _, evaluator, escape = search(optuna.samplers.RandomSampler(seed=0), 40, tiny)
    assert escape.exhausted
    assert len(evaluator.judged) == 4
    assert caplog.text.count("nearly exhausted: 4 different architectures") == 1


@pytest.mark.parametrize("sampler", nas.samplers.names())
def test_a_space_of_one_genome_is_exhausted_too(sampler, caplog):
    def only(trial):
        net = nas.ArchitectureBuilder((1, 8, 8), 10)
        width = trial.suggest_categorical("width", [8])
        return net.build(net.classifier(net.conv2d(net.input, width)))

    space = nas.spaces.FunctionSpace(only, input_shape=(1, 8, 8), num_classes=10)
    strategy = nas.samplers.create(sampler, space=space, trials=6)
    with caplog.at_level(logging.WARNING, logger="nas_optuna"):
        study, evaluator, escape = search(strategy, 6, space)
    assert len(evaluator.judged) == 1
    assert escape.exhausted
    assert "nearly exhausted: 1 different architectures" in caplog.text
    assert not any(t.user_attrs.get(ESCAPE) for t in study.trials)


@pytest.mark.parametrize(
    ("digests", "repeats"),
    [("abc", 0), ("aa", 1), ("aba", 1), ("abab", 2), ("aab", 0), ("abbb", 2), ("", 0)],
)
def test_repeats_in_a_row(digests, repeats):
    told = [
        optuna.trial.create_trial(value=0.0, user_attrs={"nas:digest": digest})
        for digest in digests
    ]
    for number, trial in enumerate(told):
        trial.number = number
    assert repeats_in_a_row(told) == repeats

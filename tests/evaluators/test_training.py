"""Both evaluators: good defaults, one result per candidate, and honest costs."""

import json
import subprocess
import sys

import optuna
import pytest
import torch

from nas_optuna.data import from_arrays, load
from nas_optuna.errors import DataError, SettingError
from nas_optuna.evaluators import EarlyStopping, FullTraining
from nas_optuna.metrics import METRICS, Metrics
from tests.evaluators.networks import Diverging, candidate, cnn, dropout_mlp, quiet

EVALUATORS = [FullTraining("digits", epochs=2), EarlyStopping("digits", max_epochs=2)]
IDS = [evaluator.name for evaluator in EVALUATORS]


def results(metrics: Metrics) -> tuple[object, ...]:
    """All but the time, which is never the same."""
    return dict(metrics.values), metrics.epochs, metrics.curve, dict(metrics.notes)


def test_defaults_train_a_small_network_on_digits():
    evaluator = FullTraining("digits", epochs=12)
    accuracies = [
        evaluator.evaluate(candidate(lambda: cnn(16, 32, 32), key), quiet).values["accuracy"]
        for key in "abc"
    ]
    # One run spreads by 0.004 around 0.986 (five keys), so it may be below; the mean of three
    # is below 0.98 at two and a half standard errors.
    assert sum(accuracies) / 3 >= 0.98


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=IDS)
def test_metrics_hold_what_is_promised(evaluator):
    told = []
    network = candidate(lambda: cnn(8))
    metrics = evaluator.evaluate(network, lambda *news: told.append(news))
    assert set(metrics.values) == evaluator.provides <= set(METRICS)
    assert told == list(enumerate(metrics.curve, 1))
    assert metrics.epochs == len(metrics.curve)
    assert metrics.seconds > 0
    assert metrics.notes == {}
    assert Metrics.from_json(metrics.to_json()) == metrics


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=IDS)
def test_the_result_is_a_function_of_seed_and_key(evaluator):
    first = evaluator.evaluate(candidate(dropout_mlp), quiet)
    torch.manual_seed(123)
    torch.rand(7)
    state = torch.get_rng_state()
    assert results(evaluator.evaluate(candidate(dropout_mlp), quiet)) == results(first)
    assert torch.equal(state, torch.get_rng_state())
    other = evaluator.evaluate(candidate(dropout_mlp, key="b"), quiet)
    assert other.values["loss"] != first.values["loss"]
    seeded = type(evaluator)("digits", seed=1, **plan(evaluator))
    assert seeded.evaluate(candidate(dropout_mlp), quiet).values != first.values


def plan(evaluator) -> dict[str, int]:
    name = "epochs" if isinstance(evaluator, FullTraining) else "max_epochs"
    return {name: getattr(evaluator, name)}


def test_the_result_is_the_same_in_another_process():
    code = """
import torch
torch.set_num_threads({threads})
from nas_optuna.evaluators import FullTraining
from tests.evaluators.networks import candidate, cnn, quiet
print(FullTraining("digits", epochs=2).evaluate(candidate(lambda: cnn(8, 8)), quiet).to_json())
"""
    here = FullTraining("digits", epochs=2).evaluate(candidate(lambda: cnn(8, 8)), quiet)
    code = code.format(threads=torch.get_num_threads())
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert results(Metrics(**json.loads(there.stdout))) == results(
        Metrics(**json.loads(here.to_json()))
    )


def test_early_stopping_scores_the_best_epoch_and_says_why_it_ended():
    evaluator = EarlyStopping("digits", max_epochs=30, patience=1, schedule="cosine")
    metrics = evaluator.evaluate(candidate(lambda: cnn(8, 16)), quiet)
    assert metrics.values["accuracy"] == max(metrics.curve)
    assert metrics.notes == {"stopped": "early_stopping"}
    assert metrics.epochs < 30


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=IDS)
def test_a_diverged_network_still_has_numbers(evaluator):
    metrics = evaluator.evaluate(candidate(lambda: Diverging(after=3)), quiet)
    assert metrics.notes == {"stopped": "nan"}
    assert metrics.epochs == 1
    assert 0 <= metrics.values["accuracy"] < 0.2  # one class of ten
    assert metrics.values["loss"] == METRICS["loss"].worst


def test_pruning_passes_through():
    def prune(epoch, accuracy):
        raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        EVALUATORS[0].evaluate(candidate(lambda: cnn(4)), prune)


def test_only_train_and_validation_are_touched():
    data = load("digits")
    broken = type(data)(
        data.name, data.train, data.validation, None, 10, data.augmentation, data.fingerprint
    )
    metrics = FullTraining(broken, epochs=1).evaluate(candidate(lambda: cnn(4)), quiet)
    assert metrics.epochs == 1


def test_vectors_and_tokens_train_too():
    targets = torch.arange(120) % 3
    vectors = targets[:, None] + 0.1 * torch.randn(120, 5)
    tokens = targets[:, None].expand(120, 6) * 2

    def embedding():
        return torch.nn.Sequential(
            torch.nn.Embedding(10, 8), torch.nn.Flatten(), torch.nn.Linear(48, 3)
        )

    for x, build in ((vectors, lambda: torch.nn.Linear(5, 3)), (tokens, embedding)):
        evaluator = FullTraining(from_arrays(x, targets), epochs=10)
        assert evaluator.evaluate(candidate(build), quiet).values["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: FullTraining("digits", epochs=0), "epochs"),
        (lambda: FullTraining("digits", batch_size=1), "batch_size"),
        (lambda: EarlyStopping("digits", max_epochs=0), "min_epochs"),
        (lambda: EarlyStopping("digits", max_epochs=3, min_epochs=4), "min_epochs"),
        (lambda: EarlyStopping("digits", patience=0), "patience"),
    ],
)
def test_settings_are_checked_when_they_are_made(make, name):
    with pytest.raises(SettingError, match=f"{name} must be"):
        make()


def test_data_by_name_is_loaded_at_the_first_use():
    evaluator = FullTraining("digitz")
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        _ = evaluator.fingerprint

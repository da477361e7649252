"""Easier tasks: what gets smaller, that every network still builds, what it is said to cost."""

import dataclasses
import math
from functools import partial

import numpy as np
import optuna
import pytest
import torch

import nas_optuna as nas
from nas_optuna.architecture import Architecture
from nas_optuna.data import Augmentation, from_arrays, load
from nas_optuna.errors import SettingError
from nas_optuna.evaluators import Candidate, EarlyStopping, FullTraining, ProxyTask, scaled
from nas_optuna.models import build, cost, dry_run
from tests.evaluators.networks import candidate, cnn, quiet
from tests.spaces.spaces import SPACES

DIGITS = load("digits")
FULL = FullTraining(DIGITS, epochs=4)


def members(name, count=12):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield SPACES[name].architecture(SPACES[name].sample(rng))


@pytest.mark.parametrize("width", [0.5, 0.3])
@pytest.mark.parametrize("name", SPACES)
def test_every_network_can_be_narrowed(name, width):
    space = SPACES[name]
    for network in members(name):
        narrow = scaled(network, width=width)
        with torch.device("meta"):
            dry_run(build(narrow), space.input_shape, space.num_classes)
        names = [node.name for node in narrow.nodes if ".scaled" not in node.name]
        assert names == [node.name for node in network.nodes]
        # Tables of positions and a wide input shrink less than the square of the width.
        assert cost(narrow).parameters < cost(network).parameters
        assert Architecture.from_json(narrow.to_json()) == narrow


def test_widths_are_scaled_by_the_factor():
    network = SPACES["nasbench201"].architecture(
        dict.fromkeys(SPACES["nasbench201"].genes, "nor_conv_3x3")
    )
    narrow = scaled(network, width=0.25)
    assert narrow.shapes["stem"][0] == 2
    assert cost(narrow).parameters < cost(network).parameters / 12


@pytest.mark.parametrize("side", [5, 4, 2, 1])
@pytest.mark.parametrize("name", [n for n, s in SPACES.items() if len(s.input_shape) == 3])
def test_every_network_takes_smaller_images(name, side):
    space = SPACES[name]
    shape = (space.input_shape[0], side, side)
    for network in members(name):
        small = scaled(network, width=0.5, input_shape=shape)
        with torch.device("meta"):
            dry_run(build(small), shape, space.num_classes)
        assert cost(small).flops < cost(network).flops


@pytest.mark.parametrize("name", SPACES)
def test_nothing_changes_without_a_change(name):
    for network in members(name, 4):
        assert scaled(network).digest == network.digest


def test_logits_keep_their_width_whatever_makes_them():
    net = nas.ArchitectureBuilder((1, 8, 8), 10)
    wide = net.conv2d(net.input, 64, name="stem")
    logits = net.conv2d(wide, 10, 1, name="places")
    gated = net.squeeze_excite(net.add(logits, net.conv2d(wide, 10, name="more")), 4)
    narrow = scaled(net.build(net.global_avg_pool(gated)), width=0.1)
    assert narrow.shapes["stem"] == (6, 8, 8)
    assert narrow.shapes["places"] == narrow.shapes["more"] == (10, 8, 8)


def test_groups_still_divide():
    net = nas.ArchitectureBuilder((1, 8, 8), 10)
    x = net.conv2d(net.conv2d(net.input, 24, name="a"), 48, groups=8, name="grouped")
    x = net.conv2d(x, 96, groups="depthwise", name="depthwise")
    narrow = scaled(net.build(net.classifier(x)), width=0.4)
    widths = [narrow.shapes[name][0] for name in ("a", "grouped", "depthwise")]
    assert widths == [8, 16, 32]  # 9.6 and 19.2 to multiples of 8; twice as many as before it


def test_less_data_is_stratified_and_the_validation_part_whole():
    data = ProxyTask(FULL, data_fraction=0.25)._training.dataset
    before, after = (torch.bincount(d.train.targets, minlength=10) for d in (DIGITS, data))
    assert ((after - before / 4).abs() <= 0.5).all()
    assert len(data.validation) == len(DIGITS.validation)
    again = ProxyTask(FULL, data_fraction=0.25)._training.dataset
    assert torch.equal(again.train.inputs, data.train.inputs)
    least = ProxyTask(FULL, data_fraction=1e-6)._training.dataset
    assert sorted(least.train.targets.tolist()) == list(range(10))


def test_images_are_averaged_and_augmentation_shrinks_with_them():
    moved = dataclasses.replace(DIGITS, augmentation=Augmentation(shift=2, cutout=4, flip=True))
    easier = ProxyTask(FullTraining(moved, epochs=1), resolution=4)._training.dataset
    assert easier.input_shape == (1, 4, 4)
    assert easier.train.inputs[0, 0, 0, 0] == pytest.approx(
        DIGITS.train.inputs[0, 0, :2, :2].mean().item(), abs=1e-6
    )
    assert easier.augmentation == Augmentation(shift=1, cutout=2, flip=True)


def network_candidate():
    space = SPACES["nasbench201"]
    network = space.architecture(dict.fromkeys(space.genes, "nor_conv_1x1"))
    return Candidate(network.digest, {}, network, partial(build, network))


def test_costs_are_in_epochs_of_the_full_data_and_the_result_is_marked():
    told = []
    proxy = ProxyTask(FULL, data_fraction=0.25, epochs=2, resolution=4, width=0.5)
    metrics = proxy.evaluate(network_candidate(), lambda *news: told.append(news))
    share = len(proxy._training.dataset.train) / len(DIGITS.train)
    assert metrics.epochs == pytest.approx(2 * share)
    assert share == pytest.approx(0.25, abs=0.01)
    assert told == list(enumerate(metrics.curve, 1))
    assert len(told) == 2
    assert metrics.notes["proxy_task"] == (
        "25 % of the data, 2 epochs, images of 4 pixels, width x 0.5"
    )
    assert set(metrics.values) == proxy.provides
    again = proxy.evaluate(network_candidate(), quiet)
    assert again.values == metrics.values


def test_the_easier_task_still_teaches():
    proxy = ProxyTask(FULL, data_fraction=0.5, epochs=4)
    accuracy = proxy.evaluate(candidate(lambda: cnn(16, 32)), quiet).values["accuracy"]
    assert accuracy > 0.4  # 0.59 to 0.76 over five keys; chance is 0.1


def test_early_stopping_is_shortened_too():
    proxy = ProxyTask(EarlyStopping(DIGITS, max_epochs=20, min_epochs=10), epochs=3)
    assert proxy._training.max_epochs == proxy._training.min_epochs == 3
    assert proxy.evaluate(candidate(lambda: cnn(4)), quiet).epochs <= 3


def test_vectors_and_tokens_have_no_resolution_but_a_fraction():
    vectors = from_arrays(np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3)
    proxy = ProxyTask(FullTraining(vectors, epochs=1), data_fraction=0.5)
    assert len(proxy._training.dataset.train) == 18
    with pytest.raises(SettingError, match="resolution is for images"):
        ProxyTask(FullTraining(vectors), resolution=2).evaluate(network_candidate(), quiet)


def test_fingerprint_tells_all_settings():
    proxies = [
        ProxyTask(FULL, data_fraction=0.5),
        ProxyTask(FULL, data_fraction=0.25),
        ProxyTask(FULL, epochs=2),
        ProxyTask(FULL, resolution=4),
        ProxyTask(FULL, width=0.5),
        ProxyTask(FULL, width=0.5, epochs=2),
        ProxyTask(dataclasses.replace(FULL, seed=1), width=0.5),
        ProxyTask(dataclasses.replace(FULL, learning_rate=0.1), width=0.5),
        ProxyTask(EarlyStopping(DIGITS, max_epochs=4), width=0.5),
    ]
    assert len({proxy.fingerprint for proxy in (*proxies, FULL)}) == len(proxies) + 1
    assert proxies[0].on("cpu").fingerprint == proxies[0].fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_fraction": 0.0}, r"data_fraction must be in \(0, 1\]"),
        ({"data_fraction": math.nan}, "data_fraction must be"),
        ({"width": 1.5}, "width must be"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"resolution": 0}, "resolution must be at least 1"),
        ({}, "makes nothing easier"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(SettingError, match=message):
        ProxyTask(FULL, **settings)


def test_what_does_not_train_and_what_cannot_shrink_is_refused():
    with pytest.raises(SettingError, match="wrap FullTraining or EarlyStopping"):
        ProxyTask(ProxyTask(FULL, width=0.5), width=0.5)
    with pytest.raises(SettingError, match="returns modules"):
        ProxyTask(FULL, width=0.5).evaluate(candidate(lambda: cnn(4)), quiet)
    with pytest.raises(SettingError, match="resolution must be at most 8"):
        ProxyTask(FULL, resolution=16).evaluate(candidate(lambda: cnn(4)), quiet)


def test_a_study_trains_the_easier_task_and_tells_the_whole_networks_costs():
    proxy = ProxyTask(FULL, data_fraction=0.25, epochs=1, resolution=4, width=0.5)
    space = nas.spaces.MacroSpace((1, 8, 8), 10, max_layers=3, widths=(8, 16))
    objective = nas.Objective(space, proxy, metrics=("accuracy", "parameters"))
    study = optuna.create_study(
        directions=objective.directions,
        sampler=nas.samplers.create("random", space=space, seed=0),
    )
    study.optimize(objective, n_trials=4)
    for trial in study.trials:
        assert "nas:infeasible" not in trial.user_attrs
        made = Architecture.from_json(trial.user_attrs["nas:architecture"])
        assert trial.values[1] == cost(made).parameters
        assert trial.user_attrs["nas:epochs"] == pytest.approx(0.25, abs=0.01)
        assert "25 % of the data" in trial.user_attrs["nas:notes"]["proxy_task"]


def test_a_pruned_trial_counts_passes_over_the_whole_data_too():
    class AtOnce(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return True

    space = nas.spaces.MacroSpace((1, 8, 8), 10, min_layers=1, max_layers=3, widths=(8,))
    easier = ProxyTask(FULL, data_fraction=0.25, epochs=2)
    predicting = nas.evaluators.PerformancePrediction(easier, space, warmup=5)
    for evaluator in (easier, predicting):
        objective = nas.Objective(space, evaluator, ("accuracy", "parameters"), pruner=AtOnce())
        study = optuna.create_study(directions=objective.directions)
        study.optimize(objective, n_trials=1)
        (trial,) = study.trials
        assert trial.state is optuna.trial.TrialState.PRUNED
        assert len(trial.user_attrs["nas:curve"]) == 1
        assert trial.user_attrs["nas:epochs"] == pytest.approx(0.25, abs=0.01)

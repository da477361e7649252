"""Scores without training: as the papers compute them, finite, a function of seed and key."""

import math
from functools import partial

import numpy as np
import optuna
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nas_optuna as nas
from nas_optuna.data import from_arrays, load
from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.evaluators import Candidate, ZeroCost
from nas_optuna.metrics import METRICS
from nas_optuna.models import build
from tests.evaluators.networks import candidate, cnn, quiet
from tests.spaces.spaces import SPACES

SCORES = ("synflow", "naswot", "parameters", "grad_norm", "zen")
SMALL = load("digits")


def proxy(score, build, key="a", data=SMALL, **settings) -> float:
    evaluator = ZeroCost(data, score, **settings)
    return evaluator.evaluate(candidate(build, key), quiet).values["proxy"]


def data_for(space):
    """Noise of the kind a space takes."""
    rng = np.random.default_rng(0)
    if space is SPACES["tokens"]:
        x = rng.integers(0, 20, size=(40, *space.input_shape))
    else:
        x = rng.normal(size=(40, *space.input_shape))
    return from_arrays(x, np.arange(40) % min(space.num_classes, 4))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_finite_scores_that_tell_networks_apart(name, score):
    if (name, score) == ("tokens", "zen"):
        pytest.skip("token numbers cannot be shifted")
    space = SPACES[name]
    rng = np.random.default_rng(1)
    data, told = data_for(space), set()
    for _ in range(3):
        network = space.architecture(space.sample(rng))
        made = Candidate(network.digest, {}, network, partial(build, network))
        told.add(ZeroCost(data, score, batch_size=8).evaluate(made, quiet).values["proxy"])
    assert all(abs(value) < 1e9 for value in told)
    assert len(told) > 1


@pytest.mark.parametrize("score", SCORES)
def test_the_score_is_a_function_of_seed_and_key_and_disturbs_no_generator(score):
    state = torch.get_rng_state()
    first = proxy(score, lambda: cnn(8, 8))
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(5)
    assert proxy(score, lambda: cnn(8, 8)) == first
    if score != "parameters":
        assert proxy(score, lambda: cnn(8, 8), key="b") != first
        assert proxy(score, lambda: cnn(8, 8), seed=1) != first


def test_parameters_are_counted():
    assert proxy("parameters", lambda: cnn(8)) == 9 * 8 + 2 * 8 + 8 * 10 + 10


def chain(depth=3, width=8):
    layers = [nn.Linear(64, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, 10))


def test_synflow_is_the_flow_through_the_absolute_weights():
    """Without biases each layer carries the whole flow: weight x gradient sums to the output."""

    def build():
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 8, bias=False), nn.ReLU(), nn.BatchNorm1d(8),
            nn.Linear(8, 10, bias=False),
        )  # fmt: skip

    seed = nas.evaluators.training.training_seed(0, "a")
    with nas.evaluators.seeded(seed, torch.device("cpu")):
        model = build()
    weights = [model[1].weight.double().abs(), model[4].weight.double().abs()]
    flow = (weights[1] @ weights[0] @ torch.ones(64, dtype=torch.float64)).sum()
    assert proxy("synflow", build) == pytest.approx(math.log(2 * flow.item()), rel=1e-9)


def test_synflow_of_a_deep_network_does_not_overflow():
    value = proxy("synflow", lambda: chain(depth=150, width=64))
    assert math.isfinite(value)
    assert value > 88  # more than float32 could hold


class Functional(nn.Module):
    """ReLU as a function, of which no module tells."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.second(F.relu(self.first(x.flatten(1))))


def modular():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(inplace=True), nn.Linear(16, 10))


def test_naswot_is_the_determinant_of_agreeing_units():
    evaluator = ZeroCost(SMALL, "naswot", batch_size=16)
    seed = nas.evaluators.training.training_seed(0, "a")
    with nas.evaluators.seeded(seed, torch.device("cpu")):
        model = modular()
    codes = (model[1](evaluator._batch.inputs.flatten(1)) > 0).double().numpy()
    agree = 16 - np.abs(codes[:, None] - codes[None]).sum(-1)
    expected = np.linalg.slogdet(agree + 1e-3 * np.eye(16))[1]
    for made in (modular, Functional):
        assert proxy("naswot", made, batch_size=16) == pytest.approx(expected, rel=1e-9)


def test_naswot_of_equal_codes_and_of_no_units_is_finite():
    linear = proxy("naswot", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert METRICS["proxy"].worst < linear < proxy("naswot", modular)


def test_grad_norm_sums_the_norms_of_the_weights():
    evaluator = ZeroCost(SMALL, "grad_norm", batch_size=16)
    seed = nas.evaluators.training.training_seed(0, "a")
    with nas.evaluators.seeded(seed, torch.device("cpu")):
        model = modular()
    batch = evaluator._batch
    F.cross_entropy(model(batch.inputs), batch.targets).backward()
    expected = sum(model[i].weight.grad.norm().item() for i in (1, 3))
    assert proxy("grad_norm", modular, batch_size=16) == pytest.approx(
        math.log(expected), rel=1e-6
    )


def test_zen_counts_what_batch_norm_takes_out():
    """A factor before batch norm leaves the output alone, and yet counts in full."""

    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(8, eps=1e-12)
            self.head = nn.Linear(8, 10)
            self.factor = factor

        def forward(self, x):
            return self.head(self.norm(self.factor * self.conv(x)).relu().mean((2, 3)))

    plain, scaled = (proxy("zen", lambda f=f: Scaled(f)) for f in (1.0, 10.0))
    assert scaled - plain == pytest.approx(math.log(10), rel=1e-6)


def test_zen_grows_with_depth():
    shallow, deep = (proxy("zen", lambda w=w: cnn(*w)) for w in ((16,), (16, 16, 16)))
    assert deep > shallow


def test_what_cannot_be_scored_says_so():
    with pytest.raises(UnknownNameError, match="Did you mean 'synflow'"):
        ZeroCost("digits", "synflw")
    with pytest.raises(SettingError, match="batch_size must be"):
        ZeroCost("digits", "naswot", batch_size=1)
    tokens = from_arrays(np.arange(240).reshape(40, 6) % 5, np.arange(40) % 2)
    embedding = partial(nn.Sequential, nn.Embedding(5, 4), nn.Flatten(), nn.Linear(24, 2))
    with pytest.raises(SettingError, match="token numbers"):
        proxy("zen", embedding, data=tokens)
    assert math.isfinite(proxy("synflow", embedding, data=tokens))


def test_a_diverging_network_gets_the_worst():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            return self.linear(x.flatten(1)) * float("nan")

    assert proxy("grad_norm", Broken) == METRICS["proxy"].worst


def test_fingerprints_and_costs():
    base = ZeroCost("digits", "naswot")
    others = [ZeroCost("digits"), ZeroCost("digits", "naswot", seed=1),
              ZeroCost("digits", "naswot", batch_size=8),
              ZeroCost(load("digits", seed=1), "naswot")]  # fmt: skip
    assert len({e.fingerprint for e in (base, *others)}) == 5
    assert base.on("cpu").fingerprint == base.fingerprint
    metrics = base.evaluate(candidate(lambda: cnn(4)), quiet)
    assert metrics.epochs == 64 / len(SMALL.train)
    assert metrics.notes == {"score": "naswot"}
    assert ZeroCost("digits").evaluate(candidate(lambda: cnn(4)), quiet).epochs == 0


def test_a_study_maximises_the_proxy_and_has_no_accuracy():
    space = nas.spaces.MacroSpace((1, 8, 8), 10, max_layers=3, widths=(8, 16))
    evaluator = ZeroCost("digits", "naswot", batch_size=16)
    objective = nas.Objective(space, evaluator, metrics=("proxy", "parameters"))
    study = optuna.create_study(
        directions=objective.directions,
        sampler=nas.samplers.create("nsga2", space=space, seed=0),
    )
    study.optimize(objective, n_trials=5)
    assert objective.directions == ["maximize", "minimize"]
    assert all(math.isfinite(trial.values[0]) for trial in study.trials)
    with pytest.raises(SettingError, match="does not measure 'accuracy'"):
        nas.Objective(space, evaluator, metrics=("accuracy",))

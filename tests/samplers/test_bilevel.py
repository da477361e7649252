"""Bilevel training: its gradients, its regularisations, and that an epoch can be repeated."""

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch.func import functional_call

from nas_optuna.data import NO_AUGMENTATION, from_arrays, load
from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.models.relaxed import RelaxedNetwork
from nas_optuna.samplers import bilevel
from nas_optuna.samplers.bilevel import BilevelSettings, BilevelTraining, halves
from nas_optuna.spaces import NASBench201Space

SPACE = NASBench201Space((1, 8, 8), 10, channels=2, cells_per_stage=1)
RELAXED = SPACE.relaxed(SPACE.sample(np.random.default_rng(0)))
PARTIAL = SPACE.relaxed(SPACE.sample(np.random.default_rng(0)), partial_channels=2)


@pytest.fixture(scope="module")
def digits():
    """The first 320 digits: three batches in each half."""
    whole = load("digits").train
    return from_arrays(whole.inputs[:320].numpy(), whole.targets[:320].numpy(), name="few")


def training(data, **settings):
    settings = BilevelSettings(**{"epochs": 4, "batch_size": 32, **settings})
    network = RelaxedNetwork(RELAXED if settings.partial_channels == 1 else PARTIAL, seed=0)
    return BilevelTraining(network, data.train, settings, seed=0, augmentation=NO_AUGMENTATION)


def alphas(of):
    return torch.cat([a.detach() for a in of.network.alphas.values()])


def test_the_halves_are_even_and_apart():
    data = load("digits").train
    first, second = halves(data, seed=3)
    assert len(first) + len(second) == len(data)
    assert abs(len(first) - len(second)) <= 1
    rows = {tuple(row.flatten().tolist()) for row in first.inputs}
    whole = {tuple(row.flatten().tolist()) for row in data.inputs}
    assert len(whole) - len(rows) == len({tuple(r.flatten().tolist()) for r in second.inputs})


@pytest.mark.parametrize(
    "settings", [{}, {"second_order": True}, {"partial_channels": 2}], ids=str
)
def test_it_learns(digits, settings):
    ours = training(digits, regularisation="none", **settings)
    start = alphas(ours)
    losses = [ours.train_epoch({}) for _ in range(4)]
    assert losses[-1] < losses[0] - 0.2  # of 2.3 at chance
    assert not torch.equal(alphas(ours), start)


@pytest.mark.parametrize("regularisation", ["beta", "gumbel", "none"])
def test_training_goes_on_from_its_state_as_if_never_stopped(digits, regularisation):
    through = training(digits, regularisation=regularisation)
    for _ in range(3):
        through.train_epoch({"flops": 0.5})
    stopped = training(digits, regularisation=regularisation)
    stopped.train_epoch({"flops": 0.5})
    stored = safetensors.torch.save({k: t.contiguous() for k, t in stopped.state().items()})
    resumed = training(digits, regularisation=regularisation)
    resumed.load(safetensors.torch.load(stored), epoch=1)
    for _ in range(2):
        resumed.train_epoch({"flops": 0.5})
    assert resumed.epoch == through.epoch
    left, right = through.state(), resumed.state()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_second_order_gradient_is_that_of_the_unrolled_step(digits, monkeypatch):
    # In double precision, evaluation mode (no running statistics in the way) and with a radius
    # that crosses no kink of a ReLU, it is what autograd makes of the step written out.
    monkeypatch.setattr(bilevel, "RADIUS", 1e-6)
    ours = training(digits, second_order=True, regularisation="none", learning_rate=0.1)
    network = ours.network.network.double().eval()
    for gene, alpha in ours.network.alphas.items():
        ours.network.alphas[gene] = alpha.detach().double().requires_grad_()
    parts = [(s.inputs[:32].double(), s.targets[:32]) for s in halves(digits.train, 0)]
    generator = torch.Generator().manual_seed(0)
    found = ours._unrolled_gradients(*parts, generator)

    weights = dict(network.named_parameters())
    shares = ours.network.shares()
    for mixture in ours.network._mixtures:
        mixture.weights = shares[mixture.gene]

    def loss(of, batch):
        return F.cross_entropy(functional_call(network, of, (batch[0],)), batch[1])

    step = torch.autograd.grad(loss(weights, parts[0]), list(weights.values()), create_graph=True)
    ahead = {k: w - 0.1 * g for (k, w), g in zip(weights.items(), step, strict=True)}
    exact = torch.autograd.grad(loss(ahead, parts[1]), list(ours.network.alphas.values()))
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_beta_decay_keeps_the_alphas_together(digits):
    plain, decayed = training(digits, regularisation="none"), training(digits)
    for _ in range(4):
        plain.train_epoch({})
        decayed.train_epoch({})
    assert alphas(decayed).mean() < alphas(plain).mean()


def test_the_expected_cost_is_pressed_down(digits):
    free = training(digits, regularisation="none")
    pressed = training(digits, regularisation="none", cost_weight=20.0)
    for _ in range(3):
        free.train_epoch({})
        pressed.train_epoch({"parameters": 1.0})
    costs = [float(t.network.expected_cost("parameters").detach()) for t in (free, pressed)]
    assert costs[1] < costs[0] - 0.02


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"beta_weight": -1.0}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingError, match=f"{next(iter(wrong))} of darts"):
        BilevelSettings(**wrong)


def test_an_unknown_regularisation_is_refused():
    with pytest.raises(UnknownNameError, match="regularisation"):
        BilevelSettings(regularisation="betta")

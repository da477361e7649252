"""The loop trains in place, scores exactly, stops when it should and restores the best weights."""

import dataclasses

import optuna
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas_optuna.data import Augmentation, Split, load
from nas_optuna.evaluators import Stopping, TrainingSettings, score, train
from nas_optuna.liveness import heard_by
from tests.evaluators.networks import Diverging, cnn, dropout_mlp

SETTINGS = TrainingSettings(device="cpu")
DIGITS = load("digits")


def fit(model, settings=SETTINGS, **options):
    options = {"epochs": 2, "seed": 0, "validation": DIGITS.validation} | options
    return train(model, DIGITS.train, settings, **options)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_score_is_exact_and_in_evaluation_mode():
    torch.manual_seed(0)
    model = cnn(4)
    part = Split(DIGITS.train.inputs[:700], DIGITS.train.targets[:700])  # two scoring batches
    found = score(model, part)
    assert not model.training
    with torch.no_grad():
        logits = model(part.inputs)
    assert found.accuracy == (logits.argmax(1) == part.targets).sum().item() / 700
    # one sum in float32 against two: 700 roundings of 6e-8
    assert found.loss == pytest.approx(F.cross_entropy(logits, part.targets).item(), rel=1e-4)


def test_each_epoch_is_a_sign_of_life():
    """Also without a validation part, where nothing is reported."""
    signs = []
    with heard_by(lambda: signs.append(1)):
        fit(cnn(4), epochs=3, validation=None)
    assert len(signs) == 3


def test_one_epoch_is_the_update_written_by_hand():
    """One batch of all samples, so that the order does not matter."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    weight = model[1].weight.detach().clone()
    bias = model[1].bias.detach().clone()
    settings = TrainingSettings(
        batch_size=2_000, schedule="cosine", augment=False, weight_decay=0.01, device="cpu"
    )
    x, y = DIGITS.train.inputs.flatten(1), DIGITS.train.targets
    weight.requires_grad_()
    bias.requires_grad_()
    loss = F.cross_entropy(x @ weight.T + bias, y, label_smoothing=0.05)
    by_weight, by_bias = torch.autograd.grad(loss, (weight, bias))
    by_weight = by_weight + 0.01 * weight  # no decay on the bias
    nesterov = 1 + 0.9  # the first step: gradient + momentum * gradient
    fit(model, settings, epochs=1)
    expected = weight - 0.2 * nesterov * by_weight
    assert torch.allclose(model[1].weight, expected, atol=1e-5)
    assert torch.allclose(model[1].bias, bias - 0.2 * nesterov * by_bias, atol=1e-5)


def test_every_epoch_is_reported_with_the_curve():
    told = []
    result = fit(cnn(8), epochs=3, report=lambda *news: told.append(news))
    assert told == list(enumerate(result.curve, 1))
    assert result.epochs == 3
    assert result.score.accuracy == result.curve[-1]
    assert result.stopped == ""


def test_without_a_validation_part_nothing_is_scored():
    result = fit(cnn(8), validation=None, epochs=1)
    assert result.score is None
    assert result.curve == ()
    assert result.epochs == 1


def test_the_network_that_comes_back_scores_what_was_told():
    model = cnn(8)
    result = fit(model)
    assert score(model, DIGITS.validation) == result.score


def test_the_seed_decides_order_augmentation_and_dropout():
    def trained(seed: int, augmentation: Augmentation) -> torch.Tensor:
        torch.manual_seed(0)
        model = dropout_mlp()
        torch.manual_seed(seed * 17)  # the caller's state is no part of it
        fit(model, seed=seed, augmentation=augmentation)
        return weights(model)

    shift = Augmentation(shift=1)
    assert torch.equal(trained(1, shift), trained(1, shift))
    assert not torch.equal(trained(1, shift), trained(2, shift))
    assert not torch.equal(trained(1, shift), trained(1, Augmentation()))


def test_augment_false_switches_the_augmentation_off():
    def trained(settings, augmentation) -> torch.Tensor:
        torch.manual_seed(0)
        model = cnn(4)
        fit(model, settings, augmentation=augmentation, epochs=1)
        return weights(model)

    off = dataclasses.replace(SETTINGS, augment=False)
    assert torch.equal(trained(off, Augmentation(shift=2)), trained(SETTINGS, Augmentation()))


def test_training_leaves_the_generator_and_the_data_alone():
    model, inputs = dropout_mlp(), DIGITS.train.inputs.clone()
    before = torch.get_rng_state()
    fit(model, augmentation=Augmentation(shift=1, cutout=2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(inputs, DIGITS.train.inputs)


def test_what_the_report_raises_passes_and_restores_the_generator():
    def prune(epoch, accuracy):
        if epoch == 2:
            raise optuna.TrialPruned

    model = cnn(4)
    before = torch.get_rng_state()
    with pytest.raises(optuna.TrialPruned):
        fit(model, epochs=5, report=prune)
    assert torch.equal(before, torch.get_rng_state())


class Scripted(nn.Module):
    """Right on a scripted share of the validation part, by the number of epochs trained."""

    def __init__(self, shares: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.shares, self.fresh = shares, True

    def forward(self, x):
        if self.training:
            if self.fresh:
                self.epoch += 1
            self.fresh = False
            return torch.zeros(len(x), 2) + self.weight
        self.fresh = True
        right = torch.arange(len(x)) < round(self.shares[int(self.epoch) - 1] * len(x))
        return F.one_hot(right.long(), 2).float()


def script(shares, patience, min_epochs):
    part = Split(torch.zeros(20, 3), torch.ones(20, dtype=torch.int64))
    model = Scripted(shares)
    result = train(
        model,
        part,
        SETTINGS,
        epochs=len(shares),
        seed=0,
        validation=part,
        stopping=Stopping(patience=patience, min_epochs=min_epochs),
    )
    return model, result


@pytest.mark.parametrize(
    ("shares", "patience", "min_epochs", "epochs", "best", "stopped"),
    [
        ([0.1, 0.5, 0.4, 0.4, 0.9], 2, 1, 4, 2, "early_stopping"),
        ([0.1, 0.5, 0.4, 0.4, 0.9], 3, 1, 5, 5, ""),
        ([0.1, 0.5, 0.4, 0.4, 0.9], 2, 5, 5, 5, ""),
        ([0.5, 0.4, 0.4, 0.4, 0.4], 1, 3, 3, 1, "early_stopping"),
        ([0.5, 0.5, 0.5], 2, 1, 3, 1, "early_stopping"),  # as good is not better
        ([0.1, 0.2, 0.3], 1, 1, 3, 3, ""),
        ([0.3, 0.2, 0.1], 5, 1, 3, 1, ""),
    ],
)
def test_stopping_waits_for_its_patience_and_restores_the_best(
    shares, patience, min_epochs, epochs, best, stopped
):
    model, result = script(shares, patience, min_epochs)
    assert (result.epochs, result.stopped) == (epochs, stopped)
    assert result.curve == pytest.approx(shares[:epochs])
    assert result.score.accuracy == shares[best - 1]
    assert int(model.epoch) == best  # the buffers are restored as well


def test_the_restored_weights_are_a_copy():
    model = cnn(8)
    result = fit(model, epochs=4, stopping=Stopping(patience=1, min_epochs=1))
    assert score(model, DIGITS.validation) == result.score
    assert result.score.accuracy == max(result.curve)


@pytest.mark.parametrize("stopping", [None, Stopping(patience=3, min_epochs=1)])
def test_a_loss_that_is_nan_ends_the_training_at_once(stopping):
    model = Diverging(after=20)  # 17 steps an epoch
    result = fit(model, epochs=6, stopping=stopping)
    assert result.stopped == "nan"
    assert result.epochs == 2
    assert len(result.curve) == 2
    assert result.curve[0] > 0.3
    zeros = (DIGITS.validation.targets == 0).double().mean().item()
    assert result.score.accuracy == pytest.approx(zeros)  # argmax of NaN is class 0
    assert result.score.loss != result.score.loss


def test_a_learning_rate_that_is_far_too_large_ends_as_nan():
    result = fit(cnn(4, 4), TrainingSettings(learning_rate=1e30, device="cpu"), epochs=5)
    assert result.stopped == "nan"
    assert result.epochs < 5
    assert 0 <= result.score.accuracy <= 1

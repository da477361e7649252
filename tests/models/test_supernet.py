"""Shared weights: what shares, what is sliced, and that a path is the network it stands for."""

import numpy as np
import pytest
import torch
from torch import nn

import nas_optuna as nas
from nas_optuna.models import SharedWeights, build, calibrate
from nas_optuna.models.network import example_input
from tests.spaces.spaces import SPACES


def members(name, count=4):
    rng = np.random.default_rng(0)
    return [SPACES[name].architecture(SPACES[name].sample(rng)) for _ in range(count)]


def batch(architecture, size=3, seed=0):
    x = example_input(
        build(architecture), architecture.input_shape, batch_size=size, device=torch.device("cpu")
    )
    if x.dtype == torch.int64:
        return x
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def train_a_little(shared, networks, steps=2):
    """Move weights and running statistics away from where they began."""
    for network in networks:
        path = shared.path(network).train()
        for step in range(steps):
            path(batch(network, seed=step)).square().sum().backward()
            with torch.no_grad():
                for p in shared.parameters.values():
                    if p.grad is not None:
                        p -= 0.01 * p.grad.clamp(-1, 1)
                        p.grad = None


@pytest.mark.parametrize("name", SPACES)
def test_an_extracted_network_is_the_path_exactly(name):
    networks = members(name)
    shared = SharedWeights()
    train_a_little(shared, networks)
    for network in networks:
        x = batch(network, seed=9)
        extracted = shared.extract(network).eval()
        assert shared.missing(network) == []
        assert isinstance(extracted, type(build(network)))
        with torch.no_grad():
            expected = shared.path(network).eval()(x)
            assert torch.equal(extracted(x), expected)
            assert expected.abs().sum() > 0
            # And it is a network like any other: its state fits one that was built alone.
            alone = build(network)
            alone.load_state_dict(extracted.state_dict())
            assert torch.equal(alone.eval()(x), expected)


def conv(width, kernel_size=3, channels_in=1, name="conv", **settings):
    net = nas.ArchitectureBuilder((channels_in, 6, 6), 5)
    x = net.node(
        "conv2d", [net.input], name=name, channels=width, kernel_size=kernel_size, **settings
    )
    return net.build(net.classifier(x))


def weights(shared, network, node="conv"):
    return dict(shared.extract(network).nodes[node].named_parameters())


def test_narrow_ones_get_the_first_channels_of_the_wide():
    shared = SharedWeights()
    shared.path(conv(8, channels_in=3))
    wide, narrow = (weights(shared, conv(w, channels_in=c)) for w, c in ((8, 3), (4, 2)))
    assert torch.equal(narrow["0.weight"], wide["0.weight"][:4, :2])
    assert torch.equal(narrow["1.bias"], wide["1.bias"][:4])


def test_weights_grow_around_what_is_there_and_stay_one_parameter():
    shared = SharedWeights()
    train_a_little(shared, [conv(4, channels_in=2)])
    before = {key: (p, p.detach().clone()) for key, p in shared.parameters.items()}
    narrow = weights(shared, conv(4, channels_in=2))
    assert shared.missing(conv(2, channels_in=6)) == ["conv"]
    shared.path(conv(2, channels_in=6))  # wider on one side only: the union is 4 by 6
    assert {key: p.shape[:2] for key, p in shared.parameters.items()}[
        next(key for key in shared.parameters if key.startswith("conv|") and "/0." in key)
    ] == (4, 6)
    for key, (parameter, value) in before.items():
        assert shared.parameters[key] is parameter
        assert torch.equal(parameter[tuple(map(slice, value.shape))], value)
    after = weights(shared, conv(4, channels_in=2))
    assert all(torch.equal(after[name], narrow[name]) for name in narrow)
    wide = weights(shared, conv(2, channels_in=6))["0.weight"]
    assert wide[:, 2:].std() > 0.05  # initialised, not zero


@pytest.mark.parametrize(
    ("other", "shares"),
    [
        (conv(8), True),
        (conv(4, kernel_size=5), False),
        (conv(4, stride=2), False),
        (conv(4, name="other"), False),
        (conv(4, activation="gelu"), False),
    ],
)
def test_name_operation_and_settings_decide_who_shares(other, shares):
    shared = SharedWeights()
    shared.path(conv(8))
    assert ([n for n in shared.missing(other) if n != "logits"] == []) == shares


def test_groups_and_heads_share_at_equal_widths_only():
    def grouped(width):
        return conv(width, channels_in=4, groups=2)

    shared = SharedWeights()
    shared.path(grouped(8))
    assert shared.missing(grouped(8)) == []
    assert shared.missing(grouped(4)) == ["conv"]

    def attention(width, heads):
        net = nas.ArchitectureBuilder((4, 3), 2)
        x = net.linear(net.input, width, name="map")
        return net.build(net.classifier(net.attention(x, heads, name="attention")))

    shared.path(attention(8, 1))
    shared.path(attention(8, 2))
    assert shared.missing(attention(4, 1)) == []
    assert shared.missing(attention(4, 2)) == ["attention"]


def test_what_is_not_there_is_the_same_whoever_asks_first():
    """A network's weights depend on the trained ones and on nothing that was extracted before."""
    shared = SharedWeights(seed=3)
    shared.path(conv(4))
    first = weights(shared, conv(8))
    shared.extract(conv(16))
    again = weights(shared, conv(8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = SharedWeights(seed=4)
    other.path(conv(4))
    assert not torch.equal(weights(other, conv(8))["0.weight"], first["0.weight"])


def test_gradients_reach_only_what_the_path_uses():
    shared = SharedWeights()
    shared.path(conv(8))
    shared.path(conv(8, kernel_size=5))
    shared.path(conv(4))(torch.randn(3, 1, 6, 6)).sum().backward()
    touched = {key: p.grad for key, p in shared.parameters.items() if p.grad is not None}
    assert all('"kernel_size": 5' not in key for key in touched)
    kernel = next(grad for key, grad in touched.items() if "/0.weight" in key and "conv|" in key)
    assert kernel[:4].abs().sum() > 0
    assert kernel[4:].abs().sum() == 0


def test_a_state_is_restored_elsewhere():
    networks = members("mobile", 2)
    shared, other = SharedWeights(), SharedWeights(seed=1)
    train_a_little(shared, networks)
    other.load(shared.state())
    assert set(other.parameters) == set(shared.parameters)
    x = batch(networks[0])
    with torch.no_grad():
        one, two = (s.path(networks[0]).eval()(x) for s in (shared, other))
    assert torch.equal(one, two)
    train_a_little(other, networks)  # a copy
    with torch.no_grad():
        assert torch.equal(shared.path(networks[0]).eval()(x), one)


def test_statistics_are_those_of_the_batches():
    """One batch: exactly its mean and variance. Dropout stays off, weights stay."""
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.BatchNorm1d(2))
    x = 3 + 2 * torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    before = model[2].weight.detach().clone()
    calibrate(model, [x])
    assert torch.allclose(model[1].running_mean, x.mean(0), atol=1e-5)
    assert torch.allclose(model[1].running_var, x.var(0), atol=1e-4)
    assert not any(module.training for module in model.modules())
    assert torch.equal(model[2].weight, before)
    with torch.no_grad():  # so evaluation mode does to this batch what training mode would
        assert torch.allclose(model(x).mean(0), torch.zeros(2), atol=1e-4)
    calibrate(model, [x[:32], x[32:]])
    halves = torch.stack([half.var(0) for half in (x[:32], x[32:])]).mean(0)
    assert torch.allclose(model[1].running_var, halves, atol=1e-4)
    calibrate(nn.Linear(4, 2), [x])  # nothing to do, no pass needed

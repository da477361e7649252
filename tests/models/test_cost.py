"""Costs: exact against the real network, without its weights, and peak memory by liveness."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_optuna import ArchitectureBuilder
from nas_optuna.models import build, cost, module_cost
from nas_optuna.models.cost import count
from nas_optuna.spaces import MacroSpace


def real_parameters_and_flops(made) -> tuple[int, int]:
    model = build(made).eval()
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(torch.zeros(1, *made.input_shape))
    return sum(p.numel() for p in model.parameters()), flops.get_total_flops()


def genomes(space, n, seed=0):
    rng = np.random.default_rng(seed)
    return [space.architecture(space.sample(rng)) for _ in range(n)]


def test_parameters_and_flops_equal_those_of_the_real_network():
    space = MacroSpace((3, 9, 7), 5, max_layers=8, widths=(4, 8, 12))
    for made in genomes(space, 40):
        counted = cost(made)
        assert (counted.parameters, counted.flops) == real_parameters_and_flops(made)


def test_memory_equals_that_of_one_pass_over_the_whole_network():
    # A module that holds its input a line longer than needed is the difference: below 2 %.
    space = MacroSpace((3, 16, 16), 5, max_layers=8)
    for made in genomes(space, 40, seed=1):
        with torch.device("meta"):
            whole = module_cost(build(made), made.input_shape)
        assert cost(made).memory_mb == pytest.approx(whole.memory_mb, rel=0.02)


def test_peak_memory_of_a_chain_by_hand():
    net = ArchitectureBuilder((2, 10, 10), 3)
    x = net.conv2d(net.input, 5, 3, norm=False, activation="none")
    made = net.build(net.classifier(x))
    weights = 5 * 2 * 9 + 5 + 3 * 5 + 3
    activations = 2 * 100 + 5 * 100 + 5  # input, output of the convolution, and its mean
    assert cost(made).memory_mb == pytest.approx(4 * (weights + activations) / 1e6)


def test_a_skip_connection_keeps_its_source_alive():
    def write(*, skip):
        net = ArchitectureBuilder((4, 10, 10), 3)
        x = net.conv2d(net.input, 4, norm=False, activation="none")
        y = net.conv2d(x, 4, norm=False, activation="none")
        y = net.conv2d(y, 4, norm=False, activation="none")
        return cost(net.build(net.classifier(net.add(y, x) if skip else y)))

    # x beside the input and output of the last convolution
    assert write(skip=True).memory_mb - write(skip=False).memory_mb == pytest.approx(4 * 400 / 1e6)


def test_inplace_and_views_are_not_counted_twice():
    model = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.ReLU(inplace=True), nn.Flatten())
    counted = count(model, (1, 5, 5))
    assert counted.peak_bytes == 4 * 4 * 25


def test_nothing_is_allocated():
    net = ArchitectureBuilder((3, 64, 64), 10)
    x = net.conv2d(net.input, 40_000, 1)
    made = net.build(net.classifier(net.conv2d(x, 40_000, 7)))  # 314 GB of weights
    assert cost(made).parameters > 7e10


def test_layers_of_a_module():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    counted = module_cost(model, (1, 8, 8))
    assert counted.layers == 2
    assert counted.parameters == sum(p.numel() for p in model.parameters())

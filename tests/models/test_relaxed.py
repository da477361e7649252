"""The relaxed network: its mixture is the paper's, and its expected cost is exact."""

import numpy as np
import torch

from nas_optuna.models import cost
from nas_optuna.models.relaxed import RelaxedNetwork, candidate_costs
from nas_optuna.spaces import NASBench201Space

SPACE = NASBench201Space((1, 8, 8), 10, channels=4, cells_per_stage=1)
RELAXED = SPACE.relaxed(SPACE.sample(np.random.default_rng(0)))


def test_it_weighs_candidates_by_the_softmax_of_the_alphas():
    network = RelaxedNetwork(RELAXED)
    network.network.eval()
    images = torch.randn(2, 1, 8, 8)
    uniform = {gene: torch.full((5,), 0.2) for gene in SPACE.genes}
    for alpha in network.alphas.values():
        alpha.data.zero_()
    torch.testing.assert_close(network(images), network(images, uniform))
    network.alphas["0->3"].data[3] = 9.0
    assert not torch.allclose(network(images), network(images, uniform))


def test_weights_are_a_function_of_the_seed_and_leave_torchs_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (RelaxedNetwork(RELAXED, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(x, y) for x, y in zip(a.weights, b.weights, strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(a.weights, c.weights, strict=True))


def test_what_an_answer_costs_is_what_it_adds_to_a_network():
    plain = dict.fromkeys(SPACE.genes, "skip_connect")
    base = cost(SPACE.architecture(plain))
    costs = candidate_costs(RELAXED)
    for gene in SPACE.genes:
        for i, answer in enumerate(SPACE.operations[1:], start=1):
            whole = cost(SPACE.architecture({**plain, gene: answer}))
            assert costs["parameters"][gene][i] == whole.parameters - base.parameters
            assert costs["flops"][gene][i] == whole.flops - base.flops


def test_the_expected_cost_follows_the_alphas():
    network = RelaxedNetwork(RELAXED)
    even = float(network.expected_cost("parameters").detach())
    for alpha in network.alphas.values():
        alpha.data[3] = 20.0  # the dearest
    assert even < float(network.expected_cost("parameters").detach())
    torch.testing.assert_close(network.expected_cost("parameters"), torch.tensor(1.0))

"""Measured peak memory: nothing on a CPU; on CUDA what lay there before is left out."""

import pytest
import torch
from torch import nn

from nas_optuna.models import build, cost, measure_memory_mb
from tests.spaces.spaces import SPACES


def test_a_cpu_keeps_no_count():
    assert measure_memory_mb(nn.Linear(4, 2), (4,), device="cpu") is None


class Allocator:
    """Stands in for CUDA's: 3 MB of others, and a peak that the passes raise."""

    def __init__(self):
        self.others, self.peak = 3_000_000, 0
        self.said = []

    def memory_allocated(self, device):
        self.said.append("allocated")
        return self.others

    def synchronize(self, device):
        self.said.append("synchronize")

    def reset_peak_memory_stats(self, device):
        self.said.append("reset")
        self.peak = self.others

    def max_memory_allocated(self, device):
        return self.peak


def test_the_peak_is_that_of_a_warm_pass_without_what_others_hold(monkeypatch):
    allocator = Allocator()
    for name in (
        "memory_allocated", "synchronize", "reset_peak_memory_stats", "max_memory_allocated"
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, getattr(allocator, name))

    class Passing(nn.Module):
        passes = 0

        def to(self, device):
            return self  # there is no CUDA device here

        def forward(self, x):
            allocator.said.append("pass")
            allocator.peak += 9_000_000 if self.passes == 0 else 2_000_000
            self.passes += 1
            return x

    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: zeros(*shape))
    assert measure_memory_mb(Passing(), (4,), device="cuda") == pytest.approx(2.0)
    assert allocator.said == ["allocated", "pass", "synchronize", "reset", "pass", "synchronize"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_it_is_at_least_what_counting_says():
    space = SPACES["nasbench201"]
    network = space.architecture(dict.fromkeys(space.genes, "nor_conv_3x3"))
    measured = measure_memory_mb(build(network), network.input_shape)
    counted = cost(network).memory_mb
    assert 0.8 * counted < measured < 50 + 3 * counted  # workspaces of the kernels come on top

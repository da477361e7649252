"""Latency: what is measured is said, and a bigger network takes longer."""

import torch
from torch import nn

from nas_optuna.models import measure_latency


def test_what_was_measured_is_said():
    model = nn.Linear(4, 2).train()
    before = torch.get_num_threads()
    latency = measure_latency(model, (4,), threads=1, seconds=0.02)
    assert latency.threads == 1
    assert latency.device.startswith("cpu")
    assert 0 < latency.median_ms < 50
    assert latency.iqr_ms >= 0
    assert torch.get_num_threads() == before


def test_more_work_takes_longer():
    # 400 times the work: no noise of a shared machine turns that round.
    small = measure_latency(nn.Linear(64, 64), (64,), seconds=0.05)
    large = measure_latency(nn.Sequential(*[nn.Linear(640, 640) for _ in range(8)]), (640,))
    assert large.median_ms > 2 * small.median_ms


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.modes = set()

    def forward(self, x):
        self.modes.add((self.training, torch.is_inference_mode_enabled(), tuple(x.shape)))
        return x


def test_it_runs_as_deployed():
    model = Counting()
    measure_latency(model, (3, 4, 4), batch_size=2, seconds=0.01)
    assert model.modes == {(False, True, (2, 3, 4, 4))}

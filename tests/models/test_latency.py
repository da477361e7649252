"""Latency: what is measured is said, and a bigger network takes longer."""

import os
import signal
import tempfile

import pytest
import torch
from filelock import FileLock, Timeout
from torch import nn

from nas_optuna.models import measure_latency
from nas_optuna.models.latency import measuring_alone


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


def test_one_process_measures_at_a_time(tmp_path, monkeypatch):
    """The others wait until it is done, or dead."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with measuring_alone():
                os.write(writing, b"x")
                signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"x"
        (file,) = tmp_path.iterdir()
        with pytest.raises(Timeout):
            FileLock(file).acquire(timeout=0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
    assert measure_latency(nn.Linear(4, 2), (4,), seconds=0.01).median_ms > 0
    assert list(tmp_path.iterdir()) == [file]  # it is the lock that was waited for

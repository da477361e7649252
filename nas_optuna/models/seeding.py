"""Torch's global generators, seeded for a while, by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_TURN = threading.RLock()  # all threads of a process share torch's global generators


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Seed torch's global generators inside the block, and put them back as they were after it.

    Threads of one process take turns: with `study.optimize(n_jobs=4)` one network is trained at a
    time, with the result that it has when trained alone. Processes do not wait for each other;
    see `nas_optuna.workers`.

    Args:
        seed: Of all draws.
        device: Whose generator is seeded beside the CPU's.

    Yields:
        One more generator on `device`, of the same seed.
    """
    on_cpu = device.type == "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    with _TURN, torch.random.fork_rng([] if on_cpu else [device], device_type=device.type):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch every GPU
        if not on_cpu:
            torch.get_device_module(device).set_rng_state(generator.get_state(), device)
        yield generator

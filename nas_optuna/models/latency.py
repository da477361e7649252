"""How long one forward pass takes on this device, with its spread."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.benchmark import Timer

from nas_optuna.models.network import example_input


@dataclass(frozen=True, slots=True)
class Latency:
    """A measured latency.

    Args:
        median_ms: Median time of one forward pass in milliseconds; minimised.
        iqr_ms: Interquartile range of the repeats in milliseconds.
        threads: Threads that torch was allowed.
        device: What it ran on, such as `cpu x86_64` or `cuda NVIDIA A100`.
    """

    median_ms: float
    iqr_ms: float
    threads: int
    device: str


def device_name(device: torch.device | str) -> str:
    """Name the hardware behind a torch device."""
    device = torch.device(device)
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device.type} {platform.processor() or platform.machine()}"


def measure_latency(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    threads: int = 1,
    seconds: float = 0.1,
) -> Latency:
    """Time a model's forward pass: eval mode, inference mode, warm, device synchronised.

    Args:
        model: The network as it would be deployed; it is moved to `device`.
        input_shape: Shape of one sample without the batch.
        device: Where to run.
        batch_size: Samples in one pass.
        threads: Threads torch may use on the CPU; recorded, since it changes the result.
        seconds: Least time spent measuring; longer gives a steadier median.

    Returns:
        Median and interquartile range over blocks of repeats (`torch.utils.benchmark`).

    Example:
        >>> measure_latency(nn.Linear(8, 2), (8,), seconds=0.01).threads
        1
    """
    model = model.to(device).eval()
    x = example_input(model, input_shape, batch_size=batch_size, device=torch.device(device))
    # Timer synchronises CUDA around each block and sets the number of threads itself.
    timer = Timer("model(x)", globals={"model": model, "x": x}, num_threads=threads)
    with torch.inference_mode():
        timer.timeit(3)
        measured = timer.blocked_autorange(min_run_time=seconds)
    return Latency(
        median_ms=measured.median * 1e3,
        iqr_ms=measured.iqr * 1e3,
        threads=threads,
        device=device_name(device),
    )

"""How long one forward pass takes on this device, with its spread."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock
from torch import nn
from torch.utils.benchmark import Measurement, Timer
from torch.utils.benchmark import timer as synchronised

from nas_optuna.models.network import example_input
from nas_optuna.models.runtimes import RUNTIMES, RuntimeName, runtime_named

SPREAD = 0.05  # interquartile range, as a share of the median, at which a measurement is done
_MOST = 10  # times the least seconds: time is up
_BLOCKS = 20  # that the least seconds are cut into; one that is interrupted counts as one
_FEWEST = 4  # blocks, where one call alone takes longer than that
_POLL_SECONDS = 0.01
_FINE = 1e-6  # seconds; Windows has far coarser clocks of threads


@dataclass(frozen=True, slots=True)
class Latency:
    """A measured latency.

    Args:
        median_ms: Median time of one forward pass in milliseconds; minimised.
        iqr_ms: Interquartile range of the repeats in milliseconds.
        threads: Threads that the runtime was allowed.
        device: What it ran on, such as `cpu AMD EPYC 7763` or `cuda NVIDIA A100`.
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
    return f"{device.type} {_processor()}"


@lru_cache(maxsize=1)
def _processor() -> str:
    """The model of the processor; Linux names it in one place only, and not on every board."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, models), platform.processor() or platform.machine())


def device_fingerprint(
    device: torch.device | str, *, threads: int, runtime: RuntimeName = "torch"
) -> str:
    """Say all that makes latencies comparable: hardware, threads and what runs the network.

    Example:
        >>> device_fingerprint("cpu", threads=1).endswith(f"1 thread, torch {torch.__version__}")
        True
    """
    many = "s" if threads != 1 else ""
    version = RUNTIMES[runtime].version()
    return f"{device_name(device)}, {threads} thread{many}, {runtime} {version}"


@contextmanager
def measuring_alone() -> Iterator[None]:
    """Wait until no other process or thread of this user on this machine measures latency.

    The lock is a file in the folder for temporary files; the system frees it when its holder dies.
    """
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""  # others may not open our file
    lock = FileLock(Path(tempfile.gettempdir()) / f"nas-optuna-latency{user}.lock")
    with lock.acquire(poll_interval=_POLL_SECONDS):
        yield


def measure_latency(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    threads: int = 1,
    seconds: float = 0.1,
    spread: float = SPREAD,
    runtime: RuntimeName = "torch",
) -> Latency:
    """Time a model's forward pass: eval mode, inference mode, warm, device synchronised.

    Repeats go on until their interquartile range is below `spread` times the median, or ten
    times `seconds` are over. Only one process of a user measures at a time.

    Args:
        model: The network as it would be deployed; it is moved to `device`.
        input_shape: Shape of one sample without the batch.
        device: Where to run.
        batch_size: Samples in one pass.
        threads: Threads on the CPU; recorded, since it changes the result.
        seconds: Least time spent measuring; longer gives a steadier median.
        spread: Interquartile range to reach, as a share of the median.
        runtime: What runs the model, `torch` or `onnxruntime`.

    Returns:
        Median and interquartile range over blocks of repeats (`torch.utils.benchmark`).

    Raises:
        UnknownNameError: There is no such runtime.
        SettingError: The runtime is not installed, or does not run on `device`.

    Example:
        >>> measure_latency(nn.Linear(8, 2), (8,), seconds=0.01).threads
        1
    """
    device = torch.device(device)
    model = model.to(device).eval()
    x = example_input(model, input_shape, batch_size=batch_size, device=device)
    call = runtime_named(runtime).prepare(model, (x,), threads)
    return measure_call(call, device=device, threads=threads, seconds=seconds, spread=spread)


def measure_call(
    call: Callable[[], object],
    *,
    device: torch.device,
    threads: int = 1,
    seconds: float = 0.1,
    spread: float = SPREAD,
) -> Latency:
    """As `measure_latency`, for what a runtime prepared.

    Args:
        call: Runs the network once.
        device: Where it runs.
        threads: Threads on the CPU.
        seconds: Least time spent measuring.
        spread: Interquartile range to reach, as a share of the median.
    """
    # Timer synchronises CUDA around each block and sets torch's number of threads itself.
    clock = _clock(device, threads)
    timer = Timer("call()", globals={"call": call}, num_threads=threads, timer=clock)
    with measuring_alone(), torch.inference_mode():
        measured = _calibrated(timer, seconds, spread)
    return Latency(
        median_ms=measured.median * 1e3,
        iqr_ms=measured.iqr * 1e3,
        threads=threads,
        device=device_name(device),
    )


def _clock(device: torch.device, threads: int) -> Callable[[], float]:
    """A clock for what runs on `device`.

    What runs in one thread is timed by that thread's own clock, which stands still while the
    processor serves someone else; on an idle machine it shows the time on the wall.
    """
    if device.type == "cpu" and threads == 1:
        fine = time.get_clock_info("thread_time").resolution <= _FINE
        return time.thread_time if fine else time.perf_counter
    return synchronised


def _calibrated(timer: Timer, seconds: float, spread: float) -> Measurement:
    """Repeat blocks of calls until they agree or time is up.

    `Timer.adaptive_autorange` does as much, but grows its blocks tenfold until they are long
    enough: most of a small operation's time would go there, and long blocks hide interruptions.
    """
    timer.timeit(3)
    number = max(1, round(seconds / _BLOCKS / timer.timeit(3).median))
    blocks, spent = [], 0.0
    while True:
        block = timer.timeit(number)
        blocks.append(block)
        spent += block.median * number
        if spent >= seconds and len(blocks) >= _FEWEST:
            measured = Measurement.merge(blocks)[0]
            if spent >= _MOST * seconds or measured.meets_confidence(spread):
                return measured

"""Workers as processes on this machine, which share its cores and its GPUs."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess

import torch

from nas_optuna.workers.crew import Crew, Job

MOST_DEATHS = 5  # per worker, without any trial finished in between
LEAVE = 30.0  # seconds that a worker has to tell its trial when it is to leave
_LEFT = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)

_logger = logging.getLogger(__name__)


class LocalCrew(Crew):
    """Spawned processes; one that is killed is replaced.

    Args:
        job: What each does.
        count: How many there are.
    """

    def __init__(self, job: Job, count: int) -> None:
        super().__init__(job, count)
        self._places = places(count)
        self._processes: dict[int, SpawnProcess] = {}
        self._deaths = 0
        self._finished = 0

    def start(self) -> None:
        """Start the workers."""
        for index in range(self.count):
            self._start(index)

    def _start(self, index: int) -> None:
        place = self._places[index]
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(self.job,), name=f"nas-worker-{index}"
        )
        # Set here since libraries read it when they are imported, which is before any code of
        # ours runs there. Ctrl-C is for the launcher, which tells the workers to leave.
        with _environment(place), _ignoring_ctrl_c():
            process.start()
        self._processes[index] = process

    def look_after(self, finished: int) -> bool:
        """Replace workers that died; return whether any is at work.

        Args:
            finished: Trials that are finished by now.
        """
        if finished > self._finished:
            self._finished, self._deaths = finished, 0
        for index, process in list(self._processes.items()):
            if process.exitcode is None:
                continue
            del self._processes[index]
            if process.exitcode >= 0:
                self.failed += process.exitcode not in _LEFT
                continue
            self._deaths += 1
            cause = _signal_name(-process.exitcode)
            if self._deaths > MOST_DEATHS * self.count:
                self.failed += 1
                _logger.error("Worker %d was ended by %s once too often.", index, cause)
                continue
            _logger.warning("Worker %d was ended by %s and is replaced.", index, cause)
            self._start(index)
        return bool(self._processes)

    def stop(self) -> None:
        """Let the workers tell their trials and leave, and end those that do not."""
        for process in self._processes.values():
            process.terminate()
        until = time.monotonic() + LEAVE
        for process in self._processes.values():
            process.join(max(0.0, until - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
        self._processes.clear()


def places(
    count: int, *, environment: Mapping[str, str] = os.environ, gpus: int | None = None
) -> list[dict[str, str]]:
    """Environment of each of `count` workers on this machine.

    GPUs are given out round robin, among those that `CUDA_VISIBLE_DEVICES` names if it is set.
    Cores are divided, unless `OMP_NUM_THREADS` says how many threads a process has; of a list,
    such as `2,1`, the first number counts, which is for the outermost parallel region.

    Args:
        count: Number of workers.
        environment: What is set.
        gpus: GPUs of the machine; by default those that torch sees.

    Example:
        >>> [place["CUDA_VISIBLE_DEVICES"] for place in places(3, environment={}, gpus=2)]
        ['0', '1', '0']
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        found = torch.cuda.device_count() if gpus is None else gpus
        devices = [str(number) for number in range(found)]
    else:
        devices = [name for name in visible.split(",") if name]
    threads = str(_threads(environment) or max(1, cores() // count))
    return [
        {
            **{name: threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")},
            **({"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]} if devices else {}),
        }
        for index in range(count)
    ]


def _threads(environment: Mapping[str, str]) -> int:
    """What `OMP_NUM_THREADS` says; 0 if it says nothing that OpenMP would heed."""
    first = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def cores() -> int:
    """Cores that this process may use, which a job of Slurm or a container limits."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"


def _work(job: Job) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # only `LocalCrew` starts this
    threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sys.exit(job())


def _leave_with(sentinel: int) -> None:
    """Leave as by SIGTERM when the launcher is gone: nobody would ever stop this process."""
    multiprocessing.connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""Run a comparison in one process or in several, which share its studies out among them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

from nas_optuna.comparison.plan import Comparison
from nas_optuna.comparison.running import run_entry
from nas_optuna.errors import NasOptunaError
from nas_optuna.interruption import Interruption

MOST_WORKERS = 8  # by default; each holds the data and the libraries in memory of its own
_POLL = 0.2  # seconds between two looks at the workers
_PATIENCE = 20.0  # seconds that an interrupted worker has to write what it was at

Progress = Callable[[Sequence[int]], None]
"""Called now and then with the progress of each study (see `Meter`), in their order."""


class WorkerError(NasOptunaError):
    """A worker of a comparison ended before its studies did."""


def default_workers(studies: int) -> int:
    """Processes for so many studies: one for each core this process may use, at most 8."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, studies, MOST_WORKERS))


def run(
    comparison: Comparison,
    *,
    workers: int = 1,
    make: Callable[[], Comparison] | None = None,
    progress: Progress | None = None,
) -> None:
    """Run all studies to their ends; what is there already is not repeated.

    Args:
        comparison: What to run.
        workers: Processes; 1 runs everything in this one.
        make: Makes the comparison in another process, to which it is pickled; None pickles the
            comparison itself, which a space or evaluator made in a study file cannot be.
        progress: Told how far the studies are.

    Raises:
        KeyboardInterrupt: The run was stopped by SIGINT or SIGTERM; its argument is the signal's
            number. The trials that were running are repeated by the next run.
        NasOptunaError: A study could not be run, or was run with another pruner.
    """
    comparison.check_pruner()
    told = progress or (lambda counts: None)
    workers = min(workers, len(comparison.entries))
    if workers < 2:
        _run_here(comparison, told)
        return
    comparison.prepare()
    _Team(make or partial(_itself, comparison), workers, len(comparison.entries)).run(told)


def _itself(comparison: Comparison) -> Comparison:
    return comparison


def _run_here(comparison: Comparison, progress: Progress) -> None:
    counts = [0] * len(comparison.entries)

    def tell(place: int, count: int) -> None:
        counts[place] = count
        progress(counts)

    for place, entry in enumerate(comparison.entries):
        run_entry(comparison, entry, partial(tell, place))


class _Team:
    """Worker processes: each takes the next study that nobody has taken until none is left."""

    def __init__(self, make: Callable[[], Comparison], workers: int, studies: int) -> None:
        # Spawned, not forked: neither engines nor torch's threads survive a fork.
        context = multiprocessing.get_context("spawn")
        self._next = context.Value("i", 0)
        self._counts = context.Array("i", studies, lock=False)
        self._errors = context.SimpleQueue()
        self._processes: list[BaseProcess] = [
            context.Process(
                target=work,
                args=(make, self._next, self._counts, self._errors, workers),
                name=f"compare-{i}",
            )
            for i in range(workers)
        ]

    def run(self, progress: Progress) -> None:
        interruption = Interruption()
        with interruption.caught():
            self._start()
            try:
                while any(process.is_alive() for process in self._processes):
                    with interruption.judging():
                        time.sleep(_POLL)
                    progress(list(self._counts))
                    self._check()
            finally:
                self._stop()
        progress(list(self._counts))
        self._check()

    def _start(self) -> None:
        """Start the workers, deaf to Ctrl-C: this process tells them, and only once."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
        for process in self._processes:
            process.start()
        if before is not None:
            signal.signal(signal.SIGINT, before)

    def _check(self) -> None:
        if not self._errors.empty():
            raise self._errors.get()
        for process in self._processes:
            if process.exitcode:
                raise WorkerError(
                    f"{process.name} ended with status {process.exitcode}; what it had finished "
                    "is kept. Run the same command again, with fewer --workers if memory was "
                    "short."
                )

    def _stop(self) -> None:
        """End what still runs: first so that it can write what it was at."""
        alive = [process for process in self._processes if process.is_alive()]
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + _PATIENCE
        for process in alive:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()


def work(
    make: Callable[[], Comparison], place: Any, counts: Any, errors: Any, workers: int
) -> None:
    """What a worker does: take a study that nobody has taken and run it, until none is left.

    Args:
        make: Makes the comparison.
        place: Shared number of the next study.
        counts: Shared progress of each study.
        errors: Queue for the error that ends this worker.
        workers: How many there are.
    """
    _die_with_parent()
    _share_cores(workers)
    try:
        comparison = make()
        entries = comparison.entries
        while True:
            with place.get_lock():
                mine = place.value
                place.value += 1
            if mine >= len(entries):
                return
            run_entry(comparison, entries[mine], partial(counts.__setitem__, mine))
    except KeyboardInterrupt:
        return
    except NasOptunaError as error:
        errors.put(error)
    except Exception as error:  # noqa: BLE001 - told by the parent, which the user looks at
        errors.put(WorkerError(f"A worker failed: {type(error).__name__}: {error}"))


def _die_with_parent() -> None:
    """End this process when its parent is gone, so that no study is run twice at once."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGKILL)  # its trial is repeated by the next run

    threading.Thread(target=watch, daemon=True).start()


def _share_cores(workers: int) -> None:
    import torch

    cores = default_workers(1_000_000)
    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores // workers)))

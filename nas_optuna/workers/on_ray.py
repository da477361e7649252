"""Workers on a Ray cluster, which places them by the cores and GPUs that a trial asks for."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch

from nas_optuna.errors import WorkerError
from nas_optuna.workers.crew import Crew, Job

RESTARTS = 20  # of one worker whose process or machine died
_LEAVE = 30.0  # seconds that workers have to tell their trials when they are to leave

_logger = logging.getLogger(__name__)


class RayCrew(Crew):
    """Ray tasks, each of which runs one trial after another.

    Ray queues the workers that find no place yet, restarts one whose process or machine died,
    and shows each its own GPUs. A cluster that this process is connected to is used, else the one
    that `RAY_ADDRESS` names, else one is started on this machine.

    Args:
        job: What each does. On other machines its study file must be found at the same path: on a
            shared disk, or sent along by `ray job submit --working-dir`.
        count: How many workers there are at most.
        cpus: Cores of a worker, and its threads.
        gpus: GPUs of a worker; 0.5 for two workers on one.

    Raises:
        WorkerError: Ray is not installed.
    """

    def __init__(self, job: Job, count: int, *, cpus: float = 1.0, gpus: float = 0.0) -> None:
        super().__init__(job, count)
        try:
            import ray
        except ImportError:
            raise WorkerError(
                "--launcher ray needs Ray, which cannot be imported: pip install nas-optuna[ray]"
            ) from None
        self._ray: Any = ray
        self._resources = {"num_cpus": cpus, "num_gpus": gpus}
        self._tasks: list[Any] = []
        self._ours = False  # whether this crew started or joined the cluster

    def start(self) -> None:
        """Connect to the cluster and hand the workers to it.

        Raises:
            WorkerError: No machine of the cluster has what one worker asks for.
        """
        ray = self._ray
        if not ray.is_initialized():
            ray.init(log_to_driver=True, include_dashboard=False, configure_logging=False)
            self._ours = True
        self._check()
        options = {**self._resources, "max_retries": RESTARTS}
        remote = ray.remote(**options)(_work)
        threads = max(1, int(self._resources["num_cpus"]))
        self._tasks = [remote.remote(self.job, os.getcwd(), threads) for _ in range(self.count)]

    def _check(self) -> None:
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        cpus, gpus = self._resources["num_cpus"], self._resources["num_gpus"]
        if not any(m.get("CPU", 0) >= cpus and m.get("GPU", 0) >= gpus for m in machines):
            raise WorkerError(
                f"No machine of the Ray cluster has {cpus:g} cores and {gpus:g} GPUs; "
                "ask for less with --cpus and --gpus."
            )
        if len(machines) > 1 and self.job.load().storage.startswith("sqlite"):
            raise WorkerError(
                f"The Ray cluster has {len(machines)} machines, and a SQLite file cannot be "
                "shared between them; use PostgreSQL: --storage postgresql://..."
            )

    def look_after(self, finished: int) -> bool:
        """Take in which workers ended; Ray replaces those that died.

        Args:
            finished: Trials that are finished by now.
        """
        ended, self._tasks = self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)
        for task in ended:
            try:
                self.failed += self._ray.get(task) == 1
            except self._ray.exceptions.RayError as error:
                self.failed += 1
                _logger.error("A worker on Ray failed: %s", str(error).splitlines()[-1])
        return bool(self._tasks)

    def stop(self) -> None:
        """Let the workers tell their trials and leave, and end those that do not."""
        for task in self._tasks:
            self._ray.cancel(task, force=False)  # a Ctrl-C in the worker
        if self._tasks:
            count = len(self._tasks)
            _, left = self._ray.wait(self._tasks, num_returns=count, timeout=_LEAVE)
            for task in left:
                self._ray.cancel(task, force=True)
        self._tasks = []
        if self._ours:
            self._ray.shutdown()


def _work(job: Job, folder: str, threads: int) -> int:
    if os.path.isdir(folder):  # relative paths of the study mean the same as in the launcher
        os.chdir(folder)
    torch.set_num_threads(threads)
    return job()

"""Many processes on one study: on this machine, on many, or on a Ray cluster."""

from nas_optuna.workers.crew import Crew, Job, supervise
from nas_optuna.workers.loop import work
from nas_optuna.workers.processes import LocalCrew

__all__ = ["Crew", "Job", "LocalCrew", "supervise", "work"]

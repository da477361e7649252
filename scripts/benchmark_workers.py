"""How workers scale: trainings per second on this machine, and a crowd on one database.

    python scripts/benchmark_workers.py throughput [--trials 24]
    python scripts/benchmark_workers.py crowd --storage postgresql://... [--workers 32]

`throughput` runs the same real trainings with one worker and with two, one thread each, and
counts from the first trial that starts to the last that ends: starting a process takes some
seconds once, whatever the study. `crowd` replaces training by a formula, so that nothing is left
but the database.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table

import nas_optuna as nas
from nas_optuna.evaluators import Candidate, Evaluator, Report
from nas_optuna.metrics import Metrics
from nas_optuna.storage.budget import Goal
from nas_optuna.workers import Job, LocalCrew, supervise

SPACE = nas.spaces.MacroSpace(
    (1, 8, 8), 10, min_layers=3, max_layers=6, widths=(16, 24, 32), kernel_sizes=(3, 5)
)


class Formula(Evaluator):
    """Training replaced by a number made of the network's digest."""

    name: ClassVar[str] = "Formula"
    provides: ClassVar[frozenset[str]] = frozenset({"accuracy"})

    def identity(self) -> Mapping[str, Any]:
        """No settings."""
        return {}

    def on(self, device: object) -> Formula:
        """Any device is the same."""
        return self

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """At once."""
        digest = hashlib.sha256(candidate.key.encode()).digest()
        return Metrics({"accuracy": digest[0] / 256}, epochs=1)


def trained(storage: str, name: str) -> nas.Search:
    """Real trainings, the same ones whoever asks."""
    return nas.Search(
        name=name,
        space=SPACE,
        # The seed is the cache's too: every study trains all of its networks.
        evaluator=nas.evaluators.FullTraining("digits", epochs=6, seed=len(name)),
        metrics=("accuracy", "parameters"),
        sampler="random",
        storage=storage,
    )


def formula(storage: str, name: str) -> nas.Search:
    """Trials that cost nothing but their records."""
    return nas.Search(
        name=name,
        space=SPACE,
        evaluator=Formula(),
        metrics=("accuracy", "parameters"),
        sampler="random",
        storage=storage,
    )


def run(load: Any, workers: int, trials: int) -> tuple[float, int]:
    """Run a study; return the seconds from its first trial's start to its end, and failures."""
    study = load().create()
    began = len(study.get_trials(deepcopy=False))
    crew = LocalCrew(Job(load=load, goal=Goal(trials=began + trials)), workers)
    supervise(crew, study)
    done = study.get_trials(deepcopy=False)[began:]
    finished = [t for t in done if t.state.name == "COMPLETE"]
    assert len(finished) == trials, len(finished)
    assert [t.number for t in done] == list(range(began, began + len(done)))
    starts = [t.datetime_start for t in done if t.datetime_start]
    ends = [t.datetime_complete for t in done if t.datetime_complete]
    return (max(ends) - min(starts)).total_seconds(), crew.failed + len(done) - trials


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("throughput", "crowd"))
    parser.add_argument("--trials", type=int)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--storage")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    table = Table()
    for column in ("workers", "trials", "seconds", "trials per second", "failures"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        storage = given.storage or f"sqlite:///{folder}/nas.db"
        if given.part == "throughput":
            make, counts, trials = trained, (1, 2), given.trials or 24
        else:
            make, counts, trials = formula, (given.workers,), given.trials or 1000
        for workers in counts:
            name = f"{given.part} of {'x' * workers} at {time.time():.0f}"
            seconds, failures = run(partial(make, storage, name), workers, trials)
            cells = (workers, trials, f"{seconds:.1f}", f"{trials / seconds:.2f}", failures)
            table.add_row(*map(str, cells))
    Console().print(table)


if __name__ == "__main__":
    main()

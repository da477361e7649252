"""What a trial costs beyond sampler, building, counting and training, beside stock Optuna.

    python scripts/benchmark_overhead.py [--trials 300]

Both studies are in memory, draw at random and ask the same questions, so the difference is this
package's own: records, constraints, cache, and the look for repeats. One run, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import optuna
from rich.console import Console
from rich.table import Table

import nas_optuna as nas
import nas_optuna.objective
from nas_optuna.candidates import Proposal
from nas_optuna.escape import Escape
from nas_optuna.evaluators import Candidate, Evaluator, Report
from nas_optuna.metrics import Metrics


class Constant(Evaluator):
    """Training replaced by nothing."""

    name: ClassVar[str] = "Constant"
    provides: ClassVar[frozenset[str]] = frozenset({"accuracy"})

    def identity(self) -> Mapping[str, Any]:
        """No settings."""
        return {}

    def on(self, device: object) -> Constant:
        """Any device is the same."""
        return self

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Half right, at once."""
        return Metrics({"accuracy": 0.5}, epochs=1, curve=(0.5,))


class Stopwatch:
    """Adds up the time between `start` and `stop`, per trial."""

    def __init__(self) -> None:
        self.spent = 0.0
        self.trials: list[float] = []

    def lap(self) -> None:
        """End a trial."""
        self.trials.append(self.spent * 1e3)
        self.spent = 0.0

    def timed(self, function: Any) -> Any:
        """Return `function` with its time added up."""

        def call(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.spent += time.perf_counter() - began

        return call


def measure(trials: int) -> tuple[float, float, float]:
    """Median milliseconds of a trial: stock Optuna, ours in all, and ours spent on proposing."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = nas.spaces.MacroSpace((1, 8, 8), 10, max_layers=6, widths=(16, 32, 64))
    limits = nas.SearchConstraints(max_latency_ms=None)
    objective = nas.Objective(space, Constant(), ("accuracy", "flops", "parameters"), limits)

    def stock(trial: optuna.Trial) -> tuple[float, float, float]:
        for name, gene in space.genes.items():
            trial._suggest(name, gene)
        return 0.5, 1.0, 1.0

    proposing, whole, plain = Stopwatch(), Stopwatch(), Stopwatch()
    propose: Any = proposing.timed(nas_optuna.objective.propose)

    def proposed(*args: Any) -> Proposal:
        return propose(*args)  # type: ignore[no-any-return]

    nas_optuna.objective.propose = proposed
    studies = []
    for judge in (objective, stock):
        sampler = nas.samplers.create("random", space=space, seed=0)
        studies.append(
            (optuna.create_study(directions=objective.directions, sampler=sampler), judge)
        )
    ours, theirs = studies
    callbacks = [Escape(objective)]
    for _ in range(trials):  # in turn, so that both see the same machine
        whole.timed(lambda: ours[0].optimize(ours[1], n_trials=1, callbacks=callbacks))()
        plain.timed(lambda: theirs[0].optimize(theirs[1], n_trials=1))()
        for watch in (proposing, whole, plain):
            watch.lap()
    return tuple(statistics.median(w.trials) for w in (plain, whole, proposing))  # type: ignore[return-value]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=300)
    plain, whole, proposing = measure(parser.parse_args().trials)
    table = Table(title="Median milliseconds per trial, in memory")
    table.add_column("part")
    table.add_column("ms", justify="right")
    table.add_row("stock Optuna, same questions, no objective", f"{plain:.2f}")
    table.add_row("nas_optuna, whole trial, no training", f"{whole:.2f}")
    table.add_row("  of it asking, building on meta, counting, digest", f"{proposing:.2f}")
    table.add_row(
        "own cost beyond stock Optuna and that", f"{whole - proposing:.2f}", style="bold"
    )
    Console().print(table)


if __name__ == "__main__":
    main()

"""Digits with at most 5,000 parameters: test accuracy of the pick, by sampler, over seeds.

    python scripts/benchmark_digits_small.py [--seeds 3] [--evaluations 30]

Each search trains `--evaluations` networks; the most accurate one of its front is retrained from
three seeds on all but the test part and tested. `stock TPE` is Optuna's own sampler with its
defaults on the same objective.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import optuna
from rich.console import Console
from rich.table import Table

import nas_optuna as nas
from nas_optuna.export.retraining import retrain, schedule_of
from nas_optuna.export.subject import subject_of
from nas_optuna.study_file import load_search

STUDY = Path(__file__).parent.parent / "studies" / "digits_small.py"
SAMPLERS = ("random", "stock TPE", "tpe", "nsga2")
EPOCHS = 60


def run(search: nas.Search, sampler: str, seed: int, evaluations: int) -> list[float]:
    """One search: parameters, validation accuracy, test accuracy, seconds, trials."""
    name = "tpe" if sampler == "stock TPE" else sampler
    search = replace(search, sampler=name, seed=seed, timeout=None, trials=evaluations)
    study = optuna.create_study(
        directions=search.objective.directions,
        sampler=nas.samplers.create(name, space=search.objective.space, seed=seed),
    )
    if sampler == "stock TPE":
        study.sampler = optuna.samplers.TPESampler(seed=seed)
    study.set_metric_names(list(search.objective.metrics))
    began = time.perf_counter()
    search.optimize(study, evaluations=evaluations)
    seconds = time.perf_counter() - began
    pick = max(nas.report.pareto_records(study), key=lambda record: record["values"]["accuracy"])
    candidate = subject_of(study, search.objective, pick["number"]).candidate
    schedule = schedule_of(search.evaluator, epochs=EPOCHS, seeds=3)
    with tempfile.TemporaryDirectory() as folder:
        _, trained = retrain(candidate, schedule, Path(folder), progress=lambda line: None)
    accuracies = [one.accuracy for one in trained]
    values = pick["values"]
    return [
        values["parameters"], values["accuracy"], statistics.mean(accuracies), seconds,
        len(study.trials),
    ]  # fmt: skip


def main() -> None:
    """Parse, search, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=30)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = load_search(STUDY)
    table = Table(title=f"digits, at most 5,000 parameters, {options.evaluations} trainings")
    for name in ("sampler", "parameters", "validation", "test (retrained)", "seconds", "trials"):
        table.add_column(name, justify="left" if name == "sampler" else "right")
    for sampler in SAMPLERS:
        rows = [run(search, sampler, seed, options.evaluations) for seed in range(options.seeds)]
        columns = list(zip(*rows, strict=True))
        test = f"{statistics.mean(columns[2]):.4f} ± {statistics.stdev(columns[2]):.4f}"
        table.add_row(
            sampler,
            f"{statistics.mean(columns[0]):,.0f}",
            f"{statistics.mean(columns[1]):.4f}",
            test,
            f"{statistics.mean(columns[3]):.0f}",
            f"{statistics.mean(columns[4]):.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()

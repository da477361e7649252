"""Does progressive complexity cost accuracy? Best of NAS-Bench-201 after so many trials.

    python scripts/benchmark_progressive.py [--seeds 20] [--gp-seeds 5] [--results runs.jsonl]

Each trial looks its cell up in the table: mean validation accuracy after 200 epochs. A strategy
is told how many trials are planned, so each budget is a study of its own. Behind the mean and its
standard deviation over seeds stands the p-value of a Wilcoxon test against `tpe`, paired by seed.
Each finished study is a line in `--results`, and a run that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import product
from pathlib import Path

import optuna
from rich.console import Console
from rich.table import Table
from scipy.stats import wilcoxon

import nas_optuna as nas
from nas_optuna.evaluators import Tabular
from nas_optuna.evaluators.nasbench201 import DATA_SETS

BUDGETS = (50, 100, 200)
STRATEGIES = ("tpe", "progressive", "random", "local", "gp")
REFERENCE = "tpe"  # which `progressive` wraps

Key = tuple[str, str, int, int]  # strategy, data set, trials, seed


def best(table: Tabular, strategy: str, trials: int, seed: int) -> float:
    """Search, and return the best validation accuracy."""
    space = nas.spaces.NASBench201Space()
    sampler = nas.samplers.create(strategy, space=space, seed=seed, trials=trials)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def accuracy(trial: optuna.Trial) -> float:
        for gene, choices in space.genes.items():
            assert isinstance(choices, optuna.distributions.CategoricalDistribution)
            trial.suggest_categorical(gene, choices.choices)
        return table.row(trial.params).values["accuracy"]

    study.optimize(accuracy, n_trials=trials)
    return study.best_value


def read(path: Path) -> dict[Key, float]:
    """Read the studies that are done."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {tuple(key): value for key, value in map(json.loads, lines)}


def cell(done: dict[Key, float], strategy: str, data: str, trials: int) -> str:
    """Mean, standard deviation and p-value against the reference, over the seeds both have."""
    seeds = [key[3] for key in done if key[:3] == (strategy, data, trials)]
    ours = [100 * done[strategy, data, trials, seed] for seed in seeds]
    if len(ours) < 2:
        return ""
    text = f"{statistics.mean(ours):.2f} ± {statistics.stdev(ours):.2f}"
    gains = [
        value - 100 * done[REFERENCE, data, trials, s]
        for s, value in zip(seeds, ours, strict=True)
    ]
    return f"{text} (p {wilcoxon(gains).pvalue:.2g})" if any(gains) else text


def show(done: dict[Key, float]) -> None:
    """Print a row for each strategy and budget."""
    table = Table(title="NAS-Bench-201: best validation accuracy, %")
    for name in ("strategy", "trials", *DATA_SETS, "seeds"):
        table.add_column(name)
    for strategy, trials in product(STRATEGIES, BUDGETS):
        cells = [cell(done, strategy, data, trials) for data in DATA_SETS]
        seeds = {key[3] for key in done if (key[0], key[2]) == (strategy, trials)}
        table.add_row(strategy, str(trials), *cells, str(len(seeds)))
    Console(width=140).print(table)


def main() -> None:
    """Parse, search, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--gp-seeds", type=int, default=5, help="a study of gp takes half a minute"
    )
    parser.add_argument("--results", type=Path, default=Path("benchmark_progressive.jsonl"))
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done = read(options.results)
    tables = {data: Tabular.nasbench201(data) for data in DATA_SETS}
    for strategy, trials, data in product(STRATEGIES, BUDGETS, DATA_SETS):
        for seed in range(options.gp_seeds if strategy == "gp" else options.seeds):
            key = (strategy, data, trials, seed)
            if key not in done:
                began = time.perf_counter()
                done[key] = best(tables[data], strategy, trials, seed)
                with options.results.open("a") as file:
                    file.write(json.dumps([key, done[key]]) + "\n")
                print(*key, f"{time.perf_counter() - began:.1f} s", flush=True)
    show(done)


if __name__ == "__main__":
    main()

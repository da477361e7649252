"""Does a strategy learn? `reinforce`, or another one, against `random`, paired by seed.

    python scripts/benchmark_reinforce.py [--strategy reinforce] [--seeds 20] [--trials 200 500]
        [--datasets cifar10 cifar100 imagenet] [--parts accuracy front conditional]

- `accuracy`: best validation accuracy so far on NAS-Bench-201, in percentage points below the best
  of the table.
- `front`: hypervolume of (accuracy, latency) on the same table, in percent of the true front's;
  both scaled to [0, 1] over the table, the worst of each is the reference point.
- `conditional`: best value of a space whose every question depends on the answers before, in each
  seed with other numbers behind it; standard deviations of a random genome above their mean.

p is that of a one-sided paired Wilcoxon test over the seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import moocore
import numpy as np
import optuna
from benchmark_nasbench201 import STOCK
from rich.console import Console
from rich.table import Table
from scipy.stats import wilcoxon

import nas_optuna as nas
from nas_optuna.evaluators.nasbench201 import DATA_SETS

BASELINE = "random"
PARTS = ("accuracy", "front", "conditional")
FAMILIES = ("plain", "residual", "dense", "mobile")
OPERATIONS = ("conv", "separable", "pool", "skip")
KERNELS = (3, 5, 7)
MOST_LAYERS = 5

Formula = Callable[[optuna.Trial], float]


def searched(
    strategy: str, seed: int, trials: int, directions: Sequence[str], ask: Callable
) -> np.ndarray:
    """Values `(trials, m)` of a study in memory."""
    if strategy in STOCK:
        sampler = STOCK[strategy](None, seed, trials)
    else:
        sampler = nas.samplers.create(strategy, seed=seed, trials=trials)
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.optimize(ask, n_trials=trials)
    return np.array([trial.values for trial in study.get_trials(deepcopy=False)])


class NASBench201:
    """A data set of the table, as an objective and as a ruler."""

    def __init__(self, data: str) -> None:
        self.space = nas.spaces.NASBench201Space()
        table = nas.evaluators.Tabular.nasbench201(data)
        self.found = {tuple(row.params.values()): row.values for row in table.rows()}
        values = np.array([[v["accuracy"], v["latency_ms"]] for v in self.found.values()])
        self.best = values[:, 0].max()
        self.low, self.high = values.min(axis=0), values.max(axis=0)
        self.whole = self.hypervolume(values)

    def ask(self, trial: optuna.Trial) -> tuple[float, float]:
        """Accuracy and latency of the trial's cell."""
        genes = self.space.genes.items()
        cell = tuple(trial.suggest_categorical(name, asks.choices) for name, asks in genes)
        return self.found[cell]["accuracy"], self.found[cell]["latency_ms"]

    def hypervolume(self, values: np.ndarray) -> float:
        """Hypervolume of `(n, 2)` values, scaled over the table."""
        share = (values - self.low) / (self.high - self.low)
        return float(moocore.hypervolume(share * [-1, 1], ref=[0, 1]))

    def accuracy(self, strategy: str, seed: int, budgets: Sequence[int]) -> list[float]:
        """Percentage points below the best accuracy, after each budget."""
        ask = lambda trial: self.ask(trial)[0]  # noqa: E731
        values = searched(strategy, seed, max(budgets), ["maximize"], ask)
        return [100 * (self.best - values[:budget].max()) for budget in budgets]

    def front(self, strategy: str, seed: int, budgets: Sequence[int]) -> list[float]:
        """Percent of the true front's hypervolume, after each budget."""
        values = searched(strategy, seed, max(budgets), ["maximize", "minimize"], self.ask)
        return [100 * self.hypervolume(values[:budget]) / self.whole for budget in budgets]


def conditional(seed: int) -> Formula:
    """A formula over a space of some 150,000 networks in which a name belongs to its branch."""
    random = np.random.default_rng(seed)
    family_gain = random.normal(size=len(FAMILIES))
    gains = random.normal(size=(len(FAMILIES), MOST_LAYERS, len(OPERATIONS)))
    kernels = random.normal(size=(len(FAMILIES), MOST_LAYERS, len(KERNELS)))
    pairs = random.normal(size=(len(FAMILIES), len(OPERATIONS), len(OPERATIONS)))

    def ask(trial: optuna.Trial) -> float:
        family = trial.suggest_categorical("family", FAMILIES)
        f = FAMILIES.index(family)
        layers = trial.suggest_int(f"{family}.layers", 1, MOST_LAYERS)
        value, before = family_gain[f] - 0.5 * layers, None
        for layer in range(layers):
            name = trial.suggest_categorical(f"{family}.{layer}.operation", OPERATIONS)
            operation = OPERATIONS.index(name)
            value += gains[f, layer, operation]
            if before is not None:
                value += pairs[f, before, operation]
            if name in ("conv", "separable"):
                kernel = trial.suggest_categorical(f"{family}.{layer}.{name}.kernel", KERNELS)
                value += kernels[f, layer, KERNELS.index(kernel)]
            before = operation
        return float(value)

    return ask


def conditional_best(strategy: str, seed: int, budgets: Sequence[int]) -> list[float]:
    """Best value after each budget, in standard deviations of random genomes above their mean."""
    ask = conditional(seed)
    sample = searched("random", 10_000 + seed, 500, ["maximize"], ask)
    values = searched(strategy, seed, max(budgets), ["maximize"], ask)
    return [float((values[:budget].max() - sample.mean()) / sample.std()) for budget in budgets]


def add_rows(
    table: Table,
    name: str,
    run: Callable[[str, int, Sequence[int]], list[float]],
    options: argparse.Namespace,
    *,
    larger: bool,
) -> None:
    """Run both strategies over all seeds and add a row for each budget."""
    results, seconds = {}, {}
    pair = (BASELINE, options.strategy)
    for strategy in pair:
        began = time.process_time()
        rows = [run(strategy, seed, options.trials) for seed in range(options.seeds)]
        results[strategy] = np.array(rows)
        seconds[strategy] = time.process_time() - began
    better = results[options.strategy] - results[BASELINE]
    if not larger:
        better = -better
    spent = 1e3 * seconds[options.strategy] / options.seeds / max(options.trials)
    for column, budget in enumerate(options.trials):
        means = [f"{results[strategy][:, column].mean():.3f}" for strategy in pair]
        won, lost = (better[:, column] > 0).sum(), (better[:, column] < 0).sum()
        p = wilcoxon(better[:, column], alternative="greater").pvalue if won + lost else 1.0
        table.add_row(name, f"{budget}", *means, f"{won}:{lost}", f"{p:.1e}", f"{spent:.0f}")


def main() -> None:
    """Parse, search, print after each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = (*nas.samplers.names(), *STOCK)
    parser.add_argument("--strategy", choices=names, default="reinforce")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--datasets", nargs="*", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = Table(title=f"{options.strategy} against {BASELINE}, {options.seeds} seeds")
    for name in ("task", "trials", BASELINE, options.strategy, "won:lost", "p", "ms a trial"):
        table.add_column(name, justify="left" if name == "task" else "right")
    console = Console()
    for data in options.datasets if {"accuracy", "front"} & set(options.parts) else ():
        cells = NASBench201(data)
        if "accuracy" in options.parts:
            add_rows(table, f"{data}, accuracy below best", cells.accuracy, options, larger=False)
        if "front" in options.parts:
            add_rows(table, f"{data}, % hypervolume", cells.front, options, larger=True)
        console.print(table)
    if "conditional" in options.parts:
        add_rows(table, "conditional, best value", conditional_best, options, larger=True)
        console.print(table)


if __name__ == "__main__":
    main()

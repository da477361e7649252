"""How many trainings each strategy needs on NAS-Bench-201, beside Optuna's own samplers.

    python scripts/benchmark_nasbench201.py [--strategies nsga2 stock-nsga2 ...] [--seeds 20]
        [--data cifar10 cifar100 imagenet] [--budgets 50 100 200 500] [--objectives 1 2]
        [--conditional] [--processes 1] [--results runs.jsonl] [--out table.md]

A trial looks its cell up in the table (validation accuracy after 200 epochs and latency of a
batch, each the mean over the recorded trainings), so that a study takes seconds. The optimum is
the best validation accuracy among the 15,625 cells. The hypervolume is that of (accuracy, latency)
with both scaled to [0, 1] over the whole table and the worst of each as the reference point, as a
share of that of the true front. A strategy that is told how many trials are planned gets a study
of its own for each budget. Each finished study is a line of JSON in `--results`: a run that was
killed is continued by the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler

import nas_optuna as nas
from nas_optuna.evaluators import Tabular
from nas_optuna.evaluators.nasbench201 import DATA_SETS
from nas_optuna.spaces import NASBench201Space
from nas_optuna.spaces.base import FunctionSpace, Space

BUDGETS = (50, 100, 200, 500)
OBJECTIVES = (("accuracy",), ("accuracy", "latency_ms"))
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
# Sets of nodes that a node can take as input, where it is asked for them.
SOURCES = {"1": ("0",), "2": ("0", "1", "01"), "3": ("0", "1", "2", "01", "02", "12", "012")}
# Registered strategies that need no training, as far as they are there.
WANTED = ("random", "tpe", "nsga2", "reinforce", "progressive", "surrogate", "gp", "local")
UNPLANNED = ("random", "tpe", "surrogate")  # the same for all numbers of planned trials from 40 on

# Makes the sampler of one study from the space, the seed and the number of planned trials.
Factory = Callable[[Space, int, int], BaseSampler]


def stock(kind: Callable[..., BaseSampler], space: Space, seed: int, trials: int) -> BaseSampler:
    """Make one of Optuna's own samplers, which know neither space nor budget."""
    return kind(seed=seed)


def registered(name: str, space: Space, seed: int, trials: int) -> BaseSampler:
    """Make the sampler of a strategy of the package."""
    return nas.samplers.create(name, space=space, seed=seed, trials=trials)


STOCK: dict[str, Factory] = {
    "stock-tpe": partial(stock, TPESampler),
    "stock-tpe-multivariate": partial(stock, partial(TPESampler, multivariate=True)),
    "stock-nsga2": partial(stock, NSGAIISampler),  # population 50
    "stock-nsga2-20": partial(stock, partial(NSGAIISampler, population_size=20)),
    "stock-gp": partial(stock, GPSampler),
}


@dataclass(frozen=True, slots=True)
class Task:
    """One study.

    Args:
        strategy: Name in the table.
        data: One of `DATA_SETS`.
        objectives: Names of metrics.
        seed: Seed of the study.
        trials: How many trials it runs, which is also what the strategy is told.
        conditional: Whether the cell is asked for by `ask_conditionally`.
    """

    strategy: str
    data: str
    objectives: tuple[str, ...]
    seed: int
    trials: int
    conditional: bool = False

    @property
    def key(self) -> str:
        """What identifies it in the file of results."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one study.

    Args:
        best: Best validation accuracy after each budget, by the number of trials.
        share: Share of the true front's hypervolume after each budget; empty with one objective.
        unique: Different cells after each budget.
        found: Trials until the best cell of the table was proposed, itself counted; None if never.
        found_unique: Different cells until then, which is what had to be trained.
        seconds: Processor time of the study, in seconds.
    """

    best: dict[int, float]
    share: dict[int, float]
    unique: dict[int, int]
    found: int | None
    found_unique: int | None
    seconds: float


class Cells:
    """NAS-Bench-201 as arrays.

    Args:
        data: One of `DATA_SETS`.
    """

    def __init__(self, data: str) -> None:
        table = Tabular.nasbench201(data)
        rows = table.rows()
        self.index = {tuple(row.params[edge] for edge in EDGES): i for i, row in enumerate(rows)}
        self.values = {
            name: np.array([row.values[name] for row in rows])
            for name in ("accuracy", "latency_ms")
        }
        self.optimum = int(self.values["accuracy"].argmax())
        losses = np.stack([-self.values["accuracy"], self.values["latency_ms"]], axis=1)
        best, worst = losses.min(axis=0), losses.max(axis=0)
        self._losses = (losses - best) / (worst - best)
        self._whole = self._hypervolume(np.arange(len(rows)))

    def _hypervolume(self, cells: npt.NDArray[np.int64]) -> float:
        return float(moocore.hypervolume(self._losses[cells], ref=[1.0, 1.0]))

    def share(self, cells: npt.NDArray[np.int64]) -> float:
        """Share of the true front's hypervolume that a set of cells has."""
        return self._hypervolume(cells) / self._whole


@cache
def cells_of(data: str) -> Cells:
    """Return the table of a data set, read once."""
    return Cells(data)


def ask(trial: optuna.trial.BaseTrial) -> dict[str, str]:
    """Ask for the operation of every edge, as `NASBench201Space` does."""
    return {edge: trial.suggest_categorical(edge, OPERATIONS) for edge in EDGES}


def ask_conditionally(trial: optuna.trial.BaseTrial) -> dict[str, str]:
    """Ask which nodes each node takes, then for the operations of these edges alone.

    Other questions come up from trial to trial, as in much code of users. Cells with a node that
    takes nothing are left out; the optima are in.
    """
    cell = dict.fromkeys(EDGES, "none")
    for node, sources in SOURCES.items():
        chosen = trial.suggest_categorical(f"node{node}.inputs", sources)
        for source in chosen:
            edge = f"{source}->{node}"
            cell[edge] = trial.suggest_categorical(edge, OPERATIONS[1:])
    return cell


@cache
def _space(*, conditional: bool) -> Space:
    if not conditional:
        return NASBench201Space()
    whole = NASBench201Space()

    def cell(trial: optuna.trial.BaseTrial) -> Any:
        return whole.architecture(ask_conditionally(trial))

    return FunctionSpace(cell, input_shape=(3, 32, 32), num_classes=10)


def run(
    factory: Factory,
    data: str,
    seed: int,
    trials: int = 500,
    objectives: Sequence[str] = ("accuracy",),
    *,
    conditional: bool = False,
    budgets: Sequence[int] = BUDGETS,
) -> Record:
    """Search with one sampler in a study in memory.

    Args:
        factory: Makes the sampler from `(space, seed, trials)`.
        data: One of `DATA_SETS`.
        seed: Seed of the study.
        trials: Trials that are run and planned.
        objectives: One of `OBJECTIVES`.
        conditional: Whether the cell is asked for by `ask_conditionally`.
        budgets: After how many trials to look; those beyond `trials` are left out.

    Example:
        >>> record = run(partial(registered, "random"), "cifar10", seed=0, trials=50)
        >>> 0.88 < record.best[50] < 0.9161
        True
    """
    cells = cells_of(data)
    question = ask_conditionally if conditional else ask
    proposed: list[int] = []

    def objective(trial: optuna.Trial) -> list[float]:
        answers = question(trial)
        cell = cells.index[tuple(answers[edge] for edge in EDGES)]
        proposed.append(cell)
        return [float(cells.values[name][cell]) for name in objectives]

    began = time.process_time()
    study = optuna.create_study(
        directions=["maximize" if name == "accuracy" else "minimize" for name in objectives],
        sampler=factory(_space(conditional=conditional), seed, trials),
    )
    study.optimize(objective, n_trials=trials)
    seconds = time.process_time() - began
    looks = [budget for budget in budgets if budget <= trials]
    order = np.array(proposed)
    found = proposed.index(cells.optimum) + 1 if cells.optimum in proposed else None
    return Record(
        best={n: float(cells.values["accuracy"][order[:n]].max()) for n in looks},
        share={n: cells.share(order[:n]) for n in looks} if len(objectives) > 1 else {},
        unique={n: len(set(proposed[:n])) for n in looks},
        found=found,
        found_unique=None if found is None else len(set(proposed[:found])),
        seconds=seconds,
    )


def tasks(
    strategies: Iterable[str],
    data: Iterable[str],
    seeds: Iterable[int],
    budgets: Sequence[int],
    objectives: Iterable[Sequence[str]],
    *,
    conditional: bool,
) -> list[Task]:
    """All studies of a table, those of the first seeds first."""
    return [
        Task(strategy, name, tuple(values), seed, trials, conditional)
        for seed in seeds
        for name in data
        for values in objectives
        for strategy in strategies
        for trials in ([max(budgets)] if _unplanned(strategy) else budgets)
    ]


def _unplanned(strategy: str) -> bool:
    return strategy in UNPLANNED or strategy.startswith("stock-")


def _work(factory: Factory, task: Task, budgets: Sequence[int]) -> Record:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return run(
        factory,
        task.data,
        task.seed,
        task.trials,
        task.objectives,
        conditional=task.conditional,
        budgets=budgets if _unplanned(task.strategy) else (task.trials,),
    )


def read(results: Path) -> dict[str, Record]:
    """Read the finished studies by key; a line that a kill cut off is taken out of the file."""
    if not results.exists():
        return {}
    whole, _, cut_off = results.read_text().rpartition("\n")
    if cut_off:
        results.write_text(whole + "\n" if whole else "")
    done = {}
    for line in whole.splitlines():
        task, record = json.loads(line)
        for name in ("best", "share", "unique"):
            record[name] = {int(n): value for n, value in record[name].items()}
        done[Task(**{**task, "objectives": tuple(task["objectives"])}).key] = Record(**record)
    return done


def bench(
    factories: Mapping[str, Factory],
    todo: Sequence[Task],
    results: Path,
    *,
    budgets: Sequence[int] = BUDGETS,
    processes: int = 1,
) -> dict[str, Record]:
    """Run the studies that are not in the file of results yet, and add them to it.

    Args:
        factories: By the name of the strategy; they must be picklable.
        todo: The studies.
        results: A file of JSON lines.
        budgets: After how many trials to look.
        processes: Studies at once.

    Returns:
        All records of the file, by key.
    """
    done = read(results)
    left = [task for task in todo if task.key not in done]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes, before they import
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    with pool, results.open("a") as file:
        running = {
            pool.submit(_work, factories[task.strategy], task, budgets): task for task in left
        }
        for number, future in enumerate(as_completed(running), start=1):
            task, record = running[future], future.result()
            file.write(json.dumps([asdict(task), asdict(record)]) + "\n")
            file.flush()
            done[task.key] = record
            if sys.stderr.isatty():
                print(f"\r{number} of {len(left)} studies", end="", file=sys.stderr)
    return done


def table(todo: Sequence[Task], done: Mapping[str, Record], budgets: Sequence[int]) -> str:
    """Write one Markdown table per data set and number of objectives."""
    lines: list[str] = []
    for data in dict.fromkeys(task.data for task in todo):
        for objectives in dict.fromkeys(task.objectives for task in todo):
            group = [t for t in todo if (t.data, t.objectives) == (data, objectives)]
            seeds = len({task.seed for task in group})
            lines += ["", f"{_title(data, objectives)}, {seeds} seeds", ""]
            lines += _rows(group, done, budgets)
    return "\n".join(lines[1:]) + "\n"


def _title(data: str, objectives: tuple[str, ...]) -> str:
    optimum = float(cells_of(data).values["accuracy"].max())
    if len(objectives) == 1:
        return f"{data}: best validation accuracy in % (optimum {optimum:.2%})"
    return f"{data}: accuracy and latency, share of the true hypervolume in %"


def _rows(group: Sequence[Task], done: Mapping[str, Record], budgets: Sequence[int]) -> list[str]:
    single = len(group[0].objectives) == 1
    head = ["strategy", *(f"{n} trials" for n in budgets)]
    head += ["trials to optimum", "cells to optimum"] if single else []
    head += [f"unique of {max(budgets)}", "ms / trial"]
    lines = [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
    for strategy in dict.fromkeys(task.strategy for task in group):
        cells = [strategy]
        runs = {n: _records(group, done, strategy, n) for n in budgets}
        for n, records in runs.items():
            kept = [(r.best if single else r.share)[n] * 100 for r in records]
            cells.append(_mean(kept))
        last = runs[max(budgets)]
        if single:
            cells += [_median([getattr(r, name) for r in last], max(budgets))
                      for name in ("found", "found_unique")]  # fmt: skip
        if last:
            cells.append(f"{statistics.mean(r.unique[max(budgets)] for r in last):.0f}")
            cells.append(f"{statistics.mean(r.seconds for r in last) / max(budgets) * 1e3:.1f}")
        lines.append(_line(cells))
    return lines


def _records(
    group: Sequence[Task], done: Mapping[str, Record], strategy: str, budget: int
) -> list[Record]:
    """Records of a strategy after a budget: of the study planned for it, or of one for all."""
    return [
        done[task.key]
        for task in group
        if task.strategy == strategy
        and (task.trials == budget or _unplanned(strategy))
        and task.key in done
    ]


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def _median(found: Sequence[int | None], trials: int) -> str:
    """Median of numbers of which some are only known to be above `trials`."""
    if not found:
        return ""
    middle = statistics.median(float("inf") if n is None else n for n in found)
    return f"over {trials}" if middle == float("inf") else f"{middle:.0f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Parse, run what is missing, print the table."""
    there = [name for name in WANTED if name in nas.samplers.names()]
    factories = {name: partial(registered, name) for name in nas.samplers.names()} | STOCK
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", nargs="+", choices=factories, default=[*there, *STOCK])
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=DATA_SETS)
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS)
    parser.add_argument("--objectives", nargs="+", type=int, choices=(1, 2), default=(1, 2))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--conditional", action="store_true", help="ask in branches")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("nasbench201.jsonl"))
    parser.add_argument("--out", type=Path, help="file for the table; printed if not given")
    given = parser.parse_args()
    todo = tasks(
        given.strategies,
        given.data,
        range(given.seeds),
        given.budgets,
        [OBJECTIVES[count - 1] for count in given.objectives],
        conditional=given.conditional,
    )
    done = bench(factories, todo, given.results, budgets=given.budgets, processes=given.processes)
    text = table(todo, done, given.budgets)
    if given.out:
        given.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()

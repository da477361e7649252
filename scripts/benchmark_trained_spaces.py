"""Is a strategy good at more than one table? Two spaces with real trainings of small networks.

    python scripts/benchmark_trained_spaces.py [--seeds 5] [--trials 60] [--spaces macro mobile]
        [--strategies random nsga2 surrogate ...] [--objectives 1 2] [--results runs.jsonl]
        [--trainings trainings.jsonl]

The data are cluttered digits, averaged to 12 x 12 pixels; a training is short and from a fixed
seed, so that a network has one accuracy whoever proposes it, and it is trained once for all
strategies. The spaces are small cousins of `MacroSpace` and `MobileSpace`: chains of one to four
layers, and two stages of inverted residual blocks.

With one objective, the best validation accuracy counts, with two the hypervolume of (accuracy,
parameters): the share of the box from accuracy 0 and the most parameters of any network trained
to accuracy 1 and none, parameters by their logarithm. Strategies are told parameters as they are.
Trainings and studies are lines of JSON: a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
import torch
from benchmark_nasbench201 import STOCK, registered
from benchmark_weight_sharing import averaged
from scipy.stats import wilcoxon

import nas_optuna as nas
from nas_optuna.candidates import propose_params
from nas_optuna.data import Split
from nas_optuna.spaces import MacroSpace, MobileSpace, Space
from nas_optuna.spaces.mobile import MobileStage

SIDE, EPOCHS = 12, 3  # pixels, passes over the training part
TRAINED_ON, JUDGED_ON = 1500, 1200  # images
STRATEGIES = ("random", "stock-tpe-multivariate", "stock-nsga2-20", "nsga2", "surrogate")
OURS = "surrogate"
STAGES = (
    MobileStage(8, stride=2, depths=(1, 2), expansions=(1, 2, 4)),
    MobileStage(16, stride=2, depths=(1, 2), expansions=(1, 2, 4)),
)
Run = dict[str, Any]  # what a study proposed: strategy, space, objectives, seed, networks, seconds


@cache
def data_set() -> nas.data.DataSet:
    """A part of cluttered digits, averaged."""
    data = averaged(nas.data.load("cluttered-digits"), SIDE)
    parts = {
        name: Split(part.inputs[:count], part.targets[:count])
        for name, part, count in (
            ("train", data.train, TRAINED_ON),
            ("validation", data.validation, JUDGED_ON),
        )
    }
    return replace(data, **parts, fingerprint=f"{data.fingerprint} {TRAINED_ON} {JUDGED_ON}")


@cache
def space_of(name: str) -> Space:
    """One of the two spaces."""
    data = data_set()
    if name == "macro":
        return MacroSpace(
            data.input_shape,
            data.num_classes,
            min_layers=1,
            max_layers=4,
            operations=("max_pool", "conv", "separable_conv"),
            widths=(4, 8, 16),
            kernel_sizes=(3, 5),
            activations=("relu",),
            batch_norm=(True,),
            connections=("sequential", "residual"),
            max_skip=0,
        )
    return MobileSpace(
        data.input_shape,
        data.num_classes,
        stages=STAGES,
        stem_width=8,
        head_width=48,
        kernel_sizes=(3, 5),
        width_multipliers=(0.5, 1.0),
        activations=("relu", "hardswish"),
        resolutions=(12,),
        per_block=False,
    )


class Trainer:
    """Trains each network once.

    Args:
        file: JSON lines of key and accuracy.
    """

    def __init__(self, file: Path) -> None:
        self._evaluator = nas.evaluators.FullTraining(data_set(), epochs=EPOCHS, batch_size=64)
        self._file = file
        self._known: dict[str, float] = dict(_lines(file))

    def judge(self, space: Space, params: dict[str, Any]) -> tuple[str, float, int]:
        """Key, validation accuracy and parameters of a genome's network."""
        proposal = propose_params(space, params)
        key = proposal.candidate.key
        if key not in self._known:
            metrics = self._evaluator.evaluate(proposal.candidate, lambda *_: None)
            self._known[key] = float(metrics.values["accuracy"])
            with self._file.open("a") as file:
                file.write(json.dumps([key, self._known[key]]) + "\n")
        return key, self._known[key], int(proposal.cost.parameters)


def _lines(file: Path) -> Iterator[Any]:
    """What the whole lines of a file hold; one that a kill cut off is taken out of it."""
    if not file.exists():
        return
    whole, _, cut_off = file.read_text().rpartition("\n")
    if cut_off:
        file.write_text(whole + "\n" if whole else "")
    yield from map(json.loads, whole.splitlines())


def search(
    strategy: str, name: str, objectives: int, seed: int, trials: int, trainer: Trainer
) -> Run:
    """Search until so many different networks are trained, or twice as many trials have run."""
    space = space_of(name)
    factory = STOCK.get(strategy, partial(registered, strategy))
    study = optuna.create_study(
        directions=["maximize", "minimize"][:objectives], sampler=factory(space, seed, trials)
    )
    networks: dict[str, list[float]] = {}
    seconds, ran = 0.0, 0
    while len(networks) < trials and ran < 2 * trials:
        began = time.process_time()
        trial = study.ask(space.genes)
        seconds += time.process_time() - began
        key, accuracy, parameters = trainer.judge(space, trial.params)
        study.tell(trial, [accuracy, float(parameters)][:objectives])
        networks.setdefault(key, [accuracy, parameters])
        ran += 1
    return {
        "strategy": strategy, "space": name, "objectives": objectives, "seed": seed,
        "trials": trials, "ran": ran, "networks": list(networks.values()), "seconds": seconds,
    }  # fmt: skip


def hypervolume(networks: Sequence[Sequence[float]], most: float) -> float:
    """Share of the box that the networks dominate."""
    points = [(-accuracy, math.log(p) / math.log(most)) for accuracy, p in networks]
    return float(moocore.hypervolume(np.array(points), ref=[0.0, 1.0]))


def table(runs: Sequence[Run]) -> str:
    """One row for each strategy, space and number of objectives."""
    lines = [
        "| space | measure | strategy | at half | at the end | won : lost | p | ms a proposal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(run["space"] for run in runs):
        most = max(p for run in runs if run["space"] == name for _, p in run["networks"])
        for objectives in sorted({run["objectives"] for run in runs}):
            group = [r for r in runs if (r["space"], r["objectives"]) == (name, objectives)]
            lines += _rows(group, objectives, most)
    return "\n".join(lines)


def _rows(group: Sequence[Run], objectives: int, most: float) -> Iterator[str]:
    def reached(run: Run, part: float) -> float:
        seen = run["networks"][: math.ceil(run["trials"] * part)]
        return 100 * (max(a for a, _ in seen) if objectives == 1 else hypervolume(seen, most))

    ours = {run["seed"]: reached(run, 1) for run in group if run["strategy"] == OURS}
    for strategy in dict.fromkeys(run["strategy"] for run in group):
        runs = [run for run in group if run["strategy"] == strategy]
        cells = [runs[0]["space"], ("accuracy, %", "hypervolume, %")[objectives - 1], strategy]
        cells += [_mean([reached(run, part) for run in runs]) for part in (0.5, 1)]
        pairs = [(ours[r["seed"]], reached(r, 1)) for r in runs if r["seed"] in ours]
        cells += ["", ""] if strategy == OURS else _against(pairs)
        spent = [1e3 * run["seconds"] / run["ran"] for run in runs]
        yield f"| {' | '.join(cells)} | {statistics.mean(spent):.0f} |"


def _mean(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {spread:.2f}"


def _against(pairs: Sequence[tuple[float, float]]) -> list[str]:
    """How many seeds ours won and lost, and p of a one-sided paired Wilcoxon test."""
    better = np.array([a - b for a, b in pairs])
    p = wilcoxon(better, alternative="greater").pvalue if better.any() else 1.0
    return [f"{(better > 0).sum()} : {(better < 0).sum()}", f"{p:.3f}"]


def main() -> None:
    """Run the studies that are missing and print the table."""
    factories = (*nas.samplers.names(), *STOCK)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", nargs="+", choices=factories, default=STRATEGIES)
    parser.add_argument(
        "--spaces", nargs="+", choices=("macro", "mobile"), default=("macro", "mobile")
    )
    parser.add_argument("--objectives", nargs="+", type=int, choices=(1, 2), default=(1, 2))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=60, help="different networks")
    parser.add_argument("--results", type=Path, default=Path("trained_spaces.jsonl"))
    parser.add_argument("--trainings", type=Path, default=Path("trainings.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trainer = Trainer(given.trainings)
    names = ("strategy", "space", "objectives", "seed", "trials")
    done = {tuple(run[name] for name in names): run for run in _lines(given.results)}
    for objectives in given.objectives:
        for seed in range(given.seeds):
            for space in given.spaces:
                for strategy in given.strategies:
                    asked = (strategy, space, objectives, seed, given.trials)
                    if asked not in done:
                        done[asked] = search(*asked, trainer)
                        with given.results.open("a") as file:
                            file.write(json.dumps(done[asked]) + "\n")
    print(table(list(done.values())))


if __name__ == "__main__":
    main()

"""How well WeightSharing ranks NAS-Bench-201 cells, against training each of them in full.

    python scripts/benchmark_weight_sharing.py [--cells 50] [--truth-epochs 24] [--epochs 80]

Cells are drawn at random, each network once (so at most one of them has no connection from input
to output), and built at small width on cluttered-digits, averaged to 12x12 pixels. The truth is
the mean accuracy of full trainings with several seeds. Kendall's tau with it: of the number of
parameters and of WeightSharing with several supernets, with and without an epoch of a network's
own; and of two seeds of the truth with each other. Two fifths of the data are for validation,
since that is what limits how well networks can be told apart. Results are kept in `--results` as
they come, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau
from torch.nn.functional import adaptive_avg_pool2d

import nas_optuna as nas
from nas_optuna.data import Augmentation, DataSet, Split
from nas_optuna.evaluators import Candidate, Evaluator, FullTraining, WeightSharing

Results = dict[str, Any]
SIDE = 12  # pixels; the digits are then about as large as before they were enlarged


def main() -> None:
    """Train the truth and the supernets as far as they are missing, and print the taus."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", type=int, default=50)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--truth-epochs", type=int, default=24)
    parser.add_argument("--truth-seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=80, help="of a supernet")
    parser.add_argument("--seeds", type=int, default=3, help="supernets")
    parser.add_argument("--finetune", type=int, nargs="+", default=(0, 1))
    parser.add_argument("--results", type=Path, default=Path("weight_sharing.json"))
    parser.add_argument("--directory", type=Path, default=Path("supernets"))
    options = parser.parse_args()
    torch.set_num_threads(1)

    whole = nas.data.load("cluttered-digits", validation_fraction=0.4, test_fraction=0.1)
    data = averaged(whole, SIDE)
    space = nas.spaces.NASBench201Space(
        data.input_shape, data.num_classes, channels=options.channels, cells_per_stage=1
    )
    candidates = drawn(space, options.cells)
    truths = {
        f"truth, {options.truth_epochs} epochs, seed {seed}": FullTraining(
            data, epochs=options.truth_epochs, seed=seed
        )
        for seed in range(options.truth_seeds)
    }
    supernets = {
        f"WeightSharing, {options.epochs} epochs and {finetune} of its own": {
            f"{options.epochs} epochs, finetune {finetune}, seed {seed}": WeightSharing(
                data,
                space,
                epochs=options.epochs,
                finetune=finetune,
                seed=seed,
                directory=options.directory,
            )
            for seed in range(options.seeds)
        }
        for finetune in options.finetune
    }
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    for row in (truths, *supernets.values()):
        for name, evaluator in row.items():
            judge(name, evaluator, candidates, results, options.results)
    show(candidates, results, list(truths), {name: list(row) for name, row in supernets.items()})


def averaged(data: DataSet, side: int) -> DataSet:
    """The same images, averaged to `side` pixels; shifts shrink alike."""
    parts = {
        name: Split(adaptive_avg_pool2d(part.inputs, side), part.targets)
        for name, part in (
            ("train", data.train),
            ("validation", data.validation),
            ("test", data.test),
        )
    }
    shift = data.augmentation.shift * side // data.input_shape[-1]
    return replace(
        data,
        **parts,
        augmentation=Augmentation(shift=shift),
        fingerprint=f"{data.fingerprint} {side}",
    )


def drawn(space: nas.spaces.NASBench201Space, count: int) -> list[Candidate]:
    """Random cells, each network once."""
    rng = np.random.default_rng(0)
    candidates: dict[str, Candidate] = {}
    while len(candidates) < count:
        params = space.sample(rng)
        network = space.architecture(params)
        made = Candidate(network.digest, params, network, partial(nas.models.build, network))
        candidates.setdefault(network.digest, made)
    return list(candidates.values())


def judge(
    name: str, evaluator: Evaluator, candidates: Sequence[Candidate], results: Results, file: Path
) -> None:
    """Evaluate what is missing; seconds are those of the processor."""
    known = results.setdefault(name, {"prepared": None, "accuracies": {}, "seconds": {}})
    if all(candidate.key in known["accuracies"] for candidate in candidates):
        return
    seconds, _ = timed(evaluator.prepare)
    known["prepared"] = max(seconds, known["prepared"] or 0.0)
    for candidate in candidates:
        if candidate.key not in known["accuracies"]:
            seconds, metrics = timed(partial(evaluator.evaluate, candidate, lambda *_: None))
            known["accuracies"][candidate.key] = metrics.values["accuracy"]
            known["seconds"][candidate.key] = seconds
            written = file.with_suffix(".new")
            written.write_text(json.dumps(results))
            os.replace(written, file)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of a call, and what it returns."""
    began = time.process_time()
    returned = call()
    return time.process_time() - began, returned


def each_of(results: Results, names: Sequence[str]) -> float:
    """Mean seconds that a network took in some rows of the results."""
    return statistics.mean(s for name in names for s in results[name]["seconds"].values())


def show(
    candidates: Sequence[Candidate],
    results: Results,
    truths: Sequence[str],
    supernets: dict[str, list[str]],
) -> None:
    """Print one row per way to rank; the tau of a row is a mean over supernets."""

    def accuracies(name: str) -> list[float]:
        return [results[name]["accuracies"][candidate.key] for candidate in candidates]

    truth = np.mean([accuracies(name) for name in truths], axis=0)
    full = each_of(results, truths)
    table = Table("ranked by", "tau", "range", "seconds each", "of a training", "seconds once")
    parameters = [nas.models.cost(c.architecture).parameters for c in candidates if c.architecture]
    table.add_row("parameters", f"{kendalltau(parameters, truth).statistic:.3f}")
    once = [results[name]["prepared"] for row in supernets.values() for name in row]
    trained = [seconds for seconds in once if seconds > 1.0]  # else it was there
    for row, names in supernets.items():
        taus = [kendalltau(accuracies(name), truth).statistic for name in names]
        each = each_of(results, names)
        table.add_row(
            row,
            f"{statistics.mean(taus):.3f}",
            f"{min(taus):.3f} to {max(taus):.3f}",
            f"{each:.2f}",
            f"1/{full / each:.0f}",
            f"{statistics.mean(trained):.0f}" if trained else "",
        )
    pairs = [
        kendalltau(accuracies(a), accuracies(b)).statistic for a, b in combinations(truths, 2)
    ]
    if pairs:
        table.add_row(
            "one training by another's seed",
            f"{statistics.mean(pairs):.3f}",
            f"{min(pairs):.3f} to {max(pairs):.3f}",
            f"{full:.1f}",
            "1",
        )
    table.title = (
        f"Kendall tau with the truth, {len(candidates)} cells, accuracies {truth.min():.3f} to "
        f"{truth.max():.3f}"
    )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

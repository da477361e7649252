"""What pruning saves: hypervolume against epochs on cluttered digits, with and without.

    python scripts/benchmark_pruning.py [--seeds 5] [--epochs 27] [--trainings 100]

Random search with accuracy, FLOPs and parameters as metrics, over `--networks` random chains of
two to four layers; images are averaged to 12x12 pixels, so that an epoch takes some 50 ms. Each
search has the epochs that `--trainings` whole trainings take. Searches of one seed propose the
same networks in the same order, so they differ in the pruner alone; the unpruned search stands
for what stock Optuna can do, which prunes in no study of several objectives.

A training is a function of seed and network. So each network is trained once, its learning curve
is kept in `--curves`, and searches replay it epoch by epoch. A run that was stopped goes on.

Hypervolume: share of the box between (accuracy 1, no FLOPs, no parameters) and (accuracy 0, both
limits).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import optuna
import torch
from benchmark_weight_sharing import averaged
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner
from optuna.trial import BaseTrial, FrozenTrial
from rich.console import Console
from rich.progress import track
from rich.table import Table

import nas_optuna as nas
from nas_optuna.architecture import Architecture
from nas_optuna.data import DataSet
from nas_optuna.evaluators import Candidate, Evaluator, FullTraining
from nas_optuna.evaluators.base import Report
from nas_optuna.metrics import Metrics
from nas_optuna.recording import CACHED, EPOCHS

MOST_FLOPS, MOST_PARAMETERS = 200_000, 30_000
METRICS = ("accuracy", "flops", "parameters")
PRUNERS: dict[str, BasePruner | None] = {
    "none": None,
    "ParetoPruner": nas.pruners.ParetoPruner(min_resource=3, n_startup_trials=2),
    "ParetoPruner, tolerances": nas.pruners.ParetoPruner(
        min_resource=3, n_startup_trials=2, accuracy_tolerance=0.01, cost_tolerance=0.25
    ),
    "Median": MedianPruner(n_startup_trials=2, n_warmup_steps=2),
    "Hyperband": HyperbandPruner(min_resource=3, max_resource=27),
}
Curve = list[tuple[int, float]]  # epochs spent, hypervolume
Curves = dict[str, list[float]]  # accuracy after each epoch, by the network's digest


def drawn(data: DataSet, count: int) -> list[Architecture]:
    """Random networks within the limits, each once."""
    space = nas.spaces.MacroSpace(
        data.input_shape,
        data.num_classes,
        min_layers=2,
        max_layers=4,
        operations=("max_pool", "avg_pool", "linear", "conv"),
        widths=(4, 8, 16, 32, 64),
        kernel_sizes=(1, 3, 5),
        strides=(2,),
        batch_norm=(True,),
        connections=("sequential",),
        max_skip=0,
    )
    rng = np.random.default_rng(7)
    networks: dict[str, Architecture] = {}
    while len(networks) < count:
        network = space.architecture(space.sample(rng))
        cost = nas.models.cost(network)
        if cost.flops <= MOST_FLOPS and cost.parameters <= MOST_PARAMETERS:
            networks.setdefault(network.digest, network)
    return list(networks.values())


def trained(networks: Sequence[Architecture], data: DataSet, epochs: int, file: Path) -> Curves:
    """Train what is not in the file yet; return the curves."""
    evaluator = FullTraining(data, epochs=epochs, batch_size=128, schedule="cosine")
    curves: Curves = {}
    if file.exists():
        known = map(json.loads, file.read_text().splitlines())
        curves = {record["key"]: record["curve"] for record in known}
    missing = [network for network in networks if network.digest not in curves]
    for network in track(missing, "networks", disable=not missing):
        made = Candidate(network.digest, {}, network, partial(nas.models.build, network))
        curve = list(evaluator.evaluate(made, lambda *_: None).curve)
        with file.open("a") as lines:
            lines.write(json.dumps({"key": network.digest, "curve": curve}) + "\n")
        curves[network.digest] = curve
    return curves


class Replayed(Evaluator):
    """Reports the curve of a training that was done before."""

    name: ClassVar[str] = "Replayed"
    provides: ClassVar[frozenset[str]] = frozenset({"accuracy"})

    def __init__(self, curves: Curves) -> None:
        self._curves = curves

    def identity(self) -> Mapping[str, Any]:
        """One file of curves is as good as another."""
        return {"data": "replayed", "seed": 0}

    def on(self, device: str | torch.device) -> Self:
        """Itself: there is nothing to move."""
        return self

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Report each epoch as the training did."""
        curve = self._curves[candidate.key]
        for epoch, accuracy in enumerate(curve, start=1):
            report(epoch, accuracy)
        return Metrics({"accuracy": curve[-1]}, epochs=len(curve), curve=tuple(curve))


def objective_of(
    pruner: BasePruner | None, networks: Sequence[Architecture], curves: Curves
) -> nas.Objective:
    """The way of a trial, whose only question is which network it is."""

    def network(trial: BaseTrial) -> Architecture:
        return networks[trial.suggest_int("network", 0, len(networks) - 1)]

    shape, classes = networks[0].input_shape, networks[0].num_classes
    return nas.Objective(
        nas.spaces.FunctionSpace(network, input_shape=shape, num_classes=classes),
        evaluator=Replayed(curves),
        metrics=METRICS,
        pruner=pruner,
    )


def spent(trial: FrozenTrial) -> int:
    """Epochs that a trial trained."""
    return 0 if CACHED in trial.user_attrs else int(trial.user_attrs.get(EPOCHS, 0))


def run(objective: nas.Objective, networks: int, seed: int, budget: int) -> optuna.Study:
    """Judge the networks in random order until the epochs of all trials reach the budget."""
    study = optuna.create_study(
        directions=objective.directions, sampler=nas.samplers.create("random", seed=seed)
    )
    for number in np.random.default_rng(seed).permutation(networks).tolist():
        study.enqueue_trial({"network": number})

    def stop_in_time(study: optuna.Study, trial: FrozenTrial) -> None:
        if sum(map(spent, study.get_trials(deepcopy=False))) >= budget:
            study.stop()

    study.optimize(objective, n_trials=networks, callbacks=[stop_in_time])
    return study


def curve_of(study: optuna.Study) -> Curve:
    """Hypervolume after each trial, and the epochs spent by then."""
    points: list[Sequence[float]] = []
    curve, epochs = [], 0
    for trial in study.get_trials(deepcopy=False):
        epochs += spent(trial)
        if trial.values:
            points.append(trial.values)
            share = nas.report.hypervolume(
                points,
                study.directions,
                reference=(0.0, MOST_FLOPS, MOST_PARAMETERS),
                ideal=(1.0, 0.0, 0.0),
            )
            curve.append((epochs, share))
    return curve


def at(curve: Curve, epochs: float) -> float:
    """Hypervolume reached within so many epochs."""
    return max((share for spent, share in curve if spent <= epochs), default=0.0)


def reached(curve: Curve, share: float) -> float:
    """Epochs until a hypervolume is reached; infinite if it never is."""
    return min((float(spent) for spent, got in curve if got >= share), default=float("inf"))


def row(name: str, curves: list[Curve], plain: list[Curve], budget: int) -> list[str]:
    """One line of the table; ratios are to the unpruned search of the same seed."""
    final = [at(curve, budget) for curve in curves]
    whole = [at(curve, budget) for curve in plain]
    half = [at(curve, budget / 2) for curve in curves]
    needed = [
        reached(curve, share) / reached(other, share)
        for curve, other, share in zip(curves, plain, whole, strict=True)
    ]
    spread = statistics.stdev(final) if len(final) > 1 else 0.0
    return [
        name,
        f"{statistics.mean(final):.3f} ± {spread:.3f}",
        f"{statistics.mean(f / w for f, w in zip(final, whole, strict=True)):.3f}",
        f"{statistics.mean(h / w for h, w in zip(half, whole, strict=True)):.3f}",
        f"{statistics.median(needed):.2f}",
        f"{statistics.mean(len(curve) for curve in curves):.0f}",
    ]


def main() -> None:
    """Search with each pruner from each seed and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=27, help="of a whole training")
    parser.add_argument("--trainings", type=int, default=100, help="whole trainings in the budget")
    parser.add_argument("--networks", type=int, default=220, help="to draw from")
    parser.add_argument("--pruners", nargs="+", default=list(PRUNERS), choices=list(PRUNERS))
    parser.add_argument("--curves", type=Path, default=Path("pruning.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = averaged(nas.data.load("cluttered-digits"), 12)
    networks = drawn(data, options.networks)
    learned = trained(networks, data, options.epochs, options.curves)
    budget = options.epochs * options.trainings
    curves: dict[str, list[Curve]] = {name: [] for name in options.pruners}
    for seed in range(options.seeds):
        for name in options.pruners:
            objective = objective_of(PRUNERS[name], networks, learned)
            curves[name].append(curve_of(run(objective, len(networks), seed, budget)))

    table = Table(title=f"{options.seeds} seeds, {budget} epochs each")
    titles = ("pruner", "hypervolume", "/ unpruned", "at half / unpruned", "epochs to it", "whole")
    for title in titles:
        table.add_column(title)
    for name, ours in curves.items():
        table.add_row(*row(name, ours, curves["none"], budget))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

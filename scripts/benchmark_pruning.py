"""What pruning saves: hypervolume against epochs on cluttered digits, with and without.

    python scripts/benchmark_pruning.py [--seeds 5] [--epochs 12] [--trainings 16]

Random search over chains of at most four layers with accuracy, FLOPs and parameters as metrics.
Each search has the epochs that `--trainings` whole trainings take. Searches of one seed propose
the same networks in the same order, so they differ in the pruner alone; the unpruned search
stands for what stock Optuna can do, which prunes in no study of several objectives.

Hypervolume: share of the box between (accuracy 1, no FLOPs, no parameters) and (accuracy 0, both
limits). The studies lie in one SQLite file: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import optuna
import torch
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.table import Table

import nas_optuna as nas
from nas_optuna.recording import CACHED, EPOCHS

MOST_FLOPS, MOST_PARAMETERS = 1_000_000, 30_000
METRICS = ("accuracy", "flops", "parameters")
PRUNERS: dict[str, BasePruner | None] = {
    "none": None,
    "ParetoPruner": nas.pruners.ParetoPruner(min_resource=2),
    "Median": MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    "Hyperband": HyperbandPruner(min_resource=2, max_resource=12),
}
Curve = list[tuple[int, float]]  # epochs spent, hypervolume


def search_of(pruner: str, seed: int, epochs: int, storage: str) -> nas.Search:
    """One search, which ends by its epochs and not by its trials."""
    data = nas.data.load("cluttered-digits")
    return nas.Search(
        name=f"{pruner}-{seed}",
        space=nas.spaces.MacroSpace(
            data.input_shape, data.num_classes, max_layers=4, widths=(4, 8, 16, 32)
        ),
        evaluator=nas.evaluators.FullTraining(data, epochs=epochs, seed=seed),
        metrics=METRICS,
        constraints=nas.SearchConstraints(max_flops=MOST_FLOPS, max_parameters=MOST_PARAMETERS),
        sampler="random",
        seed=seed,
        trials=10_000,
        storage=storage,
        pruner=PRUNERS[pruner],
    )


def spent(trial: FrozenTrial) -> int:
    """Epochs that a trial trained."""
    return 0 if CACHED in trial.user_attrs else int(trial.user_attrs.get(EPOCHS, 0))


def run(search: nas.Search, budget: int) -> optuna.Study:
    """Search until the epochs of all trials reach the budget."""
    study = search.create()

    def enough(study: optuna.Study, trial: FrozenTrial | None = None) -> bool:
        done = sum(map(spent, study.get_trials(deepcopy=False))) >= budget
        if done and trial is not None:
            study.stop()
        return done

    if not enough(study):
        search.optimize(study, callbacks=[enough])
    return study


def curve_of(study: optuna.Study) -> Curve:
    """Hypervolume after each trial, and the epochs spent by then."""
    points: list[Sequence[float]] = []
    curve, epochs = [], 0
    for trial in study.get_trials(deepcopy=False):
        epochs += spent(trial)
        if trial.values and nas.report.is_feasible(trial):
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
    parser.add_argument("--epochs", type=int, default=12, help="of a whole training")
    parser.add_argument("--trainings", type=int, default=16, help="whole trainings in the budget")
    parser.add_argument("--pruners", nargs="+", default=list(PRUNERS), choices=list(PRUNERS))
    parser.add_argument("--directory", type=Path, default=Path("pruning"), help="of the studies")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.directory.mkdir(parents=True, exist_ok=True)
    budget = options.epochs * options.trainings
    curves: dict[str, list[Curve]] = {name: [] for name in options.pruners}
    for seed in range(options.seeds):
        for name in options.pruners:
            storage = f"sqlite:///{options.directory / name}.db"
            search = search_of(name, seed, options.epochs, storage)
            curves[name].append(curve_of(run(search, budget)))

    table = Table(title=f"{options.seeds} seeds, {budget} epochs each")
    titles = ("pruner", "hypervolume", "/ unpruned", "at half / unpruned", "epochs to it", "whole")
    for title in titles:
        table.add_column(title)
    for name, ours in curves.items():
        table.add_row(*row(name, ours, curves["none"], budget))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

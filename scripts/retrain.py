"""Retrain a network of a study on train + validation with several seeds, and test it once each.

    python scripts/retrain.py studies/digits_small.py [--trial N] [--seeds 3] [--epochs 60]

By default it takes the most accurate network of the front.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import nn

import nas_optuna as nas
from nas_optuna.data import DataSet, Split
from nas_optuna.evaluators import TrainingSettings, pick_device, score, seeded, train
from nas_optuna.study_file import load_search


def tested(
    architecture: nas.Architecture,
    data: DataSet,
    settings: TrainingSettings,
    *,
    epochs: int,
    seed: int,
) -> float:
    """Accuracy on the test part after training from scratch on all the rest."""
    device = pick_device(settings.device)
    with seeded(seed, device):
        model: nn.Module = nas.models.build(architecture)
    rest = Split(
        torch.cat([data.train.inputs, data.validation.inputs]),
        torch.cat([data.train.targets, data.validation.targets]),
    )
    train(model, rest, settings, epochs=epochs, seed=seed, augmentation=data.augmentation)
    return score(model, data.test.to(device)).accuracy


def main() -> None:
    """Parse, retrain, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study_file")
    parser.add_argument("--trial", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()

    search = load_search(options.study_file)
    study = search.load()
    front = nas.report.pareto_records(study)
    best = max(front, key=lambda record: record["values"]["accuracy"])
    number = best["number"] if options.trial is None else options.trial
    trial = study.get_trials(deepcopy=False)[number]
    architecture = search.objective.space.architecture(trial.params)

    evaluator = search.evaluator
    assert isinstance(evaluator, nas.evaluators.FullTraining | nas.evaluators.EarlyStopping)
    accuracies = [
        tested(architecture, evaluator.dataset, evaluator, epochs=options.epochs, seed=seed)
        for seed in range(options.seeds)
    ]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(
        f"trial {number}: {nas.models.cost(architecture).parameters:,} parameters, "
        f"test accuracy {statistics.mean(accuracies):.4f} ± {spread:.4f} "
        f"over {len(accuracies)} seeds"
    )


if __name__ == "__main__":
    main()

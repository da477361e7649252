"""Samples per second of the training loop, against a bare loop over tensors and a DataLoader.

All loops train the same network with the same optimizer and schedule on digits, without
validation. They take turns, so that a busy machine slows all of them. The heavier the network,
the less the loop around it matters: all ratios go to 1.

    python scripts/benchmark_training.py [--repeats 9] [--epochs 1] [--threads 1] [--networks mlp]
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nas_optuna.data import NO_AUGMENTATION, Augmentation, Split, load
from nas_optuna.evaluators import TrainingSettings, train
from nas_optuna.evaluators.recipe import make_optimizer, make_schedule

SETTINGS = TrainingSettings(device="cpu")
Loop = Callable[[nn.Module, Split, Augmentation, int], None]


def mlp() -> nn.Module:
    """64 -> 64 -> 10, 4,810 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn(*widths: int) -> nn.Module:
    """Blocks of convolution, norm and activation, then pooling and a linear layer."""
    layers: list[nn.Module] = []
    for before, width in zip((1, *widths), widths, strict=False):
        layers += [
            nn.Conv2d(before, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def ours(model: nn.Module, split: Split, augmentation: Augmentation, epochs: int) -> None:
    """The loop of this package."""
    train(model, split, SETTINGS, epochs=epochs, seed=0, augmentation=augmentation)


def bare(model: nn.Module, split: Split, augmentation: Augmentation, epochs: int) -> None:
    """What one writes by hand: shuffled indices into two tensors."""
    x, y, size = split.inputs, split.targets, SETTINGS.batch_size
    optimizer = make_optimizer(model, SETTINGS)
    schedule = make_schedule(optimizer, SETTINGS, epochs * -(-len(y) // size))
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(y), generator=generator)
        for start in range(0, len(y), size):
            chosen = order[start : start + size]
            inputs = augmentation(x[chosen], generator) if augmentation else x[chosen]
            step(model, inputs, y[chosen], optimizer)
            schedule.step()


def through_loader(workers: int) -> Loop:
    """What tutorials show: a Dataset of samples, transformed one by one, in a DataLoader."""

    def loop(model: nn.Module, split: Split, augmentation: Augmentation, epochs: int) -> None:
        data = Shifted(split, augmentation.shift) if augmentation else as_dataset(split)
        loader = DataLoader(data, SETTINGS.batch_size, shuffle=True, num_workers=workers)
        optimizer = make_optimizer(model, SETTINGS)
        schedule = make_schedule(optimizer, SETTINGS, epochs * len(loader))
        model.train()
        for _ in range(epochs):
            for inputs, targets in loader:
                step(model, inputs, targets, optimizer)
                schedule.step()

    return loop


def step(model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One optimizer step."""
    loss = F.cross_entropy(model(x), y, label_smoothing=SETTINGS.label_smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Shifted(Dataset[tuple[Tensor, Tensor]]):
    """Samples, each shifted at random."""

    def __init__(self, split: Split, shift: int) -> None:
        self.split, self.shift = split, shift

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x, by = self.split.inputs[i], self.shift
        top, left = torch.randint(2 * by + 1, (2,)).tolist()
        padded = F.pad(x, (by, by, by, by), mode="replicate")
        return padded[:, top : top + x.shape[1], left : left + x.shape[2]], self.split.targets[i]


def as_dataset(split: Split) -> Dataset[tuple[Tensor, ...]]:
    """Samples as they are."""
    return TensorDataset(split.inputs, split.targets)


def main() -> None:
    """Run all loops in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", nargs="*", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    digits = load("digits")
    table = Table(
        *("network", "augmentation", *LOOPS, *(f"ours / {other}" for other in OTHERS)),
        title=f"samples per second on digits, medians of {options.repeats} turns; "
        f"{options.threads} thread(s), torch {torch.__version__}, {platform.machine()}",
    )
    for name in options.networks:
        build = MODELS[name]
        for kind, augmentation in (("none", NO_AUGMENTATION), ("shift", Augmentation(shift=1))):
            speeds = measure(build, digits.train, augmentation, options.repeats, options.epochs)
            median = [f"{statistics.median(values):,.0f}" for values in speeds.values()]
            # Within a turn the loops ran right after one another, so the ratio is taken there.
            ratios = [
                statistics.median(
                    a / b for a, b in zip(speeds["ours"], speeds[other], strict=True)
                )
                for other in OTHERS
            ]
            table.add_row(name, kind, *median, *(f"{ratio:.2f}" for ratio in ratios))
    Console(width=140).print(table)


def measure(
    build: Callable[[], nn.Module],
    split: Split,
    augmentation: Augmentation,
    repeats: int,
    epochs: int,
) -> dict[str, list[float]]:
    """Samples per second of each loop, by name, in each turn."""
    speeds: dict[str, list[float]] = {name: [] for name in LOOPS}
    for turn in range(repeats + 1):  # the first one warms up
        for name in random.sample(list(LOOPS), len(LOOPS)):
            torch.manual_seed(0)
            model = build()
            began = time.perf_counter()
            LOOPS[name](model, split, augmentation, epochs)
            seconds = time.perf_counter() - began
            if turn:
                speeds[name].append(epochs * len(split) / seconds)
    return speeds


LOOPS: dict[str, Loop] = {
    "ours": ours,
    "bare loop": bare,
    "DataLoader": through_loader(0),
    "DataLoader, 2 workers": through_loader(2),
}
OTHERS = [name for name in LOOPS if name != "ours"]
MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "cnn-8-16": lambda: cnn(8, 16),
    "cnn-16-32-32": lambda: cnn(16, 32, 32),
}


if __name__ == "__main__":
    main()

"""How far a latency can be trusted: tables against measurements, and measurements repeated.

    python scripts/benchmark_latency.py [--only tables|repeats] [--checks 50] [--apart 120]

Networks are random members of `MacroSpace` for 8x8 images. Prints two Markdown tables:
predictions of a latency table against networks measured whole, by each runtime, and networks
measured twice, minutes apart, while another process keeps one core busy.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

import numpy as np
import torch
from scipy.stats import kendalltau

from nas_optuna.architecture import Architecture
from nas_optuna.models import build, device_name, measure_latency, measure_table
from nas_optuna.models.runtimes import RUNTIMES
from nas_optuna.spaces import MacroSpace


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=["tables", "repeats"])
    parser.add_argument("--runtimes", nargs="+", choices=list(RUNTIMES), default=list(RUNTIMES))
    parser.add_argument("--networks", type=int, default=100, help="whose operations are measured")
    parser.add_argument("--entries", type=int, default=1500, help="most operations in a table")
    parser.add_argument("--checks", type=int, default=50, help="networks predicted and measured")
    parser.add_argument("--repeated", type=int, default=20, help="networks measured twice")
    parser.add_argument("--apart", type=float, default=120.0, help="seconds between the two")
    options = parser.parse_args()
    torch.set_num_threads(1)

    networks = draw(options.networks + options.checks)
    print(f"{device_name('cpu')}, 1 thread, torch {torch.__version__}\n")
    if options.only != "repeats":
        held_out = networks[options.networks :]
        tables(networks[: options.networks], held_out, options.runtimes, options.entries)
    if options.only != "tables":
        repeats(networks[: options.repeated], options.runtimes, options.apart)


def draw(count: int) -> list[Architecture]:
    """Draw networks of a macro space."""
    space = MacroSpace((1, 8, 8), 10)
    rng = np.random.default_rng(0)
    return [space.architecture(space.sample(rng)) for _ in range(count)]


def tables(
    known: list[Architecture], held_out: list[Architecture], runtimes: list[str], entries: int
) -> None:
    """Print how well a table of the operations of some networks predicts others."""
    print(f"| runtime | operations | Kendall tau, {len(held_out)} networks | median error |")
    print("|---|---|---|---|")
    for runtime in runtimes:
        data = measure_table(known, held_out, runtime=runtime, entries=entries)
        check = data.check
        print(
            f"| {runtime} {data.version} | {len(data.entries):,} | {check.kendall_tau:.3f} "
            f"| {100 * check.error:.1f} % |",
            flush=True,
        )
    print()


def repeats(networks: list[Architecture], runtimes: list[str], apart: float) -> None:
    """Print how far two measurements of each network differ beside a busy process."""
    busy = multiprocessing.Process(target=_spin, daemon=True)
    busy.start()
    try:
        first = {runtime: measured(networks, runtime) for runtime in runtimes}
        time.sleep(apart)
        second = {runtime: measured(networks, runtime) for runtime in runtimes}
    finally:
        busy.terminate()
        busy.join()
    print("| runtime | networks | median difference | largest | Kendall tau |")
    print("|---|---|---|---|---|")
    for runtime in runtimes:
        a, b = first[runtime], second[runtime]
        difference = np.abs(a - b) / np.minimum(a, b)
        print(
            f"| {runtime} | {len(networks)} | {100 * np.median(difference):.1f} % "
            f"| {100 * difference.max():.1f} % | {kendalltau(a, b).statistic:.3f} |",
            flush=True,
        )


def measured(networks: list[Architecture], runtime: str) -> np.ndarray:
    """Milliseconds of each network, as a search measures them."""
    return np.array(
        [
            measure_latency(build(network), network.input_shape, runtime=runtime).median_ms
            for network in networks
        ]
    )


def _spin() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()

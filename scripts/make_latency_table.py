"""Measure the operations of a study's space on this machine and write them to a file.

    python scripts/make_latency_table.py studies/digits.py latency.json [--networks 100]

A study with `latency=nas.LatencyTable("latency.json")` then predicts latency without measuring.
"""

from __future__ import annotations

import argparse

import numpy as np

from nas_optuna.models.tabulation import measure_table
from nas_optuna.study_file import load_search


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study_file")
    parser.add_argument("out")
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--checks", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    space = load_search(options.study_file).objective.space
    rng = np.random.default_rng(0)
    drawn = [
        space.architecture(space.sample(rng)) for _ in range(options.networks + options.checks)
    ]
    data = measure_table(
        drawn[: options.networks], drawn[options.networks :], threads=options.threads
    )
    data.save(options.out)
    check = data.check
    assert check is not None
    print(f"{options.out}: Kendall tau {check.kendall_tau:.2f} on {check.networks} networks")


if __name__ == "__main__":
    main()

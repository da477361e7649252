"""Runs of a comparison that were never run: random networks on a curve of trade-offs."""

import numpy as np

from nas_optuna.report.outcome import Outcome, Truth
from nas_optuna.report.runs import BUDGETS, Limits, Run

METRICS = ("accuracy", "latency_ms")
LIMITS = Limits(30)


def make_run(sampler, seed, values, *, costs=None, kinds=None, sampling=0.01):
    """A run that judges each of `values` for one epoch, unless `costs` says otherwise."""
    values = np.asarray(values, dtype=float)
    n = len(values)
    epochs = np.cumsum(np.ones(n) if costs is None else costs)
    spent = (np.arange(1.0, n + 1), np.arange(1.0, n + 1), epochs, epochs * 2.0)
    return Run(
        sampler=sampler,
        seed=seed,
        values=values,
        spent=dict(zip(BUDGETS, spent, strict=True)),
        kinds=tuple(kinds or ["evaluated"] * n),
        params=tuple({"gene": i % 3} for i in range(n)),
        sampling=np.full(n, sampling),
    )


def draw(rng, n, skill=0.0):
    """Networks near the front `accuracy = 0.5 + 0.4 latency`, nearer with more skill."""
    latency = rng.random(n)
    accuracy = 0.5 + 0.4 * latency - (1 - skill) * 0.3 * rng.random(n)
    return np.stack([accuracy, latency], axis=1)


def contest(skills, *, seeds=8, n=20, seed=0, truth=False):
    """An outcome of samplers by name, each with its skill."""
    runs = []
    for place, (name, skill) in enumerate(skills.items()):
        for i in range(seeds):
            runs.append(make_run(name, i, draw(np.random.default_rng([seed, place, i]), n, skill)))
    front = np.array([[0.5 + 0.4 * x, x] for x in np.linspace(0, 1, 21)])
    known = Truth("a line", front) if truth else None
    return Outcome(tuple(runs), METRICS, Limits(n), known)

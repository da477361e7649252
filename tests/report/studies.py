"""Studies that were never run: their trials are written down."""

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from nas_optuna.recording import (
    COSTS,
    CURVE,
    DIGEST,
    EPOCHS,
    INFEASIBLE,
    LATENCY,
    NOTES,
    SAMPLING,
    SECONDS,
)

METRICS = ("accuracy", "latency_ms", "parameters")
DIRECTIONS = ("maximize", "minimize", "minimize")
LIMIT = 400_000  # parameters
GENES = {f"g{i}": CategoricalDistribution(("a", "b", "c")) for i in range(8)}


def empty(names=METRICS, directions=DIRECTIONS):
    study = optuna.create_study(directions=directions)
    if names:
        study.set_metric_names(list(names))
    return study


def judged(values, *, curve=(), params=None, names=METRICS, **attrs):
    """A finished trial that was really judged."""
    told = dict(zip(names, values, strict=True))
    kept = {
        COSTS: {"parameters": told.get("parameters", 1.0), "layers": 2},
        DIGEST: repr(values),
        EPOCHS: float(len(curve) or 1),
        SECONDS: 2.0,
        SAMPLING: 0.5,
        **({CURVE: list(curve)} if curve else {}),
        **attrs,
    }
    params = {"g0": "a"} if params is None else params
    return create_trial(
        values=list(values),
        params=params,
        distributions={n: GENES.get(n, CategoricalDistribution((v,))) for n, v in params.items()},
        user_attrs=kept,
        constraints={"max_parameters": told.get("parameters", 0.0) / LIMIT - 1},
    )


def too_large(parameters):
    """A trial that was ruled out before anything but its parameters was known."""
    return create_trial(
        values=[0.0, 100.0, parameters],
        user_attrs={
            COSTS: {"parameters": parameters, "layers": 2},
            DIGEST: repr(parameters),
            INFEASIBLE: "max_parameters exceeded",
        },
        constraints={"max_parameters": parameters / LIMIT - 1},
    )


def pruned(curve):
    return create_trial(
        state=TrialState.PRUNED,
        user_attrs={
            DIGEST: repr(curve),
            CURVE: list(curve),
            EPOCHS: float(len(curve)),
            SECONDS: 1.0,
            NOTES: {"stopped": "pruned"},
        },
    )


def large(count=2000, seed=0):
    """A study of many trials: larger networks are better and slower, the largest infeasible."""
    rng = np.random.default_rng(seed)
    study = empty()
    trials = []
    for i, parameters in enumerate(10 ** rng.uniform(3, 6, count)):
        if parameters > LIMIT:
            trials.append(too_large(parameters))
            continue
        accuracy = 0.6 + 0.06 * np.log10(parameters) - 0.1 * rng.random()
        latency = 0.1 + parameters / 5e5 + rng.random() / 2
        curve = (accuracy * (1 - 0.7 ** np.arange(1, 13))).round(5).tolist()
        if rng.random() < 0.1:
            trials.append(pruned(curve[:3]))
            continue
        params = {name: "abc"[rng.integers(3)] for name in GENES}
        told = {"median_ms": latency, "iqr_ms": 0.01, "threads": 1, "device": "cpu"}
        trials.append(
            judged(
                [accuracy, latency, parameters], curve=curve, params=params,
                **{DIGEST: str(i), LATENCY: told},
            )
        )  # fmt: skip
    study.add_trials(trials)
    return study

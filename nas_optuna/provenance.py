"""With what and where the trials of a study were run: kept in the study, for its report."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import optuna
import torch
from optuna.pruners import BasePruner

from nas_optuna.evaluators import Evaluator, pick_device
from nas_optuna.models import device_name
from nas_optuna.recording import SETUP
from nas_optuna.versions import versions


def setup_of(
    *, sampler: str, seed: int, evaluator: Evaluator, pruner: BasePruner | None
) -> dict[str, Any]:
    """All that may differ between two runs of one study, as JSON values.

    Args:
        sampler: Name of the strategy.
        seed: Its seed.
        evaluator: What judges the networks.
        pruner: What stops trainings early.
    """
    processor = device_name("cpu")
    return {
        "sampler": sampler,
        "seed": seed,
        "pruner": None if pruner is None else pruner_text(pruner),
        "device": _device(evaluator),
        "threads": torch.get_num_threads(),
        "machine": f"{processor}, {os.cpu_count()} cores, {platform.system()}",
        "versions": versions("optuna", "torch", "numpy"),
    }


def record_setup(study: optuna.Study, setup: Mapping[str, Any]) -> None:
    """Keep a setup in a study, once, with the time of its first run.

    Each has an attribute of its own, so that workers do not undo each other.
    """
    text = json.dumps(setup, sort_keys=True)
    key = SETUP + hashlib.sha256(text.encode()).hexdigest()[:12]
    if key not in study.user_attrs:
        began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC")  # which orders setups
        study.set_user_attr(key, {**setup, "began": began})


def pruner_text(pruner: BasePruner) -> str:
    """Name a pruner and its settings; Optuna's own have no `repr`.

    Example:
        >>> pruner_text(optuna.pruners.ThresholdPruner(lower=0.2))
        'ThresholdPruner(lower=0.2, n_warmup_steps=0, interval_steps=1)'
    """
    if type(pruner).__repr__ is not object.__repr__:
        return repr(pruner)
    settings = {
        name.lstrip("_"): value
        for name, value in vars(pruner).items()
        if isinstance(value, bool | int | str) or (isinstance(value, float) and abs(value) < 1e300)
    }
    told = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return f"{type(pruner).__name__}({told})"


def _device(evaluator: Evaluator) -> str | None:
    """Where it trains; None if it trains nothing."""
    inner = getattr(evaluator, "evaluator", None)  # of one that wraps another
    device = getattr(evaluator, "device", None)
    if device is None:
        return _device(inner) if isinstance(inner, Evaluator) else None
    return device_name(pick_device(device))

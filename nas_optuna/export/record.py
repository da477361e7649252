"""What an export writes down: all that its check compares with, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nas_optuna.data import DataSet
from nas_optuna.export.check import OPENERS, machine, measure
from nas_optuna.export.folder import FORMAT
from nas_optuna.export.retraining import Schedule, Trained, spread
from nas_optuna.export.subject import Subject
from nas_optuna.models import LatencyTable, device_name
from nas_optuna.models.latency import measuring_alone
from nas_optuna.timing import LatencySettings, Stopwatch
from nas_optuna.versions import versions

if TYPE_CHECKING:
    from nas_optuna.objective import Objective

# Standard deviations of an accuracy: three for chance, and one since a search picks what was
# lucky on the validation part.
_DEVIATIONS = 4.0

Record = dict[str, Any]


def make_record(
    subject: Subject,
    objective: Objective,
    schedule: Schedule,
    trained: Sequence[Trained],
    *,
    parameters: Sequence[str],
    programs: Mapping[str, Mapping[str, Any]],
    samples: int,
    tolerance: float,
    latency: Mapping[str, Any],
) -> Record:
    """Put together all that is known of a network that is shipped, as JSON values.

    Args:
        subject: The trial.
        objective: What was optimised.
        schedule: How the network was trained anew.
        trained: The networks of all seeds; the first is shipped.
        parameters: Names of the tensors that count as parameters.
        programs: By file, how many stored samples it gets right, how many that may differ by,
            and whether its logits are those of the network.
        samples: Number of stored samples.
        tolerance: What their logits may differ by.
        latency: From `timed`.
    """
    data = schedule.data
    accuracies = [one.accuracy for one in trained]
    same_data = getattr(objective.evaluator, "dataset", None) == data
    told = subject.accuracy if same_data else None
    search = {
        "study": subject.study,
        "trial": subject.number,
        "network": subject.candidate.key,
        "params": dict(subject.candidate.params),
        "values": dict(subject.values),
        "limits": objective.limits,
        "evaluator": objective.evaluator.name,
        "accuracy": told,
        "least_accuracy": told and least(told, (len(data.validation), len(data.test))),
        "latency": subject.latency and _finite(subject.latency),
    }
    return {
        "format": FORMAT,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "search": search,
        "data": _of_data(schedule),
        "training": {
            **schedule.told(),
            "search_epochs": schedule.search_epochs,
            "learning_rate_halved": schedule.halvings,
            "seeds": list(schedule.seeds),
            "shipped_seed": trained[0].seed,
            "seconds": [one.seconds for one in trained],
        },
        "test": {
            "accuracies": accuracies,
            "mean": sum(accuracies) / len(accuracies),
            "spread": _number(spread(accuracies)),
            "shipped": accuracies[0],
            "losses": [one.loss for one in trained],
        },
        "network": {
            **subject.costs,
            "parameter_names": list(parameters),
            "input": kind_of(data),
        },
        "programs": programs,
        "samples": samples,
        "tolerance": tolerance,
        "latency": latency,
        "versions": versions("torch", "onnx", "onnxruntime", "optuna", "numpy"),
    }


def kind_of(data: DataSet) -> Record:
    """Shape of one input, and the type of its numbers."""
    dtype = str(data.train.inputs.dtype).removeprefix("torch.")
    return {"shape": list(data.input_shape), "dtype": dtype}


def _of_data(schedule: Schedule) -> Record:
    data = schedule.data
    known = data.mean is not None and data.scale is not None
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
        "classes": data.num_classes,
        "mean": data.mean.tolist() if known and data.mean is not None else None,
        "scale": data.scale.tolist() if known and data.scale is not None else None,
    }


def least(told: float, counts: Sequence[int]) -> float:
    """The least accuracy that is no surprise.

    Args:
        told: Accuracy on the validation part.
        counts: Samples of the validation part, and of the part that it is measured on now.

    Example:
        >>> round(least(0.98, (360, 360)), 3)
        0.936
    """
    variance = 0.0
    for count in counts:
        share = (told * count + 1) / (count + 2)  # no accuracy is certain, 1 neither
        variance += share * (1 - share) / count
    return max(0.0, told - _DEVIATIONS * math.sqrt(variance))


def timed(folder: Path, name: str, stopwatch: Stopwatch, kind: Mapping[str, Any]) -> Record:
    """Measure a shipped network on this machine, as its search did if that can be done here.

    Args:
        folder: Holds the files.
        name: The file that torch runs; ONNX Runtime runs `model.onnx`.
        stopwatch: That of the search. What a table predicted is measured on the CPU by torch.
        kind: Shape of one input, and the type of its numbers.
    """
    source, runtime = stopwatch.source, stopwatch.runtime
    if isinstance(source, LatencyTable):
        source, runtime = LatencySettings(), "torch"
    gpu = stopwatch.platform == "gpu" and torch.cuda.is_available() and runtime == "torch"
    timing: Record = {
        "program": "model.onnx" if runtime == "onnxruntime" else name,
        "batch_size": source.batch_size,
        "threads": source.threads,
        "device": "cuda" if gpu else "cpu",
        "runtime": runtime,
    }
    place = device_name(timing["device"])
    if runtime == "onnxruntime":
        place += f", {runtime}"
    elif name == "model.pt2":  # each call of such a program costs some 0.05 ms of its own
        place += f", {name}"
    with measuring_alone():
        measured = measure(
            folder, OPENERS[timing["program"]](folder / timing["program"]), timing, kind
        )
    return {
        **timing,
        "place": place,
        "machine": machine(timing),
        "median_ms": measured.median * 1e3,
        "iqr_ms": measured.iqr * 1e3,
    }


def _finite(values: Mapping[str, Any]) -> Record:
    """Leave out what is NaN: JSON has none."""
    return {k: v for k, v in values.items() if not (isinstance(v, float) and math.isnan(v))}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value

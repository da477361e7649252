"""Write all files of an export into one folder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from nas_optuna.data import DataSet
from nas_optuna.export import check
from nas_optuna.export.card import write_card
from nas_optuna.export.check import Array, load_source, of_onnx, run_all
from nas_optuna.export.folder import RECORD
from nas_optuna.export.programs import logits_of, traced, write_int8, write_onnx, write_pt2
from nas_optuna.export.record import Record, kind_of, make_record, timed
from nas_optuna.export.retraining import Schedule, Trained
from nas_optuna.export.source import write_source
from nas_optuna.export.subject import Subject

if TYPE_CHECKING:
    from nas_optuna.objective import Objective

_TOLERANCE = 1e-4  # of logits; float32 has 7 digits, so it grows with those beyond 100
_LARGE = 100.0
_MOST_SAMPLES, _MOST_BYTES = 5000, 2**26  # stored of the test part
_INT8_SLACK = 0.01  # processors round sums of 8-bit products in different ways


def write_files(
    folder: Path,
    subject: Subject,
    objective: Objective,
    schedule: Schedule,
    trained: Sequence[Trained],
    *,
    int8: bool,
) -> Record:
    """Write all files of an export.

    Args:
        folder: An empty folder.
        subject: The trial.
        objective: What was optimised.
        schedule: How the network was trained.
        trained: The networks of all seeds; the first is written.
        int8: Whether to write a quantized one, too.

    Returns:
        What is in `record.json`.

    Raises:
        ExportError: The network cannot be written in one of the forms.
        OSError: The disk is full.
    """
    data = schedule.data.to("cpu")
    tested = subject.candidate.build()
    tested.load_state_dict(trained[0].state)
    samples = _samples(tested.eval(), data)
    np.savez_compressed(folder / "samples.npz", allow_pickle=False, **samples)
    model = _write_model(folder, subject, data, trained[0].state) or tested
    program = traced(model, data.test.inputs[:2])
    write_pt2(program, folder / "model.pt2")
    write_onnx(program, folder / "model.onnx")
    tolerance = _TOLERANCE * max(1.0, float(np.abs(samples["logits"]).max()) / _LARGE)
    exact = _exact(samples, tolerance)
    names = [name for name in ("model.py", "model.pt2", "model.onnx") if (folder / name).exists()]
    programs: dict[str, dict[str, Any]] = {name: exact for name in names}
    if int8:
        write_int8(folder / "model.onnx", folder / "model.int8.onnx", data.train.inputs)
        programs["model.int8.onnx"] = _quantized(folder / "model.int8.onnx", samples, data)
    record = make_record(
        subject,
        objective,
        schedule,
        trained,
        parameters=[name for name, _ in model.named_parameters()],
        programs=programs,
        samples=len(samples["targets"]),
        tolerance=tolerance,
        latency=timed(folder, names[0], objective.stopwatch, kind_of(data)),
    )
    shutil.copyfile(check.__file__, folder / "check.py")
    (folder / "README.md").write_text(write_card(record), encoding="utf-8")
    text = json.dumps(record, indent=1, allow_nan=False)
    (folder / RECORD).write_text(text, encoding="utf-8")
    return record


def _samples(model: nn.Module, data: DataSet) -> dict[str, Array]:
    """Test samples, evenly over the part if it is large, and what the network says of them."""
    inputs, targets = data.test.inputs, data.test.targets
    fitting = max(2, _MOST_BYTES // (inputs[0].numel() * inputs.element_size()))
    count = min(len(targets), _MOST_SAMPLES, fitting)
    chosen = torch.linspace(0, len(targets) - 1, count).round().long()
    return {
        "inputs": inputs[chosen].numpy(),
        "targets": targets[chosen].numpy(),
        "logits": logits_of(model, inputs[chosen]),
    }


def _write_model(
    folder: Path, subject: Subject, data: DataSet, state: dict[str, Tensor]
) -> nn.Module | None:
    """Write the weights, and the code if there can be any; return what the code makes."""
    architecture, source = subject.candidate.architecture, None
    if architecture is not None:
        title = f"{data.name}: the network of trial {subject.number} of study {subject.study}."
        shape = None if data.mean is None else data.mean.shape
        source = write_source(architecture, title=title, input_stats=shape)
    if source is not None:
        state = {source.names[name]: tensor for name, tensor in state.items()}
        if data.mean is not None and data.scale is not None:
            for name, values in (("mean", data.mean), ("scale", data.scale)):
                state[name] = torch.from_numpy(values).float()
        (folder / "model.py").write_text(source.text, encoding="utf-8")
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    (folder / "weights.safetensors").write_bytes(save(contiguous, {"format": "pt"}))
    return None if source is None else load_source(folder / "model.py").load()


def _exact(samples: dict[str, Array], tolerance: float) -> dict[str, Any]:
    """What a file in which the network is as it was tested has to reach."""
    logits = samples["logits"]
    best = np.sort(logits, axis=1)
    return {
        "exact": True,
        "right": int((logits.argmax(1) == samples["targets"]).sum()),
        # Where the two best are closer than outputs may differ, the class may.
        "slack": int((best[:, -1] - best[:, -2] < 2 * tolerance).sum()),
    }


def _quantized(path: Path, samples: dict[str, Array], data: DataSet) -> dict[str, Any]:
    """What the quantized network reaches: on the samples, and on the whole test part."""
    program = of_onnx(path)
    logits = run_all(program, samples["inputs"])
    whole = run_all(program, data.test.inputs.numpy()).argmax(1)
    return {
        "exact": False,
        "right": int((logits.argmax(1) == samples["targets"]).sum()),
        "slack": math.ceil(_INT8_SLACK * len(logits)),
        "accuracy": float((whole == data.test.targets.numpy()).mean()),
    }

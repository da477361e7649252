"""Write a trained network for other programs: torch.export, ONNX, and ONNX with 8-bit integers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nas_optuna.errors import ExportError
from nas_optuna.export.check import BATCH, Array
from nas_optuna.models.runtimes import quiet_exporter

_CALIBRATION = 512  # samples of the training part, by which the ranges of activations are found
_CALIBRATION_BATCH = 64


def require_extra() -> None:
    """Check that what writes and runs ONNX files is installed.

    Raises:
        ExportError: It is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"{error.name} is not installed; it comes with the extra `export`: "
            "pip install 'nas-optuna[export]'."
        ) from error


def traced(model: nn.Module, inputs: Tensor) -> ExportedProgram:
    """Trace a network for any number of samples.

    Args:
        model: In evaluation mode, on the CPU.
        inputs: `(2, *input_shape)` samples.

    Raises:
        ExportError: torch cannot trace it, or only for two samples.
    """
    try:
        with _quiet():
            program = torch.export.export(
                model, (inputs,), dynamic_shapes=({0: Dim("batch", min=1)},)
            )
    except Exception as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(
            f"torch.export cannot trace {type(model).__name__} for any number of samples: {said} "
            "A forward pass may not depend on numbers in tensors, nor on one size of a batch."
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines and paths of this machine
    return program


def write_pt2(program: ExportedProgram, path: Path) -> None:
    """Write a program for `torch.export.load`."""
    with _quiet():
        torch.export.save(program, path)


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """Write a program as ONNX, from `input` `(batch, ...)` to `logits`, and check the file.

    Raises:
        ExportError: An operation has no ONNX form, or the file is not valid.
    """
    import onnx

    try:
        with _quiet():
            exported = torch.onnx.export(
                program, input_names=["input"], output_names=["logits"], dynamo=True, verbose=False
            )
            if exported is None:
                raise ExportError("torch.onnx wrote nothing.")
        model = exported.model_proto
        for part in (*model.graph.node, *model.graph.value_info, *model.graph.input):
            part.ClearField("metadata_props")  # of what module it was: half of a small file
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError) as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(f"The network cannot be written as ONNX: {said}") from error


def write_int8(source: Path, path: Path, inputs: Tensor) -> None:
    """Quantize an ONNX file after training: weights and activations become 8-bit integers.

    Weights are signed, by channel, and use 7 bits, since processors without VNNI overflow with 8;
    activations are unsigned, between the least and the greatest value seen on training samples.

    Args:
        source: The ONNX file.
        path: The file to write.
        inputs: `(n, *input_shape)` training samples.
    """
    from onnxruntime import quantization

    chosen = torch.linspace(0, len(inputs) - 1, min(_CALIBRATION, len(inputs))).long()
    batches = torch.split(inputs[chosen], _CALIBRATION_BATCH)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, Any]] = ({"input": x.numpy()} for x in batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.feeds, None)

    prepared = path.with_suffix(".prepared")
    with _quiet():
        quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            path,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    prepared.unlink()


@torch.inference_mode()
def logits_of(model: nn.Module, inputs: Tensor) -> Array:
    """Run a network on the CPU: `(n, *input_shape)` to `(n, num_classes)` logits."""
    return np.concatenate([model(x).numpy() for x in torch.split(inputs, BATCH)])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters say of packages that are not there off the terminal."""
    root, before = logging.getLogger(), logging.root.level
    with warnings.catch_warnings(), quiet_exporter():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)  # ONNX Runtime's tools log there
        try:
            yield
        finally:
            root.setLevel(before)

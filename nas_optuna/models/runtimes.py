"""What runs a network when its latency is measured: PyTorch, or ONNX Runtime after an export."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas_optuna.errors import SettingError, check_name

RuntimeName = Literal["torch", "onnxruntime"]
Call = Callable[[], object]

_ERRORS_ONLY = 3  # of ONNX Runtime's levels


@dataclass(frozen=True, slots=True)
class Runtime:
    """Something that runs networks.

    Args:
        prepare: From a module in eval mode, its inputs and the number of threads to a call that
            runs it once. The call is made in torch's inference mode.
        version: Returns its version.
        compiles: Whether a network is run as a whole, so that a call from Python is made once for
            all its operations and not for each.
    """

    prepare: Callable[[nn.Module, Sequence[Tensor], int], Call]
    version: Callable[[], str]
    compiles: bool


def runtime_named(name: str) -> Runtime:
    """Look a runtime up.

    Raises:
        UnknownNameError: There is no such runtime.
        SettingError: It is not installed.

    Example:
        >>> runtime_named("torch").compiles
        False
    """
    runtime = RUNTIMES[check_name("runtime", name, RUNTIMES)]
    runtime.version()
    return runtime


def _torch_call(model: nn.Module, inputs: Sequence[Tensor], threads: int) -> Call:
    return partial(model, *inputs)  # the timer sets the threads


def _onnx_call(model: nn.Module, inputs: Sequence[Tensor], threads: int) -> Call:
    ort = _onnxruntime()
    if any(x.device.type != "cpu" for x in inputs):
        raise SettingError(
            f"The runtime 'onnxruntime' is timed on a CPU, not on {inputs[0].device.type!r}; "
            "choose 'torch', or measure on the CPU."
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    session = ort.InferenceSession(
        onnx_bytes(model, inputs), options, providers=["CPUExecutionProvider"]
    )
    wanted = {x.name for x in session.get_inputs()}  # an input that is not looked at is dropped
    feed = {f"x{i}": x.numpy() for i, x in enumerate(inputs) if f"x{i}" in wanted}
    return partial(session.run, None, feed)


def onnx_bytes(model: nn.Module, inputs: Sequence[Tensor]) -> bytes:
    """Export a module for timing: fixed shapes, inputs named `x0`, `x1`, ...

    The exporter is TorchScript's, which takes 10 ms for one operation; that of `torch.export`
    takes a second or more and gives the same graph. It is asked for what the other cannot do.

    Args:
        model: The module, in eval mode, on the CPU.
        inputs: What it is called with.

    Raises:
        torch.onnx.OnnxExporterError: The module cannot be exported.
    """
    file = io.BytesIO()
    names = [f"x{i}" for i in range(len(inputs))]
    # Averaging to sides that do not divide the input's is what TorchScript's does not know.
    pools = any(isinstance(module, nn.AdaptiveAvgPool2d) for module in model.modules())
    with warnings.catch_warnings(), quiet_exporter():
        warnings.simplefilter("ignore")  # that it is deprecated, that shapes become constants
        torch.onnx.export(
            model,
            tuple(inputs),
            file,  # type: ignore[arg-type]  # a file is taken, though not announced
            input_names=names,
            dynamo=pools,
            verbose=False,
        )
    return file.getvalue()


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep what the exporter says of packages that are not there off the terminal."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401  # what torch exports with
        import onnxruntime
    except ImportError as error:
        raise SettingError(
            "The runtime 'onnxruntime' comes with the extra `export`: "
            "pip install 'nas-optuna[export]'."
        ) from error
    return onnxruntime


RUNTIMES: dict[str, Runtime] = {
    "torch": Runtime(_torch_call, lambda: str(torch.__version__), compiles=False),
    "onnxruntime": Runtime(_onnx_call, lambda: str(_onnxruntime().__version__), compiles=True),
}

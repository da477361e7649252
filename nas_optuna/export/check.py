"""Check that the files of this folder still are what was shipped; exit status 1 if one is not.

    python check.py [FOLDER] [--slower SHARE]

Needs torch, onnxruntime and numpy, and nothing of the package that wrote the folder. Each file is
loaded and run on the stored samples. Outputs, parameters, accuracy, FLOPs and latency are compared
with `record.json`: with what was written when the folder was made, with what the search recorded
of the network, and with every limit of the search. One line per comparison.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Measurement, Timer
from torch.utils.benchmark import timer as synchronised
from torch.utils.flop_counter import FlopCounterMode

Array = npt.NDArray[Any]
Record = Mapping[str, Any]

# The same network on the same machine takes up to so much longer at another hour: the clock of
# the processor falls with its load, and its caches are shared with whatever else runs.
SLOWER = 0.5
BATCH = 256
MEASUREMENTS, BLOCKS, BLOCK_SECONDS = 3, 20, 0.02


class Finding(NamedTuple):
    """One comparison.

    Args:
        status: `ok`, `DRIFT`, or `-` for what cannot be compared here.
        text: What was compared, and the numbers.
    """

    status: Literal["ok", "DRIFT", "-"]
    text: str


class Program(NamedTuple):
    """One way to run the network.

    Args:
        name: The files that it is in.
        run: From inputs `(n, ...)` to logits `(n, num_classes)`.
        module: It as a module; None if ONNX Runtime runs it.
    """

    name: str
    run: Callable[[Array], Array]
    module: nn.Module | None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file: the length of a JSON header, the header, and the numbers."""
    kinds = {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
        "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
        "U8": torch.uint8, "BOOL": torch.bool,
    }  # fmt: skip
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in entry["data_offsets"])
            kind = kinds[entry["dtype"]]
            flat = torch.frombuffer(raw[begin:end], dtype=kind) if end > begin else torch.empty(0)
            tensors[name] = flat.to(kind).reshape(entry["shape"])
    return tensors


def load_source(path: Path) -> Any:
    """Run a Python file as a module of its own."""
    spec = importlib.util.spec_from_file_location("shipped_model", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_module(name: str, module: nn.Module) -> Program:
    """Run a module on the CPU."""

    def run(inputs: Array) -> Array:
        with torch.inference_mode():
            logits: Array = module(torch.from_numpy(inputs)).numpy()
        return logits

    return Program(name, run, module)


def of_onnx(path: Path, threads: int = 1) -> Program:
    """Run an ONNX file on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Program(path.name, lambda inputs: session.run(None, {"input": inputs})[0], None)


OPENERS: dict[str, Callable[[Path], Program]] = {
    "model.py": lambda path: of_module(
        "model.py with weights.safetensors", load_source(path).load()
    ),
    "model.pt2": lambda path: of_module("model.pt2", torch.export.load(path).module()),
    "model.onnx": of_onnx,
    "model.int8.onnx": of_onnx,
}


def run_all(program: Program, inputs: Array) -> Array:
    """Run one sample alone, then the rest in batches: `(n, ...)` to `(n, num_classes)`."""
    cuts = [0, *range(1, len(inputs), BATCH), len(inputs)]
    return np.concatenate([program.run(inputs[a:b]) for a, b in pairwise(cuts)])


def judged(text: str, *, good: bool) -> Finding:
    """Make a finding of a comparison."""
    return Finding("ok" if good else "DRIFT", text)


def check(folder: Path, *, slower: float = SLOWER) -> Iterator[Finding]:
    """Compare everything in a folder with its record.

    Args:
        folder: The folder.
        slower: How much longer a pass may take than it did, as a share.

    Yields:
        A finding for each comparison, as soon as it is made.
    """
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        with np.load(folder / "samples.npz", allow_pickle=False) as stored:
            samples = {name: stored[name] for name in ("inputs", "targets", "logits")}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        yield Finding("DRIFT", f"record.json or samples.npz cannot be read: {error}")
        return
    programs, accuracy = {}, 0.0
    for name, told in record["programs"].items():
        try:
            program = OPENERS[name](folder / name)
            logits = run_all(program, samples["inputs"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the file cannot be used
            text = " ".join(str(error).split())[:200]
            yield Finding("DRIFT", f"{name} cannot be run: {type(error).__name__}: {text}")
            continue
        right = int((logits.argmax(1) == samples["targets"]).sum())
        accuracy = accuracy or right / len(logits)
        programs[name] = program
        if told["exact"]:
            yield _outputs(program.name, logits, samples["logits"], record["tolerance"])
        yield judged(
            f"{program.name}: {right} of {len(logits)} test samples right, were {told['right']}",
            good=abs(right - told["right"]) <= told["slack"],
        )
    yield from _parameters(folder, list(programs.values()), record)
    yield _against_search(accuracy, record)
    modules = [program for program in programs.values() if program.module is not None]
    flops = _flops(modules[0], samples["inputs"][:1]) if modules else record["network"]["flops"]
    yield judged(
        f"{flops:,} FLOPs, the search counted {record['network']['flops']:,}",
        good=flops <= record["network"]["flops"],  # torch.export leaves out what nothing uses
    )
    findings, latency = _latency(folder, programs, record, slower)
    yield from findings
    values = {"max_flops": flops, "min_accuracy": accuracy}
    yield from _limits(values, latency, record)


def _outputs(name: str, logits: Array, reference: Array, most: float) -> Finding:
    worst = float(np.abs(logits - reference).max())
    text = f"{name}: logits within {worst:.1e} of those of the tested network (at most {most:.0e})"
    return judged(text, good=worst <= most)  # NaN is not


def _parameters(folder: Path, programs: list[Program], record: Record) -> Iterator[Finding]:
    network, file = record["network"], "weights.safetensors"
    counts = {
        name: sum(p.numel() for p in module.parameters())
        for name, _, module in programs
        if module is not None
    }
    try:
        weights = read_safetensors(folder / file)
        counts[file] = sum(weights[name].numel() for name in network["parameter_names"])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        yield Finding("DRIFT", f"{file} cannot be read: {type(error).__name__}: {error}")
        weights = {}
    for name, count in counts.items():
        text = f"{name}: {count:,} parameters, the search counted {network['parameters']:,}"
        yield judged(text, good=count == network["parameters"])
    for name, _, module in programs:
        if module is not None:
            state = module.state_dict()
            same = all(key in weights and torch.equal(state[key], weights[key]) for key in state)
            yield judged(f"{name}: the numbers of {file}", good=same)


def _against_search(accuracy: float, record: Record) -> Finding:
    told, least = record["search"]["accuracy"], record["search"]["least_accuracy"]
    if told is None:
        return Finding("-", "accuracy: the search measured none on this data to compare with")
    text = f"accuracy {accuracy:.4f} on test samples, {told:.4f} on the validation part in the"
    return judged(f"{text} search (by chance it may be {least:.4f})", good=accuracy >= least)


def _flops(program: Program, inputs: Array) -> int:
    with FlopCounterMode(display=False) as counter:
        program.run(inputs)
    return int(counter.get_total_flops())


def _latency(
    folder: Path, programs: Mapping[str, Program], record: Record, slower: float
) -> tuple[list[Finding], tuple[float, float]]:
    """What became of the latency, and that which a limit is compared with, with its spread."""
    was, search = record["latency"], record["search"]["latency"]
    # A limit is for where the search measured, or for where its table was made.
    of_limit = was["median_ms"] if search is None else search["median_ms"], 0.0
    program = programs.get(was["program"])
    if program is None:
        return [Finding("-", f"latency: {was['program']} cannot be run")], of_limit
    here = machine(was)
    if here != was["machine"]:
        text = f"latency: not compared, it was measured on {was['machine']}; this is {here}"
        return [Finding("-", text)], of_limit
    known = {"when it was shipped": was["median_ms"]}
    same = search and (search["device"], search["threads"]) == (was["place"], was["threads"])
    if same:
        known["in the search"] = search["median_ms"]
    most = (1 + slower) * min(known.values())
    for _ in range(MEASUREMENTS):  # whatever else runs only ever adds to a latency
        measured = measure(folder, program, was, record["network"]["input"])
        median, spread = measured.median * 1e3, measured.iqr * 1e3
        if median <= most:
            break
    said = " and ".join(f"{told:.4g} ms {when}" for when, told in known.items())
    text = f"latency of {program.name} {median:.4g} ms, was {said} (at most {most:.4g} ms)"
    findings = [judged(text, good=median <= most)]
    if search and not same:
        text = f"latency in the search, {search['median_ms']:.4g} ms on {search['device']}"
        findings.append(Finding("-", f"{text}: not compared with that of {was['place']}"))
    return findings, (median, spread) if same else of_limit


def machine(timing: Record) -> str:
    """Say all that makes latencies comparable: hardware, threads and what runs the network.

    Args:
        timing: Device, threads and runtime.
    """
    version = torch.__version__
    if timing["runtime"] == "onnxruntime":
        import onnxruntime

        version = onnxruntime.__version__
    many = "s" if timing["threads"] != 1 else ""
    hardware = _hardware(timing["device"])
    return f"{hardware}, {timing['threads']} thread{many}, {timing['runtime']} {version}"


def _hardware(device: str) -> str:
    if device == "cuda":
        return f"cuda {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no cuda"
    lines: list[str] = []
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"cpu {next(filter(None, models), platform.processor() or platform.machine())}"


def measure(folder: Path, program: Program, timing: Record, kind: Record) -> Measurement:
    """Time a program as a search times its networks: a pass of zeros, warm, many times.

    Args:
        folder: Where its file is.
        program: The program.
        timing: Device, threads and batch size.
        kind: Shape of one input, and the type of its numbers.
    """
    device, threads = timing["device"], timing["threads"]
    zeros = np.zeros((timing["batch_size"], *kind["shape"]), dtype=kind["dtype"])
    inputs: dict[str, Any]
    if program.module is None:
        inputs = {"call": of_onnx(folder / program.name, threads).run, "x": zeros}
    else:
        inputs = {"call": program.module.to(device), "x": torch.from_numpy(zeros).to(device)}
    clock: Callable[[], float] = synchronised
    if device == "cpu" and threads == 1:
        clock = time.thread_time  # it stands still while the processor serves someone else
    timer = Timer("call(x)", globals=inputs, num_threads=threads, timer=clock)
    with torch.inference_mode():
        timer.timeit(3)
        number = max(1, round(BLOCK_SECONDS / max(timer.timeit(3).median, 1e-9)))
        return Measurement.merge([timer.timeit(number) for _ in range(BLOCKS)])[0]


def _limits(
    values: Mapping[str, float], latency: tuple[float, float], record: Record
) -> Iterator[Finding]:
    for name, limit in record["search"]["limits"].items():
        slack, how = 0.0, ""
        if name == "max_latency_ms":
            value, slack = latency  # what is over its limit by less than its spread ties with it
        elif name in values:
            value = values[name]
        else:
            value, how = record["network"][name.removeprefix("max_")], " (recorded)"
        text = f"limit {name} {limit:,g}: {value:,.5g}{how}"
        least = name.startswith("min")
        yield judged(text, good=value >= limit if least else value - slack <= limit)


def main() -> int:
    """Check the folder, print each finding, and return the exit status."""
    parser = argparse.ArgumentParser(description="Check a shipped network for drift.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--slower", type=float, default=SLOWER, metavar="SHARE")
    options = parser.parse_args()
    sys.dont_write_bytecode = True  # leave the folder as it is
    drifts = 0
    for status, text in check(options.folder, slower=options.slower):
        sys.stdout.write(f"{status:<6} {text}\n")
        drifts += status == "DRIFT"
    sys.stdout.write(f"{drifts} drift{'s' if drifts > 1 else ''}\n" if drifts else "no drift\n")
    return 1 if drifts else 0


if __name__ == "__main__":
    sys.exit(main())

"""Make a latency table: measure the operations of some networks, then check it on others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.stats import kendalltau
from torch import nn

from nas_optuna.architecture import Architecture
from nas_optuna.errors import SettingError
from nas_optuna.models.cost import NodeKey, node_keys
from nas_optuna.models.estimation import sizes
from nas_optuna.models.latency import device_name, measure_call, measure_latency
from nas_optuna.models.latency_table import Check, LatencyTable, TableData
from nas_optuna.models.network import build, example_input
from nas_optuna.models.operations import make
from nas_optuna.models.runtimes import RuntimeName, runtime_named
from nas_optuna.operations import Shape

_FEWEST_CHECKS = 5
_SECONDS = 0.005  # for one operation; a network gets the tenfold
_LEAST_MS = 1e-3  # of an operation whose time is lost in that of the call
_UNCHECKED = Check(networks=0, kendall_tau=float("nan"), error=float("nan"), estimated=0.0)


def measure_table(
    networks: Sequence[Architecture],
    checks: Sequence[Architecture],
    *,
    threads: int = 1,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    runtime: RuntimeName = "torch",
    entries: int = 1500,
    progress: Callable[[int, int], None] | None = None,
) -> TableData:
    """Measure the distinct operations of `networks`, and predict `checks` by them.

    Args:
        networks: Members of a space; the more, the more of its operations are measured.
        checks: Other members, measured whole: the overhead is fitted to them, and the file
            says how well they are predicted.
        threads: Threads on the CPU.
        batch_size: Samples in one pass.
        device: Where to run.
        runtime: What runs the operations and the networks, `torch` or `onnxruntime`.
        entries: Most operations to measure. Each kind gets an equal share, its largest and its
            most frequent first; the rest is estimated.
        progress: Told after each measurement how many are done and how many there are.

    Raises:
        UnknownNameError: There is no such runtime.
        SettingError: There is nothing to measure, too little to check by, or the runtime is not
            installed.
    """
    if not networks or len(checks) < _FEWEST_CHECKS:
        raise SettingError(
            f"A latency table needs networks to measure and at least {_FEWEST_CHECKS} to check "
            f"it by, got {len(networks)} and {len(checks)}."
        )
    timed = _Timed(runtime, torch.device(device), threads, batch_size)
    chosen = choose(_counted(networks), entries)
    kinds = {key[0] for key in chosen}
    chosen += [key for key in _counted(checks) if key[0] not in kinds]  # none to estimate it by
    total = len(chosen) + len(checks)

    def told(done: int) -> None:
        if progress:
            progress(done, total)

    idle = timed.idle_ms()
    measured = {}
    for done, key in enumerate(chosen, start=1):
        measured[key] = max(timed.operation_ms(key) - idle, _LEAST_MS)
        told(done)
    whole = []
    for done, network in enumerate(checks, start=len(chosen) + 1):
        whole.append(timed.network_ms(network))
        told(done)
    data = TableData(
        runtime=runtime, version=runtime_named(runtime).version(), threads=threads,
        device=device_name(timed.device), batch_size=batch_size, overhead_ms=0.0, scale=1.0,
        check=_UNCHECKED, entries=measured,
    )  # fmt: skip
    return _checked(data, checks, np.array(whole))


@dataclass(frozen=True, slots=True)
class _Timed:
    """Times operations and networks in one way."""

    runtime: RuntimeName
    device: torch.device
    threads: int
    batch_size: int

    def network_ms(self, network: Architecture) -> float:
        return measure_latency(
            build(network), network.input_shape, device=self.device, batch_size=self.batch_size,
            threads=self.threads, seconds=10 * _SECONDS, runtime=self.runtime,
        ).median_ms  # fmt: skip

    def operation_ms(self, key: NodeKey) -> float:
        operation, settings, shapes = key
        return self._call_ms(make(operation, dict(settings), shapes), shapes)

    def idle_ms(self) -> float:
        """What a call takes that a whole network makes only once, however many its operations."""
        compiles = runtime_named(self.runtime).compiles
        return self._call_ms(nn.Identity(), ((1,),)) if compiles else 0.0

    def _call_ms(self, module: nn.Module, shapes: Sequence[Shape]) -> float:
        module = module.to(self.device).eval()
        inputs = [
            example_input(module, shape, batch_size=self.batch_size, device=self.device)
            for shape in shapes
        ]
        call = runtime_named(self.runtime).prepare(module, inputs, self.threads)
        return measure_call(
            call, device=self.device, threads=self.threads, seconds=_SECONDS
        ).median_ms


def _counted(networks: Sequence[Architecture]) -> Counter[NodeKey]:
    return Counter(key for network in networks for key in node_keys(network))


def choose(counts: Counter[NodeKey], most: int) -> list[NodeKey]:
    """Choose operations to measure, the kinds in turn.

    Args:
        counts: How often each operation occurs.
        most: How many to choose.
    """
    kinds: dict[str, list[NodeKey]] = {}
    for key, _ in counts.most_common():
        kinds.setdefault(key[0], []).append(key)
    # The largest mark out how far others can be estimated.
    kinds = {kind: list(dict.fromkeys([*_largest(keys), *keys])) for kind, keys in kinds.items()}
    turns = sorted((turn, kind) for kind, keys in kinds.items() for turn in range(len(keys)))
    return [kinds[kind][turn] for turn, kind in turns[:most]]


def _largest(keys: Sequence[NodeKey]) -> list[NodeKey]:
    """The operations that compute most, weigh most and move most."""
    table = np.array([sizes(key) for key in keys])
    return [keys[int(i)] for i in table.argmax(axis=0)]


def _checked(data: TableData, checks: Sequence[Architecture], whole: np.ndarray) -> TableData:
    """Fit the overhead to whole networks and say how well they are predicted.

    The fit has two numbers and keeps the order of the sums, so that the rank correlation is one
    with networks the table has not seen.
    """
    table = LatencyTable.of(data)
    sums = np.array([table.predict(network) for network in checks])
    overhead, scale = _fit(sums, whole)
    predicted = overhead + scale * sums
    keys = [key for network in checks for key in node_keys(network)]
    check = Check(
        networks=len(checks),
        kendall_tau=float(kendalltau(sums, whole).statistic),
        error=float(np.median(np.abs(predicted / whole - 1))),
        estimated=sum(key not in data.entries for key in keys) / len(keys),
    )
    return replace(data, overhead_ms=overhead, scale=scale, check=check)


def _fit(sums: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    """Overhead and scale of `whole = overhead + scale * sums`, by ratios; outliers count less."""

    def errors(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.log((x[0] + x[1] * sums) / whole))

    start = [0.1 * whole.min(), np.median(whole / sums)]
    fitted = least_squares(errors, start, bounds=(1e-9, np.inf), loss="soft_l1", f_scale=0.1)
    return float(fitted.x[0]), float(fitted.x[1])

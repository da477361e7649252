"""Make a latency table: measure the operations of some networks, then check it on others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.stats import kendalltau

from nas_optuna.architecture import Architecture
from nas_optuna.errors import SettingError
from nas_optuna.models.cost import NodeKey, node_keys
from nas_optuna.models.estimation import sizes
from nas_optuna.models.latency import device_name, measure_call, measure_latency
from nas_optuna.models.latency_table import Check, LatencyTable, TableData
from nas_optuna.models.network import build, example_input
from nas_optuna.models.operations import make

_FEWEST_CHECKS = 5
_SECONDS = 0.005  # for one operation; a network gets the tenfold
_UNCHECKED = Check(networks=0, kendall_tau=float("nan"), error=float("nan"), estimated=0.0)


def measure_table(
    networks: Sequence[Architecture],
    checks: Sequence[Architecture],
    *,
    threads: int = 1,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
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
        entries: Most operations to measure. Each kind gets an equal share, its largest and its
            most frequent first; the rest is estimated.
        progress: Told after each measurement how many are done and how many there are.

    Raises:
        SettingError: There is nothing to measure, or too little to check by.
    """
    if not networks or len(checks) < _FEWEST_CHECKS:
        raise SettingError(
            f"A latency table needs networks to measure and at least {_FEWEST_CHECKS} to check "
            f"it by, got {len(networks)} and {len(checks)}."
        )
    device = torch.device(device)
    chosen = choose(Counter(key for net in networks for key in node_keys(net)), entries)
    total, measured = len(chosen) + len(checks), {}
    for done, key in enumerate(chosen, start=1):
        measured[key] = _measure(key, device, threads, batch_size)
        if progress:
            progress(done, total)
    whole = []
    for done, network in enumerate(checks, start=len(chosen) + 1):
        latency = measure_latency(
            build(network), network.input_shape, device=device, batch_size=batch_size,
            threads=threads, seconds=10 * _SECONDS,
        )  # fmt: skip
        whole.append(latency.median_ms)
        if progress:
            progress(done, total)
    data = TableData(
        runtime="torch", device=device_name(device), threads=threads, torch=torch.__version__,
        batch_size=batch_size, overhead_ms=0.0, scale=1.0, check=_UNCHECKED, entries=measured,
    )  # fmt: skip
    return _checked(data, checks, np.array(whole))


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


def _measure(key: NodeKey, device: torch.device, threads: int, batch_size: int) -> float:
    operation, settings, shapes = key
    module = make(operation, dict(settings), shapes).to(device)
    inputs = [example_input(module, s, batch_size=batch_size, device=device) for s in shapes]
    return measure_call(module, inputs, threads=threads, seconds=_SECONDS).median_ms


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

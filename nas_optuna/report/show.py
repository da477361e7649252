"""One trial as text: its architecture line by line, its metrics and its learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas_optuna.architecture import INPUT, Architecture, Node
from nas_optuna.constraints import LIMITS, SearchConstraints
from nas_optuna.errors import SettingError
from nas_optuna.metrics import METRICS
from nas_optuna.recording import (
    ARCHITECTURE,
    CACHED,
    COSTS,
    CURVE,
    EPOCHS,
    HEALTH,
    INFEASIBLE,
    LATENCY,
    NOTES,
    SECONDS,
)
from nas_optuna.report import statistics
from nas_optuna.report.labels import label, shape_text
from nas_optuna.report.tables import format_limit, format_value, is_predicted

_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 40
_WIDTH = 80  # columns of a terminal


def find_trial(study: Study, number: int) -> FrozenTrial:
    """Return a trial by its number; not copied, so do not change it.

    Raises:
        SettingError: The study has no such trial.
    """
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        there = f"it has 0 to {len(trials) - 1}" if trials else "it has none yet"
        raise SettingError(f"Study {study.study_name!r} has no trial {number}; {there}.")
    return trials[number]


def architecture_of(trial: FrozenTrial) -> Architecture | None:
    """Return the architecture of a trial, None if it is a module or could not be built.

    Raises:
        ArchitectureError: What the trial holds is not an architecture.
    """
    text = trial.user_attrs.get(ARCHITECTURE)
    return None if text is None else Architecture.from_json(text)


def trial_text(
    study: Study,
    trial: FrozenTrial,
    network: RenderableType | None,
    *,
    constraints: SearchConstraints | None = None,
) -> Group:
    """Show a trial: what it is, its network, its metrics and its learning curve.

    Args:
        study: The study of the trial.
        trial: The trial, in any state.
        network: What `network_table` gave, or any other picture of the network; None if there
            is none.
        constraints: The limits of the search.
    """
    parts: list[RenderableType] = [Text(heading(study, trial), style="bold")]
    reason = trial.user_attrs.get(INFEASIBLE)
    if reason:
        parts.append(Text(reason, style="red"))
    if network is not None:
        parts += [Text(), network]
    if ARCHITECTURE not in trial.user_attrs and trial.params:
        parts += [Text(), _grid([(name, str(value)) for name, value in trial.params.items()])]
    rows = metric_rows(trial, statistics.metric_names(study), constraints)
    rows += [*evaluation_rows(trial), *_reference_rows(study, trial)]
    return Group(*parts, Text(), _grid(rows))


def heading(study: Study, trial: FrozenTrial) -> str:
    """Say what became of a trial, in one line."""
    state = {TrialState.COMPLETE: "finished", TrialState.FAIL: "failed"}
    became = state.get(trial.state, trial.state.name.lower())
    if INFEASIBLE in trial.user_attrs:
        became = "infeasible"
    if any(t.number == trial.number for t in statistics.pareto_front(study)):
        became = "on the Pareto front" if len(study.directions) > 1 else "the best so far"
    return f"Trial {trial.number} of {study.study_name}: {became}"


def network_table(architecture: Architecture, parameters: Mapping[str, int]) -> Table:
    """Draw an architecture as text, one line per node.

    Args:
        architecture: The architecture.
        parameters: Trainable numbers of each node, by name.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    rows = node_rows(architecture, parameters)
    names, _, sizes, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    room = _WIDTH - names - sizes - len("parameters") - 6  # for an operation with its inputs
    table.add_column("node", overflow="fold", no_wrap=room >= _WIDTH // 4)
    table.add_column("operation", overflow="fold")
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    for row in rows:
        name, told, *rest = row
        told = told.replace(" ←", "\n←") if len(told) > room else told
        table.add_row(*(Text(cell) for cell in (name, told, *rest)))
    table.add_row("total", "", "", f"{sum(parameters.values()):,}", style="bold")
    return table


def node_rows(
    architecture: Architecture, parameters: Mapping[str, int]
) -> list[tuple[str, str, str, str]]:
    """The lines of `network_table`: name, operation, output shape and parameters of each node.

    A node's inputs are named where they are not just the node of the line before; a name that
    begins with a dot is in the node's own scope.

    Example:
        >>> nodes = (
        ...     Node.make("conv", "conv2d", ["input"], {"channels": 8}),
        ...     Node.make("sum", "add", ["conv", "conv"], {}),
        ...     Node.make("pool", "global_avg_pool", ["sum"], {}),
        ...     Node.make("logits", "linear", ["pool"], {"features": 10}),
        ... )
        >>> network = Architecture(nodes, input_shape=(1, 8, 8), num_classes=10)
        >>> for row in node_rows(network, {"conv": 88, "logits": 90})[2:]:
        ...     print(row[:2], row[3:])
        ('sum', 'add ← conv, conv') ('',)
        ('pool', 'global avg pool') ('',)
        ('logits', 'linear, 10') ('90',)
    """
    rows = [(INPUT, "", shape_text(architecture.input_shape), "")]
    before = INPUT
    for node in architecture.nodes:
        inputs = "" if node.inputs == (before,) else f" ← {', '.join(_relative(node))}"
        count = parameters.get(node.name, 0)
        shape = shape_text(architecture.shapes[node.name])
        words = ", ".join(label(node.operation, dict(node.settings)))
        rows.append((node.name, words + inputs, shape, f"{count:,}" if count else ""))
        before = node.name
    return rows


def _relative(node: Node) -> list[str]:
    scope = node.name.rpartition(".")[0] + "."
    return [name[len(scope) - 1 :] if name.startswith(scope) else name for name in node.inputs]


def metric_rows(
    trial: FrozenTrial, names: Sequence[str], constraints: SearchConstraints | None = None
) -> list[tuple[str, str]]:
    """What is known of a trial's metrics: the objectives first, then the other costs.

    Args:
        trial: A trial.
        names: Names of the study's objectives.
        constraints: The limits of the search.

    Returns:
        Names and texts with unit and limit; an objective that was not measured says so.
    """
    values = measured_values(trial, names)
    limits = {LIMITS[key]: value for key, value in _limits(constraints).items()}
    rows = []
    for name in dict.fromkeys([*names, *values]):
        text = format_value(name, values[name]) if name in values else "not measured"
        if name == "latency_ms" and LATENCY in trial.user_attrs:
            text += f"  ({_measurement(trial.user_attrs[LATENCY])})"
        elif name in values and is_predicted(trial, name):
            text += "  (predicted, not measured)"
        if name in limits:
            sign = "≥" if METRICS[name].maximized else "≤"
            text += f"  [{sign} {format_limit(name, limits[name])}]"
        rows.append((name, text))
    return rows


def _limits(constraints: SearchConstraints | None) -> Mapping[str, float]:
    return constraints.limits if constraints else {}


def measured_values(trial: FrozenTrial, names: Sequence[str]) -> dict[str, float]:
    """Metric values without those that were told only because nothing was measured.

    Args:
        trial: A trial.
        names: Names of the study's objectives.

    Returns:
        Values by metric name, also of costs that are no objective.
    """
    attrs = trial.user_attrs
    values: dict[str, float] = dict(attrs.get(COSTS, {}))
    if LATENCY in attrs:
        values["latency_ms"] = attrs[LATENCY]["median_ms"]
        if "memory_mb" in attrs[LATENCY]:  # measured, and not only counted
            values["memory_mb"] = attrs[LATENCY]["memory_mb"]
    foreign = COSTS not in attrs and INFEASIBLE not in attrs  # another program's trial
    if trial.values and (EPOCHS in attrs or foreign):
        values |= dict(zip(names, trial.values, strict=True))
    return values


def _measurement(latency: Mapping[str, Any]) -> str:
    threads = f"{latency['threads']} thread{'s' if latency['threads'] != 1 else ''}"
    if "table" in latency:
        return f"predicted by {latency['table']}, {threads}, {latency['device']}"
    spread = format_value("latency_ms", latency["iqr_ms"])
    return f"IQR {spread}, {threads}, {latency['device']}"


def evaluation_rows(trial: FrozenTrial) -> list[tuple[str, str]]:
    """What the evaluation of a trial cost and how it went; empty if there was none."""
    attrs, rows = trial.user_attrs, []
    if EPOCHS in attrs:
        epochs = f"{attrs[EPOCHS]:g} epoch{'' if attrs[EPOCHS] == 1 else 's'}"
        cost = f"{epochs}, {attrs[SECONDS]:.1f} s"
        rows.append(("evaluation", cost + ("  (from the cache)" if attrs.get(CACHED) else "")))
    notes = {k: v for k, v in attrs.get(NOTES, {}).items() if k != "predicted"}  # said above
    rows += [(name, text.replace("_", " ")) for name, text in notes.items()]
    told = sorted(trial.intermediate_values.items())  # of a trial that did not finish
    curve = attrs.get(CURVE) or [value for _, value in told]
    if curve:
        rows += [("learning curve", sparkline(curve)), ("", curve_text(curve))]
    return rows


def _reference_rows(study: Study, trial: FrozenTrial) -> list[tuple[str, str]]:
    """What the network reached when it was trained in full to check a cheap evaluator."""
    record = study.user_attrs.get(f"{HEALTH}{trial.number}") or {}
    if "accuracy" not in record:
        return []
    accuracy = format_value("accuracy", record["accuracy"])
    return [("full training", f"{accuracy}  ({record['reference']}, {record['epochs']:g} epochs)")]


def sparkline(curve: Sequence[float]) -> str:
    """Draw a curve in one line, from its lowest to its highest value; long ones are averaged.

    Infinity is drawn as the highest value; minus infinity and NaN as the lowest.

    Example:
        >>> sparkline([0.1, 0.5, 0.9, 0.9])
        '▁▅██'
    """
    parts = np.array_split(np.asarray(curve, dtype=float), min(len(curve), _CURVE_WIDTH))
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        heights = np.array([part.mean() for part in parts])
    finite = np.isfinite(heights)
    low, high = (heights[finite].min(), heights[finite].max()) if finite.any() else (0.0, 0.0)
    levels = (heights - low) / (high - low) if high > low else np.where(finite, 0.5, heights)
    levels = np.nan_to_num(levels, nan=0.0, posinf=1.0, neginf=0.0)
    return "".join(_BLOCKS[round(level * (len(_BLOCKS) - 1))] for level in levels.tolist())


def curve_text(curve: Sequence[float]) -> str:
    """Name the first, the best and the last point of a learning curve.

    Example:
        >>> curve_text([0.1, 0.9, 0.8])
        'first 0.100, best 0.900 (epoch 2), last 0.800'
    """
    best = max(range(len(curve)), key=lambda i: curve[i])
    return f"first {curve[0]:.3f}, best {curve[best]:.3f} (epoch {best + 1}), last {curve[-1]:.3f}"


def _grid(rows: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in rows:
        grid.add_row(Text(name), Text(text))
    return grid

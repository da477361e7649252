"""The front of a study as records, a terminal table and CSV text; the costs of a space."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.table import Table

from nas_optuna.constraints import SearchConstraints
from nas_optuna.errors import StorageError
from nas_optuna.metrics import METRICS
from nas_optuna.recording import COSTS, LATENCY, PREDICTED
from nas_optuna.report import scoring, statistics

ARCHITECTURE_KEY = "nas:architecture"

Record = dict[str, Any]


class CostRow(Protocol):
    """One metric over a sample of a space; see `nas_optuna.profiling.CostRow`."""

    @property
    def metric(self) -> str:
        """Name of the metric."""

    @property
    def minimum(self) -> float:
        """Smallest value."""

    @property
    def median(self) -> float:
        """Median."""

    @property
    def maximum(self) -> float:
        """Largest value."""

    @property
    def limit(self) -> float | None:
        """The limit on it, if there is one."""

    @property
    def share(self) -> float:
        """Share of the sample within the limit, in [0, 1]."""


def pareto_records(
    study: Study,
    *,
    limit: int | None = None,
    weights: Mapping[str, float] | None = None,
    constraints: SearchConstraints | None = None,
) -> list[Record]:
    """The study's front as plain values, ready for JSON; best score first.

    Args:
        study: Any Optuna study.
        limit: Keep at most so many, the most spread-out ones; None keeps all.
        weights: Weight of each metric in the score; see `scoring.scores`.
        constraints: The limits of the search, which scale the score.

    Returns:
        One record per trial with `number`, `values` (by metric name), `params`, `architecture`
        (None where the trial holds none), `predicted` (names of the values that nothing measured)
        and `score` (None where an objective is no metric of this package; records are then in
        the order of their numbers).

    Raises:
        UnknownNameError: A weight is for a metric the study does not have.
        SettingError: `limit` is below 1, or a weight is out of range.
        StorageError: A trial holds an architecture that is not JSON.
    """
    front = statistics.pareto_front(study)
    names = statistics.metric_names(study)
    if limit is not None:
        columns = statistics.minimised(statistics.values_of(front), study.directions)
        front = [front[i] for i in statistics.spread(columns, limit)]
    scores = _scores(front, names, weights, constraints)
    records = [_record(trial, names, score) for trial, score in zip(front, scores, strict=True)]
    return sorted(records, key=lambda record: (-(record["score"] or 0.0), record["number"]))


def pareto_table(records: Sequence[Record], *, title: str | None = None) -> Table:
    """Show records as a table: number, one column per metric, score; `~` marks predictions.

    Args:
        records: What `pareto_records` gave.
        title: A line above the table.
    """
    table = Table(title=title, title_style="bold")
    if any(record["predicted"] for record in records):
        table.caption = "~ predicted, not measured"
    names = list(records[0]["values"]) if records else []
    table.add_column("trial", justify="right")
    for name in names:
        table.add_column(_heading(name), justify="right")
    if records and records[0]["score"] is not None:
        table.add_column("score ↑", justify="right")
    for record in records:
        cells = [
            "~" * (name in record["predicted"]) + format_value(name, record["values"][name])
            for name in names
        ]
        if record["score"] is not None:
            cells.append(f"{record['score']:.3f}")
        table.add_row(str(record["number"]), *cells)
    return table


def profile_table(rows: Iterable[CostRow], *, feasible: float, title: str | None = None) -> Table:
    """Show what a space costs, and which share of it each limit and all together let through.

    Args:
        rows: One per metric.
        feasible: Share of the sample that is within all limits, in [0, 1].
        title: A line above the table.
    """
    table = Table(title=title, title_style="bold")
    for heading in ("cost", "min", "median", "max", "limit", "within"):
        table.add_column(heading, justify="left" if heading == "cost" else "right")
    for row in rows:
        values = (row.minimum, row.median, row.maximum)
        table.add_row(
            row.metric,
            *(format_value(row.metric, value) for value in values),
            "-" if row.limit is None else format_limit(row.metric, row.limit),
            "-" if row.limit is None else percent(row.share),
        )
    table.add_section()
    table.add_row("all limits", "", "", "", "", percent(feasible), style="bold")
    return table


def pareto_csv(records: Sequence[Record]) -> str:
    """Write records as CSV text with a heading line, numbers in full; `architecture` as JSON.

    Columns: `number`, the metrics, `score`, `predicted` (names), the parameters as
    `params_<name>`, `architecture`.
    A parameter that a trial did not have is empty.
    """
    rows = [_row(record) for record in records]
    params = sorted({key for row in rows for key in row if key.startswith("params_")})
    metrics = list(records[0]["values"]) if records else []
    columns = ["number", *metrics, "score", "predicted", *params, "architecture"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def format_value(name: str, value: float) -> str:
    """Write a metric's value as people read it, with its unit.

    Example:
        >>> format_value("parameters", 12345.0), format_value("accuracy", 0.98299)
        ('12,345', '0.983')
        >>> format_value("latency_ms", 0.4211), format_value("memory_mb", 1234.5)
        ('0.42 ms', '1,234.50 MB')
    """
    known = METRICS.get(name)
    unit = f" {known.unit}" if known and known.unit else ""
    if unit:
        small = 0 < abs(value) < 0.1  # two decimals would leave nothing of it
        return f"{value:.2g}{unit}" if small else f"{value:,.2f}{unit}"
    if float(value).is_integer() and name not in ("accuracy", "loss"):  # infinity is none
        return f"{value:,.0f}"
    return f"{value:,.3f}"


def format_limit(name: str, limit: float) -> str:
    """Write a limit on a metric as it was given, with its unit.

    Example:
        >>> format_limit("latency_ms", 100.0), format_limit("parameters", 50_000_000)
        ('100 ms', '50,000,000')
    """
    unit = f" {METRICS[name].unit}" if METRICS[name].unit else ""
    return f"{limit:,.0f}{unit}" if limit == round(limit) else f"{limit:,g}{unit}"


def _scores(
    front: Sequence[FrozenTrial],
    names: Sequence[str],
    weights: Mapping[str, float] | None,
    constraints: SearchConstraints | None,
) -> list[float | None]:
    if weights is None and not statistics.are_metrics(names):
        return [None] * len(front)
    values = statistics.values_of(front)
    scores = scoring.scores(values, names, weights=weights, constraints=constraints)
    return [float(score) for score in scores]


def _record(trial: FrozenTrial, names: Sequence[str], score: float | None) -> Record:
    return {
        "number": trial.number,
        "values": dict(zip(names, trial.values, strict=True)),
        "params": dict(trial.params),
        "architecture": _architecture(trial),
        "predicted": [name for name in names if is_predicted(trial, name)],
        "score": score,
    }


def is_predicted(trial: FrozenTrial, name: str) -> bool:
    """Whether nothing measured or counted a metric of a trial.

    Args:
        trial: A finished trial.
        name: The metric.
    """
    attrs = trial.user_attrs
    latency = attrs.get(LATENCY, {})
    if name == "latency_ms" and latency:
        return "table" in latency
    return PREDICTED in attrs and name not in attrs.get(COSTS, {})


def _architecture(trial: FrozenTrial) -> Any:
    text = trial.user_attrs.get(ARCHITECTURE_KEY)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        raise StorageError(
            f"Trial {trial.number} holds an architecture in {ARCHITECTURE_KEY!r} that is not "
            "JSON; another program may have changed it."
        ) from None


def _row(record: Record) -> Record:
    drawing = record["architecture"]
    return {
        "number": record["number"],
        **record["values"],
        "score": record["score"],
        "predicted": " ".join(record["predicted"]),
        **{f"params_{name}": value for name, value in record["params"].items()},
        "architecture": "" if drawing is None else json.dumps(drawing),
    }


def percent(share: float, digits: int = 0) -> str:
    """Write a share.

    Example:
        >>> percent(0.914), percent(0.914, 1)
        ('91 %', '91.4 %')
    """
    return f"{share:.{digits}%}".replace("%", " %")


def _heading(name: str) -> str:
    known = METRICS.get(name)
    if known is None:
        return name
    return f"{name} {'↑' if known.maximized else '↓'}"

"""The networks of a study's front: in a table, and the most spread-out ones with diagrams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_optuna.constraints import SearchConstraints
from nas_optuna.errors import NasOptunaError
from nas_optuna.recording import ARCHITECTURE, EPOCHS, SECONDS
from nas_optuna.report import statistics
from nas_optuna.report.charts import Chart, Curve, Panel, palette
from nas_optuna.report.comparison_tables import Sheet
from nas_optuna.report.diagram import diagram_svg
from nas_optuna.report.document import Block, Cards, Drawing, Facts, Subheading, Text
from nas_optuna.report.pictures import learning_curve
from nas_optuna.report.show import architecture_of, evaluation_rows, metric_rows
from nas_optuna.report.tables import Record, format_value
from nas_optuna.report.words import network_words

_DRAWN = 8  # members of a front with a diagram


def front_table(trials: Sequence[FrozenTrial], records: Sequence[Record]) -> Iterator[Block]:
    """All members of a front: their values, and what it cost to judge them.

    Args:
        trials: All trials of the study, by number.
        records: What `pareto_records` gave, at least one.
    """
    scored = records[0]["score"] is not None
    names = records[0]["values"]
    headings = ("trial", *names, *(["score"] if scored else []), "epochs", "seconds")
    rows = tuple(_row(trials[record["number"]], record) for record in records)
    yield Sheet("", headings, rows)
    if any(record["predicted"] for record in records):
        yield Text("~ is predicted, not measured.", note=True)


def _row(trial: FrozenTrial, record: Record) -> tuple[str, ...]:
    attrs = trial.user_attrs
    values = [
        "~" * (name in record["predicted"]) + format_value(name, value)
        for name, value in record["values"].items()
    ]
    score = [] if record["score"] is None else [f"{record['score']:.3f}"]
    cost = [f"{attrs[EPOCHS]:g}" if EPOCHS in attrs else "-"]
    cost += [f"{attrs[SECONDS]:.1f}" if SECONDS in attrs else "-"]
    return (str(record["number"]), *values, *score, *cost)


def network_blocks(
    study: Study, records: Sequence[Record], constraints: SearchConstraints | None
) -> Iterator[Block]:
    """Diagrams, costs and learning curves of at most eight members of a front.

    Args:
        study: The study.
        records: What `pareto_records` gave, at least one.
        constraints: The limits of the search.
    """
    rows = [list(record["values"].values()) for record in records]
    columns = statistics.minimised(rows, study.directions)
    shown = [records[i]["number"] for i in statistics.spread(columns, _DRAWN)]
    if len(shown) < len(records):
        yield Text(
            f"The {len(shown)} most spread-out of {len(records):,}; "
            "`nas-optuna show --trial N --diagram FILE` draws the others.",
            note=True,
        )
    everything = study.get_trials(deepcopy=False)
    trials = [everything[number] for number in sorted(shown)]
    curves = _curves_of(trials)
    if curves is not None:
        yield curves
    names = statistics.metric_names(study)
    yield Cards(tuple(tuple(_network(trial, names, constraints)) for trial in trials))


def _network(
    trial: FrozenTrial, names: Sequence[str], constraints: SearchConstraints | None
) -> Iterator[Block]:
    yield Subheading(f"Trial {trial.number}")
    yield Facts((*metric_rows(trial, names, constraints), *evaluation_rows(trial)))
    yield _diagram(trial)
    if ARCHITECTURE not in trial.user_attrs and trial.params:
        yield Facts(tuple((name, str(value)) for name, value in trial.params.items()))


def _curves_of(trials: Sequence[FrozenTrial]) -> Chart | None:
    """The learning curves of some networks; None if nothing was trained."""
    curves = {f"trial {trial.number}": learning_curve(trial) for trial in trials}
    curves = {name: curve for name, curve in curves.items() if len(curve[0]) > 1}
    if not curves:
        return None
    colours = palette(curves)
    marks = tuple(
        Curve(name, np.array(epochs), np.array(values), colour=colours[name])
        for name, (epochs, values) in curves.items()
    )
    panel = Panel("epoch", "validation accuracy", marks)
    return Chart("networks", "Learning curves", "Learning curves of these networks.", (panel,))


def _diagram(trial: FrozenTrial) -> Block:
    if ARCHITECTURE not in trial.user_attrs:
        return Text("Its space returns a module, so there is no graph to draw.", note=True)
    try:
        architecture = architecture_of(trial)
        assert architecture is not None
        words = network_words(trial.user_attrs[ARCHITECTURE])
        return Drawing(diagram_svg(architecture), words)
    except NasOptunaError as error:
        return Text(f"It cannot be drawn: {error}", note=True)

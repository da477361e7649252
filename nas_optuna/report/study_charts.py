"""The charts of one study: for each, the numbers that are drawn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import combinations

import moocore
import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.metrics import METRICS
from nas_optuna.recording import CACHED, FINISHED
from nas_optuna.report import statistics
from nas_optuna.report.charts import Chart, Cloud, Curve, Mark, Panel, Points
from nas_optuna.report.comparison_charts import AXES
from nas_optuna.report.indicators import growth, spanned
from nas_optuna.report.landscape import FEASIBLE, FRONT, INFEASIBLE, Landscape
from nas_optuna.report.pictures import learning_curve
from nas_optuna.report.runs import BUDGETS, Limits, Run, read_run
from nas_optuna.report.scoring import FloatArray
from nas_optuna.report.tables import format_value

PRUNED = "stopped early"
COLOURS = {
    INFEASIBLE: "#b6c2cf", FEASIBLE: "#56b4e9", PRUNED: "#e69f00", FRONT: "#d55e00",
}  # fmt: skip
_SIZES = {INFEASIBLE: 5.0, FEASIBLE: 6.0, FRONT: 9.0}
_MOST_CURVES = {FRONT: 40, PRUNED: 30, FEASIBLE: 30}  # more would be a carpet
_MOST_EPOCHS = 60  # of a curve that are drawn
_NOTHING = "No trial has finished yet."
_NOTHING_FEASIBLE = "No feasible network has been found yet."


def front_chart(seen: Landscape) -> Chart:
    """All finished trials on the plane of each two objectives; of a single one, by number."""
    if len(seen.names) == 1:
        numbers = np.array([trial.number for trial in seen.trials], dtype=np.float64)
        points = _points(seen, lambda rows: (numbers[rows], seen.values[rows, 0], None))
        log = (False, seen.logarithmic[0])
        panels = [Panel("trial", axis_label(seen.names[0]), tuple(points), logarithmic=log)]
    else:
        panels = [_plane(seen, j, i) for i, j in combinations(range(len(seen.names)), 2)]
    title = "Pareto front" if len(seen.names) > 1 else "Trials"
    return Chart("front", title, _front_text(seen), tuple(panels), columns=min(len(panels), 3))


def _plane(seen: Landscape, x: int, y: int) -> Panel:
    marks: list[Mark] = list(
        _points(seen, lambda rows: (seen.values[rows, x], seen.values[rows, y], None))
    )
    feasible = seen.kinds != INFEASIBLE
    if feasible.any():
        marks.append(_stairs(seen, feasible, x, y))
    return Panel(
        axis_label(seen.names[x]),
        axis_label(seen.names[y]),
        tuple(marks),
        logarithmic=(seen.logarithmic[x], seen.logarithmic[y]),
    )


def _stairs(seen: Landscape, feasible: np.ndarray, x: int, y: int) -> Curve:
    """The front of two objectives: a value holds until the next member is affordable."""
    losses = seen.losses[feasible][:, [x, y]]
    kept = np.flatnonzero(moocore.is_nondominated(losses, keep_weakly=False))
    ordered = seen.values[feasible][kept[np.argsort(losses[kept, 0])]]
    name = "front" if len(seen.names) == 2 else "front of these two alone"
    return Curve(name, ordered[:, x], ordered[:, y], colour=COLOURS[FRONT], step=True)


def _points(
    seen: Landscape,
    place: Callable[[np.ndarray], tuple[FloatArray, FloatArray, FloatArray | None]],
) -> list[Points]:
    """One mark for each kind of trial, the front last, so that nothing lies on it."""
    marks = []
    for kind, size in _SIZES.items():
        rows = np.flatnonzero(seen.kinds == kind)
        if len(rows):
            x, y, z = place(rows)
            texts = tuple(seen.text(i) for i in rows.tolist())
            marks.append(Points(kind, x, y, z, texts, COLOURS[kind], size=size))
    return marks


def front_cloud(seen: Landscape) -> Cloud | None:
    """All finished trials in the space of the first three objectives; None for fewer."""
    if len(seen.names) < 3 or not seen.trials:
        return None
    columns = (2, 1, 0)  # the first objective upwards

    def place(rows: np.ndarray) -> tuple[FloatArray, FloatArray, FloatArray]:
        x, y, z = (seen.values[rows, column] for column in columns)
        return x, y, z

    x, y, z = (axis_label(seen.names[column]) for column in columns)
    log_x, log_y, log_z = (seen.logarithmic[column] for column in columns)
    more = " Of more than three objectives these are the first." if len(seen.names) > 3 else ""
    return Cloud(
        title="Pareto front in three dimensions",
        text="Drag to turn it, scroll to come closer." + more,
        axes=(x, y, z),
        marks=tuple(_points(seen, place)),
        logarithmic=(log_x, log_y, log_z),
    )


def _front_text(seen: Landscape) -> str:
    if not seen.trials:
        return _NOTHING
    counts = {kind: int((seen.kinds == kind).sum()) for kind in _SIZES}
    text = f"{len(seen.trials):,} finished trials, {counts[FRONT]:,} on the front"
    if not counts[INFEASIBLE]:
        return text + "."
    text += f"; {counts[INFEASIBLE]:,} infeasible ones in grey"
    unknown = "" if seen.measured.all() else ", at the edge where a value was not measured"
    return f"{text}{unknown}."


def axis_label(name: str) -> str:
    """Name of an objective with its unit.

    Example:
        >>> axis_label("memory_mb"), axis_label("value_0")
        ('memory_mb (MB)', 'value_0')
    """
    unit = METRICS[name].unit if name in METRICS else ""
    return f"{name} ({unit})" if unit else name


def growth_chart(study: Study) -> Chart:
    """Hypervolume over what was spent; of a single objective, the best value."""
    run = read_run(study, sampler="", seed=0, limits=Limits(sys.maxsize))
    names = statistics.metric_names(study)
    if len(names) > 1:
        name, title, label = "hypervolume", "Hypervolume over what was spent", "hypervolume"
    else:
        name, title, label = "best", f"Best {names[0]} over what was spent", f"best {names[0]}"
    known = run.values[run.feasible]
    if not len(known):
        return Chart(name, title, _NOTHING_FEASIBLE, (Panel(AXES["trials"], label, ()),))
    losses = statistics.minimised(run.values, study.directions)
    best, worst = spanned(losses[run.feasible])
    if len(names) > 1:
        reached = growth(losses, best, worst)
        text = _ruler_text(names, statistics.minimised([best, worst], study.directions))
    else:
        reached = statistics.minimised(np.fmin.accumulate(losses), study.directions)[:, 0]
        text = "From the first feasible network on."
    spent = [budget for budget in BUDGETS if run.total(budget) > 0]
    panels = [Panel(AXES[budget], label, (_grown(run, budget, reached),)) for budget in spent]
    return Chart(name, title, text, tuple(panels))


def _grown(run: Run, budget: str, reached: FloatArray) -> Curve:
    """What was reached, at the trials that changed it, the first and the last one."""
    turns = np.append(True, reached[1:] != reached[:-1]) & np.isfinite(reached)
    turns[-1] = np.isfinite(reached[-1])
    return Curve("", run.spent[budget][turns], reached[turns], colour=COLOURS[FRONT], step=True)


def _ruler_text(names: Sequence[str], ends: FloatArray) -> str:
    (ideal, reference) = ends.tolist()
    sides = [
        f"{name} from {_rounded(name, worst)} to {_rounded(name, best)}"
        for name, best, worst in zip(names, ideal, reference, strict=True)
    ]
    return (
        f"Share of a box that the front covers: {', '.join(sides)} (reference point to ideal "
        "point, spanned by the front of today, a tenth wider at the reference)."
    )


def _rounded(name: str, value: float) -> str:
    # A reference point has fractions where no network has any.
    return format_value(name, round(value) if abs(value) >= 1000 else value)


def curves_chart(study: Study) -> Chart:
    """Learning curves: those of the front, of trainings that were stopped early, and others."""
    front = {trial.number for trial in statistics.pareto_front(study)}
    groups: dict[str, list[FrozenTrial]] = {kind: [] for kind in (FEASIBLE, PRUNED, FRONT)}
    for trial in study.get_trials(deepcopy=False, states=FINISHED):
        repeated = CACHED in trial.user_attrs and trial.number not in front  # a curve seen before
        if not repeated and len(learning_curve(trial)[0]) > 0:
            pruned = trial.state is TrialState.PRUNED
            kind = FRONT if trial.number in front else PRUNED if pruned else FEASIBLE
            groups[kind].append(trial)
    drawn = {kind: _some(trials, _MOST_CURVES[kind]) for kind, trials in groups.items()}
    marks: list[Mark] = [_lines(kind, trials) for kind, trials in drawn.items() if trials]
    if drawn[PRUNED]:
        marks.append(_ends(drawn[PRUNED]))
    total, shown = (sum(map(len, of.values())) for of in (groups, drawn))
    if not total:
        text = "No training has reported its epochs yet."
    else:
        part = f"{shown:,} of {total:,} curves, evenly chosen" if shown < total else "All curves"
        text = f"{part}; a cross marks where the pruner stopped a training."
        text = text if drawn[PRUNED] else f"{part}."
    panel = Panel("epoch", "validation accuracy", tuple(marks))
    return Chart("curves", "Learning curves", text, (panel,), columns=1)


def _some(trials: Sequence[FrozenTrial], most: int) -> list[FrozenTrial]:
    return [trials[i] for i in _evenly(len(trials), most)]


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of `count` indices, the first and the last among them."""
    if count <= most:
        return list(range(count))
    places: list[int] = np.linspace(0, count - 1, most).round().astype(int).tolist()
    return places


def _lines(kind: str, trials: Sequence[FrozenTrial]) -> Points:
    xs: list[float] = []
    ys: list[float] = []
    texts: list[str] = []
    for trial in trials:
        epochs, values = learning_curve(trial)
        for i in _evenly(len(epochs), _MOST_EPOCHS):
            xs.append(epochs[i])
            ys.append(values[i])
            texts.append(f"trial {trial.number}, epoch {epochs[i]:g}\n{values[i]:.3f}")
        xs.append(np.nan)  # the line ends here
        ys.append(np.nan)
        texts.append("")
    return Points(
        kind, np.array(xs), np.array(ys), texts=tuple(texts), colour=COLOURS[kind],
        size=4.0 if kind == FRONT else 2.5, joined=True,
    )  # fmt: skip


def _ends(trials: Sequence[FrozenTrial]) -> Points:
    curves = [learning_curve(trial) for trial in trials]
    return Points(
        "where it was stopped",
        np.array([epochs[-1] for epochs, _ in curves]),
        np.array([values[-1] for _, values in curves]),
        texts=tuple(f"trial {t.number}\nstopped early" for t in trials),
        colour=COLOURS[PRUNED], symbol="x", size=9.0,
    )  # fmt: skip

"""The pictures of a trial: its network as SVG and its learning curve as PNG."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.architecture import Architecture
from nas_optuna.recording import ARCHITECTURE, CURVE
from nas_optuna.report.charts import COLOURS, Chart, Curve, Panel
from nas_optuna.report.diagram import diagram_svg
from nas_optuna.report.images import chart_png

_LEAST_POINTS = 2  # of a curve
_one_at_a_time = threading.Lock()  # matplotlib is not made for threads


@dataclass(frozen=True, slots=True)
class Picture:
    """A kind of picture that a trial may have.

    Args:
        filename: Name of the file.
        mimetype: What kind of file it is.
        there_is: Whether a trial has what is drawn; that it can be drawn is not sure.
        draw: Returns the content of the file for a trial that has one; raises a
            `NasOptunaError` if it cannot be drawn.
    """

    filename: str
    mimetype: str
    there_is: Callable[[FrozenTrial], bool]
    draw: Callable[[FrozenTrial], bytes]


def learning_curve(trial: FrozenTrial) -> tuple[list[float], list[float]]:
    """Epochs and validation accuracy of a trial: kept at its end, or reported so far."""
    curve = trial.user_attrs.get(CURVE)
    if curve:
        return [float(epoch) for epoch in range(1, len(curve) + 1)], [float(v) for v in curve]
    told = sorted(trial.intermediate_values.items())
    return [float(step) for step, _ in told], [value for _, value in told]


def curve_chart(trial: FrozenTrial) -> Chart:
    """The learning curve of a trial, with where it ended if it was stopped early."""
    epochs, values = learning_curve(trial)
    ended = {TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}.get(trial.state)
    title = f"Trial {trial.number}" + (f", {ended} after epoch {epochs[-1]:g}" if ended else "")
    line = Curve("validation accuracy", np.array(epochs), np.array(values), colour=COLOURS[0])
    return Chart("learning-curve", title, "", (Panel("epoch", "", (line,)),))


def _draw_network(trial: FrozenTrial) -> bytes:
    return diagram_svg(Architecture.from_json(trial.user_attrs[ARCHITECTURE])).encode()


def _draw_curve(trial: FrozenTrial) -> bytes:
    with _one_at_a_time:
        return chart_png(curve_chart(trial))


PICTURES = (
    Picture(
        "learning-curve.png",
        "image/png",
        lambda trial: len(learning_curve(trial)[0]) >= _LEAST_POINTS,
        _draw_curve,
    ),
    Picture(
        "network.svg",
        "image/svg+xml",
        lambda trial: ARCHITECTURE in trial.user_attrs,
        _draw_network,
    ),
)

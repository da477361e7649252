"""The finished trials of a study as points: what they are, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.report import statistics
from nas_optuna.report.scoring import FloatArray
from nas_optuna.report.show import measured_values
from nas_optuna.report.tables import format_value, is_predicted

FRONT, FEASIBLE, INFEASIBLE = "on the front", "feasible", "infeasible"
_LOGARITHMIC = 30.0  # ratio of the largest to the smallest value from which an axis is so
_EDGE = 0.06  # of an axis, beyond the worst value, for what was not measured


@dataclass(frozen=True, slots=True)
class Landscape:
    """Finished trials as points.

    Args:
        names: `(m,)` names of the objectives.
        signs: `(m,)` 1.0 where an objective is minimised, -1.0 where it is maximised.
        trials: `(n,)` the trials, by number.
        kinds: `(n,)` `FRONT`, `FEASIBLE` or `INFEASIBLE`.
        values: `(n, m)` their values; what was not measured is put beyond the worst value.
        measured: `(n, m)` whether each was measured.
        logarithmic: `(m,)` whether values are far enough apart for a logarithmic axis.
    """

    names: tuple[str, ...]
    signs: FloatArray
    trials: tuple[FrozenTrial, ...]
    kinds: np.ndarray
    values: FloatArray
    measured: np.ndarray
    logarithmic: tuple[bool, ...]

    @property
    def losses(self) -> FloatArray:
        """`(n, m)` the values, smaller is better."""
        return self.values * self.signs

    def text(self, index: int) -> str:
        """What is shown to whom points at a trial."""
        trial = self.trials[index]
        lines = [f"trial {trial.number}"]
        for name, value, known in zip(
            self.names, self.values[index], self.measured[index], strict=True
        ):
            mark = "~" if is_predicted(trial, name) else ""
            told = mark + format_value(name, float(value)) if known else "not measured"
            lines.append(f"{name} {told}")
        return "\n".join(lines)


def landscape(study: Study) -> Landscape:
    """Read the finished trials of a study.

    A trial with a value that is not finite measured nothing and is left out.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [trial for trial in trials if np.isfinite(trial.values).all()]
    names = tuple(statistics.metric_names(study))
    front = {trial.number for trial in statistics.pareto_front(study)}
    kinds = np.array([_kind(trial, front) for trial in trials], dtype=object)
    rows = [_known(t, names, kind) for t, kind in zip(trials, kinds, strict=True)]
    values = np.array(rows, dtype=np.float64).reshape(-1, len(names))
    signs = statistics.minimised(np.ones((1, len(names))), study.directions)[0]
    measured = np.isfinite(values)
    logarithmic = []
    for i, sign in enumerate(signs.tolist()):
        known = values[measured[:, i], i]
        logarithmic.append(_is_wide(known))
        values[~measured[:, i], i] = _edge(known, sign, logarithmic=logarithmic[i])
    return Landscape(
        names, signs, tuple(trials), kinds, values, measured, tuple(logarithmic)
    )  # fmt: skip


def _kind(trial: FrozenTrial, front: set[int]) -> str:
    if trial.number in front:
        return FRONT
    return FEASIBLE if statistics.is_feasible(trial) else INFEASIBLE


def _known(trial: FrozenTrial, names: Sequence[str], kind: str) -> list[float]:
    if kind != INFEASIBLE:
        return list(trial.values)
    known = measured_values(trial, names)
    return [known.get(name, np.nan) for name in names]


def _is_wide(values: FloatArray) -> bool:
    return bool(len(values)) and 0 < values.min() * _LOGARITHMIC <= values.max()


def _edge(values: FloatArray, sign: float, *, logarithmic: bool) -> float:
    if not len(values):
        return 0.0
    marks = np.log(values) if logarithmic else values
    width = float(np.ptp(marks)) or 1.0
    place = float(sign * (marks * sign).max() + sign * _EDGE * width)
    return float(np.exp(place)) if logarithmic else place

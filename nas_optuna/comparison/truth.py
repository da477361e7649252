"""What there is to be found, where an evaluator has all networks in a table."""

from __future__ import annotations

import numpy as np

from nas_optuna.constraints import LIMITS
from nas_optuna.evaluators import Tabular
from nas_optuna.objective import Objective
from nas_optuna.report.indicators import front_of
from nas_optuna.report.outcome import Truth


def known_truth(objective: Objective) -> Truth | None:
    """Return the true front of a tabular objective.

    Returns:
        The front; None if the evaluator is no table, or if an objective or a limit is on what
        the table does not hold.
    """
    table = objective.evaluator
    if not isinstance(table, Tabular):
        return None
    asked = {*objective.metrics, *(LIMITS[name] for name in objective.limits)}
    if not asked <= table.provides:
        return None
    rows = [row.values for row in table.rows() if not objective.breaks(row.values)]
    if not rows:
        return None
    values = np.array([[row[name] for name in objective.metrics] for row in rows])
    return Truth(table.source, front_of(values, objective.metrics))

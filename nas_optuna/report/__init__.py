"""What a study found: numbers first, then tables of them."""

from nas_optuna.report.diagram import diagram_png, diagram_svg
from nas_optuna.report.scoring import Scale, scales, scores
from nas_optuna.report.statistics import (
    feasible_trials,
    front_hypervolume,
    hypervolume,
    is_feasible,
    pareto_front,
    spread,
    study_hypervolume,
)
from nas_optuna.report.tables import (
    format_value,
    pareto_csv,
    pareto_records,
    pareto_table,
    profile_table,
)

__all__ = [
    "Scale",
    "diagram_png",
    "diagram_svg",
    "feasible_trials",
    "format_value",
    "front_hypervolume",
    "hypervolume",
    "is_feasible",
    "pareto_csv",
    "pareto_front",
    "pareto_records",
    "pareto_table",
    "profile_table",
    "scales",
    "scores",
    "spread",
    "study_hypervolume",
]

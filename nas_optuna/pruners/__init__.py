"""Stopping trainings early, in studies of one objective and of several."""

from nas_optuna.pruners.pareto import ParetoPruner
from nas_optuna.pruners.reporting import report, should_prune
from nas_optuna.pruners.view import ObjectiveViewStorage

__all__ = ["ObjectiveViewStorage", "ParetoPruner", "report", "should_prune"]

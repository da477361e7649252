"""Evaluators: how good is an architecture? Some train it, others estimate."""

from nas_optuna.evaluators.base import Candidate, Evaluator, Report
from nas_optuna.evaluators.loop import Score, Stopping, TrainingResult, score, train
from nas_optuna.evaluators.recipe import TrainingSettings, pick_device, seeded
from nas_optuna.evaluators.training import EarlyStopping, FullTraining

__all__ = [
    "Candidate",
    "EarlyStopping",
    "Evaluator",
    "FullTraining",
    "Report",
    "Score",
    "Stopping",
    "TrainingResult",
    "TrainingSettings",
    "pick_device",
    "score",
    "seeded",
    "train",
]

"""Evaluators: how good is an architecture? Some train it, others estimate."""

from nas_optuna.evaluators.base import Candidate, Evaluator, Finished, Report
from nas_optuna.evaluators.ensemble import Ensemble, Prediction
from nas_optuna.evaluators.loop import Score, Stopping, TrainingResult, score, train
from nas_optuna.evaluators.prediction import PerformancePrediction
from nas_optuna.evaluators.proxy_task import ProxyTask
from nas_optuna.evaluators.recipe import TrainingSettings, pick_device
from nas_optuna.evaluators.scaling import scaled
from nas_optuna.evaluators.tabular import Row, Tabular
from nas_optuna.evaluators.training import EarlyStopping, FullTraining
from nas_optuna.evaluators.weight_sharing import WeightSharing
from nas_optuna.evaluators.zero_cost import ZeroCost
from nas_optuna.models import seeded

__all__ = [
    "Candidate",
    "EarlyStopping",
    "Ensemble",
    "Evaluator",
    "Finished",
    "FullTraining",
    "PerformancePrediction",
    "Prediction",
    "ProxyTask",
    "Report",
    "Row",
    "Score",
    "Stopping",
    "Tabular",
    "TrainingResult",
    "TrainingSettings",
    "WeightSharing",
    "ZeroCost",
    "pick_device",
    "scaled",
    "score",
    "seeded",
    "train",
]

"""Study databases: opening them, the cache of evaluations, and who runs which trial."""

from nas_optuna.storage.engine import Storage, engine_of, mask, open, reason
from nas_optuna.storage.evaluations import EvaluationCache, EvaluationKey
from nas_optuna.storage.ownership import draw_index, reap, retry

__all__ = [
    "EvaluationCache",
    "EvaluationKey",
    "Storage",
    "draw_index",
    "engine_of",
    "mask",
    "open",
    "reap",
    "reason",
    "retry",
]

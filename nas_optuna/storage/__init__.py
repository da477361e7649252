"""Study databases: opening them, what is kept in them beside trials, and who runs which trial."""

from nas_optuna.storage.claims import Claims, claimed
from nas_optuna.storage.engine import Storage, engine_of, mask, open, reason, without_secrets
from nas_optuna.storage.evaluations import EvaluationCache, EvaluationKey
from nas_optuna.storage.ownership import draw_index, reap, retry
from nas_optuna.storage.states import SamplerStates, State, Stored

__all__ = [
    "Claims",
    "EvaluationCache",
    "EvaluationKey",
    "SamplerStates",
    "State",
    "Storage",
    "Stored",
    "claimed",
    "draw_index",
    "engine_of",
    "mask",
    "open",
    "reap",
    "reason",
    "retry",
    "without_secrets",
]

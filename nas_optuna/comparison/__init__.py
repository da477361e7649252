"""Compare samplers so that the verdict can be believed: samplers x seeds, each a study."""

from nas_optuna.comparison.plan import BASELINES, Comparison, Entry
from nas_optuna.comparison.truth import known_truth
from nas_optuna.comparison.working import default_workers, run

__all__ = ["BASELINES", "Comparison", "Entry", "default_workers", "known_truth", "run"]

"""The strategies that come with the package, one entry each.

A strategy's file holds the whole strategy and a function `create(settings)`. Files that import
torch or scikit-learn are imported when a sampler is made, not when the table is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from optuna.samplers import BaseSampler

from nas_optuna.samplers import seeded
from nas_optuna.samplers.registry import Settings, Strategy, register


def _on_use(module: str) -> Callable[[Settings], BaseSampler]:
    """Return a factory that imports `nas_optuna.samplers.{module}` when it is first called."""

    def create(settings: Settings) -> BaseSampler:
        made: BaseSampler = importlib.import_module(f"{__package__}.{module}").create(settings)
        return made

    return create


register(Strategy("random", "independent draws; the baseline of every comparison", seeded.random))
register(Strategy("tpe", "Parzen estimators of good and bad architectures, jointly", seeded.tpe))
register(
    Strategy(
        "nsga2",
        "evolution by non-dominated sorting, with the space's own crossover and mutation",
        _on_use("evolution"),
    )
)
register(
    Strategy("reinforce", "an LSTM controller, trained by policy gradient", _on_use("reinforce"))
)
register(
    Strategy("darts", "differentiable search: the alphas of a trained supernet", _on_use("darts"))
)
register(
    Strategy("progressive", "TPE from simple networks to complex ones", _on_use("progressive"))
)
register(
    Strategy(
        "surrogate",
        "a Gaussian process over genes and graphs, optimistic about mutants of the best",
        _on_use("surrogate"),
    )
)
register(Strategy("local", "hill climbing over neighbours, with restarts", _on_use("local")))
register(Strategy("gp", "Optuna's Gaussian process", _on_use("gp")))

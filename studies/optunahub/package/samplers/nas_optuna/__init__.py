"""The search strategies of nas_optuna, as a package of OptunaHub."""

from nas_optuna.samplers import create, names

__all__ = ["create", "names"]

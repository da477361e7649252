"""Search strategies as Optuna samplers, by name: `create("nsga2", space=space, seed=0)`."""

import nas_optuna.samplers.catalogue  # noqa: F401 - fills the table
from nas_optuna.samplers.registry import (
    STRATEGIES,
    Settings,
    Space,
    Strategy,
    create,
    names,
    register,
)
from nas_optuna.samplers.seeded import SeededSampler

__all__ = [
    "STRATEGIES",
    "SeededSampler",
    "Settings",
    "Space",
    "Strategy",
    "create",
    "names",
    "register",
]

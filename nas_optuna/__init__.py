"""Neural architecture search for people who use Optuna."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_optuna import (
        data,
        errors,
        evaluators,
        export,
        models,
        profiling,
        pruners,
        report,
        samplers,
        spaces,
        storage,
    )
    from nas_optuna.architecture import Architecture
    from nas_optuna.builder import ArchitectureBuilder
    from nas_optuna.constraints import SearchConstraints
    from nas_optuna.escape import Escape
    from nas_optuna.health import ProxyHealth
    from nas_optuna.metrics import METRICS, Metric, Metrics
    from nas_optuna.models import LatencyTable
    from nas_optuna.objective import Objective
    from nas_optuna.search import Search
    from nas_optuna.timing import LatencySettings

__version__ = "0.1.0"

# Resolved on first use, so that `import nas_optuna` costs no torch.
_MODULES = (
    "data", "errors", "evaluators", "export", "models", "profiling", "pruners", "report",
    "samplers", "spaces", "storage",
)  # fmt: skip
_NAMES = {
    "Architecture": "architecture",
    "ArchitectureBuilder": "builder",
    "Escape": "escape",
    "LatencySettings": "timing",
    "LatencyTable": "models",
    "METRICS": "metrics",
    "Metric": "metrics",
    "Metrics": "metrics",
    "Objective": "objective",
    "ProxyHealth": "health",
    "Search": "search",
    "SearchConstraints": "constraints",
}

__all__ = [
    "METRICS",
    "Architecture",
    "ArchitectureBuilder",
    "Escape",
    "LatencySettings",
    "LatencyTable",
    "Metric",
    "Metrics",
    "Objective",
    "ProxyHealth",
    "Search",
    "SearchConstraints",
    "data",
    "errors",
    "evaluators",
    "export",
    "models",
    "profiling",
    "pruners",
    "report",
    "samplers",
    "spaces",
    "storage",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"nas_optuna.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"nas_optuna.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'nas_optuna' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

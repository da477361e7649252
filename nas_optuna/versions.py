"""Which versions made a result: kept with it, so that it can be repeated."""

from __future__ import annotations

import platform
from importlib import metadata

import nas_optuna


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of this package and of others.

    Args:
        packages: Names of installed packages.

    Example:
        >>> list(versions("optuna", "torch"))
        ['python', 'nas_optuna', 'optuna', 'torch']
    """
    return {
        "python": platform.python_version(),
        "nas_optuna": nas_optuna.__version__,
        **{name: metadata.version(name) for name in packages},
    }

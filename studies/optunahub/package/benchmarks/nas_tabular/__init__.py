"""Tables of trained networks as a benchmark of OptunaHub."""

from ._nas_tabular import Problem

__all__ = ["Problem"]

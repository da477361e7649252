"""Ship what a search found: retrain it, write it for other programs, check what was written."""

from nas_optuna.export.shipping import Exported, export

__all__ = ["Exported", "export"]

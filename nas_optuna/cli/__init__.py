"""`nas-optuna`: parse, call, print."""

from nas_optuna.cli.app import main

__all__ = ["main"]

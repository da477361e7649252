"""`python -m nas_optuna.cli`."""

from nas_optuna.cli import main

main()

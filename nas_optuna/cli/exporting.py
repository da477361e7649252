"""`export`: retrain the network of a trial, write it for other programs, and check the files."""

from __future__ import annotations

import signal
from pathlib import Path

from rich.console import Console

from nas_optuna.cli.failure import FAILED, database_errors
from nas_optuna.cli.given import Given
from nas_optuna.export import Exported, export


def export_trial(
    given: Given, number: int, out: Path, *, seeds: int, epochs: int | None, int8: bool
) -> int:
    """Export, say what came of it, and return the exit status: 1 if anything drifted.

    Args:
        given: Study file, study and device.
        number: Number of the trial.
        out: The folder.
        seeds: Networks to train.
        epochs: Passes over train + validation; None for three times those of the search.
        int8: Whether to write a quantized network, too.

    Raises:
        NasOptunaError: The trial cannot be exported, or the folder not be used.
    """
    search = given.search()
    console = Console(highlight=False)
    # What trains in full for the checks of a search is what retrains; a table has no data.
    reference = search.health.reference if search.health else None
    training = reference if hasattr(type(reference), "dataset") else None
    try:
        with database_errors(search.storage):
            done = export(
                search.load(),
                search.objective,
                trial=number,
                out=out,
                seeds=seeds,
                epochs=epochs,
                int8=int8,
                training=training,
                progress=lambda line: console.print(line, soft_wrap=True, markup=False),
            )
    except KeyboardInterrupt:
        console.print("Interrupted: the same command goes on with what is done.")
        return 128 + signal.SIGINT  # as a shell reports it
    for line in done.findings:
        console.print(line, soft_wrap=True, markup=False)
    console.print(summary(done), soft_wrap=True, markup=False)
    return FAILED if done.drifts else 0


def summary(done: Exported) -> str:
    """Say in a few words what was written, and how good it is."""
    test = done.record["test"]
    spread = "" if test["spread"] is None else f" ± {test['spread']:.4f}"
    many = f"{len(test['accuracies'])} seed{'s' if len(test['accuracies']) > 1 else ''}"
    checked = f"{done.drifts} drifted, see above" if done.drifts else "checked"
    return (
        f"Test accuracy {test['mean']:.4f}{spread} over {many}; "
        f"{done.folder} holds the network of seed {done.record['training']['shipped_seed']} "
        f"({test['shipped']:.4f}): {checked}."
    )

"""The way of an export: look up, retrain, write, check."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.study import Study

from nas_optuna.data import DataSet
from nas_optuna.errors import ExportError
from nas_optuna.evaluators import Evaluator
from nas_optuna.export.folder import claim, finish, publish
from nas_optuna.export.programs import require_extra, traced
from nas_optuna.export.retraining import retrain, schedule_of
from nas_optuna.export.subject import Subject, subject_of
from nas_optuna.export.writing import write_files

if TYPE_CHECKING:
    from nas_optuna.objective import Objective


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Args:
        folder: Where the files are.
        record: What is in `record.json`.
        findings: The lines of the check.
        drifts: How many of them say that something is not as the search recorded it, or as it
            was when it was written.
    """

    folder: Path
    record: Mapping[str, Any]
    findings: tuple[str, ...]
    drifts: int


def _tell_nobody(line: str) -> None:
    pass


def export(
    study: Study,
    objective: Objective,
    *,
    trial: int,
    out: str | Path,
    seeds: int = 3,
    epochs: int | None = None,
    int8: bool = False,
    training: Evaluator | None = None,
    progress: Callable[[str], None] = _tell_nobody,
) -> Exported:
    """Retrain the network of a trial, test it, and write all that is needed to use it elsewhere.

    It is trained from scratch on train + validation, from each seed, and tested once on the test
    part; the network of the first seed is written, a choice that does not go by the test part.
    The folder then holds weights, `model.py`, `model.pt2`, `model.onnx`, a model card and
    `check.py`, which a fresh process runs at the end. An export that was interrupted goes on when
    it is repeated.

    Args:
        study: The study.
        objective: What was optimised in it.
        trial: Number of the trial.
        out: A folder that is not there, is empty, or holds an export.
        seeds: Networks to train, from seeds 0, 1, ...
        epochs: Passes over train + validation; by default three times those of the search.
        int8: Whether to write an ONNX file with 8-bit integers, too.
        training: Gives data and settings in place of the objective's evaluator.
        progress: Told a line now and then.

    Raises:
        SettingError: There is no such trial, or a number is below 1.
        ExportError: The trial cannot be exported, or the folder not be used.

    Example:
        >>> import nas_optuna as nas
        >>> def ship(search: nas.Search, trial: int) -> Exported:
        ...     return export(search.load(), search.objective, trial=trial, out="shipped")
    """
    require_extra()
    subject = subject_of(study, objective, trial)
    schedule = schedule_of(training or objective.evaluator, epochs=epochs, seeds=seeds)
    _check_data(objective, schedule.data)
    folder = Path(out)
    unfinished = claim(folder)
    _check_traceable(subject, schedule.data)
    schedule, trained = retrain(subject.candidate, schedule, unfinished, progress)
    progress("writing files")
    staging = unfinished / "files"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    record = write_files(staging, subject, objective, schedule, trained, int8=int8)
    publish(staging, folder)
    finish(folder)
    progress("checking files")
    findings, drifts = _checked(folder)
    return Exported(folder, record, findings, drifts)


def _check_data(objective: Objective, data: DataSet) -> None:
    space = objective.space
    made = space.input_shape, space.num_classes
    there = data.input_shape, data.num_classes
    if made != there:
        raise ExportError(
            f"The networks of {space.name} are for inputs of shape {made[0]} and {made[1]} "
            f"classes, but {data.name} has {there[0]} and {there[1]}; name other training data."
        )


def _check_traceable(subject: Subject, data: DataSet) -> None:
    """Before hours of training: whether a module of the user's own can be written at all."""
    if subject.candidate.architecture is None:
        traced(subject.candidate.build().eval(), data.test.inputs[:2].cpu())


def _checked(folder: Path) -> tuple[tuple[str, ...], int]:
    """Run the check in a fresh process."""
    # Not isolated: torch may come by PYTHONPATH, or lie in the user's own site.
    words = [sys.executable, "-P", str(folder.resolve() / "check.py")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = tuple(done.stdout.splitlines()[:-1])
    drifts = sum(line.startswith("DRIFT") for line in lines)
    if done.returncode != bool(drifts):
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise ExportError(f"{folder / 'check.py'} could not be run: {said}")
    return lines, drifts

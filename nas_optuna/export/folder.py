"""The folder of an export: whether it may be written, and how its files get there whole."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from nas_optuna.errors import ExportError

FORMAT = "nas_optuna export 1"
RECORD = "record.json"
UNFINISHED = ".unfinished"
FILES = (
    "README.md", "check.py", "model.int8.onnx", "model.onnx", "model.pt2", "model.py",
    "samples.npz", "weights.safetensors", RECORD,
)  # fmt: skip


def claim(out: Path) -> Path:
    """Make the folder of an export, or go on in one.

    Args:
        out: A folder that is not there, is empty, or holds an export and nothing else.

    Returns:
        The folder in it for what is not finished.

    Raises:
        ExportError: It is a file, holds something else, or cannot be made.
    """
    unfinished = out / UNFINISHED
    try:
        if out.exists() and not out.is_dir():
            raise ExportError(f"{out} is a file; --out wants a folder.")
        there = {path.name for path in out.iterdir()} if out.exists() else set()
        if there and not (UNFINISHED in there or _is_export(out / RECORD)):
            raise ExportError(
                f"{out} holds {min(there)!r} and is no export; --out wants a folder of its own."
            )
        foreign = there - {*FILES, UNFINISHED, "__pycache__"}
        if foreign:
            raise ExportError(
                f"{out} holds {min(foreign)!r} beside an export; move it, or choose another --out."
            )
        unfinished.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{out} cannot be written: {error.strerror or error}.") from error
    return unfinished


def _is_export(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def publish(staging: Path, out: Path) -> None:
    """Move finished files into their folder, the record last; older ones go.

    A folder with a record and without `.unfinished` is complete, whenever the process is killed.

    Args:
        staging: Holds the files.
        out: Their folder, on the same disk.
    """
    with suppress(FileNotFoundError):
        (out / RECORD).unlink()
    for name in FILES:
        if (staging / name).exists():
            os.replace(staging / name, out / name)
        else:
            with suppress(FileNotFoundError):
                (out / name).unlink()


def finish(out: Path) -> None:
    """Remove what was kept to go on from."""
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)

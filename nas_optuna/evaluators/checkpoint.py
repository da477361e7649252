"""One file that holds what a training has come to: written whole or not at all, never unpickled.

Tensors are stored as safetensors, all else as JSON in the same file, so that both are of one
moment whenever the process is killed.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas_optuna.errors import StorageError
from nas_optuna.liveness import sign_of_life

_POLL_SECONDS = 0.5
_FORMAT = 1

_logger = logging.getLogger(__name__)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a file in the place of the one that is there, in one step.

    Args:
        path: The file; its folder is made.
        tensors: By name; none may share memory with another.
        about: What else there is to know, as JSON values.

    Raises:
        StorageError: It cannot be written; what was there is still there.
    """
    new = path.with_suffix(".new")
    metadata = {"format": str(_FORMAT), "about": json.dumps(about)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: t.contiguous() for name, t in tensors.items()}, new, metadata)
        os.replace(new, path)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{path} cannot be written ({error}); make room, or choose another directory."
        ) from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read what `save_checkpoint` wrote, onto the CPU; None if there is no such file.

    Raises:
        StorageError: The file is damaged, or not one of these.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != str(_FORMAT):
                raise ValueError(f"format {metadata.get('format')}, not {_FORMAT}")
            about = json.loads(metadata["about"])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise StorageError(
            f"{path} cannot be read ({error}); delete it, and its training begins anew."
        ) from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait, and give signs of life, until no other process or thread works on a file.

    The lock is a file beside it; the system frees it when its holder dies.

    Args:
        path: The file; its folder is made.

    Raises:
        StorageError: The folder cannot be written.
    """
    lock = FileLock(path.with_suffix(".lock"))
    if not _takes(lock):
        _logger.warning("Another process works on %s; waiting until it is done.", path)
        while not _takes(lock):
            sign_of_life()
            time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _takes(lock: FileLock) -> bool:
    file = Path(lock.lock_file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        if file.exists():
            return False
        raise _unwritable(file.parent, "no file can be made there") from None
    except OSError as error:
        raise _unwritable(file.parent, error.strerror or str(error)) from error
    return True


def _unwritable(folder: Path, why: str) -> StorageError:
    return StorageError(f"{folder} cannot be written ({why}); choose another directory.")

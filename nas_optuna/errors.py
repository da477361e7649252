"""Every error a user can meet: one root, few children, each message with its likely fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasOptunaError(Exception):
    """Root of all errors of this package; the command line prints it as one line."""


class ArchitectureError(NasOptunaError):
    """An architecture cannot be built; the message names the node."""


class SpaceError(NasOptunaError):
    """A search space is not usable: wrong settings, or nothing in it is feasible."""


class DataError(NasOptunaError):
    """A data set cannot be used: missing, of the wrong shape, or with NaN in it."""


class StorageError(NasOptunaError):
    """A database cannot be reached or holds something this package did not write."""


class StudyMismatchError(NasOptunaError):
    """A stored study was made for another question than the one it is resumed with."""


class StudyFileError(NasOptunaError):
    """A study file is missing, broken, or does not define `search`."""


class WorkerError(NasOptunaError):
    """Workers cannot be started, or all of them failed."""


class ExportError(NasOptunaError):
    """A trial cannot be exported."""


class SettingError(NasOptunaError, ValueError):
    """A setting has a value that its rule forbids."""


class UnknownNameError(NasOptunaError, KeyError):
    """A name is not among the known ones; the message suggests the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        super().__init__(f"Unknown {kind} {name!r}. {hint}Known: {', '.join(known)}.")

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_unknown_name, (self.args[0],)


def _restore_unknown_name(message: str) -> UnknownNameError:
    error = UnknownNameError.__new__(UnknownNameError)
    error.args = (message,)
    return error


def check_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is known, else raise with the nearest known name.

    Raises:
        UnknownNameError: `name` is not in `known`.
    """
    known = list(known)
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return name

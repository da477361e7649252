"""Where a study's files lie: beside its SQLite file, else in the directory the user names.

Optuna's artifact store keeps the files, so that optuna-dashboard can serve those that belong to
a trial. What is too large for the database, such as the weights of a supernet, lies there too.
"""

from __future__ import annotations

import os
from pathlib import Path

from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage

from nas_optuna.storage.ownership import backend_of

VARIABLE = "NAS_OPTUNA_ARTIFACTS"
_DEFAULT = "nas-artifacts"


def artifact_directory(storage: BaseStorage) -> Path | None:
    """Return the directory of a storage's files; None for studies in memory.

    It is the value of the environment variable `NAS_OPTUNA_ARTIFACTS`; without it `nas.db` has
    `nas.db.artifacts`, and a database on a server `nas-artifacts` in the working directory.
    Workers on several machines need one that all of them see.

    Args:
        storage: The storage of a study.
    """
    backend = backend_of(storage)
    if backend is None:
        return None
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    database = backend.engine.url.database
    if backend.engine.dialect.name == "sqlite":
        return Path(f"{database}.artifacts") if database and database != ":memory:" else None
    return Path(_DEFAULT)


def artifact_store(storage: BaseStorage) -> FileSystemArtifactStore | None:
    """Return the store of a storage's files, with its directory made; None in memory."""
    directory = artifact_directory(storage)
    if directory is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(str(directory))

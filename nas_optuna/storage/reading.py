"""Open a study database to look at it, beside a search that runs or without leave to write.

`nas_optuna.storage.open` makes tables, takes SQLite's write lock for each transaction and waits
for minutes when the server is away: right for a worker, and wrong for a page that is asked for
every few seconds.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.storages import BaseStorage
from sqlalchemy import URL
from sqlalchemy.pool import NullPool

from nas_optuna.errors import StorageError
from nas_optuna.storage.engine import BUSY_TIMEOUT, CONNECT_TIMEOUT, check_version, parse, usable
from nas_optuna.storage.loading import QuickStorage


def open_to_read(url: str) -> BaseStorage:
    """Open the database at `url`, which must be there, without writing to it.

    A SQLite file may lie where this account can write neither it nor beside it. What the account
    may write can still be written through the storage.

    Args:
        url: As for `nas_optuna.storage.open`.

    Returns:
        Optuna's storage, which keeps finished trials in memory.

    Raises:
        StorageError: The URL is of no accepted form, the database is missing or cannot be
            reached, or it holds no tables of this version of Optuna.
    """
    parsed = parse(url)
    if parsed.drivername == "sqlite":
        engine = _sqlite(parsed)
    else:
        timeout = parsed.query.get("connect_timeout", str(CONNECT_TIMEOUT))
        engine = {"pool_pre_ping": True, "connect_args": {"connect_timeout": timeout}}
    full = parsed.render_as_string(hide_password=False)
    with usable(parsed):
        storage = QuickStorage(
            full.replace("{", "{{").replace("}", "}}"),  # Optuna formats it as a template
            engine_kwargs=engine,
            skip_compatibility_check=True,  # `check_version` says it in one line
            skip_table_creation=True,
        )
        check_version(storage)
    return optuna.storages.get_storage(storage)


def _sqlite(url: URL) -> dict[str, Any]:
    file = Path(str(url.database))
    if str(url.database).startswith("file:") or url.query:
        return {"connect_args": {"timeout": BUSY_TIMEOUT}}  # it says itself how to open it
    if not file.is_file():
        raise StorageError(f"There is no database {str(file)!r}; `nas-optuna run` makes one.")
    # No pool: a connection that is kept would go on with what the file was when it was opened.
    return {"poolclass": NullPool, "creator": _connector(file.absolute())}


def _connector(file: Path) -> Callable[[], sqlite3.Connection]:
    wal = Path(f"{file}-wal")

    def open_as(how: str) -> sqlite3.Connection:
        address = f"file:{quote(str(file))}?{how}"
        return sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT, check_same_thread=False)

    def connect() -> sqlite3.Connection:
        connection = open_as("mode=rw")  # or only for reading; no file is made
        try:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            if wal.exists() or not re.search("readonly|unable to open", str(error)):
                raise
            # A file in WAL mode wants two others beside it, unless it is said not to change.
            return open_as("immutable=1")
        return connection

    return connect

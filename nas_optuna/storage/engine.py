"""Open a study database, SQLite or PostgreSQL, so that many processes can share it."""

from __future__ import annotations

import random
import re
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import URL, Connection, Engine, event, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from nas_optuna.errors import StorageError
from nas_optuna.storage.ownership import backend_of
from nas_optuna.storage.sharing import SharedStorage
from nas_optuna.storage.waiting import driver_error, patiently

ACCEPTED = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
BUSY_TIMEOUT = 60  # seconds that a writer waits for the others
CONNECT_TIMEOUT = 10  # seconds until a server counts as unreachable
CREATE_TIMEOUT = 30.0  # seconds within which concurrent makers of the same tables must be done
HEARTBEAT_INTERVAL = 60  # seconds
GRACE_PERIOD = 180  # seconds without a heartbeat after which a trial counts as dead

_POSTGRESQL = ("postgresql+psycopg", "postgresql", "postgres")
_ALREADY_THERE = ("42P07", "42710", "23505")  # SQLSTATE: duplicate table, object, unique key

T = TypeVar("T")


def open(url: str, *, patience: float = 0.0) -> Storage:
    """Open the database at `url`, making its tables if it has none.

    Args:
        url: `sqlite:///FILE`, or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, which may
            also start with `postgresql+psycopg://` or `postgres://`.
        patience: Seconds to wait for a server that does not answer. Once open, a storage waits
            in each of its calls; see `nas_optuna.storage.waiting`.

    Raises:
        StorageError: The URL is of no accepted form, the database cannot be reached or
            written, or its tables are of another version. The password is never shown.

    Example:
        >>> import tempfile, optuna
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     storage = open(f"sqlite:///{folder}/nas.db")
        ...     optuna.create_study(storage=storage, study_name="digits").study_name
        'digits'
    """
    parsed = parse(url)
    with usable(parsed):
        full = parsed.render_as_string(hide_password=False)
        return patiently(lambda: Storage(full), patience=patience)


@contextmanager
def usable(url: URL) -> Iterator[None]:
    """Turn what a database raises while it is opened into one line.

    Raises:
        StorageError: It could not be opened; the password is not shown.
    """
    masked = mask(url.render_as_string(hide_password=False))
    try:
        yield
    except ImportError:
        raise StorageError(
            f"A PostgreSQL storage needs psycopg, which cannot be imported ({masked}): "
            "pip install nas-optuna[postgres]"
        ) from None
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
        raise StorageError(
            f"Cannot use the database {masked}: {_reason(error, url)}. {_advice(url)}"
        ) from None


class Storage(SharedStorage):
    """Optuna's database storage, made safe for many processes that may be killed.

    SQLite runs in WAL mode and takes the write lock at the start of each transaction, without
    which two processes can pop the same enqueued trial. Every RUNNING trial carries its owner
    (`nas_optuna.storage.ownership`), and a trial without a heartbeat is retried cleanly. A
    database that goes away is waited for (`nas_optuna.storage.waiting`).

    Args:
        url: SQLAlchemy URL with its driver; `open` checks it and turns errors into one line.
    """

    def __init__(self, url: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the heartbeat
            create_once(lambda: super(Storage, self).__init__(**_settings(url)))
        check_version(self)
        if self.engine.dialect.name == "sqlite":
            # Not before: Optuna's set-up reads through a second connection within a transaction.
            event.remove(self.engine, "begin", _begin)
            event.listen(self.engine, "begin", _begin_immediate)
            with self.engine.begin() as connection:  # fails now if the file is read-only
                connection.exec_driver_sql("DELETE FROM alembic_version WHERE 0")

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.url,)

    @property
    def engine(self) -> Engine:
        """The connection pool; on SQLite it is prepared before its first connection."""
        return self._engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self._engine = engine
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _use_wal)
            event.listen(engine, "begin", _begin)


def check_version(storage: RDBStorage) -> None:
    """Refuse tables that another version of Optuna made.

    Raises:
        StorageError: They are older or newer than this one's.
    """
    current, needed = storage.get_current_version(), storage.get_head_version()
    if current != needed:
        raise StorageError(
            f"The tables of {mask(storage.url)} are of version {current}, this Optuna needs "
            f"{needed}: run `optuna storage upgrade`, or update Optuna if they are newer."
        )


def engine_of(storage: BaseStorage) -> Engine | None:
    """The SQLAlchemy engine behind a study's storage; None if it is not a database.

    Args:
        storage: A storage, also as `study._storage` or `trial.storage` give it.
    """
    backend = backend_of(storage)
    return None if backend is None else backend.engine


def mask(url: str) -> str:
    """Return `url` without its password, for messages and tables.

    Example:
        >>> mask("postgres://ada:secret@db.example/nas")
        'postgresql+psycopg://ada:***@db.example/nas'
    """
    try:
        parsed = _split(url)
    except ValueError:
        return re.split(r"[:@=\s]", url, maxsplit=1)[0] + "..."
    return parsed.difference_update_query(_secret_keys(parsed)).render_as_string()


def without_secrets(text: str, url: str) -> str:
    """Return `text` without the passwords in `url`, as they are and as a URL quotes them.

    Example:
        >>> without_secrets("PASSWORD = 'a/b'", "postgresql://ada:a%2Fb@db.example/nas")
        "PASSWORD = '***'"
    """
    try:
        return _without_secrets(text, _split(url))
    except ValueError:  # nothing can be told to be a password
        return text


def reason(error: Exception, url: str) -> str:
    """Why the database at `url` failed, in its own words: one line, without any password.

    Args:
        error: What SQLAlchemy raised, or Optuna's storage.
        url: What the storage was opened with.
    """
    return _reason(error, _split(url))


def create_once(make: Callable[[], T]) -> T:
    """Call `make`, which makes tables that are missing, until no other process interferes.

    Neither database lets two processes make the same table at once; the later one fails. Each
    step of `make` must first look whether it is done, so that calling it again goes on from
    there. Errors of any other kind pass through at once.
    """
    deadline = time.monotonic() + CREATE_TIMEOUT
    while True:
        try:
            return make()
        except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
            if not _raced(error) or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.02, 0.2))


def _raced(error: Exception) -> bool:
    cause = driver_error(error)
    if isinstance(error, IntegrityError) or getattr(cause, "sqlstate", "") in _ALREADY_THERE:
        return True
    return isinstance(cause, sqlite3.Error) and bool(
        re.search("already exists|is locked", str(cause))
    )


def _settings(url: str) -> dict[str, Any]:
    """Arguments of Optuna's storage for `url`."""
    if url.startswith("sqlite"):
        engine: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT}}
    else:
        given = make_url(url).query.get("connect_timeout", str(CONNECT_TIMEOUT))
        # One connection is kept; the heartbeat's thread opens its own for a moment each minute.
        engine = {
            "pool_pre_ping": True,
            "pool_size": 1,
            "max_overflow": 20,
            "connect_args": {"connect_timeout": given},
        }
    return {
        "url": url.replace("{", "{{").replace("}", "}}"),  # Optuna formats it as a template
        "engine_kwargs": engine,
        "skip_compatibility_check": True,  # it waits for itself on SQLite; see check_version
        "heartbeat_interval": HEARTBEAT_INTERVAL,
        "grace_period": GRACE_PERIOD,
    }


def _use_wal(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver must not start transactions by itself
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def parse(url: str) -> URL:
    """Read the URL of a database that this package can use; a SQLite file may be missing.

    Raises:
        StorageError: It is of no accepted form, or names a file in a folder that is missing.
    """
    try:
        parsed = _split(url)
    except ValueError:
        raise StorageError(
            f"A storage is a URL, {ACCEPTED}; got {mask(url)!r}. "
            "An @ in a password is written as %40."
        ) from None
    if parsed.drivername not in ("sqlite", _POSTGRESQL[0]):
        raise StorageError(f"A storage is {ACCEPTED}; got {mask(url)!r}.")
    if parsed.drivername == "sqlite":
        _check_file(parsed)
    return parsed


def _split(url: str) -> URL:
    """Parse `url` and name the driver; ValueError if it is not a URL or was cut wrongly."""
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        raise ValueError from None
    if parsed.host and "@" in f"{parsed.host}{parsed.database}":
        raise ValueError  # a raw @ in the password: a part of it would pass for the host
    if parsed.drivername in _POSTGRESQL:
        parsed = parsed.set(drivername=_POSTGRESQL[0])
    return parsed


def _check_file(url: URL) -> None:
    if url.host or url.database in (None, "", ":memory:"):
        raise StorageError(
            f"A SQLite storage names a file, as in sqlite:///nas.db; got {mask(str(url))!r}."
        )
    folder = Path(str(url.database).removeprefix("file:")).parent
    if not folder.is_dir():
        raise StorageError(
            f"The folder of a SQLite file must exist; {str(folder)!r} does not. Make it first."
        )


def _secret_keys(url: URL) -> list[str]:
    return [key for key in url.query if "password" in key.lower()]


def _reason(error: Exception, url: URL) -> str:
    """The driver's message on one line, without any password."""
    return " ".join(_without_secrets(str(driver_error(error)), url).split()).rstrip(".")


def _without_secrets(text: str, url: URL) -> str:
    secrets = [url.password or ""]
    for key in _secret_keys(url):
        secrets += url.normalized_query[key]
    for secret in filter(None, secrets):
        for spelling in (secret, quote(secret, safe=""), quote_plus(secret)):
            text = text.replace(spelling, "***")
    return text


def _advice(url: URL) -> str:
    if url.drivername == "sqlite":
        return "It must be a SQLite file, or a new one, that this account may write."
    return "Check that the server runs there and that the account and the database exist."

"""Wait for a database that went away, so that nothing computed meanwhile is lost.

A server that restarts, a network that is cut, or a lock that is held too long ends one transaction
and no more: it is repeated, with growing pauses, until it goes through or the patience is over.
Whatever is repeated must be safe to repeat, since a connection may break after the commit and
before the answer.
"""

from __future__ import annotations

import functools
import logging
import math
import random
import sqlite3
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError

from nas_optuna.liveness import sign_of_life

PATIENCE = 900.0  # seconds that a database may be away
LONGEST_PAUSE = 5.0  # seconds between two tries
_FIRST_PAUSE = 0.1
_TOLD_AFTER = 3.0  # seconds; a deadlock or a quick restart is not worth a line
_last_away = -math.inf  # when this process last found a database away for longer than that

# SQLSTATE: connection lost; server shutting down, crashed, or starting; too many connections;
# serialization failure; deadlock.
_PASSING = ("08", "57P01", "57P02", "57P03", "53300", "40001", "40P01")

T = TypeVar("T")
P = ParamSpec("P")

_logger = logging.getLogger(__name__)


def driver_error(error: Exception) -> BaseException:
    """The database driver's error behind what SQLAlchemy or Optuna's storage raised."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return getattr(cause, "orig", None) or cause or error


def passes(error: Exception) -> bool:
    """Whether the same transaction may go through later.

    A full disk, a wrong password or an unknown table does not pass; an unreachable server does.

    Example:
        >>> passes(sqlite3.OperationalError("database is locked"))
        True
        >>> passes(sqlite3.OperationalError("database or disk is full"))
        False
    """
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, PendingRollbackError):  # a second statement after the connection broke
        return True
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    driver = driver_error(error)
    if isinstance(driver, sqlite3.Error):
        return "is locked" in str(driver)
    state = getattr(driver, "sqlstate", "")
    if state is None:  # psycopg: the server gave no answer at all
        return type(driver).__name__ == "OperationalError"
    return str(state).startswith(_PASSING)


def patiently(
    call: Callable[[], T],
    *,
    again: Callable[[], T] | None = None,
    patience: float | None = None,
) -> T:
    """Return what `call` returns, and repeat it as long as the database is away.

    Args:
        call: One transaction.
        again: What repeats it, if `call` itself would do it twice when its first commit had gone
            through unnoticed.
        patience: Seconds until the error is raised after all; `PATIENCE` if not given.

    Raises:
        Exception: What `call` raised, if it will not pass or the patience is over.
    """
    global _last_away
    patience = PATIENCE if patience is None else patience
    began, told, pause, step = time.monotonic(), False, _FIRST_PAUSE, call
    while True:
        try:
            result = step()
        except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
            away = time.monotonic() - began
            if not passes(error) or away >= patience:
                raise
            if away > _TOLD_AFTER:
                _last_away = time.monotonic()
                if not told:
                    _tell(patience)
                told = True
        else:
            if told:
                _logger.warning("The database is back after %.0f s.", time.monotonic() - began)
            return result
        sign_of_life()
        time.sleep(pause * random.uniform(0.5, 1.0))  # workers must not all come at once
        pause = min(2 * pause, LONGEST_PAUSE)
        step = again or call


def _tell(patience: float) -> None:
    minutes = max(1, round(patience / 60))
    _logger.warning("The database is away; waiting for it, at most %d min.", minutes)


def seconds_since_away() -> float:
    """Seconds since any thread of this process last found a database away for long; inf if none.

    A wait of a few seconds, as for a deadlock or a lock, does not count.
    """
    return time.monotonic() - _last_away


def patient(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that is one transaction, safe to repeat, with `patiently`."""

    @functools.wraps(function)
    def patient_function(*args: P.args, **kwargs: P.kwargs) -> T:
        return patiently(lambda: function(*args, **kwargs))

    return patient_function

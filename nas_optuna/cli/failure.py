"""Errors as one line on stderr, and the exit status that goes with them."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from nas_optuna.errors import NasOptunaError, StorageError

FAILED = 1
MISUSED = 2


def tell(error: Exception, *, debug: bool) -> int:
    """Say what went wrong and return the exit status.

    Args:
        error: What a command raised.
        debug: Whether to show the traceback first.
    """
    if debug:
        traceback.print_exception(error)
    if isinstance(error, NasOptunaError):
        text, status = str(error), FAILED
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" ({error.filename})" if error.filename else ""
        text = f"The disk is full{where}. Finished trials are kept; `nas-optuna resume` goes on."
        status = FAILED
    elif hasattr(error, "format_message"):  # Typer: a wrong option or command
        text, status = _misuse(error), MISUSED
    else:
        text = f"Unexpected {type(error).__name__}: {error}. --debug shows where it comes from."
        status = FAILED
    typer.echo(f"error: {' '.join(text.split())}", err=True)
    return status


def _misuse(error: Any) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "nas-optuna"
    message = error.format_message().rstrip(".")
    return f"{message}{'' if message.endswith('?') else '.'} See `{command} --help`."


@contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turn what a database raises while a command works with it into one line.

    Raises:
        StorageError: Optuna or SQLAlchemy could not read or write.
    """
    from nas_optuna.storage import mask, reason

    try:
        yield
    except Exception as error:
        cause = None if isinstance(error, NasOptunaError) else _database_error(error)
        if cause is None:
            raise
        raise StorageError(
            f"The database {mask(url)} failed: {reason(cause, url)}. Finished trials are kept; "
            "`nas-optuna resume` goes on when it works again."
        ) from error


def _database_error(error: BaseException | None) -> Exception | None:
    """The database's error behind another: Optuna 5.0 trips over a failed `tell` itself."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    while error is not None:
        if isinstance(error, SQLAlchemyError | StorageInternalError):
            return error
        error = error.__cause__ or error.__context__
    return None

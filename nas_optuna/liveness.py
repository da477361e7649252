"""Signs of life from work that is long and touches no database, for whoever watches the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HANG = 3600.0  # seconds of silence after which a worker counts as hanging


def _hear_nothing() -> None:
    pass


_hear: ContextVar[Callable[[], None]] = ContextVar("hear", default=_hear_nothing)


def sign_of_life() -> None:
    """Say that this thread is still at work; whatever trains says so after each epoch."""
    _hear.get()()


@contextmanager
def heard_by(hear: Callable[[], None]) -> Iterator[None]:
    """Let `hear` be called at each sign of life of this thread inside the block.

    Example:
        >>> signs = []
        >>> with heard_by(lambda: signs.append("alive")):
        ...     sign_of_life()
        >>> sign_of_life()
        >>> signs
        ['alive']
    """
    token = _hear.set(hear)
    try:
        yield
    finally:
        _hear.reset(token)

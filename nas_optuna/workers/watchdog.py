"""A watchdog that ends a worker which hangs, so that others repeat its trial."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine, event

from nas_optuna.liveness import heard_by

_logger = logging.getLogger(__name__)


class Watchdog(AbstractContextManager["Watchdog"]):
    """Kills this process with -9 when the thread that entered it was silent for too long.

    A sign of life is a transaction: each epoch of a trial, each parameter and each look at what
    others do is one. What trains without one, for the health of a proxy or for a supernet, gives
    `nas_optuna.liveness.sign_of_life` after each epoch. A process that cannot even run this
    thread sends no heartbeats either, and is found by those
    (`nas_optuna.storage.ownership.reap`).

    Args:
        engine: The database's connection pool.
        seconds: The longest silence; it must be longer than any epoch.
    """

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._stopped = threading.Event()
        self._listening = ExitStack()
        self._watched = 0
        self._seen = 0.0

    def __enter__(self) -> Self:
        self._watched, self._seen = threading.get_ident(), time.monotonic()
        self._listening.enter_context(heard_by(self._hear))
        event.listen(self._engine, "begin", self._see)
        self._listening.callback(event.remove, self._engine, "begin", self._see)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._listening.close()

    def _hear(self) -> None:
        self._seen = time.monotonic()

    def _see(self, connection: Connection) -> None:
        if threading.get_ident() == self._watched:
            self._hear()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() - self._seen > self._seconds:
                _logger.error(
                    "Worker %d was silent for %.0f s and is killed; its trial is repeated.",
                    os.getpid(),
                    self._seconds,
                )
                os.kill(os.getpid(), signal.SIGKILL)

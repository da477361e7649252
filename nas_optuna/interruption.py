"""Ctrl-C and SIGTERM stop a run between two writes to its database, never within one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SAME = 1.0  # seconds within which a second signal is the echo of the first


class Interruption:
    """Turns SIGINT and SIGTERM into one `KeyboardInterrupt` that holds the signal's number.

    While a trial is judged it is raised at once, so that Optuna tells the trial as failed. At
    any other time Optuna may be about to write that a trial runs or is done, and an exception
    would leave a trial that runs for ever: the signal then waits until the next `judging`, or
    until whoever runs the trials looks at `number`. A second signal is raised wherever it comes.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """Number of the signal that came, None if none did."""
        self._came = 0.0
        self._judging = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch both signals inside the block; only the main thread can, others do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signal.SIGTERM: signal.signal(signal.SIGTERM, self._handle)}
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Let a signal that comes inside the block end it.

        Raises:
            KeyboardInterrupt: A signal came, now or since the last trial.
        """
        self._judging = True
        try:
            if self.number is not None:
                raise KeyboardInterrupt(self.number)
            yield
        finally:
            self._judging = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self.number is None
        if first:
            self.number, self._came = number, time.monotonic()
        if self._judging if first else time.monotonic() - self._came > _SAME:
            raise KeyboardInterrupt(number)

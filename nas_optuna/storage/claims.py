"""Claims on evaluations, so that two workers never train the same network at the same time.

A claim is held by a trial and good as long as that trial runs: it expires when the trial is told,
when its process dies, and when its heartbeat is overdue. So a worker that is killed blocks nobody
for longer than its own trial would.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError

from nas_optuna.metrics import Metrics
from nas_optuna.storage.evaluations import EvaluationCache, EvaluationKey
from nas_optuna.storage.ownership import backend_of, is_gone, is_watched
from nas_optuna.storage.tables import engine_with
from nas_optuna.storage.waiting import patient

LONGEST_PAUSE = 1.0  # seconds between two looks at a claim that another trial holds
UNWATCHED = 3600.0  # seconds waited for a trial of another machine that sends no heartbeat
_FIRST_PAUSE = 0.02

_TABLE = sa.Table(
    "nas_claims",
    sa.MetaData(),
    sa.Column("digest", sa.String(255), primary_key=True),
    sa.Column("evaluator", sa.String(255), primary_key=True),
    sa.Column("data", sa.String(255), primary_key=True),
    sa.Column("seed", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("trial_id", sa.BigInteger, nullable=False),
)


class Claims:
    """Who evaluates what at the moment.

    Args:
        backend: The database; its engine has the table, as `of` sees to.
    """

    def __init__(self, backend: RDBStorage) -> None:
        self._backend = backend

    @classmethod
    def of(cls, storage: optuna.storages.BaseStorage) -> Claims | None:
        """The claims in the database of `storage`; None if it is none, and has one process."""
        backend = backend_of(storage)
        if backend is None:
            return None
        engine_with(_TABLE, storage)
        return cls(backend)

    @patient
    def take(self, key: EvaluationKey, trial_id: int, *, force: bool = False) -> bool:
        """Claim the evaluation of `key` for a trial; return whether the trial holds it now.

        Args:
            key: What is to be evaluated.
            trial_id: Id of a trial that runs.
            force: Take it from a trial that may still run.
        """
        try:
            with self._backend.engine.begin() as connection:
                connection.execute(_TABLE.insert().values(**asdict(key), trial_id=trial_id))
            return True
        except IntegrityError:
            holder = self.holder(key)
        if holder is None:  # released just now
            return False
        if holder == trial_id:
            return True
        if not force and not is_gone(self._backend, holder):
            return False
        held = _where(key) & (_TABLE.c.trial_id == holder)
        with self._backend.engine.begin() as connection:  # of several, one finds it still held
            update = _TABLE.update().where(held).values(trial_id=trial_id)
            return connection.execute(update).rowcount == 1

    @patient
    def holder(self, key: EvaluationKey) -> int | None:
        """Id of the trial that last claimed `key` and did not release it."""
        with self._backend.engine.connect() as connection:
            holder: int | None = connection.scalar(sa.select(_TABLE.c.trial_id).where(_where(key)))
        return holder

    @patient
    def release(self, key: EvaluationKey, trial_id: int) -> None:
        """Give the claim back, if the trial holds it."""
        with self._backend.engine.begin() as connection:
            held = _where(key) & (_TABLE.c.trial_id == trial_id)
            connection.execute(_TABLE.delete().where(held))

    def wait(self, key: EvaluationKey, trial_id: int, cache: EvaluationCache) -> Metrics | None:
        """Wait until a result is stored, and return it, or until the trial holds the claim."""
        began, pause = time.monotonic(), _FIRST_PAUSE
        overdue = False
        while not self.take(key, trial_id, force=overdue):
            stored = cache.get(key)
            if stored is not None:
                return stored
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            if time.monotonic() - began > UNWATCHED:
                holder = self.holder(key)
                overdue = holder is not None and not is_watched(self._backend, holder)
        return cache.get(key)  # stored between the look before and the claim


@contextmanager
def claimed(
    trial: optuna.Trial, key: EvaluationKey, cache: EvaluationCache
) -> Iterator[Metrics | None]:
    """Hold the claim on an evaluation inside the block, after waiting for other holders.

    Args:
        trial: The running trial that is to evaluate.
        key: What is to be evaluated.
        cache: Where the result is looked up, and is stored inside the block.

    Yields:
        The stored result, if there is one, else None; then nobody else evaluates `key`.
    """
    stored = cache.get(key)
    claims = None if stored is not None else Claims.of(trial.storage)
    if claims is None:
        yield stored
        return
    try:
        yield claims.wait(key, trial._trial_id, cache)
    finally:
        claims.release(key, trial._trial_id)


def _where(key: EvaluationKey) -> sa.ColumnElement[bool]:
    return sa.and_(*(_TABLE.c[name] == value for name, value in asdict(key).items()))

"""Tables of this package in the database of a study."""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from optuna.storages import BaseStorage

from nas_optuna.storage.engine import create_once, engine_of
from nas_optuna.storage.waiting import patiently

_engines_with: WeakKeyDictionary[sa.Table, WeakSet[sa.Engine]] = WeakKeyDictionary()
_in_memory: WeakKeyDictionary[BaseStorage, sa.Engine] = WeakKeyDictionary()


def engine_with(table: sa.Table, storage: BaseStorage) -> sa.Engine:
    """The engine of the database behind `storage`, which has `table` from then on.

    A storage that is not a database (in memory, a journal) gets a database in this process that
    lives as long as the storage object.
    """
    engine = engine_of(storage)
    if engine is None:
        engine = _in_memory.get(storage) or _in_memory.setdefault(storage, _memory_engine())
    engines = _engines_with.setdefault(table, WeakSet())
    if engine not in engines:
        made = engine
        patiently(lambda: create_once(lambda: table.metadata.create_all(made)))
        engines.add(engine)
    return engine


def _memory_engine() -> sa.Engine:
    # The database is its one connection, which the threads of a study take in turn.
    return sa.create_engine(
        "sqlite://",
        poolclass=sa.QueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )

"""Results of evaluations, kept in the study database so that nothing is trained twice."""

from __future__ import annotations

import warnings
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from optuna.storages import BaseStorage
from sqlalchemy.exc import IntegrityError

from nas_optuna.metrics import Metrics
from nas_optuna.storage.tables import engine_with
from nas_optuna.storage.waiting import patient

_TABLE = sa.Table(
    "nas_evaluations",
    sa.MetaData(),
    sa.Column("digest", sa.String(255), primary_key=True),
    sa.Column("evaluator", sa.String(255), primary_key=True),
    sa.Column("data", sa.String(255), primary_key=True),
    sa.Column("seed", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True, slots=True)
class EvaluationKey:
    """All that the result of an evaluation depends on.

    Args:
        digest: Canonical digest of the architecture.
        evaluator: Fingerprint of the evaluator's settings.
        data: Fingerprint of the data set and its split.
        seed: The evaluator's seed.
    """

    digest: str
    evaluator: str
    data: str
    seed: int


class EvaluationCache:
    """Stored results by `EvaluationKey`; a stored result never changes.

    Example:
        >>> import optuna
        >>> cache = EvaluationCache.of(optuna.storages.InMemoryStorage())
        >>> key = EvaluationKey("a1", evaluator="b2", data="c3", seed=0)
        >>> cache.get(key) is None
        True
        >>> cache.put(key, Metrics({"accuracy": 0.9})).values
        {'accuracy': 0.9}
        >>> cache.put(key, Metrics({"accuracy": 0.8})).values
        {'accuracy': 0.9}

    Args:
        engine: A database that has the table; `of` sees to that.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @classmethod
    def of(cls, storage: BaseStorage) -> EvaluationCache:
        """The cache in the database of `storage`.

        A storage that is not a database (in memory, a journal) has a cache that lives in this
        process, as long as the storage object.
        """
        return cls(engine_with(_TABLE, storage))

    def get(self, key: EvaluationKey) -> Metrics | None:
        """The result stored for `key`, or None.

        One that cannot be read counts as absent, with a warning: the architecture is then
        evaluated again, and `put` replaces what was unreadable.
        """
        payload = self._payload(key)
        if payload is None:
            return None
        metrics = _read(payload)
        if metrics is None:
            warnings.warn(
                f"The stored result of {key} cannot be read and is evaluated again; "
                "was the table nas_evaluations changed by hand?",
                stacklevel=2,
            )
        return metrics

    @patient
    def put(self, key: EvaluationKey, metrics: Metrics) -> Metrics:
        """Store a result unless there is one, and return the stored one: the first wins."""
        row = dict(zip(("digest", "evaluator", "data", "seed"), astuple(key), strict=True))
        new = {"payload": metrics.to_json(), "created": datetime.now(UTC)}
        try:
            with self._engine.begin() as connection:
                connection.execute(_TABLE.insert().values(**row, **new))
            return metrics
        except IntegrityError:
            stored = self._payload(key) or ""
        first = _read(stored)
        if first is not None:
            return first
        with self._engine.begin() as connection:
            same = _where(key) & (_TABLE.c.payload == stored)
            connection.execute(_TABLE.update().where(same).values(**new))
        return _read(self._payload(key) or "") or metrics

    @patient
    def _payload(self, key: EvaluationKey) -> str | None:
        with self._engine.connect() as connection:
            query = sa.select(_TABLE.c.payload).where(_where(key))
            payload: str | None = connection.scalar(query)
        return payload


def _where(key: EvaluationKey) -> sa.ColumnElement[bool]:
    columns = zip(_TABLE.primary_key.columns, astuple(key), strict=True)
    return sa.and_(*(column == value for column, value in columns))


def _read(payload: str) -> Metrics | None:
    try:
        return Metrics.from_json(payload)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None

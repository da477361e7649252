"""What a strategy has learned, kept in the study database so that it survives its process.

A state is written with compare-and-swap on its version, carries a checksum, and is checked when
it is read. It is a checkpoint: whoever learns must be able to rebuild it from the trials, since a
state can be damaged, and a copy of a study (`optuna.copy_study`) comes without it.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from optuna.study import Study
from sqlalchemy.exc import IntegrityError

from nas_optuna.storage.tables import engine_with
from nas_optuna.storage.waiting import patient

_TABLE = sa.Table(
    "nas_states",
    sa.MetaData(),
    sa.Column("study_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("checksum", sa.String(64), nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("written", sa.DateTime(timezone=True), nullable=False),
)
_META = "meta"  # the entry of the payload that holds `State.meta`


@dataclass(frozen=True, slots=True)
class State:
    """What a strategy has learned: numbers, and what they mean.

    Args:
        meta: Whatever JSON can hold.
        arrays: Arrays of numbers by name; no name is `meta`.
    """

    meta: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies in the database.

    Args:
        version: Grows by one with each write; 0 if nothing was ever written.
        state: None if nothing was ever written, or it was refused.
    """

    version: int
    state: State | None


class SamplerStates:
    """The stored state of one strategy in one study.

    In a study that is not in a database (in memory, a journal) the state lives in this process,
    as long as the storage object.

    Args:
        study: The study that the state belongs to. It must have a trial.
        key: Name of the strategy.
        settings: All settings that the state depends on, as text; a state that was written with
            others is refused.

    Example:
        >>> import optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study()
        >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        >>> states = SamplerStates(study, "mine", settings="width=2")
        >>> states.store(State({"steps": 5}, {"weights": np.zeros(2)}), version=0)
        True
        >>> states.store(State({"steps": 6}), version=0)  # someone else was faster
        False
        >>> stored = states.load()
        >>> stored.version, stored.state.meta, stored.state.arrays["weights"].tolist()
        (1, {'steps': 5}, [0.0, 0.0])
    """

    def __init__(self, study: Study, key: str, settings: str) -> None:
        self._engine = engine_with(_TABLE, study._storage)
        self._study = study.study_name
        self._id, self._key = study._study_id, key
        self._owner = _owner(study, settings)

    @patient
    def version(self) -> int:
        """Version of what is stored, which costs less to ask than the state; 0 if nothing is."""
        with self._engine.connect() as connection:
            version = connection.scalar(sa.select(_TABLE.c.version).where(self._where()))
        return int(version or 0)

    @patient
    def load(self, fits: Callable[[State], bool] = lambda state: True) -> Stored:
        """Read the state, and refuse it with one warning if it is damaged or not this study's.

        The version is given even so: with it `store` replaces what was refused.

        Args:
            fits: Whether a state that is whole can be used; a KeyError counts as no.
        """
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_TABLE).where(self._where())).one_or_none()
        if row is None:
            return Stored(0, None)
        try:
            if row.checksum != _checksum(row.owner, row.payload):
                raise ValueError("is damaged")
            if row.owner != self._owner:
                raise ValueError("was written for another study or with other settings")
            return Stored(int(row.version), _unpack(row.payload, fits))
        except ValueError as problem:
            warnings.warn(
                f"The stored state of {self._key!r} for the study {self._study!r} {problem}; "
                "it is refused and rebuilt from the trials.",
                stacklevel=2,
            )
        return Stored(int(row.version), None)

    @patient
    def store(self, state: State, version: int) -> bool:
        """Write a state, unless somebody wrote one since.

        Args:
            state: The new state.
            version: Version of the state that this one goes on from, as `load` gave it.

        Returns:
            Whether it was written, now as `version + 1`. If not, load what the others wrote and
            add to that.
        """
        payload = _pack(state)
        row = {
            "version": version + 1,
            "owner": self._owner,
            "checksum": _checksum(self._owner, payload),
            "payload": payload,
            "written": datetime.now(UTC),
        }
        with self._engine.begin() as connection:
            if version:
                same = self._where() & (_TABLE.c.version == version)
                return connection.execute(_TABLE.update().where(same).values(**row)).rowcount == 1
        return self._insert(row)

    def _insert(self, row: dict[str, Any]) -> bool:
        try:
            with self._engine.begin() as connection:
                connection.execute(_TABLE.insert().values(study_id=self._id, key=self._key, **row))
        except IntegrityError:
            return False
        return True

    def _where(self) -> sa.ColumnElement[bool]:
        return sa.and_(_TABLE.c.study_id == self._id, _TABLE.c.key == self._key)


def _owner(study: Study, settings: str) -> str:
    """Tell one study from another that got the number of a deleted one, or from a namesake."""
    began = study.get_trials(deepcopy=False)[0].datetime_start
    # As a timestamp: Optuna gives the time of day where the process runs.
    text = json.dumps([study.study_name, began and began.timestamp(), settings])
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(owner: str, payload: bytes) -> str:
    return hashlib.sha256(owner.encode() + payload).hexdigest()


def _pack(state: State) -> bytes:
    file = io.BytesIO()
    meta = np.frombuffer(json.dumps(dict(state.meta)).encode(), dtype=np.uint8)
    np.savez(file, **{_META: meta}, **state.arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _unpack(payload: bytes, fits: Callable[[State], bool]) -> State:
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        state = State(json.loads(arrays.pop(_META).tobytes()), arrays)
        if fits(state):
            return state
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        pass
    raise ValueError("cannot be used")

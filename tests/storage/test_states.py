"""What a strategy learned: written by many, checked when read, never unpickled."""

import io
import pickle
import warnings

import numpy as np
import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

import nas_optuna.storage
from nas_optuna.storage import SamplerStates, State, engine_of
from nas_optuna.storage.states import _checksum

from .processes import together

ARRAYS = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array([1, 2])}
META = {"baseline": 0.1, "numbers": [0, 1, 2], "names": ["a.b", "ü"]}
PROCESSES, EACH = 4, 20


def study_in(storage, name="s"):
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True)
    if not study.trials:
        study.tell(study.ask(), 0.0)
    return study


def states_of(study, settings="width=2"):
    return SamplerStates(study, "mine", settings)


@pytest.fixture(params=["ours", "plain", "memory", "journal"])
def any_storage(request, tmp_path):
    url = f"sqlite:///{tmp_path}/nas.db"
    return {
        "ours": lambda: nas_optuna.storage.open(url),
        "plain": lambda: RDBStorage(url),
        "memory": InMemoryStorage,
        "journal": lambda: JournalStorage(JournalFileBackend(f"{tmp_path}/journal")),
    }[request.param]()


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_what_is_stored_is_loaded(any_storage):
    study = study_in(any_storage)
    assert states_of(study).load().state is None
    assert states_of(study).version() == 0
    assert states_of(study).store(State(META, ARRAYS), version=0)
    stored = states_of(study).load()
    assert stored.version == states_of(study).version() == 1
    assert stored.state.meta == META
    assert {name: a.tolist() for name, a in stored.state.arrays.items()} == {
        name: a.tolist() for name, a in ARRAYS.items()
    }
    assert stored.state.arrays["weights"].dtype == np.float32


def test_keys_and_studies_do_not_mix():
    storage = InMemoryStorage()
    first, second = study_in(storage, "first"), study_in(storage, "second")
    assert states_of(first).store(State({"of": "first"}), version=0)
    assert states_of(second).load().state is None
    assert SamplerStates(first, "other", "width=2").load().state is None


def test_only_one_of_two_writers_goes_on_from_a_version():
    states = states_of(study_in(InMemoryStorage()))
    assert states.store(State({"by": 1}), version=0)
    assert not states.store(State({"by": 2}), version=0)
    assert states.store(State({"by": 3}), version=1)
    assert not states.store(State({"by": 4}), version=1)
    assert states.load().state.meta == {"by": 3}


def count_up(url):
    states = states_of(study_in(nas_optuna.storage.open(url)))
    for _ in range(EACH):
        while True:
            stored = states.load()
            count = stored.state.meta["count"] if stored.state else 0
            if states.store(State({"count": count + 1}), stored.version):
                break


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_processes_lose_no_update(storage_url):
    study = study_in(nas_optuna.storage.open(storage_url))
    assert together(count_up, PROCESSES, storage_url) == [None] * PROCESSES
    assert states_of(study).load().state.meta == {"count": PROCESSES * EACH}


def refused(states, reason):
    with pytest.warns(UserWarning, match=reason) as caught:
        stored = states.load()
    assert stored.state is None
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    return stored.version


@pytest.fixture
def damaged(storage_url):
    """Stored states, and how to change columns of their row."""
    storage = nas_optuna.storage.open(storage_url)
    states = states_of(study_in(storage))
    states.store(State(META, ARRAYS), version=0)

    def change(**columns):
        values = ", ".join(f"{name} = :{name}" for name in columns)
        with engine_of(storage).begin() as connection:
            connection.execute(sa.text(f"UPDATE nas_states SET {values}"), columns)

    with engine_of(storage).begin() as connection:
        row = connection.execute(sa.text("SELECT owner, payload FROM nas_states")).one()
    return states, row.owner, bytes(row.payload), change


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_damaged_state_is_refused_and_can_be_replaced(damaged):
    states, _, payload, change = damaged
    for broken in (b"", payload[:-1], payload[:100] + b"\x00" + payload[101:]):
        change(payload=broken)
        version = refused(states, "'mine' for the study 's' is damaged; it is refused and rebuilt")
    assert version == 1
    assert states.store(State({"new": True}), version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert states.load().state.meta == {"new": True}


class Bomb:
    """Raises when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled what was in the database",)


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_nothing_is_unpickled(damaged):
    states, owner, _, change = damaged
    file = io.BytesIO()
    np.savez(file, meta=np.array([Bomb()], dtype=object))
    for payload in (file.getvalue(), pickle.dumps(Bomb())):
        change(payload=payload, checksum=_checksum(owner, payload))
        refused(states, "cannot be used")


def test_a_state_that_does_not_fit_is_refused():
    states = states_of(study_in(InMemoryStorage()))
    states.store(State(META, ARRAYS), version=0)
    assert states.load(lambda state: state.meta["baseline"] == 0.1).state
    for fits in (lambda state: False, lambda state: state.meta["missing"]):
        with pytest.warns(UserWarning, match="cannot be used"):
            assert states.load(fits).state is None


def test_a_state_of_other_settings_is_refused():
    study = study_in(InMemoryStorage())
    states_of(study).store(State(META), version=0)
    refused(states_of(study, settings="width=3"), "other settings")


def test_a_study_that_got_the_number_of_a_deleted_one_does_not_get_its_state(tmp_path):
    storage = RDBStorage(f"sqlite:///{tmp_path}/nas.db")
    old = study_in(storage)
    states_of(old).store(State(META), version=0)
    optuna.delete_study(study_name="s", storage=storage)
    new = study_in(storage)
    assert new._study_id == old._study_id
    refused(states_of(new), "another study")


def test_a_copied_study_comes_without_its_state(tmp_path):
    storage, other = InMemoryStorage(), RDBStorage(f"sqlite:///{tmp_path}/nas.db")
    states_of(study_in(storage)).store(State(META), version=0)
    optuna.copy_study(from_study_name="s", from_storage=storage, to_storage=other)
    copy = optuna.load_study(study_name="s", storage=other)
    assert states_of(copy).load().state is None

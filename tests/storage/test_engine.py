import pickle
import sqlite3
import subprocess
import sys
import warnings

import optuna
import psycopg
import pytest
import sqlalchemy as sa

import nas_optuna.storage
from nas_optuna.errors import StorageError
from nas_optuna.storage import engine_of, mask

from .processes import open_and_ask, pop_all, together

SECRET = "s3cret"


def test_six_processes_open_a_fresh_database_at_once(storage_url):
    numbers = together(open_and_ask, 6, storage_url)
    assert sorted(numbers, key=str) == list(range(6))
    engine = nas_optuna.storage.open(storage_url).engine
    indexes = sa.inspect(engine).get_indexes("studies")
    assert "ix_studies_study_name" in {i["name"] for i in indexes if i["unique"]}


def test_each_enqueued_trial_is_popped_once(storage_url):
    storage = nas_optuna.storage.open(storage_url)
    study = optuna.create_study(study_name="queue", storage=storage)
    for x in range(30):
        study.enqueue_trial({"x": x})
    popped = [number for numbers in together(pop_all, 3, storage_url) for number in numbers]
    # One that found the last one taken asked for a new trial: numbers from 30 on.
    assert sorted(popped) == list(range(len(popped)))
    assert len(popped) >= 30


def test_sqlite_transactions_are_immediate_and_in_wal_mode(tmp_path):
    storage = nas_optuna.storage.open(f"sqlite:///{tmp_path}/nas.db")
    with storage.engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL
        other = sqlite3.connect(tmp_path / "nas.db", timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")


def test_heartbeat_is_on_and_opening_warns_of_nothing(storage_url):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        storage = nas_optuna.storage.open(storage_url)
    assert storage.get_heartbeat_interval() == 60
    assert storage.grace_period == 180


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql", "postgres"])
def test_all_forms_of_a_postgresql_url(postgres_url, scheme):
    url = postgres_url.replace("postgresql+psycopg", scheme)
    assert nas_optuna.storage.open(url).engine.dialect.driver == "psycopg"


def test_a_pickled_storage_opens_the_same_database(storage_url):
    storage = nas_optuna.storage.open(storage_url)
    optuna.create_study(storage=storage, study_name="kept")
    again = pickle.loads(pickle.dumps(storage))
    assert [s.study_name for s in again.get_all_studies()] == ["kept"]


def test_braces_in_a_file_name(tmp_path):
    nas_optuna.storage.open(f"sqlite:///{tmp_path}/{{a}}.db")
    assert (tmp_path / "{a}.db").exists()


def test_engine_of_looks_through_optunas_cache(storage_url):
    storage = nas_optuna.storage.open(storage_url)
    study = optuna.create_study(storage=storage)
    assert study._storage is not storage
    assert engine_of(study._storage) is engine_of(storage) is storage.engine


def test_engine_of_what_is_no_database(tmp_path):
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
    assert engine_of(optuna.storages.JournalStorage(journal)) is None
    assert engine_of(optuna.storages.InMemoryStorage()) is None


def refusal(url):
    """The message with which `url` is refused: one line, without the password or a cause."""
    with pytest.raises(StorageError) as caught:
        nas_optuna.storage.open(url)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://ada:{SECRET}@host/nas",
        f"postgresql+psycopg2://ada:{SECRET}@host/nas",
        f"postgresql://ada:x@{SECRET}@host/nas",  # would make a part of the password the host
        f"postgresql://ada@host:{SECRET}/nas",  # not a port
        f"host=db password={SECRET}",
        "nas.db",
        "",
    ],
)
def test_other_urls_are_refused_with_the_accepted_forms(url):
    message = refusal(url)
    assert "sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in message


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite://nas.db"])
def test_sqlite_without_a_file_is_refused(url):
    assert "sqlite:///nas.db" in refusal(url)


def test_missing_folder(tmp_path):
    assert "missing" in refusal(f"sqlite:///{tmp_path}/missing/nas.db")


def test_not_a_database(tmp_path):
    (tmp_path / "notes.txt").write_text("milk, bread " * 100)
    assert "file is not a database" in refusal(f"sqlite:///{tmp_path}/notes.txt")


def test_a_folder_in_place_of_the_file(tmp_path):
    assert "unable to open database file" in refusal(f"sqlite:///{tmp_path}")


def test_unwritable_file(tmp_path):
    # Opened read-only by SQLite itself: permissions do not bind an account such as root.
    nas_optuna.storage.open(f"sqlite:///{tmp_path}/nas.db")
    message = refusal(f"sqlite:///file:{tmp_path}/nas.db?mode=ro&uri=true")
    assert "readonly" in message


def test_unreachable_server():
    # Port 1 of the loopback address: nothing listens, so the connection is refused at once.
    message = refusal(f"postgresql://ada:{SECRET}@127.0.0.1:1/nas")
    assert "ada:***@127.0.0.1:1" in message


def test_password_in_the_query_is_not_shown_either():
    refusal(f"postgresql://ada@127.0.0.1:1/nas?password={SECRET}")


def test_missing_database_on_a_server(postgres_url):
    url = postgres_url.rsplit("/", 1)[0].replace("postgres@", f"postgres:{SECRET}@")
    assert 'database "absent" does not exist' in refusal(f"{url}/absent")


def test_a_driver_that_repeats_the_password(monkeypatch):
    def connect(*args, **settings):
        raise psycopg.OperationalError(f"cannot parse:\n password={settings['password']}")

    monkeypatch.setattr(psycopg, "connect", connect)
    assert "cannot parse: password=***" in refusal(f"postgresql://ada:{SECRET}@host/nas")


def test_missing_psycopg(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # the import system then refuses it
    assert "pip install nas-optuna[postgres]" in refusal(f"postgresql://a:{SECRET}@host/nas")


def test_tables_of_another_optuna(storage_url):
    storage = nas_optuna.storage.open(storage_url)
    with storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v0.9.0.a'"))
    message = refusal(storage_url)
    assert "v0.9.0.a" in message
    assert "optuna storage upgrade" in message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///nas.db", "sqlite:///nas.db"),
        ("postgres://ada@host/nas", "postgresql+psycopg://ada@host/nas"),
        (f"postgres://ada:{SECRET}@host/nas", "postgresql+psycopg://ada:***@host/nas"),
        (f"mysql://ada:{SECRET}@host/nas", "mysql://ada:***@host/nas"),
        (f"postgresql://host/nas?password={SECRET}", "postgresql+psycopg://host/nas"),
        (f"ada:{SECRET}@host", "ada..."),
    ],
)
def test_mask(url, shown):
    assert mask(url) == shown


def test_storage_does_not_import_torch():
    code = "import sys, nas_optuna.storage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

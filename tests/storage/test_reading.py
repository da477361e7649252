"""Opening a database to look at it: equal to Optuna's reading, and no trace of it."""

import contextlib
import copy
import os
import pwd
import sqlite3
import tempfile
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

import nas_optuna.storage
from nas_optuna.errors import StorageError
from nas_optuna.storage.reading import open_to_read


def fill(url):
    """A study with trials of all states and kinds of values, and one beside it."""
    storage = nas_optuna.storage.open(url)
    optuna.create_study(storage=storage, study_name="other").add_trial(create_trial(value=1.0))
    study = optuna.create_study(
        storage=storage, study_name="mixed", directions=["maximize", "minimize"]
    )
    study.enqueue_trial({"y": "b"})
    study.enqueue_trial({"y": "a"})
    running = study.ask()
    running.suggest_categorical("y", ["a", "b", None])
    running.set_user_attr("long", "x" * 5000)
    storage.set_trial_intermediate_value(running._trial_id, 2, float("nan"))
    storage.set_trial_intermediate_value(running._trial_id, 1, float("inf"))
    study.add_trials(
        [
            create_trial(
                values=[float("-inf"), 2.0],
                params={"z": 0.5, "a": True},
                distributions={
                    "z": FloatDistribution(0, 1),
                    "a": CategoricalDistribution([True, False]),
                },
                user_attrs={"text": "ü", "list": [1, {"a": None}]},
                system_attrs={"constraints": [0.5]},
            ),
            create_trial(state=TrialState.PRUNED, intermediate_values={3: 0.1, 1: 0.2}),
            create_trial(state=TrialState.FAIL),
        ]
    )
    return study, running


def comparable(trials):
    """Trials with their curves as text, since one NaN is not equal to another."""
    curves = [{s: repr(v) for s, v in trial.intermediate_values.items()} for trial in trials]
    trials = copy.deepcopy(trials)
    for trial in trials:
        trial.intermediate_values = {}
    return trials, curves


def test_trials_are_those_that_optuna_reads(storage_url):
    study, running = fill(storage_url)
    reading = open_to_read(storage_url)
    first = comparable(reading.get_all_trials(study._study_id))
    assert first == comparable(study.get_trials())
    assert first[1][0] == {1: "inf", 2: "nan"}
    study.tell(running, [0.5, 0.5])
    study.add_trial(create_trial(values=[1.0, 1.0]))  # read by now: all but these two
    again = reading.get_all_trials(study._study_id)
    assert comparable(again) == comparable(study.get_trials())
    assert [list(t.params) for t in again][2] == ["z", "a"]
    finished = reading.get_all_trials(study._study_id, states=(TrialState.FAIL,))
    assert [trial.number for trial in finished] == [4]


def test_an_unknown_study_is_a_key_error(storage_url):
    nas_optuna.storage.open(storage_url)
    with pytest.raises(KeyError):
        open_to_read(storage_url).get_all_trials(7)


def test_it_can_be_written_where_that_is_allowed(storage_url):
    study, _ = fill(storage_url)
    reading = open_to_read(storage_url)
    reading.set_study_system_attr(study._study_id, "dashboard:note_str:0", "mine")
    system_attrs = study._storage.get_study_system_attrs(study._study_id)
    assert system_attrs["dashboard:note_str:0"] == "mine"


def test_reading_waits_for_no_writer(tmp_path):
    url = f"sqlite:///{tmp_path}/nas.db"
    study, _ = fill(url)
    writer = sqlite3.connect(tmp_path / "nas.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert len(open_to_read(url).get_all_trials(study._study_id)) == 5
    finally:
        writer.execute("ROLLBACK")


def test_nothing_is_made(tmp_path):
    with pytest.raises(StorageError, match=r"no database '.*nas.db'; `nas-optuna run` makes one"):
        open_to_read(f"sqlite:///{tmp_path}/nas.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.db").touch()
    with pytest.raises(StorageError, match="no such table"):
        open_to_read(f"sqlite:///{tmp_path}/empty.db")
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_file_that_is_deleted_meanwhile_is_not_made_again(tmp_path):
    url = f"sqlite:///{tmp_path}/n a%20s#?.db"
    fill(url)
    reading = open_to_read(url)
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(optuna.exceptions.StorageInternalError):
        reading.get_all_studies()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("secret", ["s3cret"])
def test_a_server_that_does_not_answer_costs_one_line(secret):
    with pytest.raises(StorageError, match=r"ada:\*\*\*@127.0.0.1:1") as caught:
        open_to_read(f"postgresql://ada:{secret}@127.0.0.1:1/nas")
    assert secret not in str(caught.value)


def test_an_account_that_may_only_select(postgres_url):
    study, _ = fill(postgres_url)
    server = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE ROLE viewer LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO viewer")
        reading = open_to_read(postgres_url.replace("postgres@", "viewer@"))
        try:
            assert len(reading.get_all_trials(study._study_id)) == 5
            with pytest.raises(optuna.exceptions.StorageInternalError):
                reading.set_study_user_attr(study._study_id, "a", 1)
        finally:
            reading.remove_session()
            reading._backend.engine.dispose()
            connection.execute("DROP OWNED BY viewer")
            connection.execute("DROP ROLE viewer")


@contextlib.contextmanager
def someone_else():
    """Do what is in the block as an account without rights."""
    if os.geteuid() != 0:  # permissions bind this account as well
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_beside_which_nothing_can_be_written():
    with tempfile.TemporaryDirectory(prefix="nas-reading-") as folder:
        url = f"sqlite:///{folder}/nas.db"
        study, _ = fill(url)
        study._storage.remove_session()
        study._storage._backend.engine.dispose()  # the last one: its files beside it are gone
        assert [file.name for file in Path(folder).iterdir()] == ["nas.db"]
        Path(folder, "nas.db").chmod(0o444)
        Path(folder).chmod(0o555)
        with someone_else():
            reading = open_to_read(url)
            assert len(reading.get_all_trials(study._study_id)) == 5
            with pytest.raises(optuna.exceptions.StorageInternalError):
                reading.set_study_user_attr(study._study_id, "a", 1)
        Path(folder).chmod(0o755)

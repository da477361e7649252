"""Optuna's own tests of a storage, over ours."""

import pytest
from optuna.storages import get_storage
from optuna.testing.pytest_storages import StorageTestCase

import nas_optuna.storage


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def database(request, tmp_path_factory):
    """One database for all the tests here: making the tables takes longer than most of them."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('conformance') / 'nas.db'}"
        yield nas_optuna.storage.open(url)
    else:
        with request.getfixturevalue("postgres_database")() as url:
            yield nas_optuna.storage.open(url)


@pytest.fixture
def storage(database):
    for study in database.get_all_studies():
        database.delete_study(study._study_id)
    return get_storage(database)


class TestStorage(StorageTestCase):
    # These two want a new trial to have no system attribute; test_ownership.py compares ours
    # with Optuna's, the owner aside.
    test_create_new_trial = None
    test_set_trial_system_attr = None

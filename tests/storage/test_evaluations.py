import gc
import threading
import warnings
import weakref

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

import nas_optuna.storage
from nas_optuna.metrics import Metrics
from nas_optuna.storage import EvaluationCache, EvaluationKey, engine_of

from .processes import put_own_number, together

KEY = EvaluationKey("digest", evaluator="e", data="d", seed=2**40)
METRICS = Metrics(
    {"accuracy": 0.5, "loss": 1.25}, epochs=2, seconds=0.1, curve=(0.4, 0.5), notes={"a": "b"}
)


@pytest.fixture(params=["ours", "plain", "memory", "journal"])
def any_storage(request, tmp_path):
    url = f"sqlite:///{tmp_path}/nas.db"
    return {
        "ours": lambda: nas_optuna.storage.open(url),
        "plain": lambda: RDBStorage(url),
        "memory": InMemoryStorage,
        "journal": lambda: JournalStorage(JournalFileBackend(f"{tmp_path}/journal")),
    }[request.param]()


def test_what_is_put_can_be_got(any_storage):
    cache = EvaluationCache.of(any_storage)
    assert cache.get(KEY) is None
    assert cache.put(KEY, METRICS) == METRICS
    assert cache.get(KEY) == METRICS
    assert EvaluationCache.of(any_storage).get(KEY) == METRICS


def test_the_first_result_wins(any_storage):
    cache = EvaluationCache.of(any_storage)
    cache.put(KEY, METRICS)
    assert cache.put(KEY, Metrics({"accuracy": 0.9})) == METRICS
    assert cache.get(KEY) == METRICS


@pytest.mark.parametrize(
    "other",
    [
        EvaluationKey("other", "e", "d", 2**40),
        EvaluationKey("digest", "other", "d", 2**40),
        EvaluationKey("digest", "e", "other", 2**40),
        EvaluationKey("digest", "e", "d", 0),
    ],
)
def test_each_part_of_the_key_counts(other):
    storage = InMemoryStorage()
    EvaluationCache.of(storage).put(KEY, METRICS)
    assert EvaluationCache.of(storage).get(other) is None


def test_results_are_shared_by_studies_and_processes(storage_url):
    study = optuna.create_study(storage=nas_optuna.storage.open(storage_url))
    EvaluationCache.of(study._storage).put(KEY, METRICS)
    again = optuna.create_study(storage=nas_optuna.storage.open(storage_url))
    assert EvaluationCache.of(again._storage).get(KEY) == METRICS


def test_processes_that_put_at_once_get_the_same_result(storage_url):
    results = together(put_own_number, 4, storage_url, KEY)
    assert len(set(results)) == 1, results
    cache = EvaluationCache.of(nas_optuna.storage.open(storage_url))
    assert cache.get(KEY).values == {"loss": results[0]}


@pytest.mark.parametrize("payload", ["", "{", "[]", "{}", '{"values": [], "epochs": 0}', "null"])
def test_an_unreadable_result_is_evaluated_again(storage_url, payload):
    storage = nas_optuna.storage.open(storage_url)
    cache = EvaluationCache.of(storage)
    cache.put(KEY, METRICS)
    with engine_of(storage).begin() as connection:
        connection.execute(sa.text("UPDATE nas_evaluations SET payload = :p"), {"p": payload})
    with pytest.warns(UserWarning, match="digest='digest'.*cannot be read") as caught:
        assert cache.get(KEY) is None
    assert len(caught) == 1
    new = Metrics({"accuracy": 0.75})
    assert cache.put(KEY, new) == new
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get(KEY) == new


def test_threads_share_the_cache_of_a_storage_in_memory():
    storage, count = InMemoryStorage(), 8
    ready = threading.Barrier(count)

    def put(number):
        ready.wait()
        cache = EvaluationCache.of(storage)
        for digest in range(50):
            cache.put(EvaluationKey(str(digest), "e", "d", number), Metrics({"loss": number}))

    threads = [threading.Thread(target=put, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache = EvaluationCache.of(storage)
    for number in range(count):
        for digest in range(50):
            stored = cache.get(EvaluationKey(str(digest), "e", "d", number))
            assert stored.values == {"loss": number}


@pytest.mark.parametrize("kind", ["memory", "database"])
def test_nothing_outlives_its_storage(tmp_path, kind):
    database = f"sqlite:///{tmp_path}/nas.db"
    storage = InMemoryStorage() if kind == "memory" else nas_optuna.storage.open(database)
    engine = EvaluationCache.of(storage)._engine
    gone = [weakref.ref(storage), weakref.ref(engine)]
    del storage, engine
    gc.collect()
    assert [ref() for ref in gone] == [None, None]

"""A study goes on, whoever is killed: workers with -9, and the database server under them."""

import logging
import os
import random
import threading
import time

import psycopg
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from nas_optuna.metrics import Metrics
from nas_optuna.storage import EvaluationCache, EvaluationKey, waiting
from nas_optuna.storage import open as open_storage
from tests.crews import evaluations, goal, search, start

FULL = "NAS_OPTUNA_CHAOS" in os.environ  # the whole: 200 trials, 40 kills; some minutes
TRIALS, KILLS = (200, 40) if FULL else (60, 12)
WORKERS = 4
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def values(study):
    return {t.number: t.values for t in study.get_trials(deepcopy=False, states=FINISHED)}


class Crew:
    """Workers that are replaced when they are killed."""

    def __init__(self, *args, **options):
        self.args, self.options = args, options
        self.workers = [self.start() for _ in range(WORKERS)]
        self.exits = []

    def start(self):
        return start(*self.args, **self.options)

    def kill_one(self, rng):
        """Kill a worker with -9 and put another in its place; False if none is left."""
        alive = [worker for worker in self.workers if worker.is_alive()]
        if not alive:
            return False
        victim = rng.choice(alive)
        victim.kill()
        victim.join()
        self.workers[self.workers.index(victim)] = self.start()
        return True

    def join(self):
        for worker in self.workers:
            worker.join(timeout=240)
        return [worker.exitcode for worker in self.workers]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_workers_and_a_restarted_server_lose_nothing(postgres, postgres_url, tmp_path):
    rng, log = random.Random(0), tmp_path / "log"
    study = search(postgres_url, log, sampler="nsga2").create()
    crew = Crew(
        postgres_url, log, goal(TRIALS), sampler="nsga2", epochs=2, seconds=0.02 if FULL else 0.01
    )
    seen, kills = {}, 0
    while kills < KILLS:
        # Spread over the study, by its progress; one that ends first makes the test fail.
        while len(values(study)) < kills * TRIALS // (KILLS + 2):
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.2))
        seen |= values(study)
        assert crew.kill_one(rng)
        kills += 1
        if kills in (KILLS // 3, 2 * KILLS // 3):
            postgres.stop("fast" if kills == KILLS // 3 else "immediate")
            time.sleep(1.0)
            postgres.start()
    assert crew.join() == [0] * WORKERS  # the study ended by itself

    last = values(study)
    assert len(last) == TRIALS
    assert {number: last[number] for number in seen} == seen  # no finished trial lost or changed
    trials = study.get_trials(deepcopy=False)
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert [t.number for t in trials] == list(range(len(trials)))
    best = max(v for v, _ in seen.values())
    assert max(v for v, _ in last.values()) >= best
    # A network may be trained once more only if its worker was killed before it stored the result.
    assert len(evaluations(log)) - len(set(evaluations(log))) <= KILLS


def test_a_server_that_is_away_is_waited_for(
    postgres, postgres_url, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(waiting, "_TOLD_AFTER", 0.5)
    made = search(postgres_url, tmp_path / "log", epochs=4, seconds=0.05)
    study = made.create()
    outage = threading.Event()

    def away(study, trial):
        if trial.number == 2 and not outage.is_set():
            outage.set()
            postgres.stop("fast")
            threading.Timer(2.5, postgres.start).start()

    with caplog.at_level(logging.WARNING, logger="nas_optuna.storage.waiting"):
        made.optimize(study, trials=8, callbacks=[away])
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 8
    assert [record.getMessage()[:20] for record in caplog.records] == [
        "The database is away",
        "The database is back",
    ]


def test_the_connection_breaks_in_the_middle_of_everything(
    postgres_url, tmp_path, postgres_server
):
    """The server ends the session again and again, before and after commits."""
    made = search(postgres_url, tmp_path / "log")
    study = made.create()
    done = threading.Event()

    def break_connections():
        name = postgres_url.rsplit("/", 1)[1]
        with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
            while not done.wait(0.2):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [name],
                )

    breaker = threading.Thread(target=break_connections)
    breaker.start()
    try:
        made.optimize(study, trials=12)
    finally:
        done.set()
        breaker.join()
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 12
    assert [t.number for t in study.trials] == list(range(12))


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_lost_answer_starts_no_second_trial(postgres_url, tmp_path, monkeypatch):
    """The server commits and the connection breaks before it can say so."""
    study = search(postgres_url, tmp_path / "log").create()
    storage = study._storage._backend
    study.enqueue_trial({"width": 4, "kernel_size": 1})
    lost = []

    def lose_answer(name):
        original = getattr(storage, name)

        def answer(*args, **kwargs):
            result = original(*args, **kwargs)
            if name not in lost:
                lost.append(name)
                raise lost_connection()
            return result

        monkeypatch.setattr(storage, name, answer)

    for name in ("_claim", "_add"):
        lose_answer(name)
    popped, made = study.ask(), study.ask()
    assert lost == ["_claim", "_add"]
    assert [popped.number, made.number] == [0, 1]
    assert [t.state for t in study.get_trials()] == [TrialState.RUNNING] * 2
    assert study.get_trials()[0].params == {} == made.params


def lost_connection():
    cause = psycopg.OperationalError("server closed the connection unexpectedly")
    return OperationalError("COMMIT", {}, cause, connection_invalidated=True)


def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "PATIENCE", 5.0)
    storage = open_storage(f"sqlite:///{tmp_path}/nas.db")
    cache = EvaluationCache.of(storage)
    with storage.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
        connection.commit()
    began = time.monotonic()

    def fill():
        for seed in range(10_000):
            key = EvaluationKey("d" * 100, "e", "d", seed)
            cache.put(key, Metrics({"loss": 0.5}, curve=(0.25,) * 50))

    with pytest.raises(OperationalError, match="database or disk is full"):
        fill()
    assert time.monotonic() - began < 5.0  # it does not pass, so nobody waits for it

"""Real processes for the tests of what processes do to each other."""

import itertools
import multiprocessing
import os
import signal
import time
import warnings

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from sqlalchemy import event

import nas_optuna.storage
from nas_optuna.metrics import Metrics
from nas_optuna.storage import EvaluationCache, draw_index, engine_of, reap

warnings.filterwarnings("ignore", "Heartbeat of storage")  # some tests ask without optimize
optuna.logging.set_verbosity(optuna.logging.WARNING)
# Each process is forked from one that has no more than the imports: quick, and no open database.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "nas_optuna.storage", "alembic.command", "optuna.storages._rdb.models", "psycopg",
        "nas_optuna.workers", "torch._dynamo",
    ]
)  # fmt: skip


def together(function, count, *args):
    """Results of `function(*args)` from `count` processes that start it at the same moment."""
    barrier, results = CONTEXT.Barrier(count), CONTEXT.Queue()
    runs = [
        CONTEXT.Process(target=_report, args=(function, args, barrier, results))
        for _ in range(count)
    ]
    for run in runs:
        run.start()
    found = [results.get(timeout=120) for _ in runs]
    for run in runs:
        run.join()
    return found


def _report(function, args, barrier, results):
    barrier.wait(timeout=60)
    try:
        results.put(function(*args))
    except Exception as error:
        results.put(error)


def start(function, *args):
    process = CONTEXT.Process(target=function, args=args, daemon=True)
    process.start()
    return process


def open_and_ask(url):
    """Open a database that may be empty, join its study, and add one trial."""
    storage = nas_optuna.storage.open(url)
    EvaluationCache.of(storage)
    study = optuna.create_study(storage=storage, study_name="shared", load_if_exists=True)
    return study.ask().number


def pop_all(url):
    """Take the trials of a queue until it is empty; return the numbers that came."""
    study = optuna.load_study(study_name="queue", storage=nas_optuna.storage.open(url))
    numbers = []
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        trial = study.ask()
        numbers.append(trial.number)
        study.tell(trial, 0.0)
    return numbers


class DrawSampler(BaseSampler):
    """Random search whose draws are a function of the trial's draw index."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        position = int(name[1:])
        seed = [draw_index(study, trial), position]
        return int(np.random.default_rng(seed).integers(distribution.high + 1))


def formula(trial):
    total = 0
    for position in range(3):
        total += trial.suggest_int(f"x{position}", 0, 999)
        time.sleep(0.003)  # as long as a write, so that a kill falls into either
    trial.set_constraint("limit", total - 1500.0)
    return float(total)


def study_of(url):
    return optuna.create_study(
        storage=nas_optuna.storage.open(url),
        study_name="killed",
        sampler=DrawSampler(),
        load_if_exists=True,
    )


def search(url, trials, ready):
    """Continue the study, as after a kill; `ready` is set when a trial is finished."""
    study = study_of(url)
    reap(study)
    study.optimize(formula, n_trials=trials, callbacks=[lambda *_: ready.set()])


def search_until_statement(url, count):
    """Reap and run a trial, and die of SIGKILL right before the SQL statement `count`."""
    study = study_of(url)
    _die_before_statement(study, count)
    reap(study)
    study.optimize(formula, n_trials=1)


def fail_stale_until_statement(url, count):
    """Do what Optuna does before each trial, and die right before the SQL statement `count`."""
    study = study_of(url)
    _die_before_statement(study, count)
    optuna.storages.fail_stale_trials(study)


def _die_before_statement(study, count):
    seen = itertools.count(1)

    def die(*_):
        if next(seen) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine_of(study._storage), "before_cursor_execute", die)


def ask_and_wait(url, trials, ready):
    """Own `trials` running ones, one parameter of each drawn, until killed."""
    study = study_of(url)
    for _ in range(trials):
        study.ask().suggest_int("x0", 0, 999)
    ready.set()
    time.sleep(600)


def reap_now(url):
    return reap(study_of(url))


def put_own_number(url, key):
    """Store this process's number as the result of `key`; return what is then stored."""
    cache = EvaluationCache.of(nas_optuna.storage.open(url))
    return cache.put(key, Metrics({"loss": os.getpid()})).values["loss"]

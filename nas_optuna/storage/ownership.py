"""Which process runs a trial, and the clean retry of a trial whose process died.

A trial carries its owner from the transaction that made it RUNNING on, so that a process that
is killed at any moment leaves no trial that nobody can account for.

- Owner on this machine: `reap` looks whether the process still lives.
- Owner on another machine, or in another container, or one that hangs so that not even its
  heartbeat goes on: Optuna's heartbeat decides, but not right after the database was away, when
  nobody's could come.
- No owner (the trial was made through another storage class): Optuna's heartbeat decides too;
  without a heartbeat the trial is left alone, since nothing tells it from a long training.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.orm import Session

from nas_optuna.recording import FAILED, STOPPED
from nas_optuna.storage.waiting import LONGEST_PAUSE, patient, seconds_since_away

OWNER = "nas:owner"
RETRY_OF = "nas:retry_of"  # number of the first trial of the chain
RETRY_HISTORY = "nas:retry_history"  # numbers of all trials of the chain so far
RETRY_STOPS = "nas:retry_stops"  # how many of these a signal stopped; absent if none
REAPED = "nas:reaped"  # true if a trial was failed by another process than its owner
MAX_RETRIES = 3

_FIXED_PARAMS = "fixed_params"  # Optuna's key for the parameters of an enqueued trial
_START_TOLERANCE = 1.0  # seconds; far below the time after which a process id comes up again
_tickets = itertools.count()


def backend_of(storage: BaseStorage) -> RDBStorage | None:
    """The database storage behind `storage`, through Optuna's cache; None if it has none."""
    backend = getattr(storage, "_backend", storage)
    return backend if isinstance(backend, RDBStorage) else None


def owner() -> dict[str, Any]:
    """This process, as the system attribute `nas:owner` of the trials that it runs.

    Example:
        >>> sorted(owner())
        ['boot', 'host', 'namespace', 'pid', 'started']
    """
    return dict(_owner(os.getpid()))


def ticket() -> dict[str, Any]:
    """`owner()` and a number that no other trial of this process has.

    By it a process recognises the trial that it started when the answer got lost.
    """
    return {**owner(), "ticket": next(_tickets)}


@lru_cache(maxsize=1)
def _owner(pid: int) -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id")  # Linux; elsewhere the host name must do
    namespace = Path("/proc/self/ns/pid")  # two containers of one host see other process ids
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "namespace": os.readlink(namespace) if namespace.is_symlink() else "",
        "pid": pid,
        "started": _started(psutil.Process(pid)),
    }


def _started(process: psutil.Process) -> float:
    # Counted from the boot: the wall-clock time of a start moves when the clock is set.
    return process.create_time() - psutil.boot_time()


def is_dead(owner: Mapping[str, Any], *, one_machine: bool) -> bool:
    """Whether the process `owner` is known to be gone; False if that cannot be told from here.

    Args:
        owner: What `owner()` gave in that process.
        one_machine: The database cannot be shared between machines, as a SQLite file in WAL
            mode; its owner of an earlier boot is then gone for certain.
    """
    here = _owner(os.getpid())
    if owner["boot"] != here["boot"]:
        return one_machine
    if any(owner[key] != here[key] for key in ("host", "namespace")):
        return False
    try:
        process = psutil.Process(owner["pid"])
        same = abs(_started(process) - owner["started"]) < _START_TOLERANCE
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def reap(study: Study) -> list[int]:
    """Fail every RUNNING trial whose process is dead or hangs, and enqueue its clean retry.

    Failing and enqueueing are one transaction: of two processes that reap at once only one
    retries a trial, and one that is killed here loses none.

    Returns:
        Numbers of the failed trials, ascending.
    """
    backend = backend_of(study._storage)
    if backend is None:
        return []
    one_machine = backend.engine.dialect.name == "sqlite"
    silent = set(_silent(backend, study._study_id))
    reaped = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        who = trial.system_attrs.get(OWNER)
        dead = who is not None and is_dead(who, one_machine=one_machine)
        if not dead and trial._trial_id not in silent:
            continue
        last = backend.get_trial(trial._trial_id)  # it may have gone on until it died
        if _fail(backend, study._study_id, last):
            reaped.append(trial.number)
    return reaped


def reap_silent(backend: RDBStorage, study_id: int) -> None:
    """Fail every RUNNING trial whose heartbeat is overdue, and enqueue its clean retry.

    As in `reap`, both are one transaction.
    """
    for trial_id in _silent(backend, study_id):
        _fail(backend, study_id, backend.get_trial(trial_id))


_overdue = patient(RDBStorage._get_stale_trial_ids)  # not as `SharedStorage` has it: that reaps


def _silent(backend: RDBStorage, study_id: int) -> list[int]:
    """Ids of the RUNNING trials whose heartbeat is overdue; none if that tells nothing yet.

    When a database comes back after a long time, all heartbeats are overdue, and each process
    that lives sends its next one within the longest pause between two tries. A whole interval
    more is waited for connections that are slow to come up.
    """
    interval = backend.heartbeat_interval
    if interval is None:
        return []
    overdue = _overdue(backend, study_id)
    # Asked after the look, which may have been what waited.
    return overdue if seconds_since_away() > interval + LONGEST_PAUSE else []


@patient
def is_gone(backend: RDBStorage, trial_id: int) -> bool:
    """Whether a trial does not run, or its process is dead or hangs.

    Args:
        backend: The storage.
        trial_id: Id of a trial of any study in it.
    """
    with Session(backend.engine) as session:
        trial = session.get(models.TrialModel, trial_id)
        if trial is None or trial.state != TrialState.RUNNING:
            return True
        study_id: Any = trial.study_id
        system = models.TrialSystemAttributeModel
        text = session.scalar(
            sa.select(system.value_json).where(system.trial_id == trial_id, system.key == OWNER)
        )
    if text is not None:
        one_machine = backend.engine.dialect.name == "sqlite"
        if is_dead(json.loads(text), one_machine=one_machine):
            return True
    return trial_id in _silent(backend, study_id)


@patient
def is_watched(backend: RDBStorage, trial_id: int) -> bool:
    """Whether a trial has ever sent a heartbeat."""
    with Session(backend.engine) as session:
        return models.TrialHeartbeatModel.where_trial_id(trial_id, session) is not None


@patient
def _fail(backend: RDBStorage, study_id: int, dead: FrozenTrial) -> bool:
    with Session(backend.engine) as session, session.begin():
        # The study first, as in Optuna's own creation of trials: it guards their numbers.
        models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        trial = models.TrialModel.find_or_raise_by_id(dead._trial_id, session, for_update=True)
        if trial.state != TrialState.RUNNING:
            return False
        trial.state = TrialState.FAIL
        trial.datetime_complete = datetime.now()
        session.add(
            models.TrialSystemAttributeModel(
                trial_id=dead._trial_id, key=REAPED, value_json=json.dumps(True)
            )
        )
        again = clean_retry(dead)
        if again is not None:
            backend._get_prepared_new_trial(study_id, again, session)
    return True


def retry(study: Study, trial: FrozenTrial) -> None:
    """Enqueue the clean retry of a failed trial."""
    again = clean_retry(trial)
    if again is not None:
        study.add_trial(again)


def clean_retry(trial: FrozenTrial) -> FrozenTrial | None:
    """A WAITING trial that repeats `trial`, or None after three retries.

    A trial that a signal stopped (`nas:failed` says so) does not count: a job whose time is over
    says nothing against its trial. One whose process dies, or which fails, may do so each time.

    It keeps the parameters drawn so far and what belongs to the proposal (the generation of an
    evolutionary sampler, keys that start with `nas:proposal`), and nothing that was measured:
    no values, constraints or rungs of a pruner.
    """
    attrs = trial.system_attrs
    history = [*attrs.get(RETRY_HISTORY, []), trial.number]
    stops: int = attrs.get(RETRY_STOPS, 0) + (trial.user_attrs.get(FAILED) == STOPPED)
    if len(history) - stops > MAX_RETRIES:
        return None
    proposal = {key: value for key, value in attrs.items() if _belongs_to_proposal(key)}
    drawn = {**attrs.get(_FIXED_PARAMS, {}), **trial.params}
    chain = {RETRY_OF: history[0], RETRY_HISTORY: history}
    chain |= {RETRY_STOPS: stops} if stops else {}
    return create_trial(
        state=TrialState.WAITING, system_attrs={**proposal, _FIXED_PARAMS: drawn, **chain}
    )


def _belongs_to_proposal(key: str) -> bool:
    return key.endswith(":generation") or key.startswith("nas:proposal")


def draw_index(study: Study, trial: FrozenTrial) -> int:
    """Position of a trial's draw in the history that the study would have if nothing had died.

    A retry repeats a draw, so it takes no position of its own. A sampler that seeds each draw
    by this index goes on after a kill as if nothing had happened.

    Args:
        study: The study that `trial` is in.
        trial: A trial of any state.

    Returns:
        The trial's number less the retries numbered below it; for a retry, the index of the
        first trial of its chain.

    Example:
        >>> import optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study()
        >>> dead = study.ask()
        >>> study.tell(dead, state=TrialState.FAIL).number
        0
        >>> retry(study, study.trials[0])
        >>> again, new = study.ask(), study.ask()
        >>> [draw_index(study, t) for t in study.trials]
        [0, 0, 1]
    """
    number: int = trial.system_attrs.get(RETRY_OF, trial.number)
    trials = study._get_trials(deepcopy=False, use_cache=True)  # as the samplers, once a trial
    if len(trials) < number:
        trials = study.get_trials(deepcopy=False)
    return number - sum(RETRY_OF in t.system_attrs for t in trials[:number])

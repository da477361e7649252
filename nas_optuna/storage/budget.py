"""A budget that all workers of a study share, exact because the database keeps it.

A worker may start a trial only if the finished and the running ones together are fewer than what
the study is to have. That is looked up in the transaction that makes the trial RUNNING, under the
lock that also guards trial numbers, so no number of workers on any number of machines overshoots.
A running trial may yet fail: who finds no room waits until the others are done.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import Study
from optuna.trial import TrialState
from sqlalchemy.orm import Session

from nas_optuna.errors import StorageError
from nas_optuna.recording import CACHED, EPOCHS, FINISHED, PREDICTED
from nas_optuna.storage.ownership import backend_of, is_dead, owner
from nas_optuna.storage.waiting import patient

GOAL = "nas:goal"  # study system attribute: what the study is to have in all, and who asks for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a study is to have in all; None asks for nothing. The first that is met ends it.

    Args:
        trials: Finished trials.
        evaluations: Networks trained; repeats, predicted and infeasible ones are free.
    """

    trials: int | None = None
    evaluations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a study has so far.

    Args:
        finished: Trials that are complete or pruned.
        running: Trials that run.
        waiting: Trials that are enqueued.
        trained: Finished trials whose network was really trained.
    """

    finished: int
    running: int
    waiting: int
    trained: int

    def meets(self, goal: Goal) -> bool:
        """Whether there is nothing more to do.

        Example:
            >>> spent = Spent(finished=5, running=2, waiting=0, trained=3)
            >>> spent.meets(Goal(trials=6, evaluations=3))
            True
        """
        done = goal.trials is not None and self.finished >= goal.trials
        return done or (goal.evaluations is not None and self.trained >= goal.evaluations)

    def leaves_room(self, goal: Goal, *, new: bool = False) -> bool:
        """Whether one more trial may start, whatever becomes of those that run.

        Args:
            goal: What the study is to have.
            new: Whether it is a new trial, and not one that waits: those come first.

        Example:
            >>> spent = Spent(finished=5, running=2, waiting=1, trained=3)
            >>> spent.leaves_room(Goal(trials=7))
            False
            >>> spent.leaves_room(Goal(trials=8)), spent.leaves_room(Goal(trials=8), new=True)
            (True, False)
        """
        begun = self.running + (self.waiting if new else 0)
        room = goal.trials is None or self.finished + begun < goal.trials
        free = goal.evaluations is None or self.trained + begun < goal.evaluations
        return room and free


class NoRoomError(Exception):
    """A trial was asked for and may not start.

    Args:
        met: Whether the goal is met; else trials that run may yet fail and make room.
    """

    def __init__(self, *, met: bool) -> None:
        super().__init__("The study's goal is met." if met else "The last trials are running.")
        self.met = met


def require_room(session: Session, study_id: int, goal: Goal, *, new: bool) -> None:
    """Check, inside the transaction that makes or starts a trial, that it may.

    The caller holds the lock on the study.

    Args:
        session: The transaction.
        study_id: Id of the study.
        goal: What the study is to have.
        new: Whether the trial is a new one; see `Spent.leaves_room`.

    Raises:
        NoRoomError: It may not.
    """
    spent = _spent(session, study_id, goal)
    if not spent.leaves_room(goal, new=new) or spent.meets(goal):
        raise NoRoomError(met=spent.meets(goal))


@patient
def spent(study: Study, goal: Goal) -> Spent:
    """What the study has so far; trainings are counted only if the goal asks for them."""
    with Session(_backend(study).engine) as session:
        return _spent(session, study._study_id, goal)


@patient
def set_goal(study: Study, *, trials: int | None, evaluations: int | None) -> Goal:
    """Ask for more, for all workers of the study, and return what it is then to have in all.

    What another living launcher has asked for and did not get yet comes on top.

    Args:
        study: The study.
        trials: Finished trials to add.
        evaluations: Networks to train in addition.
    """
    backend = _backend(study)
    with Session(backend.engine) as session, session.begin():
        models.StudyModel.find_or_raise_by_id(study._study_id, session, for_update=True)
        goal = Goal(trials=trials, evaluations=evaluations)
        now = _spent(session, study._study_id, goal)
        stored = _read(session, study._study_id)
        if stored.get("by") == owner():  # a repeat of this very call, after a lost answer
            return _goal(stored)
        open_goal = Goal() if _left(stored, backend) else _goal(stored)
        goal = Goal(
            trials=_sum(trials, now.finished, open_goal.trials),
            evaluations=_sum(evaluations, now.trained, open_goal.evaluations),
        )
        text = {"trials": goal.trials, "evaluations": goal.evaluations, "by": owner()}
        _write(session, study._study_id, text)
    return goal


@patient
def leave_goal(study: Study) -> None:
    """Say that the launcher leaves: workers elsewhere go on, but a new run starts afresh."""
    with Session(_backend(study).engine) as session, session.begin():
        models.StudyModel.find_or_raise_by_id(study._study_id, session, for_update=True)
        stored = _read(session, study._study_id)
        if stored.get("by") == owner():
            _write(session, study._study_id, {**stored, "by": None})


@patient
def goal_of(study: Study) -> Goal | None:
    """What the study was last asked to have in all; None if nobody asked."""
    with Session(_backend(study).engine) as session:
        stored = _read(session, study._study_id)
    return _goal(stored) if stored else None


def _backend(study: Study) -> RDBStorage:
    backend = backend_of(study._storage)
    if backend is None:
        raise StorageError(
            "Workers share a study through a database, and this one is in memory or in a "
            "journal; give nas_optuna.storage.open(URL) a SQLite file or PostgreSQL."
        )
    return backend


def _spent(session: Session, study_id: int, goal: Goal) -> Spent:
    trial = models.TrialModel
    query = sa.select(trial.state, sa.func.count()).where(trial.study_id == study_id)
    counts = {state: count for state, count in session.execute(query.group_by(trial.state))}
    trained = 0 if goal.evaluations is None else _trained(session, study_id)
    return Spent(
        finished=sum(counts.get(state, 0) for state in FINISHED),
        running=counts.get(TrialState.RUNNING, 0),
        waiting=counts.get(TrialState.WAITING, 0),
        trained=trained,
    )


def _trained(session: Session, study_id: int) -> int:
    trial, attr = models.TrialModel, models.TrialUserAttributeModel

    def marked(*keys: str) -> sa.ColumnElement[bool]:
        return sa.exists().where(attr.trial_id == trial.trial_id, attr.key.in_(keys))

    query = sa.select(sa.func.count()).where(
        trial.study_id == study_id,
        trial.state.in_(FINISHED),
        marked(EPOCHS),
        ~marked(CACHED, PREDICTED),
    )
    return int(session.scalar(query) or 0)


def _read(session: Session, study_id: int) -> dict[str, Any]:
    attr = models.StudySystemAttributeModel
    query = sa.select(attr.value_json).where(attr.study_id == study_id, attr.key == GOAL)
    text = session.scalar(query)
    return {} if text is None else dict(json.loads(text))


def _write(session: Session, study_id: int, goal: dict[str, Any]) -> None:
    attr = models.StudySystemAttributeModel
    here = (attr.study_id == study_id) & (attr.key == GOAL)
    text = json.dumps(goal)
    if not session.execute(sa.update(attr).where(here).values(value_json=text)).rowcount:  # type: ignore[attr-defined]
        session.add(attr(study_id=study_id, key=GOAL, value_json=text))


def _goal(stored: dict[str, Any]) -> Goal:
    return Goal(trials=stored.get("trials"), evaluations=stored.get("evaluations"))


def _left(stored: dict[str, Any], backend: RDBStorage) -> bool:
    """Whether whoever asked for the goal has left, or is known to have died."""
    who = stored.get("by")
    return who is None or is_dead(who, one_machine=backend.engine.dialect.name == "sqlite")


def _sum(added: int | None, now: int, asked: int | None) -> int | None:
    return None if added is None else max(now, asked or 0) + added

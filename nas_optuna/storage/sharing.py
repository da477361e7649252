"""Optuna's database storage made fit for many workers: owners, a shared goal, and patience."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import select
from sqlalchemy.orm import Session

from nas_optuna.storage.budget import Goal, require_room
from nas_optuna.storage.ownership import OWNER, RETRY_OF, reap_silent, ticket
from nas_optuna.storage.waiting import patient, patiently


def _is_told_elsewhere(record: logging.LogRecord) -> bool:
    """Drop Optuna's line, with its SQL, on a connection that broke: `patiently` tells of that."""
    return not str(record.msg).startswith("Caught an error from sqlalchemy")


logging.getLogger("optuna.storages._rdb.storage").addFilter(_is_told_elsewhere)


class SharedStorage(RDBStorage):
    """A storage whose trials know who runs them, and which waits for a database that is away.

    It is made as Optuna's; see there for the arguments.
    """

    _goal: Goal | None = None

    @contextmanager
    def sharing(self, goal: Goal) -> Iterator[None]:
        """Make and start trials inside the block only as long as the goal leaves room for them.

        A repetition is always enqueued. Asking for a trial, or enqueuing another, raises
        `nas_optuna.storage.budget.NoRoomError` if there is no room.
        """
        self._goal = goal
        try:
            yield
        finally:
            self._goal = None

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        if template_trial is not None:
            return patiently(lambda: self._add(study_id, template_trial))
        who = ticket()
        template = create_trial(state=TrialState.RUNNING, system_attrs={OWNER: who})
        return patiently(
            lambda: self._add(study_id, template),
            again=lambda: self._started(study_id, who) or self._add(study_id, template),
        )

    def _add(self, study_id: int, template: FrozenTrial) -> FrozenTrial:
        """Add a trial, if there is room for it."""
        unfinished = template.state in (TrialState.RUNNING, TrialState.WAITING)
        new = unfinished and RETRY_OF not in template.system_attrs
        with Session(self.engine) as session, session.begin():
            self._lock(session, study_id, self._goal if new else None, new=True)
            trial = self._get_prepared_new_trial(study_id, template, session)
            made = copy.copy(template)
            number: Any = trial.number
            trial_id: Any = trial.trial_id
        made.number, made._trial_id = number, trial_id
        return made

    def _started(self, study_id: int, who: dict[str, Any]) -> FrozenTrial | None:
        """The trial that was started with this ticket, if it was."""
        attr = models.TrialSystemAttributeModel
        same = (attr.key == OWNER) & (attr.value_json == json.dumps(who))
        of_study = select(models.TrialModel.trial_id).where(models.TrialModel.study_id == study_id)
        with Session(self.engine) as session:
            query = select(attr.trial_id).where(same, attr.trial_id.in_(of_study))
            trial_id = session.scalar(query)
        return None if trial_id is None else super().get_trial(trial_id)

    def _lock(self, session: Session, study_id: int, goal: Goal | None, *, new: bool) -> None:
        """Take the lock that guards the numbers of trials, and look whether there is room."""
        models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        if goal is not None:
            require_room(session, study_id, goal, new=new)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set the state; a WAITING trial that starts to run gets its owner with it."""
        tell = super().set_trial_state_values
        if state is TrialState.RUNNING and values is None:
            who = ticket()
            if patiently(lambda: self._claim(trial_id, who)):
                return True
        return patiently(
            lambda: tell(trial_id, state, values),
            again=lambda: self._is_told(trial_id, state, values) or tell(trial_id, state, values),
        )

    def _claim(self, trial_id: int, who: dict[str, Any]) -> bool:
        """Make a WAITING trial this process's RUNNING one, state and owner in one transaction."""
        attrs = models.TrialSystemAttributeModel
        with Session(self.engine) as session, session.begin():
            trial = session.get(models.TrialModel, trial_id)
            if trial is None:
                return False
            study_id: Any = trial.study_id
            self._lock(session, study_id, self._goal, new=False)
            session.refresh(trial, with_for_update=True)
            if trial.state != TrialState.WAITING:  # perhaps by this very call, unanswered
                mine = attrs.find_by_trial_and_key(trial, OWNER, session)
                return mine is not None and json.loads(str(mine.value_json)) == who
            trial.state = TrialState.RUNNING
            trial.datetime_start = datetime.now()
            self._set_trial_attr_without_commit(session, attrs, trial_id, OWNER, who)
        return True

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Reap the trials whose heartbeat is overdue, which leaves none of them to Optuna.

        Before each trial Optuna fails those that this returns, and enqueues the repetitions after
        that: a process killed in between would lose them, and the trial's own worker, if it lives
        after all, would not learn from the trial's state that another one has it.
        """
        reap_silent(self, study_id)
        return []

    def _is_told(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        trial = super().get_trial(trial_id)
        return trial.state == state and trial.values == (None if values is None else [*values])


# Each is one transaction that may be repeated: it reads, or writes what is then there.
for _name in (
    "create_new_study", "get_all_studies", "get_best_trial", "get_study_directions",
    "get_study_id_from_name", "get_study_name_from_id", "get_study_system_attrs",
    "get_study_user_attrs", "get_trial", "get_trial_id_from_study_id_trial_number",
    "get_trial_param", "get_trial_system_attrs", "get_trial_user_attrs", "record_heartbeat",
    "set_study_system_attr", "set_study_user_attr", "set_trial_intermediate_value",
    "set_trial_system_attr", "set_trial_user_attr", "_get_best_trial_id",
    "_get_trials", "_set_trial_param",
):  # fmt: skip
    setattr(SharedStorage, _name, patient(getattr(RDBStorage, _name)))

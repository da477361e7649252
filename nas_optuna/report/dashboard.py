"""optuna-dashboard with what it lacks for networks: pictures and a note of each trial, plots.

They are put into the dashboard's answers and drawn when a browser asks for them, instead of being
written into the study. So a search spends nothing on them and is not disturbed, nothing of them
lies in the database, and a database that only can be read has them too.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
from bottle import Bottle, HTTPResponse, request, response
from optuna.artifacts import FileSystemArtifactStore
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from nas_optuna.errors import NasOptunaError
from nas_optuna.report.pictures import PICTURES, Picture
from nas_optuna.report.statistics import metric_names
from nas_optuna.report.study_plots import curves_figure, front_figures, hypervolume_figure
from nas_optuna.report.words import trial_note
from nas_optuna.storage.artifacts import artifact_directory

LONGEST_ATTRIBUTE = 100  # characters; the dashboard puts each on one line
CARD = {"height": 440, "font_size": 10}  # pixels, for the room that the dashboard has for a plot
REFRESH = 10.0  # seconds that plots are kept at least
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

# A file of another program may hold scripts. Without these they could use the dashboard's API,
# which asks for no password, when the file is opened in a tab of its own.
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}

_SHARE = 0.1  # most of the time that is spent on telling what changed, and on plots
_PICTURE_IDS = uuid.UUID("6f1f5c2e-6b0c-4b6e-9a43-5d0f6a3f1a57")  # the name space of our ids
_FINISHED = ("Complete", "Pruned", "Fail")  # states as the dashboard writes them
_UNUSED = ("distribution", "param_external_pytyp")  # most of what is told of a parameter
_OF_THE_DASHBOARD, _PLOTS = "dashboard:", "dashboard:plot_data:"  # begin study attributes

Handler = Callable[..., Any]


def application(storage: BaseStorage, *, hosts: Collection[str] | None = LOCAL_HOSTS) -> Bottle:
    """The dashboard as a WSGI application.

    Args:
        storage: The database to show.
        hosts: Names, without a port, that requests must be for, by default this machine's own
            ones; None for any. A foreign page can have its name resolved to 127.0.0.1, and the
            dashboard asks for no password.
    """
    directory = artifact_directory(storage)
    # It need not be there: most studies have no files.
    store = None if directory is None else FileSystemArtifactStore(directory)
    app = optuna_dashboard.wsgi(storage, artifact_store=store)
    app.install(Additions(storage))
    if hosts is not None:
        app.add_hook("before_request", partial(_refuse_other_names, hosts))
    return app


def prepare(app: Bottle, study_id: int) -> None:
    """Answer once what a browser asks first, so that it need not wait for it."""
    environ: dict[str, Any] = {"PATH_INFO": f"/api/studies/{study_id}"}
    setup_testing_defaults(environ)
    for _ in app(environ, lambda *_: None):
        pass


def _refuse_other_names(hosts: Collection[str]) -> None:
    host = request.get_header("Host", "").lower()  # as browsers send it
    if not {host, host.rpartition(":")[0]} & {name.lower() for name in hosts}:
        raise HTTPResponse(f"This dashboard answers to {', '.join(hosts)} only.\n", 403)


@dataclass(slots=True)
class _Told:
    """What browsers were told of a study.

    Args:
        basis: What it depends on beside its trials.
        head: JSON of all but the trials, without the closing brace.
        trials: JSON of the first trials, up to the first one that is not finished.
        others: JSON of the trials after those.
        due: When it may be told anew.
        plots: Plots as the dashboard takes them.
        drawn_from: Number of finished trials in the plots.
        draw_at: When plots may be drawn anew.
        lock: Held by the one who answers; others wait for it.
    """

    basis: Any = None
    head: str = ""
    trials: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    due: float = 0.0
    plots: list[dict[str, str]] = field(default_factory=list)
    drawn_from: int = -1
    draw_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self, basis: Any = None) -> None:
        """Tell all anew the next time."""
        self.basis, self.trials, self.due = basis, [], 0.0

    def json(self, after: int) -> str:
        """The answer to a browser that knows the first `after` trials."""
        listed = ", ".join([*self.trials, *self.others][after:])
        return f'{self.head}, "trials": [{listed}]}}'


class Additions:
    """A plugin of the dashboard's Bottle application that adds to its answers.

    It also keeps what it told of finished trials, since the dashboard writes all of them anew for
    each browser, which takes seconds for some thousand.

    Args:
        storage: What the dashboard shows.
    """

    name = "nas-optuna"
    api = 2

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self._told: dict[int, _Told] = defaultdict(_Told)

    def apply(self, callback: Handler, route: Any) -> Handler:
        """Wrap the function that answers a route; Bottle calls this once for each."""
        if (route.method, route.rule) == ("GET", "/api/studies/<study_id:int>"):
            return self._study(callback)
        if route.method == "GET" and route.rule.startswith("/artifacts/"):
            return self._artifact(callback)
        if route.method == "DELETE" and route.rule.startswith("/api/artifacts/"):
            return self._delete(callback)
        return callback

    def _study(self, callback: Handler) -> Handler:
        def answer(study_id: int) -> Any:
            after = request.query.get("after", "0")
            if not after.isdecimal():
                return callback(study_id=study_id)  # which says what is wrong
            told = self._told[study_id]
            with told.lock:
                self._forget_changed(told, study_id)
                began = time.monotonic()
                if began >= told.due:
                    request["QUERY_STRING"] = f"after={len(told.trials)}"
                    body = callback(study_id=study_id)
                    if not isinstance(body, dict) or "trials" not in body:
                        return body  # an error
                    self._update(told, body, study_id)
                    now = time.monotonic()
                    told.due = now + (now - began) / _SHARE
                return told.json(int(after))

        return answer

    def _forget_changed(self, told: _Told, study_id: int) -> None:
        """Forget what was told if notes or files of finished trials, or the study, are others."""
        try:
            attrs = self._storage.get_study_system_attrs(study_id)
            name = self._storage.get_study_name_from_id(study_id)
        except (KeyError, SQLAlchemyError, StorageInternalError):
            told.forget()  # the dashboard says in its own way what is wrong
            return
        basis = (
            name,
            {
                key: value
                for key, value in attrs.items()
                if key.startswith(_OF_THE_DASHBOARD) and not key.startswith(_PLOTS)
            },
        )
        if basis != told.basis:
            told.forget(basis)

    def _update(self, told: _Told, body: dict[str, Any], study_id: int) -> None:
        """Add to what the dashboard tells of a study and of its new trials, and keep it."""
        name = self._storage.get_study_name_from_id(study_id)
        study = optuna.load_study(study_name=name, storage=self._storage)
        trials, names = study.get_trials(deepcopy=False), metric_names(study)
        new = body.pop("trials")
        for one in (*new, *body["best_trials"]):
            _extend(one, trials[one["number"]], names)
        body["plotly_graph_objects"] += _plots(told, study, trials)
        finished = sum(1 for _ in takewhile(lambda one: one["state"] in _FINISHED, new))
        texts = [json.dumps(one) for one in new]
        told.head = json.dumps(body)[:-1]
        told.trials += texts[:finished]
        told.others = texts[finished:]

    def _artifact(self, callback: Handler) -> Handler:
        def answer(study_id: int, artifact_id: str, **trial_id: int) -> Any:
            picture = _picture(artifact_id, **trial_id)
            if picture is not None:
                answered = self._draw(picture, **trial_id)
            else:
                answered = callback(study_id=study_id, artifact_id=artifact_id, **trial_id)
            if isinstance(answered, HTTPResponse):
                answered.headers.update(SAFE_HEADERS)
            return answered

        return answer

    def _draw(self, picture: Picture, trial_id: int) -> HTTPResponse:
        try:
            trial = self._storage.get_trial(trial_id)
            content = picture.draw(trial)
        except (NasOptunaError, KeyError) as error:  # not one of ours, or no such trial
            return HTTPResponse(str(error), 404, {"Content-Type": "text/plain; charset=utf-8"})
        keep = "private, max-age=86400" if trial.state.is_finished() else "no-store"
        headers = {"Content-Type": picture.mimetype, "Cache-Control": keep}
        return HTTPResponse(content, 200, headers)

    def _delete(self, callback: Handler) -> Handler:
        def answer(study_id: int, artifact_id: str, **trial_id: int) -> Any:
            if _picture(artifact_id, **trial_id) is None:
                return callback(study_id=study_id, artifact_id=artifact_id, **trial_id)
            response.status = 400
            return {"reason": "This picture is drawn from the trial; there is no file to delete."}

        return answer


def _extend(one: dict[str, Any], trial: FrozenTrial, names: Sequence[str]) -> None:
    """Add pictures and a note to what the dashboard tells of a trial, and leave out the bulk."""
    pictures = [
        (picture, _picture_id(trial._trial_id, picture))
        for picture in PICTURES
        if picture.there_is(trial)
    ]
    one["artifacts"] += [
        {
            "artifact_id": picture_id,
            "filename": picture.filename,
            "mimetype": picture.mimetype,
            "encoding": None,
        }
        for picture, picture_id in pictures
    ]
    if one["note"]["version"] == 0:  # nobody wrote one; in it pictures are shown large
        folder = f"/artifacts/{one['study_id']}/{trial._trial_id}"
        shown = [f"![{picture.filename}]({folder}/{i})" for picture, i in pictures]
        note = "\n\n".join([trial_note(trial, names), *shown])
        one["note"] = {"version": 0, "body": note}
    for attribute in one["user_attrs"]:
        if len(attribute["value"]) > LONGEST_ATTRIBUTE:
            attribute["value"] = f"{attribute['value'][:LONGEST_ATTRIBUTE]}..."
    for param in one["params"]:  # the page takes these from the search space of the study
        for key in _UNUSED:
            param.pop(key, None)


def _picture_id(trial_id: int, picture: Picture) -> str:
    """Id of a picture, of the form that the ids of files have."""
    return str(uuid.uuid5(_PICTURE_IDS, f"{trial_id}/{picture.filename}"))


def _picture(artifact_id: str, trial_id: int | None = None) -> Picture | None:
    """The picture of a trial that an id stands for; None if it stands for a file."""
    if trial_id is None:
        return None
    return next((p for p in PICTURES if _picture_id(trial_id, p) == artifact_id), None)


def _plots(told: _Told, study: Study, trials: Sequence[FrozenTrial]) -> list[dict[str, str]]:
    """Plots of a study, drawn anew when trials have finished since, but not all the time."""
    finished = sum(trial.state.is_finished() for trial in trials)
    now = time.monotonic()
    if finished != told.drawn_from and now >= told.draw_at:
        figures = [*front_figures(study), hypervolume_figure(study), curves_figure(study)]
        told.plots = [
            {
                "id": f"nas-optuna-{i}",
                "graph_object": figure.update_layout(**CARD).to_json(),
            }
            for i, figure in enumerate(figures)
        ]
        spent = time.monotonic() - now
        told.drawn_from, told.draw_at = finished, now + spent + max(REFRESH, spent / _SHARE)
    return told.plots

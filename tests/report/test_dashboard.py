"""What is added to optuna-dashboard's answers, asked for as a browser does but without one."""

import io
import json
import math
import shutil
from dataclasses import dataclass
from wsgiref.util import setup_testing_defaults
from xml.etree import ElementTree

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import TrialState, create_trial

import nas_optuna as nas
from nas_optuna.report import dashboard
from nas_optuna.report.document import document_html
from nas_optuna.report.pictures import PICTURES
from nas_optuna.report.study_page import Asked, study_document
from nas_optuna.storage.artifacts import artifact_store
from nas_optuna.storage.reading import open_to_read
from tests.formula import Formula

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(1)">'
PNG = b"\x89PNG\r\n\x1a\n"


def network(trial):
    net = nas.ArchitectureBuilder((1, 8, 8), 10)
    x = net.input
    for i in range(trial.suggest_int("depth", 1, 4)):
        with net.scope(f"block{i}{HOSTILE}"):
            x = net.conv2d(x, trial.suggest_categorical(f"width{i}", [2, 4, 40]))
    return net.build(net.classifier(x))


SPACE = nas.spaces.FunctionSpace(network, input_shape=(1, 8, 8), num_classes=10)


@dataclass
class Answer:
    status: int
    headers: dict
    content: bytes

    @property
    def json(self):
        return json.loads(self.content)


class Client:
    """Asks an application as a server would."""

    def __init__(self, url, **settings):
        self.storage = open_to_read(url)
        self.app = dashboard.application(self.storage, **settings)

    def ask(self, path, method="GET", body=None, host="127.0.0.1:8080", query=""):
        content = b"" if body is None else json.dumps(body).encode()
        environ = {
            "PATH_INFO": path, "REQUEST_METHOD": method, "HTTP_HOST": host, "QUERY_STRING": query,
            "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(content)),
            "wsgi.input": io.BytesIO(content),
        }  # fmt: skip
        setup_testing_defaults(environ)
        got = {}

        def start(status, headers, exc_info=None):
            got.update(status=int(status.split()[0]), headers=dict(headers))

        chunks = self.app(environ, start)
        try:
            return Answer(got["status"], got["headers"], b"".join(chunks))
        finally:
            getattr(chunks, "close", lambda: None)()

    def study(self, **settings):
        return self.ask("/api/studies/1", **settings).json


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database whose study has eight trials, a pruned one, a failed one and one that runs."""
    file = tmp_path_factory.mktemp("made") / "nas.db"
    storage = nas.storage.open(f"sqlite:///{file}")
    limits = nas.SearchConstraints(max_parameters=2000, max_latency_ms=None)
    metrics = ("accuracy", "flops", "parameters")
    objective = nas.Objective(SPACE, Formula(epochs=3), metrics, limits)
    sampler = nas.samplers.create("random", space=SPACE, seed=1)
    study = optuna.create_study(
        study_name=HOSTILE, directions=objective.directions, sampler=sampler, storage=storage
    )
    study.set_metric_names(list(metrics))
    study.optimize(objective, n_trials=8)
    attrs = study.trials[0].user_attrs
    kept = {key: attrs[key] for key in ("nas:architecture", "nas:costs")}
    pruned = {"state": TrialState.PRUNED, "intermediate_values": {1: 0.1, 2: 0.3}}
    study.add_trial(create_trial(user_attrs=kept, **pruned))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"nas:architecture": "{"}))
    running = study.ask()
    running.set_user_attr("nas:architecture", kept["nas:architecture"])
    storage.remove_session()
    storage.engine.dispose()
    return file


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_report_that_is_not_finite_is_shown(tmp_path, value):
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/nas.db")
    study.add_trial(create_trial(value=1.0, intermediate_values={1: 0.5, 2: value}))
    client = Client(f"sqlite:///{tmp_path}/nas.db")
    (trial,) = client.study()["trials"]
    assert "learning-curve.png" in files(trial)
    assert client.ask(address(trial, "learning-curve.png")).content.startswith(PNG)
    document_html(study_document(study, Asked(title="plain", facts=[])))


@pytest.fixture
def url(made, tmp_path):
    shutil.copy(made, tmp_path / "nas.db")
    return f"sqlite:///{tmp_path / 'nas.db'}"


@pytest.fixture
def study(url):
    return optuna.load_study(study_name=HOSTILE, storage=nas.storage.open(url))


@pytest.fixture(scope="module")
def client(made):
    """Asks about a study that no test changes."""
    return Client(f"sqlite:///{made}")


@pytest.fixture(scope="module")
def told(client):
    return client.study()


@pytest.fixture(scope="module")
def trials(client):
    return optuna.load_study(study_name=HOSTILE, storage=client.storage).trials


def files(one):
    return {file["filename"]: file for file in one["artifacts"]}


def address(one, name):
    return f"/artifacts/1/{one['trial_id']}/{files(one)[name]['artifact_id']}"


def test_every_trial_has_a_note_and_the_pictures_there_can_be(told, trials):
    trained = next(t for t in trials if "nas:curve" in t.user_attrs).number
    infeasible = next(t for t in trials if "nas:infeasible" in t.user_attrs).number
    trials = told["trials"]
    assert [one["number"] for one in trials] == list(range(11))
    assert list(files(trials[trained])) == ["learning-curve.png", "network.svg"]
    assert list(files(trials[infeasible])) == ["network.svg"]
    assert list(files(trials[8])) == ["learning-curve.png", "network.svg"]
    note = trials[trained]["note"]
    assert note["version"] == 0
    assert "| evaluation | 3 epochs" in note["body"]
    assert f"![network.svg]({address(trials[trained], 'network.svg')})" in note["body"]
    assert trials[9]["note"]["body"].startswith("**Trial 9, failed**")
    for one in told["best_trials"]:
        assert one == trials[one["number"]]


def test_infeasible_trials_are_told_as_such_and_metrics_have_names(told, trials):
    assert told["objective_names"] == ["accuracy", "flops", "parameters"]
    for one in told["trials"][:8]:
        broken = "nas:infeasible" in trials[one["number"]].user_attrs
        assert any(excess > 0 for excess in one["constraints"]) == broken


def test_plots_of_the_study_are_there(study, url):
    plots = [
        json.loads(plot["graph_object"]) for plot in Client(url).study()["plotly_graph_objects"]
    ]
    kinds = [{trace["type"] for trace in plot["data"]} for plot in plots]
    assert "scatter3d" in kinds[1]
    assert "scatter3d" not in kinds[0] | kinds[2] | kinds[3]
    assert all(plot["layout"]["height"] == dashboard.CARD["height"] for plot in plots)


def test_pictures_are_drawn_and_carry_no_script(client, told):
    one = told["trials"][8]
    svg = client.ask(address(one, "network.svg"))
    assert (svg.status, svg.headers["Content-Type"]) == (200, "image/svg+xml")
    root = ElementTree.fromstring(svg.content)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "g", "rect", "path", "text", "title"}
    assert not any(key.startswith("on") or "href" in key for e in root.iter() for key in e.attrib)
    assert any(HOSTILE in e.get("data-name", "") for e in root.iter())  # as text
    curve = client.ask(address(one, "learning-curve.png"))
    assert curve.headers["Content-Type"] == "image/png"
    assert curve.content.startswith(PNG)
    for picture in (svg, curve):
        assert "default-src 'none'" in picture.headers["Content-Security-Policy"]
        assert "sandbox" in picture.headers["Content-Security-Policy"]
        assert picture.headers["X-Content-Type-Options"] == "nosniff"
        assert "max-age" in picture.headers["Cache-Control"]
        assert len(picture.content) < 100_000


def test_a_picture_of_a_running_trial_is_not_kept(client, told):
    one = told["trials"][10]
    assert one["state"] == "Running"
    assert client.ask(address(one, "network.svg")).headers["Cache-Control"] == "no-store"


def test_what_cannot_be_drawn_is_not_found(client, told):
    one = told["trials"][9]
    answer = client.ask(address(one, "network.svg"))
    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert b"Not an architecture in JSON" in answer.content
    of_none = dashboard._picture_id(999, PICTURES[1])
    assert client.ask(f"/artifacts/1/999/{of_none}").status == 404


def test_nothing_is_written(study, url, tmp_path):
    before = study._storage.get_study_system_attrs(study._study_id), study.get_trials()
    for client in (Client(url), Client(url)):
        for one in client.study()["trials"][7:]:
            for name in files(one):
                client.ask(address(one, name))
    after = study._storage.get_study_system_attrs(study._study_id), study.get_trials()
    assert after == before
    assert not (tmp_path / "nas.db.artifacts").exists()


def test_a_browser_that_knows_the_first_trials_is_told_the_others(client, told):
    assert client.study(query="after=9")["trials"] == told["trials"][9:]
    assert client.study(query="after=99")["trials"] == []
    assert client.ask("/api/studies/1", query="after=-1").status == 400
    assert client.ask("/api/studies/7").status == 404


def test_new_trials_are_told(study, url, monkeypatch):
    monkeypatch.setattr(dashboard, "_SHARE", float("inf"))  # as often as it is asked
    client = Client(url)
    first = client.study()
    with_running = [one["number"] for one in first["trials"] if one["state"] == "Running"]
    study.tell(10, [0.5, 5.0, 5.0])
    study.add_trial(create_trial(values=[0.6, 1.0, 1.0]))
    client.app._inmemory_cache.clear()  # the dashboard's own, of a few seconds
    told = client.study()
    assert with_running == [10]
    assert [one["state"] for one in told["trials"][10:]] == ["Complete", "Complete"]
    assert told["trials"][:10] == first["trials"][:10]


def test_an_answer_is_kept_for_as_long_as_it_takes_nine_times(study, url):
    client = Client(url)
    client.study()
    (told,) = client.app.plugins[-1]._told.values()
    told.due = float("inf")
    study.add_trial(create_trial(values=[0.6, 1.0, 1.0]))
    client.app._inmemory_cache.clear()
    assert len(client.study()["trials"]) == 11
    told.due = 0.0
    assert len(client.study()["trials"]) == 12


def test_a_note_that_someone_writes_stays(study, url):
    client = Client(url)
    assert client.study()["trials"][0]["note"]["version"] == 0
    written = {"version": 1, "body": "mine"}
    assert client.ask("/api/studies/1/1/note", "PUT", written).status == 204
    again = client.study()["trials"]
    assert again[0]["note"] == written
    assert again[1]["note"]["version"] == 0


def test_bulky_attributes_are_cut(told, trials):
    attributes = {a["key"]: a["value"] for a in told["trials"][0]["user_attrs"]}
    cut = attributes["nas:architecture"]
    assert len(cut) == dashboard.LONGEST_ATTRIBUTE + 3
    assert trials[0].user_attrs["nas:architecture"].startswith(cut.removesuffix("..."))


def test_files_of_trials_are_served_without_rights(study, url, tmp_path):
    trial = study.ask()
    page = tmp_path / "page.html"
    page.write_text("<script>alert(1)</script>")
    store = artifact_store(study._storage)
    assert isinstance(store, FileSystemArtifactStore)
    kept = upload_artifact(artifact_store=store, file_path=str(page), study_or_trial=trial)
    client = Client(url)
    answer = client.ask(f"/artifacts/1/{trial._trial_id}/{kept}")
    assert answer.content == page.read_bytes()
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert client.ask(f"/api/artifacts/1/{trial._trial_id}/{kept}", "DELETE").status == 204
    assert client.ask(f"/artifacts/1/{kept}").status == 404  # a study's file, and there is none


def test_a_picture_cannot_be_deleted(client, told):
    path = address(told["trials"][8], "network.svg")
    answer = client.ask(f"/api{path}", "DELETE")
    assert answer.status == 400
    assert "drawn from the trial" in answer.json["reason"]
    assert client.ask(path).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("[::1]:8080", 200),
        ("evil.example:8080", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_a_foreign_name_is_refused_on_this_machine_alone(made, client, host, status):
    assert client.ask("/api/studies", host=host).status == status
    assert Client(f"sqlite:///{made}", hosts=None).ask("/api/studies", host=host).status == 200


def test_the_name_it_was_asked_to_listen_on_is_answered(made):
    hosts = (*dashboard.LOCAL_HOSTS, "Debian")
    client = Client(f"sqlite:///{made}", hosts=hosts)
    for host, status in [("debian:8080", 200), ("127.0.0.1", 200), ("evil.example:8080", 403)]:
        answer = client.ask("/api/studies", host=host)
        assert answer.status == status
    assert answer.content == (
        b"This dashboard answers to localhost, 127.0.0.1, [::1], Debian only.\n"
    )


def test_studies_without_trials_of_one_objective_and_of_other_programs(tmp_path):
    url = f"sqlite:///{tmp_path}/other.db"
    storage = nas.storage.open(url)
    optuna.create_study(storage=storage, study_name="empty", directions=["minimize"] * 2)
    other = optuna.create_study(storage=storage, study_name="other")
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    four = optuna.create_study(storage=storage, study_name="four", directions=["minimize"] * 4)
    four.add_trials([create_trial(values=[1.0, math.inf, -math.inf, -1.0])] * 2)
    client = Client(url)
    assert client.study()["trials"] == []
    assert "| value\\_1 | inf |" in client.ask("/api/studies/3").json["trials"][1]["note"]["body"]
    told = client.ask("/api/studies/2").json
    assert [one["artifacts"] for one in told["trials"]] == [[], [], []]
    assert "| value\\_0 |" in told["trials"][0]["note"]["body"]


def test_a_study_that_was_deleted_is_forgotten(study, url):
    client = Client(url)
    client.study()
    assert client.ask("/api/studies/1", "DELETE", {}).status == 204
    assert client.ask("/api/studies/1").status == 404
    directions = ["minimize", "minimize"]
    optuna.create_study(storage=nas.storage.open(url), study_name="next", directions=directions)
    client.app._inmemory_cache.clear()
    assert client.study()["trials"] == []


def test_an_answer_can_be_prepared(study, url):
    client = Client(url)
    dashboard.prepare(client.app, 1)
    (told,) = client.app.plugins[-1]._told.values()
    assert len(told.trials) == 10

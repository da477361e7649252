"""The dashboard as a user starts it, seen in a real browser on a study that was really trained."""

import errno
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

import nas_optuna as nas
from nas_optuna.cli import serving
from nas_optuna.errors import SettingError
from tests.cli.conftest import command

SCREENSHOTS = Path(__file__).parents[2] / "tests-artifacts"  # left there to be looked at


@contextmanager
def dashboard(folder, *words):
    """A running dashboard: its process, and the address it says; it must end quietly."""
    process = subprocess.Popen(
        command("dashboard", *words), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        said = process.stdout.readline()
        assert said.endswith("Ctrl-C ends it.\n"), process.communicate()
        yield process, process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert not re.search("Traceback|rror", err)
    finally:
        process.kill()
        process.communicate()


def plots_drawn(page, titles):
    page.wait_for_function(
        """titles => titles.every(title => [...document.querySelectorAll('.js-plotly-plot')].some(
            plot => plot.querySelector('.trace, canvas, .gl-container')
                && plot.layout.title?.text?.startsWith(title)))""",
        arg=titles,
        timeout=60_000,
    )


def loaded_images(page):
    """Names and widths of the pictures on a page, once all of them are there."""
    page.wait_for_function(
        "() => document.images.length && [...document.images].every(image => image.complete)",
        timeout=60_000,
    )
    return page.evaluate("() => [...document.images].map(i => [i.alt, i.naturalWidth])")


@pytest.fixture
def watched(finished, tmp_path):
    """A folder with the database of a study that was trained."""
    shutil.copy(finished[0] / "nas.db", tmp_path)
    return tmp_path


def test_a_browser_sees_plots_network_and_learning_curve(watched, browser):
    storage = f"sqlite:///{watched}/nas.db"
    study = optuna.load_study(study_name="small", storage=storage)
    trained = next(t.number for t in study.trials if "nas:curve" in t.user_attrs)
    SCREENSHOTS.mkdir(exist_ok=True)
    with dashboard(watched, "--name", "small", "--port", 0) as (_, address):
        page = browser.new_page(viewport={"width": 1400, "height": 1600})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("response", lambda r: r.status >= 400 and errors.append(f"{r.status} {r.url}"))
        page.goto(address)
        page.get_by_text("Pareto Front", exact=True).wait_for(timeout=60_000)
        plots_drawn(page, ["Pareto front", "Pareto front in three", "Hypervolume", "Learning"])
        for name in ("accuracy", "latency_ms"):  # the dashboard's own plot, by metric names
            assert page.get_by_text(name, exact=True).count() > 0
        page.screenshot(path=SCREENSHOTS / "dashboard-study.png", full_page=True)
        page.goto(f"{address}/trials?numbers={trained}")
        page.get_by_text(f"Trial {trained}, finished").wait_for(timeout=60_000)
        images = loaded_images(page)
        page.screenshot(path=SCREENSHOTS / "dashboard-trial.png", full_page=True)
        assert {name for name, _ in images} >= {"network.svg", "learning-curve.png"}
        assert all(width > 0 for _, width in images)
        assert page.get_by_text("From 1\N{MULTIPLICATION SIGN}8").count() == 1
        page.close()
    assert errors == []
    assert study.get_trials() == optuna.load_study(study_name="small", storage=storage).trials


def test_hostile_names_are_shown_and_do_nothing(tmp_path, browser):
    hostile = """<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"""
    net = nas.ArchitectureBuilder((1, 8, 8), 10)
    with net.scope(hostile):
        x = net.conv2d(net.input, 4)
    attrs = {"nas:architecture": net.build(net.classifier(x)).to_json(), "nas:infeasible": hostile}
    storage = nas.storage.open(f"sqlite:///{tmp_path}/nas.db")
    study = optuna.create_study(storage=storage, study_name=hostile)
    study.add_trial(create_trial(value=1.0, user_attrs=attrs))
    with dashboard(tmp_path, "--port", 0) as (_, address):
        page = browser.new_page()
        page.goto(f"{address}/trials?numbers=0")
        page.get_by_text("Trial 0, infeasible").wait_for(timeout=60_000)
        assert page.get_by_text("onerror").count() > 0
        assert loaded_images(page)[0][0] == "network.svg"
        assert page.evaluate("() => window.hacked") is None
        drawing = page.evaluate("() => document.images[0].src")
        page.goto(drawing)  # by itself, where a script in it would run
        assert "onerror" in page.evaluate("() => document.documentElement.textContent")
        assert page.evaluate("() => window.hacked") is None
        page.close()


def test_any_other_address_is_warned_of_and_several_studies_are_listed(tmp_path):
    storage = nas.storage.open(f"sqlite:///{tmp_path}/nas.db")
    for name in ("a", "b"):
        optuna.create_study(storage=storage, study_name=name)
    with dashboard(tmp_path, "--host", "0.0.0.0", "--port", 0) as (process, address):
        warning = process.stderr.readline()
        assert re.match(r"warning: whoever can reach 0.0.0.0:\d+ can .* no log-in", warning)
        assert address.endswith("/dashboard")
        port = re.search(r":(\d+)/", address)[1]
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/studies")
        request.add_header("Host", "this-machine.example")  # others know it by that name
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as got:
            names = [study["study_name"] for study in json.load(got)["study_summaries"]]
        assert names == ["a", "b"]


def test_the_address_it_tells_is_answered(tmp_path):
    nas.storage.open(f"sqlite:///{tmp_path}/nas.db")
    with dashboard(tmp_path, "--host", "127.0.0.2", "--port", 0) as (_, address):
        assert address.startswith("http://127.0.0.2:")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address) as got:
            assert got.status == 200


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=rf"port {port} is taken.*--port") as caught:
            serving.listen("127.0.0.1", port)
    assert "\n" not in str(caught.value)


def test_the_next_free_port_is_taken_by_default(monkeypatch):
    with serving.listen("127.0.0.1", 0) as first:
        monkeypatch.setattr(serving, "FIRST_PORT", first.server_port)
        with serving.listen("127.0.0.1", None) as second:
            assert first.server_port < second.server_port < first.server_port + 20
        monkeypatch.setattr(serving, "TRIED_PORTS", 1)
        with pytest.raises(SettingError, match=r"ports \d+ to \d+ are taken"):
            serving.listen("127.0.0.1", None)


def test_an_address_of_another_machine(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(serving, "Server", refuse)
    with pytest.raises(SettingError, match=r"'192.0.2.1', port 8080: Cannot assign"):
        serving.listen("192.0.2.1", None)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("", False), ("::", False), ("192.0.2.1", False),
    ],
)  # fmt: skip
def test_addresses_of_this_machine_alone(host, loopback):
    assert serving.is_loopback(host) is loopback


def test_what_is_wrong_costs_one_line(finished, folder, call, monkeypatch):
    trained, _ = finished
    for place, words, error in [
        (folder, (), r"There is no database '.*nas.db'; `nas-optuna run` makes one"),
        (folder, ("small.py",), "There is no database"),
        (folder, ("absent.py",), "There is no study file"),
        (trained, ("--name", "big"), r"no study 'big' in sqlite:///nas.db \(small\)"),
        (folder, ("--storage", "postgresql://a:s3cret@127.0.0.1:1/nas"), r"a:\*\*\*@127.0.0.1:1"),
        (trained, ("--host", "no.such.name.invalid"), "'no.such.name.invalid' has no address"),
    ]:
        got = call(place, "dashboard", *words)
        assert (got.status, got.out, got.err.count("\n")) == (1, "", 1)
        assert re.search(error, got.err)
        assert "s3cret" not in got.err
    assert not (folder / "nas.db").exists()
    monkeypatch.delitem(sys.modules, "nas_optuna.report.dashboard", raising=False)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    got = call(trained, "dashboard")
    assert got.err.startswith("error: The dashboard needs optuna_dashboard: pip install")
    assert "nas-optuna[dashboard]" in got.err

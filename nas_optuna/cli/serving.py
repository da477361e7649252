"""`dashboard`: serve optuna-dashboard on a database, with pictures and notes of its networks."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import typer

from nas_optuna.cli.failure import database_errors
from nas_optuna.cli.given import Given
from nas_optuna.errors import SettingError, StudyMismatchError
from nas_optuna.storage import mask
from nas_optuna.storage.reading import open_to_read

DEFAULT_STORAGE = "sqlite:///nas.db"  # of a `Search` that names none
FIRST_PORT, TRIED_PORTS = 8080, 20
LONGEST_PREPARATION = 15.0  # seconds before the address is told; some 5,000 trials


class Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at once.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.
    """

    daemon_threads = True  # Ctrl-C waits for no browser

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Quiet)


class _Quiet(WSGIRequestHandler):
    """Answers without a line for each request on the terminal."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the dashboard is to show.

    Args:
        study: A study file; None for what `storage` holds.
        storage: URL of the database; by default the file's, or that of a search that names none.
        name: The study to open; by default the file's, the only one, or else the list of them.
    """

    study: Path | None = None
    storage: str | None = None
    name: str | None = None

    def resolve(self) -> tuple[str, str | None]:
        """URL of the database, and name of the study; running the file makes its operations known.

        Raises:
            NasOptunaError: The file cannot be used.
        """
        if self.study is None:
            return self.storage or DEFAULT_STORAGE, self.name
        search = Given(study=self.study, storage=self.storage, name=self.name).search()
        return search.storage, search.name


def serve_dashboard(what: Shown, *, host: str, port: int | None, debug: bool) -> None:
    """Serve the dashboard of a database until Ctrl-C.

    Args:
        what: What to show.
        host: Address to listen on.
        port: Port to listen on; by default the first free one from 8080 on.
        debug: Whether to log errors of requests with their traceback.

    Raises:
        SettingError: The extra `dashboard` is missing, or the address cannot be used.
        StorageError: The database is missing or cannot be reached.
        StudyMismatchError: There is no such study.
    """
    try:
        from nas_optuna.report.dashboard import LOCAL_HOSTS, application, prepare
    except ImportError as error:
        raise SettingError(
            f"The dashboard needs {error.name}: pip install 'nas-optuna[dashboard]'"
        ) from error
    url, name = what.resolve()
    opened = open_to_read(url)
    with database_errors(url):
        studies = {study.study_name: study._study_id for study in opened.get_all_studies()}
    shown = _chosen(studies, name, url)
    local = is_loopback(host)
    # What a browser asks for is the address that is told below.
    app = application(opened, hosts=(*LOCAL_HOSTS, _in_url(host)) if local else None)
    if not debug:
        _log_first_lines()
    with listen(host, port) as server, suppress(KeyboardInterrupt):
        server.set_app(app)
        if not local:
            typer.echo(_warning(host, server.server_port), err=True)
        what_is_shown = f"{len(studies)} studies" if shown is None else f"study {shown!r}"
        typer.echo(f"Dashboard of {what_is_shown} in {mask(url)}; Ctrl-C ends it.")
        path = "/dashboard"
        if shown is not None:
            path += f"/studies/{studies[shown]}"
            # Else the first look would wait for this before an empty page.
            first = threading.Thread(target=prepare, args=(app, studies[shown]), daemon=True)
            first.start()
            first.join(LONGEST_PREPARATION)
        typer.echo(f"http://{_in_url(host)}:{server.server_port}{path}")
        server.serve_forever()


def listen(host: str, port: int | None) -> Server:
    """Open a server on a port, or on the first free one from 8080 on.

    Raises:
        SettingError: The port is taken, or the address is not one of this machine.
    """
    tried = range(FIRST_PORT, FIRST_PORT + TRIED_PORTS) if port is None else (port,)
    for number in tried:
        try:
            return Server(host, number)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SettingError(
                    f"Cannot listen on {host!r}, port {number}: {error.strerror}."
                ) from error
    ports = f"port {port} is" if port is not None else f"ports {tried[0]} to {tried[-1]} are"
    raise SettingError(
        f"Cannot listen on {host!r}: {ports} taken. Choose another with --port; 0 is any free one."
    )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only.

    Raises:
        SettingError: The name has no address.

    Example:
        >>> is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("::1")
        (True, False, True)
    """
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SettingError(f"--host {host!r} has no address: {error.strerror}.") from error
    return all(ipaddress.ip_address(address[4][0]).is_loopback for address in found)


def _chosen(studies: Mapping[str, int], name: str | None, url: str) -> str | None:
    if name is not None and name not in studies:
        raise StudyMismatchError(
            f"There is no study {name!r} in {mask(url)} ({', '.join(studies) or 'it is empty'})."
        )
    return next(iter(studies)) if name is None and len(studies) == 1 else name


def _warning(host: str, port: int) -> str:
    return (
        f"warning: whoever can reach {host}:{port} can read, change and delete these studies: "
        "the dashboard has no log-in. Rather leave --host away, and from another machine use "
        f"`ssh -L {port}:127.0.0.1:{port} THIS-MACHINE`, or a proxy that asks for a password."
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host or "0.0.0.0"


class _FirstLine(logging.Formatter):
    """Shows what went wrong and not where in the code."""

    def format(self, record: logging.LogRecord) -> str:
        return f"error: {record.getMessage().partition(chr(10))[0]}"


def _log_first_lines() -> None:
    """Keep tracebacks of requests that failed off the terminal."""
    handler = logging.StreamHandler()
    handler.setFormatter(_FirstLine())
    logger = logging.getLogger("optuna_dashboard")
    logger.addHandler(handler)
    logger.propagate = False

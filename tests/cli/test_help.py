"""`--help` answers at once: it imports nothing heavy."""

import re
import subprocess
import sys
import time

import pytest

from nas_optuna.cli.app import app
from tests.cli.conftest import command, process

HEAVY = {"torch", "optuna", "sklearn", "numpy", "scipy", "sqlalchemy", "moocore"}


def test_help_imports_nothing_heavy(tmp_path):
    words = [sys.executable, "-X", "importtime", *command("--help")[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    imported = {name.partition(".")[0] for name in re.findall(r"\| +([\w.]+)$", done.stderr, re.M)}
    assert "typer" in imported
    assert not imported & HEAVY


def test_help_takes_less_than_half_a_second(tmp_path):
    # The best of three, since other tests run beside it on few cores.
    times = []
    for _ in range(3):
        began = time.perf_counter()
        assert process(tmp_path, "--help").status == 0
        times.append(time.perf_counter() - began)
    assert min(times) < 0.5


COMMANDS = [c.callback.__name__.replace("_", "-") for c in app.registered_commands]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(call, tmp_path, name):
    done = call(tmp_path, name, "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"Usage: nas-optuna {name} ")


def test_the_commands_are_there(call, tmp_path):
    out = call(tmp_path, "--help").out
    for name in (
        "run", "resume", "profile", "latency-table", "pareto", "show", "samplers", "spaces",
        "evaluators",
    ):  # fmt: skip
        assert re.search(rf"^  {name} +\w", out, re.M)

"""The scripts of the Python API run as they stand."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.slow
def test_a_study_is_run_and_resumed_and_shown(tmp_path):
    for name, text in [("run_study", "score 0."), ("resume_study", "After 15 trials, number ")]:
        words = [sys.executable, SCRIPTS / f"{name}.py"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
        assert text in done.stdout
        assert len((SCRIPTS / f"{name}.py").read_text().splitlines()) <= 32
    serve = [sys.executable, SCRIPTS / "serve_dashboard.py", "sqlite:///nas.db", "0"]
    with subprocess.Popen(serve, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            answer = json.load(urlopen(f"{server.stdout.readline().strip()}/api/studies"))
        finally:
            server.kill()
    assert [study["study_name"] for study in answer["study_summaries"]] == ["script"]

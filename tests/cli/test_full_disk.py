"""A full disk: one clear line, nothing lost, and the next run goes on."""

import errno

import optuna
import pytest
from sqlalchemy import Engine, event

from nas_optuna.cli.failure import tell
from tests.cli.conftest import SMALL


def test_a_full_database_is_one_line_and_the_study_goes_on(folder, call):
    (folder / "small.py").write_text(SMALL.replace("list(range(4, 40))", "list(range(4, 200))"))
    assert call(folder, "run", "small.py", "--trials", 1).status == 0

    def fill(connection, record):
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "connect", fill)
    try:
        full = call(folder, "resume", "small.py", "--trials", 300)
    finally:
        event.remove(Engine, "connect", fill)
    assert full.status == 1
    assert full.err.count("\n") == 1
    assert "database or disk is full. Finished trials are kept" in full.err

    study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/nas.db")
    before = sum(t.state.name == "COMPLETE" for t in study.trials)
    assert before >= 1
    assert call(folder, "resume", "small.py", "--trials", 2).status == 0
    states = [t.state.name for t in study.trials]
    assert states.count("COMPLETE") == before + 2
    assert "RUNNING" not in states


def test_a_full_disk_elsewhere(capsys):
    assert tell(OSError(errno.ENOSPC, "No space left on device", "kept.bin"), debug=False) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: The disk is full (kept.bin). Finished trials are kept")


@pytest.mark.parametrize("other", [errno.EACCES, errno.EIO])
def test_another_error_of_the_system_is_not_a_full_disk(capsys, other):
    tell(OSError(other, "something else"), debug=False)
    assert "full" not in capsys.readouterr().err

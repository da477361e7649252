"""`run` and `resume` as processes: what they print where, and what they leave behind."""

import json
import os
import pty
import shlex
import subprocess
import threading

import optuna

from tests.cli.conftest import command, process


def trials(folder, name="small"):
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/nas.db")
    return study.get_trials(deepcopy=False)


def test_a_run_shows_its_course_its_front_and_what_to_do_next(finished, call):
    folder, run = finished
    assert (run.status, run.err) == (0, "")
    lines = run.out.splitlines()
    assert lines[0] == "small: network (16 genomes), random, 8 trials, sqlite:///nas.db"
    assert lines[1].startswith("1/8 trials, accuracy -, front 0, hypervolume 0.000, infeasible 1")
    assert any(line.startswith("8/8 trials, ") for line in lines)
    assert "Pareto front of small: " in run.out
    assert "8 trials in this run: 3 trained, 3 cached, 2 infeasible." in run.out
    assert "Stored as 'small' in sqlite:///nas.db." in run.out
    assert "\x1b" not in run.out
    resume, show = lines[-2:]
    assert resume == "  nas-optuna resume small.py"
    shown = call(folder, *shlex.split(show)[1:])
    assert shown.status == 0
    assert "on the Pareto front" in shown.out


def test_a_run_fits_a_terminal_of_80_columns(finished):
    assert max(len(line) for line in finished[1].out.splitlines()) <= 100  # plain lines do not
    table = finished[1].out[finished[1].out.index("Pareto front") :]
    assert max(len(line) for line in table.splitlines()) <= 80


def test_trials_are_what_this_call_adds(folder, call):
    first = call(folder, "run", "small.py")  # the file's own number
    assert len(trials(folder)) == 3
    options = ["--trials", 2, "--storage", "sqlite:///nas.db", "--seed", 5]
    second = call(folder, "resume", "small.py", *options)
    assert (first.status, second.status, second.err) == (0, 0, "")
    assert [t.state.name for t in trials(folder)] == ["COMPLETE"] * 5
    assert "2 trials, after 3 trials, sqlite:///nas.db" in second.out
    assert "2 trials in this run" in second.out
    assert "resume small.py --storage sqlite:///nas.db --seed 5" in second.out
    third = call(folder, "run", "small.py", "--trials", 1)
    assert third.status == 0
    assert len(trials(folder)) == 6


def test_options_take_the_place_of_the_files_settings(folder, call):
    options = [
        "--name", "other[b]", "--storage", "sqlite:///other.db", "--sampler", "nsga2",
        "--trials", 2, "--device", "cpu", "--timeout", 600,
    ]  # fmt: skip
    run = call(folder, "run", "small.py", *options)
    assert (run.status, run.err) == (0, "")
    assert (
        "other[b]: network (16 genomes), nsga2, 2 trials, at most 600 s, sqlite:///other"
        in run.out
    )
    again = "--name 'other[b]' --storage sqlite:///other.db --sampler nsga2 --device cpu"
    assert f"nas-optuna resume small.py {again}\n" in run.out
    assert "Pareto front of other[b]: " in run.out
    assert [p.name for p in folder.glob("*.db")] == ["other.db"]


def test_evaluations_count_trained_networks_only(folder, call):
    run = call(folder, "run", "small.py", "--evaluations", 2)
    assert run.status == 0
    assert "2/2 trained, " in run.out
    made = [t.user_attrs for t in trials(folder)]
    assert sum("nas:epochs" in attrs and "nas:cached" not in attrs for attrs in made) == 2
    assert len(made) > 2


def test_a_timeout_ends_a_run(folder, call):
    run = call(folder, "run", "small.py", "--trials", 1000, "--timeout", 0.01)
    assert run.status == 0
    assert len(trials(folder)) == 1


def test_the_password_of_a_database_is_never_printed(folder, call, postgres_url):
    url = postgres_url.replace("postgres@", "postgres:s3cret@")
    run = call(folder, "run", "small.py", "--storage", url, "--trials", 1)
    assert run.status == 0
    assert "postgres:***@" in run.out
    assert "s3cret" not in run.out + run.err


def test_nothing_but_the_front_is_on_stdout(finished):
    done = process(finished[0], "pareto", "small.py", "--format", "json")
    assert (done.status, done.err) == (0, "")
    records = json.loads(done.out)
    assert records
    for record in records:
        assert set(record) == {
            "number", "values", "params", "architecture", "score", "predicted",
        }  # fmt: skip
        assert list(record["values"]) == ["accuracy", "latency_ms", "parameters"]
        assert set(record["params"]) == {"width", "kernel_size", "depth"}
        assert record["architecture"]["num_classes"] == 10


def test_a_terminal_shows_a_bar(folder):
    main, terminal = pty.openpty()
    run = subprocess.Popen(
        command("run", "small.py", "--trials", 3), cwd=folder, stdout=terminal,
        stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )  # fmt: skip
    os.close(terminal)
    shown = bytearray()
    reader = threading.Thread(target=read_all, args=(main, shown))
    reader.start()
    assert run.wait(120) == 0
    reader.join()
    os.close(main)
    text = shown.decode()
    assert run.stderr.read() == b""
    assert "━━━" in text
    assert "3/3 trials" in text
    assert "hypervolume" in text
    assert "Pareto front of small" in text
    assert "3/3 trials, " not in text  # the plain line


def read_all(descriptor, into):
    while True:
        try:
            part = os.read(descriptor, 4096)
        except OSError:  # the other end was closed
            return
        if not part:
            return
        into.extend(part)


def test_a_supernet_is_trained_before_the_first_trial(folder, call):
    """Whose network is beyond the limit here, so that no trial asks for it."""
    text = (folder / "small.py").read_text()
    own = "FullTraining(data, epochs=2)"
    assert own in text
    shared = "WeightSharing(data, network, epochs=1, paths=1)"
    (folder / "shared.py").write_text(text.replace(own, shared))
    done = call(folder, "run", "shared.py", "--trials", 1)
    assert (done.status, done.err) == (0, "")
    assert "1 infeasible" in done.out
    (supernet,) = (folder / ".nas_optuna/supernets").glob("*.safetensors")
    written = supernet.stat().st_mtime_ns
    assert call(folder, "resume", "shared.py", "--trials", 2).status == 0
    assert [t.state.name for t in trials(folder)] == ["COMPLETE"] * 3
    assert supernet.stat().st_mtime_ns == written

"""`report`, on a study that was really run."""

from dataclasses import replace

import optuna
import pytest

from nas_optuna.samplers import STRATEGIES
from nas_optuna.study_file import load_search
from tests.cli.conftest import MODULE


@pytest.fixture
def written(finished, call, tmp_path):
    """The page and its twin of the finished study."""
    called = call(finished[0], "report", "small.py", "--out", tmp_path / "out" / "page.html")
    assert (called.status, called.err) == (0, "")
    page, twin = tmp_path / "out/page.html", tmp_path / "out/page.md"
    assert called.out == f"Written: {page} and {twin}.\n"
    return page.read_text(encoding="utf-8"), twin.read_text(encoding="utf-8")


def test_the_report_says_all_that_repeats_the_study(written):
    page, twin = written
    command = "nas-optuna run small.py --trials 8 --name small --sampler random --seed 0"
    lines = twin.splitlines()
    for line in (
        f"    {command} --storage sqlite:///again.db",
        f"| strategy | random: {STRATEGIES['random'].text} |",
        r"| limits | max\_layers 50, max\_parameters 1,000, max\_memory\_mb 1,000 MB, "
        r"max\_latency\_ms 100 ms |",
    ):
        assert line in lines
    for start in (
        "| space | network: 16 genomes of 3 genes",
        "| evaluator | FullTraining: ",
        "| data | digits: 1,077 training",
        "| machine | cpu",
        "| versions | python 3",
        "### Run since 20",
    ):
        assert f"\n{start}" in twin
    assert f"optuna {optuna.__version__}" in twin
    assert "width = trial.suggest_categorical" in page  # the study file


def test_costs_and_limits_are_those_of_the_run(written):
    _, twin = written
    lines = twin.splitlines()
    for line in (
        "| trials | 8 |",
        "| evaluated | 3 |",
        "| answered from the cache | 3 |",
        "| infeasible | 2 |",
        "| evaluations | 3, 6 epochs |",
    ):
        assert line in lines
    assert any(line.startswith("| sampler | ") and line.endswith(" %) |") for line in lines)
    assert r"2 of 8 (25 %) are infeasible. 25 % break max\_parameters 1,000." in lines


def test_a_module_has_no_diagram_and_passwords_are_masked(folder, call):
    (folder / "module.py").write_text(
        MODULE.replace(
            'sampler="random",', 'sampler="random",  # postgresql://me:secret@host/nas, not yet'
        )
    )
    assert call(folder, "run", "module.py", "--trials", 1).status == 0
    assert call(folder, "resume", "module.py", "--trials", 2).status == 0
    called = call(folder, "report", "module.py")
    assert called.out == "Written: perceptrons-report.html and perceptrons-report.md.\n"
    twin = (folder / "perceptrons-report.md").read_text()
    assert "Its space returns a module, so there is no graph to draw." in twin
    assert "Best of 3 finished trials: trial " in twin
    again = "module.py --trials {} --name perceptrons --sampler random --seed 0"
    assert f"    nas-optuna run {again.format(1)} --storage sqlite:///again.db\n" in twin
    assert f"    nas-optuna resume {again.format(2)} --storage sqlite:///again.db\n" in twin
    for file in ("perceptrons-report.md", "perceptrons-report.html"):
        text = (folder / file).read_text()
        assert "postgresql://me:***@host/nas" in text
        assert "secret" not in text


def test_a_study_of_several_samplers_is_not_said_to_be_repeated(folder, call):
    assert call(folder, "run", "module.py", "--trials", 1).status == 0
    other = ("--sampler", "local", "--seed", 7)
    assert call(folder, "resume", "module.py", "--trials", 1, *other).status == 0
    assert call(folder, "report", "module.py").status == 0
    twin = (folder / "perceptrons-report.md").read_text()
    assert "To repeat it" not in twin
    assert "trial for trial is the same again" not in twin
    first, second = (line for line in twin.splitlines() if line.startswith("    nas-optuna "))
    words = "module.py --name perceptrons --sampler {} --storage sqlite:///again.db"
    assert first == f"    nas-optuna run {words.format('random --seed 0')}"
    assert second == f"    nas-optuna resume {words.format('local --seed 7')}"
    assert "These commands do not repeat the study: " in twin
    assert twin.index("| strategy | random") < twin.index("| strategy | local")


@pytest.mark.parametrize(
    "lines",
    [
        'URL = "postgresql://db.example/nas?user=ada&password=s3cr3t"',
        'PW = "s3cr3t"\nURL = f"postgresql://ada:{PW}@db.example/nas"',
        'PW = "s3cr3t"\nURL = "postgresql://ada:" + PW + "@db.example/nas"',
        'PW = "a/s3cr3t"  # a%2Fs3cr3t\nURL = f"postgresql://ada:a%2F{PW[2:]}@db.example/nas"',
        '# postgresql://ada:one@s3cr3t@db.example/nas?sslpassword=s3cr3t\nURL = "sqlite:///x.db"',
    ],
)
def test_no_password_of_the_study_file_is_in_the_report(folder, call, lines):
    (folder / "module.py").write_text(
        f"{lines}\n" + MODULE.replace('sampler="random",', 'sampler="random",\n    storage=URL,')
    )
    elsewhere = f"sqlite:///{folder}/here.db"
    search = replace(load_search(folder / "module.py"), storage=elsewhere)
    search.create()
    assert call(folder, "report", "module.py", "--storage", elsewhere).status == 0
    for file in folder.glob("perceptrons-report.*"):
        assert "s3cr3t" not in file.read_text()
        assert "***" in file.read_text()


def test_a_space_beyond_any_float_has_a_size(folder, call):
    many = "    for i in range(1100):\n        trial.suggest_categorical(f'gene{i}', [0, 1])\n"
    text = MODULE.replace("    return nn", f"{many}    return nn")
    (folder / "module.py").write_text(text.replace("[4, 8])", "[4])"))
    assert call(folder, "run", "module.py", "--trials", 1).status == 0
    called = call(folder, "report", "module.py")
    assert (called.status, called.err) == (0, "")
    twin = (folder / "perceptrons-report.md").read_text()
    assert "perceptron: 1.3e+331 genomes of 1101 genes" in twin


def test_wrong_calls_are_one_line(folder, finished, call):
    called = call(folder, "report", "small.py")
    assert called.status == 1
    assert called.err.startswith("error: There is no database 'nas.db'")
    called = call(finished[0], "report", "small.py", "--out", "page.pdf")
    assert called.err == "error: --out must be a .html file, got 'page.pdf'.\n"

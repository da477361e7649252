"""Study files: run from anywhere, and what is wrong with one is said in a line."""

import pytest

from nas_optuna.errors import NasOptunaError, StudyFileError
from nas_optuna.study_file import load_search

GOOD = """
import nas_optuna as nas
from helper import WIDTHS
search = nas.Search(
    name="s",
    space=nas.spaces.MacroSpace((1, 8, 8), 10, widths=WIDTHS),
    evaluator=nas.evaluators.FullTraining("digits", epochs=1),
)
"""


def test_it_may_import_what_lies_beside_it(tmp_path, monkeypatch):
    (tmp_path / "helper.py").write_text("WIDTHS = (8, 16)")
    (tmp_path / "my_study.py").write_text(GOOD)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_search("../my_study.py").space.widths == (8, 16)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "must define `search = nas_optuna.Search"),
        ("search = 3", "`search` is a int"),
        ("def f(:", "line 1: "),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named"),
        ("1 / 0", "ZeroDivisionError"),
        ("import nas_optuna as nas\nnas.data.load('digit')", "Did you mean 'digits'"),
        ("import nas_optuna as nas\nnas.spaces.MacroSpace(widhts=3)", "Did you mean 'widths'"),
        ("import nas_optuna as nas\nnas.Search(sampelr='tpe')", "Did you mean 'sampler'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, text, says):
    file = tmp_path / "study.py"
    file.write_text(text)
    with pytest.raises(NasOptunaError, match=says) as caught:
        load_search(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_tells_its_neighbours(tmp_path):
    (tmp_path / "digits.py").write_text("")
    with pytest.raises(StudyFileError, match=r"no study file .*has digits\.py"):
        load_search(tmp_path / "digit.py")

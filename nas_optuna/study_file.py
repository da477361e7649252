"""Read a study file: one Python file that defines `search`, runnable from any directory."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from pathlib import Path

import nas_optuna
from nas_optuna.errors import NasOptunaError, StudyFileError, UnknownNameError
from nas_optuna.search import Search


def load_search(path: str | Path) -> Search:
    """Run a study file and return its `search`.

    Modules beside the file can be imported by it. It is run as a module of its own name, so
    `if __name__ == "__main__"` blocks are left alone.

    Args:
        path: The file.

    Raises:
        StudyFileError: The file is missing, is not Python, fails when run, or has no `search`.
    """
    file = Path(path)
    if not file.is_file():
        near = sorted(p.name for p in file.parent.glob("*.py")) if file.parent.is_dir() else []
        there = f" {file.parent}/ has {', '.join(near)}." if near else ""
        raise StudyFileError(f"There is no study file {str(path)!r}.{there}")
    try:
        module = _run(file)
    except NasOptunaError:
        raise
    except SyntaxError as error:
        raise StudyFileError(f"{path}, line {error.lineno}: {error.msg}.") from error
    except Exception as error:
        hint = _hint(error)
        raise StudyFileError(f"{path} fails: {type(error).__name__}: {error}{hint}") from error
    search = getattr(module, "search", None)
    if not isinstance(search, Search):
        got = "it does not" if search is None else f"`search` is a {type(search).__name__}"
        raise StudyFileError(
            f"{path} must define `search = nas_optuna.Search(...)` at its top level; {got}."
        )
    return search


def _hint(error: Exception) -> str:
    """For a misspelt keyword of a public class, the nearest one."""
    found = re.search(
        r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error)
    )
    if found is None:
        return ""
    for module in (nas_optuna, nas_optuna.spaces, nas_optuna.evaluators):
        made = getattr(module, found[1], None)
        if made is not None:
            known = inspect.signature(made).parameters
            return f". {UnknownNameError(f'option of {found[1]}', found[2], known)}"
    return ""


def _run(file: Path) -> object:
    spec = importlib.util.spec_from_file_location(file.stem, file.resolve())
    if spec is None or spec.loader is None:
        raise StudyFileError(f"{file} is not a Python file; a study file ends in .py.")
    module = importlib.util.module_from_spec(spec)
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    # Registered under its name so that functions in it can be found again, by workers too.
    sys.modules.setdefault(file.stem, module)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module

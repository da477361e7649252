"""Read a table's columns from a CSV or `.npz` file, each value as what it looks like."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas_optuna.errors import DataError

Column = Sequence[Any]
_TRUTH = {"true": True, "false": False}


def read_columns(path: Path) -> dict[str, Column]:
    """Read columns by name.

    Args:
        path: A `.csv` file whose first line names the columns, or an `.npz` file that holds one
            array per column.

    Raises:
        DataError: The file is missing, of another kind, or not a table.
    """
    readers = {".csv": _read_csv, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"A table is a .csv or .npz file, got {str(path)!r}.")
    try:
        columns = reader(path)
    except (OSError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        raise DataError(f"Cannot read the table {str(path)!r}: {error}.") from error
    if not columns:
        raise DataError(f"The table {str(path)!r} is empty.")
    return columns


def _read_csv(path: Path) -> dict[str, Column]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        return {}
    header, *body = ([cell.strip() for cell in row] for row in rows)
    if len(set(header)) < len(header):
        raise ValueError("a column's name is there twice")
    for number, row in enumerate(body, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, the header {len(header)}")
    return {name: typed([row[i] for row in body]) for i, name in enumerate(header)}


def _read_npz(path: Path) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    with np.load(path, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array, not named columns")
        for name in file.files:
            if file[name].ndim != 1:
                raise ValueError(f"column {name!r} has shape {file[name].shape}, not (rows,)")
            columns[name] = file[name].tolist()
    return columns


def typed(texts: Sequence[str]) -> Column:
    """Turn texts into what all of them are: whole numbers, numbers, truth values, or texts.

    Example:
        >>> typed(["1", "2"]), typed(["1", "0.5"]), typed(["True", "false"]), typed(["1", "a"])
        ([1, 2], [1.0, 0.5], [True, False], ['1', 'a'])
    """
    kinds: tuple[Callable[[str], Any], ...] = (int, float, lambda text: _TRUTH[text.lower()])
    for kind in kinds:
        try:
            return [kind(text) for text in texts]
        except (ValueError, KeyError):
            continue
    return list(texts)

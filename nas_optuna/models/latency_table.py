"""Latency predicted from a table of operations, measured once on the machine that matters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nas_optuna.architecture import Architecture
from nas_optuna.errors import DataError
from nas_optuna.models.cost import NodeKey, node_keys
from nas_optuna.models.estimation import Estimator

_FORMAT = 2
_MAKE = "`nas-optuna latency-table STUDY.py --out {path}`"
_KIND = "nas_optuna latency table"


@dataclass(frozen=True, slots=True)
class Check:
    """How well a table predicts networks that were measured whole.

    Args:
        networks: How many.
        kendall_tau: Rank correlation of predicted and measured latency, in [-1, 1].
        error: Median of the absolute error, as a share of the measured latency.
        estimated: Share of the networks' nodes that were estimated from others of their kind.
    """

    networks: int
    kendall_tau: float
    error: float
    estimated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TableData:
    """What a table holds.

    Args:
        runtime: What ran the operations, `torch` or `onnxruntime`.
        version: Its version.
        device: The hardware.
        threads: Threads on the CPU.
        batch_size: Samples in one pass.
        overhead_ms: What a network takes beside its operations.
        scale: What the sum over the operations is multiplied by.
        check: How well it predicts.
        entries: Median milliseconds by operation.
    """

    runtime: str
    version: str
    device: str
    threads: int
    batch_size: int
    overhead_ms: float
    scale: float
    check: Check
    entries: dict[NodeKey, float]

    def save(self, path: str | Path) -> None:
        """Write as a JSON file.

        Raises:
            DataError: It cannot be written.
        """
        document = {"format": _FORMAT, "kind": _KIND}
        for name in self.__slots__:
            document[name] = getattr(self, name)
        document["check"] = {name: getattr(self.check, name) for name in self.check.__slots__}
        document["entries"] = [
            {"operation": operation, "settings": dict(settings), "inputs": inputs, "ms": ms}
            for (operation, settings, inputs), ms in self.entries.items()
        ]
        try:
            Path(path).write_text(json.dumps(document, indent=1) + "\n")
        except OSError as error:
            raise DataError(f"Cannot write the latency table {path}: {error.strerror}.") from error


class LatencyTable:
    """Predicts the latency of an architecture by the sum over its operations.

    The file comes from `nas-optuna latency-table`, run on the machine where the networks will
    run. An operation that is not in the table is estimated from those of its kind. The file is
    read at the first use.

    Args:
        path: The file.

    Example:
        >>> LatencyTable("board.json")
        LatencyTable('board.json')
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._times: dict[NodeKey, float] = {}
        self._estimators: dict[str, Estimator] = {}

    @classmethod
    def of(cls, data: TableData, path: str | Path = "(not saved)") -> LatencyTable:
        """Make a table of what was measured, without a file.

        Args:
            data: What was measured.
            path: Name in messages.
        """
        table = cls(path)
        table.__dict__["data"] = data  # where the cached property keeps it
        return table

    @cached_property
    def data(self) -> TableData:
        """What the file holds.

        Raises:
            DataError: The file is missing or not such a table.
        """
        return _parse(self._text, self.path)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that differ when predictions may differ."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:16]

    @cached_property
    def _text(self) -> str:
        try:
            return self.path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"Cannot read the latency table {self.path}: {error}. "
                f"{_MAKE.format(path=self.path)} makes one."
            ) from error

    def predict(self, architecture: Architecture) -> float:
        """Predict the milliseconds of one forward pass.

        Raises:
            DataError: The file is not usable, or the table has no operation of some node's kind.
        """
        keys = node_keys(architecture)
        self._know(architecture, keys)
        total = sum(self._times[key] for key in keys)
        return self.data.overhead_ms + self.data.scale * total

    def _know(self, architecture: Architecture, keys: Sequence[NodeKey]) -> None:
        """See to it that `_times` has all keys."""
        self._times = self._times or dict(self.data.entries)
        missing = list(dict.fromkeys(key for key in keys if key not in self._times))
        for kind in sorted({key[0] for key in missing}):
            wanted = [key for key in missing if key[0] == kind]
            estimator = self._estimator(kind)
            if estimator is None:
                node = architecture.nodes[keys.index(wanted[0])]
                raise DataError(
                    f"The latency table {self.path} has no {kind}, which node {node.name!r} is; "
                    f"make the table from this study: {_MAKE.format(path=self.path)}."
                )
            self._times.update(zip(wanted, estimator.estimate(wanted), strict=True))

    def _estimator(self, kind: str) -> Estimator | None:
        if kind not in self._estimators:
            known = {key: ms for key, ms in self.data.entries.items() if key[0] == kind}
            if not known:
                return None
            self._estimators[kind] = Estimator(known)
        return self._estimators[kind]

    def __repr__(self) -> str:
        return f"LatencyTable({str(self.path)!r})"


def _parse(text: str, path: Path) -> TableData:
    try:
        document: dict[str, Any] = json.loads(text)
        if document["kind"] != _KIND:
            raise ValueError(f"its kind is {document['kind']!r}")
        if document["format"] != _FORMAT:
            raise ValueError(f"its format is {document['format']!r}, not {_FORMAT}")
        return TableData(
            runtime=str(document["runtime"]),
            version=str(document["version"]),
            device=str(document["device"]),
            threads=int(document["threads"]),
            batch_size=int(document["batch_size"]),
            overhead_ms=float(document["overhead_ms"]),
            scale=float(document["scale"]),
            check=Check(**document["check"]),
            entries=dict(_entry(entry) for entry in document["entries"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a latency table this version reads ({error}); make it anew: "
            f"{_MAKE.format(path=path)}."
        ) from error


def _entry(entry: dict[str, Any]) -> tuple[NodeKey, float]:
    settings = tuple(sorted(entry["settings"].items()))
    inputs = tuple(tuple(int(side) for side in shape) for shape in entry["inputs"])
    ms = float(entry["ms"])
    if not 0 < ms < float("inf"):
        raise ValueError(f"{entry['operation']} takes {ms!r} ms")
    return (str(entry["operation"]), settings, inputs), ms

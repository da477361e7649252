"""What a space costs and which share of it each limit lets through, before a search begins."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from nas_optuna.candidates import Proposal, propose_params
from nas_optuna.constraints import LIMITS
from nas_optuna.errors import SpaceError
from nas_optuna.objective import Objective
from nas_optuna.spaces import UNBUILDABLE

_LATENCY_SECONDS = 0.02  # a profile asks for the scale, not for a result


@dataclass(frozen=True, slots=True)
class CostRow:
    """One metric over a sample of a space.

    Args:
        metric: Name of the metric.
        minimum: Smallest value.
        median: Median.
        maximum: Largest value.
        limit: The limit on it, None if there is none.
        share: Share of the sample within the limit, in [0, 1]; 1 without a limit.
    """

    metric: str
    minimum: float
    median: float
    maximum: float
    limit: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Profile:
    """A sample of a space and its costs.

    Args:
        samples: Genomes drawn.
        built: How many of them gave a network that runs.
        rows: One per metric.
        feasible: Share of all samples that builds and is within all limits, in [0, 1].
        failure: The most frequent reason why a network could not be built, empty if all could.
    """

    samples: int
    built: int
    rows: tuple[CostRow, ...]
    feasible: float
    failure: str

    @property
    def advice(self) -> str:
        """What limit would let half of the sample through, for each that lets less through."""
        tight = [row for row in self.rows if row.share < 0.5]
        return "; ".join(
            f"max_{row.metric} {row.limit:,g} lets {row.share:.0%} through, {row.median:,.4g} "
            "would let half through".replace("%", " %")
            for row in tight
        )


def profile(
    objective: Objective, *, samples: int = 200, timed: int = 20, seed: int = 0
) -> Profile:
    """Sample the space of an objective and count what the networks cost.

    Args:
        objective: Knows the space and the limits.
        samples: Genomes to draw.
        timed: How many of the networks to time; 0 leaves latency out.
        seed: Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    proposals, failures = _draw(objective, samples, rng)
    columns: dict[str, list[float]] = {}
    for proposal in proposals:
        for name, value in proposal.cost.values().items():
            columns.setdefault(name, []).append(value)
    if timed and proposals:
        columns["latency_ms"] = [_latency(objective, p) for p in proposals[:timed]]
    limits = {LIMITS[name]: limit for name, limit in objective.limits.items()}
    within = [not objective.breaks(p.cost.values()) for p in proposals]
    rows = tuple(_row(name, values, limits.get(name)) for name, values in columns.items())
    # Latency is known of a part only; its share counts as independent of the other limits.
    fast = next((row.share for row in rows if row.metric == "latency_ms"), 1.0)
    return Profile(
        samples=samples,
        built=len(proposals),
        rows=rows,
        feasible=sum(within) / samples * fast,
        failure=failures.most_common(1)[0][0] if failures else "",
    )


def require_feasible(objective: Objective, *, samples: int = 500, seed: int = 0) -> None:
    """Draw until one network is within all limits that can be known by counting.

    Raises:
        SpaceError: None of `samples` is, so that a search would never train anything.
    """
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        if objective.proposal(objective.space.sample(rng)) is not None:
            return
    found = profile(objective, samples=100, timed=0, seed=seed)
    if not found.built:
        raise SpaceError(f"No network of {objective.space.name} can be built: {found.failure}")
    raise SpaceError(
        f"None of {samples} random architectures is within the limits ({found.advice}); "
        "relax a limit or make the space smaller. `nas-optuna profile` shows all costs."
    )


def _draw(
    objective: Objective, samples: int, rng: np.random.Generator
) -> tuple[list[Proposal], Counter[str]]:
    proposals, failures = [], Counter[str]()
    for _ in range(samples):
        try:
            proposals.append(propose_params(objective.space, objective.space.sample(rng)))
        except UNBUILDABLE as error:
            failures[str(error)] += 1
    return proposals, failures


def _row(name: str, values: list[float], limit: float | None) -> CostRow:
    array = np.asarray(values)
    return CostRow(
        metric=name,
        minimum=float(array.min()),
        median=float(np.median(array)),
        maximum=float(array.max()),
        limit=limit,
        share=1.0 if limit is None else float((array <= limit).mean()),
    )


def _latency(objective: Objective, proposal: Proposal) -> float:
    stopwatch = objective.stopwatch.within(_LATENCY_SECONDS)
    return stopwatch.latency(proposal.candidate).values["latency_ms"]

"""Which limits the trials of a study broke, and what limits would let more through."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from nas_optuna.constraints import LIMITS
from nas_optuna.recording import INFEASIBLE
from nas_optuna.report import statistics
from nas_optuna.report.tables import format_limit, format_value, percent

_HALF = 0.5
_COUNTS = ("parameters", "flops", "layers")


@dataclass(frozen=True, slots=True)
class Broken:
    """One limit, over the trials of which its metric is known.

    Args:
        name: Name of the limit.
        limit: Its value.
        known: Trials whose metric is known; a cheaper limit may have ruled the others out.
        share: Share of these that break it, in [0, 1].
        half: The limit that would let half of these pass.
    """

    name: str
    limit: float
    known: int
    share: float
    half: float

    @property
    def text(self) -> str:
        """Say it in words; with advice where less than half pass.

        Example:
            >>> Broken("max_latency_ms", 5.0, 200, 0.91, 14.0).text
            '91 % break max_latency_ms 5 ms; 14.00 ms would let 50 % pass'
        """
        metric = LIMITS[self.name]
        text = f"{percent(self.share)} break {self.name} {format_limit(metric, self.limit)}"
        if self.share <= _HALF:
            return text
        return f"{text}; {self.half_text} would let 50 % pass"

    @property
    def half_text(self) -> str:
        """The limit that would let half pass, as people read it."""
        metric = LIMITS[self.name]
        whole = metric in _COUNTS
        return format_value(metric, math.ceil(self.half) if whole else self.half)


def broken_limits(trials: Sequence[FrozenTrial], limits: Mapping[str, float]) -> list[Broken]:
    """Every limit that some trial broke, the most broken first.

    Args:
        trials: Finished trials; their constraints say how far each is beyond each limit.
        limits: The limits of the search, by name.
    """
    found = []
    for name, limit in limits.items():
        excess = np.array([t.constraints[name] for t in trials if name in t.constraints])
        if (excess > 0).any():
            # Violations are shares of the limit; see `SearchConstraints.violations`.
            middle = float(np.median(excess))
            half = limit * (1 + middle if name.startswith("max") else 1 - middle)
            found.append(Broken(name, limit, len(excess), float((excess > 0).mean()), half))
    return sorted(found, key=lambda broken: -broken.share)


def other_reasons(trials: Sequence[FrozenTrial], limits: Mapping[str, float]) -> Counter[str]:
    """Why trials are infeasible that broke no limit, such as networks that do not run."""
    return Counter(
        trial.user_attrs.get(INFEASIBLE, "a constraint of another program")
        for trial in trials
        if not statistics.is_feasible(trial)
        and not any(trial.constraints.get(name, 0) > 0 for name in limits)
    )


def infeasibility_text(trials: Sequence[FrozenTrial], limits: Mapping[str, float]) -> str:
    """Say in words how many trials are infeasible and why.

    Args:
        trials: Trials that are complete.
        limits: The limits of the search, by name.
    """
    count = sum(not statistics.is_feasible(trial) for trial in trials)
    if not count:
        return f"All {len(trials):,} are feasible."
    share = percent(count / len(trials))
    text = f"{count:,} of {len(trials):,} ({share}) are infeasible."
    reasons = [broken.text for broken in broken_limits(trials, limits)]
    others = other_reasons(trials, limits).total()
    reasons += [f"{others:,} for another reason"] if others else []
    return f"{text} {'. '.join(reason[0].upper() + reason[1:] for reason in reasons)}."

"""Whether what differs between samplers is more than chance: tests, effects, ranks.

[Demsar2006] J. Demšar. Statistical comparisons of classifiers over multiple data sets. JMLR 7.
[Noether1987] G. E. Noether. Sample size determination for some common nonparametric tests.
    JASA 82(398).
[Vargha2000] A. Vargha, H. D. Delaney. A critique and improvement of the CL common language
    effect size statistics. J. Educational and Behavioral Statistics 25(2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nas_optuna.report.scoring import FloatArray

ALPHA = 0.05  # chance of seeing a difference where there is none, over all pairs
POWER = 0.8  # chance of seeing the difference that there is, with the seeds asked for


@dataclass(frozen=True, slots=True)
class Pair:
    """Two samplers, compared seed by seed.

    Args:
        first: Name of the one with the better mean.
        second: Name of the other.
        difference: Median of `first - second` over seeds.
        effect: Vargha and Delaney's A: the chance that a run of the first is better than one of
            the second, ties counting half; 0.5 is no difference.
        p_value: Of the Wilcoxon signed-rank test, corrected for all pairs (Holm).
        seeds: How many seeds would show the first as the better one; None if no number would.
        agrees: Whether the ranks of that test, too, are for the first. A single seed that went
            wrong may turn the mean, and hardly moves the ranks.
    """

    first: str
    second: str
    difference: float
    effect: float
    p_value: float
    seeds: int | None
    agrees: bool = True

    @property
    def decided(self) -> bool:
        """Whether the first is better by more than chance."""
        return self.agrees and self.p_value < ALPHA


@dataclass(frozen=True, slots=True)
class Ranking:
    """Samplers by their mean rank over seeds.

    Args:
        ranks: Mean rank by name, 1 is best, in ascending order.
        p_value: Of Friedman's test that all are alike; NaN for fewer than three samplers.
        critical: Nemenyi's critical difference: mean ranks closer than that may be chance.
    """

    ranks: Mapping[str, float]
    p_value: float
    critical: float

    @property
    def cliques(self) -> list[tuple[str, ...]]:
        """The largest groups whose mean ranks are closer than the critical difference."""
        names, ranks = list(self.ranks), list(self.ranks.values())
        groups: list[tuple[int, int]] = []
        for start in range(len(names)):
            end = max(
                i for i in range(start, len(names)) if ranks[i] - ranks[start] < self.critical
            )
            if end > start and (not groups or end > groups[-1][1]):
                groups.append((start, end))
        return [tuple(names[start : end + 1]) for start, end in groups]


def compare_pairs(scores: Mapping[str, ArrayLike]) -> list[Pair]:
    """Test each pair of samplers, the one with the better mean first.

    Args:
        scores: By name, `(k,)` what each seed reached, larger is better; equal places are of
            equal seeds.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = {"a": rng.normal(0.0, 1.0, 12), "b": rng.normal(3.0, 1.0, 12)}
        >>> (pair,) = compare_pairs(scores)
        >>> pair.first, pair.decided, pair.effect > 0.9
        ('b', True, True)
    """
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    pairs = [_better_first(columns, *names) for names in combinations(columns, 2)]
    differences = [columns[a] - columns[b] for a, b in pairs]
    p_values = holm([wilcoxon(column) for column in differences])
    return [
        Pair(
            first,
            second,
            difference=float(np.median(column)),
            effect=superiority(columns[first], columns[second]),
            p_value=p_value,
            seeds=seeds_needed(column, alpha=ALPHA / len(pairs)) if agrees else None,
            agrees=agrees,
        )
        for (first, second), column, p_value in zip(pairs, differences, p_values, strict=True)
        for agrees in (signed_ranks(column) >= 0,)
    ]


def _better_first(columns: Mapping[str, FloatArray], a: str, b: str) -> tuple[str, str]:
    return (a, b) if columns[a].mean() >= columns[b].mean() else (b, a)


def signed_ranks(differences: ArrayLike) -> float:
    """Sum of the signed ranks of Wilcoxon's test: above 0 where the positive ones outweigh.

    Args:
        differences: `(k,)` differences of pairs; zeros are left out.

    Example:
        >>> signed_ranks([0.5, 0.25, -9.0]), signed_ranks([0.0, 0.25])
        (0.0, 1.0)
    """
    column = np.asarray(differences, dtype=np.float64)
    column = column[column != 0]
    return float((np.sign(column) * stats.rankdata(np.abs(column))).sum())


def wilcoxon(differences: ArrayLike) -> float:
    """p-value of the two-sided Wilcoxon signed-rank test that differences lie around 0.

    Zeros tell nothing and are left out. It is exact up to 50 differences, with ties up to 13.

    Args:
        differences: `(k,)` differences of pairs.
    """
    column = np.asarray(differences, dtype=np.float64)
    column = column[column != 0]
    if not len(column):
        return 1.0
    return float(stats.wilcoxon(column).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979), keeping the order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = largest
    return corrected


def superiority(first: ArrayLike, second: ArrayLike) -> float:
    """Vargha and Delaney's A: how likely one of `first` is larger than one of `second`.

    Args:
        first: `(k,)` scores.
        second: `(l,)` scores.

    Example:
        >>> superiority([1.0, 3.0], [2.0, 2.0]), superiority([2.0], [1.0, 2.0])
        (0.5, 0.75)
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    larger = (a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean()
    return float(larger)


def seeds_needed(differences: ArrayLike, *, alpha: float = ALPHA) -> int | None:
    """How many seeds a Wilcoxon test needs to see that differences are above 0, in 80 % of cases.

    `(z_{alpha/2} + z_{power})^2 / (3 (p - 1/2)^2)`, where p is the chance that two differences
    have a positive sum [Noether1987]; no fewer than a two-sided test can decide with at all.

    Args:
        differences: `(k,)` differences that were seen.
        alpha: Level of the test.

    Returns:
        The number; None if the differences point nowhere, or down.
    """
    column = np.asarray(differences, dtype=np.float64)
    above, on = np.triu_indices(len(column))
    sums = column[above] + column[on]  # the Walsh averages, twice
    share = float((sums > 0).mean() + 0.5 * (sums == 0).mean())
    if share < 0.5 or math.isclose(share, 0.5):
        return None
    quantiles = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(POWER))
    least = math.floor(1 - math.log2(alpha)) + 1  # the smallest n with 2^(1-n) below alpha
    return max(math.ceil(quantiles**2 / (3 * (share - 0.5) ** 2)), least)


def rank(scores: Mapping[str, ArrayLike]) -> Ranking:
    """Rank samplers within each seed, and say which mean ranks differ by chance [Demsar2006].

    Args:
        scores: By name, `(k,)` what each seed reached, larger is better; at least two names.
    """
    table = np.stack([np.asarray(values, dtype=np.float64) for values in scores.values()])
    ranks = stats.rankdata(-table, axis=0).mean(axis=1)  # (s,)
    order = np.argsort(ranks, kind="stable")
    names = list(scores)
    alike = bool((table == table[:1]).all())
    friedman = len(names) > 2 and not alike
    return Ranking(
        ranks={names[i]: float(ranks[i]) for i in order},
        p_value=float(stats.friedmanchisquare(*table).pvalue) if friedman else math.nan,
        critical=critical_difference(len(names), table.shape[1]),
    )


def critical_difference(samplers: int, seeds: int) -> float:
    """Nemenyi's critical difference of mean ranks at the level 0.05 [Demsar2006].

    Example:
        >>> round(critical_difference(4, 14), 2)
        1.25
    """
    quantile = stats.studentized_range.ppf(1 - ALPHA, samplers, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(samplers * (samplers + 1) / (6 * seeds)))

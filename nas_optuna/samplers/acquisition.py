"""What candidates may be worth at best, and whether they may keep the limits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas_optuna.samplers.gaussian import FloatArray, Posterior, fit_kernel, squares
from nas_optuna.samplers.outcomes import chosen

OPTIMISM = 1.0  # standard deviations above the mean, for values and for limits
FITTED = 120  # trials that the kernel is fitted to; the prediction uses all
Mask = NDArray[np.bool_]


def value_bounds(
    told: Sequence[FloatArray], targets: FloatArray, lied: Mask, asked: Sequence[FloatArray]
) -> FloatArray:
    """Upper confidence bound of each candidate, `(k,)`.

    What has no target yet is believed to reach its predicted mean (Ginsbourger, Le Riche &
    Carraro 2010, "Kriging is well-suited to parallelize optimization": the Kriging believer), so
    that what runs is not proposed side by side once more.

    Args:
        told: Features of n trials, `(n, d)` for each group.
        targets: `(n,)` larger is better; NaN where it is not known.
        lied: `(n,)` trials without a target that are believed to be no better than the median.
        asked: Features of candidates, `(k, d)` for each group.
    """
    known = np.isfinite(targets)
    if known.sum() < 2:
        return np.zeros(len(asked[0]))
    posterior = fit(rows(told, known), targets[known])
    if not known.all():
        believed = filled(posterior, told, targets)
        believed[lied] = np.minimum(believed[lied], np.median(targets[known]))
        posterior = Posterior(posterior.kernel, told, believed)
    return optimistic(posterior, asked)


def filled(posterior: Posterior, told: Sequence[FloatArray], targets: FloatArray) -> FloatArray:
    """Return targets, `(n,)`, those that are not known as they are predicted."""
    unknown = ~np.isfinite(targets)
    believed = targets.copy()
    believed[unknown] = posterior.predict(rows(told, unknown))[0]
    return believed


def optimistic(posterior: Posterior, asked: Sequence[FloatArray]) -> FloatArray:
    """Upper confidence bound of each candidate, `(k,)`."""
    mean, deviation = posterior.predict(asked)
    return mean + OPTIMISM * deviation


def within_limits(
    bounds: FloatArray,
    told: Sequence[FloatArray],
    violations: FloatArray,
    asked: Sequence[FloatArray],
) -> FloatArray:
    """Put candidates that hardly keep the limits behind all others, the worst last.

    Args:
        bounds: `(k,)` what candidates may be worth.
        told: Features of n trials, `(n, d)` for each group.
        violations: `(n,)` worst violation of each, positive if a limit is broken; NaN where it is
            not known.
        asked: Features of the candidates.
    """
    known = np.isfinite(violations)
    values = violations[known]
    if not (values > 0).any() or len(values) < 2:
        return bounds
    centre, unit = values.mean(), values.std() or 1.0
    margin = optimistic(fit(rows(told, known), (centre - values) / unit), asked)
    least = centre - margin * unit
    return np.where(least <= 0, bounds, bounds.min() - 1.0 - least)


def fit(points: Sequence[FloatArray], values: FloatArray) -> Posterior:
    """Fit the kernel to the best and the newest, then learn from all."""
    used = chosen(values, FITTED)
    kernel = fit_kernel([squares(group[used], group[used]) for group in points], values[used])
    return Posterior(kernel, points, values)


def rows(groups: Sequence[FloatArray], which: Mask | NDArray[np.int64]) -> list[FloatArray]:
    """Return some rows of each group."""
    return [group[which] for group in groups]

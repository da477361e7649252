"""What candidates may add to a front at best, with one model for each objective.

Ponweiser, Wagner, Biermann & Vincze 2008, "Multiobjective Optimization on a Limited Budget of
    Evaluations Using Model-Assisted S-Metric Selection", PPSN X: the hypervolume that the
    optimistic bounds of a candidate add. Expected improvement, and one random scalarisation for
    each trial, found less of the front in as many trials.
Snelson, Rasmussen & Ghahramani 2003, "Warped Gaussian Processes", NeurIPS: scales are compared by
    the likelihood of what was observed.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np

from nas_optuna.samplers.acquisition import Mask, filled, fit, optimistic, rows
from nas_optuna.samplers.gaussian import FloatArray, Posterior
from nas_optuna.samplers.outcomes import Scale, chosen

REFERENCE = 1.1  # where the worst trial is at 1 and the best at 0, in each objective
COMPARED = 60  # trials that a scale is chosen by


def front_gains(
    told: Sequence[FloatArray], losses: FloatArray, running: Mask, asked: Sequence[FloatArray]
) -> FloatArray:
    """What each candidate may add to the hypervolume of the front at best, `(k,)`.

    Trials that run are taken for what is predicted of them, also by the front, so that workers
    spread over it. So are pruned ones by the models; the front is without them.

    Args:
        told: Features of n trials, `(n, d)` for each group.
        losses: `(n, m)`, smaller is better; a row of NaN where they are not known.
        running: `(n,)` trials that run.
        asked: Features of candidates, `(k, d)` for each group.
    """
    known = np.isfinite(losses).all(axis=1)
    if known.sum() < 2:
        return np.zeros(len(asked[0]))
    least, spans = losses[known].min(axis=0), np.ptp(losses[known], axis=0)
    shares = (losses - least) / np.where(spans > 0, spans, 1.0)
    columns = [_at_best(told, column, asked) for column in shares.T]
    points = np.stack([column for column, _ in columns], axis=1)
    return gains(points[known | running], np.stack([bounds for _, bounds in columns], axis=1))


def _at_best(
    told: Sequence[FloatArray], losses: FloatArray, asked: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Fill in losses that are not known, and bound those of candidates from below."""
    known = np.isfinite(losses)
    posterior, scale = _model(rows(told, known), losses[known])
    if not known.all():
        believed = filled(posterior, told, scale.targets(losses))
        posterior = Posterior(posterior.kernel, told, believed)
        losses = np.where(known, losses, scale.losses(believed))
    return losses, scale.losses(optimistic(posterior, asked))


def _model(told: Sequence[FloatArray], losses: FloatArray) -> tuple[Posterior, Scale]:
    """Learn on the scale that makes the losses likelier: costs are often sums, errors are not."""
    few = chosen(-losses, COMPARED)
    scales = [Scale.of(losses[few], logarithmic=logarithmic) for logarithmic in (True, False)]
    likelihoods = [
        fit(rows(told, few), scale.targets(losses[few])).log_likelihood
        + scale.log_slope(losses[few])
        for scale in scales
    ]
    logarithmic = likelihoods[0] > likelihoods[1]
    scale = Scale.of(losses, logarithmic=logarithmic)
    return fit(told, scale.targets(losses)), scale


def gains(points: FloatArray, asked: FloatArray) -> FloatArray:
    """Hypervolume that each candidate adds alone.

    Args:
        points: `(n, m)` losses; `REFERENCE` is where they do not count any more.
        asked: `(k, m)` losses.

    Returns:
        `(k,)`; of candidates that add nothing, minus how much they would have to improve for the
        front not to dominate them.

    Example:
        >>> front = np.array([[0.0, 1.0], [1.0, 0.0]])
        >>> gains(front, np.array([[0.6, 0.6], [1.0, 0.5]])).round(2).tolist()
        [0.16, -0.0]
    """
    front = points[moocore.is_nondominated(points)]
    reference = np.full(points.shape[1], REFERENCE)
    found = np.zeros(len(asked))
    for i, candidate in enumerate(asked):
        volume = float(np.prod(np.maximum(reference - candidate, 0.0)))
        if volume > 0:
            volume -= moocore.hypervolume(np.maximum(front, candidate), ref=reference)
        short = float((candidate - front).min(axis=1).max())
        found[i] = volume if volume > 1e-12 else -max(short, 0.0)
    return found

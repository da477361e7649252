"""A Gaussian process over groups of features, fitted in the same way by every process.

Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning": equations 2.23 to 2.26 (the
prediction), 4.17 (the kernel) and 5.8, 5.9 (the likelihood and its gradient).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]

_NOISE = 0.03  # prior median of the noise's share of the variance
_SPREAD = (1.0, 1.0, 1.5)  # of the priors of log length, log amplitude, log noise
_ITERATIONS = 40
_JITTER = 1e-6
_FAILED = 1e10  # negative log likelihood where the matrix is not positive definite


@dataclass(frozen=True, slots=True)
class Kernel:
    """A sum of Matérn 5/2 kernels, one for each group of features, and noise.

    One length scale for a group is little to fit, so that a dozen trainings are enough; one for
    each feature would need hundreds.

    Args:
        lengths: `(g,)` logarithms of the length scales.
        amplitudes: `(g,)` variances that the groups explain.
        noise: Variance that none explains.
    """

    lengths: FloatArray
    amplitudes: FloatArray
    noise: float

    def covariance(self, squares: Sequence[FloatArray]) -> FloatArray:
        """Covariance of noise-free values.

        Args:
            squares: Squared distances, `(n, k)` for each group.
        """
        parts = [
            amplitude * _matern(np.sqrt(5.0 * square), length)[0]
            for square, length, amplitude in zip(
                squares, self.lengths, self.amplitudes, strict=True
            )
        ]
        return np.asarray(sum(parts), dtype=np.float64)


def fit_kernel(squares: Sequence[FloatArray], targets: FloatArray) -> Kernel:
    """Return the most likely kernel under log-normal priors, from a fixed start.

    scikit-learn's `GaussianProcessRegressor` knows no kernel on a part of the features and no
    prior on its settings; without one, ten trials make most of them run to a bound.

    Args:
        squares: Squared distances, `(n, n)` for each of g groups.
        targets: `(n,)`, of mean 0 and variance 1.
    """
    groups = len(squares)
    roots = [np.sqrt(5.0 * square) for square in squares]
    start = np.concatenate([np.zeros(groups), np.full(groups, -np.log(groups)), [np.log(_NOISE)]])
    spread = np.repeat(_SPREAD, [groups, groups, 1])
    bounds = [(-4.0, 4.0)] * groups + [(-7.0, 4.0)] * groups + [(np.log(1e-5), 1.0)]

    def loss(at: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = _likelihood(roots, targets, at)
        off = (at - start) / spread
        return value + 0.5 * float(off @ off), gradient + off / spread

    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _ITERATIONS}
    ).x
    return Kernel(found[:groups], np.exp(found[groups:-1]), float(np.exp(found[-1])))


def _likelihood(
    roots: Sequence[FloatArray], targets: FloatArray, at: FloatArray
) -> tuple[float, FloatArray]:
    """Negative log likelihood without its constant, and its gradient."""
    groups, size = len(roots), len(targets)
    amplitudes, noise = np.exp(at[groups:-1]), np.exp(at[-1])
    kernels = [_matern(root, length) for root, length in zip(roots, at, strict=False)]
    covariance = np.einsum("g,gij->ij", amplitudes, np.array([k for k, _ in kernels]))
    covariance.flat[:: size + 1] += noise + _JITTER
    try:
        factor = cho_factor(covariance, lower=True)
    except np.linalg.LinAlgError:
        return _FAILED, np.zeros_like(at)
    inverse = cho_solve(factor, np.eye(size))
    weights = inverse @ targets
    slope = 0.5 * (inverse - np.outer(weights, weights))
    gradient = [a * np.vdot(slope, d) for a, (_, d) in zip(amplitudes, kernels, strict=True)]
    gradient += [a * np.vdot(slope, k) for a, (k, _) in zip(amplitudes, kernels, strict=True)]
    gradient.append(noise * np.trace(slope))
    value = 0.5 * targets @ weights + np.log(np.diag(factor[0])).sum()
    return float(value), np.array(gradient)


def _matern(roots: FloatArray, log_length: float) -> tuple[FloatArray, FloatArray]:
    """Return the Matérn 5/2 kernel and its derivative by the logarithm of the length.

    Args:
        roots: Distances times the square root of 5.
        log_length: Logarithm of the length scale.
    """
    r = roots * np.exp(-log_length)
    decay, linear, square = np.exp(-r), 1.0 + r, r * r / 3.0
    slope = square * linear
    square += linear
    square *= decay
    slope *= decay
    return square, slope


class Posterior:
    """What a kernel and some observations say of other points.

    Args:
        kernel: The kernel.
        points: Features, `(n, d)` for each group.
        targets: `(n,)` observations.

    Example:
        >>> kernel = Kernel(np.zeros(1), np.ones(1), noise=1e-4)
        >>> posterior = Posterior(kernel, [np.array([[0.0], [2.0]])], np.array([1.0, -1.0]))
        >>> mean, deviation = posterior.predict([np.array([[0.0], [9.0]])])
        >>> mean.round(2).tolist(), deviation.round(1).tolist()
        ([1.0, -0.0], [0.0, 1.0])
    """

    def __init__(self, kernel: Kernel, points: Sequence[FloatArray], targets: FloatArray) -> None:
        self.kernel = kernel
        self._points = points
        covariance = kernel.covariance([squares(group, group) for group in points])
        covariance.flat[:: len(targets) + 1] += kernel.noise + _JITTER
        self._factor = cholesky(covariance, lower=True)
        self._whitened = solve_triangular(self._factor, targets, lower=True)

    @property
    def log_likelihood(self) -> float:
        """Of the observations, without its constant (equation 2.30)."""
        return float(-0.5 * self._whitened @ self._whitened - np.log(np.diag(self._factor)).sum())

    def predict(self, points: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of the noise-free values.

        Args:
            points: Features, `(k, d)` for each group.
        """
        pairs = zip(self._points, points, strict=True)
        across = self.kernel.covariance([squares(ours, theirs) for ours, theirs in pairs])
        projected = solve_triangular(self._factor, across, lower=True)
        variance = self.kernel.amplitudes.sum() - (projected**2).sum(axis=0)
        return projected.T @ self._whitened, np.sqrt(np.maximum(variance, 1e-10))


def squares(a: FloatArray, b: FloatArray) -> FloatArray:
    """Squared distances between rows.

    Args:
        a: `(n, d)`.
        b: `(k, d)`.

    Returns:
        `(n, k)`.
    """
    norms = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
    return np.asarray(np.maximum(norms - 2.0 * a @ b.T, 0.0), dtype=np.float64)

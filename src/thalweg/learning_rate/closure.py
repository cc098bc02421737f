"""Stochastic gradient descent from the spectrum alone: an approximation, for data too large for the exact recursion.

The exact recursion (`thalweg.learning_rate.second_moment`) needs the mean squared residual of every example. The
closure gives all examples the same one, their mean, so that the noise of a step lies along the singular directions as
their curvatures do and the second moment can be kept as one number for each. It is exact for batches of everything, and
good where no example stands out.

Source: C. Paquette, K. Lee, F. Pedregosa and E. Paquette, "SGD in the Large" (2021), where it is the limit for random
data of growing size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError
from thalweg.learning_rate.coordinates import Coordinates, coordinates
from thalweg.least_squares import LeastSquares
from thalweg.quadrature import Measure, measure

Array = NDArray[np.float64]

_DECOMPOSED = 4000  # the smaller side of X up to which its spectrum is computed rather than estimated
_DEFLATED = 16  # how many of the largest singular values are computed even then: a probe sees single ones too unevenly
_PROBES = 8
_PROBE_STEPS = 64
_TOGETHER = 1 << 22  # (pair, direction) entries looked at in one go


class Closure:
    """The recursion of the diagonal of the second moment under equal squared residuals, and its stability."""

    def __init__(self, at: Coordinates, count: Array | None = None) -> None:
        """`count` says how many singular directions each of `at` stands for, `(r,)`; None for one."""
        self._at = at
        self._count = np.ones(len(at.curvatures)) if count is None else count

    def losses(self, rate: Array, spread: Array, steps: int) -> Array:
        """The loss expected after 0 to `steps` steps, `(p, steps + 1)`, for p pairs of learning rate and spread f."""
        losses = np.empty((len(rate), steps + 1))
        together = max(1, _TOGETHER // len(self._at.curvatures))
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(rate), together):
                part = slice(first, first + together)
                losses[part] = self._losses(rate[part, None], spread[part, None], steps)
        return np.where(np.isfinite(losses), losses, np.inf)  # what is not a number has overflowed before

    def _losses(self, rate: Array, spread: Array, steps: int) -> Array:
        at = self._at
        keep = 1 - rate * at.curvatures
        gain = spread * (rate * at.curvatures) ** 2
        square = np.broadcast_to(at.start**2, keep.shape)
        drift = np.broadcast_to(at.start * at.rest, keep.shape)
        losses = np.empty((len(rate), steps + 1))
        for step in range(steps + 1):
            losses[:, step] = square.sum(axis=1) / at.n
            if step == steps:
                break
            of_the_mean = at.share**2 * square + 2 * at.share * drift + at.rest**2
            residual = square @ at.share + 2 * drift.sum(axis=1) + at.rest_square
            square = keep**2 * square + gain * (at.share * self._count * residual[:, None] - of_the_mean)
            drift = keep * drift
        return losses + at.floor + at.outside_after(rate, steps)

    def stability_rate(self, spread: float) -> float:
        """The learning rate from which on the closure's loss grows for ever: `2 / trace(H)` for single examples.

        There the noise that all directions inject into the loss in the long run is just what the loss injects into
        them: `rate f sum_k count share^2 h / (2 - rate h (1 - f share^2)) = 1`.
        """
        from scipy.optimize import brentq

        h, share = self._at.curvatures, self._at.share
        damped = h * (1 - spread * share**2)
        ceiling = 2 / damped.max() if damped.max() > 0 else np.inf
        if spread == 0:
            return float(ceiling)
        strength = spread * self._count * share**2 * h

        def excess(rate: float) -> float:
            return float(np.sum(rate * strength / (2 - rate * damped))) - 1

        highest = min(2.1 / strength.sum(), ceiling * (1 - 1e-12))
        return highest if excess(highest) <= 0 else float(brentq(excess, 0.0, highest, xtol=1e-300, rtol=1e-12))


def closure(problem: LeastSquares, w0: Array, seen: Measure) -> Closure:
    """The closure of a problem: its spectrum computed where a side of X is at most 4000, estimated otherwise.

    It is estimated too where X is a Dask array or an operator of too many entries to fetch.

    Args:
        problem: the least-squares problem.
        w0: the first weights, `(d,)`.
        seen: the measure of X from the first residual, which carries the start where the spectrum is estimated.

    Raises:
        InputError: l2 > 0 and the spectrum has to be estimated.
    """
    if min(problem.n, problem.d) <= _DECOMPOSED and problem.operator.has_entries:
        return Closure(coordinates(problem, w0, rows=False))
    if problem.l2:
        raise InputError(
            f"Stochastic gradient descent with l2 > 0 needs a side of X of at most {_DECOMPOSED:,}, and X in memory, "
            f"but X is {problem.operator.kind} of {problem.n:,} x {problem.d:,}; leave l2 out or take fewer examples."
        )
    return _estimated(problem, seen)


def _estimated(problem: LeastSquares, seen: Measure) -> Closure:
    """The largest singular values computed, the density of the others from Golub-Kahan runs of random signs."""
    from scipy.sparse.linalg import LinearOperator, svds

    operator, n = problem.operator, problem.n
    X = LinearOperator(
        operator.shape,
        matvec=lambda v: operator.matvec(v.ravel()),  # SciPy also passes columns
        rmatvec=lambda u: operator.rmatvec(u.ravel()),
        dtype=np.float64,
    )
    generator = np.random.default_rng(0)
    U, s, _ = svds(X, k=min(_DEFLATED, min(X.shape) - 1), v0=generator.standard_normal(min(X.shape)))
    nodes, counts = [s**2], [np.ones(len(s))]
    for _ in range(_PROBES):
        probe = generator.choice([-1.0, 1.0], size=n)
        density = measure(operator, probe - U @ (U.T @ probe), min(_PROBE_STEPS, seen.steps))
        nodes.append(density.nodes)
        counts.append(density.weights / _PROBES)
    curvatures = 2 / n * np.concatenate([seen.nodes, *nodes])
    none = np.zeros(len(curvatures))
    start = none.copy()
    start[: len(seen.nodes)] = np.sqrt(seen.weights)
    at = Coordinates(
        n=n,
        l2=0.0,
        curvatures=curvatures,
        share=np.ones(len(curvatures)),
        start=start,
        rest=none,
        rest_square=0.0,  # the part that no rate moves is among the nodes, with curvature zero
        floor=0.0,
        outside=0.0,
        rows=None,
    )
    return Closure(at, np.concatenate([np.zeros(len(seen.nodes)), *counts]))

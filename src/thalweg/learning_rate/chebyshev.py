"""Chebyshev steps: the best learning rates when all that is known of a problem is the interval of its curvatures.

>>> rates = chebyshev(low=1.0, high=9.0, steps=3)
>>> rates.round(4).tolist()
[0.1181, 0.6511, 0.2]
>>> round(chebyshev_contraction(1.0, 9.0, 3), 4)      # what is left of the worst part of the residual
0.2462

"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError

Array = NDArray[np.float64]


def chebyshev(low: float, high: float, steps: int) -> Array:
    """The rates that are best in the worst case when all that is known is an interval of curvatures.

    Their inverses are the roots of the Chebyshev polynomial on [low, high]; after all the steps no part of the
    residual is larger than `chebyshev_contraction(low, high, steps)` times what it was. On the way, in the order
    returned, no part grows by more than kappa = high / low, nor does rounding from any step to the end (measured for
    kappa up to 1e6 and 1,000 steps); in increasing or decreasing order both explode.

    Args:
        low: the least nonzero eigenvalue of the Hessian, or a lower bound of it, positive.
        high: the largest eigenvalue of the Hessian, or an upper bound of it: `2 / stability_rate`.
        steps: the number of steps T, at least 1.

    Returns:
        The rates, `(T,)`.

    Raises:
        InputError: not 0 < low <= high < inf; steps is not an integer of at least 1.

    Source: L. F. Richardson (1910) with the roots of D. M. Young (1953); the order is that of B. Fischer and
    L. Reichel, "A stable Richardson iteration method for complex linear systems" (1988).
    """
    _check_interval(low, high, steps)
    angles = (2 * np.arange(steps) + 1) * np.pi / (2 * steps)
    return 1 / _leja((high + low) / 2 + (high - low) / 2 * np.cos(angles))


def chebyshev_contraction(low: float, high: float, steps: int) -> float:
    """`2 q^T / (1 + q^(2T))`, `q = (sqrt(kappa) - 1) / (sqrt(kappa) + 1)`, `kappa = high / low`.

    By this factor `chebyshev(low, high, steps)` shrinks the worst part of the residual; the loss shrinks by its square.

    Raises:
        InputError: as for `chebyshev`.
    """
    _check_interval(low, high, steps)
    root = np.sqrt(high / low)
    q = (root - 1) / (root + 1)
    return float(2 * q**steps / (1 + q ** (2 * steps)))


def _check_interval(low: float, high: float, steps: int) -> None:
    if not (0 < low <= high < np.inf):
        raise InputError(f"An interval of curvatures needs 0 < low <= high, but got {low!r} to {high!r}.")
    if steps != int(steps) or steps < 1:
        raise InputError(f"steps must be an integer of at least 1, but it is {steps!r}.")


def _leja(points: Array) -> Array:
    """The points reordered, the largest first, each next one with the largest product of distances to those before."""
    remaining = np.sort(points)[::-1]
    ordered = [remaining[0]]
    remaining = remaining[1:]
    logarithm = np.zeros(len(remaining))
    while len(remaining):
        with np.errstate(divide="ignore"):
            logarithm += np.log(np.abs(remaining - ordered[-1]))
        farthest = int(np.argmax(logarithm))
        ordered.append(remaining[farthest])
        remaining, logarithm = np.delete(remaining, farthest), np.delete(logarithm, farthest)
    return np.array(ordered)

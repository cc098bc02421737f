"""The exact second moment of the residual under stochastic gradient descent.

In the coordinates of `thalweg.learning_rate.coordinates` the residual of the examples is `r = P c + r*`, and a step on
a batch of b whose example i was drawn N_i times is

    c <- c - rate n h * [(1/b) P^T (N * r) + what l2 adds],        E[(1/b) P^T (N * r)] = (1/n) P^T r.

The covariance of the sum is `f [(1/n) P^T diag(r^2) P - (1/n^2) P^T r r^T P]` with the spread f = 1/b for batches drawn
with replacement and (n - b) / (b (n - 1)) without. So `C = E[c c^T]` obeys a linear recursion of its own, which needs
of the n x n second moment of the residual only the diagonal: entry by entry, for h as a column and h' as a row,

    C <- (1 - rate h)(1 - rate h') C + rate^2 f h h' [n P^T diag(E r^2) P - P^T E[r r^T] P].

The matrices below carry one more coordinate, the constant 1 that multiplies r*, and so the mean of c as well.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from thalweg.learning_rate.coordinates import Coordinates

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_TABLE_ENTRIES = 1 << 23  # of the table that replaces the rows of P where there are many more rows than columns
_MOST_TABLE_WORK = 400_000_000_000  # multiplications to make it: some ten seconds
_BLOCK_ENTRIES = 1 << 22  # of the rows looked at in one go while it is made
_TOGETHER = 1 << 17  # entries of moments carried along in one go, so that they stay in the cache


class SecondMoment:
    """The recursion of the second moment, and the learning rate up to which it is stable.

    A step costs `n r^2` multiplications or, where there are many more examples than features, `r^4 / 4` from a table of
    the fourth moments of the rows.
    """

    def __init__(self, at: Coordinates) -> None:
        assert at.rows is not None, "the exact recursion needs the rows"
        self._at = at
        self._rows = at.rows
        # The constant coordinate: no curvature moves it, and the noise of no direction reaches it.
        self._curvatures = np.append(at.curvatures, 0.0)
        self._share = np.append(at.share, 0.0)
        self._rest = np.append(at.rest, 0.0)
        self._upper = np.triu_indices(len(self._curvatures))
        self._table = _fourth_moments(at.rows, self._upper) if uses_table(*at.rows.shape) else None

    def losses(self, rate: Array, spread: Array, steps: int) -> Array:
        """The expected loss after 0 to `steps` steps, `(m, steps + 1)`, for m pairs of learning rate and spread f."""
        losses = np.empty((len(rate), steps + 1))
        together = max(1, _TOGETHER // len(self._curvatures) ** 2)
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(rate), together):
                part = slice(first, first + together)
                losses[part] = self._losses(rate[part, None], spread[part, None, None], steps)
        return np.where(np.isfinite(losses), losses, np.inf)  # what is not a number has overflowed before

    def _losses(self, rate: Array, spread: Array, steps: int) -> Array:
        state = np.append(self._at.start, 1.0)
        moment = np.tile(np.outer(state, state), (len(rate), 1, 1))
        keep, gain = 1 - rate * self._curvatures, rate * self._curvatures
        noise = spread * gain[:, :, None] * gain[:, None, :]
        decay = keep[:, :, None] * keep[:, None, :] - noise * np.outer(self._share, self._share)
        losses = np.empty((len(rate), steps + 1))
        for step in range(steps + 1):
            losses[:, step] = np.trace(moment[:, :-1, :-1], axis1=1, axis2=2) / self._at.n
            if step < steps:
                made = noise * self._squares(moment) if noise.any() else 0.0
                moment *= decay
                moment += made
        return losses + self._at.floor + self._at.outside_after(rate, steps)

    def stability_rate(self, spread: float) -> float:
        """The learning rate from which on the second moment grows for ever, converged to rounding.

        The recursion is `C <- C - rate (h + h') * C + rate^2 Q(C)` with a positive map Q, so it is stable just below
        the rate at which `C = rate Q(C) / (h + h')` has a solution: one over the largest eigenvalue of a map that
        becomes symmetric in the coordinates `C / sqrt(h h' / (h + h'))`.

        Source: T. Damm, "Rational Matrix Equations in Stochastic Control" (2004), section 3.2, on positive maps.
        """
        h = self._at.curvatures
        root = np.sqrt(np.outer(h, h) / (h[:, None] + h))

        def scaled(matrix: Array) -> Array:
            moment = np.zeros((1, len(h) + 1, len(h) + 1))
            moment[0, :-1, :-1] = root * matrix
            made = spread * (self._squares(moment) - np.outer(self._share, self._share) * moment) if spread else 0.0
            return root * (moment + made)[0, :-1, :-1]

        return 1 / _largest_eigenvalue(scaled, root * np.eye(len(h)))

    def _squares(self, moment: Array) -> Array:
        """`n P^T diag(E r^2) P` less those terms of `P^T E[r r^T] P` in which r* has part, `(m, r + 1, r + 1)`.

        The last row and column mean nothing: the curvature that they are multiplied with is zero.
        """
        result = self._weighted(moment)
        if self._at.l2:
            mean = self._share * moment[:, :, -1] + self._rest * moment[:, -1:, -1] / 2
            result -= mean[:, :, None] * self._rest + self._rest[:, None] * mean[:, None, :]
        return result

    def _weighted(self, moment: Array) -> Array:
        """`n P^T diag(E r^2) P`, P with its last column."""
        result = np.empty_like(moment)
        k, l = self._upper
        if self._table is not None:
            upper = (moment[:, k, l] * np.where(k == l, 1, 2)) @ self._table
            result[:, k, l] = result[:, l, k] = upper
            return result
        rows = self._rows
        for one, weighted in zip(moment, result, strict=True):
            squares = np.einsum("ij,ij->i", rows @ one, rows) * self._at.n
            if squares.min() >= 0:
                half = rows * np.sqrt(squares)[:, None]
                np.matmul(half.T, half, out=weighted)  # twice as fast as a product of two matrices
            else:
                np.matmul((rows * squares[:, None]).T, rows, out=weighted)
        return result


def uses_table(n: int, size: int) -> bool:
    """Whether the table of fourth moments of n rows of `size` entries is cheaper than the rows, and can be made."""
    pairs = size * (size + 1) // 2
    return pairs**2 <= min(n * size**2, _TABLE_ENTRIES) and n * pairs**2 <= _MOST_TABLE_WORK


def step_cost(n: int, rank: int) -> int:
    """How many multiplications a step of the recursion takes, for n examples and r directions."""
    size = rank + 1
    return (size * (size + 1) // 2) ** 2 if uses_table(n, size) else n * size**2


def _fourth_moments(rows: Array, upper: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Array:
    """`n sum_i p_k p_l p_k' p_l'` over the n rows p for all k <= l and k' <= l'."""
    k, l = upper
    total = np.zeros((len(k), len(k)))
    together = max(1, _BLOCK_ENTRIES // len(k))
    for first in range(0, len(rows), together):
        block = rows[first : first + together]
        products = block[:, k] * block[:, l]
        total += products.T @ products
    return total * len(rows)


def _largest_eigenvalue(apply: Callable[[Array], Array], start: Array) -> float:
    """The largest eigenvalue of a symmetric positive map of matrices, by Lanczos' method without stored vectors."""
    current = start / np.linalg.norm(start)
    previous = np.zeros_like(current)
    diagonal: list[float] = []
    beside: list[float] = [0.0]
    value, settled = 0.0, 0
    while settled < 3:
        following = apply(current) - beside[-1] * previous
        diagonal.append(float(np.vdot(current, following)))
        following -= diagonal[-1] * current
        beside.append(float(np.linalg.norm(following)))
        before, value = value, float(np.linalg.eigvalsh(_symmetric(diagonal, beside[1:-1]))[-1])
        # The largest Ritz value only ever grows: three steps without growth beyond rounding mean that it has arrived.
        settled = settled + 1 if value <= before * (1 + 4 * _EPS) else 0
        if beside[-1] <= _EPS * value:
            break
        previous, current = current, following / beside[-1]
    return value


def _symmetric(diagonal: list[float], beside: list[float]) -> Array:
    return np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)

"""A least-squares problem and its start in the coordinates of the Hessian, which is where noise is followed.

Append `sqrt(n l2) I` to X, and the loss is `(1/n)` times a squared residual. Along the k-th singular direction of X, of
singular value s_k, the Hessian then has the eigenvalue `h_k = (2/n) sigma_k^2` with `sigma_k^2 = s_k^2 + n l2`, and
the distance of the weights from the minimiser has a part which, times sigma_k, is called c_k here, so that

    loss = floor + (1/n) ||c||^2 + outside,        residual of the examples = P c + r*,

for r* the residual of the minimiser, P the left singular vectors times `s_k / sigma_k`, and `outside` what l2 makes of
the weights' part outside the row space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.least_squares import LeastSquares

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_BLOCK_ENTRIES = 1 << 22  # of X, looked at in one go


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The directions of a problem, `(r,)` each, and numbers.

    Attributes:
        n: the number of examples.
        l2: the weight of the squared norm.
        curvatures: the positive eigenvalues h of the Hessian in which the data have part.
        share: which part of each comes from the data, `s^2 / sigma^2`: 1 where l2 = 0.
        start: c at the first weights.
        rest: `P^T r*`: 0 where l2 = 0.
        rest_square: `||r*||^2`.
        floor: the least loss.
        outside: the loss of the first weights' part outside the row space.
        rows: P and, as its last column, r*, `(n, r + 1)`; None where it was not asked for.
    """

    n: int
    l2: float
    curvatures: Array
    share: Array
    start: Array
    rest: Array
    rest_square: float
    floor: float
    outside: float
    rows: Array | None

    def outside_after(self, rate: Array, steps: int) -> Array:
        """What is left of `outside`, which noise never reaches, after 0 to `steps` steps: `(p, steps + 1)`."""
        remaining: Array = self.outside * (1 - 2 * rate * self.l2) ** (2 * np.arange(steps + 1))
        return remaining


def coordinates(problem: LeastSquares, w0: Array, *, rows: bool) -> Coordinates:
    """The coordinates of a problem from a singular value decomposition or, where it suffices, the smaller Gram matrix.

    Args:
        problem: the least-squares problem; X becomes dense where it has at least as many rows as columns and `rows`.
        w0: the first weights, `(d,)`.
        rows: whether P is needed.

    Raises:
        InputError: X is a Dask array or an operator of too many entries to fetch.
    """
    X, t, n = problem.entries("the spectrum of X"), problem.t, problem.n
    U: Array | None = None
    if problem.d > n:
        U, s = _eigenvectors(gram(X))
        target, weights = U.T @ t, U.T @ np.asarray(X @ w0) / s
    elif rows:
        U, s, Vt = _singular_vectors(X)
        target, weights = U.T @ t, Vt @ w0
    else:
        V, s = _eigenvectors(gram(X.T))
        target, weights = V.T @ np.asarray(X.T @ t) / s, V.T @ w0
    ridge = n * problem.l2
    sigma = np.sqrt(s**2 + ridge)
    share = s**2 / sigma**2
    reached_everywhere = len(s) == n and not ridge
    together, rest_square = None, 0.0
    if rows and U is not None:
        r = np.zeros(n) if reached_everywhere else U @ (share * target) - t
        together, rest_square = np.column_stack([U * (s / sigma), r]), float(r @ r)
    elif not reached_everywhere:
        rest_square = max(0.0, float(t @ t - np.sum(share * (2 - share) * target**2)))
    return Coordinates(
        n=n,
        l2=problem.l2,
        curvatures=2 / n * sigma**2,
        share=share,
        start=s / sigma * (s * weights - target) + ridge / sigma * weights,
        rest=-s / sigma * (1 - share) * target,
        rest_square=rest_square,
        floor=rest_square / n + problem.l2 * float(np.sum((s / sigma**2 * target) ** 2)),
        outside=problem.l2 * max(0.0, float(w0 @ w0 - weights @ weights)) if len(s) < problem.d else 0.0,
        rows=together,
    )


def _singular_vectors(X: Any) -> tuple[Array, Array, Array]:
    dense = X.toarray() if hasattr(X, "toarray") else X
    U, s, Vt = np.linalg.svd(np.asarray(dense, dtype=np.float64), full_matrices=False)
    kept = s > max(X.shape) * _EPS * s[0]
    return U[:, kept], s[kept], Vt[kept]


def _eigenvectors(matrix: Array) -> tuple[Array, Array]:
    """The eigenvectors of a Gram matrix, `(size, r)`, and the square roots of its eigenvalues above rounding."""
    squares, vectors = np.linalg.eigh(matrix)
    kept = squares > len(squares) * _EPS * squares[-1]
    return vectors[:, kept], np.sqrt(squares[kept])


def gram(X: Any) -> Array:
    """`X X^T`, in blocks of columns so that a wide X is never copied whole."""
    n, d = X.shape
    if not isinstance(X, np.ndarray):
        product = X @ X.T
        return np.asarray(product.toarray() if hasattr(product, "toarray") else product, dtype=np.float64)
    total = np.zeros((n, n))
    columns = max(1, _BLOCK_ENTRIES // n)
    for first in range(0, d, columns):
        block = np.asarray(X[:, first : first + columns], dtype=np.float64)
        total += block @ block.T
    return total

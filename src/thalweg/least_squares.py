"""Linear least squares: the loss, its gradient, and where an optimizer that stays in the row space must end.

>>> from thalweg.least_squares import LeastSquares
>>> problem = LeastSquares([[1.0, 2.0]], [3.0])
>>> problem.minimum_norm_solution().round(12).tolist()
[0.6, 1.2]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.arrays import checked_matrix, checked_vector
from thalweg.errors import InputError
from thalweg.quadrature import largest_singular_value

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Vector = NDArray[np.float64]


class _Factors(NamedTuple):
    """A singular value decomposition cut off at the numerical rank r: U (n x r), s (r), Vt (r x d)."""

    U: NDArray[np.float64]
    s: Vector
    Vt: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """The loss `L(w) = (1/n) ||X w - t||^2 + l2 ||w||^2` of n examples with d features.

    Args:
        X: the examples as rows, `(n, d)`: an array, a list of rows, a SciPy sparse matrix or a memory map. Integers
            become float64; float32 is kept and multiplied in float64. An array is not copied: do not change it.
        t: the targets, `(n,)`.
        l2: the weight of the squared norm (lambda), at least 0.

    Raises:
        InputError: X or t is empty, not finite, not numeric or of the wrong shape; X is zero; l2 is negative or not
            finite.
    """

    X: Any
    t: Vector
    l2: float = 0.0

    def __init__(self, X: ArrayLike | csr_array, t: ArrayLike, l2: float = 0.0) -> None:
        matrix = checked_matrix(X, name="X")
        if not (isinstance(l2, int | float | np.number) and np.isfinite(l2) and l2 >= 0):
            raise InputError(f"l2 must be a finite number of at least 0, but it is {l2!r}.")
        object.__setattr__(self, "X", matrix)
        object.__setattr__(self, "t", checked_vector(t, name="t", length=matrix.shape[0], per="row of X"))
        object.__setattr__(self, "l2", float(l2))

    @property
    def n(self) -> int:
        """The number of examples."""
        return int(self.X.shape[0])

    @property
    def d(self) -> int:
        """The number of features, which is the number of weights."""
        return int(self.X.shape[1])

    def start(self, w0: ArrayLike | None = None) -> Vector:
        """The first weights `(d,)` as float64; zeros for None.

        Raises:
            InputError: w0 is not finite or not of length d.
        """
        if w0 is None:
            return np.zeros(self.d)
        return checked_vector(w0, name="w0", length=self.d, per="column of X").copy()

    def residual(self, w: Vector) -> Vector:
        """`X w - t`, of shape `(n,)`."""
        return np.asarray(self.X @ w, dtype=np.float64) - self.t

    def loss(self, w: Vector) -> float:
        """`(1/n) ||X w - t||^2 + l2 ||w||^2`."""
        residual = self.residual(w)
        return float(residual @ residual / self.n + self.l2 * (w @ w))

    def gradient(self, w: Vector, rows: NDArray[np.intp] | slice | None = None) -> Vector:
        """The gradient of the loss `(d,)`, or of the loss on a batch of b rows (fact F1.1).

        `(2/n) X^T (X w - t) + 2 l2 w`; with `rows`, X_B, t_B and b stand in place of X, t and n.
        """
        X, t = (self.X, self.t) if rows is None else (self.X[rows], self.t[rows])
        of_the_residual: Vector = np.asarray(X.T @ (X @ w - t), dtype=np.float64) * (2 / X.shape[0])
        return of_the_residual + 2 * self.l2 * w

    @cached_property
    def _svd(self) -> _Factors:
        dense = self.X.toarray() if hasattr(self.X, "toarray") else self.X
        U, s, Vt = np.linalg.svd(np.asarray(dense, dtype=np.float64), full_matrices=False)
        precision = np.finfo(np.float32 if self.X.dtype == np.float32 else np.float64).eps
        rank = int(np.sum(s > max(self.n, self.d) * precision * s[0]))
        return _Factors(U[:, :rank], s[:rank], Vt[:rank])

    @property
    def rank(self) -> int:
        """The numerical rank of X: its singular values above `max(n, d)` x machine epsilon x the largest."""
        return len(self.singular_values)

    @property
    def singular_values(self) -> Vector:
        """The singular values of X that count towards its rank, `(rank,)`, descending."""
        return self._svd.s

    @property
    def stability_rate(self) -> float:
        """`2 / lambda_max` of the Hessian `2 (X^T X / n + l2 I)`: gradient descent diverges at larger rates."""
        return 1 / (self._largest_singular_value**2 / self.n + self.l2)

    @cached_property
    def _largest_singular_value(self) -> float:
        return largest_singular_value(self.X)

    def minimum_norm_solution(self) -> Vector:
        """Of all minimisers of the loss the one of least norm, `(d,)`: `X^+ t`, and `w_lambda` where l2 > 0.

        Computed from the singular value decomposition cut off at the numerical rank, so that a rank-deficient X is
        no special case.
        """
        U, s, Vt = self._svd
        solution: Vector = Vt.T @ (s / (s**2 + self.n * self.l2) * (U.T @ self.t))
        return solution

    def nearest_solution(self, w0: ArrayLike | None = None) -> Vector:
        """The minimiser nearest to w0, `(d,)`: `w0 + X^+ (t - X w0)` (fact F1.3); with l2 > 0 the only minimiser.

        Raises:
            InputError: w0 is not finite or not of length d.
        """
        start = self.start(w0)
        if self.l2 > 0:
            return self.minimum_norm_solution()
        return self.minimum_norm_solution() + (start - self.project_onto_row_space(start))

    def project_onto_row_space(self, v: Vector) -> Vector:
        """The part of v `(d,)` that is a combination of the rows of X."""
        Vt = self._svd.Vt
        return Vt.T @ (Vt @ v)

    def row_space_distance(self, v: Vector) -> float:
        """The norm of the part of v that no combination of the rows of X can reach."""
        Vt = self._svd.Vt
        outside = v - Vt.T @ (Vt @ v)
        return float(np.linalg.norm(outside - Vt.T @ (Vt @ outside)))  # the second pass removes what rounding left

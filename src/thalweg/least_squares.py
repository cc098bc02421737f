"""Linear least squares: the loss, its gradient, and where an optimizer that stays in the row space must end.

>>> from thalweg.least_squares import LeastSquares
>>> problem = LeastSquares([[1.0, 2.0]], [3.0])
>>> problem.minimum_norm_solution().round(12).tolist()
[0.6, 1.2]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.arrays import checked_vector
from thalweg.errors import InputError
from thalweg.operators import Operator, checked_operator
from thalweg.quadrature import largest_singular_value

Vector = NDArray[np.float64]

_LARGEST_L2 = 1e140
_OF_THE_DATA = ("_entries", "_svd", "_largest_singular_value")  # what is kept once computed, whatever l2


class _Factors(NamedTuple):
    """A singular value decomposition cut off at the numerical rank r: U (n x r), s (r), Vt (r x d)."""

    U: NDArray[np.float64]
    s: Vector
    Vt: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """The loss `L(w) = (1/n) ||X w - t||^2 + l2 ||w||^2` of n examples with d features.

    Args:
        X: the examples as rows, `(n, d)`: an array, a list of rows, a SciPy sparse matrix, a memory map that may be
            larger than memory; a Dask array; a JAX array or PyTorch tensor, whose products happen on its device; or
            an operator that has only products, `matvec` and `rmatvec`, such as SciPy's `LinearOperator`. Integers
            become float64; float32 is kept and multiplied in float64. An array is not copied: do not change it.
        t: the targets, `(n,)`.
        l2: the weight of the squared norm (lambda), at least 0.

    Raises:
        InputError: X or t is empty, not finite, not numeric or of the wrong shape; X is zero; l2 is negative or not
            finite; an operator lacks a product, or its two products do not belong to one matrix.
    """

    X: Any
    t: Vector
    l2: float = 0.0
    operator: Operator = field(init=False, repr=False)

    def __init__(self, X: Any, t: ArrayLike, l2: float = 0.0) -> None:
        operator = checked_operator(X, name="X")
        if not (isinstance(l2, int | float | np.number) and np.isfinite(l2) and l2 >= 0):
            raise InputError(f"l2 must be a finite number of at least 0, but it is {l2!r}.")
        if l2 > _LARGEST_L2:
            raise InputError(f"l2 must be at most {_LARGEST_L2:g}, which float64 can still square, but it is {l2:g}.")
        object.__setattr__(self, "operator", operator)
        object.__setattr__(self, "X", operator.X)
        object.__setattr__(self, "t", checked_vector(t, name="t", length=operator.shape[0], per="row of X"))
        object.__setattr__(self, "l2", float(l2))

    @property
    def n(self) -> int:
        """The number of examples."""
        return self.operator.shape[0]

    @property
    def d(self) -> int:
        """The number of features, which is the number of weights."""
        return self.operator.shape[1]

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
        return self.operator.matvec(w) - self.t if w.any() else -self.t

    def loss(self, w: Vector) -> float:
        """`(1/n) ||X w - t||^2 + l2 ||w||^2`."""
        residual = self.residual(w)
        return float(residual @ residual / self.n + self.l2 * (w @ w))

    def gradient(self, w: Vector, rows: NDArray[np.intp] | slice | None = None) -> Vector:
        """The gradient of the loss `(d,)`, or of the loss on a batch of b rows (fact F1.1).

        `(2/n) X^T (X w - t) + 2 l2 w`; with `rows`, X_B, t_B and b stand in place of X, t and n.
        """
        if rows is None:
            half = self.operator.rmatvec(self.residual(w)) / self.n
        else:
            X, t = self.entries("the gradient on a batch")[rows], self.t[rows]
            half = np.asarray(X.T @ (X @ w - t), dtype=np.float64) / X.shape[0]
        return 2 * (half + self.l2 * w)

    def entries(self, needed_for: str) -> Any:
        """X in this machine's memory, as an array or a SciPy `csr_array`; it is kept once it has been fetched.

        Args:
            needed_for: what asks for them, for the message of the error.

        Raises:
            InputError: X is a Dask array or an operator of more than 33,554,432 entries.
        """
        if "_entries" not in self.__dict__:
            self.__dict__["_entries"] = self.operator.entries(needed_for)
        return self.__dict__["_entries"]

    def stored(self, needed_for: str) -> LeastSquares:
        """The same problem with the entries of X in this machine's memory; see `entries`.

        Raises:
            InputError: X is a Dask array or an operator of more than 33,554,432 entries.
        """
        X = self.entries(needed_for)
        return self if X is self.X else LeastSquares(X, self.t, self.l2)

    def with_l2(self, l2: float) -> LeastSquares:
        """The same data with another weight of the squared norm; nothing is checked or computed again.

        Raises:
            InputError: l2 is negative or not finite.
        """
        other = LeastSquares(self.operator, self.t, l2)
        other.__dict__.update({name: self.__dict__[name] for name in _OF_THE_DATA if name in self.__dict__})
        return other

    @cached_property
    def _svd(self) -> _Factors:
        X = self.entries("a singular value decomposition")
        dense = X.toarray() if hasattr(X, "toarray") else X
        U, s, Vt = np.linalg.svd(np.asarray(dense, dtype=np.float64), full_matrices=False)
        precision = max(self.operator.epsilon, np.finfo(X.dtype).eps)
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
        return largest_singular_value(self.operator)

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

    @property
    def row_space(self) -> NDArray[np.float64]:
        """Orthonormal vectors `(rank, d)` of which every row of X is a combination."""
        return self._svd.Vt

    def project_onto_row_space(self, v: Vector) -> Vector:
        """The part of v `(d,)` that is a combination of the rows of X."""
        Vt = self._svd.Vt
        return Vt.T @ (Vt @ v)

    def row_space_distance(self, v: Vector) -> float:
        """The norm of the part of v that no combination of the rows of X can reach."""
        Vt = self._svd.Vt
        outside = v - Vt.T @ (Vt @ v)
        return float(np.linalg.norm(outside - Vt.T @ (Vt @ outside)))  # the second pass removes what rounding left

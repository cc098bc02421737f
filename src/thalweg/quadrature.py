"""Golub-Kahan quadrature: one run over the data, every learning rate.

After t steps of gradient descent with learning rate eta on `(1/n) ||X w - t||^2` the loss is an integral against the
spectral measure of `X X^T` seen from the first residual `a`,

    L_t(eta) = (1/n) sum_k weight_k (1 - 2 eta node_k / n)^(2t),

and T steps of Golub-Kahan bidiagonalisation started from `a` give a measure of T + 1 nodes for which this is exact for
every eta and every t <= T. That run costs what one plain gradient-descent run of T steps costs: one product with X and
one with X^T a step, here from one pass over the rows.

Source: G. H. Golub and G. Meurant, "Matrices, Moments and Quadrature with Applications" (2010), chapters 3 and 4;
the bidiagonalisation is that of C. C. Paige and M. A. Saunders, "LSQR" (1982).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.operators import Operator, as_operator

Vector = NDArray[np.float64]

_FINE = 1500  # steps up to which a singular value decomposition takes about a second
_DENSE = 64  # steps up to which NumPy finds the nodes in half a millisecond; importing SciPy takes longer


class Measure(NamedTuple):
    """The spectral measure of `X X^T` seen from a residual, as far as a run of some steps can tell.

    Attributes:
        nodes: `(m,)`, squared singular values of X as the run sees them, ascending.
        weights: `(m,)`, the squared length of the residual along each node.
        steps: how many steps of gradient descent it is exact for.
        exhausted: whether the run saw all that the residual touches, so that it is exact for any number of steps.
    """

    nodes: Vector
    weights: Vector
    steps: int
    exhausted: bool


class Step(NamedTuple):
    """One step of the bidiagonalisation: the new diagonal entry, the entry below it, the new right vector `(d,)`."""

    diagonal: float
    below: float
    right: Vector


class Run:
    """A bidiagonalisation of X from a residual that goes on whenever more of the measure is asked for.

    Args:
        X: `(n, d)`, an `Operator` or an array; what is in memory or in a mapped file is read once a step.
        residual: the first residual, `(n,)`; or `(n + d,)` where `shift` is positive.
        shift: c >= 0 stands for X with `c I` appended below, which is how a ridge term enters.
    """

    def __init__(self, X: Any, residual: Vector, shift: float = 0.0) -> None:
        self._going = Bidiagonalisation(X, residual, shift)
        self._total = float(residual @ residual)
        self._diagonals: list[float] = []
        self._belows: list[float] = []
        self.exhausted = False

    @property
    def done(self) -> int:
        """The number of steps done: products with X, and as many with X^T."""
        return len(self._diagonals)

    def go_on(self, steps: int, progress: Callable[[int], None] | None = None) -> None:
        """Up to `steps` steps in all, or until the run has seen all that the residual touches.

        Args:
            steps: how many steps, those done included.
            progress: called with the number of steps done after each.
        """
        while self.done < steps and not self.exhausted:
            step = next(self._going, None)
            if step is None:
                self.exhausted = True
                return
            self._diagonals.append(step.diagonal)
            self._belows.append(step.below)
            self.exhausted = step.below == 0
            if progress is not None:
                progress(self.done)

    def measure(self, steps: int | None = None, *, finely: bool = False) -> Measure:
        """The measure as it was after `steps` of the steps done; after all of them by default.

        Args:
            steps: up to which step to look.
            finely: whether small nodes, too, are wanted to the last digits of their square roots, and the largest to
                their own last digit: many times the work of the default, whose error is a rounding of the largest. It
                is what momentum multiplies by the square of the number of steps. Not done after more than 1,500 steps.
        """
        steps = self.done if steps is None else steps
        quadrature = _fine_quadrature if finely and steps <= _FINE else _quadrature
        nodes, weights = quadrature(self._diagonals[:steps], self._belows[:steps], self._total)
        return Measure(nodes, weights, steps, self.exhausted and steps == self.done)


def measure(X: Any, residual: Vector, steps: int, *, shift: float = 0.0) -> Measure:
    """The measure that is exact for `steps` steps, at least 1, of gradient descent: see `Run`."""
    run = Run(X, residual, shift)
    run.go_on(steps)
    return run.measure()._replace(steps=steps)


def shifted(seen: Measure, square: float) -> Measure:
    """The measure of X with `c I` appended below, `c^2 = square`, seen from a residual that is zero on these rows.

    It is exact for as many steps: what a step leaves is still a polynomial in the nodes, of the same degree.
    """
    if not square:
        return seen
    nodes = seen.nodes + square
    share = seen.nodes / nodes
    rest = float(np.sum(seen.weights * (square / nodes)))
    return seen._replace(nodes=np.append(0.0, nodes), weights=np.append(rest, seen.weights * share))


def largest_singular_value(X: Any) -> float:
    """The largest singular value of X, `(n, d)`, converged to rounding, by bidiagonalisation from a random vector."""
    operator = as_operator(X)
    start = np.random.default_rng(0).standard_normal(operator.shape[0])
    diagonal: list[float] = []
    below: list[float] = []
    node, settled = 0.0, 0
    for step in Bidiagonalisation(operator, start):
        diagonal.append(step.diagonal)
        below.append(step.below)
        if len(diagonal) % 8 == 0:
            previous, node = node, _largest_node(diagonal, below)
            # The largest node only ever grows: three checks without growth beyond rounding mean that it has arrived.
            settled = settled + 1 if node <= previous * (1 + 4 * operator.epsilon) else 0
            if settled == 3:
                break
    return float(np.sqrt(_largest_node(diagonal, below)))


class Bidiagonalisation(Iterator[Step]):
    """Golub-Kahan steps until the Krylov space is exhausted (to rounding) or the caller has enough.

    No reorthogonalisation: copies of a node that rounding brings in share its weight, so the measure stays right.
    """

    def __init__(self, X: Any, residual: Vector, shift: float = 0.0) -> None:
        self._operator, self._shift = as_operator(X), shift
        n, norm = self._operator.shape[0], _length(residual)
        self._over = norm == 0
        if self._over:
            return
        # r and X^T r are those of the left vector times its length, which spares a division of either.
        self._r, self._length = residual / norm, 1.0
        self._Xt_r = self._operator.rmatvec(self._r[:n]) + (shift * self._r[n:] if shift else 0.0)
        self._v = np.zeros(self._operator.shape[1])
        self._below = self._scale = 0.0

    def __next__(self) -> Step:
        if self._over:
            raise StopIteration
        v, r, epsilon = self._Xt_r, self._r, self._operator.epsilon
        v *= 1 / self._length
        v -= self._below * self._v
        diagonal = _length(v)
        self._scale = max(self._scale, diagonal, self._below)
        if diagonal <= epsilon * self._scale:
            self._over = True
            raise StopIteration
        v /= diagonal
        r *= diagonal / self._length
        self._v = v
        self._r, self._Xt_r = _sweep(self._operator, v, r, self._shift)
        self._below = self._length = _length(self._r)
        if self._below <= epsilon * self._scale:
            self._over = True
            return Step(diagonal, 0.0, v)
        return Step(diagonal, self._below, v)


def _sweep(operator: Operator, v: Vector, subtract: Vector, shift: float) -> tuple[Vector, Vector]:
    """`r = X v - subtract` and `X^T r`; a shift c stands for `c I` below X."""
    if not shift:
        return operator.sweep(v, subtract)
    n = operator.shape[0]
    r, Xt_r = operator.sweep(v, subtract[:n])
    below = shift * v - subtract[n:]
    return np.concatenate([r, below]), Xt_r + shift * below


def _length(vector: Vector) -> float:
    return math.sqrt(vector.dot(vector))  # which takes half the time of `@` to begin


def _tridiagonal(diagonal: Sequence[float], below: Sequence[float]) -> tuple[Vector, Vector]:
    """The diagonal and what is beside it in `B B^T` for the lower bidiagonal B, `(k + 1, k)`."""
    d, b = np.array(diagonal), np.array(below)
    return np.append(d**2, 0.0) + np.insert(b**2, 0, 0.0), d * b


def _quadrature(diagonal: Sequence[float], below: Sequence[float], total: float) -> tuple[Vector, Vector]:
    """The nodes and weights of a run, by divide and conquer.

    LAPACK's tridiagonal QL was ten times less accurate here, and MRRR can fail on copies of nodes.
    """
    main, beside = _tridiagonal(diagonal, below)
    if len(main) <= _DENSE:
        nodes, vectors = np.linalg.eigh(np.diag(main) + np.diag(beside, -1))  # which reads the lower half
    else:
        from scipy.linalg import eigh_tridiagonal

        nodes, vectors = eigh_tridiagonal(main, beside, lapack_driver="stevd", check_finite=False)
    return np.maximum(nodes, 0.0), total * vectors[0] ** 2


def _fine_quadrature(diagonal: Sequence[float], below: Sequence[float], total: float) -> tuple[Vector, Vector]:
    """The nodes and weights of a run from the singular vectors of B: each node u is `|B^T u|^2`, summed in long double.

    The error of a node is then second-order in that of its vector, and a small node loses nothing beside a large one.
    Weights below the square of a rounding are rounding alone, mostly of copies; they are left out, but for the largest
    node's, from which a divergent run would grow.
    """
    d, b = np.array(diagonal), np.array(below)
    B = np.zeros((len(d) + 1, len(d)))
    np.fill_diagonal(B, d)
    np.fill_diagonal(B[1:], b)
    U = np.linalg.svd(B)[0][:, ::-1].astype(np.longdouble)
    nodes = np.sum((d[:, None] * U[:-1] + b[:, None] * U[1:]) ** 2, axis=0) / np.sum(U**2, axis=0)
    weights = U[0].astype(np.float64) ** 2
    order = np.argsort(nodes)  # which copies that differ by a rounding may have changed
    kept = order[(weights[order] > np.finfo(np.float64).eps ** 2) | (order == order[-1])]
    return nodes[kept].astype(np.float64), total * weights[kept]


def _largest_node(diagonal: Sequence[float], below: Sequence[float]) -> float:
    main, beside = _tridiagonal(diagonal, below)
    if len(main) <= _DENSE:
        return float(np.linalg.eigvalsh(np.diag(main) + np.diag(beside, -1))[-1])
    from scipy.linalg import eigvalsh_tridiagonal

    last = len(main) - 1
    return float(eigvalsh_tridiagonal(main, beside, select="i", select_range=(last, last), check_finite=False)[0])

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


def measure(
    X: Any,
    residual: Vector,
    steps: int,
    *,
    shift: float = 0.0,
    progress: Callable[[int], None] | None = None,
    keep_interrupted: bool = False,
) -> Measure:
    """The measure that is exact for `steps` steps of gradient descent, by `steps` products with X and X^T.

    Args:
        X: `(n, d)`, an `Operator` or an array; what is in memory or in a mapped file is read once a step.
        residual: the first residual, `(n,)`; or `(n + d,)` where `shift` is positive.
        steps: the number of steps, at least 1.
        shift: c >= 0 stands for X with `c I` appended below, which is how a ridge term enters.
        progress: called with the number of steps done after each.
        keep_interrupted: whether Ctrl-C, once a step is done, ends the run with the measure of the steps done.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, and nothing done was to be kept.
    """
    done: list[tuple[float, float]] = []
    try:
        for diagonal, below, _ in bidiagonalise(X, residual, shift):
            done.append((diagonal, below))
            if progress is not None:
                progress(len(done))
            if len(done) == steps:
                break
        exhausted = len(done) < steps or done[-1][1] == 0
    except KeyboardInterrupt:
        if not (keep_interrupted and done):
            raise
        steps, exhausted = len(done), False
    diagonals, belows = [first for first, _ in done], [second for _, second in done]
    nodes, weights = _quadrature(diagonals, belows, float(residual @ residual))
    return Measure(nodes, weights, steps, exhausted)


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
    for step in bidiagonalise(operator, start, 0.0):
        diagonal.append(step.diagonal)
        below.append(step.below)
        if len(diagonal) % 8 == 0:
            previous, node = node, _largest_node(diagonal, below)
            # The largest node only ever grows: three checks without growth beyond rounding mean that it has arrived.
            settled = settled + 1 if node <= previous * (1 + 4 * operator.epsilon) else 0
            if settled == 3:
                break
    return float(np.sqrt(_largest_node(diagonal, below)))


def bidiagonalise(X: Any, residual: Vector, shift: float) -> Iterator[Step]:
    """Golub-Kahan steps until the Krylov space is exhausted (to rounding) or the caller has enough.

    No reorthogonalisation: copies of a node that rounding brings in share its weight, so the measure stays right.
    """
    operator = as_operator(X)
    n = operator.shape[0]
    norm = _length(residual)
    if norm == 0:
        return
    r, length = residual / norm, 1.0
    Xt_r = operator.rmatvec(r[:n]) + (shift * r[n:] if shift else 0.0)
    v = np.zeros(operator.shape[1])
    below = scale = 0.0
    while True:
        # r and X^T r are those of the left vector times its length, which spares a division of either.
        Xt_r *= 1 / length
        Xt_r -= below * v
        v = Xt_r
        diagonal = _length(v)
        scale = max(scale, diagonal, below)
        if diagonal <= operator.epsilon * scale:
            return
        v /= diagonal
        r *= diagonal / length
        r, Xt_r = _sweep(operator, v, r, shift)
        below = length = _length(r)
        if below <= operator.epsilon * scale:
            yield Step(diagonal, 0.0, v)
            return
        yield Step(diagonal, below, v)


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


def _largest_node(diagonal: Sequence[float], below: Sequence[float]) -> float:
    main, beside = _tridiagonal(diagonal, below)
    if len(main) <= _DENSE:
        return float(np.linalg.eigvalsh(np.diag(main) + np.diag(beside, -1))[-1])
    from scipy.linalg import eigvalsh_tridiagonal

    last = len(main) - 1
    return float(eigvalsh_tridiagonal(main, beside, select="i", select_range=(last, last), check_finite=False)[0])

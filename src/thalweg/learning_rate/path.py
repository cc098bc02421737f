"""The weights of gradient descent on least squares after every number of steps at every learning rate.

The right vectors V of the Golub-Kahan run that starts from the first residual a span them: after t steps they are
`w0 + V y`, where y is the same gradient descent on the small bidiagonal matrix B, started from zero,

    y = -||a|| g(B^T B) B^T e_1,        g(s) = (1 - (1 - 2 rate s / n)^t) / s,

up to rounding and without reorthogonalisation, because `X V = U B` holds to rounding whatever angles the vectors have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.learning_rate.curve import first_residual
from thalweg.least_squares import LeastSquares
from thalweg.operators import as_operator
from thalweg.quadrature import Bidiagonalisation, Measure

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_NEGLIGIBLE = 1e-18  # of the largest length: such nodes are copies of others
_TOGETHER = 1 << 14  # (point, node) entries looked at in one go, so that they stay in the cache


@dataclass(frozen=True, eq=False)
class Path:
    """How the weights move, along k directions of the run; `g = (1 - (1 - rate h)^t) / h` for each.

    Attributes:
        curvatures: the Hessian's eigenvalues h as the run sees them, `(k,)`, ascending.
        lengths: what times g the weights have moved along each direction, `(k,)`.
        along_start: the first weights along each direction, `(k,)`.
        start_square: the squared norm of the first weights.
    """

    curvatures: Array
    lengths: Array
    along_start: Array
    start_square: float

    def norms(self, rate: Array, step: NDArray[np.int64]) -> Array:
        """The norms of the weights at points of rate and step, `(p,)` each; inf where float64 overflows."""
        norms = np.empty(len(rate))
        for part, one, moved, growth in self.moved(rate, step):
            along = moved * self.lengths
            square = one**2 * self.start_square + 2 * one * (along @ self.along_start) + np.sum(along**2, axis=1)
            with np.errstate(over="ignore"):
                norms[part] = np.sqrt(np.maximum(square, 0.0)) * np.exp(growth)
        return norms

    def moved(self, rate: Array, step: NDArray[np.int64]) -> Iterator[tuple[slice, Array, Array, Array]]:
        """For blocks of points: their place, 1 and `g = (1 - (1 - rate h)^t) / h`, both over e^growth, and the growth.

        The growth is t times the logarithm of the largest factor of a step, or 0 where no factor is above 1. From
        `g_(a+b) = g_a (1 - rate h)^b + g_b` follows g for any number of steps by doubling, without the cancellation of
        the formula.
        """
        h = self.curvatures
        together = max(1, _TOGETHER // len(h))
        for first in range(0, len(rate), together):
            part = slice(first, first + together)
            factor = 1 - rate[part, None] * h
            largest = np.maximum(np.abs(factor).max(axis=1, keepdims=True), 1.0)
            unit = 1 / largest
            power, gained = factor * unit, np.broadcast_to(rate[part, None] * unit, factor.shape)
            one, moved = np.ones_like(unit), np.zeros_like(factor)
            for bit in range(int(step[part].max(initial=0)).bit_length()):
                taken = np.flatnonzero(step[part] >> bit & 1)
                moved[taken] = moved[taken] * power[taken] + gained[taken] * one[taken]
                one[taken] *= unit[taken]
                gained, power, unit = gained * (power + unit), power**2, unit**2
            yield part, one[:, 0], moved, step[part] * np.log(largest[:, 0])


def path(problem: LeastSquares, start: Array, steps: int, examples: Any) -> tuple[Path, Array]:
    """The path of the weights from a run of `steps` products with X and X^T, and what it does to predictions.

    Args:
        problem: the least-squares problem.
        start: the first weights, `(d,)`.
        steps: the number of steps, at least 1.
        examples: rows whose predictions to follow, `(m, d)`, an `Operator` or an array: one product with them in each
            step; None for none.

    Returns:
        The path; and what times g the predictions for the examples change, `(m, k)`.
    """
    residual, shift = first_residual(problem, start)
    followed = None if examples is None else as_operator(examples)
    diagonal, below, predicted, along_start = [], [], [], []
    for step in Bidiagonalisation(problem.operator, residual, shift):
        diagonal.append(step.diagonal)
        below.append(step.below)
        along_start.append(float(step.right @ start))
        predicted.append(np.empty(0) if followed is None else followed.matvec(step.right))
        if len(diagonal) == steps:
            break
    k = len(diagonal)
    B = np.zeros((k + 1, k))
    B[range(k), range(k)] = diagonal
    B[range(1, k + 1), range(k)] = below
    nodes, vectors = np.linalg.eigh(B.T @ B)
    lengths = -2 / problem.n * np.linalg.norm(residual) * (vectors.T @ B[0])
    kept = np.abs(lengths) > _NEGLIGIBLE * np.abs(lengths).max()
    vectors, lengths = vectors[:, kept], lengths[kept]
    curvatures = 2 / problem.n * np.maximum(nodes[kept], 0.0)
    found = Path(curvatures, lengths, np.array(along_start) @ vectors, float(start @ start))
    return found, np.stack(predicted, axis=1) @ vectors * lengths


def path_from_zero(seen: Measure, n: int) -> Path:
    """The path of the weights from w0 = 0, which the measure of n examples from there knows without another run."""
    # The zero node comes out as a few units of rounding, and with it the least residual, which moves nothing.
    moving = (seen.nodes > 8 * _EPS * seen.nodes[-1]) & (seen.weights > 0)
    nodes, weights = seen.nodes[moving], seen.weights[moving]
    return Path(2 / n * nodes, 2 / n * np.sqrt(nodes * weights), np.zeros(len(nodes)), 0.0)

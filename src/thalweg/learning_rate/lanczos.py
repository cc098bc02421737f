"""Symmetric operators known by their products: the spectrum that a vector sees, and the largest eigenvalue.

The three-term recurrence of C. Lanczos (1950), without reorthogonalisation and so in memory for three vectors: copies
of an eigenvalue that rounding brings in share its weight. See G. H. Golub and G. Meurant, "Matrices, Moments and
Quadrature with Applications" (2010), chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Product = Callable[[Vector], Vector]

_MOST_PRODUCTS = 300
_PRODUCTS_BETWEEN_LOOKS = 4


def spectrum_seen_from(product: Product, start: Vector, steps: int, precision: float) -> tuple[Vector, Vector]:
    """Nodes and weights, `(m,)` each with m <= steps, that integrate `start^T p(A) start` for p of degree < 2 steps.

    Args:
        product: `v -> A v` for a symmetric A.
        start: the vector, not zero.
        steps: how many products to spend, at least 1.
        precision: the relative rounding of a product.
    """
    diagonal: list[float] = []
    beside: list[float] = []
    for alpha, beta in _recurrence(product, start, precision):
        diagonal.append(alpha)
        beside.append(beta)
        if len(diagonal) == steps:
            break
    nodes, vectors = np.linalg.eigh(_tridiagonal(diagonal, beside))
    return nodes, float(start @ start) * vectors[0] ** 2


def largest_eigenvalue(product: Product, size: int, precision: float) -> float:
    """The largest eigenvalue, which may be negative, of a symmetric operator on vectors `(size,)`.

    It is approached from below, from a random vector, until several products no longer change it: in exact arithmetic
    its error is about the square of that of its vector.
    """
    start = np.random.default_rng(0).standard_normal(size)
    tolerance = max(10 * precision, 1e-12)
    diagonal: list[float] = []
    beside: list[float] = []
    largest, settled = -np.inf, 0
    for alpha, beta in _recurrence(product, start, precision):
        diagonal.append(alpha)
        beside.append(beta)
        if len(diagonal) % _PRODUCTS_BETWEEN_LOOKS == 0:
            previous, largest = largest, _largest(diagonal, beside)
            settled = settled + 1 if largest - previous <= tolerance * abs(largest) else 0
            if settled == 2 or len(diagonal) >= _MOST_PRODUCTS:
                break
    return _largest(diagonal, beside)


def _recurrence(product: Product, start: Vector, precision: float) -> Iterator[tuple[float, float]]:
    """The diagonal entry, and the one beside it, of each step until the Krylov space is exhausted to rounding."""
    v, before = start / np.linalg.norm(start), np.zeros_like(start)
    beta = scale = 0.0
    while True:
        following = product(v) - beta * before
        alpha = float(v @ following)
        following -= alpha * v
        scale = max(scale, abs(alpha), beta)
        beta = float(np.linalg.norm(following))
        if not beta > precision * scale:
            yield alpha, 0.0
            return
        yield alpha, beta
        before, v = v, following / beta


def _tridiagonal(diagonal: Sequence[float], beside: Sequence[float]) -> NDArray[np.float64]:
    T: NDArray[np.float64] = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    return T


def _largest(diagonal: Sequence[float], beside: Sequence[float]) -> float:
    return float(np.linalg.eigvalsh(_tridiagonal(diagonal, beside))[-1])

"""Linear algebra without rounding, for matrices of fractions small enough to be checked by hand.

Arrays here are NumPy arrays of dtype object whose entries are `fractions.Fraction`; `+`, `-`, `*` and `@` of NumPy
work on them as they are, and this module adds what needs elimination.

    >>> show = lambda array: [[str(entry) for entry in row] for row in array]
    >>> show(inverse(exact([[2, 1], [1, 1]])))
    [['1', '-1'], ['-1', '2']]
    >>> show(pseudo_inverse(exact([[1, 2]])))
    [['1/5'], ['2/5']]
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


def exact(values: Any) -> Array:
    """Nested sequences or an array of integers and fractions as an array of fractions."""
    array = np.array(values, dtype=object)
    return np.array([Fraction(entry) for entry in array.flat], dtype=object).reshape(array.shape)


def is_exact(array: Array) -> bool:
    """Whether every entry is still a fraction: a float among them marks a result that was rounded."""
    return all(isinstance(entry, Fraction) for entry in array.flat)


def identity(size: int) -> Array:
    """The identity matrix, `size` x `size`."""
    return exact(np.eye(size, dtype=int))


def row_echelon(matrix: Array) -> tuple[Array, list[int]]:
    """The reduced row echelon form of a matrix, and the columns its pivots stand in."""
    rows = matrix.copy()
    pivots: list[int] = []
    for column in range(rows.shape[1]):
        top = len(pivots)
        below = [row for row in range(top, rows.shape[0]) if rows[row, column] != 0]
        if not below:
            continue
        rows[[top, below[0]]] = rows[[below[0], top]]
        rows[top] = rows[top] / rows[top, column]
        for row in range(rows.shape[0]):
            if row != top and rows[row, column] != 0:
                rows[row] = rows[row] - rows[row, column] * rows[top]
        pivots.append(column)
    return rows, pivots


def rank(matrix: Array) -> int:
    """The number of linearly independent rows."""
    return len(row_echelon(matrix)[1])


def solve(matrix: Array, right: Array) -> Array:
    """The x with `matrix @ x == right`, for a square matrix and a vector or matrix on the right.

    Raises:
        ZeroDivisionError: the matrix has no inverse.
    """
    size = matrix.shape[0]
    columns = right.reshape(size, -1)
    reduced, pivots = row_echelon(np.hstack([matrix, columns]))
    if pivots[:size] != list(range(size)):
        raise ZeroDivisionError("the matrix has no inverse")
    return reduced[:, size:].reshape(right.shape)


def inverse(matrix: Array) -> Array:
    """The inverse of a square matrix.

    Raises:
        ZeroDivisionError: there is none.
    """
    return solve(matrix, identity(matrix.shape[0]))


def pseudo_inverse(matrix: Array) -> Array:
    """The Moore-Penrose inverse, exact because that of a rational matrix is rational.

    With C the independent columns of A and F the non-zero rows of its echelon form, A = C F and
    A^+ = F^T (F F^T)^-1 (C^T C)^-1 C^T (MacDuffee; Ben-Israel and Greville, Generalized Inverses, section 1.6).
    """
    reduced, pivots = row_echelon(matrix)
    if matrix.shape == (len(pivots), len(pivots)):
        return inverse(matrix)
    if not pivots:
        return exact(np.zeros(matrix.T.shape, dtype=int))
    C, F = matrix[:, pivots], reduced[: len(pivots)]
    return F.T @ inverse(F @ F.T) @ inverse(C.T @ C) @ C.T

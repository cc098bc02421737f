"""X in the memory of this machine, or in a file mapped into it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.memory_maps import is_mapped, row_blocks
from thalweg.operators.base import Operator, Vector
from thalweg.operators.threads import in_threads, threads

_BLOCK = 1 << 18  # entries of a block of rows, 2 MB: most of it is still in the cache for the second product
_ONE_THREAD = 1 << 21  # entries, 16 MB: with fewer a pass is over before threads have begun
_FEW_THREADS = 3  # with more, the threads of BLAS read X twice as fast as ours read it once
_MOST_THREADS = 8  # of ours, which also wait for each other


class Dense(Operator):
    """An array, read once a step: both products of a block of rows follow each other while it is in the cache."""

    kind = "an array"
    stored = True

    def __init__(self, X: NDArray[Any]) -> None:
        self.X, self.shape = X, X.shape
        self._direct = X.dtype == np.float64 and not is_mapped(X)
        self._one_block = self._direct and X.size <= _BLOCK

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        for part, block in row_blocks(self.X, _BLOCK):
            yield part, np.asarray(block, dtype=np.float64)

    def _forth(self, v: Vector) -> Vector:
        if self._direct:
            product: Vector = self.X @ v
            return product
        result = np.empty(self.shape[0])
        for part, block in self._blocks():
            np.matmul(block, v, out=result[part])
        return result

    def _back(self, u: Vector) -> Vector:
        if self._direct:
            product: Vector = u @ self.X
            return product
        result, one = np.zeros(self.shape[1]), np.empty(self.shape[1])
        for part, block in self._blocks():
            result += np.matmul(u[part], block, out=one)
        return result

    def _both(self, v: Vector, subtract: Vector) -> tuple[Vector, Vector]:
        if self._one_block:
            # Small enough for the call to count: `dot` takes half the time of `@` to begin.
            r = self.X.dot(v)
            r -= subtract
            return r, r.dot(self.X)
        count = threads() if self.X.size > _ONE_THREAD else 1
        if self._direct and count > _FEW_THREADS:
            return super()._both(v, subtract)
        r = np.empty(self.shape[0])
        share = -(-self.shape[0] // min(count, _MOST_THREADS))
        parts = [slice(first, first + share) for first in range(0, self.shape[0], share)]
        entries = _BLOCK if count <= _FEW_THREADS else 4 * _BLOCK
        sums = in_threads(lambda part: self._pass(part, v, subtract[part], r[part], entries), parts)
        # Added up in the order of the rows, so that the same number of threads gives the same digits.
        return r, functools.reduce(np.add, sums)

    def _pass(self, part: slice, v: Vector, subtract: Vector, r: Vector, entries: int) -> Vector:
        """Both products over some rows: `X v - subtract` goes into r, what X^T makes of it comes back."""
        Xt_r, one = np.zeros(self.shape[1]), np.empty(self.shape[1])
        for rows, block in row_blocks(self.X[part], entries):
            wide, residual = np.asarray(block, dtype=np.float64), r[rows]
            np.dot(wide, v, out=residual)  # which, unlike matmul, lets other threads run
            residual -= subtract[rows]
            Xt_r += np.dot(residual, wide, out=one)
        return Xt_r


class ByColumns(Operator):
    """An array stored column by column: its transpose is stored by rows, and each product reads it in order."""

    kind = "an array"
    stored = True

    def __init__(self, X: NDArray[Any]) -> None:
        self.X, self.shape = X, X.shape
        self._transpose = Dense(X.T)

    def _forth(self, v: Vector) -> Vector:
        return self._transpose.rmatvec(v)

    def _back(self, u: Vector) -> Vector:
        return self._transpose.matvec(u)


class Sparse(Operator):
    """A SciPy `csr_array`."""

    kind = "a sparse matrix"
    stored = True

    def __init__(self, X: Any) -> None:
        self.X, self.shape = X, X.shape
        self._transpose = X.T

    @property
    def size(self) -> int:
        """The entries that are stored."""
        return int(self.X.nnz)

    def _forth(self, v: Vector) -> Vector:
        return np.asarray(self.X @ v, dtype=np.float64)

    def _back(self, u: Vector) -> Vector:
        return np.asarray(self._transpose @ u, dtype=np.float64)

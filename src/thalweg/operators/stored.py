"""X in the memory of this machine, or in a file mapped into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.memory_maps import is_mapped, row_blocks
from thalweg.operators.base import Operator, Vector

_BLOCK = 1 << 18  # entries of a block of rows, 2 MB: most of it is still in the cache for the second product


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
            return super()._both(v, subtract)
        r, Xt_r, one = np.empty(self.shape[0]), np.zeros(self.shape[1]), np.empty(self.shape[1])
        for part, block in self._blocks():
            np.matmul(block, v, out=r[part])
            r[part] -= subtract[part]
            Xt_r += np.matmul(r[part], block, out=one)
        return r, Xt_r


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

    def _forth(self, v: Vector) -> Vector:
        return np.asarray(self.X @ v, dtype=np.float64)

    def _back(self, u: Vector) -> Vector:
        return np.asarray(self._transpose @ u, dtype=np.float64)

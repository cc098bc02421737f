"""What every run over X asks of it: products with vectors, and both products of a step from one pass where possible."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError

Vector: TypeAlias = NDArray[np.float64]

DOUBLE = float(np.finfo(np.float64).eps)
MOST_ENTRIES = 1 << 25  # that are made of what only has products, or fetched from elsewhere: 256 MB


class Operator:
    """X, `(n, d)`, as a linear map between host vectors of float64, wherever and however it is stored.

    Attributes:
        X: what it was made of.
        shape: `(n, d)`.
        epsilon: the machine epsilon of its products.
        kind: what it is called in messages, with its article.
        stored: whether its entries are in memory, mapped into it, or on a device of this machine.
    """

    X: Any
    shape: tuple[int, int]
    epsilon: float = DOUBLE
    kind: str
    stored: bool = False

    @property
    def size(self) -> int:
        """How many entries a product multiplies: those stored of a sparse matrix, `n d` of others."""
        return self.shape[0] * self.shape[1]

    def matvec(self, v: Vector) -> Vector:
        """`X v`, a new array of shape `(n,)`."""
        return self._forth(v)

    def rmatvec(self, u: Vector) -> Vector:
        """`X^T u`, a new array of shape `(d,)`."""
        return self._back(u)

    def sweep(self, v: Vector, subtract: Vector) -> tuple[Vector, Vector]:
        """`r = X v - subtract` and `X^T r`, new arrays: what a step of any method here needs."""
        return self._both(v, subtract)

    @property
    def has_entries(self) -> bool:
        """Whether `entries` can be had."""
        return self.stored or self.shape[0] * self.shape[1] <= MOST_ENTRIES

    def entries(self, needed_for: str) -> Any:
        """X in this machine's memory, as an array of float32 or float64, or a SciPy `csr_array`.

        Args:
            needed_for: what asks for them, for the message where they are too many.

        Raises:
            InputError: it is not stored here and has more entries than are fetched.
        """
        if not self.has_entries:
            n, d = self.shape
            raise InputError(
                f"{needed_for[0].upper()}{needed_for[1:]} needs the entries of X in memory, and those of {self.kind} "
                f"of {n:,} x {d:,} are too many to fetch (at most {MOST_ENTRIES:,}); pass a NumPy array or a SciPy "
                "sparse matrix."
            )
        return self._fetched()

    def _forth(self, v: Vector) -> Vector:
        raise NotImplementedError

    def _back(self, u: Vector) -> Vector:
        raise NotImplementedError

    def _both(self, v: Vector, subtract: Vector) -> tuple[Vector, Vector]:
        """Two products; where X can be read once for both, a kind does so."""
        r = self._forth(v)
        r -= subtract
        return r, self._back(r)

    def _fetched(self) -> Any:
        return self.X

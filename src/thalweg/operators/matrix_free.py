"""X that is known by its products alone, such as a `scipy.sparse.linalg.LinearOperator`."""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.errors import InputError
from thalweg.operators.base import DOUBLE, Operator, Vector


class MatrixFree(Operator):
    """Anything with `shape`, `matvec` and `rmatvec`; checked by products with random vectors, as it has no entries.

    Raises:
        InputError: a product is missing, fails, is not real or finite or of the wrong shape; the two do not belong to
            the same X; X is zero.
    """

    kind = "an operator"

    def __init__(self, X: Any, name: str = "X") -> None:
        self.X, self._name = X, name
        if len(X.shape) != 2 or 0 in X.shape:
            raise InputError(f"{name} must have at least one row and one column, but its shape is {tuple(X.shape)}.")
        self.shape = int(X.shape[0]), int(X.shape[1])
        dtype = None if getattr(X, "dtype", None) is None else np.dtype(X.dtype)
        if dtype is not None and dtype.kind not in "biuf":
            raise InputError(f"{name} must be real, but the type of its products is {dtype}.")
        if dtype is not None and dtype.kind == "f":
            self.epsilon = max(DOUBLE, float(np.finfo(dtype).eps))
        self._check()

    def _forth(self, v: Vector) -> Vector:
        return self._product("matvec", f"{self._name} v", v, self.shape[0])

    def _back(self, u: Vector) -> Vector:
        return self._product("rmatvec", f"{self._name}^T u", u, self.shape[1])

    def _product(self, method: str, what: str, vector: Vector, length: int) -> Vector:
        apply = getattr(self.X, method, None)
        try:
            product = None if apply is None else np.asarray(apply(vector))
        except NotImplementedError:  # which is how SciPy says it
            product = None
        if product is None:
            raise InputError(
                f"{self._name} has no product {what}, which every step needs; give the operator a method {method}."
            )
        if product.size != length or product.dtype.kind not in "biuf":
            raise InputError(
                f"The product {what} must be {length:,} real numbers, but {method} gave shape {product.shape} of type "
                f"{product.dtype}."
            )
        result = product.ravel().astype(np.float64)  # always a copy: an operator may hand out its own array
        if not np.isfinite(result).all():
            raise InputError(f"The product {what} is not finite for a finite vector; check {method} of the operator.")
        return result

    def _check(self) -> None:
        generator = np.random.default_rng(0)
        v, u = generator.standard_normal(self.shape[1]), generator.standard_normal(self.shape[0])
        Xv, Xt_u = self.matvec(v), self.rmatvec(u)
        sizes = float(np.linalg.norm(Xv) * np.linalg.norm(u)), float(np.linalg.norm(Xt_u) * np.linalg.norm(v))
        if not max(sizes):
            raise InputError(f"{self._name} gives zero for a random vector, so there is nothing to learn.")
        difference = abs(float(Xv @ u - Xt_u @ v))
        if difference > np.sqrt(self.epsilon) * max(sizes):
            raise InputError(
                f"matvec and rmatvec of {self._name} do not belong to one matrix: u^T ({self._name} v) is {Xv @ u:g} "
                f"but ({self._name}^T u)^T v is {Xt_u @ v:g} for random u and v; check rmatvec."
            )

    def _fetched(self) -> Any:
        n, d = self.shape
        if d <= n:
            return np.stack([self.matvec(unit) for unit in np.eye(d)], axis=1)
        return np.stack([self.rmatvec(unit) for unit in np.eye(n)])

"""Any X as a linear map: NumPy and SciPy arrays, mapped files, operators, Dask arrays, JAX arrays, PyTorch tensors.

Everything that runs over the data asks an `Operator` for products with vectors and knows nothing of how X is stored.

    >>> from thalweg.operators import checked_operator
    >>> operator = checked_operator([[1.0, 2.0], [3.0, 4.0]])
    >>> r, Xt_r = operator.sweep([1.0, 1.0], [3.0, 5.0])         # X v - subtract, and X^T times that, in one pass
    >>> r.tolist(), Xt_r.tolist()
    ([0.0, 2.0], [6.0, 8.0])
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from thalweg.arrays import checked_matrix, is_dask, is_sparse
from thalweg.operators.base import DOUBLE, Operator
from thalweg.operators.matrix_free import MatrixFree
from thalweg.operators.stored import ByColumns, Dense, Sparse

__all__ = ["DOUBLE", "Operator", "as_operator", "checked_operator"]


def checked_operator(X: object, name: str = "X") -> Operator:
    """X as an operator, after a check of all its entries or, where it has none, of its products.

    Args:
        X: an array, nested lists, a memory map, a SciPy sparse matrix; a Dask array; a JAX array or PyTorch tensor on
            any device; or anything with `shape`, `matvec` and `rmatvec`, such as a
            `scipy.sparse.linalg.LinearOperator`; of shape (n, d).
        name: how messages call it.

    Raises:
        InputError: it is empty, zero, not real, not finite or beyond what float64 can square; an operator lacks a
            product or its two products do not belong together.
    """
    foreign = _foreign(X)
    return as_operator(checked_matrix(X, name)) if foreign is None else foreign(X, name)


def as_operator(X: Any) -> Operator:
    """X as an operator without a check of its entries: an operator already, an array, or sparse."""
    if isinstance(X, Operator):
        return X
    if isinstance(X, np.ndarray):
        by_columns = X.ndim == 2 and 1 not in X.shape and abs(X.strides[0]) < abs(X.strides[1])
        return ByColumns(X) if by_columns else Dense(X)
    return Sparse(X)


def _foreign(X: object) -> Callable[[Any, str], Operator] | None:
    """The operator for what is neither an array of NumPy nor sparse."""
    if isinstance(X, Operator):
        return lambda operator, name: operator
    if isinstance(X, np.ndarray) or is_sparse(X):
        return None
    # Whoever passes such an array has imported its package; asking sys.modules spares everybody else the import.
    if (torch := sys.modules.get("torch")) is not None and isinstance(X, torch.Tensor):
        from thalweg.operators.on_device import TorchTensor

        return TorchTensor
    if (jax := sys.modules.get("jax")) is not None and isinstance(X, jax.Array):
        from thalweg.operators.on_device import JaxArray

        return JaxArray
    if is_dask(X):
        from thalweg.operators.dask_rows import DaskRows

        return DaskRows
    if hasattr(X, "shape") and hasattr(X, "matvec"):
        return MatrixFree
    return None

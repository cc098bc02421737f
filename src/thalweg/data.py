"""Reading data: named sets, inline rows, files and arrays, all of them checked in one place.

`load` turns whatever a person has into a `Dataset` of a matrix `X` (rows are examples) and a target `t`; every value
that cannot be used is refused with its place. `checked_matrix` and `checked_vector` are the checks themselves, and
the only ones in the house.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from thalweg.errors import InputError

Vector: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = Any  # an NDArray of float32 or float64, or a scipy.sparse.csr_array of them, which has no types

_BLOCK = 1 << 22  # values looked at in one go, so that checking a memory map never holds more than a part of it


def checked_matrix(X: object, name: str = "X") -> Matrix:
    """`X` as a real, finite matrix of at least one row and column that is not all zeros.

    float32 and float64 are kept as they are, without a copy, so a memory map stays a view of its file; all other real
    types become float64. SciPy's sparse formats become a `csr_array`.

    Args:
        X: an array, nested lists, a memory map or a SciPy sparse matrix, of shape (n, d).
        name: how messages call it.

    Raises:
        InputError: it is not a real matrix, is empty, holds only zeros, or holds a value that is not finite.
    """
    if _is_sparse(X):
        return _checked_sparse(X, name)
    matrix = _real_array(X, name)
    if matrix.size == 0:
        raise _empty(name, matrix.shape)
    if matrix.ndim != 2:
        advice = f"; write {name}.reshape(1, -1) for one example, {name}.reshape(-1, 1) for one feature"
        raise InputError(
            f"{name} must have two dimensions (examples in rows, features in columns), but has shape {matrix.shape}"
            f"{advice if matrix.ndim == 1 else ''}."
        )
    rows = max(1, _BLOCK // matrix.shape[1])
    only_zeros = True
    for first in range(0, matrix.shape[0], rows):
        block = matrix[first : first + rows]
        bad = np.argwhere(~np.isfinite(block))
        if bad.size:
            row, column = (int(index) for index in bad[0])
            raise _not_finite(block[row, column], f"{name}[{first + row}, {column}]")
        only_zeros = only_zeros and not block.any()
    if only_zeros:
        raise _all_zeros(name)
    return matrix


def checked_vector(t: object, name: str = "t", length: int | None = None, per: str = "value") -> Vector:
    """`t` as a real, finite float64 vector.

    Args:
        t: an array or a list, of shape (length,).
        name: how messages call it.
        length: how many values it must have; None for any number but zero.
        per: what each value belongs to, for the message about a wrong length: `"row of X"`.

    Raises:
        InputError: it is not a real vector, is empty, has another length, or holds a value that is not finite.
    """
    vector = _real_array(t, name)
    if vector.ndim != 1:
        advice = f"; write {name}.ravel()" if vector.size and vector.size == max(vector.shape, default=0) else ""
        raise InputError(f"{name} must have one dimension, but has shape {vector.shape}{advice}.")
    if length is not None and vector.size != length:
        raise InputError(f"{name} must have {length} values, one per {per}, but has {vector.size}.")
    if vector.size == 0:
        raise InputError(f"{name} is empty; at least one value is needed.")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise _not_finite(vector[bad[0]], f"{name}[{bad[0]}]")
    return vector.astype(np.float64, copy=False)


def _is_sparse(X: object) -> bool:
    # Whoever passes a sparse matrix has imported scipy.sparse; asking sys.modules spares everybody else the import.
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(X))


def _checked_sparse(X: Any, name: str) -> Matrix:
    from scipy.sparse import csr_array

    if X.ndim != 2:
        raise InputError(f"{name} must have two dimensions, but has shape {X.shape}.")
    if 0 in X.shape:
        raise _empty(name, X.shape)
    matrix = csr_array(X)
    values = _real_array(matrix.data, name)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        row = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
        raise _not_finite(values[bad[0]], f"{name}[{row}, {matrix.indices[bad[0]]}]")
    if not values.any():
        raise _all_zeros(name)
    return csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def _real_array(values: object, name: str) -> npt.NDArray[Any]:
    """`values` as an array of float32 or float64 in the machine's byte order, copied only where it was neither."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        place = [int(index) for index in np.argwhere(np.ma.getmaskarray(values))[0]]
        raise InputError(f"{name}{place} is masked; fill masked values or leave their rows out.")
    if _is_sparse(values):
        raise InputError(f"{name} is sparse, and must not be; write {name}.toarray().ravel().")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        ragged = isinstance(values, list | tuple) and isinstance(error, ValueError)
        reason = "its rows have different lengths" if ragged else str(error).rstrip(".")
        raise InputError(f"{name} cannot be read as an array of numbers: {reason}.") from error
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name} must hold real numbers, but its type is {array.dtype}; convert it, for example with "
            f"{name}{'.real' if array.dtype.kind == 'c' else '.astype(float)'}."
        )
    with np.errstate(over="ignore"):  # a long double may become infinite here; the caller says where
        return array.astype(np.float32 if array.dtype.type is np.float32 else np.float64, copy=False)


def _empty(name: str, shape: tuple[int, ...]) -> InputError:
    return InputError(f"{name} is empty: its shape is {shape}; at least one row and one column are needed.")


def _not_finite(value: float, place: str) -> InputError:
    return InputError(f"{place} is {value} (counting from 0); replace what is not finite or leave its row out.")


def _all_zeros(name: str) -> InputError:
    return InputError(f"{name} holds only zeros, so every w gives the same predictions; there is nothing to learn.")

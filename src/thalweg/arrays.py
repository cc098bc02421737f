"""The only checks of matrices and vectors in the house: real, finite, of matching shapes, or refused with the place."""

from __future__ import annotations

import operator
import sys
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from thalweg.errors import InputError
from thalweg.memory_maps import contiguous, row_blocks

Vector: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = Any  # an NDArray of float32 or float64, or a scipy.sparse.csr_array of them, which has no types

_LARGEST = 1e140  # whose square, and the sum of many such squares, float64 can still hold
_BLOCK = 1 << 22  # values looked at in one go, so that checking a memory map never holds more than a part of it


def checked_matrix(X: object, name: str = "X") -> Matrix:
    """`X` as a real, finite matrix of at least one row and column, not all zeros, whose squares float64 can hold.

    float32 and float64 are kept as they are, without a copy, so a memory map stays a view of its file; all other real
    types become float64. SciPy's sparse formats become a `csr_array`.

    Args:
        X: an array, nested lists, a memory map or a SciPy sparse matrix, of shape (n, d).
        name: how messages call it.

    Raises:
        InputError: it is not a real matrix, is empty, holds only zeros, or a value that is not finite or beyond 1e140.
    """
    if is_sparse(X):
        return _checked_sparse(X, name)
    matrix = real_array(X, name)
    if matrix.size == 0:
        raise empty(name, matrix.shape)
    if matrix.ndim != 2:
        advice = f"; write {name}.reshape(1, -1) for one example, {name}.reshape(-1, 1) for one feature"
        raise InputError(
            f"{name} must have two dimensions (examples in rows, features in columns), but has shape {matrix.shape}"
            f"{advice if matrix.ndim == 1 else ''}."
        )
    by_columns = abs(matrix.strides[0]) < abs(matrix.strides[1])
    largest = 0.0
    for part, block in row_blocks(matrix.T if by_columns else matrix, _BLOCK):
        peak = max(float(block.max()), -float(block.min()))  # not a number where one of them is none
        if not np.isfinite(peak):
            row, column = (int(index) for index in np.argwhere(~np.isfinite(block))[0])
            place = (column, part.start + row) if by_columns else (part.start + row, column)
            raise not_finite(block[row, column], f"{name}[{place[0]}, {place[1]}]")
        largest = max(largest, peak)
    check_magnitude(largest, name)
    return matrix


def checked_vector(t: object, name: str = "t", length: int | None = None, per: str = "value") -> Vector:
    """`t` as a real, finite float64 vector.

    Args:
        t: an array or a list, of shape (length,).
        name: how messages call it.
        length: how many values it must have; None for any number but zero.
        per: what each value belongs to, for the message about a wrong length: `"row of X"`.

    Raises:
        InputError: it is not a real vector, is empty, has another length, or holds a value that is not finite or beyond
            1e140.
    """
    vector = real_array(t, name)
    if vector.ndim != 1:
        advice = f"; write {name}.ravel()" if vector.size and vector.size == max(vector.shape, default=0) else ""
        raise InputError(f"{name} must have one dimension, but has shape {vector.shape}{advice}.")
    if length is not None and vector.size != length:
        raise InputError(f"{name} must have {length} values, one per {per}, but has {vector.size}.")
    if vector.size == 0:
        raise InputError(f"{name} is empty; at least one value is needed.")
    vector = contiguous(vector)
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise not_finite(vector[bad[0]], f"{name}[{bad[0]}]")
    largest = float(np.abs(vector).max())
    if largest > _LARGEST:
        raise _too_large(largest, name)
    return vector.astype(np.float64, copy=False)


def checked_count(value: object, name: str, most: int | None = None, least: int = 1) -> int:
    """`value` as a whole number of at least `least`, and at most `most` where that is given.

    Raises:
        InputError: it is not a whole number, or out of range.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"{name} must be a whole number, but it is {value!r}.") from None
    if count < least:
        raise InputError(f"{name} must be at least {least}, but it is {count}.")
    if most is not None and count > most:
        raise InputError(f"{name} must be at most {most:,}, but it is {count:,}.")
    return count


def is_sparse(X: object) -> bool:
    """Whether X is one of SciPy's sparse formats."""
    # Whoever passes a sparse matrix has imported scipy.sparse; asking sys.modules spares everybody else the import.
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(X))


def is_dask(X: object) -> bool:
    """Whether X is a Dask array."""
    array = sys.modules.get("dask.array")
    return array is not None and isinstance(X, array.Array)


def check_indices(X: Any, name: str) -> None:
    """Refuse a sparse matrix whose indices lie outside its shape: SciPy would read foreign memory through them."""
    if not hasattr(X, "check_format"):
        return  # the formats that are not compressed check themselves when they are made
    try:
        X.check_format(full_check=True)
        decreasing = bool(np.any(np.diff(X.indptr) < 0))  # overlooked by SciPy where the last one is 0
    except ValueError as error:
        raise InputError(f"{name} is a damaged sparse matrix: {error}.") from error
    if decreasing:
        raise InputError(f"{name} is a damaged sparse matrix: its index pointer decreases.")


def _checked_sparse(X: Any, name: str) -> Matrix:
    from scipy.sparse import csr_array

    if X.ndim != 2:
        raise InputError(f"{name} must have two dimensions, but has shape {X.shape}.")
    if 0 in X.shape:
        raise empty(name, X.shape)
    check_indices(X, name)
    matrix = csr_array(X)
    values = real_array(matrix.data, name)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        row = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
        raise not_finite(values[bad[0]], f"{name}[{row}, {matrix.indices[bad[0]]}]")
    check_magnitude(float(np.abs(values).max(initial=0.0)), name)
    return csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def real_array(values: object, name: str) -> npt.NDArray[Any]:
    """`values` as an array of float32 or float64 in the machine's byte order, copied only where it was neither."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        place = [int(index) for index in np.argwhere(np.ma.getmaskarray(values))[0]]
        raise InputError(f"{name}{place} is masked; fill masked values or leave their rows out.")
    if is_sparse(values):
        raise InputError(f"{name} is sparse, and must not be; write {name}.toarray().ravel().")
    if hasattr(values, "detach") and hasattr(values, "cpu"):  # a PyTorch tensor, wherever it is
        values = values.detach().cpu()
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


def empty(name: str, shape: tuple[int, ...]) -> InputError:
    """The error for a matrix without rows or columns."""
    return InputError(f"{name} is empty: its shape is {shape}; at least one row and one column are needed.")


def not_finite(value: float, place: str) -> InputError:
    """The error for a value that is infinite or not a number."""
    return InputError(f"{place} is {value} (counting from 0); replace what is not finite or leave its row out.")


def check_magnitude(largest: float, name: str) -> None:
    """Refuse a matrix whose largest value is zero, or has no square in float64."""
    if largest == 0:
        raise InputError(f"{name} holds only zeros, so every w gives the same predictions; there is nothing to learn.")
    if largest > _LARGEST:
        raise _too_large(largest, name)
    if largest < 1 / _LARGEST:
        raise InputError(f"{name} holds nothing larger than {largest:g}, whose square is 0 in float64; rescale {name}.")


def _too_large(value: float, name: str) -> InputError:
    return InputError(f"{name} holds {value:g} or its negative, whose square overflows float64; rescale {name}.")

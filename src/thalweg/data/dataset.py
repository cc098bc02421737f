"""Examples and targets once they have been checked, and how a pair or a table becomes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.arrays import Matrix, Vector, check_indices, checked_vector, is_dask, is_sparse, real_array
from thalweg.errors import InputError, unknown_name
from thalweg.operators import checked_operator


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and what to predict from them, checked: finite, real, of matching shapes.

    Args:
        name: what to call it in tables: the name, file or rows it was loaded from.
        X: the examples as rows, `(n, d)`: an array of float32 or float64 (a view of the file for a memory map), a
            SciPy `csr_array`, or what else `LeastSquares` takes.
        t: the targets, `(n,)`, float64.
        columns: the d names of the features.
        target: the name of the target.
        about: one sentence on how X and t were made; empty where they are as given.
    """

    name: str
    X: Matrix
    t: Vector
    columns: tuple[str, ...]
    target: str
    about: str = ""

    @property
    def n(self) -> int:
        """The number of examples."""
        return int(self.X.shape[0])

    @property
    def d(self) -> int:
        """The number of features."""
        return int(self.X.shape[1])

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, n={self.n}, d={self.d}, target={self.target!r})"


def pair(name: str, X: object, t: object, columns: Sequence[str] = (), target: str = "t", about: str = "") -> Dataset:
    """The data set of a matrix and a vector, checked; features without names are `x1`, `x2`, ..."""
    operator = checked_operator(X)
    vector = checked_vector(t, length=operator.shape[0], per="row of X")
    return Dataset(name, operator.X, vector, tuple(columns) or _numbered(operator.shape[1]), target, about)


def table_with_target(name: str, values: Any, columns: Sequence[str], target: str | int | None) -> Dataset:
    """The data set of a table that holds its target as one of its columns."""
    table: Any = values if is_sparse(values) or is_dask(values) else real_array(values, name)
    if table.ndim != 2:
        raise InputError(f"{name} must have two dimensions (examples in rows), but has shape {table.shape}.")
    width = table.shape[1]
    if width < 2:
        raise InputError(
            f"{name} has {width} column{'s' * (width != 1)}; at least one feature and the target are needed."
        )
    index = _target_index(name, width, columns, target)
    if is_sparse(table):
        check_indices(table, name)
        by_column = table.tocsc()
        t: Any = by_column[:, [index]].toarray().ravel()
        X = by_column[:, [column for column in range(width) if column != index]]
    elif is_dask(table):
        t = table[:, index].compute()
        X = table[:, [column for column in range(width) if column != index]]
    else:
        t = table[:, index]
        # Slices, unlike np.delete, are views, so that a memory map stays one.
        X = table[:, :-1] if index == width - 1 else table[:, 1:] if index == 0 else np.delete(table, index, axis=1)
    features = [column for position, column in enumerate(columns) if position != index]
    return pair(name, X, t, features, columns[index] if columns else "t")


def _target_index(name: str, width: int, columns: Sequence[str], target: str | int | None) -> int:
    """The position of the target among the columns of a table."""
    if target is None:
        return width - 1
    if isinstance(target, str):
        places = [position for position, column in enumerate(columns) if column == target]
        if len(places) > 1:
            raise InputError(f"{name} has {len(places)} columns named {target!r}; give the target's index, from 0.")
        if places:
            return places[0]
        if not re.fullmatch(r"[+-]?\d{1,18}", target.strip()):
            if not columns:
                raise InputError(f"{name} has no column names, so the target {target!r} must be an index, from 0.")
            raise unknown_name(f"column in {name}", target, columns)
    elif isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise InputError(f"The target must be the name or the index of a column, but it is {target!r}.")
    index = int(target)
    if not -width <= index < width:
        raise InputError(f"{name} has {width} columns, so the target must be 0 to {width - 1}, but it is {index}.")
    return index % width


def no_choice_of_target(name: str) -> Dataset:
    """Refuse a choice of target for what comes with its own."""
    raise InputError(f"{name!r} has its own target; a target can be chosen only for a .csv, .parquet or .npy table.")


def _numbered(d: int) -> tuple[str, ...]:
    return tuple(f"x{column + 1}" for column in range(d))

"""From whatever a person has to a `Dataset`."""

from __future__ import annotations

import os
from pathlib import Path

from thalweg.data.dataset import Dataset, no_choice_of_target, pair, table_with_target
from thalweg.data.files import load_file
from thalweg.data.inline import is_inline, load_inline
from thalweg.data.named import NAMED
from thalweg.errors import InputError


def load(source: object, *, target: str | int | None = None) -> Dataset:
    """Load examples and targets from a name, a file, inline rows or arrays.

    Args:
        source: one of
            a name: `"digits"`, `"diabetes"`, `"breast_cancer"`, `"breast_cancer_raw"`,
            `"digits_features:d=2000,n=500,seed=0"`, `"gaussian:n=20,d=100,seed=0,noise=0"`, `"wilson:n=40,p=0.75"`;
            `names()` says what each holds;
            rows written out, features = target: `"1 2 = 3; 0 1 = 2"`;
            a file: `.npz` with arrays `X` and `t` (or `y`), or a sparse matrix from `scipy.sparse.save_npz` with or
            without an array `t`; `.npy` with a two-dimensional array, memory-mapped, so that it may be larger than
            memory (integers are the exception: they become float64 in memory); `.csv` with commas, semicolons or
            tabs, with or without a line of names; `.parquet` (with the extra `thalweg[parquet]`);
            a folder of `.npy` or of `.parquet` files, each some rows of one table, which becomes a Dask array (with the
            extra `thalweg[dask]`);
            a pair `(X, t)` of arrays, X of any kind that `LeastSquares` takes; or one table, dense, sparse or of Dask,
            which holds the target as a column.
        target: which column of a table is the target: its name, or its index, where -1 is the last; None for the
            last. In a memory-mapped file the first and the last column cost nothing, one between them a copy of X.

    Raises:
        InputError: there is no such name or file, it cannot be read, or it holds what is not a finite real number;
            the message says where.
        MissingPackageError: the file is Parquet and `pyarrow` is not installed, or a folder and `dask` is not.
    """
    if isinstance(source, Dataset):
        return source if target is None else no_choice_of_target(source.name)
    if isinstance(source, os.PathLike):
        return load_file(Path(source), target)
    if isinstance(source, str):
        if is_inline(source):
            return load_inline(source) if target is None else no_choice_of_target(source.strip())
        name, _, parameters = source.strip().partition(":")
        if name in NAMED:
            return NAMED[name].make(parameters) if target is None else no_choice_of_target(name)
        if not name:
            raise InputError("The data are an empty text; give a name, a file or rows such as '1 2 = 3'.")
        return load_file(Path(source), target)
    if isinstance(source, tuple):
        if len(source) != 2:
            raise InputError(f"A tuple of data must be a pair (X, t), but it has {len(source)} items.")
        return pair("data", *source) if target is None else no_choice_of_target("a pair (X, t)")
    return table_with_target("data", source, (), target)


def load_test(source: str) -> Dataset | None:
    """The test examples that belong to a named data set; None where there are none.

    Args:
        source: what `load` was given.

    Raises:
        InputError: the parameters of the name cannot be used.
    """
    name, _, parameters = source.strip().partition(":")
    named = NAMED.get(name)
    return named.make_test(parameters) if named is not None and named.make_test is not None else None

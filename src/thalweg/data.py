"""Reading data: named sets, inline rows, files and arrays, all of them checked in one place.

`load` turns whatever a person has into a `Dataset` of a matrix `X` (rows are examples) and a target `t`; every value
that cannot be used is refused with its place. `checked_matrix` and `checked_vector` are the checks themselves, and
the only ones in the house.

    >>> from thalweg.data import load
    >>> load("1 2 = 3; 0 1 = 2").X.tolist()
    [[1.0, 2.0], [0.0, 1.0]]
    >>> digits = load("digits")
    >>> digits.X.shape, digits.target
    ((1797, 64), 'even')
"""

from __future__ import annotations

import csv
import difflib
import importlib.util
import math
import os
import re
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from thalweg.errors import InputError, MissingPackageError, ThalwegError, missing_package, unknown_name

Vector: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = Any  # an NDArray of float32 or float64, or a scipy.sparse.csr_array of them, which has no types

_LARGEST = 1e140  # whose square, and the sum of many such squares, float64 can still hold
_BLOCK = 1 << 22  # values looked at in one go, so that checking a memory map never holds more than a part of it


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and what to predict from them, checked: finite, real, of matching shapes.

    Args:
        name: what to call it in tables: the name, file or rows it was loaded from.
        X: the examples as rows, `(n, d)`, float32 or float64: an array (a view of the file for a memory map) or a
            SciPy `csr_array`.
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


def load(source: object, *, target: str | int | None = None) -> Dataset:
    """Load examples and targets from a name, a file, inline rows or arrays.

    Args:
        source: one of
            a name: `"digits"`, `"diabetes"`, `"breast_cancer"`, `"gaussian:n=20,d=100,seed=0,noise=0"`,
            `"wilson:n=40,p=0.75"`; `names()` says what each holds;
            rows written out, features = target: `"1 2 = 3; 0 1 = 2"`;
            a file: `.npz` with arrays `X` and `t` (or `y`), or a sparse matrix from `scipy.sparse.save_npz` with or
            without an array `t`; `.npy` with a two-dimensional array, memory-mapped, so that it may be larger than
            memory (integers are the exception: they become float64 in memory); `.csv` with commas, semicolons or
            tabs, with or without a line of names; `.parquet` (with the extra `thalweg[parquet]`);
            a pair `(X, t)` of arrays, X dense or SciPy sparse; or one table, dense or sparse, which holds the target
            as a column.
        target: which column of a table is the target: its name, or its index, where -1 is the last; None for the
            last. In a memory-mapped file the first and the last column cost nothing, one between them a copy of X.

    Raises:
        InputError: there is no such name or file, it cannot be read, or it holds what is not a finite real number;
            the message says where.
        MissingPackageError: the file is Parquet and `pyarrow` is not installed.
    """
    if isinstance(source, Dataset):
        return source if target is None else _no_choice_of_target(source.name)
    if isinstance(source, os.PathLike):
        return _load_file(Path(source), target)
    if isinstance(source, str):
        if _is_inline(source):
            return _load_inline(source) if target is None else _no_choice_of_target(source.strip())
        name, _, parameters = source.strip().partition(":")
        if name in _NAMED:
            return _NAMED[name].make(parameters) if target is None else _no_choice_of_target(name)
        if not name:
            raise InputError("The data are an empty text; give a name, a file or rows such as '1 2 = 3'.")
        return _load_file(Path(source), target)
    if isinstance(source, tuple):
        if len(source) != 2:
            raise InputError(f"A tuple of data must be a pair (X, t), but it has {len(source)} items.")
        return _pair("data", *source) if target is None else _no_choice_of_target("a pair (X, t)")
    return _table("data", source, (), target)


def names() -> dict[str, str]:
    """The known data sets, each with one line on what it holds."""
    return {name: named.about for name, named in _NAMED.items()}


def photograph() -> npt.NDArray[np.float64]:
    """A grey photograph, 427 x 640, 0 (black) to 1 (white): the temple of scikit-learn's `china.jpg`.

    Source: danielbuechele, Creative Commons Attribution 2.0, as bundled with scikit-learn.
    """
    from PIL import Image

    with Image.open(_bundled("images/china.jpg")) as image:
        return np.asarray(image.convert("L"), dtype=np.float64) / 255


def standardised(X: npt.NDArray[np.float64], columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """Every column of X `(n, d)` shifted to mean 0 and scaled to variance 1 (dividing by n, not n - 1).

    Raises:
        InputError: columns are constant, and so have no scale; the message names them.
    """
    # Compared with the first row, because the computed deviation of a constant column need not be exactly zero.
    constant = [name for name, varies in zip(columns, (X[0] != X).any(axis=0), strict=True) if not varies]
    if constant:
        raise InputError(
            f"Cannot standardise {_list_columns(constant)}: every value is the same; leave {_them(constant)} out."
        )
    scaled: npt.NDArray[np.float64] = (X - X.mean(axis=0)) / X.std(axis=0)
    return scaled


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
    largest = 0.0
    for first in range(0, matrix.shape[0], rows):
        block = matrix[first : first + rows]
        bad = np.argwhere(~np.isfinite(block))
        if bad.size:
            row, column = (int(index) for index in bad[0])
            raise _not_finite(block[row, column], f"{name}[{first + row}, {column}]")
        largest = max(largest, float(block.max()), -float(block.min()))
    _check_magnitude(largest, name)
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
    largest = float(np.abs(vector).max())
    if largest > _LARGEST:
        raise _too_large(largest, name)
    return vector.astype(np.float64, copy=False)


def _is_sparse(X: object) -> bool:
    # Whoever passes a sparse matrix has imported scipy.sparse; asking sys.modules spares everybody else the import.
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(X))


def _check_indices(X: Any, name: str) -> None:
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
        raise _empty(name, X.shape)
    _check_indices(X, name)
    matrix = csr_array(X)
    values = _real_array(matrix.data, name)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        row = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
        raise _not_finite(values[bad[0]], f"{name}[{row}, {matrix.indices[bad[0]]}]")
    _check_magnitude(float(np.abs(values).max(initial=0.0)), name)
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


def _check_magnitude(largest: float, name: str) -> None:
    """Refuse a matrix whose largest value is zero, or has no square in float64."""
    if largest == 0:
        raise InputError(f"{name} holds only zeros, so every w gives the same predictions; there is nothing to learn.")
    if largest > _LARGEST:
        raise _too_large(largest, name)
    if largest < 1 / _LARGEST:
        raise InputError(f"{name} holds nothing larger than {largest:g}, whose square is 0 in float64; rescale {name}.")


def _too_large(value: float, name: str) -> InputError:
    return InputError(f"{name} holds {value:g} or its negative, whose square overflows float64; rescale {name}.")


def _no_choice_of_target(name: str) -> Dataset:
    raise InputError(f"{name!r} has its own target; a target can be chosen only for a .csv, .parquet or .npy table.")


def _numbered(d: int) -> tuple[str, ...]:
    return tuple(f"x{column + 1}" for column in range(d))


def _pair(name: str, X: object, t: object, columns: Sequence[str] = (), target: str = "t", about: str = "") -> Dataset:
    matrix = checked_matrix(X)
    vector = checked_vector(t, length=matrix.shape[0], per="row of X")
    return Dataset(name, matrix, vector, tuple(columns) or _numbered(matrix.shape[1]), target, about)


def _table(name: str, values: Any, columns: Sequence[str], target: str | int | None) -> Dataset:
    """The data set of a table that holds its target as one of its columns."""
    table: Any = values if _is_sparse(values) else _real_array(values, name)
    if table.ndim != 2:
        raise InputError(f"{name} must have two dimensions (examples in rows), but has shape {table.shape}.")
    width = table.shape[1]
    if width < 2:
        raise InputError(
            f"{name} has {width} column{'s' * (width != 1)}; at least one feature and the target are needed."
        )
    index = _target_index(name, width, columns, target)
    if _is_sparse(table):
        _check_indices(table, name)
        by_column = table.tocsc()
        t: Any = by_column[:, [index]].toarray().ravel()
        X = by_column[:, [column for column in range(width) if column != index]]
    else:
        t = table[:, index]
        # Slices, unlike np.delete, are views, so that a memory map stays one.
        X = table[:, :-1] if index == width - 1 else table[:, 1:] if index == 0 else np.delete(table, index, axis=1)
    features = [column for position, column in enumerate(columns) if position != index]
    return _pair(name, X, t, features, columns[index] if columns else "t")


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
    index = int(target)
    if not -width <= index < width:
        raise InputError(f"{name} has {width} columns, so the target must be 0 to {width - 1}, but it is {index}.")
    return index % width


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_finite(number: str) -> bool:
    return math.isfinite(float(number))


def _is_inline(text: str) -> bool:
    """Whether a text is meant as rows: it is made of what rows are made of, or begins with a number and has a `=`."""
    if re.fullmatch(r"[\d\s.;=,eE+-]*\d[\d\s.;=,eE+-]*", text):
        return True
    first = re.match(r"[\s;,]*([^\s;,=]*)", text)
    return "=" in text and first is not None and (first[1] == "" or _is_number(first[1]))


def _load_inline(text: str) -> Dataset:
    rows = text.strip().rstrip(";").split(";")
    X: list[list[float]] = []
    t: list[float] = []
    for number, row in enumerate(rows, start=1):
        features, equals, target = row.partition("=")
        if not equals:
            raise InputError(
                f"Row {number} ({row.strip()!r}) has no '='; write its features, '=' and its target, as in '1 2 = 3'."
            )
        X.append(_inline_numbers(features, number))
        targets = _inline_numbers(target, number)
        if not X[-1]:
            raise InputError(f"Row {number} ({row.strip()!r}) has no features before its '='.")
        if len(targets) != 1:
            raise InputError(f"Row {number} ({row.strip()!r}) has {len(targets)} values after its '='; it needs one.")
        t += targets
        if len(X[-1]) != len(X[0]):
            raise InputError(f"Row {number} ({row.strip()!r}) has {len(X[-1])} features where row 1 has {len(X[0])}.")
    return _pair("; ".join(" ".join(row.split()) for row in rows), X, t)


def _inline_numbers(text: str, row: int) -> list[float]:
    numbers = []
    for word in text.replace(",", " ").split():
        if not _is_number(word):
            raise InputError(f"Row {row}: {word!r} is not a number.")
        if not _is_finite(word):
            raise InputError(f"Row {row}: {word!r} is not a finite number.")
        numbers.append(float(word))
    return numbers


class _Named(NamedTuple):
    """A data set that is known by name."""

    about: str
    make: Callable[[str], Dataset]


def _bundled(file: str) -> Path:
    """The path of a file below scikit-learn's `datasets`; importing scikit-learn to find it would take a second."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            "The named data sets are those bundled with scikit-learn, which is not installed; "
            "install it with: pip install scikit-learn."
        )
    return Path(spec.origin).parent / "datasets" / file


def _no_parameters(name: str, parameters: str) -> None:
    if parameters:
        raise InputError(f"The data set {name!r} has no parameters, but got {parameters!r}.")


def _digits(parameters: str) -> Dataset:
    _no_parameters("digits", parameters)
    table = np.loadtxt(_bundled("data/digits.csv.gz"), delimiter=",")
    columns = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    t = np.where(table[:, -1] % 2 == 0, 1.0, -1.0)
    return _pair("digits", table[:, :-1] / 16, t, columns, "even", _NAMED["digits"].about)


def _diabetes(parameters: str) -> Dataset:
    _no_parameters("diabetes", parameters)
    X = np.loadtxt(_bundled("data/diabetes_data_raw.csv.gz"))
    t = np.loadtxt(_bundled("data/diabetes_target.csv.gz"))
    columns = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
    target = "progression"
    t = standardised(t[:, None], [target])[:, 0]
    return _pair("diabetes", standardised(X, columns), t, columns, target, _NAMED["diabetes"].about)


def _breast_cancer(parameters: str) -> Dataset:
    _no_parameters("breast_cancer", parameters)
    table = np.loadtxt(_bundled("data/breast_cancer.csv"), delimiter=",", skiprows=1)
    measures = ["radius", "texture", "perimeter", "area", "smoothness"]
    measures += ["compactness", "concavity", "concave points", "symmetry", "fractal dimension"]
    columns = [f"mean {measure}" for measure in measures]
    columns += [f"{measure} error" for measure in measures] + [f"worst {measure}" for measure in measures]
    t = 2 * table[:, -1] - 1
    about = _NAMED["breast_cancer"].about
    return _pair("breast_cancer", standardised(table[:, :-1], columns), t, columns, "benign", about)


def _gaussian(parameters: str) -> Dataset:
    """`X ~ N(0, 1)`, `w ~ N(0, 1/d)`, `t = X w + noise N(0, 1)`, drawn in this order from `default_rng(seed)`."""
    given = _parse_parameters("gaussian", parameters, {"n": 20, "d": 100, "seed": 0, "noise": 0.0})
    n, d, seed, noise = given["n"], given["d"], given["seed"], given["noise"]
    _require("gaussian", "n", n, n >= 1, "at least 1")
    _require("gaussian", "d", d, d >= 1, "at least 1")
    _require("gaussian", "seed", seed, seed >= 0, "at least 0")
    _require("gaussian", "noise", noise, noise >= 0, "at least 0")
    _require_memory("gaussian", n, d)
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, d))
    t = X @ (generator.standard_normal(d) / math.sqrt(d)) + noise * generator.standard_normal(n)
    name = f"gaussian:n={n},d={d},seed={seed}" + (f",noise={noise:g}" if noise else "")
    return _pair(name, X, t, about=_NAMED["gaussian"].about)


def _wilson(parameters: str) -> Dataset:
    """The construction on which methods with a rate per coordinate learn nothing of use.

    Example i (from 1) has feature 1 equal to its label, features 2 and 3 equal to 1, and features of its own from
    4 + 5 (i - 1) on: one of them is 1 where the label is +1, five where it is -1. The first round(p n) labels are +1.

    Source: A. C. Wilson et al., "The Marginal Value of Adaptive Gradient Methods in Machine Learning" (2017),
    section 3.3.
    """
    given = _parse_parameters("wilson", parameters, {"n": 40, "p": 0.75})
    n, p = given["n"], given["p"]
    _require("wilson", "n", n, n >= 1, "at least 1")
    _require("wilson", "p", p, 0.5 < p <= 1, "above 0.5 and at most 1")
    positive = round(p * n)
    _require("wilson", "p", p, 2 * positive > n, f"larger, so that most of the {n} labels are +1")
    _require_memory("wilson", n, 3 + 5 * n)
    t = np.where(np.arange(n) < positive, 1.0, -1.0)
    X = np.zeros((n, 3 + 5 * n))
    X[:, 0] = t
    X[:, 1:3] = 1
    for i in range(n):
        own = 3 + 5 * i
        X[i, own : own + (1 if t[i] > 0 else 5)] = 1
    columns = ["label", "one", "one again", *(f"own {i + 1}.{j + 1}" for i in range(n) for j in range(5))]
    return _pair(f"wilson:n={n},p={p:g}", X, t, columns, "label", _NAMED["wilson"].about)


def _require_memory(name: str, n: int, d: int) -> None:
    """Refuse an n x d matrix larger than the machine: asking for one would not fail but freeze it."""
    if hasattr(os, "sysconf") and 8 * n * d > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise InputError(
            f"{name!r} with n={n} needs {8e-9 * n * d:.3g} GB, more memory than there is; make it smaller."
        )


def _require(name: str, parameter: str, value: float, holds: bool, wanted: str) -> None:
    if not holds:
        raise InputError(f"In {name!r}, {parameter} must be {wanted}, but it is {value:g}.")


def _parse_parameters(name: str, text: str, defaults: dict[str, float]) -> dict[str, Any]:
    """The parameters of a named set, written `key=value,key=value`; integers where the default is one."""
    given: dict[str, Any] = dict(defaults)
    for item in text.split(",") if text.strip() else []:
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in defaults:
            raise unknown_name(f"parameter of {name!r}", key, defaults)
        integer = isinstance(defaults[key], int)
        if not (re.fullmatch(r"[+-]?\d{1,18}", value) if integer else _is_number(value) and _is_finite(value)):
            kind = "an integer" if integer else "a finite number"
            raise InputError(f"In {name!r}, {key} must be {kind}, as in '{name}:{key}={defaults[key]}'; got {item!r}.")
        given[key] = int(value) if integer else float(value)
    return given


_NAMED = {
    "digits": _Named(
        "1797 images of 8 x 8 pixels, divided by 16, no intercept; target +1 for even and -1 for odd digits.", _digits
    ),
    "diabetes": _Named(
        "442 patients, 10 measurements; columns and target (disease progression) standardised, no intercept.", _diabetes
    ),
    "breast_cancer": _Named(
        "569 tumours, 30 measurements, columns standardised, no intercept; target +1 benign, -1 malignant.",
        _breast_cancer,
    ),
    "gaussian": _Named(
        "n examples of d standard normal features; t = X w + noise, w normal with variance 1/d: gaussian:n=20,d=100.",
        _gaussian,
    ),
    "wilson": _Named(
        "The construction of Wilson et al. (2017), a share p of labels +1: wilson:n=40,p=0.75.",
        _wilson,
    ),
}


def _load_file(path: Path, target: str | int | None) -> Dataset:
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise _unknown_source(path)
    with _reading(path):
        return read(path, target)


def _unknown_source(path: Path) -> InputError:
    """The error for a source that is neither a known name nor a file that can be read."""
    suffixes = ", ".join(_READERS)
    name = re.fullmatch(r"([A-Za-z_][\w-]*)(:.*)?", str(path), flags=re.DOTALL)
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError:  # a text too long for a file name
        exists = is_folder = False
    if is_folder:
        return InputError(f"{str(path)!r} is a folder; name a file in it that ends in {suffixes}.")
    if exists:
        return InputError(f"Cannot read {str(path)!r}: its name does not end in {suffixes}.")
    return unknown_name("data set", name[1], _NAMED) if name else _missing_file(path)


def _missing_file(path: Path) -> InputError:
    """The error for a file that is not there, with the nearest one in its folder suggested."""
    try:
        there = [entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in _READERS]
    except OSError:
        there = []
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    hint = f"did you mean {str(path.with_name(near[0]))!r}?" if near else "check the path."
    return InputError(f"There is no file {str(path)!r}; {hint}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside a reader into one sentence about the file."""
    try:
        yield
    except ThalwegError:
        raise
    except FileNotFoundError as error:
        raise _missing_file(path) from error
    except UnicodeDecodeError as error:
        raise InputError(f"Cannot read {str(path)!r}: it is not UTF-8 text; save it as UTF-8.") from error
    except MemoryError as error:
        raise InputError(f"Cannot read {str(path)!r}: it does not fit into memory.") from error
    except Exception as error:  # the libraries that parse files raise nearly anything on a damaged one
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"Cannot read {str(path)!r} as {path.suffix.lower()}: {reason}.") from error


def _load_npy(path: Path, target: str | int | None) -> Dataset:
    return _table(path.name, np.lib.format.open_memmap(path, mode="r"), (), target)


def _load_npz(path: Path, target: str | int | None) -> Dataset:
    # Opened here because np.load leaves a damaged archive open.
    with path.open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise InputError(f"{str(path)!r} holds a single array; rename it to end in .npy.")
        return _archive(path, archive, target)


def _archive(path: Path, archive: Any, target: str | int | None) -> Dataset:
    keys = set(archive.files)
    t = archive["t"] if "t" in keys else archive["y"] if "y" in keys else None
    if "X" in keys and t is not None:
        return _pair(path.name, archive["X"], t) if target is None else _no_choice_of_target(path.name)
    if {"format", "shape", "data"} <= keys:  # what scipy.sparse.save_npz writes
        from scipy.sparse import load_npz

        with path.open("rb") as stream:
            X = load_npz(stream)
        if t is None:
            return _table(path.name, X, (), target)
        return _pair(path.name, X, t) if target is None else _no_choice_of_target(path.name)
    found = ", ".join(repr(key) for key in sorted(keys)) or "nothing"
    raise InputError(f"{str(path)!r} holds {found}; it must hold arrays 'X' and 't' (or 'y').")


def _load_csv(path: Path, target: str | int | None) -> Dataset:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        first_line = next((line for line in stream if line.strip()), "")
        # On a tie the later ones lose: a semicolon or tab between numbers is never part of one, a comma may be.
        delimiter = max("\t;,", key=lambda candidate: len(next(csv.reader([first_line], delimiter=candidate), [])))
        stream.seek(0)
        rows = csv.reader(stream, delimiter=delimiter)
        columns: list[str] = []
        width = 0
        values = array("d")
        refused = _Refused(path)
        for row in rows:
            if not row or row == [""]:
                continue
            if not width:
                width = len(row)
                columns = _header(path, row)
                if columns:
                    continue
            if len(row) != width:
                raise InputError(
                    f"{str(path)!r} line {rows.line_num} has {len(row)} values where the first line has {width}."
                )
            try:
                numbers = [float(cell) for cell in row]
            except ValueError:
                numbers = [float(cell) if _is_number(cell) else 0.0 for cell in row]
                refused.note(columns, row, rows.line_num, lambda cell: not _is_number(cell))
            if not math.isfinite(sum(numbers)):
                refused.note(columns, row, rows.line_num, lambda cell: _is_number(cell) and not _is_finite(cell))
            values.extend(numbers)
    refused.raise_if_any()
    if not values:
        raise InputError(f"{str(path)!r} holds no rows of numbers.")
    return _table(path.name, np.frombuffer(values).reshape(-1, width), columns, target)


def _header(path: Path, row: list[str]) -> list[str]:
    """The column names that a first line holds; none where it holds numbers, with or without gaps."""
    texts = [cell for cell in row if cell.strip() and not _is_number(cell)]
    numbers = [cell for cell in row if _is_number(cell)]
    if texts and numbers:
        raise InputError(
            f"{str(path)!r}: the first line mixes names and numbers ({texts[0]!r} and {numbers[0]!r}); "
            "name every column or none, and leave columns that are not numbers out."
        )
    return [cell.strip() or f"column {position + 1}" for position, cell in enumerate(row)] if texts else []


class _Refused:
    """The columns of a text file that hold what is not a finite number, each with its first such value."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first: dict[str, tuple[str, int]] = {}

    def note(self, columns: list[str], row: list[str], line: int, is_bad: Callable[[str], bool]) -> None:
        for position, cell in enumerate(row):
            if is_bad(cell):
                name = columns[position] if columns else f"column {position + 1}"
                self.first.setdefault(name, (cell, line))

    def raise_if_any(self) -> None:
        if not self.first:
            return
        names = list(self.first)
        value, line = self.first[names[0]]
        holds = f"{value!r}" if value.strip() else "an empty value"
        raise InputError(
            f"{str(self.path)!r}: {_list_columns(names)} must hold finite numbers, but line {line} has {holds} "
            f"in {names[0]!r}; convert {_them(names)} to numbers or leave {_them(names)} out."
        )


def _list_columns(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return f"column{'s' * (len(names) > 1)} {shown}{' and others' * (len(names) > 10)}"


def _them(names: Sequence[str]) -> str:
    return "them" if len(names) > 1 else "it"


def _load_parquet(path: Path, target: str | int | None) -> Dataset:
    try:
        import pyarrow.parquet
        import pyarrow.types
    except ImportError as error:
        raise missing_package("pyarrow", "reading Parquet files", "parquet") from error
    table = pyarrow.parquet.read_table(path)
    numeric = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean, pyarrow.types.is_decimal)
    refused = [column.name for column in table.schema if not any(is_kind(column.type) for is_kind in numeric)]
    if refused:
        kind = table.schema.field(table.column_names.index(refused[0])).type
        raise InputError(
            f"{str(path)!r}: {_list_columns(refused)} must hold numbers, but {refused[0]!r} is of type {kind}; "
            f"convert {_them(refused)} to numbers or leave {_them(refused)} out."
        )
    arrays = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise InputError(f"{str(path)!r}: column {name!r} has no value in row {row}; fill it or leave the row out.")
        arrays.append(column.cast(pyarrow.float64(), safe=False).to_numpy())
    values = np.column_stack(arrays) if arrays else np.empty((0, 0))
    return _table(path.name, values, table.column_names, target)


_READERS = {".npz": _load_npz, ".npy": _load_npy, ".csv": _load_csv, ".parquet": _load_parquet}

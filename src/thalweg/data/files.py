"""Files of numbers: `.npz`, `.npy`, `.csv` and `.parquet`, each value that cannot be used refused with its place."""

from __future__ import annotations

import csv
import difflib
import math
import re
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.data.dataset import Dataset, no_choice_of_target, pair, table_with_target
from thalweg.data.inline import is_finite, is_number
from thalweg.data.named import NAMED
from thalweg.data.parts import load_parts
from thalweg.data.words import list_columns, them
from thalweg.errors import InputError, ThalwegError, missing_package, unknown_name


def load_file(path: Path, target: str | int | None) -> Dataset:
    """Read a file by the reader of its suffix, and a folder as parts of one table.

    What is neither is refused as an unknown name or file.
    """
    if _is_folder(path):
        with _reading(path):
            return load_parts(path, target, _parquet_values)
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
        exists = path.exists()
    except OSError:  # a text too long for a file name
        exists = False
    if exists:
        return InputError(f"Cannot read {str(path)!r}: its name does not end in {suffixes}.")
    return unknown_name("data set", name[1], NAMED) if name else _missing_file(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a text too long for a file name
        return False


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
        kind = path.suffix.lower() or "a folder of parts"
        raise InputError(f"Cannot read {str(path)!r} as {kind}: {reason}.") from error


def _load_npy(path: Path, target: str | int | None) -> Dataset:
    return table_with_target(path.name, np.lib.format.open_memmap(path, mode="r"), (), target)


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
        return pair(path.name, archive["X"], t) if target is None else no_choice_of_target(path.name)
    if {"format", "shape", "data"} <= keys:  # what scipy.sparse.save_npz writes
        from scipy.sparse import load_npz

        with path.open("rb") as stream:
            X = load_npz(stream)
        if t is None:
            return table_with_target(path.name, X, (), target)
        return pair(path.name, X, t) if target is None else no_choice_of_target(path.name)
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
                numbers = [float(cell) if is_number(cell) else 0.0 for cell in row]
                refused.note(columns, row, rows.line_num, lambda cell: not is_number(cell))
            if not math.isfinite(sum(numbers)):
                refused.note(columns, row, rows.line_num, lambda cell: is_number(cell) and not is_finite(cell))
            values.extend(numbers)
    refused.raise_if_any()
    if not values:
        raise InputError(f"{str(path)!r} holds no rows of numbers.")
    return table_with_target(path.name, np.frombuffer(values).reshape(-1, width), columns, target)


def _header(path: Path, row: list[str]) -> list[str]:
    """The column names that a first line holds; none where it holds numbers, with or without gaps."""
    texts = [cell for cell in row if cell.strip() and not is_number(cell)]
    numbers = [cell for cell in row if is_number(cell)]
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
            f"{str(self.path)!r}: {list_columns(names)} must hold finite numbers, but line {line} has {holds} "
            f"in {names[0]!r}; convert {them(names)} to numbers or leave {them(names)} out."
        )


def _load_parquet(path: Path, target: str | int | None) -> Dataset:
    columns, values = _parquet_values(path)
    return table_with_target(path.name, values, columns, target)


def _parquet_values(path: Path) -> tuple[list[str], Any]:
    """The names and, as a table of float64, the values of the columns."""
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
            f"{str(path)!r}: {list_columns(refused)} must hold numbers, but {refused[0]!r} is of type {kind}; "
            f"convert {them(refused)} to numbers or leave {them(refused)} out."
        )
    arrays = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise InputError(f"{str(path)!r}: column {name!r} has no value in row {row}; fill it or leave the row out.")
        arrays.append(column.cast(pyarrow.float64(), safe=False).to_numpy())
    return table.column_names, np.column_stack(arrays) if arrays else np.empty((0, 0))


_READERS = {".npz": _load_npz, ".npy": _load_npy, ".csv": _load_csv, ".parquet": _load_parquet}

"""A folder of .npy or .parquet files, each some rows of one table: a Dask array that is read part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.data.dataset import Dataset, table_with_target
from thalweg.errors import InputError, missing_package


def load_parts(folder: Path, target: str | int | None, parquet: Callable[[Path], tuple[list[str], Any]]) -> Dataset:
    """The table whose rows are those of the files in a folder, in the order of their names.

    Args:
        folder: where they are.
        target: which column is the target.
        parquet: reads the names of the columns and the values of a .parquet file.

    Raises:
        InputError: there are no such files, or of both kinds, or they have different columns.
        MissingPackageError: Dask is not installed.
    """
    kinds = {suffix: sorted(folder.glob(f"*{suffix}")) for suffix in (".npy", ".parquet")}
    found = [suffix for suffix, paths in kinds.items() if paths]
    if len(found) != 1:
        holds = "both .npy and .parquet files" if found else "no .npy or .parquet files"
        raise InputError(f"{str(folder)!r} is a folder with {holds}; name a file, or a folder with parts of one kind.")
    paths = kinds[found[0]]
    try:
        import dask.array
    except ImportError as error:
        raise missing_package("dask", "reading a folder of parts", "dask") from error
    columns, blocks = _npy(paths) if found == [".npy"] else _parquet(paths, parquet)
    return table_with_target(folder.name, dask.array.concatenate(blocks), columns, target)


def _npy(paths: Sequence[Path]) -> tuple[list[str], list[Any]]:
    import dask.array

    headers = [np.lib.format.open_memmap(path, mode="r") for path in paths]
    for path, header in zip(paths, headers, strict=True):
        if header.ndim != 2 or header.shape[1] != headers[0].shape[1]:
            raise InputError(
                f"{str(path)!r} has shape {header.shape}, but every part must be a table of as many columns as "
                f"{paths[0].name!r}, whose shape is {headers[0].shape}."
            )
    read = dask.delayed(_mapped, pure=False)
    return [], [
        dask.array.from_delayed(read(str(path)), header.shape, header.dtype)
        for path, header in zip(paths, headers, strict=True)
    ]


def _mapped(path: str) -> Any:
    return np.lib.format.open_memmap(path, mode="r")


def _parquet(paths: Sequence[Path], values: Callable[[Path], tuple[list[str], Any]]) -> tuple[list[str], list[Any]]:
    import dask.array

    try:
        from pyarrow.parquet import read_metadata
    except ImportError as error:
        raise missing_package("pyarrow", "reading Parquet files", "parquet") from error
    headers = [read_metadata(path) for path in paths]
    columns = headers[0].schema.to_arrow_schema().names
    for path, header in zip(paths, headers, strict=True):
        names = header.schema.to_arrow_schema().names
        if names != columns:
            differs = next((name for name in (*names, *columns) if name not in names or name not in columns), names[0])
            raise InputError(
                f"{str(path)!r} has other columns than {paths[0].name!r}, or another order of them; see {differs!r}."
            )
    read = dask.delayed(lambda path: values(Path(path))[1], pure=False)
    return columns, [
        dask.array.from_delayed(read(str(path)), (header.num_rows, len(columns)), np.float64)
        for path, header in zip(paths, headers, strict=True)
    ]

"""Reading arrays in blocks of rows, so that a file larger than memory can be mapped and never fills it.

What has been read of a mapped file stays in the memory of the process until the system needs it elsewhere. Giving it
back as one goes costs next to nothing, because the system keeps the pages, and makes the memory that a run needs what
it says: some vectors and a block.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GIVEN_BACK = 1 << 25  # bytes of a mapped file that are read before they are given back


def row_blocks(array: NDArray[Any], entries: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Blocks of about so many entries of an array, as views, each with its place along the first axis.

    Pages of a mapped file that is only read, or shared with its file, are given back after their block has been used.
    """
    per_row = max(1, array.size // max(1, len(array)))
    rows = max(1, entries // per_row)
    give_back = _give_back(array)
    kept = 0
    for first in range(0, len(array), rows):
        part = slice(first, min(first + rows, len(array)))
        yield part, array[part]
        if give_back is not None and (part.stop - kept) * abs(array.strides[0]) >= _GIVEN_BACK:
            give_back(array[kept : part.stop])
            kept = part.stop


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself where its values lie side by side; otherwise a copy, made block by block."""
    if array.flags.c_contiguous:
        return array
    copy = np.empty(array.shape, array.dtype)
    for part, block in row_blocks(array, _GIVEN_BACK // max(1, abs(array.strides[0]))):
        copy[part] = block
    return copy


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether the array is, or is a view of, a mapped file."""
    return _memmap_of(array) is not None


def _memmap_of(array: object) -> np.memmap[Any, Any] | None:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return array
        array = array.base
    return None


def _give_back(array: NDArray[Any]) -> Callable[[NDArray[Any]], None] | None:
    """How to give the pages of a block back; None where there are none, or where that would lose what is in them."""
    mapped = _memmap_of(array)
    # A map of mode "c" holds changes that are nowhere else.
    if mapped is None or mapped.mode not in ("r", "r+") or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    base: Any = mapped
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap):
        return None
    pages = base
    begin = np.frombuffer(pages, dtype=np.uint8).__array_interface__["data"][0]

    def give_back(block: NDArray[Any]) -> None:
        low, high = np.lib.array_utils.byte_bounds(block)
        first, last = (low - begin) // mmap.PAGESIZE, (high - begin) // mmap.PAGESIZE
        if last > first:
            pages.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)

    return give_back

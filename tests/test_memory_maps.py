"""Blocks of rows cover an array once, and a mapped file that is read never fills memory or loses what is in it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thalweg as tw
from thalweg.memory_maps import contiguous, is_mapped, row_blocks

MEGABYTE = 1 << 20


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 60))
def test_blocks_cover_every_row_once_in_order(n, d, entries):
    array = np.arange(n * d).reshape(n, d)
    blocks = list(row_blocks(array, entries))
    assert [row for part, _ in blocks for row in range(part.start, part.stop)] == list(range(n))
    assert all(np.array_equal(block, array[part]) for part, block in blocks)
    assert all(block.size <= max(entries, d) for _, block in blocks)


def mapped_megabytes():
    """How much of mapped files is in the memory of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile"))
    return int(line.split()[1]) / 1024


@pytest.fixture
def large(tmp_path):
    """A file of 256 MB, whose disk holds only the few values that are not zero."""
    n, d = 32_768, 1024
    written = np.lib.format.open_memmap(tmp_path / "table.npy", "w+", np.float64, (n, d))
    written[np.arange(0, n, 97), np.arange(0, n, 97) % d] = written[::97, 0] = 1.0
    written.flush()
    return tmp_path / "table.npy"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc how much memory a mapped file takes")
def test_a_mapped_file_never_fills_memory(large):
    before = mapped_megabytes()
    data = tw.load(large)
    problem = tw.LeastSquares(data.X, data.t)
    assert is_mapped(problem.X)
    assert not is_mapped(problem.t), "a strided view of the file would be read again and again"
    curve = tw.rates(problem, 3)
    assert curve.best_loss(3) < curve.initial_loss
    assert problem.loss(np.ones(problem.d)) > 0
    assert mapped_megabytes() - before < 80, "256 MB have been read, several times over"
    assert problem.X[:].sum() > 0
    assert mapped_megabytes() - before > 200, "the same file, read at once, is all there: the test above can fail"


@pytest.mark.parametrize("mode", ["c", "r+"])
def test_changes_are_kept(large, mode):
    table = np.load(large, mmap_mode=mode)
    table[5, 5] = 7.0
    for _ in row_blocks(table, MEGABYTE):
        pass
    assert table[5, 5] == 7.0


def test_a_strided_vector_of_a_file_becomes_one_in_memory(large):
    table = np.load(large, mmap_mode="r")
    column = contiguous(table[:, 97])
    assert column.flags.c_contiguous
    assert np.flatnonzero(column).tolist() == np.flatnonzero(np.asarray(table[:, 97])).tolist() != []
    whole = np.ones(3)
    assert contiguous(whole) is whole

"""A Dask array gives the same digits on threads and on a cluster of two workers, and its blocks stay where they are."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw

dask = pytest.importorskip("dask", reason="needs dask, which CI installs")
array = pytest.importorskip("dask.array", reason="needs dask, which CI installs")

GENERATOR = np.random.default_rng(0)
MATRIX, TARGETS = GENERATOR.standard_normal((300, 40)), GENERATOR.standard_normal(300)


def surface(X):
    curve = tw.rates(tw.LeastSquares(X, TARGETS), 20)
    return curve.loss(np.linspace(0.01, 0.5, 7), np.arange(21))


def test_two_workers_give_the_digits_of_one_machine():
    distributed = pytest.importorskip("distributed", reason="needs distributed, which CI installs")
    X = array.from_array(MATRIX, chunks=(30, 40))
    here = surface(X)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        np.testing.assert_array_equal(surface(X), here)
        kept = client.persist(X)
        np.testing.assert_array_equal(surface(kept), here)
        assert len(client.ncores()) == 2
        assert {worker for workers in client.who_has(kept).values() for worker in workers} == set(client.ncores())
    np.testing.assert_allclose(here, surface(MATRIX), rtol=1e-12)


def test_each_block_is_read_once_a_step():
    read = []

    def rows(block, block_info=None):
        read.append(block_info[0]["chunk-location"][0])
        return block

    X = array.from_array(MATRIX, chunks=(100, 20)).map_blocks(rows, dtype=float, meta=np.empty((0, 0)))
    problem = tw.LeastSquares(X, TARGETS)
    with dask.config.set(scheduler="synchronous"):
        read.clear()
        tw.rates(problem, 7)
    # Each block of rows has two chunks; before the first step comes one product with X^T.
    assert sorted(read) == sorted(2 * (7 + 1) * [0, 1, 2])


@pytest.mark.parametrize(
    "chunks", [((100, 0, 200), (40,)), ((10,) * 30, (20, 20)), ((33,) * 8 + (36,), (40,)), ((300,), (1,) * 40)]
)
def test_chunks_may_be_of_any_shape(chunks):
    np.testing.assert_allclose(surface(array.from_array(MATRIX).rechunk(chunks)), surface(MATRIX), rtol=1e-12)


def test_sparse_and_integer_blocks_are_multiplied_as_they_are():
    from scipy import sparse

    whole = np.rint(3 * MATRIX).astype(np.int16)
    blocks = array.from_array(whole, chunks=(100, 40))
    thin = blocks.map_blocks(sparse.csr_array, dtype=np.int16)
    for X in (blocks, thin):
        np.testing.assert_allclose(surface(X), surface(whole), rtol=1e-12)

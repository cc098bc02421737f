"""Every kind of X gives the products of the dense matrix, and everything that stands on them the same answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import thalweg as tw
from thalweg.operators import as_operator, checked_operator
from thalweg.operators.stored import ByColumns, Dense

# Enough rows for several blocks of every kind, and a last block that is shorter.
GENERATOR = np.random.default_rng(0)
MATRIX = np.where(GENERATOR.random((1501, 700)) < 0.3, GENERATOR.standard_normal((1501, 700)), 0.0)
SINGLE = MATRIX.astype(np.float32)
TARGETS = GENERATOR.standard_normal(1501)


def mapped(tmp_path, X, order="C"):
    written = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", X.dtype, X.shape, fortran_order=order == "F")
    written[:] = X
    written.flush()
    return np.load(tmp_path / "X.npy", mmap_mode="r")


def torch_tensor(X, **settings):
    torch = pytest.importorskip("torch", reason="needs torch, which CI installs")
    return torch.tensor(X, **settings)


def jax_array(X):
    import jax

    with jax.enable_x64(True):
        return jax.numpy.asarray(X)


def dask_array(X, chunks):
    array = pytest.importorskip("dask.array", reason="needs dask, which CI installs")
    return array.from_array(X, chunks=chunks)


KINDS = {
    "array": lambda path: MATRIX,
    "float32": lambda path: SINGLE,
    "integers": lambda path: np.rint(4 * MATRIX).astype(np.int8),
    "by columns": lambda path: np.asfortranarray(MATRIX),
    "every second column": lambda path: np.repeat(MATRIX, 2, axis=1)[:, ::2],
    "rows backwards": lambda path: MATRIX[::-1],
    "memory map": lambda path: mapped(path, MATRIX),
    "float32 memory map": lambda path: mapped(path, SINGLE),
    "memory map by columns": lambda path: mapped(path, MATRIX, "F"),
    "memory map without its last column": lambda path: mapped(path, np.column_stack([MATRIX, TARGETS]))[:, :-1],
    "sparse": lambda path: sparse.csr_array(MATRIX),
    "sparse float32": lambda path: sparse.coo_array(SINGLE),
    "operator": lambda path: aslinearoperator(MATRIX),
    "torch": lambda path: torch_tensor(MATRIX),
    "torch float32": lambda path: torch_tensor(SINGLE, requires_grad=True),
    "jax": lambda path: jax_array(MATRIX),
    "jax float32": lambda path: jax_array(SINGLE),
    "dask": lambda path: dask_array(MATRIX, (400, 300)),
    "dask float32": lambda path: dask_array(SINGLE, (400, -1)),
}


def dense(X):
    """The entries in float64, by a way that is not ours."""
    if isinstance(X, LinearOperator):
        return X @ np.eye(X.shape[1])
    if hasattr(X, "detach"):
        X = X.detach()
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)


@pytest.fixture(params=KINDS)
def X(request, tmp_path):
    return KINDS[request.param](tmp_path)


def test_products_are_those_of_the_matrix_in_float64(X):
    operator, matrix = checked_operator(X), dense(X)
    generator = np.random.default_rng(1)
    v, u = generator.standard_normal(operator.shape[1]), generator.standard_normal(operator.shape[0])
    v.flags.writeable = u.flags.writeable = False
    assert operator.shape == matrix.shape
    assert operator.epsilon == np.finfo(np.float64).eps
    close = {"rtol": 1e-12, "atol": 1e-12 * np.abs(matrix).max()}
    r, Xt_r = operator.sweep(v, u)
    np.testing.assert_allclose(operator.matvec(v), matrix @ v, **close)
    np.testing.assert_allclose(operator.rmatvec(u), matrix.T @ u, **close)
    np.testing.assert_allclose(r, matrix @ v - u, **close)
    np.testing.assert_allclose(Xt_r, matrix.T @ (matrix @ v - u), rtol=1e-12, atol=1e-10)
    for vector in (r, Xt_r, operator.matvec(v), operator.rmatvec(u)):
        assert vector.dtype == np.float64
        vector += 1  # every product is a new array that the caller may change
    np.testing.assert_array_equal(operator.matvec(v), operator.matvec(v))


def test_rates_and_solutions_are_those_of_the_matrix(X):
    matrix = dense(X)
    ours, truth = (tw.rates(tw.LeastSquares(one, TARGETS, l2), 12) for one, l2 in ((X, 0.01), (matrix, 0.01)))
    grid = np.linspace(0.1, 1.5, 5) * truth.stability_rate
    np.testing.assert_allclose(ours.loss(grid, np.arange(13)), truth.loss(grid, np.arange(13)), rtol=1e-11)
    assert ours.stability_rate == pytest.approx(truth.stability_rate, rel=1e-12)
    assert ours.norm(grid[2], 12) == pytest.approx(truth.norm(grid[2], 12), rel=1e-11)
    w = np.random.default_rng(2).standard_normal(matrix.shape[1])
    assert ours.problem.loss(w) == pytest.approx(truth.problem.loss(w), rel=1e-13)
    np.testing.assert_allclose(ours.problem.gradient(w), truth.problem.gradient(w), rtol=1e-11, atol=1e-11)
    rows = np.array([3, 1, 1])
    np.testing.assert_allclose(ours.problem.gradient(w, rows), truth.problem.gradient(w, rows), rtol=1e-6, atol=1e-6)
    tested = ours.generalisation(X, TARGETS).loss(grid[2], 12)
    assert tested == pytest.approx(truth.generalisation(matrix, TARGETS).loss(grid[2], 12), rel=1e-11)


SMALL = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 4.0]]) / 3  # which single precision cannot hold


@pytest.mark.parametrize("kind", ["operator", "torch", "jax", "dask"])
def test_what_needs_entries_fetches_them(kind):
    make = {
        "operator": aslinearoperator,
        "torch": torch_tensor,
        "jax": jax_array,
        "dask": lambda X: dask_array(X, (1, 2)),
    }[kind]
    t = np.array([1.0, 2.0])
    ours, truth = tw.LeastSquares(make(SMALL), t), tw.LeastSquares(SMALL, t)
    np.testing.assert_array_equal(ours.entries("a test"), SMALL)
    np.testing.assert_allclose(ours.minimum_norm_solution(), truth.minimum_norm_solution(), rtol=1e-14)
    assert ours.rank == 2
    assert tw.rates(ours, 3).sgd(1).stability_rate == pytest.approx(tw.rates(truth, 3).sgd(1).stability_rate, rel=1e-12)
    (end,) = tw.limits(ours, ["sgd"]).outcomes
    np.testing.assert_allclose(end.w, truth.minimum_norm_solution(), atol=1e-9)
    if kind == "operator":
        wide, tall = tw.LeastSquares(make(SMALL), t), tw.LeastSquares(make(SMALL.T.copy()), np.ones(3))
        np.testing.assert_array_equal(wide.entries("a test"), SMALL)
        np.testing.assert_array_equal(tall.entries("a test"), SMALL.T)


def test_what_is_stored_by_columns_is_read_by_columns(tmp_path):
    for X in (np.asfortranarray(MATRIX), mapped(tmp_path, MATRIX, "F")):
        assert isinstance(checked_operator(X), ByColumns)
    for X in (MATRIX, MATRIX[:, :1], np.ones((3, 1), order="F"), np.ones((1, 3), order="F")):
        assert isinstance(checked_operator(X), Dense)


def test_an_operator_is_not_wrapped_twice():
    operator = checked_operator(SMALL)
    assert as_operator(operator) is operator
    assert checked_operator(operator) is operator
    assert tw.LeastSquares(operator, [1.0, 2.0]).operator is operator

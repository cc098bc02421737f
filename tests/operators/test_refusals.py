"""What cannot be used as X is refused in one sentence, whatever kind it is of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import thalweg as tw
from thalweg.operators import base, checked_operator

MATRIX = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


class Products:
    """An operator of somebody else's making."""

    def __init__(self, forth=lambda v: MATRIX @ v, back=lambda u: MATRIX.T @ u, shape=(2, 3), dtype=None):
        self.shape, self.dtype, self.matvec = shape, dtype, forth
        if back is not None:
            self.rmatvec = back


def test_an_operator_needs_no_type_of_its_own_and_no_dtype():
    assert checked_operator(Products()).matvec(np.ones(3)).tolist() == [6.0, 15.0]
    columns = Products(lambda v: (MATRIX @ v)[:, None], lambda u: (MATRIX.T @ u)[None])
    assert checked_operator(columns).rmatvec(np.ones(2)).tolist() == [5.0, 7.0, 9.0]


def test_an_operator_may_hand_out_the_same_array_each_time():
    images = np.empty(2), np.empty(3)
    reuses = Products(lambda v: np.matmul(MATRIX, v, out=images[0]), lambda u: np.matmul(MATRIX.T, u, out=images[1]))
    ours, truth = tw.rates(tw.LeastSquares(reuses, [1.0, 2.0]), 2), tw.rates(tw.LeastSquares(MATRIX, [1.0, 2.0]), 2)
    assert ours.best_loss([1, 2]) == pytest.approx(truth.best_loss([1, 2]), rel=1e-12)
    kept = ours.problem.operator.matvec(np.ones(3))
    ours.problem.operator.matvec(np.zeros(3))
    assert kept.tolist() == [6.0, 15.0]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (LinearOperator((2, 3), matvec=lambda v: MATRIX @ v, dtype=float), r"no product X\^T u.* a method rmatvec"),
        (Products(back=None), r"no product X\^T u.* a method rmatvec"),
        (Products(back=lambda u: -MATRIX.T @ u), "do not belong to one matrix.*check rmatvec"),
        (Products(back=lambda u: 1.000001 * MATRIX.T @ u), "do not belong to one matrix"),
        (Products(forth=lambda v: v), r"X v must be 2 real numbers, but matvec gave shape \(3,\)"),
        (Products(forth=lambda v: 1j * MATRIX @ v), "must be 2 real numbers.*complex128"),
        (Products(forth=lambda v: np.full(2, np.nan)), "X v is not finite for a finite vector; check matvec"),
        (Products(lambda v: np.zeros(2), lambda u: np.zeros(3)), "gives zero for a random vector"),
        (Products(shape=(0, 3)), r"at least one row and one column, but its shape is \(0, 3\)"),
        (Products(shape=(2,)), r"at least one row and one column, but its shape is \(2,\)"),
        (aslinearoperator(1j * MATRIX), "must be real, but the type of its products is complex128"),
    ],
)
def test_operators(X, message):
    with pytest.raises(tw.InputError, match=message) as refused:
        tw.LeastSquares(X, [1.0, 2.0])
    assert str(refused.value).count(". ") == 0


def test_an_operator_in_single_precision_is_held_to_that_and_the_answer_says_so():
    single = MATRIX.astype(np.float32)
    inexact = Products(
        lambda v: single @ v.astype(np.float32), lambda u: single.T @ u.astype(np.float32), dtype=np.float32
    )
    curve = tw.rates(tw.LeastSquares(inexact, [1.0, 2.0]), 2)
    assert curve.problem.operator.epsilon == np.finfo(np.float32).eps
    assert "less exact" in curve.table().notes[-1]
    assert "less exact" not in str(tw.rates(tw.LeastSquares(single, [1.0, 2.0]), 2).table().notes)
    assert curve.loss(0.01, 2) == pytest.approx(
        tw.rates(tw.LeastSquares(MATRIX, [1.0, 2.0]), 2).loss(0.01, 2), rel=1e-5
    )


def test_entries_that_are_too_many_to_fetch_are_refused_by_what_needs_them(monkeypatch):
    monkeypatch.setattr(base, "MOST_ENTRIES", 5)
    problem = tw.LeastSquares(aslinearoperator(MATRIX), [1.0, 2.0])
    curve = tw.rates(problem, 2)
    calls = {
        "Limits needs the entries of X in memory, and those of an operator of 2 x 3": lambda: tw.limits(problem),
        "A singular value decomposition needs": problem.minimum_norm_solution,
        "The gradient on a batch needs": lambda: problem.gradient(np.ones(3), np.array([0])),
        "The spectrum of X needs": lambda: curve.sgd(1, exact=True),
    }
    for message, call in calls.items():
        with pytest.raises(tw.InputError, match=message):
            call()
    sgd = curve.sgd(1)
    assert not sgd.exact
    assert "cannot be fetched" in sgd.table().notes[-1]
    stored = tw.LeastSquares(MATRIX, [1.0, 2.0])
    assert stored.stored("a test") is stored


def bad(kind, values):
    values = np.asarray(values)
    if kind == "torch":
        torch = pytest.importorskip("torch", reason="needs torch, which CI installs")
        return torch.tensor(values)
    if kind == "dask":
        array = pytest.importorskip("dask.array", reason="needs dask, which CI installs")
        return array.from_array(values, chunks=(1, 1) if values.ndim == 2 else 1)
    import jax

    with jax.enable_x64(True):
        return jax.numpy.asarray(values)


@pytest.mark.parametrize("kind", ["torch", "jax", "dask"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0], [3.0, np.nan]], r"X\[1, 1\] is nan"),
        ([[1.0, 2.0], [-np.inf, np.nan]], r"X\[1, 0\] is -inf"),
        ([[0.0, 0.0]], "only zeros"),
        ([[1e200, 0.0]], r"holds 1e\+200"),
        ([[1e-200, 0.0]], "nothing larger than 1e-200"),
        ([1.0, 2.0], "two dimensions"),
        (np.empty((0, 2)), "X is empty"),
        ([[1j, 2.0]], "real numbers"),
    ],
)
def test_arrays_elsewhere_are_checked_like_arrays_here(kind, values, message):
    with pytest.raises(tw.InputError, match=message):
        tw.LeastSquares(bad(kind, values), np.ones(len(values)))


def test_targets_may_live_elsewhere_too():
    for kind in ("torch", "jax", "dask"):
        assert tw.LeastSquares(MATRIX, bad(kind, [1.0, 2.0])).t.tolist() == [1.0, 2.0]


def test_what_has_no_values_is_refused():
    import jax

    with pytest.raises(tw.InputError, match="traced by JAX"):
        jax.jit(lambda X: tw.LeastSquares(X, np.ones(2)))(MATRIX)
    torch = pytest.importorskip("torch", reason="needs torch, which CI installs")
    with pytest.raises(tw.InputError, match="meta device"):
        tw.LeastSquares(torch.ones(2, 3, device="meta"), np.ones(2))
    with pytest.raises(tw.InputError, match="pass a sparse one as a SciPy sparse matrix"):
        tw.LeastSquares(torch.eye(2).to_sparse(), np.ones(2))
    array = pytest.importorskip("dask.array", reason="needs dask, which CI installs")
    rows = array.from_array(MATRIX, chunks=1)
    with pytest.raises(tw.InputError, match=r"call X.compute_chunk_sizes\(\) first"):
        tw.LeastSquares(rows[rows[:, 0] > 2], np.ones(1))

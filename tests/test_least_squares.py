"""Solutions, projections and gradients against NumPy's own least squares, whatever the rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import thalweg as tw


@st.composite
def problems(draw):
    """Problems of every shape and rank, the columns on scales up to a thousand apart."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    rank = draw(st.integers(1, min(n, d)))
    X = generator.standard_normal((n, rank)) @ generator.standard_normal((rank, d))
    return X * np.logspace(0, draw(st.integers(0, 3)), d), generator.standard_normal(n), generator.standard_normal(d)


@given(problems())
def test_minimum_norm_and_nearest_solutions_equal_the_pseudo_inverse(problem):
    X, t, w0 = problem
    ours = tw.LeastSquares(X, t)
    pinv = np.linalg.pinv(X, rcond=1e-13)
    size = np.abs(pinv).max() * np.abs(t).max() + np.abs(w0).max()
    np.testing.assert_allclose(ours.minimum_norm_solution(), pinv @ t, rtol=1e-8, atol=1e-9 * size)
    np.testing.assert_allclose(ours.nearest_solution(w0), w0 + pinv @ (t - X @ w0), rtol=1e-8, atol=1e-8 * size)
    assert ours.rank == np.linalg.matrix_rank(X)


@given(problems(), st.floats(1e-3, 10))
def test_with_a_ridge_the_gradient_vanishes_at_the_only_minimiser(problem, l2):
    X, t, w0 = problem
    ours = tw.LeastSquares(X, t, l2)
    stacked = np.vstack([X, np.sqrt(len(t) * l2) * np.eye(X.shape[1])])
    solution = np.linalg.lstsq(stacked, np.concatenate([t, np.zeros(X.shape[1])]), rcond=None)[0]
    np.testing.assert_allclose(ours.minimum_norm_solution(), solution, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(ours.nearest_solution(w0), ours.minimum_norm_solution())


@given(problems(), st.sampled_from([0.0, 0.3]))
def test_the_gradient_is_the_slope_of_the_loss(problem, l2):
    X, t, w = problem
    ours = tw.LeastSquares(X, t, l2)
    gradient = ours.gradient(w)
    for axis in np.eye(len(w)):
        # The loss is quadratic, so the central difference is exact for any step.
        slope = (ours.loss(w + axis) - ours.loss(w - axis)) / 2
        assert gradient @ axis == pytest.approx(slope, rel=1e-8, abs=1e-9 * ours.loss(w + axis))
    rows = np.array([0])
    assert ours.gradient(w, rows) == pytest.approx(tw.LeastSquares(X[rows], t[rows], l2).gradient(w))


@given(problems())
def test_the_row_space_projection_keeps_rows_and_drops_the_rest(problem):
    X, t, w = problem
    ours = tw.LeastSquares(X, t)
    inside = ours.project_onto_row_space(w)
    np.testing.assert_allclose(ours.project_onto_row_space(X[0]), X[0], rtol=1e-9, atol=1e-10 * np.abs(X).max())
    np.testing.assert_allclose(X @ inside, X @ w, rtol=1e-7, atol=1e-8 * np.abs(X).max())
    assert ours.row_space_distance(inside) <= 1e-13 * np.linalg.norm(w) * 8
    assert ours.row_space_distance(w) == pytest.approx(np.linalg.norm(w - inside), rel=1e-6, abs=1e-12)


@given(problems(), st.sampled_from([0.0, 0.5]))
def test_the_stability_rate_is_two_over_the_largest_hessian_eigenvalue(problem, l2):
    X, t, _ = problem
    hessian = 2 * (X.T @ X / len(t) + l2 * np.eye(X.shape[1]))
    expected = 2 / np.linalg.eigvalsh(hessian)[-1]
    assert tw.LeastSquares(X, t, l2).stability_rate == pytest.approx(expected, rel=1e-11)


def test_sparse_and_dense_agree():
    X, t = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]), np.array([1.0, 2.0])
    dense, thin = tw.LeastSquares(X, t), tw.LeastSquares(sparse.coo_array(X), t)
    w = np.array([1.0, -1.0, 0.5])
    assert thin.loss(w) == dense.loss(w)
    np.testing.assert_array_equal(thin.gradient(w), dense.gradient(w))
    np.testing.assert_array_equal(thin.minimum_norm_solution(), dense.minimum_norm_solution())


def test_single_precision_data_decides_the_rank_in_single_precision():
    generator = np.random.default_rng(0)
    X = (generator.standard_normal((20, 3)) @ generator.standard_normal((3, 30))).astype(np.float32)
    assert tw.LeastSquares(X, np.ones(20)).rank == 3


def test_the_start_is_a_copy():
    problem, w0 = tw.LeastSquares([[1.0, 2.0]], [3.0]), np.ones(2)
    problem.start(w0)[0] = 7.0
    assert w0[0] == 1.0
    assert problem.start(None).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, np.nan]], [1.0]), r"X\[0, 1\] is nan"),
        (([[1.0, 2.0]], [np.inf]), r"t\[0\] is inf"),
        (([], []), "X is empty"),
        (([[1.0], [2.0]], [1.0]), "t must have 2 values, one per row of X, but has 1"),
        (([1.0, 2.0], [1.0]), "two dimensions"),
        (([[0.0, 0.0]], [1.0]), "only zeros"),
        (([["a"]], [1.0]), "real numbers"),
        (([[1.0]], [1.0], -1.0), "l2 must be a finite number of at least 0, but it is -1.0"),
        (([[1.0]], [1.0], np.nan), "l2 must be"),
        (([[1.0]], [1.0], "a"), "l2 must be a finite number of at least 0, but it is 'a'"),
        (([[1.0]], [1.0], None), "l2 must be"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments, message):
    with pytest.raises(tw.InputError, match=message):
        tw.LeastSquares(*arguments)

"""The coordinates of the Hessian against the problem they come from: its loss, its residual and its eigenvalues."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import thalweg as tw
from thalweg.learning_rate.coordinates import coordinates, gram


@st.composite
def problems(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d, rank = (draw(st.integers(1, 7)) for _ in range(3))
    X = generator.standard_normal((n, rank)) @ generator.standard_normal((rank, d))
    l2 = draw(st.sampled_from([0.0, 0.05, 2.0]))
    w0 = draw(st.sampled_from([0.0, 1.0])) * generator.standard_normal(d)
    return tw.LeastSquares(X, generator.standard_normal(n), l2), w0


@settings(max_examples=80, deadline=None)
@given(problems(), st.booleans())
def test_they_give_back_the_loss_and_the_curvatures(case, rows):
    problem, w0 = case
    at = coordinates(problem, w0, rows=rows)
    assert at.floor + at.start @ at.start / at.n + at.outside == pytest.approx(problem.loss(w0), rel=1e-9)
    assert at.floor == pytest.approx(problem.loss(problem.minimum_norm_solution()), rel=1e-9, abs=1e-12)
    hessian = 2 * (problem.X.T @ problem.X / problem.n + problem.l2 * np.eye(problem.d))
    truth = np.linalg.eigvalsh(hessian)[-problem.rank :]
    np.testing.assert_allclose(np.sort(at.curvatures), truth, rtol=1e-9, atol=1e-13 * truth[-1])


@settings(max_examples=80, deadline=None)
@given(problems())
def test_the_rows_give_back_the_residual_and_the_part_of_the_least_one(case):
    problem, w0 = case
    at = coordinates(problem, w0, rows=True)
    scale = np.linalg.norm(problem.t) + np.linalg.norm(problem.residual(w0))
    np.testing.assert_allclose(at.rows @ np.append(at.start, 1.0), problem.residual(w0), atol=1e-8 * scale)
    np.testing.assert_allclose(at.rows[:, :-1].T @ at.rows[:, -1], at.rest, atol=1e-8 * scale)
    assert at.rest_square == pytest.approx(at.rows[:, -1] @ at.rows[:, -1], rel=1e-9, abs=1e-12 * scale**2)
    np.testing.assert_allclose(np.sum(at.rows[:, :-1] ** 2, axis=0), at.share, rtol=1e-8)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_sparse_single_precision_and_dense_agree(shape):
    generator = np.random.default_rng(0)
    X = generator.standard_normal(shape) * (generator.random(shape) < 0.5)
    t, w0 = generator.standard_normal(shape[0]), generator.standard_normal(shape[1])
    for rows in (False, True):
        dense = coordinates(tw.LeastSquares(X, t, 0.1), w0, rows=rows)
        for other, tolerance in ((sparse.csr_array(X), 1e-10), (X.astype(np.float32), 1e-5)):
            ours = coordinates(tw.LeastSquares(other, t, 0.1), w0, rows=rows)
            for name in ("curvatures", "share", "floor", "outside", "rest_square"):
                np.testing.assert_allclose(getattr(ours, name), getattr(dense, name), rtol=tolerance, err_msg=name)
            np.testing.assert_allclose(ours.start**2, dense.start**2, rtol=100 * tolerance)


def test_the_part_outside_the_row_space_shrinks_without_noise():
    problem = tw.LeastSquares([[1.0, 0.0]], [0.0], 0.5)
    at = coordinates(problem, np.array([0.0, 2.0]), rows=False)
    assert at.outside == 2.0
    assert at.outside_after(np.array([[0.1]]), 2).ravel() == pytest.approx([2.0, 2.0 * 0.9**2, 2.0 * 0.9**4])
    assert dataclasses.replace(at, l2=0.0, outside=0.0).outside_after(np.array([[0.1]]), 1).tolist() == [[0.0, 0.0]]


def test_the_gram_matrix_is_made_in_blocks(monkeypatch):
    monkeypatch.setattr("thalweg.learning_rate.coordinates._BLOCK_ENTRIES", 10)
    X = np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)
    np.testing.assert_allclose(gram(X), X.astype(float) @ X.T.astype(float), rtol=1e-13)

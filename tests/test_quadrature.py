"""The measure against the singular value decomposition, moment by moment, however X is stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from scipy import sparse

from thalweg.operators import checked_operator
from thalweg.quadrature import Run, largest_singular_value, measure


def exact_moments(X, residual, count):
    """`a^T (X X^T)^m a` for m = 0 .. count - 1, by literal products in long double."""
    X, vector = X.astype(np.longdouble), residual.astype(np.longdouble)
    gram, moments = X @ X.T, []
    for _ in range(count):
        moments.append(residual @ vector)
        vector = gram @ vector
    return np.array(moments)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 8))
def test_t_steps_integrate_every_polynomial_of_degree_two_t_exactly(seed, n, d, steps):
    generator = np.random.default_rng(seed)
    X, residual = generator.standard_normal((n, d)), generator.standard_normal(n)
    seen = measure(X, residual, steps)
    ours = np.array([np.sum(seen.weights * seen.nodes**power) for power in range(2 * steps + 1)])
    np.testing.assert_allclose(ours, exact_moments(X, residual, 2 * steps + 1).astype(float), rtol=1e-10)
    assert np.all(seen.nodes >= 0)
    assert np.all(np.diff(seen.nodes) >= 0)
    assert np.all(seen.weights >= 0)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_a_shift_is_rows_of_x(seed, shift):
    generator = np.random.default_rng(seed)
    X, residual = generator.standard_normal((5, 3)), generator.standard_normal(8)
    ours, stacked = measure(X, residual, 3, shift=shift), measure(np.vstack([X, shift * np.eye(3)]), residual, 3)
    np.testing.assert_allclose(ours.nodes, stacked.nodes, rtol=1e-9, atol=1e-12 * stacked.nodes[-1])
    np.testing.assert_allclose(ours.weights, stacked.weights, rtol=1e-6, atol=1e-12 * stacked.weights.sum())


def test_the_storage_of_x_does_not_matter(tmp_path):
    generator = np.random.default_rng(3)
    X, residual = generator.standard_normal((3000, 70)), generator.standard_normal(3000)
    X[np.abs(X) < 1] = 0
    np.save(tmp_path / "X.npy", X)
    stored = [sparse.csr_array(X), np.asfortranarray(X), np.load(tmp_path / "X.npy", mmap_mode="r")]
    truth = measure(X, residual, 5)
    for other in stored:
        same = measure(other, residual, 5)
        np.testing.assert_allclose(same.nodes, truth.nodes, rtol=1e-12, atol=1e-13 * truth.nodes[-1])
        np.testing.assert_allclose(same.weights, truth.weights, rtol=1e-11)


def test_single_precision_is_multiplied_in_double():
    generator = np.random.default_rng(4)
    X, residual = generator.standard_normal((40, 30)).astype(np.float32), generator.standard_normal(40)
    np.testing.assert_array_equal(measure(X, residual, 6).nodes, measure(X.astype(float), residual, 6).nodes)


def test_a_run_that_has_seen_everything_stops():
    X = np.diag([1.0, 2.0, 3.0])
    seen = measure(X, np.array([1.0, 1.0, 0.0]), 50)
    assert seen.exhausted
    np.testing.assert_allclose(seen.nodes[-2:], [1.0, 4.0], rtol=1e-14)
    assert not measure(X, np.array([1.0, 1.0, 1.0]), 2).exhausted


def test_a_residual_that_x_cannot_touch_is_all_weight_at_zero():
    seen = measure(np.array([[1.0], [1.0]]), np.array([1.0, -1.0]), 4)
    assert seen.exhausted
    assert seen.nodes.tolist() == [0.0]
    assert seen.weights == pytest.approx([2.0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0, 3))
def test_the_largest_singular_value_is_converged(seed, n, d, decades):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, d)) * np.logspace(0, -decades, d)
    assert largest_singular_value(X) == pytest.approx(np.linalg.norm(X, 2), rel=1e-13)


def test_noise_of_a_lower_precision_does_not_keep_the_largest_singular_value_from_settling():
    """An operator whose products are single: their noise goes on to move the largest node, by more than doubles see."""
    generator = np.random.default_rng(0)
    X, asked = generator.standard_normal((120, 90)), []

    class Single:
        shape, dtype = X.shape, np.float32

        def matvec(self, v):
            asked.append(1)
            return X @ v * (1 + 1e-7 * generator.standard_normal(120))

        def rmatvec(self, u):
            return X.T @ u * (1 + 1e-7 * generator.standard_normal(90))

    assert largest_singular_value(checked_operator(Single())) == pytest.approx(np.linalg.norm(X, 2), rel=1e-5)
    assert len(asked) < 300


def test_the_largest_singular_value_of_a_crowded_spectrum_is_converged():
    X = np.random.default_rng(0).standard_normal((600, 900))
    assert largest_singular_value(X) == pytest.approx(np.linalg.norm(X, 2), rel=1e-13)


def exact_measure(run, digits=60):
    """Nodes, ascending, and weights of the run's bidiagonal matrix, worked out in many digits."""
    with mp.workdps(digits):
        B = mp.zeros(run.done + 1, run.done)
        for step, (diagonal, below) in enumerate(zip(run._diagonals, run._belows, strict=True)):
            B[step, step], B[step + 1, step] = mp.mpf(diagonal), mp.mpf(below)
        nodes, vectors = mp.eigsy(B * B.T)
        ends = [vectors[0, column] ** 2 * mp.mpf(run._total) for column in range(run.done + 1)]
        return np.array([float(abs(node)) for node in nodes]), np.array([float(end) for end in ends])


@pytest.mark.parametrize("seed", range(3))
def test_small_nodes_are_right_to_the_last_digit_where_they_are_asked_for(seed):
    X = np.diag(np.logspace(0, -5, 40))
    run = Run(X, np.random.default_rng(seed).standard_normal(40) * np.logspace(-3, 0, 40))
    run.go_on(12)
    nodes, weights = exact_measure(run)
    fine, coarse = run.measure(finely=True), run.measure()
    np.testing.assert_allclose(fine.nodes[1:], nodes[1:], rtol=3e-16)
    assert np.max(np.abs(coarse.nodes[1:] / nodes[1:] - 1)) > 1e-13
    assert fine.nodes[0] < 1e-30
    np.testing.assert_allclose(fine.weights, weights, rtol=1e-10)


def test_fine_nodes_ascend_also_where_there_are_copies():
    run = Run(np.diag(np.logspace(0, -6, 20)), np.random.default_rng(0).standard_normal(20))
    run.go_on(60)
    fine, coarse = run.measure(finely=True), run.measure()
    assert np.all(np.diff(fine.nodes) >= 0)
    assert fine.nodes[-1] == pytest.approx(coarse.nodes[-1], rel=1e-15)
    assert fine.weights.sum() == pytest.approx(coarse.weights.sum(), rel=1e-14)

"""F2.4 to F2.9 against runs in exact fractions and the polynomials in eta that pass through them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.textbook import learning_rate as book

X = np.array([[1.0, 2, 0, -1], [0, 1, 1, 1], [2, 0, 1, 1]])
T = np.array([3.0, -1, 2])
W0 = np.array([1.0, 0, -1, 2])
TENTH = Fraction(1, 10)


def exact_weights(X, t, w0, eta, steps, lam=Fraction(0)):
    """w_T in exact fractions, number by number."""
    rows = [[Fraction(x) for x in row] for row in X.tolist()]
    targets, w = [Fraction(x) for x in t.tolist()], [Fraction(x) for x in w0.tolist()]
    for _ in range(steps):
        residuals = [sum(x * v for x, v in zip(row, w, strict=True)) - y for row, y in zip(rows, targets, strict=True)]
        columns = zip(*rows, strict=True)
        g = [2 * sum(x * r for x, r in zip(column, residuals, strict=True)) / len(rows) for column in columns]
        w = [v - eta * (slope + 2 * lam * v) for v, slope in zip(w, g, strict=True)]
    return w


def exact_loss(X, t, w0, eta, steps, lam=Fraction(0)):
    w = exact_weights(X, t, w0, eta, steps, lam)
    residuals = [
        sum(Fraction(x) * v for x, v in zip(row, w, strict=True)) - Fraction(y) for row, y in zip(X, t, strict=True)
    ]
    return sum(r * r for r in residuals) / len(residuals) + lam * sum(v * v for v in w)


def exact_derivatives(X, t, w0, eta, steps, lam=Fraction(0)):
    """dL_T/d eta and d2L_T/d eta2: those of the polynomial of degree 2T through 2T + 1 runs, in exact fractions."""
    rates = [eta + Fraction(k, 7) for k in range(2 * steps + 1)]
    table = [exact_loss(X, t, w0, rate, steps, lam) for rate in rates]
    coefficients = []  # Newton's divided differences
    for order in range(len(rates)):
        coefficients.append(table[0])
        table = [(b - a) / (rates[i + order + 1] - rates[i]) for i, (a, b) in enumerate(pairwise(table))]
    value, slope, curvature = Fraction(0), Fraction(0), Fraction(0)
    for coefficient, rate in zip(reversed(coefficients), reversed(rates), strict=True):
        curvature = curvature * (eta - rate) + 2 * slope
        slope = slope * (eta - rate) + value
        value = value * (eta - rate) + coefficient
    return slope, curvature


def numbers(values):
    return [float(value) for value in values]


integers = st.integers(-3, 3)
problems = st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(
    lambda shape: st.lists(
        integers, min_size=sum(shape) + shape[0] * shape[1], max_size=sum(shape) + shape[0] * shape[1]
    ).map(
        lambda v: (
            np.array(v[: shape[0] * shape[1]], float).reshape(shape),
            np.array(v[shape[0] * shape[1] : -shape[1]], float),
            np.array(v[-shape[1] :], float),
        )
    )
)
rates = st.fractions(min_value=-1, max_value=1, max_denominator=16)


def close(computed, exact):
    """Equal but for rounding, whose size is set by the terms that cancel."""
    np.testing.assert_allclose(computed, np.asarray(exact, dtype=float), rtol=1e-9, atol=1e-8)


def test_loss_gradient_and_hessian_belong_together():
    lam = Fraction(1, 4)
    w = [Fraction(v) for v in W0.tolist()]
    assert book.loss(X, T, 0.25, W0) == float(exact_loss(X, T, W0, TENTH, 0, lam))
    # A step of rate 1 from w0 is w0 minus the gradient.
    gradient = [a - b for a, b in zip(w, exact_weights(X, T, W0, Fraction(1), 1, lam), strict=True)]
    np.testing.assert_allclose(book.gradient(X, T, 0.25, W0), numbers(gradient), rtol=1e-14)
    zero = book.gradient(X, T, 0.25, np.zeros(4))
    columns = [book.gradient(X, T, 0.25, e) - zero for e in np.eye(4)]
    np.testing.assert_allclose(book.hessian(X, 0.25), columns, rtol=1e-13, atol=1e-14)


def test_letters_of_the_board():
    """a, K and S by hand for X = [[1, 2], [0, 1]], t = (3, 2), w = (1, 1), eta = 1/4, n = 2."""
    X, t, w = np.array([[1.0, 2], [0, 1]]), np.array([3.0, 2]), np.array([1.0, 1])
    np.testing.assert_array_equal(book.residual(X, t, w), [0, -1])
    np.testing.assert_array_equal(book.gram(X), [[5, 2], [2, 1]])
    np.testing.assert_array_equal(book.scaled_gram(X, 0.25), [[1.25, 0.5], [0.5, 0.25]])


@settings(deadline=None, max_examples=25)
@given(problems, rates)
def test_one_step(problem, eta):
    """F2.4."""
    close(book.one_step_weights(*problem, float(eta)), numbers(exact_weights(*problem, eta, 1)))
    close(book.one_step_loss(*problem, float(eta)), exact_loss(*problem, eta, 1))


@settings(deadline=None, max_examples=25)
@given(problems, rates)
def test_one_step_derivatives(problem, eta):
    """F2.5: exact, and convex."""
    slope, curvature = exact_derivatives(*problem, eta, 1)
    close(book.one_step_slope(*problem, float(eta)), slope)
    close(book.one_step_curvature(*problem), curvature)
    X, t, w0 = problem
    assert (curvature > 0) == bool((X @ X.T @ (X @ w0 - t)).any())


@settings(deadline=None, max_examples=25)
@given(problems)
def test_best_one_step_rate_is_the_vertex_of_the_parabola(problem):
    """F2.6, in both forms."""
    X, t, w0 = problem
    slope, curvature = exact_derivatives(X, t, w0, Fraction(0), 1)
    if curvature == 0:
        return
    close(book.best_one_step_rate(X, t, w0), -slope / curvature)
    close(book.best_rate_along_gradient(book.gradient(X, t, 0.0, w0), book.hessian(X, 0.0)), -slope / curvature)


@settings(deadline=None, max_examples=25)
@given(problems, rates, st.integers(1, 4))
def test_steps_of_the_run(problem, eta, steps):
    """F2.7: weights, residual and loss after T steps."""
    X, t, w0 = problem
    w = np.array(numbers(exact_weights(X, t, w0, eta, steps)))
    scale = 1 + np.abs(w).max() * np.abs(X).max()
    for computed, exact in (
        (book.descend(X, t, w0, float(eta), steps), w),
        (book.weights_after(X, t, w0, float(eta), steps), w),
        (book.residual_after(X, t, w0, float(eta), steps), X @ w - t),
    ):
        np.testing.assert_allclose(computed, exact, rtol=1e-9, atol=1e-11 * scale)
    loss = float(exact_loss(X, t, w0, eta, steps))
    np.testing.assert_allclose(book.loss_after(X, t, w0, float(eta), steps), loss, rtol=1e-9, atol=1e-11 * scale)
    np.testing.assert_allclose(
        book.loss_after_as_product(X, t, w0, float(eta), steps), loss, rtol=1e-9, atol=1e-11 * scale**2
    )


def test_descend_with_weight_decay():
    np.testing.assert_allclose(
        book.descend(X, T, W0, 0.1, 3, 0.25), numbers(exact_weights(X, T, W0, TENTH, 3, Fraction(1, 4))), rtol=1e-13
    )
    np.testing.assert_array_equal(book.descend(X, T, W0, 0.1, 3), book.descend(X, T, W0, 0.1, 3, 0.0))


def test_two_and_three_steps():
    """F2.7: 2I - S and 3I - 3S + S^2."""
    np.testing.assert_allclose(
        book.two_step_weights(X, T, W0, 0.1), numbers(exact_weights(X, T, W0, TENTH, 2)), rtol=1e-13
    )
    np.testing.assert_allclose(
        book.three_step_weights(X, T, W0, 0.1), numbers(exact_weights(X, T, W0, TENTH, 3)), rtol=1e-13
    )


def test_wrong_weights_are_the_wrong_ones_of_the_worked_answer():
    """F2.7, WRONG: with S, then S^2, in place of 2I - S and 3I - 3S + S^2; right for T = 1."""
    a, S = X @ W0 - T, 0.2 / 3 * X @ X.T
    np.testing.assert_allclose(
        book.wrong_weights_after(X, T, W0, 0.1, 1), book.one_step_weights(X, T, W0, 0.1), rtol=1e-14
    )
    np.testing.assert_allclose(book.wrong_weights_after(X, T, W0, 0.1, 2), W0 - 0.2 / 3 * X.T @ S @ a, rtol=1e-13)
    np.testing.assert_allclose(book.wrong_weights_after(X, T, W0, 0.1, 3), W0 - 0.2 / 3 * X.T @ S @ S @ a, rtol=1e-13)
    assert np.abs(book.wrong_weights_after(X, T, W0, 0.1, 2) - book.two_step_weights(X, T, W0, 0.1)).max() > 0.1
    assert np.abs(book.wrong_weights_after(X, T, W0, 0.1, 3) - book.three_step_weights(X, T, W0, 0.1)).max() > 0.1


def test_wrong_loss_takes_the_power_of_the_wrong_matrix():
    """F2.7, WRONG: (1/n) ||a - S^T a||^2. With one eigenvalue it is right where that is 0 or 1, and nowhere else."""
    a, S = X @ W0 - T, 0.2 / 3 * X @ X.T
    assert book.wrong_loss_after(X, T, W0, 0.1, 1) == pytest.approx(book.one_step_loss(X, T, W0, 0.1), rel=1e-13)
    assert book.wrong_loss_after(X, T, W0, 0.1, 3) == pytest.approx(np.sum((a - S @ S @ S @ a) ** 2) / 3, rel=1e-13)
    assert book.wrong_loss_after(X, T, W0, 0.1, 3) != pytest.approx(book.loss_after(X, T, W0, 0.1, 3), rel=0.1)
    one = (np.array([[1.0]]), np.array([1.0]), np.array([0.0]))
    for eigenvalue, agrees in ((0.0, True), (1.0, True), (0.5, False), (2.0, False)):
        pair = book.wrong_loss_after(*one, eigenvalue / 2, 2), book.loss_after(*one, eigenvalue / 2, 2)
        assert (pair[0] == pytest.approx(pair[1], abs=1e-12)) is agrees


@settings(deadline=None, max_examples=25)
@given(problems, rates, st.integers(1, 3))
def test_derivatives_after_any_number_of_steps(problem, eta, steps):
    """F2.8: exact, and never concave."""
    slope, curvature = exact_derivatives(*problem, eta, steps)
    terms = 1 + float(abs(slope)) + float(abs(curvature)) + book.curvature_after(*problem, float(eta) + 1, steps)
    np.testing.assert_allclose(
        book.slope_after(*problem, float(eta), steps), float(slope), rtol=1e-9, atol=1e-12 * terms
    )
    np.testing.assert_allclose(
        book.curvature_after(*problem, float(eta), steps), float(curvature), rtol=1e-9, atol=1e-12 * terms
    )
    assert curvature >= 0


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
@pytest.mark.parametrize("eta", [Fraction(-1, 10), TENTH, Fraction(1, 2)])
def test_derivatives_to_the_last_digits(eta, steps):
    """F2.8 on one problem, where every sign and factor shows."""
    slope, curvature = exact_derivatives(X, T, W0, eta, steps)
    assert book.slope_after(X, T, W0, float(eta), steps) == pytest.approx(float(slope), rel=1e-12)
    assert book.curvature_after(X, T, W0, float(eta), steps) == pytest.approx(float(curvature), rel=1e-12)


def test_strict_convexity_is_a_wrong_claim():
    """F2.8, WRONG: X = [[1]], t = [1], w0 = [0]: K a = -1, yet d2L_2/d eta2 = 0 at the minimiser 1/2."""
    one = (np.array([[1.0]]), np.array([1.0]), np.array([0.0]))
    assert book.wrong_claim_strictly_convex(*one) is True
    assert book.wrong_claim_strictly_convex(np.array([[1.0, 0], [0, 0]]), np.array([0.0, 1]), np.zeros(2)) is False
    assert exact_derivatives(*one, Fraction(49, 100), 2)[1] == Fraction(192, 10**4)  # 48 (1 - 2 eta)^2
    assert exact_derivatives(*one, Fraction(1, 2), 1)[1] > 0
    assert exact_derivatives(*one, Fraction(1, 2), 2) == (0, 0)


@pytest.mark.parametrize("steps", range(1, 11))
def test_best_rate_is_where_the_exact_slope_changes_sign(steps):
    best = Fraction(book.best_rate(X, T, W0, steps))
    below, above = (
        exact_derivatives(X, T, W0, best + shift, steps)[0] for shift in (Fraction(-1, 10**12), Fraction(1, 10**12))
    )
    assert below < 0 < above


def test_best_rate_is_found_above_and_below_the_one_step_rate():
    """Both branches of the search: the best rate for more steps may lie on either side of that for one."""
    above = (np.array([[1.0, 0], [0, 2]]), np.array([1.0, 3]), np.zeros(2))
    below = (np.array([[1.0, 0], [0, 2]]), np.array([3.0, 1]), np.zeros(2))
    sides = set()
    for problem in (above, below):
        best = book.best_rate(*problem, 5)
        sides.add(best > book.best_one_step_rate(*problem))
        low, high = (exact_derivatives(*problem, Fraction(best) + Fraction(sign, 10**10), 5)[0] for sign in (-1, 1))
        assert low < 0 < high
    assert sides == {True, False}


# F2.9

QUARTER = Fraction(1, 4)


def test_ridge_minimiser_has_no_gradient():
    w = book.ridge_minimiser(X, T, 0.25)
    np.testing.assert_allclose(2 / 3 * X.T @ (X @ w - T) + 0.5 * w, 0, atol=1e-14)


@settings(deadline=None, max_examples=25)
@given(problems, rates, st.integers(0, 3), st.fractions(min_value=Fraction(1, 8), max_value=2, max_denominator=8))
def test_ridge_loss_after_is_the_run(problem, eta, steps, lam):
    """F2.9."""
    exact = float(exact_loss(*problem, eta, steps, lam))
    computed = book.ridge_loss_after(*problem, float(eta), steps, float(lam))
    np.testing.assert_allclose(computed, exact, rtol=1e-9, atol=1e-9)


def test_ridge_loss_has_a_floor():
    """F2.9: what is left after any number of steps is the loss of the minimiser."""
    floor = book.loss(X, T, 0.25, book.ridge_minimiser(X, T, 0.25))
    assert book.ridge_loss_after(X, T, W0, 0.1, 4000, 0.25) == pytest.approx(floor, rel=1e-12)
    assert floor > 0.1


def test_null_space_part_is_what_the_rest_of_w0_does_not_explain():
    """F2.9: start with and without w0's part in the null space of X."""
    null = np.linalg.svd(X)[2][3:]
    inside = W0 - null.T @ (null @ W0)
    for eta, steps, lam in ((TENTH, 2, QUARTER), (Fraction(1, 5), 3, Fraction(1, 2))):
        with_it, without = (
            book.loss(X, T, float(lam), book.descend(X, T, start, float(eta), steps, float(lam)))
            for start in (W0, inside)
        )
        part = book.null_space_loss(X, W0, float(eta), steps, float(lam))
        assert part == pytest.approx(with_it - without, rel=1e-12)
        assert part > 0.01


def test_best_single_step_with_weight_decay():
    """F2.9: g^T g / g^T H g is the vertex of the exact parabola."""
    slope, curvature = exact_derivatives(X, T, W0, Fraction(0), 1, QUARTER)
    rate = book.best_rate_along_gradient(book.gradient(X, T, 0.25, W0), book.hessian(X, 0.25))
    assert rate == pytest.approx(float(-slope / curvature), rel=1e-14)


def test_shifted_eigenvalues_are_wrong():
    """F2.9, WRONG: by hand for X = [[1]], t = [1], w0 = [0], eta = 1, lam = 1: 9, where the run gives 5."""
    one = (np.array([[1.0]]), np.array([1.0]), np.array([0.0]))
    assert book.wrong_ridge_loss_after(*one, 1.0, 1, 1.0) == 9
    assert exact_loss(*one, Fraction(1), 1, Fraction(1)) == 5
    a, shifted = X @ W0 - T, X @ X.T + 3 * 0.25 * np.eye(3)
    step = np.eye(3) - 0.2 / 3 * shifted
    assert book.wrong_ridge_loss_after(X, T, W0, 0.1, 2, 0.25) == pytest.approx(
        np.sum((step @ step @ a) ** 2) / 3, rel=1e-13
    )
    assert book.wrong_ridge_loss_after(X, T, W0, 0.1, 2, 0.0) == pytest.approx(
        book.loss_after(X, T, W0, 0.1, 2), rel=1e-13
    )

"""F1.1 to F1.7 against runs written number by number, exact fractions, complex steps, SVD and Lagrange's conditions."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.textbook import implicit_bias as book

X = np.array([[1.0, 2, 0, -1], [0, 1, 1, 1], [2, 0, 1, 1]])  # no two rows at right angles
T = np.array([3.0, -1, 2])
W0 = np.array([1.0, 0.5, -1, 2])
ZERO = np.zeros(4)
BATCHES = [[0, 1, 2], [1], [0, 2], [2], [1, 2]]
LINE, TARGET = np.array([[1.0, 2.0]]), np.array([3.0])


def number_by_number(X, t, w0, batches, update):
    """A run on Python numbers: update(j, g, memory, step) says what is added to w[j]; every j remembers for itself."""
    rows, targets, w = X.tolist(), t.tolist(), list(w0.tolist())
    memory = [{} for _ in w]
    path = [w]
    for step, batch in enumerate(batches, start=1):
        residuals = {i: sum(a * b for a, b in zip(rows[i], w, strict=True)) - targets[i] for i in batch}
        g = [sum(2 * rows[i][j] * residuals[i] for i in batch) / len(batch) for j in range(len(w))]
        w = [w[j] + update(j, g[j], memory[j], step) for j in range(len(w))]
        path.append(w)
    return np.array(path)


def momentum_rule(eta, delta):
    def update(j, g, memory, step):
        memory["s"] = delta * memory.get("s", 0) - eta * g
        return memory["s"]

    return update


def problems(n_max=3, d_max=4):
    """Small integer problems with their starting point."""

    def build(shape):
        n, d = shape
        entries = st.lists(st.integers(-3, 3), min_size=n * d + n + d, max_size=n * d + n + d)
        return entries.map(
            lambda v: (
                np.array(v[: n * d], float).reshape(n, d),
                np.array(v[n * d : -d], float),
                np.array(v[-d:], float),
            )
        )

    return st.tuples(st.integers(1, n_max), st.integers(1, d_max)).flatmap(build)


# F1.1


def test_loss_is_the_mean_square():
    assert book.loss(np.array([[1.0, 2], [3, 4]]), np.array([1.0, 1]), np.array([1.0, -1])) == (4 + 4) / 2


@given(problems())
def test_gradient_is_the_derivative_of_the_loss(problem):
    X, t, w = problem
    derivative = [np.imag(sum((X @ (w + 1e-30j * e) - t) ** 2)) / len(t) / 1e-30 for e in np.eye(len(w))]
    np.testing.assert_allclose(book.gradient(X, t, w), derivative, rtol=1e-13, atol=1e-12)


def test_batches_of_the_three_kinds_of_run():
    assert book.every_row(X, 2) == [[0, 1, 2], [0, 1, 2]]
    assert book.one_row_each([2, 0, 2]) == [[2], [0], [2]]


def test_gradient_descent_is_the_run_number_by_number():
    truth = number_by_number(X, T, W0, BATCHES, lambda j, g, memory, step: -0.1 * g)
    np.testing.assert_allclose(book.gradient_descent(X, T, W0, 0.1, BATCHES), truth, rtol=1e-13, atol=1e-13)


def test_row_space_ratio_is_the_sine_of_the_angle_to_the_row_space():
    assert book.row_space_ratio(LINE, np.array([5.0, 10])) < 1e-15
    assert book.row_space_ratio(LINE, np.array([-4.0, 2])) == pytest.approx(1, abs=1e-15)
    assert book.row_space_ratio(LINE, np.array([1.0, 1])) == pytest.approx(1 / math.sqrt(10), abs=1e-15)


@given(problems(n_max=2), st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=2), min_size=1, max_size=6))
def test_runs_from_zero_stay_in_the_row_space(problem, batches):
    """F1.1: no vector of the null space ever has anything in common with an iterate."""
    X, t, _ = problem
    batches = [[row % len(X) for row in rows] for rows in batches]
    path = book.gradient_descent(X, t, np.zeros(X.shape[1]), 0.01, batches)
    _, s, Vt = np.linalg.svd(X)
    null = Vt[np.count_nonzero(s > 1e-9) :]
    np.testing.assert_allclose(path @ null.T, 0, atol=1e-12)


# F1.2 and F1.4: the run written out

PAIRS = [part for row in range(3) for part in (X[[row]], T[[row]])]


def test_three_steps_are_the_run():
    """F1.2 with batches of one row (eta = 1/2) and of two rows (eta = 1)."""
    path = number_by_number(X, T, ZERO, [[0], [1], [2]], lambda j, g, memory, step: -0.5 * g)
    np.testing.assert_allclose(book.three_steps(*PAIRS), path[1:], atol=1e-13)
    pairs = [part for rows in ([0, 1], [1, 2], [0, 2]) for part in (X[rows], T[rows])]
    path = number_by_number(X, T, ZERO, [[0, 1], [1, 2], [0, 2]], lambda j, g, memory, step: -1.0 * g)
    np.testing.assert_allclose(book.three_steps(*pairs), path[1:], atol=1e-12)


def test_wrong_third_weights_are_the_wrong_ones_of_the_worked_answer():
    """F1.2: from X = [[1, 2, 0, -1], ...]: Xi^T ti = (3, 6, 0, -3), Xj^T tj = (0, -1, -1, -1), by hand."""
    first, second, x_k, t_k = np.array([3.0, 6, 0, -3]), np.array([0.0, -1, -1, -1]), X[2], 2.0

    def past_k(v):
        return v - x_k * (x_k @ v)

    w2 = first - X[1] * (X[1] @ first) + second
    right = past_k(w2) + x_k * t_k
    middle = book.wrong_third_weights_middle(*PAIRS)
    start = book.wrong_third_weights_start(*PAIRS)
    np.testing.assert_allclose(middle, right - past_k(second) + past_k(first), atol=1e-13)
    np.testing.assert_allclose(start, past_k(first) + x_k * t_k, atol=1e-13)
    assert np.abs(middle - right).max() > 1
    assert np.abs(start - right).max() > 1


runs = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=1, max_size=6)


@given(runs, st.sampled_from([0.05, 0.25, 0.5]))
def test_coefficients_give_the_run_for_any_batches_and_rate(batches, eta):
    C = book.coefficients(X, batches, eta)
    path = number_by_number(X, T, ZERO, batches, lambda j, g, memory, step: -eta * g)
    np.testing.assert_allclose(book.sum_of_products(C, X, T, batches), path[-1], rtol=1e-11, atol=1e-11)
    # They are the same matrices that momentum 0 gives, by another recursion.
    np.testing.assert_allclose(C, book.momentum_coefficients(X, batches, eta, 0.0)[1], rtol=1e-11, atol=1e-11)


@given(runs, st.sampled_from([0.05, 0.25, 0.5]), st.sampled_from([0.25, 0.5, 0.9]))
def test_momentum_coefficients_give_velocity_and_weights(batches, eta, delta):
    V, C = book.momentum_coefficients(X, batches, eta, delta)
    path = number_by_number(X, T, ZERO, batches, momentum_rule(eta, delta))
    np.testing.assert_allclose(book.sum_of_products(C, X, T, batches), path[-1], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(book.sum_of_products(V, X, T, batches), path[-1] - path[-2], rtol=1e-11, atol=1e-11)


def test_displacement_is_the_distance_a_velocity_covers():
    assert book.displacement(Fraction(1, 2), 0) == 0
    assert book.displacement(Fraction(1, 2), 1) == 1
    assert book.displacement(Fraction(1, 2), 3) == Fraction(7, 4)


def test_expansion_of_the_worked_answer_as_latex():
    expected = (
        r"w_{3} = (I - X_{k}^\top X_{k}) (I - X_{j}^\top X_{j}) X_{i}^\top t_{i}"
        r" + (I - X_{k}^\top X_{k}) X_{j}^\top t_{j} + X_{k}^\top t_{k}"
    )
    assert book.expansion_latex("ijk") == expected


TOKEN = re.compile(r"X_\{(\d)\}\^\\top X_\{\1\}|X_\{(\d)\}\^\\top t_\{\2\}|\\delta(?:\^\{(\d)\})?|[cI1()+-]")


def value_of_latex(latex, rate, delta):
    """What an expansion is worth for the rows of X: sums of products of matrices, where numbers are multiples of I."""
    tokens = list(TOKEN.finditer(latex.split(" = ", 1)[1]))
    assert not TOKEN.sub("", latex.split(" = ", 1)[1]).strip()

    def total():
        value = product()
        while tokens and tokens[0][0] in "+-":
            value = value + product() if tokens.pop(0)[0] == "+" else value - product()
        return value

    def product():
        value = factor()
        while tokens and tokens[0][0] not in "+-)":
            value = value @ factor()
        return value

    def factor():
        token = tokens.pop(0)
        if token[0] == "(":
            value = total()
            assert tokens.pop(0)[0] == ")"
            return value
        if token[1] or token[2]:
            row = X[[int(token[1] or token[2])]]
            return row.T @ row if token[1] else row.T * T[int(token[2])]
        number = {"c": rate, "I": 1, "1": 1}.get(token[0], delta ** int(token[3] or 1))
        return number * np.eye(4)

    value = total()
    assert not tokens
    return value[:, 0]


@pytest.mark.parametrize("order", [[0], [1, 0], [0, 1, 2], [2, 2, 0, 1], [1, 0, 2, 0, 1]])
@pytest.mark.parametrize("rate", [1.0, 0.25])
@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_latex_expansion_is_worth_the_literal_run(order, rate, delta):
    """F1.2, F1.4: the text itself, evaluated, gives the run's weights for any order, rate and momentum."""
    latex = book.expansion_latex(
        [str(row) for row in order], rate="1" if rate == 1 else "c", delta=r"\delta" if delta else "0"
    )
    path = number_by_number(X, T, ZERO, [[row] for row in order], momentum_rule(rate / 2, delta))
    np.testing.assert_allclose(value_of_latex(latex, rate, delta), path[-1], rtol=1e-12, atol=1e-12)
    assert latex.startswith(f"w_{{{len(order)}}} = ")


def test_two_momentum_steps_are_the_run_and_velocity_is_not_weights():
    """F1.4, with the wrong version."""
    path = number_by_number(X, T, ZERO, [[0], [1]], momentum_rule(0.5, 0.75))
    s2, w2 = book.two_momentum_steps(*PAIRS[:4], 0.75)
    np.testing.assert_allclose(w2, path[-1], atol=1e-13)
    np.testing.assert_allclose(s2, path[-1] - path[-2], atol=1e-13)
    wrong = book.wrong_momentum_weights(*PAIRS[:4], 0.75)
    np.testing.assert_array_equal(wrong, s2)
    assert np.abs(wrong - w2).max() > 1


# F1.3: the limit


@settings(deadline=None)
@given(problems(n_max=2, d_max=4))
def test_minimum_norm_and_nearest_solution(problem):
    """F1.3: they solve X w = t and have nothing to gain along the null space."""
    X, t, w0 = problem
    if np.linalg.matrix_rank(X) < len(X):
        return
    null = np.linalg.svd(X)[2][len(X) :]
    shortest, nearest = book.minimum_norm(X, t), book.nearest_solution(X, t, w0)
    np.testing.assert_allclose(X @ shortest, t, atol=1e-9)
    np.testing.assert_allclose(X @ nearest, t, atol=1e-9)
    np.testing.assert_allclose(null @ shortest, 0, atol=1e-9)
    np.testing.assert_allclose(null @ (nearest - w0), 0, atol=1e-9)


@pytest.mark.parametrize(
    "run",
    [
        lambda w0: book.gradient_descent(X, T, w0, 0.2, book.every_row(X, 500)),
        lambda w0: book.gradient_descent(X, T, w0, 0.05, book.one_row_each([0, 1, 2] * 400)),
        lambda w0: book.heavy_ball(X, T, w0, 0.1, book.every_row(X, 400), 0.5),
        lambda w0: book.nesterov(X, T, w0, 0.1, book.every_row(X, 400), 0.5),
    ],
    ids=["gd", "sgd", "momentum", "nesterov"],
)
def test_runs_end_at_the_nearest_solution(run):
    """F1.3, F1.4."""
    np.testing.assert_allclose(run(ZERO)[-1], np.linalg.lstsq(X, T)[0], atol=1e-11)
    np.testing.assert_allclose(run(W0)[-1], W0 + np.linalg.lstsq(X, T - X @ W0)[0], atol=1e-11)


# F1.4: momentum


def test_heavy_ball_is_the_run_number_by_number():
    truth = number_by_number(X, T, W0, BATCHES, momentum_rule(0.1, 0.7))
    np.testing.assert_allclose(book.heavy_ball(X, T, W0, 0.1, BATCHES, 0.7), truth, rtol=1e-13, atol=1e-13)


def test_nesterov_is_gradient_steps_from_points_that_run_ahead():
    """F1.4: y_k = w_k + delta (w_k - w_(k-1)) and w_(k+1) = y_k - eta grad(y_k)."""
    before, w, path = W0, W0, [W0]
    for rows in BATCHES:
        y = w + 0.7 * (w - before)
        before, w = w, number_by_number(X, T, y, [rows], lambda j, g, memory, step: -0.1 * g)[-1]
        path.append(w)
    np.testing.assert_allclose(book.nesterov(X, T, W0, 0.1, BATCHES, 0.7), path, rtol=1e-13, atol=1e-13)


# F1.5 to F1.7: scaling by history


@pytest.mark.parametrize("lagged", [False, True])
@pytest.mark.parametrize("G0", [0.0, 0.25])
def test_adagrad_is_the_run_number_by_number(G0, lagged):
    def update(j, g, memory, step):
        G = memory.get("G", G0)
        memory["G"] = G + g**2
        return -0.3 / (math.sqrt(G if lagged else memory["G"]) + 0.125) * g

    truth = number_by_number(X, T, W0, BATCHES, update)
    computed = book.adagrad(X, T, W0, 0.3, BATCHES, eps=0.125, G0=G0, lagged=lagged)
    np.testing.assert_allclose(computed, truth, rtol=1e-12, atol=1e-12)


def test_adagrad_starts_from_an_empty_accumulator():
    np.testing.assert_array_equal(
        book.adagrad(X, T, W0, 0.3, BATCHES, 0.125), book.adagrad(X, T, W0, 0.3, BATCHES, 0.125, G0=0.0, lagged=False)
    )


def test_rmsprop_is_the_run_number_by_number():
    def update(j, g, memory, step):
        memory["G"] = 0.75 * memory.get("G", 0) + 0.25 * g**2
        return -0.3 / (math.sqrt(memory["G"]) + 0.125) * g

    truth = number_by_number(X, T, W0, BATCHES, update)
    computed = book.rmsprop(X, T, W0, 0.3, BATCHES, rho=0.75, eps=0.125)
    np.testing.assert_allclose(computed, truth, rtol=1e-12, atol=1e-12)


def test_adam_averages_what_it_has_seen():
    """F1.6: m_hat and v_hat are weighted means of all gradients and squares so far, weights (1 - beta) beta^age."""

    def mean(values, beta):
        weights = [beta**age for age in range(len(values))][::-1]
        return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)

    def update(j, g, memory, step):
        seen = memory.setdefault("g", [])
        seen.append(g)
        return -0.3 * mean(seen, 0.8) / (math.sqrt(mean([g**2 for g in seen], 0.95)) + 0.125)

    truth = number_by_number(X, T, W0, BATCHES, update)
    computed = book.adam(X, T, W0, 0.3, BATCHES, beta1=0.8, beta2=0.95, eps=0.125)
    np.testing.assert_allclose(computed, truth, rtol=1e-12, atol=1e-12)


def test_adagrad_of_the_worked_example_goes_to_one_one():
    """F1.5: (1, 1) as eps -> 0, 5e-6 off at eps = 1e-4 and eta = 0.5, while w* = (0.6, 1.2)."""
    run = book.every_row(LINE, 200)
    exact = book.adagrad(LINE, TARGET, np.zeros(2), 0.5, run, eps=0)
    np.testing.assert_array_equal(exact[1], [0.5, 0.5])
    np.testing.assert_allclose(exact[-1], [1, 1], atol=1e-14)
    off = np.abs(book.adagrad(LINE, TARGET, np.zeros(2), 0.5, run, eps=1e-4)[-1] - 1).max()
    assert off == pytest.approx(5e-6, rel=0.1)
    np.testing.assert_allclose(book.minimum_norm(LINE, TARGET), [0.6, 1.2], atol=1e-15)


@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=4), st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4)
)
@settings(max_examples=20, deadline=None)
def test_one_example_limit_is_where_adagrad_ends(sizes, signs):
    """F1.5: for one example, from zero, t sign(x) / ||x||_1."""
    x = np.array(sizes, float) * signs[: len(sizes)]
    end = book.adagrad(x[None], np.array([2.0]), 0 * x, 0.5, book.every_row(x[None], 400), eps=0)[-1]
    np.testing.assert_allclose(book.one_example_limit(x, 2.0, 0 * x), end, atol=1e-9)
    np.testing.assert_allclose(end, 2 * np.sign(x) / sum(sizes), atol=1e-9)


def test_one_example_limit_starts_from_anywhere():
    """F1.5; a coordinate whose feature is 0 never has a gradient and stays."""
    np.testing.assert_array_equal(book.one_example_limit(np.array([2.0, 0]), 3.0, np.array([1.0, 5])), [1.5, 5])
    np.testing.assert_allclose(book.one_example_limit(LINE[0], 3.0, np.array([6.0, 12])), [-3, 3], atol=1e-14)


def test_worked_adagrad_step_by_step():
    """F1.5w in the numbers of the worked answer."""
    w1, G, half_gradient, step = book.worked_adagrad(1e-4, 1e-4)
    np.testing.assert_allclose(w1, [6, 12], rtol=1e-14)
    np.testing.assert_array_equal(G, [36, 144])
    np.testing.assert_allclose(half_gradient, [27, 54], rtol=1e-14)
    assert [f"{value:.8f}" for value in step] == ["0.00044999", "0.00045000"]
    np.testing.assert_allclose(step, [1e-4 / 6.0001 * 27, 1e-4 / 12.0001 * 54], rtol=1e-14)
    assert book.row_space_ratio(LINE, w1) < 1e-15
    assert book.row_space_ratio(LINE, step) > 0.3


def test_worked_recursion_with_other_rates():
    """F1.5w: eta = 1, eps = 2: w1 = (3, 6), residual 12, step (1/(6 + 2) 12, 1/(12 + 2) 24)."""
    w1, G, half_gradient, step = book.worked_adagrad(1.0, 2.0)
    np.testing.assert_array_equal(w1, [3, 6])
    np.testing.assert_array_equal(G, [36, 144])
    np.testing.assert_array_equal(half_gradient, [12, 24])
    np.testing.assert_allclose(step, [12 / 8, 24 / 14], rtol=1e-15)


def test_worked_recursion_run_on_heads_to_minus_three_three():
    """F1.5w, WRONG version: the lagged recursion does not go where AdaGrad goes."""
    lagged = book.adagrad(
        LINE, TARGET, np.array([6.0, 12]), 1.0, book.every_row(LINE, 400), eps=0, G0=np.array([36.0, 144]), lagged=True
    )
    np.testing.assert_allclose(lagged[-1], [-3, 3], atol=1e-12)


def test_first_accumulator_squares_the_gradient_not_the_step():
    """F1.5w, WRONG version: (2 eta/(eps n))^2 agrees only while eta = eps."""
    squared = book.gradient(X, T, ZERO) ** 2
    np.testing.assert_allclose(book.first_accumulator(X, T), squared, rtol=1e-14)
    np.testing.assert_allclose(book.wrong_first_accumulator(X, T, 0.3, 0.3), squared, rtol=1e-14)
    np.testing.assert_allclose(book.wrong_first_accumulator(X, T, 0.3, 0.1), 9 * squared, rtol=1e-14)
    np.testing.assert_array_equal(book.first_accumulator(LINE, TARGET), [36, 144])


def test_adaptive_runs_leave_the_row_space_but_for_the_exceptions():
    """F1.6; and n = 2 still stays where all entries have one size, n = 3 no longer does."""

    def ends(X, t):
        zero, run = np.zeros(X.shape[1]), book.every_row(X, 8)
        return [
            book.adagrad(X, t, zero, 0.1, run, eps=1e-8)[-1],
            book.rmsprop(X, t, zero, 0.1, run, rho=0.9, eps=1e-8)[-1],
            book.adam(X, t, zero, 0.1, run, beta1=0.9, beta2=0.999, eps=1e-8)[-1],
        ]

    assert all(book.row_space_ratio(X, w) > 0.05 for w in ends(X, T))
    equal = np.array([[2.0, -2, 2, 2]])
    assert all(book.row_space_ratio(equal, w) < 1e-14 for w in ends(equal, T[:1]))
    square = np.array([[1.0, 2], [3, 1]])
    assert all(book.row_space_ratio(square, w) < 1e-13 for w in ends(square, T[:2]))
    two = np.array([[1.0, 1, 1], [1, 1, -1]])
    assert all(book.row_space_ratio(two, w) < 1e-14 for w in ends(two, T[:2]))
    three = np.array([[1.0, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1]])
    assert all(book.row_space_ratio(three, w) > 1e-3 for w in ends(three, np.array([1.0, 2, 3])))


def test_preconditioned_is_plain_descent_in_other_coordinates():
    """F1.6: with P = C C^T and w = C u, it is gradient descent on u for the data X C."""
    C = np.array([[1.0, 0, 0, 0], [0.5, 2, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0.5]])
    u = number_by_number(X @ C, T, np.linalg.solve(C, W0), BATCHES, lambda j, g, memory, step: -0.1 * g)
    np.testing.assert_allclose(book.preconditioned(X, T, W0, 0.1, BATCHES, C @ C.T), u @ C.T, rtol=1e-11, atol=1e-11)


def test_nearest_solution_in_norm_satisfies_lagranges_conditions():
    """F1.6: P^-1 (w - w0) is a combination of rows, and the preconditioned run ends there."""
    P = np.diag([1.0, 2, 0.5, 1]) + 0.25
    limit = book.nearest_solution_in_norm(X, T, W0, P)
    np.testing.assert_allclose(X @ limit, T, atol=1e-13)
    assert book.row_space_ratio(X, np.linalg.solve(P, limit - W0)) < 1e-13
    run = book.preconditioned(X, T, W0, 0.1, book.every_row(X, 600), P)
    np.testing.assert_allclose(run[-1], limit, atol=1e-11)


def test_steps_to_loss_counts_to_the_first_step_at_most_there():
    """F1.7: losses 9, 4, 1, 4 of w = 0, 1, 2, 1 for X = [1], t = 3."""
    x, t, path = np.array([[1.0]]), np.array([3.0]), np.array([[0.0], [1], [2], [1]])
    assert book.steps_to_loss(x, t, path, 10) == 0
    assert book.steps_to_loss(x, t, path, 4) == 1
    assert book.steps_to_loss(x, t, path, 3.9) == 2
    assert book.steps_to_loss(x, t, path, 0.5) is None


def test_badly_scaled_columns_slow_gradient_descent_down():
    """F1.7 on columns of size 1 and 1000."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(30, 2)) * [1, 1000]
    t = data @ [1.0, 0.001]
    fastest = np.linalg.eigvalsh(2 * data.T @ data / 30)[-1]
    run = book.every_row(data, 3000)
    slow = book.steps_to_loss(data, t, book.gradient_descent(data, t, np.zeros(2), 1 / fastest, run), 0.01)
    fast = book.steps_to_loss(data, t, book.adam(data, t, np.zeros(2), 0.03, run, 0.9, 0.999, 1e-8), 0.01)
    assert slow is None
    assert fast < 1500

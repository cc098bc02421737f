"""The surface against recursions in long double, best rates against the SVD, and the laws both must obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from oracles import FIVE_DATA_SETS, least_squares_data, long_double_losses

STEPS = 1000
TAIL = (200, 500, 1000)


def surface_error(name, number_of_rates):
    """The largest relative error where the loss is above 1e-30 of the first, over rates up to 2.2 / lambda_max."""
    X, t = least_squares_data(name)
    curve = tw.rates(tw.LeastSquares(X, t), STEPS)
    highest = 2.2 / np.linalg.eigvalsh(2 * X.T @ X / len(t))[-1]
    grid = np.linspace(highest / number_of_rates, highest, number_of_rates)
    truth = long_double_losses(X, t, grid, STEPS)
    ours = curve.loss(grid, np.arange(STEPS + 1))
    compared = truth >= 1e-30 * truth[:, :1]
    assert compared.mean() > 0.5, "most of the surface must be above the floor for this test to mean anything"
    return float(np.max(np.abs(ours - truth)[compared] / truth[compared]))


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_the_surface_equals_long_double_recursions(name):
    assert surface_error(name, 12) <= 1e-11


@pytest.mark.long
@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_the_surface_equals_two_hundred_long_double_recursions(name):
    assert surface_error(name, 200) <= 1e-11


@pytest.mark.parametrize("relative_l2", [1e-4, 0.1])
@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_the_surface_with_a_penalty_equals_long_double_recursions(name, relative_l2):
    """l2 in units of the largest eigenvalue of X^T X / n; the start is not zero, so part of it only l2 can shrink."""
    X, t = least_squares_data(name)
    l2 = relative_l2 * float(np.linalg.norm(X, 2)) ** 2 / len(t)
    w0 = np.random.default_rng(3).standard_normal(X.shape[1]) / np.sqrt(X.shape[1])
    curve = tw.rates(tw.LeastSquares(X, t, l2), 100, start=w0)
    grid = np.array([0.03, 0.5, 0.97, 1.1, 2.2]) * curve.stability_rate
    truth = long_double_losses(X, t, grid, 100, l2, w0)
    ours = curve.loss(grid, np.arange(101))
    assert float(np.max(np.abs(ours / truth - 1))) <= 1e-11


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_every_penalty_comes_from_the_same_run(name, monkeypatch):
    """The surface over (l2, rate, step) from one run, against long double; l2 in units of the largest eigenvalue."""
    X, t = least_squares_data(name)
    curve = tw.rates(tw.LeastSquares(X, t), 100)
    unit = float(np.linalg.norm(X, 2)) ** 2 / len(t)
    monkeypatch.setattr(tw.LeastSquares, "residual", None)  # no run begins any more
    for relative_l2 in (1e-10, 1e-3, 0.1, 10.0):
        l2 = relative_l2 * unit
        other = curve.with_l2(l2)
        assert other.stability_rate == pytest.approx(1 / (unit + l2), rel=1e-12)
        grid = np.array([0.03, 0.5, 0.97, 1.1, 2.2]) * other.stability_rate
        truth = long_double_losses(X, t, grid, 100, l2)
        assert float(np.max(np.abs(other.loss(grid, np.arange(101)) / truth - 1))) <= 1e-11


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 10))
def test_another_penalty_is_what_a_run_of_its_own_finds(seed, l2):
    generator = np.random.default_rng(seed)
    X, t = generator.standard_normal((5, 4)), generator.standard_normal(5)
    same, own = tw.rates(tw.LeastSquares(X, t), 6).with_l2(l2), tw.rates(tw.LeastSquares(X, t, l2), 6)
    grid = np.linspace(0, 1.2, 7) * own.stability_rate
    np.testing.assert_allclose(same.loss(grid, range(7)), own.loss(grid, range(7)), rtol=1e-10)
    np.testing.assert_allclose(same.norm(grid, range(7)), own.norm(grid, range(7)), rtol=1e-7, atol=1e-12)
    assert same.best_rate(4) == pytest.approx(own.best_rate(4), rel=1e-6)
    assert same.momentum().loss(grid[3], 0.5, 6) == pytest.approx(own.momentum().loss(grid[3], 0.5, 6), rel=1e-10)


def best_rate_by_svd(X, t, step):
    """The zero of the derivative, by bisection in long double on the exact singular values."""
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    h = (2 * s**2 / len(t)).astype(np.longdouble)
    weight = ((U.T @ t) ** 2).astype(np.longdouble)
    low, high = 1 / h.max(), 1 / h.min()
    for _ in range(200):
        middle = (low + high) / 2
        base = 1 - middle * h
        scaled = base / np.abs(base).max()
        slope = np.sum(weight * h * scaled ** (2 * step - 1))
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(low)


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_best_rates_equal_those_of_the_singular_value_decomposition(name):
    X, t = least_squares_data(name)
    curve = tw.rates(tw.LeastSquares(X, t), STEPS)
    for step in (1, 2, 3, 5, 10, 20, 50, 100, *TAIL):
        assert curve.best_rate(step) == pytest.approx(best_rate_by_svd(X, t, step), rel=1e-12)


def test_a_loss_that_has_reached_its_floor_does_not_disturb_the_best_rate():
    # 500 examples, 20 well-conditioned features: after 200 steps all that is left is the floor, a node at zero that
    # rounding would move to 1e-17 and that would then pull the best rate away.
    generator = np.random.default_rng(5)
    X, t = generator.standard_normal((500, 20)), generator.standard_normal(500)
    curve = tw.rates(tw.LeastSquares(X, t), STEPS)
    for step in TAIL:
        assert curve.best_rate(step) == pytest.approx(best_rate_by_svd(X, t, step), rel=1e-12)


def test_the_best_one_step_rate_may_lie_far_above_the_stability_limit():
    X, t = least_squares_data("digits")
    curve = tw.rates(tw.LeastSquares(X, t), 2)
    best = curve.best_rate(1)
    assert best == pytest.approx(len(t) / 2 * (g := X.T @ t) @ g / ((X @ g) @ (X @ g)), rel=1e-13)  # F2.6
    assert best > 8 * curve.stability_rate
    assert curve.loss(best, 1) < 0.6 * curve.loss(curve.stability_rate, 1)


small = st.integers(1, 6)


@st.composite
def problems(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(small), draw(small)
    return generator.standard_normal((n, d)), generator.standard_normal(n), generator.standard_normal(d)


@given(problems(), st.floats(0, 2), st.sampled_from([0.0, 0.01, 1.0]))
def test_ridge_and_any_start_follow_the_literal_run(problem, relative_rate, l2):
    X, t, w0 = problem
    curve = tw.rates(tw.LeastSquares(X, t, l2), 12, start=w0)
    rate = relative_rate * curve.stability_rate
    truth = long_double_losses(X, t, [rate], 12, l2, w0)[0]
    np.testing.assert_allclose(curve.loss(rate, np.arange(13)), truth.astype(float), rtol=1e-10, atol=1e-13 * truth[0])


@given(problems(), st.floats(0.01, 100), st.floats(0.01, 100))
def test_scaling_the_target_scales_the_loss_and_scaling_the_features_scales_the_rate(problem, target, feature):
    X, t, _ = problem
    plain, scaled = tw.rates(tw.LeastSquares(X, t), 5), tw.rates(tw.LeastSquares(feature * X, target * t), 5)
    assert scaled.best_rate(3) == pytest.approx(plain.best_rate(3) / feature**2, rel=1e-7)
    rate = 0.7 * plain.stability_rate
    assert scaled.loss(rate / feature**2, 5) == pytest.approx(target**2 * plain.loss(rate, 5), rel=1e-9, abs=1e-20)


@given(problems())
def test_rotating_the_features_and_reordering_the_examples_change_nothing(problem):
    X, t, _ = problem
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((X.shape[1],) * 2))[0]
    order = np.random.default_rng(1).permutation(len(t))
    plain, turned = tw.rates(tw.LeastSquares(X, t), 8), tw.rates(tw.LeastSquares((X @ rotation)[order], t[order]), 8)
    grid = np.linspace(0, 1.2, 7) * plain.stability_rate
    np.testing.assert_allclose(
        turned.loss(grid, [0, 1, 4, 8]), plain.loss(grid, [0, 1, 4, 8]), rtol=1e-9, atol=1e-13 * plain.initial_loss
    )


@given(problems(), st.integers(1, 6), st.floats(0.05, 1.8))
def test_derivatives_equal_those_of_the_polynomial(problem, step, relative_rate):
    """L_t is a polynomial in the rate: its coefficients come from literal powers of K, its derivatives from them."""
    X, t, _ = problem
    curve = tw.rates(tw.LeastSquares(X, t), 6)
    rate = relative_rate * curve.stability_rate
    identity, S = np.eye(len(t)), 2 * rate / len(t) * X @ X.T
    K, power = X @ X.T, np.linalg.matrix_power
    first = -4 * step / len(t) ** 2 * t @ power(identity - S, 2 * step - 1) @ K @ t
    second = 8 * step * (2 * step - 1) / len(t) ** 3 * t @ power(identity - S, 2 * step - 2) @ K @ K @ t
    # Odd powers cancel: their rounding is that of the sum of magnitudes, which is the second derivative times the rate.
    scale = second * rate + 4 * step / len(t) ** 2 * t @ K @ t
    assert curve.derivative(rate, step) == pytest.approx(first, rel=1e-9, abs=1e-11 * scale)
    assert curve.second_derivative(rate, step) == pytest.approx(second, rel=1e-8, abs=1e-11 * scale / rate)
    assert curve.derivative(rate, 0) == 0
    assert curve.second_derivative(rate, 0) == 0


@given(problems(), st.integers(1, 6))
def test_the_best_rate_is_the_minimum_of_a_convex_curve(problem, step):
    X, t, _ = problem
    curve = tw.rates(tw.LeastSquares(X, t), 6)
    best = curve.best_rate(step)
    least = curve.loss(best, step)
    around = best * np.linspace(0.5, 1.5, 41)
    losses = curve.loss(around, step)
    assert np.all(losses >= least * (1 - 1e-9) - 1e-25 * curve.initial_loss)
    assert np.all(np.diff(losses, 2) >= -1e-12 * losses.max())
    assert curve.best_loss(step) == least


def test_divergent_rates_have_finite_logarithms_and_infinite_losses():
    curve = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), STEPS)
    rate = 1e6 * curve.stability_rate
    assert curve.log10_loss(rate, STEPS) == pytest.approx(2 * STEPS * np.log10(2e6 - 1) - np.log10(2), rel=1e-12)
    assert curve.loss(rate, STEPS) == np.inf
    assert curve.derivative(rate, STEPS) == np.inf
    assert curve.second_derivative(rate, STEPS) == np.inf


def test_one_curvature_is_solved_in_one_step_and_gives_minus_infinity_not_nan():
    curve = tw.rates(tw.LeastSquares([[1.0, 2.0]], [3.0]), 5)
    assert curve.best_rate([1, 2, 5]) == pytest.approx([0.1, 0.1, 0.1], rel=1e-15)
    assert curve.stability_rate == pytest.approx(0.2, rel=1e-14)
    assert curve.loss(0.1, [0, 1, 5]) == pytest.approx([9.0, 0.0, 0.0], rel=1e-14, abs=1e-30)
    assert not np.isnan(curve.log10_loss([0.0, 0.1, 0.2], [0, 1, 2])).any()


def test_an_exhausted_run_answers_for_any_number_of_steps():
    curve = tw.rates(tw.LeastSquares([[1.0, 2.0]], [3.0]), 5)
    assert curve.measure.exhausted
    assert curve.loss(0.05, 1000) == pytest.approx(9 * 0.5**2000, rel=1e-11)
    assert curve.best_rate(1000) == pytest.approx(0.1, rel=1e-15)


def test_the_grid_is_outer_and_scalars_give_floats():
    curve = tw.rates(tw.LeastSquares(np.eye(3), [1.0, 2.0, 3.0]), 4)
    assert curve.loss(np.ones((2, 3)), np.arange(4)).shape == (2, 3, 4)
    assert curve.loss([], [1]).shape == (0, 1)
    assert isinstance(curve.loss(0.1, 1), float)
    assert isinstance(curve.best_rate(2), float)
    assert curve.best_loss(np.array([[1, 2], [3, 4]])).shape == (2, 2)


def test_a_direction_too_faint_to_know_is_said_above_the_stability_limit():
    curve = tw.rates(tw.LeastSquares([[1.0, 0.0], [0.0, 10.0]], [1.0, 1e-15]), 100)
    with pytest.warns(RuntimeWarning, match="too small to know"):
        curve.loss(1.5 * curve.stability_rate, 100)
    with pytest.warns(RuntimeWarning, match="too small to know"):
        curve.log10_loss(1.5 * curve.stability_rate, 100)
    curve.figures()  # what nobody asked for by rate and step warns nobody
    curve.loss(0.9 * curve.stability_rate, 100)  # below the limit nothing grows, and nothing is said


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tw.rates(tw.LeastSquares([[1.0]], [1.0]), 0), "steps must be at least 1"),
        (lambda: tw.rates(tw.LeastSquares([[1.0]], [1.0]), 2.5), "steps must be a whole number, but it is 2.5"),
        (lambda: tw.rates(tw.LeastSquares([[1.0]], [1.0]), True), "steps must be a whole number, but it is True"),
        (lambda: tw.rates(tw.LeastSquares([[1.0]], [1.0]), 10**24), "steps must be at most 10,000"),
        (lambda: tw.rates(tw.LeastSquares([[1.0]], [1.0])).with_l2(-1.0), "l2 must be a finite number of at least 0"),
        (lambda: tw.rates(tw.LeastSquares([[1.0]], [1.0], 0.1)).with_l2(1.0), "the same run only where that had none"),
        (lambda: tw.rates(tw.LeastSquares([[1.0]], [1.0]), start=[2.0]).with_l2(1.0), "and started from zero"),
        (lambda: tw.rates(tw.load("1 2 = 3")), r"got a Dataset; pass tw.LeastSquares\(data.X, data.t\)"),
        (lambda: tw.rates(tw.LeastSquares([[1.0]], [0.0])), "every rate is optimal"),
        (lambda: tw.rates(tw.LeastSquares([[1.0, 1.0]], [2.0]), start=[1.0, 1.0]), "every rate is optimal"),
        (lambda: tw.rates(tw.LeastSquares([[1.0], [1.0]], [1.0, -1.0])), "gradient at the start is zero"),
        (lambda: tw.rates(tw.LeastSquares([[1.0]], [1.0]), start=[1.0, 2.0]), "w0 must have 1 values"),
        (lambda: tw.rates(tw.LeastSquares([[1e300]], [1.0])), "1e\\+300"),
        (lambda: tw.rates(tw.LeastSquares([[1e-200]], [1.0])), "1e-200"),
        (lambda: tw.rates(tw.LeastSquares(np.eye(3), [1.0, 2.0, 3.0]), 4).loss(-1.0, 1), "at least 0, but got -1.0"),
        (lambda: tw.rates(tw.LeastSquares(np.eye(3), [1.0, 2.0, 3.0]), 4).loss(np.nan, 1), "got nan"),
        (lambda: tw.rates(tw.LeastSquares(np.eye(3), [1.0, 2.0, 3.0]), 4).loss("a", 1), "must be a number"),
        (lambda: tw.rates(tw.LeastSquares(np.eye(3), [1.0, 2.0, 3.0]), 4).loss(1.0, 1.5), "must be an integer"),
        (lambda: tw.rates(tw.LeastSquares(np.eye(3), [1.0, 2.0, 3.0]), 4).best_rate(0), "Steps run from 1 to 4"),
        (lambda: tw.rates(tw.LeastSquares(np.diag([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]), 2).loss(1.0, 3), "from 0 to 2"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(tw.InputError, match=message):
        call()


def test_the_answer_as_a_dictionary_table_and_pictures():
    curve = tw.rates(tw.LeastSquares(*least_squares_data("diabetes")), 20)
    answer = curve.to_dict()
    assert list(answer) == ["n", "d", "steps", "initial_loss", "stability_rate", "best_rate", "best_loss"]
    assert list(answer["best_rate"]) == list(range(1, 21))
    assert answer["best_loss"][7] == curve.loss(answer["best_rate"][7], 7)
    assert [row[0] for row in curve.table().rows] == [1, 2, 5, 10, 20]
    surface, reached = curve.figures()
    assert np.asarray(surface.data[0].z).shape == (20, 200)
    assert len(reached.data) == 3


def test_the_longest_run_is_answered_for_the_steps_asked_about():
    curve = tw.rates(tw.LeastSquares([[1.0, 2.0], [0.0, 1.0]], [3.0, 2.0]), 10_000)
    assert curve.table().rows[-1][0] == 10_000
    assert set(curve._best) == {row[0] for row in curve.table().rows}, "no other step's best rate is looked for"
    assert len(curve.figure().data[0].y) <= 300


@settings(max_examples=25)
@given(problems())
def test_progress_counts_the_products(problem):
    X, t, _ = problem
    seen = []
    curve = tw.rates(tw.LeastSquares(X, t), 3, progress=seen.append)
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == 3 or curve.measure.exhausted

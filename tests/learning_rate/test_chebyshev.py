"""Chebyshev steps against their closed form, against other rates, and run literally over a spread-out spectrum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thalweg as tw
from thalweg.learning_rate.chebyshev import chebyshev, chebyshev_contraction

intervals = st.tuples(st.floats(1e-3, 1e3), st.floats(1.01, 1e4)).map(lambda pair: (pair[0], pair[0] * pair[1]))


def largest_factor(rates, low, high):
    curvatures = np.linspace(low, high, 20_001)
    return np.abs(np.prod(1 - rates[:, None] * curvatures, axis=0)).max()


@given(intervals, st.integers(1, 12))
def test_no_part_of_the_residual_keeps_more_than_the_contraction(interval, steps):
    expected = chebyshev_contraction(*interval, steps)
    assert largest_factor(chebyshev(*interval, steps), *interval) == pytest.approx(expected, rel=1e-6)


@given(intervals, st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_other_rates_are_worse_in_the_worst_case(interval, steps, seed):
    best = chebyshev(*interval, steps)
    other = best * np.random.default_rng(seed).uniform(0.8, 1.2, steps)
    assert largest_factor(other, *interval) >= chebyshev_contraction(*interval, steps) * (1 - 1e-6)


def run(rates, X):
    """The largest residual on the way and the last one, relative to the first, of plain gradient descent on X w = t."""
    t = X @ np.ones(X.shape[1])
    w, sizes = np.zeros(X.shape[1]), []
    with np.errstate(all="ignore"):
        for rate in rates:
            w = w - rate * (X.T @ (X @ w - t))
            sizes.append(np.linalg.norm(X @ w - t) / np.linalg.norm(t))
    return max(sizes), sizes[-1]


@pytest.mark.parametrize("steps", [1, 2, 3, 100, 128, 500])
def test_many_steps_survive_rounding_in_the_order_given_and_not_in_another(steps):
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.standard_normal((60, 60)))[0] for _ in range(2))
    X = (left * np.geomspace(1, 100, 60)) @ right  # curvatures of half the squared residual from 1 to 1e4
    rates = chebyshev(1.0, 1e4, steps)
    largest, last = run(rates, X)
    assert last <= chebyshev_contraction(1.0, 1e4, steps) * (1 + 1e-6)
    assert largest < 1e4  # kappa
    if steps >= 100:
        for order in (np.sort(rates), np.sort(rates)[::-1]):
            assert not run(order, X)[0] < 1e20


def test_one_step_and_one_curvature():
    assert chebyshev(1.0, 3.0, 1) == pytest.approx([0.5])
    assert chebyshev_contraction(1.0, 3.0, 1) == pytest.approx(0.5)
    assert chebyshev(2.0, 2.0, 3) == pytest.approx([0.5] * 3)
    assert chebyshev_contraction(2.0, 2.0, 3) == 0


def test_the_interval_may_come_from_a_curve():
    generator = np.random.default_rng(0)
    problem = tw.LeastSquares(generator.standard_normal((40, 30)), generator.standard_normal(40), 0.1)
    curve = tw.rates(problem, 30)
    low = 2 * problem.l2
    rates = chebyshev(low, 2 / curve.stability_rate, 30)
    w, best = np.zeros(30), problem.minimum_norm_solution()
    for rate in rates:
        w = w - rate * problem.gradient(w)
    bound = chebyshev_contraction(low, 2 / curve.stability_rate, 30) * np.linalg.norm(best)
    assert np.linalg.norm(w - best) <= bound * (1 + 1e-9)


@pytest.mark.parametrize(
    ("interval", "steps", "message"),
    [
        ((0.0, 1.0), 3, "0 < low <= high, but got 0.0 to 1.0"),
        ((2.0, 1.0), 3, "0 < low <= high"),
        ((1.0, np.inf), 3, "0 < low <= high"),
        ((np.nan, 1.0), 3, "0 < low <= high"),
        ((1.0, 2.0), 0, "steps must be an integer of at least 1, but it is 0"),
        ((1.0, 2.0), 1.5, "steps must be an integer"),
    ],
)
@pytest.mark.parametrize("function", [chebyshev, chebyshev_contraction])
def test_bad_input_is_refused_in_one_sentence(function, interval, steps, message):
    with pytest.raises(tw.InputError, match=message):
        function(*interval, steps)

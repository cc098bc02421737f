"""The quadratic model: its decrease is that of literal gradient descent on it, its best rate that of a fine search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.learning_rate.linearised import Linearisation


def literal(h, g, rate, steps):
    """How far `g w + h w^2 / 2`, summed over coordinates, falls in 80-bit gradient descent from 0."""
    h, g, w = np.longdouble(h), np.longdouble(g), np.zeros(len(h), np.longdouble)
    for _ in range(steps):
        w -= np.longdouble(rate) * (g + h * w)
    return -np.sum(g * w + h * w**2 / 2)


CURVATURES = st.lists(st.sampled_from([0.0, 1e-9, 1e-3, 0.1, 0.7, 1.0, 3.0, -0.2]), min_size=1, max_size=5)


@given(CURVATURES, st.floats(1e-4, 4), st.integers(1, 12), st.integers(0, 99))
def test_the_decrease_is_that_of_literal_steps(h, rate, steps, seed):
    g = np.random.default_rng(seed).standard_normal(len(h))
    expected = literal(h, g, rate, steps)
    model = Linearisation(np.array(h), g**2)
    scale = sum(abs(literal([one], [slope], rate, steps)) for one, slope in zip(h, g, strict=True))
    assert abs(model.decrease(rate, steps) - expected) <= 1e-12 * scale


@given(CURVATURES.filter(lambda h: max(h) > 1e-3), st.integers(1, 12), st.integers(0, 99))
def test_no_rate_is_better_than_the_best(h, steps, seed):
    h = np.abs(np.array(h))
    model = Linearisation(h, np.random.default_rng(seed).standard_normal(len(h)) ** 2)
    best = model.best_rate(steps)
    others = np.concatenate([best * np.geomspace(1e-3, 1e3, 400), best * (1 + np.linspace(-0.01, 0.01, 21))])
    most = float(model.decrease(best, steps))
    assert (np.asarray(model.decrease(others, steps)) <= most * (1 + 1e-12)).all()


def test_one_step_is_the_quotient():
    g, h = np.array([1.0, 2.0, 0.5]), np.array([0.3, 2.0, 0.0])
    assert Linearisation(h, g**2).best_rate(1) == pytest.approx((g @ g) / (g @ (h * g)), rel=1e-14)


def test_the_grid_is_outer_and_overflow_is_a_loss_without_bound():
    model = Linearisation(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    grid = model.decrease([0.1, 0.2, 1e9], [1, 50])
    assert grid.shape == (3, 2)
    assert grid[1, 0] == model.decrease(0.2, 1)
    assert grid[2, 1] == -np.inf


def test_without_positive_curvature_no_rate_is_best():
    assert np.isnan(Linearisation(np.array([0.0, -1.0]), np.array([1.0, 1.0])).best_rate(3))

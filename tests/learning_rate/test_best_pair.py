"""The best pair against a search of another kind: a dense grid of literal recursions, then a simplex from its best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from thalweg.learning_rate.best_pair import best_pair


def literal_loss(kind, curvatures, weights, rate, momentum, steps):
    """The loss of pairs of any one shape, step by step."""
    x = np.asarray(rate)[..., None] * curvatures
    momentum = np.asarray(momentum)[..., None]
    position, velocity = np.ones_like(x), np.zeros_like(x)
    for _ in range(steps):
        at = position + momentum * velocity if kind == "nesterov" else position
        velocity = momentum * velocity - x * at
        position = position + velocity
    return position**2 @ weights


def searched(kind, curvatures, weights, steps):
    rates, momenta = np.meshgrid(np.geomspace(0.02, 30, 160), np.linspace(0, 1, 120), indexing="ij")
    with np.errstate(over="ignore"):
        value = literal_loss(kind, curvatures, weights, rates, momenta, steps)
    best = np.inf
    for index in np.argsort(value, axis=None)[:3]:
        start = np.log(rates.flat[index]), momenta.flat[index]
        bounds = [(-6, 6), (0, 1)]
        found = minimize(
            lambda p: literal_loss(kind, curvatures, weights, np.exp(p[0]), p[1], steps),
            start,
            method="Nelder-Mead",
            bounds=bounds,
            options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 400},
        )
        best = min(best, found.fun)
    return best


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["heavy-ball", "nesterov"]), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_no_search_finds_a_better_pair(kind, steps, seed):
    generator = np.random.default_rng(seed)
    curvatures = np.sort(np.append(10 ** generator.uniform(-1.5, 0, 4), 1.0))
    weights = 10 ** generator.uniform(-2, 0, 5)
    rate, momentum = best_pair(kind, curvatures, weights, steps, (0.0, 1.0), 1.0)
    ours = literal_loss(kind, curvatures, weights, rate, momentum, steps)
    assert ours <= searched(kind, curvatures, weights, steps) * (1 + 1e-9) + 1e-25


def test_two_curvatures_are_solved_exactly_in_two_steps():
    # 1 - (2 + momentum) x + x^2 is zero at both ends when rate = 1 / sqrt(h1 h2): here 2 + momentum = 5 / sqrt(4).
    rate, momentum = best_pair("heavy-ball", np.array([1.0, 4.0]), np.array([0.3, 0.7]), 2, (0.0, 1.0), 0.3)
    assert rate == pytest.approx(0.5, rel=1e-9)
    assert momentum == pytest.approx(0.5, rel=1e-9)


def test_a_first_step_keeps_the_plain_rate_and_the_momentum_nearest_to_none():
    arguments = np.array([1.0, 4.0]), np.array([0.3, 0.7]), 1
    assert best_pair("nesterov", *arguments, (0.0, 1.0), 0.3) == (0.3, 0.0)
    assert best_pair("nesterov", *arguments, (0.2, 1.0), 0.3) == (0.3, 0.2)
    assert best_pair("nesterov", *arguments, (-1.0, -0.5), 0.3) == (0.3, -0.5)

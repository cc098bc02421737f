"""The closure where it is exact, where it is near, and that its estimated spectrum stands for the computed one."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw
from oracles import FIVE_DATA_SETS, least_squares_data
from thalweg.learning_rate import closure as module
from thalweg.learning_rate.closure import Closure, closure
from thalweg.learning_rate.coordinates import coordinates
from thalweg.learning_rate.second_moment import SecondMoment


@pytest.mark.parametrize("l2", [0.0, 0.02])
@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_it_is_exact_without_noise_and_for_one_step_of_equal_residuals(name, l2):
    problem = tw.LeastSquares(*least_squares_data(name), l2)
    curve = tw.rates(problem, 50)
    near = closure(problem, curve.start, curve.measure)
    rates = np.array([0.3, 0.9]) * curve.stability_rate
    np.testing.assert_allclose(near.losses(rates, np.zeros(2), 50), curve.loss(rates, np.arange(51)), rtol=1e-8)
    assert near.stability_rate(0.0) == pytest.approx(curve.stability_rate, rel=1e-12)


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_it_is_exact_for_one_step_where_all_residuals_are_equal(l2):
    # From w0 = 0 the residuals are the targets, of equal squares here.
    X, t = least_squares_data("digits")
    problem = tw.LeastSquares(X[:90], t[:90], l2)
    at = coordinates(problem, np.zeros(64), rows=True)
    rate, spread = np.array([0.05]), np.array([0.25])
    ours, truth = Closure(at).losses(rate, spread, 2)[0], SecondMoment(at).losses(rate, spread, 2)[0]
    assert ours[1] == pytest.approx(truth[1], rel=1e-3)
    assert ours[0] == pytest.approx(truth[0], rel=1e-12)


def test_single_examples_have_twice_one_over_the_trace_as_their_limit():
    X, t = least_squares_data("breast_cancer")
    near = Closure(coordinates(tw.LeastSquares(X, t), np.zeros(30), rows=False))
    assert near.stability_rate(1.0) == pytest.approx(2 / (2 * np.sum(X**2) / len(t)), rel=1e-12)


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_it_is_within_a_few_per_cent_of_the_exact_loss_at_good_rates(name):
    problem = tw.LeastSquares(*least_squares_data(name))
    at = coordinates(problem, np.zeros(problem.d), rows=True)
    exact, near = SecondMoment(at), Closure(at)
    for spread in (1.0, 1 / 8, 1 / 64):
        rates = np.geomspace(0.01, 1, 10) * exact.stability_rate(spread)
        truth = exact.losses(rates, np.full(10, spread), 30)[:, -1]
        ours = near.losses(rates, np.full(10, spread), 30)[:, -1]
        best = truth.argmin()
        assert ours[best] == pytest.approx(truth[best], rel=0.06)


def test_a_spectrum_from_random_probes_stands_for_the_computed_one(monkeypatch):
    generator = np.random.default_rng(3)
    X = generator.standard_normal((500, 700)) * np.geomspace(1, 0.05, 700)
    X += 2.0  # one singular value far above the others
    problem = tw.LeastSquares(X, generator.standard_normal(500))
    curve = tw.rates(problem, 60)
    computed = closure(problem, curve.start, curve.measure)
    monkeypatch.setattr(module, "_DECOMPOSED", 100)
    estimated = closure(problem, curve.start, curve.measure)
    assert estimated._at.rows is None
    assert not np.isclose(len(estimated._at.curvatures), len(computed._at.curvatures), rtol=0.01)
    for spread in (1.0, 0.1, 0.0):
        limit = computed.stability_rate(spread)
        assert estimated.stability_rate(spread) == pytest.approx(limit, rel=0.03)
        rates = np.array([0.1, 0.5]) * limit
        ours, truth = (of.losses(rates, np.full(2, spread), 60) for of in (estimated, computed))
        np.testing.assert_allclose(ours, truth, rtol=0.05)


def test_ridge_needs_a_computed_spectrum(monkeypatch):
    monkeypatch.setattr(module, "_DECOMPOSED", 5)
    problem = tw.LeastSquares(np.ones((10, 10)) + np.eye(10), np.ones(10), 0.1)
    curve = tw.rates(problem, 3)
    with pytest.raises(tw.InputError, match="a side of X of at most 5, and X in memory, but X is an array of 10 x 10"):
        closure(problem, curve.start, curve.measure)


def test_divergence_ends_in_infinity():
    near = Closure(coordinates(tw.LeastSquares(np.eye(3), [1.0, 2.0, 3.0]), np.zeros(3), rows=False))
    losses = near.losses(np.array([1e3, 0.1]), np.array([1.0, 1.0]), 300)
    assert losses[0, -1] == np.inf
    assert not np.isnan(losses).any()

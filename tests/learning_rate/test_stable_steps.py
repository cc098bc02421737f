"""The simulated run against explicit recurrences, LSQR against SciPy's, and why increasing rates never raise a loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import lsqr

import thalweg as tw
from oracles import least_squares_data
from thalweg.learning_rate.stable_steps import Conditions, Spectrum, best_plan, lsqr_losses, simulate

EXACT = Conditions(peak=1.0, rounding=0.0, scale=1.0, examples=10, momentum=False)
DOUBLE = EXACT._replace(rounding=float(np.finfo(np.float64).eps))


@st.composite
def spectra(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(2, 8))
    losses = generator.exponential(size=size)
    return Spectrum(np.sort(10 ** generator.uniform(-2, 0, size)), losses / losses.sum())


def roots_of_the_best_polynomial(spectrum, steps):
    """In the monomials' normal equations, of size `steps`: nothing of ours, and exact enough for three steps."""
    powers = spectrum.curvatures[:, None].astype(np.longdouble) ** np.arange(1, steps + 1)
    root = np.sqrt(spectrum.losses)[:, None]
    coefficients = np.linalg.lstsq((root * powers).astype(float), -root[:, 0])[0]
    return np.sort(np.roots([*coefficients[::-1], 1.0]).real)


@given(spectra(), st.integers(1, 3))
def test_from_the_largest_root_to_the_smallest_the_loss_only_falls(spectrum, steps):
    steps = min(steps, len(spectrum.curvatures) - 1)
    rates = 1 / roots_of_the_best_polynomial(spectrum, steps)[::-1]
    losses = simulate(spectrum, rates, np.zeros(steps), EXACT).losses
    assert np.all(np.diff(losses) <= 1e-9)
    assert losses[-1] == pytest.approx(lsqr_losses(spectrum, steps)[-1], rel=1e-5, abs=1e-12)


@settings(deadline=None)
@given(spectra(), st.integers(1, 3), st.booleans())
def test_a_few_steps_reach_the_ideal(spectrum, steps, momentum):
    ideal = lsqr_losses(spectrum, steps)[-1]
    first = spectrum.losses.sum()
    plan = best_plan(spectrum, steps, DOUBLE._replace(peak=first, momentum=momentum), ideal)
    assert plan.losses[-1] <= 1.01 * ideal + 1e-20
    assert plan.losses.max() <= first
    assert plan.left.sum() == pytest.approx(plan.losses[-1])


def test_a_cap_that_nothing_can_keep_to_gives_no_plan():
    spectrum = Spectrum(np.array([0.1, 1.0]), np.array([0.5, 0.5]))
    assert best_plan(spectrum, 2, DOUBLE._replace(peak=0.99), 0.0) is None


@given(spectra(), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_spread_of_rounding_is_that_of_the_explicit_recurrence(spectrum, steps, seed):
    """Every step's noise carried to the end by literal 2 x 2 products, in long double, one node after the other."""
    generator = np.random.default_rng(seed)
    rates, momenta = generator.uniform(0, 3, steps), generator.uniform(0, 1, steps)
    conditions = DOUBLE._replace(rounding=1e-3, scale=2.0)
    run = simulate(spectrum, rates, momenta, conditions)
    h, top = spectrum.curvatures.astype(np.longdouble), spectrum.curvatures.max()
    exact = [np.sqrt(spectrum.losses)] * 2  # this residual and the one before
    covariance = np.zeros((len(h), 2, 2), np.longdouble)
    left = spectrum.losses
    for step, (rate, momentum) in enumerate(zip(rates, momenta, strict=True)):
        factor = 1 - rate * h + momentum
        everywhere = max(run.losses[step], 2.0) / 10 * (1 + (rate * h) ** 2)
        along = left * (1 + rate * top) ** 2
        matrix = np.array([[[one, -momentum], [1, 0]] for one in factor])
        covariance = matrix @ covariance @ matrix.transpose(0, 2, 1)
        covariance[:, 0, 0] += 1e-6 * (everywhere + along)
        exact = [factor * exact[0] - momentum * exact[1], exact[0]]
        left = exact[0] ** 2 + covariance[:, 0, 0]
        assert run.losses[step + 1] == pytest.approx(float(left.sum()), rel=1e-9)
    np.testing.assert_allclose(run.left, left.astype(float), rtol=1e-9)


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_lsqr_on_the_nodes_is_lsqr_on_the_data(name):
    X, t = least_squares_data(name)
    curve = tw.rates(tw.LeastSquares(X, t), 20)
    spectrum = Spectrum(2 * curve.measure.nodes / len(t), curve.measure.weights / len(t))
    losses = lsqr_losses(spectrum, 20)
    for steps in range(1, 11):
        w = lsqr(X, t, iter_lim=steps, atol=0, btol=0, conlim=0)[0]
        assert losses[steps] == pytest.approx(np.mean((X @ w - t) ** 2), rel=1e-5)
    assert np.all(np.diff(losses) <= 0)


def test_lsqr_stops_at_the_floor():
    spectrum = Spectrum(np.array([0.0, 1.0, 2.0]), np.array([0.25, 0.5, 0.25]))
    losses = lsqr_losses(spectrum, 6)
    assert losses[0] == 1
    assert losses[2:] == pytest.approx([0.25] * 5)

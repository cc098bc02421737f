"""Sums of powers against long double, whether they come from a product of matrices or one by one; best rates too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.learning_rate.spectrum import Spectrum
from thalweg.learning_rate.surface import _Split, best_rates, power_sums, scalar

EVERY_SECOND = list(range(0, 202, 2))
SCATTERED = sorted({int(1.3**exponent) for exponent in range(36)})


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.one_of(st.lists(st.integers(0, 400), min_size=1, max_size=60), st.sampled_from([EVERY_SECOND, SCATTERED])),
)
def test_sums_of_powers_equal_those_in_long_double(seed, size, powers):
    generator = np.random.default_rng(seed)
    curvatures, coefficients = np.sort(generator.exponential(size=size)), generator.exponential(size=size)
    rates = generator.uniform(0, 2.2 / curvatures[-1], 5)
    ours = power_sums(curvatures, coefficients, rates, np.array(powers))
    base = 1 - rates.astype(np.longdouble)[:, None] * curvatures
    terms = coefficients * base[:, None, :] ** np.array(powers)[:, None]
    truth = terms.sum(axis=2)
    # The base is rounded once, a power multiplies that by itself, and odd powers cancel.
    slope = np.array(powers)[:, None] * np.abs(base[:, None, :]) ** np.maximum(np.array(powers)[:, None] - 1, 0)
    scale = 2**-50 * np.sum(coefficients * (slope * (1 + rates[:, None] * curvatures)[:, None, :]), axis=2)
    scale += 2**-48 * np.abs(terms).sum(axis=2)
    assert np.all(np.abs(ours.sign * np.exp(ours.logarithm.astype(np.longdouble)) - truth) <= scale + 1e-300)
    assert not ours.doubtful


def test_consecutive_powers_are_a_product_of_matrices_and_scattered_ones_are_not():
    assert _Split(np.array(EVERY_SECOND)).held < 30
    assert _Split(np.array(SCATTERED)).held == len(SCATTERED)


def test_a_power_that_a_derivative_has_used_up_gives_zero():
    sums = power_sums(np.array([1.0, 2.0]), np.ones(2), np.array([0.1]), np.array([-2, -1, 0, 1]))
    assert sums.sign.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert sums.logarithm[0, 2] == pytest.approx(np.log(2))


@pytest.mark.parametrize("powers", [EVERY_SECOND, SCATTERED])
def test_growth_from_a_faint_coefficient_is_doubtful(powers):
    curvatures, coefficients = np.array([1.0, 100.0]), np.array([1.0, 1e-30])
    assert power_sums(curvatures, coefficients, np.array([0.03]), np.array(powers)).doubtful
    assert not power_sums(curvatures, coefficients, np.array([0.015]), np.array(powers)).doubtful
    assert not power_sums(curvatures, np.array([1.0, 1e-20]), np.array([0.03]), np.array(powers)).doubtful


@given(st.floats(1e-140, 1e140), st.integers(1, 500))
def test_the_best_rate_of_two_curvatures_of_equal_loss_is_between_them_at_any_scale(unit, step):
    # |1 - rate a| = |1 - rate b| weighted alike: for many steps the rate tends to 2 / (a + b).
    (rate,) = best_rates(Spectrum(unit * np.array([1.0, 3.0]), np.ones(2)), np.array([step]))
    assert 1 / 3 < rate * unit < 1
    if step > 300:
        assert rate * unit == pytest.approx(0.5, rel=0.01)


def test_no_steps_have_no_best_rates():
    assert best_rates(Spectrum(np.ones(1), np.ones(1)), np.array([], dtype=int)).shape == (0,)


def test_arrays_without_dimensions_become_numbers():
    assert isinstance(scalar(np.array(2.0)), float)
    assert scalar(np.ones(3)).shape == (3,)

"""Powers of the momentum recurrence against literal powers of its matrix, and their derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.learning_rate.recurrence import log_losses, powers, product

kinds = st.sampled_from(["heavy-ball", "nesterov"])
CURVATURES = np.array([0.0, 1e-6, 0.3, 1.0])


def literal_factor(kind, x, momentum, steps):
    c = momentum * (1 - x) if kind == "nesterov" else momentum
    return np.linalg.matrix_power(np.array([[1 - x, c], [-x, c]]), steps)[0, 0]


@settings(max_examples=60, deadline=None)
@given(kinds, st.floats(0, 3), st.floats(-1, 1.2), st.lists(st.integers(0, 60), min_size=1, max_size=5))
def test_powers_equal_those_of_the_matrix(kind, rate, momentum, steps):
    steps = sorted(steps)
    results = list(powers(kind, CURVATURES, np.array([rate]), np.array([momentum]), steps))
    assert len(results) == len(steps)
    for step, (factor, log_scale) in zip(steps, results, strict=True):
        ours = factor[0, 0] * np.exp(step * log_scale[0])
        truth = np.array([literal_factor(kind, rate * h, momentum, step) for h in CURVATURES])
        np.testing.assert_allclose(ours, truth, rtol=1e-10, atol=1e-12 * max(1.0, np.exp(step * log_scale[0, 0])))


@settings(max_examples=60, deadline=None)
@given(kinds, st.floats(-3, 1), st.floats(0.05, 1.2), st.integers(1, 12))
def test_derivatives_equal_differences(kind, log_rate, momentum, step):
    def at(da, db, derivatives=False):
        (after,) = powers(
            kind, CURVATURES, np.exp([log_rate + da]), np.array([momentum + db]), [step], derivatives=derivatives
        )
        return after.factor[:, 0] * np.exp(step * after.log_scale[0])

    value, by_a, by_b, by_aa, by_ab, by_bb = at(0.0, 0.0, derivatives=True)
    e = 1e-3

    def second_order(stencil):  # Richardson's step, so that the differences are right to the fourth order
        return (4 * stencil(e) - stencil(2 * e)) / 3

    scale = {"rtol": 1e-5, "atol": 1e-5 * max(1.0, np.abs([by_aa, by_ab, by_bb]).max())}
    np.testing.assert_allclose(value, at(0.0, 0.0)[0], rtol=1e-13)
    np.testing.assert_allclose(by_a, second_order(lambda e: (at(e, 0) - at(-e, 0))[0] / (2 * e)), **scale)
    np.testing.assert_allclose(by_b, second_order(lambda e: (at(0, e) - at(0, -e))[0] / (2 * e)), **scale)
    np.testing.assert_allclose(by_aa, second_order(lambda e: (at(e, 0) - 2 * at(0, 0) + at(-e, 0))[0] / e**2), **scale)
    np.testing.assert_allclose(by_bb, second_order(lambda e: (at(0, e) - 2 * at(0, 0) + at(0, -e))[0] / e**2), **scale)
    np.testing.assert_allclose(
        by_ab,
        second_order(lambda e: (at(e, e) - at(e, -e) - at(-e, e) + at(-e, -e))[0] / (4 * e**2)),
        **scale,
    )


def test_products_of_polynomials():
    # (a + b)(a b) = a^2 b + a b^2 at a = 2, b = 3
    f, g = np.array([5.0, 1, 1, 0, 0, 0]), np.array([6.0, 3, 2, 0, 1, 0])
    assert product(f[:, None], g[:, None]).ravel().tolist() == [30.0, 21.0, 16.0, 6.0, 10.0, 4.0]
    assert product(f[:1], g[:1]).tolist() == [30.0]


def test_no_growth_overflows_and_nothing_small_is_lost_beside_itself():
    pairs = np.array([1e-9, 1.0, 1e20]), np.array([0.0, 0.5, 2.0])
    logarithm, doubtful = log_losses("heavy-ball", CURVATURES[1:], np.ones(3), *pairs, [1, 5000])
    assert np.isfinite(logarithm).all()
    assert logarithm[2, 1] == pytest.approx(2 * 5000 * np.log(1e20), rel=1e-3)
    assert not doubtful
    _, doubtful = log_losses("heavy-ball", CURVATURES[1:], np.array([1.0, 1.0, 1e-30]), *pairs, [1, 5000])
    assert doubtful

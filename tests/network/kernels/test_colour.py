"""From several channels to one pattern and a mixture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thalweg.network.kernels.colour import split

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], float)
numbers = st.floats(-5, 5).map(lambda value: round(value, 3))


@pytest.mark.parametrize(
    ("weights", "colour"),
    [
        ([1, 1, 1], "grey"),
        ([2, 2, 1], "grey"),
        ([1, -1, 0], "red against green"),
        ([-1, -1, 2], "blue against yellow"),
        ([0.1, 0, 1], "blue against yellow"),
    ],
)
def test_the_colour_of_a_product_is_named(weights, colour):
    pattern, mixture = split(np.multiply.outer(np.array(weights, float), SOBEL))
    assert mixture.colour == colour
    assert mixture.share == pytest.approx(1)
    np.testing.assert_allclose(mixture.weights, weights / np.linalg.norm(weights), atol=1e-12)
    np.testing.assert_allclose(pattern, SOBEL * np.linalg.norm(weights), atol=1e-12)


@given(arrays(float, st.tuples(st.integers(2, 5), st.integers(1, 4), st.integers(1, 4)), elements=numbers))
def test_the_product_is_the_best_one(kernel):
    table = kernel.reshape(len(kernel), -1)
    assume(np.linalg.norm(table) > 1e-3)
    pattern, mixture = split(kernel)
    product = np.multiply.outer(np.array(mixture.weights), pattern)
    left_over = ((kernel - product) ** 2).sum()
    assert left_over == pytest.approx((1 - mixture.share) * (kernel**2).sum(), abs=1e-9)
    # Eckart and Young: no product of rank one leaves less than the eigenvalues of the table's square but the largest.
    assert left_over <= np.linalg.eigvalsh(table @ table.T)[:-1].sum() + 1e-9
    # A grey image enters positively where it enters.
    assert sum(mixture.weights) > -np.sqrt(0.1 * len(kernel))


def test_one_channel_is_the_pattern_itself():
    pattern, mixture = split(SOBEL[None])
    assert pattern is not None
    assert mixture is None
    np.testing.assert_array_equal(pattern, SOBEL)


def test_zeros_and_extreme_scales_pass():
    pattern, mixture = split(np.zeros((3, 2, 2)))
    assert not pattern.any()
    assert mixture.share == 1
    pattern, mixture = split(np.multiply.outer(np.array([1.0, 1, 1]), SOBEL) * 1e300)
    np.testing.assert_allclose(pattern, SOBEL * np.sqrt(3) * 1e300, atol=1e290)

"""Filtering against the textbook's literal loop and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal

from thalweg.errors import InputError
from thalweg.network.correlation import convolve, correlate, frequency_response
from thalweg.textbook import convolution as textbook

whole = st.integers(-9, 9).map(float)
odd = st.sampled_from([1, 3, 5])
images = arrays(float, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=whole)
kernels = arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=whole)


@given(images, st.data(), odd, odd)
def test_both_kinds_equal_the_literal_loop(image, data, rows, columns):
    kernel = data.draw(arrays(float, (rows, columns), elements=whole))
    np.testing.assert_array_equal(correlate(image, kernel), textbook.correlate(image, kernel))
    np.testing.assert_array_equal(convolve(image, kernel), textbook.convolve(image, kernel))


@given(images, kernels)
def test_even_sides_too_are_where_scipy_puts_them(image, kernel):
    padded = np.pad(image, [(side, side) for side in kernel.shape])
    # SciPy takes the middle of the larger one for "same"; on a padded image that is always the image.
    expected = signal.correlate2d(padded, kernel, mode="same")[
        tuple(slice(side, side + extent) for side, extent in zip(kernel.shape, image.shape, strict=True))
    ]
    np.testing.assert_array_equal(correlate(image, kernel), expected)


@given(images, kernels)
def test_convolution_is_correlation_with_the_kernel_turned_by_half_a_turn(image, kernel):
    np.testing.assert_array_equal(convolve(image, kernel), correlate(image, np.rot90(kernel, 2)))


def test_the_two_kinds_differ_where_a_kernel_is_not_symmetric():
    image = np.eye(3)
    assert not np.array_equal(correlate(image, textbook.PREWITT), convolve(image, textbook.PREWITT))


def test_the_response_to_a_wave_is_what_the_wave_is_multiplied_by():
    kernel = np.random.default_rng(0).standard_normal((3, 4))
    size = 16
    rows, columns = np.indices((size, size))
    response = frequency_response(kernel, size)
    for down, across in ((0, 0), (1, 0), (3, 5), (15, 2)):
        wave = np.exp(2j * np.pi * (down * rows + across * columns) / size)
        answer = signal.convolve2d(wave, kernel, mode="same", boundary="wrap")
        np.testing.assert_allclose(np.abs(answer), response[down, across], atol=1e-12)


@pytest.mark.parametrize(
    ("image", "kernel", "message"),
    [
        (np.ones(3), np.ones((3, 3)), r"image must be a table.*shape is \(3,\)"),
        (np.ones((3, 3)), np.ones(3), r"kernel must be a table.*shape is \(3,\)"),
        (np.ones((0, 3)), np.ones((3, 3)), r"image must be a table.*\(0, 3\)"),
        (np.ones((3, 3)), np.ones((0, 3)), r"kernel must be a table.*\(0, 3\)"),
        (np.ones((3, 3)), np.ones((1, 65)), r"64 taps along a side.*\(1, 65\)"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(image, kernel, message):
    for filtering in (correlate, convolve):
        with pytest.raises(InputError, match=message):
            filtering(image, kernel)

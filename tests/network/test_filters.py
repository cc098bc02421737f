"""Filtering against the textbook's literal loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thalweg.errors import InputError
from thalweg.network.filters import convolve, correlate
from thalweg.textbook import convolution as textbook

whole = st.integers(-9, 9).map(float)
odd = st.sampled_from([1, 3, 5])


@given(st.data(), st.integers(1, 7), st.integers(1, 7), odd, odd)
def test_both_kinds_equal_the_literal_loop(data, height, width, rows, columns):
    image = data.draw(arrays(float, (height, width), elements=whole))
    kernel = data.draw(arrays(float, (rows, columns), elements=whole))
    np.testing.assert_array_equal(correlate(image, kernel), textbook.correlate(image, kernel))
    np.testing.assert_array_equal(convolve(image, kernel), textbook.convolve(image, kernel))


def test_the_two_kinds_differ_where_a_kernel_is_not_symmetric():
    image = np.eye(3)
    assert not np.array_equal(correlate(image, textbook.PREWITT), convolve(image, textbook.PREWITT))


@pytest.mark.parametrize(
    ("image", "kernel", "message"),
    [
        (np.ones(3), np.ones((3, 3)), r"image must be a table.*shape is \(3,\)"),
        (np.ones((3, 3)), np.ones(3), r"kernel must be a table.*shape is \(3,\)"),
        (np.ones((0, 3)), np.ones((3, 3)), r"image must be a table.*\(0, 3\)"),
        (np.ones((3, 3)), np.ones((2, 3)), r"odd.*\(2, 3\)"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(image, kernel, message):
    for filtering in (correlate, convolve):
        with pytest.raises(InputError, match=message):
            filtering(image, kernel)

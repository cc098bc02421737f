"""The common form: extents of windows against windows laid out one by one, and pieces that do not fit, named."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.network.graph import Graph, Kind, Operation, Tensor, Weight, Window, written

IMAGE = Tensor(0, (8, 6, 4), (0, 1), 2)


def line(extent):
    return Tensor(0, (extent, 1), (0,), 1)


def window_1d(kernel, stride=1, dilation=1, low=0, high=0, **others):
    return Window((kernel,), (stride,), (dilation,), (low,), (high,), **others)


small = st.integers(1, 6)


@given(n=st.integers(1, 30), kernel=small, stride=small, dilation=small, low=st.integers(0, 5), high=st.integers(0, 5))
def test_a_window_has_as_many_units_as_fit(n, kernel, stride, dilation, low, high):
    window = window_1d(kernel, stride, dilation, low, high)
    span = dilation * (kernel - 1) + 1
    units = sum(1 for start in range(0, n + low + high, stride) if start + span <= n + low + high)
    assert max(0, window.output_extents((n,))[0]) == units


@given(n=st.integers(1, 30), kernel=small, stride=small, padding=st.integers(0, 3))
def test_in_ceil_mode_a_window_may_hang_over_but_not_begin_in_the_padding_behind(n, kernel, stride, padding):
    # As PyTorch has it: padding of at most half a window, the same on both sides.
    padding = min(padding, kernel // 2)
    length = n + 2 * padding
    assume(kernel <= length)
    units = 0
    for start in range(0, length + stride, stride):
        uncovered = start == 0 or start - stride + kernel < length
        units += uncovered and start < n + padding
    assert window_1d(kernel, stride, 1, padding, padding, ceil=True).output_extents((n,)) == (units,)


@given(n=st.integers(1, 30), kernel=small, stride=small, dilation=small, added=st.integers(0, 3))
def test_a_transposed_window_reaches_from_the_first_tap_to_the_last(n, kernel, stride, dilation, added):
    window = window_1d(kernel, stride, dilation, transposed=True, output_padding=(added,))
    last = max(unit * stride + dilation * tap for unit in range(n) for tap in range(kernel))
    assert window.output_extents((n,)) == (last + 1 + added,)


def test_a_tensor_knows_its_positions_and_channels():
    channels_first = Tensor(3, (4, 8, 6), (1, 2), 0)
    assert channels_first.extents == (8, 6)
    assert channels_first.channels == 4
    assert channels_first.size == 192
    assert channels_first.with_extents(4, (2, 3), 7) == Tensor(4, (7, 2, 3), (1, 2), 0)
    assert Tensor(0, (5,)).channels == 1
    assert written((8, 6)) == "8 x 6"
    assert Weight("w", (3, 3, 4)).size == 36


@pytest.mark.parametrize(
    ("pieces", "sentence"),
    [
        ({"window": None}, "'body' has no window, but its input has 2 spatial axes."),
        ({"window": window_1d(3)}, "'body' has a window over 1 axes, but its input has 2 spatial axes."),
        (
            {"groups": 3},
            "'body' has 4 input channels, which do not divide into 3 groups.",
        ),
        (
            {"groups": 4, "outputs": (Tensor(1, (6, 4, 6), (0, 1), 2),)},
            "'body' has 6 output channels, which do not divide into 4 groups.",
        ),
        ({"outputs": (Tensor(1, (5, 4, 4), (0, 1), 2),)}, "'body' makes 6 x 4 positions of 8 x 6, not 5 x 4."),
        ({"outputs": (Tensor(1, (6, 4, 0), (0, 1), 2),)}, "'body' has no units left: its output would be 6 x 4 x 0."),
        (
            {"window": Window((9, 9), (1, 1), (1, 1), (0, 0), (0, 0))},
            (
                "'body' does not fit: its window of 9 x 9 leaves no unit on an input of 8 x 6 positions; "
                "make it smaller, or pad."
            ),
        ),
        (
            {"window": Window((3, 3), (0, 1), (1, 1), (0, 0), (0, 0))},
            "'body' needs kernel, stride and dilation of at least 1.",
        ),
    ],
)
def test_windows_that_do_not_fit_are_named(pieces, sentence):
    good = {
        "kind": Kind.CONVOLUTION,
        "name": "body",
        "inputs": (IMAGE,),
        "outputs": (Tensor(1, (6, 4, 4), (0, 1), 2),),
        "window": Window((3, 3), (1, 1), (1, 1), (0, 0), (0, 0)),
    }
    Operation(**good)
    with pytest.raises(InputError) as caught:
        Operation(**{**good, **pieces})
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("kind", "shapes", "output", "fits"),
    [
        (Kind.ADD, [(8, 6, 4), (8, 6, 4)], (8, 6, 4), True),
        (Kind.ADD, [(8, 6, 4), (8, 6, 3)], (8, 6, 4), False),
        (Kind.ADD, [(8, 6, 4), (7, 6, 4)], (8, 6, 4), False),
        (Kind.MULTIPLY, [(8, 6, 4), (1, 1, 4)], (8, 6, 4), True),
        (Kind.MULTIPLY, [(8, 6, 4), (8, 6, 1)], (8, 6, 4), True),
        (Kind.MULTIPLY, [(8, 6, 4), (4,)], (8, 6, 4), True),
        (Kind.MULTIPLY, [(8, 6, 4), (3,)], (8, 6, 4), False),
        (Kind.CONCATENATE, [(8, 6, 4), (8, 6, 3)], (8, 6, 7), True),
        (Kind.CONCATENATE, [(8, 6, 4), (8, 6, 3)], (8, 6, 8), False),
        (Kind.CONCATENATE, [(8, 6, 4), (1, 1, 3)], (8, 6, 7), False),
        (Kind.CONCATENATE, [(4,), (3,)], (7,), True),
    ],
)
def test_branches_must_match(kind, shapes, output, fits):
    def tensor(number, shape):
        return Tensor(number, shape, tuple(range(len(shape) - 1)), len(shape) - 1)

    def join():
        inputs = tuple(tensor(number, shape) for number, shape in enumerate(shapes))
        return Operation(kind, "join", inputs, (tensor(9, output),))

    if fits:
        assert join().output.shape == output
    else:
        with pytest.raises(InputError, match="'join'"):
            join()


def test_a_vector_is_reshaped_only_to_as_many_units():
    vector = Tensor(0, (24,), (), 0)
    Operation(Kind.RESHAPE, "map", (vector,), (Tensor(1, (2, 3, 4), (0, 1), 2),))
    with pytest.raises(InputError, match="cannot turn the 24 units of 24 into 2 x 3 x 5, which has 30"):
        Operation(Kind.RESHAPE, "map", (vector,), (Tensor(1, (2, 3, 5), (0, 1), 2),))


def test_a_graph_is_in_the_order_it_runs():
    first = Operation(Kind.ACTIVATION, "first", (IMAGE,), (Tensor(1, IMAGE.shape, (0, 1), 2),))
    second = Operation(Kind.ACTIVATION, "second", (first.output,), (Tensor(2, IMAGE.shape, (0, 1), 2),))
    assert Graph((IMAGE,), (first, second)).operations[1].input is first.output
    with pytest.raises(InputError, match="'second' uses a tensor that no operation before it has made"):
        Graph((IMAGE,), (second, first))
    with pytest.raises(InputError, match="'first' makes a tensor that exists already"):
        Graph((IMAGE,), (first, first))
    with pytest.raises(InputError, match="The input 3 x 0 is empty"):
        Graph((Tensor(0, (3, 0)),), ())

"""Patterns one after the other along one axis: what a graph put together of pieces does not show by itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.network.field_views import AxisView, axis_views
from thalweg.network.fields import Field
from thalweg.network.intervals import MAX_PERIOD, Periodic, TooIrregularError
from thalweg.network.piecewise import MAX_STEPS, NOWHERE, Piecewise, common_period, in_a_row, placed

ONE_BY_ONE = Periodic((0,), (0,), 1)
ALL = Periodic((0,), (9,), 0)


@st.composite
def patterns(draw):
    """Intervals of two or three units that move on by some positions."""
    ends = draw(st.lists(st.none() | st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=3))
    lo = tuple(each and each[0] for each in ends)
    hi = tuple(each and each[0] + each[1] for each in ends)
    return Periodic(lo, hi, draw(st.integers(-4, 4)))


@st.composite
def rows_of_patterns(draw):
    starts = sorted(draw(st.sets(st.integers(-6, 6), max_size=3)))
    return in_a_row(starts, [draw(patterns()) for _ in range(len(starts) + 1)])


@given(rows_of_patterns(), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(-4, 4))
def test_a_window_sees_the_hull_of_its_taps(row, kernel, stride, dilation, low):
    slid = row.windowed(kernel, stride, dilation, low, 0)
    for unit in range(-15, 16):
        taps = [row.at(unit * stride - low + dilation * tap) for tap in range(kernel)]
        seen = [each for each in taps if each]
        assert slid.at(unit) == ((min(lo for lo, _ in seen), max(hi for _, hi in seen)) if seen else None)


@given(rows_of_patterns(), st.integers(-5, 5), st.integers(-3, 3), st.integers(-5, 5), st.integers(1, 6))
def test_placed_units_are_those_that_were_taken(row, start, step, begin, length):
    for ends in ((False, False), (True, False), (False, True), (True, True)):
        made = placed(row, start, step, begin, length, ends)
        for unit in range(begin - 9, begin + length + 9):
            goes_on = (ends[0] or unit >= begin) and (ends[1] or unit < begin + length)
            assert made.at(unit) == (row.at(start + step * (unit - begin)) if goes_on else None)


@given(rows_of_patterns(), rows_of_patterns())
def test_the_hull_of_two_is_that_of_each_unit(one, other):
    assert one.same_support(other) == other.same_support(one)
    alive = [[each.at(unit) is not None for unit in range(-40, 40)] for each in (one, other)]
    assert one.same_support(other) == (alive[0] == alive[1])
    if one.parallel(other):
        hull = one.joined(other)
        for unit in range(-15, 16):
            seen = [each for each in (one.at(unit), other.at(unit)) if each]
            assert hull.at(unit) == ((min(lo for lo, _ in seen), max(hi for _, hi in seen)) if seen else None)


def test_neighbours_that_are_alike_are_one():
    halves = placed(ONE_BY_ONE, 0, 1, 0, 8, (True, False)).joined(placed(ONE_BY_ONE, 8, 1, 8, 8, (False, True)))
    assert halves == ONE_BY_ONE
    assert in_a_row([3, 5], [ALL, ONE_BY_ONE, ONE_BY_ONE]) == Piecewise((3,), (ALL, ONE_BY_ONE))


def test_all_pieces_must_see_everything_or_nothing():
    assert Piecewise((3,), (ALL, Periodic((-1,), (12,), 0))).covers(10)
    assert not Piecewise((3,), (ALL, ONE_BY_ONE)).covers(10)
    assert Piecewise((3,), (NOWHERE, Periodic((None,), (None,), 1))).nowhere
    assert not Piecewise((3,), (NOWHERE, ALL)).nowhere


def test_periods_are_those_of_every_stretch():
    one = Piecewise((3,), (Periodic((0, 0), (1, 2), 2), Periodic((0, 0, 0), (1, 2, 3), 3)))
    assert common_period([one, Periodic((0, 0), (1, 2), 2)]) == 2 + 6


def test_seams_that_are_too_wide_are_not_followed():
    row = Piecewise((0,), (ONE_BY_ONE, ALL))
    assert row.windowed(2, 1, MAX_PERIOD, 0, 0).at(-1) == (-1, 9)
    with pytest.raises(TooIrregularError):
        row.windowed(2, 1, MAX_PERIOD + 1, 0, 0)
    side = math.isqrt(MAX_STEPS)  # as many units lie over the seam as the window has taps, less one
    assert row.windowed(side, 1, 1, 0, 0).at(-1) == (-1, 9)
    with pytest.raises(TooIrregularError):
        row.windowed(side + 1, 1, 1, 0, 0)


def test_the_stride_is_that_of_the_units_that_exist():
    wider, elsewhere = Periodic((0,), (2,), 1), Periodic((7,), (7,), 1)
    row = Piecewise((2, 4), (ONE_BY_ONE, wider, elsewhere))
    assert axis_views(Field(((row,),)), (4,)) == (AxisView(3, 1, 0, None),)
    assert axis_views(Field(((row,),)), (5,)) == (AxisView(3, None, 0, None),)

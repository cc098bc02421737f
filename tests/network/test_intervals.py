"""Intervals behind changes of how many positions there are, against the hull of what each unit is made of."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thalweg as tw
from thalweg.network.graph import Graph, Kind, Operation, Resampling, Tensor
from thalweg.network.intervals import MAX_PERIOD, Listed, Periodic, TooIrregularError
from thalweg.network.piecewise import MAX_STEPS, Piecewise, in_a_row

ENDS = st.one_of(st.none(), st.tuples(st.integers(-9, 9), st.integers(0, 6)))


@st.composite
def patterns(draw):
    """Patterns of any pace, some of whose units see nothing."""
    ends = [each and (each[0], each[0] + each[1]) for each in draw(st.lists(ENDS, min_size=1, max_size=4))]
    return Periodic(tuple(e and e[0] for e in ends), tuple(e and e[1] for e in ends), draw(st.integers(-4, 4)))


@st.composite
def changes(draw):
    """Windows around places that move on by a ratio."""
    ratio = Fraction(draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    shift, width = draw(st.fractions(-2, 2)), draw(st.integers(0, 3))
    return Resampling.of(
        lambda unit: (math.floor(unit * ratio + shift), math.floor(unit * ratio + shift) + width), ratio
    )


def hull(ends):
    seen = [each for each in ends if each]
    return (min(lo for lo, _ in seen), max(hi for _, hi in seen)) if seen else None


@given(patterns(), changes())
def test_a_resampled_pattern_sees_the_hull_of_what_each_unit_is_made_of(pattern, how):
    made = pattern.resampled(how, 0)
    for unit in range(-20, 20):
        first, last = how.at(unit)
        assert made.at(unit) == hull(pattern.at(place) for place in range(first, last + 1))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 5)), min_size=1, max_size=9), changes(), st.integers(1, 12)
)
def test_resampled_lists_take_the_outermost_where_there_is_nothing(ends, how, units):
    nothing = 1 << 62
    lows = [lo if more >= 0 else nothing for lo, more in ends]
    listed = Listed(np.array(lows), np.array([lo + more if more >= 0 else -nothing for lo, more in ends]))
    made = listed.resampled(how, units)
    for unit in range(units):
        first, last = (min(max(place, 0), len(ends) - 1) for place in how.at(unit))
        assert made.at(unit) == hull(listed.at(place) for place in range(first, last + 1))


@given(st.lists(patterns(), min_size=2, max_size=4), st.lists(st.integers(-9, 9), min_size=3, max_size=3), changes())
def test_a_row_of_patterns_is_resampled_piece_by_piece(several, seams, how):
    starts = sorted(set(seams))[: len(several) - 1]
    whole = in_a_row(starts, several[: len(starts) + 1])
    made = whole.resampled(how, 0)
    for unit in range(-25, 25):
        first, last = how.at(unit)
        assert made.at(unit) == hull(whole.at(place) for place in range(first, last + 1))


def test_patterns_and_seams_that_are_too_long_are_not_followed():
    how = Resampling.of(lambda unit: (unit, unit), Fraction(1, MAX_PERIOD + 1))
    with pytest.raises(TooIrregularError):
        Periodic((0,), (0,), 1).resampled(how, 3)
    wide = Resampling.of(lambda unit: (unit, unit + MAX_STEPS), Fraction(1))
    with pytest.raises(TooIrregularError):
        Piecewise((3,), (Periodic((0,), (0,), 1), Periodic((7,), (7,), 1))).resampled(wide, 3)


def test_one_place_for_all_units():
    how = Resampling.of(lambda unit: (4, 4), Fraction(0))
    row = Piecewise((3,), (Periodic((0,), (0,), 1), Periodic((7,), (9,), 1)))
    assert row.resampled(how, 1).at(5) == row.at(4) == (11, 13)


def test_paths_through_resized_maps_are_those_of_their_taps():
    image, made = Tensor(0, (7, 6, 1), (0, 1), 2), Tensor(1, (3, 6, 1), (0, 1), 2)
    thirds = Resampling.of(lambda unit: (math.floor(unit * Fraction(7, 3)), math.ceil((unit + 1) * Fraction(7, 3)) - 1),
                           Fraction(7, 3))  # fmt: skip
    pool = Operation(Kind.AVERAGE_POOL, "pool", (image,), (made,), resampled=(thirds, None), traced=True)
    answer = tw.size(Graph((image,), (pool,)))
    assert answer.layers[0].receptive_field == (3, 1)
    for unit, (first, last) in enumerate(((0, 2), (2, 4), (4, 6))):
        effective = answer.effective("pool", (unit, 5))
        assert effective.paths == 3
        assert np.argwhere(effective.shares).tolist() == [[place, 5] for place in range(first, last + 1)]
        assert effective.notes == ()

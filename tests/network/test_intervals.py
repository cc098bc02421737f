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
    """Patterns of any pace, which may also become wider, some of whose units see nothing."""
    ends = [each and (each[0], each[0] + each[1]) for each in draw(st.lists(ENDS, min_size=1, max_size=4))]
    pace, widening = draw(st.integers(-4, 4)), draw(st.sampled_from([0, 0, 1, 3, -2]))
    return Periodic(tuple(e and e[0] for e in ends), tuple(e and e[1] for e in ends), pace, widening)


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


@given(patterns(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(-3, 3))
def test_a_window_over_a_pattern_sees_the_hull_of_its_taps(pattern, kernel, stride, dilation, low):
    made = pattern.windowed(kernel, stride, dilation, low, 0)
    spread = pattern.transposed(kernel, stride, dilation, low, 0)
    for unit in range(-15, 15):
        assert made.at(unit) == hull(pattern.at(unit * stride - low + dilation * tap) for tap in range(kernel))
        # Unit j of the pattern reaches unit j * stride - low + dilation * tap.
        reached = [divmod(unit + low - dilation * tap, stride) for tap in range(kernel)]
        assert spread.at(unit) == hull(pattern.at(place) for place, rest in reached if rest == 0)


@given(patterns(), patterns())
def test_patterns_are_turned_and_joined_unit_by_unit(one, other):
    turned = one.reversed()
    assert [turned.at(unit) for unit in range(-9, 9)] == [one.at(-unit) for unit in range(-9, 9)]
    assert {one.spread(3).at(unit) for unit in range(-9, 9)} == {one.at(0)}
    if one.parallel(other):
        joined = one.joined(other)
        assert [joined.at(unit) for unit in range(-9, 9)] == [
            hull([one.at(unit), other.at(unit)]) for unit in range(-9, 9)
        ]


@given(patterns(), st.integers(1, 30))
def test_units_that_see_what_those_before_them_see(pattern, extent):
    """Without borders they see back to where the image begins, which lies at its end where it is read backwards."""
    made, seeing = pattern.heaped(extent), [unit for unit in range(12) if pattern.at(unit)]
    if not seeing or pattern.constant:
        assert made == pattern
        return
    pace = pattern.step + pattern.widening
    first = min(pattern.at(unit)[0] for unit in seeing)
    last = max(pattern.at(unit)[1] for unit in seeing)
    for unit in range(15):
        before = [ends for place in range(unit - 40, unit + 1) if (ends := pattern.at(place))]
        lows, highs = [lo for lo, _ in before], [hi for _, hi in before]
        assert made.at(unit) == (
            min(0, first) if pattern.step > 0 else min(lows),
            max(extent - 1, last) if pace < 0 else max(highs),
        )


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 5)), min_size=1, max_size=9), st.integers(0, 2**32 - 1))
def test_lists_of_units_that_see_some_of_the_others(ends, seed):
    nothing, units = 1 << 62, len(ends)
    lows = [lo if more >= 0 else nothing for lo, more in ends]
    listed = Listed(np.array(lows), np.array([lo + more if more >= 0 else -nothing for lo, more in ends]))
    kept = np.random.default_rng(seed).random((units, units)) < 0.4
    chosen, heaped, turned = listed.chosen(kept, 10), listed.heaped(10), listed.reversed()
    for unit in range(units):
        assert chosen.at(unit) == hull(listed.at(place) for place in np.flatnonzero(kept[unit]))
        assert heaped.at(unit) == hull(listed.at(place) for place in range(unit + 1))
        assert turned.at(unit) == listed.at(units - 1 - unit)


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

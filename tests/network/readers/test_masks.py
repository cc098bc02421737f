"""What masks leave, against a look at every place."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thalweg.network.graph import Chosen, Resampling, Span
from thalweg.network.readers.masks import (
    LOW,
    Mask,
    Rows,
    along,
    of_bias,
    of_choice,
    of_product,
    of_sum,
    rectangles,
    repeated_once,
    span_of,
    triangle,
)


def seen(span, extent):
    """Which positions each unit sees."""
    units = np.arange(extent)
    if isinstance(span.chosen, Chosen):
        return span.chosen.kept
    if isinstance(span.chosen, Resampling):
        ends = np.array([span.chosen.at(unit) for unit in units])
        return (units >= ends[:, :1]) & (units <= ends[:, 1:])
    before = extent if span.before is None else span.before
    after = extent if span.after is None else span.after
    return (units >= units[:, None] - before) & (units <= units[:, None] + after)


@given(st.data(), st.integers(1, 12))
def test_a_span_says_what_each_row_sees(data, extent):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    units = np.arange(extent)
    before, after, block = (data.draw(st.integers(0, 12)) for _ in range(3))
    for kept in (
        rng.random((extent, extent)) < 0.5,
        (units >= units[:, None] - before) & (units <= units[:, None] + after),
        units[:, None] // (block + 1) == units // (block + 1),
        np.tril(units[:, None] // (block + 1) == units // (block + 1)),
        np.ones((extent, extent), bool),
    ):
        np.testing.assert_array_equal(seen(span_of(kept), extent), kept)


def test_a_span_is_the_simplest_that_says_it():
    assert span_of(triangle((5, 5), 0, upper=False)) == Span(None, 0)
    assert span_of(triangle((5, 5), 0, upper=True)) == Span(0, None)
    assert span_of(triangle((5, 5), 0, upper=False) & triangle((5, 5), -2, upper=True)) == Span(2, 0)
    assert span_of(np.kron(np.eye(3), np.ones((2, 2))) > 0).chosen == Resampling((0, 0), (1, 1), 2)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_rectangles_are_the_positions_that_are_kept(shape, seed, share):
    kept = np.random.default_rng(seed).random(shape) < share
    found, count = np.zeros(shape, bool), 0
    for each in rectangles(kept):
        runs = [range(n) if each.along[axis] is None else [p for ends in each.along[axis] for p in range(*ends)]
                for axis, n in enumerate(shape)]  # fmt: skip
        assert not found[np.ix_(*runs)].any()
        found[np.ix_(*runs)] = True
        count += 1
    np.testing.assert_array_equal(found, kept)
    assert count <= max(1, np.prod(shape[:-1]))


@given(st.data())
def test_what_is_kept_along_some_axes_is_what_any_of_the_others_keeps(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    own = [n if data.draw(st.booleans()) else 1 for n in shape][data.draw(st.integers(0, len(shape) - 1)) :]
    kept = rng.random(own) < 0.5
    axes = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(1, len(shape)))]
    found = along(np.broadcast_to(kept, shape) if data.draw(st.booleans()) else kept, shape, axes)
    others = tuple(axis for axis in range(len(shape)) if axis not in axes)
    whole = np.broadcast_to(kept, shape).any(others, keepdims=True)
    wanted = whole.transpose([*axes, *others]).reshape([shape[axis] for axis in axes])
    np.testing.assert_array_equal(found, wanted)


def test_the_same_rows_are_told_once():
    rows, causal = Rows(), np.tril(np.ones((4, 4), bool))
    first = rows.behind(Mask(causal[None]), (2, 4, 4), (1, 2))
    assert rows.behind(Mask(causal.copy()), (3, 4, 4), (1, 2)) is first
    assert rows.span(first) is rows.span(rows.once(causal.copy()))
    assert rows.behind(Mask(np.ones((4, 4), bool)), (4, 4), (0, 1)) is None


def test_what_hides():
    numbers = np.array([0.0, -1.0, -9999.0, LOW, -np.inf])
    assert of_sum(numbers).kept.tolist() == [True, True, True, False, False]
    assert not of_sum(numbers).replaces
    assert of_product(numbers).kept.tolist() == [False, True, True, True, True]
    assert of_bias(numbers > -2).kept.tolist() == [True, True, False, False, False]
    assert of_bias(numbers).kept.tolist() == of_sum(numbers).kept.tolist()
    assert (of_sum(None).kept, of_product(None).kept, of_bias(None).kept) == (None, None, None)
    chosen = of_choice(np.array([1, 0]), np.array([-5.0, -2e4]))
    assert (chosen.kept.tolist(), chosen.blank, chosen.replaces) == ([True, False], np.inf, True)
    assert of_choice(None, np.array([-3e4, -2e4])).blank == -2e4
    assert of_choice(None, np.array([1.5, 1.5])).blank == 1.5
    assert (of_choice(None, -3).blank, of_choice(None, None).blank) == (-3, np.inf)


def test_repeated_numbers_are_shown_once():
    assert repeated_once(np.broadcast_to(np.arange(3), (4, 3))).shape == (1, 3)
    assert repeated_once(np.zeros((4, 3))).shape == (4, 3)

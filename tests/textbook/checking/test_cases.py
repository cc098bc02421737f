"""Random and small points: within their bounds, admitted, complete and in order."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.textbook.checking.cases import Setting, Symbol
from thalweg.textbook.checking.rational import rank
from thalweg.textbook.checking.targets import INTERPOLATION, ONE_STEP, STEPS, TARGETS

SETTINGS = {id(q.setting): q.setting for target in TARGETS.values() for q in target.quantities.values()}.values()
PAIR = Setting({"n": (3, 3)}, {"v": ("n",)}, {}, {"v": Symbol("vector", "anything")})


def test_small_cases_are_all_whole_vectors_within_two_each_once() -> None:
    vectors = [tuple(int(entry) for entry in case("v")) for case in PAIR.small_cases({"n": 3})]
    assert sorted(vectors) == sorted(itertools.product(range(-2, 3), repeat=3))


def test_small_cases_come_smallest_first_and_positive_before_negative() -> None:
    vectors = [tuple(int(entry) for entry in case("v")) for case in PAIR.small_cases({"n": 3})]
    sizes = [(max(map(abs, vector)), sum(map(abs, vector))) for vector in vectors[1:]]
    assert sizes == sorted(sizes)
    assert vectors[:4] == [(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0)]


@given(st.integers(0, 10_000))
def test_random_cases_are_admitted_and_within_bounds(seed: int) -> None:
    rng = random.Random(seed)
    setting = rng.choice(list(SETTINGS))
    sizes = rng.choice(setting.all_sizes(small=False))
    assert all(1 <= sizes[name] <= largest for name, (_, largest) in setting.sizes.items())
    case = setting.random_case(rng, sizes, decimals=bool(rng.randint(0, 1)))
    assert setting.admits(case)
    for name, axes in setting.arrays.items():
        assert case(name).shape == tuple(sizes[axis] for axis in axes)
        assert np.all(np.abs(case(name)) <= 3)


def test_interpolation_speaks_of_wide_matrices_of_full_rank_only() -> None:
    assert all(sizes["d"] > sizes["n"] for sizes in INTERPOLATION.all_sizes(small=False))
    rng = random.Random(0)
    for sizes in INTERPOLATION.all_sizes(small=False):
        assert rank(INTERPOLATION.random_case(rng, sizes, decimals=False)("X")) == sizes["n"]


def test_sizes_come_with_the_least_work_first() -> None:
    small = STEPS.all_sizes(small=True)
    assert small[0] == {"n": 1, "d": 1, "T": 1}
    assert small[-1] == {"n": 2, "d": 2, "T": 3}
    products = [np.prod(list(sizes.values())) for sizes in small]
    assert products == sorted(products)


def test_a_case_knows_its_symbols_and_can_be_changed() -> None:
    case = ONE_STEP.case({"n": 1, "d": 1}, X=[[2]], t=[1], w0=[3], eta=1)
    assert case("a")[0] == 5
    assert case("S")[0, 0] == 8
    assert case.with_given(eta=case("eta") / 2)("S")[0, 0] == 4
    assert case.with_given(w0=0 * case("w0"))("a")[0] == -1
    assert case("L")(case("w0")) == 25
    with pytest.raises(KeyError):
        case("T")

"""Verdicts against NumPy's, the smallest counterexample against a search of everything smaller, and ratios."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from formulas import RIGHT, WRONG
from numpy_reader import truth, yours
from thalweg.textbook.checking.edits import edits
from thalweg.textbook.checking.evaluation import MisfitError, UndefinedError
from thalweg.textbook.checking.formula import parse, to_text
from thalweg.textbook.checking.judging import (
    Outcome,
    Sample,
    compare,
    is_right,
    random_samples,
    ratio,
    smallest_failure,
)
from thalweg.textbook.checking.targets import TARGETS


def samples_of(fact: str, name: str, count: int = 40) -> list[Sample]:
    return list(random_samples(TARGETS[fact].quantities[name], count))


@pytest.mark.parametrize(
    ("fact", "name"), [("F2.4", "w1"), ("F2.5", "dL1"), ("F2.8", "dL"), ("F2.9", "L_T"), ("F1.4", "w2")]
)
def test_every_edit_of_a_right_formula_is_judged_as_numpy_judges_it(fact: str, name: str) -> None:
    """Hundreds of near misses, some of them right: exact fractions and floats see the same."""
    vocabulary = TARGETS[fact].vocabulary(name)
    sample = next(one for one in samples_of(fact, name) if one.generic and min(one.case.sizes.values()) > 1)
    symbols = {}
    for symbol in sample.case.setting.symbols:
        if symbol != "I":
            array = np.asarray(sample.case(symbol), dtype=object).astype(float)
            symbols[symbol] = array if array.ndim else float(array)
    right = truth(fact, name, symbols)
    verdicts = []
    for edit in list(edits(parse(RIGHT[fact, name][0], vocabulary).root, vocabulary))[::2]:
        outcome = compare(edit.root, sample)
        if outcome.fault is not None:
            continue
        theirs = yours(to_text(edit.root), symbols)
        assert outcome.agrees == np.allclose(theirs, right, rtol=1e-11, atol=1e-11), to_text(edit.root)
        verdicts.append(outcome.agrees)
    assert len(verdicts) > 20
    assert not all(verdicts)


@pytest.mark.parametrize(("fact", "formula"), [(fact, slips[0]) for fact, slips in WRONG.items()])
def test_nothing_smaller_is_a_counterexample(fact: str, formula: str) -> None:
    """Every point before the one that was found, sizes included, shows no difference of values."""
    parsed = parse(formula, TARGETS[fact].vocabulary())
    quantity = TARGETS[fact].quantities[parsed.quantity or next(iter(TARGETS[fact].quantities))]
    found = smallest_failure(parsed.root, quantity, list(random_samples(quantity)))
    assert not found.agrees
    for sizes in quantity.setting.all_sizes(small=True):
        for case in quantity.setting.small_cases(sizes):
            if sizes == found.sample.case.sizes and case.given.keys() == found.sample.case.given.keys():
                same = [np.array_equal(case(name), found.sample.case(name)) for name in case.given]
                if all(same):
                    return
            right = quantity.truth(case)
            if right is not None:
                assert compare(parsed.root, Sample(case, right, False)).agrees
    pytest.fail("the counterexample is not among the small points")


def test_shapes_that_do_not_fit_come_before_smaller_numbers() -> None:
    quantity = TARGETS["F2.4"].quantities["w1"]
    root = parse("w0 + X @ a", TARGETS["F2.4"].vocabulary()).root
    found = smallest_failure(root, quantity, list(random_samples(quantity)))
    assert isinstance(found.fault, MisfitError)
    assert found.sample.case.sizes == {"n": 1, "d": 2}


def test_a_failure_that_no_small_point_shows_is_found_at_a_random_one() -> None:
    """Wrong from T = 4 on only."""
    quantity = TARGETS["F2.7"].quantities["residual"]
    root = parse("mpow(I - S, T) @ a + (T - 1)*(T - 2)*(T - 3)*a", TARGETS["F2.7"].vocabulary()).root
    found = smallest_failure(root, quantity, list(random_samples(quantity)))
    assert found.sample.case.sizes["T"] >= 4
    assert not found.agrees


def test_missing_values_count_only_at_points_from_a_continuum() -> None:
    sample = samples_of("F2.4", "w1")[0]
    fault = UndefinedError("it divides by zero")
    assert Outcome(Sample(sample.case, sample.truth, True), None, fault, False).counts_against
    assert not Outcome(Sample(sample.case, sample.truth, False), None, fault, False).counts_against
    assert Outcome(Sample(sample.case, sample.truth, False), None, MisfitError("it is odd"), False).counts_against


def test_samples_are_whole_numbers_and_decimals_of_all_shapes() -> None:
    samples = samples_of("F2.8", "dL")
    assert len(samples) == 40
    assert {sample.generic for sample in samples} == {True, False}
    shapes = {(sample.case.sizes["n"], sample.case.sizes["d"]) for sample in samples}
    assert any(n > d for n, d in shapes)
    assert any(n < d for n, d in shapes)
    assert {sample.case.sizes["T"] for sample in samples} == {1, 2, 3, 4, 5}


def test_ratio_is_the_common_factor_or_nothing() -> None:
    sample = next(one for one in samples_of("F2.4", "w1") if len(one.truth) > 1 and np.all(one.truth != 0))
    words = TARGETS["F2.4"].vocabulary()
    assert ratio(compare(parse("3*(w0 - h*X.T@a)/4", words).root, sample)) == Fraction(3, 4)
    assert ratio(compare(parse("w0 + h*X.T@a", words).root, sample)) is None
    assert ratio(compare(parse("K", words).root, sample)) is None
    assert ratio(compare(parse("sqrt(2)*(w0 - h*X.T@a)", words).root, sample)) == pytest.approx(2**0.5)


def test_right_needs_values_at_half_of_the_points() -> None:
    words = TARGETS["F3.3"].vocabulary()
    right = "1 + (k - 1)*dilation*sum(stride**l for l in range(layers))"
    samples = samples_of("F3.3", "receptive_field")
    assert is_right(parse(right, words).root, samples)
    assert is_right(parse(f"({right}) * (stride - 1) / (stride - 1)", words).root, samples)
    assert not is_right(
        parse(f"({right}) * (stride - 3) * (stride - 2) / (stride - 3) / (stride - 2)", words).root, samples
    )
    assert not is_right(parse("1 / (k - k)", words).root, samples)

"""What the ledger stands on: comparisons, numbers as one writes them, and a search in the order of size."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from thalweg.textbook.ledger import (
    Problem,
    Step,
    fact,
    integer_arrays,
    largest_difference,
    refute,
    show,
    small_problems,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (-0.0, "0"),
        (0.25, "0.25"),
        (1 / 3, "1/3"),
        (-2 / 7, "-2/7"),
        (0.0001, "0.0001"),
        (np.pi, "3.141592654"),
        (1e-9, "1e-09"),
        (True, "yes"),
        (False, "no"),
        (12_345_678_901, "12345678901"),
        (Fraction(1, 70), "1/70"),
        ("as it is", "as it is"),
        (np.array([[1.0, 0.5], [0, 2 / 3]]), "[[1, 0.5], [0, 2/3]]"),
        ((1, [2.5]), "[1, [2.5]]"),
    ],
)
def test_numbers_as_written_by_hand(value, text):
    assert show(value) == text


def test_largest_difference_is_relative_for_large_numbers():
    assert largest_difference((1.5, 1.0)) == 0.5
    assert largest_difference((0.0, 0.25), ([1.0, 2.0], [1.0, 2.0])) == 0.25
    assert largest_difference(([1e6 + 1], [1e6])) == pytest.approx(1e-6)
    assert largest_difference(([1, -3], [Fraction(1), Fraction(-2)])) == 0.5


def test_largest_difference_refuses_other_shapes():
    with pytest.raises(AssertionError, match="cannot be compared"):
        largest_difference(([1, 2], [1]))


@pytest.mark.parametrize(
    ("error", "comparisons", "holds"),
    [(9e-11, [True], True), (1e-10, [True], False), (np.nan, [], False), (0.0, [True, False], False)],
)
def test_a_fact_holds_if_its_error_is_small_and_its_comparisons_are_true(error, comparisons, holds):
    made = fact("F0", "claim", "computed", error, comparisons=comparisons, steps=[("x", 0.5)])
    assert made.holds is holds
    assert made.steps == (Step("x", "0.5"),)


def test_whole_numbers_come_in_the_order_of_size():
    entries = [tuple(values) for values in integer_arrays((2,), 1)]
    assert entries == [(0, 0), (1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    sizes = [np.abs(values).sum() for values in integer_arrays((2, 2), 2)]
    assert sizes == sorted(sizes)
    assert len(sizes) == 5**4


def test_small_problems_are_all_there():
    problems = [str(problem) for problem in small_problems(1, 1, 1)]
    assert len(set(problems)) == 27
    assert problems[:2] == ["X = [[0]], t = [0], w0 = [0]", "X = [[1]], t = [0], w0 = [0]"]
    assert next(small_problems(2, 1, 1)).X.shape == (2, 1)
    assert str(Problem(np.array([[1.0, 2]]), np.array([3.0]), np.zeros(2))) == "X = [[1, 2]], t = [3], w0 = [0, 0]"


def test_refute_stops_at_the_first_case_that_differs():
    cases = iter([("x = 0", 0, 0), ("x = 1", 1, 1 + 1e-12), ("x = 2", 2, 4), ("x = 3", 3, 9)])
    wrong = refute("x is its own square", cases)
    assert wrong.claim == "x is its own square"
    assert wrong.counterexample == "x = 2: the wrong version gives 2, the truth is 4"
    assert next(cases) == ("x = 3", 3, 9)


def test_a_claim_without_a_counterexample_is_not_called_wrong():
    with pytest.raises(AssertionError, match="no counterexample among the cases tried: 1 = 1"):
        refute("1 = 1", iter([("always", 1, 1)]))

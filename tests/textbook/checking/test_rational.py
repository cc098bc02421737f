"""Exact linear algebra against the definitions of what it computes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.textbook.checking import rational


@st.composite
def matrices(draw: st.DrawFn, square: bool = False) -> rational.Array:
    rows = draw(st.integers(1, 4))
    columns = rows if square else draw(st.integers(1, 4))
    entries = st.fractions(min_value=-2, max_value=2, max_denominator=3)
    flat = draw(st.lists(entries, min_size=rows * columns, max_size=rows * columns))
    return np.array(flat, dtype=object).reshape(rows, columns)


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_pseudo_inverse_satisfies_the_four_equations_of_penrose(A: rational.Array) -> None:
    P = rational.pseudo_inverse(A)
    assert P.shape == A.T.shape
    for left, right in ((A @ P @ A, A), (P @ A @ P, P), ((A @ P).T, A @ P), ((P @ A).T, P @ A)):
        assert (left == right).all()


@settings(max_examples=40, deadline=None)
@given(matrices(square=True))
def test_inverse_or_no_inverse(A: rational.Array) -> None:
    size = A.shape[0]
    if rational.rank(A) < size:
        with pytest.raises(ZeroDivisionError):
            rational.inverse(A)
    else:
        assert (A @ rational.inverse(A) == rational.identity(size)).all()


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_rank_is_that_of_numpy(A: rational.Array) -> None:
    assert rational.rank(A) == np.linalg.matrix_rank(A.astype(float))


def test_solve_takes_vectors_and_matrices() -> None:
    A, b = rational.exact([[2, 1], [1, 1]]), rational.exact([3, 2])
    assert (rational.solve(A, b) == rational.exact([1, 1])).all()
    assert (A @ rational.solve(A, A) == A).all()


def test_a_float_among_fractions_is_noticed() -> None:
    exact = rational.exact([1, 2])
    assert rational.is_exact(exact)
    assert not rational.is_exact(np.array([Fraction(1), 2.0], dtype=object))

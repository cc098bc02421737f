"""The evaluator against NumPy's floats, its exactness, and the clauses it says when there is no value."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from formulas import RIGHT, WRONG
from numpy_reader import yours
from thalweg.errors import InputError
from thalweg.textbook.checking.cases import Case
from thalweg.textbook.checking.evaluation import (
    Identity,
    MisfitError,
    NoValueError,
    UndefinedError,
    describe,
    evaluate,
    show,
)
from thalweg.textbook.checking.formula import parse
from thalweg.textbook.checking.rational import exact, is_exact
from thalweg.textbook.checking.targets import STEPS, TARGETS

CASE = STEPS.case({"n": 2, "d": 1, "T": 3}, X=[[1], [2]], t=[0, 1], w0=[1], eta=Fraction(1, 2))
WORDS = TARGETS["F2.8"].vocabulary()


def value(text: str, case: Case = CASE) -> object:
    return evaluate(parse(text, WORDS).root, case).value


EVERY_FORMULA = [
    *((fact, name, form) for (fact, name), forms in RIGHT.items() for form in forms),
    *((fact, next(iter(TARGETS[fact].quantities)), slip) for fact, slips in WRONG.items() for slip in slips),
]


@pytest.mark.parametrize(("fact", "quantity", "text"), EVERY_FORMULA)
def test_agrees_with_numpy(fact: str, quantity: str, text: str) -> None:
    """Every formula of the tests, right or wrong, where d > n > 1; shapes that do not fit here do not fit there."""
    formula = parse(text, TARGETS[fact].vocabulary())
    setting = TARGETS[fact].quantities[formula.quantity or quantity].setting
    sizes = {**setting.all_sizes(small=False)[-1], **({"n": 2, "d": 3} if {"n", "d"} <= set(setting.sizes) else {})}
    case = setting.random_case(random.Random(1), sizes | {"b": 1}, decimals=bool(setting.arrays))
    names = [name for name in setting.symbols if name != "I"]
    symbols = {name: _floats(case(name)) for name in names}
    try:
        ours = evaluate(formula.root, case).value
    except MisfitError:
        with pytest.raises(ValueError, match=r"dimension|shape|square|must be"):
            yours(text, symbols)
        return
    except UndefinedError:
        assert "inv(" in text  # singular: NumPy may invert it up to rounding
        return
    assert _floats(ours) == pytest.approx(yours(text, symbols), rel=1e-6, abs=1e-9)


def _floats(number: object) -> object:
    floats = np.asarray(number, dtype=object).astype(float)
    return floats if floats.ndim else float(floats)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a @ a", Fraction(2)),
        ("norm(a)**2", Fraction(2)),  # norm(a) is irrational, its square is not
        ("norm(a)**4 / sqrt(n)**2", Fraction(2)),
        ("norm(a)**(-2)", Fraction(1, 2)),
        ("sqrt(9/4)", Fraction(3, 2)),
        ("(n*n)**0.5", Fraction(2)),
        ("4**(3/2)", Fraction(8)),
        ("0.1 + 0.2 - 0.3", Fraction(0)),
        ("2**-n", Fraction(1, 4)),
        ("trace(K)", Fraction(5)),
        ("trace(mpow(K, 0))", Fraction(2)),
        ("trace(mpow(I - S, -1))", Fraction(-1, 3) + Fraction(-2, 3) + Fraction(7, 4)),
        ("sum(a)", Fraction(2)),
        ("sum(K)", Fraction(9)),
        ("sum(k**2 for k in range(1, 6, 2))", Fraction(35)),
        ("sum(j*k for k in range(3) for_)", None),
        ("sum(sum(j*k for j in range(k)) for k in range(4))", Fraction(11)),
        ("sum(a @ a for k in range(0))", Fraction(0)),
        ("dot(a, a) - a.T @ a", Fraction(0)),
        ("norm(abs(-a) - sign(a))", Fraction(0)),
        ("abs(1 - n)", Fraction(1)),
        ("sign(-n)", Fraction(-1)),
        ("norm(outer(a, a))**2", Fraction(4)),
        ("norm(diag(a))**2", Fraction(2)),
        ("trace(eye(n))", Fraction(2)),
        ("a @ I @ I @ a", Fraction(2)),
        ("a @ (2*I - I/2 - mpow(I, 3)) @ a", Fraction(1)),
        ("a @ inv(2*I) @ a", Fraction(1)),
        ("a @ (I + K) @ a - a @ (K - (-I)) @ a", Fraction(0)),
        ("norm(K @ pinv(K) @ K - K)", Fraction(0)),
        ("norm(solve(K + I, a) - inv(K + I) @ a)", Fraction(0)),
        ("norm(solve(K + I, K) - inv(K + I) @ K)", Fraction(0)),
        ("L(w0)", Fraction(1)),
    ],
)
def test_stays_exact_for_as_long_as_it_can(text: str, result: Fraction | None) -> None:
    if result is None:
        with pytest.raises(InputError):
            value(text)
        return
    computed = value(text)
    assert isinstance(computed, Fraction)
    if text != "trace(mpow(I - S, -1))":
        assert computed == result
    else:
        inverse = np.linalg.inv(np.eye(2) - np.array([[0.5, 1.0], [1.0, 2.0]]))
        assert float(computed) == pytest.approx(np.trace(inverse))


def test_irrational_functions_give_floats_and_tell_their_magnitude() -> None:
    evaluated = evaluate(parse("1000*norm(a) - 1000*sqrt(n)", WORDS).root, CASE)
    assert isinstance(evaluated.value, float)
    assert evaluated.magnitude == pytest.approx(1000 * 2**0.5)
    assert evaluate(parse("a @ a", WORDS).root, CASE).magnitude == 0.0
    assert value("exp(log(3))") == pytest.approx(3.0)
    matrix = value("inv(sqrt(2)*K + I) @ (sqrt(2)*K + I)")
    assert isinstance(matrix, np.ndarray)
    assert not is_exact(matrix)
    assert _floats(matrix) == pytest.approx(np.eye(2))


@pytest.mark.parametrize(
    ("text", "error", "clause"),
    [
        ("X @ a", MisfitError, "X @ a (column 3) multiplies a 2 x 1 matrix by a vector of length 2"),
        ("X @ X", MisfitError, "multiplies a 2 x 1 matrix by a 2 x 1 matrix"),
        ("a + w0", MisfitError, "a + w0 (column 3) joins a vector of length 2 and a vector of length 1 by '+'"),
        ("a - K", MisfitError, "joins a vector of length 2 and a 2 x 2 matrix by '-'"),
        ("1 - S", MisfitError, "1 - S (column 3) joins a number and a 2 x 2 matrix by '-'"),
        ("a - I", MisfitError, "joins a vector of length 2 and a multiple of the identity by '-'"),
        ("I - X", MisfitError, "adds the identity to a 2 x 1 matrix, which is not square"),
        ("2 @ K", MisfitError, "joins a number and a 2 x 2 matrix by '@'"),
        ("dot(a, w0)", MisfitError, "multiplies a vector of length 2 by a vector of length 1"),
        ("inv(X)", MisfitError, "inv needs a square matrix, and X (column 5) is a 2 x 1 matrix"),
        ("mpow(X, 2)", MisfitError, "mpow needs a square matrix"),
        ("solve(K, w0)", MisfitError, "joins a 2 x 2 matrix and a vector of length 1"),
        ("trace(I)", MisfitError, "the size of I in trace(...) cannot be told; write eye(n) or eye(d)"),
        ("L(a)", MisfitError, "L takes weights, a vector of length 1 here, and a (column 3) is a vector of length 2"),
        ("1 / (n - 2)", UndefinedError, "1 / (n - 2) (column 3) divides by zero"),
        ("0**-1", UndefinedError, "divides by zero"),
        ("inv(K)", UndefinedError, "K (column 5) has no inverse"),
        ("solve(K, a)", UndefinedError, "K (column 7) has no inverse"),
        ("mpow(K, -1)", UndefinedError, "K (column 6) has no inverse"),
        ("inv(I - I)", UndefinedError, "inverse of zero"),
        ("mpow(K, 1/2)", UndefinedError, "mpow needs a whole number, and 1/2 (column 10) is 1/2"),
        ("sum(a for k in range(n/4))", UndefinedError, "range needs a whole number"),
        ("sum(a for k in range(0, 2, 0))", UndefinedError, "range cannot count in steps of 0"),
        ("sqrt(-n)", UndefinedError, "the root of a negative number"),
        ("(-n)**(1/3)", UndefinedError, "has no real value, for the base is -2"),
        ("log(0)", UndefinedError, "the logarithm of a number that is not positive"),
        ("exp(exp(exp(9)))", UndefinedError, "is too large"),
        ("((10*n)**200)**200", UndefinedError, "is too large"),
        ("eye(99)", UndefinedError, "eye needs a size from 1 to 16, and 99 (column 5) is 99"),
        ("inv(sqrt(2)*K)", UndefinedError, "has no inverse"),
    ],
)
def test_no_value_is_said_in_a_clause(text: str, error: type[NoValueError], clause: str) -> None:
    with pytest.raises(error) as caught:
        value(text)
    assert clause in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2**999", "'**' at column 2: the exponent is 999; powers up to 200 are computed."),
        ("mpow(K, 999)", "mpow at column 9 is asked for 999; it goes up to 200."),
        ("sum(n for k in range(999))", "range at column 22 is asked for 999"),
        ("sum(sum(n*n for k in range(99)) for j in range(99))", "takes more than 15,000 multiplications"),
    ],
)
def test_too_much_work_is_an_input_error(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        value(text)
    assert message in str(caught.value)


def test_fractions_that_grow_too_long_become_floats() -> None:
    assert isinstance(value("(1/3)**200"), Fraction)
    assert isinstance(value("((1/3)**200)**7"), float)


def test_values_in_words_and_in_signs() -> None:
    assert describe(exact([[1, 2]])) == "a 1 x 2 matrix"
    assert describe(Fraction(1)) == "a number"
    assert show(exact([[1, Fraction(-3, 4)]])) == "[[1, -3/4]]"
    assert show(1 / 3) == "0.333333"
    assert show(Identity(Fraction(2))) == "2*I"

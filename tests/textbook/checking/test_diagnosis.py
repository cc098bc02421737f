"""What a diagnosis says to do makes the formula right."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulas import RIGHT, WRONG, answer_to
from thalweg.textbook.check import check
from thalweg.textbook.checking.diagnosis import Budget, diagnose, speaks_of
from thalweg.textbook.checking.formula import parse
from thalweg.textbook.checking.judging import random_samples
from thalweg.textbook.checking.targets import ONE_STEP, PRECONDITIONED, STEPS, TARGETS

NUMBERS = [
    key for key in RIGHT if key[0] in ("F2.5", "F2.7", "F2.8") and TARGETS[key[0]].quantities[key[1]].kind == "number"
]


@settings(max_examples=12, deadline=None)
@given(
    key=st.sampled_from(NUMBERS),
    constant=st.sampled_from(["1", "2", "-1", "(1/2)", "(-3/4)", "7"]),
    powers=st.fixed_dictionaries({name: st.integers(-2, 2) for name in ("n", "eta", "T", "(2*T - 1)")}),
)
def test_any_monomial_factor_is_found_and_undone(key: tuple[str, str], constant: str, powers: dict[str, int]) -> None:
    """Times c n^p eta^q T^r (2T - 1)^s: the factor named in the diagnosis makes the formula right again."""
    fact, name = key
    knows_T = "T" in TARGETS[fact].quantities[name].setting.symbols
    factor = "*".join(
        [constant, *(f"{base}**({power})" for base, power in powers.items() if knows_T or "T" not in base)]
    )
    answer = check(fact, f"{name} = {factor}*({RIGHT[key][0]})")
    if answer.correct:
        assert set(powers.values()) == {0} or not knows_T
        return
    assert answer.diagnosis is not None
    if answer.diagnosis.startswith("The sign is wrong"):
        inverse = "-1"
    else:
        found = re.search(r"multiply it by (.*)\.$", answer.diagnosis)
        assert found is not None
        inverse = found[1]
    assert check(fact, f"{name} = ({inverse}) * {factor}*({RIGHT[key][0]})").correct


@pytest.mark.parametrize(("fact", "formula"), [(fact, slip) for fact, slips in WRONG.items() for slip in slips[:4]])
def test_advice_taken_is_right(fact: str, formula: str) -> None:
    """The formula as the diagnosis would have it, or with the part exchanged that it names, passes the check."""
    answer = answer_to(fact, formula)
    advice = answer.diagnosis or ""
    whole = re.search(r"it is right as (.*)\.$", advice)
    part = re.search(r"it is right with (.*) in place of (.*) at column (\d+)\.$", advice)
    if whole:
        mended = f"{answer.quantity} = {whole[1]}"
    elif part:
        new, old, column = part[1], part[2], int(part[3]) - 1
        blank = re.compile(r"\s*".join(re.escape(sign) for sign in old if sign != " "))  # spacing is the reader's own
        found = blank.match(formula, column)
        assert found is not None, f"{old!r} does not stand at column {column + 1} of {formula!r}"
        mended = f"{formula[:column]}({new}){formula[found.end() :]}"
    else:
        return
    assert answer_to(fact, mended).correct


def test_a_condition_is_true_and_not_more_than_a_condition() -> None:
    """Right where T = 1: that alone is checked by the one-step fact, where the formula has no T."""
    trapped = check("F2.7", "L_T = norm(a - mpow(S, T) @ a)**2 / n")
    assert trapped.diagnosis == "It is right where T = 1, but not in general."
    assert check("F2.4", "L1 = norm(a - S @ a)**2 / n").correct
    assert check("F1.3", "limit = w0 + X.T @ inv(K) @ t").diagnosis == "It is right where w0 = 0, but not in general."
    assert "It is right where d >= n, but not in general." in str(
        check("F2.7", "w_T = w0 - h*X.T@inv(S)@(I - mpow(I - S, T))@a").diagnosis
    )
    assert "It is right where 2*eta/n = 1, but" in str(check("F2.4", "L1 = norm(a - K @ a)**2 / n").diagnosis)


def test_of_several_conditions_the_least_trivial_is_named() -> None:
    """1 + (k - 1) layers dilation is right at stride 1 with any k, and at k = 1, and with one layer."""
    answer = check("F3.3", "1 + (k - 1)*layers*dilation")
    assert answer.diagnosis == "It is right where stride = 1, but not in general."
    assert check("F3.3", "1").diagnosis == "It is right where k = 1, but not in general."


@pytest.mark.parametrize(
    ("fact", "formula"),
    [
        ("F2.6", "g @ g / (g @ H @ g) + 1e-12"),
        ("F2.4", "L1 = norm(a - S @ a)**2 / n * 1.0000000001"),
        ("F2.4", "L1 = norm(a - S @ a) * norm(a - S @ a) / n * 1.0000000018"),  # the norms are rounded
    ],
)
def test_a_factor_next_to_one_is_not_called_one(fact: str, formula: str) -> None:
    """In fractions a difference is a difference; what shows as 1 is no factor to multiply by."""
    answer = check(fact, formula)
    assert not answer.correct
    assert "times the truth" not in str(answer.diagnosis)


def test_a_factor_of_rounded_numbers_is_found() -> None:
    found = check("F2.4", "L1 = norm(a - S @ a) * norm(a - S @ a) / (3*n)").diagnosis
    assert found == "Your formula is 1/3 times the truth: multiply it by 3."


def test_nothing_is_said_where_nothing_is_known() -> None:
    target = TARGETS["F2.8"]
    root = parse("a @ K @ K @ K @ a + 17", target.vocabulary()).root
    samples = list(random_samples(target.quantities["dL"]))
    assert diagnose(root, "dL", target, samples, Budget()) is None


def test_an_empty_budget_gives_no_diagnosis() -> None:
    target = TARGETS["F2.8"]
    root = parse("(4*T/n**2) * a.T @ mpow(I - S, 2*T - 1) @ K @ a", target.vocabulary()).root
    samples = list(random_samples(target.quantities["dL"]))
    assert diagnose(root, "dL", target, samples, Budget(100)) is None
    found = diagnose(root, "dL", target, samples, Budget())
    assert found is not None
    assert found.text == "The sign is wrong: your formula is minus the truth."


def test_speaks_of() -> None:
    vocabulary = TARGETS["F2.7"].vocabulary()
    with_T = parse("L(w0) + T + sum(k for k in range(2))", vocabulary).root
    assert speaks_of(STEPS, with_T)
    assert not speaks_of(ONE_STEP, with_T)
    assert not speaks_of(PRECONDITIONED, parse("L(w0)", vocabulary).root)

"""`check` accepts what is right in any form, refutes what is wrong with numbers a person can follow, and says why."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import thalweg as tw
from formulas import RIGHT, WRONG, answer_to
from numpy_reader import to_float, truth, yours
from thalweg.errors import InputError
from thalweg.textbook.check import Check, check
from thalweg.textbook.checking.targets import TARGETS

FORMS = [
    (fact, quantity, form, number) for (fact, quantity), forms in RIGHT.items() for number, form in enumerate(forms)
]
SLIPS = [(fact, formula) for fact, formulas in WRONG.items() for formula in formulas]
SECONDS = 6.0  # of processor time for one check: four times what the slowest takes when the machine is idle


def quantity_of(fact: str, formula: str) -> str:
    name = formula.split("=")[0].strip()
    return name if name.isidentifier() else next(iter(TARGETS[fact].quantities))


@pytest.mark.parametrize(("fact", "quantity", "form", "number"), FORMS)
def test_accepts_every_right_form(fact: str, quantity: str, form: str, number: int) -> None:
    """Algebraically different forms are all right, with the name of the quantity and, for the first, without."""
    answer = check(fact, form if number == 0 else f"{quantity} = {form}")
    assert (answer.correct, answer.quantity) == (True, quantity)
    assert answer.counterexample is None
    example = answer.example.to_dict()
    symbols = {name: to_float(value) for name, value in example["symbols"].items()}
    assert to_float(example["yours"]) == pytest.approx(truth(fact, quantity, symbols), rel=1e-4)


def test_every_quantity_has_three_right_forms_and_every_judged_fact_ten_slips() -> None:
    assert set(RIGHT) == {(fact, name) for fact, target in TARGETS.items() for name in target.quantities}
    assert all(len(set(forms)) >= 3 for forms in RIGHT.values())
    assert all(len(WRONG[f"F2.{number}"]) >= 10 for number in range(4, 10))


@pytest.mark.parametrize(("fact", "formula"), SLIPS)
def test_refutes_every_slip_with_hand_sized_numbers(fact: str, formula: str) -> None:
    """The counterexample has n, d <= 2 and entries within +-2, and NumPy agrees on both of its values."""
    answer = answer_to(fact, formula)
    assert not answer.correct
    assert answer.quantity == quantity_of(fact, formula)
    counterexample = json.loads(answer.to_json())["counterexample"]
    assert counterexample["text"].endswith(".")
    symbols = {name: to_float(value) for name, value in counterexample["symbols"].items()}
    for name, value in symbols.items():
        if name in TARGETS[fact].quantities[answer.quantity].needs:
            assert max(np.shape(value), default=1) <= 2
            assert np.max(np.abs(value)) <= 3  # T and the sizes of a network go up to 3
    right = truth(fact, answer.quantity, symbols)
    assert to_float(counterexample["truth"]) == pytest.approx(right, rel=1e-4, abs=1e-4)
    if counterexample["yours"] is None:
        with pytest.raises((ValueError, np.linalg.LinAlgError)):
            yours(formula, symbols)
    else:
        given_value = to_float(counterexample["yours"])
        assert given_value == pytest.approx(yours(formula, symbols))
        assert np.shape(given_value) != np.shape(right) or not np.allclose(given_value, right, rtol=1e-6, atol=1e-6)


def test_refutes_the_wrong_versions_of_the_worked_answer_from_their_own_trap() -> None:
    """With one eigenvalue, wrong and right agree where it is 0 or 1: the counterexample must lie elsewhere."""
    answer = check("F2.7", "L_T = (1/n) * norm(a - mpow(S, T) @ a)**2")
    assert answer.counterexample is not None
    assert answer.counterexample.to_dict()["symbols"]["S"] == [[2]]
    assert answer.counterexample.to_dict()["symbols"]["T"] == 2
    assert (answer.counterexample.yours, answer.counterexample.truth) == (9, 1)


@pytest.mark.parametrize(
    ("fact", "formula", "sentence"),
    [
        ("F2.8", "(4*T/n**2) * a.T @ mpow(I - S, 2*T-1) @ K @ a", "The sign is wrong"),
        ("F2.8", "dL = -(2*T/n**2) * a.T @ mpow(I - S, 2*T-1) @ K @ a", "multiply it by 2."),
        ("F2.8", "dL = -(4*T/n) * a.T @ mpow(I - S, 2*T-1) @ K @ a", "multiply it by 1/n."),
        ("F2.8", "dL = -(4/n**2) * a.T @ mpow(I - S, 2*T-1) @ K @ a", "multiply it by T."),
        ("F2.8", "dL = -(4/n**2) * a.T @ mpow(I - S, 2*T-1) @ S @ a", "multiply it by T*n/(2*eta)"),
        ("F2.8", "d2L = (8*T**2/n**3) * a @ mpow(I - S, 2*T-2) @ K @ K @ a", "multiply it by (2*T - 1)/T."),
        ("F2.8", "dL = -(4*T/n**2) * a.T @ mpow(I - S, 2*T) @ K @ a", "with mpow(I - S, 2*T - 1) in place of"),
        ("F2.8", "dL = -(4*T/n**2) * a.T @ mpow(I - S, T) @ K @ a", "It is right where T = 1, but not in general."),
        ("F2.7", "L_T = (1/n) * norm(a - mpow(S, T) @ a)**2", "It is right where T = 1, but not in general."),
        ("F2.7", "L_T = (1/n) * a @ mpow(I - S, T) @ a", "with mpow(I - S, 2*T) in place of mpow(I - S, T)"),
        ("F2.7", "w2 = w0 - (2*eta/n) * X.T @ S @ a", "with 2*I - S in place of S at column 29"),
        ("F2.7", "w0 - h*X @ sum(mpow(I - S, k) @ a for k in range(T))", "with X.T in place of X at column 8"),
        ("F2.7", "w_T = w0 - h*X.T @ inv(S) @ (I - mpow(I - S, T)) @ a", "with pinv(S) in place of inv(S)"),
        ("F2.7", "w_T = w0 - h*X.T @ sum(mpow(I - S, k) @ a for k in range(T - 1))", "for k in range(T))"),
        ("F2.4", "w1 = h * X.T @ a - w0", "The sign is wrong"),
        ("F2.4", "w1 = w0 - (2*eta/d) * X.T @ a", "with n in place of d at column 18"),
        ("F2.4", "w1 = w0 - 2*eta * X.T @ a", "It is right where n = 1, but not in general."),
        ("F2.4", "L1 = norm((1 - S) @ a)**2 / n", "with I - S in place of 1 - S at column 12"),
        ("F2.4", "w1 = -h * X.T @ a", "A term is missing: it is right as -h * X.T @ a + w0"),
        ("F2.5", "dL1 = -(2/n)**2 * a @ (I - S) @ (I - S) @ K @ a", "Something is superfluous"),
        ("F2.6", "norm(g) / (g @ H @ g)", "with norm(g)**2 in place of norm(g) at column 1"),
        ("F2.6", "a", "It gives a vector of length 1 where a number is asked for."),
        ("F2.9", "(1/2) * e @ H @ mpow(I - eta*H, 2*T) @ e", "+ L(w_lam)."),
        ("F2.9", "L(w_lam) + (1/2) * e @ H @ mpow(I - H, 2*T) @ e", "with I - eta*H in place of I - H"),
        ("F1.4", "w2 = (delta*I - Xj.T @ Xj) @ Xi.T @ ti + Xj.T @ tj", "It is right for s2, the velocity"),
        ("F1.3", "limit = pinv(X) @ t", "It is right for w_star"),
        ("F3.2", "k*k*c_in*c_out", "A term is missing: it is right as k*k*c_in*c_out + c_out."),
    ],
)
def test_says_what_is_off(fact: str, formula: str, sentence: str) -> None:
    diagnosis = check(fact, formula).diagnosis
    assert diagnosis is not None
    assert sentence in diagnosis


def test_finds_the_wrong_batch_of_the_worked_answer() -> None:
    """F1.2's last line has X_i, t_i where X_j, t_j must be."""
    diagnosis = check("F1.2", WRONG["F1.2"][0]).diagnosis
    assert diagnosis is not None
    assert "it is right with (I - Xk.T @ Xk) @ Xj.T @ tj in place of (I - Xk.T @ Xk) @ Xi.T @ ti" in diagnosis


def test_shapes_that_do_not_fit_are_an_answer() -> None:
    """The smallest shape in which they do not fit is shown, with the product and both shapes in words."""
    answer = check("F2.4", "w1 = w0 - h * X @ a")
    assert answer.counterexample is not None
    assert answer.counterexample.yours is None
    assert "h*X @ a (column 17) multiplies a 1 x 2 matrix by a vector of length 1" in answer.counterexample.text
    assert json.loads(answer.to_json())["counterexample"]["yours"] is None


def test_an_undefined_value_is_wrong_only_where_it_is_no_accident() -> None:
    """1/(stride - 1) misses stride = 1 and is right elsewhere, and says so; inv(S) misses every n > d."""
    closed = check("F3.3", "1 + (k - 1)*dilation*(stride**layers - 1)/(stride - 1)")
    assert closed.correct
    assert closed.diagnosis is not None
    assert "divides by zero" in closed.diagnosis
    assert not check("F2.7", "w_T = w0 - h*X.T @ inv(S) @ (I - mpow(I - S, T)) @ a").correct


def test_a_formula_without_any_value_is_wrong() -> None:
    nowhere = check("F3.2", "neurons = 1 / (k - k)")
    assert not nowhere.correct
    assert nowhere.counterexample is not None
    assert "divides by zero" in nowhere.counterexample.text


def test_roots_and_exponentials_are_compared_up_to_rounding() -> None:
    """norm without its square leaves the fractions; what is right stays right, and a part in a million is seen."""
    assert check("F2.4", "L1 = exp(2*log(norm(a - S @ a))) / n").correct
    assert check("F2.4", "L1 = sqrt(norm(a - S @ a)**4) / n").correct
    assert not check("F2.4", "L1 = 1.000001 * norm(a - S @ a) * norm(a - S @ a) / n").correct


def test_an_unnamed_formula_is_held_against_the_quantity_it_comes_nearest_to() -> None:
    assert check("F2.8", "8*T*(2*T - 1)/n**2 * a @ mpow(I - S, 2*T - 2) @ K @ K @ a").quantity == "d2L"
    assert check("F2.7", "w0 - h * X.T @ sum(mpow(I - S, k) @ a for k in range(1, T))").quantity == "w_T"
    assert check("F2.7", "mpow(I - S, T + 1) @ a").quantity == "residual"


def test_a_formula_with_T_is_no_formula_for_two_steps() -> None:
    """T*I - S is 2 I - S at T = 2, which is no reason to call it right for w2."""
    assert not check("F2.7", "w0 - h * X.T @ (T*I - S) @ a").correct
    with pytest.raises(InputError, match=r"w2 of F2\.7 is the weights after two steps; write it in X, t, w0"):
        check("F2.7", "w2 = w0 - h * X.T @ (T*I - S) @ a")


@pytest.mark.parametrize(
    ("fact", "formula", "message"),
    [
        ("F2.1", "a", "There is no formula to check for 'F2.1'; the facts that have one are F1.1, F1.2"),
        ("F9.9", "a", "There is no formula to check for 'F9.9'"),
        ("F2.8", "", "There is no formula to check; write one for dL or d2L in the symbols of F2.8: X, t, w0"),
        ("F2.8", "dLoss = a", "F2.8 has no quantity named 'dLoss'; write dL or d2L before the '='"),
        ("F2.8", "a @ Q @ a", "'Q' at column 5: F2.8 has no such symbol"),
        ("F2.5", "T * a @ K @ a", "'T' at column 1: F2.5 has no such symbol"),
        ("F2.8", "sum(sum(a @ K @ a for i in range(99)) for j in range(99))", "takes more than 15,000 multiplications"),
    ],
)
def test_bad_input_is_one_sentence(fact: str, formula: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check(fact, formula)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fact", "formula", "message"),
    [
        (3, "a", "The id of a fact is text, such as 'F2.8', and this is of type int."),
        (None, "a", "The id of a fact is text, such as 'F2.8', and this is of type NoneType."),
        ("F2.8", None, "A formula is text, such as 'w0 - eta*g', and this is of type NoneType."),
        ("F2.8", np.eye(2), "A formula is text, such as 'w0 - eta*g', and this is of type ndarray."),
    ],
)
def test_what_is_no_text_is_one_sentence(fact, formula, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check(fact, formula)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fact", "formula", "quantity"),
    [
        ("F2.7", "wT = w0 - h * X.T @ sum(mpow(I - S, k) @ a for k in range(T))", "w_T"),
        ("F2.7", "LT = norm(mpow(I - S, T) @ a)**2 / n", "L_T"),
        ("F2.8", "dLT = -(4*T/n**2) * a.T @ mpow(I - S, 2*T-1) @ K @ a", "dL"),
        ("F2.8", "d2L_T = (8*T*(2*T-1)/n**3) * a @ mpow(I - S, 2*T-2) @ K @ K @ a", "d2L"),
        ("F2.5", "d2l_1 = g @ H @ g", "d2L1"),
    ],
)
def test_quantities_may_be_named_as_the_facts_print_them(fact: str, formula: str, quantity: str) -> None:
    answer = check(fact, formula)
    assert (answer.correct, answer.quantity) == (True, quantity)


@pytest.mark.parametrize("formula", ["a @ a", "a @ w0", "dL = -(4*T/n**2) * a.T @ mpow(I - S, 2*T-1) @ K @ a"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda answer: pickle.loads(pickle.dumps(answer))])
def test_an_answer_can_be_copied_and_pickled(duplicate, formula: str) -> None:
    """Right, wrong and without a value: the copy tells, draws and tabulates the same."""
    answer = check("F2.8", formula)
    twin = duplicate(answer)
    assert twin is not answer
    assert twin.to_json() == answer.to_json()
    assert twin.table().to_text() == answer.table().to_text()
    assert twin.figure().to_json() == answer.figure().to_json()


def test_an_answer_is_short_in_a_traceback() -> None:
    answer = check("F2.8", "a @ a")
    assert len(repr(answer)) < 200
    assert " at 0x" not in repr(answer) + repr(answer.example)


@pytest.mark.parametrize(("formula", "reason"), [("a @ w0", "multiplies a vector"), ("a", "where a number is asked")])
def test_why_there_is_no_value_is_told_once(formula: str, reason: str) -> None:
    text = check("F2.8", formula).table().to_text()
    assert text.count(reason) == 1
    assert "At this point" not in text


def test_why_there_is_no_value_is_told_where_the_diagnosis_speaks_of_something_else() -> None:
    """Without a diagnosis, or with another one, the note under the table says what happened at the point shown."""
    answer = check("F2.8", "a @ w0")
    for other in (None, "It is right where T = 1, but not in general."):
        notes = dataclasses.replace(answer, diagnosis=other).table().notes
        assert notes[-1].startswith("At this point your formula has no value, for a @ w0 (column 3) multiplies")


def test_the_public_name_ignores_case_and_blanks() -> None:
    answer = tw.check(" f2.4 ", "  w0 - η*g ")
    assert isinstance(answer, Check)
    assert (answer.id, answer.correct, answer.formula) == ("F2.4", True, "w0 - η*g")


def test_json_has_the_documented_keys_and_types() -> None:
    wrong = json.loads(check("F2.5", "dL1 = -(2/n)**2 * a @ K @ a / 3").to_json())
    assert list(wrong) == ["id", "quantity", "formula", "correct", "counterexample", "diagnosis"]
    assert list(wrong["counterexample"]) == ["symbols", "yours", "truth", "text"]
    assert wrong["counterexample"]["symbols"]["eta"] == "1/2"
    assert wrong["counterexample"]["symbols"]["X"] == [[1]]
    assert wrong["counterexample"]["yours"] == "-4/3"
    assert wrong["counterexample"]["truth"] == 0
    right = json.loads(check("F2.5", "d2L1 = g @ H @ g").to_json())
    assert (right["correct"], right["counterexample"], right["diagnosis"]) == (True, None, None)


def test_the_table_shows_formula_numbers_verdict_and_reason() -> None:
    text = check("F2.4", "w1 = w0 + h * X.T @ a").table().to_text()
    assert text.splitlines()[0] == "F2.4: wrong for w1, the weights after one step"
    for part in ("w0 + h * X.T @ a", "your formula gives  [-1]", "the truth           [1]", "A sign is wrong"):
        assert part in text
    assert "Compared at 40 random points" in check("F2.4", "w0 - h * X.T @ a").table().to_text()
    assert "no value" in check("F2.4", "w0 - h * X @ a").table().to_text()


def test_the_figure_draws_the_formula_and_the_truth_over_the_learning_rate() -> None:
    """Each curve is the formula, or the truth, at the data of the counterexample and that rate."""
    answer = check("F2.8", "dL = -(4*T/n**2) * a.T @ mpow(I - S, T) @ K @ a")
    right, wrong = answer.figure().data
    symbols = {name: to_float(value) for name, value in answer.example.to_dict()["symbols"].items()}
    assert len(right.x) == 61
    for rate, height, false_height in list(zip(right.x, right.y, wrong.y, strict=True))[::10]:
        here = {**symbols, "eta": rate, "S": 2 * rate / symbols["n"] * symbols["K"]}
        assert height == pytest.approx(truth("F2.8", "dL", here))
        assert false_height == pytest.approx(yours("-(4*T/n**2) * a.T @ mpow(I - S, T) @ K @ a", here))


def test_the_figure_draws_every_entry_of_a_vector_and_leaves_gaps() -> None:
    assert len(check("F2.4", "w0 - g").figure().data) == 2
    misfit = check("F2.4", "w0 - h * X @ a").figure()
    assert [curve.name for curve in misfit.data[:2]] == ["the truth, entry 1", "the truth, entry 2"]
    assert all(height is None for height in misfit.data[2].y)
    assert check("F2.6", "1/2").figure().data[1].y == (0.5,)  # not a function of eta: bars


def test_a_wrong_formula_is_saved_as_a_page(tmp_path) -> None:
    page = check("F2.4", "w0 - g").save(tmp_path / "check.html").read_text()
    assert "F2.4: wrong for w1" in page


NAMES = sorted({name for target in TARGETS.values() for name in target.vocabulary().kinds})
WORDS = [
    *NAMES,
    *"0123456789",
    "2",
    "inv(",
    "mpow(",
    "norm(",
    "sum(",
    " for k in range(",
    "L(",
    ".T",
    "@",
    "**",
    "9**9",
]
SIGNS = [*list("+-*/@(),.= ^'\"[]{}_\\\nηλ:;!"), "lambda ", "__class__", " if ", " else ", "import", "\x00", "∑"]


def bounded_check(fact: str, formula: str) -> Check | None:
    start = time.process_time()
    try:
        answer = check(fact, formula)
    except InputError:
        answer = None
    assert time.process_time() - start < SECONDS
    return answer


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    fact=st.sampled_from(sorted(TARGETS)),
    formula=st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS + SIGNS), max_size=25).map("".join)),
)
def test_any_text_is_an_answer_or_an_input_error(fact: str, formula: str) -> None:
    bounded_check(fact, formula)


def expressions(fact: str) -> st.SearchStrategy[str]:
    """Formulas that mostly parse: symbols of the fact under random operations."""
    vocabulary = TARGETS[fact].vocabulary()

    def deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "@", "**"]), inner).map(lambda t: f"({' '.join(t)})"),
            st.tuples(st.sampled_from(sorted(vocabulary.functions)), inner).map(lambda t: f"{t[0]}({t[1]})"),
            st.tuples(inner, inner).map(lambda t: f"mpow({t[0]}, {t[1]})"),
            st.tuples(inner, inner).map(lambda t: f"sum({t[0]} for m in range({t[1]}))"),
            inner.map(lambda text: f"-{text}"),
            inner.map(lambda text: f"{text}.T"),
        )

    leaves = st.sampled_from([*vocabulary.kinds, "1", "2", "0", "3.5", "9**9"])
    return st.recursive(leaves, deeper, max_leaves=8)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=st.sampled_from(sorted(TARGETS)).flatmap(lambda fact: st.tuples(st.just(fact), expressions(fact))))
def test_any_formula_is_judged_or_refused_in_time(case: tuple[str, str]) -> None:
    answer = bounded_check(*case)
    assert answer is None or answer.correct == (answer.counterexample is None)


@pytest.mark.parametrize(
    ("fact", "formula"),
    [
        ("F2.8", "9**9**9"),
        ("F2.8", "((((a@a)**200)**200)**200)"),
        ("F2.8", "exp(exp(exp(exp(a@a))))"),
        ("F2.8", "mpow(mpow(mpow(S,200),200),200) @ a @ a"),
        ("F2.8", " @ ".join(["a", *["S"] * 55, "a"])),
        ("F2.8", "sum(sum(mpow(S,k) @ a for k in range(200)) for j in range(200)) @ a"),
        ("F2.8", "sum(a@a for k in range(10**9))"),
        ("F2.8", "mpow(S, 10**9) @ a @ a"),
        ("F2.9", "sum(sum(e @ mpow(H,k) @ e for k in range(T)) for j in range(6))"),
        ("F2.7", " + ".join(["L(w0)"] * 55)),
        ("F2.7", "w0 + " + " + ".join(["X.T @ mpow(S, 3) @ a"] * 25)),
        ("F3.2", " * ".join(["k**2"] * 50)),
        ("F2.8", "(" * 100 + "n" + ")" * 100),
        ("F2.8", "-" * 1999 + "n"),
        ("F2.8", "n+" * 999 + "n"),
        ("F2.8", "n" * 2001),
    ],
)
def test_no_formula_takes_long(fact: str, formula: str) -> None:
    bounded_check(fact, formula)


def test_the_rows_of_the_table_of_network_sizes_satisfy_the_accepted_formulas() -> None:
    """The counting at small sizes and mission.md's table at large ones speak of the same formulas."""
    for k, c_in, c_out, size, neurons, parameters, connections in (
        (3, 3, 64, 112, 802_816, 1_792, 21_676_032),
        (3, 64, 128, 56, 401_408, 73_856, 231_211_008),
        (3, 128, 256, 28, 200_704, 295_168, 231_211_008),
        (3, 256, 256, 28, 200_704, 590_080, 462_422_016),
    ):
        layer = {"k": k, "c_in": c_in, "c_out": c_out, "height": size, "width": size}
        printed = {"neurons": neurons, "parameters": parameters, "connections": connections}
        for name, count in printed.items():
            for form in RIGHT["F3.2", name]:
                assert math.isclose(yours(form, layer), count)

"""One edit away: each edit is a formula, differs from the old one, and sums and products fold as they should."""

from __future__ import annotations

import pytest

from formulas import RIGHT
from thalweg.errors import InputError
from thalweg.textbook.checking.edits import edits
from thalweg.textbook.checking.formula import parse, symbols_in, to_text
from thalweg.textbook.checking.targets import TARGETS


@pytest.mark.parametrize(("fact", "name"), list(RIGHT))
def test_edits_are_formulas_that_differ(fact: str, name: str) -> None:
    vocabulary = TARGETS[fact].vocabulary(name)
    root = parse(RIGHT[fact, name][0], vocabulary).root
    readable = 0
    for edit in edits(root, vocabulary):
        assert edit.root != root
        try:
            assert parse(to_text(edit.root), vocabulary).root == edit.root
        except InputError:  # such as a matrix times a matrix with *: tried, and found not to fit
            continue
        readable += 1
    assert readable > 10


@pytest.mark.parametrize(
    ("slip", "meant", "kind"),
    [
        ("mpow(S, 2*T) @ a", "mpow(S, 2*T - 1) @ a", "An exponent is wrong"),
        ("mpow(S, 2*T - 2) @ a", "mpow(S, 2*T - 1) @ a", "An exponent is wrong"),
        ("mpow(S, 2*T - 1) @ a", "mpow(S, 2*T) @ a", "An exponent is wrong"),
        ("mpow(S, T) @ a", "mpow(S, 2*T - 2) @ a", "An exponent is wrong"),
        ("mpow(S, 2*T) @ a", "mpow(S, T) @ a", "An exponent is wrong"),
        ("n**2 * a", "n**3 * a", "An exponent is wrong"),
        ("mpow(S, 3) @ a", "mpow(S, 6) @ a", "An exponent is wrong"),
        ("X.T @ a", "X @ a", "A transpose is wrong"),
        ("a + S @ a", "a - S @ a", "A sign is wrong"),
        ("S @ a", "K @ a", "A symbol is wrong"),
        ("S @ a", "S @ K @ a", "A matrix is missing"),
        ("S @ a", "(I - S) @ a", "A matrix is missing"),
        ("S @ K @ a", "S @ a", "A symbol is wrong"),
        ("(1 - S) @ a", "(I - S) @ a", "A number stands where a matrix should"),
        ("(2 - S) @ a", "(2*I - S) @ a", "A number stands where a matrix should"),
        ("inv(S) @ a", "pinv(S) @ a", "An inverse does not exist"),
        ("a - K @ a", "a - h * (K @ a)", "A factor is missing"),
        ("3 * a", "4 * a", "A number is wrong"),
        ("sum(mpow(S, k) @ a for k in range(T - 1))", "sum(mpow(S, k) @ a for k in range(T))", "The number of steps"),
        ("sum(S @ a for k in range(T))", "sum(S @ a for k in range(1, T + 1))", "The number of steps is wrong"),
        ("sum(S @ a for k in range(1, T))", "sum(S @ a for k in range(0, T))", "The number of steps is wrong"),
        ("-a", "a", "A sign is wrong"),
        ("S @ a", "S @ a + w0", "A term is missing"),
    ],
)
def test_common_slips_are_one_edit_away(slip: str, meant: str, kind: str) -> None:
    vocabulary = TARGETS["F2.8"].vocabulary()
    found = {to_text(edit.root): edit for edit in reversed(list(edits(parse(slip, vocabulary).root, vocabulary)))}
    if kind == "A symbol is wrong" and "K @ a" in slip:
        assert found[meant].slip == "Something is superfluous"
    else:
        assert found[to_text(parse(meant, vocabulary).root)].slip.startswith(kind)


def test_only_offered_symbols_are_put_in() -> None:
    vocabulary = TARGETS["F2.8"].vocabulary()
    root = parse("(I - S) @ a", vocabulary).root
    assert any("lam" in symbols_in(edit.root) for edit in edits(root, vocabulary))
    offered = set(vocabulary.kinds) - {"lam"}
    inserted = [edit for edit in edits(root, vocabulary, offered) if edit.slip != "A term is missing"]
    assert not any("lam" in symbols_in(edit.root) for edit in inserted)


def test_a_whole_batch_can_be_exchanged() -> None:
    vocabulary = TARGETS["F1.2"].vocabulary()
    root = parse("(I - Xk.T @ Xk) @ Xi.T @ ti", vocabulary).root
    texts = [to_text(edit.root) for edit in edits(root, vocabulary) if edit.slip == "A batch is wrong"]
    assert "(I - Xk.T @ Xk) @ Xj.T @ tj" in texts


def test_numbers_stay_exact() -> None:
    vocabulary = TARGETS["F2.8"].vocabulary()
    found = edits(parse("3 * a", vocabulary).root, vocabulary)
    texts = {to_text(edit.root) for edit in found if edit.slip == "A number is wrong"}
    assert texts == {"4*a", "2*a", "6*a", "1.5*a", "-3 * a"}

"""The ledger: every fact of mission.md holds, every wrong version it names is refuted, and a broken book is noticed."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from thalweg.errors import InputError
from thalweg.textbook import convolution, implicit_bias, learning_rate, ledger_learning_rate, unrolled
from thalweg.textbook.facts import FACTS, Facts, facts

IDS = [
    *("F1.1", "F1.2", "F1.3", "F1.4", "F1.5", "F1.5w", "F1.6", "F1.7"),
    *(f"F2.{number}" for number in range(1, 10)),
    *("F3.1", "F3.2", "F3.3"),
]


@pytest.fixture(scope="module")
def ledger():
    return facts()


def by_id(ledger, number):
    return next(fact for fact in ledger.facts if fact.id == number)


def test_every_fact_is_there_once_and_in_order(ledger):
    assert [fact.id for fact in ledger.facts] == IDS == list(FACTS)


@pytest.mark.parametrize("number", IDS)
def test_fact_holds_to_ten_digits(ledger, number):
    fact = by_id(ledger, number)
    assert fact.holds
    assert 0 <= fact.error < 1e-10
    assert fact.steps
    assert fact.claim
    assert fact.computed


@pytest.mark.parametrize("number", ["F1.7", "F3.1", "F3.2", "F3.3"])
def test_counts_are_exact(ledger, number):
    assert by_id(ledger, number).error == 0


@pytest.mark.parametrize(
    ("number", "claim", "counterexample"),
    [
        ("F1.2", "middle term", "w3 for X = [[1], [0]], t = [1, 0], w0 = [0], eta = 1/2, rows 1, 2, 2 in turn: "),
        ("F1.2", "starts from w1", "X = [[2]], t = [1]"),
        ("F1.4", "velocity s2 takes the place", "delta = 1/2: the wrong version gives [0.5], the truth is [1.5]"),
        ("F1.5", "AdaGrad ends at the minimum-norm", "X = [[1, 2]], t = [1]"),
        (
            "F1.5w",
            "goes where AdaGrad goes",
            "X = [[1, 2]], t = [1], w0 = [0, 0], eta = eps -> 0: the wrong version gives",
        ),
        ("F1.5w", "the step squared", "eta = 1, eps = 2: the wrong version gives [1], the truth is [4]"),
        (
            "F1.6",
            "every method that scales",
            "X = [[1]], t = [1], w0 = [0]: the wrong version gives yes, the truth is no",
        ),
        ("F1.6", "all entries of X have one size", "X = [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1]]"),
        ("F1.6", "fixed preconditioner", "P = diag(1, 2): the wrong version gives [0.5, 0.5], the truth is [1/3, 2/3]"),
        (
            "F2.7",
            "S where 2I - S belongs",
            "X = [[1]], t = [1], w0 = [0], eta = 1: the wrong version gives [4], the truth is [0]",
        ),
        ("F2.7", "S^2 where 3I - 3S + S^2 belongs", "the wrong version gives [8], the truth is [2]"),
        (
            "F2.7",
            "||a - S^T a||^2",
            "L2 for X = [[1]], t = [1], w0 = [0], eta = 1: the wrong version gives 9, the truth is 1",
        ),
        (
            "F2.8",
            "strictly",
            "d2L2/d eta2 > 0 for X = [[1]], t = [1], w0 = [0], eta = 1/2: the wrong version gives yes",
        ),
        ("F2.9", "eigenvalues of K shifted", "eta = 1, lam = 1: the wrong version gives 9, the truth is 5"),
        ("F3.1", "convolution and cross-correlation are the same", "[[1, 0]] with the filter [[1, 0, 0]]"),
        ("F3.2", "105,200", "102,500"),
        (
            "F3.3",
            "sees what the network accepts",
            "2-wide convolution on an image of 3 pixels: the wrong version gives 3",
        ),
        ("F3.3", "own stride", "2-wide kernel and stride 2: the wrong version gives 3, the truth is 2"),
    ],
)
def test_wrong_versions_are_refuted_by_the_smallest_case(ledger, number, claim, counterexample):
    """Each was checked by hand: it is the first case in the search's order, from the smallest numbers up."""
    matching = [wrong for wrong in by_id(ledger, number).wrong if claim in wrong.claim]
    assert len(matching) == 1
    assert counterexample in matching[0].counterexample


def test_no_wrong_version_is_missing(ledger):
    assert sum(len(fact.wrong) for fact in ledger.facts) == 18


@pytest.mark.parametrize(
    ("number", "room", "name", "spoiled"),
    [
        ("F1.1", implicit_bias, "gradient", lambda X, t, w: X.T @ (X @ w - t) / len(t)),
        ("F1.3", implicit_bias, "nearest_solution", lambda X, t, w0: np.linalg.pinv(X) @ t),
        ("F1.6", implicit_bias, "nearest_solution_in_norm", lambda X, t, w0, P: w0 + np.linalg.pinv(X) @ (t - X @ w0)),
        ("F2.1", unrolled, "gradient", lambda X, t, lam, w: 2 * X.T @ (X @ w - t) / len(t) + lam * w),
        ("F2.2", unrolled, "hessian", lambda X, lam: 2 * X.T @ X / len(X) + lam * np.eye(X.shape[1])),
        ("F2.5", learning_rate, "one_step_slope", lambda *_: 0.0),
        ("F2.7", learning_rate, "loss_after", learning_rate.wrong_loss_after),
        ("F2.9", learning_rate, "ridge_loss_after", learning_rate.wrong_ridge_loss_after),
        ("F3.1", convolution, "convolve", lambda image, kernel: np.roll(convolution.correlate(image, kernel), 1)),
        ("F3.2", convolution, "layer_sizes", lambda shape, layers: [convolution.Size((1,), 1, 1, 1)] * len(layers)),
        ("F3.3", convolution, "receptive_field", lambda windows: (convolution.wrong_receptive_field(windows), 8)),
    ],
)
def test_a_wrong_book_does_not_hold(monkeypatch, number, room, name, spoiled):
    """The checks are independent: a spoiled function of the textbook makes the fact fail, and the ledger says so."""
    monkeypatch.setattr(room, name, spoiled)
    answer = facts(number)
    assert not answer.facts[0].holds
    assert answer.verdict() == f"DO NOT HOLD: {number} of 1 facts."
    assert answer.table().rows[0][-1] == "WRONG"


def test_facts_are_named_in_any_case():
    assert facts("f1.5W").facts[0].id == "F1.5w"


def test_unknown_fact_suggests_the_nearest():
    with pytest.raises(InputError, match=re.escape("There is no fact named 'F2.11'; did you mean 'F2.1'?")):
        facts("F2.11")


def test_the_id_of_a_fact_is_text():
    with pytest.raises(InputError, match=r"The id of a fact is text, such as 'F2\.8', and this is of type int\."):
        facts(3)


def test_worked_example_reads_step_by_step():
    answer = facts("F1.5w")
    values = [step.value for step in answer.facts[0].steps]
    expected = ["[-6, -12]", "[6, 12]", "[36, 144]", "27", "[27, 54]", "2", "(0.00044999, 0.00045000)"]
    assert values[:7] == expected
    assert values[8:] == ["[-3, 3]", "[1, 1]"]
    titles = [table.title for table in answer.tables()]
    assert titles == [
        "The facts, computed and checked",
        "Step by step",
        "Wrong versions, and the smallest case that refutes each",
    ]
    assert [table.title for table in facts("F2.4").tables()] == titles[:2]


def test_json_keys_are_stable(ledger):
    document = json.loads(ledger.to_json())
    assert list(document) == ["facts"]
    for fact in document["facts"]:
        assert list(fact) == ["id", "claim", "computed", "holds", "error", "steps", "wrong"]
        assert all(list(wrong) == ["claim", "counterexample"] for wrong in fact["wrong"])
        assert all(list(step) == ["what", "value"] for step in fact["steps"])
    assert all(fact["holds"] is True for fact in document["facts"])


def test_tables_of_the_whole_ledger(ledger):
    table, wrong = ledger.tables()
    assert len(table.rows) == 20
    assert table.notes == ("All 20 facts hold: each error, against an independent check, is below 1e-10.",)
    assert len(wrong.rows) == 18
    assert ledger.verdict().startswith("All 20")
    assert Facts(ledger.facts[:1]).verdict().startswith("The fact holds")


def test_figure_puts_every_error_left_of_what_is_allowed(ledger):
    figure = ledger.figure()
    assert list(figure.data[0].y) == IDS
    assert max(figure.data[0].x) < 1e-10
    assert figure.layout.shapes[0].x0 == 1e-10


def test_exact_polynomials_of_the_ledger():
    """X = [[1]], t = [1], w0 = [0], one step: L_1 = (1 - 2 eta)^2, and lam (2 eta)^2 more with weight decay."""
    X, t, w0 = np.array([[1.0]]), np.array([1.0]), np.array([0.0])
    assert ledger_learning_rate.exact_loss(X, t, w0, 0, 1) == [1, -4, 4]
    assert ledger_learning_rate.exact_loss(X, t, w0, 3, 1) == [1, -4, 16]
    assert ledger_learning_rate.derivative([1, -4, 16]) == [-4, 32]
    assert ledger_learning_rate.value([1, -4, 16], 2) == 57

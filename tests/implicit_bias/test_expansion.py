"""Expansions are the textbook's, say what the literal run does, and their symbols mean what their text says."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg.errors import InputError
from thalweg.implicit_bias.expansion import expand
from thalweg.textbook import implicit_bias as textbook

generator = np.random.default_rng(0)
PROBLEM = tw.LeastSquares(generator.standard_normal((8, 5)), generator.standard_normal(8))
EPS = np.finfo(float).eps


def test_the_plain_expansion_is_the_facts():
    """F1.2, letter for letter as the textbook writes it, and w1, w2, w3 in numbers."""
    found = expand(PROBLEM, "i,j,k").weights
    assert [one.latex for one in found] == [textbook.expansion_latex("ijk"[:steps]) for steps in (1, 2, 3)]
    batches = [array for row in range(3) for array in (PROBLEM.X[[row]], PROBLEM.t[[row]])]
    for one, expected in zip(found, textbook.three_steps(*batches), strict=True):
        np.testing.assert_allclose(one.value, expected, rtol=1e-13)


def test_the_expansion_with_momentum_is_the_facts():
    """F1.4: s2 is not w2; both in symbols, and in numbers for delta = 0.9."""
    found = expand(PROBLEM, "i,j", momentum="delta")
    assert found.weights[1].latex == textbook.expansion_latex("ij", delta=r"\delta")
    assert found.velocities[1].latex == (r"s_{2} = (\delta I - X_{j}^\top X_{j}) X_{i}^\top t_{i} + X_{j}^\top t_{j}")
    assert expand(PROBLEM, "i,j,k", momentum="delta").weights[2].latex == textbook.expansion_latex(
        "ijk", delta=r"\delta"
    )
    numbers = expand(PROBLEM, "i,j", momentum=0.9)
    batches = [array for row in range(2) for array in (PROBLEM.X[[row]], PROBLEM.t[[row]])]
    s2, w2 = textbook.two_momentum_steps(*batches, 0.9)
    np.testing.assert_allclose(numbers.velocities[1].value, s2, rtol=1e-13)
    np.testing.assert_allclose(numbers.weights[1].value, w2, rtol=1e-13)


orders = st.lists(st.sampled_from("1234"), min_size=1, max_size=5)


@given(order=orders, momentum=st.sampled_from([0, 0.5, "delta"]), rate=st.sampled_from([None, 0.25, "c"]))
@settings(max_examples=30, deadline=None)
def test_every_expansion_is_checked_by_the_literal_run(order, momentum, rate):
    """Against the textbook's own recursion, too, where there are no symbols."""
    found = expand(PROBLEM, order, batch=2, momentum=momentum, rate=rate)
    assert max(one.difference for one in (*found.weights, *found.velocities)) < 1000 * EPS
    if not (isinstance(momentum, str) or isinstance(rate, str)):
        batches = [[2 * int(name) - 2, 2 * int(name) - 1] for name in order]
        path = textbook.heavy_ball(PROBLEM.X, PROBLEM.t, np.zeros(5), 1.0 if rate is None else rate, batches, momentum)
        np.testing.assert_allclose([one.value for one in found.weights], path[1:], rtol=1e-9, atol=1e-9)


@given(order=orders, momentum=st.sampled_from([0, "delta"]), rate=st.sampled_from([None, "c"]))
@settings(max_examples=10, deadline=None)
def test_the_matrix_expression_means_the_same(order, momentum, rate):
    """SymPy's own translation of the expression into NumPy, on other data than it was checked on."""
    last = expand(PROBLEM, order, momentum=momentum, rate=rate).weights[-1]
    symbols = sorted(last.expression.free_symbols, key=str)
    values = {"c": 0.3, "delta": 0.7}
    X, t = generator.standard_normal((4, 1, 5)), generator.standard_normal((4, 1, 1))
    for row in range(4):
        values |= {f"X_{row + 1}": X[row], f"t_{row + 1}": t[row]}
    got = sympy.lambdify(symbols, last.expression, "numpy")(*(values[str(symbol)] for symbol in symbols))
    path = textbook.heavy_ball(
        X[:, 0], t[:, 0, 0], np.zeros(5), 0.15 if rate else 0.5, [[int(name) - 1] for name in order],
        0.7 if momentum else 0.0,
    )  # fmt: skip
    np.testing.assert_allclose(np.ravel(got), path[-1], rtol=1e-9, atol=1e-9)


def test_a_batch_that_comes_again_is_collected():
    found = expand(PROBLEM, "i,j,i")
    assert set(found.weights[2].coefficients) == {"i", "j"}
    assert found.weights[2].latex == (
        r"w_{3} = (I + (I - X_{i}^\top X_{i}) (I - X_{j}^\top X_{j})) X_{i}^\top t_{i}"
        r" + (I - X_{i}^\top X_{i}) X_{j}^\top t_{j}"
    )


def test_many_steps_without_momentum_are_written_out_too():
    order = [str(step % 8 + 1) for step in range(100)]
    found = expand(tw.LeastSquares(PROBLEM.X / 3, PROBLEM.t), order)
    assert len(found.weights) == 100
    assert max(one.difference for one in found.weights) < 1000 * EPS


def test_names_take_batches_in_turn_and_numbers_their_own():
    rows = expand(PROBLEM, "b,a,b", batch=3).rows
    assert {name: array.tolist() for name, array in rows.items()} == {"b": [0, 1, 2], "a": [3, 4, 5]}
    assert expand(PROBLEM, ["4"], batch=2).rows["4"].tolist() == [6, 7]
    one_example = expand(tw.LeastSquares([[1.0, 2.0]], [3.0]), "i,j")
    assert [array.tolist() for array in one_example.rows.values()] == [[0], [0]]


def test_the_answer_is_shown_and_saved(tmp_path):
    found = expand(PROBLEM, "i,j,k", momentum="delta")
    assert [row[0].split(" ")[0] for row in found.table().rows] == [
        "s_{1}",
        "w_{1}",
        "s_{2}",
        "w_{2}",
        "s_{3}",
        "w_{3}",
    ]
    saved = found.to_dict()
    assert saved["weights"][1]["coefficients"] == {"i": "delta + 1 - A_j", "j": "1"}
    found.save(tmp_path / "expansion.html")
    found.save(tmp_path / "expansion.json")
    np.testing.assert_allclose(found.figure().data[0].y[0], np.linalg.norm(found.weights[0].value))


@pytest.mark.parametrize(
    ("order", "options", "message"),
    [
        ("i,,k", {}, "A batch must be named by letters and digits, as in 'i,j,k' or '1,2,1', but got ''."),
        ("9", {}, "There are 8 batches of 1, numbered from 1, but the order names batch 9."),
        ("i", {"batch": 9}, "A batch must hold 1 to 8 examples, but it is to hold 9."),
        ("i", {"rate": 0}, "The rate of an expansion must be a finite number above 0 or a name, but it is '0'."),
        ("i", {"momentum": "-1"}, "The momentum of an expansion must be a finite number of at least 0 or a name"),
        (
            "1," * 10 + "1",
            {"momentum": 0.5},
            "At most 10 steps can be written out with momentum, but the order has 11.",
        ),
        ("1," * 100 + "1", {}, "At most 100 steps can be written out, but the order has 101."),
        ("i", {"momentum": "nan"}, "The momentum of an expansion must be a finite number of at least 0 or a name"),
    ],
)
def test_what_cannot_be_expanded_is_refused(order, options, message):
    with pytest.raises(InputError) as caught:
        expand(PROBLEM, order, **options)
    assert message in str(caught.value)


def test_a_penalty_has_no_such_expansion():
    with pytest.raises(InputError, match=r"l2 is 0\.1"):
        expand(tw.LeastSquares([[1.0, 2.0]], [3.0], l2=0.1), "i")

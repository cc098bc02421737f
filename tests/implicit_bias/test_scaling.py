"""F1.7 on real data: what badly scaled columns cost each method, and that the counts are those of runs."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import InputError
from thalweg.implicit_bias.scaling import steps_of_gradient_descent, steps_to_loss
from thalweg.textbook import implicit_bias as textbook


@pytest.mark.parametrize(("n", "d"), [(8, 3), (4, 4), (3, 7)])
def test_gradient_descents_steps_by_formula_are_those_of_the_textbooks_run(n, d):
    generator = np.random.default_rng(n)
    X, t = generator.standard_normal((n, d)) * generator.uniform(0.5, 3, d), generator.standard_normal(n)
    problem = tw.LeastSquares(X, t)
    rate = 0.7 * problem.stability_rate
    least = problem.loss(problem.minimum_norm_solution())
    path = textbook.gradient_descent(X, t, np.zeros(d), rate, textbook.every_row(X, 3000))
    losses = np.mean((path @ X.T - t) ** 2, axis=1)
    for share in (1.1, 0.5, 0.1, 0.02):
        loss = least + share * (losses[0] - least)
        assert steps_of_gradient_descent(problem, rate, loss) == int(np.argmax(losses <= loss))
    assert steps_of_gradient_descent(problem, rate, 0.9 * least) is None


def test_raw_tumours_take_a_million_times_the_steps_of_standardised_ones(tmp_path):
    """Gradient descent needs 46 steps standardised and millions raw; rates per coordinate undo most of that."""
    problem = tw.LeastSquares(tw.load("breast_cancer_raw").X, tw.load("breast_cancer_raw").t)
    told = []
    answer = steps_to_loss(
        problem, 0.3, optimizers=("gd", "momentum", "preconditioned"), steps=300, progress=told.append
    )
    raw, scaled = ({one.name: one for one in found} for found in (answer.raw, answer.scaled))
    assert raw["gd"].steps is raw["momentum"].steps is None
    assert raw["preconditioned"].steps < 200
    assert scaled["gd"].steps == answer.gradient_descent[1] < 100
    assert scaled["momentum"].steps < scaled["gd"].steps
    assert scaled["preconditioned"].steps == scaled["gd"].steps  # unit columns leave it nothing to do
    assert answer.gradient_descent[0] > 1_000_000
    assert answer.conditions[0] > 1e12 > 1e6 > answer.conditions[1]
    assert told[-1] == 1.0
    assert "more than 300" in answer.table().to_text()
    bars = answer.figure().data[0]
    assert list(bars.text) == ["more than 300", "more than 300", f"{raw['preconditioned'].steps}"]
    assert list(bars.y) == [300, 300, raw["preconditioned"].steps]
    assert list(bars.marker.opacity) == [0.3, 0.3, 1]
    assert answer.to_dict()["raw"]["gradient_descent_by_formula"] == answer.gradient_descent[0]
    answer.save(tmp_path / "steps.html")
    answer.save(tmp_path / "steps.json")


def test_adaptive_methods_do_not_mind_stretched_columns_as_much():
    """Columns a hundred times apart: the sorted order is that of methods with a rate per coordinate first."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((40, 5)) * [100.0, 1, 1, 1, 1]
    answer = steps_to_loss(tw.LeastSquares(X, X @ [0.01, 1, -1, 2, 1.0]), 0.01, optimizers=("gd", "adam"), steps=4000)
    gd, adam = answer.raw
    assert gd.steps is None
    assert adam.steps < 1000
    assert answer.gradient_descent[0] > 4000


def test_what_cannot_be_counted_is_refused():
    problem = tw.LeastSquares([[1.0, 2.0], [0.0, 1.0]], [3.0, 1.0])
    with pytest.raises(InputError, match="above 0, but it is -1"):
        steps_to_loss(problem, -1)
    with pytest.raises(InputError, match="Cannot standardise column '1'"):
        steps_to_loss(tw.LeastSquares([[1.0, 2.0], [1.0, 1.0]], [3.0, 1.0]), 1.0)
    with pytest.raises(InputError, match=r"l2 is 0\.5"):
        steps_to_loss(tw.LeastSquares(problem.X, problem.t, l2=0.5), 1.0)

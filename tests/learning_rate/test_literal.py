"""The comparison with literal runs must be able to fail, and count and time what it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import thalweg as tw
from oracles import least_squares_data, long_double_losses
from thalweg.learning_rate.literal import compare, literal_run


def test_the_literal_run_is_gradient_descent():
    X, t = least_squares_data("diabetes")
    problem = tw.LeastSquares(X, t, 0.1)
    w0 = np.linspace(-1, 1, 10)
    truth = long_double_losses(X, t, [0.05], 30, 0.1, w0)[0]
    np.testing.assert_allclose(literal_run(problem, 0.05, 30, w0), truth.astype(float), rtol=1e-12)


def test_the_comparison_measures_the_difference_and_counts_the_points():
    problem = tw.LeastSquares(*least_squares_data("diabetes"))
    grid = np.linspace(0.01, 1.1, 30) * problem.stability_rate
    result = compare(problem, grid, 40, sample=4)
    assert result.points == 30 * 40
    assert len(result.rates) == 4
    assert {result.rates[0], result.rates[-1]} == {grid[0], grid[-1]}
    assert 0 < result.largest_difference < 1e-11
    assert result.extrapolated_seconds == 30 * result.seconds_per_run
    assert result.to_dict()["literal_runs"] == 4
    assert len(result.figure().data) == 8
    assert "extrapolated" in result.table().to_text()


def test_a_wrong_surface_would_be_noticed(monkeypatch):
    problem = tw.LeastSquares(*least_squares_data("diabetes"))
    right = tw.rates(problem, 10)
    wrong = dataclasses.replace(right, measure=right.measure._replace(nodes=right.measure.nodes * (1 + 1e-6)))
    monkeypatch.setattr("thalweg.learning_rate.literal.rates", lambda *_, **__: wrong)
    assert compare(problem, [problem.stability_rate / 2], 10).largest_difference > 1e-7


@pytest.mark.parametrize(("grid", "sample"), [([], 3), ([0.1], 0)])
def test_nothing_to_compare_is_refused(grid, sample):
    with pytest.raises(tw.InputError, match="needs learning rates and at least one run"):
        compare(tw.LeastSquares([[1.0]], [1.0]), grid, 3, sample)

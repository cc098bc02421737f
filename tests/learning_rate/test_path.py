"""The path of the weights against literal weights; its formula against itself term by term."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg.learning_rate.path import Path, path, path_from_zero


def test_what_has_moved_is_the_geometric_sum():
    """g = rate (1 + q + ... + q^(t-1)) with q = 1 - rate h, for flat, ordinary and divergent directions alike."""
    way = Path(np.array([0.0, 1e-9, 0.5, 3.0]), np.ones(4), np.zeros(4), 0.0)
    rate, step = np.array([0.0, 0.3, 0.9, 2.0]), np.array([7, 0, 13, 6])
    ((place, one, moved, growth),) = way.moved(rate, step)
    assert np.arange(4)[place].tolist() == [0, 1, 2, 3]
    for point in range(4):
        truth = [sum(rate[point] * (1 - rate[point] * h) ** k for k in range(step[point])) for h in way.curvatures]
        np.testing.assert_allclose(moved[point] * np.exp(growth[point]), truth, rtol=1e-13)
        assert one[point] * np.exp(growth[point]) == pytest.approx(1, rel=1e-13)


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.0, 0.2]), st.booleans(), st.integers(0, 2**32 - 1))
def test_norms_and_predictions_are_those_of_the_literal_weights(n, d, l2, from_zero, seed):
    generator = np.random.default_rng(seed)
    X, t = generator.standard_normal((n, d)), generator.standard_normal(n)
    start = np.zeros(d) if from_zero else generator.standard_normal(d)
    problem = tw.LeastSquares(X, t, l2)
    curve = tw.rates(problem, 9, start=start)
    examples = generator.standard_normal((3, d))
    way, changes = path(problem, start, 9, examples)
    rate, w, steps = 0.7 * curve.stability_rate, start.copy(), np.arange(10)
    norms, predictions = [], []
    for _ in steps:
        norms.append(np.linalg.norm(w))
        predictions.append(examples @ w)
        w = w - rate * problem.gradient(w)
    ((_, _, moved, _),) = way.moved(np.full(10, rate), steps)
    scale = 1 + max(norms)
    np.testing.assert_allclose(examples @ start + moved @ changes.T, predictions, atol=1e-10 * scale)
    np.testing.assert_allclose(way.norms(np.full(10, rate), steps), norms, atol=1e-9 * scale)
    np.testing.assert_allclose(curve.norm(rate, steps), norms, atol=1e-9 * scale)


def test_from_zero_no_further_product_is_needed(monkeypatch):
    X, t = np.random.default_rng(0).standard_normal((30, 10)), np.ones(30)
    curve = tw.rates(tw.LeastSquares(X, t), 20)
    cheap, (run, _) = path_from_zero(curve.measure, 30), path(curve.problem, curve.start, 20, np.empty((0, 10)))
    rate, step = np.full(21, 0.9 * curve.stability_rate), np.arange(21)
    np.testing.assert_allclose(cheap.norms(rate, step), run.norms(rate, step), rtol=1e-12)
    monkeypatch.setattr("thalweg.learning_rate.path.Bidiagonalisation", None)  # so that no further run can be made
    assert curve.norm(0.1, 20) > 0
    assert curve.norm(np.zeros((2, 3)), [0, 1]).shape == (2, 3, 2)

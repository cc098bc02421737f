"""The judged ratios on generated matrices, in both precisions: below 30 for the gradient's kin, enormous for others.

Runs are compiled, all optimizers of a matrix together. The distance from the row space is taken again by an exact
singular value decomposition that nothing of ours has touched.
"""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import InputError

FAMILY = ["gd", "sgd", "minibatch", "minibatch-replacement", "momentum", "nesterov", "normalised"]
COORDINATES = ["adagrad", "optax-adagrad", "rmsprop", "adam", "adamw", "sign", "lion"]
EPS = {"float64": np.finfo(np.float64).eps, "float32": np.finfo(np.float32).eps}

# n, d, rank, how far apart the scales of columns are (powers of ten)
MATRICES = [(1, 50, 1, 0), (12, 30, 12, 0), (20, 50, 7, 0), (50, 20, 6, 0), (9, 17, 9, 3)]


def generated(n, d, rank, apart):
    generator = np.random.default_rng([n, d, rank])
    X = generator.standard_normal((n, rank)) @ generator.standard_normal((rank, d)) if rank < n else None
    X = generator.standard_normal((n, d)) if X is None else X
    X = X * 10.0 ** (apart * generator.uniform(-1, 1, d))
    return X, X @ generator.standard_normal(d)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("shape", MATRICES)
def test_the_ratio_separates_the_two_kinds_of_methods(shape, precision):
    n, d, rank, _ = shape
    X, t = generated(*shape)
    answer = tw.limits(tw.LeastSquares(X, t), FAMILY + COORDINATES, steps=1500, precision=precision)
    null_space = np.linalg.svd(X)[2][rank:]
    for outcome in answer.outcomes:
        exact = np.linalg.norm(null_space @ outcome.w) / np.linalg.norm(outcome.w) / (EPS[precision] * max(n, d))
        label = f"{outcome.name}: {outcome.row_space_ratio}"
        if outcome.name in FAMILY:
            assert outcome.row_space_ratio < 30, label
            assert exact < 30, label
        else:
            assert outcome.row_space_ratio == pytest.approx(exact, rel=1e-6), label
            assert outcome.row_space_ratio > (1e6 if precision == "float64" else 0.01 / (EPS[precision] * max(n, d)))
            assert "left the row space" in outcome.verdict, label


def test_the_exceptions_are_recognised():
    """F1.6: all |x_j| equal keeps coordinate scaling in the row space; rank d leaves nowhere else to go."""
    equal = tw.limits(tw.LeastSquares([[1.0, -1.0, 1.0]], [2.0]), COORDINATES, steps=3000)
    for outcome in equal.outcomes:
        assert outcome.row_space_ratio < 30, outcome.name
        assert "left" not in outcome.verdict
    assert any("exception of fact F1.6" in note for note in equal.table().notes)
    full = tw.limits(tw.LeastSquares([[1.0, 2.0], [0.0, 1.0]], [3.0, 1.0]), ["adagrad", "adam"])
    assert {outcome.verdict for outcome in full.outcomes} == {"unique solution"}
    assert all(outcome.row_space_ratio is None for outcome in full.outcomes)


def test_a_precision_that_is_not_known_is_refused():
    with pytest.raises(InputError, match="precision must be"):
        tw.limits(tw.LeastSquares([[1.0]], [1.0]), precision="bfloat16")

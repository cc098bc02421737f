"""The judged ratios on generated matrices, in both precisions: below 30 for the gradient's kin, enormous for others.

The distance from the row space is taken again by an exact singular value decomposition that nothing of ours has
touched.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg.errors import InputError
from thalweg.implicit_bias.compiled import run_together
from thalweg.implicit_bias.outcome import judged
from thalweg.implicit_bias.trajectories import prepared, run

FAMILY = ["gd", "sgd", "minibatch", "minibatch-replacement", "momentum", "nesterov", "normalised"]
COORDINATES = ["adagrad", "optax-adagrad", "rmsprop", "adam", "adamw", "sign", "lion"]
EPS = {"float64": np.finfo(np.float64).eps, "float32": np.finfo(np.float32).eps}

sizes = st.integers(1, 50)
kinds = st.sampled_from(["full", "deficient", "columns apart", "rows apart"])


def generated(n, d, rank, kind, seed):
    """X of the given rank, its columns or rows on scales up to a million apart where it says so, and t in its reach."""
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, d))
    if rank < min(n, d):
        X = generator.standard_normal((n, rank)) @ generator.standard_normal((rank, d))
    if kind == "columns apart":
        X = X * 10.0 ** generator.uniform(-3, 3, d)
    if kind == "rows apart":
        X = X * 10.0 ** generator.uniform(-3, 3, n)[:, None]
    # So large that an accumulator which starts at 0.1 is nothing beside the gradients.
    return X, 1e6 / np.max(np.abs(X)) * X @ generator.standard_normal(d)


def exact_ratio(X, rank, w, precision, w0=0.0):
    """How far the way from w0 leads out of the row space, in units of rounding, from the null space of X."""
    outside = np.linalg.norm(np.linalg.svd(X)[2][rank:] @ (w - w0))
    return outside / max(np.linalg.norm(w - w0), np.linalg.norm(w0)) / (EPS[precision] * max(X.shape))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@given(n=sizes, d=sizes, kind=kinds, seed=st.integers(0, 1000), from_zero=st.booleans(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_gradients_kin_stay_in_the_row_space_of_any_matrix(precision, n, d, kind, seed, from_zero, data):
    rank = min(n, d) if kind == "full" else data.draw(st.integers(1, min(n, d)))
    assume(rank < d)
    X, t = generated(n, d, rank, kind, seed)
    problem = tw.LeastSquares(X, t)
    w0 = np.zeros(d) if from_zero else np.random.default_rng(seed).standard_normal(d)
    for name in FAMILY:
        optimizer = prepared(problem, name, start=w0)
        outcome = judged(problem, run(problem, optimizer, steps=100, start=w0, seed=seed, precision=precision))
        assert outcome.row_space_ratio < 30, name
        assert exact_ratio(X, rank, outcome.w, precision, w0) < 30, name


@pytest.mark.parametrize("precision", ["float64", "float32"])
@given(n=sizes, d=st.integers(4, 50), kind=kinds, seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=40, deadline=None)
def test_coordinate_scaling_leaves_the_row_space_of_generic_matrices(precision, n, d, kind, seed, data):
    """Generic: random entries, and a null space no smaller than the row space, which chance does not miss."""
    rank = data.draw(st.integers(1, min(n, d // 2)))
    X, t = generated(n, d, rank, kind, seed)
    problem = tw.LeastSquares(X, t)
    for name in COORDINATES:
        outcome = judged(problem, run(problem, prepared(problem, name), steps=60, precision=precision))
        assert outcome.row_space_ratio == pytest.approx(exact_ratio(X, rank, outcome.w, precision), rel=1e-3), name
        assert outcome.row_space_ratio > (1e6 if precision == "float64" else 0.01 / (EPS[precision] * max(n, d))), name
        assert "left the row space" in outcome.verdict, name


@pytest.mark.parametrize("shape", [(1, 50, 1), (20, 50, 7), (50, 20, 6)])
def test_compiled_single_precision_separates_them_too(shape):
    X, t = generated(*shape, "full", 0)
    problem = tw.LeastSquares(X, t)
    runs = [prepared(problem, name) for name in FAMILY + COORDINATES]
    for trajectory in run_together(problem, runs, steps=500, precision="float32"):
        outcome = judged(problem, trajectory)
        assert outcome.row_space_ratio == pytest.approx(exact_ratio(X, shape[2], outcome.w, "float32"), abs=1)
        assert (outcome.row_space_ratio < 30) == (outcome.name in FAMILY), outcome.name
        if outcome.name in COORDINATES:
            assert outcome.row_space_ratio > 0.01 / (EPS["float32"] * max(X.shape)), outcome.name


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

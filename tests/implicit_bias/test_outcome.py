"""Verdicts: each one is given where it is due, and the number behind it separates the two kinds of methods."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thalweg.implicit_bias.compiled import run_together
from thalweg.implicit_bias.outcome import Verdict, judged
from thalweg.implicit_bias.trajectories import prepared, run
from thalweg.least_squares import LeastSquares

EPS = np.finfo(float).eps
WIDE = LeastSquares([[1.0, 2.0, 0.5], [0.0, 1.0, -1.0]], [3.0, 1.0])
DEFICIENT = LeastSquares([[1.0, 2.0], [2.0, 4.0]], [3.0, 7.0])
TALL = LeastSquares([[1.0, 2.0], [0.0, 1.0], [1.0, 1.0]], [3.0, 1.0, 0.0])
SQUARE = LeastSquares([[1.0, 2.0], [0.0, 1.0]], [3.0, 1.0])


def outcome(problem, name, *, steps=20_000, start=None, **options):
    return judged(problem, run(problem, prepared(problem, name, start=start, **options), steps=steps, start=start))


@pytest.mark.parametrize(
    ("problem", "name", "options", "verdict"),
    [
        (WIDE, "gd", {}, "minimum-norm solution"),
        (WIDE, "sgd", {}, "minimum-norm solution"),
        (WIDE, "gd", {"start": [1, 0, 0]}, "nearest solution to the start"),
        (WIDE, "adagrad", {}, "left the row space"),
        (WIDE, "adam", {"start": [1, 0, 0]}, "left the row space"),
        (WIDE, "preconditioned", {}, "left the row space"),
        (WIDE, "gd", {"steps": 3}, "in the row space, not converged"),
        (WIDE, "adagrad", {"steps": 3}, "left the row space, not converged"),
        (WIDE, "gd", {"rate": 10.0}, "diverged"),
        (WIDE, "sgd", {"rate": 10.0}, "diverged"),
        (WIDE, "nesterov", {"rate": 10.0}, "diverged"),
        # Just above the limit, 1/2, the loss falls for long before the steepest direction, hardly off at first, grows.
        (
            LeastSquares([[2, 0, 0], [0, 1, 0]], [0.01, 1]),
            "gd",
            {"rate": 0.505, "steps": 30},
            "in the row space, not converged",
        ),
        (LeastSquares([[2, 0, 0], [0, 1, 0]], [0.01, 1]), "gd", {"rate": 0.505, "steps": 900}, "diverged"),
        (DEFICIENT, "gd", {}, "minimum-norm solution"),
        (DEFICIENT, "adagrad", {}, "left the row space"),
        (DEFICIENT, "sgd", {"steps": 100}, "in the row space, not converged"),
        (SQUARE, "gd", {}, "unique solution"),
        (SQUARE, "adam", {}, "unique solution"),
        (TALL, "gd", {}, "least squares without interpolation"),
        (TALL, "adagrad", {"start": [5, 5]}, "least squares without interpolation"),
        (TALL, "gd", {"steps": 2}, "not converged"),
        (TALL, "sgd", {}, "not converged"),
        (LeastSquares(WIDE.X, WIDE.t, l2=0.1), "adagrad", {}, "unique solution"),
        (LeastSquares([[1.0, 1.0]], [3.0]), "adagrad", {}, "minimum-norm solution"),
        (LeastSquares([[1.0, -1.0]], [3.0]), "sign", {"start": [1, 0]}, "nearest solution to the start"),
        (LeastSquares([[1.0, 2.0]], [0.0]), "adagrad", {}, "the start is already a solution"),
        (LeastSquares([[1.0, 2.0]], [3.0]), "sgd", {"start": [0.6, 1.2]}, "the start is already a solution"),
        (TALL, "gd", {"start": TALL.minimum_norm_solution()}, "the start is already a solution"),
    ],
)
def test_every_verdict_where_it_is_due(problem, name, options, verdict):
    assert outcome(problem, name, **options).verdict == verdict


def test_every_verdict_is_tested_above():
    (cases,) = (mark.args[1] for mark in test_every_verdict_where_it_is_due.pytestmark)
    assert {case[3] for case in cases} == set(Verdict)


@pytest.mark.parametrize("w0", [(0.3, -1.0, 2.0), (-98.9, 40.7, 40.2)])
def test_the_numbers_are_those_of_their_definitions(w0):
    """From a start whose way is longer than it, and from one on whose length rounding depends more."""
    w0 = np.array(w0)
    result = outcome(WIDE, "adagrad", start=w0)
    nearest = w0 + np.linalg.pinv(WIDE.X) @ (WIDE.t - WIDE.X @ w0)
    way = result.w - w0
    outside = np.linalg.svd(WIDE.X)[2][2] @ way
    assert result.norm_ratio == pytest.approx(np.linalg.norm(way) / np.linalg.norm(nearest - w0))
    assert result.norm_ratio > 1
    assert result.distance_to_nearest == pytest.approx(np.linalg.norm(result.w - nearest))
    least = np.linalg.pinv(WIDE.X) @ WIDE.t
    assert result.distance_to_minimum_norm == pytest.approx(np.linalg.norm(result.w - least))
    longest = max(np.linalg.norm(way), np.linalg.norm(w0))
    assert result.row_space_ratio == pytest.approx(abs(outside) / (longest * EPS * 3))


def test_a_diverged_run_has_no_numbers_but_its_stability_limit():
    result = outcome(WIDE, "gd", rate=10.0)
    assert result.row_space_ratio is result.norm_ratio is result.distance_to_nearest is None
    assert result.stability_limit == pytest.approx(WIDE.n / np.linalg.norm(WIDE.X, 2) ** 2)


def test_stability_limits_are_stated_where_there_are_any():
    assert outcome(WIDE, "adagrad").stability_limit is None
    assert outcome(WIDE, "momentum").stability_limit == pytest.approx(1.9 * WIDE.stability_rate)
    # No step of single-sample SGD may overshoot its own row by more than it was off: 2 rate ||x||^2 <= 2.
    assert outcome(WIDE, "sgd").stability_limit == pytest.approx(1 / np.max(np.sum(WIDE.X**2, axis=1)))
    assert outcome(WIDE, "momentum", batch=1).stability_limit is None


def test_above_its_limit_sgd_can_move_away_and_below_it_never_does():
    """On one row at a time the distance to a common solution shrinks exactly below 1 / ||x||^2."""
    problem = LeastSquares([[3.0, 0.0], [0.0, 1.0]], [3.0, 1.0])
    limit = outcome(problem, "sgd").stability_limit
    assert limit == pytest.approx(1 / 9)
    assert outcome(problem, "sgd", rate=0.99 * limit).verdict == "unique solution"
    assert outcome(problem, "sgd", rate=1.5 * limit).verdict == "diverged"


def generated(seed, kind):
    """A matrix of any shape with less than full column rank; t with a solution but where it says not."""
    generator = np.random.default_rng(seed)
    n, d = generator.integers(1, 51, 2)
    rank = int(generator.integers(1, max(2, min(n, d - 1) + 1)))
    if kind in ("deficient", "inconsistent") or n >= d:
        X = generator.standard_normal((n, rank)) @ generator.standard_normal((rank, d))
    else:
        X = generator.standard_normal((n, d))
    if kind == "columns":
        X = X * 10.0 ** generator.uniform(-3, 3, d)
    if kind == "rows":
        X = X * 10.0 ** generator.uniform(-3, 3, n)[:, None]
    if kind == "float32":
        X = X.astype(np.float32)
    t = X @ generator.standard_normal(d)
    if kind == "inconsistent":
        t = t + 10.0 ** generator.uniform(-2, 2) * generator.standard_normal(n)
    return LeastSquares(X, t), generator.standard_normal(d) * generator.integers(0, 2)


KINDS = ("full", "deficient", "columns", "rows", "float32", "inconsistent")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gd", "sgd", "minibatch", "momentum", "nesterov", "normalised"])
@given(seed=st.integers(0, 100_000))
@settings(max_examples=4, deadline=None)
def test_the_gradient_family_stays_in_the_row_space_on_any_matrix(name, kind, seed):
    problem, w0 = generated(seed, kind)
    assume(problem.rank < problem.d)
    result = outcome(problem, name, steps=300, start=w0)
    assert result.row_space_ratio is None or result.row_space_ratio < 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["adagrad", "optax-adagrad", "rmsprop", "adam", "sign"])
@given(seed=st.integers(0, 100_000))
@settings(max_examples=4, deadline=None)
def test_coordinate_scaling_leaves_the_row_space_of_generic_matrices(name, kind, seed):
    problem, w0 = generated(seed, kind)
    assume(problem.rank < problem.d)
    if name == "optax-adagrad":  # beside its accumulator of 0.1, gradients far below leave all coordinates scaled alike
        assume(np.abs(problem.gradient(w0)).max() ** 2 > 1e-5)
    # In units of rounding: a share of 1e-9 of the way in float64, of 1e-4 in float32, whatever the size up to 50.
    assert outcome(problem, name, steps=200, start=w0).row_space_ratio > (30 if kind == "float32" else 1e6)


@pytest.mark.parametrize("name", ["gd", "sgd", "momentum", "nesterov", "normalised"])
def test_errors_carried_along_by_a_lasting_residual_are_not_taken_for_leaving(name):
    """X is of rank 2 up to rounding, and t lies a thousand times further out of its reach than in it."""
    generator = np.random.default_rng(15)
    U, V = (np.linalg.qr(generator.standard_normal((size, size)))[0] for size in (6, 10))
    X = U[:, :2] * [1, 0.1] @ V[:, :2].T
    problem = LeastSquares(X, 0.1 * X @ (V[:, 0] + V[:, 1]) + 100 * U[:, 2:].sum(axis=1))
    result = outcome(problem, name, steps=3000)
    outside = problem.row_space_distance(result.w) / np.linalg.norm(result.w)
    assert outside > 30 * 10 * EPS, "too easy a case: even the plain ratio is below 30"
    assert result.row_space_ratio < 30


@pytest.mark.parametrize(("name", "precision", "steps"), [("momentum", "float64", 500_000), ("gd", "float32", 20_000)])
def test_the_drift_of_slow_runs_is_not_taken_for_leaving(name, precision, steps):
    """Slow runs round their weights the same way for long: these get 138 and 58 units of rounding away."""
    problem = LeastSquares([[1.0, 2.0]], [3.0])
    optimizer = prepared(problem, name, rate=10 * problem.stability_rate / steps)
    (trajectory,) = run_together(problem, [optimizer], steps=steps, start=[5.0, 5.0], precision=precision)
    result = judged(problem, trajectory)
    assert result.verdict == "nearest solution to the start"
    assert result.row_space_ratio < 30


def test_a_way_much_shorter_than_the_start_is_judged_by_the_rounding_of_the_start():
    problem = LeastSquares([[3.0, -1.0, 2.0]], [4.0])
    beside = [1000 + 1e-7, 2e-7 - 1, -1498.5]  # the plane of solutions
    assert outcome(problem, "gd", start=beside).verdict == "nearest solution to the start"
    assert outcome(problem, "adam", start=beside).verdict == "left the row space"


def test_settings_name_everything_a_run_depends_on():
    settings_ = outcome(WIDE, "adam", batch=1).settings()
    run_with = {"rate", "final_rate", "batch", "replacement", "seed", "precision"}
    assert set(settings_) == {*run_with, "b1", "b2", "epsilon"}
    assert settings_["seed"] == 0
    assert dataclasses.is_dataclass(outcome(WIDE, "gd").trajectory.optimizer)

"""Limits by formula: those of the textbook, the SVD's, and where long runs end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thalweg.data import load
from thalweg.implicit_bias.closed_form import (
    closed_form,
    exponentiated_solution,
    has_one_minimiser,
    preconditioned_solution,
    sign_solution,
)
from thalweg.implicit_bias.rules import AdaGrad, Exponentiated, Preconditioned
from thalweg.implicit_bias.trajectories import OPTIMIZERS, Optimizer, names, prepared, run
from thalweg.least_squares import LeastSquares
from thalweg.textbook import implicit_bias as textbook

seeds = st.integers(0, 10_000)


def random_problem(seed, n, d, rank, consistent=True):
    """X of the given rank, its columns on scales up to ten apart."""
    generator = np.random.default_rng(seed)
    X = np.linalg.qr(generator.standard_normal((n, n)))[0][:, :rank] @ generator.standard_normal((rank, d))
    X *= generator.uniform(0.5, 5, d)
    return LeastSquares(X, X @ generator.standard_normal(d) if consistent else generator.standard_normal(n))


@given(seed=seeds, starts_at_zero=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_gradient_family_ends_at_the_textbooks_nearest_solution(seed, starts_at_zero):
    problem = random_problem(seed, 3, 6, 3)
    w0 = np.zeros(6) if starts_at_zero else np.random.default_rng(seed).standard_normal(6)
    for name in ("gd", "sgd", "minibatch", "momentum", "nesterov", "normalised"):
        formula = closed_form(problem, prepared(problem, name), w0)
        expected = textbook.nearest_solution(problem.X, problem.t, w0)
        np.testing.assert_allclose(formula.w, expected, rtol=0, atol=1e-10)
        assert formula.name == ("minimum-norm solution" if starts_at_zero else "nearest solution to the start")
    if starts_at_zero:
        np.testing.assert_allclose(formula.w, textbook.minimum_norm(problem.X, problem.t), rtol=0, atol=1e-9)


@given(seed=seeds, diagonal=st.booleans())
@settings(max_examples=25, deadline=None)
def test_preconditioned_steps_end_at_the_textbooks_nearest_solution_in_their_norm(seed, diagonal):
    problem = random_problem(seed, 3, 6, 3)
    generator = np.random.default_rng(seed)
    factor = generator.standard_normal((6, 6))
    P = np.diag(generator.uniform(0.2, 5, 6)) if diagonal else factor @ factor.T + np.eye(6)
    w0 = generator.standard_normal(6)
    rule = Preconditioned(np.diag(P) if diagonal else P)
    expected = textbook.nearest_solution_in_norm(problem.X, problem.t, w0, P)
    np.testing.assert_allclose(preconditioned_solution(problem, rule, w0), expected, rtol=0, atol=1e-9)
    formula = closed_form(problem, Optimizer("p", rule), w0)
    np.testing.assert_allclose(formula.w, expected, rtol=0, atol=1e-9)
    assert formula.name == "nearest in the P^-1 norm"


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_of_all_minimisers_the_preconditioned_one_is_nearest_where_X_is_deficient_and_t_inconsistent(seed):
    """Going on along the null space from it, in any direction, only lengthens the way in the P^-1 norm."""
    problem = random_problem(seed, 5, 6, 3, consistent=False)
    generator = np.random.default_rng(seed)
    P = np.diag(generator.uniform(0.2, 5, 6)) + 0.1
    w0 = generator.standard_normal(6)
    w = preconditioned_solution(problem, Preconditioned(P), w0)
    assert problem.loss(w) == pytest.approx(problem.loss(np.linalg.lstsq(problem.X, problem.t)[0]))
    null_space = np.linalg.svd(problem.X)[2][3:]
    np.testing.assert_allclose(null_space @ np.linalg.solve(P, w - w0), 0, rtol=0, atol=1e-9)


@given(seed=seeds, n=st.integers(1, 8), d=st.integers(1, 12), consistent=st.booleans(), size=st.integers(-3, 3))
@settings(max_examples=60)
def test_exponentiated_steps_end_at_the_minimiser_nearest_in_divergence(seed, n, d, consistent, size):
    """The two conditions that only it meets: it is a minimiser, and arsinh of it has moved in the row space alone."""
    generator = np.random.default_rng(seed)
    rank = int(generator.integers(1, min(n, d) + 1))
    problem = random_problem(seed, n, d, rank, consistent)
    scale, w0 = 10.0**size, generator.standard_normal(d) * generator.integers(0, 2)
    w = exponentiated_solution(problem, Exponentiated(scale), w0)
    np.testing.assert_allclose(w @ problem.X.T @ problem.X, problem.t @ problem.X, rtol=1e-9, atol=1e-9)
    moved = np.arcsinh(w / scale) - np.arcsinh(w0 / scale)
    null_space = np.linalg.svd(problem.X)[2][rank:]
    assert np.linalg.norm(null_space @ moved) <= 1e-12 * np.linalg.norm(moved)


def test_exponentiated_steps_lie_between_the_least_squares_and_the_least_sum():
    """At a scale far above the weights they end as gradient descent does, at one far below where the sum is least."""
    problem = LeastSquares([[1.0, 2.0, -0.5]], [3.0])
    far_above, far_below = (exponentiated_solution(problem, Exponentiated(scale)) for scale in (1e6, 1e-30))
    np.testing.assert_allclose(far_above, problem.minimum_norm_solution(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(far_below, [0, 1.5, 0], rtol=0, atol=1e-10)


@given(seed=seeds, d=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_one_example_sends_coordinate_scaling_along_the_signs(seed, d):
    generator = np.random.default_rng(seed)
    x, t, w0 = generator.standard_normal(d), generator.standard_normal(), generator.standard_normal(d)
    x[generator.random(d) < 0.3] = 0
    x[0] = -1.5
    limit = sign_solution(LeastSquares([x], [t]), w0)
    np.testing.assert_allclose(limit, textbook.one_example_limit(x, t, w0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "p"), [(40, 0.75), (12, 0.6), (30, 0.9)])
def test_wilsons_construction_sends_adaptive_methods_where_the_paper_says(n, p):
    data = load(f"wilson:n={n},p={p}")
    limit = sign_solution(LeastSquares(data.X, data.t))
    assert np.array_equal(limit, np.sign(data.X.T @ data.t) / 4)


def test_the_sign_solution_needs_its_condition():
    assert sign_solution(random_problem(0, 3, 6, 3)) is None
    assert sign_solution(LeastSquares([[1.0, 2.0]], [0.0])) is None
    assert sign_solution(LeastSquares([[1.0, 0.0], [0.0, 1.0]], [2.0, -2.0])).tolist() == [2, -2]
    assert sign_solution(LeastSquares([[1.0, 0.0], [0.0, 1.0]], [2.0, -1.0])) is None


def test_one_minimiser_is_told_from_many():
    assert not has_one_minimiser(LeastSquares([[1.0, 2.0]], [3.0]))
    assert has_one_minimiser(LeastSquares([[1.0, 2.0]], [3.0], l2=0.1))
    assert has_one_minimiser(LeastSquares([[1.0, 2.0], [0.0, 1.0]], [3.0, 1.0]))
    assert not has_one_minimiser(LeastSquares([[1.0, 2.0], [2.0, 4.0]], [3.0, 1.0]))


def test_no_formula_is_claimed_where_none_is_known():
    generic, one_example = random_problem(1, 3, 6, 3), LeastSquares([[1.0, 2.0]], [3.0])
    inconsistent = random_problem(1, 5, 6, 3, consistent=False)
    for name in ("adagrad", "optax-adagrad", "rmsprop", "adam", "sign"):
        assert closed_form(generic, prepared(generic, name)) is None, name
    for name in ("adagrad", "rmsprop", "adam", "sign"):
        assert closed_form(one_example, prepared(one_example, name)).w.tolist() == [1, 1], name
    for optimizer in (OPTIMIZERS["optax-adagrad"], Optimizer("own", AdaGrad(accumulator=0.1))):
        assert closed_form(one_example, optimizer) is None
    for name in ("sgd", "minibatch"):  # a constant rate has no limit there
        assert closed_form(inconsistent, prepared(inconsistent, name)) is None, name
    wilson = load("wilson:n=12,p=0.75")
    problem = LeastSquares(wilson.X, wilson.t)
    assert closed_form(problem, prepared(problem, "adam")) is not None
    assert closed_form(problem, prepared(problem, "adam", batch=3)) is None


@pytest.mark.parametrize("name", sorted(set(names()) - {"optax-adagrad", "sgd", "minibatch", "minibatch-replacement"}))
def test_with_one_minimiser_every_full_batch_ends_there(name):
    for problem in (LeastSquares([[1.0, 2], [0, 1], [1, 1]], [3.0, 1, 0]), LeastSquares([[1.0, 2.0]], [3.0], l2=0.5)):
        formula = closed_form(problem, prepared(problem, name))
        assert formula.name == "only minimiser"
        H = problem.X.T @ problem.X + problem.n * problem.l2 * np.eye(2)
        np.testing.assert_allclose(formula.w, np.linalg.solve(H, problem.X.T @ problem.t), rtol=0, atol=1e-12)
        # While the rate is falling AdamW's decay holds the weights back, in the end by about the last rate.
        tolerance = 1e-6 if name == "adamw" else 1e-9
        np.testing.assert_allclose(run(problem, prepared(problem, name)).w, formula.w, rtol=0, atol=tolerance)


FORMULAE = ["gd", "sgd", "minibatch", "minibatch-replacement", "momentum", "nesterov", "normalised", "preconditioned"]


@pytest.mark.parametrize("shape", [(3, 6, 3), (5, 8, 2), (4, 4, 2)])
@pytest.mark.parametrize("name", [*FORMULAE, "exponentiated"])
@given(seed=seeds)
@settings(max_examples=4, deadline=None)
def test_long_runs_end_where_the_formula_says(name, shape, seed):
    """1e-12 of the way, times how much X amplifies the rounding in t, for consistent t and any rank."""
    problem = random_problem(seed, *shape)
    singular = np.linalg.svd(problem.X, compute_uv=False)[: shape[2]]
    assume(singular[0] / singular[-1] < 10)  # SGD takes of the order of n times the square of this for a digit
    w0 = np.random.default_rng(seed).standard_normal(shape[1])
    optimizer = prepared(problem, name, start=w0)
    formula = closed_form(problem, optimizer, w0)
    steps = 6000 if name == "normalised" else 60_000  # its rate falls over all of them
    trajectory = run(problem, optimizer, steps=steps, start=w0)
    assert np.linalg.norm(trajectory.w - formula.w) < 1e-12 * np.linalg.norm(formula.w) * singular[0] / singular[-1]


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "adam", "sign"])
def test_runs_along_the_signs_end_where_the_formula_says(name):
    wilson = load("wilson:n=12,p=0.75")
    for problem in (LeastSquares([[1.0, 2.0, -0.5]], [3.0]), LeastSquares(wilson.X, wilson.t)):
        optimizer = prepared(problem, name)
        if name != "sign":
            optimizer = dataclasses.replace(optimizer, rule=dataclasses.replace(optimizer.rule, epsilon=1e-12))
        trajectory = run(problem, optimizer)
        np.testing.assert_allclose(trajectory.w, closed_form(problem, optimizer).w, rtol=0, atol=1e-9)

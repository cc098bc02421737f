"""Runs: they are the textbook's, they end when they should, and they obey the laws of where they can go."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.implicit_bias.rules import AdaGrad, Gradient, Preconditioned
from thalweg.implicit_bias.trajectories import (
    Optimizer,
    curvature,
    drawn_batches,
    interpolates,
    names,
    prepared,
    run,
)
from thalweg.least_squares import LeastSquares
from thalweg.textbook import implicit_bias as textbook

IN_THE_ROW_SPACE = ("gd", "sgd", "minibatch", "minibatch-replacement", "momentum", "nesterov", "normalised")
LEAVE_IT = ("adagrad", "optax-adagrad", "rmsprop", "adam", "adamw", "sign", "lion", "preconditioned", "exponentiated")
EPS = np.finfo(float).eps

seeds = st.integers(0, 10_000)


def wide_problem(seed, n=4, d=7):
    """More features than examples, entries of all sizes: no symmetry that a method could live on."""
    generator = np.random.default_rng(seed)
    return LeastSquares(generator.standard_normal((n, d)) * generator.uniform(0.5, 2, d), generator.standard_normal(n))


def ends_at(problem, name, steps=400, **options):
    start = options.pop("start", None)
    return run(problem, prepared(problem, name, start=start, **options), steps=steps, start=start).w


def test_the_two_groups_are_all_there_are():
    assert sorted(IN_THE_ROW_SPACE + LEAVE_IT) == sorted(names())


# Literal runs


def test_a_run_is_the_textbooks():
    X, t, w0 = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 1.0]), np.array([0.5, -1.0])
    trajectory = run(LeastSquares(X, t), Optimizer("gd", Gradient(), rate=0.1), steps=60, start=w0)
    path = textbook.gradient_descent(X, t, w0, 0.1, textbook.every_row(X, 60))
    np.testing.assert_allclose(trajectory.path, path, rtol=1e-13)
    np.testing.assert_allclose(trajectory.losses, [textbook.loss(X, t, w) for w in path], rtol=1e-10)
    assert trajectory.loss_steps.tolist() == list(range(61))
    assert trajectory.steps == 60


def test_a_falling_rate_falls_geometrically_to_its_end():
    """The sign method's steps are as long as the rate, so that the path shows it."""
    problem = LeastSquares([[1.0, 0.0]], [1e6])
    optimizer = dataclasses.replace(prepared(problem, "sign"), rate=1.0, final_rate=1e-4)
    path = run(problem, optimizer, steps=80).path
    np.testing.assert_allclose(np.diff(path[:, 0]), 1e-4 ** (np.arange(80) / 80), rtol=1e-6)


def test_a_pass_visits_every_example_once_in_an_order_of_its_own():
    """With orthonormal rows and rate 1/2, an SGD step solves its own example exactly and touches no other."""
    problem = LeastSquares(np.eye(12), np.arange(1.0, 13.0))
    optimizer = prepared(problem, "sgd", rate=0.5)
    visited = []
    for steps in range(1, 13):
        visited.append(set(np.flatnonzero(run(problem, optimizer, steps=steps).w)))
    assert [len(rows) for rows in visited] == list(range(1, 13))
    order = [(after - before).pop() for before, after in zip([set(), *visited], visited, strict=False)]
    assert order != sorted(order)
    with_replacement = dataclasses.replace(optimizer, replacement=True)
    assert len(np.flatnonzero(run(problem, with_replacement, steps=12).w)) < 12


@pytest.mark.parametrize("replacement", [False, True])
def test_batches_do_not_depend_on_how_many_are_drawn_at_once(replacement):
    few, many = (drawn_batches(7, 3, replacement, np.random.default_rng(2), at_once) for at_once in (1, 50))
    expected = next(many)
    drawn = np.concatenate([next(few) for _ in range(len(expected))])[: len(expected)]
    assert np.array_equal(drawn, expected)


def test_minibatches_take_the_mean_over_their_rows():
    """Two of four orthonormal rows a step at rate 1/2: each step goes half of the way (2 eta / b = 1/2) on its rows."""
    problem = LeastSquares(np.eye(4), np.ones(4))
    w = run(problem, prepared(problem, "minibatch", rate=0.5, batch=2), steps=1).w
    assert sorted(w.tolist()) == [0, 0, 0.5, 0.5]


def test_runs_repeat_with_their_seed_and_differ_without():
    problem = wide_problem(0)
    optimizer = prepared(problem, "sgd")
    first, again, other = (run(problem, optimizer, steps=50, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.w, again.w)
    assert not np.array_equal(first.w, other.w)
    assert first.seed == 3
    assert run(problem, prepared(problem, "gd"), steps=5, seed=3).seed is None


@pytest.mark.parametrize("name", names())
def test_the_kind_of_matrix_does_not_matter(tmp_path, name):
    X = np.array([[1.0, 0, 2, 0, 3], [0, 1, 0, 1, 1], [2, 0, 0, 1, 0]])
    t = np.array([1.0, -2, 3])
    np.save(tmp_path / "X.npy", X)
    kinds = (scipy.sparse.csr_array(X), X.astype(np.float32), np.load(tmp_path / "X.npy", mmap_mode="r"), X.astype(int))
    expected = ends_at(LeastSquares(X, t), name, steps=50)
    for kind in kinds:
        np.testing.assert_allclose(ends_at(LeastSquares(kind, t), name, steps=50), expected, rtol=1e-6)


# Endings


def test_a_run_ends_when_only_rounding_is_left():
    trajectory = run(wide_problem(1), prepared(wide_problem(1), "gd"), steps=20_000)
    assert trajectory.ended == "settled"
    assert trajectory.steps < 20_000
    assert trajectory.loss < 1e-29


def test_a_run_that_starts_at_a_solution_stays_there():
    problem = LeastSquares([[1.0, 2.0]], [3.0])
    for name in names():
        trajectory = run(problem, prepared(problem, name, start=[1.0, 1.0]), start=[1.0, 1.0])
        assert (trajectory.ended, trajectory.steps, trajectory.w.tolist()) == ("settled", 0, [1.0, 1.0])


def test_a_run_with_velocity_does_not_end_where_it_only_passes():
    """Momentum's first step lands on the solution of one example exactly, and its velocity carries it on."""
    problem = LeastSquares([[1.0, 2.0]], [3.0])
    trajectory = run(problem, prepared(problem, "momentum"))
    assert trajectory.losses[1] < 1e-28
    assert trajectory.losses[2] > 1
    assert trajectory.ended == "settled"
    np.testing.assert_allclose(trajectory.w, [0.6, 1.2], rtol=0, atol=1e-14)


def test_without_a_common_solution_full_batches_settle_and_small_ones_never_do():
    problem = LeastSquares([[1.0, 2.0], [2.0, 4.0], [1.0, 0.0]], [3.0, 7.0, 1.0])
    for name, ended in (("gd", "settled"), ("momentum", "settled"), ("sgd", "budget"), ("minibatch", "budget")):
        assert run(problem, prepared(problem, name), steps=3000).ended == ended, name


def test_a_rate_that_is_too_large_overflows_without_a_warning():
    problem = wide_problem(2)
    optimizer = prepared(problem, "gd", rate=3 * problem.stability_rate)
    trajectory = run(problem, optimizer)
    assert trajectory.ended == "overflow"
    assert trajectory.steps < 1000


def test_the_budget_ends_a_run_and_progress_is_told():
    problem, told = wide_problem(3), []
    trajectory = run(problem, prepared(problem, "gd"), steps=25, progress=told.append)
    assert (trajectory.ended, trajectory.steps) == ("budget", 25)
    assert told == list(range(26))


def test_notes_are_dense_at_first_and_one_in_a_hundred_later():
    problem = wide_problem(4)
    noted = run(problem, prepared(problem, "sign"), steps=5000).loss_steps
    assert noted[:101].tolist() == list(range(101))
    assert noted[-1] == 5000
    assert len(noted) < 600
    assert run(problem, prepared(problem, "sign"), steps=5).path is None


# Laws


@pytest.mark.parametrize("name", IN_THE_ROW_SPACE + LEAVE_IT)
@given(seed=seeds, scale=st.sampled_from([2.0**-20, 1.0, 2.0**20]))
@settings(max_examples=8, deadline=None)
def test_default_rates_do_not_diverge_in_any_units(name, seed, scale):
    problem = wide_problem(seed)
    problem = LeastSquares(problem.X * scale, problem.t)
    trajectory = run(problem, prepared(problem, name), steps=300)
    # Optax's accumulator and its weight decays have units of their own, in which there may be no getting far.
    has_own_unit = name in ("optax-adagrad", "adamw", "lion")
    assert trajectory.loss < (1 if has_own_unit else 0.5) * trajectory.losses[0]


@pytest.mark.parametrize("name", ["gd", "sgd", "minibatch", "momentum", "nesterov"])
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_rotating_the_features_rotates_the_run_of_the_gradient_family(name, seed):
    """X -> X Q, w0 -> Q^T w0 gives w -> Q^T w, because gradients turn with the features and steps are multiples."""
    problem = wide_problem(seed)
    generator = np.random.default_rng(seed)
    Q = np.linalg.qr(generator.standard_normal((7, 7)))[0]
    w0 = generator.standard_normal(7)
    turned = LeastSquares(problem.X @ Q, problem.t)
    straight = ends_at(problem, name, start=w0)
    np.testing.assert_allclose(Q @ ends_at(turned, name, start=Q.T @ w0), straight, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", LEAVE_IT)
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_rotating_the_features_changes_where_coordinate_scaling_leads(name, seed):
    problem = wide_problem(seed)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((7, 7)))[0]
    turned = LeastSquares(problem.X @ Q, problem.t)
    assert np.linalg.norm(Q @ ends_at(turned, name) - ends_at(problem, name)) > 1e-4


def without_units(problem, name):
    """An optimizer at its default rate without epsilon and weight decay, which have units of their own."""
    optimizer = prepared(problem, name)
    too_small = {"epsilon": 1e-300, "weight_decay": 0.0}
    fields = {field.name for field in dataclasses.fields(optimizer.rule)}
    rule = dataclasses.replace(optimizer.rule, **{key: too_small[key] for key in fields & set(too_small)})
    return dataclasses.replace(optimizer, rule=rule)


@pytest.mark.parametrize("name", sorted({*IN_THE_ROW_SPACE, *LEAVE_IT} - {"optax-adagrad"}))
@given(seed=seeds, factor=st.sampled_from([-8.0, 0.25, 64.0]))
@settings(max_examples=8, deadline=None)
def test_scaling_the_targets_scales_the_weights(name, seed, factor):
    """To the last bit, as powers of two are exact."""
    problem = wide_problem(seed)
    scaled = LeastSquares(problem.X, factor * problem.t)
    once = run(problem, without_units(problem, name), steps=60)
    assert np.array_equal(run(scaled, without_units(scaled, name), steps=60).w, factor * once.w)


def test_the_accumulator_of_optax_has_a_unit_of_its_own():
    problem = wide_problem(0)
    scaled = LeastSquares(problem.X, 8 * problem.t)
    apart = ends_at(scaled, "optax-adagrad") - 8 * ends_at(problem, "optax-adagrad")
    assert np.linalg.norm(apart) > 1e-3


@pytest.mark.parametrize("name", IN_THE_ROW_SPACE)
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_the_null_space_part_of_the_start_stays(name, seed):
    problem = wide_problem(seed)
    w0 = np.random.default_rng(seed).standard_normal(7)
    null_space = np.linalg.svd(problem.X)[2][4:]
    w = ends_at(problem, name, start=w0)
    assert np.linalg.norm(w - w0) > 0.01
    np.testing.assert_allclose(null_space @ w, null_space @ w0, rtol=0, atol=1e-13)


# What is chosen from the problem


def hessian(problem, rows):
    X = problem.X[list(rows)]
    return 2 * (X.T @ X / len(rows) + problem.l2 * np.eye(problem.d))


@given(seed=seeds, batch=st.sampled_from([1, 2, 3, 4, 5]), l2=st.sampled_from([0.0, 0.3]))
@settings(max_examples=40, deadline=None)
def test_curvature_bounds_every_batch(seed, batch, l2):
    wide = wide_problem(seed, n=5)
    problem = LeastSquares(wide.X, wide.t, l2)
    full = max(np.linalg.eigvalsh(hessian(problem, range(5))))
    assert curvature(problem, Optimizer("gd", Gradient())) == pytest.approx(full, rel=1e-10)
    bound = curvature(problem, Optimizer("minibatch", Gradient(), batch=batch))
    sizes = {batch, 5 % batch or batch}  # the last batch of a pass holds what is left
    batches = [rows for size in sizes for rows in combinations(range(5), size)]
    highest = max(np.linalg.eigvalsh(hessian(problem, rows))[-1] for rows in batches)
    assert bound >= highest * (1 - 1e-12)
    if batch == 1:
        assert bound == pytest.approx(highest)


def test_curvature_of_a_preconditioned_step():
    problem = wide_problem(5)
    P = np.diag(np.arange(1.0, 8)) + 0.2
    optimizer = Optimizer("preconditioned", Preconditioned(P))
    expected = np.max(np.abs(np.linalg.eigvals(P @ hessian(problem, range(4)))))
    assert curvature(problem, optimizer) == pytest.approx(expected)


def test_jacobis_choice_divides_by_the_hessians_diagonal():
    X = np.array([[1.0, 2, 0], [3, 0, 0]])
    for matrix in (X, scipy.sparse.csr_array(X)):
        rule = prepared(LeastSquares(matrix, [1.0, 2.0]), "preconditioned").rule
        np.testing.assert_allclose(rule.P, [1 / 5, 1 / 2, 1])  # a column of zeros keeps 1


@given(seed=seeds, n=st.integers(1, 8), d=st.integers(1, 8), rank=st.integers(1, 8))
@settings(deadline=None)
def test_interpolation_is_recognised(seed, n, d, rank):
    generator = np.random.default_rng(seed)
    rank = min(rank, n, d)
    X = generator.standard_normal((n, rank)) @ generator.standard_normal((rank, d))
    consistent = LeastSquares(X, X @ generator.standard_normal(d))
    assert interpolates(consistent)
    assert not interpolates(LeastSquares(X, consistent.t, l2=0.1))
    if rank < n:
        outside = np.linalg.svd(X)[0][:, -1]
        assert not interpolates(LeastSquares(X, consistent.t + 1e-6 * np.linalg.norm(consistent.t) * outside))


def test_named_optimizers_take_the_options_meant_for_them():
    problem = wide_problem(6)
    assert prepared(problem, "gd", batch=2).batch is None
    assert prepared(problem, "sgd", batch=2).batch == 1
    assert prepared(problem, "adam", batch=2).batch == 2
    assert prepared(problem, "adam").batch is None
    assert prepared(problem, "minibatch").batch == 1
    assert prepared(problem, "adam", rate=0.25).rate == 0.25
    own = Optimizer("mine", AdaGrad(epsilon=1e-4), rate=0.5)
    assert prepared(problem, own, rate=0.25, batch=2) == own


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        ("adagard", {}, "There is no optimizer named 'adagard'; did you mean 'adagrad'?"),
        ("gd", {"rate": 0.0}, "A learning rate must be a finite number above 0, but gd has 0.0."),
        ("gd", {"rate": np.inf}, "A learning rate must be a finite number above 0, but gd has inf."),
        ("adam", {"batch": 5}, "A batch must hold 1 to 4 examples, but adam has 5."),
        ("adam", {"batch": 0}, "batch must be at least 1, but it is 0."),
        ("gd", {"start": [1, 2]}, "w0 must have 7 values, one per column of X, but has 2."),
        (Optimizer("p", Preconditioned(np.ones(3))), {}, "P must have 7 rows, one per column of X, but has 3."),
    ],
)
def test_what_cannot_be_run_is_refused(optimizer, options, message):
    with pytest.raises(InputError) as caught:
        prepared(wide_problem(0), optimizer, **options)
    assert str(caught.value) == message

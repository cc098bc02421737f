"""Compiled runs are the literal ones, batch by batch; Optax transformations are Optax's; what is done is kept."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import optax
import pytest

import thalweg as tw
from thalweg.errors import InputError
from thalweg.implicit_bias.compiled import run_together
from thalweg.implicit_bias.rules import OptaxTransformation, Preconditioned
from thalweg.implicit_bias.trajectories import Optimizer, names, prepared, run

generator = np.random.default_rng(0)
PROBLEM = tw.LeastSquares(generator.standard_normal((7, 12)), generator.standard_normal(7))
START = generator.standard_normal(12)
EVERY_NAME = [prepared(PROBLEM, name, start=START) for name in names()]
ON_BATCHES = [  # three of seven rows, so that the last batch of a pass is short
    dataclasses.replace(prepared(PROBLEM, name, batch=3, start=START), name=f"{name} on batches")
    for name in names()
    if name not in ("gd", "sgd")
]
FULL_MATRIX = Optimizer("full matrix", Preconditioned(np.eye(12) + 0.3), rate=0.01)


def test_every_optimizer_takes_the_literal_steps_for_the_same_batches():
    """At every look on the way the losses agree, and at the end the weights: 60 steps, two seeds."""
    runs = [*EVERY_NAME, *ON_BATCHES, FULL_MATRIX]
    found = list(run_together(PROBLEM, runs, [0, 5], steps=60, start=START))
    assert [run.optimizer for run in found] == [one for one in runs for _ in range(1 if one.batch is None else 2)]
    for compiled in found:
        assert compiled.seed in ((None,) if compiled.optimizer.batch is None else (0, 5))
        literal = run(PROBLEM, compiled.optimizer, steps=60, start=START, seed=compiled.seed or 0)
        label = f"{compiled.optimizer.name}, seed {compiled.seed}"
        np.testing.assert_allclose(compiled.w, literal.w, rtol=1e-12, atol=1e-12, err_msg=label)
        assert compiled.loss_steps.tolist() == literal.loss_steps.tolist() == list(range(61))
        np.testing.assert_allclose(compiled.losses, literal.losses, rtol=1e-11, err_msg=label)


@pytest.mark.parametrize("in_cache", [0, 1 << 16])
@pytest.mark.parametrize("cores", [1, 3])
def test_how_the_work_is_shared_out_changes_nothing(monkeypatch, in_cache, cores):
    """One product for all optimizers or one for each, one core or several: the same steps, and short batches too."""
    monkeypatch.setattr("thalweg.implicit_bias.compiled._IN_CACHE", in_cache)
    monkeypatch.setattr("thalweg.implicit_bias.compiled._cores", lambda: cores)
    runs = [prepared(PROBLEM, name, batch=3) for name in ("gd", "sgd", "momentum", "adam", "minibatch-replacement")]
    for compiled in run_together(PROBLEM, runs, [0, 5], steps=40):
        literal = run(PROBLEM, compiled.optimizer, steps=40, seed=compiled.seed or 0)
        np.testing.assert_allclose(compiled.w, literal.w, rtol=1e-12, atol=1e-12, err_msg=compiled.optimizer.name)


def test_l2_sparse_features_and_the_path_in_the_plane_are_the_literal_ones():
    from scipy.sparse import csr_array

    problem = tw.LeastSquares(csr_array([[1.0, 2.0], [0.0, 1.0], [1.0, 0.0]]), [3.0, 1.0, 2.0], l2=0.2)
    runs = [prepared(problem, name, batch=2) for name in ("gd", "momentum", "adam")]
    for compiled in run_together(problem, runs, steps=40):
        literal = run(problem, compiled.optimizer, steps=40)
        np.testing.assert_allclose(compiled.path, literal.path, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(compiled.losses, literal.losses, rtol=1e-11)


def test_runs_end_as_literal_ones_do():
    gd = prepared(PROBLEM, "gd")
    wild = Optimizer("wild", gd.rule, rate=3 * PROBLEM.stability_rate)
    sgd, slow = prepared(PROBLEM, "sgd"), Optimizer("slow", gd.rule, rate=1e-6 * PROBLEM.stability_rate)
    endings = {
        trajectory.optimizer.name: trajectory for trajectory in run_together(PROBLEM, [gd, wild, sgd, slow], steps=9000)
    }
    assert {name: one.ended for name, one in endings.items()} == {
        "gd": "settled",
        "wild": "overflow",
        "sgd": "settled",
        "slow": "budget",
    }
    for name in ("gd", "sgd"):
        literal = run(PROBLEM, endings[name].optimizer, steps=9000)
        # Looks are a hundredth of the way apart, and for small batches at least a pass.
        assert literal.steps <= endings[name].steps <= 1.05 * literal.steps + 20
        np.testing.assert_allclose(endings[name].w, literal.w, rtol=0, atol=1e-13)
    assert endings["slow"].steps == 9000
    np.testing.assert_allclose(endings["slow"].w, run(PROBLEM, endings["slow"].optimizer, steps=9000).w, rtol=1e-10)
    already = next(run_together(PROBLEM, [gd], start=PROBLEM.minimum_norm_solution()))
    assert (already.ended, already.steps) == ("settled", 0)


def test_optax_transformations_are_run_as_optax_runs_them():
    """Step for step against `optax.apply_updates` in a plain loop, with a schedule and weight decay."""

    def rate(count):  # Optax computes its own schedules partly in float32
        return 0.1 / (1.0 + count)

    mine = {"adam": optax.adam(1e-2), "decayed": optax.adamw(rate, weight_decay=0.1), "sgd": optax.sgd(0.05, 0.9)}
    optimizers = [Optimizer(name, OptaxTransformation(one), batch=2) for name, one in mine.items()]
    X, t = PROBLEM.X, PROBLEM.t
    found = list(run_together(PROBLEM, optimizers, [3], steps=30, start=START))
    orders = np.random.default_rng(3).permuted(np.tile(np.arange(7), (8, 1)), axis=1)
    batches = [order[first : first + 2] for order in orders for first in (0, 2, 4, 6)][:30]
    for trajectory, transformation in zip(found, mine.values(), strict=True):
        with jax.enable_x64(True):
            w, state = jax.numpy.asarray(START), transformation.init(jax.numpy.asarray(START))
            for rows in batches:
                gradient = 2 * X[rows].T @ (X[rows] @ w - t[rows]) / len(rows)
                updates, state = transformation.update(gradient, state, w)
                w = optax.apply_updates(w, updates)
        np.testing.assert_allclose(trajectory.w, w, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("name", "steps"), [("lbfgs", 60), ("polyak_sgd", 8)])
def test_transformations_that_ask_for_the_loss_are_given_it(name, steps):
    """L-BFGS searches along a line, the Polyak rate divides by the loss; both against Optax's own loop."""
    if name == "lbfgs":
        backtracking = optax.scale_by_backtracking_linesearch(max_backtracking_steps=20)
        transformation = optax.lbfgs(memory_size=3, linesearch=backtracking)
    else:
        transformation = optax.polyak_sgd(max_learning_rate=0.05)
    (found,) = run_together(PROBLEM, [Optimizer("mine", OptaxTransformation(transformation))], steps=steps, start=START)
    with jax.enable_x64(True):
        X, t, w = (jax.numpy.asarray(values) for values in (PROBLEM.X, PROBLEM.t, START))

        def loss(w):
            return jax.numpy.mean((X @ w - t) ** 2)

        @jax.jit
        def step(w, state):
            value, gradient = jax.value_and_grad(loss)(w)
            update, state = transformation.update(gradient, state, w, value=value, grad=gradient, value_fn=loss)
            return optax.apply_updates(w, update), state

        state = transformation.init(w)
        for _ in range(found.steps):
            w, state = step(w, state)
    np.testing.assert_allclose(found.w, w, rtol=1e-7, atol=1e-9)
    if name == "lbfgs":  # its directions are combinations of gradients too
        np.testing.assert_allclose(found.w, PROBLEM.nearest_solution(START), rtol=0, atol=1e-9)


OPTAX_TWINS = {
    "gd": lambda rate: optax.sgd(rate),
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "optax-adagrad": lambda rate: optax.adagrad(rate),
    "rmsprop": lambda rate: optax.rmsprop(rate, eps_in_sqrt=False),
    "adam": lambda rate: optax.adam(rate),
    "adamw": lambda rate: optax.adamw(rate),
    "sign": lambda rate: optax.sign_sgd(rate),
    "lion": lambda rate: optax.lion(rate),
    "normalised": lambda rate: optax.chain(optax.normalize_by_update_norm(eps=0.0), optax.sgd(rate)),
}


def test_what_is_known_by_name_is_what_optax_calls_so():
    ours = [dataclasses.replace(prepared(PROBLEM, name), rate=0.02, final_rate=1.0) for name in OPTAX_TWINS]
    theirs = [Optimizer(f"optax {name}", OptaxTransformation(twin(0.02))) for name, twin in OPTAX_TWINS.items()]
    found = list(run_together(PROBLEM, [*ours, *theirs], steps=50, start=START))
    for our, their in zip(found[: len(ours)], found[len(ours) :], strict=True):
        np.testing.assert_allclose(our.w, their.w, rtol=1e-9, atol=1e-9, err_msg=our.optimizer.name)


def test_float32_runs_are_the_literal_ones_up_to_its_rounding():
    problem = tw.LeastSquares(PROBLEM.X, PROBLEM.t, l2=0.1)
    runs = [*(prepared(problem, name) for name in names()), prepared(problem, "momentum", batch=3)]
    for compiled in run_together(problem, runs, steps=30, precision="float32"):
        literal = run(problem, compiled.optimizer, steps=30, precision="float32")
        double = run(problem, compiled.optimizer, steps=30)
        assert literal.precision == "float32"
        assert np.array_equal(literal.w, literal.w.astype(np.float32))
        assert not np.array_equal(literal.w, double.w)
        for other in (compiled.w, double.w):
            np.testing.assert_allclose(literal.w, other, rtol=0, atol=1e-4, err_msg=compiled.optimizer.name)


def test_float32_runs_are_in_single_precision_and_leave_jax_alone():
    found = next(run_together(PROBLEM, [prepared(PROBLEM, "gd")], precision="float32"))
    assert np.array_equal(found.w, found.w.astype(np.float32))
    assert found.eps == np.finfo(np.float32).eps
    distance = np.linalg.norm(found.w - PROBLEM.minimum_norm_solution())
    assert 1e-9 < distance < 1e-5
    assert jax.numpy.ones(3).dtype == np.float32
    assert not jax.config.jax_enable_x64


def test_ctrl_c_keeps_what_is_done():
    def press(step):
        if step >= 20:
            raise KeyboardInterrupt

    fast, slow = prepared(PROBLEM, "gd", start=START), Optimizer("slow", prepared(PROBLEM, "gd").rule, rate=1e-6)
    runs = run_together(PROBLEM, [fast, slow], steps=500, start=START, progress=press)
    kept = [next(runs), next(runs)]
    with pytest.raises(KeyboardInterrupt):
        next(runs)
    assert [(one.ended, one.steps) for one in kept] == [("interrupted", 20)] * 2
    np.testing.assert_allclose(kept[0].w, run(PROBLEM, fast, steps=20, start=START).w, rtol=1e-12)

    def press_at_once(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(run_together(PROBLEM, [fast], progress=press_at_once))


def test_progress_rises_to_the_end():
    told = []
    list(run_together(PROBLEM, [prepared(PROBLEM, "adam")], steps=300, start=START, progress=told.append))
    assert told == sorted(told)
    assert told[0] == 0
    assert told[-1] == 300


@pytest.mark.parametrize(
    ("transformation", "message"),
    [
        (
            optax.GradientTransformation(lambda w: (), lambda g, s, p: (1 / 0, s)),
            "cannot take a step: division by zero",
        ),
        (optax.GradientTransformation(lambda w: (), lambda g, s, p: (g[:3], s)), "must return updates of shape (12,)"),
    ],
)
def test_a_broken_transformation_is_refused_by_name(transformation, message):
    with pytest.raises(InputError) as caught:
        tw.limits(PROBLEM, [("mine", transformation)])
    assert "The Optax transformation 'mine'" in str(caught.value)
    assert message in str(caught.value)

"""The momentum surface against runs in long double, stability edges by runs on both sides, and the best pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from oracles import FIVE_DATA_SETS, least_squares_data

KINDS = ("heavy-ball", "nesterov")


def literal_losses(X, t, rate, momentum, steps, kind, l2=0.0, w0=None):
    """`(pairs, len(steps))` losses in 80-bit floats: velocity and position as the definition has them, from rest.

    The position is w, or the residual where that is shorter; its own rounding then falls with the loss.
    """
    X, t, rate, momentum = (np.asarray(values, dtype=np.longdouble) for values in (X, t, rate, momentum))
    n, d = X.shape
    start = np.zeros(d, np.longdouble) if w0 is None else np.asarray(w0, np.longdouble)
    on_weights = d <= n or l2 > 0
    matrix, constant = (X.T @ X, X.T @ t) if on_weights else (X @ X.T, np.zeros(n, np.longdouble))
    position = np.repeat((start if on_weights else X @ start - t)[:, None], len(rate), axis=1)
    velocity = np.zeros_like(position)
    losses = []
    for step in range(max(steps) + 1):
        if step in steps:
            residual = X @ position - t[:, None] if on_weights else position
            losses.append(np.sum(residual**2, axis=0) / n + (l2 * np.sum(position**2, axis=0) if l2 else 0))
        at = position + momentum * velocity if kind == "nesterov" else position
        velocity = momentum * velocity - rate * (2 / np.longdouble(n) * (matrix @ at - constant[:, None]) + 2 * l2 * at)
        position = position + velocity
    return np.stack(losses, axis=1)


def surface_error(name, kind, steps, rates, momenta):
    """The largest relative error where the loss is above 1e-30 of the first."""
    X, t = least_squares_data(name)
    curve = tw.rates(tw.LeastSquares(X, t), max(steps))
    grid = curve.stability_rate * np.asarray(rates)
    every_rate, every_momentum = (values.ravel() for values in np.meshgrid(grid, momenta, indexing="ij"))
    truth = literal_losses(X, t, every_rate, every_momentum, steps, kind)
    logarithm = curve.momentum(kind).log10_loss(grid, momenta, steps).reshape(truth.shape)
    compared = truth >= 1e-30 * truth[:, :1]
    assert compared.mean() > 0.5, "most of the surface must be above the floor for this test to mean anything"
    return float(np.max(np.abs(10 ** (logarithm - np.log10(truth)) - 1)[compared]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_the_surface_equals_long_double_runs(name, kind):
    assert (
        surface_error(name, kind, [0, 1, 2, 3, 10, 47, 100], [0.02, 0.5, 1.0, 2.2], [0.0, 0.3, 0.9, 0.99, 1.0]) <= 1e-11
    )


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_the_surface_equals_long_double_runs_of_a_thousand_steps(name, kind):
    rates, steps = np.linspace(0.02, 2.2, 10), [100, 333, 1000]
    assert surface_error(name, kind, steps, rates, [0.0, 0.3, 0.6, 0.9, 0.97, 0.99, 0.999, 1.0]) <= 1e-11


@st.composite
def problems(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return generator.standard_normal((n, d)), generator.standard_normal(n), generator.standard_normal(d)


kinds = st.sampled_from(KINDS)


@settings(max_examples=50, deadline=None)
@given(problems(), kinds, st.floats(0, 2), st.floats(-1.5, 1.5), st.sampled_from([0.0, 0.01, 1.0]))
def test_ridge_any_start_and_any_momentum_follow_the_literal_run(problem, kind, relative_rate, momentum, l2):
    X, t, w0 = problem
    curve = tw.rates(tw.LeastSquares(X, t, l2), 12, start=w0)
    rate, steps = relative_rate * curve.stability_rate, range(13)
    truth = literal_losses(X, t, [rate], [momentum], steps, kind, l2, w0)[0].astype(float)
    ours = curve.momentum(kind).loss(rate, momentum, steps)
    np.testing.assert_allclose(ours, truth, rtol=1e-9, atol=1e-12 * max(truth))


@settings(max_examples=50, deadline=None)
@given(problems(), kinds, st.floats(0, 1.5))
def test_without_momentum_it_is_the_plain_surface_and_the_first_step_knows_no_momentum(problem, kind, relative_rate):
    X, t, _ = problem
    curve = tw.rates(tw.LeastSquares(X, t), 9)
    rate, steps = relative_rate * curve.stability_rate, np.arange(10)
    ours, tiny = curve.momentum(kind), 1e-25 * curve.initial_loss
    np.testing.assert_allclose(ours.loss(rate, 0.0, steps), curve.loss(rate, steps), rtol=1e-11, atol=tiny)
    first = ours.loss(rate, [0.0, 0.5, 0.99, 1.7], 1)
    np.testing.assert_allclose(first, curve.loss(rate, 1), rtol=1e-11, atol=tiny)


@settings(max_examples=50, deadline=None)
@given(problems(), kinds, st.floats(0.01, 100), st.floats(0.01, 100))
def test_scaling_rotating_and_reordering_the_data(problem, kind, target, feature):
    X, t, _ = problem
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((X.shape[1],) * 2))[0]
    order = np.random.default_rng(1).permutation(len(t))
    plain = tw.rates(tw.LeastSquares(X, t), 8)
    turned = tw.rates(tw.LeastSquares(feature * (X @ rotation)[order], target * t[order]), 8)
    grid, momenta = np.linspace(0, 1.2, 7) * plain.stability_rate, [0.0, 0.6, 0.95]
    np.testing.assert_allclose(
        turned.momentum(kind).loss(grid / feature**2, momenta, [0, 1, 4, 8]) / target**2,
        plain.momentum(kind).loss(grid, momenta, [0, 1, 4, 8]),
        rtol=1e-8,
        atol=1e-12 * plain.initial_loss,
    )


@settings(max_examples=30, deadline=None)
@given(kinds, st.floats(0, 0.97), st.integers(0, 2**32 - 1))
def test_literal_runs_settle_below_the_stability_edge_and_diverge_above_it(kind, momentum, seed):
    generator = np.random.default_rng(seed)
    left, right = (np.linalg.qr(generator.standard_normal((size, 2)))[0] for size in (2, 3))
    X, t = left * [3.0, 1.0] @ right.T, left @ [1.0, 1.0]
    surface = tw.rates(tw.LeastSquares(X, t), 2).momentum(kind)
    ends = []
    for rate in np.array([0.99, 1.01]) * surface.stability_rate(momentum):
        w, velocity = np.zeros(3), np.zeros(3)
        for _ in range(2000):
            at = w + momentum * velocity if kind == "nesterov" else w
            velocity = momentum * velocity - rate * (X.T @ (X @ at - t))
            w = w + velocity
            if np.abs(w).max() > 1e12:
                break
        ends.append(np.abs(X @ w - t).max())
    assert ends[0] < 1e-10
    assert ends[1] > 1e10


def test_the_edge_is_that_of_the_formula():
    curve = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), 3)  # lambda_max = 4
    np.testing.assert_allclose(curve.momentum().stability_rate([0.0, 0.5]), [0.5, 0.75], rtol=1e-14)
    np.testing.assert_allclose(curve.momentum("nesterov").stability_rate([0.0, 0.5]), [0.5, 0.375], rtol=1e-14)


def test_divergent_pairs_have_finite_logarithms_and_infinite_losses():
    methods = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), 1000)
    for kind in KINDS:
        surface = methods.momentum(kind)
        assert np.all(surface.log10_loss([1e6, 1e20], [0.0, 0.9, 5.0], 1000) > 1e3)
        assert np.all(surface.loss([1e6, 1e20], [0.0, 0.9, 5.0], 1000) == np.inf)


def test_one_curvature_solved_in_one_step_gives_minus_infinity_and_zero():
    surface = tw.rates(tw.LeastSquares([[1.0, 2.0]], [3.0]), 5).momentum("nesterov")
    assert surface.loss(0.1, 0.5, [0, 1, 5]) == pytest.approx([9.0, 0.0, 0.0], abs=1e-28)
    assert not np.isnan(surface.log10_loss([0.0, 0.1, 0.2], [0.0, 0.5, 1.0], [0, 1, 2])).any()


def krylov_optimum(X, t, steps):
    """The least loss that any method of that many steps can reach from zero: least squares over the Krylov space."""
    K = X @ X.T
    basis = np.stack([np.linalg.matrix_power(K, power + 1) @ t for power in range(steps)], axis=1)
    return np.sum((basis @ np.linalg.lstsq(basis, t)[0] - t) ** 2) / len(t)


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_two_heavy_ball_steps_reach_the_best_that_two_products_allow(name):
    # Two steps give every polynomial 1 - c h + e h^2 with positive roots when the momentum may be above 1.
    X, t = least_squares_data(name)
    best = tw.rates(tw.LeastSquares(X, t), 2).momentum().best(2, momentum=(0.0, 30.0))
    assert best.loss == pytest.approx(krylov_optimum(X, t, 2), rel=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "step"), [("digits", 3), ("diabetes", 10), ("breast_cancer", 20), ("gaussian", 50)])
def test_no_pair_of_a_fine_grid_is_better_than_the_best_pair(name, step, kind):
    X, t = least_squares_data(name)
    curve = tw.rates(tw.LeastSquares(X, t), step)
    surface = curve.momentum(kind)
    best = surface.best(step)
    grid, momenta = np.geomspace(0.01, 20, 400) * curve.stability_rate, np.linspace(0, 1, 150)
    assert best.loss <= surface.loss(grid, momenta, step).min() * (1 + 1e-12)
    around = best.rate * np.linspace(0.99, 1.01, 81), np.clip(best.momentum + np.linspace(-0.01, 0.01, 81), 0, 1)
    assert best.loss <= surface.loss(*around, step).min() * (1 + 1e-12)
    truth = literal_losses(X, t, [best.rate], [best.momentum], [step], kind)[0, 0]
    assert best.loss == pytest.approx(float(truth), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(problems(), kinds, st.integers(1, 8), st.sampled_from([(0.0, 1.0), (0.3, 0.6), (-0.5, -0.1), (0.9, 0.9)]))
def test_the_best_pair_obeys_its_interval_and_is_never_worse_than_no_momentum(problem, kind, step, interval):
    X, t, _ = problem
    curve = tw.rates(tw.LeastSquares(X, t), 8)
    best = curve.momentum(kind).best(step, interval)
    assert interval[0] <= best.momentum <= interval[1]
    assert best.loss == curve.momentum(kind).loss(best.rate, best.momentum, step)
    if interval[0] == 0:
        assert best.loss <= curve.best_loss(step) * (1 + 1e-12) + 1e-28 * curve.initial_loss
    grid = np.geomspace(0.01, 4, 60) * curve.stability_rate, np.linspace(*interval, 20)
    assert best.loss <= curve.momentum(kind).loss(*grid, step).min() * (1 + 1e-12) + 1e-28 * curve.initial_loss


def test_a_first_step_has_the_best_plain_rate_and_no_momentum():
    curve = tw.rates(tw.LeastSquares(*least_squares_data("diabetes")), 3)
    assert curve.momentum().best(1) == (curve.best_rate(1), 0.0, pytest.approx(curve.best_loss(1), rel=1e-13))
    assert curve.momentum().best(1, momentum=(0.5, 0.9)).momentum == 0.5


def test_a_faint_direction_is_said_beyond_the_edge():
    curve = tw.rates(tw.LeastSquares([[1.0, 0.0], [0.0, 10.0]], [1.0, 1e-15]), 100)
    surface = curve.momentum()
    with pytest.warns(RuntimeWarning, match="too small to know"):
        surface.loss(1.5 * surface.stability_rate(0.5), 0.5, 100)
    surface.loss(0.9 * surface.stability_rate(0.5), 0.5, 100)


surface = tw.rates(tw.LeastSquares(np.diag([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]), 2).momentum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surface.curve.momentum("nestorov"), "did you mean 'nesterov'"),
        (lambda: surface.loss(-1.0, 0.5, 1), "at least 0, but got -1.0"),
        (lambda: surface.loss(1.0, np.nan, 1), "finite .* got nan"),
        (lambda: surface.loss(1.0, [0.5, np.inf], 1), "finite .* got inf"),
        (lambda: surface.loss(1.0, "much", 1), "momentum must be a number"),
        (lambda: surface.loss(1.0, 0.5, 3), "from 0 to 2"),
        (lambda: surface.loss(1e200, 0.5, 1), "learning rate of 1e\\+200 is too large"),
        (lambda: surface.stability_rate(1.0), "at least 0 and below 1"),
        (lambda: surface.stability_rate([-0.1, 0.5]), "at least 0 and below 1"),
        (lambda: surface.best(0), "from 1 to 2"),
        (lambda: surface.best([1, 2]), "Ask for one step"),
        (lambda: surface.best(2, momentum=(0.9, 0.1)), "momentum interval"),
        (lambda: surface.best(2, momentum=0.9), "momentum interval"),
        (lambda: surface.best(2, momentum=(0.0, np.inf)), "finite"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(tw.InputError, match=message):
        call()


def test_the_grid_is_outer_and_scalars_give_floats():
    assert surface.loss(np.ones((2, 3)), np.zeros(4), [0, 2, 1, 1, 2]).shape == (2, 3, 4, 5)
    unordered, ordered = surface.loss(0.1, 0.5, [2, 0, 1, 2]), surface.loss(0.1, 0.5, [0, 1, 2])
    assert unordered.tolist() == [ordered[2], ordered[0], ordered[1], ordered[2]]
    assert surface.loss([], 0.5, 1).shape == (0,)
    assert isinstance(surface.loss(0.1, 0.5, 1), float)
    assert isinstance(surface.stability_rate(0.5), float)


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_as_a_dictionary_table_and_pictures(kind):
    curve = tw.rates(tw.LeastSquares(*least_squares_data("diabetes")), 20)
    answer = curve.momentum(kind)
    keys = ["kind", "n", "d", "steps", "initial_loss", "best_rate", "best_momentum", "best_loss"]
    values = answer.to_dict()
    assert list(values) == keys
    assert list(values["best_loss"]) == [1, 2, 5, 10, 20]
    assert values["best_loss"][5] == answer.loss(values["best_rate"][5], values["best_momentum"][5], 5)
    assert [row[0] for row in answer.table().rows] == [1, 2, 5, 10, 20]
    picture, reached = answer.figures()
    assert np.asarray(picture.data[0].z).shape == (100, 120)
    assert len(reached.data) == 2

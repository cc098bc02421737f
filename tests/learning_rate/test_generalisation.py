"""Test losses and norms against literal runs in long double, and the best rates and stops against dense grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import thalweg as tw
from oracles import FIVE_DATA_SETS, least_squares_data


def literal(X, t, tests, rates, steps, l2=0.0, w0=None):
    """Test losses and norms of the weights, `(rates, len(steps))` each, of plain runs in 80-bit floats."""
    X, t, X_test, t_test, rates = (np.asarray(values, np.longdouble) for values in (X, t, *tests, rates))
    n, d = X.shape
    gram, moment = X.T @ X, X.T @ t
    w = np.repeat((np.zeros(d) if w0 is None else np.asarray(w0)).astype(np.longdouble)[:, None], len(rates), axis=1)
    losses, norms = [], []
    for step in range(max(steps) + 1):
        if step in steps:
            losses.append(np.mean((X_test @ w - t_test[:, None]) ** 2, axis=0))
            norms.append(np.sqrt(np.sum(w**2, axis=0)))
        w = w - rates * (2 * (gram @ w - moment[:, None]) / n + 2 * l2 * w)
    return np.stack(losses, axis=1), np.stack(norms, axis=1)


def halves(name):
    X, t = least_squares_data(name)
    order = np.random.default_rng(7).permutation(len(t))
    train, test = order[: 2 * len(t) // 3], order[2 * len(t) // 3 :]
    return (X[train], t[train]), (X[test], t[test])


def surface_errors(name, steps):
    train, test = halves(name)
    curve = tw.rates(tw.LeastSquares(*train), max(steps))
    surface = curve.generalisation(*test)
    rates = np.array([0.05, 0.6, 0.99, 1.3, 2.2]) * curve.stability_rate
    losses, norms = literal(*train, test, rates, steps)
    log_loss = surface.log10_loss(rates, steps)
    error = np.abs(10 ** (log_loss - np.log10(losses)) - 1).max()
    with np.errstate(invalid="ignore"):
        apart = np.abs(curve.norm(rates, steps[1:]) / norms[:, 1:] - 1)
    finite = norms[:, 1:] < 1e300
    assert np.all(curve.norm(rates, steps[1:])[~finite] > 1e300)
    return float(error), float(apart[finite].max())


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_test_losses_and_norms_equal_long_double_runs(name):
    assert max(surface_errors(name, [0, 1, 2, 5, 20, 60])) <= 1e-11


@pytest.mark.long
@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_test_losses_and_norms_equal_long_double_runs_of_a_thousand_steps(name):
    assert max(surface_errors(name, [0, 1, 100, 1000])) <= 1e-11


@st.composite
def problems(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d, m = (draw(st.integers(1, size)) for size in (6, 6, 12))
    tests = generator.standard_normal((m, d)), generator.standard_normal(m)
    return generator.standard_normal((n, d)), generator.standard_normal(n), tests, generator.standard_normal(d)


@settings(max_examples=60)
@given(problems(), st.floats(0, 2), st.sampled_from([0.0, 0.01, 1.0]))
def test_ridge_and_any_start_follow_the_literal_run(problem, relative_rate, l2):
    X, t, tests, w0 = problem
    curve = tw.rates(tw.LeastSquares(X, t, l2), 12, start=w0)
    surface = curve.generalisation(*tests)
    rate, steps = relative_rate * curve.stability_rate, np.arange(13)
    losses, norms = (values[0].astype(float) for values in literal(X, t, tests, [rate], steps, l2, w0))
    np.testing.assert_allclose(surface.loss(rate, steps), losses, rtol=1e-9, atol=1e-12 * losses.max())
    np.testing.assert_allclose(curve.norm(rate, steps), norms, rtol=1e-9, atol=1e-10 * norms.max())


@settings(max_examples=30)
@given(problems())
def test_the_training_data_as_test_data_give_the_training_loss(problem):
    X, t, _, w0 = problem
    curve = tw.rates(tw.LeastSquares(X, t), 8, start=w0)
    grid, steps = np.linspace(0, 1.5, 9) * curve.stability_rate, np.arange(9)
    ours = curve.generalisation(X, t).loss(grid, steps)
    np.testing.assert_allclose(ours, curve.loss(grid, steps), rtol=1e-8, atol=1e-12 * curve.initial_loss)


@settings(max_examples=50)
@given(problems(), st.floats(0.01, 100), st.floats(0.01, 100))
def test_scaling_rotating_and_reordering_the_data(problem, target, feature):
    X, t, (X_test, t_test), _ = problem
    rotation = feature * np.linalg.qr(np.random.default_rng(0).standard_normal((X.shape[1],) * 2))[0]
    generator = np.random.default_rng(1)
    order, test_order = generator.permutation(len(t)), generator.permutation(len(t_test))
    plain = tw.rates(tw.LeastSquares(X, t), 8)
    turned = tw.rates(tw.LeastSquares((X @ rotation)[order], target * t[order]), 8)
    grid, steps = np.linspace(0, 1.2, 7) * plain.stability_rate, [0, 1, 4, 8]
    losses = plain.generalisation(X_test, t_test).loss(grid, steps)
    same = turned.generalisation((X_test @ rotation)[test_order], target * t_test[test_order])
    np.testing.assert_allclose(
        same.loss(grid / feature**2, steps) / target**2, losses, rtol=1e-8, atol=1e-11 * losses.max()
    )
    norms = plain.norm(grid, steps)
    np.testing.assert_allclose(turned.norm(grid / feature**2, steps) * feature / target, norms, atol=1e-8 * norms.max())


def test_divergence_has_finite_logarithms_and_an_exhausted_run_answers_for_any_step():
    curve = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), 50)
    surface = curve.generalisation([[1.0, 1.0]], [0.0])
    assert surface.log10_loss(1e6, 1000) == pytest.approx(2 * 1000 * np.log10(4e6 - 1) - 2 * np.log10(2), rel=1e-9)
    assert surface.loss(1e6, 1000) == np.inf
    assert curve.norm(1e6, 1000) == np.inf
    assert surface.loss(0.3, 10**6) == pytest.approx(1.5**2, rel=1e-12)
    assert curve.norm(0.3, 10**6) == pytest.approx(np.sqrt(1.25), rel=1e-12)


@pytest.mark.parametrize("name", ["diabetes", "gaussian", "breast_cancer"])
def test_no_rate_or_step_of_a_dense_grid_is_better(name):
    train, test = halves(name)
    curve = tw.rates(tw.LeastSquares(*train), 30)
    surface = curve.generalisation(*test)
    grid, steps = np.geomspace(1e-4, 20, 3000) * curve.stability_rate, np.arange(1, 31)
    losses = surface.loss(grid, steps)
    assert np.all(surface.best_loss(steps) <= losses.min(axis=0) * (1 + 1e-10))
    np.testing.assert_allclose(surface.best_loss(steps), losses.min(axis=0), rtol=1e-3)
    assert surface.best_loss([5, 30]).tolist() == pytest.approx(
        [surface.loss(rate, step) for rate, step in zip(surface.best_rate([5, 30]), [5, 30], strict=True)], rel=1e-12
    )
    stop = surface.early_stopping()
    assert stop.loss == pytest.approx(surface.best_loss(steps).min(), rel=1e-12)
    assert stop.loss == pytest.approx(surface.loss(stop.rate, stop.step), rel=1e-12)


def test_where_training_only_harms_the_best_is_not_to_begin():
    curve = tw.rates(tw.LeastSquares([[1.0]], [1.0]), 1)  # a first step can only raise the weight
    assert curve.generalisation([[1.0]], [-1.0]).early_stopping() == (0.0, 0, pytest.approx(1.0))


def test_sparse_test_data_and_more_examples_than_directions():
    generator = np.random.default_rng(0)
    X, t = generator.standard_normal((20, 8)), generator.standard_normal(20)
    tests, targets = generator.standard_normal((300, 8)), generator.standard_normal(300)
    curve = tw.rates(tw.LeastSquares(X, t), 4)
    dense, other = curve.generalisation(tests, targets), curve.generalisation(sparse.csr_array(tests), targets)
    assert dense.moves.shape == (5, 5)
    assert dense.loss(0.1, [0, 4]) == pytest.approx(other.loss(0.1, [0, 4]), rel=1e-13)
    assert dense.loss(0.1, 0) == pytest.approx(np.mean(targets**2), rel=1e-13)


curve = tw.rates(tw.LeastSquares(np.diag([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]), 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curve.generalisation([[1.0, 2.0]], [1.0]), "have 2 features, but the training data have 3"),
        (lambda: curve.generalisation([[1.0, 2.0, np.nan]], [1.0]), r"the test X\[0, 2\]"),
        (lambda: curve.generalisation([[1.0, 2.0, 3.0]], [1.0, 2.0]), "the test t must have 1 values"),
        (lambda: curve.generalisation(np.empty((0, 3)), []), "the test X is empty"),
        (lambda: curve.generalisation(np.eye(3), np.ones(3)).loss(-1.0, 1), "at least 0, but got -1.0"),
        (lambda: curve.generalisation(np.eye(3), np.ones(3)).loss(1.0, 3), "from 0 to 2"),
        (lambda: curve.generalisation(np.eye(3), np.ones(3)).best_rate(0), "from 1 to 2"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(tw.InputError, match=message):
        call()


def test_the_answer_as_a_dictionary_table_and_picture():
    train, test = halves("diabetes")
    surface = tw.rates(tw.LeastSquares(*train), 20).generalisation(*test)
    answer = surface.to_dict()
    assert list(answer) == ["m", "steps", "early_stopping", "best_rate", "best_loss"]
    assert answer["m"] == len(test[1])
    assert answer["early_stopping"]["loss"] == pytest.approx(min(answer["best_loss"].values()), rel=1e-12)
    assert [row[0] for row in surface.table().rows] == [1, 2, 5, 10, 20]
    assert np.asarray(surface.figure().data[0].z).shape == (20, 200)
    assert surface.loss(np.ones((2, 3)), np.arange(4)).shape == (2, 3, 4)
    assert isinstance(surface.loss(0.1, 1), float)

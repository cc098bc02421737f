"""The expected loss against every sequence of batches, the plain surface, and seeded runs; and its stability."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from oracles import FIVE_DATA_SETS, least_squares_data
from thalweg.learning_rate import second_moment
from thalweg.learning_rate.coordinates import coordinates
from thalweg.learning_rate.second_moment import SecondMoment, step_cost, uses_table


def all_batches(n, size, replacement):
    return list(itertools.product(range(n), repeat=size) if replacement else itertools.combinations(range(n), size))


def spread_of(n, size, replacement):
    return 1 / size if replacement else (n - size) / (size * (n - 1))


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize(("n", "size"), [(2, 1), (3, 1), (3, 2), (3, 3), (4, 2), (4, 3), (5, 2), (5, 4)])
def test_the_spread_is_exact_in_rational_numbers(n, size, replacement):
    """E[(N_i / b)(N_j / b)] = (1 - f) / n^2 + [i = j] f / n, counted over all batches, with the f of the recursion."""
    f = Fraction(1, size) if replacement else Fraction(n - size, size * (n - 1))
    batches = all_batches(n, size, replacement)
    for i, j in itertools.product(range(n), repeat=2):
        seen = Fraction(sum(batch.count(i) * batch.count(j) for batch in batches), len(batches) * size**2)
        assert seen == (1 - f) / n**2 + (f / n if i == j else 0)


def enumerated_losses(problem, w0, rate, size, replacement, steps):
    """The mean loss over every sequence of batches, each as likely as the other: literal steps on all of them."""
    batches = all_batches(problem.n, size, replacement)
    weights, losses = [w0], [problem.loss(w0)]
    for _ in range(steps):
        weights = [w - rate * problem.gradient(w, np.array(batch)) for w in weights for batch in batches]
        losses.append(np.mean([problem.loss(w) for w in weights]))
    return losses


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize(("n", "d"), [(4, 2), (4, 6), (3, 3), (4, 1)])
def test_the_expected_loss_is_the_mean_over_every_sequence_of_batches(n, d, l2, replacement, table, monkeypatch):
    monkeypatch.setattr(second_moment, "uses_table", lambda *_: table)
    generator = np.random.default_rng(n * d)
    X, t, w0 = generator.standard_normal((n, d)), generator.standard_normal(n), generator.standard_normal(d)
    problem = tw.LeastSquares(X, t, l2)
    moment = SecondMoment(coordinates(problem, w0, rows=True))
    for size in (1, 2):
        truth = enumerated_losses(problem, w0, 0.2, size, replacement, 2 if replacement else 3)
        spread = spread_of(n, size, replacement)
        ours = moment.losses(np.array([0.2, 0.3]), np.array([spread, spread]), len(truth) - 1)
        np.testing.assert_allclose(ours[0], truth, rtol=1e-12)


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_batches_of_everything_follow_the_plain_surface(name):
    problem = tw.LeastSquares(*least_squares_data(name))
    curve = tw.rates(problem, 100)
    moment = SecondMoment(coordinates(problem, curve.start, rows=True))
    rates = np.array([0.1, 0.9, 1.1]) * curve.stability_rate
    ours, truth = moment.losses(rates, np.zeros(3), 100), curve.loss(rates, np.arange(101))
    compared = truth >= 1e-30 * curve.initial_loss
    assert np.max(np.abs(ours / truth - 1)[compared]) <= 1e-11
    assert moment.stability_rate(0.0) == pytest.approx(curve.stability_rate, rel=1e-13)


def seeded_losses(X, t, rate, size, replacement, steps, runs, seed):
    """`(runs, steps + 1)` losses of literal runs, side by side."""
    generator = np.random.default_rng(seed)
    w, losses = np.zeros((runs, X.shape[1])), []
    for _ in range(steps + 1):
        losses.append(np.mean((w @ X.T - t) ** 2, axis=1))
        if replacement:
            rows = generator.integers(len(t), size=(runs, size))
        else:
            rows = np.argsort(generator.random((runs, len(t))), axis=1)[:, :size]
        residual = np.einsum("rbd,rd->rb", X[rows], w) - t[rows]
        w = w - rate * 2 / size * np.einsum("rbd,rb->rd", X[rows], residual)
    return np.stack(losses, axis=1)


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("size", [1, 20])
def test_seeded_runs_on_digits_agree_within_their_noise(size, replacement):
    X, t = least_squares_data("digits")
    X, t = X[:150], t[:150]
    moment = SecondMoment(coordinates(tw.LeastSquares(X, t), np.zeros(64), rows=True))
    spread = spread_of(150, size, replacement)
    rate = 0.4 * moment.stability_rate(spread)
    expected = moment.losses(np.array([rate]), np.array([spread]), 12)[0]
    runs = seeded_losses(X, t, rate, size, replacement, 12, runs=4000, seed=size)
    deviation = (runs.mean(axis=0) - expected)[1:] / (runs.std(axis=0)[1:] / np.sqrt(len(runs)))
    assert np.abs(deviation).max() < 4
    # The test can tell the two kinds of batches apart: the other spread would be seen.
    if size == 20:
        other = moment.losses(np.array([rate]), np.array([spread_of(150, size, not replacement)]), 12)[0]
        assert np.abs((other - expected) / (runs.std(axis=0) + 1e-300) * np.sqrt(len(runs)))[1:].max() > 4


def radius(moment, rate, spread):
    """The spectral radius of the recursion's linear part, from the matrix that the recursion itself spells out."""
    h = moment._at.curvatures
    size = len(h)
    columns = []
    for k, l in itertools.product(range(size), repeat=2):
        unit = np.zeros((size, size))
        unit[k, l] = 1.0
        rows = moment._at.rows[:, :-1]
        squares = np.einsum("ij,jk,ik->i", rows, unit, rows)
        share = moment._at.share
        noise = len(rows) * rows.T @ (squares[:, None] * rows) - np.outer(share, share) * unit
        keep = 1 - rate * h
        columns.append((keep[:, None] * unit * keep + spread * rate**2 * np.outer(h, h) * noise).ravel())
    return np.abs(np.linalg.eigvals(np.stack(columns, axis=1))).max()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.0, 0.3]), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_spectral_radius_is_one_at_the_stability_limit(n, d, l2, spread, seed):
    generator = np.random.default_rng(seed)
    problem = tw.LeastSquares(generator.standard_normal((n, d)), generator.standard_normal(n), l2)
    moment = SecondMoment(coordinates(problem, np.zeros(d), rows=True))
    limit = moment.stability_rate(spread)
    assert radius(moment, limit, spread) == pytest.approx(1.0, abs=1e-9)
    assert radius(moment, 0.98 * limit, spread) < 1
    assert radius(moment, 1.02 * limit, spread) > 1


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("name", ["gaussian", "diabetes", "breast_cancer"])
def test_the_expected_loss_settles_below_the_limit_and_grows_above_it(name, size):
    X, _ = least_squares_data(name)
    X = X[:40, :12]
    d = X.shape[1]
    problem = tw.LeastSquares(X, X @ np.ones(d))  # a perfect fit, so that nothing but the growth itself stays
    moment = SecondMoment(coordinates(problem, np.zeros(d), rows=True))
    spread = spread_of(40, size, replacement=False)
    limit = moment.stability_rate(spread)
    below, above = moment.losses(np.array([0.95, 1.05]) * limit, np.full(2, spread), 3000)
    assert below[-1] <= below[-500] < below[0]
    assert above[-1] > 1.0001 * above[-500]


@pytest.mark.parametrize("size", [1, 2])
def test_the_mean_of_literal_runs_settles_below_the_limit_and_grows_above_it(size):
    """All runs of a small problem together: 40,000 of them, whose mean square is what the limit is about."""
    generator = np.random.default_rng(0)
    X, count, steps = np.array([[1.0, 0.4], [-0.6, 1.0], [0.5, 0.8], [1.0, -0.7]]), 40_000, 6
    t = X @ [1.0, -2.0]  # without a floor, so that what does not grow dies out
    sgd = tw.rates(tw.LeastSquares(X, t), steps).sgd(size)
    ends = []
    for share in (0.8, 1.3):
        rate = share * sgd.stability_rate
        w = np.zeros((count, 2))
        for _ in range(steps):
            rows = np.argsort(generator.random((count, 4)), axis=1)[:, :size]
            residual = np.einsum("cbd,cd->cb", X[rows], w) - t[rows]
            w -= rate * 2 / size * np.einsum("cb,cbd->cd", residual, X[rows])
        losses = np.mean((w @ X.T - t) ** 2, axis=1)
        noise = losses.std() / np.sqrt(count)
        assert losses.mean() == pytest.approx(sgd.loss(rate, steps), abs=5 * noise)
        assert noise < 0.2 * losses.mean(), "the mean must be known for this test to mean anything"
        ends.append(losses.mean() / np.mean(t**2))
    assert ends[0] < 0.3
    assert ends[1] > 3


def test_divergence_ends_in_infinity():
    moment = SecondMoment(coordinates(tw.LeastSquares(np.eye(3), [1.0, 2.0, 3.0]), np.zeros(3), rows=True))
    losses = moment.losses(np.array([1e3, 0.1]), np.array([1.0, 1.0]), 300)
    assert losses[0, -1] == np.inf
    assert not np.isnan(losses).any()
    assert np.isfinite(losses[1]).all()


def test_one_example_has_no_noise():
    problem = tw.LeastSquares([[1.0, 2.0]], [3.0])
    moment = SecondMoment(coordinates(problem, np.zeros(2), rows=True))
    assert moment.stability_rate(0.0) == pytest.approx(0.2, rel=1e-14)
    assert moment.losses(np.array([0.05]), np.zeros(1), 3)[0] == pytest.approx(9 * 0.5 ** (2 * np.arange(4)), rel=1e-13)


def test_the_table_is_used_where_it_is_cheaper():
    assert uses_table(1797, 62)
    assert not uses_table(200, 201)
    assert not uses_table(10_000_000, 62), "making it would take longer than it saves"
    assert step_cost(100_000, 10) == 66**2
    assert step_cost(2000, 2000) == 2000 * 2001**2

"""The answers for stochastic gradient descent: shapes, best rates against a search of another kind, literal runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

import thalweg as tw
from oracles import least_squares_data
from thalweg.learning_rate import stochastic as module
from thalweg.learning_rate.stochastic import affordable

SMALL = tw.LeastSquares([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, -1.0]], [1.0, 1.0, 0.0, 2.0])


def diabetes(steps=20):
    return tw.rates(tw.LeastSquares(*least_squares_data("diabetes")), steps)


def test_the_axes_are_batch_rate_step_and_scalars_give_floats():
    curve = tw.rates(SMALL, 6)
    several, one = curve.sgd([1, 2, 4]), curve.sgd(2)
    rates, steps = np.array([[0.1, 0.2], [0.0, 0.3]]), [0, 6, 2]
    losses = several.loss(rates, steps)
    assert losses.shape == (3, 2, 2, 3)
    assert one.loss(rates, steps).tolist() == losses[1].tolist()
    assert losses[1, 1, 1, 2] == one.loss(0.3, 2)
    assert isinstance(one.loss(0.3, 2), float)
    assert isinstance(one.stability_rate, float)
    assert isinstance(one.best_rate(3), float)
    assert several.stability_rate.shape == (3,)
    assert several.best_loss([1, 3]).shape == (3, 2)
    assert several.loss([], 1).shape == (3, 0)
    assert one.best_rate([]).shape == (0,)


@pytest.mark.parametrize("replacement", [True, False])
def test_the_expected_loss_of_two_steps_by_hand(replacement):
    """Two examples in two directions of their own, so that every batch can be written out."""
    problem = tw.LeastSquares(np.eye(2), [1.0, 1.0])
    sgd = tw.rates(problem, 2).sgd([1, 2], replacement=replacement)
    # Batch of one: with chance a half a direction's residual is multiplied by 1 - 2 rate, otherwise it stays.
    kept = (1 + (1 - 2 * 0.3) ** 2) / 2
    assert sgd.loss(0.3, [0, 1, 2])[0] == pytest.approx([1, kept, kept**2], rel=1e-14)
    # Batch of two: without replacement each direction once; with it twice, once or never.
    pair = ((1 - 2 * 0.3) ** 2 + 2 * (1 - 0.3) ** 2 + 1) / 4 if replacement else (1 - 0.3) ** 2
    assert sgd.loss(0.3, [0, 1, 2])[1] == pytest.approx([1, pair, pair**2], rel=1e-14)


@pytest.mark.parametrize(("name", "size", "step"), [("diabetes", 1, 3), ("diabetes", 16, 20), ("breast_cancer", 4, 20)])
def test_best_rates_equal_those_of_a_bounded_search_and_no_rate_of_a_wide_grid_is_better(name, size, step):
    sgd = tw.rates(tw.LeastSquares(*least_squares_data(name)), step).sgd(size)
    best = sgd.best_rate(step)
    found = minimize_scalar(
        lambda log_rate: np.log(sgd.loss(np.exp(log_rate), step)),
        bounds=(np.log(best) - 1, np.log(best) + 1),
        method="bounded",
        options={"xatol": 1e-7},
    )
    assert best == pytest.approx(np.exp(found.x), rel=1e-4)
    assert sgd.best_loss(step) == sgd.loss(best, step)
    assert sgd.best_loss(step) <= np.exp(found.fun) * (1 + 1e-8)
    assert sgd.best_loss(step) <= sgd.loss(np.geomspace(1e-4, 10, 150), step).min() * (1 + 1e-12)


def test_batches_of_everything_are_plain_gradient_descent():
    curve = diabetes()
    sgd = curve.sgd([curve.n, 7])
    assert sgd.best_rate([1, 20])[0].tolist() == curve.best_rate([1, 20]).tolist()
    assert sgd.best_loss(20)[0] == curve.best_loss(20)
    assert sgd.stability_rate[0] == pytest.approx(curve.stability_rate, rel=1e-12)
    np.testing.assert_allclose(sgd.loss([0.05, 0.2], [0, 5, 20])[0], curve.loss([0.05, 0.2], [0, 5, 20]), rtol=1e-11)


def test_larger_batches_are_more_stable_and_reach_less():
    sgd = diabetes().sgd([1, 4, 16, 64, 442])
    assert np.all(np.diff(sgd.stability_rate) > 0)
    assert np.all(np.diff(sgd.best_loss(20)) < 0)
    with_replacement = diabetes().sgd([4, 16, 64], replacement=True)
    assert np.all(with_replacement.stability_rate < sgd.stability_rate[1:4])
    assert np.all(with_replacement.best_loss(20) > sgd.best_loss(20)[1:4])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(0.1, 10))
def test_scaling_rotating_and_reordering_the_data(seed, target, feature):
    generator = np.random.default_rng(seed)
    X, t = generator.standard_normal((6, 4)), generator.standard_normal(6)
    rotation, order = np.linalg.qr(generator.standard_normal((4, 4)))[0], generator.permutation(6)
    plain = tw.rates(tw.LeastSquares(X, t), 5).sgd([1, 3])
    turned = tw.rates(tw.LeastSquares(feature * (X @ rotation)[order], target * t[order]), 5).sgd([1, 3])
    np.testing.assert_allclose(turned.stability_rate * feature**2, plain.stability_rate, rtol=1e-9)
    rates = np.array([0.3, 0.9]) * plain.stability_rate[0]
    ours = turned.loss(rates / feature**2, [1, 5]) / target**2
    np.testing.assert_allclose(ours, plain.loss(rates, [1, 5]), rtol=1e-9)


@pytest.mark.parametrize("replacement", [True, False])
def test_literal_runs_agree_within_their_noise_also_with_ridge_and_any_start(replacement):
    X, t = least_squares_data("diabetes")
    problem = tw.LeastSquares(X[:60], t[:60], 0.1)
    sgd = tw.rates(problem, 8, start=np.linspace(-1, 1, 10)).sgd([1, 10], replacement=replacement)
    rate = 0.3 * sgd.stability_rate
    runs = sgd.literal_runs(rate, 8, count=400, seed=1)
    assert runs.shape == (2, 400)
    expected = [sgd.loss(rate[place], 8)[place] for place in range(2)]
    deviation = (runs.mean(axis=1) - expected) / (runs.std(axis=1) / 20)
    assert np.abs(deviation).max() < 4
    assert sgd.literal_runs(rate, 8, count=3, seed=5).tolist() == sgd.literal_runs(rate, 8, count=3, seed=5).tolist()
    single = tw.rates(problem, 8).sgd(10)
    assert single.literal_runs(0.01, 8).shape == (16,)


def test_where_the_exact_recursion_is_affordable():
    assert affordable(2000, 2000)
    assert affordable(2000, 10**9)
    assert affordable(1_000_000, 10)
    assert not affordable(60_000, 784)
    assert not affordable(3000, 3000)


def test_an_approximation_says_so_and_shows_literal_runs():
    curve = diabetes()
    exact, near = curve.sgd([4, 442]), curve.sgd([4, 442], exact=False)
    assert exact.exact
    assert not near.exact
    assert near.best_loss(20) == pytest.approx(exact.best_loss(20), rel=0.02)
    assert near.best_rate(20) == pytest.approx(exact.best_rate(20), rel=0.1)
    table = near.table()
    assert table.columns[-2:] == ["mean of 16 literal runs", "its standard error"]
    assert "Approximate" in table.to_text()
    assert "Approximate" not in exact.table().to_text()
    mean, error = table.rows[0][-2:]
    assert abs(mean - exact.best_loss(20)[0]) < 5 * error
    assert table.rows[1][-1] == pytest.approx(0, abs=1e-12)  # nothing is random in batches of everything


def test_large_data_get_the_approximation(monkeypatch):
    monkeypatch.setattr(module, "_MOST_WORK", 1000)
    assert not diabetes(3).sgd(1).exact
    assert diabetes(3).sgd(1, exact=True).exact


def test_the_answer_as_a_dictionary_table_and_pictures():
    sgd = diabetes().sgd()
    answer = sgd.to_dict()
    keys = ["n", "d", "steps", "replacement", "exact", "stability_rate", "best_rate", "best_loss"]
    assert list(answer) == keys
    assert list(answer["best_rate"]) == [1, 4, 16, 64, 256, 442]
    assert answer["best_loss"][16] == sgd.best_loss(20)[2]
    assert [row[0] for row in sgd.table().rows] == [1, 4, 16, 64, 256, 442]
    rates, courses = sgd.figures()
    assert len(rates.data) == 2
    assert len(courses.data) == 6
    assert courses.data[0].y[-1] == pytest.approx(sgd.best_loss(20)[0], rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tw.rates(SMALL, 2).sgd(0), "at least 1, but got 0"),
        (lambda: tw.rates(SMALL, 2).sgd([2, -1]), "at least 1, but got -1"),
        (lambda: tw.rates(SMALL, 2).sgd(5), "A batch of 5 cannot be drawn from 4 examples without replacement"),
        (lambda: tw.rates(SMALL, 2).sgd(1.5), "must be an integer, but got 1.5"),
        (lambda: tw.rates(SMALL, 2).sgd([]), "must be an integer"),
        (lambda: tw.rates(SMALL, 2).sgd("all"), "must be an integer, but got 'all'"),
        (lambda: tw.rates(SMALL, 2).sgd(1).loss(-1.0, 1), "at least 0, but got -1.0"),
        (lambda: tw.rates(SMALL, 2).sgd(1).loss(0.1, 3), "from 0 to 2"),
        (lambda: tw.rates(SMALL, 2).sgd(1).best_rate(0), "from 1 to 2"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(tw.InputError, match=message):
        call()


def test_more_than_all_can_be_drawn_with_replacement():
    sgd = tw.rates(SMALL, 2).sgd(100, replacement=True)
    assert sgd.stability_rate < tw.rates(SMALL, 2).stability_rate

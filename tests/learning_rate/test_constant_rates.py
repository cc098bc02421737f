"""A run far shorter than what it answers for: the same losses as the whole run, wherever they are told apart at all."""

from __future__ import annotations

import pickle
import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator

import thalweg as tw
from thalweg.learning_rate import constant_rates
from thalweg.learning_rate.constant_rates import enough_steps
from thalweg.quadrature import Run


def spectra(kind, size, generator):
    """Singular values of X, and the parts of the residual along them."""
    values = {
        "bulk": np.linspace(0.3, 1, size),
        "geometric": np.geomspace(1e-3, 1, size),
        "clusters": np.repeat([0.1, 0.5, 1.0], -(-size // 3))[:size] * (1 + 1e-6 * generator.random(size)),
        "outlier": np.append(np.linspace(0.1, 1, size - 1), 2.5),
        "power law": 1 / np.arange(1, size + 1),
    }[kind]
    parts = generator.standard_normal(size)
    if kind == "outlier":
        parts[-1] = 1e-6  # 1e-12 of the loss, and soon all of it, above its own stability limit
    return values, parts


KINDS = ["bulk", "geometric", "clusters", "outlier", "power law"]


def both(kind, size, steps, seed, l2=0.0):
    values, parts = spectra(kind, size, np.random.default_rng(seed))
    problem = tw.LeastSquares(np.diag(values), parts, l2)
    return tw.rates(problem, steps), tw.rates(problem, steps, whole=True)


def exact(kind, size, seed, rates, steps):
    """The decimal logarithm of the loss, from the parts of the residual, in long double."""
    values, parts = (each.astype(np.longdouble) for each in spectra(kind, size, np.random.default_rng(seed)))
    factors = np.abs(1 - rates[:, None].astype(np.longdouble) * 2 / size * values**2)
    return np.log10(np.sum(parts**2 / size * factors[:, None, :] ** (2 * steps[:, None]), axis=-1))


def apart(ours, theirs):
    """The largest relative difference of losses above 1e-30, given as decimal logarithms."""
    return float(np.log(10) * np.abs(ours - theirs)[theirs > -30].max())


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(5, 120), st.integers(310, 1500), st.integers(0, 2**32 - 1))
def test_every_constant_rate_has_its_loss_as_exactly_as_the_whole_run_says(kind, size, steps, seed):
    short, whole = both(kind, size, steps, seed)
    assert short.run.done <= whole.run.done
    rates = np.append(np.geomspace(1e-3, 2.2, 60), [5, 20]) / 2 * whole.stability_rate
    every = np.unique(np.geomspace(1, steps, 25).round().astype(int))
    truth = exact(kind, size, seed, rates, every)
    # An outlier has 1e-12 of the loss or less, and a residual rounded to 1e-16 says no more than 1e-9 of that or so.
    exactness, of_others = (1e-7, 1e-7) if kind == "outlier" else (2e-11, 1e-10)
    assert apart(short.log10_loss(rates, every), truth) <= exactness
    assert apart(whole.log10_loss(rates, every), truth) <= exactness
    np.testing.assert_allclose(short.best_rate(every), whole.best_rate(every), rtol=of_others)
    np.testing.assert_allclose(short.norm(rates[:40], every), whole.norm(rates[:40], every), rtol=of_others)


@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_added_later_has_the_losses_of_its_own_run(kind):
    short, _ = both(kind, 100, 1000, 0)
    for l2 in (1e-6, 1e-3, 0.1, 10.0):
        _, own = both(kind, 100, 1000, 0, l2)
        rates = np.geomspace(1e-3, 2.2, 60) / 2 * own.stability_rate
        ours, theirs = (each.log10_loss(rates, [1, 10, 100, 1000]) for each in (short.with_l2(l2), own))
        assert apart(ours, theirs) < (1e-8 if kind == "outlier" else 1e-11)  # 1e-12 of a loss, known to rounding of all


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(50, 400))
def test_the_theorem_that_the_length_rests_on(seed, size, steps):
    """`|sum - integral| <= 2 epsilon (first loss) max |1 - rate h|^(2T)`, here for 1e-6, which rounding cannot hide."""
    generator = np.random.default_rng(seed)
    values, parts = (
        generator.random(size) ** 2,
        generator.standard_normal(size) * 10.0 ** generator.integers(-8, 1, size),
    )
    run = Run(np.diag(values), parts)
    run.go_on(enough_steps(steps, 1e-6))
    seen = run.measure()
    for rate in np.linspace(0.05, 2.2, 12) / values.max() ** 2:
        ours = np.sum(seen.weights * (1 - rate * seen.nodes) ** (2 * steps))
        truth = np.sum(parts**2 * (1 - rate * values**2) ** (2 * steps))
        largest = (parts @ parts) * np.max(np.abs(1 - rate * values**2)) ** (2 * steps)
        assert abs(ours - truth) <= 2e-6 * largest


def test_what_else_is_asked_for_comes_from_the_whole_run():
    short, whole = both("geometric", 80, 400, 3)
    assert short.run.done < whole.run.done
    np.testing.assert_array_equal(short.best_schedule(), whole.best_schedule())
    assert short.run.done == whole.run.done
    short, _ = both("geometric", 80, 400, 3)
    assert short.momentum().best(400) == whole.momentum().best(400)
    short = pickle.loads(pickle.dumps(both("geometric", 80, 400, 3)[0]))
    np.testing.assert_array_equal(short.best_schedule(), whole.best_schedule())
    later = both("geometric", 80, 400, 3)[0].with_l2(0.01)
    np.testing.assert_allclose(later.best_schedule(20), whole.with_l2(0.01).best_schedule(20), rtol=1e-9)


def counted(X):
    products = []

    def matvec(v):
        products.append(1)
        return X @ v

    return LinearOperator(X.shape, matvec=matvec, rmatvec=lambda u: X.T @ u, dtype=float), products


def test_a_thousand_steps_take_two_hundred_products():
    X = np.random.default_rng(0).standard_normal((60, 200))
    operator, products = counted(X)
    problem = tw.LeastSquares(operator, np.ones(60))
    asked = len(products)
    seen = []
    short = tw.rates(problem, 1000, progress=seen.append)
    # The run is over before, as 60 examples have only so many directions; rounding makes copies of them.
    assert len(products) - asked == short.run.done == seen[-2] == 192
    assert seen[-1] == short.steps == 1000


def test_where_products_are_cheap_none_is_spared():
    X = np.random.default_rng(0).standard_normal((20, 50))
    assert tw.rates(tw.LeastSquares(X, np.ones(20)), 100).run.done == 100
    X = np.random.default_rng(0).standard_normal((500, 1000))
    assert tw.rates(tw.LeastSquares(X, np.ones(500)), 100).run.done == enough_steps(100) == 61
    assert tw.rates(tw.LeastSquares(X, np.ones(500)), 100, whole=True).run.done == 100


def test_a_run_that_is_too_short_goes_on(monkeypatch):
    short, whole = both("bulk", 120, 1000, 1)
    monkeypatch.setattr(constant_rates, "enough_steps", lambda steps: 20)
    longer, _ = both("bulk", 120, 1000, 1)
    assert 20 < longer.run.done <= short.run.done
    rates = np.geomspace(1e-3, 2.2, 60) / 2 * whole.stability_rate
    steps = [1, 10, 100, 1000]
    assert apart(longer.log10_loss(rates, steps), whole.log10_loss(rates, steps)) < 1e-11


@pytest.mark.parametrize("done", [0, 30])
def test_ctrl_c_keeps_the_steps_of_a_shorter_run(done):
    problem = tw.LeastSquares(np.random.default_rng(0).standard_normal((60, 200)), np.ones(60))

    def progress(step):
        if step == max(done, 1):
            signal.raise_signal(signal.SIGINT)

    if done:
        answer = tw.rates(problem, 1000, progress=progress, keep_interrupted=True)
        assert answer.steps == done
        assert answer.loss(0.01, done) == tw.rates(problem, done).loss(0.01, done)
    else:
        with pytest.raises(KeyboardInterrupt):
            tw.rates(problem, 1000, progress=progress)

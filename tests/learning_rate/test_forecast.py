"""Rates of networks: exact for linear ones, measured for all, near the best of a fine grid, and never diverging."""

from __future__ import annotations

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg.errors import InputError
from thalweg.learning_rate.forecast import NetworkRates, _trusted
from thalweg.learning_rate.gauss_newton import network_of
from thalweg.learning_rate.linearised import Linearisation

X = np.random.default_rng(0).standard_normal((2, 15, 6))
T = np.random.default_rng(1).standard_normal((2, 15))
CLASSES = np.eye(3)[np.random.default_rng(2).integers(3, size=(2, 15))]


def training(predict, criterion, init, batches, loss=None):
    def composed(params, batch, hyper):
        return criterion(predict(params, batch, hyper), batch)

    return tw.Training(
        composed if loss is None else loss,
        init,
        batches,
        lambda hyper: optax.sgd(0.1),
        predict=predict,
        criterion=criterion,
    )


def linear(start=0.0):
    return training(
        lambda w, batch, hyper: batch[0] @ w,
        lambda outputs, batch: jnp.mean((outputs - batch[1]) ** 2),
        lambda key: jnp.full(6, start),
        lambda key: (X, T),
    )


def network(scale=1.0, order=None, classes=True, gain=1.0):
    """A small network with ReLU, whose loss can be scaled and whose examples can be put in another order."""
    order = np.arange(15) if order is None else order

    def predict(params, batch, hyper):
        return gain * jax.nn.relu(batch[0] @ params["a"]) @ params["b"]

    def criterion(outputs, batch):
        if classes:
            return -scale * jnp.mean(jnp.sum(batch[1] * jax.nn.log_softmax(outputs), axis=-1))
        return scale * jnp.mean(jnp.sum((outputs - batch[1]) ** 2, axis=-1))

    def init(key):
        one, two = jax.random.split(key)
        return {"a": jax.random.normal(one, (6, 8)) * 6**-0.5, "b": jax.random.normal(two, (8, 3)) * 8**-0.5}

    return training(predict, criterion, init, lambda key: (X[:, order], CLASSES[:, order]))


@pytest.mark.parametrize("start", [0.0, 0.7])
def test_a_linear_network_has_the_rates_of_least_squares(start):
    exact = tw.rates(tw.LeastSquares(X.reshape(30, 6), T.ravel()), 10, start=np.full(6, start))
    with jax.enable_x64(True):
        answer = tw.rates(linear(start), steps=10)
    for step in (1, 2, 3, 4, 5, 10):
        assert answer.best_rate(step) == pytest.approx(exact.best_rate(step), rel=1e-7)
        assert answer.best_loss(step) == pytest.approx(exact.best_loss(step), rel=1e-12)
        assert answer.predicted(step) == pytest.approx(answer.measured(step), rel=1e-10)
        assert answer.forecasts[step].predicted == pytest.approx(answer.forecasts[step].measured, rel=1e-10)
    grid = np.array([0.01, 0.1, 0.4])
    np.testing.assert_allclose(answer.loss(grid, [0, 1, 5, 10]), exact.loss(grid, [0, 1, 5, 10]), rtol=1e-10)
    assert answer.stability_rate == pytest.approx(exact.stability_rate, rel=1e-9)
    assert answer.stability["hessian"] == pytest.approx(exact.stability_rate, rel=1e-9)
    lowering = answer.rates[(answer.losses[:, 1:] < answer.losses[:, :1]).all(axis=1)]
    assert (answer.trust >= lowering[-1] * (1 - 1e-12)).all()


def literal_runs(ours):
    """Plain gradient descent on all batches, by JAX's gradient of the training's own loss: (rate, steps) -> losses."""
    start = ours.init(jax.random.split(jax.random.key(0))[0])
    batches = ours.batches(None)

    @jax.jit
    def both(params):
        return jax.value_and_grad(lambda p: jnp.mean(jax.vmap(lambda batch: ours.loss(p, batch, None))(batches)))(
            params
        )

    def run(rate, steps):
        params, losses = start, []
        for _ in range(steps + 1):
            value, gradient = both(params)
            losses.append(float(value))
            params = {name: params[name] - rate * gradient[name] for name in params}
        return np.array(losses)

    return run


@pytest.mark.parametrize("classes", [True, False])
def test_what_is_measured_is_what_literal_steps_do_and_near_the_best_of_a_fine_grid(classes):
    ours = network(classes=classes)
    answer, literal = tw.rates(ours), literal_runs(ours)
    assert isinstance(answer, NetworkRates)
    for step in range(1, 6):
        losses = literal(answer.best_rate(step), step)
        assert answer.measured(step) == pytest.approx(losses[0] - losses[-1], rel=1e-4)
        assert answer.best_loss(step) == pytest.approx(losses[-1], rel=1e-4)
        assert answer.measured(step) > 0
    grid = [literal(rate, 5) for rate in answer.stability_rate * np.geomspace(0.1, 30, 60)]
    best = np.nanmax([losses[0] - losses for losses in grid], axis=0)
    assert answer.measured(1) >= 0.98 * best[1]
    assert answer.measured(5) >= 0.9 * best[5]
    assert answer.forecasts[1].measured >= 0.95 * best[1]


def test_one_step_is_predicted_by_the_network_linearised_half_way():
    with jax.enable_x64(True):
        near = network_of(network())
        answer = tw.rates(network(), steps=1)
        rate = answer.best_rate(1)
        loss, gradient = near.loss_and_gradient(near.start)
        losses = near.descend_linearised(near.start - rate * gradient / 2, near.start, rate, 1)
    assert answer.predicted(1) == pytest.approx(loss - losses[-1], rel=1e-10)


def test_trust_ends_where_the_linearisation_first_goes_astray():
    model = Linearisation(np.array([1.0]), np.array([1.0]))  # a fall of rate - rate^2 / 2 in one step
    rates = np.array([0.1, 0.2, 0.4, 0.8])
    fall = np.array([0.095, 0.18 * 1.1, 0.32 * 2, 0.48])
    losses = np.stack([np.ones(4), 1 - fall], axis=1)
    assert _trusted(model, rates, losses).tolist() == [0.2]
    assert _trusted(model, rates[2:], losses[2:]).tolist() == [0.0]


@settings(max_examples=6, deadline=None)
@given(st.sampled_from([2.0**power for power in (-6, -1, 3, 10)]), st.booleans())
def test_scaling_the_loss_scales_the_rates_inversely(scale, classes):
    with jax.enable_x64(True):
        one, other = (tw.rates(network(scale=by, classes=classes), steps=3) for by in (1.0, scale))
    np.testing.assert_allclose(other.best * scale, one.best, rtol=1e-9)
    np.testing.assert_allclose(other.decreases, one.decreases * scale, rtol=1e-9)
    np.testing.assert_allclose(other.predictions, one.predictions * scale, rtol=1e-9)
    for name in ("hessian", "gauss_newton"):
        assert other.stability[name] * scale == pytest.approx(one.stability[name], rel=1e-9)


@settings(max_examples=6, deadline=None)
@given(st.permutations(range(15)), st.permutations(range(8)))
def test_the_order_of_examples_and_of_hidden_units_changes_nothing(order, units):
    units = np.array(units)
    same = network(order=np.array(order))

    def init(key):
        start = network().init(key)
        return {"a": start["a"][:, units], "b": start["b"][units]}

    with jax.enable_x64(True):
        one, other = (tw.rates(each, steps=3) for each in (network(), dataclasses.replace(same, init=init)))
    np.testing.assert_allclose(other.best, one.best, rtol=1e-8)
    np.testing.assert_allclose(other.decreases, one.decreases, rtol=1e-8)
    np.testing.assert_allclose(list(other.stability.values()), list(one.stability.values()), rtol=1e-8)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_rotating_the_features_changes_nothing(seed):
    """Gradient descent sees the features only through the first layer: `X Q` with weights `Q^T a` is `X` with `a`."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))
    plain = network()
    turned = dataclasses.replace(
        plain,
        init=lambda key: (lambda start: start | {"a": Q.T @ start["a"]})(plain.init(key)),
        batches=lambda key: (X @ Q, CLASSES),
    )
    with jax.enable_x64(True):
        one, other = tw.rates(plain, steps=3), tw.rates(turned, steps=3)
    np.testing.assert_allclose(other.best, one.best, rtol=1e-8)
    np.testing.assert_allclose(other.decreases, one.decreases, rtol=1e-8)


def test_single_precision_has_the_digits_it_claims():
    single = tw.rates(network(), steps=2)
    start = network().init(jax.random.split(jax.random.key(0))[0])
    with jax.enable_x64(True):
        same = dataclasses.replace(network(), init=lambda key: jax.tree.map(lambda x: np.float64(np.asarray(x)), start))
        double = tw.rates(same, steps=2)
    assert (single.kind, double.kind) == ("float32", "float64")
    assert single.stability_rate == pytest.approx(double.stability_rate, rel=1e-4)
    assert single.model.best_rate(1) == pytest.approx(double.model.best_rate(1), rel=1e-4)
    assert single.measured(1) == pytest.approx(double.measured(1), rel=1e-3)


def test_a_recommended_rate_never_raises_the_loss_however_steep_the_network():
    for gain in (0.1, 5.0):
        for key in (0, 1):
            answer = tw.rates(network(gain=gain), steps=3, key=jax.random.key(key))
            assert (answer.decreases > 0).all()
            place = np.searchsorted(answer.rates, answer.best)
            beside = answer.losses[np.minimum(place + 1, len(answer.rates) - 1), np.arange(1, 4)]
            assert (beside < answer.initial_loss).all(), "a neighbour of the recommended rate diverges"


def test_where_the_criterion_is_straight_the_search_begins_without_curvature():
    flat = training(
        lambda w, batch, hyper: jnp.tanh(batch[0] @ w),
        lambda outputs, batch: jnp.mean(outputs),
        lambda key: jnp.ones(6),
        lambda key: (X, T),
    )
    answer = tw.rates(flat, steps=2)
    assert answer.stability["gauss_newton"] is None
    assert (answer.decreases > 0).all()
    assert "Gauss-Newton none" in answer.table().to_text()


def test_the_answer_prints_pictures_and_saves(tmp_path):
    done = []
    answer = tw.rates(network(), steps=6, progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 100
    saved = json.loads(answer.save(tmp_path / "rates.json").read_text())
    assert saved == json.loads(answer.to_json())
    assert saved["n"] == 30
    assert saved["d"] == 72
    assert set(saved["stability_rate"]) == {"hessian", "gauss_newton"}
    for key in ("best_rate", "best_loss", "measured", "predicted", "trust_rate"):
        assert list(saved[key]) == ["1", "2", "3", "4", "5", "6"]
    assert saved["best_loss"]["6"] == pytest.approx(saved["initial_loss"] - saved["measured"]["6"])
    assert set(saved["forecast"]["5"]) == {"rate", "predicted", "measured"}
    assert [row[0] for row in answer.table().rows] == [1, 2, 3, 4, 5, 6]
    figure = answer.figure()
    assert list(figure.data[0].x) == answer.rates.tolist()
    assert all(value is None or value <= 1.5 * answer.initial_loss for trace in figure.data for value in trace.y)
    assert len(figure.layout.shapes) == 2
    answer.save(tmp_path / "rates.html")
    assert answer.best_rate([[1, 2], [3, 6]]).shape == (2, 2)


def test_ctrl_c_keeps_the_runs_that_are_done():
    def stop(percent):
        if percent > 43:  # a few runs after the forecast, which is done at 40
            signal.raise_signal(signal.SIGINT)

    whole = tw.rates(network(), steps=6)
    with pytest.raises(KeyboardInterrupt):
        tw.rates(network(), steps=6, progress=stop)
    signalled = []

    def stop_once(percent):
        if percent > 43 and not signalled:
            signalled.append(percent)
            signal.raise_signal(signal.SIGINT)

    answer = tw.rates(network(), steps=6, progress=stop_once, keep_interrupted=True)
    assert answer.interrupted
    assert not whole.interrupted
    assert 1 <= len(answer.rates) < len(whole.rates)
    np.testing.assert_array_equal(answer.losses, whole.losses[np.isin(whole.rates, answer.rates)])
    assert (answer.decreases <= whole.decreases).all()
    assert "Interrupted" in answer.table().to_text()
    with pytest.raises(KeyboardInterrupt):  # before any run there is nothing to keep
        tw.rates(network(), steps=6, progress=lambda percent: signal.raise_signal(signal.SIGINT), keep_interrupted=True)


@pytest.mark.parametrize(
    ("step", "sentence"), [(0, "Steps run from 1 to 2"), (3, "but got 3 to 3"), (1.5, "must be an integer")]
)
def test_other_steps_are_refused(step, sentence):
    answer = tw.rates(linear(), steps=2)
    with pytest.raises(InputError, match=sentence):
        answer.best_rate(step)
    with pytest.raises(InputError, match="finite and at least 0"):
        answer.loss(-1.0, 1)


def at(value):
    """A training that starts where its loss is the given function of one weight, at 0."""
    return training(
        lambda w, batch, hyper: w,
        lambda outputs, batch: value(outputs) + 0 * batch.mean(),
        lambda key: jnp.zeros(()),
        lambda key: X,
    )


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: tw.rates(linear(), steps=0), "steps must be at least 1, but it is 0"),
        (lambda: tw.rates(linear(), steps=-3), "steps must be at least 1, but it is -3"),
        (lambda: tw.rates(linear(), steps=5000), "steps must be at most 1,000, but it is 5,000"),
        (lambda: tw.rates(at(lambda w: w**2)), "The gradient at the first weights is zero, and the loss 0: it is at a"),
        (lambda: tw.rates(at(lambda w: jnp.log(w - 1))), "The loss at the first weights is nan"),
        (lambda: tw.rates(at(lambda w: 1 / w)), "The loss at the first weights is inf"),
        (lambda: tw.rates(at(jnp.sqrt)), "The gradient at the first weights is not finite: 1 of its 1 values"),
        (
            lambda: tw.rates(at(lambda w: 1 + 1e-30 * w)),
            "No learning rate lowers the loss, 1, by more than the rounding",
        ),
        (lambda: tw.rates(object()), "rates needs a LeastSquares problem, a Training or a torch.nn.Module, but got a"),
    ],
)
def test_a_mistake_is_one_sentence(make, sentence):
    with pytest.raises(InputError) as refused:
        make()
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_setting_of_another_kind_of_problem_is_refused():
    with pytest.raises(TypeError, match="start"):
        tw.rates(linear(), start=np.zeros(6))
    with pytest.raises(TypeError, match="batches"):
        tw.rates(tw.LeastSquares([[1.0]], [1.0]), batches=2)

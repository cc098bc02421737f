"""Products of a tiny network in float64 against dense Jacobians, closed-form curvatures and finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thalweg.errors import InputError
from thalweg.learning_rate.gauss_newton import network_of
from thalweg.training import Training

X = np.random.default_rng(0).standard_normal((3, 4, 2))
CLASSES = np.eye(3)[np.random.default_rng(1).integers(3, size=(3, 4))]
VALUES = np.random.default_rng(2).standard_normal((3, 4, 3))


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def net(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"] + params["c"]


def init(key):
    one, two = jax.random.split(key)
    return {"a": jax.random.normal(one, (2, 5)), "b": jax.random.normal(two, (5, 3)), "c": jnp.zeros(3), "kind": "net"}


def cross_entropy(outputs, batch):
    return -jnp.mean(jnp.sum(batch[1] * jax.nn.log_softmax(outputs), axis=-1))


def squared(outputs, batch):
    return jnp.mean(jnp.sum((outputs - batch[1]) ** 2, axis=-1))


CASES = {"cross-entropy": (cross_entropy, CLASSES), "mse": (squared, VALUES)}


def training(kind, penalty=0.0, **changes):
    criterion, targets = CASES[kind]

    def predict(params, batch, hyper):
        return net(params, batch[0])

    def loss(params, batch, hyper):
        weights = sum(jnp.sum(params[name] ** 4) for name in "abc")
        return criterion(predict(params, batch, hyper), batch) + penalty * weights

    parts = {"loss": loss, "init": init, "batches": lambda key: (X, targets), "optimizer": lambda hyper: optax.sgd(0.1)}
    return Training(**(parts | {"predict": predict, "criterion": criterion} | changes))


def dense(network):
    """The Jacobian of all outputs, `(36, d)`, and the outputs, `(12, 3)`, at the start."""
    trained = network.parts.trained
    outputs = net(trained, X.reshape(12, 2))
    tree = jax.jacobian(lambda params: net(params, X.reshape(12, 2)))(trained)
    J = np.concatenate([np.asarray(leaf).reshape(36, -1) for leaf in jax.tree.leaves(tree)], axis=1)
    return J, np.asarray(outputs)


def by_columns(product, size):
    return np.stack([product(column) for column in np.eye(size)], axis=1)


def curvature(kind, outputs):
    """The Hessian of the mean criterion in the outputs, in closed form."""
    Q = np.zeros((36, 36))
    for i, z in enumerate(outputs):
        p = np.exp(z) / np.exp(z).sum()
        block = np.diag(p) - np.outer(p, p) if kind == "cross-entropy" else 2 * np.eye(3)
        Q[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = block / 12
    return Q


@pytest.mark.parametrize("penalty", [0.0, 0.3])
@pytest.mark.parametrize("kind", CASES)
def test_the_gauss_newton_product_is_the_dense_one(kind, penalty):
    network = network_of(training(kind, penalty))
    J, outputs = dense(network)
    expected = J.T @ curvature(kind, outputs) @ J + penalty * np.diag(12 * network.start**2)
    found = by_columns(lambda v: network.gauss_newton(network.start, v), len(network.start))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    assert np.linalg.eigvalsh(found)[0] > -1e-12


@pytest.mark.parametrize("kind", CASES)
def test_gradient_and_hessian_agree_with_finite_differences(kind):
    network = network_of(training(kind, 0.1))
    w, step = network.start, 1e-5
    _, gradient = network.loss_and_gradient(w)
    directions = step * np.eye(len(w))
    slopes = [
        (network.loss_and_gradient(w + e)[0] - network.loss_and_gradient(w - e)[0]) / (2 * step) for e in directions
    ]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-9)
    rows = [
        (network.loss_and_gradient(w + e)[1] - network.loss_and_gradient(w - e)[1]) / (2 * step) for e in directions
    ]
    np.testing.assert_allclose(by_columns(lambda v: network.hessian(w, v), len(w)), rows, rtol=1e-6, atol=1e-8)


def test_the_loss_is_the_mean_over_the_first_batches():
    ours = training("mse")
    for count in (1, 2, 3, None):
        network = network_of(ours, batches=count)
        used = count or 3
        outputs = np.asarray(net(network.parts.trained, X[:used]))
        expected = np.mean(np.sum((outputs - VALUES[:used]) ** 2, axis=-1))
        assert network.loss_and_gradient(network.start)[0] == pytest.approx(expected, rel=1e-13)
        assert network.examples == 4 * used
    batches = training("mse", batches=lambda key, t: (jnp.asarray(X)[t], jnp.asarray(VALUES)[t]), steps=3)
    assert network_of(batches).loss_and_gradient(network.start)[0] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("kind", CASES)
def test_literal_steps_are_literal(kind):
    network = network_of(training(kind, 0.1))
    w, mix = network.start, np.array([0.0, 0.5, 0.0, 0.25])
    run = network.descend(w, 0.3, mix)
    mixture, losses = np.zeros_like(w), []
    for step, share in enumerate(mix):
        loss, gradient = network.loss_and_gradient(w)
        losses.append(loss)
        mixture += share * w
        if step < 3:
            w = w - 0.3 * gradient
    np.testing.assert_allclose(run.losses, losses, rtol=1e-13)
    np.testing.assert_allclose(run.mixture, mixture, rtol=1e-12)
    np.testing.assert_allclose(run.last, w, rtol=1e-12)


def test_a_diverged_run_spoils_no_mixture_of_earlier_weights():
    network = network_of(training("mse", 0.1))
    run = network.descend(network.start, 1e200, np.array([0.0, 1.0, 0, 0, 0]))
    assert not np.isfinite(run.losses[-1])
    assert np.isfinite(run.mixture).all()


@pytest.mark.parametrize("penalty", [0.0, 0.1])
@pytest.mark.parametrize("kind", CASES)
def test_steps_on_the_linearised_network_are_those_of_its_dense_jacobian(kind, penalty):
    network = network_of(training(kind, penalty))
    J, outputs = dense(network)
    targets = CASES[kind][1].reshape(12, 3)
    at = network.start
    w = at + 0.1 * np.random.default_rng(3).standard_normal(len(at))
    found = network.descend_linearised(at, w, 0.3, 4)
    for step in range(5):
        z = (outputs.ravel() + J @ (w - at)).reshape(12, 3)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        if kind == "cross-entropy":
            loss, slope = -np.mean(np.sum(targets * np.log(p), axis=1)), (p - targets) / 12
        else:
            loss, slope = np.mean(np.sum((z - targets) ** 2, axis=1)), 2 * (z - targets) / 12
        assert found[step] == pytest.approx(loss + penalty * np.sum(w**4), rel=1e-12)
        w = w - 0.3 * (J.T @ slope.ravel() + 4 * penalty * w**3)


def test_a_state_of_the_loss_stays_as_it_is():
    def loss(params, state, batch, hyper):
        return squared(net(params, batch[0]) * state["scale"], batch), {"scale": state["scale"] + 1}

    stateful = training(
        "mse",
        loss=loss,
        init=lambda key: (init(key), {"scale": 2.0}),
        has_state=True,
        predict=lambda params, state, batch, hyper: net(params, batch[0]) * state["scale"],
    )
    network = network_of(stateful)
    J, _ = dense(network)
    found = by_columns(lambda v: network.gauss_newton(network.start, v), len(network.start))
    np.testing.assert_allclose(found, 4 * J.T @ curvature("mse", np.zeros((12, 3))) @ J, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"predict": None}, "the Training has no predict; give it predict=lambda params, batch, hyper: outputs"),
        ({"predict": None, "criterion": None}, "the Training has no predict and no criterion"),
        ({"criterion": lambda outputs, batch: outputs}, "criterion(outputs, batch) must return one real number"),
        ({"criterion": lambda outputs, batch: (1.0, 2.0)}, "must return one real number, but it returned a tuple"),
    ],
)
def test_what_is_missing_is_named(changes, sentence):
    with pytest.raises(InputError) as refused:
        network_of(training("mse", **changes))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(("batches", "sentence"), [(0, "at least 1"), (4, "at most 3"), (1.5, "a whole number")])
def test_as_many_batches_as_there_are(batches, sentence):
    with pytest.raises(InputError, match=sentence):
        network_of(training("mse"), batches=batches)


def test_the_arithmetic_is_the_networks_own():
    def mixed(key):
        numbers = {name: value for name, value in init(key).items() if name != "kind"}
        return jax.tree.map(jnp.float32, numbers) | {"c": jnp.zeros(3, jnp.bfloat16)}

    network = network_of(training("mse", init=mixed))
    assert network.kind == "bfloat16 and float32"
    assert network.precision == 2**-7
    assert network_of(training("mse")).kind == "float64"

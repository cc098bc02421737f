"""Modules of Equinox and Flax train as a plain function of the same weights does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import thalweg as tw
from thalweg.errors import InputError

X = np.random.default_rng(0).standard_normal((6, 8, 4)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((6, 8, 2)).astype(np.float32)


def criterion(outputs, batch):
    return jnp.mean((outputs - batch[1]) ** 2)


def batches(key):
    return X, Y


def optimizer(hyper):
    return optax.sgd(0.1)


def plain_run(a, b, c, d):
    """Six steps on `tanh(x a + b) c + d`, with the gradient of JAX."""
    params = [jnp.asarray(value) for value in (a, b, c, d)]

    def loss(p, x, y):
        return jnp.mean((jnp.tanh(x @ p[0] + p[1]) @ p[2] + p[3] - y) ** 2)

    losses = []
    for x, y in zip(X, Y, strict=True):
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        losses.append(float(value))
        params = [p - 0.1 * g for p, g in zip(params, gradient, strict=True)]
    return losses


def first_key(seed=0):
    return jax.random.split(jax.random.key(seed))[0]


class TestEquinox:
    @pytest.fixture(autouse=True)
    def _package(self):
        self.eqx = pytest.importorskip("equinox", reason="needs equinox, which CI installs")

    def make(self, key):
        return self.eqx.nn.MLP(4, 2, 5, 1, activation=jnp.tanh, key=key)

    def test_a_module_trains_as_a_function_does(self):
        training = tw.from_equinox(self.make, criterion, batches, optimizer)
        module = self.make(first_key())
        one, two = module.layers
        expected = plain_run(one.weight.T, one.bias, two.weight.T, two.bias)
        run = training.run()
        np.testing.assert_allclose(run.losses, expected, rtol=1e-5)
        assert tw.rates(training, steps=1).measured(1) > 0

    def test_a_module_itself_is_the_start_for_every_key(self):
        training = tw.from_equinox(self.make(jax.random.key(5)), criterion, batches, optimizer)
        one, other = training.run(key=jax.random.key(1)), training.run(key=jax.random.key(2))
        assert (one.losses == other.losses).all()

    def test_python_numbers_do_not_train(self):
        class Scaled(self.eqx.Module):
            inner: object
            scale: float

            def __call__(self, x):
                return self.scale * self.inner(x)

        training = tw.from_equinox(lambda key: Scaled(self.make(key), 0.5), criterion, batches, optimizer)
        parts, _, _ = training.prepare()
        assert all(leaf.ndim for leaf in jax.tree.leaves(parts.trained))
        assert training.run().params.scale == 0.5

    def test_a_state_is_carried(self):
        eqx, inner = self.eqx, self.make

        class Normed(eqx.Module):
            norm: object
            inner: object

            def __init__(self, key):
                self.norm, self.inner = eqx.nn.BatchNorm(4, "batch", mode="batch"), inner(key)

            def __call__(self, x, state):
                x, state = self.norm(x, state)
                return self.inner(x), state

        training = tw.from_equinox(self.eqx.nn.make_with_state(Normed), criterion, batches, optimizer, has_state=True)
        run = training.run()
        changed = [np.abs(leaf).max() for leaf in jax.tree.leaves(run.carried) if leaf.dtype == jnp.float32]
        assert max(changed) > 0
        assert tw.rates(training, steps=1).measured(1) > 0
        with pytest.raises(InputError, match="must return \\(module, state\\)"):
            tw.from_equinox(self.make, criterion, batches, optimizer, has_state=True).run()

    def test_what_is_no_module_is_refused(self):
        with pytest.raises(InputError, match="from_equinox needs a module, or a function key -> module, but got a int"):
            tw.from_equinox(3, criterion, batches, optimizer)


class TestFlax:
    @pytest.fixture(autouse=True)
    def _package(self):
        self.flax = pytest.importorskip("flax", reason="needs flax, which CI installs")

    def test_a_linen_module_trains_as_a_function_does(self):
        nn = self.flax.linen
        module = nn.Sequential([nn.Dense(5), jnp.tanh, nn.Dense(2)])
        training = tw.from_flax(module, criterion, batches, optimizer)
        params = module.init(first_key(), X[0])["params"]
        one, two = params["layers_0"], params["layers_2"]
        expected = plain_run(one["kernel"], one["bias"], two["kernel"], two["bias"])
        np.testing.assert_allclose(training.run().losses, expected, rtol=1e-5)
        assert tw.rates(training, steps=1).measured(1) > 0

    def test_a_linen_state_is_carried(self):
        nn = self.flax.linen
        module = nn.Sequential([nn.Dense(5), nn.BatchNorm(use_running_average=False, momentum=0.5), nn.Dense(2)])
        training = tw.from_flax(module, criterion, batches, optimizer)
        assert training.has_state
        mean = training.run().carried["batch_stats"]["layers_1"]["mean"]
        assert float(jnp.abs(mean).max()) > 0
        called = tw.from_flax(
            module,
            criterion,
            batches,
            optimizer,
            call=lambda module, variables, batch: module.apply(variables, batch[0], mutable=["batch_stats"]),
        )
        assert (called.run().losses == training.run().losses).all()

    def test_an_nnx_module_trains_as_a_function_does(self):
        nnx = self.flax.nnx

        def make(rngs):
            return nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), jnp.tanh, nnx.Linear(5, 2, rngs=rngs))

        training = tw.from_flax(make, criterion, batches, optimizer)
        one, _, two = make(nnx.Rngs(first_key())).layers
        expected = plain_run(one.kernel[...], one.bias[...], two.kernel[...], two.bias[...])
        np.testing.assert_allclose(training.run().losses, expected, rtol=1e-5)
        assert tw.rates(training, steps=1).measured(1) > 0

    def test_an_nnx_state_is_carried(self):
        nnx = self.flax.nnx

        def make(rngs):
            return nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.BatchNorm(5, rngs=rngs), nnx.Linear(5, 2, rngs=rngs))

        training = tw.from_flax(make, criterion, batches, optimizer)
        assert training.has_state
        run = training.run()
        _, before, _ = training.prepare()
        moved = [
            float(np.abs(np.asarray(now) - np.asarray(was)).max())
            for was, now in zip(jax.tree.leaves(before), jax.tree.leaves(run.carried), strict=True)
        ]
        assert min(moved) > 0
        assert tw.rates(training, steps=1).measured(1) > 0

    def test_what_is_no_module_is_refused(self):
        nnx = self.flax.nnx
        with pytest.raises(InputError, match="or a function rngs -> NNX module, but got a int"):
            tw.from_flax(3, criterion, batches, optimizer)
        with pytest.raises(InputError, match="needs a function that makes the NNX module"):
            tw.from_flax(nnx.Linear(4, 2, rngs=nnx.Rngs(0)), criterion, batches, optimizer)


@pytest.mark.parametrize(("name", "package"), [("from_equinox", "equinox"), ("from_flax", "flax")])
def test_a_missing_package_is_one_sentence(monkeypatch, name, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(tw.MissingPackageError, match=f'needs the package {package!r}.*"thalweg\\[{package}\\]"'):
        getattr(tw, name)(lambda key: None, criterion, batches, optimizer)

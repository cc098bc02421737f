"""Measured receptive fields of JAX networks: against PyTorch's, path counts and derivatives by JAX itself."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import InputError

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, stride=1, padding="SAME", dilation=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, rhs_dilation=(dilation, dilation), dimension_numbers=LAYOUT
    )


def network(parameters, x):
    x = jax.nn.relu(conv(x, parameters["first"]) + parameters["bias"])
    x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    return conv(x, parameters["second"], stride=2, padding="VALID", dilation=2)


def random_parameters(seed=0):
    one, two, three = jax.random.split(jax.random.key(seed), 3)
    return {
        "first": jax.random.normal(one, (3, 3, 2, 4)),
        "bias": jax.random.normal(two, (4,)),
        "second": jax.random.normal(three, (3, 3, 4, 3)),
    }


def gradient_by_jax(made, x, unit):
    """The absolute derivatives of a unit over its channels, summed over those of the input."""
    found = jax.grad(lambda x: made(x)[(0, *unit)].sum())(x)
    return np.abs(np.asarray(found[0], np.float64)).sum(axis=-1)


@pytest.mark.parametrize("index", [(0, 0), (2, 1)])
def test_the_gradient_is_that_of_the_function_up_to_the_layer(index):
    parameters = random_parameters()
    batch = np.random.default_rng(0).standard_normal((3, 20, 18, 2))
    answer = tw.size((network, parameters), (20, 18, 2))
    assert [each.name for each in answer.layers] == ["first", "relu", "avg_pool", "second"]
    stages = {
        "first": lambda x: conv(x, parameters["first"]) + parameters["bias"],
        "relu": lambda x: jax.nn.relu(conv(x, parameters["first"]) + parameters["bias"]),
        "avg_pool": lambda x: jax.lax.reduce_window(
            jax.nn.relu(conv(x, parameters["first"]) + parameters["bias"]),
            0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID",
        ) / 4,
        "second": lambda x: network(parameters, x),
    }  # fmt: skip
    for name, made in stages.items():
        expected = sum(gradient_by_jax(made, jnp.asarray(x[None], jnp.float32), index) for x in batch) / 3
        field = answer.measured(name, index, inputs=batch)
        np.testing.assert_allclose(field.shares * field.gradient, expected, rtol=1e-5, atol=1e-7)
        unit = answer.unit(name, index)
        assert tuple(profile.seen for profile in field.profiles) == unit.clipped


def test_equal_weights_count_paths():
    ones = jax.tree.map(jnp.ones_like, random_parameters())
    answer = tw.size((network, ones), (20, 18, 2))
    for layer, index in (("first", (0, 5)), ("avg_pool", (3, 4)), ("second", (2, 1))):
        counted, measured = answer.effective(layer, index), answer.measured(layer, index, np.ones((1, 20, 18, 2)))
        np.testing.assert_allclose(measured.shares, counted.shares, rtol=1e-5, atol=1e-9)


def test_a_layer_in_a_loop_is_that_of_its_turn():
    weights = jax.random.normal(jax.random.key(0), (3, 3, 1, 1))

    def smooth(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")), None

    answer = tw.size((lambda p, x: jax.lax.scan(smooth, x, p)[0], weights), (15, 1))
    assert [answer.measured(place, (7,)).seen for place in range(3)] == [3, 5, 7]


def test_a_factor_behind_a_layer_is_none_of_its_own():
    kernel = jnp.ones((3, 3, 1, 1))
    answer = tw.size((lambda kernel, x: jnp.tanh(conv(x, kernel) * 0.5), kernel), (9, 9, 1))
    assert answer.measured(0, (4, 4)).gradient == pytest.approx(9)


def test_random_inputs_repeat_with_the_seed():
    answer = tw.size((network, random_parameters()), (20, 18, 2))
    first, again = (answer.measured("second", (1, 1), samples=3) for _ in range(2))
    other = answer.measured("second", (1, 1), samples=3, seed=1)
    np.testing.assert_array_equal(first.shares, again.shares)
    assert not np.array_equal(first.shares, other.shares)
    assert "3 inputs of standard normal numbers (seed 0)" in first.table().notes[1]


def test_what_cannot_be_asked():
    shapes = jax.eval_shape(random_parameters)
    with pytest.raises(InputError, match="holds no weights; give it with its parameters"):
        tw.size((network, shapes), (20, 18, 2)).measured("second", (1, 1))
    answer = tw.size((network, random_parameters()), (20, 18, 2))
    for inputs, sentence in (
        (np.ones((2, 9, 9, 2)), "must be a batch of 20 x 18 x 2 each, not 2 x 9 x 9 x 2"),
        ("abc", "must be an array of numbers"),
    ):
        with pytest.raises(InputError, match=sentence):
            answer.measured("second", (1, 1), inputs)
    ids = tw.size((lambda table, x: table[x], jnp.ones((9, 4))), (6,))
    with pytest.raises(InputError, match="nothing has a derivative by it"):
        ids.measured(0, (0,))


def test_flax_and_equinox_measure_what_pytorch_measures():
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    eqx = pytest.importorskip("equinox", reason="needs Equinox, which CI installs")
    linen = pytest.importorskip("flax.linen", reason="needs Flax, which CI installs")
    nnx = pytest.importorskip("flax.nnx")
    kernel, bias, dense = (np.random.default_rng(seed).standard_normal(shape).astype(np.float32) for seed, shape in (
        (0, (4, 3, 3, 3)), (1, (4,)), (2, (2, 4)),
    ))  # fmt: skip
    images = np.random.default_rng(3).standard_normal((2, 3, 12, 10))
    last = np.moveaxis(images, 1, -1)

    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2, padding=1), torch.nn.Tanh(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(4, 2, bias=False),
    )  # fmt: skip
    with torch.no_grad():
        theirs[0].weight.copy_(torch.tensor(kernel))
        theirs[0].bias.copy_(torch.tensor(bias))
        theirs[4].weight.copy_(torch.tensor(dense))
    expected = tw.size(theirs, (3, 12, 10))

    class OfEquinox(eqx.Module):
        conv: eqx.nn.Conv2d
        head: eqx.nn.Linear

        def __call__(self, x):
            return self.head(jnp.tanh(self.conv(x)).mean((1, 2)))

    made = OfEquinox(
        eqx.nn.Conv2d(3, 4, 3, 2, padding=1, key=jax.random.key(0)),
        eqx.nn.Linear(4, 2, use_bias=False, key=jax.random.key(1)),
    )
    made = eqx.tree_at(
        lambda each: (each.conv.weight, each.conv.bias, each.head.weight), made,
        (jnp.asarray(kernel), jnp.asarray(bias[:, None, None]), jnp.asarray(dense)),
    )  # fmt: skip

    class OfLinen(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(4, (3, 3), 2, padding=1, name="conv")(x)
            return linen.Dense(2, use_bias=False, name="head")(jnp.tanh(x).mean((1, 2)))

    kernels = {"conv": {"kernel": jnp.asarray(kernel.transpose(2, 3, 1, 0)), "bias": jnp.asarray(bias)}}
    variables = {"params": kernels | {"head": {"kernel": jnp.asarray(dense.T)}}}

    class OfNNX(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 4, (3, 3), 2, padding=1, rngs=nnx.Rngs(0))
            self.head = nnx.Linear(4, 2, use_bias=False, rngs=nnx.Rngs(0))
            self.conv.kernel[...], self.conv.bias[...] = kernels["conv"]["kernel"], kernels["conv"]["bias"]
            self.head.kernel[...] = jnp.asarray(dense.T)

        def __call__(self, x):
            return self.head(jnp.tanh(self.conv(x)).mean((1, 2)))

    for model, shape, inputs in (
        (made, (3, 12, 10), images), ((OfLinen(), variables), (12, 10, 3), last), (OfNNX(), (12, 10, 3), last),
    ):  # fmt: skip
        answer = tw.size(model, shape)
        for ours, torchs, index in (
            ("conv", "0", (2, 0)),
            ("tanh", "1", (3, 4)),
            ("mean", "2", (2,)),
            ("head", "4", (1,)),
        ):
            there, here = expected.measured(torchs, index, images), answer.measured(ours, index, inputs)
            assert here.gradient == pytest.approx(there.gradient, rel=1e-5)
            np.testing.assert_allclose(here.shares, there.shares, rtol=1e-4, atol=1e-7)

"""Networks whose parts do not fit together, from every reader: one sentence that names the layer, never a traceback.

A window that leaves no unit, channels that the groups do not divide, too many or too few features, branches that cannot
be added: each where a user's network has them, in a second layer called `second` or in the user's own code.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import thalweg as tw
from thalweg.errors import InputError

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402


def of_spec(wrong):
    second = {
        "window": "conv9-4 pad 0", "pool": "maxpool9/9 pad 0", "groups": "conv3-4 groups 3",
        "branches": "a; small: conv3-4 pad 0; add a small",
    }  # fmt: skip
    lines = f"input 8x8x3; a: conv3-4 pad 0; {second[wrong]}"
    named = {"window": "conv9-4", "pool": "maxpool9", "groups": "conv3-4", "branches": "add"}
    return lines.replace("; a; small", "; small"), None, named[wrong]


def of_torch(wrong):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    nn = torch.nn
    second = {
        "window": lambda: nn.Conv2d(4, 4, 9), "pool": lambda: nn.MaxPool2d(9), "channels": lambda: nn.Conv2d(3, 4, 3),
        "groups": lambda: nn.Conv2d(6, 6, 3, groups=3),
        "features": lambda: nn.Linear(7, 2), "branches": Branches.of_torch,
    }[wrong]  # fmt: skip
    model = nn.Sequential()
    model.add_module("first", nn.Conv2d(3, 4, 3))
    model.add_module("second", second())
    return model, (3, 8, 8), "'second'"


class Branches:
    """Modules that add what does not fit."""

    @staticmethod
    def of_torch():
        import torch

        class Module(torch.nn.Module):
            def forward(self, x):
                return x + x[:, :, 1:]

        return Module()

    @staticmethod
    def of_keras():
        import keras

        class Layer(keras.layers.Layer):
            def call(self, x):
                return x + x[:, 1:]

        return Layer(name="second")

    @staticmethod
    def of_equinox():
        import equinox as eqx

        class Module(eqx.Module):
            def __call__(self, x):
                return x + x[:, 1:]

        return Module()

    @staticmethod
    def of_linen():
        from flax import linen

        class Module(linen.Module):
            @linen.compact
            def __call__(self, x):
                return x + x[:, 1:]

        return Module(name="second")

    @staticmethod
    def of_nnx():
        from flax import nnx

        class Module(nnx.Module):
            def __call__(self, x):
                return x + x[:, 1:]

        return Module()


def of_keras(wrong):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="needs Keras, which CI installs")
    layers = keras.layers

    def dense():
        made = layers.Dense(2, name="second")
        made.build((None, 7))
        return made

    second = {
        "window": lambda: layers.Conv2D(4, 9, name="second"), "pool": lambda: layers.MaxPooling2D(9, name="second"),
        "groups": lambda: layers.Conv2D(6, 3, groups=3, name="second"), "features": dense,
        "branches": Branches.of_keras,
    }  # fmt: skip
    with keras.StatelessScope(initialize_variables=False):
        model = keras.Sequential([layers.Conv2D(4, 3, name="first"), second[wrong]()])
    return model, (8, 8, 3), "'second'"


def of_equinox(wrong):
    eqx = pytest.importorskip("equinox", reason="needs Equinox, which CI installs")

    class Two(eqx.Module):
        first: eqx.Module
        second: eqx.Module

        def __call__(self, x):
            return self.second(self.first(x))

    def conv(channels, made, taps, **options):
        return eqx.nn.Conv2d(channels, made, taps, key=jax.random.key(0), **options)

    second = {
        "window": lambda: conv(4, 4, 9), "pool": lambda: eqx.nn.MaxPool2d(9), "channels": lambda: conv(3, 4, 3),
        "groups": lambda: conv(6, 6, 3, groups=3), "features": lambda: eqx.nn.Linear(7, 2, key=jax.random.key(0)),
        "branches": Branches.of_equinox,
    }[wrong]  # fmt: skip
    return Two(conv(3, 4, 3), second()), (3, 8, 8), "'MaxPool2d'" if wrong == "pool" else "'second'"


def of_linen(wrong):
    linen = pytest.importorskip("flax.linen", reason="needs Flax, which CI installs")
    second = {
        "window": lambda: linen.Conv(4, (9, 9), padding="VALID", name="second"),
        "groups": lambda: linen.Conv(6, (3, 3), feature_group_count=3, name="second"),
        "pool": lambda: lambda x: linen.max_pool(x, (9, 9)),
        "branches": Branches.of_linen,
    }  # fmt: skip

    class Two(linen.Module):
        @linen.compact
        def __call__(self, x):
            return second[wrong]()(linen.Conv(4, (3, 3), padding="VALID", name="first")(x))

    return Two(), (8, 8, 3), "'max_pool'" if wrong == "pool" else "'second'"


def of_nnx(wrong):
    nnx = pytest.importorskip("flax.nnx", reason="needs Flax, which CI installs")

    class Two(nnx.Module):
        def __init__(self, second):
            self.first, self.second = conv(3, 4, 3), second

        def __call__(self, x):
            return self.second(self.first(x))

    def conv(channels, made, taps, **options):
        return nnx.Conv(channels, made, (taps, taps), padding="VALID", rngs=nnx.Rngs(0), **options)

    second = {
        "window": lambda: conv(4, 4, 9), "channels": lambda: conv(3, 4, 3),
        "groups": lambda: conv(6, 6, 3, feature_group_count=3),
        "features": lambda: nnx.Linear(7, 2, rngs=nnx.Rngs(0)), "branches": Branches.of_nnx,
    }  # fmt: skip
    return Two(second[wrong]()), (8, 8, 3), "'second'"


def network_of_jax(parameters, x):
    x = jax.lax.conv_general_dilated(
        x, parameters["first"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    if parameters["second"].ndim == 4:
        return jax.lax.conv_general_dilated(
            x, parameters["second"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return x @ parameters["second"]


def of_jax(wrong):
    shapes = {"window": (9, 9, 4, 4), "channels": (3, 3, 3, 4), "features": (7, 2)}
    parameters = {"first": jnp.ones((3, 3, 3, 4)), "second": jnp.ones(shapes[wrong])}
    named = "'second'" if wrong == "window" else "of 'network_of_jax"
    return (network_of_jax, parameters), (8, 8, 3), named


# What a framework has not, or refuses before we see it, is left out.
CASES = {
    of_spec: ("window", "pool", "groups", "branches"),
    of_torch: ("window", "pool", "channels", "groups", "features", "branches"),
    of_keras: ("window", "pool", "groups", "features", "branches"),
    of_equinox: ("window", "pool", "channels", "groups", "features", "branches"),
    of_linen: ("window", "pool", "groups", "branches"),
    of_nnx: ("window", "channels", "groups", "features", "branches"),
    of_jax: ("window", "channels", "features"),
}


@pytest.mark.parametrize(("reader", "wrong"), [(reader, wrong) for reader, each in CASES.items() for wrong in each])
def test_what_does_not_fit_is_named(reader, wrong):
    model, shape, named = reader(wrong)
    with pytest.raises(InputError) as caught:
        tw.size(model, shape)
    sentence = str(caught.value)
    assert named in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_keras_model_on_an_input_that_is_too_small_for_it():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="needs Keras, which CI installs")
    x = keras.Input((20, 20, 3))
    with keras.StatelessScope(initialize_variables=False):
        first = keras.layers.Conv2D(4, 3, name="first")(x)
        model = keras.Model(x, keras.layers.Conv2D(4, 9, name="second")(first))
    with pytest.raises(InputError, match=r"^The layer 'second' does not fit its input of 6 x 6 x 4: .*[^.]\.$"):
        tw.size(model, (8, 8, 3))


@pytest.mark.parametrize(
    ("shape", "named", "found"), [((16, 16, 3), "dense", "1024"), ((8, 8, 1), "first", "8 x 8 x 1")]
)
def test_a_keras_model_that_is_built_on_an_input_that_its_weights_do_not_fit(shape, named, found):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="needs Keras, which CI installs")
    layers = keras.layers
    with keras.StatelessScope(initialize_variables=False):
        first, last = layers.Conv2D(4, 3, padding="same", name="first"), layers.Dense(5, name="dense")
        model = keras.Sequential([keras.Input((8, 8, 3)), first, layers.Flatten(), last])
    with pytest.raises(InputError, match=rf"^The layer '{named}' does not fit its input of {found}: .*[^.]\.$"):
        tw.size(model, shape)


def test_what_keras_layers_take_beside_their_input_is_no_input_of_theirs():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="needs Keras, which CI installs")
    x = keras.Input((10, 4))
    with keras.StatelessScope(initialize_variables=False):
        state = keras.layers.GlobalAveragePooling1D()(x)
        steps = keras.layers.GRU(4, return_sequences=True)(x, initial_state=state)
        model = keras.Model(x, keras.layers.Add()([steps, x]))
    assert tw.size(model, (30, 4)).totals.parameters == model.count_params()


def test_the_line_of_the_users_own_code_is_told():
    def network(weights, x):
        return x + weights

    line = network.__code__.co_firstlineno + 1
    with pytest.raises(InputError, match=rf"failed in line {line} of '.*network' with ValueError: Incompatible shapes"):
        tw.size((network, jnp.ones(3)), (4,))


def test_on_the_command_line(tmp_path):
    (tmp_path / "misfit.py").write_text(
        "import jax.numpy as jnp\n"
        "def network(x, weights=jnp.ones((7, 2))):\n"
        "    return x @ weights\n"
        "def made():\n"
        "    return lambda x: network(x)\n"
    )
    command = [sys.executable, "-c", "from thalweg.cli import main; main()", "size", "misfit:made", "--input", "4x4x3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "failed in line 3 of 'network' with TypeError" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr

"""Measured receptive fields of Keras models: against PyTorch's and derivatives worked out by JAX, file by file."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import InputError

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="needs Keras, which CI installs")

from keras import layers, ops  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def chain():
    """Two convolutions in a model within the model, joined by a third, and what comes after."""
    keras.utils.set_random_seed(0)
    inside = [layers.Conv2D(4, 3, activation="relu", name="one"), layers.BatchNormalization(name="norm")]
    block = keras.Sequential(inside, name="block")
    x = keras.Input((12, 10, 3))
    y = block(x)
    y = ops.add(y, layers.Conv2D(4, 1, name="side")(y))
    y = layers.AveragePooling2D(2, name="pool")(y)
    return keras.Model(x, layers.Dense(2, activation="tanh", name="head")(layers.Flatten()(y)))


def by_hand(model, stage, x, index):
    """The derivatives of a unit by the input as JAX makes them of the layers' own formulas."""
    import jax
    import jax.numpy as jnp

    weights = {each.path: np.asarray(each) for each in model.variables}
    held = {name.split("/")[-2] + "." + name.split("/")[-1]: value for name, value in weights.items()}

    def conv(x, name):
        layout = ("NHWC", "HWIO", "NHWC")
        made = jax.lax.conv_general_dilated(x, held[f"{name}.kernel"], (1, 1), "VALID", dimension_numbers=layout)
        return made + held[f"{name}.bias"]

    def made(x):
        stages = {"block.one": conv(x, "one")}
        stages["block.one.relu"] = jax.nn.relu(stages["block.one"])
        scale = held["norm.gamma"] / jnp.sqrt(held["norm.moving_variance"] + 1e-3)
        y = stages["block.norm"] = (stages["block.one.relu"] - held["norm.moving_mean"]) * scale + held["norm.beta"]
        stages["side"] = conv(y, "side")
        y = stages["add"] = y + stages["side"]
        y = stages["pool"] = (y[:, ::2, ::2] + y[:, 1::2, ::2] + y[:, ::2, 1::2] + y[:, 1::2, 1::2]) / 4
        stages["head"] = y.reshape(1, -1) @ held["head.kernel"] + held["head.bias"]
        stages["head.tanh"] = jnp.tanh(stages["head"])
        return stages[stage][(0, *index)].sum()

    return np.abs(np.asarray(jax.grad(made)(jnp.asarray(x[None], jnp.float32))[0], np.float64)).sum(-1)


STAGES = {
    "block.one": (3, 4), "block.one.relu": (3, 4), "block.norm": (0, 7), "side": (9, 0), "add": (5, 5), "pool": (2, 3),
    "head": (1,), "head.tanh": (0,),
}  # fmt: skip


def test_the_gradient_is_that_of_the_formulas_up_to_the_layer():
    pytest.importorskip("jax")
    if keras.backend.backend() != "jax":
        pytest.skip("the formulas are written in JAX")
    model = chain()
    batch = np.random.default_rng(0).standard_normal((2, 12, 10, 3))
    answer = tw.size(model)
    names = [each.name for each in answer.layers]
    added = next(name for name in names if name.startswith("add"))
    assert {name if name != added else "add" for name in names} == set(STAGES)
    for stage, index in STAGES.items():
        name = added if stage == "add" else stage
        expected = sum(by_hand(model, stage, x, index) for x in batch) / 2
        field = answer.measured(name, index, inputs=batch)
        np.testing.assert_allclose(field.shares * field.gradient, expected, rtol=1e-4, atol=1e-6)
        if len(index) == 2:
            assert tuple(profile.seen for profile in field.profiles) == answer.unit(name, index).clipped


BACKENDS = """
import numpy as np, keras, thalweg as tw
from keras import layers
path, = __import__("sys").argv[1:]
model = keras.saving.load_model(path)
x = np.random.default_rng(0).standard_normal((2, 12, 10, 3))
field = tw.size(model).measured("pool", (1, 2), x)
print(keras.backend.backend(), field.gradient, field.seen, *field.shares.ravel()[:60])
"""


def test_every_backend_measures_the_same(tmp_path):
    backends = [each for each in ("jax", "torch", "tensorflow") if find_spec(each) is not None]
    path = tmp_path / "model.keras"
    chain().save(path)
    answers = {}
    for backend in backends:
        environment = os.environ | {"KERAS_BACKEND": backend}
        done = subprocess.run(
            [sys.executable, "-c", BACKENDS, str(path)], env=environment, check=True, capture_output=True, text=True
        )
        name, *numbers = done.stdout.split()
        assert name == backend
        answers[backend] = np.array(numbers, float)
    for numbers in answers.values():
        np.testing.assert_allclose(numbers, answers["jax"], rtol=1e-4, atol=1e-8)


def test_a_file_with_its_weights(tmp_path):
    model, path = chain(), tmp_path / "model.keras"
    model.save(path)
    there, here = (tw.size(each).measured("side", (4, 4), samples=2) for each in (model, str(path)))
    np.testing.assert_allclose(here.shares, there.shares, rtol=1e-5)
    assert here.gradient == pytest.approx(there.gradient)


def test_a_layer_that_is_called_twice_and_two_inputs():
    shared = layers.Conv1D(2, 3, padding="same", name="conv")
    x, ids = keras.Input((9, 2)), keras.Input((3,), dtype="int32")
    looked_up = layers.GlobalAveragePooling1D(name="mean")(layers.Embedding(5, 2, name="table")(ids))
    y = layers.Multiply(name="scale")([shared(shared(x)), layers.Reshape((1, 2))(looked_up)])
    answer = tw.size(keras.Model([x, ids], y))
    assert [answer.measured(f"conv#{call}", (4,)).seen for call in (1, 2)] == [3, 5]
    given = answer.measured("scale", (4,), inputs=(np.ones((1, 9, 2)), [[0, 1, 4]]))
    assert np.flatnonzero(given.shares).tolist() == [2, 3, 4, 5, 6]
    with pytest.raises(InputError, match="takes 2 inputs"):
        answer.measured("scale", (4,), inputs=np.ones((1, 9, 2)))


def test_a_layer_that_is_called_on_maps_of_several_sizes():
    head, x = layers.Conv1D(2, 3, padding="same", name="head"), keras.Input((12, 2))
    answer = tw.size(keras.Model(x, [head(x), head(layers.Conv1D(2, 2, 2, name="down")(x))]))
    assert {answer.measured(f"head#{call}", (4,)).profiles[0].seen for call in (1, 2)} == {(3, 5), (6, 11)}
    for call in (1, 2):
        assert answer.measured(f"head#{call}", (4,)).profiles[0].seen == answer.unit(f"head#{call}", (4,)).clipped[0]


class Restless(layers.Layer):
    """Counts its calls, and computes out of sight of its own layers."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), trainable=False, initializer="zeros")
        self.conv = layers.Conv1D(2, 3, name="inner")

    def call(self, x):
        self.count.assign(self.count + 1)
        return self.conv(x) * 2


def test_the_model_stays_as_it_is():
    model = keras.Sequential([keras.Input((12, 2)), Restless(name="own"), layers.Dropout(0.5, name="drop")])
    answer = tw.size(model)
    before = [keras.ops.convert_to_numpy(each.value) for each in model.variables]
    first, again = (answer.measured("drop", (4,), samples=3) for _ in range(2))
    np.testing.assert_array_equal(first.shares, again.shares)
    assert first.seen == 3
    assert answer.measured("own.inner", (4,)).seen == 3
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, keras.ops.convert_to_numpy(other.value))
    assert not any("call" in vars(each) for each in model._flatten_layers())


def test_what_cannot_be_asked():
    with keras.StatelessScope(initialize_variables=False):
        bare = chain()
    with pytest.raises(InputError, match="The Keras model holds no weights"):
        tw.size(bare).measured("side", (1, 1))
    separable = keras.Sequential([keras.Input((8, 2)), layers.SeparableConv1D(3, 3, name="apart")])
    with pytest.raises(InputError, match=r"'apart\.depthwise' was called 0 times"):
        tw.size(separable).measured("apart.depthwise", (1,))
    ids = keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(9, 4), layers.Dense(2, name="mix")])
    with pytest.raises(InputError, match="nothing has a derivative by it"):
        tw.size(ids).measured("mix", (1,))
    with pytest.raises(InputError, match="must be a batch of 12 x 10 x 3 each"):
        tw.size(chain()).measured("side", (1, 1), np.ones((1, 9, 9, 3)))

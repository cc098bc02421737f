"""Receptive fields of random Keras networks against their gradients, every unit of the last map.

All weights are one, so nothing cancels and any precision tells zero from the rest.
"""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import InputError

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="needs Keras, which CI installs")

from keras import layers  # noqa: E402


def random_layer(rng, axes):
    """A layer of random sizes; averages stand for extremes, whose gradient goes to one place."""
    padding = rng.choice(["same", "valid"])
    kernel, stride = tuple(rng.randint(1, 4) for _ in range(axes)), tuple(rng.choice([1, 2, 3]) for _ in range(axes))
    edges = tuple((rng.randint(0, 2), rng.randint(0, 2)) for _ in range(axes))
    edges = edges[0] if axes == 1 else edges
    kinds = ["Conv", "Conv", "Transposed", "Pool", "Pad", "Crop", "Up", "Separable", "Depthwise", "Dilated"]
    kind = rng.choice(kinds if axes < 3 else kinds[:7])
    if kind == "Conv":
        return getattr(layers, f"Conv{axes}D")(2, kernel, stride, padding, groups=rng.choice([1, 2]))
    if kind == "Transposed":
        return getattr(layers, f"Conv{axes}DTranspose")(2, kernel, stride, padding)
    if kind == "Pool":
        return getattr(layers, f"AveragePooling{axes}D")(kernel, stride, padding)
    if kind == "Pad":
        return getattr(layers, f"ZeroPadding{axes}D")(edges)
    if kind == "Crop":
        return getattr(layers, f"Cropping{axes}D")(edges)
    if kind == "Up":
        size = tuple(rng.randint(1, 3) for _ in range(axes))
        return getattr(layers, f"UpSampling{axes}D")(size[0] if axes == 1 else size)
    if kind == "Dilated":
        return getattr(layers, f"Conv{axes}D")(2, kernel, 1, padding, dilation_rate=rng.choice([2, 3]))
    if kind == "Separable":
        return getattr(layers, f"SeparableConv{axes}D")(2, kernel, stride[0], padding)
    return getattr(layers, f"DepthwiseConv{axes}D")(kernel, stride[0], padding, depth_multiplier=rng.choice([1, 2]))


def random_model(seed):
    """Up to six layers, and a branch around some of them."""
    rng = random.Random(seed)
    axes = rng.choice([1, 1, 2, 2, 2, 3])
    inputs = x = keras.Input((*(rng.randint(*{1: (20, 40), 2: (9, 14), 3: (6, 8)}[axes]) for _ in range(axes)), 2))
    for _ in range(rng.randint(2, 6)):
        try:
            y = random_layer(rng, axes)(x)
        except ValueError:
            continue
        if min(y.shape[1:]) < 2 or np.prod(y.shape[1:]) > 3_000 or y.shape[-1] % 2:
            continue
        if rng.random() < 0.4 and y.shape == x.shape:
            y = layers.Add()([x, y]) if rng.random() < 0.5 else layers.Concatenate()([x, y])
        x = y
    return keras.Model(inputs, x)


def seen(model):
    """For every unit of the last map the first and last position, along each axis, with a non-zero gradient."""
    import jax
    import jax.numpy as jnp

    shape = tuple(model.input_shape[1:])
    weights = [jnp.ones(each.shape) for each in model.trainable_variables]

    def summed(x):
        return model.stateless_call(weights, [], x[None])[0][0].sum(-1)

    gradient = np.asarray(jax.jit(jax.jacrev(summed))(jnp.ones(shape))) != 0
    axes = len(shape) - 1
    answer = {}
    for unit in np.ndindex(*gradient.shape[:axes]):
        places = np.nonzero(gradient[unit])[:axes]
        answer[unit] = tuple((int(each.min()), int(each.max())) for each in places) if len(places[0]) else None
    return answer


def check(seed):
    with keras.StatelessScope(initialize_variables=False):
        model = random_model(seed)
        answer = tw.size(model)
        truth = seen(model)
    assert answer.complete
    for unit, interval in truth.items():
        assert answer.unit(len(answer.layers) - 1, unit).clipped == interval, (seed, unit)
    return len(truth)


@pytest.mark.parametrize("seed", range(12))
def test_fields_are_where_the_gradient_is(seed):
    assert check(seed) > 0


@pytest.mark.long
def test_fields_of_many_models_are_where_the_gradient_is():
    assert sum(check(seed) for seed in range(1_000, 1_080)) > 4_000


def test_flattened_maps_that_are_joined():
    x = keras.Input((4, 6, 2))
    y = layers.Conv2D(3, 2, 2, name="half")(x)
    joined = layers.Concatenate(name="joined")([layers.Flatten()(x), layers.Flatten()(y)])
    answer = tw.size(keras.Model(x, layers.Dense(2, name="full")(layers.ReLU(name="relu")(joined))))
    assert (answer.lost, answer.layers[-1].receptive_field) == ((), (4, 6))
    assert answer.unit("relu", (2 * (6 * 3 + 1) + 1,)).clipped == ((3, 3), (1, 1))
    assert answer.unit("relu", (48 + 3 * (3 * 1 + 2),)).clipped == ((2, 3), (4, 5))
    with pytest.raises(InputError, match=r"its units are 0\.\.65"):
        answer.unit("relu", (66,))


ODD = (np.arange(7)[:, None] - np.arange(7)) % 2 == 0


@pytest.mark.parametrize(
    "inner",
    [
        lambda x: layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True),
        lambda x: layers.MultiHeadAttention(2, 4)(x, x, attention_mask=ODD[None]),
        lambda x: layers.MultiHeadAttention(2, 4)(x, x, attention_mask=ODD[None], use_causal_mask=True),
        lambda x: layers.GroupQueryAttention(4, 2, 1)(x, x, use_causal_mask=True),
        lambda x: layers.Attention()([x, x], use_causal_mask=True),
        lambda x: layers.LSTM(3, return_sequences=True)(x),
        lambda x: layers.GRU(3, return_sequences=True, go_backwards=True)(x),
        lambda x: layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True))(x),
        lambda x: layers.LSTM(3, return_sequences=True)(
            x[:, ::-1], initial_state=layers.LSTM(3, return_state=True)(x)[1:]
        ),
        lambda x: keras.ops.cumsum(x, 1),
    ],
)
def test_masks_and_one_way_layers_are_where_the_gradient_is(inner):
    import jax
    import jax.numpy as jnp

    inputs = keras.Input((7, 4))
    model = keras.Model(inputs, inner(inputs))
    rng = np.random.default_rng(0)
    weights = [jnp.asarray(rng.uniform(0.1, 0.5, each.shape)) for each in model.trainable_variables]
    others = [each.value for each in model.non_trainable_variables]  # seeds
    slopes = jax.jacrev(lambda x: model.stateless_call(weights, others, x[None])[0][0].sum(-1))(
        jnp.asarray(rng.uniform(0, 0.1, (7, 4)))
    )
    answer = tw.size(model)
    for unit, slope in enumerate(np.asarray(slopes).any(-1)):
        places = np.flatnonzero(slope)
        found = answer.unit(-1, (unit,))
        assert found.clipped == ((places[0], places[-1]),), unit
        assert not found.masked


def test_a_mask_that_is_an_input_is_said():
    inputs, mask = keras.Input((7, 4)), keras.Input((7, 7))
    model = keras.Model([inputs, mask], layers.MultiHeadAttention(2, 4)(inputs, inputs, attention_mask=mask))
    unit = tw.size(model).unit(-1, (2,))
    assert (unit.clipped, unit.masked) == (((0, 6),), True)


@pytest.mark.parametrize(("axes", "seen"), [((2,), lambda row, place: ((row, row), (0, place))), (None, None)])
def test_attention_along_some_axes_of_a_map(axes, seen):
    """Along one of them by itself for every index of the others; along all of them together where none are named."""
    inputs = keras.Input((3, 5, 4))
    made = layers.MultiHeadAttention(2, 4, attention_axes=axes)(inputs, inputs, use_causal_mask=axes is not None)
    answer = tw.size(keras.Model(inputs, made))
    wanted = seen or (lambda row, place: ((0, 2), (0, 4)))
    for row, place in np.ndindex(3, 5):
        assert answer.unit(-1, (row, place)).clipped == wanted(row, place)
    pairs = 3 * 5 * 5 if axes else 15 * 15
    assert next(layer.macs for layer in answer.layers if layer.kind == "attention") == 2 * pairs * 2 * 4


@pytest.mark.parametrize("way", ["added", "subtracted", "subtracted from", "softmax", "multiplied"])
def test_masks_between_layers_are_followed(way):
    inputs = keras.Input((7, 4))
    scores = layers.Dot(2)([layers.Dense(4)(inputs), inputs])
    kept = np.tril(np.ones((1, 7, 7), bool))
    if way == "added":
        shares = layers.Softmax()(keras.ops.add(scores, np.where(kept, 0, -1e9).astype("float32")))
    elif "subtracted" in way:
        low = np.where(kept, 0, -1e9).astype("float32")
        parts = (low, scores) if "from" in way else (scores, -low)
        shares = layers.Softmax()(keras.ops.subtract(*parts))
    elif way == "softmax":
        shares = layers.Softmax()(scores, mask=kept)
    else:
        shares = keras.ops.multiply(scores, kept.astype("float32"))
    answer = tw.size(keras.Model(inputs, layers.Dot(1)([keras.ops.transpose(shares, (0, 2, 1)), inputs])))
    units = [answer.unit(-1, (unit,)) for unit in range(7)]
    assert [unit.clipped for unit in units] == [((0, unit),) for unit in range(7)]
    assert not any(unit.masked for unit in units)


@pytest.mark.parametrize("way", ["subtracted", "a divisor", "the larger"])
def test_what_makes_something_else_of_what_is_hidden_is_said(way):
    inputs = keras.Input((7, 4))
    low = np.where(np.tril(np.ones((1, 7, 7), bool)), 0, -1e9).astype("float32")
    scores = keras.ops.add(layers.Dot(2)([layers.Dense(4)(inputs), inputs]), low)
    ones = np.ones((1, 7, 7), "float32")
    if way == "subtracted":
        scores = keras.ops.subtract(ones, scores)
    elif way == "a divisor":
        scores = keras.ops.divide(ones, scores)
    else:
        scores = keras.ops.maximum(scores, ones)
    shares = layers.Softmax()(scores)
    answer = tw.size(keras.Model(inputs, layers.Dot(1)([keras.ops.transpose(shares, (0, 2, 1)), inputs])))
    unit = answer.unit(-1, (3,))
    assert (unit.clipped, unit.masked) == (((0, 6),), True)


def test_attention_that_tells_its_scores_too_is_counted_once():
    def rows(**options):
        inputs = keras.Input((7, 4))
        made = layers.MultiHeadAttention(2, 4)(inputs, inputs, **options)
        return tw.size(keras.Model(inputs, made[0] if options else made)).totals

    assert rows(return_attention_scores=True).parameters == rows().parameters
    assert rows(return_attention_scores=True).macs == rows().macs


def test_attention_whose_inputs_are_named():
    inputs = keras.Input((7, 4))
    answer = tw.size(keras.Model(inputs, layers.Attention()(inputs=[inputs, inputs])))
    assert answer.unit(-1, (3,)).clipped == ((0, 6),)

"""Plain JAX: any calling convention, the counts of spec text, names, loops, layouts, a 7-billion transformer."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thalweg as tw
from textbook_table import check_textbook, counted, same_network
from thalweg.errors import InputError

LAYOUTS = {"last": ("NHWC", "HWIO", "NHWC"), "first": ("NCHW", "OIHW", "NCHW")}


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def conv(x, layer, stride=1, padding="SAME", layout="last", **options):
    y = jax.lax.conv_general_dilated(
        x, layer["kernel"], (stride,) * (x.ndim - 2), padding, dimension_numbers=LAYOUTS[layout], **options
    )
    return y + (layer["bias"] if layout == "last" else layer["bias"][:, None, None])


def layer(*shape, bias=None):
    return {"kernel": shaped(*shape), "bias": shaped(shape[-1] if bias is None else bias)}


def max_pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def textbook(parameters, x):
    for name, layers in (("one", 1), ("two", 1), ("three", 2)):
        for number in range(layers):
            x = jax.nn.relu(conv(x, parameters[name][number]))
        x = max_pool(x)
    x = x.reshape(x.shape[0], -1)
    for each in parameters["dense"]:
        x = x @ each["kernel"] + each["bias"]
    return x


TEXTBOOK = {
    "one": [layer(3, 3, 3, 64)],
    "two": [layer(3, 3, 64, 128)],
    "three": [layer(3, 3, 128, 256), layer(3, 3, 256, 256)],
    "dense": [layer(14 * 14 * 256, 1024), layer(1024, 100)],
}


def test_the_textbook_table_cell_by_cell():
    answer = tw.size((textbook, TEXTBOOK), (112, 112, 3))
    check_textbook(answer)
    names = ["one.0", "max_pool", "two.0", "max_pool", "three.0", "three.1", "max_pool", "dense.0", "dense.1"]
    assert [each.name for each in counted(answer)] == names


def test_every_way_to_hand_over_the_weights_counts_the_same():
    kernel, bias = jnp.ones((3, 3, 2, 4)), np.ones(4, np.float32)
    parameters = {"stem": {"kernel": kernel, "bias": bias}}

    def network(parameters, x):
        return conv(x, parameters["stem"])

    def closure(x):
        return conv(x, parameters["stem"])

    def several(weights, offsets, x):
        return conv(x, {"kernel": weights, "bias": offsets})

    class Holder:
        def __init__(self):
            self.parameters = parameters

        def __call__(self, x):
            return conv(x, self.parameters["stem"])

    told = tw.size("input 8x8x2; conv3-4").totals
    for model, name in (
        ((network, parameters), "stem"),
        (functools.partial(network, parameters), "stem"),
        (functools.partial(several, kernel, bias), "0"),
        (closure, "parameters.stem"),
        (jax.jit(closure), "parameters.stem"),
        (lambda x: closure(x), "weights"),  # its variables are not in sight: numbered
        (Holder(), "parameters.stem"),
    ):
        answer = tw.size(model, "8x8x2")
        assert answer.totals == told
        assert answer.layers[0].name.startswith(name)


def test_the_same_array_is_one_weight():
    weights = jnp.ones((4, 4))
    answer = tw.size((lambda p, x: x @ p["a"] @ p["b"], {"a": weights, "b": weights}), (4,))
    assert answer.totals.parameters == 16
    assert answer.totals.connections == 32
    answer = tw.size((lambda p, x: x @ p["a"] @ p["b"], {"a": jnp.ones((4, 4)), "b": weights}), (4,))
    assert answer.totals.parameters == 32


def test_a_function_of_one_example_is_mapped_over_a_batch():
    def one(parameters, image):
        assert image.shape == (3, 8, 8)
        seen = jax.lax.conv(image[None], parameters["conv"], (1, 1), "SAME")[0]
        return parameters["out"] @ seen.reshape(-1)

    answer = tw.size((one, {"conv": shaped(4, 3, 3, 3), "out": shaped(5, 4 * 8 * 8)}), (3, 8, 8))
    assert [each.output for each in answer.layers] == [(4, 8, 8), (5,)]
    assert answer.layers[0].receptive_field == (3, 3)
    assert answer.totals == tw.size("input 8x8x3; conv3-4 nobias; FC-5 nobias").totals


def test_channels_first_and_last_are_seen_in_the_first_window():
    last = tw.size((lambda p, x: conv(x, p, 2), layer(3, 3, 3, 8)), (12, 10, 3))
    first = tw.size((lambda p, x: conv(x, p, 2, layout="first"), layer(8, 3, 3, 3, bias=8)), (3, 12, 10))
    turned = tw.size(
        (lambda p, x: conv(x.transpose(0, 3, 1, 2), p, 2, layout="first"), layer(8, 3, 3, 3, bias=8)), (12, 10, 3)
    )
    assert last.layers[0].output == (6, 5, 8)
    assert first.layers[0].output == turned.layers[0].output == (8, 6, 5)
    for answer in (last, first, turned):
        same_network(answer, "input 12x10x3; conv3-8/2")


def test_without_a_convolution_a_pooling_window_shows_the_positions():
    def pooled(axes):
        window = tuple(2 if axis in axes else 1 for axis in range(4))
        return lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / 4

    first, last = tw.size(pooled((2, 3)), (3, 8, 6)), tw.size(pooled((1, 2)), (8, 6, 3))
    assert [each.layers[0].output for each in (first, last)] == [(3, 4, 3), (4, 3, 3)]
    for answer in (first, last):
        same_network(answer, "input 8x6x3; avgpool")


def test_residual_blocks_with_normalisations_after_training():
    def block(p, x):
        y = x
        for number in range(2):
            y = conv(y, p[f"conv{number}"])
            norm = p[f"norm{number}"]
            y = (y - norm["mean"]) * jax.lax.rsqrt(norm["var"] + 1e-5) * norm["scale"] + norm["shift"]
            y = jnp.maximum(y, 0) if number == 0 else y
        return jax.nn.relu(x + y)

    parameters = {f"conv{number}": layer(3, 3, 4, 4) for number in range(2)}
    parameters |= {
        f"norm{number}": {name: shaped(4) for name in ("mean", "var", "scale", "shift")} for number in range(2)
    }
    answer = tw.size((block, parameters), (8, 8, 4))
    kinds = ["convolution", "normalisation", "activation", "convolution", "normalisation", "add", "activation"]
    assert [each.kind for each in answer.layers] == kinds
    assert answer.layers[1].parameters == 16
    assert answer.layers[-1].receptive_field == (5, 5)


@pytest.mark.parametrize("fast", [True, False])
def test_layer_normalisation_gelu_and_softmax_written_out(fast):
    def network(p, x):
        x = x @ p["into"]
        mean = x.mean(-1, keepdims=True)
        variance = (x * x).mean(-1, keepdims=True) - mean**2 if fast else ((x - mean) ** 2).mean(-1, keepdims=True)
        x = (x - mean) / jnp.sqrt(variance + 1e-6) * p["scale"] + p["shift"]
        x = 0.5 * x * (1 + jnp.tanh(0.8 * (x + 0.04 * x**3)))
        x = x @ p["out"]
        e = jnp.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    parameters = {"into": shaped(6, 8), "scale": shaped(8), "shift": shaped(8), "out": shaped(8, 4)}
    answer = tw.size((network, parameters), (5, 6))
    rows = [(each.name, each.kind, each.parameters) for each in answer.layers]
    assert rows == [
        ("into", "linear", 48),
        ("scale", "normalisation", 16),
        ("gelu", "activation", 0),
        ("out", "linear", 32),
        ("softmax", "activation", 0),
    ]
    assert all(each.receptive_field == (1,) for each in answer.layers)


def test_a_normalisation_without_weights_ends_where_a_function_begins():
    def network(p, x):
        x = x @ p["into"]
        x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)
        return jnp.tanh(2 * x) @ p["out"]

    answer = tw.size((network, {"into": shaped(6, 8), "out": shaped(8, 4)}), (6,))
    assert [(each.name, each.kind) for each in answer.layers][1:3] == [
        ("normalisation", "normalisation"),
        ("tanh", "activation"),
    ]


def test_a_normalisation_over_positions_is_gated_and_no_pooling_layer():
    def network(p, x):
        x = conv(x, p["conv"])
        groups = x.reshape(1, 8, 8, 2, 2)
        mean, variance = groups.mean((1, 2, 4), keepdims=True), groups.var((1, 2, 4), keepdims=True)
        x = ((groups - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape) * p["scale"]
        return conv(x, p["after"])

    answer = tw.size((network, {"conv": layer(3, 3, 3, 4), "scale": shaped(4), "after": layer(3, 3, 4, 2)}), (8, 8, 3))
    assert [each.kind for each in answer.layers][1] == "spatial normalisation"
    assert answer.layers[-1].receptive_field == (5, 5)
    assert answer.totals.neurons == 64 * 4 + 64 * 2


def test_a_squeeze_and_excitation_gate_pools():
    def network(p, x):
        x = jax.nn.silu(conv(x, p["conv"]))
        gate = jax.nn.sigmoid(jax.nn.relu(x.mean((1, 2)) @ p["squeeze"]) @ p["excite"])
        return x * gate[:, None, None, :]

    weights = {"conv": layer(3, 3, 3, 8), "squeeze": shaped(8, 2), "excite": shaped(2, 8)}
    answer = tw.size((network, weights), (8, 8, 3))
    names = ["conv", "silu", "mean", "squeeze", "relu", "excite", "sigmoid", "multiply"]
    assert [each.name for each in answer.layers] == names
    assert answer.layers[-1].receptive_field == (3, 3)
    assert answer.layers[2].neurons == 8


def test_a_u_net_with_transposed_convolutions_and_concatenation():
    def up(x, p):
        y = jax.lax.conv_transpose(x, p["kernel"], (2, 2), "SAME", dimension_numbers=LAYOUTS["last"])
        return y + p["bias"]

    def network(p, x):
        before = jax.nn.relu(conv(x, p["down"]))
        x = jax.nn.relu(conv(max_pool(before), p["deep"]))
        x = jnp.concatenate([up(x, p["up"]), before], -1)
        return conv(x, p["out"])

    weights = {
        "down": layer(3, 3, 3, 4), "deep": layer(3, 3, 4, 8), "up": layer(2, 2, 8, 4), "out": layer(3, 3, 8, 2)
    }  # fmt: skip
    spec = """
        input 12x12x3; before: conv3-4; relu; before2:; maxpool; conv3-8; relu; convt2-4/2
        concat before2; conv3-2
    """
    same_network(tw.size((network, weights), (12, 12, 3)), spec)


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({"rhs_dilation": (2, 2)}, "conv3-8 dilation 2"),
        ({"feature_group_count": 4}, "conv3-8 groups 4"),
        ({"stride": 2, "padding": ((0, 1), (2, 1))}, "conv3-8/2 pad 0x2,1x1"),
        ({"padding": "VALID"}, "conv3-8 valid"),
    ],
)
def test_convolutions_like_their_spec(options, spec):
    groups = options.get("feature_group_count", 1)
    weights = layer(3, 3, 4 // groups, 8)
    same_network(tw.size((lambda p, x: conv(x, p, **options), weights), (11, 9, 4)), f"input 11x9x4; {spec}")


def test_one_and_three_dimensions():
    def line(p, x):
        y = jax.lax.conv_general_dilated(x, p, (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
        return jax.lax.reduce_window(y, 0.0, jax.lax.add, (1, 4, 1), (1, 4, 1), "VALID") / 4

    def volume(p, x):
        return jax.lax.conv_general_dilated(x, p, (1, 1, 2), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))

    same_network(tw.size((line, shaped(5, 2, 3)), (64, 2)), "input 64x2; conv5-3/2 nobias; avgpool4")
    spec = "input 6x8x10x1; conv3-2/1x1x2 nobias"
    same_network(tw.size((volume, shaped(3, 3, 3, 1, 2)), (6, 8, 10, 1)), spec)


@pytest.mark.parametrize(
    "table",
    [
        lambda: jnp.ones((8, 6)),
        lambda: jnp.zeros((8, 6)),
        lambda: jnp.arange(48.0).reshape(8, 6),
        lambda: jnp.maximum(0, 1 - jnp.abs(jnp.arange(8.0)[:, None] - jnp.arange(0, 12.0, 2)[None]) / 2),  # mel filters
    ],
)
def test_channels_times_numbers_that_the_function_makes(table):
    answer = tw.size(lambda x: jnp.tanh(x @ table()), (20, 8))
    assert [(layer.output, layer.macs, layer.receptive_field) for layer in answer.layers] == [
        ((20, 6), 20 * 8 * 6, (1,)),
        ((20, 6), 0, (1,)),
    ]


def test_positions_times_numbers_that_the_function_makes():
    """A matrix of other numbers than an interpolation has: all positions, or some that are not followed."""
    weights = jnp.ones((4, 4))
    answers = [
        tw.size(lambda x, table=table: (table() @ x) @ weights, (20, 4))
        for table in (lambda: jnp.cos(jnp.arange(400.0)).reshape(20, 20), lambda: jnp.eye(20, k=3) + jnp.eye(20, k=-2))
    ]
    assert [answer.totals.macs for answer in answers] == [20 * 20 * 4 + 20 * 4 * 4] * 2
    assert answers[0].layers[-1].receptive_field == (20,)
    assert answers[1].lost == ("matmul",)


def test_resized_maps():
    def network(p, x):
        x = conv(x, p)
        x = jax.image.resize(x, (1, 16, 16, 4), "nearest")
        x = jax.image.resize(x, (1, 32, 32, 4), "bilinear")
        return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)

    answer = tw.size((network, layer(3, 3, 3, 4)), (8, 8, 3))
    spec = tw.size("input 8x8x3; conv3-4; upsample2; upsample2 bilinear; upsample2")
    assert answer.totals == spec.totals
    told = spec.layers[-2]
    for axis in range(2):
        (layer_before,) = [each for each in answer.layers if each.output == (32, 32, 4)][-1:]
        assert layer_before.receptive_field[axis] == told.receptive_field[axis]
        assert layer_before.phases == told.phases


# Transformers.


def attention(p, x, heads):
    batch, tokens, width = x.shape
    q, k, v = (jnp.einsum("btc,cd->btd", x, p[name]).reshape(batch, tokens, heads, -1) for name in "qkv")
    return jax.nn.dot_product_attention(q, k, v).reshape(batch, tokens, width) @ p["out"]


def test_a_vision_transformer_against_counts_by_hand():
    width, heads, patch, side, hidden, layers = 48, 4, 8, 32, 96, 2
    tokens = (side // patch) ** 2 + 1

    def normed(p, x):
        x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p["scale"] + p["shift"]

    def network(p, image):
        x = conv(image, p["patches"], patch, "VALID").reshape(1, -1, width)
        x = jnp.concatenate([jnp.broadcast_to(p["token"], (1, 1, width)), x], 1) + p["positions"]
        for each in p["layers"]:
            x = x + attention(each["attention"], normed(each["first"], x), heads)
            y = normed(each["second"], x) @ each["up"]["kernel"] + each["up"]["bias"]
            x = x + jax.nn.gelu(y) @ each["down"]["kernel"] + each["down"]["bias"]
        return normed(p["norm"], x)[:, 0] @ p["head"]["kernel"] + p["head"]["bias"]

    norm = {"scale": shaped(width), "shift": shaped(width)}
    one = {
        "attention": {name: shaped(width, width) for name in ("q", "k", "v", "out")},
        "first": norm, "second": norm, "up": layer(width, hidden), "down": layer(hidden, width),
    }  # fmt: skip
    weights = {
        "patches": layer(patch, patch, 3, width), "token": shaped(1, 1, width), "positions": shaped(1, tokens, width),
        "layers": [one] * layers, "norm": norm, "head": layer(width, 10),
    }  # fmt: skip
    answer = tw.size((network, weights), (side, side, 3))
    assert answer.complete
    each = 4 * width * width + 2 * width * hidden
    macs = (tokens - 1) * patch * patch * 3 * width + 10 * width
    macs += layers * (tokens * each + 2 * tokens * tokens * width)
    assert answer.totals.macs == macs
    parameters = patch * patch * 3 * width + width + width + tokens * width + 2 * width + 10 * width + 10
    parameters += layers * (each + hidden + width + 4 * width)
    assert answer.totals.parameters == parameters
    assert answer.layers[-1].receptive_field == (side, side)
    patches = next(each for each in answer.layers if each.name == "layers.0.attention.q")
    assert patches.output == (tokens, width)


LLAMA = {"vocabulary": 32_000, "width": 4_096, "hidden": 11_008, "layers": 32, "heads": 32}


def llama(parameters, ids):
    """A transformer of the shape of LLaMA-7B: rotary positions, root-mean-square norms, gated feed-forward layers."""

    def normed(scale, x):
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale

    def turned(x):
        tokens, half = x.shape[1], x.shape[-1] // 2
        angles = jnp.arange(tokens)[:, None] * 10_000.0 ** (-jnp.arange(half) / half)
        cos, sin = (f(angles)[None, :, None, :] for f in (jnp.cos, jnp.sin))
        left, right = x[..., :half], x[..., half:]
        return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)

    def one(x, p):
        y = normed(p["attention_norm"], x)
        q, k, v = (jnp.einsum("btc,cd->btd", y, p[name]).reshape(*x.shape[:2], LLAMA["heads"], -1) for name in "qkv")
        y = jax.nn.dot_product_attention(turned(q), turned(k), v, is_causal=True).reshape(x.shape)
        x = x + y @ p["o"]
        y = normed(p["feed_norm"], x)
        return x + (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"], None

    x = parameters["embedding"][ids]
    if isinstance(parameters["layers"], list):
        for p in parameters["layers"]:
            x, _ = one(x, p)
    else:
        x, _ = jax.lax.scan(one, x, parameters["layers"])
    return normed(parameters["norm"], x) @ parameters["head"]


def llama_weights(stacked):
    width, hidden, vocabulary = LLAMA["width"], LLAMA["hidden"], LLAMA["vocabulary"]
    shapes = dict.fromkeys("qkvo", (width, width))
    shapes |= {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}
    shapes |= {"attention_norm": (width,), "feed_norm": (width,)}
    if stacked:
        layers = {name: shaped(LLAMA["layers"], *shape) for name, shape in shapes.items()}
    else:
        layers = [{name: shaped(*shape) for name, shape in shapes.items()} for _ in range(LLAMA["layers"])]
    return {
        "embedding": shaped(vocabulary, width), "layers": layers, "norm": shaped(width),
        "head": shaped(width, vocabulary),
    }  # fmt: skip


@pytest.mark.parametrize("stacked", [False, True])
def test_a_transformer_of_seven_billion_parameters(stacked):
    answer = tw.size((llama, llama_weights(stacked)), (2048,))
    width, hidden, vocabulary, layers = (LLAMA[name] for name in ("width", "hidden", "vocabulary", "layers"))
    each = 4 * width * width + 3 * width * hidden
    assert answer.complete
    assert answer.totals.parameters == 2 * vocabulary * width + layers * (each + 2 * width) + width == 6_738_415_616
    macs = 2048 * (layers * each + width * vocabulary) + layers * 2 * 2048 * 2048 * width
    assert answer.totals.macs == macs == 14_630_806_093_824  # 14,630.8 G
    assert len([row for row in answer.layers if row.name == "layers.31.gate"]) == 1


# Loops, branches and what is not known.


def test_a_scan_over_time_is_a_recurrent_layer():
    def cell(p, state, x):
        state = jnp.tanh(x @ p["kernel"] + state @ p["again"] + p["bias"])
        return state, state

    def network(p, x):
        _, states = jax.lax.scan(functools.partial(cell, p["cell"]), jnp.zeros((1, 6)), x.transpose(1, 0, 2))
        return states.transpose(1, 0, 2) @ p["out"]

    weights = {"cell": {"kernel": shaped(4, 6), "again": shaped(6, 6), "bias": shaped(6)}, "out": shaped(6, 2)}
    answer = tw.size((network, weights), (9, 4))
    first, second = answer.layers
    assert (first.name, first.kind, first.output, first.neurons) == ("cell", "recurrent", (9, 6), 54)
    assert (first.parameters, first.macs) == (66, 9 * (4 * 6 + 6 * 6))
    assert first.receptive_field == (9,)
    assert (second.output, second.macs) == ((9, 2), 9 * 12)


def test_what_is_not_known_is_named():
    def loop(p, x):
        return jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y @ p, x)

    def branches(p, x):
        return jax.lax.cond(x.sum() > 0, lambda y: y @ p, lambda y: y, x)

    def spectrum(p, x):
        return jnp.abs(jnp.fft.fft(x @ p))

    for function, name in ((loop, "while"), (branches, "cond"), (spectrum, "fft")):
        answer = tw.size((function, shaped(4, 4)), (4,))
        assert (answer.complete, answer.unknown) == (False, (name,))


def test_values_put_together_and_taken_apart_keep_their_places():
    def network(p, x):
        x = conv(x, p)
        left, right = jnp.unstack(jnp.stack([x, x * x], 1), axis=1)
        x = jnp.concatenate(jnp.split(left + right, 2, -1)[::-1], -1)
        return jnp.tile(x, (1, 1, 1, 3))[:, 1:-1, ::2]

    answer = tw.size((network, layer(3, 3, 3, 4)), (8, 8, 3))
    last = answer.layers[-1]
    assert answer.complete
    assert (last.output, last.receptive_field, last.stride, last.first) == ((6, 4, 12), (3, 3), (1, 2), (0, -1))


def test_a_known_branch_a_loop_of_known_length_and_unused_work():
    def network(p, x):
        x = jax.lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y @ p["again"]), x)
        x = jax.lax.switch(jnp.array(1), [lambda y: y @ p["wide"] @ p["wide"].T, lambda y: y @ p["again"]], x)
        x @ p["wide"]
        return x

    answer = tw.size((network, {"again": shaped(4, 4), "wide": shaped(4, 99)}), (4,))
    assert [each.name for each in answer.layers] == ["again", "tanh"] * 3 + ["again", "wide"]
    assert (answer.layers[-1].kind, answer.layers[-1].parameters) == ("not used", 396)
    assert (answer.totals.parameters, answer.totals.macs) == (16 + 396, 64)


def test_weights_that_no_gradient_reaches_are_frozen():
    def network(p, x):
        return x @ jax.lax.stop_gradient(p["body"]) @ p["head"]

    totals = tw.size((network, {"body": shaped(4, 5), "head": shaped(5, 2)}), (4,)).totals
    assert (totals.parameters, totals.trainable) == (30, 10)


# Bad input.


@pytest.mark.parametrize(
    ("model", "shape", "sentence"),
    [
        (lambda x: x, None, "A JAX model does not say what its input is; give its extents without the batch"),
        (lambda x: x, (0, 3), "The input 0 x 3 is empty; every extent must be at least 1."),
        (lambda x: x @ np.ones((3, 2)), (4,), "with TypeError: dot_general"),
        ((lambda p, x: conv(x, p), layer(3, 3, 2, 4)), (8, 8, 3), "of 'conv' with ValueError: conv_general_dilated"),
        (
            (lambda p, x: conv(x, p, padding="VALID"), layer(9, 9, 3, 4)),
            (8, 8, 3),
            "leaves no unit on an input of 8 x 8 positions",
        ),
        (lambda x, y: x, (4,), "needs the arguments 'x' and 'y'"),
    ],
)
def test_models_that_cannot_be_read(model, shape, sentence):
    with pytest.raises(InputError) as caught:
        tw.size(model, shape)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_groups_that_do_not_divide_are_refused_by_jax_itself():
    with pytest.raises(InputError, match="feature_group_count"):
        tw.size((lambda p, x: conv(x, p, feature_group_count=2), layer(3, 3, 2, 4)), (8, 8, 3))

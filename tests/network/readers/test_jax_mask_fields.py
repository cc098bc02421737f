"""What units of JAX functions see behind masks, scans and running sums, against their gradients in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import thalweg as tw

TOKENS, WIDTH, HEADS = 9, 4, 2
CAUSAL = np.tril(np.ones((TOKENS, TOKENS), bool))
BAND = CAUSAL & ~np.tril(CAUSAL, -3)
ODD = (np.arange(TOKENS)[:, None] - np.arange(TOKENS)) % 2 == 0
MATRIX = np.random.default_rng(0).uniform(0.1, 0.5, (WIDTH, 3 * WIDTH))


def projected(x):
    """Queries, keys and values, `(batch, tokens, heads, depth)`."""
    return jnp.split((x @ MATRIX).reshape(*x.shape[:2], HEADS, -1), 3, -1)


def scored(x, equation="bqhd,bkhd->bhqk"):
    q, k, v = projected(x)
    return jnp.einsum(equation, q, k) / 2, v


def mixed(weights, v):
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(1, TOKENS, -1)


def fused(**options):
    def attention(x):
        q, k, v = projected(x)
        return jax.nn.dot_product_attention(q, k, v, **options).reshape(1, TOKENS, -1)

    return attention


def chosen(mask, low=-jnp.inf):
    def attention(x):
        scores, v = scored(x)
        return mixed(jax.nn.softmax(jnp.where(mask, jnp.tanh(scores), low)), v)

    return attention


def added(mask):
    def attention(x):
        scores, v = scored(x)
        return mixed(jax.nn.softmax(scores + jnp.where(mask, 0.0, -1e9)), v)

    return attention


def subtracted(x):
    scores, v = scored(x)
    return mixed(jax.nn.softmax(scores - jnp.where(CAUSAL, 0.0, 1e9)), v)


def multiplied(mask):
    def attention(x):
        scores, v = scored(x)
        return mixed(scores * mask, v)

    return attention


def twice(x):
    scores, v = scored(x)
    scores = jnp.where(CAUSAL, scores, -1e10)
    return mixed(jax.nn.softmax(jnp.where(ODD, scores, -1e30)), v)


def triangle(x):
    scores, v = scored(x)
    return mixed(jnp.tril(scores), v)


def filled_with_zero(x):
    scores, v = scored(x)
    return mixed(jax.nn.softmax(jnp.where(CAUSAL, scores, 0.0)), v)


def recurrent(reverse):
    def steps(state, x):
        state = jnp.tanh(0.3 * state + x @ MATRIX[:, :WIDTH])
        return state, state * 2

    return lambda x: lax.scan(steps, jnp.zeros((1, WIDTH)), x.swapaxes(0, 1), reverse=reverse)[1].swapaxes(0, 1)


def decoded(x):
    """From a state that has seen everything."""

    def steps(state, x):
        state = jnp.tanh(0.3 * state + x @ MATRIX[:, :WIDTH])
        return state, state * 2

    last, _ = lax.scan(steps, jnp.zeros((1, WIDTH)), x.swapaxes(0, 1))
    return lax.scan(steps, last, x.swapaxes(0, 1))[1].swapaxes(0, 1)


def last_of_many(x):
    """A state that is as long as the sequence, and like what comes out."""

    def steps(state, x):
        state = state + x[0][:, None] * jnp.ones((TOKENS, WIDTH))[:WIDTH] @ MATRIX[:, :WIDTH]
        return state, state[0]

    state, out = lax.scan(steps, jnp.zeros((WIDTH, WIDTH)), x.swapaxes(0, 1))
    return jnp.exp(out[None]) + jnp.tanh(state.sum() * 1e-3)


def last_like_all(x):
    """A state of the shape that comes out."""

    def steps(state, x):
        state = state + x
        return state, state[0]

    state, out = lax.scan(steps, jnp.zeros((TOKENS, WIDTH)), x.swapaxes(0, 1))
    return jnp.exp(out * 1e-3)[None] + jnp.tanh(state * 1e-3)[None]


def blanked(x):
    return jnp.cumsum(x * (np.arange(TOKENS) % 3 > 0)[:, None], 1)


def branches(x):
    left, right = jnp.exp(x[:, ::-1]), jnp.tanh(x)
    return jnp.where(np.arange(TOKENS)[:, None] % 2 == 0, left, right)


def scanned(start=0, reverse=False):
    """A linear recurrence of a part of the sequence, by halves of it."""

    def join(left, right):
        return left[0] * right[0], right[0] * left[1] + right[1]

    return lambda x: lax.associative_scan(
        join, (jax.nn.sigmoid(x[:, start:]), jnp.tanh(x[:, start:])), axis=1, reverse=reverse
    )[1]


FUNCTIONS = {
    "fused, causal": fused(is_causal=True),
    "fused, near": fused(local_window_size=(2, 1)),
    "fused, mask": fused(mask=ODD[None, None]),
    "chosen, causal": chosen(CAUSAL),
    "chosen, near": chosen(BAND, -1e9),
    "added, causal": added(CAUSAL),
    "added, odd": added(ODD),
    "subtracted": subtracted,
    "multiplied": multiplied(BAND),
    "twice": twice,
    "triangle": triangle,
    "filled with 0": filled_with_zero,
    "filled with 1": lambda x: mixed(jnp.where(CAUSAL, scored(x)[0], 1.0), scored(x)[1]),
    "a sum of heads": lambda x: mixed(jnp.tril(scored(x)[0]).sum(1, keepdims=True), scored(x)[1]),
    "scan": recurrent(reverse=False),
    "scan from behind": recurrent(reverse=True),
    "decoder": decoded,
    "last of many": last_of_many,
    "last like all": last_like_all,
    "shares, then a triangle": lambda x: mixed(jnp.tril(jax.nn.softmax(scored(x)[0])), scored(x)[1]),
    "running sum": lambda x: jnp.cumsum(x, 1),
    "running product": lambda x: lax.cumprod(x, 1, reverse=True),
    "blanked": blanked,
    "branches": branches,
    "nothing left of one part": lambda x: jnp.tanh(x) * np.zeros((TOKENS, WIDTH)) + jnp.sin(x),
    "nothing chosen of one part": lambda x: jnp.where(np.zeros((TOKENS, 1), bool), jnp.tanh(x), 0) + jnp.sin(x),
    "empty slices": lambda x: jnp.concatenate([x[:, :0], jnp.tanh(x), x[:, TOKENS:]], 1),
    **{f"scan of {TOKENS - start}": scanned(start) for start in range(TOKENS)},
    **{f"scan of {TOKENS - start} from behind": scanned(start, reverse=True) for start in range(TOKENS)},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_masks_leave_is_where_the_gradient_is(name):
    function = FUNCTIONS[name]
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(1).uniform(0.1, 1, (1, TOKENS, WIDTH)))
        slopes = np.asarray(jax.jacrev(lambda x: function(x).sum(-1))(x))[0, :, 0].any(-1)
        answer = tw.size(function, (TOKENS, WIDTH))
    assert not answer.lost
    last = max(place for place, layer in enumerate(answer.layers) if layer.kind != "not used")
    for unit, slope in enumerate(slopes):
        places = np.flatnonzero(slope)
        found = answer.unit(last, (unit,))
        assert found.clipped == (((places[0], places[-1]),) if len(places) else None), unit
        assert not found.masked


def test_a_model_with_nothing_left_to_come_out_is_refused():
    with pytest.raises(tw.errors.InputError, match=r"no units left: its output would be 0 x 4\."):
        tw.size(lambda x: jnp.tanh(x)[:, 3:3], (TOKENS, WIDTH))


def test_layers_of_flax():
    pytest.importorskip("flax", reason="needs Flax, which CI installs")
    from flax import linen, nnx

    class Linen(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.MultiHeadDotProductAttention(HEADS)(x, x, mask=linen.make_causal_mask(jnp.ones(x.shape[:2])))

    class Nnx(nnx.Module):
        def __init__(self):
            self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.attention(x, mask=nnx.make_causal_mask(x[..., 0]))

    for model in (Linen(), Nnx()):
        answer = tw.size(model, (TOKENS, WIDTH))
        assert [answer.unit(-1, (unit,)).clipped for unit in range(TOKENS)] == [((0, unit),) for unit in range(TOKENS)]


def test_a_layer_of_equinox():
    eqx = pytest.importorskip("equinox", reason="needs Equinox, which CI installs")
    layer = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=jax.random.key(0))
    answer = tw.size(lambda x: layer(x, x, x, mask=CAUSAL), (TOKENS, WIDTH))
    assert [answer.unit(-1, (unit,)).clipped for unit in range(TOKENS)] == [((0, unit),) for unit in range(TOKENS)]


@pytest.mark.parametrize(
    "way",
    [
        "data", "turned round", "made small", "subtracted from a number", "subtracted from a table",
        "a product of heads", "a prefix",
    ],
)  # fmt: skip
def test_a_mask_that_is_not_followed_is_said(way):
    def attention(x):
        scores, v = scored(x)
        low = jnp.where(CAUSAL, scores, -1e9)
        if way == "data":
            low = jnp.where(x[:, None, None, :, 0] > 0, scores, -jnp.inf)
        elif way == "turned round":
            low = -low
        elif way == "made small":
            low = low * 1e-9
        elif way == "subtracted from a number":
            low = 1 - low
        elif way == "subtracted from a table":
            low = np.zeros((TOKENS, TOKENS)) - low
        elif way == "a product of heads":
            low = jnp.prod(low, 1, keepdims=True)
        else:
            keys = jnp.concatenate([jnp.ones((1, 2, WIDTH)), x], 1)
            kept = np.concatenate([np.ones((TOKENS, 2), bool), CAUSAL], 1)
            weights = jax.nn.softmax(jnp.where(kept, x @ keys.swapaxes(1, 2), -jnp.inf))
            return weights @ keys
        return mixed(jax.nn.softmax(low), v)

    unit = tw.size(attention, (TOKENS, WIDTH)).unit(-1, (3,))
    assert (unit.clipped, unit.masked) == (((0, TOKENS - 1),), True)

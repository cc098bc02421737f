"""Layers of Keras 3 that put the steps of a sequence together: attention and recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thalweg.network.graph import Kind
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.keras_call import Call
from thalweg.network.readers.masks import LOW, Mask


def _attended(call: Call) -> Array:
    """Projections to queries, keys and values of every head, the two products of the attention, and the output."""
    layer = call.layer
    given = [*call.arguments, *(call.options[key] for key in ("query", "value", "key") if key in call.options)]
    units = [each for each in given if isinstance(each, Array)][:3]
    query, value = units[0], units[1] if len(units) > 1 else units[0]
    key = units[2] if len(units) > 2 else value
    projected = [
        call.walk.inside(dense, x, call)
        for dense, x in zip((layer.query_dense, layer.key_dense, layer.value_dense), (query, key, value), strict=True)
    ]
    rank = len(projected[0].shape)  # batch, positions, heads, depth
    given_axes = getattr(layer, "_attention_axes", None) or range(1, rank - 2)
    over = [axis % (rank - 1) for axis in ([given_axes] if isinstance(given_axes, int) else given_axes)]
    rest = [axis for axis in range(1, rank - 2) if axis not in over]
    order = [0, *rest, rank - 2, *over, rank - 1]
    turned = [call.recorder.permute(each, order) for each in projected]
    front = len(rest) + 2
    q, k, v = (
        call.recorder.reshape(each, (*each.shape[:front], math.prod(each.shape[front:-1]), each.shape[-1]))
        for each in turned
    )
    mixed = call.recorder.attention(q, k, v, **call.part("attention"), **_masks(call))
    apart = call.recorder.reshape(mixed, (*turned[0].shape[:-1], v.shape[-1]))
    back = call.recorder.permute(apart, [order.index(axis) for axis in range(rank)])
    result = call.walk.inside(layer.output_dense, back, call)
    assert isinstance(result, Array)
    return result


def _masks(call: Call) -> dict[str, Any]:
    """What queries do not see, from the options of a call: what comes later, or what a mask hides."""
    import numpy as np

    hides, causal = call.options.get("attention_mask"), bool(call.options.get("use_causal_mask"))
    others = [call.options.get(name) for name in ("mask", "query_mask", "value_mask", "key_mask")]
    unknown = isinstance(hides, Array) or any(each is not None for each in call.walk.keras.tree.flatten(others))
    if hides is None and not unknown:
        return {"causal": causal}
    return {"mask": Mask(None if unknown else np.asarray(hides) != 0, LOW), "causal": causal}


def _plain_attention(call: Call) -> Any:
    held = call.arguments[0] if call.arguments else call.options.get("inputs")
    if call.layer.score_mode != "dot" or not isinstance(held, list | tuple):
        return []
    query, value = held[0], held[1]
    key = held[2] if len(held) > 2 else value
    made = call.recorder.attention(query, key, value, **call.named(), **_masks(call))
    weights = call.weights()
    if weights:
        made = call.recorder.elementwise([made], Kind.MULTIPLY, weights=weights, **call.part("scale"))
    return made


# Recurrent layers.

_GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}


def _recurrent(call: Call) -> Any:
    layer = call.layer
    begun = call.walk.keras.tree.flatten([*call.arguments[1:], call.options.get("initial_state")])
    made = _recurrent_row(call, layer, call.x, call.named(), [each for each in begun if isinstance(each, Array)])
    every = made
    if layer.go_backwards and layer.return_sequences:  # its last step comes first
        every = call.recorder.take(made, 1, range(made.shape[1])[::-1], **call.named())
    return [every, *_states(call, layer, made)] if layer.return_state else every


def _recurrent_row(call: Call, layer: Any, x: Array, named: Mapping[str, Any], states: Sequence[Array] = ()) -> Array:
    """One row: the products of the inputs and of the last state with all gates, at every step."""
    steps, width, units = x.shape[1], x.shape[2], layer.units
    gates = next(_GATES[kind.__name__] for kind in type(layer).__mro__ if kind.__name__ in _GATES)
    shape = (1, steps, units) if layer.return_sequences else (1, units)
    macs = steps * gates * units * (width + units)
    reverse = bool(layer.go_backwards)
    return call.recorder.recurrent(
        x, 1, shape, macs, call.weights(layer), **named, reverse=reverse, states=states, examples=0
    )


def _states(call: Call, layer: Any, made: Array) -> list[Array]:
    count = 2 if any(kind.__name__ == "LSTM" for kind in type(layer).__mro__) else 1
    shape = (1, layer.units)
    return [call.recorder.state(made, 1, shape, (0, 0)) for _ in range(count)]


def _both_ways(call: Call) -> Any:
    layer, x = call.layer, call.x
    ways = (layer.forward_layer, layer.backward_layer)
    if layer.return_state or any(not any(k.__name__ in _GATES for k in type(each).__mro__) for each in ways):
        return []
    parts = [_recurrent_row(call, each, x, call.part(each.name)) for each in ways]
    if layer.merge_mode == "concat":
        return call.recorder.concatenate(parts, len(parts[0].shape) - 1, **call.named())
    if layer.merge_mode is None:
        return parts
    kind = Kind.MULTIPLY if layer.merge_mode == "mul" else Kind.ADD
    return call.recorder.elementwise(parts, kind, **call.named())


def _at_every_step(call: Call) -> Array:
    """A layer at every step by itself: the steps are a batch to it."""
    x = call.x
    made = call.walk.inside(call.layer.layer, call.recorder.reshape(x, x.shape[1:]), call)
    assert isinstance(made, Array)
    return call.recorder.reshape(made, (1, *made.shape))


STEPS: Mapping[str, Callable[[Call], Any]] = {
    "MultiHeadAttention": _attended,
    "Attention": _plain_attention,
    **dict.fromkeys(_GATES, _recurrent),
    "Bidirectional": _both_ways,
    "TimeDistributed": _at_every_step,
}
"""What is done for every one of them."""

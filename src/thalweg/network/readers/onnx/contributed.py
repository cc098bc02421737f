"""Fused operations of ONNX Runtime (domain com.microsoft): attention, normalisation, activations."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.network.graph import Kind, written
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.masks import LOW, Mask, of_bias, triangle
from thalweg.network.readers.onnx.folding import MAX_WORKED_OUT
from thalweg.network.readers.onnx.movement import joined
from thalweg.network.readers.onnx.operations import MICROSOFT, Call, UnfollowedError, handles
from thalweg.network.readers.onnx.products import attended, in_heads, multiplied, out_of_heads, shifted, with_past
from thalweg.network.readers.onnx.values import Value


@handles("Attention", "QAttention", domain=MICROSOFT)
def _attention(call: Call) -> Sequence[Value | None]:
    """Queries, keys and values made of one input by one matrix, then attention."""
    x, weight = call.array(0), call.weight(1)
    bias, past = (2, 4) if call.node.operator == "Attention" else (2, 8)
    if weight is None:
        call.fail("has no weights")
    if len(x.shape) != 3 or len(weight.shape) != 2 or call.has(past):
        raise UnfollowedError
    sizes = call.node.integers("qkv_hidden_sizes") or (weight.shape[1] // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != weight.shape[1] or min(sizes) < 1:
        call.fail(f"cannot divide {weight.shape[1]} channels into queries, keys and values")
    made = shifted(call, multiplied(call, x, weight), bias)
    heads, start, parts = call.node.integer("num_heads", 0), 0, []
    for size in sizes:
        part = call.part(made, 2, start, start + size)
        parts.append(in_heads(call, part, heads))
        start += size
    q, k, v = parts
    return [Value(out_of_heads(call, attended(call, q, k, v, *_hidden(call, 3, 5)))), None]


@handles("MultiHeadAttention", domain=MICROSOFT)
def _attention_of_three(call: Call) -> Sequence[Value]:
    heads, q = call.node.integer("num_heads", 0), call.array(0)
    if len(q.shape) != 3 or not (call.has(1) and call.has(2)):
        raise UnfollowedError  # queries, keys and values packed into one array
    sides = [q, call.array(1), call.array(2)]
    if call.has(3):
        bias = call.weight(3)
        if bias is None or len(bias.shape) != 1:
            raise UnfollowedError
        first = call.recorder.elementwise([q], Kind.ADD, call.name, call.module, [bias])
        sides[0] = first
    q, k, v = (each if len(each.shape) == 4 else in_heads(call, each, heads) for each in sides)
    k, v = with_past(call, k, 6), with_past(call, v, 7)
    return [Value(out_of_heads(call, attended(call, q, k, v, *_hidden(call, 4, 5)))), Value(k), Value(v)]


def _hidden(call: Call, padding: int, bias: int) -> tuple[Mask | None, bool]:
    """What is hidden of the scores, by a mask of padding or by a bias, and whether what comes later is."""
    mask = Mask(None) if call.has(padding) else call.mask(bias, of_bias) if call.has(bias) else None
    return mask, call.node.integer("unidirectional", 0) == 1


@handles("GroupQueryAttention", domain=MICROSOFT)
def _grouped_attention(call: Call) -> Sequence[Value]:
    heads, key_heads = call.node.integer("num_heads", 0), call.node.integer("kv_num_heads", 0)
    x = call.array(0)
    if len(x.shape) != 3 or heads < 1 or key_heads < 1:
        call.fail(f"cannot divide {written(x.shape)} among {heads} and {key_heads} heads")
    if call.has(1):
        sides = [x, call.array(1), call.array(2)]
    else:  # packed into one array
        depth, start, sides = x.shape[2] // (heads + 2 * key_heads), 0, []
        for count in (heads, key_heads, key_heads):
            stop = start + count * depth
            sides.append(call.part(x, 2, start, stop))
            start = stop
    q, k, v = (in_heads(call, each, count) for each, count in zip(sides, (heads, key_heads, key_heads), strict=True))
    k, v = with_past(call, k, 3), with_past(call, v, 4)
    window, places = call.node.integer("local_window_size", -1), k.shape[2] if len(k.shape) == 4 else 0
    near = 0 < window < places and places**2 <= MAX_WORKED_OUT
    mask = Mask(triangle((places, places), 1 - window, upper=True), LOW) if near else None
    return [Value(out_of_heads(call, attended(call, q, k, v, mask, causal=True))), Value(k), Value(v)]


@handles("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def _sum_and_normalisation(call: Call) -> Sequence[Value | None]:
    x, skip = call.array(0), call.array(1)
    if not x.shape or call.common(x.shape, skip.shape) != x.shape:
        call.fail(f"adds {written(skip.shape)} to {written(x.shape)}")
    simple = call.node.operator == "SkipSimplifiedLayerNormalization"
    summed = call.recorder.elementwise([x, skip], Kind.ADD, f"{call.name} sum", call.module)
    summed = shifted(call, summed, 3 if simple else 4)
    weights = call.weights(2) if simple else call.weights(2, 3)
    made = call.recorder.normalise(summed, (len(x.shape) - 1,), weights, call.name, call.module)
    return [Value(made), None, None, Value(summed)]


@handles("EmbedLayerNormalization", domain=MICROSOFT)
def _embedded_and_normalised(call: Call) -> Sequence[Value | None]:
    ids = call.array(0)
    if len(ids.shape) != 2:
        call.fail(f"looks up words by two axes, not by {written(ids.shape)}")
    parts = []
    for place, name in ((2, "word"), (3, "position"), (4, "segment")):
        table = call.weight(place)
        if table is None:
            continue
        if len(table.shape) != 2:
            call.fail(f"has a table {written(table.shape)}")
        if name == "position":
            parts.append(_first_rows(call, table, ids.shape))
        else:
            looked_up = ids if name == "word" or not call.has(1) else call.array(1)
            parts.append(call.recorder.embedding(looked_up, table, f"{call.name} {name}", call.module))
    call.common(*(part.shape for part in parts))
    summed = call.recorder.elementwise(parts, Kind.ADD, f"{call.name} sum", call.module)
    made = call.recorder.normalise(summed, (2,), call.weights(5, 6), call.name, call.module)
    return [Value(made), call.constant((ids.shape[0],)), Value(summed)]


def _first_rows(call: Call, table: Array, ids: tuple[int, ...]) -> Array:
    if ids[1] > table.shape[0]:
        call.fail(f"has positions for {table.shape[0]} words, but is given {ids[1]}")
    return call.recorder.constant((1, ids[1], table.shape[1]), table.weights)


@handles("BiasGelu", "FastGelu", "BiasAdd", domain=MICROSOFT)
def _bias_and_activation(call: Call) -> Value:
    return Value(call.recorder.elementwise([shifted(call, call.array(0), 1)], name=call.name, module=call.module))


@handles("Gelu", "QuickGelu", "RotaryEmbedding", domain=MICROSOFT)
@handles("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT)
def _activation(call: Call) -> Value:
    return Value(call.recorder.elementwise([call.array(0)], name=call.name, module=call.module))


@handles("QLinearSoftmax", domain=MICROSOFT)
def _softmax(call: Call) -> Value:
    x = call.array(0)
    axis = call.axis(call.node.integer("axis", -1), len(x.shape))
    return Value(call.recorder.softmax(x, axis, call.name, call.module))


@handles("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def _of_two(call: Call) -> Value:
    kind = Kind.ADD if call.node.operator == "QLinearAdd" else Kind.MULTIPLY
    x, y = (call.array(p) if not call.array(p).is_constant else call.weight(p) or call.array(p) for p in (0, 3))
    call.common(x.shape, y.shape)
    return Value(call.recorder.elementwise([x, y], kind, call.name, call.module))


@handles("QLinearConcat", domain=MICROSOFT)
def _joined(call: Call) -> Value:
    parts = [call.array(place) for place in range(2, len(call.inputs), 3)]
    return Value(joined(call, parts, call.node.integer("axis", 0)))


@handles("QuantizeLinear", "DequantizeLinear", domain=MICROSOFT)
def _recoded(call: Call) -> Value:
    return Value(call.weight(0) or call.array(0)) if call.array(0).is_constant else call.value(0)

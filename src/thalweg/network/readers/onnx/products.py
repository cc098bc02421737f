"""Matrix products: linear layers, products of units, attention, and sums of products by their equation."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.network.graph import Kind, written
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.masks import Mask, of_bias
from thalweg.network.readers.onnx.operations import MICROSOFT, Call, UnfollowedError, handles
from thalweg.network.readers.onnx.values import Value


@handles("MatMul")
def _matmul(call: Call) -> Value:
    return Value(multiplied(call, call.array(0), _factor(call, 1)))


@handles("MatMulInteger")
def _matmul_of_integers(call: Call) -> Value:
    return Value(multiplied(call, _factor(call, 0), _factor(call, 1)))


@handles("QLinearMatMul")
@handles("QLinearMatMul", domain=MICROSOFT)
def _quantised_matmul(call: Call) -> Value:
    return Value(multiplied(call, _factor(call, 0), _factor(call, 3)))


@handles("MatMulIntegerToFloat", "DynamicQuantizeMatMul", domain=MICROSOFT)
def _matmul_to_float(call: Call) -> Value:
    made = multiplied(call, _factor(call, 0), _factor(call, 1))
    return Value(shifted(call, made, 6 if call.node.operator == "MatMulIntegerToFloat" else 4))


@handles("FusedMatMul", domain=MICROSOFT)
def _fused_matmul(call: Call) -> Value:
    if call.node.integer("transBatchA", 0) or call.node.integer("transBatchB", 0):
        raise UnfollowedError
    x, y = call.array(0), _factor(call, 1)
    if call.node.integer("transA", 0) and len(x.shape) > 1:
        x = _turned(call, x)
    if call.node.integer("transB", 0) and len(y.shape) > 1:
        y = _turned(call, y)
    return Value(multiplied(call, x, y))


@handles("MatMulNBits", domain=MICROSOFT)
def _packed_matmul(call: Call) -> Value:
    x, packed = call.array(0), call.value(1)
    depth, width = call.node.integer("K", 0), call.node.integer("N", 0)
    if not x.shape or depth < 1 or width < 1 or x.shape[-1] != depth:
        call.fail(f"multiplies {written(x.shape)} with {depth} x {width}")
    weight = call.recorder.weight(packed.origin or call.name, (depth, width))
    return Value(shifted(call, multiplied(call, x, weight), 5))


@handles("Gemm")
@handles("FusedGemm", domain=MICROSOFT)
def _gemm(call: Call) -> Value:
    return Value(_general(call, call.array(0), _factor(call, 1), 2))


@handles("QGemm", domain=MICROSOFT)
def _quantised_gemm(call: Call) -> Value:
    return Value(_general(call, call.array(0), _factor(call, 3), 6))


def _general(call: Call, x: Array, y: Array, added: int) -> Array:
    """`x y + c`, each factor turned over where it is asked for, in matrices."""
    if len(x.shape) != 2 or len(y.shape) != 2:
        call.fail(f"multiplies matrices, but is given {written(x.shape)} and {written(y.shape)}")
    x = _turned(call, x) if call.node.integer("transA", 0) else x
    y = _turned(call, y) if call.node.integer("transB", 0) else y
    return shifted(call, multiplied(call, x, y), added)


def shifted(call: Call, x: Array, place: int) -> Array:
    """With a bias added, where there is one."""
    if not call.has(place):
        return x
    bias = call.value(place).array
    if bias.is_constant:
        bias = call.weight(place) or bias
    if call.common(x.shape, bias.shape) != x.shape:
        call.fail(f"adds {written(bias.shape)} to {written(x.shape)}")
    return call.recorder.elementwise([x, bias], Kind.ADD, call.name, call.module)


def _factor(call: Call, place: int) -> Array:
    """An input that holds parameters where it depends on no other input."""
    array = call.array(place)
    return (call.weight(place) or array) if array.is_constant else array


def _turned(call: Call, x: Array) -> Array:
    rank = len(x.shape)
    return call.recorder.permute(x, (*range(rank - 2), rank - 1, rank - 2))


def multiplied(call: Call, x: Array, y: Array) -> Array:
    """A matrix product, by itself for every index of the axes before the last two, as NumPy does."""
    recorder = call.recorder
    if not x.shape or not y.shape or x.shape[-1] != y.shape[max(0, len(y.shape) - 2)]:
        call.fail(f"cannot multiply {written(x.shape)} with {written(y.shape)}")
    if 0 in (*x.shape, *y.shape):
        call.fail(f"multiplies {written(x.shape)} with {written(y.shape)}, which hold nothing")
    if len(y.shape) <= 2 or len(x.shape) == 1:
        if len(y.shape) > 2:  # a vector times many matrices
            made = recorder.product(x, y, ((0,), (len(y.shape) - 2,)), name=call.name, module=call.module)
        else:
            depth = (len(x.shape) - 1,), (0,)
            made = recorder.product(x, y, depth, name=call.name, module=call.module)
        return made
    front = call.common(x.shape[:-2], y.shape[:-2])
    x, y = (recorder.expand(each, (*front, *each.shape[-2:])) for each in (x, y))
    batch = tuple(range(len(front)))
    depth = (len(front) + 1,), (len(front),)
    return recorder.product(x, y, depth, (batch, batch), name=call.name, module=call.module)


# By an equation.


@handles("Einsum")
def _einsum(call: Call) -> Value:
    inputs, result = _equation(call)
    made, labels = call.array(0), inputs[0]
    for place in range(1, len(inputs)):
        later = set(result).union(*inputs[place + 1 :])
        made, labels = _pair(call, (made, labels), (call.array(place), inputs[place]), later)
    made, labels = _summed(call, made, labels, set(result))
    return Value(call.recorder.permute(made, [labels.index(label) for label in result]))


def _equation(call: Call) -> tuple[list[str], str]:
    """The labels of each input and of the result; an ellipsis becomes labels of its own."""
    text = call.node.text("equation", "").replace(" ", "")
    left, arrow, result = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(call.inputs) or len(text) > 1000:
        call.fail(f"has the equation {text[:60]!r} for {len(call.inputs)} inputs")
    ranks = [len(call.array(place).shape) for place in range(len(inputs))]
    full = [_without_dots(call, labels, rank) for labels, rank in zip(inputs, ranks, strict=True)]
    dots = max((each for each, _ in full), key=len, default="")
    names = [labels for _, labels in full]
    if arrow:
        result = result.replace("...", dots)
    else:
        once = sorted({label for label in left if label.isalpha() and left.count(label) == 1})
        result = dots + "".join(once)
    known = set("".join(names))
    if len(set(result)) < len(result) or not set(result) <= known or any(len(set(n)) < len(n) for n in names):
        raise UnfollowedError
    return names, result


def _without_dots(call: Call, labels: str, rank: int) -> tuple[str, str]:
    """What stands for the dots of one input, counted from the last, and all its labels."""
    named = labels.replace("...", "", 1)
    more = rank - len(named)
    if more < 0 or (more > 0 and "..." not in labels) or (named and not named.isalpha()):
        call.fail(f"has the labels {labels[:40]!r} for an input of {rank} axes")
    dots = "".join(chr(0x100 + place) for place in reversed(range(more)))
    return dots, labels.replace("...", dots, 1)


def _summed(call: Call, x: Array, labels: str, kept: set[str]) -> tuple[Array, str]:
    """Summed over the axes that nobody needs any more."""
    over = [axis for axis, label in enumerate(labels) if label not in kept]
    if not over:
        return x, labels
    made = call.recorder.reduce(x, over, name=call.name, module=call.module)
    return made, "".join(label for label in labels if label in kept)


def _pair(call: Call, one: tuple[Array, str], other: tuple[Array, str], later: set[str]) -> tuple[Array, str]:
    """The product of two inputs, summed over what neither the result nor a later input names."""
    (x, left), (y, right) = one, other
    x, left = _summed(call, x, left, later | set(right))
    y, right = _summed(call, y, right, later | set(left))
    shared = [label for label in left if label in right]
    extents: dict[str, int] = {}
    for array, labels in ((x, left), (y, right)):
        for label, extent in zip(labels, array.shape, strict=True):
            extents[label] = call.common((extents.get(label, 1),), (extent,))[0]
    x = call.recorder.expand(
        x, [extents[label] if label in shared else n for label, n in zip(left, x.shape, strict=True)]
    )
    y = call.recorder.expand(
        y, [extents[label] if label in shared else n for label, n in zip(right, y.shape, strict=True)]
    )
    batch = [label for label in shared if label in later]
    depth = [label for label in shared if label not in later]
    made = call.recorder.product(
        x, y,
        ([left.index(label) for label in depth], [right.index(label) for label in depth]),
        ([left.index(label) for label in batch], [right.index(label) for label in batch]),
        name=call.name, module=call.module,
    )  # fmt: skip
    rest = [label for labels in (left, right) for label in labels if label not in shared]
    return made, "".join([*batch, *rest])


# Attention.


@handles("Attention")
def _attention(call: Call) -> Sequence[Value | None]:
    flat = len(call.array(0).shape) == 3
    heads, key_heads = call.node.integer("q_num_heads", 0), call.node.integer("kv_num_heads", 0)
    q, k, v = (
        in_heads(call, call.array(place), count) if flat else call.array(place)
        for place, count in enumerate((heads, key_heads, key_heads))
    )
    k, v = with_past(call, k, 4), with_past(call, v, 5)
    mask = call.mask(3, of_bias) if call.has(3) else None
    made = attended(call, q, k, v, mask, causal=call.node.integer("is_causal", 0) == 1)
    scores = (*made.shape[:-1], k.shape[-2])
    return [
        Value(out_of_heads(call, made) if flat else made), Value(k), Value(v),
        call.constant(scores) if call.wants(3) else None,
    ]  # fmt: skip


def in_heads(call: Call, x: Array, heads: int) -> Array:
    """`(batch, places, heads * depth)` as `(batch, heads, places, depth)`."""
    if len(x.shape) != 3 or heads < 1 or x.shape[2] % heads:
        call.fail(f"cannot divide {written(x.shape)} among {heads} heads")
    batch, places, width = x.shape
    split = call.recorder.reshape(x, (batch, places, heads, width // heads), call.name, call.module)
    return call.recorder.permute(split, (0, 2, 1, 3))


def out_of_heads(call: Call, x: Array) -> Array:
    """The way back."""
    batch, heads, places, depth = x.shape
    together = call.recorder.permute(x, (0, 2, 1, 3))
    return call.recorder.reshape(together, (batch, places, heads * depth), call.name, call.module)


def with_past(call: Call, x: Array, place: int) -> Array:
    """Keys or values after those that an input remembers."""
    if not call.has(place):
        return x
    past = call.array(place)
    if len(past.shape) != 4 or past.shape[:2] != x.shape[:2] or past.shape[3] != x.shape[3]:
        call.fail(f"cannot put {written(past.shape)} before {written(x.shape)}")
    return call.recorder.concatenate([past, x], 2, call.name, call.module) if past.shape[2] else x


def attended(call: Call, q: Array, k: Array, v: Array, mask: Mask | None = None, causal: bool = False) -> Array:
    """Scaled dot-product attention; queries may have more heads than keys and values."""
    fits = (
        len(q.shape) == len(k.shape) == len(v.shape) == 4
        and q.shape[0] == k.shape[0] == v.shape[0]
        and k.shape[1:3] == v.shape[1:3]
        and q.shape[3] == k.shape[3]
        and k.shape[1] > 0
        and q.shape[1] % k.shape[1] == 0
    )
    if not fits:
        call.fail(f"cannot attend with {written(q.shape)} to {written(k.shape)} and {written(v.shape)}")
    if q.is_constant and k.is_constant and v.is_constant:
        return call.recorder.constant((*q.shape[:-1], v.shape[-1]))
    return call.recorder.attention(q, k, v, call.name, call.module, mask=mask, causal=causal)

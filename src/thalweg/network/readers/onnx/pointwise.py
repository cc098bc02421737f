"""Operations on each value, and on the values along an axis: activations, sums, normalisation, extremes."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.network.graph import Kind, written
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.onnx.node import operators
from thalweg.network.readers.onnx.operations import Call, handles
from thalweg.network.readers.onnx.values import Value

OF_ONE = operators(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Bernoulli Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu "
    "HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin "
    "Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
OF_SEVERAL = operators(
    "PRelu Pow Mod And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual BitShift BitwiseAnd BitwiseOr BitwiseXor "
    "Max Min Where SwiGLU"
)
CONDITIONS = operators("And Or Xor Not Equal Greater Less GreaterOrEqual LessOrEqual IsInf IsNaN")
"""Operations whose results are yes or no, and hold no parameters whatever they were made of."""
TABLES = frozenset({"Sin", "Cos"})
"""What is computed so from numbers alone is a table of positions, which nobody learns."""


def _parts(call: Call, places: Sequence[int]) -> list[Array]:
    parts = [call.array(place) for place in places or (0,)]
    call.common(*(part.shape for part in parts))
    return parts


def _plain(call: Call, x: Array) -> Array:
    """A constant without what it was computed from."""
    return call.recorder.constant(x.shape) if x.is_constant else x


def _each(call: Call, parts: Sequence[Array], kind: Kind = Kind.ACTIVATION) -> Value:
    if not call.node.domain and call.node.operator in CONDITIONS | TABLES:
        parts = [_plain(call, part) for part in parts]
    return Value(call.recorder.elementwise(parts, kind, call.name, call.module))


@handles(*OF_ONE)
def _of_one(call: Call) -> Value:
    return _each(call, [call.array(0)])


@handles(*OF_SEVERAL)
def _of_several(call: Call) -> Value:
    parts = _parts(call, range(len(call.inputs)))
    if call.node.operator == "Where":
        parts[0] = _plain(call, parts[0])
    if call.node.operator == "PRelu" and call.common(*(part.shape for part in parts)) != parts[0].shape:
        call.fail(f"has slopes {written(parts[1].shape)} for {written(parts[0].shape)}")
    return _each(call, parts)


@handles("Add", "Sub", "Sum", "Mean")
def _sum(call: Call) -> Value:
    return _each(call, _parts(call, range(len(call.inputs))), Kind.ADD)


@handles("Mul", "Div")
def _times(call: Call) -> Value:
    return _each(call, _parts(call, (0, 1)), Kind.MULTIPLY)


@handles("Dropout")
def _dropout(call: Call) -> Sequence[Value]:
    made = _each(call, [call.array(0)], Kind.DROPOUT)
    return [made, made]


@handles("Trilu", "RotaryEmbedding")
def _by_place(call: Call) -> Value:
    return _each(call, [call.array(0)])


# Quantised numbers: the same values, written more coarsely.


@handles("QuantizeLinear", "DequantizeLinear")
def _recoded(call: Call) -> Value:
    x = call.array(0)
    return Value(call.weight(0) or x) if x.is_constant else call.value(0)


@handles("DynamicQuantizeLinear")
def _recoded_by_range(call: Call) -> Sequence[Value]:
    return [Value(call.array(0)), call.constant(()), call.constant(())]


# Along an axis.


@handles("Softmax", "LogSoftmax", "Hardmax")
def _softmax(call: Call) -> Value:
    x = call.array(0)
    axis = call.axis(call.node.integer("axis", -1 if call.opset >= 13 else 1), len(x.shape))
    if call.opset >= 13 or axis == len(x.shape) - 1:
        return Value(call.recorder.softmax(x, axis, call.name, call.module))
    flat = 1
    for extent in x.shape[axis:]:
        flat *= extent
    # Before version 13 all axes from this one on are taken together.
    lines = call.recorder.reshape(x, (*x.shape[:axis], flat), call.name, call.module)
    made = call.recorder.softmax(lines, axis, call.name, call.module)
    return Value(call.recorder.reshape(made, x.shape, call.name, call.module))


@handles("CumSum", "CumProd")
def _running(call: Call) -> Value:
    x = call.array(0)
    (axis,) = call.integers(1) or (0,)
    return Value(call.recorder.softmax(x, call.axis(axis, len(x.shape)), call.name, call.module))


@handles(*(f"Reduce{how}" for how in operators("L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare")))
def _reduce(call: Call) -> Value:
    x = call.array(0)
    axes, keep = call.integers_of("axes", 1), call.node.integer("keepdims", 1) == 1
    if not axes:
        if call.node.integer("noop_with_empty_axes", 0):
            return call.value(0)
        axes = tuple(range(len(x.shape)))
    over = call.axes(axes, len(x.shape))
    pool = call.node.operator in ("ReduceMean", "ReduceMax")
    return Value(call.recorder.reduce(x, over, keep, pool, call.name, call.module))


@handles("ArgMax", "ArgMin")
def _place_of_extreme(call: Call) -> Value:
    x = call.array(0)
    over = (call.axis(call.node.integer("axis", 0), len(x.shape)),)
    keep = call.node.integer("keepdims", 1) == 1
    return Value(call.recorder.reduce(_plain(call, x), over, keep, name=call.name, module=call.module))


# Normalisation.


def _per_channel(call: Call, x: Array, places: Sequence[int]) -> list[Array]:
    if len(x.shape) < 2:
        call.fail(f"needs channels, which {written(x.shape)} does not have")
    weights = call.weights(*places)
    for weight in weights:
        if weight.shape != (x.shape[1],):
            call.fail(f"has weights for {written(weight.shape)} channels, but its input has {x.shape[1]}")
    return weights


@handles("BatchNormalization")
def _batch_normalisation(call: Call) -> Sequence[Value]:
    x = call.array(0)
    if not call.has(1) or not call.has(2):
        call.fail("needs its scale and its shift")
    weights = _per_channel(call, x, (1, 2))
    made = Value(call.recorder.normalise(x, (), weights, call.name, call.module))
    return [made, *(call.constant(x.shape[1:2]) for _ in range(4))]


@handles("InstanceNormalization")
def _instance_normalisation(call: Call) -> Value:
    x = call.array(0)
    weights = [weight for place, weight in enumerate(_per_channel(call, x, (1, 2)), 1) if not _idle(call, place)]
    return Value(call.recorder.normalise(x, range(2, len(x.shape)), weights, call.name, call.module))


def _idle(call: Call, place: int) -> bool:
    """Whether ones or zeros stand in this place because the operation asks for some, and nobody learned them."""
    value = call.value(place)
    return value.generated and value.is_uniform()


@handles("GroupNormalization")
def _group_normalisation(call: Call) -> Value:
    x, groups = call.array(0), call.node.integer("num_groups", 0)
    if len(x.shape) < 2 or groups < 1 or x.shape[1] % groups:
        call.fail(f"cannot divide {written(x.shape)} into {groups} groups of channels")
    weights = call.weights(1, 2)
    if any(weight.shape != (groups if call.opset < 21 else x.shape[1],) for weight in weights):
        call.fail(f"has weights {written(weights[0].shape)} for {x.shape[1]} channels in {groups} groups")
    return Value(call.recorder.normalise(x, range(1, len(x.shape)), weights, call.name, call.module))


@handles("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
@handles("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization", domain="com.microsoft")
def _layer_normalisation(call: Call) -> Sequence[Value | None]:
    x = call.array(0)
    axis = call.axis(call.node.integer("axis", -1), len(x.shape))
    weights = call.weights(1, 2)
    for weight in weights:
        if call.common(x.shape, weight.shape) != x.shape:
            call.fail(f"has weights {written(weight.shape)} for {written(x.shape)}")
    over = range(axis, len(x.shape))
    made = Value(call.recorder.normalise(x, over, weights, call.name, call.module))
    statistics = [
        Value(call.recorder.reduce(x, over, keep=True, name=call.name, module=call.module))
        if call.wants(place)
        else None
        for place in (1, 2)
    ]
    return [made, *statistics]


@handles("LRN")
def _response_normalisation(call: Call) -> Value:
    x = call.array(0)
    return Value(call.recorder.normalise(x, (), (), call.name, call.module))


@handles("LpNormalization", "MeanVarianceNormalization")
def _plain_normalisation(call: Call) -> Value:
    x = call.array(0)
    if call.node.operator == "LpNormalization":
        over = call.axes((call.node.integer("axis", -1),), len(x.shape))
    else:
        over = call.axes(call.node.integers("axes") or (0, 2, 3), len(x.shape))
    return Value(call.recorder.normalise(x, over, (), call.name, call.module))

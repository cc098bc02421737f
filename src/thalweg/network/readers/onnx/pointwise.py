"""Operations on each value, and on the values along an axis: activations, sums, normalisation, extremes."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.network.graph import Kind, written
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.masks import Mask, of_choice, of_difference, of_product, of_sum, of_triangle
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
    "Max Min SwiGLU"
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


def _each(
    call: Call, parts: Sequence[Array], kind: Kind = Kind.ACTIVATION, mask: Mask | None = None, turns: bool = False
) -> Value:
    if not call.node.domain and call.node.operator in CONDITIONS | TABLES:
        parts = [_plain(call, part) for part in parts]
    return Value(call.recorder.elementwise(parts, kind, call.name, call.module, mask=mask, turns=turns))


def _other(call: Call) -> int | None:
    """The place of the input that depends on no other, where one of two does."""
    constants = [place for place in range(len(call.inputs)) if call.array(place).is_constant]
    return constants[0] if len(call.inputs) == 2 and len(constants) == 1 else None


@handles(*OF_ONE)
def _of_one(call: Call) -> Value:
    made = _each(call, [call.array(0)])
    made.nan_of = call.array(0).id if call.node.operator == "IsNaN" else None
    return made


@handles(*OF_SEVERAL)
def _of_several(call: Call) -> Value:
    parts = _parts(call, range(len(call.inputs)))
    if call.node.operator == "PRelu" and call.common(*(part.shape for part in parts)) != parts[0].shape:
        call.fail(f"has slopes {written(parts[1].shape)} for {written(parts[0].shape)}")
    return _each(call, parts)


@handles("Where")
def _where(call: Call) -> Value:
    condition, x, y = _parts(call, range(3))
    if x.is_constant and y.id is not None and y.id == call.value(0).nan_of:
        return call.value(2)  # what exporters put behind a softmax of which a mask may hide all
    if condition.is_constant and not (x.is_constant or y.is_constant):
        known = call.value(0).numbers()
        chosen = None if known is None else known != 0
        return Value(call.recorder.choose(chosen, x, y, call.name, call.module))
    return _each(call, [_plain(call, condition), x, y], mask=_choice(call, [condition, x, y]))


def _choice(call: Call, parts: Sequence[Array]) -> Mask | None:
    """What is hidden of the one array that a condition chooses, where that depends on no input."""
    units = [not each.is_constant for each in parts]
    if units[0] or sum(units) != 1:
        return None
    chosen, number = call.value(0).numbers(), call.value(2 if units[1] else 1).numbers()
    return of_choice(None if chosen is None else chosen != 0 if units[1] else chosen == 0, number)


@handles("Add", "Sub", "Sum", "Mean")
def _sum(call: Call) -> Value:
    other = _other(call)
    how = of_difference if call.node.operator == "Sub" and other == 1 else of_sum
    mask = None if other is None else call.mask(other, how)
    turns = call.node.operator == "Sub" and other == 0
    return _each(call, _parts(call, range(len(call.inputs))), Kind.ADD, mask, turns)


@handles("Mul", "Div")
def _times(call: Call) -> Value:
    other = _other(call)
    mask = None if other is None or call.node.operator == "Div" else call.mask(other, of_product)
    turns = call.node.operator == "Div" and other == 0
    return _each(call, _parts(call, (0, 1)), Kind.MULTIPLY, mask, turns)


@handles("Dropout")
def _dropout(call: Call) -> Sequence[Value]:
    made = _each(call, [call.array(0)], Kind.DROPOUT)
    return [made, made]


@handles("RotaryEmbedding")
def _by_place(call: Call) -> Value:
    return _each(call, [call.array(0)])


@handles("Trilu")
def _triangle(call: Call) -> Value:
    x = call.array(0)
    if len(x.shape) < 2:
        call.fail(f"needs matrices, which {written(x.shape)} are not")
    diagonal = _one_number(call, 1) if call.has(1) else 0
    upper, rank = call.node.integer("upper", 1) == 1, len(x.shape)
    return _each(call, [x], mask=None if x.is_constant else of_triangle(x.shape[rank - 2 :], diagonal, upper))


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
        share = call.recorder.softmax if call.node.operator == "Softmax" else call.recorder.along
        return Value(share(x, axis, call.name, call.module))
    flat = 1
    for extent in x.shape[axis:]:
        flat *= extent
    # Before version 13 all axes from this one on are taken together.
    lines = call.recorder.reshape(x, (*x.shape[:axis], flat), call.name, call.module)
    made = call.recorder.along(lines, axis, call.name, call.module)
    return Value(call.recorder.reshape(made, x.shape, call.name, call.module))


@handles("CumSum", "CumProd")
def _running(call: Call) -> Value:
    x = call.array(0)
    reverse, exclusive = (call.node.integer(name, 0) == 1 for name in ("reverse", "exclusive"))
    axis = call.axis(_one_number(call, 1), len(x.shape))
    made = call.recorder.accumulate(x, axis, reverse, call.name, call.module)
    if not exclusive or x.is_constant:
        return Value(made)
    ends = [0] * len(x.shape)  # without its own: moved by one
    ends[axis] = -1 if reverse else 1
    return Value(call.recorder.pad(made, ends, [-end for end in ends], call.name, call.module))


def _one_number(call: Call, place: int) -> int:
    """An input that is one whole number."""
    numbers = call.integers(place)
    if len(numbers) != 1:
        call.fail(f"needs one whole number as its input number {place + 1}, not {len(numbers)}")
    return numbers[0]


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
    plain = pool or call.node.operator in ("ReduceSum", "ReduceMin")
    return Value(call.recorder.reduce(x, over, keep, pool, call.name, call.module, plain=plain))


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

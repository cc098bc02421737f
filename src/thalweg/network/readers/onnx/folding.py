"""Arithmetic on the few numbers that shapes are made of, done with NumPy while the file is read.

Results of more than `MAX_WORKED_OUT` numbers are not worked out, nor very many of these: no file can ask for much
memory or time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thalweg.network.readers.masks import MOST, repeated_once, triangle
from thalweg.network.readers.onnx.file import MAX_NUMBERS, MAX_RANK
from thalweg.network.readers.onnx.node import Node

if TYPE_CHECKING:
    from thalweg.network.readers.onnx.file import Numbers

MAX_WORKED_OUT = MOST
"""How many numbers a result may have: those of a mask for 2,048 tokens."""

_INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 12, 13, 21, 22})  # TensorProto's types
_REALS = frozenset({1, 10, 11, 16})
_BOOL = 9


class _NotWorkedOutError(Exception):
    """Too large, or of a kind that shapes are not made of."""


def folded(node: Node, inputs: Sequence[Numbers | None], opset: int) -> Numbers | None:
    """The numbers that an operation makes of numbers; None where they are not worked out.

    Args:
        node: the operation.
        inputs: the numbers that go in; None for what is left out.
        opset: the version of its set of operations.
    """
    import numpy as np

    rule = _RULES.get(node.operator)
    if rule is None or node.domain:
        return None
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(rule(np, node, inputs, opset))
    except (_NotWorkedOutError, ArithmeticError, LookupError, ValueError, TypeError, AttributeError):
        return None  # what is wrong with it, the operation itself says
    if result.size > MAX_WORKED_OUT or result.ndim > MAX_RANK or result.dtype.kind not in "bif":
        return None
    return result


def _small(shape: Sequence[int]) -> tuple[int, ...]:
    """The same shape, where it is not too large to be worked out."""
    if min(shape, default=0) < 0 or math.prod(shape) > MAX_WORKED_OUT or len(shape) > MAX_RANK:
        raise _NotWorkedOutError
    return tuple(int(extent) for extent in shape)


def _elementwise(function: str) -> Callable[..., Any]:
    def rule(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
        _small(np.broadcast_shapes(*(each.shape for each in inputs)))
        return getattr(np, function)(*inputs)

    return rule


def _divided(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    x, y = inputs
    _small(np.broadcast_shapes(x.shape, y.shape))
    if x.dtype.kind == "f" or y.dtype.kind == "f":
        return x / y
    if not y.all():
        raise _NotWorkedOutError
    return np.sign(x) * np.sign(y) * (abs(x) // abs(y))  # whole numbers are cut towards zero


def _remainder(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    x, y = inputs
    _small(np.broadcast_shapes(x.shape, y.shape))
    if not y.all():
        raise _NotWorkedOutError
    return np.fmod(x, y) if node.integer("fmod", 0) else np.mod(x, y)


def _power(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    x, y = inputs
    _small(np.broadcast_shapes(x.shape, y.shape))
    answer = np.power(x.astype(np.float64), y.astype(np.float64))
    if x.dtype.kind == "f":
        return answer
    if not np.isfinite(answer).all() or (abs(answer) > 2**53).any():
        raise _NotWorkedOutError
    return answer.astype(np.int64)


def _chosen(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    _small(np.broadcast_shapes(*(each.shape for each in inputs)))
    return np.where(*inputs)


def _reduced(function: str) -> Callable[..., Any]:
    def rule(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
        axes = node.integers("axes")
        if axes is None and len(inputs) > 1 and inputs[1] is not None:
            axes = tuple(int(axis) for axis in inputs[1].reshape(-1))
        if not axes and node.integer("noop_with_empty_axes", 0):
            return inputs[0]
        keep = node.integer("keepdims", 1) == 1
        return getattr(np, function)(inputs[0], axis=axes or None, keepdims=keep)

    return rule


def _cast(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    kind, (x, *_) = node.integer("to", 0), inputs
    if kind in _INTEGERS:
        if x.dtype.kind == "f" and not (np.isfinite(x).all() and (abs(x) < 2**62).all()):
            raise _NotWorkedOutError
        return x.astype(np.int64)
    if kind in _REALS:
        return x.astype(np.float64)
    if kind == _BOOL:
        return x.astype(bool)
    raise _NotWorkedOutError


def _given(node: Node, inputs: Sequence[Any], attribute: str, place: int) -> tuple[int, ...] | None:
    if node.has(attribute):
        return node.integers(attribute)
    if len(inputs) > place and inputs[place] is not None:
        return tuple(int(number) for number in inputs[place].reshape(-1))
    return None


def _reshaped(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    x, target = inputs[0], list(_given(node, inputs, "shape", 1) or ())
    if not node.integer("allowzero", 0):
        target = [x.shape[axis] if extent == 0 else extent for axis, extent in enumerate(target)]
    return x.reshape(target)


def _unsqueezed(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    return np.expand_dims(inputs[0], _given(node, inputs, "axes", 1))


def _squeezed(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    return np.squeeze(inputs[0], _given(node, inputs, "axes", 1))


def _transposed(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    return np.transpose(inputs[0], node.integers("perm"))


def _joined(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    if sum(each.size for each in inputs) > MAX_WORKED_OUT:
        raise _NotWorkedOutError
    return np.concatenate(inputs, node.integer("axis", 0))


def _taken(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    data, places = inputs
    axis = node.integer("axis", 0)
    _small((*data.shape[:axis], *places.shape, *data.shape[axis:][1:]) if axis >= 0 else (data.size * places.size,))
    return np.take(data, places, axis)


def _sliced(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    x = inputs[0]
    starts, stops = _given(node, inputs, "starts", 1), _given(node, inputs, "ends", 2)
    if starts is None or stops is None:
        raise _NotWorkedOutError
    axes = _given(node, inputs, "axes", 3) or range(len(starts))
    steps = _given(node, inputs, "steps", 4) or (1,) * len(starts)
    places = [slice(None)] * x.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        first, last, step = slice(start, stop, step).indices(x.shape[axis])
        places[axis] = slice(first, last if last >= 0 else None, step)
    return x[tuple(places)]


def _filled(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    from onnx import numpy_helper

    shape, tensor = _small(inputs[0].reshape(-1).tolist()), node.tensor("value")
    if tensor is None:
        return np.zeros(shape)
    if math.prod(tensor.dims) != 1 or tensor.data_location:
        raise _NotWorkedOutError
    value = numpy_helper.to_array(tensor).reshape(-1)[0]
    kind = "bool" if value.dtype.kind == "b" else "int64" if value.dtype.kind in "iu" else "float64"
    return np.broadcast_to(np.asarray(value, kind), shape)


def _counted(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    start, stop, step = (each.reshape(-1)[0] for each in inputs)
    if (
        not step
        or not np.isfinite([start, stop, step]).all()
        or abs(float(stop) - float(start)) / abs(float(step)) > MAX_WORKED_OUT
    ):
        raise _NotWorkedOutError
    return np.arange(start, stop, step)


def _expanded(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    x, target = inputs[0], inputs[1].reshape(-1).tolist()
    shape = _small(np.broadcast_shapes(x.shape, _small(target)))
    return np.broadcast_to(x, shape)


def _tiled(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    x, times = inputs
    _small([n * more for n, more in zip(x.shape, times.reshape(-1).tolist(), strict=True)])
    return np.tile(x, times.reshape(-1))


def _nonzero(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    return np.array(np.nonzero(inputs[0]), np.int64)


def _summed_up(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    if node.attributes:
        raise _NotWorkedOutError
    return np.cumsum(inputs[0], int(inputs[1].reshape(-1)[0]))


def _triangle(np: Any, node: Node, inputs: Sequence[Any], opset: int) -> Any:
    x, diagonal = inputs[0], int(inputs[1].reshape(-1)[0]) if len(inputs) > 1 and inputs[1] is not None else 0
    kept = triangle(_small(x.shape)[-2:], diagonal, node.integer("upper", 1) == 1)
    once = repeated_once(x)
    few = once.astype(np.float32) if x.dtype.kind == "f" and x.size > MAX_NUMBERS else once  # half the memory
    return np.broadcast_to(np.where(kept, few, np.zeros((), few.dtype)), x.shape)


_RULES: Mapping[str, Callable[..., Any]] = {
    **{
        operator: _elementwise(function)
        for operator, function in {
            "Add": "add", "Sub": "subtract", "Mul": "multiply", "Neg": "negative", "Abs": "abs", "Floor": "floor",
            "Ceil": "ceil", "Round": "rint", "Sqrt": "sqrt", "Sign": "sign", "Reciprocal": "reciprocal", "Exp": "exp",
            "Log": "log", "Equal": "equal", "Greater": "greater", "Less": "less", "GreaterOrEqual": "greater_equal",
            "LessOrEqual": "less_equal", "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor",
            "Not": "logical_not",
        }.items()
    },
    "Max": lambda np, node, inputs, opset: _of_all(np, np.maximum, inputs),
    "Min": lambda np, node, inputs, opset: _of_all(np, np.minimum, inputs),
    "Sum": lambda np, node, inputs, opset: _of_all(np, np.add, inputs),
    "Div": _divided, "Mod": _remainder, "Pow": _power, "Where": _chosen, "Cast": _cast,
    "ReduceProd": _reduced("prod"), "ReduceSum": _reduced("sum"), "ReduceMax": _reduced("max"),
    "ReduceMin": _reduced("min"), "Reshape": _reshaped, "Unsqueeze": _unsqueezed, "Squeeze": _squeezed,
    "Transpose": _transposed, "Concat": _joined, "Gather": _taken, "Slice": _sliced, "ConstantOfShape": _filled,
    "Range": _counted, "Expand": _expanded, "Tile": _tiled, "NonZero": _nonzero, "CumSum": _summed_up,
    "Trilu": _triangle,
}  # fmt: skip


def _of_all(np: Any, function: Any, inputs: Sequence[Any]) -> Any:
    _small(np.broadcast_shapes(*(each.shape for each in inputs)))
    answer = inputs[0]
    for each in inputs[1:]:
        answer = function(answer, each)
    return answer

"""The layers of Keras 3 by name, and what each of them does to arrays of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from thalweg.network.graph import Kind
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.keras_call import Call
from thalweg.network.readers.keras_steps import STEPS
from thalweg.network.readers.keras_windows import WINDOWS
from thalweg.network.readers.masks import LOW, Mask, of_difference, of_product, of_sum

# Matrix products.


def _dense(call: Call) -> Array:
    layer, x = call.layer, call.x
    bias = call.weight(layer.bias) if layer.use_bias else None
    kernel = next(each for each in layer.weights if each is not getattr(layer, "bias", None))
    contracted = ((len(x.shape) - 1,), (0,))
    return call.activated(call.recorder.product(x, call.weight(kernel), contracted, bias=bias, **call.named()))


def _einsum_dense(call: Call) -> Array:
    """Products by the letters of an equation; an ellipsis stands for the axes that it does not name."""
    layer, x = call.layer, call.x
    left, _, out = layer.equation.replace(" ", "").partition("->")
    ours, theirs = left.split(",")
    if "..." in ours:
        rest = "".join(chr(0x2460 + place) for place in range(len(x.shape) - len(ours.replace("...", ""))))
        ours, out = ours.replace("...", rest), out.replace("...", rest)
    bias = getattr(layer, "bias", None)
    kernel = next(each for each in layer.weights if each is not bias)
    summed = [letter for letter in ours if letter in theirs and letter not in out]
    batch = [letter for letter in ours if letter in theirs and letter in out]
    at = [tuple([side.index(each) for each in letters]) for letters in (summed, batch) for side in (ours, theirs)]
    made = call.recorder.product(
        x, call.weight(kernel), (at[0], at[1]), (at[2], at[3]),
        bias=None if bias is None else call.weight(bias), **call.named(),
    )  # fmt: skip
    order = batch + [each for each in ours if each in out and each not in theirs]
    order += [each for each in theirs if each in out and each not in ours]
    return call.activated(call.recorder.permute(made, [order.index(letter) for letter in out]))


def _embedded(call: Call) -> Array:
    return call.recorder.embedding(call.x, call.weights()[0], **call.named())


def _dot(call: Call) -> Array:
    x, y = call.arrays
    axes = call.layer.axes if isinstance(call.layer.axes, list | tuple) else (call.layer.axes,) * 2
    ours, theirs = axes[0] % len(x.shape), axes[1] % len(y.shape)
    return call.recorder.product(x, y, ((ours,), (theirs,)), ((0,), (0,)), **call.named())


# Normalisations, activations, merges.


def _batch_normalised(call: Call) -> Array:
    return call.recorder.normalise(call.x, (), call.weights(), **call.named())


def _layer_normalised(call: Call) -> Array:
    axis = call.layer.axis
    over = [each % len(call.x.shape) for each in ([axis] if isinstance(axis, int) else axis)]
    return call.recorder.normalise(call.x, over, call.weights(), **call.named())


def _group_normalised(call: Call) -> Array:
    return call.recorder.normalise(call.x, range(1, len(call.x.shape)), call.weights(), **call.named())


def _function(call: Call) -> Array:
    function = call.layer.activation
    name = getattr(function, "__name__", type(function).__name__)
    return call.x if name == "linear" else call.function(call.x, name, call.named())


def _soft(call: Call) -> Array:
    import numpy as np

    axis, x, hides = call.layer.axis, call.x, call.options.get("mask")
    if hides is not None:
        mask = Mask(None if isinstance(hides, Array) else np.asarray(hides) != 0, LOW, replaces=False)
        x = call.recorder.elementwise([x], Kind.ADD, **call.part("mask"), mask=mask)
    name, axis = ("softmax", axis) if isinstance(axis, int) else ("", -1)
    return call.function(x, name, call.named(), axis)


def _pointwise(call: Call) -> Array:
    return call.recorder.elementwise([call.x], Kind.ACTIVATION, weights=call.weights(), **call.named())


def _dropped(call: Call) -> Array:
    return call.recorder.elementwise([call.x], Kind.DROPOUT, **call.named())


def _merged(kind: Kind) -> Callable[[Call], Array]:
    def merge(call: Call) -> Array:
        parts, what = call.operands(), type(call.layer).__name__
        turns = what in ("Maximum", "Minimum") or (what in ("Subtract", "Divide") and parts[0].is_constant)
        return call.recorder.elementwise(parts, kind, **call.named(), mask=_table(call), turns=turns)

    return merge


def _table(call: Call) -> Mask | None:
    """What numbers that are added or multiplied hide, where they are one of two arguments."""
    import numpy as np

    held = call.walk.keras.tree.flatten([call.arguments, call.options])
    tables = [place for place, each in enumerate(held) if not isinstance(each, Array) and hasattr(each, "shape")]
    if len(held) != 2 or len(tables) != 1 or hasattr(held[tables[0]], "trainable") or not held[tables[0]].shape:
        return None
    function = _MASKING.get(type(call.layer).__name__)
    if function is of_difference and tables == [0]:
        function = of_sum
    return None if function is None else function(np.asarray(held[tables[0]]))


_MASKING = {"Add": of_sum, "Subtract": of_difference, "Multiply": of_product}
"""What numbers hide by how they are used."""


def _concatenated(call: Call) -> Array:
    axis = getattr(call.layer, "axis", -1)
    return call.recorder.concatenate(call.arrays, axis % len(call.x.shape), **call.named())


# Moves.


def _same(call: Call) -> Array:
    return call.x


def _flattened(call: Call) -> Array:
    x = call.x
    if getattr(call.layer, "data_format", None) == "channels_first" and len(x.shape) > 2:
        x = call.recorder.permute(x, (0, *range(2, len(x.shape)), 1))
    return call.recorder.reshape(x, (x.shape[0], math.prod(x.shape[1:])), **call.named())


def _reshaped(call: Call) -> Array:
    shape = list(call.layer.target_shape)
    if -1 in shape:
        place = shape.index(-1)
        shape[place] = math.prod(call.x.shape[1:]) // max(1, -math.prod(shape))
    return call.recorder.reshape(call.x, (call.x.shape[0], *shape), **call.named())


def _permuted(call: Call) -> Array:
    return call.recorder.permute(call.x, (0, *call.layer.dims))


def _repeated(call: Call) -> Array:
    x = call.recorder.reshape(call.x, (1, 1, call.x.shape[-1]))
    return call.recorder.expand(x, (1, call.layer.n, x.shape[-1]))


# Operations of keras.ops.


def _reduced(call: Call) -> Any:
    axis, x = call.layer.axis, call.x
    if axis is None:
        return []
    over = [each % len(x.shape) for each in ([axis] if isinstance(axis, int) else axis)]
    return call.recorder.reduce(x, over, keep=call.layer.keepdims, pool=True, **call.named())


def _multiplied(call: Call) -> Any:
    """A matrix product of two stacks of matrices, or of a stack and a matrix."""
    x, y = call.operands()
    depth = len(x.shape) - 1
    if len(y.shape) == 2:
        return call.recorder.product(x, y, ((depth,), (0,)), **call.named())
    if len(x.shape) != len(y.shape):
        return []
    batch = tuple(range(depth - 1))
    return call.recorder.product(x, y, ((depth,), (depth - 1,)), (batch, batch), **call.named())


def _in_another_shape(call: Call) -> Array:
    shape = [extent or 1 for extent in call.layer.newshape]
    if -1 in shape:
        shape[shape.index(-1)] = math.prod(call.x.shape) // -math.prod(shape)
    return call.recorder.reshape(call.x, shape, **call.named())


def _turned(call: Call) -> Array:
    axes = call.layer.axes
    return call.recorder.permute(call.x, range(len(call.x.shape))[::-1] if axes is None else axes)


LAYERS: Mapping[str, Callable[[Call], Any]] = {
    **WINDOWS,
    **STEPS,
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    "Embedding": _embedded,
    "Dot": _dot,
    **dict.fromkeys(("BatchNormalization", "Normalization", "Rescaling"), _batch_normalised),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "UnitNormalization"), _layer_normalised),
    "GroupNormalization": _group_normalised,
    "Activation": _function,
    "Softmax": _soft,
    **dict.fromkeys(("ReLU", "LeakyReLU", "PReLU", "ELU"), _pointwise),
    **dict.fromkeys(
        (
            "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout",
            "GaussianNoise",
        ),
        _dropped,
    ),
    **dict.fromkeys(("Add", "Average", "Subtract", "Maximum", "Minimum"), _merged(Kind.ADD)),
    "Multiply": _merged(Kind.MULTIPLY),
    "Concatenate": _concatenated,
    **dict.fromkeys(("Identity", "InputLayer", "Masking", "ActivityRegularization"), _same),
    "Flatten": _flattened,
    "Reshape": _reshaped,
    "Permute": _permuted,
    "RepeatVector": _repeated,
}  # fmt: skip
"""What is done for every layer."""

OPERATIONS: Mapping[str, Callable[[Call], Any]] = {
    **dict.fromkeys(("Add", "Subtract", "Maximum", "Minimum"), _merged(Kind.ADD)),
    **dict.fromkeys(("Multiply", "Divide", "TrueDivide"), _merged(Kind.MULTIPLY)),
    **dict.fromkeys(
        (
            "Relu", "Relu6", "Sigmoid", "Softplus", "Softsign", "Silu", "LogSigmoid", "LeakyRelu", "HardSigmoid",
            "HardSilu", "Elu", "Selu", "Gelu", "Celu", "HardTanh", "Tanh", "Exp", "Sqrt", "Square", "Abs", "Sin", "Cos",
        ),
        _pointwise,
    ),
    "Cast": _same,
    "Concatenate": _concatenated,
    **dict.fromkeys(("Max", "Mean", "Min", "Sum"), _reduced),
    "Matmul": _multiplied,
    "Reshape": _in_another_shape,
    "Transpose": _turned,
}  # fmt: skip
"""The same for operations of `keras.ops`."""

"""The layers of Keras 3 by name, and what each of them does to arrays of the run.

A convolution with an activation of its own is two rows, a separable one two layers of neurons: its depthwise and its
pointwise convolution. `same` padding puts an odd rest at the end, so that where a window begins depends on the extent
of its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.network.graph import Kind
from thalweg.network.readers.arrays import Array, Slide
from thalweg.network.readers.masks import LOW, Mask, of_difference, of_product, of_sum
from thalweg.network.readers.recorder import Recorder

Shape = tuple[int, ...]


@dataclass
class Call:
    """One call of a layer.

    Args:
        walk: what follows the graph.
        layer: the layer, or an operation of `keras.ops`.
        arguments: the positional ones, with arrays of the run in place of tensors.
        options: those by name.
        name: what the layer is called.
        module: the path of the model that holds it.
    """

    walk: Any
    layer: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    name: str
    module: str

    @property
    def recorder(self) -> Recorder:
        """Where it is written down."""
        recorder = self.walk.recorder
        assert isinstance(recorder, Recorder)
        return recorder

    @property
    def path(self) -> str:
        """The name with those of the models around it."""
        return f"{self.module}.{self.name}" if self.module else self.name

    @property
    def arrays(self) -> list[Array]:
        """The arrays among the arguments, in order."""
        held = self.walk.keras.tree.flatten([self.arguments, self.options])
        return [each for each in held if isinstance(each, Array)]

    @property
    def x(self) -> Array:
        """The first of them."""
        return self.arrays[0]

    def weight(self, variable: Any) -> Array:
        """A variable of Keras as an array of parameters."""
        identity = f"{getattr(variable, 'path', variable.name)}#{id(variable)}"
        return self.recorder.weight(identity, tuple(variable.shape), bool(variable.trainable))

    def weights(self, of: Any = None) -> list[Array]:
        """The parameters of the layer, or of another one."""
        return [self.weight(each) for each in getattr(self.layer if of is None else of, "weights", ())]

    def operands(self) -> list[Array]:
        """The arguments that are arrays, variables or numbers, all as arrays."""
        held = self.walk.keras.tree.flatten([self.arguments, self.options])
        return [self._operand(each) for each in held if hasattr(each, "shape") or type(each) in (int, float)]

    def _operand(self, held: Any) -> Array:
        if isinstance(held, Array):
            return held
        if hasattr(held, "trainable"):
            return self.weight(held)
        return self.recorder.constant(tuple(getattr(held, "shape", ())))

    def named(self) -> dict[str, Any]:
        """What the recorder is told of every operation."""
        return {"name": self.path, "module": self.module}

    def part(self, name: str) -> dict[str, Any]:
        """The same for a part of the layer."""
        return {"name": f"{self.path}.{name}", "module": self.path}

    def activated(self, x: Array, activation: Any = None) -> Array:
        """The array after the activation function of the layer."""
        function = getattr(self.layer, "activation", None) if activation is None else activation
        name = str(getattr(function, "__name__", None) or getattr(function, "name", type(function).__name__))
        if function is None or name == "linear":
            return x
        return _activated(self, x, name, self.part(name))


def _activated(call: Call, x: Array, name: str, named: Mapping[str, Any], axis: int = -1) -> Array:
    if "softmax" in name:
        return call.recorder.softmax(x, axis % len(x.shape), **named)
    return call.recorder.elementwise([x], Kind.ACTIVATION, **named)


def _places(call: Call, x: Array) -> tuple[tuple[int, ...], int]:
    """The axes of positions and of channels."""
    if getattr(call.layer, "data_format", None) == "channels_first":
        return tuple(range(2, len(x.shape))), 1
    return tuple(range(1, len(x.shape) - 1)), len(x.shape) - 1


def _each(value: Any, axes: int) -> Shape:
    return (value,) * axes if isinstance(value, int) else tuple(value)


# Windows.


def _padded(padding: str, extents: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> tuple[Shape, Shape]:
    """The padding before and after, of `same`, `causal` and `valid`."""
    spans = [gap * (taps - 1) + 1 for gap, taps in zip(dilation, kernel, strict=True)]
    if padding == "causal":
        return tuple([span - 1 for span in spans]), (0,) * len(spans)
    if padding != "same":
        return (0,) * len(spans), (0,) * len(spans)
    missing = [
        max(0, (-(-extent // step) - 1) * step + span - extent)
        for extent, step, span in zip(extents, stride, spans, strict=True)
    ]
    return tuple([each // 2 for each in missing]), tuple([each - each // 2 for each in missing])


def _window(call: Call, x: Array, kernel: Shape, padding: str | None = None) -> Slide:
    layer, (over, _) = call.layer, _places(call, x)
    stride, dilation = _each(layer.strides, len(over)), _each(getattr(layer, "dilation_rate", 1), len(over))
    extents = tuple([x.shape[axis] for axis in over])
    low, high = _padded(padding or layer.padding, extents, kernel, stride, dilation)
    return Slide(kernel, stride, dilation, low, high)


def _convolved(call: Call) -> Array:
    layer, x = call.layer, call.x
    over, channel = _places(call, x)
    made = call.recorder.slide(
        Kind.CONVOLUTION, x, over, _window(call, x, tuple(layer.kernel_size)), channel=channel,
        channels=layer.filters, groups=layer.groups, weights=call.weights(), **call.named(),
    )  # fmt: skip
    return call.activated(made)


def _depthwise(call: Call) -> Array:
    layer, x = call.layer, call.x
    over, channel = _places(call, x)
    made = call.recorder.slide(
        Kind.CONVOLUTION, x, over, _window(call, x, tuple(layer.kernel_size)), channel=channel,
        channels=x.shape[channel] * layer.depth_multiplier, groups=x.shape[channel], weights=call.weights(),
        **call.named(),
    )  # fmt: skip
    return call.activated(made)


def _separable(call: Call) -> Array:
    layer, x = call.layer, call.x
    over, channel = _places(call, x)
    deep = call.recorder.slide(
        Kind.CONVOLUTION, x, over, _window(call, x, tuple(layer.kernel_size)), channel=channel,
        channels=x.shape[channel] * layer.depth_multiplier, groups=x.shape[channel],
        weights=[call.weight(layer.depthwise_kernel)], **call.part("depthwise"),
    )  # fmt: skip
    rest = [layer.pointwise_kernel, *([layer.bias] if layer.use_bias else [])]
    made = call.recorder.slide(
        Kind.CONVOLUTION, deep, over, Slide((1,) * len(over)), channel=channel, channels=layer.filters,
        weights=[call.weight(each) for each in rest], **call.part("pointwise"),
    )  # fmt: skip
    return call.activated(made)


def _transposed(call: Call) -> Array:
    layer, x = call.layer, call.x
    over, channel = _places(call, x)
    kernel, stride = tuple(layer.kernel_size), _each(layer.strides, len(over))
    dilation = _each(layer.dilation_rate, len(over))
    asked = layer.output_padding
    extra: tuple[int | None, ...] = (None,) * len(over) if asked is None else _each(asked, len(over))
    ends = [
        _transposed_ends(layer.padding, gap * (taps - 1) + 1, step, more)
        for gap, taps, step, more in zip(dilation, kernel, stride, extra, strict=True)
    ]
    low, high, added = (tuple([each[place] for each in ends]) for place in range(3))
    slide = Slide(kernel, stride, dilation, low, high, transposed=True, output_padding=added)
    made = call.recorder.slide(
        Kind.CONVOLUTION, x, over, slide, channel=channel, channels=layer.filters, weights=call.weights(),
        **call.named(),
    )  # fmt: skip
    return call.activated(made)


def _transposed_ends(padding: str, span: int, step: int, extra: int | None) -> tuple[int, int, int]:
    """The positions cut off before and after the result of a transposed window, and those added after it.

    Follows how Keras pads for such a convolution: `before` and `after` are what is put around the spread inputs.
    """
    if padding == "valid":
        before, after = span - 1, span - 1 + (max(span, step) - span if extra is None else extra)
    else:
        total = step + span - 2 if extra is None else span + span % 2 - 2 + extra
        before = min(total // 2 + total % 2, span - 1)
        after = total - before
    return span - 1 - before, max(0, span - 1 - after), max(0, after - (span - 1))


def _pooled(kind: Kind) -> Callable[[Call], Array]:
    def pool(call: Call) -> Array:
        x = call.x
        over, channel = _places(call, x)
        kernel = _each(call.layer.pool_size, len(over))
        return call.recorder.slide(kind, x, over, _window(call, x, kernel), channel=channel, **call.named())

    return pool


def _pooled_to(kind: Kind) -> Callable[[Call], Array]:
    def pool(call: Call) -> Array:
        over, _ = _places(call, call.x)
        extents = _each(call.layer.output_size, len(over))
        return call.recorder.pool_to(kind, call.x, over, extents, **call.named())

    return pool


def _pooled_globally(call: Call) -> Array:
    over, _ = _places(call, call.x)
    return call.recorder.reduce(call.x, over, keep=call.layer.keepdims, pool=True, **call.named())


def _upsampled(call: Call) -> Any:
    layer, x = call.layer, call.x
    over, channel = _places(call, x)
    factors = _each(layer.size, len(over))
    how = getattr(layer, "interpolation", "nearest")
    if how not in ("nearest", "bilinear"):
        return []
    kernel, low = factors, (0,) * len(factors)
    if how == "bilinear":  # a transposed convolution with a tent; these are the taps where the tent is positive
        kernel = tuple([2 * factor - factor % 2 for factor in factors])
        low = tuple([factor // 2 for factor in factors])
    slide = Slide(kernel, factors, (1,) * len(factors), low, low, transposed=True)
    return call.recorder.slide(Kind.UPSAMPLE, x, over, slide, channel=channel, **call.named())


def _edges(call: Call, attribute: str, sign: int) -> Array:
    over, _ = _places(call, call.x)
    edges = getattr(call.layer, attribute)
    pairs = [edges] if len(over) == 1 and isinstance(edges[0], int) else list(edges)
    low, high = [0] * len(call.x.shape), [0] * len(call.x.shape)
    for axis, (before, after) in zip(over, pairs, strict=True):
        low[axis], high[axis] = sign * before, sign * after
    return call.recorder.pad(call.x, low, high, **call.named())


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


# Attention.


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
    held = call.arguments[0]
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
    return call.recorder.recurrent(x, 1, shape, macs, call.weights(layer), **named, reverse=reverse, states=states)


def _states(call: Call, layer: Any, made: Array) -> list[Array]:
    count = 2 if any(kind.__name__ == "LSTM" for kind in type(layer).__mro__) else 1
    shape = (1, layer.units)
    return [call.recorder.state(made, 1, shape) for _ in range(count)]


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
    return call.x if name == "linear" else _activated(call, call.x, name, call.named())


def _soft(call: Call) -> Array:
    import numpy as np

    axis, x, hides = call.layer.axis, call.x, call.options.get("mask")
    if hides is not None:
        mask = Mask(None if isinstance(hides, Array) else np.asarray(hides) != 0, LOW, replaces=False)
        x = call.recorder.elementwise([x], Kind.ADD, **call.part("mask"), mask=mask)
    name, axis = ("softmax", axis) if isinstance(axis, int) else ("", -1)
    return _activated(call, x, name, call.named(), axis)


def _pointwise(call: Call) -> Array:
    return call.recorder.elementwise([call.x], Kind.ACTIVATION, weights=call.weights(), **call.named())


def _dropped(call: Call) -> Array:
    return call.recorder.elementwise([call.x], Kind.DROPOUT, **call.named())


def _merged(kind: Kind) -> Callable[[Call], Array]:
    def merge(call: Call) -> Array:
        return call.recorder.elementwise(call.operands(), kind, **call.named(), mask=_table(call))

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
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _convolved),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _transposed),
    **{f"MaxPooling{axes}D": _pooled(Kind.MAX_POOL) for axes in (1, 2, 3)},
    **{f"AveragePooling{axes}D": _pooled(Kind.AVERAGE_POOL) for axes in (1, 2, 3)},
    **{f"AdaptiveMaxPooling{axes}D": _pooled_to(Kind.MAX_POOL) for axes in (1, 2, 3)},
    **{f"AdaptiveAveragePooling{axes}D": _pooled_to(Kind.AVERAGE_POOL) for axes in (1, 2, 3)},
    **{f"Global{kind}Pooling{axes}D": _pooled_globally for kind in ("Max", "Average") for axes in (1, 2, 3)},
    **{f"UpSampling{axes}D": _upsampled for axes in (1, 2, 3)},
    **{f"ZeroPadding{axes}D": lambda call: _edges(call, "padding", 1) for axes in (1, 2, 3)},
    **{f"Cropping{axes}D": lambda call: _edges(call, "cropping", -1) for axes in (1, 2, 3)},
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    "Embedding": _embedded,
    "Dot": _dot,
    "MultiHeadAttention": _attended,
    "GroupQueryAttention": _attended,
    "Attention": _plain_attention,
    **dict.fromkeys(_GATES, _recurrent),
    "Bidirectional": _both_ways,
    "TimeDistributed": _at_every_step,
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

"""Windows of Keras 3 that slide over maps: convolutions, pools, upsampling, padding and cropping.

A convolution with an activation of its own is two rows, a separable one two layers of neurons: its depthwise and its
pointwise convolution. `same` padding puts an odd rest at the end, so that where a window begins depends on the extent
of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from thalweg.network.graph import Kind
from thalweg.network.readers.arrays import Array, Slide
from thalweg.network.readers.keras_call import Call, Shape, per_axis


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


def _window(call: Call, x: Array, kernel: Shape) -> Slide:
    layer, (over, _) = call.layer, call.places(x)
    stride, dilation = per_axis(layer.strides, len(over)), per_axis(getattr(layer, "dilation_rate", 1), len(over))
    extents = tuple([x.shape[axis] for axis in over])
    low, high = _padded(layer.padding, extents, kernel, stride, dilation)
    return Slide(kernel, stride, dilation, low, high)


def _convolved(call: Call) -> Array:
    layer, x = call.layer, call.x
    over, channel = call.places(x)
    made = call.recorder.slide(
        Kind.CONVOLUTION, x, over, _window(call, x, tuple(layer.kernel_size)), channel=channel,
        channels=layer.filters, groups=layer.groups, weights=call.weights(), **call.named(),
    )  # fmt: skip
    return call.activated(made)


def _depthwise(call: Call) -> Array:
    layer, x = call.layer, call.x
    over, channel = call.places(x)
    made = call.recorder.slide(
        Kind.CONVOLUTION, x, over, _window(call, x, tuple(layer.kernel_size)), channel=channel,
        channels=x.shape[channel] * layer.depth_multiplier, groups=x.shape[channel], weights=call.weights(),
        **call.named(),
    )  # fmt: skip
    return call.activated(made)


def _separable(call: Call) -> Array:
    layer, x = call.layer, call.x
    over, channel = call.places(x)
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
    over, channel = call.places(x)
    kernel, stride = tuple(layer.kernel_size), per_axis(layer.strides, len(over))
    dilation = per_axis(layer.dilation_rate, len(over))
    asked = layer.output_padding
    extra: tuple[int | None, ...] = (None,) * len(over) if asked is None else per_axis(asked, len(over))
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
        over, channel = call.places(x)
        kernel = per_axis(call.layer.pool_size, len(over))
        return call.recorder.slide(kind, x, over, _window(call, x, kernel), channel=channel, **call.named())

    return pool


def _pooled_to(kind: Kind) -> Callable[[Call], Array]:
    def pool(call: Call) -> Array:
        over, _ = call.places(call.x)
        extents = per_axis(call.layer.output_size, len(over))
        return call.recorder.pool_to(kind, call.x, over, extents, **call.named())

    return pool


def _pooled_globally(call: Call) -> Array:
    over, _ = call.places(call.x)
    return call.recorder.reduce(call.x, over, keep=call.layer.keepdims, pool=True, **call.named())


def _upsampled(call: Call) -> Any:
    layer, x = call.layer, call.x
    over, channel = call.places(x)
    factors = per_axis(layer.size, len(over))
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
    over, _ = call.places(call.x)
    edges = getattr(call.layer, attribute)
    pairs = [edges] if len(over) == 1 and isinstance(edges[0], int) else list(edges)
    low, high = [0] * len(call.x.shape), [0] * len(call.x.shape)
    for axis, (before, after) in zip(over, pairs, strict=True):
        low[axis], high[axis] = sign * before, sign * after
    return call.recorder.pad(call.x, low, high, **call.named())


WINDOWS: Mapping[str, Callable[[Call], Any]] = {
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
}
"""What is done for every one of them."""

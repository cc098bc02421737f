"""The rules of PyTorch's operations with a window: convolutions, pooling, resizing, blocks of positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeAlias

from thalweg.network.graph import Kind, Resampling
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array, Slide
from thalweg.network.readers.masks import left_along
from thalweg.network.readers.resampling import HALF, cubic, linear, nearest
from thalweg.network.readers.torch_rules import (
    Answer,
    Call,
    Shape,
    dims_of,
    each_axis,
    last_axes,
    present,
    rule,
    shuffled,
    units_into,
)


def _kernel_of(weight: Array) -> Shape:
    return weight.shape[2:]


def _convolve(
    call: Call, x: Array, weight: Array, bias: Array | None, slide: Slide, channels: int, groups: int
) -> Array:
    x = units_into(call, x, weight)
    over = last_axes(x, len(slide.kernel))
    made = call.recorder.slide(
        Kind.CONVOLUTION, x, over, slide, channel=over[0] - 1, channels=channels, groups=groups,
        weights=present(weight, bias), left=left_along(call.kept(weight), range(2, len(weight.shape))),
        **call.named(weight),
    )  # fmt: skip
    if weight.is_constant or x.is_constant:
        return made
    # A kernel that is computed from the input is a gate of the whole map.
    kernel = call.recorder.reduce(weight, range(len(weight.shape)), name=call.name, module=call.module)
    return call.recorder.elementwise([made, kernel], Kind.MULTIPLY, **call.named())


@rule("conv1d", "conv2d", "conv3d")
def _conv(
    call: Call, x: Array, weight: Array, bias: Array | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Answer:  # fmt: skip
    kernel = _kernel_of(weight)
    n = len(kernel)
    spread = each_axis(dilation, n)
    if isinstance(padding, str):
        total = tuple(d * (k - 1) if padding == "same" else 0 for d, k in zip(spread, kernel, strict=True))
        low = tuple(each // 2 for each in total)
        high = tuple(each - before for each, before in zip(total, low, strict=True))
    else:
        low = high = each_axis(padding, n)
    slide = Slide(kernel, each_axis(stride, n), spread, low, high)
    return _convolve(call, x, weight, bias, slide, weight.shape[0], groups)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(
    call: Call, x: Array, weight: Array, bias: Array | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Answer:  # fmt: skip
    kernel = _kernel_of(weight)
    n = len(kernel)
    low = each_axis(padding, n)
    slide = Slide(kernel, each_axis(stride, n), each_axis(dilation, n), low, low, True, each_axis(output_padding, n))
    return _convolve(call, x, weight, bias, slide, weight.shape[1] * groups, groups)


@rule("convolution", "_convolution", "convolution_overrideable")
def _convolution(
    call: Call, x: Array, weight: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, *_: Any, **__: Any,
) -> Answer:  # fmt: skip
    if transposed:
        return _conv_transpose(call, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv(call, x, weight, bias, stride, padding, dilation, groups)


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices",
    "max_pool3d_with_indices",
)  # fmt: skip
def _max_pool(
    call: Call, x: Array, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> Answer:  # fmt: skip
    n = int(call.operation[8])
    kernel, low = each_axis(kernel_size, n), each_axis(padding, n)
    slide = Slide(kernel, each_axis(stride, n) or kernel, each_axis(dilation, n), low, low, ceil=ceil_mode)
    over = last_axes(x, n)
    made = call.recorder.slide(Kind.MAX_POOL, x, over, slide, channel=over[0] - 1, **call.named())
    return [made] * len(call.shapes)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(
    call: Call, x: Array, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    *_: Any, **__: Any,
) -> Answer:  # fmt: skip
    n = int(call.operation[8])
    kernel, low = each_axis(kernel_size, n), each_axis(padding, n)
    slide = Slide(kernel, each_axis(stride, n) or kernel, (1,) * n, low, low, ceil=ceil_mode)
    over = last_axes(x, n)
    return call.recorder.slide(Kind.AVERAGE_POOL, x, over, slide, channel=over[0] - 1, **call.named())


@rule(*(f"{how}adaptive_{kind}_pool{axes}d" for how in ("", "_") for kind in ("avg", "max") for axes in (1, 2, 3)))
def _adaptive_pool(call: Call, x: Array, output_size: Any) -> Answer:
    kind = Kind.AVERAGE_POOL if "avg" in call.operation else Kind.MAX_POOL
    over = last_axes(x, int(call.operation[-2]))
    made = call.recorder.pool_to(kind, x, over, tuple(call.shape[axis] for axis in over), **call.named())
    return [made] * len(call.shapes)


@rule("max_unpool2d")
def _max_unpool(call: Call, x: Array, indices: Array, *_: Any) -> Answer:
    return _resized(call, x, _UNPOOLING, [])


@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _upsample_nearest(call: Call, x: Array, *others: Any, **named: Any) -> Answer:
    return _resized(call, x, _NEAREST, _factors(others, named))


@rule("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
def _upsample_nearest_exact(call: Call, x: Array, *others: Any, **named: Any) -> Answer:
    return _resized(call, x, _NEAREST_EXACT, _factors(others, named))


@rule("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def _upsample_linear(call: Call, x: Array, output_size: Any, align_corners: bool, *others: Any, **named: Any) -> Answer:
    return _resized(call, x, _LINEAR_CORNERS if align_corners else _LINEAR, _factors(others, named))


@rule("upsample_bicubic2d")
def _upsample_cubic(call: Call, x: Array, output_size: Any, align_corners: bool, *others: Any, **named: Any) -> Answer:
    return _resized(call, x, _CUBIC_CORNERS if align_corners else _CUBIC, _factors(others, named))


@rule("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
def _upsample_smoothly(call: Call, x: Array, *_: Any, **__: Any) -> Answer:
    return call.recorder.gather([x], call.shape, last_axes(x, 2), **call.named())


def _factors(others: Sequence[Any], named: Mapping[str, Any]) -> list[float]:
    """By how much each axis is scaled, where it was said."""
    given = [*others, *named.values()]
    return [one for each in given for one in (each if isinstance(each, list | tuple) else [each]) if type(one) is float]


@dataclass(frozen=True, slots=True)
class _Interpolation:
    """What each position of a resized map is made of, along one axis.

    Args:
        by_window: the window that does it, from a whole factor and whether it shrinks; None where no window does.
        by_ratio: what does it at any ratio, from the extents before and after, and how far apart the places of units
            are where that was said; None where nothing is known to.
    """

    by_window: Callable[[int, bool], _Taps | None]
    by_ratio: Callable[[int, int, Fraction | None], Resampling | None]


_Taps: TypeAlias = tuple[int, int, int]  # kernel, stride and padding of a window


def _nearest_window(factor: int, shrink: bool) -> _Taps:
    return (1, factor, 0) if shrink else (factor, factor, 0)


def _nearest_exact_window(factor: int, shrink: bool) -> _Taps:
    return (1, factor, -(factor // 2)) if shrink else (factor, factor, 0)


def _linear_window(factor: int, shrink: bool) -> _Taps:
    """The places where a tent around the middle of the new position is positive."""
    if shrink:
        return (2 - factor % 2, factor, -((factor - 1) // 2))
    return (2 * factor - factor % 2, factor, factor // 2)


def _no_window(factor: int, shrink: bool) -> None:
    return None


def _no_ratio(before: int, after: int, apart: Fraction | None) -> None:
    return None


def _by_nearest(shift: Fraction) -> Callable[[int, int, Fraction | None], Resampling | None]:
    def by_ratio(before: int, after: int, apart: Fraction | None) -> Resampling | None:
        import numpy as np

        ratio = apart or Fraction(before, after)
        found = nearest(ratio, shift)
        # PyTorch multiplies in single precision, which may end just below a whole number.
        rounded = np.floor((np.arange(after, dtype=np.float32) + np.float32(shift)) * np.float32(ratio)).astype(int)
        told = [found.at(unit)[0] for unit in range(after)]
        return found if np.array_equal(np.minimum(rounded, before - 1), np.minimum(told, before - 1)) else None

    return by_ratio


def _by_middles(
    around: Callable[[Fraction, Fraction], Resampling],
) -> Callable[[int, int, Fraction | None], Resampling]:
    def by_ratio(before: int, after: int, apart: Fraction | None) -> Resampling:
        ratio = apart or Fraction(before, after)
        return around(ratio, (ratio - 1) / 2)

    return by_ratio


def _by_corners(
    around: Callable[[Fraction, Fraction], Resampling],
) -> Callable[[int, int, Fraction | None], Resampling]:
    def by_ratio(before: int, after: int, apart: Fraction | None) -> Resampling:
        return around(Fraction(before - 1, max(1, after - 1)), Fraction(0))

    return by_ratio


_UNPOOLING = _Interpolation(_nearest_window, _no_ratio)
_NEAREST = _Interpolation(_nearest_window, _by_nearest(Fraction(0)))
_NEAREST_EXACT = _Interpolation(_nearest_exact_window, _by_nearest(HALF))
_LINEAR = _Interpolation(_linear_window, _by_middles(linear))
_LINEAR_CORNERS = _Interpolation(_no_window, _by_corners(linear))
_CUBIC = _Interpolation(_no_window, _by_middles(cubic))
_CUBIC_CORNERS = _Interpolation(_no_window, _by_corners(cubic))
_PLAIN = {"upsample_nearest2d": (1, 2), "upsample_linear1d": (1,), "upsample_bilinear2d": (1,)}
"""How often PyTorch then takes every position of an axis, whatever factor was said."""


def _resized(call: Call, x: Array, interpolation: _Interpolation, factors: Sequence[float]) -> Array:
    """A map with more or fewer positions, by a window where these are whole multiples of each other.

    Args:
        call: an operation whose name ends in the number of its axes and "d".
        x: the map.
        interpolation: what its new positions are made of.
        factors: by how much each axis is scaled, where that was said.
    """
    count = int(call.operation[-2])
    over = last_axes(x, count)
    pairs = [(x.shape[axis], call.shape[axis]) for axis in over]
    said = [1 / Fraction(each).limit_denominator(1 << 10) for each in factors] if len(factors) == count else None
    apart: list[Fraction | None] = [*said] if said else [None] * count
    for place, (before, after) in enumerate(pairs):
        if after in [times * before for times in _PLAIN.get(call.operation, ())]:
            apart[place] = None
    exact = all(each in (None, Fraction(*pair)) for each, pair in zip(apart, pairs, strict=True))
    for shrink in (False, True) if exact else ():
        if all((one % other if shrink else other % one) == 0 for one, other in pairs):
            found = [interpolation.by_window(one // other if shrink else other // one, shrink) for one, other in pairs]
            if None in found:
                break
            kernel, stride, low = zip(*(each for each in found if each is not None), strict=True)
            return _stretch(call, x, over, kernel, stride, low, shrink)
    changed = [interpolation.by_ratio(*pair, each) for pair, each in zip(pairs, apart, strict=True)]
    known = [each for each in changed if each is not None]
    if len(known) < count:
        return call.recorder.gather([x], call.shape, over, **call.named())
    extents = [call.shape[axis] for axis in over]
    return call.recorder.resample(Kind.UPSAMPLE, x, over, known, extents, **call.named())


def _stretch(
    call: Call, x: Array, over: Shape, kernel: Shape, stride: Shape, low: Shape, shrink: bool = False
) -> Array:
    high = low
    if shrink:  # what is left over behind the last window
        spans = [(call.shape[axis] - 1) * s + k for axis, s, k in zip(over, stride, kernel, strict=True)]
        high = tuple(span - x.shape[axis] - before for axis, span, before in zip(over, spans, low, strict=True))
    slide = Slide(kernel, stride, low=low, high=high, transposed=not shrink)
    return call.recorder.slide(Kind.UPSAMPLE, x, over, slide, channel=_other(x, over), **call.named())


# Blocks of positions.


@rule("repeat_interleave")
def _interleave(call: Call, x: Array, repeats: Any = None, dim: int | None = None, **_: Any) -> Answer:
    if dim is None or not isinstance(repeats, int):
        return call.recorder.gather([x], call.shape, **call.named())
    (axis,) = dims_of(x, dim)
    if not ax.has_positions(x.axes[axis]):
        return shuffled(call, x, (axis,))
    return _stretch(call, x, (axis,), (repeats,), (repeats,), (0,))


@rule("unfold")
def _unfold(call: Call, x: Array, dimension: int, size: int, step: int) -> Answer:
    (axis,) = dims_of(x, dimension)
    if ax.has_positions(x.axes[axis]):
        slide = Slide((size,), (step,))
        x = call.recorder.slide(Kind.REARRANGE, x, (axis,), slide, channel=_other(x, (axis,)), **call.named())
    held = [axis_ if n == m else ax.features(m) for axis_, n, m in zip(x.axes, x.shape, call.shape, strict=False)]
    return replace(x, shape=call.shape, axes=(*held, ax.features(size)))


def _other(x: Array, axes: Sequence[int]) -> int:
    """An axis that is not among these, for the channels: not the batch where there is a choice."""
    rest = [axis for axis in range(len(x.shape)) if axis not in axes]
    return rest[1] if len(rest) > 1 and x.shape[rest[0]] == 1 else rest[0]


@rule("im2col")
def _im2col(call: Call, x: Array, kernel_size: Sequence[int], dilation: Any, padding: Any, stride: Any) -> Answer:
    kernel, low = each_axis(kernel_size, 2), each_axis(padding, 2)
    slide = Slide(kernel, each_axis(stride, 2), each_axis(dilation, 2), low, low)
    over = last_axes(x, 2)
    made = call.recorder.slide(Kind.REARRANGE, x, over, slide, channel=over[0] - 1, **call.named())
    wide = made.shape[over[0] - 1] * math.prod(kernel)
    shape = (*made.shape[: over[0] - 1], wide, *made.shape[over[0] :])
    axes = (*made.axes[: over[0] - 1], ax.features(wide), *made.axes[over[0] :])
    return call.recorder.reshape(replace(made, shape=shape, axes=axes), call.shape, **call.named())


@rule("col2im")
def _col2im(
    call: Call, x: Array, output_size: Sequence[int], kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Answer:
    kernel, low, step, spread = (each_axis(each, 2) for each in (kernel_size, padding, stride, dilation))
    window = Slide(kernel, step, spread, low, low).window((0, 1), 2)
    blocks = window.output_extents(tuple(output_size))
    channels = call.shape[-3]
    map_ = call.recorder.reshape(x, (*x.shape[:-1], *blocks), **call.named())
    place = len(map_.shape) - 3
    axes = (*map_.axes[:place], ax.features(channels), *map_.axes[place + 1 :])
    thin = replace(map_, shape=(*map_.shape[:place], channels, *blocks), axes=axes)
    made = tuple(
        (n - 1) * s + d * (k - 1) + 1 - 2 * p for n, s, d, k, p in zip(blocks, step, spread, kernel, low, strict=True)
    )
    rest = tuple(wanted - have for wanted, have in zip(output_size, made, strict=True))
    slide = Slide(kernel, step, spread, low, low, transposed=True, output_padding=rest)
    return call.recorder.slide(Kind.REARRANGE, thin, (place + 1, place + 2), slide, channel=place, **call.named())

"""What PyTorch's operations do, for the `Recorder`: one rule for each name of ATen, or for several that do the same.

A rule gets a `Call` and the operation's own arguments, under ATen's names, with an `Array` in the place of every
tensor; it returns the array that comes out, or several. An operation without a rule is taken apart into simpler ones
where PyTorch can do that, is elementwise where PyTorch says so, and is unknown otherwise (`torch_run`). This module
does not import PyTorch.

    >>> recorder = Recorder()
    >>> call = Call(recorder, "flatten", ((1, 12),), "flatten", "")
    >>> RULES["flatten"](call, recorder.input((1, 3, 4)), 1).shape
    (1, 12)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from thalweg.network.graph import Border, Kind
from thalweg.network.readers import axes as ax
from thalweg.network.readers.recorder import Array, Recorder, Slide

Shape = tuple[int, ...]
Answer = Array | Sequence[Array] | None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation.

    Args:
        recorder: what it is written down in.
        operation: its name in ATen, without the sign of in-place variants.
        shapes: of what PyTorch makes.
        name: what its row is called, where it is not a layer with weights.
        module: the path of the module that holds it.
        layer: what a layer with weights is called, and the path of the module that holds it.
    """

    recorder: Recorder
    operation: str
    shapes: tuple[Shape, ...]
    name: str
    module: str
    layer: Callable[[Array], tuple[str, str]] | None = None

    @property
    def shape(self) -> Shape:
        """The shape of the first result."""
        return self.shapes[0]

    def named(self, weight: Array | None = None) -> dict[str, Any]:
        """The name and the module of the row, as the recorder wants them."""
        if weight is None or self.layer is None or not (weight.is_constant and weight.weights):
            return {"name": self.name, "module": self.module}
        name, module = self.layer(weight)
        return {"name": name, "module": module}


Rule = Callable[..., Answer]

RULES: dict[str, Rule] = {}
"""The rule of every operation that has one."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of these operations."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def _each(value: int | Sequence[int], count: int) -> Shape:
    """One number per axis."""
    if isinstance(value, int):
        return (value,) * count
    return tuple(value) * (count if len(value) == 1 else 1)


def _present(*arrays: Array | None) -> list[Array]:
    return [each for each in arrays if each is not None]


def _last(x: Array, count: int) -> tuple[int, ...]:
    """The last axes of an array."""
    return tuple(range(len(x.shape) - count, len(x.shape)))


def _dims(x: Array, dim: int | Sequence[int] | None) -> tuple[int, ...]:
    """Axes counted from the front; all of them for none."""
    if dim is None or dim == [] or dim == ():
        return tuple(range(len(x.shape)))
    return tuple(each % max(1, len(x.shape)) for each in ([dim] if isinstance(dim, int) else dim))


# What moves values.


@rule(
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view", "view_as", "reshape_as",
    "_reshape_alias", "ravel", "_unsafe_masked_index",
)  # fmt: skip
def _reshape(call: Call, x: Array, *_: Any, **__: Any) -> Answer:
    if math.prod(call.shape) != math.prod(x.shape):  # bits seen as numbers of another width
        return None
    return call.recorder.reshape(x, call.shape, **call.named())


@rule(
    "contiguous", "clone", "detach", "alias", "to", "_to_copy", "type_as", "lift_fresh", "dropout", "feature_dropout",
    "alpha_dropout", "feature_alpha_dropout", "conj", "resolve_conj", "resolve_neg", "positive", "nan_to_num",
    "view_as_complex_copy", "_conj",
)  # fmt: skip
def _same(_: Call, x: Array, *__: Any, **___: Any) -> Answer:
    return x


@rule("copy")
def _copy(call: Call, _: Array, source: Array, non_blocking: bool = False) -> Answer:
    return call.recorder.expand(source, call.shape)


@rule("permute")
def _permute(call: Call, x: Array, dims: Sequence[int]) -> Answer:
    return call.recorder.permute(x, _dims(x, dims))


@rule("transpose", "swapaxes", "swapdims")
def _transpose(call: Call, x: Array, dim0: int, dim1: int) -> Answer:
    order = list(range(len(x.shape)))
    if order:
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return call.recorder.permute(x, order)


@rule("t", "numpy_T")
def _turn(call: Call, x: Array) -> Answer:
    return call.recorder.permute(x, range(len(x.shape))[::-1])


@rule("expand", "expand_as", "broadcast_to")
def _expand(call: Call, x: Array, *_: Any, **__: Any) -> Answer:
    return call.recorder.expand(x, call.shape)


@rule("slice")
def _slice(
    call: Call, x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Answer:
    (axis,) = _dims(x, dim)
    first, stop, step = slice(start, end, step).indices(x.shape[axis])
    return call.recorder.slice(x, axis, first, max(first, stop), step, **call.named())


@rule("narrow")
def _narrow(call: Call, x: Array, dim: int, start: int, length: int) -> Answer:
    (axis,) = _dims(x, dim)
    start %= x.shape[axis] + 1
    return call.recorder.slice(x, axis, start, start + length, **call.named())


@rule("select")
def _select(call: Call, x: Array, dim: int, index: int) -> Answer:
    return _one(call, x, dim, index)


def _one(call: Call, x: Array, dim: int, index: int) -> Array:
    (axis,) = _dims(x, dim)
    index %= x.shape[axis]
    one = call.recorder.slice(x, axis, index, index + 1, **call.named())
    return call.recorder.reshape(one, call.shape, **call.named())


@rule("unbind")
def _unbind(call: Call, x: Array, dim: int = 0) -> Answer:
    return [_one(call, x, dim, index) for index in range(x.shape[_dims(x, dim)[0]])]


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk")
def _split(call: Call, x: Array, _: Any, dim: int = 0) -> Answer:
    (axis,) = _dims(x, dim)
    pieces, start = [], 0
    for shape in call.shapes:
        pieces.append(call.recorder.slice(x, axis, start, start + shape[axis], **call.named()))
        start += shape[axis]
    return pieces


@rule("cat", "concat", "concatenate")
def _concatenate(call: Call, tensors: Sequence[Array], dim: int = 0) -> Answer:
    parts = [each for each in tensors if len(each.shape) == len(call.shape)]  # an empty vector joins anything
    return call.recorder.concatenate(parts, _dims(parts[0], dim)[0], **call.named())


@rule("stack")
def _stack(call: Call, tensors: Sequence[Array], dim: int = 0) -> Answer:
    axis = dim % len(call.shape)
    shape = (*call.shape[:axis], 1, *call.shape[axis + 1 :])
    parts = [call.recorder.reshape(each, shape, **call.named()) for each in tensors]
    return call.recorder.concatenate(parts, axis, **call.named())


@rule("constant_pad_nd")
def _pad_with_constant(call: Call, x: Array, pad: Sequence[int], value: float = 0) -> Answer:
    low, high = _sides(x, pad)
    return call.recorder.pad(x, low, high, **call.named())


def _sides(x: Array, pad: Sequence[int]) -> tuple[list[int], list[int]]:
    """What stands before and after every axis, from PyTorch's list, which begins with the last axis."""
    low, high = [0] * len(x.shape), [0] * len(x.shape)
    for place, width in enumerate(pad):
        (high if place % 2 else low)[-1 - place // 2] = width
    return low, high


@rule("pad")
def _pad(call: Call, x: Array, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Answer:
    border = {"reflect": Border.MIRRORED, "replicate": Border.REPEATED, "circular": Border.WRAPPED}.get(mode)
    return _pad_with_constant(call, x, pad) if border is None else _pad_with_own(call, x, pad, border)


@rule(*(f"{mode}_pad{axes}d" for mode in ("reflection", "replication") for axes in (1, 2, 3)))
def _pad_by_name(call: Call, x: Array, padding: Sequence[int]) -> Answer:
    border = Border.MIRRORED if call.operation.startswith("reflection") else Border.REPEATED
    return _pad_with_own(call, x, padding, border)


def _pad_with_own(call: Call, x: Array, pad: Sequence[int], border: Border) -> Array:
    low, high = _sides(x, pad)
    return call.recorder.pad(x, low, high, border=border, **call.named())


@rule("roll")
def _roll(call: Call, x: Array, shifts: int | Sequence[int], dims: int | Sequence[int] = ()) -> Answer:
    moves = [shifts] if isinstance(shifts, int) else list(shifts)
    if not dims and dims != 0:  # of all values in a row
        return call.recorder.gather([x], call.shape, **call.named())
    low = [0] * len(x.shape)
    for axis, shift in zip(_dims(x, dims), moves, strict=True):
        half = x.shape[axis] // 2  # the shorter way round
        low[axis] = (shift + half) % x.shape[axis] - half
    return call.recorder.pad(x, low, [-each for each in low], border=Border.WRAPPED, **call.named())


@rule("flip", "sort", "cummax", "cummin", "msort", "rot90")
def _flip(call: Call, x: Array, dims: Any = -1, *_: Any, **__: Any) -> Answer:
    return [_shuffled(call, x, _dims(x, dims))] * len(call.shapes)


@rule("topk", "kthvalue")
def _topk(call: Call, x: Array, k: int, dim: int = -1, *_: Any, **__: Any) -> Answer:
    return [_shuffled(call, x, _dims(x, dim))] * len(call.shapes)


def _shuffled(call: Call, x: Array, axes: Sequence[int], others: Sequence[Array] = ()) -> Array:
    """Values in another order along some axes: where no positions are among them, nothing to follow is lost."""
    same = len(call.shape) == len(x.shape)
    if same and not others and not any(ax.has_positions(x.axes[axis]) for axis in axes):
        held = tuple(ax.features(n) if axis in axes else x.axes[axis] for axis, n in enumerate(call.shape))
        return replace(x, shape=call.shape, axes=held)
    return call.recorder.gather([x, *others], call.shape, axes if same else None, **call.named())


@rule("index", "_unsafe_index")
def _index(call: Call, x: Array, indices: Sequence[Array | None]) -> Answer:
    units = [each for each in indices if each is not None and not each.is_constant]
    if x.is_constant and x.weights and len(units) == len(indices) == 1:
        return call.recorder.embedding(units[0], x, **call.named(x))
    axes = [axis for axis, each in enumerate(indices) if each is not None]
    return _shuffled(call, x, axes, units)


@rule("index_select", "gather", "take_along_dim")
def _index_select(call: Call, x: Array, dim: int, index: Array, *_: Any, **__: Any) -> Answer:
    if call.operation == "index_select" and x.is_constant and x.weights and dim == 0 and not index.is_constant:
        return call.recorder.embedding(index, x, **call.named(x))
    return _shuffled(call, x, _dims(x, dim), [] if index.is_constant else [index])


@rule(
    "index_put", "_index_put_impl", "_unsafe_index_put", "scatter", "scatter_add", "scatter_reduce", "index_add",
    "index_copy", "index_fill", "masked_scatter", "slice_scatter", "select_scatter", "put", "diagonal_scatter",
    "index_reduce",
)  # fmt: skip
def _scatter(call: Call, x: Array, *others: Any, **__: Any) -> Answer:
    found = [each for each in others if isinstance(each, Array)]
    found += [part for each in others if isinstance(each, list) for part in each if isinstance(part, Array)]
    return call.recorder.gather([x, *found], call.shape, **call.named())


@rule(
    "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "as_strided", "take", "max_unpool3d", "diagonal", "trace",
    "diag_embed", "histc", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "_fft_r2c", "_fft_c2r", "_fft_c2c",
)  # fmt: skip
def _gather(call: Call, x: Array, *others: Any, **__: Any) -> Answer:
    return call.recorder.gather([x, *(each for each in others if isinstance(each, Array))], call.shape, **call.named())


@rule("repeat", "tile")
def _repeat(call: Call, x: Array, repeats: Sequence[int]) -> Answer:
    own = (1,) * (len(call.shape) - len(x.shape)) + x.shape
    x = call.recorder.reshape(x, own, **call.named())
    wide = [axis for axis, (one, many) in enumerate(zip(own, call.shape, strict=True)) if one not in (1, many)]
    if not wide:
        return call.recorder.expand(x, call.shape)
    return _shuffled(
        call, x, [axis for axis, (one, many) in enumerate(zip(own, call.shape, strict=True)) if one != many]
    )


@rule("repeat_interleave")
def _interleave(call: Call, x: Array, repeats: Any = None, dim: int | None = None, **_: Any) -> Answer:
    if dim is None or not isinstance(repeats, int):
        return call.recorder.gather([x], call.shape, **call.named())
    (axis,) = _dims(x, dim)
    if not ax.has_positions(x.axes[axis]):
        return _shuffled(call, x, (axis,))
    return _stretch(call, x, (axis,), (repeats,), (repeats,), (0,))


@rule("unfold")
def _unfold(call: Call, x: Array, dimension: int, size: int, step: int) -> Answer:
    (axis,) = _dims(x, dimension)
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
    kernel, low = _each(kernel_size, 2), _each(padding, 2)
    slide = Slide(kernel, _each(stride, 2), _each(dilation, 2), low, low)
    over = _last(x, 2)
    made = call.recorder.slide(Kind.REARRANGE, x, over, slide, channel=over[0] - 1, **call.named())
    wide = made.shape[over[0] - 1] * math.prod(kernel)
    shape = (*made.shape[: over[0] - 1], wide, *made.shape[over[0] :])
    axes = (*made.axes[: over[0] - 1], ax.features(wide), *made.axes[over[0] :])
    return call.recorder.reshape(replace(made, shape=shape, axes=axes), call.shape, **call.named())


@rule("col2im")
def _col2im(
    call: Call, x: Array, output_size: Sequence[int], kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Answer:
    kernel, low, step, spread = (_each(each, 2) for each in (kernel_size, padding, stride, dilation))
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


@rule("pixel_shuffle")
def _pixel_shuffle(call: Call, x: Array, upscale_factor: int) -> Answer:
    r, (*front, channels, rows, columns) = upscale_factor, x.shape
    split = call.recorder.reshape(x, (*front, channels // r**2, r, r, rows, columns), **call.named())
    n = len(front)
    turned = call.recorder.permute(split, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return call.recorder.reshape(turned, call.shape, **call.named())


@rule("pixel_unshuffle")
def _pixel_unshuffle(call: Call, x: Array, downscale_factor: int) -> Answer:
    r, (*front, channels, rows, columns) = downscale_factor, x.shape
    split = call.recorder.reshape(x, (*front, channels, rows // r, r, columns // r, r), **call.named())
    n = len(front)
    turned = call.recorder.permute(split, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return call.recorder.reshape(turned, call.shape, **call.named())


@rule("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(call: Call, x: Array, groups: int) -> Answer:
    return _shuffled(call, x, (1,))


@rule("view_as_complex")
def _view_as_complex(call: Call, x: Array) -> Answer:
    return call.recorder.reshape(call.recorder.slice(x, len(x.shape) - 1, 0, 1), call.shape, **call.named())


@rule("view_as_real", "one_hot")
def _one_more_axis(call: Call, x: Array, *_: Any, **__: Any) -> Answer:
    return replace(x, shape=call.shape, axes=(*x.axes, ax.features(call.shape[-1])))


# Windows.


def _kernel_of(weight: Array) -> Shape:
    return weight.shape[2:]


def _units(call: Call, x: Array, weight: Array) -> Array:
    """What goes into a layer, also where it is the same for every example."""
    if not (x.is_constant and weight.is_constant and weight.weights):
        return x
    return call.recorder.source(x, f"{call.name}.input", call.module)


def _convolve(
    call: Call, x: Array, weight: Array, bias: Array | None, slide: Slide, channels: int, groups: int
) -> Array:
    x = _units(call, x, weight)
    over = _last(x, len(slide.kernel))
    made = call.recorder.slide(
        Kind.CONVOLUTION, x, over, slide, channel=over[0] - 1, channels=channels, groups=groups,
        weights=_present(weight, bias), **call.named(weight),
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
    spread = _each(dilation, n)
    if isinstance(padding, str):
        total = tuple(d * (k - 1) if padding == "same" else 0 for d, k in zip(spread, kernel, strict=True))
        low = tuple(each // 2 for each in total)
        high = tuple(each - before for each, before in zip(total, low, strict=True))
    else:
        low = high = _each(padding, n)
    slide = Slide(kernel, _each(stride, n), spread, low, high)
    return _convolve(call, x, weight, bias, slide, weight.shape[0], groups)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(
    call: Call, x: Array, weight: Array, bias: Array | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Answer:  # fmt: skip
    kernel = _kernel_of(weight)
    n = len(kernel)
    low = _each(padding, n)
    slide = Slide(kernel, _each(stride, n), _each(dilation, n), low, low, True, _each(output_padding, n))
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
    kernel, low = _each(kernel_size, n), _each(padding, n)
    slide = Slide(kernel, _each(stride, n) or kernel, _each(dilation, n), low, low, ceil=ceil_mode)
    over = _last(x, n)
    made = call.recorder.slide(Kind.MAX_POOL, x, over, slide, channel=over[0] - 1, **call.named())
    return [made] * len(call.shapes)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(
    call: Call, x: Array, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    *_: Any, **__: Any,
) -> Answer:  # fmt: skip
    n = int(call.operation[8])
    kernel, low = _each(kernel_size, n), _each(padding, n)
    slide = Slide(kernel, _each(stride, n) or kernel, (1,) * n, low, low, ceil=ceil_mode)
    over = _last(x, n)
    return call.recorder.slide(Kind.AVERAGE_POOL, x, over, slide, channel=over[0] - 1, **call.named())


@rule(*(f"{how}adaptive_{kind}_pool{axes}d" for how in ("", "_") for kind in ("avg", "max") for axes in (1, 2, 3)))
def _adaptive_pool(call: Call, x: Array, output_size: Any) -> Answer:
    kind = Kind.AVERAGE_POOL if "avg" in call.operation else Kind.MAX_POOL
    over = _last(x, int(call.operation[-2]))
    made = call.recorder.pool_to(kind, x, over, tuple(call.shape[axis] for axis in over), **call.named())
    return [made] * len(call.shapes)


@rule("max_unpool2d")
def _max_unpool(call: Call, x: Array, indices: Array, *_: Any) -> Answer:
    return _resized(call, x, 2, _nearest)


@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _upsample_nearest(call: Call, x: Array, *_: Any, **__: Any) -> Answer:
    return _resized(call, x, int(call.operation[-2]), _nearest)


@rule("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
def _upsample_nearest_exact(call: Call, x: Array, *_: Any, **__: Any) -> Answer:
    return _resized(call, x, int(call.operation[-2]), _nearest_centred)


@rule("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def _upsample_linear(call: Call, x: Array, output_size: Any, align_corners: bool, *_: Any, **__: Any) -> Answer:
    return _resized(call, x, int(call.operation[-2]), _nowhere if align_corners else _linear)


@rule("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
def _upsample_otherwise(call: Call, x: Array, *_: Any, **__: Any) -> Answer:
    return _resized(call, x, 2, _nowhere)


Taps = tuple[int, int, int]
"""Kernel, stride and padding of a window."""


def _nearest(factor: int, shrink: bool) -> Taps | None:
    return (1, factor, 0) if shrink else (factor, factor, 0)


def _nearest_centred(factor: int, shrink: bool) -> Taps | None:
    return (1, factor, -(factor // 2)) if shrink else (factor, factor, 0)


def _linear(factor: int, shrink: bool) -> Taps | None:
    """The places where a tent around the middle of the new position is positive."""
    if shrink:
        return (2 - factor % 2, factor, -((factor - 1) // 2))
    return (2 * factor - factor % 2, factor, factor // 2)


def _nowhere(factor: int, shrink: bool) -> Taps | None:
    return None


def _resized(call: Call, x: Array, count: int, taps: Callable[[int, bool], Taps | None]) -> Array:
    """A map with more or fewer positions, followed where these are whole multiples of each other."""
    over = _last(x, count)
    pairs = [(x.shape[axis], call.shape[axis]) for axis in over]
    for shrink in (False, True):
        if all((one % other if shrink else other % one) == 0 for one, other in pairs):
            found = [taps(one // other if shrink else other // one, shrink) for one, other in pairs]
            if None in found:
                break
            kernel, stride, low = zip(*(each for each in found if each is not None), strict=True)
            return _stretch(call, x, over, kernel, stride, low, shrink)
    return call.recorder.gather([x], call.shape, over, **call.named())


def _stretch(
    call: Call, x: Array, over: Shape, kernel: Shape, stride: Shape, low: Shape, shrink: bool = False
) -> Array:
    high = low
    if shrink:  # what is left over behind the last window
        spans = [(call.shape[axis] - 1) * s + k for axis, s, k in zip(over, stride, kernel, strict=True)]
        high = tuple(span - x.shape[axis] - before for axis, span, before in zip(over, spans, low, strict=True))
    slide = Slide(kernel, stride, low=low, high=high, transposed=not shrink)
    return call.recorder.slide(Kind.UPSAMPLE, x, over, slide, channel=_other(x, over), **call.named())


# Normalisations and shares.


@rule("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def _batch_norm(call: Call, x: Array, weight: Array | None, bias: Array | None, *_: Any, **__: Any) -> Answer:
    return call.recorder.normalise(x, (), _present(weight, bias), **call.named(weight))


@rule("instance_norm")
def _instance_norm(call: Call, x: Array, weight: Array | None, bias: Array | None, *_: Any, **__: Any) -> Answer:
    return call.recorder.normalise(x, range(2, len(x.shape)), _present(weight, bias), **call.named(weight))


@rule("group_norm")
def _group_norm(
    call: Call, x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, *_: Any, **__: Any
) -> Answer:
    return call.recorder.normalise(x, range(1, len(x.shape)), _present(weight, bias), **call.named(weight))


@rule("native_group_norm")
def _native_group_norm(call: Call, x: Array, weight: Array | None, bias: Array | None, *_: Any) -> Answer:
    return call.recorder.normalise(x, range(1, len(x.shape)), _present(weight, bias), **call.named(weight))


@rule("layer_norm", "rms_norm", "native_layer_norm", "_fused_rms_norm")
def _layer_norm(
    call: Call, x: Array, normalized_shape: Sequence[int], weight: Array | None = None, bias: Array | None = None,
    *_: Any, **__: Any,
) -> Answer:  # fmt: skip
    weights = _present(weight, bias if isinstance(bias, Array) else None)
    return call.recorder.normalise(x, _last(x, len(normalized_shape)), weights, **call.named(weight))


@rule(
    "softmax", "log_softmax", "_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "logcumsumexp",
    "argsort", "renorm",
)  # fmt: skip
def _softmax(call: Call, x: Array, dim: Any = -1, *_: Any, **__: Any) -> Answer:
    if not isinstance(dim, int) or not x.shape:
        return None
    return call.recorder.softmax(x, dim % len(x.shape), **call.named())


# Sums and extremes.


@rule("mean", "amax", "max", "nanmean")
def _pool(call: Call, x: Array, dim: Any = None, *_: Any, **__: Any) -> Answer:
    if isinstance(dim, Array):
        return call.recorder.elementwise([x, dim], **call.named())
    return _reduced(call, x, dim, pool=True)


@rule(
    "sum", "prod", "amin", "min", "var", "std", "var_mean", "std_mean", "logsumexp", "any", "all", "argmax", "argmin",
    "median", "nanmedian", "nansum", "count_nonzero", "mode", "aminmax", "dist",
)  # fmt: skip
def _sum(call: Call, x: Array, dim: Any = None, *_: Any, **__: Any) -> Answer:
    if isinstance(dim, Array):
        return call.recorder.elementwise([x, dim], **call.named())
    return _reduced(call, x, dim)


@rule("norm", "linalg_vector_norm")
def _norm(call: Call, x: Array, ord: Any = 2, dim: Any = None, *_: Any, **__: Any) -> Answer:  # noqa: A002
    return _reduced(call, x, dim)


def _reduced(call: Call, x: Array, dim: Any, pool: bool = False) -> Sequence[Array]:
    over = _dims(x, None if isinstance(dim, bool) else dim)
    keep = len(call.shape) == len(x.shape)
    made = call.recorder.reduce(x, over, keep=keep, pool=pool, **call.named())
    return [made] * len(call.shapes)


# Matrix products.


@rule("linear")
def _linear_layer(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Answer:
    x = _units(call, x, weight)
    last = len(x.shape) - 1
    made = call.recorder.product(
        x, weight, ((last,), (len(weight.shape) - 1,)), bias=bias, **call.named(weight if weight.weights else bias)
    )
    return made if bias is None or bias.is_constant else _plus(call, made, bias)


def _plus(call: Call, x: Array, y: Array) -> Array:
    return call.recorder.elementwise([x, y], Kind.ADD, name=f"{call.name}.add", module=call.module)


@rule("addmm", "addmv", "baddbmm", "addbmm")
def _add_product(call: Call, bias: Array, x: Array, y: Array, *, beta: float = 1, alpha: float = 1) -> Answer:
    if call.operation == "addbmm":
        return None
    made = _times(call, x, y, bias if bias.is_constant else None)
    return made if bias.is_constant else _plus(call, made, bias)


@rule("mm", "bmm", "matmul", "mv", "dot", "vdot", "inner")
def _product(call: Call, x: Array, y: Array) -> Answer:
    if call.operation == "inner":
        return None
    return _times(call, x, y)


def _times(call: Call, x: Array, y: Array, bias: Array | None = None) -> Array:
    """`x @ y`, as NumPy and PyTorch define it for any number of axes."""
    weight = next((each for each in (y, x) if each.is_constant and each.weights), bias)
    named = call.named(weight)
    rows, columns = len(x.shape), len(y.shape)
    contracted = ((rows - 1,), (max(0, columns - 2),))
    if min(rows, columns) < 2 or columns == 2:
        if columns > 2:  # a vector from the left: its place among the results is the last but one, which is gone
            contracted = ((0,), (columns - 2,))
        return call.recorder.product(x, y, contracted, bias=bias, **named)
    if rows < columns:
        x = call.recorder.reshape(x, (1,) * (columns - rows) + x.shape, **named)
    elif columns < rows:
        y = call.recorder.reshape(y, (1,) * (rows - columns) + y.shape, **named)
    together = tuple(range(len(x.shape) - 2))
    contracted = ((len(x.shape) - 1,), (len(x.shape) - 2,))
    return call.recorder.product(x, y, contracted, (together, together), bias=bias, **named)


@rule("bilinear")
def _bilinear(call: Call, x: Array, y: Array, weight: Array, bias: Array | None = None) -> Answer:
    """A layer on all products of two vectors."""
    one = call.recorder.reshape(x, (*x.shape, 1))
    other = call.recorder.reshape(y, (*y.shape[:-1], 1, y.shape[-1]))
    pairs = call.recorder.elementwise([one, other], Kind.MULTIPLY, name=f"{call.name}.mul", module=call.module)
    last = len(pairs.shape) - 1
    return call.recorder.product(pairs, weight, ((last - 1, last), (1, 2)), bias=bias, **call.named(weight))


@rule("_grouped_mm", "grouped_mm")
def _grouped_product(call: Call, x: Array, weight: Array, *_: Any, **__: Any) -> Answer:
    """Each row of x times one of several matrices, as experts have them."""
    if len(x.shape) != 2 or len(weight.shape) != 3:
        return None
    one = replace(weight, shape=weight.shape[1:], axes=weight.axes[1:])
    return call.recorder.product(x, one, ((1,), (0,)), **call.named(weight))


@rule("scaled_dot_product_attention")
def _attention(
    call: Call, query: Array, key: Array, value: Array, attn_mask: Array | None = None, *_: Any, **__: Any
) -> Answer:
    return call.recorder.attention(query, key, value, bias=attn_mask, **call.named())


@rule(
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_cudnn_attention",
)  # fmt: skip
def _fused_attention(call: Call, query: Array, key: Array, value: Array, *_: Any, **__: Any) -> Answer:
    return call.recorder.attention(query, key, value, **call.named())


# Layers with tables and with memory.


@rule("embedding")
def _embedding(call: Call, weight: Array, indices: Array, *_: Any, **__: Any) -> Answer:
    if not weight.is_constant:
        return _shuffled(call, weight, (0,), [] if indices.is_constant else [indices])
    return call.recorder.embedding(indices, weight, **call.named(weight))


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(call: Call, weight: Array, indices: Array, *_: Any, **__: Any) -> Answer:
    return call.recorder.embedding_bag(indices, weight, call.shape, **call.named(weight))


def _recurrent(call: Call, x: Array, state: Sequence[Array], params: Sequence[Array], batch_first: bool) -> Answer:
    if not any(each.weights for each in params):
        return None
    time = 1 if batch_first and len(x.shape) == 3 else 0
    steps = x.shape[time] * (x.shape[1 - time] if len(x.shape) == 3 else 1)
    macs = steps * sum(math.prod(each.shape) for each in params if len(each.shape) == 2)
    name = call.named()
    made = call.recorder.recurrent(x, time, call.shape, macs, params, **name)
    units = [each for each in state if not each.is_constant]
    made = call.recorder.gather([made, *units], call.shape, name=call.name, module=call.module) if units else made
    rest = [Array(shape, tuple(ax.lost(n) for n in shape), made.id) for shape in call.shapes[1:]]
    return [made, *rest]


@rule("lstm")
def _lstm(
    call: Call, x: Array, hx: Sequence[Array], params: Any, has_biases: Any, num_layers: int = 1, dropout: float = 0,
    train: bool = False, bidirectional: bool = False, batch_first: bool = False,
) -> Answer:  # fmt: skip
    if isinstance(hx, Array):  # packed sequences
        return None
    return _recurrent(call, x, hx, params, batch_first)


@rule("gru", "rnn_tanh", "rnn_relu")
def _gru(
    call: Call, x: Array, hx: Array, params: Any, has_biases: Any, num_layers: int = 1, dropout: float = 0,
    train: bool = False, bidirectional: bool = False, batch_first: bool = False,
) -> Answer:  # fmt: skip
    if isinstance(params, Array):  # packed sequences
        return None
    return _recurrent(call, x, [hx], params, batch_first)


# One value at a time.


@rule("glu")
def _glu(call: Call, x: Array, dim: int = -1) -> Answer:
    (axis,) = _dims(x, dim)
    half = x.shape[axis] // 2
    parts = [call.recorder.slice(x, axis, start, start + half, **call.named()) for start in (0, half)]
    return call.recorder.elementwise(parts, Kind.ACTIVATION, **call.named())


@rule("prelu", "_prelu_kernel")
def _prelu(call: Call, x: Array, weight: Array) -> Answer:
    return call.recorder.elementwise([x], Kind.ACTIVATION, weights=[weight], **call.named(weight))


@rule("bucketize", "searchsorted")
def _bucketize(call: Call, *arrays: Any, **__: Any) -> Answer:
    return call.recorder.elementwise([each for each in arrays if isinstance(each, Array)], **call.named())


_KINDS = {
    "add": Kind.ADD,
    "sub": Kind.ADD,
    "rsub": Kind.ADD,
    "mul": Kind.MULTIPLY,
    "div": Kind.MULTIPLY,
    "true_divide": Kind.MULTIPLY,
}

ELEMENTWISE = frozenset(
    {
        "hardswish", "hardsigmoid", "rrelu", "rrelu_with_noise", "log_sigmoid", "log_sigmoid_forward", "softplus",
        "leaky_relu", "elu", "celu", "selu", "softshrink", "hardshrink", "hardtanh", "relu6", "mish", "threshold",
        "clamp", "where", "masked_fill", "isnan", "isinf", "isfinite", "cross", "tril", "triu", "isin",
        "fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine", "linalg_cross", "lerp", "float_power",
        "floor_divide",
    }
)  # fmt: skip
"""Operations on one value at a time that PyTorch does not mark as such."""


def elementwise(call: Call, *arguments: Any, **named: Any) -> Answer:
    """The rule of every operation that works on the values in one place."""
    parts = [each for each in (*arguments, *named.values()) if isinstance(each, Array)]
    kind = _KINDS.get(call.operation, Kind.ACTIVATION)
    weight = next((each for each in parts if each.is_constant and each.weights), None)
    return call.recorder.elementwise(parts, kind, name=call.name, module=call.module) if weight or parts else None

"""The rules of PyTorch's operations that move values: views, slices, padding, indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from thalweg.network.graph import Border
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.torch_rules import (
    Answer,
    Call,
    dims_of,
    rule,
    shuffled,
)


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
    "alpha_dropout", "feature_alpha_dropout", "conj", "resolve_conj", "resolve_neg", "positive",
    "view_as_complex_copy", "_conj",
)  # fmt: skip
def _same(_: Call, x: Array, *__: Any, **___: Any) -> Answer:
    return x


@rule("nan_to_num")
def _finite(call: Call, x: Array, *_: Any, **__: Any) -> Answer:
    return call.recorder.finite(x, **call.named())


@rule("copy")
def _copy(call: Call, _: Array, source: Array, non_blocking: bool = False) -> Answer:
    return call.recorder.expand(source, call.shape)


@rule("zero", "fill")
def _fill(call: Call, x: Array, value: Any = 0) -> Answer:
    return call.recorder.expand(value if isinstance(value, Array) else call.recorder.constant(()), call.shape)


@rule("permute")
def _permute(call: Call, x: Array, dims: Sequence[int]) -> Answer:
    return call.recorder.permute(x, dims_of(x, dims))


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
    (axis,) = dims_of(x, dim)
    first, stop, step = slice(start, end, step).indices(x.shape[axis])
    if first >= stop:  # nothing is left, as where a length divides evenly and the rest is taken
        return call.recorder.constant(call.shape)
    return call.recorder.slice(x, axis, first, stop, step, **call.named())


@rule("narrow")
def _narrow(call: Call, x: Array, dim: int, start: int, length: int) -> Answer:
    (axis,) = dims_of(x, dim)
    start %= x.shape[axis] + 1
    return call.recorder.slice(x, axis, start, start + length, **call.named())


@rule("select")
def _select(call: Call, x: Array, dim: int, index: int) -> Answer:
    return _one(call, x, dim, index)


def _one(call: Call, x: Array, dim: int, index: int) -> Array:
    (axis,) = dims_of(x, dim)
    index %= x.shape[axis]
    one = call.recorder.slice(x, axis, index, index + 1, **call.named())
    return call.recorder.reshape(one, call.shape, **call.named())


@rule("unbind")
def _unbind(call: Call, x: Array, dim: int = 0) -> Answer:
    return [_one(call, x, dim, index) for index in range(x.shape[dims_of(x, dim)[0]])]


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk")
def _split(call: Call, x: Array, _: Any, dim: int = 0) -> Answer:
    (axis,) = dims_of(x, dim)
    pieces, start = [], 0
    for shape in call.shapes:
        pieces.append(call.recorder.slice(x, axis, start, start + shape[axis], **call.named()))
        start += shape[axis]
    return pieces


@rule("cat", "concat", "concatenate")
def _concatenate(call: Call, tensors: Sequence[Array], dim: int = 0) -> Answer:
    parts = [each for each in tensors if 0 not in each.shape]
    if not parts:
        return call.recorder.constant(call.shape)
    return call.recorder.concatenate(parts, dims_of(parts[0], dim)[0], **call.named())


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
    for axis, shift in zip(dims_of(x, dims), moves, strict=True):
        x = call.recorder.roll(x, axis, shift, **call.named())
    return x


@rule("flip")
def _flip(call: Call, x: Array, dims: Sequence[int]) -> Answer:
    return _backwards(call, x, dims_of(x, dims))


def _backwards(call: Call, x: Array, axes: Sequence[int]) -> Array:
    for axis in axes:
        x = call.recorder.take(x, axis, range(x.shape[axis])[::-1], **call.named())
    return x


@rule("rot90")
def _turned(call: Call, x: Array, k: int = 1, dims: Sequence[int] = (0, 1)) -> Answer:
    """By quarters of a circle: two axes change places for every odd number of them."""
    one, other = dims_of(x, dims)
    flipped: Sequence[int] = ((), (other,), (one, other), (one,))[k % 4]
    order = list(range(len(x.shape)))
    if k % 2:
        order[one], order[other] = other, one
    return call.recorder.permute(_backwards(call, x, flipped), order)


@rule("sort", "msort")
def _sort(call: Call, x: Array, dims: Any = -1, *_: Any, **__: Any) -> Answer:
    return [shuffled(call, x, dims_of(x, dims))] * len(call.shapes)


@rule("topk", "kthvalue")
def _topk(call: Call, x: Array, k: int, dim: int = -1, *_: Any, **__: Any) -> Answer:
    return [shuffled(call, x, dims_of(x, dim))] * len(call.shapes)


@rule("nonzero", "argwhere")
def _nonzero(call: Call, x: Array) -> Answer:
    return call.recorder.gather([x], call.shape, **call.named())


@rule("index", "_unsafe_index")
def _index(call: Call, x: Array, indices: Sequence[Array | None]) -> Answer:
    units = [each for each in indices if each is not None and not each.is_constant]
    if x.is_constant and x.weights and len(units) == len(indices) == 1:
        return call.recorder.embedding(units[0], x, **call.named(x))
    axes = [axis for axis, each in enumerate(indices) if each is not None]
    if len(axes) == 1:
        (index,) = [each for each in indices if each is not None]
        return _taken(call, x, axes[0], index)
    return shuffled(call, x, axes, units)


def _taken(call: Call, x: Array, axis: int, index: Array) -> Array:
    """Places of one axis, known or not."""
    places = call.places(index) if index.is_constant and len(index.shape) == 1 else None
    if places:
        order = [place % x.shape[axis] for place in places]
        return call.recorder.take(x, axis, order, **call.named())
    return shuffled(call, x, (axis,), [] if index.is_constant else [index])


@rule("take_along_dim")
def _take_along(call: Call, x: Array, index: Array, dim: int | None = None) -> Answer:
    axes = range(len(x.shape)) if dim is None else dims_of(x, dim)
    return shuffled(call, x, axes, [] if index.is_constant else [index])


@rule("index_select", "gather")
def _index_select(call: Call, x: Array, dim: int, index: Array, *_: Any, **__: Any) -> Answer:
    if call.operation == "index_select" and x.is_constant and x.weights and dim == 0 and not index.is_constant:
        return call.recorder.embedding(index, x, **call.named(x))
    if call.operation == "index_select":
        return _taken(call, x, dims_of(x, dim)[0], index)
    return shuffled(call, x, dims_of(x, dim), [] if index.is_constant else [index])


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
    if 0 in call.shape:
        return call.recorder.constant(call.shape)
    own = (1,) * (len(call.shape) - len(x.shape)) + x.shape
    x = call.recorder.reshape(x, own, **call.named())
    x = call.recorder.expand(x, [many if one == 1 else one for one, many in zip(own, call.shape, strict=True)])
    for axis, (one, many) in enumerate(zip(x.shape, call.shape, strict=True)):
        if one != many:
            x = call.recorder.repeat(x, axis, many // one, **call.named())
    return x


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
    return shuffled(call, x, (1,))


@rule("view_as_complex")
def _view_as_complex(call: Call, x: Array) -> Answer:
    return call.recorder.reshape(call.recorder.slice(x, len(x.shape) - 1, 0, 1), call.shape, **call.named())


@rule("view_as_real", "one_hot")
def _one_more_axis(call: Call, x: Array, *_: Any, **__: Any) -> Answer:
    return replace(x, shape=call.shape, axes=(*x.axes, ax.features(call.shape[-1])))

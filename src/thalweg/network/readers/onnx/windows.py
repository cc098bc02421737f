"""Operations with a window: convolutions and pooling layers, and maps made larger or smaller."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from thalweg.network.graph import Kind, written
from thalweg.network.readers.arrays import Array, Slide
from thalweg.network.readers.onnx.operations import MICROSOFT, Call, UnfollowedError, handles
from thalweg.network.readers.onnx.resizing import Resizing
from thalweg.network.readers.onnx.values import Value

Extents = tuple[int, ...]


@handles("Conv", "ConvInteger")
def _convolution(call: Call) -> Value:
    bias = 2 if call.node.operator == "Conv" else None
    return Value(convolved(call, call.array(0), 1, bias))


@handles("QLinearConv")
@handles("QLinearConv", domain=MICROSOFT)
def _quantised_convolution(call: Call) -> Value:
    if call.node.integer("channels_last", 0):
        raise UnfollowedError
    return Value(convolved(call, call.array(0), 3, 8))


@handles("FusedConv", domain=MICROSOFT)
def _convolution_with_activation(call: Call) -> Value:
    made = convolved(call, call.array(0), 1, 2)
    if call.has(3):
        made = call.recorder.elementwise([made, call.array(3)], Kind.ADD, call.name, call.module)
    return Value(made)


def convolved(call: Call, x: Array, weight: int, bias: int | None) -> Array:
    """A convolution of x, whose weights and bias are the inputs of these numbers."""
    kernel = call.weight(weight)
    if kernel is None:
        call.fail("has no weights")
    groups = call.node.integer("group", 1)
    _check_kernel(call, x, kernel)
    channels = kernel.shape[0]
    if groups < 1:
        call.fail(f"has {groups} groups")
    fits = x.shape[1] % groups == 0 == channels % groups
    if fits and x.shape[1] != kernel.shape[1] * groups:
        call.fail(f"has weights for {kernel.shape[1] * groups} input channels, but its input has {x.shape[1]}")
    slide = _slide(call, x.shape[2:], kernel.shape[2:])
    return _slid(call, Kind.CONVOLUTION, x, slide, channels, groups, _with_bias(call, kernel, bias, channels))


@handles("ConvTranspose")
def _transposed_convolution(call: Call) -> Value:
    x, kernel = call.array(0), call.weight(1)
    if kernel is None:
        call.fail("has no weights")
    _check_kernel(call, x, kernel)
    groups = call.node.integer("group", 1)
    if groups < 1:
        call.fail(f"has {groups} groups")
    channels = kernel.shape[1] * groups
    if x.shape[1] != kernel.shape[0]:
        call.fail(f"has weights for {kernel.shape[0]} input channels, but its input has {x.shape[1]}")
    weights = _with_bias(call, kernel, 2, channels)
    return Value(_slid(call, Kind.CONVOLUTION, x, _transposed_slide(call, x, kernel), channels, groups, weights))


@handles("MaxPool", "AveragePool", "LpPool")
@handles("NhwcMaxPool", "QLinearAveragePool", domain=MICROSOFT)
def _pool(call: Call) -> Sequence[Value]:
    kind = Kind.MAX_POOL if "Max" in call.node.operator else Kind.AVERAGE_POOL
    x = call.array(0)
    last = call.node.operator == "NhwcMaxPool" or call.node.integer("channels_last", 0) == 1
    if len(x.shape) < 3:
        call.fail(f"slides over positions, but its input {written(x.shape)} has none")
    if last:
        x = call.recorder.permute(x, (0, len(x.shape) - 1, *range(1, len(x.shape) - 1)))
    kernel = call.node.integers("kernel_shape")
    if kernel is None:
        call.fail("has no window")
    slide = _slide(call, x.shape[2:], kernel)
    made = _slid(call, kind, x, slide)
    if last:
        made = call.recorder.permute(made, (0, *range(2, len(x.shape)), 1))
    return [Value(made), Value(made)]  # the second, where it is asked for, says where each maximum was


@handles("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
@handles("QLinearGlobalAveragePool", domain=MICROSOFT)
def _global_pool(call: Call) -> Value:
    x = call.array(0)
    if len(x.shape) < 3:
        call.fail(f"pools over positions, but its input {written(x.shape)} has none")
    first = 1 if call.node.integer("channels_last", 0) else 2
    over = tuple(range(first, first + len(x.shape) - 2))
    kind = Kind.MAX_POOL if "Max" in call.node.operator else Kind.AVERAGE_POOL
    return Value(call.recorder.pool_to(kind, x, over, (1,) * len(over), call.name, call.module))


def _check_kernel(call: Call, x: Array, kernel: Array) -> None:
    if len(x.shape) < 3 or len(kernel.shape) != len(x.shape):
        call.fail(f"has weights {written(kernel.shape)}, which do not go with its input {written(x.shape)}")
    given = call.node.integers("kernel_shape")
    if given is not None and given != kernel.shape[2:]:
        call.fail(f"says that its kernel is {written(given)}, but its weights are {written(kernel.shape)}")


def _with_bias(call: Call, kernel: Array, bias: int | None, channels: int) -> list[Array]:
    added = None if bias is None else call.weight(bias)
    if added is not None and added.shape != (channels,):
        call.fail(f"has a bias {written(added.shape)} for {channels} channels")
    return [kernel] if added is None else [kernel, added]


def _slid(
    call: Call,
    kind: Kind,
    x: Array,
    slide: Slide,
    channels: int | None = None,
    groups: int = 1,
    weights: Sequence[Array] = (),
) -> Array:
    if 0 in x.shape:
        call.fail(f"is given {written(x.shape)}, which holds nothing")
    return call.recorder.slide(
        kind, x, tuple(range(2, len(x.shape))), slide,
        channels=channels, groups=groups, weights=weights, name=call.name, module=call.module,
    )  # fmt: skip


def _per_axis(call: Call, attribute: str, axes: int, default: int) -> Extents:
    """Numbers of a window, at least 1 each."""
    values = call.node.integers(attribute) or (default,) * axes
    if len(values) != axes or min(values, default=1) < 1:
        call.fail(f"has {attribute} {list(values)[:8]} over {axes} axes")
    return values


def _slide(call: Call, extents: Extents, kernel: Extents) -> Slide:
    """The window of a convolution or a pooling layer, with its padding in numbers."""
    axes = len(extents)
    if len(kernel) != axes or min(kernel, default=1) < 1:
        call.fail(f"has a window of {written(kernel)} over {axes} axes")
    stride, dilation = _per_axis(call, "strides", axes, 1), _per_axis(call, "dilations", axes, 1)
    automatic = call.node.text("auto_pad", "NOTSET")
    ceil = call.node.integer("ceil_mode", 0) == 1 and automatic == "NOTSET"
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        sides = [
            _split(max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n), automatic)
            for n, k, s, d in zip(extents, kernel, stride, dilation, strict=True)
        ]
        low, high = tuple(before for before, _ in sides), tuple(after for _, after in sides)
    else:
        low, high = _pads(call, axes, automatic)
    return Slide(kernel, stride, dilation, low, high, ceil=ceil)


def _pads(call: Call, axes: int, automatic: str) -> tuple[Extents, Extents]:
    pads = call.node.integers("pads") or (0,) * (2 * axes)
    if automatic == "VALID":
        pads = (0,) * (2 * axes)
    elif automatic != "NOTSET":
        call.fail(f"has the padding {automatic[:40]!r}, which is not known")
    if len(pads) != 2 * axes or min(pads, default=0) < 0:
        call.fail(f"has pads {list(pads)[:8]} over {axes} axes")
    return pads[:axes], pads[axes:]


def _split(total: int, automatic: str) -> tuple[int, int]:
    """Padding of both sides; what is left over goes after the last position with SAME_UPPER, else before the first."""
    half = total // 2
    return (half, total - half) if automatic == "SAME_UPPER" else (total - half, half)


def _transposed_slide(call: Call, x: Array, kernel: Array) -> Slide:
    extents, taps = x.shape[2:], kernel.shape[2:]
    axes = len(extents)
    if min(taps, default=1) < 1:
        call.fail(f"has a window of {written(taps)}")
    stride, dilation = _per_axis(call, "strides", axes, 1), _per_axis(call, "dilations", axes, 1)
    more = call.node.integers("output_padding") or (0,) * axes
    if len(more) != axes or min(more, default=0) < 0:
        call.fail(f"has output_padding {list(more)[:8]} over {axes} axes")
    automatic, wanted = call.node.text("auto_pad", "NOTSET"), call.node.integers("output_shape")
    if wanted is None and automatic in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(n * s for n, s in zip(extents, stride, strict=True))
    if wanted is None:
        low, high = _pads(call, axes, automatic)
        return Slide(taps, stride, dilation, low, high, transposed=True, output_padding=more)
    if len(wanted) != axes:
        call.fail(f"asks for the extents {list(wanted)[:8]} over {axes} axes")
    sides, added = [], []
    for n, k, s, d, extra, extent in zip(extents, taps, stride, dilation, more, wanted, strict=True):
        total = s * (n - 1) + extra + (k - 1) * d + 1 - extent
        sides.append(_split(max(0, total), automatic))
        added.append(extra + max(0, -total))
    low, high = tuple(before for before, _ in sides), tuple(after for _, after in sides)
    return Slide(taps, stride, dilation, low, high, transposed=True, output_padding=tuple(added))


# Blocks of positions and channels.


@handles("DepthToSpace")
def _depth_to_space(call: Call) -> Value:
    x, block = _blocks(call)
    batch, channels, *extents = x.shape
    if channels % block**2:
        call.fail(f"has {channels} channels, which do not make blocks of {block} x {block}")
    deep = channels // block**2
    depth_first = call.node.text("mode", "DCR") == "DCR"
    split = (batch, block, block, deep, *extents) if depth_first else (batch, deep, block, block, *extents)
    order = (0, 3, 4, 1, 5, 2) if depth_first else (0, 1, 4, 2, 5, 3)
    spread = call.recorder.permute(call.recorder.reshape(x, split, call.name, call.module), order)
    shape = (batch, deep, extents[0] * block, extents[1] * block)
    return Value(call.recorder.reshape(spread, shape, call.name, call.module))


@handles("SpaceToDepth")
def _space_to_depth(call: Call) -> Value:
    x, block = _blocks(call)
    batch, channels, height, width = x.shape
    if height % block or width % block:
        call.fail(f"cannot cut {height} x {width} positions into blocks of {block} x {block}")
    split = (batch, channels, height // block, block, width // block, block)
    spread = call.recorder.permute(call.recorder.reshape(x, split, call.name, call.module), (0, 3, 5, 1, 2, 4))
    shape = (batch, channels * block**2, height // block, width // block)
    return Value(call.recorder.reshape(spread, shape, call.name, call.module))


def _blocks(call: Call) -> tuple[Array, int]:
    x, block = call.array(0), call.node.integer("blocksize", 0)
    if len(x.shape) != 4 or block < 1 or 0 in x.shape:
        call.fail(f"needs a map of height and width and a blocksize, not {written(x.shape)} and {block}")
    return x, block


@handles("Resize", "Upsample")
def _resize(call: Call) -> Value:
    x = call.array(0)
    resizing = Resizing(call, x.shape)
    changed = [axis for axis, extent in enumerate(resizing.extents) if extent != x.shape[axis]]
    channel = next((axis for axis in (1, *range(len(x.shape))) if axis not in changed and axis < len(x.shape)), None)
    if not changed or x.is_constant or channel is None:
        made = x if not changed else call.recorder.gather([x], resizing.extents, None, call.name, call.module)
        return Value(made)
    slides = {axis: resizing.slide(axis) for axis in changed}
    others = {axis: resizing.resampling(axis) for axis, slide in slides.items() if slide is None}
    lost = [axis for axis, how in others.items() if how is None]
    if lost:
        return Value(call.recorder.gather([x], resizing.extents, lost, call.name, call.module))
    for transposed in (True, False):
        now = {axis: slide for axis, slide in slides.items() if slide is not None and slide.transposed == transposed}
        if now:
            x = call.recorder.slide(
                Kind.UPSAMPLE, x, tuple(now), _side_by_side(list(now.values())),
                channel=channel, name=call.name, module=call.module,
            )  # fmt: skip
    known = {axis: how for axis, how in others.items() if how is not None}
    if known:
        extents = [resizing.extents[axis] for axis in known]
        x = call.recorder.resample(
            Kind.UPSAMPLE, x, tuple(known), list(known.values()), extents, call.name, call.module
        )
    return Value(x)


def _side_by_side(slides: Sequence[Slide]) -> Slide:
    """Windows over one axis each as one over all of them."""

    def over(name: str) -> Extents:
        return tuple(getattr(slide, name)[0] for slide in slides)

    together = Slide(over("kernel"), over("stride"), over("dilation"), over("low"), over("high"))
    return replace(together, transposed=slides[0].transposed)


# Values taken from positions that the data choose.


@handles("GridSample")
def _sampled(call: Call) -> Value:
    x, grid = call.array(0), call.array(1)
    if len(x.shape) < 3 or len(grid.shape) != len(x.shape):
        call.fail(f"cannot take {written(grid.shape)} places from {written(x.shape)}")
    shape = (*x.shape[:2], *grid.shape[1:-1])
    return Value(call.recorder.gather([x, grid], shape, None, call.name, call.module))


@handles("RoiAlign")
def _regions(call: Call) -> Value:
    x, regions = call.array(0), call.array(1)
    sides = (call.node.integer("output_height", 1), call.node.integer("output_width", 1))
    if len(x.shape) != 4 or not regions.shape or min(sides) < 1:
        call.fail(f"cannot take regions {written(regions.shape)} from {written(x.shape)}")
    shape = (regions.shape[0], x.shape[1], *sides)
    return Value(call.recorder.gather([x, regions], shape, None, call.name, call.module))


@handles("Col2Im")
def _columns(call: Call) -> Value:
    x, extents, block = call.array(0), call.integers(1), call.integers(2)
    if len(x.shape) != 3 or min((*block, *extents), default=0) < 1 or x.shape[1] % math.prod(block):
        call.fail(f"cannot put {written(x.shape)} together in blocks of {written(block)}")
    shape = (x.shape[0], x.shape[1] // math.prod(block), *extents)
    return Value(call.recorder.gather([x], shape, None, call.name, call.module))

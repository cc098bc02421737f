"""The operations of JAX, by the names of their primitives: what each of them does to arrays of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from thalweg.network.graph import Kind, Resampling
from thalweg.network.intervals import MAX_PERIOD
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array, Slide
from thalweg.network.readers.jax_numbers import computed, left_in
from thalweg.network.readers.jax_values import PLAIN, POINTWISE, Fixed, Pointwise, Value
from thalweg.network.readers.masks import left_along
from thalweg.network.readers.resampling import within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thalweg.network.readers.jaxpr import Walk

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One equation.

    Args:
        function: the name of its primitive.
        parameters: those of the primitive.
        inputs: its arguments.
        shapes: of its results.
        traced: whether it computes with real numbers, not with indices or truth values.
        scope: the names around it.
    """

    function: str
    parameters: Mapping[str, Any]
    inputs: tuple[Value, ...]
    shapes: tuple[Shape, ...]
    traced: bool
    scope: str

    @property
    def shape(self) -> Shape:
        """Of its first result."""
        return self.shapes[0]


_SAME = frozenset({"optimization_barrier", "sharding_constraint", "device_put", "mesh_cast", "reshard"})
_POOLED = frozenset({"reduce_sum", "reduce_max", "reduce_min"})
_REDUCED = frozenset({"reduce_prod", "reduce_and", "reduce_or", "reduce_xor", "argmax", "argmin"})
_ALONG = frozenset({"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"})


def pointwise(walk: Walk, step: Step) -> Sequence[Value]:
    """A function of each value."""
    return [walk.ledger.pointwise(step.function, step.inputs, step.shape, step.scope, step.traced)]


def same(walk: Walk, step: Step) -> Sequence[Value]:
    """What goes in comes out."""
    return step.inputs


# What moves values.


def _reshape(walk: Walk, step: Step) -> Sequence[Value]:
    order = step.parameters["dimensions"] if step.function == "reshape" else None

    def move(x: Array) -> Array:
        x = x if order is None else walk.recorder.permute(x, order)
        return walk.recorder.reshape(x, step.shape, *_called(walk, step, "reshape"))

    return [walk.ledger.moved(step.inputs[0], move)]


def _transpose(walk: Walk, step: Step) -> Sequence[Value]:
    order = step.parameters["permutation"]
    return [walk.ledger.moved(step.inputs[0], lambda x: walk.recorder.permute(x, order))]


def _broadcast(walk: Walk, step: Step) -> Sequence[Value]:
    places = step.parameters["broadcast_dimensions"]

    def move(x: Array) -> Array:
        between = [1] * len(step.shape)
        for place, extent in zip(places, x.shape, strict=True):
            between[place] = extent
        return walk.recorder.expand(walk.recorder.reshape(x, between), step.shape)

    return [walk.ledger.moved(step.inputs[0], move)]


def _slice(walk: Walk, step: Step) -> Sequence[Value]:
    starts, stops = step.parameters["start_indices"], step.parameters["limit_indices"]
    strides = step.parameters["strides"] or (1,) * len(starts)
    return [_cut(walk, step, [(int(a), int(b), int(c)) for a, b, c in zip(starts, stops, strides, strict=True)])]


def _dynamic_slice(walk: Walk, step: Step) -> Sequence[Value]:
    x, starts = step.inputs[0], step.inputs[1:]
    known = [_whole_number(each) for each in starts]
    cuts, lost = [], []
    for axis, (start, extent, kept) in enumerate(zip(known, x.shape, step.shape, strict=True)):
        if start is None and kept < extent:
            lost.append(axis)
        first = min(max(start or 0, 0), extent - kept)
        cuts.append((first, first + kept, 1))
    if not lost:
        return [_cut(walk, step, cuts)]
    return [_gathered(walk, step, [x], lost)]


def _cut(walk: Walk, step: Step, cuts: Sequence[tuple[int, int, int]]) -> Value:
    if 0 in step.shape:  # as where an associative scan comes to its last halves
        return Fixed(walk.recorder.constant(step.shape))

    def move(x: Array) -> Array:
        for axis, (start, stop, stride) in enumerate(cuts):
            if (start, stop, stride) != (0, x.shape[axis], 1):
                x = walk.recorder.slice(x, axis, start, stop, stride, *_called(walk, step, "crop"))
        return x

    return Pointwise(move(walk.ledger.array(step.inputs[0])), step.scope)


def _split(walk: Walk, step: Step) -> Sequence[Value]:
    axis, start, parts = step.parameters["axis"], 0, []
    x = walk.ledger.array(step.inputs[0])
    for extent in step.parameters["sizes"]:
        stop = start + int(extent)
        cut = walk.recorder.slice(x, axis, start, stop, 1, *_called(walk, step, "split"))
        parts.append(Pointwise(cut, step.scope))
        start = stop
    return parts


def _concatenate(walk: Walk, step: Step) -> Sequence[Value]:
    axis = step.parameters["dimension"]
    units = [each for each in step.inputs if not isinstance(each, Fixed)]
    if len(units) == 1 and not step.traced:  # an index put together with numbers
        index = walk.ledger.array(units[0])
        features = (*index.axes[:axis], ax.features(step.shape[axis]), *index.axes[axis + 1 :])
        return [Pointwise(replace(index, shape=step.shape, axes=features), step.scope)]
    parts = [walk.ledger.array(each) for each in step.inputs]
    return [Pointwise(walk.recorder.concatenate(parts, axis, *_called(walk, step, "concat")), step.scope)]


def _stack(walk: Walk, step: Step) -> Sequence[Value]:
    axis = step.parameters["axis"]

    def widened(x: Array) -> Array:
        return walk.recorder.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    parts = [widened(walk.ledger.array(each)) for each in step.inputs]
    return [Pointwise(walk.recorder.concatenate(parts, axis, *_called(walk, step, "stack")), step.scope)]


def _unstack(walk: Walk, step: Step) -> Sequence[Value]:
    axis, x = step.parameters["axis"], walk.ledger.array(step.inputs[0])
    parts = [
        walk.recorder.slice(x, axis, place, place + 1, 1, *_called(walk, step, "unstack"))
        for place in range(x.shape[axis])
    ]
    return [Pointwise(walk.recorder.reshape(each, step.shape), step.scope) for each in parts]


def _tile(walk: Walk, step: Step) -> Sequence[Value]:
    """Copies one after the other along every axis."""
    x = walk.ledger.array(step.inputs[0])
    if math.prod(x.shape) == math.prod(step.shape):
        return [Pointwise(walk.recorder.reshape(x, step.shape), step.scope)]
    times = [1] * (len(step.shape) - len(x.shape)) + list(x.shape)
    spread = [extent for pair in zip(_ratios(step.shape, times), times, strict=True) for extent in pair]
    narrow = [extent for own in times for extent in (1, own)]
    made = walk.recorder.expand(walk.recorder.reshape(x, narrow), spread)
    return [Pointwise(walk.recorder.reshape(made, step.shape), step.scope)]


def _ratios(shape: Shape, of: Sequence[int]) -> list[int]:
    return [whole // part for whole, part in zip(shape, of, strict=True)]


def _pad(walk: Walk, step: Step) -> Sequence[Value]:
    x = walk.ledger.array(step.inputs[0])
    config = [(int(low), int(high), int(between)) for low, high, between in step.parameters["padding_config"]]
    spread = [axis for axis, (_, _, between) in enumerate(config) if between and x.shape[axis] > 1]
    if spread:
        kernel, stride = (1,) * len(spread), tuple(config[axis][2] + 1 for axis in spread)
        slide = Slide(kernel, stride, transposed=True)
        name, module = _called(walk, step, "dilate")
        channel = _channel(x, spread)
        x = walk.recorder.slide(Kind.UPSAMPLE, x, spread, slide, channel=channel, name=name, module=module)
    low, high = [each[0] for each in config], [each[1] for each in config]
    return [Pointwise(walk.recorder.pad(x, low, high, *_called(walk, step, "pad")), step.scope)]


def _reverse(walk: Walk, step: Step) -> Sequence[Value]:
    x = walk.ledger.array(step.inputs[0])
    for axis in step.parameters["dimensions"]:
        x = walk.recorder.take(x, axis, range(x.shape[axis])[::-1], *_called(walk, step, "flip"))
    return [Pointwise(x, step.scope)]


def _sort(walk: Walk, step: Step) -> Sequence[Value]:
    axis = step.parameters.get("dimension", step.parameters.get("axis", -1)) % len(step.shape)

    def sorted_along(x: Array) -> Array:
        return walk.recorder.along(x, axis, *_called(walk, step, step.function))

    return [
        each if isinstance(each, Fixed) else Pointwise(sorted_along(walk.ledger.array(each)), step.scope)
        for each, _ in zip(step.inputs * len(step.shapes), step.shapes, strict=False)
    ]


def _top(walk: Walk, step: Step) -> Sequence[Value]:
    axis = step.parameters.get("axis", len(step.shape) - 1) % len(step.shape)
    return [_gathered(walk, step, step.inputs, (axis,)) for _ in step.shapes]


def _running(walk: Walk, step: Step) -> Sequence[Value]:
    x, axis, reverse = walk.ledger.array(step.inputs[0]), step.parameters["axis"], step.parameters["reverse"]
    made = walk.recorder.accumulate(x, axis, bool(reverse), *_called(walk, step, step.function))
    return [Pointwise(made, step.scope)]


def _scattered(walk: Walk, step: Step) -> Sequence[Value]:
    parts = [step.inputs[0], step.inputs[-1] if step.function != "dynamic_update_slice" else step.inputs[1]]
    return [_gathered(walk, step, parts, None)]


def _gathered(walk: Walk, step: Step, parts: Sequence[Value], lost: Sequence[int] | None) -> Value:
    name, module = _called(walk, step, step.function)
    arrays = [walk.ledger.array(each) for each in parts]
    return Pointwise(walk.recorder.gather(arrays, step.shape, lost, name, module), step.scope)


def _gather(walk: Walk, step: Step) -> Sequence[Value]:
    """Rows of a table of weights, or values of one axis in a known order, or values from anywhere."""
    x, indices = step.inputs
    numbers = step.parameters["dimension_numbers"]
    sizes = tuple(step.parameters["slice_sizes"])
    cut = [axis for axis, (size, extent) in enumerate(zip(sizes, x.shape, strict=True)) if size != extent]
    if isinstance(x, Fixed) and not isinstance(indices, Fixed):
        if cut in ([0], []) and x.weights and not numbers.operand_batching_dims:
            ids = walk.ledger.array(indices)
            ids = replace(ids, shape=ids.shape[:-1], axes=ids.axes[:-1])
            name, module = walk.called(x.weights, step.scope, "embedding")
            rows = walk.recorder.embedding(ids, x.array, name, module)
            return [Pointwise(walk.recorder.reshape(rows, step.shape), step.scope)]
        return [_gathered(walk, step, [indices, x], None)]
    known = indices.numbers if isinstance(indices, Fixed) else None
    if known is not None and len(cut) == 1 and cut[0] in numbers.collapsed_slice_dims and known.ndim == 2:
        axis = cut[0]
        column = list(numbers.start_index_map).index(axis)
        where = [int(each) for each in known[:, column]]
        place = next(p for p in range(len(step.shape)) if p not in numbers.offset_dims)
        if "CLIP" in str(step.parameters["mode"]):
            where = [min(max(each, 0), x.shape[axis] - 1) for each in where]
        if place == axis and all(0 <= each < x.shape[axis] for each in where):
            return [_taken(walk, step, walk.ledger.array(x), axis, where)]
    units = [each for each in (x, indices) if not isinstance(each, Fixed)]
    return [_gathered(walk, step, units, None)]


def _taken(walk: Walk, step: Step, x: Array, axis: int, where: Sequence[int]) -> Value:
    """Values of one axis at known places: every so many, each several times, or in any order."""
    extent, count = x.shape[axis], len(where)
    stride = where[1] - where[0] if count > 1 else 1
    if stride > 0 and where == list(range(where[0], where[0] + count * stride, stride)):
        name = _called(walk, step, "crop")
        return Pointwise(walk.recorder.slice(x, axis, where[0], where[-1] + 1, stride, *name), step.scope)
    factor = count // extent
    if factor > 1 and where == [place // factor for place in range(extent * factor)]:
        return Pointwise(_upsampled(walk, step, x, axis, factor), step.scope)
    return Pointwise(walk.recorder.take(x, axis, where, *_called(walk, step, step.function)), step.scope)


def _upsampled(walk: Walk, step: Step, x: Array, axis: int, factor: int) -> Array:
    slide = Slide((factor,), (factor,), transposed=True)
    name, module = _called(walk, step, "upsample")
    return walk.recorder.slide(Kind.UPSAMPLE, x, (axis,), slide, channel=_channel(x, (axis,)), name=name, module=module)


# What computes.


def _convolution(walk: Walk, step: Step) -> Sequence[Value]:
    """A convolution in any layout; with gaps between the inputs it is a transposed one."""
    import numpy as np

    source, kernel = step.inputs
    parameters = step.parameters
    lhs, rhs, out = parameters["dimension_numbers"]
    if not isinstance(kernel, Fixed) or parameters["batch_group_count"] != 1:
        return walk.unknown(step, "convolution with computed weights" if parameters["batch_group_count"] == 1 else "")
    spread, stride, dilation = (whole(parameters[key]) for key in ("lhs_dilation", "window_strides", "rhs_dilation"))
    taps = tuple(kernel.shape[axis] for axis in rhs[2:])
    low, high = (whole(each[side] for each in parameters["padding"]) for side in (0, 1))
    transposed = any(each > 1 for each in spread) or "ConvTranspose" in step.scope
    if transposed and any(each > 1 for each in stride):
        return walk.unknown(step, "strided convolution of spread inputs")
    extra = (0,) * len(taps)
    if transposed:
        reach = [gap * (tap - 1) for gap, tap in zip(dilation, taps, strict=True)]
        low = tuple(far - before for far, before in zip(reach, low, strict=True))
        extra = tuple(max(0, after - far) for far, after in zip(reach, high, strict=True))
        high = tuple(max(0, far - after) for far, after in zip(reach, high, strict=True))
    slide = Slide(taps, spread if transposed else stride, dilation, low, high, transposed, extra if transposed else ())
    left = left_along(kernel.kept if kernel.numbers is None else kernel.numbers != 0, rhs[2:])
    name, module = walk.called(kernel.weights, step.scope, "conv")
    made = walk.recorder.slide(
        Kind.CONVOLUTION,
        walk.ledger.array(source),
        lhs[2:],
        slide,
        channel=lhs[1],
        channels=kernel.shape[rhs[0]],
        groups=parameters["feature_group_count"],
        weights=[kernel.array],
        left=left if left is None or not transposed else np.flip(left),
        name=name,
        module=module,
    )
    order = [lhs[out.index(axis)] for axis in range(len(out))]
    return [Pointwise(walk.recorder.permute(made, order), step.scope)]


def _pool(walk: Walk, step: Step) -> Sequence[Value]:
    """A window of sums or extremes; the division of an average leaves no trace."""
    parameters, whole = step.parameters, walk.ledger.array(step.inputs[0])
    if any(each > 1 for each in parameters["base_dilation"]):
        return walk.unknown(step)
    windows = list(
        zip(
            parameters["window_dimensions"], parameters["window_strides"], parameters["window_dilation"],
            *zip(*parameters["padding"], strict=True), strict=True,
        )
    )  # fmt: skip
    over = [axis for axis, window in enumerate(windows) if window != (1, 1, 1, 0, 0)]
    if not over:
        return step.inputs
    # A second axis of one example in front is none of the layer's.
    kept = [axis for axis, extent in enumerate(whole.shape) if axis in over or axis == 0 or extent > 1]
    if len(kept) == len(over) + 1:
        kept = list(range(len(whole.shape)))
    x = walk.recorder.reshape(whole, [whole.shape[axis] for axis in kept])
    order = list(range(len(kept)))
    if walk.channels_first and kept[-1] not in over:
        order.insert(1, order.pop())
    x = walk.recorder.permute(x, order)
    along = [order.index(kept.index(axis)) for axis in over]
    kernel, stride, dilation, low, high = (
        tuple([int(each) for each in sizes]) for sizes in zip(*(windows[axis] for axis in over), strict=True)
    )
    slide = Slide(kernel, stride, dilation, low, high)
    kind = Kind.AVERAGE_POOL if step.function == "reduce_window_sum" else Kind.MAX_POOL
    name, module = _called(walk, step, "avg_pool" if kind is Kind.AVERAGE_POOL else "max_pool")
    made = walk.recorder.slide(kind, x, along, slide, channel=_channel(x, along), name=name, module=module)
    made = walk.recorder.permute(made, [order.index(axis) for axis in range(len(order))])
    return [Pointwise(walk.recorder.reshape(made, step.shape), step.scope)]


def _reduce(walk: Walk, step: Step) -> Sequence[Value]:
    axes, pool = step.parameters["axes"], step.function in _POOLED
    return [walk.ledger.reduce(step.function, step.inputs[0], [int(each) for each in axes], pool, step.scope)]


def _product(walk: Walk, step: Step) -> Sequence[Value]:
    (contracted, batch), (x, y) = step.parameters["dimension_numbers"], step.inputs
    pairs = [tuple(int(a) for a in each) for each in (*contracted, *batch)]
    sides = [(x, pairs[0], pairs[2]), (y, pairs[1], pairs[3])]
    swapped = isinstance(x, Fixed)
    if swapped:  # units first, so that what comes out has its channels last
        sides.reverse()
    (first, over, along), (second, over_too, along_too) = sides
    weights = [weight for each in (x, y) if isinstance(each, Fixed) for weight in each.weights]
    made, units = None, walk.ledger.array(first)
    if isinstance(second, Fixed) and not weights and second.numbers is not None and len(over) == 1 and not along:
        made = _resized(walk, step, units, over[0], second.numbers, over_too[0])
    if made is None:
        name, module = walk.called(weights, step.scope, "linear" if weights else "matmul")
        made = walk.recorder.product(
            units, walk.ledger.array(second), (over, over_too), (along, along_too), name=name, module=module,
            hides=isinstance(second, Fixed) and second.kept is not None,
        )  # fmt: skip
    if swapped:
        ours = len(first.shape) - len(over) - len(along)
        theirs = range(len(along) + ours, len(made.shape))
        made = walk.recorder.permute(made, [*range(len(along)), *theirs, *range(len(along), len(along) + ours)])
    return [Pointwise(made, step.scope)]


def _resized(walk: Walk, step: Step, x: Array, axis: int, table: NDArray[Any], over: int) -> Array | None:
    """Positions along one axis mixed by a table of numbers, as an interpolation does; its axis comes last.

    None where nothing is interpolated: it mixes all positions, or channels.
    """
    import numpy as np

    if table.ndim != 2 or not ax.has_positions(x.axes[axis]):
        return None
    rest = [place for place in range(len(x.shape)) if place != axis]
    rows = np.moveaxis(table, over, -1)  # one row for each value that comes out
    slide = _interpolation(rows)
    order = [*rest, axis]
    if slide is not None:
        name, module = _called(walk, step, "resize")
        made = walk.recorder.slide(
            Kind.UPSAMPLE, x, (axis,), slide, channel=_channel(x, (axis,)), name=name, module=module
        )
        return walk.recorder.permute(made, order)
    how = _resampling(rows)
    if how is not None:
        name, module = _called(walk, step, "resize")
        made = walk.recorder.resample(Kind.UPSAMPLE, x, (axis,), [how], [len(rows)], name, module)
        return walk.recorder.permute(made, order)
    if rows.all():
        return None
    shape = (*(x.shape[place] for place in rest), len(rows))
    name, module = _called(walk, step, "matmul")
    moved = walk.recorder.permute(x, order)
    macs = math.prod(shape) * x.shape[axis]
    return walk.recorder.gather([moved], shape, (len(rest),), name, module, macs=macs)  # some positions, not followed


_ROUNDING = 1e-6
"""The share of the largest number in a row of a table that rounding leaves of what should be 0."""


def _resampling(rows: NDArray[Any]) -> Resampling | None:
    """The interpolation that has the non-zero numbers of a table, at its ends as well; None where none has."""
    import numpy as np

    made, extent = rows.shape
    found = [np.flatnonzero(np.abs(row) > _ROUNDING * np.abs(row).max(initial=0)) for row in rows]
    if made > MAX_PERIOD or any(len(each) == 0 for each in found):
        return None
    ratio = Fraction(extent, made)
    for reach in (1, 2, 3, 5):  # linear, cubic, Lanczos
        for width in (Fraction(reach), reach * max(Fraction(1), ratio)):
            how = within(ratio, width)
            ends = np.array([how.at(unit) for unit in range(made)]).clip(0, extent - 1)
            if all((each[0], each[-1]) == (lo, hi) for each, (lo, hi) in zip(found, ends, strict=True)):
                return how
    return None


def _interpolation(rows: NDArray[Any]) -> Slide | None:
    """The window that moves like the non-zero numbers of a table, away from its ends; None where none does."""
    import numpy as np

    made, extent = rows.shape
    found = [np.flatnonzero(row) for row in rows]
    if any(len(each) == 0 for each in found):
        return None
    lo, hi = np.array([each[0] for each in found]), np.array([each[-1] for each in found])
    if made % extent == 0 and made > extent:
        stride = made // extent
        # Input j reaches the outputs whose row holds it: j * stride - low + k, the same for all j far from the ends.
        middle = extent // 2
        reached = [place for place in range(made) if lo[place] <= middle <= hi[place]]
        low, kernel = middle * stride - reached[0], reached[-1] - reached[0] + 1
        high = (extent - 1) * stride + kernel - low - made
        slide, transposed = Slide((kernel,), (stride,), (1,), (low,), (high,), transposed=True), True
    elif extent % made == 0:
        stride = extent // made
        middle = made // 2
        kernel = int(hi[middle] - lo[middle]) + 1
        low = int(middle * stride - lo[middle])
        high = (made - 1) * stride + kernel - low - extent
        slide, transposed = Slide((kernel,), (stride,), (1,), (low,), (high,)), False
    else:
        return None
    for place in range(made):
        if transposed:
            seen = [j for j in range(extent) if 0 <= place - (j * stride - low) < kernel]
        else:
            seen = [j for j in range(place * stride - low, place * stride - low + kernel) if 0 <= j < extent]
        if not seen or (seen[0], seen[-1]) != (lo[place], hi[place]):
            return None
    return slide


def whole(numbers: Iterable[Any]) -> Shape:
    """As Python's integers; in a jaxpr some of them are NumPy's."""
    return tuple([int(each) for each in numbers])


def _called(walk: Walk, step: Step, what: str) -> tuple[str, str]:
    return walk.called((), step.scope, what)


def _channel(x: Array, over: Sequence[int]) -> int:
    """The axis of the channels of what is pooled: the last that holds no positions and no window moves along."""
    free = [axis for axis in range(len(x.shape)) if axis not in over]
    local = [axis for axis in free if not ax.has_positions(x.axes[axis])]
    wide = [axis for axis in local if x.shape[axis] > 1]
    return (wide or local[1:] or local or free)[-1]


def _whole_number(value: Value) -> int | None:
    return int(value.numbers) if isinstance(value, Fixed) and value.numbers is not None else None


OPERATIONS: Mapping[str, Callable[[Walk, Step], Sequence[Value]]] = {
    **dict.fromkeys(POINTWISE, pointwise),
    **dict.fromkeys(_SAME, same),
    **dict.fromkeys(_POOLED | _REDUCED, _reduce),
    **dict.fromkeys(_ALONG, _running),
    **dict.fromkeys(("reshape", "squeeze"), _reshape),
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul", "dynamic_update_slice"), _scattered
    ),
    **dict.fromkeys(("reduce_window_sum", "reduce_window_max", "reduce_window_min"), _pool),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "pad": _pad,
    "rev": _reverse,
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "stack": _stack,
    "tile": _tile,
    "top_k": _top,
    "transpose": _transpose,
    "unstack": _unstack,
}


# What depends on no input.


def of_numbers(walk: Walk, step: Step) -> Sequence[Value]:
    """The results of an equation whose arguments depend on no input: which weights are in them, and numbers."""
    parts = [each for each in step.inputs if isinstance(each, Fixed)]
    weights = tuple({one.identity: one for each in parts for one in each.weights}.values())
    if step.function == "stop_gradient":  # weights that no gradient reaches are frozen
        weights = tuple([replace(each, trainable=False) for each in weights])
        parts = [Fixed(replace(each.array, weights=weights), each.numbers, each.kept) for each in parts]
    if len(parts) == 1 and step.function in PLAIN and step.function != "neg" and weights:
        return parts  # the same array of weights, perhaps in another type
    if len(step.shapes) > 1:
        return [Fixed(walk.recorder.constant(shape, weights)) for shape in step.shapes]
    numbers, array = [each.numbers for each in parts], walk.recorder.constant(step.shape, weights)
    if not weights:
        return [Fixed(array, computed(step.function, step.parameters, step.shape, numbers))]
    kept = left_in(step.function, step.parameters, step.shape, numbers, [each.kept for each in parts])
    return [Fixed(array, None, kept)]

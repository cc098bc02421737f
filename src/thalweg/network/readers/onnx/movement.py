"""Operations that move values: shapes, slices, joins, and values looked up by their place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from thalweg.network.graph import Border, written
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.onnx.file import MAX_EXTENT, checked
from thalweg.network.readers.onnx.operations import Call, UnfollowedError, handles
from thalweg.network.readers.onnx.values import Value

if TYPE_CHECKING:
    from thalweg.network.readers.onnx.file import Numbers

MOST_PARTS = 4096
"""Into how many parts an array may be split or joined."""

_WHOLE = frozenset({5, 6, 7, 9, 12, 13})  # TensorProto's types: whole numbers of more than 8 bits, and yes or no

_BORDERS = {"reflect": Border.MIRRORED, "edge": Border.REPEATED, "wrap": Border.WRAPPED}

# The same values in another shape.


@handles("Reshape")
def _reshape(call: Call) -> Value:
    x = call.array(0)
    target = call.integers_of("shape", 1)
    if target is None:
        call.fail("has no shape to take")
    return _in_shape(call, x, _filled(call, x.shape, target))


def _filled(call: Call, shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """The target with its 0 (as before) and its -1 (what is left) worked out."""
    target = _of_one(call, shape, target)
    wanted = list(target)
    if not call.node.integer("allowzero", 0):
        for axis, extent in enumerate(wanted):
            if extent == 0:
                if axis >= len(shape):
                    call.fail(f"keeps axis {axis}, which {written(shape)} does not have")
                wanted[axis] = shape[axis]
    size, open_axes = math.prod(shape), [axis for axis, extent in enumerate(wanted) if extent == -1]
    if len(open_axes) > 1 or min(wanted, default=0) < -1:
        call.fail(f"cannot take the shape {list(target)[:10]}")
    rest = math.prod(extent for extent in wanted if extent != -1)
    if open_axes and rest and size % rest == 0:
        wanted[open_axes[0]] = size // rest
    elif open_axes:
        call.fail(f"cannot turn {written(shape)} into {list(target)[:10]}")
    return checked(tuple(wanted), call.name)


def _of_one(call: Call, shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """The target for one example, where the file was written for a batch of several."""
    whole = len(target) > 0 and len(shape) > 0 and shape[0] == 1 < target[0] == call.run.batch
    return (1, *target[1:]) if whole else target


def _in_shape(call: Call, x: Array, shape: Sequence[int]) -> Value:
    return Value(call.recorder.reshape(x, checked(tuple(shape), call.name), call.name, call.module))


@handles("Flatten")
def _flatten(call: Call) -> Value:
    x = call.array(0)
    axis = call.node.integer("axis", 1)
    axis = len(x.shape) if axis == len(x.shape) else call.axis(axis, len(x.shape))
    return _in_shape(call, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@handles("Squeeze")
def _squeeze(call: Call) -> Value:
    x, axes = call.array(0), call.integers_of("axes", 1)
    if axes is None:
        axes = tuple(axis for axis, extent in enumerate(x.shape) if extent == 1)
    gone = call.axes(axes, len(x.shape))
    if any(x.shape[axis] != 1 for axis in gone):
        call.fail(f"leaves out axes {list(gone)} of {written(x.shape)}, not all of which are 1")
    return _in_shape(call, x, [extent for axis, extent in enumerate(x.shape) if axis not in gone])


@handles("Unsqueeze")
def _unsqueeze(call: Call) -> Value:
    x, axes = call.array(0), call.integers_of("axes", 1)
    if axes is None:
        call.fail("has no axes")
    rank = len(x.shape) + len(axes)
    new, left = call.axes(axes, rank), list(x.shape)
    return _in_shape(call, x, [1 if axis in new else left.pop(0) for axis in range(rank)])


@handles("Transpose")
def _transpose(call: Call) -> Value:
    x = call.array(0)
    order = call.node.integers("perm") or tuple(reversed(range(len(x.shape))))
    if sorted(order) != list(range(len(x.shape))):
        call.fail(f"puts {len(x.shape)} axes into the order {list(order)[:10]}")
    return Value(call.recorder.permute(x, order))


@handles("CastLike", "BitCast")
def _like(call: Call) -> Value:
    value = _same(call)
    return Value(value.array) if value.array.is_constant else value  # its numbers may have become others


@handles("OptionalGetElement")
def _same(call: Call) -> Value:
    value = call.inputs[0] if call.inputs else None
    if value is None:
        call.fail("has no input")
    return value


@handles("Cast")
def _cast(call: Call) -> Value:
    value = _same(call)
    whole = call.node.integer("to", 0) in _WHOLE
    # Indices and conditions are no parameters, whatever type they were kept in.
    return Value(call.recorder.constant(value.shape)) if whole and value.array.is_constant else _like(call)


@handles("Identity")
def _alias(call: Call) -> Value:
    value, name = _same(call), call.node.outputs[0] if call.node.outputs else ""
    if not (name and value.origin and value.array.weights and value.is_uniform()):
        return value
    # PyTorch writes equal arrays once, also those that are only equal at first, all ones or all zeros.
    return replace(value, array=call.recorder.weight(name, value.shape), origin=name)


# Repeated.


@handles("Expand")
def _expand(call: Call) -> Value:
    x, target = call.array(0), call.integers(1)
    return Value(call.recorder.expand(x, call.common(x.shape, checked(_of_one(call, x.shape, target), call.name))))


@handles("Tile")
def _tile(call: Call) -> Value:
    x = call.array(0)
    if call.opset < 6:
        raise UnfollowedError
    times = call.integers(1)
    if len(times) != len(x.shape) or min(times, default=0) < 0:
        call.fail(f"repeats {written(x.shape)} {list(times)[:10]} times")
    shape = checked(tuple(n * more for n, more in zip(x.shape, times, strict=True)), call.name)
    wide = tuple(n if old == 1 else old for n, old in zip(shape, x.shape, strict=True))
    x = call.recorder.expand(x, wide)
    for axis, (n, old) in enumerate(zip(shape, wide, strict=True)):
        if n != old and 0 in (n, old):
            return Value(call.recorder.gather([x], shape, (axis,), call.name, call.module))
        if n != old:
            x = call.recorder.repeat(x, axis, n // old, call.name, call.module)
    return Value(x)


@handles("Concat")
def _concat(call: Call) -> Value:
    parts = [call.array(place) for place in range(len(call.inputs))]
    return Value(joined(call, parts, call.node.integer("axis", 1)))


def joined(call: Call, parts: Sequence[Array], axis: int) -> Array:
    """Arrays one after the other."""
    if not parts:
        call.fail("joins nothing")
    axis = call.axis(axis, len(parts[0].shape))
    around = {(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts}
    if len(around) > 1 or len({len(part.shape) for part in parts}) > 1:
        call.fail(f"joins shapes that do not match: {' and '.join(written(part.shape) for part in parts[:4])}")
    held = [part for part in parts if part.shape[axis]] or parts[:1]
    return call.recorder.concatenate(held, axis, call.name, call.module)


# Parts.


@handles("Split")
def _split(call: Call) -> Sequence[Value]:
    x = call.array(0)
    axis = call.axis(call.node.integer("axis", 0), len(x.shape))
    sizes = call.integers_of("split", 1)
    if sizes is None:
        count = call.node.integer("num_outputs", len(call.node.outputs))
        if not 0 < count <= MOST_PARTS:
            call.fail(f"splits into {count} parts")
        largest = -(-x.shape[axis] // count)
        sizes = tuple(max(0, min(largest, x.shape[axis] - place * largest)) for place in range(count))
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        call.fail(f"splits {x.shape[axis]} into {list(sizes)[:10]}")
    return parts_of(call, x, axis, sizes)


def parts_of(call: Call, x: Array, axis: int, sizes: Sequence[int]) -> list[Value]:
    """One part after the other along an axis."""
    parts, start = [], 0
    for size in sizes:
        part = call.part(x, axis, start, start + size)
        parts.append(Value(part))
        start += size
    return parts


@handles("Slice")
def _slice(call: Call) -> Value:
    x = call.array(0)
    starts, stops = call.integers_of("starts", 1), call.integers_of("ends", 2)
    if starts is None or stops is None or len(starts) != len(stops):
        call.fail("does not say from where to where it goes")
    axes = call.axes(call.integers_of("axes", 3) or range(len(starts)), len(x.shape))
    steps = (call.integers(4) if call.has(4) else None) or (1,) * len(starts)
    if len(axes) != len(starts) or len(steps) != len(starts) or 0 in steps:
        call.fail(f"goes from {list(starts)[:8]} in steps of {list(steps)[:8]} along axes {list(axes)[:8]}")
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        first, last, step = slice(start, stop, step).indices(x.shape[axis])
        x = call.part(x, axis, first, last, step)
    return Value(x)


@handles("Pad")
def _pad(call: Call) -> Value:
    x = call.array(0)
    pads = call.integers_of("pads", 1) if not call.node.has("paddings") else call.node.integers("paddings")
    if pads is None:
        call.fail("does not say how much")
    rank = len(x.shape)
    axes = call.axes((call.integers(3) if call.has(3) else None) or range(rank), rank)
    if len(pads) != 2 * len(axes):
        call.fail(f"has pads {list(pads)[:8]} for {len(axes)} axes")
    low, high = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        low[axis], high[axis] = pads[place], pads[place + len(axes)]
    shape = tuple(n + before + after for n, before, after in zip(x.shape, low, high, strict=True))
    if min(shape, default=1) < 1 < min(x.shape, default=1) + 1:
        call.fail(f"leaves nothing of {written(x.shape)}")
    checked(shape, call.name)
    border = _BORDERS.get(call.node.text("mode", "constant"), Border.ZEROS)
    return Value(call.recorder.pad(x, low, high, call.name, call.module, border))


@handles("CenterCropPad")
def _centred(call: Call) -> Value:
    x, target = call.array(0), call.integers(1)
    axes = call.axes(call.node.integers("axes") or range(len(x.shape)), len(x.shape))
    if len(axes) != len(target) or min(target, default=1) < 1:
        call.fail(f"cannot take the extents {list(target)[:8]} along {len(axes)} axes")
    checked(target, call.name)
    low, high = [0] * len(x.shape), [0] * len(x.shape)
    for axis, extent in zip(axes, target, strict=True):
        more = extent - x.shape[axis]
        low[axis] = more // 2 if more >= 0 else -(-more // 2)
        high[axis] = more - low[axis]
    return Value(call.recorder.pad(x, low, high, call.name, call.module))


# Looked up.


@handles("Gather")
def _gather(call: Call) -> Value:
    data, places = call.array(0), call.value(1)
    axis = call.axis(call.node.integer("axis", 0), len(data.shape))
    shape = (*data.shape[:axis], *places.shape, *data.shape[axis + 1 :])
    checked(shape, call.name)
    if data.is_constant and not places.array.is_constant:
        return Value(_looked_up(call, data, places.array, axis, shape))
    if data.is_constant:
        return Value(call.recorder.constant(shape, data.weights))
    numbers = places.numbers() if places.array.is_constant else None
    if numbers is not None:
        where = _places(call, numbers, data.shape[axis])
        steps = _evenly(where)
        if steps is not None:
            first, step, count = steps
            part = call.part(data, axis, first, first + step * count, step)
        else:
            part = call.recorder.take(data, axis, where, call.name, call.module)
        return Value(call.recorder.reshape(part, shape, call.name, call.module))
    flat = (*data.shape[:axis], math.prod(places.shape), *data.shape[axis + 1 :])
    parts = [data] if places.array.is_constant else [data, places.array]
    made = call.recorder.gather(parts, flat, (axis,), call.name, call.module)
    return Value(call.recorder.reshape(made, shape, call.name, call.module))


def _looked_up(call: Call, table: Array, places: Array, axis: int, shape: tuple[int, ...]) -> Array:
    if axis == 0 and len(table.shape) == 2 and table.weights:
        return call.recorder.embedding(places, table, call.name, call.module)
    # Rows of plain numbers, or of an unusual table: each value depends on its index.
    beside = (1,) * axis + places.shape + (1,) * (len(table.shape) - axis - 1)
    spread = call.recorder.expand(call.recorder.reshape(places, beside, call.name, call.module), shape)
    weights = [table] if table.weights else []
    return call.recorder.elementwise([spread], name=call.name, module=call.module, weights=weights)


def _places(call: Call, numbers: Numbers, extent: int) -> list[int]:
    places = [int(number) for number in numbers.reshape(-1)]
    if any(not -extent <= place < extent for place in places):
        call.fail(f"takes a place outside of {extent}")
    return [place % extent for place in places]


def _evenly(places: list[int]) -> tuple[int, int, int] | None:
    """First, step and count of places that are evenly apart; None of others."""
    if not places:
        return 0, 1, 0
    step = places[1] - places[0] if len(places) > 1 else 1
    if step < 1 or any(after - before != step for before, after in itertools.pairwise(places)):
        return None
    return places[0], step, len(places)


@handles("GatherElements")
def _gather_elements(call: Call) -> Value:
    data, places = call.array(0), call.array(1)
    call.axis(call.node.integer("axis", 0), len(data.shape))
    if len(places.shape) != len(data.shape):
        call.fail(f"takes places {written(places.shape)} from {written(data.shape)}")
    return Value(call.recorder.gather([data, places], places.shape, None, call.name, call.module))


@handles("GatherND")
def _gather_blocks(call: Call) -> Value:
    data, places, batch = call.array(0), call.array(1), call.node.integer("batch_dims", 0)
    deep = places.shape[-1] if places.shape else 0
    if not places.shape or batch < 0 or batch >= len(places.shape) or batch + deep > len(data.shape):
        call.fail(f"takes places {written(places.shape)} from {written(data.shape)}")
    shape = (*places.shape[:-1], *data.shape[batch + deep :])
    return Value(call.recorder.gather([data, places], shape, None, call.name, call.module))


@handles("ScatterND", "ScatterElements", "Scatter", "TensorScatter")
def _scatter(call: Call) -> Value:
    data, more = call.array(0), 1 if call.node.operator == "TensorScatter" else 2
    return Value(call.recorder.gather([data, call.array(more)], data.shape, None, call.name, call.module))


@handles("OneHot")
def _one_hot(call: Call) -> Value:
    places = call.array(0)
    numbers = call.numbers(1).reshape(-1)
    depth = int(numbers[0]) if numbers.size == 1 and abs(numbers[0]) < MAX_EXTENT else 0
    if depth < 1:
        call.fail("has no depth")
    rank = len(places.shape) + 1
    axis = call.axis(call.node.integer("axis", -1), rank)
    beside = (*places.shape[:axis], 1, *places.shape[axis:])
    spread = call.recorder.reshape(places, beside, call.name, call.module)
    wide = call.recorder.expand(spread, tuple(depth if place == axis else n for place, n in enumerate(beside)))
    return Value(call.recorder.elementwise([wide], name=call.name, module=call.module))


@handles("ReverseSequence")
def _reversed(call: Call) -> Value:
    x = call.array(0)
    axis = call.axis(call.node.integer("time_axis", 0), len(x.shape))
    return Value(call.recorder.gather([x], x.shape, (axis,), call.name, call.module))


@handles("TopK")
def _largest(call: Call) -> Sequence[Value]:
    x = call.array(0)
    axis = call.axis(call.node.integer("axis", -1), len(x.shape))
    count = call.integers_of("k", 1)
    if count is None or len(count) != 1 or not 0 <= count[0] <= x.shape[axis]:
        call.fail(f"keeps {count} of {x.shape[axis]}")
    shape = (*x.shape[:axis], count[0], *x.shape[axis + 1 :])
    made = Value(call.recorder.gather([x], shape, (axis,), call.name, call.module))
    return [made, made]


# Shapes and plain numbers.


@handles("Shape")
def _shape(call: Call) -> Value:
    import numpy as np

    shape = call.array(0).shape
    start, stop = call.node.integer("start", 0), call.node.integer("end", len(shape))
    numbers = np.array(shape[slice(start, stop)], np.int64)
    return Value(call.recorder.constant(numbers.shape), numbers)


@handles("Size")
def _count(call: Call) -> Value:
    import numpy as np

    size = math.prod(call.array(0).shape)
    numbers = np.array(size, np.int64) if size < 1 << 63 else None
    return Value(call.recorder.constant(()), numbers)


@handles("ConstantOfShape")
def _filled_with(call: Call) -> Value:
    return call.constant(call.integers(0))


@handles("Range")
def _range(call: Call) -> Value:
    start, stop, step = (call.numbers(place).reshape(-1) for place in range(3))
    if start.size != 1 or stop.size != 1 or step.size != 1 or step[0] == 0:
        call.fail("does not say from where to where it goes")
    span = (float(stop[0]) - float(start[0])) / float(step[0])
    if not math.isfinite(span):
        call.fail("has no end")
    return call.constant((max(0, math.ceil(span)),))


@handles("EyeLike", "RandomNormalLike", "RandomUniformLike")
def _plain_like(call: Call) -> Value:
    return call.constant(call.array(0).shape)


@handles("RandomNormal", "RandomUniform")
def _random(call: Call) -> Value:
    return call.constant(call.node.integers("shape") or ())


# Sequences.


@handles("SequenceEmpty")
def _no_members(call: Call) -> Value:
    return _sequence(call, ())


@handles("SequenceConstruct")
def _members(call: Call) -> Value:
    return _sequence(call, [call.value(place) for place in range(len(call.inputs))])


def _sequence(call: Call, members: Sequence[Value]) -> Value:
    if len(members) > MOST_PARTS:
        call.fail(f"has {len(members)} members")
    return Value(call.recorder.constant(()), items=tuple(members))


def _given(call: Call) -> list[Value]:
    value = call.inputs[0] if call.inputs else None
    if value is None or value.items is None:
        raise UnfollowedError
    return list(value.items)


def _place(call: Call, place: int, count: int) -> int:
    (index,) = call.integers(place) or (0,)
    if not -count <= index < count:
        call.fail(f"asks for member {index} of {count}")
    return index % count


@handles("SequenceAt")
def _member(call: Call) -> Value:
    members = _given(call)
    return members[_place(call, 1, len(members))]


@handles("SequenceLength")
def _number_of_members(call: Call) -> Value:
    import numpy as np

    return Value(call.recorder.constant(()), np.array(len(_given(call)), np.int64))


@handles("SequenceInsert")
def _inserted(call: Call) -> Value:
    members = _given(call)
    place = _place(call, 2, len(members) + 1) if call.has(2) else len(members)
    members.insert(place, call.value(1))
    return _sequence(call, members)


@handles("SequenceErase")
def _erased(call: Call) -> Value:
    members = _given(call)
    del members[_place(call, 1, len(members)) if call.has(1) else -1]
    return _sequence(call, members)


@handles("SplitToSequence")
def _split_to_members(call: Call) -> Value:
    x = call.array(0)
    axis = call.axis(call.node.integer("axis", 0), len(x.shape))
    extent, keep = x.shape[axis], call.node.integer("keepdims", 1)
    if call.has(1):
        numbers = call.integers(1)
        if call.value(1).shape:
            sizes = numbers
        else:
            each = numbers[0]
            if each < 1 or -(-extent // each) > MOST_PARTS:
                call.fail(f"splits {extent} into parts of {each}")
            sizes = (each,) * (extent // each) + ((extent % each,) if extent % each else ())
        keep = 1
    else:
        if extent > MOST_PARTS:
            raise UnfollowedError
        sizes = (1,) * extent
    if sum(sizes) != extent or min(sizes, default=0) < 0:
        call.fail(f"splits {extent} into {list(sizes)[:10]}")
    parts = parts_of(call, x, axis, sizes)
    if not keep:
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        parts = [_in_shape(call, part.array, shape) for part in parts]
    return _sequence(call, parts)


@handles("ConcatFromSequence")
def _joined_members(call: Call) -> Value:
    parts = [member.array for member in _given(call)]
    if not parts:
        call.fail("joins nothing")
    axis = call.node.integer("axis", 0)
    if call.node.integer("new_axis", 0):
        axis = call.axis(axis, len(parts[0].shape) + 1)
        parts = [
            call.recorder.reshape(part, (*part.shape[:axis], 1, *part.shape[axis:]), call.name, call.module)
            for part in parts
        ]
    return Value(joined(call, parts, axis))

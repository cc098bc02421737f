"""A receptive field in a few numbers, and where branches meet that look at different places."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from thalweg.network.fields import AnyField, Field, FlatFields
from thalweg.network.graph import Operation
from thalweg.network.intervals import Ends, Periodic
from thalweg.network.piecewise import Unclipped, stretches


@dataclass(frozen=True, slots=True)
class AxisView:
    """The unclipped receptive field along one axis, in a few numbers.

    Args:
        size: the number of positions from the first to the last, gaps included; the largest where it varies.
        stride: how far neighbouring units lie apart on the input, negative where they are read backwards; None where
            that varies or every unit sees the same.
        first: the lowest position that unit 0 sees, negative in the padding; None where it sees nothing.
        phases: the sizes of units 0, 1, 2, ..., after which they repeat; None where all are equal or, because the axis
            was put together of pieces, nothing repeats.
    """

    size: int
    stride: int | None
    first: int | None
    phases: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Misalignment:
    """Two branches that meet and are centred on different places of the input.

    Args:
        name: the operation where they meet.
        axis: along which axis.
        offset: how far apart their centres are, in input positions; None where they move at different paces.
    """

    name: str
    axis: int
    offset: float | None


def axis_views(field: Field[Unclipped], extents: tuple[int, ...]) -> tuple[AxisView, ...]:
    """The view of a field along every axis; `extents` are those of the map it belongs to."""
    if not field.terms:
        return (AxisView(0, None, None, None),) * len(extents)
    if len(field.terms) > 1:
        views = [_view_of_union(field, axis, extents) for axis in range(len(extents))]
    else:
        known: dict[tuple[int, int], AxisView] = {}  # square networks have the same intervals on all axes
        views = []
        for interval, extent in zip(field.terms[0], extents, strict=False):
            key = (id(interval), extent)
            if key not in known:
                known[key] = _view(interval, extent)
            views.append(known[key])
    if any(view.size == 0 for view in views):  # dead along one axis is dead altogether
        return (AxisView(0, None, None, None),) * len(views)
    return tuple(views)


def views_together(several: Sequence[tuple[AxisView, ...]]) -> tuple[AxisView, ...]:
    """The views of several maps in one: what the first that sees anything has, but the largest sizes."""
    seeing = [views for views in several if any(view.size for view in views)] or several[:1]
    return tuple(
        AxisView(
            max(view.size for view in along),
            along[0].stride if len({view.stride for view in along}) == 1 else None,
            along[0].first,
            along[0].phases if len(along) == 1 else None,
        )
        for along in zip(*seeing, strict=True)
    )


def _view(interval: Unclipped, extent: int) -> AxisView:
    if not isinstance(interval, Periodic):
        patterns = [part for _, _, (part,) in _within([interval], extent)]
        if len(patterns) > 1:
            return _view_of_pieces(interval, extent)
        (interval,) = patterns
    sizes = tuple(_length(interval.at(unit)) for unit in range(min(len(interval.lo), extent)))
    ends = interval.at(0)
    stride = _pace(interval, itertools.pairwise(range(len(interval.lo) + 1)))
    if interval.widening:  # one end of the axis sees the most
        largest = max(*sizes, *(_length(interval.at(extent - 1 - unit)) for unit in range(len(sizes))))
        return AxisView(largest, stride, ends and ends[0], None)
    return AxisView(max(sizes), stride, ends and ends[0], sizes if len(set(sizes)) > 1 else None)


def _view_of_pieces(interval: Unclipped, extent: int) -> AxisView:
    size, pairs = 0, set()
    for start, stop, (part,) in _within([interval], extent):
        size = max(size, *(_length(part.at(unit)) for unit in range(start, min(stop, start + len(part.lo)))))
        # One round of the pattern, and over the seam to the next.
        firsts = {*range(start, min(start + len(part.lo), stop)), stop - 1}
        pairs |= {(unit, unit + 1) for unit in firsts if unit + 1 < extent}
    ends = interval.at(0)
    return AxisView(size, _pace(interval, pairs), ends and ends[0], None)


def _pace(interval: Unclipped, pairs: Iterable[tuple[int, int]]) -> int | None:
    """How far the first positions of neighbouring units are apart; None where that varies or is nothing."""
    steps = set()
    for before, after in pairs:
        here, there = interval.at(before), interval.at(after)
        steps.add(there[0] - here[0] if here and there else None)
    return steps.pop() or None if len(steps) == 1 else None


def _within(several: list[Unclipped], extent: int) -> Iterator[tuple[int, int, tuple[Periodic, ...]]]:
    """Where each has one pattern among the units that exist: the first unit there, the first behind, the patterns."""
    for start, stop, patterns in stretches(several):
        first, behind = max(start or 0, 0), extent if stop is None else min(stop, extent)
        if first < behind:
            yield first, behind, patterns


def _view_of_union(field: Field[Unclipped], axis: int, extents: tuple[int, ...]) -> AxisView:
    """Terms that move at different paces, or have different dead units: looked at where the extremes can be."""
    # Along each phase the hull's length is a convex function of the unit, so it is largest at one end of the axis.
    places = [_ends_of_axis([term[each] for term in field.terms], extent) for each, extent in enumerate(extents)]
    combinations = {(1 << len(field.terms)) - 1}  # which terms are alive along the other axes, as bits
    for other, units in enumerate(places):
        if other != axis:
            alive = {
                sum(1 << number for number, term in enumerate(field.terms) if term[other].at(unit)) for unit in units
            }
            combinations = {one & each for one in combinations for each in alive}
    size, first = 0, None
    for unit in places[axis]:
        ends = [term[axis].at(unit) for term in field.terms]
        for alive_terms in combinations:
            seen = [each for number, each in enumerate(ends) if each and alive_terms >> number & 1]
            if seen:
                lowest = min(lo for lo, _ in seen)
                size = max(size, max(hi for _, hi in seen) - lowest + 1)
                if unit == 0:
                    first = lowest if first is None else min(first, lowest)
    return AxisView(size, None, first, None)


def _ends_of_axis(intervals: list[Unclipped], extent: int) -> list[int]:
    units: list[int] = []
    for start, stop, patterns in _within(intervals, extent):
        period = math.lcm(*(len(pattern.lo) for pattern in patterns))
        if 2 * period >= stop - start:
            units += range(start, stop)
        else:
            units += [*range(start, start + period), *range(stop - period, stop)]
    return units


def _length(ends: Ends | None) -> int:
    return 0 if ends is None else ends[1] - ends[0] + 1


def misalignments(operation: Operation, fields: Mapping[int, AnyField[Unclipped] | None]) -> list[Misalignment]:
    """Where the branches of a merge that do not see everything are centred on different places, on average."""
    flat, extents = operation.output.flat, operation.output.extents
    branches = [
        field
        for tensor in operation.inputs
        if (field := fields[tensor.id]) is not None and tensor.extents == extents and tensor.flat == flat
    ]
    if not flat:
        return _misaligned(operation.name, branches, len(extents))
    maps = [[field.parts[number] for field in branches if isinstance(field, FlatFields)] for number in range(len(flat))]
    found = [each for fields in maps for each in _misaligned(operation.name, fields, len(flat[0].extents))]
    return list(dict.fromkeys(found))


def _misaligned(name: str, branches: Sequence[AnyField[Unclipped]], axes: int) -> list[Misalignment]:
    found = []
    for axis in range(axes):
        intervals = [term[axis] for field in branches for term in field.parts[0].terms if axis < len(term)]
        moving = [each for each in intervals if isinstance(each, Periodic) and each.step and not each.widening]
        courses = {_course(each) for each in moving}
        if len({pace for pace, _ in courses}) > 1:
            found.append(Misalignment(name, axis, None))
        elif courses:
            centres = [centre for _, centre in courses]
            offset = max(centres) - min(centres)
            if offset > 1e-6:
                found.append(Misalignment(name, axis, offset))
    return found


def _course(interval: Periodic) -> tuple[float, float]:
    """How far a unit moves on the input on average, and where the middle of unit 0 would then lie."""
    period = len(interval.lo)
    pace = interval.step / period
    middles = [
        (ends[0] + ends[1]) / 2 - pace * unit for unit in range(period) if (ends := interval.at(unit)) is not None
    ]
    return pace, sum(middles) / len(middles)

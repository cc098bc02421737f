"""Which input positions a unit sees, exactly, on any graph.

For each tensor and spatial axis we keep lo[i] and hi[i], the first and the last input position that unit i depends on.
A window takes the minimum and the maximum over its taps, branches that meet take those of their members, a transposed
window takes the taps that exist, and a layer that joins all positions sees everything. The interval may have gaps
(dilation makes them); lo and hi are its ends.

There are two such intervals, and the same rules give both:

* **unclipped**: the image and every map between are thought to go on for ever, so that no unit stands at a border.
  Then lo and hi repeat: lo[i + period] = lo[i] + step for every integer i, with period 1 except after upsampling, and
  one period says everything. Size, stride and phases come from here, without an array.
* **clipped**: only the positions that exist are followed, padding at every layer on the way left out. This is what the
  unit really depends on: the ends of the non-zero gradient of a network whose weights are all positive.

A unit is a position with all its channels. The axes are independent as long as every unit sees something. Where units
see nothing (gaps of a transposed convolution, or padding wider than the window after it), a unit that is dead along
one axis is dead altogether, and the union of two branches with different dead units is no longer a product of
intervals: we then keep it as several terms, so that the answer stays exact.

After A. Araujo, W. Norris and J. Sim, "Computing receptive fields of convolutional neural networks", Distill 2019,
whose closed form for aligned chains this extends to phases, misaligned branches and borders.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from thalweg.errors import InputError
from thalweg.network.graph import MERGES, WINDOWED, Graph, Kind, Operation, Tensor, Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

MAX_PERIOD = 1024
"""The longest pattern of phases that is followed; ordinary networks stay below 64."""
MAX_WORK = 1_000_000
"""Steps spent on patterns of phases in one network: a second or two."""
MAX_TERMS = 16
"""The most terms that one tensor may need; ordinary networks need one."""
MAX_POSITIONS = 10_000_000
"""Over how many positions clipped intervals are kept, all axes of all maps of one network together."""

Ends = tuple[int, int]
"""The first and the last input position."""


_COSTLY = WINDOWED | MERGES  # the operations whose phases and terms take work
_NEVER = 1 << 62  # the first position of a unit that sees nothing, and minus its last


class _TooIrregularError(Exception):
    """The pattern of phases is longer than we follow."""


@dataclass(frozen=True, slots=True)
class Periodic:
    """Unclipped intervals along one axis, for every integer i: lo(i + period) = lo(i) + step, and so for hi.

    Args:
        lo: one period of first positions; None where the unit sees nothing.
        hi: one period of last positions.
        step: how far a period moves over the input; 0 where every unit sees the same.
    """

    lo: tuple[int | None, ...]
    hi: tuple[int | None, ...]
    step: int

    def at(self, unit: int) -> Ends | None:
        """The interval of one unit, None where it sees nothing."""
        turns, phase = divmod(unit, len(self.lo))
        lo, hi = self.lo[phase], self.hi[phase]
        return None if lo is None or hi is None else (lo + turns * self.step, hi + turns * self.step)

    @property
    def nowhere(self) -> bool:
        """Whether no unit sees anything."""
        return all(lo is None for lo in self.lo)

    def covers(self, extent: int) -> bool:
        """Whether every unit sees the positions from 0 to before `extent`."""
        return self.step == 0 and all(
            lo is not None and hi is not None and lo <= 0 and hi >= extent - 1
            for lo, hi in zip(self.lo, self.hi, strict=True)
        )

    def windowed(self, kernel: int, stride: int, dilation: int, low: int, units: int) -> Periodic:
        """The intervals behind a window; `units`, their number, plays no part: there is no border."""
        period = len(self.lo)
        if period == 1:
            if self.lo[0] is None or self.hi[0] is None:
                return self
            first = self.lo[0] - low * self.step
            last = self.hi[0] + (dilation * (kernel - 1) - low) * self.step
            return Periodic((first,), (last,), stride * self.step)
        # Taps in the same phase move by whole periods, so one round over the phases from the first tap on holds the
        # minimum, and one from the last tap back the maximum.
        taps = min(kernel, period // math.gcd(period, dilation))
        rounds = period // math.gcd(period, stride)
        lo, hi = [], []
        for unit in range(rounds):
            start = unit * stride - low
            firsts = [self.at(start + dilation * tap) for tap in range(taps)]
            lasts = [self.at(start + dilation * tap) for tap in range(kernel - taps, kernel)]
            lo.append(min((ends[0] for ends in firsts if ends), default=None))
            hi.append(max((ends[1] for ends in lasts if ends), default=None))
        return _shortest(lo, hi, self.step * (rounds * stride // period))

    def transposed(self, kernel: int, stride: int, dilation: int, low: int, units: int) -> Periodic:
        """The intervals behind a transposed window: an ordinary one over the input with stride - 1 gaps in between."""
        if len(self.lo) * stride > MAX_PERIOD:
            raise _TooIrregularError
        gaps = (None,) * (stride - 1)
        lo = tuple(value for first in self.lo for value in (first, *gaps))
        hi = tuple(value for last in self.hi for value in (last, *gaps))
        return Periodic(lo, hi, self.step).windowed(kernel, 1, dilation, dilation * (kernel - 1) - low, units)

    def spread(self, units: int) -> Periodic:
        """Unit 0 repeated."""
        return self if self.step == 0 and len(self.lo) == 1 else Periodic((self.lo[0],), (self.hi[0],), 0)

    def parallel(self, other: Periodic) -> bool:
        """Whether both move over the input at the same pace."""
        return self.step * len(other.lo) == other.step * len(self.lo)

    def same_support(self, other: Periodic) -> bool:
        """Whether the same units see something."""
        return all((ours is None) == (theirs is None) for ours, theirs in zip(*self._together(other), strict=True))

    def joined(self, other: Periodic) -> Periodic:
        """The hull of both, which must be parallel."""
        ours, theirs = self._together(other)
        pairs = [[ends for ends in pair if ends] for pair in zip(ours, theirs, strict=True)]
        lo = [min((ends[0] for ends in pair), default=None) for pair in pairs]
        hi = [max((ends[1] for ends in pair), default=None) for pair in pairs]
        return _shortest(lo, hi, self.step * (len(ours) // len(self.lo)))

    def _together(self, other: Periodic) -> tuple[list[Ends | None], list[Ends | None]]:
        period = math.lcm(len(self.lo), len(other.lo))
        if period > MAX_PERIOD:
            raise _TooIrregularError
        return [self.at(unit) for unit in range(period)], [other.at(unit) for unit in range(period)]


def _shortest(lo: Sequence[int | None], hi: Sequence[int | None], step: int) -> Periodic:
    """The same intervals with the shortest period."""

    def repeats(values: Sequence[int | None], period: int, part: int) -> bool:
        return all(
            (before is None and after is None) or (before is not None and after is not None and after - before == part)
            for before, after in zip(values, values[period:], strict=False)
        )

    for divisor in range(2, len(lo) + 1):
        while len(lo) % divisor == 0 and step % divisor == 0:
            period, part = len(lo) // divisor, step // divisor
            if not (repeats(lo, period, part) and repeats(hi, period, part)):
                break
            lo, hi, step = lo[:period], hi[:period], part
    return Periodic(tuple(lo), tuple(hi), step)


class Listed:
    """Clipped intervals along one axis, one for every unit that exists.

    Args:
        lo: the first positions; greater than `hi` where the unit sees nothing.
        hi: the last positions.
    """

    __slots__ = ("hi", "lo")

    def __init__(self, lo: Integers, hi: Integers) -> None:
        self.lo = lo
        self.hi = hi

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        import numpy as np

        return isinstance(other, Listed) and np.array_equal(self.lo, other.lo) and np.array_equal(self.hi, other.hi)

    def at(self, unit: int) -> Ends | None:
        """The interval of one unit, None where it sees nothing."""
        lo, hi = int(self.lo[unit]), int(self.hi[unit])
        return (lo, hi) if lo <= hi else None

    @property
    def nowhere(self) -> bool:
        """Whether no unit sees anything."""
        return not bool((self.lo <= self.hi).any())

    def covers(self, extent: int) -> bool:
        """Whether every unit sees the positions from 0 to before `extent`."""
        return bool((self.lo <= 0).all() and (self.hi >= extent - 1).all())

    def windowed(self, kernel: int, stride: int, dilation: int, low: int, units: int) -> Listed:
        """The intervals of `units` units behind a window, over the taps that meet a position that exists."""
        import numpy as np

        starts = np.arange(units, dtype=np.int64) * stride - low
        before = np.maximum(0, -(starts // dilation))  # taps that fall before position 0
        last = np.minimum(kernel - 1, (len(self.lo) - 1 - starts) // dilation)
        firsts, taps = starts + before * dilation, np.maximum(0, last - before + 1)
        lo = _over_taps(self.lo, firsts, taps, dilation, np.minimum, _NEVER)
        return Listed(lo, _over_taps(self.hi, firsts, taps, dilation, np.maximum, -_NEVER))

    def transposed(self, kernel: int, stride: int, dilation: int, low: int, units: int) -> Listed:
        """The intervals of `units` units behind a transposed window: gaps are put in between, then a window slides."""
        import numpy as np

        length = (len(self.lo) - 1) * stride + 1
        if length > MAX_POSITIONS:
            raise _TooIrregularError
        stuffed = Listed(np.full(length, _NEVER), np.full(length, -_NEVER))
        stuffed.lo[::stride], stuffed.hi[::stride] = self.lo, self.hi
        return stuffed.windowed(kernel, 1, dilation, dilation * (kernel - 1) - low, units)

    def spread(self, units: int) -> Listed:
        """Unit 0 repeated."""
        return Listed(self.lo[:1].repeat(units), self.hi[:1].repeat(units))

    def parallel(self, other: Listed) -> bool:
        """Listed intervals can always be joined one by one."""
        return True

    def same_support(self, other: Listed) -> bool:
        """Whether the same units see something."""
        return bool(((self.lo <= self.hi) == (other.lo <= other.hi)).all())

    def joined(self, other: Listed) -> Listed:
        """The hull of both."""
        import numpy as np

        return Listed(np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi))


def _over_taps(
    values: Integers,
    firsts: Integers,
    taps: Integers,
    dilation: int,
    reduce: Callable[[Integers, Integers], Integers],
    nothing: int,
) -> Integers:
    """For each unit the minimum (maximum) of `values` over its taps, `firsts + dilation * k` for k < `taps`.

    Windows of 1, 2, 4, ... taps are built from each other, and two of them cover any window between.
    """
    import numpy as np

    result = np.full(len(firsts), nothing, dtype=np.int64)
    width = 1
    while True:
        now = (taps >= width) & (taps < 2 * width)
        first = firsts[now]
        result[now] = reduce(values[first], values[first + (taps[now] - width) * dilation])
        if not (taps >= 2 * width).any():
            return result
        values = reduce(values[: -width * dilation], values[width * dilation :])
        width *= 2


Intervals = TypeVar("Intervals", Periodic, Listed)


@dataclass(frozen=True, slots=True)
class Field(Generic[Intervals]):
    """What the units of one tensor see: the union of terms, each a product of intervals over the axes of the input.

    Args:
        terms: for each term the intervals along every axis; one term in ordinary networks.
        gated: whether the units are also scaled by a gate, or normalised by statistics, that see everything; that
            dependence is global by definition and left out of the intervals.
        layout: for a flattened map the map it was, by whose positions the intervals are indexed.
    """

    terms: tuple[tuple[Intervals, ...], ...]
    gated: bool = False
    layout: Tensor | None = None

    def ends(self, index: Sequence[int]) -> tuple[Ends, ...] | None:
        """The interval along every axis of the unit at a position, None where it sees nothing.

        Args:
            index: the position along each spatial axis; all zeros for a tensor without positions.
        """
        seen = []
        for term in self.terms:
            ends = [interval.at(unit) for interval, unit in zip(term, index, strict=True)]
            if None not in ends:
                seen.append([each for each in ends if each])
        if not seen:
            return None
        return tuple((min(lo for lo, _ in axis), max(hi for _, hi in axis)) for axis in zip(*seen, strict=True))


@dataclass(frozen=True, slots=True)
class AxisView:
    """The unclipped receptive field along one axis, in a few numbers.

    Args:
        size: the number of positions from the first to the last, gaps included; the largest where it varies.
        stride: how far neighbouring units lie apart on the input; None where that varies or every unit sees the same.
        first: the lowest position that unit 0 sees, negative in the padding; None where it sees nothing.
        phases: the sizes of units 0, 1, 2, ..., after which they repeat; None where all are equal.
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


class ReceptiveFields:
    """The receptive fields of every tensor of a graph.

    Args:
        graph: the network; positions are those of its first input.
        known: the fields of some tensors, by number, where they are known from a network that is the same there.
        upto: the tensor behind which nothing is asked for; None to follow the whole network.

    Attributes:
        misaligned: where branches meet that are centred on different places of the input.
        lost: the operations behind which fields cannot be followed: those of unknown kind, flat maps that are joined
            or take another shape, and patterns of phases longer than `MAX_PERIOD`.
    """

    def __init__(
        self, graph: Graph, known: Mapping[int, Field[Periodic] | None] | None = None, upto: Tensor | None = None
    ) -> None:
        self.graph = graph
        image = graph.inputs[0]
        whole = (Periodic((0,), (0,), 1),) * len(image.extents)
        self._extents = image.extents
        # Other inputs depend on no position of the first.
        self._fields: dict[int, Field[Periodic] | None] = {tensor.id: Field(()) for tensor in graph.inputs}
        self._fields[image.id] = Field((whole,))
        self._views: dict[tuple[int, tuple[int, ...]], tuple[AxisView, ...]] = {}
        self._clipped: dict[int, Field[Listed] | None] = {}
        self._positions = 0
        self.misaligned: list[Misalignment] = []
        self.lost: list[str] = []
        work = 0
        for operation in graph.operations:
            if known is not None and operation.output.id in known:
                self._fields.update((tensor.id, known[tensor.id]) for tensor in operation.outputs)
                continue
            field = None
            with contextlib.suppress(_TooIrregularError):
                if work > MAX_WORK and operation.kind in _COSTLY:
                    raise _TooIrregularError
                after = self._after(operation, self._fields, self._everything_unclipped)
                work += _work(operation, after)
                field = after
            if field is None and all(self._fields[tensor.id] is not None for tensor in operation.inputs):
                self.lost.append(operation.name)
            if operation.kind in MERGES:
                self.misaligned += _misalignments(operation, self._fields)
            self._fields.update((tensor.id, field) for tensor in operation.outputs)
            if upto is not None and upto.id in self._fields:
                break

    def of(self, tensor: Tensor) -> Field[Periodic] | None:
        """The unclipped field of a tensor; None where it cannot be followed (behind an unknown operation)."""
        return self._fields[tensor.id]

    def view(self, tensor: Tensor) -> tuple[AxisView, ...] | None:
        """The unclipped field of a tensor along every axis, in a few numbers; None where it cannot be followed."""
        field = self.of(tensor)
        if field is None:
            return None
        extents = (field.layout or tensor).extents or (1,) * len(self._extents)
        key = (id(field), extents)  # layers that pass a field on share it
        if key not in self._views:
            self._views[key] = _views(field, extents)
        return self._views[key]

    def clipped(self, tensor: Tensor) -> Field[Listed] | None:
        """The clipped field of a tensor: only the positions that exist; None where it cannot be followed.

        Raises:
            InputError: the maps on the way have more than `MAX_POSITIONS` positions along their axes.
        """
        import numpy as np

        if not self._clipped:
            image = self.graph.inputs[0]
            self._check_positions(image)
            self._clipped = {each.id: Field(()) for each in self.graph.inputs}
            self._clipped[image.id] = Field((tuple(Listed(np.arange(n), np.arange(n)) for n in image.extents),))
        needed, path = {tensor.id}, []
        for operation in reversed(self.graph.operations):
            if any(output.id in needed and output.id not in self._clipped for output in operation.outputs):
                needed.update(each.id for each in operation.inputs)
                path.append(operation)
        for operation in reversed(path):
            self._check_positions(operation.output)
            field = None
            with contextlib.suppress(_TooIrregularError):
                if self.of(operation.output) is not None:
                    field = self._after(operation, self._clipped, self._everything_clipped)
            self._clipped.update((output.id, field) for output in operation.outputs)
        return self._clipped[tensor.id]

    def _check_positions(self, tensor: Tensor) -> None:
        positions = self._positions + sum(tensor.extents)
        if positions > MAX_POSITIONS:
            raise InputError(
                f"Clipped intervals are worked out position by position, and the maps up to this layer have more than "
                f"{MAX_POSITIONS:,} of them along their axes; ask with a smaller input."
            )
        self._positions = positions

    def _after(
        self,
        operation: Operation,
        fields: Mapping[int, Field[Intervals] | None],
        everything: Callable[[Field[Intervals] | None], tuple[tuple[Intervals, ...], ...]],
    ) -> Field[Intervals] | None:
        """The field behind an operation: the rules, the same for clipped and unclipped intervals."""
        kind, source, output = operation.kind, operation.input, operation.output
        inputs = [fields[tensor.id] for tensor in operation.inputs]
        across = self._across(operation)
        if across and len(across) == len(self._extents):
            return self._everywhere(_all_together(inputs), output, everything)
        known = [field for field in inputs if field is not None]
        if len(known) < len(inputs) or kind is Kind.UNKNOWN:
            # What cannot be followed adds nothing to what sees the whole image already.
            all_of_it = kind in (Kind.ADD, Kind.CONCATENATE) and any(self._sees_all(field) for field in known)
            return self._everywhere(None, output, everything) if all_of_it else None
        if across:
            known = [Field(_spread_out(field.terms, across, everything), field.gated) for field in known]
            return self._merged(operation, known)
        field = known[0]
        if kind is Kind.GATHER or (kind in WINDOWED and operation.window is None):
            followed = all(self._is_constant(tensor) for tensor in operation.inputs)
            return self._merged(operation, known) if followed else None
        if kind in WINDOWED and operation.window is not None:
            terms = (_windowed(term, operation.window, output.extents) for term in field.terms)
            return Field(_simplified(terms), field.gated)
        if kind in MERGES or len(known) > 1:
            return self._merged(operation, known)
        if kind is Kind.FLATTEN:
            return self._flattened(field, source)
        if kind is Kind.RESHAPE:
            return self._reshaped(field, source, output)
        if kind is Kind.SPATIAL_NORMALISATION and source.spatial:
            return Field(field.terms, gated=True, layout=field.layout)
        return field

    def _merged(self, operation: Operation, fields: list[Field[Intervals]]) -> Field[Intervals] | None:
        layouts = {field.layout.shape if field.layout else None for field in fields}
        if len(layouts) > 1 or (layouts != {None} and operation.kind is Kind.CONCATENATE):
            return None
        gated = any(field.gated for field in fields)
        chosen = list(zip(operation.inputs, fields, strict=True))
        if operation.kind is Kind.MULTIPLY:
            # A factor that sees everything is a gate: it is reported apart, else it would hide what its partner sees.
            local = [(tensor, field) for tensor, field in chosen if not self._is_constant(tensor)]
            if local and len(local) < len(chosen):
                chosen, gated = local, True
        extents = operation.output.extents
        terms: list[tuple[Intervals, ...]] = []
        for tensor, field in chosen:
            terms += [_fitted(term, self._reduced(operation, tensor), extents) for term in field.terms]
        return Field(_simplified(terms), gated, fields[0].layout)

    def _across(self, operation: Operation) -> tuple[int, ...]:
        """The axes of the input along which the operation's units see everything."""
        if operation.across is not None:
            return operation.across
        return tuple(range(len(self._extents))) if operation.kind in (Kind.LINEAR, Kind.GLOBAL_POOL) else ()

    def _reduced(self, operation: Operation, tensor: Tensor) -> tuple[int, ...]:
        """The extents of an input once all its positions along some axes have been put together."""
        extents = tensor.extents or (1,) * len(operation.output.extents)
        across = self._across(operation)
        return tuple(1 if axis in across else extent for axis, extent in enumerate(extents))

    def _flattened(self, field: Field[Intervals], source: Tensor) -> Field[Intervals]:
        if max(source.extents, default=1) > 1:
            return Field(field.terms, field.gated, field.layout or source)
        terms = tuple(tuple(interval.spread(1) for interval in term) for term in field.terms)
        return Field(terms, field.gated, field.layout)

    def _reshaped(self, field: Field[Intervals], source: Tensor, output: Tensor) -> Field[Intervals] | None:
        if field.layout is not None or source.spatial:
            before = field.layout or source
            same = (before.shape, before.spatial) == (output.shape, output.spatial)
            return Field(field.terms, field.gated) if same else None
        if len(output.spatial) not in (0, len(self._extents)) and self._extents:
            return None
        extents = output.extents or (1,) * len(self._extents)
        terms = (tuple(interval.spread(n) for interval, n in zip(term, extents, strict=False)) for term in field.terms)
        return Field(tuple(terms), field.gated)

    def _is_constant(self, tensor: Tensor) -> bool:
        field = self._fields[tensor.id]
        return field is not None and all(interval.step == 0 for term in field.terms for interval in term)

    @staticmethod
    def _everywhere(
        field: Field[Intervals] | None,
        output: Tensor,
        everything: Callable[[Field[Intervals] | None], tuple[tuple[Intervals, ...], ...]],
    ) -> Field[Intervals]:
        """The field of units that each see all that a field holds."""
        return Field(tuple(_fitted(term, (1,) * len(term), output.extents) for term in everything(field)))

    def _sees_all(self, field: Field[Intervals]) -> bool:
        """Whether every unit sees the whole image."""
        return field.layout is None and any(
            all(interval.covers(extent) for interval, extent in zip(term, self._extents, strict=True))
            for term in field.terms
        )

    def _everything_unclipped(self, field: Field[Periodic] | None) -> tuple[tuple[Periodic, ...], ...]:
        if field is not None and not field.terms:
            return ()
        return (tuple(Periodic((0,), (extent - 1,), 0) for extent in self._extents),)

    def _everything_clipped(self, field: Field[Listed] | None) -> tuple[tuple[Listed, ...], ...]:
        import numpy as np

        if field is None:  # as far as we know, everything
            return (tuple(Listed(np.array([0]), np.array([extent - 1])) for extent in self._extents),)
        if not field.terms:
            return ()
        ends = [
            (
                min(int(term[axis].lo.min()) for term in field.terms),
                max(int(term[axis].hi.max()) for term in field.terms),
            )
            for axis in range(len(self._extents))
        ]
        return (tuple(Listed(np.array([lo]), np.array([hi])) for lo, hi in ends),)


def _all_together(fields: Sequence[Field[Intervals] | None]) -> Field[Intervals] | None:
    """The terms of several fields in one, None where one of them cannot be followed."""
    known = [field for field in fields if field is not None]
    return Field(tuple(term for field in known for term in field.terms)) if len(known) == len(fields) else None


def _spread_out(
    terms: tuple[tuple[Intervals, ...], ...],
    across: tuple[int, ...],
    everything: Callable[[Field[Intervals] | None], tuple[tuple[Intervals, ...], ...]],
) -> tuple[tuple[Intervals, ...], ...]:
    """The same terms with all units along some axes put together."""
    answer: list[tuple[Intervals, ...]] = []
    for term in terms:
        for whole in everything(Field((term,))):
            answer.append(tuple(whole[axis] if axis in across else own for axis, own in enumerate(term)))
    return tuple(answer)


def _fitted(term: tuple[Intervals, ...], own: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[Intervals, ...]:
    """A term over other extents: what is one position along an axis is repeated."""
    if not wanted:
        return term
    return tuple(
        interval if extent == units else interval.spread(units)
        for interval, extent, units in zip(term, own, wanted, strict=False)
    )


def _work(operation: Operation, field: Field[Periodic] | None) -> int:
    """About how many steps the phases and terms behind this operation take."""
    if field is None or operation.kind not in _COSTLY:
        return 0
    periods = [math.lcm(*(len(interval.lo) for interval in along)) for along in zip(*field.terms, strict=True)]
    if max(periods, default=1) > MAX_PERIOD:
        raise _TooIrregularError
    work = 0
    if max(periods, default=1) > 1:
        taps = max(operation.window.kernel) if operation.window else 1
        work += sum(len(interval.lo) * min(taps, len(interval.lo)) for term in field.terms for interval in term)
    if len(field.terms) > 1:  # to look at them together: all places along one axis, all mixtures along the others
        places = math.prod(2 * period for period in periods)
        work += sum(
            len(field.terms) * 2 * period * min(1 << len(field.terms), places // (2 * period)) for period in periods
        )
    return work


def _windowed(term: tuple[Intervals, ...], window: Window, units: tuple[int, ...]) -> tuple[Intervals, ...]:
    result: list[Intervals] = []
    known: dict[
        tuple[int, ...], Intervals
    ] = {}  # square windows on square inputs: one axis is worked out, the others copy it
    for axis, interval in enumerate(term):
        kernel, stride, dilation, low = (
            each[axis] for each in (window.kernel, window.stride, window.dilation, window.low)
        )
        key = (id(interval), kernel, stride, dilation, low, units[axis])
        if key not in known:
            slide = interval.transposed if window.transposed else interval.windowed
            known[key] = slide(kernel, stride, dilation, low, units[axis])
        result.append(known[key])
    return tuple(result)


def _simplified(terms: Iterable[tuple[Intervals, ...]]) -> tuple[tuple[Intervals, ...], ...]:
    """The same union in fewer terms, without those that see nothing."""
    kept: list[tuple[Intervals, ...]] = []
    for term in terms:
        if any(interval.nowhere for interval in term):
            continue
        position = 0
        while position < len(kept):
            union = _union(kept[position], term)
            if union is None:
                position += 1
            else:  # it may now unite with one that it did not fit before
                del kept[position]
                term, position = union, 0
        kept.append(term)
        if len(kept) > MAX_TERMS:
            raise _TooIrregularError
    return tuple(kept)


def _union(one: tuple[Intervals, ...], other: tuple[Intervals, ...]) -> tuple[Intervals, ...] | None:
    """Both terms as one, where that is exact: they differ along one axis only, or the same units see something."""
    differ = [(mine, theirs) for mine, theirs in zip(one, other, strict=True) if mine is not theirs and mine != theirs]
    if not all(mine.parallel(theirs) for mine, theirs in differ):
        return None
    if len(differ) > 1 and not all(mine.same_support(theirs) for mine, theirs in differ):
        return None
    # Keyed by identity, so that axes that share their intervals are joined once and go on sharing.
    pairs = {(id(mine), id(theirs)): (mine, theirs) for mine, theirs in differ}
    joined = {key: mine.joined(theirs) for key, (mine, theirs) in pairs.items()}
    return tuple(joined.get((id(mine), id(theirs)), mine) for mine, theirs in zip(one, other, strict=True))


def _views(field: Field[Periodic], extents: tuple[int, ...]) -> tuple[AxisView, ...]:
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


def _view(interval: Periodic, extent: int) -> AxisView:
    period = len(interval.lo)
    sizes = tuple(_length(interval.at(unit)) for unit in range(min(period, extent)))
    firsts = [ends and ends[0] for ends in map(interval.at, range(period + 1))]
    steps = {
        after - before if before is not None and after is not None else None
        for before, after in itertools.pairwise(firsts)
    }
    stride = steps.pop() if len(steps) == 1 else None
    return AxisView(max(sizes), stride or None, firsts[0], sizes if len(set(sizes)) > 1 else None)


def _view_of_union(field: Field[Periodic], axis: int, extents: tuple[int, ...]) -> AxisView:
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


def _ends_of_axis(intervals: list[Periodic], extent: int) -> list[int]:
    period = math.lcm(*(len(interval.lo) for interval in intervals))
    if 2 * period >= extent:
        return list(range(extent))
    return [*range(period), *range(extent - period, extent)]


def _length(ends: Ends | None) -> int:
    return 0 if ends is None else ends[1] - ends[0] + 1


def _misalignments(operation: Operation, fields: Mapping[int, Field[Periodic] | None]) -> list[Misalignment]:
    """Where the branches of a merge that do not see everything are centred on different places, on average."""
    branches = [fields[tensor.id] for tensor in operation.inputs if tensor.extents == operation.output.extents]
    found = []
    for axis in range(len(operation.output.extents)):
        intervals = [term[axis] for field in branches if field for term in field.terms if axis < len(term)]
        courses = {_course(interval) for interval in intervals if interval.step}
        if len({pace for pace, _ in courses}) > 1:
            found.append(Misalignment(operation.name, axis, None))
        elif courses:
            centres = [centre for _, centre in courses]
            offset = max(centres) - min(centres)
            if offset > 1e-6:
                found.append(Misalignment(operation.name, axis, offset))
    return found


def _course(interval: Periodic) -> tuple[float, float]:
    """How far a unit moves on the input on average, and where the middle of unit 0 would then lie."""
    period = len(interval.lo)
    pace = interval.step / period
    middles = [
        (ends[0] + ends[1]) / 2 - pace * unit for unit in range(period) if (ends := interval.at(unit)) is not None
    ]
    return pace, sum(middles) / len(middles)

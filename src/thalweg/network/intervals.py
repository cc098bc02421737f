"""Which input positions units see along one axis: without borders, as a pattern that repeats, and with them, as a list.

Axes that are put together of pieces have several patterns (`thalweg.network.piecewise`). All kinds of intervals know
the same moves: a window, a transposed window, a repetition, a union, all that lies before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, overload

from thalweg.network.graph import Border, Resampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thalweg.network.piecewise import Piecewise, Unclipped

    Integers = NDArray[np.int64]
    Choice = NDArray[np.bool_]

MAX_PERIOD = 1024
"""The longest pattern of phases that is followed; ordinary networks stay below 64."""
MAX_POSITIONS = 10_000_000
"""Over how many positions clipped intervals are kept, all axes of all maps of one network together."""

Ends = tuple[int, int]
"""The first and the last input position."""

_NEVER = 1 << 62  # the first position of a unit that sees nothing, and minus its last


class TooIrregularError(Exception):
    """The pattern of phases is longer than we follow."""


@dataclass(frozen=True, slots=True)
class Periodic:
    """Unclipped intervals along one axis, for every integer i: lo(i + period) = lo(i) + step, and so for hi.

    Args:
        lo: one period of first positions; None where the unit sees nothing.
        hi: one period of last positions.
        step: how far a period moves over the input; 0 where every unit sees the same, negative where the axis is read
            backwards.
        widening: how much further the last positions move than the first ones, as where every unit sees all that lies
            before it: hi(i + period) = hi(i) + step + widening.
    """

    lo: tuple[int | None, ...]
    hi: tuple[int | None, ...]
    step: int
    widening: int = 0

    def at(self, unit: int) -> Ends | None:
        """The interval of one unit, None where it sees nothing."""
        turns, phase = divmod(unit, len(self.lo))
        lo, hi = self.lo[phase], self.hi[phase]
        if lo is None or hi is None:
            return None
        return lo + turns * self.step, hi + turns * (self.step + self.widening)

    @property
    def constant(self) -> bool:
        """Whether the pattern stays where it is."""
        return self.step == 0 == self.widening

    @property
    def nowhere(self) -> bool:
        """Whether no unit sees anything."""
        return all(lo is None for lo in self.lo)

    def covers(self, extent: int) -> bool:
        """Whether every unit sees the positions from 0 to before `extent`."""
        return self.constant and all(
            lo is not None and hi is not None and lo <= 0 and hi >= extent - 1
            for lo, hi in zip(self.lo, self.hi, strict=True)
        )

    def widest_covers(self, extent: int) -> bool:
        """Whether there are units that see the positions from 0 to before `extent`, though not all do."""
        first = min((lo for lo in self.lo if lo is not None), default=1)
        last = max((hi for hi in self.hi if hi is not None), default=-1)
        return (self.step == 0 and first <= 0 < self.widening) or (
            self.step + self.widening == 0 > self.widening and last >= extent - 1
        )

    def padded(self, low: int, units: int, border: Border) -> Periodic:
        """The intervals once `low` units stand before the first: where there is no border, the same ones moved."""
        return self.windowed(1, 1, 1, low, units)

    def windowed(self, kernel: int, stride: int, dilation: int, low: int, units: int) -> Periodic:
        """The intervals behind a window; `units`, their number, plays no part: there is no border."""
        period, pace = len(self.lo), self.step + self.widening
        if period == 1:
            if self.lo[0] is None or self.hi[0] is None:
                return self
            first, last = -low, dilation * (kernel - 1) - low
            lo, hi = self.lo[0] + min(first * self.step, last * self.step), self.hi[0] + max(first * pace, last * pace)
            return Periodic((lo,), (hi,), stride * self.step, stride * self.widening)
        # Taps in the same phase move by whole periods, so one round over the phases from the first tap on holds the
        # minimum, and one from the last tap back the maximum; the other way round where the axis is read backwards.
        taps = min(kernel, period // math.gcd(period, dilation))
        rounds = period // math.gcd(period, stride)
        los: list[int | None] = []
        his: list[int | None] = []
        front, back = range(taps), range(kernel - taps, kernel)
        lowest, highest = front if self.step >= 0 else back, back if pace >= 0 else front
        for unit in range(rounds):
            start = unit * stride - low
            firsts = [self.at(start + dilation * tap) for tap in lowest]
            lasts = [self.at(start + dilation * tap) for tap in highest]
            los.append(min((each[0] for each in firsts if each), default=None))
            his.append(max((each[1] for each in lasts if each), default=None))
        turns = rounds * stride // period
        return _shortest(los, his, self.step * turns, self.widening * turns)

    def transposed(self, kernel: int, stride: int, dilation: int, low: int, units: int) -> Periodic:
        """The intervals behind a transposed window: an ordinary one over the input with stride - 1 gaps in between."""
        if len(self.lo) * stride > MAX_PERIOD:
            raise TooIrregularError
        gaps = (None,) * (stride - 1)
        lo = tuple(value for first in self.lo for value in (first, *gaps))
        hi = tuple(value for last in self.hi for value in (last, *gaps))
        apart = Periodic(lo, hi, self.step, self.widening)
        return apart.windowed(kernel, 1, dilation, dilation * (kernel - 1) - low, units)

    def resampled(self, how: Resampling, units: int) -> Periodic:
        """The intervals of units that are made of positions at a ratio of whole numbers."""
        rounds = len(self.lo) // math.gcd(len(self.lo), how.step)
        period = rounds * len(how.first)
        if period > MAX_PERIOD:
            raise TooIrregularError
        lo, hi = [], []
        for unit in range(period):
            first, last = how.at(unit)
            seen = [ends for place in range(first, last + 1) if (ends := self.at(place))]
            lo.append(min((ends[0] for ends in seen), default=None))
            hi.append(max((ends[1] for ends in seen), default=None))
        turns = how.step * rounds // len(self.lo)
        return _shortest(lo, hi, self.step * turns, self.widening * turns)

    def spread(self, units: int) -> Periodic:
        """Unit 0 repeated."""
        return self if self.constant and len(self.lo) == 1 else Periodic((self.lo[0],), (self.hi[0],), 0)

    def reversed(self) -> Periodic:
        """Unit -i in the place of unit i."""
        ends = [self.at(-unit) for unit in range(len(self.lo))]
        lo, hi = tuple(each and each[0] for each in ends), tuple(each and each[1] for each in ends)
        return Periodic(lo, hi, -self.step, -self.widening)

    def chosen(self, kept: Choice, extent: int) -> Periodic:
        """The intervals of units that see some positions each, wherever: the whole image, at the most."""
        return self if self.constant else Periodic((0,), (extent - 1,), 0)

    def heaped(self, extent: int) -> Periodic:
        """The intervals of units that see what all units before them see too, back to where the image begins.

        Args:
            extent: of the image; read backwards, it begins at its end.
        """
        if self.constant or self.nowhere:
            return self
        pace, period = self.step + self.widening, len(self.lo)
        lo, hi = [], []
        for unit in range(period):  # what those of the round before its own see lies furthest
            seen = [ends for place in range(unit + 1 - period, unit + 1) if (ends := self.at(place))]
            lo.append(min(first for first, _ in seen))
            hi.append(max(last for _, last in seen))
        if self.step >= 0:
            lo = [min(first for first in self.lo if first is not None)] * period
        if self.step > 0:
            lo = [min(0, *lo)] * period
        if pace <= 0:
            hi = [max(last for last in self.hi if last is not None)] * period
        if pace < 0:
            hi = [max(extent - 1, *hi)] * period
        step = min(self.step, 0)
        return _shortest(lo, hi, step, max(pace, 0) - step)

    def parallel(self, other: Unclipped) -> bool:
        """Whether both move over the input at the same pace."""
        if not isinstance(other, Periodic):
            return other.parallel(self)
        ours, theirs = len(self.lo), len(other.lo)
        return self.step * theirs == other.step * ours and self.widening * theirs == other.widening * ours

    def same_support(self, other: Unclipped) -> bool:
        """Whether the same units see something."""
        if not isinstance(other, Periodic):
            return other.same_support(self)
        return all((ours is None) == (theirs is None) for ours, theirs in zip(*self._together(other), strict=True))

    @overload
    def joined(self, other: Periodic) -> Periodic: ...

    @overload
    def joined(self, other: Piecewise) -> Unclipped: ...

    def joined(self, other: Unclipped) -> Unclipped:
        """The hull of both, which must be parallel."""
        if not isinstance(other, Periodic):
            return other.joined(self)
        ours, theirs = self._together(other)
        pairs = [[ends for ends in pair if ends] for pair in zip(ours, theirs, strict=True)]
        lo = [min((ends[0] for ends in pair), default=None) for pair in pairs]
        hi = [max((ends[1] for ends in pair), default=None) for pair in pairs]
        turns = len(ours) // len(self.lo)
        return _shortest(lo, hi, self.step * turns, self.widening * turns)

    def _together(self, other: Periodic) -> tuple[list[Ends | None], list[Ends | None]]:
        period = math.lcm(len(self.lo), len(other.lo))
        if period > MAX_PERIOD:
            raise TooIrregularError
        return [self.at(unit) for unit in range(period)], [other.at(unit) for unit in range(period)]


def _shortest(lo: Sequence[int | None], hi: Sequence[int | None], step: int, widening: int) -> Periodic:
    """The same intervals with the shortest period."""

    def repeats(values: Sequence[int | None], period: int, part: int) -> bool:
        return all(
            (before is None and after is None) or (before is not None and after is not None and after - before == part)
            for before, after in zip(values, values[period:], strict=False)
        )

    for divisor in range(2, len(lo) + 1):
        while len(lo) % divisor == 0 and step % divisor == 0 == widening % divisor:
            period, part, more = len(lo) // divisor, step // divisor, widening // divisor
            if not (repeats(lo, period, part) and repeats(hi, period, part + more)):
                break
            lo, hi, step, widening = lo[:period], hi[:period], part, more
    return Periodic(tuple(lo), tuple(hi), step, widening)


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

    def widest_covers(self, extent: int) -> bool:
        """Whether some unit sees the positions from 0 to before `extent`."""
        return bool(((self.lo <= 0) & (self.hi >= extent - 1)).any())

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
            raise TooIrregularError
        stuffed = Listed(np.full(length, _NEVER), np.full(length, -_NEVER))
        stuffed.lo[::stride], stuffed.hi[::stride] = self.lo, self.hi
        return stuffed.windowed(kernel, 1, dilation, dilation * (kernel - 1) - low, units)

    def chosen(self, kept: Choice, extent: int) -> Listed:
        """The intervals of units that see some positions each: `kept`, `(units, positions)`, says which."""
        import numpy as np

        lo, hi = np.full(len(kept), _NEVER), np.full(len(kept), -_NEVER)
        for unit, seen in enumerate(kept):
            if seen.any():
                lo[unit], hi[unit] = self.lo[seen].min(), self.hi[seen].max()
        return Listed(lo, hi)

    def heaped(self, extent: int) -> Listed:
        """The intervals of units that see what all units before them see too."""
        import numpy as np

        return Listed(np.minimum.accumulate(self.lo), np.maximum.accumulate(self.hi))

    def reversed(self) -> Listed:
        """The last unit in the place of the first."""
        return Listed(self.lo[::-1], self.hi[::-1])

    def padded(self, low: int, units: int, border: Border) -> Listed:
        """The intervals of `units` units, `low` of them before the first, which are those of units that exist."""
        import numpy as np

        last, places = len(self.lo) - 1, np.arange(units, dtype=np.int64) - low
        if border is Border.WRAPPED:
            places %= last + 1
        elif border is Border.MIRRORED and last:
            places = last - np.abs(last - places % (2 * last))
        places = np.clip(places, 0, last)
        return Listed(self.lo[places], self.hi[places])

    def placed(self, start: int, step: int, begin: int, length: int, units: int) -> Listed:
        """The intervals of `units` units, of which `length` from `begin` on are our `start`, `start + step`, ...

        The others see nothing.
        """
        import numpy as np

        made = Listed(np.full(units, _NEVER), np.full(units, -_NEVER))
        taken = start + step * np.arange(length)
        made.lo[begin : begin + length], made.hi[begin : begin + length] = self.lo[taken], self.hi[taken]
        return made

    def resampled(self, how: Resampling, units: int) -> Listed:
        """The intervals of units that are made of positions at a ratio of whole numbers, as far as these exist."""
        import numpy as np

        ends = np.array([how.at(unit) for unit in range(units)]).clip(0, len(self.lo) - 1)
        firsts, taps = ends[:, 0], ends[:, 1] - ends[:, 0] + 1
        lo = _over_taps(self.lo, firsts, taps, 1, np.minimum, _NEVER)
        return Listed(lo, _over_taps(self.hi, firsts, taps, 1, np.maximum, -_NEVER))

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


Intervals = TypeVar("Intervals", "Unclipped", Listed)

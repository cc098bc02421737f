"""Unclipped intervals along an axis that is put together of pieces, such as two slices that went different ways."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from thalweg.network.graph import Border, Resampling
from thalweg.network.intervals import MAX_PERIOD, Ends, Periodic, TooIrregularError

if TYPE_CHECKING:
    from thalweg.network.intervals import Choice

MAX_STEPS = 1 << 18
"""The most taps that are looked at one by one where a window lies over a seam."""
NOWHERE = Periodic((None,), (None,), 0)

Unclipped: TypeAlias = "Periodic | Piecewise"
"""Intervals along one axis without borders."""


@dataclass(frozen=True, slots=True)
class Piecewise:
    """Unclipped intervals along one axis, one pattern after the other; the outermost two go on for ever.

    Args:
        starts: the first unit of every piece but the first.
        parts: the pattern of every piece, of which it holds the units between its start and the next.
    """

    starts: tuple[int, ...]
    parts: tuple[Periodic, ...]

    @property
    def constant(self) -> bool:
        """Whether every unit sees the same: then it would be one piece."""
        return False

    @property
    def nowhere(self) -> bool:
        """Whether no unit sees anything."""
        return all(part.nowhere for part in self.parts)

    def at(self, unit: int) -> Ends | None:
        """The interval of one unit, None where it sees nothing."""
        return self.parts[bisect.bisect_right(self.starts, unit)].at(unit)

    def covers(self, extent: int) -> bool:
        """Whether every unit sees the positions from 0 to before `extent`."""
        return all(part.covers(extent) for part in self.parts)

    def widest_covers(self, extent: int) -> bool:
        """Whether there are units that see the positions from 0 to before `extent`."""
        return any(part.covers(extent) or part.widest_covers(extent) for part in self.parts)

    def padded(self, low: int, units: int, border: Border) -> Unclipped:
        """The intervals once `low` units stand before the first: where there is no border, the same ones moved."""
        return self.windowed(1, 1, 1, low, units)

    def windowed(self, kernel: int, stride: int, dilation: int, low: int, units: int) -> Unclipped:
        """The intervals behind a window; `units`, their number, plays no part: there is no border."""
        span = dilation * (kernel - 1)

        def over_seams(made: range) -> Periodic:
            if len(made) * kernel > MAX_STEPS:
                raise TooIrregularError
            firsts = (unit * stride - low for unit in made)
            ends = [_hull(self.at(first + dilation * tap) for tap in range(kernel)) for first in firsts]
            return _listed(made[0], ends)

        return self._piece_by_piece(
            lambda start: -((-start - low) // stride),
            lambda stop: (stop - 1 - span + low) // stride + 1,
            lambda part, _: part.windowed(kernel, stride, dilation, low, units),
            over_seams,
        )

    def resampled(self, how: Resampling, units: int) -> Unclipped:
        """The intervals of units that are made of positions at a ratio of whole numbers."""

        def over_seams(made: range) -> Periodic:
            reached = [range(how.at(unit)[0], how.at(unit)[1] + 1) for unit in made]
            if sum(map(len, reached)) > MAX_STEPS:
                raise TooIrregularError
            return _listed(made[0], [_hull(map(self.at, places)) for places in reached])

        def moved(part: Periodic, made: range | None) -> Periodic:
            period = len(part.lo) // math.gcd(len(part.lo), how.step) * len(how.first)
            return part.resampled(how, units) if made is None or len(made) > period else over_seams(made)

        if how.step == 0:  # a single place for all units
            return over_seams(range(1))
        return self._piece_by_piece(
            lambda start: how.reaching(start)[0], lambda stop: how.reaching(stop)[1], moved, over_seams
        )

    def _piece_by_piece(
        self,
        since: Callable[[int], int],
        until: Callable[[int], int],
        moved: Callable[[Periodic, range | None], Periodic],
        over_seams: Callable[[range], Periodic],
    ) -> Unclipped:
        """The intervals of units that are made of neighbouring positions, and move on with them.

        Args:
            since: from the first position of a piece to the first unit that is made of it and what follows only.
            until: from the first position behind a piece to the first unit that is made of any behind it.
            moved: what the pattern of a piece becomes, for these units only where it does not go on for ever.
            over_seams: the intervals of units that are made of several pieces.
        """
        starts: list[int] = []
        parts: list[Periodic] = []
        reached = 0  # from which unit on nothing is known yet
        for start, stop, part in pieces_of(self):
            first = None if start is None else since(start)
            behind = None if stop is None else until(stop)
            if first is not None and behind is not None and first >= behind:
                continue
            if first is not None and reached < first:
                starts.append(reached)
                parts.append(over_seams(range(reached, first)))
            if first is not None:
                starts.append(first)
            parts.append(moved(part, None if first is None or behind is None else range(first, behind)))
            reached = behind or 0
        return in_a_row(starts, parts)

    def transposed(self, kernel: int, stride: int, dilation: int, low: int, units: int) -> Unclipped:
        """The intervals behind a transposed window: an ordinary one over the input with stride - 1 gaps in between."""
        stuffed = [part.transposed(1, stride, 1, 0, units) for part in self.parts]
        apart = in_a_row([start * stride for start in self.starts], stuffed)
        return apart.windowed(kernel, 1, dilation, dilation * (kernel - 1) - low, units)

    def spread(self, units: int) -> Periodic:
        """Unit 0 repeated."""
        return self.parts[bisect.bisect_right(self.starts, 0)].spread(units)

    def reversed(self) -> Piecewise:
        """Unit -i in the place of unit i."""
        starts = tuple(1 - start for start in self.starts[::-1])
        return Piecewise(starts, tuple(part.reversed() for part in self.parts[::-1]))

    def chosen(self, kept: Choice, extent: int) -> Periodic:
        """The intervals of units that see some positions each, wherever: the whole image, at the most."""
        return Periodic((0,), (extent - 1,), 0)

    def heaped(self, extent: int) -> Periodic:
        """The intervals of units that see what all units before them see too: the whole image, at the most.

        Which of the pieces lie before a unit is told by the clipped intervals only.
        """
        return Periodic((0,), (extent - 1,), 0)

    def parallel(self, other: Unclipped) -> bool:
        """Whether both move over the input at the same pace wherever they go on for ever."""
        return all(
            one.nowhere or two.nowhere or (start is not None and stop is not None) or one.parallel(two)
            for start, stop, (one, two) in stretches([self, other])
        )

    def same_support(self, other: Unclipped) -> bool:
        """Whether the same units see something."""
        return all(_same_support(start, stop, *both) for start, stop, both in stretches([self, other]))

    def joined(self, other: Unclipped) -> Unclipped:
        """The hull of both, which must be parallel."""
        met = list(stretches([self, other]))
        starts = [start for start, _, _ in met if start is not None]
        return in_a_row(starts, [_joined(start, stop, *both) for start, stop, both in met])


def placed(whole: Unclipped, start: int, step: int, begin: int, length: int, ends: tuple[bool, bool]) -> Unclipped:
    """The units `start`, `start + step`, ... of a map in the places from `begin` on, and units that see nothing around.

    Args:
        whole: the intervals of the map.
        start: the first unit that is taken.
        step: how far apart the units lie that are taken; negative to go backwards, 0 to repeat one of them.
        begin: where the first of them goes.
        length: how many there are.
        ends: whether the units before and those after go on in the same way instead.
    """
    moved: Unclipped
    if step == 0:
        moved = whole.windowed(1, 1, 1, -start, 1).spread(length)
    elif step > 0:
        moved = whole.windowed(1, step, 1, step * begin - start, length)
    else:
        moved = whole.reversed().windowed(1, -step, 1, start - step * begin, length)
    first, behind = None if ends[0] else begin, None if ends[1] else begin + length
    starts: list[int] = []
    parts: list[Periodic] = []
    if first is not None:
        starts, parts = [first], [NOWHERE]
    for since, until, part in pieces_of(moved):
        if (behind is None or since is None or since < behind) and (first is None or until is None or until > first):
            if since is not None and (first is None or since > first):
                starts.append(since)
            parts.append(part)
    if behind is not None:
        starts, parts = [*starts, behind], [*parts, NOWHERE]
    return in_a_row(starts, parts)


def pieces_of(whole: Unclipped) -> Iterator[tuple[int | None, int | None, Periodic]]:
    """Each piece's first unit and the first behind it, None where it goes on for ever, and its pattern."""
    if isinstance(whole, Periodic):
        yield None, None, whole
    else:
        yield from zip((None, *whole.starts), (*whole.starts, None), whole.parts, strict=True)


def common_period(several: Sequence[Unclipped]) -> int:
    """After how many units all patterns have been met together, counted for every stretch without a seam."""
    if len(several) == 1 and isinstance(several[0], Periodic):  # almost every layer
        return len(several[0].lo)
    return sum(math.lcm(*(len(part.lo) for part in parts)) for _, _, parts in stretches(several))


def stretches(several: Sequence[Unclipped]) -> Iterator[tuple[int | None, int | None, tuple[Periodic, ...]]]:
    """Where each has one pattern: the first unit there, the first behind, None for ever, and the patterns."""
    bounds = sorted({start for each in several if isinstance(each, Piecewise) for start in each.starts})
    for start, stop in itertools.pairwise([None, *bounds, None]):
        yield start, stop, tuple(_pattern(each, start) for each in several)


def in_a_row(starts: Sequence[int], parts: Sequence[Periodic]) -> Unclipped:
    """Patterns one after the other, in as few pieces as possible."""
    kept, firsts = [parts[0]], []
    for start, part in zip(starts, parts[1:], strict=True):
        if part != kept[-1]:
            kept.append(part)
            firsts.append(start)
    return Piecewise(tuple(firsts), tuple(kept)) if firsts else kept[0]


def _listed(start: int, ends: Sequence[Ends | None]) -> Periodic:
    """A pattern that has these intervals from a unit on, until they are used up."""
    if len(ends) > MAX_PERIOD:
        raise TooIrregularError
    turn = -start % len(ends)  # the pattern is told from unit 0 on
    turned = [*ends[turn:], *ends[:turn]]
    return Periodic(tuple(each and each[0] for each in turned), tuple(each and each[1] for each in turned), 0)


def _hull(several: Iterable[Ends | None]) -> Ends | None:
    seen = [each for each in several if each]
    return (min(lo for lo, _ in seen), max(hi for _, hi in seen)) if seen else None


def _pattern(whole: Unclipped, unit: int | None) -> Periodic:
    """The pattern at a unit, the outermost one before all others for None."""
    if isinstance(whole, Periodic):
        return whole
    return whole.parts[0 if unit is None else bisect.bisect_right(whole.starts, unit)]


def _same_support(start: int | None, stop: int | None, one: Periodic, other: Periodic) -> bool:
    if start is None or stop is None or stop - start > math.lcm(len(one.lo), len(other.lo)):
        return one.same_support(other)
    return all((one.at(unit) is None) == (other.at(unit) is None) for unit in range(start, stop))


def _joined(start: int | None, stop: int | None, one: Periodic, other: Periodic) -> Periodic:
    if one.nowhere or other.nowhere:
        return other if one.nowhere else one
    few = start is not None and stop is not None and stop - start <= math.lcm(len(one.lo), len(other.lo))
    if start is not None and stop is not None and (few or not one.parallel(other)):
        return _listed(start, [_hull((one.at(unit), other.at(unit))) for unit in range(start, stop)])
    return one.joined(other)

"""What the units of a map see: unions of products of intervals, in as few terms as is exact."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias

from thalweg.network.graph import Border, Kept, Piece, Pieces, Resampling, Span, Tensor, Window
from thalweg.network.intervals import Ends, Intervals, Listed, TooIrregularError
from thalweg.network.piecewise import placed

MAX_TERMS = 64
"""The most terms that one tensor may need; ordinary networks need one."""

MAX_PIECES = 1024
"""The most pieces of other maps that one map may be put together of."""


@dataclass(frozen=True, slots=True)
class Field(Generic[Intervals]):
    """What the units of one tensor see: the union of terms, each a product of intervals over the axes of the input.

    Args:
        terms: for each term the intervals along every axis; one term in ordinary networks.
        gated: whether the units are also scaled by a gate, or normalised by statistics, that see everything; that
            dependence is global by definition and left out of the intervals.
    """

    terms: tuple[tuple[Intervals, ...], ...]
    gated: bool = False

    @property
    def parts(self) -> tuple[Field[Intervals], ...]:
        """The fields that it holds: itself."""
        return (self,)

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
class FlatFields(Generic[Intervals]):
    """What the units see of a tensor in which maps stand flattened one after the other (`Tensor.flat`).

    Args:
        parts: the field of each map, by whose positions its intervals are indexed.
    """

    parts: tuple[Field[Intervals], ...]

    @property
    def gated(self) -> bool:
        """Whether one of the maps is gated."""
        return any(part.gated for part in self.parts)

    def ends(self, index: Sequence[int]) -> tuple[Ends, ...] | None:
        """As for `Field`; the number of the map stands before the position in it."""
        return self.parts[index[0]].ends(index[1:])


AnyField: TypeAlias = "Field[Intervals] | FlatFields[Intervals]"


def all_together(fields: Sequence[AnyField[Intervals] | None]) -> Field[Intervals] | None:
    """The terms of several fields in one, None where one of them cannot be followed."""
    known = [part for field in fields if field is not None for part in field.parts]
    return Field(tuple(term for field in known for term in field.terms)) if None not in fields else None


def flat_parts(tensor: Tensor, field: AnyField[Intervals], piece: Piece) -> tuple[Field[Intervals], ...]:
    """The fields of the maps that a piece of a tensor holds: all of it, or some of its flat maps."""
    if not tensor.flat:
        return field.parts
    held = []
    begin = 0
    for number, one in enumerate(tensor.flat):
        if begin < piece.start + piece.length and piece.start < begin + one.size:
            whole = field.parts[number] if isinstance(field, FlatFields) else spread_over(field, one.extents)
            held.append(whole)
        begin += one.size
    return tuple(held)


def spread_over(field: Field[Intervals], extents: tuple[int, ...]) -> Field[Intervals]:
    """The field of a map whose units all see what the only one of another sees."""
    return Field(tuple(fitted(term, (1,) * len(extents), extents) for term in field.terms), field.gated)


def spread_out(
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


def spanned(
    term: tuple[Intervals, ...], across: tuple[int, ...], span: Span, extents: tuple[int, ...], image: tuple[int, ...]
) -> tuple[Intervals, ...]:
    """A term of units that see so far along some axes.

    Args:
        term: the intervals.
        across: the axes.
        span: how far.
        extents: of the map.
        image: the extents of the image.
    """
    return tuple(
        _spanned(interval, span, extents[axis], image[axis]) if axis in across else interval
        for axis, interval in enumerate(term)
    )


def _spanned(interval: Intervals, span: Span, units: int, extent: int) -> Intervals:
    if isinstance(span.chosen, Resampling):
        return interval.resampled(span.chosen, units)
    if span.chosen is not None:
        return interval.chosen(span.chosen.kept, extent)
    if span.before is None:
        return interval.heaped(extent)
    if span.after is None:
        return interval.reversed().heaped(extent).reversed()
    return interval.windowed(span.before + 1 + span.after, 1, 1, span.before, units)


def left_of(
    terms: Sequence[tuple[Intervals, ...]], kept: Sequence[Kept], extents: tuple[int, ...]
) -> tuple[tuple[Intervals, ...], ...]:
    """The terms of a map of which a mask leaves some positions, and the others see nothing."""
    return simplified(
        tuple(
            interval if runs is None else _only(interval, runs, units)
            for interval, runs, units in zip(term, each.along, extents, strict=True)
        )
        for term in terms
        for each in kept
    )


def _only(interval: Intervals, runs: Sequence[tuple[int, int]], units: int) -> Intervals:
    """The intervals of the units in some stretches; the others see nothing."""
    if len(runs) > MAX_PIECES:
        raise TooIrregularError
    left: list[Intervals] = []
    for begin, behind in runs:
        ends = (begin == 0, behind == units)  # without borders the outermost go on for ever
        left.append(_moved(interval, Piece(behind - begin, 0, begin), begin, units, ends))
    while len(left) > 1:
        left = [
            one if other is None else one.joined(other) for one, other in itertools.zip_longest(left[::2], left[1::2])
        ]
    return left[0]


def fitted(term: tuple[Intervals, ...], own: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[Intervals, ...]:
    """A term over other extents: what is one position along an axis is repeated."""
    if not wanted:
        return term
    return tuple(
        interval if extent == units else interval.spread(units)
        for interval, extent, units in zip(term, own, wanted, strict=False)
    )


def windowed(term: tuple[Intervals, ...], window: Window, units: tuple[int, ...]) -> tuple[Intervals, ...]:
    """A term behind a window, which makes so many units along every axis."""
    result: list[Intervals] = []
    known: dict[
        tuple[int, ...], Intervals
    ] = {}  # square windows on square inputs: one axis is worked out, the others copy it
    for axis, interval in enumerate(term):
        kernel, stride, dilation, low = (
            each[axis] for each in (window.kernel, window.stride, window.dilation, window.low)
        )
        key = (id(interval), kernel, stride, dilation, low, units[axis])
        if key not in known and window.border is not Border.ZEROS:
            known[key] = interval.padded(low, units[axis], window.border)
        elif key not in known:
            slide = interval.transposed if window.transposed else interval.windowed
            known[key] = slide(kernel, stride, dilation, low, units[axis])
        result.append(known[key])
    return tuple(result)


def resampled(
    term: tuple[Intervals, ...], how: tuple[Resampling | None, ...], units: tuple[int, ...]
) -> tuple[Intervals, ...]:
    """A term behind a change to so many units along every axis."""
    return tuple(
        interval if each is None else interval.resampled(each, extent)
        for interval, each, extent in zip(term, how, units, strict=True)
    )


def put_together(
    pieces: Pieces, terms: Sequence[tuple[tuple[Intervals, ...], ...]]
) -> tuple[tuple[Intervals, ...], ...]:
    """The terms of a map whose positions along one axis are put together of pieces of others.

    Args:
        pieces: what it is put together of.
        terms: for each piece the terms of the map that it comes from; none for numbers.
    """
    units = sum(piece.length for piece in pieces.parts)
    held = [number for number, piece in enumerate(pieces.parts) if piece.source is not None]
    if len(held) > MAX_PIECES:
        raise TooIrregularError
    groups: list[tuple[tuple[Intervals, ...], ...]] = [()]
    begin = 0
    for number, (piece, own) in enumerate(zip(pieces.parts, terms, strict=True)):
        ends = (number in held[:1], number in held[-1:])  # without borders the outermost go on for ever
        group: list[tuple[Intervals, ...]] = []
        for term in own:
            moved = _moved(term[pieces.axis], piece, begin, units, ends)
            group.append(tuple(moved if axis == pieces.axis else each for axis, each in enumerate(term)))
        groups.append(tuple(group))
        begin += piece.length
    while len(groups) > 1:  # by pairs of neighbours, so that many pieces do not take the square of their number
        pairs = itertools.zip_longest(groups[::2], groups[1::2], fillvalue=())
        groups = [simplified(itertools.chain(*pair)) for pair in pairs]
    return groups[0]


def _moved(along: Intervals, piece: Piece, begin: int, units: int, ends: tuple[bool, bool]) -> Intervals:
    if isinstance(along, Listed):
        return along.placed(piece.start, piece.step, begin, piece.length, units)
    return placed(along, piece.start, piece.step, begin, piece.length, ends)


def simplified(terms: Iterable[tuple[Intervals, ...]]) -> tuple[tuple[Intervals, ...], ...]:
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
            raise TooIrregularError
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

"""What a unit sees most of: how many paths lead to it from every input position, without weights.

A unit depends on an input position through every chain of taps that leads from one to the other. Where weights are as
likely to be large in one place as in another, positions from which more paths come count for more: the number of
paths is the gradient of the network in which every weight is 1, every map has one channel, and every window adds up
what it covers. In the middle of n stacked convolutions of k taps the paths along an axis are spread with variance
n (k^2 - 1) / 12, so that the region that matters grows like the square root of the depth, while what the unit sees
grows like the depth.

Paths are counted backwards from the unit, through one map after the other, and only through positions that exist: a
tap in the padding leads nowhere. Convolutions, pools (each tap one path, whichever wins), fully connected layers,
sums, concatenations and everything that treats positions one by one have such counts. What an attention weighs, a
recurrent layer keeps, or a product multiplies depends on the values, not on the wiring; where a unit depends on such
an operation we say so. Gates and statistics that see the whole image are left out, as in `receptive_field`.

After W. Luo, Y. Li, R. Urtasun and R. Zemel, "Understanding the effective receptive field in deep convolutional neural
networks", NeurIPS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.network.graph import (
    MERGES,
    WINDOWED,
    Graph,
    Kept,
    Kind,
    Operation,
    Piece,
    Pieces,
    Resampling,
    Span,
    Tensor,
    Window,
)
from thalweg.network.intervals import Ends
from thalweg.network.receptive_field import ReceptiveFields
from thalweg.network.units import axis_names, place_in, plain, seat_of
from thalweg.report import Cell, Result, Table

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAX_STEPS = 300_000_000
"""The most positions times taps along all axes of one layer through which paths are counted: a second or two."""
MOST = 0.95
"""The share of all paths that is called most of them."""
COLUMNS = ("axis", "sees", "centre", "deviation", "most from", "to", "size")
"""What `axis_rows` are."""
_EXACT = 2**53  # up to here float64 counts without rounding
_LARGE, _SCALED = 1e200, 600  # when counts are divided by a power of two, and which

_ONE_BY_ONE = frozenset({Kind.ACTIVATION, Kind.DROPOUT, Kind.NORMALISATION, Kind.SPATIAL_NORMALISATION, Kind.REDUCE})
_UNEVEN = {
    Kind.ATTENTION: "weighs positions by what they hold",
    Kind.MATMUL: "multiplies what positions hold",
    Kind.MULTIPLY: "multiplies what positions hold",
    Kind.RECURRENT: "weighs positions by what came before them",
    Kind.EMBEDDING: "looks values up",
    Kind.GATHER: "takes values from places that are not followed",
    Kind.UNKNOWN: "does what is not known",
}


@dataclass(frozen=True)
class Profile:
    """How the paths to a unit are spread along one axis of the input.

    Args:
        shares: the share of all paths that begins at each position, borders to borders.
        seen: the first and the last position from which any path comes.
        mean: the mean position.
        deviation: the standard deviation of the position.
        most: the shortest interval that holds at least `MOST` of the paths.
    """

    shares: Array
    seen: Ends
    mean: float
    deviation: float
    most: Ends

    @classmethod
    def of(cls, shares: Array) -> Profile:
        """The profile of shares that sum to 1."""
        import numpy as np

        places = np.arange(len(shares))
        seen = np.flatnonzero(shares)
        mean = float(places @ shares)
        deviation = math.sqrt(max(0.0, float((places - mean) ** 2 @ shares)))
        sums = np.concatenate([[0.0], np.cumsum(shares)])
        # For each first position the last one that is needed; rounding must not ask for one position more.
        lasts = np.searchsorted(sums, sums[:-1] + MOST - 1e-12)
        widths = np.where(lasts <= len(shares), lasts - places, len(shares) + 1)
        first = int(np.argmin(widths))
        return cls(shares, (int(seen[0]), int(seen[-1])), mean, deviation, (first, int(lasts[first]) - 1))

    def to_dict(self) -> dict[str, Any]:
        """Keys: first, last, mean, deviation, most, shares (from first to last)."""
        first, last = self.seen
        return {
            "first": first,
            "last": last,
            "mean": self.mean,
            "deviation": self.deviation,
            "most": self.most,
            "shares": self.shares[first : last + 1],
        }


@dataclass(frozen=True, repr=False)
class EffectiveField(Result):
    """How the paths to one unit are spread over the input.

    Args:
        layer: the layer that the unit belongs to.
        index: its position there.
        shares: the share of all paths that begins at each position, in the extents of the input; None where paths
            cannot be counted alike, or none leads to the unit.
        paths: how many there are; an integer where float64 has counted them exactly, a float up to its range, None
            beyond.
        profiles: the spread along every axis.
        within: how many positions hold `MOST` of the paths, taken by their shares from the largest down.
        seen: from how many positions there is any path.
        why_not: why there are no shares.
        notes: what was left out.
    """

    layer: str
    index: tuple[int, ...]
    shares: Array | None
    paths: int | float | None
    profiles: tuple[Profile, ...]
    within: int
    seen: int
    why_not: str | None
    notes: tuple[str, ...]

    def table(self) -> Table:
        """One row for each axis."""
        notes = [self.why_not] if self.why_not else []
        if self.shares is not None:
            notes.append(f"{MOST:.0%} of all paths begin at {self.within:,} of the {self.seen:,} positions seen.")
        unit = ", ".join(map(str, self.index))
        title = f"Paths to unit ({unit}) of {self.layer}"
        return Table(title, COLUMNS, axis_rows(self.profiles), (*notes, *self.notes))

    def to_dict(self) -> dict[str, Any]:
        """Keys: layer, index, axes, paths, within, seen, why_not."""
        return {
            "layer": self.layer,
            "index": self.index,
            "axes": [profile.to_dict() for profile in self.profiles],
            "paths": self.paths,
            "within": self.within,
            "seen": self.seen,
            "why_not": self.why_not,
        }

    def figure(self) -> go.Figure:
        """The shares along every axis, and over the plane where there are two."""
        return spread_figure(self.shares, self.profiles, self.table().title)


def axis_rows(profiles: Sequence[Profile]) -> list[tuple[Cell, ...]]:
    """The rows of a table, one for each axis."""
    rows: list[tuple[Cell, ...]] = []
    for name, profile in zip(axis_names(len(profiles)), profiles, strict=True):
        (first, last), (low, high) = profile.seen, profile.most
        rows.append((name, last - first + 1, profile.mean, profile.deviation, low, high, high - low + 1))
    return rows


def spread_figure(shares: Array | None, profiles: Sequence[Profile], title: str) -> go.Figure:
    """Shares along every axis, and over the plane where there are two."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    names = axis_names(len(profiles))
    plane = shares is not None and shares.ndim == 2
    titles = [f"along the {name}" for name in names] + ["over the image"] * plane
    figure = make_subplots(1, max(1, len(titles)), subplot_titles=titles)
    for column, profile in enumerate(profiles, start=1):
        first, last = profile.seen
        places = list(range(first, last + 1))
        colours = ["#edae49" if profile.most[0] <= place <= profile.most[1] else "#f3d9a4" for place in places]
        bars = go.Bar(x=places, y=profile.shares[first : last + 1], marker={"color": colours, "line": {"width": 0}})
        figure.add_trace(bars, 1, column)
        figure.update_xaxes(title_text="input position", row=1, col=column)
    if shares is not None and plane:
        (top, bottom), (left, right) = (profile.seen for profile in profiles)
        part = shares[top : bottom + 1, left : right + 1]
        rows, columns = list(range(top, bottom + 1)), list(range(left, right + 1))
        figure.add_trace(
            go.Heatmap(z=part, x=columns, y=rows, zmin=0, colorscale="Viridis", showscale=False), 1, len(titles)
        )
        figure.update_yaxes(autorange="reversed", scaleanchor=f"x{len(titles)}", row=1, col=len(titles))
    return figure.update_layout(title=plain(title), template="plotly_white", showlegend=False, bargap=0, height=420)


def effective_field(graph: Graph, fields: ReceptiveFields, place: int, index: Sequence[int]) -> EffectiveField:
    """How the paths to one unit of an operation are spread over the input.

    Args:
        graph: the network.
        fields: its receptive fields.
        place: which operation.
        index: as for `thalweg.network.size.Size.unit`.

    Raises:
        InputError: the operation has no such unit, or what it sees cannot be followed.
    """
    where, tensor, seat = seat_of(graph, fields, place, index)
    name = graph.operations[place].name
    counted = _Paths(graph, fields)
    why_not = counted.back_from(tensor, _index(tensor, where[0]) if tensor.flat else seat if tensor.extents else ())
    total = 0.0 if counted.at_input is None else float(counted.at_input.sum())
    if counted.at_input is None or why_not is not None or total == 0:
        why_not = why_not or "No path leads to this unit."
        return EffectiveField(name, where, None, None if counted.blocked else 0, (), 0, 0, why_not, ())
    shares = counted.at_input / total
    return EffectiveField(
        name, where, shares, counted.number(total), profiles_of(shares), needed(shares), int((shares > 0).sum()), None,
        tuple(counted.notes),
    )  # fmt: skip


def profiles_of(shares: Array) -> tuple[Profile, ...]:
    """The spread along every axis."""
    axes = range(shares.ndim)
    return tuple(Profile.of(shares.sum(axis=tuple(other for other in axes if other != axis))) for axis in axes)


def needed(shares: Array) -> int:
    """How many positions hold `MOST` of all, from the largest share down."""
    import numpy as np

    sums = np.cumsum(np.sort(shares, axis=None)[::-1])
    return int(np.searchsorted(sums, MOST - 1e-12)) + 1


class _Paths:
    """The number of paths from each position of a tensor to one unit, tensor by tensor, from the unit backwards.

    Args:
        graph: the network.
        fields: its receptive fields.

    Attributes:
        at_input: the numbers at the input, divided by 2 to the power of `exponent`.
        blocked: whether an operation was met through which paths cannot be counted.
        notes: what was left out.
    """

    def __init__(self, graph: Graph, fields: ReceptiveFields) -> None:
        self._graph = graph
        self._fields = fields
        self._numbers: dict[int, Array] = {}
        self._exponent = 0
        self._largest = 1.0
        self.at_input: Array | None = None
        self.blocked = False
        self.notes: list[str] = []

    def back_from(self, tensor: Tensor, index: tuple[int, ...]) -> str | None:
        """Count the paths to the unit of `tensor` at `index`; a sentence that says why, where that cannot be done."""
        import numpy as np

        start = np.zeros(_counted(tensor))
        start[index] = 1
        self._numbers[tensor.id] = start
        for operation in reversed(self._graph.operations):
            reached = [output for output in operation.outputs if output.id in self._numbers]
            for output in reached:
                # One position may have been taken for a vector since, or a vector for one position.
                numbers = _spread(self._numbers.pop(output.id), (), _counted(output))
                if not numbers.any():
                    continue
                if (why_not := self._obstacle(operation)) is not None:
                    self.blocked = True
                    return why_not
                for source, more in self._before(operation, output, numbers):
                    known = self._numbers.get(source.id)
                    self._numbers[source.id] = more if known is None else known + more
            if reached:
                self._scale()
        self.at_input = self._numbers.get(self._graph.inputs[0].id)
        return None

    def number(self, total: float) -> int | float | None:
        """How many paths there are: exactly, rounded, or beyond what a float holds."""
        if self._exponent == 0 and self._largest <= _EXACT:
            return int(total)
        return math.ldexp(total, self._exponent) if math.log2(total) + self._exponent < 1023 else None

    def _obstacle(self, operation: Operation) -> str | None:
        """Why paths through an operation cannot be counted alike; None where they can."""
        reason = None
        if operation.kind is Kind.MULTIPLY:
            reason = _UNEVEN[Kind.MULTIPLY] if len(self._factors(operation)) != 1 else None
        elif operation.flat_pieces:
            return None
        elif operation.kind is Kind.RESHAPE and operation.input.extents != operation.output.extents:
            reason = "gives positions another order"
        elif operation.kind in WINDOWED:
            reason = None if operation.window is not None or operation.resampled else _UNEVEN[Kind.GATHER]
            if operation.window is not None and _steps(operation.input, operation.window) > MAX_STEPS:
                reason = f"is too large: positions times taps are more than {MAX_STEPS:,}"
        elif operation.kind in _UNEVEN and operation.pieces is None:
            reason = _UNEVEN[operation.kind]
        return None if reason is None else f"Paths cannot be counted: {operation.name} {reason}."

    def _factors(self, operation: Operation) -> list[Tensor]:
        """The factors of a product that differ from unit to unit: one, where all others are gates or constants."""
        return [tensor for tensor in operation.inputs if not self._fields.is_constant(tensor)]

    def _before(self, operation: Operation, output: Tensor, numbers: Array) -> Iterator[tuple[Tensor, Array]]:
        """The inputs of an operation, and the numbers of paths from their positions through it."""
        if operation.flat_pieces:
            yield from _from_flat_pieces(numbers, operation)
            return
        if operation.resampled:
            if operation.kind is Kind.UPSAMPLE:
                self._note(f"{operation.name} interpolates; all its taps count alike.")
            yield operation.input, _resampled(numbers, operation.resampled, operation.input.extents)
            return
        if operation.kind in WINDOWED:
            assert operation.window is not None, "checked before"
            if operation.kind is Kind.UPSAMPLE and operation.window.kernel != operation.window.stride:
                self._note(f"{operation.name} interpolates; all its taps count alike.")
            for each in operation.windows:
                yield operation.input, _through_window(numbers, each, operation.input.extents)
            return
        if operation.pieces is not None:
            yield from _from_pieces(numbers, operation, operation.pieces)
            return
        if operation.kind is Kind.SPATIAL_NORMALISATION:
            self._note(f"{operation.name} also depends on the statistics of the whole map; they are left out.")
        sources = list(operation.inputs)
        if operation.kind is Kind.MULTIPLY:
            sources = self._factors(operation)
            if len(sources) < len(operation.inputs):
                self._note(f"{operation.name} also multiplies by what sees the whole image; that is left out.")
        elif operation.kind not in MERGES:
            sources = sources[:1]
        across = self._fields.across(operation)
        numbers = _where_kept(numbers, operation.kept)
        for source in sources:
            span = operation.span
            if span is not None and span.along == (0,) and not span.sees_all and not source.flat:
                yield source, _heaped(numbers, across, span)
            elif source.flat and source.flat == output.flat and not across:
                yield source, numbers
            elif source.flat or output.flat:  # what is put together there, or the same everywhere
                yield source, _spread(numbers.sum(), across, _counted(source))
            else:
                yield source, _spread(numbers, across, source.extents)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _scale(self) -> None:
        """Keep the numbers within the range of floats; a power of two leaves every digit as it is."""
        largest = max((float(numbers.sum()) for numbers in self._numbers.values()), default=0.0)
        self._largest = max(self._largest, largest)
        if largest > _LARGE:
            self._exponent += _SCALED
            self._numbers = {number: values * 2.0**-_SCALED for number, values in self._numbers.items()}


def _counted(tensor: Tensor) -> tuple[int, ...]:
    """The shape of the numbers of paths for a tensor: its extents, or all positions of its flat maps in a row."""
    return (sum(math.prod(each.extents) for each in tensor.flat),) if tensor.flat else tensor.extents


def _index(tensor: Tensor, place: int) -> tuple[int, ...]:
    """Where in its numbers of paths the unit in a place of flat maps is."""
    import numpy as np

    number, position = place_in(tensor.flat, place)
    before = sum(math.prod(each.extents) for each in tensor.flat[:number])
    return (before + int(np.ravel_multi_index(position, tensor.flat[number].extents)),)


def _steps(tensor: Tensor, window: Window) -> int:
    return math.prod(tensor.extents) * sum(window.kernel)


def _spread(numbers: Array, across: tuple[int, ...], extents: tuple[int, ...]) -> Array:
    """The numbers for an input of some extents, of which each unit takes its own position, or all along some axes."""
    import numpy as np

    if not extents or not numbers.ndim:  # a vector, whose units all lead everywhere alike
        return np.broadcast_to(numbers.sum(), extents)
    alone = tuple(axis for axis, extent in enumerate(extents) if axis in across or extent < numbers.shape[axis])
    return np.broadcast_to(numbers.sum(axis=alone, keepdims=True) if alone else numbers, extents)


def _where_kept(numbers: Array, kept: Sequence[Kept]) -> Array:
    """The numbers of the positions that a mask leaves; 0 elsewhere."""
    import numpy as np

    if not kept:
        return numbers
    left = np.zeros(numbers.shape, bool)
    for each in kept:
        along = [
            np.arange(extent) if runs is None else np.concatenate([np.arange(*ends) for ends in runs])
            for runs, extent in zip(each.along, numbers.shape, strict=True)
        ]
        left[np.ix_(*along)] = True
    return numbers * left


def _heaped(numbers: Array, across: tuple[int, ...], span: Span) -> Array:
    """The numbers for an input of which each unit takes all up to its own position, or all from it on."""
    import numpy as np

    for axis in across:
        turned = np.flip(numbers, axis) if span.before is None else numbers
        heaped = np.cumsum(turned, axis)
        numbers = np.flip(heaped, axis) if span.before is None else heaped
    return numbers


def _from_pieces(numbers: Array, operation: Operation, pieces: Pieces) -> Iterator[tuple[Tensor, Array]]:
    """The inputs of which a map is put together, and the numbers that lead to the positions taken from them."""
    import numpy as np

    after = np.moveaxis(numbers, pieces.axis, 0)
    begin = 0
    for piece in pieces.parts:
        if piece.source is not None:
            source = operation.inputs[piece.source]
            around = list(numbers.shape)
            around[pieces.axis] = source.extents[pieces.axis] if source.extents else 1
            before = np.zeros(around)
            taken = piece.start + piece.step * np.arange(piece.length)
            np.add.at(np.moveaxis(before, pieces.axis, 0), taken, after[begin : begin + piece.length])
            yield source, before.reshape(source.extents)
        begin += piece.length


def _from_flat_pieces(numbers: Array, operation: Operation) -> Iterator[tuple[Tensor, Array]]:
    """The inputs of which flat maps are put together, and the numbers that lead to what is taken from them."""
    import numpy as np

    left = numbers.ravel()
    for piece in operation.flat_pieces:
        count = 1  # numbers are the same in all their places
        if piece.source is not None:
            source = operation.inputs[piece.source]
            start, count = _held(source, piece)
            before = np.zeros(_counted(source))
            before.ravel()[start : start + count] = left[:count]
            yield source, before
        left = left[count:]


def _held(source: Tensor, piece: Piece) -> tuple[int, int]:
    """Where in the numbers of paths of a tensor a piece of it begins, and how many it holds."""
    if not source.flat:
        return 0, math.prod(source.extents)
    start = count = begin = 0
    for each in source.flat:
        size = math.prod(each.extents)
        start += size if begin + each.size <= piece.start else 0
        count += size if begin < piece.start + piece.length and piece.start < begin + each.size else 0
        begin += each.size
    return start, count


def _resampled(numbers: Array, how: tuple[Resampling | None, ...], extents: tuple[int, ...]) -> Array:
    """The numbers before a change of how many positions there are, one axis after the other."""
    import numpy as np

    for axis, (each, extent) in enumerate(zip(how, extents, strict=True)):
        if each is None:
            continue
        after = np.moveaxis(numbers, axis, 0)
        before = np.zeros((extent, *after.shape[1:]))
        for unit in range(len(after)):
            first, last = np.clip(each.at(unit), 0, extent - 1)
            before[first : last + 1] += after[unit]
        numbers = np.moveaxis(before, 0, axis)
    return numbers


def _through_window(numbers: Array, window: Window, extents: tuple[int, ...]) -> Array:
    """The numbers before a window, one axis after the other."""
    import numpy as np

    for axis, extent in enumerate(extents):
        taps, stride, dilation, low = (
            each[axis] for each in (window.kernel, window.stride, window.dilation, window.low)
        )
        after = np.moveaxis(numbers, axis, 0)
        before = np.zeros((extent, *after.shape[1:]))
        short, units = (extent, len(after)) if window.transposed else (len(after), extent)
        places = np.arange(short)
        for tap in range(taps):
            where = places * stride - low + dilation * tap
            inside = (where >= 0) & (where < units)
            if window.transposed:  # input unit i reaches output position `where[i]`
                before[inside] += after[where[inside]]
            else:  # output unit i reads input position `where[i]`
                before[where[inside]] += after[inside]
        numbers = np.moveaxis(before, 0, axis)
    return numbers

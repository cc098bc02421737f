"""Which input positions a unit sees, exactly, on any graph.

For each tensor and spatial axis we keep lo[i] and hi[i], the first and the last input position that unit i depends on.
A window takes the minimum and the maximum over its taps, branches that meet take those of their members, a transposed
window takes the taps that exist, and a layer that joins all positions sees everything, or where it is causal what lies
before it. The interval may have gaps (dilation makes them); lo and hi are its ends.

There are two such intervals, and the same rules give both:

* **unclipped**: the image and every map between are thought to go on for ever, so that no unit stands at a border.
  Then lo and hi repeat: lo[i + period] = lo[i] + step for every integer i, with period 1 except after upsampling, and
  one period says everything. Size, stride and phases come from here, without an array.
  Where an axis was put together of pieces, the first and the last of them go on for ever. A causal layer sees back to
  where the image begins, so that hi moves and lo does not; what a mask picks one by one may be anywhere in the image.
* **clipped**: only the positions that exist are followed, padding at every layer on the way left out. This is what the
  unit really depends on: the ends of the non-zero gradient of a network whose weights are all positive.

A unit is a position with all its channels. Where maps stand flattened in a row, as patches behind a class token, each
map has intervals of its own, and a unit is a place in the row.

The axes are independent as long as every unit sees something. Where units see nothing (gaps of a transposed
convolution, or padding wider than the window after it), a unit that is dead along one axis is dead altogether, and the
union of two branches with different dead units is no longer a product of intervals: we then keep it as several terms,
so that the answer stays exact.

After A. Araujo, W. Norris and J. Sim, "Computing receptive fields of convolutional neural networks", Distill 2019,
whose closed form for aligned chains this extends to phases, misaligned branches and borders.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence

from thalweg.errors import InputError
from thalweg.network.field_views import AxisView, Misalignment, axis_views, misalignments, views_together
from thalweg.network.fields import (
    AnyField,
    Field,
    FlatFields,
    all_together,
    fitted,
    flat_parts,
    left_of,
    put_together,
    resampled,
    simplified,
    spanned,
    spread_out,
    windowed,
)
from thalweg.network.graph import (
    MERGES,
    WINDOWED,
    Chosen,
    Graph,
    Kept,
    Kind,
    Operation,
    Pieces,
    Span,
    Tensor,
    Window,
)
from thalweg.network.intervals import MAX_PERIOD, MAX_POSITIONS, Intervals, Listed, Periodic, TooIrregularError
from thalweg.network.piecewise import Unclipped, common_period, pieces_of

MAX_WORK = 1_000_000
"""Steps spent on patterns of phases in one network: a second or two."""

_COSTLY = WINDOWED | MERGES | {Kind.GATHER}  # the operations whose phases and terms take work


class ReceptiveFields:
    """The receptive fields of every tensor of a graph.

    Args:
        graph: the network; positions are those of its first input.
        known: the fields of some tensors, by number, where they are known from a network that is the same there.
        upto: the tensor behind which nothing is asked for; None to follow the whole network.

    Attributes:
        misaligned: where branches meet that are centred on different places of the input.
        supposed: the tensors, by number, whose units are taken to see the whole image because they may.
        lost: the operations behind which fields cannot be followed: those of unknown kind, flat maps that are cut or
            take another shape, and patterns of phases longer than `MAX_PERIOD`.
    """

    def __init__(
        self, graph: Graph, known: Mapping[int, AnyField[Unclipped] | None] | None = None, upto: Tensor | None = None
    ) -> None:
        self.graph = graph
        image = graph.inputs[0]
        whole: tuple[Unclipped, ...] = (Periodic((0,), (0,), 1),) * len(image.extents)
        self._extents = image.extents
        # Other inputs depend on no position of the first.
        self._fields: dict[int, AnyField[Unclipped] | None] = {tensor.id: Field(()) for tensor in graph.inputs}
        self._fields[image.id] = Field((whole,))
        self._views: dict[tuple[int, tuple[int, ...]], tuple[AxisView, ...]] = {}
        self._clipped: dict[int, AnyField[Listed] | None] = {}
        self._positions = 0
        self.supposed: set[int] = set()
        self.misaligned: list[Misalignment] = []
        self.lost: list[str] = []
        work = 0
        for operation in graph.operations:
            if known is not None and operation.output.id in known:
                self._fields.update((tensor.id, known[tensor.id]) for tensor in operation.outputs)
                continue
            field: AnyField[Unclipped] | None = None
            with contextlib.suppress(TooIrregularError):
                if work > MAX_WORK and operation.kind in _COSTLY:
                    raise TooIrregularError
                after = self._after(operation, self._fields, self._everything_unclipped)
                work += _work(operation, after)
                field = after
            followed = all(self._fields[tensor.id] is not None for tensor in operation.inputs)
            if field is None and followed and operation.kind is not Kind.UNUSED:
                self.lost.append(operation.name)
            if operation.kind in MERGES:
                self.misaligned += misalignments(operation, self._fields)
            self._fields[operation.output.id] = field
            for state in operation.outputs[1:]:
                self._fields[state.id] = self._at_the_end(operation, field, state, self._everything_unclipped)
            if upto is not None and upto.id in self._fields:
                break

    def of(self, tensor: Tensor) -> AnyField[Unclipped] | None:
        """The unclipped field of a tensor; None where it cannot be followed (behind an unknown operation)."""
        return self._fields[tensor.id]

    def view(self, tensor: Tensor) -> tuple[AxisView, ...] | None:
        """The unclipped field of a tensor along every axis, in a few numbers; None where it cannot be followed.

        Of several flat maps the sizes are the largest, and the rest is that of the first which sees anything.
        """
        field = self.of(tensor)
        if field is None:
            return None
        if isinstance(field, FlatFields):
            parts = zip(field.parts, tensor.flat, strict=True)
            return views_together([self._view(part, each.extents) for part, each in parts])
        return self._view(field, tensor.extents or (1,) * len(self._extents))

    def _view(self, field: Field[Unclipped], extents: tuple[int, ...]) -> tuple[AxisView, ...]:
        key = (id(field), extents)  # layers that pass a field on share it
        if key not in self._views:
            self._views[key] = axis_views(field, extents)
        return self._views[key]

    def clipped(self, tensor: Tensor) -> AnyField[Listed] | None:
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
            field: AnyField[Listed] | None = None
            with contextlib.suppress(TooIrregularError):
                if self.of(operation.output) is not None:
                    field = self._after(operation, self._clipped, self._everything_clipped)
            self._clipped[operation.output.id] = field
            for state in operation.outputs[1:]:
                self._clipped[state.id] = self._at_the_end(operation, field, state, self._everything_clipped)
        return self._clipped[tensor.id]

    def _check_positions(self, tensor: Tensor) -> None:
        positions = self._positions + sum(tensor.extents) + sum(sum(each.extents) for each in tensor.flat)
        if positions > MAX_POSITIONS:
            raise InputError(
                f"Clipped intervals are worked out position by position, and the maps up to this layer have more than "
                f"{MAX_POSITIONS:,} of them along their axes; ask with a smaller input."
            )
        self._positions = positions

    def _after(
        self,
        operation: Operation,
        fields: Mapping[int, AnyField[Intervals] | None],
        everything: Callable[[Field[Intervals] | None], tuple[tuple[Intervals, ...], ...]],
    ) -> AnyField[Intervals] | None:
        """The field behind an operation: the rules, the same for clipped and unclipped intervals."""
        kind, output = operation.kind, operation.output
        inputs = [fields[tensor.id] for tensor in operation.inputs]
        across, span = self.across(operation), operation.span
        everywhere = len(across) == len(self._extents) > 0
        if span is not None and span.sees_all and everywhere:
            return self._weighed(operation, span, inputs, everything)
        if span is not None and not span.sees_all:
            seen = self._spanned(operation, span, inputs)
            if seen is not None:
                return seen
            self.supposed.add(output.id)
        if everywhere:
            return self._everywhere(all_together(inputs), output, everything)
        known = [field for field in inputs if field is not None]
        if len(known) < len(inputs) or kind in (Kind.UNKNOWN, Kind.UNUSED):
            # What cannot be followed adds nothing to what sees the whole image already.
            mixes = kind in (Kind.ADD, Kind.CONCATENATE) and not operation.pieces and not operation.flat_pieces
            all_of_it = mixes and any(isinstance(field, Field) and self._sees_all(field) for field in known)
            return self._everywhere(None, output, everything) if all_of_it else None
        if operation.flat_pieces:
            return self._put_flat(operation, known)
        if _is_unordered(operation) and not all(self.is_constant(tensor) for tensor in operation.inputs):
            # Whatever is taken from where, it sees the whole image if everything does, and may if something does.
            parts = [part for field in known for part in field.parts]
            all_of_it = all(map(self._sees_all, parts))
            if not all_of_it and all(map(self._may_see_all, parts)):
                self.supposed.add(output.id)
                all_of_it = True
            return self._everywhere(None, output, everything) if all_of_it else None
        maps = [self._as_one(tensor, field) for tensor, field in zip(operation.inputs, known, strict=True)]
        if any(isinstance(field, FlatFields) for field in maps):
            return self._flat(operation, known)
        return self._of_maps(operation, [field for field in maps if isinstance(field, Field)], everything)

    def _of_maps(
        self,
        operation: Operation,
        known: list[Field[Intervals]],
        everything: Callable[[Field[Intervals] | None], tuple[tuple[Intervals, ...], ...]],
    ) -> Field[Intervals] | None:
        """The field behind an operation on maps that are not flat, and that does not see all of them."""
        kind, source, output = operation.kind, operation.input, operation.output
        if operation.kept:
            known = [
                Field(left_of(field.terms, operation.kept, tensor.extents), field.gated)
                for field, tensor in zip(known, operation.inputs, strict=True)
            ]
        if operation.pieces is not None:
            return self._put_together(operation, operation.pieces, known)
        across = self.across(operation)
        if across:
            known = [Field(spread_out(field.terms, across, everything), field.gated) for field in known]
            return self._merged(operation, known)
        field = known[0]
        if operation.resampled:
            changed = (resampled(term, operation.resampled, output.extents) for term in field.terms)
            return Field(simplified(changed), field.gated)
        if _is_unordered(operation):
            return self._merged(operation, known)
        if kind in WINDOWED and operation.window is not None:
            return Field(self._behind_window(operation, operation.window, field.terms), field.gated)
        if kind in MERGES or len(known) > 1:
            return self._merged(operation, known)
        if kind is Kind.FLATTEN:
            return Field(tuple(tuple(interval.spread(1) for interval in term) for term in field.terms), field.gated)
        if kind is Kind.RESHAPE:
            return self._reshaped(field, source, output)
        if kind is Kind.SPATIAL_NORMALISATION and (source.spatial or source.positions):
            return Field(field.terms, gated=True)
        return field

    def _behind_window(
        self, operation: Operation, window: Window, terms: tuple[tuple[Intervals, ...], ...]
    ) -> tuple[tuple[Intervals, ...], ...]:
        """The terms behind a window, of whose taps a mask may leave some: their extremes, where it leaves too many."""
        extents = operation.output.extents
        try:
            return simplified(windowed(term, part, extents) for part in operation.windows for term in terms)
        except TooIrregularError:
            if not operation.taps:
                raise
        self.supposed.add(operation.output.id)
        whole = window.around(operation.taps)
        return simplified(windowed(term, whole, extents) for term in terms)

    def _weighed(
        self,
        operation: Operation,
        span: Span,
        inputs: Sequence[AnyField[Intervals] | None],
        everything: Callable[[Field[Intervals] | None], tuple[tuple[Intervals, ...], ...]],
    ) -> Field[Intervals]:
        """The field of units that see all positions of some inputs, and their own of others, such as the queries."""
        whole = self._everywhere(all_together([inputs[number] for number in span.along]), operation.output, everything)
        extents = operation.output.extents
        terms = list(whole.terms)
        for number in span.here:
            field = inputs[number]
            if not isinstance(field, Field) or self._sees_all(whole):
                return self._everywhere(all_together(inputs), operation.output, everything)
            own = operation.inputs[number].extents or (1,) * len(extents)
            terms += [fitted(term, own, extents) for term in field.terms]
        return Field(simplified(terms))

    def _spanned(
        self, operation: Operation, span: Span, inputs: Sequence[AnyField[Intervals] | None]
    ) -> Field[Intervals] | None:
        """The field of units that see only so far along some axes; None where it cannot be told."""
        extents, across = operation.output.extents, self.across(operation)
        terms: list[tuple[Intervals, ...]] = []
        gated = False
        for number in (*span.here, *span.along):
            field, own = inputs[number], operation.inputs[number].extents or (1,) * len(extents)
            if not isinstance(field, Field) or len(own) != len(extents):
                return None
            gated |= field.gated
            fitting = [fitted(term, own, extents) for term in field.terms]
            if number in span.along:
                terms += [spanned(term, across, span, extents, self._extents) for term in fitting]
            else:
                terms += _where_seeing(fitting, span, across, extents)
        return Field(simplified(terms), gated)

    def _at_the_end(
        self,
        operation: Operation,
        field: AnyField[Intervals] | None,
        state: Tensor,
        everything: Callable[[Field[Intervals] | None], tuple[tuple[Intervals, ...], ...]],
    ) -> AnyField[Intervals] | None:
        """The field of another output than the first: the state that a layer is left in after all its steps."""
        if not isinstance(field, Field):
            return None
        across, own = self.across(operation), self._reduced(operation, operation.output)
        terms = spread_out(field.terms, across, everything)
        return Field(tuple(fitted(term, own, state.extents or (1,) * len(own)) for term in terms), field.gated)

    def _merged(self, operation: Operation, fields: list[Field[Intervals]]) -> Field[Intervals]:
        extents = [self._reduced(operation, tensor) for tensor in operation.inputs]
        gates = [
            max(own, default=1) == 1 and self.is_constant(tensor)
            for own, tensor in zip(extents, operation.inputs, strict=True)
        ]
        return _union_of(operation.kind, fields, extents, gates, operation.output.extents)

    def _put_flat(self, operation: Operation, fields: list[AnyField[Intervals]]) -> AnyField[Intervals] | None:
        """The fields of flat maps one after the other, or of the one that is taken from them."""
        parts: list[Field[Intervals]] = []
        for piece in operation.flat_pieces:
            if piece.source is None:
                parts.append(Field(()))
                continue
            tensor, field = operation.inputs[piece.source], fields[piece.source]
            if isinstance(field, FlatFields) and not tensor.flat:  # seen in another shape
                return None
            parts += flat_parts(tensor, field, piece)
        return FlatFields(tuple(parts)) if operation.output.flat else parts[0]

    def _flat(self, operation: Operation, fields: list[AnyField[Intervals]]) -> FlatFields[Intervals] | None:
        """The fields of flat maps behind what does the same in every place; None for anything else."""
        kind, flat = operation.kind, operation.output.flat
        if kind in (*WINDOWED, Kind.GATHER) or self.across(operation) or operation.pieces is not None or not flat:
            return None
        for tensor, field in zip(operation.inputs, fields, strict=True):
            if tensor.flat != flat if isinstance(field, FlatFields) else math.prod(tensor.extents) > 1:
                return None
        if len(fields) == 1 and isinstance(fields[0], FlatFields) and kind is not Kind.SPATIAL_NORMALISATION:
            return fields[0]
        parts = []
        for number, one in enumerate(flat):
            chosen = [field.parts[number if isinstance(field, FlatFields) else 0] for field in fields]
            extents = [one.extents if isinstance(field, FlatFields) else (1,) * len(one.extents) for field in fields]
            gates = [self.is_constant(tensor, number) for tensor in operation.inputs]
            part = _union_of(kind, chosen, extents, gates, one.extents)
            parts.append(Field(part.terms, part.gated or kind is Kind.SPATIAL_NORMALISATION))
        return FlatFields(tuple(parts))

    def _as_one(self, tensor: Tensor, field: AnyField[Intervals]) -> AnyField[Intervals]:
        """The field of flat maps whose units all see the same as that of one map."""
        if isinstance(field, Field) or not self.is_constant(tensor):
            return field
        whole = all_together([field])
        assert whole is not None
        terms = simplified(tuple(interval.spread(1) for interval in term) for term in whole.terms)
        return Field(tuple(fitted(term, (1,) * len(term), tensor.extents) for term in terms), field.gated)

    def _put_together(self, operation: Operation, pieces: Pieces, fields: list[Field[Intervals]]) -> Field[Intervals]:
        extents = operation.output.extents
        terms: list[tuple[tuple[Intervals, ...], ...]] = []
        for piece in pieces.parts:
            if piece.source is None:
                terms.append(())
                continue
            own = operation.inputs[piece.source].extents or (1,) * len(extents)
            around = tuple(own[axis] if axis == pieces.axis else extent for axis, extent in enumerate(extents))
            terms.append(tuple(fitted(term, own, around) for term in fields[piece.source].terms))
        return Field(put_together(pieces, terms), any(field.gated for field in fields))

    def across(self, operation: Operation) -> tuple[int, ...]:
        """The axes of the input along which the operation's units see everything."""
        if operation.across is not None:
            return operation.across
        return tuple(range(len(self._extents))) if operation.kind in (Kind.LINEAR, Kind.GLOBAL_POOL) else ()

    def _reduced(self, operation: Operation, tensor: Tensor) -> tuple[int, ...]:
        """The extents of an input once all its positions along some axes have been put together."""
        extents = tensor.extents or (1,) * len(operation.output.extents)
        across = self.across(operation)
        return tuple(1 if axis in across else extent for axis, extent in enumerate(extents))

    def _reshaped(self, field: Field[Intervals], source: Tensor, output: Tensor) -> Field[Intervals] | None:
        if source.spatial:
            return field if (source.shape, source.spatial) == (output.shape, output.spatial) else None
        if len(output.spatial) not in (0, len(self._extents)) and self._extents:
            return None
        extents = output.extents or (1,) * len(self._extents)
        terms = (tuple(interval.spread(n) for interval, n in zip(term, extents, strict=False)) for term in field.terms)
        return Field(tuple(terms), field.gated)

    def is_constant(self, tensor: Tensor, number: int | None = None) -> bool:
        """Whether every unit of a tensor, or of one of its flat maps, sees the same."""
        field = self._fields[tensor.id]
        if field is None:
            return False
        parts = field.parts if number is None or isinstance(field, Field) else field.parts[number : number + 1]
        still = all(interval.constant for part in parts for term in part.terms for interval in term)
        return still and (len(parts) == 1 or len({part.terms for part in parts}) == 1)

    @staticmethod
    def _everywhere(
        field: Field[Intervals] | None,
        output: Tensor,
        everything: Callable[[Field[Intervals] | None], tuple[tuple[Intervals, ...], ...]],
    ) -> Field[Intervals]:
        """The field of units that each see all that a field holds."""
        return Field(tuple(fitted(term, (1,) * len(term), output.extents) for term in everything(field)))

    def _sees_all(self, field: Field[Intervals]) -> bool:
        """Whether every unit sees the whole image."""
        return any(
            all(interval.covers(extent) for interval, extent in zip(term, self._extents, strict=True))
            for term in field.terms
        )

    def _may_see_all(self, field: Field[Intervals]) -> bool:
        """Whether some unit sees the whole image."""
        return any(
            all(
                interval.covers(extent) or interval.widest_covers(extent)
                for interval, extent in zip(term, self._extents, strict=True)
            )
            for term in field.terms
        )

    def _everything_unclipped(self, field: Field[Unclipped] | None) -> tuple[tuple[Unclipped, ...], ...]:
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


def _where_seeing(
    terms: list[tuple[Intervals, ...]], span: Span, across: tuple[int, ...], extents: tuple[int, ...]
) -> Sequence[tuple[Intervals, ...]]:
    """What units see in their own place, of those that see anything: what weighs nothing is not seen either."""
    seeing = span.chosen.seeing if isinstance(span.chosen, Chosen) else None
    if not seeing:
        return terms if seeing is None else []
    return left_of(terms, [Kept(tuple(seeing if axis in across else None for axis in range(len(extents))))], extents)


def _union_of(
    kind: Kind,
    fields: Sequence[Field[Intervals]],
    extents: Sequence[tuple[int, ...]],
    gates: Sequence[bool],
    wanted: tuple[int, ...],
) -> Field[Intervals]:
    """The field of units that each see what those in their place see in several maps.

    Args:
        kind: what makes them of these.
        fields: those of the maps.
        extents: of the maps.
        gates: which of them are one number for all positions, as a squeeze-and-excitation makes it.
        wanted: the extents of the map that is made.
    """
    gated = any(field.gated for field in fields)
    chosen = list(zip(fields, extents, strict=True))
    if kind is Kind.MULTIPLY:
        # A factor that sees everything is a gate: it is reported apart, else it would hide what its partner sees.
        local = [each for each, gate in zip(chosen, gates, strict=True) if not gate]
        if local and len(local) < len(chosen):
            chosen, gated = local, True
    return Field(simplified([fitted(term, own, wanted) for field, own in chosen for term in field.terms]), gated)


def _is_unordered(operation: Operation) -> bool:
    """Whether it takes values from places that are not known."""
    if operation.pieces is not None or operation.resampled:
        return False
    return operation.kind is Kind.GATHER or (operation.kind in WINDOWED and operation.window is None)


def _work(operation: Operation, field: AnyField[Unclipped] | None) -> int:
    """About how many steps the phases and terms behind this operation take."""
    if field is None or operation.kind not in _COSTLY:
        return 0
    return sum(_work_of_map(operation, part) for part in field.parts)


def _work_of_map(operation: Operation, field: Field[Unclipped]) -> int:
    periods = [common_period(along) for along in zip(*field.terms, strict=True)]
    if max(periods, default=1) > MAX_PERIOD:
        raise TooIrregularError
    work = 0
    if max(periods, default=1) > 1:
        taps = max(operation.window.kernel) if operation.window else 1
        patterns = [part for term in field.terms for interval in term for _, _, part in pieces_of(interval)]
        work += sum(len(part.lo) * min(taps, len(part.lo)) for part in patterns)
    if len(field.terms) > 1:  # to look at them together: all places along one axis, all mixtures along the others
        places = math.prod(2 * period for period in periods)
        work += sum(
            len(field.terms) * 2 * period * min(1 << len(field.terms), places // (2 * period)) for period in periods
        )
    return work

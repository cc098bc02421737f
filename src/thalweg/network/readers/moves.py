"""What moves values in a run: it is written down only where positions move."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from thalweg.errors import InputError
from thalweg.network.fields import MAX_PIECES
from thalweg.network.graph import Border, Kind, Piece, Pieces, Work, written
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array, Slide, together, with_axis
from thalweg.network.readers.axes import LOST, Axes
from thalweg.network.readers.positions import Positions


class Moves(Positions):
    """Reshapes, slices, joins and whatever else moves values without computing any."""

    def reshape(self, x: Array, shape: Sequence[int], name: str = "reshape", module: str = "") -> Array:
        """The same values, row by row, in another shape."""
        shape = tuple(shape)
        if x.shape == shape:
            return x
        if math.prod(shape) != math.prod(x.shape):
            raise InputError(f"{name!r} cannot turn {written(x.shape)} into {written(shape)}.")
        if x.is_constant:
            return self.constant(shape, x.weights)
        axes = ax.reshaped(x.axes, shape)
        if axes is None:  # positions times copies may fall apart elsewhere than between them
            for axis in range(len(x.shape)):
                x = self._unfolded(x, axis, module)
            axes = ax.reshaped(x.axes, shape)
        if axes is None:
            return self.gather([x], shape, name=name, module=module)
        return replace(x, shape=shape, axes=axes)

    def permute(self, x: Array, order: Sequence[int]) -> Array:
        """The axes in another order."""
        return replace(x, shape=tuple(x.shape[a] for a in order), axes=tuple(x.axes[a] for a in order))

    def expand(self, x: Array, shape: Sequence[int]) -> Array:
        """Repeated along new axes in front, and along axes of extent 1."""
        shape = tuple(shape)
        front = len(shape) - len(x.shape)
        own = (1,) * front + x.shape
        before: Axes = ((),) * front + x.axes
        axes = tuple(
            axis if extent == wanted else ax.copies(wanted)
            for axis, extent, wanted in zip(before, own, shape, strict=True)
        )
        return replace(x, shape=shape, axes=axes)

    def slice(
        self, x: Array, axis: int, start: int, stop: int, step: int = 1, name: str = "crop", module: str = ""
    ) -> Array:
        """Every `step`-th index from `start` to before `stop` of one axis."""
        indices = range(start, stop, step)
        shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
        if len(indices) == x.shape[axis] and step > 0:
            return x
        if not ax.has_positions(x.axes[axis]) or x.is_constant:
            scores = ax.scores_of(x.axes[axis])
            keeps = scores is not None and indices == range(len(indices)) and len(indices) >= scores.many
            held = ax.keys(len(indices), scores) if keeps else ax.some_of(x.axes[axis], len(indices))
            return replace(x, shape=shape, axes=with_axis(x.axes, axis, held))
        x = self._unfolded(x, axis, module)
        whole = self._whole_axis(x, axis)
        if step < 1 and whole is not None:
            return self.take(x, axis, indices, name, module)
        if whole is None:
            taken = self._cut_flat(x, axis, start, stop, name, module) if step == 1 else None
            return taken or self.gather([x], shape, lost=(axis,), name=name, module=module)
        if x.shape[axis] % step == 0 and stop - start > x.shape[axis] - step:
            stop = start + len(indices) * step  # the whole last stride, so that no position hangs over
        high = (len(indices) - 1) * step + start + 1 - x.shape[axis]
        window = Slide((1,), (step,), (1,), (-start,), (high,))
        return self._moved(Kind.CROP, x, axis, whole, window, shape, name, module)

    def pad(
        self,
        x: Array,
        low: Sequence[int],
        high: Sequence[int],
        name: str = "pad",
        module: str = "",
        border: Border = Border.ZEROS,
    ) -> Array:
        """Values put before and after each axis, or with negative numbers taken away; `border` says which values."""
        for axis, (before, after) in enumerate(zip(low, high, strict=True)):
            if not (before or after):
                continue
            extent = x.shape[axis]
            shape = (*x.shape[:axis], extent + before + after, *x.shape[axis + 1 :])
            x = x if x.is_constant else self._unfolded(x, axis, module)
            whole = None if x.is_constant else self._whole_axis(x, axis)
            if whole is None and not x.is_constant and extent == 1:
                whole = self._single_positions(x).get(axis)
            if x.is_constant or (whole is None and not ax.has_positions(x.axes[axis])):
                x = replace(x, shape=shape, axes=with_axis(x.axes, axis, ax.some_of(x.axes[axis], shape[axis])))
            elif whole is None:
                x = self.gather([x], shape, lost=(axis,), name=name, module=module)
            else:
                slide = Slide((1,), (1,), (1,), (before,), (after,), border=border)
                x = self._moved(Kind.PAD, x, axis, whole, slide, shape, name, module)
        return x

    def roll(self, x: Array, axis: int, shift: int, name: str = "roll", module: str = "") -> Array:
        """Moved along an axis, the shorter way round; what leaves at one end comes in at the other."""
        half = x.shape[axis] // 2
        low = [0] * len(x.shape)
        low[axis] = (shift + half) % x.shape[axis] - half
        return self.pad(x, low, [-width for width in low], name, module, Border.WRAPPED)

    def concatenate(self, parts: Sequence[Array], axis: int, name: str = "concat", module: str = "") -> Array:
        """Arrays one after the other along an axis."""
        shape = list(parts[0].shape)
        shape[axis] = sum(each.shape[axis] for each in parts)
        units = [each for each in parts if not each.is_constant]
        if len(units) == len(parts) == 1:
            return units[0]
        if not units:
            return self.constant(shape, together(parts))
        few_single = len(parts) <= MAX_PIECES and self._single_place(units, axis) is not None
        if few_single or any(ax.has_positions(each.axes[axis]) for each in units):
            cut = self._cut_from(parts, axis)
            if cut is not None:
                return self.roll(cut, axis, parts[0].shape[axis], name, module)
            parts = [each if each.is_constant else self._unfolded(each, axis, module) for each in parts]
            return self._put_together(Kind.CONCATENATE, parts, None, axis, shape, name, module)
        units = self._evened(units, module)
        flat = [replace(each, axes=with_axis(each.axes, axis, ())) for each in units]
        around = tuple(1 if place == axis else extent for place, extent in enumerate(shape))
        # Behind the scores of all keys may stand one for none of them.
        scores = ax.scores_of(units[0].axes[axis]) if len(units) == 1 and not parts[0].is_constant else None
        atoms = tuple(ax.atoms_of(each.axes[axis] for each in units))
        some = ax.some_of(atoms, shape[axis])
        if ax.holds_keys(some) and len(units) < len(parts):  # which of them numbers stand for
            some = ax.keys(shape[axis], hides=True)
        held = ax.keys(shape[axis], scores) if scores else some
        axes = with_axis(self._common(flat, around), axis, held)
        units = self._in_step(units, with_axis(axes, axis, ()), name, module, but=axis)
        return self._make(
            Kind.CONCATENATE,
            units,
            tuple(shape),
            axes,
            name,
            module,
            weights=together(parts),
            channel=axis,
            keeps=scores is not None,
        )

    def take(self, x: Array, axis: int, places: Sequence[int], name: str = "gather", module: str = "") -> Array:
        """Known places of one axis, in any order and as often as they are named."""
        shape = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
        if x.is_constant or not ax.has_positions(x.axes[axis]):
            return replace(x, shape=shape, axes=with_axis(x.axes, axis, ax.some_of(x.axes[axis], len(places))))
        x = self._unfolded(x, axis, module)
        block = self._block(x, axis)
        if block > 1:
            whole = self.reshape(x, (*x.shape[:axis], x.shape[axis] * block, *x.shape[axis + 2 :]), name, module)
            each = [place * block + inner for place in places for inner in range(block)]
            return self.reshape(self.take(whole, axis, each, name, module), shape, name, module)
        return self._put_together(Kind.GATHER, [x], _runs(places), axis, shape, name, module)

    def _block(self, x: Array, axis: int) -> int:
        """Of how many neighbours along the next axis each index of an axis is a block; 1 where it is none."""
        outer, inner = x.axes[axis], x.axes[axis + 1] if axis + 1 < len(x.axes) else ()
        if len(outer) != 1 or len(inner) != 1 or outer[0].axis in (None, LOST) or inner[0].axis != outer[0].axis:
            return 1
        return inner[0].extent if outer[0].step == inner[0].extent and inner[0].step == 1 else 1

    def repeat(self, x: Array, axis: int, times: int, name: str = "repeat", module: str = "") -> Array:
        """Copies of the array one after the other along an axis."""
        shape = (*x.shape[:axis], times * x.shape[axis], *x.shape[axis + 1 :])
        if x.is_constant or not ax.has_positions(x.axes[axis]):
            held = ax.copies(times) if x.shape[axis] == 1 else ax.features(shape[axis])
            return replace(x, shape=shape, axes=with_axis(x.axes, axis, held))
        if times > MAX_PIECES:
            return self.gather([x], shape, lost=(axis,), name=name, module=module)
        x = self._unfolded(x, axis, module)
        copies = [Piece(x.shape[axis], 0)] * times
        return self._put_together(Kind.GATHER, [x], copies, axis, shape, name, module)

    def _is_flat(self, x: Array, axis: int) -> bool:
        """Whether all positions of an array stand along one axis, map after map, each flattened as a whole."""
        if x.is_constant or (len(x.axes[axis]) == 1 and x.axes[axis][0].flat):
            return True
        held = [atom.axis for atom in x.axes[axis] if atom.axis is not None]
        elsewhere = any(ax.has_positions(each) for place, each in enumerate(x.axes) if place != axis)
        return not elsewhere and LOST not in held and len(held) == len(set(held))

    def _in_a_row(self, parts: Sequence[Array], axis: int, shape: Sequence[int], name: str, module: str) -> Array:
        """Flat maps and numbers one after the other along an axis."""
        units = self._evened([each for each in parts if not each.is_constant], module)
        flat = [replace(each, axes=with_axis(each.axes, axis, ())) for each in units]
        around = tuple(1 if place == axis else extent for place, extent in enumerate(shape))
        axes = with_axis(self._common(flat, around), axis, ax.joined(each.axes[axis] for each in parts))
        numbers = itertools.count()
        pieces = [Piece(each.shape[axis], None if each.is_constant else next(numbers)) for each in parts]
        return self._make(
            Kind.CONCATENATE, units, tuple(shape), axes, name, module,
            weights=together(parts), flat_pieces=tuple(pieces),
        )  # fmt: skip

    def _cut_flat(self, x: Array, axis: int, start: int, stop: int, name: str, module: str) -> Array | None:
        """Some of the maps that stand flattened along an axis; None where one of them would be cut."""
        kept, begin = [], 0
        for one in x.axes[axis][0].flat if len(x.axes[axis]) == 1 else ():
            extent = ax.extent_of(one)
            first, behind = max(start - begin, 0), min(stop - begin, extent)
            if first < behind:
                if behind - first < extent and ax.has_positions(one):
                    return None
                kept.append(one if behind - first == extent else ax.features(behind - first))
            begin += extent
        if not kept:
            return None
        shape = (*x.shape[:axis], stop - start, *x.shape[axis + 1 :])
        axes = with_axis(x.axes, axis, ax.joined(kept))
        return self._make(Kind.CROP, [x], shape, axes, name, module, flat_pieces=(Piece(stop - start, 0, start),))

    def _put_together(
        self,
        kind: Kind,
        parts: Sequence[Array],
        pieces: Sequence[Piece] | None,
        axis: int,
        shape: Sequence[int],
        name: str,
        module: str,
    ) -> Array:
        """An axis of positions put together of pieces of other arrays, None for all of each in turn."""
        units = [each for each in parts if not each.is_constant]
        places = [self._whole_axis(each, axis) for each in units]
        place = next((place for place in places if place is not None), self._single_place(units, axis))
        # What has a single position is repeated, whatever stands along the axis.
        single = [place is not None and ax.grid(each.axes, self._axes)[place] == 1 for each in units]
        if place is None or any(not one and held != place for one, held in zip(single, places, strict=True)):
            if pieces is None and len(parts) <= MAX_PIECES and all(self._is_flat(each, axis) for each in parts):
                return self._in_a_row(parts, axis, shape, name, module)
            return self.gather(parts, shape, lost=(axis,), name=name, module=module)
        if pieces is None:
            steps = iter(enumerate(single))
            pieces = [_whole_piece(each.shape[axis], None if each.is_constant else next(steps)) for each in parts]
        units = self._evened(units, module)
        flat = [
            replace(each, shape=(*each.shape[:axis], 1, *each.shape[axis + 1 :]), axes=with_axis(each.axes, axis, ()))
            for each in units
        ]
        units = [narrow if one else each for one, narrow, each in zip(single, flat, units, strict=True)]
        around = tuple(1 if number == axis else extent for number, extent in enumerate(shape))
        axes = with_axis(self._common(flat, around), axis, ax.position(place, shape[axis]))
        units = self._in_step(units, with_axis(axes, axis, ()), name, module, but=axis)
        made = Array(tuple(shape), axes)
        return self._make(
            kind, units, tuple(shape), axes, name, module,
            weights=together(parts), placed=self._placed(made, axis, place), pieces=Pieces(place, tuple(pieces)),
        )  # fmt: skip

    def _single_place(self, units: Sequence[Array], axis: int) -> int | None:
        """The spatial axis along which each of several arrays has its only position at an axis; None where it is not.

        One of them may not tell which it is, as where all its axes have the extent 1.
        """
        if any(each.shape[axis] != 1 for each in units):
            return None
        found = {self._single_positions(each, axis).get(axis) for each in units} - {None}
        return found.pop() if len(found) == 1 else None

    def _cut_from(self, parts: Sequence[Array], axis: int) -> Array | None:
        """What two parts were cut from, where they are its end and its beginning: some frameworks write `roll` so."""
        cuts = [self._operations[self._makers[part.id]] for part in parts if part.id in self._makers]
        if len(parts) != 2 or len(cuts) != 2 or any(cut.kind is not Kind.CROP for cut in cuts):
            return None
        end, beginning = parts
        # A single position is not told from other axes of extent 1, but its other part says which axis it is.
        places = [place for place in (self._whole_axis(part, axis) for part in parts) if place is not None]
        if cuts[0].input != cuts[1].input or not places:
            return None
        place = places[0]
        if with_axis(end.axes, axis, ()) != with_axis(beginning.axes, axis, ()):
            return None
        wanted = [Slide((1,), low=(-beginning.shape[axis],)), Slide((1,), high=(-end.shape[axis],))]
        if [cut.window for cut in cuts] != [slide.window((place,), self._axes) for slide in wanted]:
            return None
        extent = end.shape[axis] + beginning.shape[axis]
        shape = (*end.shape[:axis], extent, *end.shape[axis + 1 :])
        return Array(shape, with_axis(end.axes, axis, ax.position(place, extent)), cuts[0].input.id)

    def gather(
        self,
        parts: Sequence[Array],
        shape: Sequence[int],
        lost: Sequence[int] | None = None,
        name: str = "gather",
        module: str = "",
        *,
        macs: int = 0,
    ) -> Array:
        """Values from elsewhere in an order that is not followed, such as flipped or indexed positions.

        Args:
            parts: what they are taken from.
            shape: of the result.
            lost: along which axes positions are mixed up; None for all. The others stay those of the first unit.
            name: what people call it.
            module: the path of the module that does it.
            macs: its multiply-accumulates, where it adds some of them up.
        """
        shape = tuple(shape)
        units = [each for each in parts if not each.is_constant]
        if not units:
            return self.constant(shape, together(parts))
        first = units[0]
        axes = tuple(
            ax.lost(extent)
            if lost is None or place in lost or len(first.shape) != len(shape) or first.shape[place] != extent
            else first.axes[place]
            for place, extent in enumerate(shape)
        )
        work = Work(macs, macs, macs) if macs else None
        masked = any(map(ax.holds_keys, (axis for each in units for axis in each.axes)))  # some may be hidden
        return self._make(
            Kind.GATHER, units, shape, axes, name, module, weights=together(parts), work=work, masked=masked
        )

    def _in_step(
        self, parts: Sequence[Array], axes: Axes, name: str, module: str, but: int | None = None
    ) -> list[Array]:
        """Arrays whose positions are all where `axes` has them; those that have them elsewhere are not followed."""

        def fits(each: Array) -> bool:
            return all(
                place == but or held == wanted or not any(atom.axis not in (None, LOST) for atom in held)
                for place, (held, wanted) in enumerate(zip(each.axes, axes, strict=True))
            )

        return [each if fits(each) else self.gather([each], each.shape, name=name, module=module) for each in parts]


def _whole_piece(length: int, source: tuple[int, bool] | None) -> Piece:
    """All of an input, whose number is given and whether it has a single position that is repeated."""
    return Piece(length) if source is None else Piece(length, source[0], step=0 if source[1] else 1)


def _runs(places: Sequence[int]) -> list[Piece]:
    """Places of an input in as few pieces as a look at one after the other finds."""
    pieces: list[Piece] = []
    for place in places:
        last = pieces[-1] if pieces else None
        if last is not None and last.length == 1:
            pieces[-1] = replace(last, length=2, step=place - last.start)
        elif last is not None and place == last.start + last.length * last.step:
            pieces[-1] = replace(last, length=last.length + 1)
        else:
            pieces.append(Piece(1, 0, place))
    return pieces

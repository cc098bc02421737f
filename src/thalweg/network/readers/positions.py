"""Where the positions of the input are in the arrays of a run, and what it takes to have them where they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from thalweg.network.graph import Kind, Window
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array, Shape, Slide, with_axis
from thalweg.network.readers.axes import LOST, Atom, Axes, Axis
from thalweg.network.readers.writer import Writer, batch_axis


class Positions(Writer):
    """Follows positions through what is written down, and writes down what moves them on the way."""

    def _moved(
        self, kind: Kind, x: Array, axis: int, place: int, slide: Slide, shape: Shape, name: str, module: str
    ) -> Array:
        axes = with_axis(x.axes, axis, ax.position(place, shape[axis]))
        window = slide.window((place,), self._axes)
        return self._make(kind, [x], shape, axes, name, module, window=window, placed=self._placed(x, axis, place))

    def _placed(self, x: Array, axis: int, place: int) -> dict[int, int]:
        """Where the spatial axes of a map are, with one of them given."""
        found = {place: axis}
        for other in range(len(x.shape)):
            whole = self._whole_axis(x, other)
            if whole is not None and other != axis:
                found[whole] = other
        return found

    def _whole_axis(self, x: Array, axis: int) -> int | None:
        """The spatial axis that an axis of an array is, all of it and nothing else."""
        atoms = x.axes[axis]
        if len(atoms) != 1 or atoms[0].axis is None or atoms[0].axis == LOST:
            return None
        return atoms[0].axis if ax.grid(x.axes, self._axes)[atoms[0].axis] == atoms[0].extent else None

    def _single_positions(self, x: Array, wanted: int | None = None) -> dict[int, int]:
        """Axes with one position only, and which spatial axes they are, where there is no doubt.

        Where that is asked of one axis, it is not the batch if another may be.
        """
        grid = ax.grid(x.axes, self._axes)
        free = [place for place, extent in enumerate(grid) if extent == 1]
        batch = batch_axis(x.shape, () if wanted is None else (wanted,))
        single = [axis for axis, extent in enumerate(x.shape) if extent == 1 and axis != batch]
        return dict(zip(single, free, strict=True)) if len(single) == len(free) else {}

    def _as_map(
        self, x: Array, over: Sequence[int], channel: int | None, module: str
    ) -> tuple[Array, tuple[int, ...] | None, tuple[int, ...]]:
        """The array with whole spatial axes where a window moves, and which these are.

        Returns:
            The array; the spatial axis of each axis in `over`, None where they are not spatial axes of the input; and
            along which axes the channels hold all positions.
        """
        across: tuple[int, ...] = ()
        if self._count is None:  # an input without positions: the map is made here
            self._count = len(over)
            spread = [
                ax.position(list(over).index(a), n) if a in over else ax.features(n) for a, n in enumerate(x.shape)
            ]
            x = self._make(Kind.RESHAPE, [x], x.shape, tuple(spread), "reshape", module, placed=dict(enumerate(over)))
        if channel is not None:
            mixed, across = self._mixed(x, x.axes[channel])
            x = replace(mixed, shape=x.shape, axes=with_axis(mixed.axes, channel, ax.features(x.shape[channel])))
        places: list[int | None] = []
        for axis in over:
            x = self._unfolded(x, axis, module)
            places.append(self._whole_axis(x, axis))
        free = [axis for axis, extent in enumerate(ax.grid(x.axes, self._axes)) if extent == 1 and axis not in places]
        for number, axis in enumerate(over):
            if places[number] is None and x.shape[axis] == 1 and free:
                places[number] = free.pop(0)
        known = tuple([place for place in places if place is not None])
        return x, known if len(known) == len(places) and not across else None, across

    def _common(self, parts: Sequence[Array], shape: Shape) -> Axes:
        """What the axes of arrays in step hold: positions where one of them has some."""

        def best(axis: int, among: Sequence[Array]) -> Axis:
            fitting = [each.axes[axis] for each in among if each.shape[axis] == shape[axis] and each.axes[axis]]
            known = [held for held in fitting if any(atom.axis not in (None, LOST) for atom in held)]
            known += [held for held in fitting if ax.has_positions(held) or ax.holds_keys(held)]
            return next(iter(known), ax.features(shape[axis]))

        axes = tuple([best(axis, parts) for axis in range(len(shape))])
        grids = [ax.grid(each.axes, self._axes) for each in parts]
        if all(
            extent == max(along)
            for extent, along in zip(ax.grid(axes, self._axes), zip(*grids, strict=True), strict=True)
        ):
            return axes
        first = max(parts, key=lambda each: math.prod(ax.grid(each.axes, self._axes)))
        return tuple([best(axis, [first]) for axis in range(len(shape))])

    def _evened(self, parts: Sequence[Array], module: str) -> list[Array]:
        """Arrays that meet: what a pixel shuffle made is unfolded where another has a map of as many positions."""

        def is_map(axis: int) -> bool:
            return any(len(each.axes[axis]) == 1 and each.axes[axis][0].axis not in (None, LOST) for each in parts)

        maps = [axis for axis in range(len(parts[0].shape)) if len(parts) > 1 and is_map(axis)]
        answer = []
        for each in parts:
            for axis in maps:
                each = self._unfolded(each, axis, module)
            answer.append(each)
        return answer

    def _unfolded(self, x: Array, axis: int, module: str) -> Array:
        """An axis of positions times channels, as a pixel shuffle makes it, as an axis of more positions."""
        atoms = x.axes[axis]
        if len(atoms) < 2 or any(atom.axis is not None for atom in atoms[1:]):
            return x
        place, factor = atoms[0].axis, ax.extent_of(atoms[1:])
        extents = ax.grid(x.axes, self._axes)
        if place is None or place == LOST or extents[place] != atoms[0].extent:
            return x
        finer = tuple(extent * factor if number == place else extent for number, extent in enumerate(extents))
        spread = self._stretched(x, extents, finer, "rearrange", module)
        return replace(x, axes=with_axis(x.axes, axis, ax.position(place, x.shape[axis])), id=spread.id)

    def _mixed(self, x: Array, atoms: Iterable[Atom], keep: bool = False) -> tuple[Array, tuple[int, ...]]:
        """The array once the indices of some atoms are put together, and the spatial axes along which that is all.

        Where the atoms are the inside of blocks of positions, the blocks become positions of their own, each of which
        sees its block; with `keep` the insides stay, and each of them sees it.
        """
        if x.is_constant:
            return x, ()
        atoms = list(atoms)
        if any(atom.axis == LOST for atom in atoms):
            # All of the map where nothing else is left of it; else what is seen cannot be told any more.
            left = _extent([each for each in ax.atoms_of(x.axes) if each.axis is not None])
            together = _extent([each for each in atoms if each.axis is not None])
            return x, tuple(range(self._axes)) if left == together else ()
        extents, across, y = ax.grid(x.axes, self._axes), [], x
        for axis, whole in enumerate(extents):
            inside = [atom for atom in atoms if atom.axis == axis]
            block = math.prod(atom.extent for atom in inside)
            if block in (1, whole) or any(atom.step * atom.extent > block for atom in inside):
                if block > 1:  # all of them, or every so many, such as the first of each block
                    across.append(axis)
                continue
            kernel = tuple(block if place == axis else 1 for place in range(self._axes))
            window = Slide(kernel, kernel).window(range(self._axes), self._axes)
            coarser = tuple(n // block if place == axis else n for place, n in enumerate(ax.grid(y.axes, self._axes)))
            made = self._map(y, coarser, "blocks", "", window)
            y = replace(made, shape=x.shape, axes=ax.coarsened(y.axes, axis, block))
        if keep and y is not x:
            y = replace(x, id=self._stretched(y, ax.grid(y.axes, self._axes), extents, "blocks", "").id)
        return y, tuple(across)

    def _repeated(self, x: Array, wanted: Shape, across: tuple[int, ...]) -> Array:
        """A map of blocks, each repeated for all positions in it, where its partner has a finer map."""
        extents = ax.grid(x.axes, self._axes)
        finer = tuple(
            goal if axis not in across and extent > 1 else extent
            for axis, (extent, goal) in enumerate(zip(extents, wanted, strict=True))
        )
        return x if finer == extents else self._stretched(x, extents, finer, "blocks", "")

    def _stretched(self, x: Array, extents: Shape, finer: Shape, name: str, module: str) -> Array:
        kernel = tuple(more // less for more, less in zip(finer, extents, strict=True))
        window = Slide(kernel, kernel, transposed=True).window(range(self._axes), self._axes)
        return self._map(x, finer, name, module, window)

    def _map(self, x: Array, extents: Shape, name: str, module: str, window: Window) -> Array:
        """The units of x as a map of so many positions, channels last."""
        depth = max(1, math.prod(x.shape) // math.prod(extents))
        axes = (*(ax.position(axis, extent) for axis, extent in enumerate(extents)), ax.features(depth))
        placed = {axis: axis for axis in range(len(extents))}
        before = ax.grid(x.axes, self._axes)
        held = (*(ax.position(axis, extent) for axis, extent in enumerate(before)), ax.features(depth))
        own = replace(x, shape=(*before, depth), axes=held)
        return self._make(
            Kind.REARRANGE,
            [own],
            (*extents, depth),
            axes,
            name,
            module,
            window=window,
            channel=len(extents),
            placed=placed,
        )


def _extent(atoms: Iterable[Atom]) -> int:
    return math.prod(atom.extent for atom in atoms)

"""Operations and tensors as a reader writes them down, one after the other, and the graph they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from thalweg.errors import InputError
from thalweg.network.graph import (
    FlatMap,
    Graph,
    Kept,
    Kind,
    Operation,
    Piece,
    Pieces,
    Resampling,
    Span,
    Tensor,
    Weight,
    Window,
    Work,
)
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array, Shape
from thalweg.network.readers.axes import LOST, Axes, Axis

MAX_OPERATIONS = 1_000_000


class Writer:
    """Writes operations down; what they compute and where positions go is known to those that stand on it."""

    def __init__(self) -> None:
        self._inputs: list[Tensor] = []
        self._operations: list[Operation] = []
        self._makers: dict[int, int] = {}  # which operation made a tensor
        self._ids = 0
        self._constants = 0  # among the inputs, at their end
        self._count: int | None = None  # of spatial axes; None before there are any
        self._flat_maps: dict[tuple[Axis, ...], tuple[FlatMap, ...]] = {}

    def graph(self, notes: Sequence[str] = ()) -> Graph:
        """What was written down so far, with notes on what the reader had to decide.

        Raises:
            InputError: there is no input.
        """
        if not self._inputs:
            raise InputError("The network has no input, so there is nothing to measure.")
        return Graph(tuple(self._inputs), tuple(self._operations), tuple(notes), self._constants)

    # What goes in.

    def input(self, shape: Sequence[int], positions: Sequence[int] = (), channel: int | None = None) -> Array:
        """An input of the network; receptive fields are positions of the first one.

        Args:
            shape: its extents in the run, the batch included where there is one.
            positions: which axes are positions: those after the channels in an image of PyTorch.
            channel: which axis holds the channels.
        """
        first = not self._inputs
        if first:
            self._count = len(positions) or None
        axes = tuple(
            ax.position(list(positions).index(place), extent) if first and place in positions else ax.features(extent)
            for place, extent in enumerate(shape)
        )
        made = Array(tuple(shape), axes, self._ids)
        self._ids += 1
        placed = dict(enumerate(positions)) if first else None
        self._inputs.append(self._tensor(made, channel, placed))
        return made

    def source(self, x: Array, name: str = "", module: str = "") -> Array:
        """A constant that goes through layers, such as a table of distances or learned queries: units from here on."""
        if not x.is_constant:
            return x
        made = Array(x.shape, tuple(ax.features(extent) for extent in x.shape), self._ids)
        self._ids += 1
        self._inputs.append(self._tensor(made, None))
        self._constants += 1
        if not x.weights:
            return made
        return self._make(Kind.ADD, [made], x.shape, made.axes, name or "add", module, weights=x.weights)

    def weight(self, identity: str, shape: Sequence[int], trainable: bool = True) -> Array:
        """An array of parameters; the same identity is the same array."""
        one = Weight(identity, tuple(shape), trainable)
        return Array(tuple(shape), tuple(ax.features(extent) for extent in shape), None, (one,))

    def constant(self, shape: Sequence[int], weights: Sequence[Weight] = ()) -> Array:
        """An array of numbers that depend on no input."""
        return Array(tuple(shape), tuple(ax.features(extent) for extent in shape), None, tuple(weights))

    def unused(self, weights: Iterable[tuple[str, str, Weight]]) -> None:
        """Weights that the network has and the run did not use: name and module of their row, and the weight."""
        rows: dict[tuple[str, str], list[Weight]] = {}
        for name, module, weight in weights:
            rows.setdefault((name, module), []).append(weight)
        for (name, module), held in rows.items():
            nothing = Tensor(self._ids, ())
            self._ids += 1
            self._operations.append(
                Operation(Kind.UNUSED, name, (self._inputs[0],), (nothing,), weights=tuple(held), module=module)
            )

    def identities(self) -> set[str]:
        """The weights that were written down."""
        return {weight.identity for operation in self._operations for weight in operation.weights}

    # What turns out wrong.

    def mark(self) -> int:
        """A point in the run to which `forget` goes back."""
        return len(self._operations)

    def forget(self, mark: int) -> None:
        """Leave out what was written down since `mark`."""
        for operation in self._operations[mark:]:
            self._makers.pop(operation.output.id, None)
        del self._operations[mark:]

    def demote(self, mark: int) -> None:
        """Make a normalisation, which is no layer of neurons, of what was written down since `mark`."""
        for place in range(mark, len(self._operations)):
            one = self._operations[place]
            if one.kind in (Kind.AVERAGE_POOL, Kind.GLOBAL_POOL):
                self._operations[place] = replace(one, kind=Kind.NORMALISATION, work=None)

    # How it is written down.

    @property
    def _axes(self) -> int:
        return self._count or 0

    def _make(
        self,
        kind: Kind,
        units: Sequence[Array],
        shape: Shape,
        axes: Axes,
        name: str,
        module: str,
        *,
        weights: tuple[Weight, ...] = (),
        window: Window | None = None,
        groups: int = 1,
        across: tuple[int, ...] = (),
        span: Span | None = None,
        kept: tuple[Kept, ...] = (),
        taps: tuple[Kept, ...] = (),
        masked: bool = False,
        keeps: bool = False,
        work: Work | None = None,
        channel: int | None = None,
        placed: Mapping[int, int] | None = None,
        pieces: Pieces | None = None,
        resampled: tuple[Resampling | None, ...] = (),
        flat_pieces: tuple[Piece, ...] = (),
    ) -> Array:
        if len(self._operations) == MAX_OPERATIONS:
            raise InputError(f"The network has more than {MAX_OPERATIONS:,} operations.")
        if not keeps:  # what its axes say of scores
            held = [atom.scores for atom in ax.atoms_of(axes) if atom.scores is not None]
            masked |= any(scores.kept is not None for scores in held)
            axes = ax.untold(axes) if held else axes
        made = Array(shape, axes, self._ids)
        self._ids += 1
        tensor = self._tensor(made, channel, placed)
        inputs = tuple(self._tensor(each, channel if len(each.shape) == len(shape) else None, placed) for each in units)
        self._makers[tensor.id] = len(self._operations)
        operation = Operation(
            kind, name or kind.value, inputs, (tensor,), window, groups, weights, module, across, span, kept,
            taps, masked, work, pieces, resampled, flat_pieces, traced=True,
        )  # fmt: skip
        self._operations.append(operation)
        return made

    def _tensor(self, x: Array, channel: int | None, placed: Mapping[int, int] | None = None) -> Tensor:
        """The array as the graph sees it: without the batch, and with its positions where they are.

        Args:
            x: the array.
            channel: the axis of its channels, where that is known.
            placed: axes of the array by the spatial axis that they are, also where they have one position only.
        """
        assert x.id is not None
        left_out = batch_axis(x.shape, (placed or {}).values())
        shown = [axis for axis in range(len(x.shape)) if axis != left_out]
        shape = tuple([x.shape[axis] for axis in shown])
        extents = ax.grid(x.axes, self._axes)
        places: list[int | None] = [None] * self._axes
        for place, axis in (placed or {}).items():
            places[place] = shown.index(axis)
        for number, axis in enumerate(shown):
            for atom in x.axes[axis]:
                if (
                    atom.axis is not None
                    and atom.axis != LOST
                    and len(x.axes[axis]) == 1
                    and atom.extent == extents[atom.axis]
                ):
                    places[atom.axis] = number
        rest = [number for number in range(len(shown)) if number not in places]
        where = shown.index(channel) if channel in shown else rest[0] if len(rest) == 1 else None
        if flat := self._flat(x):
            return Tensor(x.id, shape, (), where, flat=flat)
        if any(extent > 1 and place is None for extent, place in zip(extents, places, strict=True)):
            return Tensor(x.id, shape, (), where, extents)
        return Tensor(x.id, shape, tuple(places) if any(place is not None for place in places) else (), where)

    def _flat(self, x: Array) -> tuple[FlatMap, ...]:
        """The maps that stand flattened along an axis of an array, where it has no other positions."""
        holding = [atom for atom in ax.atoms_of(x.axes) if atom.axis is not None]
        if len(holding) != 1 or not holding[0].flat:
            return ()
        flat = holding[0].flat
        if flat not in self._flat_maps:
            self._flat_maps[flat] = tuple(self._flat_map(each) for each in flat)
        return self._flat_maps[flat]

    def _flat_map(self, held: Axis) -> FlatMap:
        places = {atom.axis: number for number, atom in enumerate(held)}
        shape = tuple(atom.extent for atom in held) or (1,)
        return FlatMap(shape, tuple(places.get(axis) for axis in range(self._axes)))

    def takes_bias(self, x: Array, weights: tuple[Weight, ...]) -> bool:
        """Whether these weights are the bias of the layer that made x, which then has them."""
        place = self._makers.get(x.id) if x.id is not None else None
        if place is None or len(weights) != 1:
            return False
        maker = self._operations[place]
        if maker.kind not in (Kind.LINEAR, Kind.CONVOLUTION) or len(maker.weights) != 1:
            return False
        extents, kernel = weights[0].shape, maker.weights[0].shape
        # A bias of several axes, such as heads and their channels, has the last ones of the weights.
        several = len(extents) > 1 and extents == kernel[-len(extents) :] and extents == x.shape[-len(extents) :]
        if several and any(ax.has_positions(axis) for axis in x.axes[-len(extents) :]):
            return False
        if weights[0].size not in x.shape and weights[0].size != 1 and not several:
            return False
        self._operations[place] = replace(maker, weights=(*maker.weights, *weights))
        return True


def batch_axis(shape: Shape, placed: Iterable[int] = ()) -> int | None:
    """Which axis is the batch: the first of extent 1 among the first two, where others are left."""
    taken = list(placed)
    return next((axis for axis in range(min(2, len(shape) - 1)) if shape[axis] == 1 and axis not in taken), None)

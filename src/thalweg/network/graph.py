"""The one form that every notation of a network is read into: a flat list of operations in the order they run.

A `Graph` holds the input tensors and the operations; each operation names its input and output tensors, what slides
over them (`Window`) and its weights. Shapes are those of one example, without the batch. All numbers are Python
integers, so counts made from them never overflow or round.

    >>> image = Tensor(0, (112, 112, 3), spatial=(0, 1), channel=2)
    >>> window = Window(kernel=(3, 3), stride=(2, 2), dilation=(1, 1), low=(1, 1), high=(1, 1))
    >>> window.output_extents(image.extents)
    (56, 56)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from thalweg.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Kind(StrEnum):
    """What an operation does; counts and receptive fields have one rule for each kind."""

    CONVOLUTION = "convolution"
    LINEAR = "linear"
    """Inputs times weights: a fully connected layer, by itself at each position where its inputs are the channels."""
    EMBEDDING = "embedding"
    """Rows of a table of weights, looked up."""
    RECURRENT = "recurrent"
    MATMUL = "matrix product"
    """Of two arrays of units."""
    ATTENTION = "attention"
    """Both matrix products of scaled dot-product attention."""
    MAX_POOL = "max pool"
    AVERAGE_POOL = "average pool"
    GLOBAL_POOL = "global pool"
    UPSAMPLE = "upsample"
    CROP = "crop"
    PAD = "pad"
    ADD = "add"
    MULTIPLY = "multiply"
    CONCATENATE = "concatenate"
    FLATTEN = "flatten"
    RESHAPE = "reshape"
    REARRANGE = "rearrange"
    """Blocks of positions become channels, or channels blocks of positions."""
    GATHER = "gather"
    """Values taken from other places, in an order that is followed only where `Operation.pieces` says it."""
    REDUCE = "reduce"
    """Sums or extremes over the channels."""
    ACTIVATION = "activation"
    DROPOUT = "dropout"
    NORMALISATION = "normalisation"
    """Each position by itself: batch normalisation after training, layer normalisation over the channels."""
    SPATIAL_NORMALISATION = "spatial normalisation"
    """With statistics of the whole map: instance and group normalisation."""
    UNUSED = "not used"
    """Weights that the network has and does not use when it runs."""
    UNKNOWN = "unknown"
    """What a reader could not name; it makes every total but that of the parameters incomplete."""


class Border(StrEnum):
    """What stands in the padding of a map."""

    ZEROS = "zeros"
    MIRRORED = "mirrored"
    REPEATED = "repeated"
    WRAPPED = "wrapped"


WINDOWED = frozenset(
    {Kind.CONVOLUTION, Kind.MAX_POOL, Kind.AVERAGE_POOL, Kind.UPSAMPLE, Kind.CROP, Kind.PAD, Kind.REARRANGE},
)
MERGES = frozenset({Kind.ADD, Kind.MULTIPLY, Kind.CONCATENATE})


def written(extents: tuple[int, ...]) -> str:
    """Extents as people write them.

    >>> written((112, 112, 64))
    '112 x 112 x 64'
    """
    return " x ".join(f"{extent}" for extent in extents)


def _extents(shape: tuple[int, ...], spatial: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple([1 if axis is None else shape[axis] for axis in spatial])


@dataclass(frozen=True, slots=True)
class FlatMap:
    """A map whose units stand one after the other along an axis, row by row.

    Args:
        shape: its extents.
        spatial: which axes of `shape` are positions, as in `Tensor`.
    """

    shape: tuple[int, ...]
    spatial: tuple[int | None, ...]

    @property
    def size(self) -> int:
        """The number of places that it takes."""
        return math.prod(self.shape)

    @property
    def extents(self) -> tuple[int, ...]:
        """The extents of the spatial axes."""
        return _extents(self.shape, self.spatial)

    def position(self, place: int) -> tuple[int, ...]:
        """The position of the unit in a place."""
        index = []
        for extent in reversed(self.shape):
            place, unit = divmod(place, extent)
            index.append(unit)
        index.reverse()
        return tuple(0 if axis is None else index[axis] for axis in self.spatial)


@dataclass(frozen=True, slots=True)
class Tensor:
    """What flows from one operation to the next.

    Args:
        id: its number, unique in the graph.
        shape: the extents for one example.
        spatial: which axes of `shape` are positions, in the order of the network input's positions; None in the place
            of one that has no axis of its own.
        channel: which axis of `shape` holds the channels; None only where there is no such axis.
        positions: how many positions there are along each spatial axis, where `shape` does not say so because axes are
            merged or split, as in a sequence of 196 tokens that stand for 14 x 14 positions.
        flat: the maps that stand flattened one after the other along one of its axes, as in a flattened map, or in a
            class token and the 196 behind it; none where all its units are at the positions that `extents` counts.
    """

    id: int
    shape: tuple[int, ...]
    spatial: tuple[int | None, ...] = ()
    channel: int | None = None
    positions: tuple[int, ...] | None = None
    flat: tuple[FlatMap, ...] = ()

    @property
    def size(self) -> int:
        """The number of units."""
        return math.prod(self.shape)

    @property
    def extents(self) -> tuple[int, ...]:
        """The extents of the spatial axes."""
        if self.positions is not None:
            return self.positions
        return _extents(self.shape, self.spatial)

    @property
    def channels(self) -> int:
        """The number of channels."""
        return 1 if self.channel is None else self.shape[self.channel]

    @property
    def as_flat(self) -> tuple[FlatMap, ...]:
        """The flat maps that it holds once it is flattened; none where it has a single position."""
        if self.flat or max(self.extents, default=1) == 1:
            return self.flat
        return (FlatMap(self.shape, self.spatial),)

    def with_extents(self, id: int, extents: tuple[int, ...], channels: int) -> Tensor:  # noqa: A002
        """A tensor of the same layout with other extents and channels."""
        shape = list(self.shape)
        for axis, extent in zip(self.spatial, extents, strict=True):
            if axis is not None:
                shape[axis] = extent
        if self.channel is not None:
            shape[self.channel] = channels
        return Tensor(id, tuple(shape), self.spatial, self.channel)


@dataclass(frozen=True, slots=True)
class Window:
    """What slides over the positions: one number per spatial axis in each field.

    Tap `k` of output unit `i` lies at input position `i * stride - low + dilation * k`. Transposed, input unit `i`
    reaches output position `i * stride - low + dilation * k`. Cropping is a window of one tap with negative padding.

    Args:
        kernel: the number of taps.
        stride: the step between neighbouring units.
        dilation: the distance between neighbouring taps.
        low: zero padding before the first position (for transposed windows: positions cut off there).
        high: the same after the last position.
        transposed: whether this is the transpose of such a window.
        output_padding: positions added after the last one, for transposed windows.
        ceil: whether a last window that hangs over the end still counts, as in pooling layers.
        border: what stands in the padding, for windows of one tap: zeros, or positions of the map itself, mirrored at
            its ends, the outermost repeated, or those of the other end.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    ceil: bool = False
    border: Border = Border.ZEROS

    def __post_init__(self) -> None:
        if not self.output_padding:
            object.__setattr__(self, "output_padding", (0,) * len(self.kernel))

    @property
    def volume(self) -> int:
        """The number of taps over all axes."""
        return math.prod(self.kernel)

    def parts(self, taps: Sequence[Kept]) -> Iterator[Window]:
        """The windows over neighbouring taps that make some of its taps together."""
        for each in taps:
            for runs in itertools.product(*self._runs(each)):
                yield self._part([first for first, _ in runs], [behind for _, behind in runs])

    def around(self, taps: Sequence[Kept]) -> Window:
        """The smallest window that holds some of its taps."""
        axes = [list(itertools.chain(*runs)) for runs in zip(*map(self._runs, taps), strict=True)]
        return self._part([min(runs)[0] for runs in axes], [max(behind for _, behind in runs) for runs in axes])

    def _runs(self, taps: Kept) -> list[tuple[tuple[int, int], ...]]:
        return [((0, extent),) if runs is None else runs for runs, extent in zip(taps.along, self.kernel, strict=True)]

    def _part(self, begin: Sequence[int], behind: Sequence[int]) -> Window:
        """The same window over its taps from some on to before others."""
        axes = list(zip(self.kernel, self.dilation, self.low, self.high, begin, behind, strict=True))
        return replace(
            self,
            kernel=tuple(last - first for *_, first, last in axes),
            low=tuple(low - gap * first for _, gap, low, _, first, _ in axes),
            high=tuple(high - gap * (extent - last) for extent, gap, _, high, _, last in axes),
        )

    def output_extents(self, extents: tuple[int, ...]) -> tuple[int, ...]:
        """How many units the window makes of `extents` positions on each axis; zero or less where it does not fit."""
        return tuple(self._output_extent(axis, extent) for axis, extent in enumerate(extents))

    def _output_extent(self, axis: int, extent: int) -> int:
        stride, padding = self.stride[axis], self.low[axis] + self.high[axis]
        span = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        if self.transposed:
            return (extent - 1) * stride + span - padding + self.output_padding[axis]
        room = extent + padding - span
        if not self.ceil:
            return room // stride + 1
        units = -(-room // stride) + 1
        # A window that would begin in the padding after the image is dropped (PyTorch's and ONNX's rule).
        return units - 1 if (units - 1) * stride >= extent + self.low[axis] else units


@dataclass(frozen=True, slots=True)
class Resampling:
    """What the units along an axis are made of where they move over the positions at a ratio of whole numbers.

    Unit `i` is made of the positions from `first` to `last`, whose patterns repeat `step` positions further; of those
    that do not exist it takes the outermost that does.

    Args:
        first: the first position of each unit of one period.
        last: the last one.
        step: how far a period moves over the positions.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    step: int

    @classmethod
    def of(cls, taps: Callable[[int], tuple[int, int]], ratio: Fraction) -> Resampling:
        """That of units whose first and last positions are known and move on by a ratio."""
        ends = [taps(unit) for unit in range(ratio.denominator)]
        return cls(tuple(first for first, _ in ends), tuple(last for _, last in ends), ratio.numerator)

    def at(self, unit: int) -> tuple[int, int]:
        """The first and the last position of a unit, whether they exist or not."""
        turns, phase = divmod(unit, len(self.first))
        return self.first[phase] + turns * self.step, self.last[phase] + turns * self.step

    def reaching(self, place: int) -> tuple[int, int]:
        """The first units whose first and whose last positions are this place or one behind it."""
        found = []
        for which, pattern in enumerate((self.first, self.last)):
            unit = (place - max(pattern)) // self.step * len(pattern)  # none before reaches it
            while self.at(unit)[which] < place:
                unit += 1
            found.append(unit)
        return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Weight:
    """One array of parameters.

    Args:
        identity: its name; weights of the same identity are one array that is used several times.
        shape: its extents.
        trainable: False where it stays frozen.
    """

    identity: str
    shape: tuple[int, ...]
    trainable: bool = True

    @property
    def size(self) -> int:
        """The number of parameters."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Work:
    """What an operation does, where that does not follow from its kind, its window and its shapes.

    Args:
        connections: input connections of its units, without biases.
        inside: those of them that do not fall on zero padding.
        macs: multiply-accumulates for one example.
    """

    connections: int
    inside: int
    macs: int


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Which positions of an axis each unit sees, where that follows no rule.

    Args:
        kept: truth values, `(units, positions)`.
        seeing: where units that see any begin and end, the first behind each stretch; None where all do.
    """

    kept: NDArray[np.bool_]
    seeing: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """How far units see along the axes of `Operation.across`, where that is not all along, as behind a causal mask.

    Args:
        before: how many positions before its own a unit sees; None for all.
        after: how many behind it; None for all. Where one of both is None, the other is 0, or None as well.
        along: the numbers of the inputs that they see so.
        here: those of which they see what is in their own place. Others are made of these, and add nothing.
        chosen: which positions they see, where no numbers of neighbours say it: those of their block, or any.
    """

    before: int | None
    after: int | None
    along: tuple[int, ...] = (0,)
    here: tuple[int, ...] = ()
    chosen: Chosen | Resampling | None = None

    @property
    def sees_all(self) -> bool:
        """Whether it hides nothing, and only says of which inputs units see what is in their own place."""
        return self.before is None and self.after is None


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring positions of an axis, or places of flat maps, that come from one place.

    Args:
        length: how many there are.
        source: the number of the input that they come from; None for numbers that depend on no input.
        start: the position of that input which comes first, or its place where that input is or becomes flat.
        step: how far the next one lies from it; negative to go backwards, 0 where the same one is repeated.
    """

    length: int
    source: int | None = None
    start: int = 0
    step: int = 1


@dataclass(frozen=True, slots=True)
class Pieces:
    """What the positions along one axis are put together of; along the others each unit has its own position.

    Args:
        axis: which spatial axis.
        parts: the pieces, one after the other.
    """

    axis: int
    parts: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """Positions of a map, or taps of a window, that are left where a mask hides others: all that these make together.

    Args:
        along: for every spatial axis where its stretches begin and end, the first place behind each; None for all.
    """

    along: tuple[tuple[tuple[int, int], ...] | None, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of the network.

    Args:
        kind: what it does.
        name: what people call it; names need not be unique.
        inputs: the tensors that go in.
        outputs: the tensors that come out.
        window: what slides over the positions, for the kinds in `WINDOWED`.
        groups: into how many groups the channels of a convolution fall.
        weights: its parameters.
        module: the path of the module that called it, where there is one.
        across: the spatial axes along which each of its units sees all positions of its inputs; None for all axes of a
            fully connected layer or a global pool, and for none elsewhere.
        span: how far they see along these, where that is not all along.
        kept: which positions of its inputs a mask leaves, the first or the second or ...; empty where it leaves all.
        taps: which taps of its window a mask of its weights leaves, the first or the second or ...; empty for all.
        masked: whether a mask hides some of what they see, which is not followed.
        work: its connections and multiply-accumulates, where they do not follow from the rest.
        pieces: what the positions along an axis are put together of, for concatenations and gathers that do that.
        resampled: what the units along every spatial axis are made of, None where they are the positions, for maps that
            are resized or pooled by a ratio which no window follows.
        flat_pieces: what the places of flat maps are put together of, for what flattens maps, joins flat ones, or takes
            some of them: whole maps, or parts of maps whose units all see the same.
        traced: whether it was written down from a run, whose shapes a framework has checked already.

    Raises:
        InputError: the pieces do not fit together; the message names the operation.
    """

    kind: Kind
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    window: Window | None = None
    groups: int = 1
    weights: tuple[Weight, ...] = ()
    module: str = ""
    across: tuple[int, ...] | None = None
    span: Span | None = None
    kept: tuple[Kept, ...] = ()
    taps: tuple[Kept, ...] = ()
    masked: bool = False
    work: Work | None = None
    pieces: Pieces | None = None
    resampled: tuple[Resampling | None, ...] = ()
    flat_pieces: tuple[Piece, ...] = ()
    traced: bool = False

    @property
    def input(self) -> Tensor:
        """The first input."""
        return self.inputs[0]

    @property
    def windows(self) -> Iterator[Window]:
        """What slides over the positions in parts of which no tap is masked: its window, or several that make it."""
        assert self.window is not None
        yield from self.window.parts(self.taps) if self.taps else (self.window,)

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """The inputs that it computes with: all, but for those that only say what its scores are made of."""
        told = () if self.span is None else (*self.span.here, *self.span.along)
        return tuple([each for number, each in enumerate(self.inputs) if number not in told]) or self.inputs

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    def __post_init__(self) -> None:
        if self.kind in WINDOWED and not (self.traced and self.window is None):
            self._check_window()
        elif self.kind in MERGES and not self.traced:
            self._check_merge()
        elif self.kind in (Kind.FLATTEN, Kind.RESHAPE) and self.input.size != self.output.size:
            raise InputError(
                f"{self.name!r} cannot turn the {self.input.size} units of {written(self.input.shape)} into "
                f"{written(self.output.shape)}, which has {self.output.size}."
            )
        for tensor in self.outputs:
            if min(tensor.shape, default=1) < 1:
                raise InputError(f"{self.name!r} has no units left: its output would be {written(tensor.shape)}.")

    def _check_window(self) -> None:
        window, extents = self.window, self.input.extents
        if window is None or len(window.kernel) != len(extents):
            axes = "no window" if window is None else f"a window over {len(window.kernel)} axes"
            raise InputError(f"{self.name!r} has {axes}, but its input has {len(extents)} spatial axes.")
        if min((*window.kernel, *window.stride, *window.dilation)) < 1:
            raise InputError(f"{self.name!r} needs kernel, stride and dilation of at least 1.")
        expected = window.output_extents(extents)
        if min(expected) < 1:
            raise InputError(
                f"{self.name!r} does not fit: its window of {written(window.kernel)} leaves no unit on an input of "
                f"{written(extents)} positions; make it smaller, or pad."
            )
        if self.output.extents != expected:
            raise InputError(
                f"{self.name!r} makes {written(expected)} positions of {written(extents)}, not "
                f"{written(self.output.extents)}."
            )
        for channels, which in ((self.input.channels, "input"), (self.output.channels, "output")):
            if self.groups < 1 or channels % self.groups:
                raise InputError(
                    f"{self.name!r} has {channels} {which} channels, which do not divide into {self.groups} groups."
                )

    def _check_merge(self) -> None:
        joined = self.output.channel if self.kind is Kind.CONCATENATE else None
        for tensor in self.inputs:
            # Concatenation asks for equal extents; the others repeat a single position or channel, as gates do.
            fits = len(tensor.shape) == len(self.output.shape) and all(
                axis == joined or extent == wanted or (extent == 1 and self.kind is not Kind.CONCATENATE)
                for axis, (extent, wanted) in enumerate(zip(tensor.shape, self.output.shape, strict=True))
            )
            # A vector of channels also scales or shifts every position of a map.
            if not fits and self.kind is not Kind.CONCATENATE:
                fits = not tensor.spatial and tensor.shape == (self.output.channels,)
            if not fits:
                shapes = " and ".join(written(each.shape) for each in self.inputs)
                raise InputError(
                    f"{self.name!r} joins branches that do not match: {shapes}; give them the same shape "
                    "(crop, pad, or change a stride)."
                )
        if joined is not None and sum(tensor.channels for tensor in self.inputs) != self.output.channels:
            raise InputError(f"{self.name!r} has {self.output.channels} channels, which is not the sum of its inputs'.")


@dataclass(frozen=True)
class Graph:
    """A network: what goes in, and what is done with it in order.

    Args:
        inputs: the tensors that come from outside; receptive fields are positions of the first.
        operations: the steps, each after those whose outputs it needs.
        notes: what its reader had to decide, in sentences.
        constants: how many of the inputs, the last ones, are the same for every example and not given by the user.
        batch_axes: where the batch stands in each of the inputs as the network takes them; empty where it comes first.

    Raises:
        InputError: an operation uses a tensor that nothing has made yet, or makes one that exists.
    """

    inputs: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    notes: tuple[str, ...] = ()
    constants: int = 0
    batch_axes: tuple[int, ...] = ()

    @property
    def looked_up(self) -> frozenset[int]:
        """The ids of the tensors whose elements are numbers of rows in a table."""
        return frozenset([each.input.id for each in self.operations if each.kind is Kind.EMBEDDING])

    def batch_axis(self, place: int) -> int:
        """The axis of the batch in the input of that place, 0 unless the network takes its batch elsewhere."""
        return self.batch_axes[place] if self.batch_axes else 0

    @property
    def given(self) -> tuple[Tensor, ...]:
        """The inputs that the user gives."""
        return self.inputs[: len(self.inputs) - self.constants]

    def __post_init__(self) -> None:
        for tensor in self.inputs:
            if min(tensor.shape, default=1) < 1:
                raise InputError(f"The input {written(tensor.shape)} is empty; every extent must be at least 1.")
        made = {tensor.id for tensor in self.inputs}
        for operation in self.operations:
            if any(tensor.id not in made for tensor in operation.inputs):
                raise InputError(f"{operation.name!r} uses a tensor that no operation before it has made.")
            if any(tensor.id in made for tensor in operation.outputs):
                raise InputError(f"{operation.name!r} makes a tensor that exists already.")
            made.update(tensor.id for tensor in operation.outputs)

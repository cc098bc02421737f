"""From a run over arrays, in any framework, to a `Graph`.

Readers of PyTorch, ONNX, JAX and Keras see operations on arrays: convolutions and matrix products, but also every
reshape, permutation and slice on the way. A reader calls the method of that name here and gets the resulting `Array`
back. The `Recorder` follows where the positions of the input are (`thalweg.network.readers.axes`), so that layers are
counted the same whatever the layout, and writes down the operations that compute; those that only move values leave no
trace unless they move positions. Weights are arrays too, until they meet a unit: what is computed from weights alone
costs nothing and remembers which weights it came from.

All shapes are those of the run, which is best done with a batch of one: an array's first axis of extent 1 among its
first two is taken for the batch and left out of what is shown.

    >>> recorder = Recorder()
    >>> image = recorder.input((1, 3, 32, 32), positions=(2, 3), channel=1)
    >>> kernel, bias = recorder.weight("conv.weight", (8, 3, 3, 3)), recorder.weight("conv.bias", (8,))
    >>> seen = recorder.slide(
    ...     Kind.CONVOLUTION, image, (2, 3), Slide((3, 3), low=(1, 1), high=(1, 1)), weights=(kernel, bias),
    ...     channels=8, name="conv", module="body")
    >>> flat = recorder.reshape(recorder.elementwise([seen], name="relu"), (1, 8 * 32 * 32))
    >>> answer = recorder.product(flat, recorder.weight("fc.weight", (8192, 10)), contracted=((1,), (0,)), name="fc")
    >>> [(step.name, step.output.shape) for step in recorder.graph().operations]
    [('conv', (8, 32, 32)), ('relu', (8, 32, 32)), ('fc', (10,))]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from thalweg.errors import InputError
from thalweg.network.counts import taps_inside
from thalweg.network.graph import Border, Graph, Kind, Operation, Tensor, Weight, Window, Work, written
from thalweg.network.readers import axes as ax
from thalweg.network.readers.axes import LOST, Atom, Axes, Axis

Shape = tuple[int, ...]

MAX_OPERATIONS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """A value of the run.

    Args:
        shape: its extents, as the framework sees them.
        axes: what each axis holds.
        id: the number of the tensor it is, or is a view of; None for what is computed from weights and constants alone.
        weights: the weights that a constant was computed from.
    """

    shape: Shape
    axes: Axes
    id: int | None = None
    weights: tuple[Weight, ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether it depends on no input."""
        return self.id is None


@dataclass(frozen=True, slots=True)
class Slide:
    """A window over some axes of an array: one number per axis in each field, as in `Window`."""

    kernel: Shape
    stride: Shape = ()
    dilation: Shape = ()
    low: Shape = ()
    high: Shape = ()
    transposed: bool = False
    output_padding: Shape = ()
    ceil: bool = False
    border: Border = Border.ZEROS

    def __post_init__(self) -> None:
        axes = len(self.kernel)
        for name, value in (("stride", 1), ("dilation", 1), ("low", 0), ("high", 0), ("output_padding", 0)):
            if not getattr(self, name):
                object.__setattr__(self, name, (value,) * axes)

    def window(self, places: Sequence[int], count: int) -> Window:
        """The same window over `count` spatial axes, of which it moves along those at `places`."""

        def over(values: Shape, elsewhere: int) -> Shape:
            spread = [elsewhere] * count
            for place, value in zip(places, values, strict=True):
                spread[place] = value
            return tuple(spread)

        return Window(
            over(self.kernel, 1),
            over(self.stride, 1),
            over(self.dilation, 1),
            over(self.low, 0),
            over(self.high, 0),
            self.transposed,
            over(self.output_padding, 0),
            self.ceil,
            self.border,
        )


class Recorder:
    """Writes a run down as a `Graph`."""

    def __init__(self) -> None:
        self._inputs: list[Tensor] = []
        self._operations: list[Operation] = []
        self._makers: dict[int, int] = {}  # which operation made a tensor
        self._ids = 0
        self._constants = 0  # among the inputs, at their end
        self._count: int | None = None  # of spatial axes; None before there are any

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

    # What moves values: no operation unless positions move.

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
            axis if extent == wanted else ax.features(wanted)
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
            return replace(x, shape=shape, axes=_with(x.axes, axis, ax.features(len(indices))))
        x = self._unfolded(x, axis, module)
        whole = self._whole_axis(x, axis)
        if step < 1 or whole is None:
            return self.gather([x], shape, lost=(axis,), name=name, module=module)
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
                x = replace(x, shape=shape, axes=_with(x.axes, axis, ax.features(shape[axis])))
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
            return self.constant(shape, _together(parts))
        if any(ax.has_positions(each.axes[axis]) for each in units):
            cut = self._cut_from(parts, axis)
            if cut is not None:
                return self.roll(cut, axis, parts[0].shape[axis], name, module)
            return self.gather(parts, shape, lost=(axis,), name=name, module=module)
        units = self._evened(units, module)
        flat = [replace(each, axes=_with(each.axes, axis, ())) for each in units]
        around = tuple(1 if place == axis else extent for place, extent in enumerate(shape))
        axes = _with(self._common(flat, around), axis, ax.features(shape[axis]))
        units = self._in_step(units, _with(axes, axis, ()), name, module, but=axis)
        return self._make(
            Kind.CONCATENATE, units, tuple(shape), axes, name, module, weights=_together(parts), channel=axis
        )

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
        if _with(end.axes, axis, ()) != _with(beginning.axes, axis, ()):
            return None
        wanted = [Slide((1,), low=(-beginning.shape[axis],)), Slide((1,), high=(-end.shape[axis],))]
        if [cut.window for cut in cuts] != [slide.window((place,), self._axes) for slide in wanted]:
            return None
        extent = end.shape[axis] + beginning.shape[axis]
        shape = (*end.shape[:axis], extent, *end.shape[axis + 1 :])
        return Array(shape, _with(end.axes, axis, ax.position(place, extent)), cuts[0].input.id)

    def gather(
        self,
        parts: Sequence[Array],
        shape: Sequence[int],
        lost: Sequence[int] | None = None,
        name: str = "gather",
        module: str = "",
    ) -> Array:
        """Values from elsewhere in an order that is not followed, such as flipped or indexed positions.

        Args:
            parts: what they are taken from.
            shape: of the result.
            lost: along which axes positions are mixed up; None for all. The others stay those of the first unit.
            name: what people call it.
            module: the path of the module that does it.
        """
        shape = tuple(shape)
        units = [each for each in parts if not each.is_constant]
        if not units:
            return self.constant(shape, _together(parts))
        first = units[0]
        axes = tuple(
            ax.lost(extent)
            if lost is None or place in lost or len(first.shape) != len(shape) or first.shape[place] != extent
            else first.axes[place]
            for place, extent in enumerate(shape)
        )
        return self._make(Kind.GATHER, units, shape, axes, name, module, weights=_together(parts))

    # What computes.

    def elementwise(
        self,
        parts: Sequence[Array],
        kind: Kind = Kind.ACTIVATION,
        name: str = "",
        module: str = "",
        weights: Sequence[Array] = (),
    ) -> Array:
        """A function of each value, or of the values in the same place of several arrays, repeated as NumPy does.

        A sum of a layer with weights and one more weight is taken for that layer's bias. Sums and products with plain
        numbers leave no trace.

        Args:
            parts: the arguments.
            kind: what it is: an activation, a sum, a product, a dropout.
            name: what people call it.
            module: the path of the module that does it.
            weights: parameters that it has besides.
        """
        rank = max(len(each.shape) for each in parts)
        padded = [(1,) * (rank - len(each.shape)) + each.shape for each in parts]
        shape = tuple(_widest(extents) for extents in zip(*padded, strict=True))
        used = _together([*parts, *weights])
        units = [each for each in parts if not each.is_constant]
        if not units:
            return self.constant(shape, used)
        lined = [self.expand(each, (1,) * (rank - len(each.shape)) + each.shape) for each in units]
        lined = self._evened(lined, module)
        axes = self._common(lined, shape)
        if len({each.id for each in units}) == 1 and kind in (Kind.ADD, Kind.MULTIPLY):
            whole = next((each for each in lined if each.shape == shape), None)
            if not used and whole is not None:
                return whole
            if kind is Kind.ADD and len(units) == 1 and whole is not None and self.takes_bias(whole, used):
                return whole
        lined = self._in_step(lined, axes, name, module)
        return self._make(kind, lined, shape, axes, name or kind.value, module, weights=used)

    def normalise(
        self, x: Array, over: Sequence[int], weights: Sequence[Array] = (), name: str = "norm", module: str = ""
    ) -> Array:
        """Scaled by statistics of some axes: none for a batch normalisation after training."""
        if x.is_constant:
            return self.constant(x.shape, _together([x, *weights]))
        everywhere = any(ax.has_positions(x.axes[axis]) for axis in over)
        kind = Kind.SPATIAL_NORMALISATION if everywhere else Kind.NORMALISATION
        return self._make(kind, [x], x.shape, x.axes, name, module, weights=_together([x, *weights]))

    def softmax(self, x: Array, axis: int, name: str = "softmax", module: str = "") -> Array:
        """Shares of a whole along one axis."""
        if x.is_constant:
            return x
        _, across = self._mixed(x, x.axes[axis], keep=True)
        return self._make(Kind.ACTIVATION, [x], x.shape, x.axes, name, module, across=across)

    def slide(
        self,
        kind: Kind,
        x: Array,
        over: Sequence[int],
        slide: Slide,
        *,
        channel: int = 1,
        channels: int | None = None,
        groups: int = 1,
        weights: Sequence[Array] = (),
        name: str = "",
        module: str = "",
    ) -> Array:
        """A convolution, a pooling window or an upsampling over some axes of an array.

        Args:
            kind: `CONVOLUTION`, `MAX_POOL`, `AVERAGE_POOL` or `UPSAMPLE`.
            x: the array.
            over: the axes along which the window moves.
            slide: the window.
            channel: the axis of the channels.
            channels: how many come out; None for as many as go in.
            groups: of a convolution.
            weights: its parameters.
            name: what people call it.
            module: the path of the module that does it.
        """
        channels = x.shape[channel] if channels is None else channels
        window = slide.window(range(len(over)), len(over))
        extents = window.output_extents(tuple(x.shape[axis] for axis in over))
        shape = list(x.shape)
        shape[channel] = channels
        for axis, extent in zip(over, extents, strict=True):
            shape[axis] = extent
        used = _together(weights)
        if x.is_constant:
            return self.constant(shape, _together([x, *weights]))
        if min(shape, default=1) < 1 or x.shape[channel] % groups or channels % groups:
            self._refuse(kind, name, x, over, window, channel, channels, groups)
        x, places, across = self._as_map(x, over, channel if kind is Kind.CONVOLUTION else None, module)
        axes = list(x.axes)
        if kind is Kind.CONVOLUTION:
            axes[channel] = ax.features(channels)
        if places is None:
            for axis in over:
                axes[axis] = ax.features(shape[axis])
            work = _literal_work(kind, x, over, window, channel, shape, groups)
            return self._make(
                kind, [x], tuple(shape), tuple(axes), name, module,
                weights=used, across=across, work=work, channel=channel,
            )  # fmt: skip
        for axis, place in zip(over, places, strict=True):
            axes[axis] = ax.position(place, shape[axis])
        return self._make(
            kind, [x], tuple(shape), tuple(axes), name, module,
            weights=used, window=slide.window(places, self._axes), groups=groups, channel=channel,
            placed=dict(zip(places, over, strict=True)),
        )  # fmt: skip

    def pool_to(
        self, kind: Kind, x: Array, over: Sequence[int], extents: Sequence[int], name: str = "", module: str = ""
    ) -> Array:
        """Adaptive pooling to given extents: windows from floor(i n / m) to ceil((i + 1) n / m)."""
        sizes = [x.shape[axis] for axis in over]
        if all(extent == 1 for extent in extents) and math.prod(sizes) > 1:
            return self.reduce(x, over, keep=True, pool=True, name=name, module=module)
        if all(size % extent == 0 for size, extent in zip(sizes, extents, strict=True)):
            kernel = tuple(size // extent for size, extent in zip(sizes, extents, strict=True))
            channel = next(axis for axis in range(len(x.shape)) if axis not in over)
            return self.slide(kind, x, over, Slide(kernel, kernel), channel=channel, name=name, module=module)
        shape = list(x.shape)
        taps: int = math.prod([n for axis, n in enumerate(x.shape) if axis not in over])
        for axis, size, extent in zip(over, sizes, extents, strict=True):
            shape[axis] = extent
            taps *= sum(-(-(i + 1) * size // extent) - i * size // extent for i in range(extent))
        axes = tuple(ax.lost(n) if place in over else x.axes[place] for place, n in enumerate(shape))
        return self._make(kind, [x], tuple(shape), axes, name, module, work=Work(taps, taps, 0))

    def reduce(
        self,
        x: Array,
        over: Sequence[int],
        keep: bool = False,
        pool: bool = False,
        name: str = "",
        module: str = "",
        weights: Sequence[Array] = (),
    ) -> Array:
        """A sum, mean or extreme over some axes.

        Args:
            x: the array.
            over: the axes that are put together.
            keep: whether they stay, with extent 1.
            pool: whether it is a layer of pooling units where positions are among them.
            name: what people call it.
            module: the path of the module that does it.
            weights: parameters that it has besides.
        """
        shape = tuple(1 if a in over else n for a, n in enumerate(x.shape) if keep or a not in over)
        used = _together([x, *weights])
        if x.is_constant:
            return self.constant(shape, used)
        pools = pool and any(ax.has_positions(x.axes[axis]) for axis in over)
        x, across = self._mixed(x, ax.atoms_of(x.axes[axis] for axis in over))
        axes = tuple(() if a in over else axis for a, axis in enumerate(x.axes) if keep or a not in over)
        size = math.prod(x.shape)
        kind, work = (Kind.GLOBAL_POOL, Work(size, size, 0)) if pools else (Kind.REDUCE, None)
        if pools and set(across) >= set(range(self._axes)):
            work = None  # counted by its shapes, which knows of padding
        return self._make(kind, [x], shape, axes, name or kind.value, module, weights=used, across=across, work=work)

    def product(
        self,
        x: Array,
        y: Array,
        contracted: tuple[Sequence[int], Sequence[int]],
        batch: tuple[Sequence[int], Sequence[int]] = ((), ()),
        *,
        bias: Array | None = None,
        name: str = "",
        module: str = "",
    ) -> Array:
        """A sum of products over the contracted axes, by itself for every index of the batch axes.

        The axes of the result are the batch axes, then the others of x, then the others of y (XLA's `dot_general`).
        With weights on one side it is a linear layer, else a matrix product of units.

        Args:
            x: one factor.
            y: the other.
            contracted: the axes of x and of y that are summed over, in pairs.
            batch: the axes of x and of y that go together, in pairs.
            bias: added to a linear layer.
            name: what people call it.
            module: the path of the module that does it.
        """
        free = [
            [axis for axis in range(len(each.shape)) if axis not in (*contracted[side], *batch[side])]
            for side, each in enumerate((x, y))
        ]
        shape = tuple(
            [max(x.shape[a], y.shape[b]) for a, b in zip(*batch, strict=True)]
            + [x.shape[axis] for axis in free[0]]
            + [y.shape[axis] for axis in free[1]]
        )
        used = _together([x, y] + ([] if bias is None else [bias]))
        if x.is_constant and y.is_constant:
            return self.constant(shape, used)
        depth = math.prod(x.shape[axis] for axis in contracted[0])
        macs = math.prod(shape) * depth
        sides: list[Array] = []
        across: set[int] = set()
        for side, each in enumerate((x, y)):
            mixed, everywhere = self._mixed(each, ax.atoms_of(each.axes[axis] for axis in contracted[side]))
            sides.append(mixed)
            across.update(everywhere)
        front = [
            sides[0].axes[a] if ax.has_positions(sides[0].axes[a]) or sides[1].is_constant else sides[1].axes[b]
            for a, b in zip(*batch, strict=True)
        ] + [sides[0].axes[axis] for axis in free[0]]
        taken = {atom.axis for atom in ax.atoms_of(front)} - {None, LOST}
        again = [atom for axis in free[1] for atom in sides[1].axes[axis] if atom.axis in taken]
        back = [
            ax.features(y.shape[axis]) if any(atom in again for atom in sides[1].axes[axis]) else sides[1].axes[axis]
            for axis in free[1]
        ]
        # Positions of both factors: those of y become channels, each of which sees its own place.
        sides[1], everywhere = self._mixed(sides[1], again)
        across.update(everywhere)
        axes = (*front, *back)
        units = [
            self._repeated(each, ax.grid(axes, self._axes), tuple(across)) for each in sides if not each.is_constant
        ]
        kind = Kind.MATMUL if len(units) == 2 else Kind.LINEAR
        return self._make(
            kind, units, shape, axes, name or kind.value, module,
            weights=used, across=tuple(sorted(across)), work=Work(macs, macs, macs),
        )  # fmt: skip

    def attention(
        self, q: Array, k: Array, v: Array, name: str = "attention", module: str = "", bias: Array | None = None
    ) -> Array:
        """Scaled dot-product attention: `(..., queries, depth)`, `(..., keys, depth)` and `(..., keys, width)`.

        Queries may have more heads (an axis before the last two) than keys and values, in groups. A bias on the scores
        may have weights of its own, such as those of relative positions.
        """
        shape = (*q.shape[:-1], v.shape[-1])
        macs = math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        units = [q]
        across: set[int] = set()
        for each in (k, v):
            mixed, everywhere = self._mixed(each, each.axes[-2], keep=True)
            across.update(everywhere)
            units.append(mixed)
        axes = (*q.axes[:-1], ax.features(shape[-1]))
        units = [each for each in units if not each.is_constant]
        used = _together([q, k, v, *([] if bias is None else [bias])])
        return self._make(
            Kind.ATTENTION, units, shape, axes, name, module, weights=used,
            across=tuple(sorted(across)), work=Work(macs, macs, macs),
        )  # fmt: skip

    def embedding(self, ids: Array, table: Array, name: str = "embedding", module: str = "") -> Array:
        """Rows of a table `(rows, width)` of weights, one for each id; one connection for each unit."""
        shape = (*ids.shape, *table.shape[1:])
        if ids.is_constant:
            return self.constant(shape, table.weights)
        axes = (*ids.axes, *(ax.features(extent) for extent in table.shape[1:]))
        size = math.prod(shape)
        return self._make(
            Kind.EMBEDDING, [ids], shape, axes, name, module, weights=table.weights, work=Work(size, size, 0)
        )

    def embedding_bag(
        self, ids: Array, table: Array, shape: Sequence[int], name: str = "embedding", module: str = ""
    ) -> Array:
        """The sum, mean or largest of the rows `(rows, width)` of a table, over all ids of a bag."""
        shape = tuple(shape)
        if ids.is_constant:
            return self.constant(shape, table.weights)
        mixed, across = self._mixed(ids, ax.atoms_of(ids.axes))
        axes = tuple(ax.features(extent) for extent in shape)
        taken = math.prod(ids.shape) * table.shape[-1]
        return self._make(
            Kind.EMBEDDING, [mixed], shape, axes, name, module,
            weights=table.weights, across=across, work=Work(taken, taken, 0),
        )  # fmt: skip

    def recurrent(
        self,
        x: Array,
        time: int,
        shape: Sequence[int],
        macs: int,
        weights: Sequence[Array],
        name: str,
        module: str = "",
    ) -> Array:
        """A recurrent layer: each unit sees all steps along the axis `time`; `shape` is that of its output.

        An output with fewer axes than x has no steps: it is the last state.
        """
        steps = len(shape) == len(x.shape)
        x, across = self._mixed(x, x.axes[time], keep=steps)
        axes = tuple(
            x.axes[time] if steps and place == time and extent == x.shape[time] else ax.features(extent)
            for place, extent in enumerate(shape)
        )
        return self._make(
            Kind.RECURRENT, [x], tuple(shape), axes, name, module,
            weights=_together(weights), across=across, work=Work(macs, macs, macs),
        )  # fmt: skip

    def unknown(
        self, parts: Sequence[Array], shape: Sequence[int], name: str, module: str = "", weights: Sequence[Array] = ()
    ) -> Array:
        """What the reader does not know: named, not counted, and nothing is followed through it."""
        units = [each for each in parts if not each.is_constant]
        if not units:
            return self.constant(shape, _together(parts))
        axes = tuple(ax.lost(extent) for extent in shape)
        return self._make(Kind.UNKNOWN, units, tuple(shape), axes, name, module, weights=_together([*parts, *weights]))

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
        work: Work | None = None,
        channel: int | None = None,
        placed: Mapping[int, int] | None = None,
    ) -> Array:
        if len(self._operations) == MAX_OPERATIONS:
            raise InputError(f"The network has more than {MAX_OPERATIONS:,} operations.")
        made = Array(shape, axes, self._ids)
        self._ids += 1
        tensor = self._tensor(made, channel, placed)
        inputs = tuple(self._tensor(each, channel if len(each.shape) == len(shape) else None, placed) for each in units)
        self._makers[tensor.id] = len(self._operations)
        self._operations.append(
            Operation(
                kind, name or kind.value, inputs, (tensor,), window, groups, weights, module, across, work, traced=True
            )
        )
        return made

    def _tensor(self, x: Array, channel: int | None, placed: Mapping[int, int] | None = None) -> Tensor:
        """The array as the graph sees it: without the batch, and with its positions where they are.

        Args:
            x: the array.
            channel: the axis of its channels, where that is known.
            placed: axes of the array by the spatial axis that they are, also where they have one position only.
        """
        assert x.id is not None
        left_out = _batch_axis(x.shape, (placed or {}).values())
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
        if any(extent > 1 and place is None for extent, place in zip(extents, places, strict=True)):
            return Tensor(x.id, shape, (), where, extents)
        return Tensor(x.id, shape, tuple(places) if any(place is not None for place in places) else (), where)

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

    # Where positions are.

    def _moved(
        self, kind: Kind, x: Array, axis: int, place: int, slide: Slide, shape: Shape, name: str, module: str
    ) -> Array:
        axes = _with(x.axes, axis, ax.position(place, shape[axis]))
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

    def _single_positions(self, x: Array) -> dict[int, int]:
        """Axes with one position only, and which spatial axes they are, where there is no doubt."""
        grid = ax.grid(x.axes, self._axes)
        free = [place for place, extent in enumerate(grid) if extent == 1]
        single = [axis for axis, extent in enumerate(x.shape) if extent == 1 and axis != _batch_axis(x.shape)]
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
            x = replace(mixed, shape=x.shape, axes=_with(mixed.axes, channel, ax.features(x.shape[channel])))
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
            return next(iter([*known, *(held for held in fitting if ax.has_positions(held))]), ax.features(shape[axis]))

        axes = tuple([best(axis, parts) for axis in range(len(shape))])
        grids = [ax.grid(each.axes, self._axes) for each in parts]
        if all(
            extent == max(along)
            for extent, along in zip(ax.grid(axes, self._axes), zip(*grids, strict=True), strict=True)
        ):
            return axes
        first = max(parts, key=lambda each: math.prod(ax.grid(each.axes, self._axes)))
        return tuple([best(axis, [first]) for axis in range(len(shape))])

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
        return replace(x, axes=_with(x.axes, axis, ax.position(place, x.shape[axis])), id=spread.id)

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

    def _refuse(
        self,
        kind: Kind,
        name: str,
        x: Array,
        over: Sequence[int],
        window: Window,
        channel: int,
        channels: int,
        groups: int,
    ) -> None:
        """Raise what the graph says of a window that does not fit."""
        spatial = tuple(range(len(over)))
        extents = tuple(x.shape[axis] for axis in over)
        source = Tensor(0, (*extents, x.shape[channel]), spatial, len(over))
        output = Tensor(1, (*window.output_extents(extents), channels), spatial, len(over))
        Operation(kind, name or kind.value, (source,), (output,), window, groups)


def _batch_axis(shape: Shape, placed: Iterable[int] = ()) -> int | None:
    """Which axis is the batch: the first of extent 1 among the first two, where others are left."""
    taken = list(placed)
    return next((axis for axis in range(min(2, len(shape) - 1)) if shape[axis] == 1 and axis not in taken), None)


def _together(parts: Iterable[Array]) -> tuple[Weight, ...]:
    """The weights that several arrays stand for or were computed from, each once."""
    return tuple({weight.identity: weight for part in parts for weight in part.weights if part.is_constant}.values())


def _with(axes: Axes, place: int, axis: Axis) -> Axes:
    return (*axes[:place], axis, *axes[place + 1 :])


def _extent(atoms: Iterable[Atom]) -> int:
    return math.prod(atom.extent for atom in atoms)


def _widest(extents: Iterable[int]) -> int:
    """The extent that others of 1 are repeated to, as NumPy does."""
    return next((extent for extent in extents if extent != 1), 1)


def _literal_work(
    kind: Kind, x: Array, over: Sequence[int], window: Window, channel: int, shape: Sequence[int], groups: int
) -> Work:
    """The work of a window over axes that are not positions of the input."""
    rest = math.prod(shape) // math.prod(shape[axis] for axis in over)  # channels and whatever goes with them
    depth = x.shape[channel] // groups if kind is Kind.CONVOLUTION else 1
    moves = [x.shape[axis] if window.transposed else shape[axis] for axis in over]
    inside = 1
    for number, axis in enumerate(over):
        source, result = (0, x.shape[axis]), (0, shape[axis])
        units, targets = (source, result) if window.transposed else (result, source)
        inside *= taps_inside(
            units, targets, window.kernel[number], window.stride[number], window.dilation[number], window.low[number]
        )
    connections = rest * depth * math.prod(moves) * window.volume
    return Work(connections, rest * depth * inside, connections if kind is Kind.CONVOLUTION else 0)

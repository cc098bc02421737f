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
from collections.abc import Iterable, Sequence

from thalweg.network.counts import taps_inside
from thalweg.network.graph import Kind, Operation, Resampling, Tensor, Window, Work
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array, Slide, together, with_axis
from thalweg.network.readers.axes import Axes
from thalweg.network.readers.moves import Moves
from thalweg.network.readers.resampling import adaptive


class Recorder(Moves):
    """Writes a run down as a `Graph`; these are the operations that compute, on those that move values."""

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
        used = together([*parts, *weights])
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
            return self.constant(x.shape, together([x, *weights]))
        everywhere = any(ax.has_positions(x.axes[axis]) for axis in over)
        kind = Kind.SPATIAL_NORMALISATION if everywhere else Kind.NORMALISATION
        return self._make(kind, [x], x.shape, x.axes, name, module, weights=together([x, *weights]))

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
        used = together(weights)
        if x.is_constant:
            return self.constant(shape, together([x, *weights]))
        if min(shape, default=1) < 1 or x.shape[channel] % groups or channels % groups:
            self._refuse(kind, name, x, over, window, channel, channels, groups)
        x, places, across = self._as_map(x, over, channel if kind is Kind.CONVOLUTION else None, module)
        if places is None:
            work = _literal_work(kind, x, over, window, channel, shape, groups)
            if kind is Kind.CONVOLUTION and self._is_linear(x, over, window):
                kind = Kind.LINEAR
            x, axes, everywhere = self._off_the_map(kind, x, over, shape)
            if kind in (Kind.CONVOLUTION, Kind.LINEAR):
                axes = with_axis(axes, channel, ax.features(channels))
            return self._make(
                kind, [x], tuple(shape), axes, name, module,
                weights=used, across=tuple(sorted({*across, *everywhere})), work=work, channel=channel,
            )  # fmt: skip
        axes = x.axes if kind is not Kind.CONVOLUTION else with_axis(x.axes, channel, ax.features(channels))
        for axis, place in zip(over, places, strict=True):
            axes = with_axis(axes, axis, ax.position(place, shape[axis]))
        return self._make(
            kind, [x], tuple(shape), axes, name, module,
            weights=used, window=slide.window(places, self._axes), groups=groups, channel=channel,
            placed=dict(zip(places, over, strict=True)),
        )  # fmt: skip

    def _off_the_map(
        self, kind: Kind, x: Array, over: Sequence[int], shape: Sequence[int]
    ) -> tuple[Array, Axes, tuple[int, ...]]:
        """What a window over axes that are no whole spatial axes leaves of the positions of an array.

        Returns:
            The array that the window takes; the axes of what it makes, of some shape; and the spatial axes along which
            each of its units sees everything.
        """
        across: tuple[int, ...] = ()
        if kind is Kind.LINEAR and all(shape[axis] == 1 for axis in over):
            x, across = self._mixed(x, ax.atoms_of(x.axes[axis] for axis in over))
        axes = x.axes
        for axis in over:  # a linear layer leaves positions where they are
            if kind is not Kind.LINEAR or shape[axis] == 1 or not ax.has_positions(x.axes[axis]):
                axes = with_axis(axes, axis, ax.features(shape[axis]))
        return x, axes, across

    def _is_linear(self, x: Array, over: Sequence[int], window: Window) -> bool:
        """Whether a convolution over axes that are no whole spatial axes is a linear layer at every position.

        It is where it has one tap, takes all there is along its axes at once, or where these hold no positions.
        """
        if max(ax.grid(x.axes, self._axes), default=1) == 1 and not self._flat(x):
            return False
        extents = tuple(x.shape[axis] for axis in over)
        plain = not window.transposed and not any((*window.low, *window.high))
        one = plain and window.volume == 1 and window.output_extents(extents) == extents
        everything = plain and window.kernel == extents
        return one or everything or not any(ax.has_positions(x.axes[axis]) for axis in over)

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
        how = [adaptive(size, extent) for size, extent in zip(sizes, extents, strict=True)]
        taps: int = math.prod([n for axis, n in enumerate(x.shape) if axis not in over])
        for each, extent in zip(how, extents, strict=True):
            taps *= sum(last - first + 1 for first, last in map(each.at, range(extent)))
        return self.resample(kind, x, over, how, extents, name, module, Work(taps, taps, 0))

    def resample(
        self,
        kind: Kind,
        x: Array,
        over: Sequence[int],
        how: Sequence[Resampling],
        extents: Sequence[int],
        name: str = "",
        module: str = "",
        work: Work | None = None,
    ) -> Array:
        """Another number of positions along some axes, at a ratio that no window follows.

        Args:
            kind: `MAX_POOL`, `AVERAGE_POOL` or `UPSAMPLE`.
            x: the array.
            over: the axes.
            how: what the units along each of them are made of.
            extents: how many there are.
            name: what people call it.
            module: the path of the module that does it.
            work: its connections, where it has some.
        """
        new = dict(zip(over, extents, strict=True))
        shape = tuple(new.get(axis, extent) for axis, extent in enumerate(x.shape))
        if x.is_constant:
            return self.constant(shape, x.weights)
        x, places, _ = self._as_map(x, over, None, module)
        if places is None:
            axes = tuple(ax.lost(extent) if axis in new else x.axes[axis] for axis, extent in enumerate(shape))
            return self._make(kind, [x], shape, axes, name, module, work=work)
        held = dict(zip(over, places, strict=True))
        axes = tuple(
            ax.position(held[axis], extent) if axis in held else x.axes[axis] for axis, extent in enumerate(shape)
        )
        along = dict(zip(places, how, strict=True))
        return self._make(
            kind, [x], shape, axes, name, module,
            work=work, channel=next((axis for axis in range(len(shape)) if axis not in over and shape[axis] > 1), None),
            placed=dict(zip(places, over, strict=True)), resampled=tuple(along.get(n) for n in range(self._axes)),
        )  # fmt: skip

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
        used = together([x, *weights])
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
        macs: int | None = None,
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
            macs: its multiply-accumulates, where they are fewer because one factor is known to hold zeros.
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
        used = together([x, y] + ([] if bias is None else [bias]))
        if x.is_constant and y.is_constant:
            return self.constant(shape, used)
        depth = math.prod(x.shape[axis] for axis in contracted[0])
        macs = math.prod(shape) * depth if macs is None else macs
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
        taken = {atom.axis for atom in ax.atoms_of(front)} - {None}
        twice = [axis for axis in free[1] if any(atom.axis in taken for atom in sides[1].axes[axis])]
        again = [atom for atom in ax.atoms_of(sides[1].axes[axis] for axis in twice) if atom.axis is not None]
        back = [ax.features(y.shape[axis]) if axis in twice else sides[1].axes[axis] for axis in free[1]]
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
        used = together([q, k, v, *([] if bias is None else [bias])])
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
            weights=together(weights), across=across, work=Work(macs, macs, macs),
        )  # fmt: skip

    def unknown(
        self, parts: Sequence[Array], shape: Sequence[int], name: str, module: str = "", weights: Sequence[Array] = ()
    ) -> Array:
        """What the reader does not know: named, not counted, and nothing is followed through it."""
        units = [each for each in parts if not each.is_constant]
        if not units:
            return self.constant(shape, together(parts))
        axes = tuple(ax.lost(extent) for extent in shape)
        return self._make(Kind.UNKNOWN, units, tuple(shape), axes, name, module, weights=together([*parts, *weights]))

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

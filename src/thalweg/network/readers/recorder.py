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
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thalweg.network.counts import taps_inside
from thalweg.network.graph import Kept, Kind, Operation, Resampling, Tensor, Window, Work
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array, Slide, together, with_axis
from thalweg.network.readers.axes import Axes
from thalweg.network.readers.masks import Mask, of_choice, rectangles, towards
from thalweg.network.readers.products import Products
from thalweg.network.readers.resampling import adaptive

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Recorder(Products):
    """Writes a run down as a `Graph`; these are the operations that compute, on those that move values."""

    def elementwise(
        self,
        parts: Sequence[Array],
        kind: Kind = Kind.ACTIVATION,
        name: str = "",
        module: str = "",
        weights: Sequence[Array] = (),
        mask: Mask | None = None,
        turns: bool = False,
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
            mask: what it hides of the only argument that depends on an input.
            turns: whether it makes high numbers of low ones, as where that argument is subtracted.
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
        if mask is not None and len(lined) == 1:
            masked = self._masked(self.expand(lined[0], shape), mask, kind, used, name, module)
            if masked is not None:
                return masked
        axes, hides = self._as_scores(axes, kind, lined, turns)
        if len({(each.id, each.axes) for each in lined}) == 1 and kind in (Kind.ADD, Kind.MULTIPLY) and not hides:
            whole = next((each for each in lined if each.shape == shape), None)
            if not used and whole is not None:
                return replace(whole, axes=axes)
            if kind is Kind.ADD and len(units) == 1 and whole is not None and self.takes_bias(whole, used):
                return whole
        lined = self._in_step(lined, axes, name, module)
        if kind is Kind.MULTIPLY:
            lined = [self._by_place(each, axes, module) for each in lined]
        name = name or kind.value
        return self._make(kind, lined, shape, axes, name, module, weights=used, masked=hides, keeps=not hides)

    def _by_place(self, x: Array, axes: Axes, module: str) -> Array:
        """A factor that is no gate, as it has a value for each position, with positions where its partner has them."""
        placed = {
            place: axis
            for axis, held in enumerate(axes)
            if ax.has_features(x.axes[axis])
            and x.shape[axis] == ax.extent_of(held)
            and (place := self._whole_axis(replace(x, axes=axes), axis)) is not None
        }
        if not placed or any(map(ax.has_positions, x.axes)):
            return x
        held = tuple(axes[axis] if axis in placed.values() else own for axis, own in enumerate(x.axes))
        return self._make(Kind.RESHAPE, [x], x.shape, held, "reshape", module, placed=placed, keeps=True)

    def normalise(
        self, x: Array, over: Sequence[int], weights: Sequence[Array] = (), name: str = "norm", module: str = ""
    ) -> Array:
        """Scaled by statistics of some axes: none for a batch normalisation after training."""
        if x.is_constant:
            return self.constant(x.shape, together([x, *weights]))
        everywhere = any(ax.has_positions(x.axes[axis]) for axis in over)
        kind = Kind.SPATIAL_NORMALISATION if everywhere else Kind.NORMALISATION
        axes = self._shared(x.axes) if over else x.axes
        return self._make(
            kind, [x], x.shape, axes, name, module, weights=together([x, *weights]), keeps=axes is not x.axes
        )

    def choose(self, chosen: NDArray[Any] | None, x: Array, y: Array, name: str = "", module: str = "") -> Array:
        """The values of one array where truth values say so, where they are known, and those of another elsewhere."""
        if chosen is None:
            return self.elementwise([x, y], name=name, module=module)
        import numpy as np

        shape = np.broadcast_shapes(chosen.shape, x.shape, y.shape)
        left = []
        for each, kept in ((x, chosen), (y, ~chosen)):
            whole, mask = self.expand(each, shape), of_choice(kept, 0)
            blanks = not each.is_constant and self.blanks(whole, mask)
            left.append(self.elementwise([whole], name=name, module=module, mask=mask) if blanks else whole)
        return self.elementwise(left, name=name, module=module)

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
        left: NDArray[Any] | None = None,
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
            left: which taps of its window a mask of these leaves; None for all.
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
            before = [x.axes[axis] for axis in over]
            x, axes, everywhere = self._off_the_map(kind, x, over, shape)
            if kind in (Kind.CONVOLUTION, Kind.LINEAR):
                axes = with_axis(axes, channel, ax.features(channels))
            return self._make(
                kind, [x], tuple(shape), axes, name, module,
                weights=used, across=tuple(sorted({*across, *everywhere})), work=work, channel=channel,
                masked=left is not None and any(ax.has_positions(axis) for axis in before),
            )  # fmt: skip
        axes = x.axes if kind is not Kind.CONVOLUTION else with_axis(x.axes, channel, ax.features(channels))
        for axis, place in zip(over, places, strict=True):
            axes = with_axis(axes, axis, ax.position(place, shape[axis]))
        return self._make(
            kind, [x], tuple(shape), axes, name, module,
            weights=used, window=slide.window(places, self._axes), groups=groups, channel=channel,
            taps=() if left is None else self._taps(left, places), placed=dict(zip(places, over, strict=True)),
        )  # fmt: skip

    def _taps(self, left: NDArray[Any], places: Sequence[int]) -> tuple[Kept, ...]:
        """Which taps of a window along some spatial axes are left, for all of these."""
        along = [dict(zip(places, each.along, strict=True)) for each in rectangles(left)]
        return tuple(Kept(tuple(map(each.get, range(self._axes)))) for each in along)

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
                axes = with_axis(axes, axis, ax.some_of(x.axes[axis], shape[axis]))
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
        plain: bool = True,
    ) -> Array:
        """A sum, mean, extreme or another statistic over some axes.

        Args:
            x: the array.
            over: the axes that are put together.
            keep: whether they stay, with extent 1.
            pool: whether it is a layer of pooling units where positions are among them.
            name: what people call it.
            module: the path of the module that does it.
            weights: parameters that it has besides.
            plain: whether it is a sum, a mean or an extreme, which are 0 of zeros and low of low numbers.
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
        # What is hidden in all heads is so in their mean.
        aside = not any(ax.has_positions(x.axes[axis]) or ax.holds_keys(x.axes[axis]) for axis in over)
        return self._make(
            kind, [x], shape, axes, name or kind.value, module,
            weights=used, across=across, work=work, keeps=aside and plain and not used,
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
        reverse: bool | None = None,
        states: Sequence[Array] = (),
        steps: bool | None = None,
        examples: int | None = None,
    ) -> Array:
        """A recurrent layer, whose units see the steps before their own.

        Args:
            x: the sequence.
            time: its axis of steps.
            shape: that of the output; with fewer axes than x has it has no steps, and is the last state.
            macs: its multiply-accumulates.
            weights: its parameters.
            name: what people call it.
            module: the path of the module that does it.
            reverse: whether it begins with the last step, and units see those behind theirs; None where it goes both
                ways, and they see all.
            states: those that it begins with.
            steps: whether the output has steps, where its shape does not say so.
            examples: the axis of sequences that go through it side by side, where it has one.
        """
        steps = len(shape) == len(x.shape) if steps is None else steps
        x, across = self._mixed(self.source(x, f"{name}.input", module), x.axes[time], keep=steps)
        stay = [time, examples] if steps else [examples]
        axes = tuple(
            x.axes[place] if place in stay and extent == x.shape[place] else ax.features(extent)
            for place, extent in enumerate(shape)
        )
        units = [x, *(each for each in states if not each.is_constant)]
        one_way = reverse is not None and steps and axes[time] and self._whole_axis(x, time) is not None
        span = replace(towards(bool(reverse)), here=tuple(range(1, len(units)))) if one_way else None
        return self._make(
            Kind.RECURRENT, units, tuple(shape), axes, name, module,
            weights=together(weights), across=across, span=span, work=Work(macs, macs, macs),
            masked=reverse is not None and bool(steps) and not one_way and ax.has_positions(x.axes[time]),
        )  # fmt: skip

    def steps(self, layer: Array, shape: Sequence[int], name: str, module: str) -> Array:
        """What a recurrent layer puts out at every step besides, along the first axis."""
        axes = (layer.axes[0], *(ax.features(extent) for extent in shape[1:]))
        return self._make(Kind.REDUCE, [layer], tuple(shape), axes, name, module)

    def state(self, layer: Array, time: int, shape: Sequence[int], examples: tuple[int, int] | None = None) -> Array:
        """The state that a recurrent layer is left in, as another result of it.

        Args:
            layer: what the layer made.
            time: its axis of steps.
            shape: that of the state.
            examples: the axis of its sequences, and where the state has that, where they have one.
        """
        if layer.id is None:
            return self.constant(shape, layer.weights)
        axes = tuple(ax.features(extent) for extent in shape)
        maker = self._operations[self._makers[layer.id]]
        if examples is not None and ax.has_positions(layer.axes[examples[0]]):
            x, across = self._mixed(layer, layer.axes[time])
            axes = with_axis(axes, examples[1], x.axes[examples[0]])
            return self._make(Kind.REDUCE, [x], tuple(shape), axes, f"{maker.name}.state", maker.module, across=across)
        made = Array(tuple(shape), axes, self._ids)
        self._ids += 1
        outputs = (*maker.outputs, self._tensor(made, None))
        self._operations[self._makers[layer.id]] = replace(maker, outputs=outputs)
        return made

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

"""Changes to a network: other windows and more layers, with every map behind them made anew.

An edited graph shares with the old one whatever an edit does not touch. Maps keep the number of their tensor, so that
what was known of an untouched one stays known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from thalweg.network.graph import MERGES, WINDOWED, Graph, Kind, Operation, Piece, Tensor, Weight, Window, Work

_POINTWISE = frozenset({Kind.ACTIVATION, Kind.DROPOUT, Kind.NORMALISATION, Kind.SPATIAL_NORMALISATION})


class DoesNotFitError(Exception):
    """The network cannot be made with this change."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The operation at a place becomes another with as many inputs."""

    place: int
    operation: Operation


@dataclass(frozen=True, slots=True)
class Added:
    """Behind a tensor come `number` more operations, and whatever used the tensor uses the last of them."""

    tensor: int
    made: Callable[[Tensor], Operation]
    number: int = 1


Edit = Changed | Added


@dataclass(frozen=True)
class Edited:
    """A changed graph.

    Args:
        graph: the graph.
        untouched: the tensors, by number, that depend on no change.
        replaced: what stands in the place of each tensor of the old graph.
    """

    graph: Graph
    untouched: Mapping[int, Tensor]
    replaced: Mapping[int, Tensor]

    def instead_of(self, tensor: Tensor) -> Tensor:
        """What stands in the place of a tensor of the old graph."""
        return self.replaced[tensor.id]


def edited(graph: Graph, edits: Sequence[Edit], extents: tuple[int, ...] | None = None) -> Edited:
    """The graph with changes, at the same input or at one with other extents.

    Raises:
        DoesNotFitError: branches no longer match, or a layer behind the change cannot take maps of another size.
        InputError: a window no longer fits.
    """
    changed = {edit.place: edit.operation for edit in edits if isinstance(edit, Changed)}
    added = {edit.tensor: edit for edit in edits if isinstance(edit, Added)}
    builder = _Builder(
        1 + max(tensor.id for each in (graph.inputs, *(o.outputs for o in graph.operations)) for tensor in each)
    )
    inputs = list(graph.inputs)
    if extents is not None:
        image = inputs[0]
        inputs[0] = image.with_extents(image.id, extents, image.channels)
    for old, new in zip(graph.inputs, inputs, strict=True):
        builder.put(old, new, touched=new is not old, added=added.get(old.id))
    for place, operation in enumerate(graph.operations):
        builder.run(operation, changed.get(place), added)
    return Edited(Graph(tuple(inputs), tuple(builder.operations)), builder.untouched, builder.replaced)


class _Builder:
    def __init__(self, fresh: int) -> None:
        self.operations: list[Operation] = []
        self.replaced: dict[int, Tensor] = {}
        self.untouched: dict[int, Tensor] = {}
        self._fresh = fresh

    def put(self, old: Tensor, new: Tensor, *, touched: bool, added: Added | None) -> None:
        """Note what stands for a tensor, after the layers that are added behind it."""
        if not touched:
            self.untouched[old.id] = old
        for _ in range(added.number if added else 0):
            assert added is not None
            layer = added.made(new)
            output = replace(layer.output, id=self._fresh)
            self._fresh += 1
            weights = tuple(replace(weight, identity=f"new {output.id} {weight.identity}") for weight in layer.weights)
            self.operations.append(replace(layer, outputs=(output,), weights=weights))
            new = output
        self.replaced[old.id] = new

    def run(self, operation: Operation, changed: Operation | None, added: Mapping[int, Added]) -> None:
        own = changed or operation
        inputs = tuple(_view_of(self.replaced[each.id], each) for each in operation.inputs)
        touched = changed is not None or any(
            each.id not in self.untouched or each.id in added for each in operation.inputs
        )
        if changed is not None or inputs != operation.inputs:
            same_size = all(
                new.extents == old.extents and new.flat == old.flat
                for new, old in zip(inputs, operation.inputs, strict=True)
            )
            if changed is None and same_size:
                own = replace(operation, inputs=inputs)
            else:
                own = _resized(own, operation.inputs, inputs)
        self.operations.append(own)
        for old, new in zip(operation.outputs, own.outputs, strict=True):
            self.put(old, new, touched=touched, added=added.get(old.id))


def _view_of(new: Tensor, old: Tensor) -> Tensor:
    """A tensor as an operation sees it that saw the old one: the same layout, the new extents and number."""
    if new.extents == old.extents and new.flat == old.flat:
        return replace(old, id=new.id)
    if old.positions is not None or (old.spatial and new.spatial != old.spatial):
        raise DoesNotFitError
    return new if not old.spatial else old.with_extents(new.id, new.extents, old.channels)


def _resized(operation: Operation, before: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> Operation:
    """An operation on maps of other extents."""
    kind, source, output = operation.kind, inputs[0], operation.output
    if operation.kept or (operation.span is not None and operation.span.chosen is not None):  # told by place
        raise DoesNotFitError
    if kind is Kind.FLATTEN:
        made = replace(output, shape=(source.size,), flat=source.as_flat)
        pieces = (Piece(source.size, 0),) if made.flat else ()
        return replace(operation, inputs=inputs, outputs=(made,), flat_pieces=pieces)
    if operation.flat_pieces:
        raise DoesNotFitError
    if kind in WINDOWED and operation.window is not None and output.positions is None:
        window = operation.window
        extents = window.output_extents(source.extents)
        return replace(operation, inputs=inputs, outputs=(output.with_extents(output.id, extents, output.channels),))
    if kind in _POINTWISE and output.extents == before[0].extents and output.positions is None:
        return replace(operation, inputs=inputs, outputs=(_like(output, source),))
    if kind in MERGES and output.positions is None:
        extents = _met(operation, before, inputs)
        return replace(operation, inputs=inputs, outputs=(output.with_extents(output.id, extents, output.channels),))
    everything = operation.across is None or len(operation.across) == len(source.extents)
    if kind is Kind.GLOBAL_POOL and everything:
        return replace(operation, inputs=inputs)
    if kind is Kind.LINEAR and everything and not any(output.extents):
        weights = tuple(_refilled(weight, before[0].size, source.size) for weight in operation.weights)
        macs = source.size * output.size
        work = operation.work and Work(macs, macs, macs)
        return replace(operation, inputs=inputs, weights=weights, work=work)
    raise DoesNotFitError


def _like(output: Tensor, source: Tensor) -> Tensor:
    if not output.spatial:
        return replace(output, shape=source.shape, flat=source.flat)
    return output.with_extents(output.id, source.extents, output.channels)


def _met(operation: Operation, before: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> tuple[int, ...]:
    """The extents where branches meet, which must agree where they agreed before."""
    met = []
    for axis, wanted in enumerate(operation.output.extents):
        extents = {
            new.extents[axis]
            for new, old in zip(inputs, before, strict=True)
            if old.extents and old.extents[axis] == wanted
        }
        if len(extents) != 1:
            raise DoesNotFitError
        met.append(extents.pop())
    return tuple(met)


def _refilled(weight: Weight, before: int, after: int) -> Weight:
    """The weights of a fully connected layer with another number of inputs."""
    if before not in weight.shape or len(weight.shape) < 2:
        return weight
    place = weight.shape.index(before) if weight.shape[-1] != before else len(weight.shape) - 1
    return replace(weight, shape=(*weight.shape[:place], after, *weight.shape[place + 1 :]))


# Windows.


def with_kernel(operation: Operation, more: int) -> Operation:
    """The layer with 2 `more` taps along every axis on which it has several, padded to make as many units."""
    window = _window(operation)
    grown = [taps + 2 * more if _slides(window, axis) else taps for axis, taps in enumerate(window.kernel)]
    added = [(new - old) // 2 * step for new, old, step in zip(grown, window.kernel, window.dilation, strict=True)]
    changed = replace(
        window,
        kernel=tuple(grown),
        low=tuple(pad + each for pad, each in zip(window.low, added, strict=True)),
        high=tuple(pad + each for pad, each in zip(window.high, added, strict=True)),
    )
    weights = tuple(_with_taps(weight, window.kernel, changed.kernel) for weight in operation.weights)
    return replace_window(operation, changed, weights)


def with_dilation(operation: Operation, more: int) -> Operation:
    """The layer with its taps `more` positions further apart, padded to make as many units."""
    window = _window(operation)
    dilation = tuple(
        step + more if taps > 1 else step for step, taps in zip(window.dilation, window.kernel, strict=True)
    )
    added = [(new - old) * (taps - 1) for new, old, taps in zip(dilation, window.dilation, window.kernel, strict=True)]
    changed = replace(
        window,
        dilation=dilation,
        low=tuple(pad + each // 2 for pad, each in zip(window.low, added, strict=True)),
        high=tuple(pad + each - each // 2 for pad, each in zip(window.high, added, strict=True)),
    )
    return replace_window(operation, changed, operation.weights)


def with_stride(operation: Operation, more: int) -> Operation:
    """The layer with a stride of (1 + `more`) times what it was."""
    window = _window(operation)
    stride = tuple(step * (1 + more) if _slides(window, axis) else step for axis, step in enumerate(window.stride))
    return replace_window(operation, replace(window, stride=stride), operation.weights)


def replace_window(operation: Operation, window: Window, weights: tuple[Weight, ...]) -> Operation:
    """The same operation with another window, and its output made anew."""
    output = operation.output
    extents = window.output_extents(operation.input.extents)
    made = output.with_extents(output.id, extents, output.channels)
    return replace(operation, window=window, outputs=(made,), weights=weights)


def convolution(source: Tensor) -> Operation:
    """A convolution of 3 taps along every axis, with as many channels as go in, and a bias, that keeps the size."""
    axes = len(source.extents)
    ones, threes = (1,) * axes, (3,) * axes
    channels = source.channels
    weights = (Weight("weight", (channels, channels, *threes)), Weight("bias", (channels,)))
    return Operation(
        Kind.CONVOLUTION, f"new conv3-{channels}", (source,), (source,), Window(threes, ones, ones, ones, ones),
        weights=weights,
    )  # fmt: skip


def max_pool(source: Tensor) -> Operation:
    """A pool over 2 positions along every axis, with stride 2."""
    axes = len(source.extents)
    window = Window((2,) * axes, (2,) * axes, (1,) * axes, (0,) * axes, (0,) * axes)
    output = source.with_extents(source.id, window.output_extents(source.extents), source.channels)
    return Operation(Kind.MAX_POOL, "new maxpool", (source,), (output,), window)


def _window(operation: Operation) -> Window:
    assert operation.window is not None
    return operation.window


def _slides(window: Window, axis: int) -> bool:
    """Whether a window covers several positions along an axis, or is one tap along all of them."""
    return window.kernel[axis] > 1 or max(window.kernel) == 1


def _with_taps(weight: Weight, before: tuple[int, ...], after: tuple[int, ...]) -> Weight:
    """The same weights with other kernel axes, wherever in the shape they stand."""
    axes = len(before)
    for place in reversed(range(len(weight.shape) - axes + 1)):
        if len(weight.shape) > axes and weight.shape[place : place + axes] == before:
            return replace(weight, shape=(*weight.shape[:place], *after, *weight.shape[place + axes :]))
    return weight

"""What goes into the network: the extents of its inputs, and which of their axes are positions.

A file leaves extents open by giving them names. The batch is read as 1; the others come from the shape that was asked
for. Which axis is the batch, which holds the channels and which are positions follows from the first operations that
an input meets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thalweg.errors import InputError
from thalweg.network.readers.onnx.file import checked, shortened
from thalweg.network.readers.onnx.node import operators

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, ValueInfoProto

_CHANNELS_FIRST = operators(
    "Conv ConvInteger QLinearConv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool "
    "BatchNormalization InstanceNormalization GroupNormalization LRN DepthToSpace SpaceToDepth FusedConv "
    "Resize Upsample"
)
_CHANNELS_LAST = operators(
    "MatMul MatMulInteger QLinearMatMul Gemm FusedMatMul FusedGemm MatMulNBits QGemm LayerNormalization "
    "RMSNormalization SimplifiedLayerNormalization SkipLayerNormalization Attention MultiHeadAttention "
    "GroupQueryAttention"
)
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_LOOKED_UP = frozenset({"Gather", "EmbedLayerNormalization"})
_MOVES = operators(
    "Cast Identity QuantizeLinear DequantizeLinear DynamicQuantizeLinear Add Sub Mul Div Relu Clip Pad Slice Concat "
    "Where Dropout PRelu LeakyRelu Sigmoid Tanh"
)
_MOST_STEPS = 100
_MOST_TOLD = 6
_INTEGERS = frozenset({5, 6, 7, 12, 13})  # TensorProto's types
_SUM = re.compile(r"[^\W\d]\w*(?: ?\+ ?[^\W\d]\w*)+")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the axes of an input are.

    Args:
        batch: the axis of examples; None where there is none.
        channel: that of the channels.
        positions: those of positions.
        sure: whether an operation says that the first of them is the batch.
    """

    batch: int | None
    channel: int | None
    positions: tuple[int, ...]
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """An input of the network.

    Args:
        name: as in the file.
        shape: its extents in the run.
        layout: what its axes are.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout


@dataclass(frozen=True, slots=True)
class Sources:
    """All inputs.

    Args:
        each: the inputs in order.
        names: what the open extents were taken to be.
        batch: for how many examples the file was written, where that is fixed and more than one; else 0.
        as_declared: whether the file's own shapes hold.
        others: the names of inputs that are no arrays.
        notes: what had to be decided, in sentences.
    """

    each: tuple[Source, ...]
    names: Mapping[str, int]
    batch: int
    as_declared: bool
    others: tuple[str, ...]
    notes: tuple[str, ...]


def sources(graph: GraphProto, given: Sequence[tuple[int, ...]]) -> Sources:
    """The inputs of a network, those that are weights left out.

    Args:
        graph: the network.
        given: the extents of the first inputs, with or without the batch.

    Raises:
        InputError: there is no input, its extents do not go with what is given, or they are open and not given.
    """
    weights = {tensor.name for tensor in graph.initializer}
    weights.update(tensor.values.name for tensor in graph.sparse_initializer)
    infos = [info for info in graph.input if info.name not in weights]
    others = tuple(info.name for info in infos if info.type.WhichOneof("value") not in ("tensor_type", None))
    infos = [info for info in infos if info.name not in others]
    if not infos:
        raise InputError("The network has no input that is an array, so there is nothing to measure.")
    if len(given) > len(infos):
        raise InputError(f"The network has {len(infos)} inputs; {len(given)} were given.")
    consumers, names, found = _consumers(graph), _Names(), []
    batch, as_declared = 0, True
    for number, info in enumerate(infos):
        declared, asked = _declared(info), given[number] if number < len(given) else None
        if declared is None:
            if asked is None:
                raise InputError(f"The file does not say the extents of the input {_called(info)}; give them.")
            declared = (None, *asked)
        layout = _layout(info, declared, consumers)
        if number == 0 or asked is not None:
            shape = _asked(info, declared, layout, asked, names)
            as_declared &= all(not isinstance(was, int) or was == now for was, now in zip(declared, shape, strict=True))
        else:
            shape = tuple(
                names.extent(extent, batch) if axis == 0 else names.extent(extent)
                for axis, extent in enumerate(declared)
            )
        if number == 0 and layout.batch is not None:
            fixed = declared[layout.batch]
            batch = fixed if isinstance(fixed, int) and fixed > 1 == shape[layout.batch] else 0
        found.append(Source(info.name, checked(shape, info.name), layout))
    notes = (f"The file was written for a batch of {batch} and is read with one example.",) if batch else ()
    return Sources(tuple(found), names.known, batch, as_declared, others, (*notes, *names.notes()))


class _Names:
    """What the named extents are."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self._assumed: list[str] = []

    def extent(self, extent: int | str | None, batch: int = 0) -> int:
        """An extent of an input that nobody gave: known by name, nothing of what is past, and else 1."""
        if isinstance(extent, int):
            return 1 if extent == batch > 1 else extent
        return 1 if extent is None else self._named(extent)

    def _named(self, name: str) -> int:
        if name not in self.known:
            if _SUM.fullmatch(name):
                return sum(self._named(part.strip()) for part in name.split("+"))
            self.known[name] = 0 if "past" in name.lower() else 1
            self._assumed.append(name)
        return self.known[name]

    def notes(self) -> tuple[str, ...]:
        """What was taken for extents that nobody gave."""
        if not self._assumed:
            return ()
        told = ", ".join(f"{shortened(name)} = {self.known[name]}" for name in self._assumed[:_MOST_TOLD])
        more = len(self._assumed) - _MOST_TOLD
        return (f"Extents that nobody gave are taken to be {told}{f' and {more} more' if more > 0 else ''}.",)


def _called(info: ValueInfoProto) -> str:
    return repr(shortened(info.name))


def _declared(info: ValueInfoProto) -> tuple[int | str | None, ...] | None:
    """The extents that the file gives: numbers, names, or None where it says nothing."""
    kind = info.type.tensor_type
    if not kind.HasField("shape"):
        return None
    extents: list[int | str | None] = []
    for extent in kind.shape.dim:
        which = extent.WhichOneof("value")
        if which == "dim_value":
            extents.append(extent.dim_value)
        else:
            extents.append(extent.dim_param or None if which == "dim_param" else None)
    fixed = [extent if isinstance(extent, int) else 1 for extent in extents]
    checked(tuple(1 if extent == -1 else extent for extent in fixed), info.name)
    return tuple(None if extent == -1 else extent for extent in extents)


def _asked(
    info: ValueInfoProto,
    declared: tuple[int | str | None, ...],
    layout: Layout,
    given: tuple[int, ...] | None,
    names: _Names,
) -> tuple[int, ...]:
    """The extents of an input whose open ones must be given."""
    rank, shape = len(declared), list(declared)
    if given is not None:
        if len(given) == rank:
            shape = list(given)
        elif layout.batch is not None and len(given) == rank - 1:
            shape = [*given[: layout.batch], 1, *given[layout.batch :]]
        else:
            raise InputError(
                f"The input {_called(info)} has the extents {_said(declared, None)}; give them without the batch, as "
                f"{_said(declared, layout.batch)}, not {_said(given, None)}."
            )
    elif layout.batch is not None:
        extent = shape[layout.batch]
        if not isinstance(extent, int) or layout.sure:
            shape[layout.batch] = 1
    for was, now in zip(declared, shape, strict=True):
        if isinstance(was, str) and isinstance(now, int):
            names.known.setdefault(was, now)
    filled = [names.known.get(extent) if isinstance(extent, str) else extent for extent in shape]
    if None in filled:
        raise InputError(
            f"The file leaves extents of the input {_called(info)} open: {_said(declared, None)}; give them without "
            f"the batch, as {_said(declared, layout.batch)}."
        )
    return tuple(extent for extent in filled if extent is not None)


def _said(extents: Sequence[int | str | None], without: int | None) -> str:
    """Extents as people write them, open ones by name."""
    said = ["?" if extent is None else shortened(str(extent)) for extent in extents]
    return "x".join(extent for axis, extent in enumerate(said[:16]) if axis != without) or "nothing"


# Which axis is what.


def _consumers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _layout(
    info: ValueInfoProto, declared: Sequence[int | str | None], consumers: Mapping[str, list[NodeProto]]
) -> Layout:
    rank = len(declared)
    for node, place, order in _met(info.name, tuple(range(rank)), consumers):
        if node.op_type in _CHANNELS_FIRST and rank > 2 and place == 0:
            return Layout(order[0], order[1], tuple(order[2:]), sure=True)
        if node.op_type in _CHANNELS_LAST and rank > 1:
            sure = node.op_type in ("Gemm", "FusedGemm", "QGemm", "Attention", "MultiHeadAttention")
            batch = order[0] if sure else _batch_of(declared, order[:-1])
            return Layout(batch, order[-1], tuple([axis for axis in order[:-1] if axis != batch]), sure)
        if node.op_type in _RECURRENT and rank == 3 and place == 0:
            batch_first = any(each.name == "layout" and each.i == 1 for each in node.attribute)
            batch, time = (order[0], order[1]) if batch_first else (order[1], order[0])
            return Layout(batch, order[2], (time,), sure=True)
        if node.op_type in _LOOKED_UP and rank > 1:
            batch = _batch_of(declared, order)
            return Layout(batch, None, tuple([axis for axis in order if axis != batch]))
        if node.op_type == "Flatten" and rank > 1:
            return Layout(0, *_by_extents(declared, batch=True), sure=True)
    if info.type.tensor_type.elem_type in _INTEGERS and rank == 2:
        return Layout(0, None, (1,))
    if rank < 2:
        return Layout(None, None, ())
    is_first = not isinstance(declared[0], int) or declared[0] == 1
    return Layout(0 if is_first else None, *_by_extents(declared, is_first))


def _batch_of(declared: Sequence[int | str | None], axes: Sequence[int]) -> int:
    """Which of some axes that an operation treats alike is the batch: one that is called so, one of 1, or the first."""
    named = [axis for axis in axes if isinstance(name := declared[axis], str) and "batch" in name.lower()]
    single = [axis for axis in axes if declared[axis] == 1]
    return next((found[0] for found in (named, single) if len(found) == 1), min(axes))


def _by_extents(declared: Sequence[int | str | None], batch: bool) -> tuple[int | None, tuple[int, ...]]:
    """Channel and positions where no operation tells: the channels come first, unless the last axis alone is short."""
    own = list(range(1 if batch else 0, len(declared)))
    if len(own) < 2:
        return (own[0] if own else None), ()
    last, first = declared[own[-1]], declared[own[0]]
    channels_last = isinstance(last, int) and last <= 4 and not (isinstance(first, int) and first <= 4)
    if len(own) == 2 or channels_last:
        return own[-1], tuple(own[:-1])
    return own[0], tuple(own[1:])


def _met(
    name: str, axes: tuple[int, ...], consumers: Mapping[str, list[NodeProto]]
) -> Iterator[tuple[NodeProto, int, list[int]]]:
    """The operations that an input meets before its axes are mixed, its place there, and where its axes are then."""
    waiting, steps = [(name, list(axes))], 0
    while waiting and steps < _MOST_STEPS:
        now, order = waiting.pop(0)
        for node in consumers.get(now, ()):
            steps += 1
            yield node, list(node.input).index(now), order
            if node.op_type == "Transpose":
                moved = next((list(each.ints) for each in node.attribute if each.name == "perm"), [])
                if sorted(moved) == list(range(len(order))) and node.output:
                    waiting.append((node.output[0], [order[axis] for axis in moved]))
            elif node.op_type in _MOVES and node.output:
                waiting.append((node.output[0], order))
            if steps >= _MOST_STEPS:
                return

"""What one unit of a network sees, along every spatial axis of the input."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.fields import FlatFields
from thalweg.network.graph import FlatMap, Graph, Operation, Tensor
from thalweg.network.intervals import Ends
from thalweg.network.receptive_field import ReceptiveFields
from thalweg.report import Cell, Result, Table, printable

if TYPE_CHECKING:
    import plotly.graph_objects as go

_AXIS_NAMES = {1: ("position",), 2: ("height", "width")}


@dataclass(frozen=True, repr=False)
class Unit(Result):
    """What one unit sees, along every spatial axis of the input.

    Args:
        layer: the layer that it belongs to; of several with one name, as `Size.unit` takes it, `name#2`.
        index: its position there.
        input_extents: the extents of the image.
        clipped: the first and last position that the unit really depends on; None where it sees nothing.
        unclipped: the same if image and maps had no borders; negative positions lie in the padding.
        masked: whether it sees through a mask that is not followed: the intervals are those without it.
    """

    layer: str
    index: tuple[int, ...]
    input_extents: tuple[int, ...]
    clipped: tuple[Ends, ...] | None
    unclipped: tuple[Ends, ...] | None
    masked: bool = False

    def table(self) -> Table:
        """One row for each axis."""
        rows: list[tuple[Cell, ...]] = []
        for axis, name in enumerate(axis_names(len(self.input_extents))):
            cells: list[Cell] = [name]
            for ends in (self.clipped, self.unclipped):
                lo, hi = ends[axis] if ends else (None, None)
                cells += [lo, hi, None if lo is None or hi is None else hi - lo + 1]
            rows.append(tuple(cells))
        notes = ["Inside the image it sees nothing."] if self.clipped is None else []
        if not self.input_extents:
            notes = ["The input of this network has no positions that a unit could see some of."]
        if self.masked:
            notes.append("It sees through a mask that is not followed: what this hides is not left out.")
        unit = ", ".join(map(str, self.index))
        columns = ("axis", "first", "last", "size", "first, no borders", "last, no borders", "size, no borders")
        return Table(f"Unit ({unit}) of {self.layer}", columns, rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """Keys: layer, index, clipped, unclipped, masked; intervals are [first, last] for every axis."""
        return {
            "layer": self.layer, "index": self.index, "clipped": self.clipped, "unclipped": self.unclipped,
            "masked": self.masked,
        }  # fmt: skip

    def figure(self) -> go.Figure:
        """The image and the interval along each axis."""
        import plotly.graph_objects as go

        figure = go.Figure()
        names = list(axis_names(len(self.input_extents)))
        whole = tuple((0, extent - 1) for extent in self.input_extents)
        for what, ends, colour, width in (
            ("image", whole, "#d9dee3", 0.8),
            ("seen if there were no borders", self.unclipped, "#f3d9a4", 0.5),
            ("seen", self.clipped, "#edae49", 0.3),
        ):
            if ends:
                lengths, starts = [hi - lo + 1 for lo, hi in ends], [lo for lo, _ in ends]
                bar = go.Bar(x=lengths, base=starts, y=names, orientation="h", name=what, width=width)
                figure.add_trace(bar.update(marker_color=colour))
        figure.update_layout(
            barmode="overlay", template="plotly_white", height=180 + 70 * len(names),
            title=plain(self.table().title), xaxis_title="input positions",
        )  # fmt: skip
        return figure


def unit_of(graph: Graph, fields: ReceptiveFields, place: int, index: Sequence[int]) -> Unit:
    """What one unit of an operation sees.

    Args:
        graph: the network.
        fields: its receptive fields.
        place: which operation.
        index: as for `thalweg.network.size.Size.unit`.

    Raises:
        InputError: the operation has no such unit, or what it sees cannot be followed.
    """
    where, tensor, seat = seat_of(graph, fields, place, index)
    unclipped, clipped = fields.of(tensor), fields.clipped(tensor)
    assert unclipped is not None, "a unit has a seat only where its field is known"
    if not graph.inputs[0].spatial:  # positions that the network makes itself are none of the input
        seat = seat[:1] if isinstance(unclipped, FlatFields) else ()
    inside = clipped.ends(seat) if clipped is not None else None
    masked = _is_masked(graph, tensor, fields.supposed)
    return Unit(graph.operations[place].name, where, graph.inputs[0].extents, inside, unclipped.ends(seat), masked)


def _is_masked(graph: Graph, tensor: Tensor, supposed: Set[int]) -> bool:
    """Whether a tensor depends on what a mask hides in part, or on a choice of what it leaves, which are not followed.

    Args:
        graph: the network.
        tensor: it.
        supposed: the numbers of tensors of such choices.
    """
    needed = {tensor.id}
    for operation in reversed(graph.operations):
        if any(output.id in needed for output in operation.outputs):
            if operation.masked or operation.output.id in supposed:
                return True
            needed.update(each.id for each in operation.inputs)
    return False


def seat_of(
    graph: Graph, fields: ReceptiveFields, place: int, index: Sequence[int]
) -> tuple[tuple[int, ...], Tensor, tuple[int, ...]]:
    """Where a unit sits: its index, the tensor that it belongs to, and its position by which that one's field is known.

    Args, raises: as for `unit_of`.
    """
    name, tensor = graph.operations[place].name, graph.operations[place].output
    try:
        where = tuple(operator.index(unit) for unit in index) or ((0,) if not tensor.extents else ())
    except TypeError:
        raise InputError(f"The position of a unit of {name!r} must be whole numbers.") from None
    extents = units_of(tensor)
    if len(where) != len(extents) or not all(0 <= unit < n for unit, n in zip(where, extents, strict=True)):
        ranges = ",".join(f"0..{extent - 1}" for extent in extents)
        raise InputError(
            f"Layer {name!r} has no unit {','.join(map(str, where))!r}; "
            f"its units are {ranges} (positions counted from 0, without the channel)."
        )
    field = fields.of(tensor)
    if field is None:
        raise InputError(f"What the units of {name!r} see cannot be followed; ask about another layer.")
    if isinstance(field, FlatFields):
        number, position = place_in(tensor.flat, where[0])
        return where, tensor, (number, *position)
    return where, tensor, where if tensor.extents else (0,) * len(graph.inputs[0].spatial)


def units_of(tensor: Tensor) -> tuple[int, ...]:
    """How many units there are to ask for, along every axis: positions, or the places of flat maps."""
    if tensor.flat:
        return (sum(each.size for each in tensor.flat),)
    return tensor.extents or (tensor.size,)


def place_in(flat: Sequence[FlatMap], place: int) -> tuple[int, tuple[int, ...]]:
    """In which of several flat maps a place lies, and the position in it."""
    number = 0
    while place >= flat[number].size:
        place -= flat[number].size
        number += 1
    return number, flat[number].position(place)


def numbered(operations: Sequence[Operation]) -> list[str]:
    """The names of operations, with a number where several have the same one, as `Size.unit` takes them."""
    many = Counter(each.name.lower() for each in operations)
    met = Counter[str]()
    answer = []
    for name in [each.name for each in operations]:
        met[name.lower()] += 1
        answer.append(f"{name}#{met[name.lower()]}" if many[name.lower()] > 1 else name)
    return answer


def axis_names(axes: int) -> tuple[str, ...]:
    """What the spatial axes of an input are called."""
    return _AXIS_NAMES.get(axes) or tuple(f"axis {number}" for number in range(1, axes + 1))


def plain(text: str) -> str:
    """A name in a picture, where Plotly would take tags for markup."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;")

"""What a network costs and what its units see: `size`.

>>> answer = size("input 112x112x3; conv3-64; maxpool; FC-10")
>>> answer.totals.parameters
2008842
>>> answer.layers[1].receptive_field, answer.layers[1].stride
((4, 4), (2, 2))
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError, unknown_name
from thalweg.network.counts import Counts, count
from thalweg.network.graph import Graph, Kind
from thalweg.network.readers.reading import read
from thalweg.network.readers.spec_grammar import parse_shape
from thalweg.network.receptive_field import Ends, Misalignment, ReceptiveFields
from thalweg.report import Cell, Result, Table, printable

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thalweg.network.reach import Reach

_AXIS_NAMES = {1: ("position",), 2: ("height", "width")}
_EVERYTHING = "all"
_MOST_NOTES = 6


@dataclass(frozen=True, slots=True)
class LayerSize:
    """One layer: what it makes, what it costs, what its units see.

    Receptive fields are unclipped: as if the image went on for ever, so that no unit stands at a border. A unit is a
    position with all its channels.

    Args:
        name: as in the spec, or its label there.
        kind: what it does.
        output: the extents of its output.
        neurons: its units; 0 for what is not a layer of neurons; None, as all counts, for an operation of unknown kind.
        parameters: its weights and biases, where they are used first.
        connections: input connections of its units, without biases.
        connections_inside: those that do not fall on zero padding.
        macs: multiply-accumulates for one example.
        receptive_field: for every spatial axis of the input how many positions a unit sees, from the first to the
            last, the most where that depends on the unit; None where it cannot be followed.
        stride: how far its units lie apart on the input; None on an axis where that varies, or all see the same.
        first: the lowest position that its first unit sees, negative in the padding.
        phases: where the receptive field depends on the unit: those of units 0, 1, 2, ..., repeating; else None.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    neurons: int | None
    parameters: int | None
    connections: int | None
    connections_inside: int | None
    macs: int | None
    receptive_field: tuple[int, ...] | None
    stride: tuple[int | None, ...] | None
    first: tuple[int | None, ...] | None
    phases: tuple[tuple[int, ...] | None, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """The layer under stable keys: its attributes, but for the phases."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "phases"}


@dataclass(frozen=True, repr=False)
class Size(Result):
    """What a network costs and sees.

    Args:
        input: the extents of its input.
        layers: one for each operation, in the order they run.
        totals: the sums over all layers whose kind is known, weights that are shared counted once.
        complete: whether every operation is known.
        unknown: the names of those that are not.
        misaligned: where branches meet that are centred on different places of the input.
    """

    input: tuple[int, ...]
    layers: tuple[LayerSize, ...]
    totals: Counts
    complete: bool
    unknown: tuple[str, ...]
    misaligned: tuple[Misalignment, ...]
    _graph: Graph = field(repr=False, compare=False)
    _fields: ReceptiveFields = field(repr=False, compare=False)

    def unit(self, layer: str | int, index: Sequence[int] = ()) -> Unit:
        """What one unit sees, with and without the borders of the image.

        Args:
            layer: its name, `name#2` for the second of that name, or its place in `layers`.
            index: its position along every spatial axis of the layer, counted from 0; for a vector the number of the
                unit, which may be left out.

        Raises:
            InputError: there is no such layer, several have that name, or it has no such unit.
        """
        place = self._place(layer)
        row, tensor = self.layers[place], self._graph.operations[place].output
        try:
            where = tuple(operator.index(unit) for unit in index) or ((0,) if not tensor.extents else ())
        except TypeError:
            raise InputError(f"The position of a unit of {row.name!r} must be whole numbers.") from None
        extents = tensor.extents or (tensor.size,)
        if len(where) != len(extents) or not all(0 <= unit < n for unit, n in zip(where, extents, strict=True)):
            ranges = ",".join(f"0..{extent - 1}" for extent in extents)
            raise InputError(
                f"Layer {row.name!r} has no unit {','.join(map(str, where))!r}; "
                f"its units are {ranges} (positions counted from 0, without the channel)."
            )
        unclipped = self._fields.of(tensor)
        if unclipped is None:
            raise InputError(f"What the units of {row.name!r} see cannot be followed; ask about another layer.")
        clipped = self._fields.clipped(tensor)
        seat = where
        if unclipped.layout is not None:
            seat = _position_in(unclipped.layout.shape, unclipped.layout.spatial, where[0])
        elif not tensor.extents:
            seat = (0,) * len(self._graph.inputs[0].spatial)
        inside = clipped.ends(seat) if clipped is not None else None
        return Unit(row.name, where, self._graph.inputs[0].extents, inside, unclipped.ends(seat))

    def changes(self, layer: str | int | None = None, progress: Callable[[float], None] | None = None) -> Reach:
        """What a larger kernel, dilation or stride, one more convolution or pool would do: see `thalweg.network.reach`.

        Args:
            layer: the layer that should see more, named as for `unit`; None for the last that does not see everything.
            progress: called with the share of the changes tried.

        Raises:
            InputError: there is no such layer, or it sees everything.
        """
        from thalweg.network.reach import changes

        return changes(self._graph, None if layer is None else self._place(layer), progress)

    def reach(
        self, positions: int, layer: str | int | None = None, progress: Callable[[float], None] | None = None
    ) -> Reach:
        """The cheapest changes with which a layer sees so many positions along every axis.

        Args:
            positions: how many it should see.
            layer: as for `changes`.
            progress: called with the share of the places tried.

        Raises:
            InputError: `positions` is not a whole number of at least 1; or as for `changes`.
        """
        from thalweg.network.reach import reach

        return reach(self._graph, positions, None if layer is None else self._place(layer), progress)

    def _place(self, layer: str | int) -> int:
        if isinstance(layer, int):
            if not -len(self.layers) <= layer < len(self.layers):
                raise InputError(f"There is no layer {layer}; the network has {len(self.layers)}, counted from 0.")
            return range(len(self.layers))[layer]
        name, sign, number = layer.strip().rpartition("#")
        if not (sign and number.isdecimal()):
            name, number = layer.strip(), ""
        places = [place for place, each in enumerate(self.layers) if each.name.lower() == name.lower()]
        if not places:
            raise unknown_name("layer", name, dict.fromkeys(each.name for each in self.layers))
        if not number and len(places) > 1:
            raise InputError(f"{len(places)} layers are named {name!r}; say which: {name}#1 to {name}#{len(places)}.")
        if number and not 1 <= int(number[:9]) <= len(places):
            raise InputError(f"There is no {name}#{number[:9]}; layers named {name!r}: {len(places)}.")
        return places[int(number or 1) - 1]

    def table(self) -> Table:
        """One row for each layer, in the columns of a textbook, and what its units see."""
        rows: list[tuple[Cell, ...]] = [
            (
                layer.name,
                _joined(layer.output),
                layer.neurons,
                layer.parameters,
                layer.connections,
                self._field_cell(layer),
            )
            for layer in self.layers
        ]
        totals = self.totals
        rows.append(("total", "", totals.neurons, totals.parameters, totals.connections, ""))
        columns = ("layer", "units", "neurons", "parameters", "connections", "sees")
        return Table(f"Network with input {_joined(self.input)}", columns, rows, self._notes())

    def tables(self) -> list[Table]:
        """The main table, and one of connections without padding, multiply-accumulates, strides and first positions."""
        rows: list[tuple[Cell, ...]] = [
            (
                layer.name,
                layer.kind,
                layer.connections_inside,
                layer.macs,
                _same(layer.stride),
                _same(layer.first),
            )
            for layer in self.layers
        ]
        rows.append(("total", "", self.totals.connections_inside, self.totals.macs, "", ""))
        columns = ("layer", "kind", "inside", "MACs", "stride", "first")
        notes = (
            "inside: connections that do not fall on zero padding.  MACs: multiply-accumulates.",
            "stride: input positions between neighbouring units.  first: the lowest one that the first unit sees.",
        )
        return [self.table(), Table("Work and borders", columns, rows, notes)]

    def _field_cell(self, layer: LayerSize) -> str:
        extents = self._graph.inputs[0].extents
        if layer.receptive_field is None or layer.stride is None or layer.phases is None or not extents:
            return ""
        if layer.receptive_field == extents and layer.first == (0,) * len(extents) and not any(layer.stride):
            return _EVERYTHING
        sizes = (
            f"{min(phases)}-{size}" if phases else f"{size}"
            for size, phases in zip(layer.receptive_field, layer.phases, strict=True)
        )
        return "x".join(sizes)

    def _notes(self) -> list[str]:
        notes = []
        if self.unknown:
            notes.append(f"Incomplete: not counted, because not known: {', '.join(self.unknown)}.")
        if self.totals.trainable != self.totals.parameters:
            frozen = self.totals.parameters - self.totals.trainable
            notes.append(f"{self.totals.trainable:,} parameters are trained, {frozen:,} are frozen.")
        turning = [layer.name for layer in self.layers if layer.neurons and layer.phases and any(layer.phases)]
        if turning:
            notes.append(f"What a unit sees depends on its position in {_listed(turning)}.")
        if self._fields.lost:
            notes.append(f"What units see cannot be followed behind {_listed(self._fields.lost)}.")
        crooked = [_misalignment_note(each, self._axis_name(each.axis)) for each in self.misaligned]
        notes += list(dict.fromkeys(crooked))[:_MOST_NOTES]
        gated = next(
            (op.name for op in self._graph.operations if (seen := self._fields.of(op.output)) and seen.gated), None
        )
        if gated is not None:
            notes.append(f"From {gated} on, a gate or a normalisation also depends on the whole image; it is left out.")
        return notes

    def _axis_name(self, axis: int) -> str:
        return _axis_names(len(self._graph.inputs[0].spatial))[axis]

    def to_dict(self) -> dict[str, Any]:
        """Keys: layers, totals, complete, unknown."""
        totals = self.totals
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "totals": {
                "neurons": totals.neurons,
                "parameters": totals.parameters,
                "connections": totals.connections,
                "connections_inside": totals.connections_inside,
                "macs": totals.macs,
            },
            "complete": self.complete,
            "unknown": self.unknown,
        }

    def figure(self) -> go.Figure:
        """Each layer's share of neurons, parameters and connections, beside what its middle unit sees."""
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots

        layers = [(place, each) for place, each in enumerate(self.layers) if each.neurons != 0]
        places = list(range(len(layers)))
        spatial = bool(self._graph.inputs[0].spatial)
        axis = f"input positions along the {self._axis_name(0)}" if spatial else ""
        titles = (
            ("Share of the whole, in per cent", "What the middle unit sees") if spatial else ("Share, in per cent",)
        )
        figure = make_subplots(1, len(titles), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.04)
        for what, total, colour in (
            ("neurons", self.totals.neurons, "#9aa5b1"),
            ("parameters", self.totals.parameters, "#d1495b"),
            ("connections", self.totals.connections, "#30638e"),
        ):
            values = [getattr(each, what) or 0 for _, each in layers]
            shares = [100 * value / total if total else 0.0 for value in values]
            figure.add_trace(
                go.Bar(
                    x=shares, y=places, orientation="h", name=what, marker_color=colour,
                    customdata=[f"{value:,}" for value in values], hovertemplate="%{customdata}",
                ),
                1, 1,
            )  # fmt: skip
        if spatial:
            self._draw_fields(figure, layers)
            figure.update_xaxes(title_text=axis, row=1, col=2)
        names = [_plain(each.name) for _, each in layers]
        figure.update_yaxes(tickvals=places, ticktext=names, autorange="reversed")
        figure.update_layout(
            barmode="group", template="plotly_white", height=160 + (46 if len(layers) < 25 else 24) * len(layers),
            legend={"orientation": "h", "y": -0.12},
        )  # fmt: skip
        return figure

    def _draw_fields(self, figure: go.Figure, layers: list[tuple[int, LayerSize]]) -> None:
        import plotly.graph_objects as go

        rows, starts, lengths, texts = [], [], [], []
        for row, (place, _) in enumerate(layers):
            tensor = self._graph.operations[place].output
            if self._fields.of(tensor) is None:
                continue
            try:
                ends = self.unit(place, tuple(extent // 2 for extent in tensor.extents)).clipped
            except InputError:  # too many positions to follow one by one: the other half of the picture stands
                break
            if ends is not None:
                lo, hi = ends[0]
                rows.append(row)
                starts.append(lo)
                lengths.append(hi - lo + 1)
                texts.append(f"{lo} to {hi}")
        figure.add_trace(
            go.Bar(
                x=lengths, base=starts, y=rows, orientation="h", name="seen by the middle unit", marker_color="#edae49",
                text=texts, textposition="auto", hovertemplate="%{text}",
            ),
            1, 2,
        )  # fmt: skip
        figure.update_xaxes(range=[0, self._graph.inputs[0].extents[0]], row=1, col=2)


@dataclass(frozen=True, repr=False)
class Unit(Result):
    """What one unit sees, along every spatial axis of the input.

    Args:
        layer: the layer that it belongs to.
        index: its position there.
        input_extents: the extents of the image.
        clipped: the first and last position that the unit really depends on; None where it sees nothing.
        unclipped: the same if image and maps had no borders; negative positions lie in the padding.
    """

    layer: str
    index: tuple[int, ...]
    input_extents: tuple[int, ...]
    clipped: tuple[Ends, ...] | None
    unclipped: tuple[Ends, ...] | None

    def table(self) -> Table:
        """One row for each axis."""
        rows: list[tuple[Cell, ...]] = []
        for axis, name in enumerate(_axis_names(len(self.input_extents))):
            cells: list[Cell] = [name]
            for ends in (self.clipped, self.unclipped):
                lo, hi = ends[axis] if ends else (None, None)
                cells += [lo, hi, None if lo is None or hi is None else hi - lo + 1]
            rows.append(tuple(cells))
        notes = () if self.clipped else ("Inside the image it sees nothing.",)
        unit = ", ".join(map(str, self.index))
        columns = ("axis", "first", "last", "size", "first, no borders", "last, no borders", "size, no borders")
        return Table(f"Unit ({unit}) of {self.layer}", columns, rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """Keys: layer, index, clipped, unclipped; intervals are [first, last] for every axis."""
        return {"layer": self.layer, "index": self.index, "clipped": self.clipped, "unclipped": self.unclipped}

    def figure(self) -> go.Figure:
        """The image and the interval along each axis."""
        import plotly.graph_objects as go

        figure = go.Figure()
        names = list(_axis_names(len(self.input_extents)))
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
            title=_plain(self.table().title), xaxis_title="input positions",
        )  # fmt: skip
        return figure


def size(model: Any, input: str | Sequence[int] | None = None) -> Size:  # noqa: A002
    """What a network costs and what its units see: neurons, parameters, connections, receptive fields.

    All counts are exact integers for one example; receptive fields are exact on any graph (see
    `thalweg.network.receptive_field`).

    Args:
        model: a spec such as `"input 112x112x3; conv3-64; maxpool; FC-10"` (the notation is described in
            `thalweg.network.readers.spec`), the path of a text file that holds one, or a `Graph`.
        input: the extents of the input, `"112x112x3"` or `(112, 112, 3)`, positions first and channels last; they
            take the place of those in the spec.

    Raises:
        InputError: the spec cannot be read (with line and column), its layers do not fit together, or the file or
            the type of `model` cannot be used.
    """
    return _size_of(read(model, _shape(input)))


def _size_of(graph: Graph) -> Size:
    seen = ReceptiveFields(graph)
    layers, totals = [], Counts()
    for operation, each in zip(graph.operations, count(graph), strict=True):
        views = seen.view(operation.output)
        totals = totals if each is None else totals + each
        layers.append(
            LayerSize(
                operation.name,
                operation.kind.value,
                operation.output.shape,
                None if each is None else each.neurons,
                None if each is None else each.parameters,
                None if each is None else each.connections,
                None if each is None else each.connections_inside,
                None if each is None else each.macs,
                None if views is None else tuple(view.size for view in views),
                None if views is None else tuple(view.stride for view in views),
                None if views is None else tuple(view.first for view in views),
                None if views is None else tuple(view.phases for view in views),
            )
        )
    unknown = tuple(dict.fromkeys(each.name for each in graph.operations if each.kind is Kind.UNKNOWN))
    return Size(graph.inputs[0].shape, tuple(layers), totals, not unknown, unknown, tuple(seen.misaligned), graph, seen)


def _shape(input: str | Sequence[int] | None) -> tuple[int, ...] | None:  # noqa: A002
    if input is None:
        return None
    if isinstance(input, str):
        try:
            return parse_shape(input)
        except InputError:
            raise InputError(f"{input[:60]!r} is not the extents of an input; write them as '112x112x3'.") from None
    try:
        return tuple(operator.index(extent) for extent in input)
    except TypeError:
        raise InputError("The extents of the input must be whole numbers, such as (112, 112, 3).") from None


def _position_in(shape: tuple[int, ...], spatial: tuple[int | None, ...], unit: int) -> tuple[int, ...]:
    """The spatial position of a unit of a flattened map."""
    index = []
    for extent in reversed(shape):
        unit, place = divmod(unit, extent)
        index.append(place)
    index.reverse()
    return tuple(0 if axis is None else index[axis] for axis in spatial)


def _axis_names(axes: int) -> tuple[str, ...]:
    return _AXIS_NAMES.get(axes) or tuple(f"axis {number}" for number in range(1, axes + 1))


def _joined(extents: tuple[int, ...]) -> str:
    """Extents in the notation of specs."""
    return "x".join(map(str, extents))


def _same(values: tuple[int | None, ...] | None) -> str:
    """One number where all axes agree, else one for each."""
    if not values or None in values:
        return ""
    return f"{values[0]}" if len(set(values)) == 1 else " x ".join(map(str, values))


def _listed(names: Sequence[str]) -> str:
    """Names with commas between them; of many the first."""
    each = list(dict.fromkeys(names))
    more = len(each) - _MOST_NOTES
    return ", ".join(each[:_MOST_NOTES]) + (f" and {more} more" if more > 0 else "")


def _misalignment_note(found: Misalignment, axis: str) -> str:
    where = f"{found.name}: its branches"
    if found.offset is None:
        return f"{where} move over the {axis} at different paces, so they do not meet on the same places."
    return f"{where} are centred {found.offset:g} positions apart along the {axis}."


def _plain(text: str) -> str:
    """A name in a picture, where Plotly would take tags for markup."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;")

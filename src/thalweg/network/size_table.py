"""The tables of `size`: what layers cost and see, one row for each or grouped by module, and what to know of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from thalweg.network.field_views import Misalignment
from thalweg.network.grouping import Row, is_shown
from thalweg.network.layer_size import LayerSize
from thalweg.report import Cell, Table, counted

if TYPE_CHECKING:
    from thalweg.network.size import Size

_EVERYTHING = "all"
_MOST_NOTES = 6


def listed(layers: Sequence[LayerSize]) -> list[Row]:
    """A row for every operation."""
    return [Row(layer.name, layer.name, 0, (place,), (place,), True) for place, layer in enumerate(layers)]


def main_table(size: Size, rows: Sequence[Row]) -> Table:
    """Units, neurons, parameters, connections and receptive fields."""
    cells: list[tuple[Cell, ...]] = [
        (
            "  " * row.depth + row.label,
            joined(size.layers[row.places[-1]].output),
            _sum(size, row, "neurons"),
            _sum(size, row, "parameters"),
            _sum(size, row, "connections"),
            _seen(size, row) if row.leaf else "",
        )
        for row in rows
    ]
    totals = size.totals
    cells.append(("total", "", totals.neurons, totals.parameters, totals.connections, ""))
    columns = ("layer", "units", "neurons", "parameters", "connections", "sees")
    inputs = f"input{'s' * (len(size.inputs) > 1)} {' and '.join(map(joined, size.inputs))}"
    return Table(f"Network with {inputs}", columns, cells, [*_left_out(size, rows), *_notes(size)])


def work_table(size: Size, rows: Sequence[Row]) -> Table:
    """Connections without padding, multiply-accumulates, strides and first positions."""
    cells: list[tuple[Cell, ...]] = [
        (
            "  " * row.depth + row.label,
            size.layers[row.places[0]].kind if row.leaf else "",
            _sum(size, row, "connections_inside"),
            _sum(size, row, "macs"),
            _same(size.layers[row.places[0]].stride) if row.leaf else "",
            _same(size.layers[row.places[0]].first) if row.leaf else "",
        )
        for row in rows
    ]
    cells.append(("total", "", size.totals.connections_inside, size.totals.macs, "", ""))
    columns = ("layer", "kind", "inside", "MACs", "stride", "first")
    notes = (
        "inside: connections that do not fall on zero padding.  MACs: multiply-accumulates.",
        "stride: input positions between neighbouring units.  first: the lowest one that the first unit sees.",
    )
    return Table("Work and borders", columns, cells, notes)


def joined(extents: tuple[int, ...]) -> str:
    """Extents in the notation of specs."""
    return "x".join(map(str, extents))


def _sum(size: Size, row: Row, what: str) -> int | None:
    """Over the operations of a row that are known; None where it is one that is not."""
    values: list[int | None] = [getattr(size.layers[place], what) for place in row.places]
    if row.leaf and None in values:
        return None
    return sum(value for value in values if value is not None)


def _seen(size: Size, row: Row) -> str:
    """What the units of a layer see; of a repeated one from the first to the last."""
    layers = [size.layers[row.everywhere[0]], size.layers[row.everywhere[-1]]]
    first, last = (field_cell(size, layer) for layer in layers)
    if first == last:
        return first
    extents = [set(layer.receptive_field or ()) for layer in layers]
    if all(len(each) == 1 for each in extents) and not any(any(layer.phases or ()) for layer in layers):
        first, last = f"{extents[0].pop()}", last if last == _EVERYTHING else f"{extents[1].pop()} each"
    return f"{first or '?'}..{last or '?'}"


def field_cell(size: Size, layer: LayerSize) -> str:
    """How many positions along every axis the units of a layer see."""
    extents = size.extents
    if layer.receptive_field is None or layer.stride is None or layer.phases is None or not extents:
        return ""
    if layer.receptive_field == extents and layer.first == (0,) * len(extents) and not any(layer.stride):
        return _EVERYTHING
    sizes = (
        f"{min(phases)}-{size}" if phases else f"{size}"
        for size, phases in zip(layer.receptive_field, layer.phases, strict=True)
    )
    return "x".join(sizes)


def _left_out(size: Size, rows: Sequence[Row]) -> list[str]:
    """What a grouped table does not show."""
    if all(row.leaf and row.depth == 0 and len(row.places) == 1 for row in rows) and len(rows) == len(size.layers):
        return []
    hidden = [layer for layer in size.layers if not is_shown(layer)]
    notes = ["A row of a module is the sum over all that it holds. Of (2 x) the rows below are those of the first."]
    if hidden:
        parameters = sum(layer.parameters or 0 for layer in hidden)
        notes.append(
            f"Not shown: {counted(len(hidden), 'operation')} without neurons, such as activations and normalisation, "
            f"with {counted(parameters, 'parameter')}; --all (in_full()) shows every one."
        )
    return notes


def _notes(size: Size) -> Iterable[str]:
    yield from size.notes
    if size.unknown:
        yield f"Incomplete: not known, so that only parameters are counted of {listed_names(size.unknown)}."
    if size.totals.trainable != size.totals.parameters:
        frozen = size.totals.parameters - size.totals.trainable
        yield f"{size.totals.trainable:,} parameters are trained, {frozen:,} are frozen."
    turning = [layer.name for layer in size.layers if layer.neurons and layer.phases and any(layer.phases)]
    if turning:
        yield f"What a unit sees depends on its position in {listed_names(turning)}."
    if size.lost:
        yield f"What units see cannot be followed behind {listed_names(size.lost)}."
    if len(size.inputs) > 1 and any(layer.receptive_field and not any(layer.receptive_field) for layer in size.layers):
        yield "sees: positions of the first input; what depends on the others alone sees none of them."
    crooked = [_misalignment_note(each, size.axis_name(each.axis)) for each in size.misaligned]
    yield from list(dict.fromkeys(crooked))[:_MOST_NOTES]
    if size.gated is not None:
        yield f"From {size.gated} on, a gate or a normalisation also depends on the whole image; it is left out."


def _same(values: tuple[int | None, ...] | None) -> str:
    """One number where all axes agree, else one for each."""
    if not values or None in values:
        return ""
    return f"{values[0]}" if len(set(values)) == 1 else " x ".join(map(str, values))


def listed_names(names: Sequence[str]) -> str:
    """Names with commas between them; of many the first."""
    each = list(dict.fromkeys(names))
    more = len(each) - _MOST_NOTES
    return ", ".join(each[:_MOST_NOTES]) + (f" and {more} more" if more > 0 else "")


def _misalignment_note(found: Misalignment, axis: str) -> str:
    where = f"{found.name}: its branches"
    if found.offset is None:
        return f"{where} move over the {axis} at different paces, so they do not meet on the same places."
    return f"{where} are centred {found.offset:g} positions apart along the {axis}."

"""Two networks side by side: what they cost and see, and where their layers differ.

>>> import thalweg as tw
>>> small, large = (tw.size(f"input 32x32x3; conv3-{n}; maxpool; FC-10") for n in (16, 32))
>>> answer = small.compare(large)
>>> answer.difference["parameters"], answer.ratio["parameters"]
(41408, 1.9997...)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.byte_sizes import written_bytes
from thalweg.network.grouping import grouped, is_shown
from thalweg.network.layer_size import LayerSize
from thalweg.network.memory import Memory
from thalweg.network.size_table import joined
from thalweg.network.units import plain
from thalweg.report import Cell, Result, Table, counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thalweg.network.size import Size

QUANTITIES = {
    "neurons": "neurons",
    "parameters": "parameters",
    "connections": "connections",
    "connections_inside": "connections inside",
    "macs": "MACs",
    "training_bytes": "bytes to train",
    "inference_bytes": "bytes to use",
}
"""What is compared, by its key, and what people call it."""

_LONGEST_NAME = 28
_MOST_ALIGNED = 3000
Pair = tuple[LayerSize | None, LayerSize | None]


@dataclass(frozen=True, slots=True)
class Side:
    """One of two networks.

    Args:
        name: what it is called.
        totals: the numbers in `QUANTITIES`, by their keys.
        complete: whether every operation is known.
        memory: what it needs to be trained and used.
        last: the last layer whose units do not see everything, the last local one; None where there is none.
        seen: what the unit in its middle sees, along every axis.
    """

    name: str
    totals: dict[str, int]
    complete: bool
    memory: Memory
    last: LayerSize | None
    seen: tuple[tuple[int, int], ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Keys: totals, complete, last_layer, receptive_field, stride, seen_by_middle."""
        return {
            "totals": self.totals,
            "complete": self.complete,
            "last_layer": None if self.last is None else self.last.name,
            "receptive_field": None if self.last is None else self.last.receptive_field,
            "stride": None if self.last is None else self.last.stride,
            "seen_by_middle": self.seen,
        }


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Two networks side by side.

    Args:
        first: one of them.
        second: the other.
        layers: their layers in pairs, None where one has no counterpart.
    """

    first: Side
    second: Side
    layers: tuple[Pair, ...]

    @property
    def difference(self) -> dict[str, int]:
        """The second less the first, for each of `QUANTITIES`."""
        return {key: self.second.totals[key] - self.first.totals[key] for key in QUANTITIES}

    @property
    def ratio(self) -> dict[str, float | None]:
        """The second over the first; None where the first is 0."""
        return {
            key: self.second.totals[key] / self.first.totals[key] if self.first.totals[key] else None
            for key in QUANTITIES
        }

    def table(self) -> Table:
        """What both cost and see, the differences and the ratios."""
        rows: list[tuple[Cell, ...]] = []
        for key, words in QUANTITIES.items():
            one, other = self.first.totals[key], self.second.totals[key]
            ratio = self.ratio[key]
            rows.append((words, f"{one:,}", f"{other:,}", f"{other - one:+,}", "" if ratio is None else f"{ratio:.4g}"))
        for words, cells in (
            ("last local layer", [side.last.name if side.last else "" for side in self._sides()]),
            ("it sees", [_times(side.last.receptive_field) if side.last else "" for side in self._sides()]),
            ("its stride", [_times(side.last.stride) if side.last else "" for side in self._sides()]),
            ("its middle unit sees", [_intervals(side.seen) for side in self._sides()]),
        ):
            rows.append((words, *cells, "", ""))
        columns = ("", *self._names(), "difference", "ratio")
        return Table("Two networks side by side", columns, rows, self._notes())

    def tables(self) -> list[Table]:
        """That, the layers that differ, one line for each network, and those that only one has."""
        found = [self.table()]
        pairs = [(one, other) for one, other in self.layers if one is not None and other is not None]
        differing = [(one, other) for one, other in pairs if _costs(one) != _costs(other)]
        moved = [(one, other) for one, other in pairs if _costs(one) == _costs(other) and _sees(one) != _sees(other)]
        same = len(pairs) - len(differing) - len(moved)
        first, second = self._names()
        rows: list[tuple[Cell, ...]] = []
        for one, other in differing[:_MOST_PAIRS]:
            rows.append((one.name, first, *_cells(one)))
            rows.append(("" if one.name == other.name else other.name, second, *_cells(other)))
        notes = [f"{counted(same, 'layer')} {'is' if same == 1 else 'are'} the same in both."]
        if moved:
            (one, other), words = moved[-1], counted(len(moved), "layer")
            notes.append(f"{words} as costly in both, seeing more or less: the last {_sees(one)} and {_sees(other)}.")
        if len(differing) > _MOST_PAIRS:
            notes.append(f"{len(differing) - _MOST_PAIRS:,} more differ; JSON has them all.")
        found.append(Table("Layers that differ", ("layer", "in", *_COLUMNS), rows, notes))
        for side, name in enumerate((first, second)):
            alone = [each for pair in self.layers if pair[1 - side] is None and (each := pair[side]) is not None]
            if alone:
                found.append(_only(alone, name))
        return found

    def _sides(self) -> tuple[Side, Side]:
        return self.first, self.second

    def _names(self) -> tuple[str, str]:
        fits = all(len(side.name) <= _LONGEST_NAME for side in self._sides())
        return (self.first.name, self.second.name) if fits and self.first.name != self.second.name else ("1", "2")

    def _notes(self) -> list[str]:
        notes = []
        if self._names() == ("1", "2"):
            notes += [f"{number}: {side.name}" for number, side in enumerate(self._sides(), start=1)]
        notes.append(f"Bytes for {self.first.memory.setting()}.")
        estimated = [number for number, side in enumerate(self._sides(), start=1) if not side.memory.exact]
        if estimated:
            notes.append(f"The bytes of {' and '.join(map(str, estimated))} are estimates by rule.")
        for number, side in enumerate(self._sides(), start=1):
            if not side.complete:
                notes.append(f"Incomplete: of the operations of {number} that are not known only parameters count.")
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Keys: first, second, difference, ratio, layers (pairs of layers as `size` has them, null for none)."""
        return {
            "first": self.first.to_dict(),
            "second": self.second.to_dict(),
            "difference": self.difference,
            "ratio": self.ratio,
            "layers": [[None if each is None else each.to_dict() for each in pair] for pair in self.layers],
        }

    def figure(self) -> go.Figure:
        """Each quantity of both, in per cent of the larger one."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for side, name, colour in zip(self._sides(), self._names(), ("#30638e", "#edae49"), strict=True):
            larger = [max(self.first.totals[key], self.second.totals[key]) or 1 for key in QUANTITIES]
            texts = [
                written_bytes(side.totals[key]) if key.endswith("bytes") else f"{side.totals[key]:,}"
                for key in QUANTITIES
            ]
            figure.add_trace(
                go.Bar(
                    x=[100 * side.totals[key] / most for key, most in zip(QUANTITIES, larger, strict=True)],
                    y=list(QUANTITIES.values()), orientation="h", name=plain(name), marker_color=colour, text=texts,
                    textposition="auto", hovertemplate="%{text}",
                )
            )  # fmt: skip
        return figure.update_layout(
            barmode="group", template="plotly_white", height=480, title="Two networks side by side",
            xaxis_title="per cent of the larger", yaxis={"autorange": "reversed"},
            legend={"orientation": "h", "y": -0.2},
        )  # fmt: skip


_COLUMNS = ("units", "parameters", "MACs", "sees")
_MOST_PAIRS = 40


def _only(layers: Sequence[LayerSize], name: str) -> Table:
    """The layers that one network has and the other has not, by module and repeated ones once."""
    rows: list[tuple[Cell, ...]] = []
    for row in grouped(layers):
        members = [layers[place] for place in row.places]
        parameters, macs = (sum(getattr(each, what) or 0 for each in members) for what in ("parameters", "macs"))
        first, last = (_sees(layers[place]) for place in (row.everywhere[0], row.everywhere[-1]))
        seen = "" if not row.leaf else first if first == last else f"{first}..{last}"
        rows.append(("  " * row.depth + row.label, joined(members[-1].output), parameters, macs, seen))
    return Table(f"Only in {name}", ("layer", *_COLUMNS), rows)


def compare(first: Size, second: Size, names: Sequence[str] = ("1", "2")) -> Comparison:
    """Two measured networks side by side.

    Args:
        first: one of them; the memory of both is for its setup.
        second: the other.
        names: what to call them.

    Raises:
        InputError: there are not two names.
    """
    if len(names) != 2:
        raise InputError(f"Two networks need two names, not {len(names)}.")
    sides = [
        _side(size, name, size.trained_with(first.setup).asked_memory())
        for size, name in zip((first, second), names, strict=True)
    ]
    shown = [[layer for layer in size.layers if is_shown(layer)] for size in (first, second)]
    return Comparison(sides[0], sides[1], tuple(_aligned(*shown)))


def _side(size: Size, name: str, memory: Memory) -> Side:
    totals = size.totals
    numbers = (
        totals.neurons,
        totals.parameters,
        totals.connections,
        totals.connections_inside,
        totals.macs,
        memory.training_bytes,
        memory.inference_bytes,
    )
    extents = size.extents
    places = [
        place
        for place, layer in enumerate(size.layers)
        if is_shown(layer) and layer.receptive_field and layer.stride and any(layer.stride) and extents
    ]
    last = places[-1] if places else None
    seen = None
    if last is not None:
        try:
            seen = size.middle_unit(last).clipped
        except InputError:  # too many positions to follow one by one
            seen = None
    layer = None if last is None else size.layers[last]
    return Side(name, dict(zip(QUANTITIES, numbers, strict=True)), size.complete, memory, layer, seen)


def _aligned(first: Sequence[LayerSize], second: Sequence[LayerSize]) -> Iterator[Pair]:
    """Layers in pairs: of the same name and kind where that is possible, between those of the same kind."""
    if len(first) + len(second) > _MOST_ALIGNED:
        names = {layer.name: layer for layer in second}
        left = [layer for layer in second if layer.name not in {each.name for each in first}]
        yield from ((layer, names.get(layer.name)) for layer in first)
        yield from ((None, layer) for layer in left)
        return
    for mine, theirs in _matched(first, second, lambda layer: (layer.name, layer.kind)):
        if len(mine) == len(theirs) == 1:
            yield mine[0], theirs[0]
            continue
        for one, other in _matched(mine, theirs, lambda layer: layer.kind):
            if len(one) == len(other) == 1:
                yield one[0], other[0]
            else:
                yield from ((layer, None) for layer in one)
                yield from ((None, layer) for layer in other)


def _matched(first: Any, second: Any, key: Any) -> Iterator[tuple[Any, Any]]:
    """Runs of both: one layer each where the keys agree, whatever stands between elsewhere."""
    matcher = SequenceMatcher(None, [key(each) for each in first], [key(each) for each in second], autojunk=False)
    for what, start, stop, other_start, other_stop in matcher.get_opcodes():
        if what == "equal":
            for one, other in zip(first[start:stop], second[other_start:other_stop], strict=True):
                yield [one], [other]
        else:
            yield first[start:stop], second[other_start:other_stop]


def _costs(layer: LayerSize) -> tuple[Any, ...]:
    return (layer.kind, layer.output, layer.parameters, layer.connections, layer.macs)


def _sees(layer: LayerSize) -> str:
    return "all" if layer.stride and not any(layer.stride) else _times(layer.receptive_field)


def _cells(layer: LayerSize) -> tuple[Cell, ...]:
    return (joined(layer.output), layer.parameters, layer.macs, _sees(layer))


def _times(values: Sequence[int | None] | None) -> str:
    """Numbers per axis in the notation of specs."""
    return "" if not values or None in values else "x".join(map(str, values))


def _intervals(ends: tuple[tuple[int, int], ...] | None) -> str:
    return "" if ends is None else ", ".join(f"{lo} to {hi}" for lo, hi in ends)

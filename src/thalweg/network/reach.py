"""What would make the units of a network see more, and what it would cost (fact F3.3).

A receptive field grows with the kernel and the dilation of the layers below it, with their number, and with the stride
of earlier layers. `changes` tries each of these everywhere in a network: a larger kernel, a larger dilation, a larger
stride, one more convolution, one more pool; and says for each what the chosen layer then sees and what becomes of
parameters, connections and multiply-accumulates. `reach` looks for the least of each kind that sees enough, the
cheapest first. Nothing is estimated: every change is made to the graph, and the graph is measured again.

Kernels and dilations are padded so that no map changes its size. Strides and pools make the maps behind them smaller,
so that there is less to do; fully connected layers behind them are smaller too, or the network takes larger images with
the same ones, which is said.

    >>> from thalweg.network.readers.spec import read_spec
    >>> found = changes(read_spec("input 16x16x3; conv3-8; maxpool; conv3-8; FC-10"))
    >>> found.layer, found.receptive_field
    ('conv3-8#2', (8, 8))
    >>> for change in found.changes[:2]:
    ...     print(change.what, change.receptive_field, change.macs)
    conv3-8#1 with kernel 5 instead of 3 (10, 10) 98304
    conv3-8#1 with dilation 2 instead of 1 (10, 10) 0
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.counts import Counts, count
from thalweg.network.edits import (
    Added,
    Changed,
    DoesNotFitError,
    Edit,
    Edited,
    convolution,
    edited,
    max_pool,
    with_dilation,
    with_kernel,
    with_stride,
)
from thalweg.network.field_views import AxisView
from thalweg.network.graph import Graph, Kind, Operation, Tensor, Window
from thalweg.network.receptive_field import ReceptiveFields
from thalweg.network.units import numbered
from thalweg.report import Cell, Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_CHANGEABLE = (Kind.CONVOLUTION, Kind.MAX_POOL, Kind.AVERAGE_POOL)
_SHOWN = 60
_MOST_MORE = 1 << 16  # the largest kernel, dilation or number of layers that is tried
_MOST_HALVINGS = 30


@dataclass(frozen=True, slots=True)
class Change:
    """One change to a network and what it does.

    Args:
        what: the change, in words.
        kind: `kernel`, `dilation`, `stride`, `convolution` or `pool`.
        receptive_field: what a unit of the layer then sees along every axis, the most where it depends on the unit.
        stride: how far its units then lie apart; None on an axis where that varies or all see the same.
        parameters: how many more there are, at the same input; negative for fewer.
        connections: how many more.
        macs: how many more multiply-accumulates.
        positions: how many positions the layer then has along every axis.
        accepts: where maps become smaller, the extents of the input with which those before fully connected layers, or
            at the end, are as they were; None where nothing becomes smaller or no such input was found.
    """

    what: str
    kind: str
    receptive_field: tuple[int, ...]
    stride: tuple[int | None, ...]
    parameters: int
    connections: int
    macs: int
    positions: tuple[int, ...]
    accepts: tuple[int, ...] | None

    @property
    def keeps_size(self) -> bool:
        """Whether every map keeps its size."""
        return self.accepts is None and self.kind not in ("stride", "pool")

    def sees(self, positions: int) -> bool:
        """Whether a unit sees at least so many positions along every axis."""
        return min(self.receptive_field) >= positions


@dataclass(frozen=True, repr=False)
class Reach(Result):
    """What changes to a network do to what one of its layers sees.

    Args:
        layer: the layer; of several with one name, as `Size.unit` takes it, `name#2`.
        receptive_field: what its units see now, along every axis.
        now: what the network costs now.
        wanted: how many positions it should see along every axis; None where every change is shown.
        changes: the changes; where something is wanted those that are enough, the cheapest first.
        refused: how many changes were tried that do not fit the network.
        extents: of the input.
    """

    layer: str
    receptive_field: tuple[int, ...]
    now: Counts
    wanted: int | None
    changes: tuple[Change, ...]
    refused: int
    extents: tuple[int, ...]

    @property
    def cheapest(self) -> Change | None:
        """The change with the fewest multiply-accumulates and then parameters; None where there is none."""
        return min(self.changes, key=_cost, default=None)

    @property
    def cheapest_of_same_size(self) -> Change | None:
        """The same among the changes that keep the size of every map."""
        return min((change for change in self.changes if change.keeps_size), key=_cost, default=None)

    def table(self) -> Table:
        """One row for each change."""
        rows: list[tuple[Cell, ...]] = [
            (
                change.what,
                _joined(change.receptive_field),
                change.parameters,
                change.connections,
                change.macs,
                _joined(change.positions),
            )
            for change in self.changes[:_SHOWN]
        ]
        columns = ("change", "sees", "parameters", "connections", "MACs", "positions")
        return Table(self._title(), columns, rows, self._notes())

    def _title(self) -> str:
        sees = f"{self.layer} sees {_joined(self.receptive_field)}"
        if self.wanted is None:
            return f"{sees}; what each change would do"
        return f"{sees}; what would make it see {self.wanted}"

    def _notes(self) -> list[str]:
        notes = []
        if self.wanted is not None and min(self.receptive_field) >= self.wanted:
            return [f"It sees {self.wanted} positions already; nothing needs to change."]
        if not self.changes:
            return ["No change of one kind in one place does that."]
        notes.append("parameters, connections, MACs: how many more than now, at the same input.")
        if self.wanted is not None and self.wanted > max(self.extents):
            positions = "x".join(str(extent) for extent in self.extents)
            notes.append(f"The input has {positions} positions; a unit that sees more sees its borders.")
        if self.wanted is not None:
            best, same = self.cheapest, self.cheapest_of_same_size
            if best is not None:
                notes.append(f"Cheapest: {best.what}.")
            if same is not None and same is not best:
                notes.append(f"Cheapest that keeps the size of every map: {same.what}.")
        larger = next((change for change in self.changes if change.accepts), None)
        if larger is not None and larger.accepts is not None:
            notes.append(
                f"With {larger.what} the layers behind it stay as they are, for inputs of {_joined(larger.accepts)}."
            )
        if len(self.changes) > _SHOWN:
            notes.append(f"{len(self.changes) - _SHOWN:,} more changes are in the JSON.")
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Keys: layer, receptive_field, wanted, changes (each with the attributes of `Change`), cheapest, refused."""
        best = self.cheapest
        return {
            "layer": self.layer,
            "receptive_field": self.receptive_field,
            "wanted": self.wanted,
            "changes": self.changes,
            "cheapest": None if best is None else best.what,
            "refused": self.refused,
        }

    def figure(self) -> go.Figure:
        """Every change as a point: what it costs, and what the layer then sees."""
        import html

        import plotly.graph_objects as go

        figure = go.Figure()
        for kind in dict.fromkeys(change.kind for change in self.changes):
            those = [change for change in self.changes if change.kind == kind]
            figure.add_scatter(
                x=[change.macs for change in those],
                y=[min(change.receptive_field) for change in those],
                text=[html.escape(change.what) for change in those],
                mode="markers",
                name=kind,
                hovertemplate="%{text}<br>sees %{y}<br>%{x:,} more MACs<extra></extra>",
            )
        figure.add_hline(
            y=self.wanted or min(self.receptive_field),
            line_dash="dash",
            annotation_text="wanted" if self.wanted else "now",
        )
        figure.update_layout(
            title=html.escape(self._title()),
            template="plotly_white",
            xaxis={"title": "more multiply-accumulates"},
            yaxis={"title": "positions seen"},
        )
        return figure


def changes(graph: Graph, layer: int | None = None, progress: Callable[[float], None] | None = None) -> Reach:
    """What the smallest change of each kind does at each place.

    Args:
        graph: the network.
        layer: the place of the layer that should see more; None for the last one that does not see everything.
        progress: called with the share of the changes tried.

    Raises:
        InputError: no layer of the network sees a part of the input, or this one does not.
    """
    trial = _Trial(graph, layer)
    places = list(trial.places())
    found = []
    for number, (_, steps) in enumerate(places, start=1):
        change = trial.of(steps(1))
        if change is not None:
            found.append(change)
        if progress is not None:
            progress(number / len(places))
    return trial.answer(None, found)


def reach(
    graph: Graph, positions: int, layer: int | None = None, progress: Callable[[float], None] | None = None
) -> Reach:
    """The least change of each kind at each place with which a layer sees enough, the cheapest first.

    Args:
        graph: the network.
        positions: how many positions it should see along every axis.
        layer: the place of the layer; None for the last one that does not see everything.
        progress: called with the share of the places tried.

    Raises:
        InputError: `positions` is not a whole number of at least 1; or as for `changes`.
    """
    try:
        positions = operator.index(positions)
    except TypeError:
        raise InputError(f"The positions to see must be a whole number, but got {positions!r}.") from None
    if positions < 1:
        raise InputError(f"The positions to see must be at least 1, but got {positions}.")
    trial = _Trial(graph, layer)
    if min(trial.seen) >= positions:
        return trial.answer(positions, [])
    places = list(trial.places())
    found = []
    for number, (kind, steps) in enumerate(places, start=1):
        change = _least(trial, kind, steps, positions)
        if change is not None:
            found.append(change)
        if progress is not None:
            progress(number / len(places))
    return trial.answer(positions, sorted(found, key=_cost))


Steps = Callable[[int], tuple[str, str, Sequence[Edit]]]
"""From how much more (1 for the smallest step) to a kind, words and edits."""


def _least(trial: _Trial, kind: str, steps: Steps, positions: int) -> Change | None:
    """The smallest change of one kind at one place that is enough.

    What is seen grows by the same with every step but those of strides and pools, so that the first step tells where
    to look; from there it is doubled until it is enough, and then halved.
    """
    most = _MOST_HALVINGS if kind in ("stride", "pool") else _MOST_MORE
    first = trial.seen_with(steps(1))
    if first is None or first <= min(trial.seen):
        return None
    low, high = 0, 1
    if first < positions and kind not in ("stride", "pool"):
        high = min(most, -(-(positions - min(trial.seen)) // (first - min(trial.seen))))
    while high <= most:
        seen = trial.seen_with(steps(high))
        if seen is None or seen >= positions:
            break
        low, high = high, 2 * high
    middle = high - 1  # the guess expects the step before to be too little
    while high - low > 1:
        seen = trial.seen_with(steps(middle))
        low, high = (middle, high) if seen is not None and seen < positions else (low, middle)
        middle = (low + high) // 2
    change = trial.of(steps(high)) if high <= most else None
    return change if change is not None and change.sees(positions) else None


class _Trial:
    """A network, the layer that should see more, and what changes do to them."""

    def __init__(self, graph: Graph, layer: int | None) -> None:
        self.graph = graph
        self._fields = ReceptiveFields(graph)
        self._place = self._last_local() if layer is None else layer
        self.layer = graph.operations[self._place]
        views = self._fields.view(self.layer.output)
        if views is None or not _is_local(views):
            raise InputError(
                f"{self.layer.name!r} sees everything, or what it sees cannot be followed; name another layer."
            )
        self.seen = tuple(view.size for view in views)
        self._now = _total(graph)
        self._refused = 0

    def _last_local(self) -> int:
        for place in reversed(range(len(self.graph.operations))):
            views = self._fields.view(self.graph.operations[place].output)
            if views and _is_local(views):
                return place
        raise InputError("No layer of this network sees only a part of its input, so there is nothing to enlarge.")

    def places(self) -> Iterator[tuple[str, Steps]]:
        """Every kind of change at every place that comes before the layer."""
        below = self._below()
        counted = numbered(self.graph.operations)
        shared = _shared(self.graph.operations)
        for place in below:
            step, name = self.graph.operations[place], counted[place]
            if step.kind not in _CHANGEABLE or step.window is None or step.window.transposed or step.taps:
                continue
            if not any(weight.identity in shared for weight in step.weights):
                yield from _of_layer(place, step, name)
        three, two = ("x".join(extent * max(1, len(self.seen))) for extent in ("3", "2"))
        for tensor, name in self._gaps(below, counted):
            yield "convolution", _more(tensor, name, "convolution", f"{three} convolution", convolution)
            yield "pool", _more(tensor, name, "pool", f"{two} pool", max_pool)

    def _below(self) -> list[int]:
        """The places of the operations that the layer depends on, in order, with its own."""
        needed, found = {self.layer.output.id}, []
        for place in range(self._place, -1, -1):
            step = self.graph.operations[place]
            if any(output.id in needed for output in step.outputs):
                needed.update(tensor.id for tensor in step.inputs)
                found.append(place)
        return found[::-1]

    def _gaps(self, below: Sequence[int], names: Sequence[str]) -> Iterator[tuple[Tensor, str]]:
        """Where a layer could be put in: before each layer with a window, and behind the last."""
        seen = set()
        for place in below:
            step = self.graph.operations[place]
            views = self._fields.view(step.input)
            if step.kind in _CHANGEABLE and step.input.id not in seen and views and _is_local(views):
                seen.add(step.input.id)
                yield step.input, f"before {names[place]}"
        if self.layer.output.spatial and self.layer.output.id not in seen:
            yield self.layer.output, f"behind {names[self._place]}"

    def seen_with(self, step: tuple[str, str, Sequence[Edit]]) -> int | None:
        """What a unit of the layer sees with a change, the least over the axes; None where it does not fit."""
        made = self._made(step[2])
        return None if made is None else min(view.size for view in made[1])

    def of(self, step: tuple[str, str, Sequence[Edit]]) -> Change | None:
        """What a change does, or None where it does not fit the network."""
        kind, words, edits = step
        made = self._made(edits)
        if made is None:
            self._refused += 1
            return None
        network, views = made
        total = _total(network.graph)
        return Change(
            words,
            kind,
            tuple(view.size for view in views),
            tuple(view.stride for view in views),
            total.parameters - self._now.parameters,
            total.connections - self._now.connections,
            total.macs - self._now.macs,
            network.instead_of(self.layer.output).extents,
            self._accepted(edits) if kind in ("stride", "pool") else None,
        )

    def _made(self, edits: Sequence[Edit]) -> tuple[Edited, tuple[AxisView, ...]] | None:
        """The network with a change and what the layer then sees, or None where it does not fit."""
        try:
            made = edited(self.graph, edits)
        except (DoesNotFitError, InputError):
            return None
        known = {number: self._fields.of(tensor) for number, tensor in made.untouched.items()}
        tensor = made.instead_of(self.layer.output)
        views = ReceptiveFields(made.graph, known, tensor).view(tensor)
        return (made, views) if views is not None and _is_local(views) else None

    def _accepted(self, edits: Sequence[Edit]) -> tuple[int, ...] | None:
        """The extents of the input for which the last map of the changed network is as large as it was."""
        image = self.graph.inputs[0]
        wanted = self.layer.output
        for factor in (2, 3, 4, 8, 16, 32, 64):
            larger = tuple(extent * factor for extent in image.extents)
            try:
                made = edited(self.graph, edits, larger)
            except (DoesNotFitError, InputError):
                continue
            found = made.instead_of(wanted)
            if (found.extents, found.flat) == (wanted.extents, wanted.flat):
                return larger
        return None

    def answer(self, wanted: int | None, found: Iterable[Change]) -> Reach:
        """The result, with what was found."""
        name = numbered(self.graph.operations)[self._place]
        return Reach(name, self.seen, self._now, wanted, tuple(found), self._refused, self.graph.inputs[0].extents)


def _of_layer(place: int, step: Operation, name: str) -> Iterator[tuple[str, Steps]]:
    """A larger kernel, dilation and stride of one layer."""
    window = _window(step)

    def kernel(more: int) -> tuple[str, str, Sequence[Edit]]:
        changed = with_kernel(step, more)
        return "kernel", _words(name, "kernel", window.kernel, _window(changed).kernel), (Changed(place, changed),)

    def dilation(more: int) -> tuple[str, str, Sequence[Edit]]:
        changed = with_dilation(step, more)
        return (
            "dilation",
            _words(name, "dilation", window.dilation, _window(changed).dilation),
            (Changed(place, changed),),
        )

    def stride(more: int) -> tuple[str, str, Sequence[Edit]]:
        changed = with_stride(step, more)
        return "stride", _words(name, "stride", window.stride, _window(changed).stride), (Changed(place, changed),)

    yield "kernel", kernel
    if step.kind is Kind.CONVOLUTION and max(window.kernel) > 1:
        yield "dilation", dilation
    yield "stride", stride


def _window(step: Operation) -> Window:
    assert step.window is not None
    return step.window


def _words(name: str, what: str, before: tuple[int, ...], after: tuple[int, ...]) -> str:
    return f"{name} with {what} {_joined(after)} instead of {_joined(before)}"


def _more(tensor: Tensor, where: str, kind: str, what: str, made: Callable[[Tensor], Operation]) -> Steps:
    def steps(number: int) -> tuple[str, str, Sequence[Edit]]:
        words = f"one more {what}" if number == 1 else f"{number} more {what}s"
        return kind, f"{words} {where}", (Added(tensor.id, made, number),)

    return steps


def _is_local(views: Sequence[AxisView]) -> bool:
    """Whether units see something, and not all of them the same."""
    return bool(views) and all(view.size > 0 and (view.stride is not None or view.phases) for view in views)


def _total(graph: Graph) -> Counts:
    return sum(count(graph), Counts())


def _cost(change: Change) -> tuple[int, int, int]:
    return change.macs, change.parameters, change.connections


def _shared(operations: Sequence[Operation]) -> set[str]:
    met: set[str] = set()
    shared: set[str] = set()
    for each in operations:
        for weight in each.weights:
            (shared if weight.identity in met else met).add(weight.identity)
    return shared


def _joined(values: Sequence[int]) -> str:
    """One number where all axes agree, else one for each."""
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))

"""The picture of `size`: each layer's share of the whole, beside what its middle unit sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thalweg.errors import InputError
from thalweg.network.grouping import MOST_PLAIN, Row, at_most, grouped, is_shown
from thalweg.network.size_table import listed
from thalweg.network.units import plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thalweg.network.size import Size

_MOST_BARS = 60
_LONGEST_NAME = 40


def figure(size: Size) -> go.Figure:
    """Each layer's share of neurons, parameters and connections, beside what its middle unit sees.

    In large networks repeated layers share a bar, and where they are still too many, all layers of a module do.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    rows = _bars(size)
    places = list(range(len(rows)))
    spatial = bool(size.extents)
    titles = ("Share of the whole, in per cent", "What the middle unit sees") if spatial else ("Share, in per cent",)
    picture = make_subplots(1, len(titles), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.04)
    for what, total, colour in (
        ("neurons", size.totals.neurons, "#9aa5b1"),
        ("parameters", size.totals.parameters, "#d1495b"),
        ("connections", size.totals.connections, "#30638e"),
    ):
        values = [sum(getattr(size.layers[place], what) or 0 for place in row.everywhere) for row in rows]
        shares = [100 * value / total if total else 0.0 for value in values]
        picture.add_trace(
            go.Bar(
                x=shares, y=places, orientation="h", name=what, marker_color=colour,
                customdata=[f"{value:,}" for value in values], hovertemplate="%{customdata}",
            ),
            1, 1,
        )  # fmt: skip
    if spatial:
        _draw_fields(picture, size, rows)
        picture.update_xaxes(title_text=f"input positions along the {size.axis_name(0)}", row=1, col=2)
    height = 160 + (46 if len(rows) < 25 else 24) * len(rows)
    picture.update_yaxes(tickvals=places, ticktext=[_name(row) for row in rows], autorange="reversed")
    return picture.update_layout(
        barmode="group", template="plotly_white", height=height, legend={"orientation": "h", "y": -70 / height},
    )  # fmt: skip


def _bars(size: Size) -> list[Row]:
    """The rows that get a bar."""
    if len(size.layers) <= MOST_PLAIN:
        return [row for row in listed(size.layers) if is_shown(size.layers[row.places[0]])]
    return at_most(grouped(size.layers), _MOST_BARS)


def _name(row: Row) -> str:
    """What a bar is called, with the end of a long name, and how many layers of the same kind share it."""
    name = row.path if len(row.path) <= _LONGEST_NAME else f"...{row.path[-_LONGEST_NAME:]}"
    return plain(name + (f" ({len(row.everywhere)} x)" if row.leaf and len(row.everywhere) > 1 else ""))


def _draw_fields(picture: go.Figure, size: Size, rows: Sequence[Row]) -> None:
    import plotly.graph_objects as go

    bars, starts, lengths, texts = [], [], [], []
    for number, row in enumerate(rows):
        place = row.everywhere[-1]
        ends = _middle(size, place)
        if ends is not None:
            lo, hi = ends
            bars.append(number)
            starts.append(lo)
            lengths.append(hi - lo + 1)
            texts.append(f"{lo} to {hi}")
    picture.add_trace(
        go.Bar(
            x=lengths, base=starts, y=bars, orientation="h", name="seen by the middle unit", marker_color="#edae49",
            text=texts, textposition="auto", hovertemplate="%{text}",
        ),
        1, 2,
    )  # fmt: skip
    picture.update_xaxes(range=[0, size.extents[0]], row=1, col=2)


def _middle(size: Size, place: int) -> tuple[int, int] | None:
    """The positions along the first axis that the middle unit of a layer sees, where that can be followed."""
    try:
        ends = size.middle_unit(place).clipped
    except InputError:  # not followed, or too many positions to follow one by one
        return None
    return None if ends is None else ends[0]

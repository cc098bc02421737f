"""The pictures that the answers of this wing share: a surface of losses, and losses over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import plotly.graph_objects as go

Array = NDArray[np.float64]

LIMIT = {"color": "black", "dash": "dash"}  # how a limit of stability is drawn
_RED = "#d62728"
_HIGHEST = 0.5  # in decades above the first loss: all that is worse looks alike


class Course(NamedTuple):
    """A line in a picture: a name, what it passes after each step, and how it is dashed."""

    name: str
    losses: Any
    dash: str = "solid"


def surface_figure(
    title: str, x: Array, y: NDArray[Any], relative: Array, *, of: str, hover: str, xaxis: str, yaxis: dict[str, Any]
) -> go.Figure:
    """Losses as colours.

    Args:
        title: the figure's title.
        x: learning rates in some unit, `(p,)`, on a logarithmic axis.
        y: what else the loss depends on, `(q,)`.
        relative: the decimal logarithm of the loss over the first loss, `(q, p)`.
        of: what kind of loss it is: `"loss"`.
        hover: how a point names itself, before its value.
        xaxis: the title of the axis of x.
        yaxis: the axis of y as Plotly takes it.
    """
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Heatmap(
            x=x,
            y=y,
            z=np.clip(relative, relative.min(), _HIGHEST),
            colorscale="Viridis",
            reversescale=True,
            colorbar={"title": {"text": f"log10 of {of} / first {of}", "side": "right"}},
            hovertemplate=f"{hover}<br>log10 %{{z:.3f}}<extra></extra>",
        )
    )
    return figure.update_layout(
        title=title,
        template="plotly_white",
        xaxis={"title": xaxis, "type": "log", "dtick": 1},
        yaxis=yaxis,
        legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
    )


def step_surface_figure(
    title: str, shares: Array, steps: NDArray[np.int64], relative: Array, best: Array, *, of: str = "loss"
) -> go.Figure:
    """Losses over learning rate and step, and the best rate for each step, rates in units of the stability limit."""
    figure = surface_figure(
        title,
        shares,
        steps,
        relative,
        of=of,
        hover="%{x:.3g} x stability limit<br>step %{y}",
        xaxis="learning rate / stability limit",
        yaxis={"title": "steps", "type": "log", "dtick": 1},
    )
    return figure.add_scatter(
        x=best, y=steps, mode="lines", name="best rate for each step", line={"color": _RED, "width": 3}
    )


def mark(figure: go.Figure, name: str, x: float, y: float, *, color: str = _RED) -> None:
    """Mark one point of a surface."""
    figure.add_scatter(x=[x], y=[y], mode="markers", name=name, marker={"color": color, "size": 12, "symbol": "x"})


def course_figure(title: str, steps: Any, courses: Sequence[Course]) -> go.Figure:
    """What losses become over the steps, `(s,)`, on logarithmic axes."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for course in courses:
        figure.add_scatter(x=steps, y=course.losses, name=course.name, mode="lines", line_dash=course.dash)
    return figure.update_layout(
        title=title,
        template="plotly_white",
        xaxis={"title": "steps", "type": "log"},
        yaxis={"title": "loss", "type": "log"},
    )

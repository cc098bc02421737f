"""The pictures of `limits`: the plane of two weights, the numbers of every run, the losses on the way.

Of several seeds that share a row of the tables, the first is drawn.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from thalweg.implicit_bias.closed_form import has_one_minimiser

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thalweg.implicit_bias.verdict import Limits
    from thalweg.least_squares import Vector

# Okabe and Ito's colours, which those who do not see all colours can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8B6FC0", "#7A7A7A")
_INK = "#2b2f36"
_WIDEST = 12  # pixels that the first of many runs is wider than the last


def plane(limits: Limits) -> go.Figure:
    """The plane of w1 and w2: solutions, row space, every run, where each lands, and the solution nearest to the start.

    Args:
        limits: an answer for d = 2.
    """
    import plotly.graph_objects as go

    start, nearest = limits.start, limits.nearest
    rows = limits.rows()
    ends = [group[0].w for _, group in rows if group[0].distance_to_nearest is not None]
    corners = np.array([start, nearest, *ends])
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    reach = 0.75 * float(np.max(corners.max(axis=0) - corners.min(axis=0))) or 1.0
    figure = go.Figure()

    if limits.problem.rank == 1:
        along = limits.problem.project_onto_row_space(np.array([1.0, np.sqrt(2.0)]))  # any vector not at right angles
        along /= np.linalg.norm(along)
        across = np.array([-along[1], along[0]])
        _add_line(figure, start, along, reach, "row space, through the start", {"color": "#9db7d5", "dash": "dash"})
        if not has_one_minimiser(limits.problem):
            _add_line(figure, nearest, across, reach, "all solutions", {"color": _INK, "width": 2.5})
            circle = np.linspace(0, 2 * np.pi, 181)
            rim = start[:, None] + np.linalg.norm(nearest - start) * np.array([np.cos(circle), np.sin(circle)])
            _add_curve(figure, rim, "equally far from the start", {"color": "#c3c8cf", "dash": "dot", "width": 1.5})

    for position, (name, group) in enumerate(rows):
        path = group[0].trajectory.path  # of several seeds the first
        assert path is not None, "runs in the plane keep their path"
        inside = np.all(np.abs(path - centre) <= 20 * reach, axis=1)  # a run that diverges leaves the picture
        colour = _COLOURS[position % len(_COLOURS)]
        figure.add_scatter(
            x=path[inside, 0],
            y=path[inside, 1],
            mode="lines+markers",
            name=html.escape(f"{name}: {group[0].verdict}"),
            # Earlier runs are drawn wider, so that those that share a path can all be seen.
            line={"color": colour, "width": 2 + min(2, _WIDEST / len(rows)) * (len(rows) - 1 - position)},
            marker={"size": 6, "color": colour, "line": {"color": "white", "width": 1}, "maxdisplayed": 40},
        )

    figure.add_scatter(
        x=[start[0]],
        y=[start[1]],
        mode="markers",
        name="start",
        marker={"symbol": "circle-open", "size": 13, "color": _INK, "line": {"width": 2.5}},
    )
    figure.add_scatter(
        x=[nearest[0]],
        y=[nearest[1]],
        mode="markers",
        name=f"w* = {_coordinates(nearest)}",
        marker={"symbol": "star", "size": 18, "color": "#F0C419", "line": {"color": _INK, "width": 1.2}},
    )
    landings = _landings(limits)
    for position, (names, place) in enumerate(landings):
        close = [other for _, other in landings[:position] if np.max(np.abs(other - place)) < 0.2 * reach]
        figure.add_annotation(
            x=place[0],
            y=place[1],
            text=f"{html.escape(', '.join(names))}<br><b>{_coordinates(place)}</b>",
            showarrow=True,
            arrowhead=0,
            arrowcolor="#8a9099",
            ax=-75 if _coordinates(place) == _coordinates(nearest) else 60,
            ay=-30 - 40 * len(close),
            bgcolor="rgba(255,255,255,0.85)",
        )
    figure.update_layout(
        title="Which solution does each optimizer pick?",
        template="plotly_white",
        width=860,
        height=640,
        xaxis={
            "title": "w<sub>1</sub>",
            "range": [centre[0] - reach, centre[0] + reach],
            "constrain": "domain",
            "zeroline": False,
        },
        yaxis={
            "title": "w<sub>2</sub>",
            "range": [centre[1] - reach, centre[1] + reach],
            "scaleanchor": "x",
            "zeroline": False,
        },
        legend={"x": 1.02, "y": 1},
    )
    return figure


def _add_line(
    figure: go.Figure, through: Vector, along: Vector, reach: float, name: str, line: dict[str, object]
) -> None:
    ends = np.outer([-20 * reach, 20 * reach], along) + through
    _add_curve(figure, ends.T, name, line)


def _add_curve(figure: go.Figure, points: np.ndarray, name: str, line: dict[str, object]) -> None:
    figure.add_scatter(x=points[0], y=points[1], mode="lines", name=name, line=line, hoverinfo="name")


def _landings(limits: Limits) -> list[tuple[list[str], Vector]]:
    """The places where runs ended, each with the names of all that did."""
    landings: list[tuple[list[str], Vector]] = []
    for name, group in limits.rows():
        if group[0].distance_to_nearest is None:
            continue
        for names, place in landings:
            if _coordinates(place) == _coordinates(group[0].w):
                names.append(name)
                break
        else:
            landings.append(([name], group[0].w))
    return landings


def _coordinates(w: Vector) -> str:
    return "(" + ", ".join(f"{value + 0.0:.4g}" for value in np.round(w, 12)) + ")"


def numbers(limits: Limits) -> go.Figure:
    """For every run, how far it went beside the shortest way, and how far out of the row space it is."""
    from plotly.subplots import make_subplots

    rows = limits.rows()
    names = [html.escape(f"{position}. {name}") for position, (name, _) in enumerate(rows, start=1)]
    colours = [_COLOURS[position % len(_COLOURS)] for position in range(len(names))]
    norms = [group[0].norm_ratio for _, group in rows]
    ratios = [group[0].row_space_ratio for _, group in rows]
    has_row_space = any(ratio is not None for ratio in ratios)
    right = ratios if has_row_space else [group[0].distance_to_nearest for _, group in rows]
    titles = ("way / shortest way", "row-space ratio (rounding below 30)" if has_row_space else "distance from w*")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.06)
    for column, values in ((1, norms), (2, right)):
        figure.add_bar(x=values, y=names, orientation="h", marker={"color": colours}, row=1, col=column)
    figure.add_vline(x=1, line_dash="dot", line_color=_INK, row=1, col=1)
    if has_row_space:
        figure.add_vline(x=30, line_dash="dot", line_color=_INK, row=1, col=2)
    figure.update_xaxes(type="log", exponentformat="power", row=1, col=2)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(title="Where each optimizer ends up", template="plotly_white", showlegend=False)
    return figure


def losses(limits: Limits) -> go.Figure:
    """The loss of every run along its steps."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for position, (name, group) in enumerate(limits.rows()):
        run = group[0].trajectory
        shown = np.isfinite(run.losses) & (run.losses > 0) & (run.loss_steps > 0)
        figure.add_scatter(
            x=run.loss_steps[shown],
            y=run.losses[shown],
            mode="lines",
            name=html.escape(name),
            line={"color": _COLOURS[position % len(_COLOURS)]},
        )
    figure.update_layout(
        title="The loss on the way",
        template="plotly_white",
        xaxis={"title": "steps", "type": "log"},
        yaxis={"title": "loss", "type": "log", "exponentformat": "power"},
    )
    return figure

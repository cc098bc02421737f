"""Pictures of kernels: taps, the waves that they pass, what they answer to a photograph, and a sheet of many."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.network.correlation import correlate, frequency_response
from thalweg.network.kernels.families import LABELS, Array
from thalweg.network.kernels.words import WAVES
from thalweg.report import picture_source, printable

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thalweg.network.filters import Filter

MAX_ON_SHEET = 400
MAX_REPLIES = 24
_REPLIES_IN_A_ROW = 4
_REPLY_SIDE = 320  # larger answers are drawn from every second pixel, every third, ...
_NUMBERED_SIDE = 7  # larger kernels are drawn without the numbers in their taps


def portrait(kernel: Filter, image_name: str | None) -> go.Figure:
    """One kernel: its taps, how strongly it passes waves of every direction, an image, and the answer to it.

    Args:
        kernel: what to draw.
        image_name: the name of its image; without one it answers to the photograph of `thalweg.data`.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    from thalweg.data import photograph

    image = photograph() if kernel.image is None else kernel.image
    answer = correlate(image, kernel.kernel)
    titles = ("taps", "waves passed, cycles per pixel", _safe(image_name or "a photograph"), "what the filter answers")
    figure = make_subplots(2, 2, subplot_titles=titles, vertical_spacing=0.12, horizontal_spacing=0.08)
    taps = kernel.kernel[::-1]  # Plotly counts rows upwards
    limit = float(np.abs(taps).max()) or 1.0
    numbered = max(taps.shape) <= _NUMBERED_SIDE
    figure.add_trace(
        go.Heatmap(
            z=taps, zmin=-limit, zmax=limit, colorscale="RdBu_r", showscale=False,
            texttemplate="%{z:.3g}" if numbered else None, hovertemplate="%{z:.4g}<extra></extra>",
        ),
        1, 1,
    )  # fmt: skip
    response = np.fft.fftshift(frequency_response(kernel.kernel, WAVES))[::-1]
    frequencies = np.fft.fftshift(np.fft.fftfreq(WAVES))
    figure.add_trace(
        go.Heatmap(
            z=response, x=frequencies, y=-frequencies[::-1], zmin=0, colorscale="Viridis",
            colorbar={"len": 0.4, "y": 0.8, "title": "times"},
            hovertemplate="%{x:.2f} across, %{y:.2f} up: times %{z:.3g}<extra></extra>",
        ),
        1, 2,
    )  # fmt: skip
    for column, values in ((1, image), (2, answer)):
        figure.add_trace(go.Image(source=picture_source(_levels(values)), hoverinfo="skip"), 2, column)
    for row, column, ticks in ((1, 1, False), (1, 2, True), (2, 1, False), (2, 2, False)):
        figure.update_xaxes(showticklabels=ticks, showgrid=False, zeroline=False, row=row, col=column)
        figure.update_yaxes(showticklabels=ticks, showgrid=False, zeroline=False, row=row, col=column)
    for column, axis in ((1, "x"), (2, "x2")):  # square taps, square frequencies
        figure.update_yaxes(scaleanchor=axis, constrain="domain", row=1, col=column)
        figure.update_xaxes(constrain="domain", row=1, col=column)
    angle = "" if kernel.angle is None else f", {kernel.angle:.4g} deg"
    return figure.update_layout(
        title=_safe(f"{kernel.name}: {kernel.label}{angle}"), template="plotly_white", height=820
    )


def sheet(title: str, kernels: Sequence[Filter]) -> go.Figure:
    """All kernels side by side, grouped by label and ordered by direction, in colour where they have three channels.

    Args:
        title: what they are called together.
        kernels: what to draw; of more than `MAX_ON_SHEET` the first of every label, in proportion.
    """
    import plotly.graph_objects as go

    shown = _chosen(kernels)
    groups = [(label, [each for each in shown if each.label == label]) for label in LABELS]
    groups = [(label, sorted(members, key=lambda each: each.angle or 0.0)) for label, members in groups if members]
    side = max(max(each.kernel.shape) for each in shown)
    cell, columns = side + 1, max(4, min(24, math.ceil(1.5 * math.sqrt(len(shown)))))
    rows = sum(math.ceil(len(members) / columns) for _, members in groups)
    canvas = np.full((rows * cell + 1, columns * cell + 1, 3), 255, dtype=np.uint8)
    ticks, x, y, texts = [], [], [], []
    row = 0
    for _, members in groups:
        ticks.append(row * cell + cell / 2)
        for place, each in enumerate(members):
            top, left = (row + place // columns) * cell + 1, place % columns * cell + 1
            drawn = _colours(each)
            top, left = top + (side - drawn.shape[0]) // 2, left + (side - drawn.shape[1]) // 2
            canvas[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
            x.append(left + (drawn.shape[1] - 1) / 2)
            y.append(top + (drawn.shape[0] - 1) / 2)
            angle = "" if each.angle is None else f", {each.angle:.1f} deg"
            texts.append(_safe(f"{each.name}: {each.label}{angle}"))
        row += math.ceil(len(members) / columns)
    figure = go.Figure(go.Image(source=picture_source(canvas), hoverinfo="skip"))
    figure.add_scatter(x=x, y=y, text=texts, mode="markers", marker={"opacity": 0, "size": 12}, hoverinfo="text")
    figure.update_xaxes(visible=False)
    names = [f"{label}: {len(members)}" for label, members in groups]
    figure.update_yaxes(tickvals=ticks, ticktext=names, showgrid=False, zeroline=False)
    some = "" if len(shown) == len(kernels) else f" ({len(shown)} of {len(kernels):,})"
    return figure.update_layout(
        title=_safe(f"{title}{some}"), template="plotly_white", showlegend=False,
        height=max(300, 140 + round(min(1, 26 / cell * 1.4) * 34 * rows)),
    )  # fmt: skip


def replies(kernels: Sequence[Filter], image_name: str) -> go.Figure:
    """An image, and what kernels answer to it by cross-correlation, side by side.

    Args:
        kernels: that have an image; the first `MAX_REPLIES` are drawn.
        image_name: the name of their image.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    shown = kernels[:MAX_REPLIES]
    pixels = shown[0].image
    assert pixels is not None, "there is an image"
    step = math.ceil(max(pixels.shape) / _REPLY_SIDE)
    drawn = [(image_name, _levels(pixels[::step, ::step]))]
    for each in shown:
        answer = correlate(pixels, each.kernel)[::step, ::step]  # not kept: large images have large answers
        angle = "" if each.angle is None else f", {each.angle:.4g} deg"
        drawn.append((f"{each.name}: {each.label}{angle}", _levels(answer)))
    rows = math.ceil(len(drawn) / _REPLIES_IN_A_ROW)
    figure = make_subplots(
        rows, _REPLIES_IN_A_ROW, subplot_titles=[_safe(name) for name, _ in drawn], horizontal_spacing=0.02,
        vertical_spacing=0.3 / rows,
    )  # fmt: skip
    for number, (_, levels) in enumerate(drawn):
        picture = go.Image(source=picture_source(levels), hoverinfo="skip")
        figure.add_trace(picture, number // _REPLIES_IN_A_ROW + 1, number % _REPLIES_IN_A_ROW + 1)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_annotations(font_size=11)
    some = "" if len(shown) == len(kernels) else f" ({len(shown)} of {len(kernels):,} kernels)"
    return figure.update_layout(
        title=_safe(f"Answers to {image_name}{some}"), template="plotly_white", height=140 + 240 * rows
    )


def _chosen(kernels: Sequence[Filter]) -> list[Filter]:
    if len(kernels) <= MAX_ON_SHEET:
        return list(kernels)
    chosen: list[Filter] = []
    for label in LABELS:
        members = [each for each in kernels if each.label == label]
        chosen += members[: math.ceil(len(members) * (MAX_ON_SHEET - len(LABELS)) / len(kernels))]
    return chosen


def _colours(kernel: Filter) -> NDArray[np.uint8]:
    """The taps as `(height, width, 3)`: mid-grey is 0, in red, green and blue where there are three channels."""
    taps = kernel.stored if len(kernel.stored) == 3 else np.repeat(kernel.kernel[None], 3, axis=0)
    limit = float(np.abs(taps).max()) or 1.0
    levels: NDArray[np.uint8] = (127.5 + 127.5 * taps / limit).round().astype(np.uint8)
    return levels.transpose(1, 2, 0)


def _levels(values: Array) -> NDArray[np.uint8]:
    least = float(values.min())
    scaled = (values - least) / (float(values.max()) - least or 1.0)
    return np.asarray((scaled * 255).round(), dtype=np.uint8)


def _safe(text: str) -> str:
    """`text` as Plotly shows it literally: it reads a little HTML in titles and labels."""
    return html.escape(printable(text))

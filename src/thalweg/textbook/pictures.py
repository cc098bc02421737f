"""Pictures of the facts, drawn from the textbook's own functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from thalweg.textbook import convolution, implicit_bias, learning_rate, unrolled
from thalweg.textbook.ledger import TOLERANCE, Fact

LINE, TARGET, ZERO = np.array([[1.0, 2.0]]), np.array([3.0]), np.zeros(2)


def errors(facts: Sequence[Fact]) -> go.Figure:
    """The error of every fact on a logarithmic axis, against what is allowed; exact facts stand at the left edge."""
    exact = 1e-18
    right = ["right" if fact.holds else "WRONG" for fact in facts]
    figure = go.Figure(
        go.Scatter(
            x=[max(fact.error, exact) if np.isfinite(fact.error) else 1e3 for fact in facts],
            y=[fact.id for fact in facts],
            mode="markers",
            marker={"size": 11, "color": ["#1a7f37" if fact.holds else "#cf222e" for fact in facts]},
            text=[f"{verdict}: {fact.claim}<br>{fact.computed}" for verdict, fact in zip(right, facts, strict=True)],
            hovertemplate="%{y} %{text}<extra></extra>",
        )
    )
    figure.add_vline(x=TOLERANCE, line={"dash": "dash", "color": "#cf222e"}, annotation_text="allowed")
    figure.update_xaxes(
        type="log", title="error against an independent check (left edge: exactly 0)", range=[-18.5, -8]
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(title="How far each fact is from its check", height=160 + 26 * len(facts))
    return figure


def _plane(title: str, paths: dict[str, Any]) -> go.Figure:
    """Runs for X = [1 2], t = 3 in the plane of the weights, with the row space and the solutions."""
    figure = go.Figure()
    s = np.array([-4.0, 13.0])
    figure.add_scatter(x=s, y=(3 - s) / 2, mode="lines", name="solutions x w = t", line={"color": "#8c959f"})
    figure.add_scatter(x=s, y=2 * s, mode="lines", name="row space", line={"dash": "dash", "color": "#8c959f"})
    for name, path in paths.items():
        figure.add_scatter(x=path[:, 0], y=path[:, 1], mode="lines+markers", name=name)
        figure.add_scatter(
            x=path[-1:, 0],
            y=path[-1:, 1],
            mode="markers+text",
            text=[f"({path[-1, 0]:.4g}, {path[-1, 1]:.4g})"],
            textposition="bottom center",
            showlegend=False,
            marker={"size": 10, "color": "#1b1f24"},
        )
    points = np.concatenate(list(paths.values()))
    low, high = points.min() - 1, points.max() + 1
    figure.update_xaxes(title="w1", range=[low, high])
    figure.update_yaxes(title="w2", range=[low, high], scaleanchor="x")
    figure.update_layout(title=title)
    return figure


def _adagrad_and_gd() -> go.Figure:
    run = implicit_bias.every_row(LINE, 100)
    return _plane(
        "X = [1 2], t = 3: GD stays in the row space, AdaGrad leaves it",
        {
            "GD": implicit_bias.gradient_descent(LINE, TARGET, ZERO, 0.02, run),
            "AdaGrad": implicit_bias.adagrad(LINE, TARGET, ZERO, 0.3, run, eps=0),
        },
    )


def _worked_adagrad() -> go.Figure:
    w1, G, _, _ = implicit_bias.worked_adagrad(1e-4, 1e-4)
    run = implicit_bias.every_row(LINE, 300)
    lagged = implicit_bias.adagrad(LINE, TARGET, w1, 1.0, run, eps=0, G0=G, lagged=True)
    return _plane(
        "The worked recursion jumps along the row space, then heads to (-3, 3)",
        {
            "worked recursion": np.concatenate([[ZERO], lagged]),
            "AdaGrad": implicit_bias.adagrad(LINE, TARGET, ZERO, 0.3, run, eps=0),
        },
    )


def _graph() -> go.Figure:
    """The computation graph of two steps: what is used stands to the left of what it is used for."""
    graph = unrolled.computation_graph(2)
    places = {"eta": (1.5, 1.0), "lambda": (2.5, -1.0), "w0": (0.0, 0.0)}
    places |= {node.name: (float(number), 0.0) for number, node in enumerate(graph, start=1)}
    figure = go.Figure()
    for parent, child in unrolled.edges(graph):
        (x0, y0), (x1, y1) = places[parent], places[child]
        neighbours = y0 != y1 or x1 - x0 == 1
        # Arrows past a node bend around it.
        x, y = np.array([x0, (x0 + x1) / 2, x1]), np.array([y0, (y0 + y1) / 2 + (0.0 if neighbours else 0.35), y1])
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            line={"shape": "spline", "color": "#8c959f"},
            marker={"symbol": "arrow", "angleref": "previous", "size": [0, 9, 0], "color": "#57606a"},
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[place[0] for place in places.values()],
        y=[place[1] for place in places.values()],
        text=[name.replace("_", " ") for name in places],
        mode="markers+text",
        marker={"size": 46, "color": "#ddf4ff", "line": {"color": "#0969da", "width": 1}},
        hoverinfo="text",
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, range=[-1.5, 1.5])
    figure.update_layout(title="The computation graph of two steps", showlegend=False)
    return figure


def _memory() -> go.Figure:
    """Vectors held by every method as the run grows."""
    X, t, w0 = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([3.0, 2.0]), np.zeros(2)
    h = unrolled.Hyper(0.01, 0.01, 0.9)
    lengths = [4, 8, 16, 32, 64, 128]
    methods: dict[str, Callable[[int], int]] = {
        "back-propagation": lambda T: unrolled.backpropagation(X, t, w0, h, T)[1],
        "checkpoints every sqrt(T)": lambda T: unrolled.checkpointed(X, t, w0, h, T, round(T**0.5))[1],
        "recursive halving": lambda T: unrolled.recursive_halving(X, t, w0, h, T)[1],
        "forward mode, 3 hyperparameters": lambda T: unrolled.forward_mode(X, t, w0, h, T, ["eta", "lam", "delta"])[1],
        "exactly reversible momentum": lambda T: unrolled.reversible(X, t, w0, 0.01, 0.01, 9, 10, T, 2.0**60)[1],
        "running forward": lambda T: unrolled.forward_run(X, t, w0, h, T)[1],
    }
    figure = go.Figure()
    for name, held in methods.items():
        figure.add_scatter(x=lengths, y=[held(T) for T in lengths], mode="lines+markers", name=name)
    figure.update_xaxes(type="log", title="steps T")
    figure.update_yaxes(type="log", title="vectors held at once")
    figure.update_layout(title="The memory of a hypergradient")
    return figure


def _growth() -> go.Figure:
    """The size of the Jacobians' product for three rates."""
    X = np.array([[1.0, 2.0], [0.0, 1.0]])
    fastest = float(np.linalg.eigvalsh(unrolled.hessian(X, 0.0))[-1])
    figure = go.Figure()
    for share in (0.5, 1.0, 2.0, 2.1):
        J = unrolled.momentum_jacobian(X, unrolled.Hyper(share / fastest, 0.0, 0.0))
        figure.add_scatter(y=unrolled.log10_norms([J] * 300), mode="lines", name=f"rate {share:g} / lambda_max")
    figure.update_xaxes(title="steps")
    figure.update_yaxes(title="log10 of the product's norm")
    figure.update_layout(title="Hypergradients vanish or explode with the number of steps")
    return figure


def _losses() -> go.Figure:
    """The loss after T steps as a function of the rate, with its minimum."""
    X, t, w0 = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([3.0, 2.0]), np.zeros(2)
    rates = np.linspace(0, 0.4, 201)
    figure = go.Figure()
    for steps in (1, 2, 3, 10):
        figure.add_scatter(
            x=rates, y=[learning_rate.loss_after(X, t, w0, eta, steps) for eta in rates], name=f"T = {steps}"
        )
        best = learning_rate.best_rate(X, t, w0, steps)
        figure.add_scatter(
            x=[best],
            y=[learning_rate.loss_after(X, t, w0, best, steps)],
            mode="markers",
            marker={"size": 9, "color": "#1b1f24"},
            name=f"best for T = {steps}",
            showlegend=False,
        )
    figure.update_xaxes(title="learning rate")
    figure.update_yaxes(title="loss after T steps", range=[0, 7])
    figure.update_layout(title="Convex in the rate for every T")
    return figure


def _filters() -> go.Figure:
    """The textbook's image, and what two filters answer."""
    panels = {
        "image": convolution.IMAGE,
        "Laplacian": convolution.convolve(convolution.IMAGE, convolution.LAPLACIAN),
        "Prewitt": convolution.convolve(convolution.IMAGE, convolution.PREWITT),
    }
    figure = make_subplots(rows=1, cols=3, subplot_titles=list(panels))
    for column, values in enumerate(panels.values(), start=1):
        heatmap = go.Heatmap(z=values, texttemplate="%{z}", colorscale="RdBu", zmid=0, showscale=False)
        figure.add_trace(heatmap, row=1, col=column)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(title="An image convolved with two filters, zero padding, same size")
    return figure


PICTURES: dict[str, Callable[[], go.Figure]] = {
    "F1.5": _adagrad_and_gd,
    "F1.5w": _worked_adagrad,
    "F2.1": _graph,
    "F2.2": _memory,
    "F2.3": _growth,
    "F2.7": _losses,
    "F2.8": _losses,
    "F3.1": _filters,
}

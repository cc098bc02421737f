"""The worked example: what an optimizer holds and does at each of its first steps, in numbers (fact F1.5).

>>> from thalweg.least_squares import LeastSquares
>>> first = trace(LeastSquares([[1.0, 2.0]], [3.0]), "adagrad", 2, rate=0.5).rows[0]
>>> first.gradient.tolist(), first.state["G"].tolist(), first.move.round(6).tolist(), first.weights.round(6).tolist()
([-6.0, -12.0], [36.0, 144.0], [0.5, 0.5], [0.5, 0.5])
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import InputError
from thalweg.implicit_bias.rules import OptaxTransformation
from thalweg.implicit_bias.trajectories import Optimizer, batches, prepared
from thalweg.least_squares import LeastSquares, Vector
from thalweg.report import Cell, Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_WEIGHTS_SHOWN = 6


@dataclass(frozen=True, eq=False)
class Worked:
    """One step.

    Attributes:
        step: its number, from 1.
        rows: the rows of X that it sees; None for all.
        gradient: at the weights before it, `(d,)`.
        state: what the optimizer holds after it has seen the gradient, by name: accumulators, velocity.
        move: what it adds to the weights: minus the rate times the scaled gradient, `(d,)`.
        weights: after it, `(d,)`.
        outside: the share of the way `w - w0` so far that lies outside the row space of X.
    """

    step: int
    rows: NDArray[np.intp] | None
    gradient: Vector
    state: dict[str, Vector]
    move: Vector
    weights: Vector
    outside: float


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Result):
    """The first steps of one optimizer, number by number.

    Attributes:
        optimizer: as it was run.
        start: the first weights, `(d,)`.
        rows: one for each step.
    """

    optimizer: Optimizer
    start: Vector
    rows: tuple[Worked, ...]

    def table(self) -> Table:
        """One row for each step; vectors are shown up to six coordinates."""
        names = list(self.rows[0].state)
        batched = [] if self.rows[0].rows is None else ["batch"]
        columns = ["step", *batched, "gradient", *names, "move", "weights", "outside the row space"]
        rows: list[list[Cell]] = []
        for one in self.rows:
            batch: list[Cell] = [] if one.rows is None else [", ".join(map(str, one.rows))]
            held = [_shown(one.state[name]) for name in names]
            rows.append([one.step, *batch, _shown(one.gradient), *held, _shown(one.move), _shown(one.weights)])
            rows[-1].append(one.outside)
        settings = ", ".join(
            f"{name} {value:g}" for name, value in self.optimizer.rule.settings().items() if name != "P"
        )
        notes = [
            f"w0 = {_shown(self.start)}; rate {self.optimizer.rate:.6g}" + (f", {settings}" if settings else "") + "."
        ]
        notes.append(
            "Each step takes the gradient at the weights of the row above; it moves by minus the rate times it, scaled."
        )
        return Table(f"{self.optimizer.name}, step by step", columns, rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """Keys `name`, `settings`, `start` and `steps`.

        A step has `step`, `batch`, `gradient`, `state`, `move`, `weights` and `outside`.
        """
        return {
            "name": self.optimizer.name,
            "settings": self.optimizer.settings(),
            "start": self.start,
            "steps": [
                {
                    "step": one.step,
                    "batch": one.rows,
                    "gradient": one.gradient,
                    "state": one.state,
                    "move": one.move,
                    "weights": one.weights,
                    "outside": one.outside,
                }
                for one in self.rows
            ],
        }

    def figure(self) -> go.Figure:
        """The weights along the steps; the first six of them."""
        import plotly.graph_objects as go

        path = np.array([self.start, *(one.weights for one in self.rows)])
        figure = go.Figure()
        for column in range(min(path.shape[1], _MOST_WEIGHTS_SHOWN)):
            figure.add_scatter(y=path[:, column], mode="lines+markers", name=f"w<sub>{column + 1}</sub>")
        figure.update_layout(
            title=html.escape(f"{self.optimizer.name}, step by step"),
            template="plotly_white",
            xaxis={"title": "step"},
            yaxis={"title": "weight"},
        )
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class Traces(Result):
    """The first steps of several optimizers.

    Attributes:
        traces: one for each.
    """

    traces: tuple[Trace, ...]

    def table(self) -> Table:
        """One row for each step of each optimizer; what it holds is named in the row."""
        columns = ["optimizer", "step", "batch", "gradient", "state", "move", "weights", "outside the row space"]
        rows: list[list[Cell]] = []
        for trace in self.traces:
            for one in trace.rows:
                batch = "all" if one.rows is None else ", ".join(map(str, one.rows))
                state = "; ".join(f"{name} = {_shown(held)}" for name, held in one.state.items())
                row: list[Cell] = [trace.optimizer.name, one.step, batch, _shown(one.gradient), state]
                rows.append([*row, _shown(one.move), _shown(one.weights), one.outside])
        return Table("The first steps, number by number", columns, rows)

    def tables(self) -> list[Table]:
        """One table for each optimizer."""
        return [trace.table() for trace in self.traces]

    def to_dict(self) -> dict[str, Any]:
        """The key `optimizers`, with what `Trace` says of each."""
        return {"optimizers": [trace.to_dict() for trace in self.traces]}

    def figure(self) -> go.Figure:
        """The weights along the steps of the first optimizer."""
        return self.traces[0].figure()

    def figures(self) -> list[go.Figure]:
        """The weights along the steps, for each optimizer."""
        return [trace.figure() for trace in self.traces]


def trace(
    problem: LeastSquares,
    optimizer: str | Optimizer,
    steps: int,
    *,
    start: ArrayLike | None = None,
    rate: float | None = None,
    batch: int | None = None,
    momentum: float | None = None,
    seed: int = 0,
) -> Trace:
    """Run the first steps of an optimizer at its first rate, and keep every number on the way.

    Args:
        problem: what is minimised.
        optimizer: a name or an `Optimizer`.
        steps: how many.
        start: the first weights, `(d,)`; zeros for None.
        rate: the learning rate; None for the default.
        batch: the number of examples in a step, as in `limits`.
        momentum: that of `momentum` and `nesterov`, as in `limits`.
        seed: of the random batches.

    Raises:
        InputError: a name is unknown or a number out of its range, or the optimizer is an Optax transformation, whose
            inside is its own.
    """
    if steps != int(steps) or steps < 1:
        raise InputError(f"The number of steps to trace must be an integer of at least 1, but it is {steps}.")
    problem = problem.stored("a trace")
    ready = prepared(problem, optimizer, start=start, rate=rate, batch=batch, momentum=momentum)
    rule = ready.rule
    if isinstance(rule, OptaxTransformation) or ready.rate is None:
        raise InputError(f"What {ready.name!r} holds is not known by name; trace a named optimizer.")
    w0 = problem.start(start)
    w, state = w0, rule.begin(problem.d)
    drawn = batches(problem.n, ready, np.random.default_rng(seed))
    found = []
    for step in range(1, steps + 1):
        rows = next(drawn)
        gradient = problem.gradient(w, rows)
        before = w
        w, state = rule.step(w, gradient, state, ready.rate)
        move = w - before
        way = float(np.linalg.norm(w - w0))
        found.append(
            Worked(
                step=step,
                rows=rows,
                gradient=gradient,
                state=dict(zip(rule.state_names, state, strict=False)),
                move=move,
                weights=w,
                outside=problem.row_space_distance(w - w0) / way if way > 0 else 0.0,
            )
        )
    return Trace(ready, w0, tuple(found))


def _shown(v: Vector) -> str:
    more = ", ..." if len(v) > _MOST_WEIGHTS_SHOWN else ""
    return "(" + ", ".join(f"{value + 0.0:.6g}" for value in v[:_MOST_WEIGHTS_SHOWN]) + more + ")"

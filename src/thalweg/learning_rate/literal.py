"""The surface checked against what it replaces: plain gradient-descent runs, one for each learning rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import InputError
from thalweg.learning_rate.curve import Rates, rates
from thalweg.least_squares import LeastSquares, Vector
from thalweg.report import Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FLOOR = 1e-20  # below this share of the first loss, float64 runs are themselves wrong in the leading digits


def literal_run(problem: LeastSquares, rate: float, steps: int, w0: Vector) -> NDArray[np.float64]:
    """The losses `(steps + 1,)` of plain gradient descent, `w <- w - rate gradient(w)`, computed as written."""
    w = w0.copy()
    losses = np.empty(steps + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps + 1):
            losses[step] = problem.loss(w)
            w -= rate * problem.gradient(w)
    return losses


def compare(
    problem: LeastSquares,
    grid: ArrayLike,
    steps: int,
    sample: int = 8,
    *,
    start: ArrayLike | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Time one run for every rate of `grid` against literal runs, and compare their losses at every step.

    Args:
        problem: the least-squares problem.
        grid: learning rates, `(m,)`, at least 0.
        steps: the number of steps T.
        sample: how many of the rates, spread over the grid, are run literally, at least 1.
        start: the first weights w0, `(d,)`; zeros by default.
        progress: called with the number of literal runs done after each.

    Raises:
        InputError: as for `rates`; the grid is empty; sample < 1.
    """
    asked = np.atleast_1d(np.asarray(grid, dtype=np.float64))
    if not asked.size or sample < 1:
        raise InputError(f"A comparison needs learning rates and at least one run, but got {asked.size} and {sample}.")
    began = time.perf_counter()
    curve = rates(problem, steps, start=start)
    surface = np.asarray(curve.loss(asked, np.arange(steps + 1)))
    seconds = time.perf_counter() - began

    picked = np.unique(np.linspace(0, asked.size - 1, min(sample, asked.size)).round().astype(int))
    w0 = problem.start(start)
    clocks, literal = [], []
    for index in picked:
        began = time.perf_counter()
        literal.append(literal_run(problem, float(asked[index]), steps, w0))
        clocks.append(time.perf_counter() - began)
        if progress is not None:
            progress(len(literal))
    truth = np.array(literal)
    comparable = np.isfinite(truth) & (truth > _FLOOR * curve.initial_loss)
    difference = np.abs(surface[picked][comparable] / truth[comparable] - 1)
    return Comparison(
        curve=curve,
        grid=asked,
        seconds=seconds,
        rates=asked[picked],
        losses=truth,
        seconds_per_run=float(np.median(clocks)),
        largest_difference=float(difference.max()),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """One run for every learning rate beside literal runs of some of them.

    Attributes:
        curve: the answer that was checked.
        grid: the learning rates asked about, `(m,)`.
        seconds: the wall-clock time of the one run and of all its losses, at every rate of the grid and every step.
        rates: the learning rates that were run literally, `(s,)`.
        losses: their losses, `(s, steps + 1)`.
        seconds_per_run: the median wall-clock time of a literal run.
        largest_difference: of the two kinds of losses, relative, over all sampled rates and steps whose loss float64
            runs can represent (above 1e-20 of the first).
    """

    curve: Rates
    grid: NDArray[np.float64]
    seconds: float
    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    seconds_per_run: float
    largest_difference: float

    @property
    def points(self) -> int:
        """How many exact losses the one run gave, the first loss not counted."""
        return self.grid.size * self.curve.steps

    @property
    def extrapolated_seconds(self) -> float:
        """What literal runs of the whole grid would take, from the median of the sampled ones."""
        return self.seconds_per_run * self.grid.size

    def table(self) -> Table:
        """The clocks and the largest difference."""
        sampled = len(self.rates)
        rows = [
            (f"one run, {self.points:,} losses", self.seconds, "measured"),
            (f"{sampled} literal runs", self.seconds_per_run * sampled, "measured (median x runs)"),
            (f"{self.grid.size} literal runs", self.extrapolated_seconds, "extrapolated"),
        ]
        note = f"Largest relative difference from the {sampled} literal runs: {self.largest_difference:.2e}."
        return Table("One run beside literal runs", ("what", "seconds", "how known"), rows, (note,))

    def figure(self) -> go.Figure:
        """The sampled literal losses as dots on the curves that the one run gave."""
        import plotly.graph_objects as go

        every = np.arange(self.curve.steps + 1)
        limit = self.curve.stability_rate
        figure = go.Figure()
        for rate, literal in zip(self.rates, self.losses, strict=True):
            name = f"{rate / limit:.3g} x stability limit"
            exact = self.curve.loss(float(rate), every)
            figure.add_scatter(x=every, y=exact, mode="lines", name=name, legendgroup=name)
            shown = every[:: max(1, len(every) // 20)]
            figure.add_scatter(
                x=shown, y=literal[shown], mode="markers", name="literal run", legendgroup=name, showlegend=False
            )
        figure.update_layout(
            title="One run (lines) and literal runs (dots)",
            template="plotly_white",
            xaxis={"title": "step"},
            yaxis={"title": "loss", "type": "log"},
        )
        return figure

    def to_dict(self) -> dict[str, Any]:
        """Keys `points`, `seconds`, `literal_runs`, `seconds_per_run`, `extrapolated_seconds`, `largest_difference`."""
        return {
            "points": self.points,
            "seconds": self.seconds,
            "literal_runs": len(self.rates),
            "seconds_per_run": self.seconds_per_run,
            "extrapolated_seconds": self.extrapolated_seconds,
            "largest_difference": self.largest_difference,
        }

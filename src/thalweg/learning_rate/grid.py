"""The surface on learning rates of one's own.

>>> import thalweg as tw
>>> curve = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), steps=10)
>>> grid = curve.on_grid([0.1, 0.2, 0.4])
>>> grid.best_rate(1), grid.best_rate(10)
(0.2, 0.4)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.arrays import checked_count, checked_vector
from thalweg.data.inline import number
from thalweg.errors import InputError
from thalweg.learning_rate.curve import Rates
from thalweg.learning_rate.pictures import LIMIT, Course, course_figure, step_surface_figure
from thalweg.learning_rate.surface import scalar
from thalweg.report import Cell, Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

Array = NDArray[np.float64]

MOST_RATES = 10_000
_SHOWN_ROWS = 25  # of a table; the picture and JSON show every rate
_SHOWN_COURSES = 5


def spaced(text: str, name: str = "--rates") -> Array:
    """The learning rates that `LO:HI:N` stands for: N of them from LO to HI, each the same factor above the last.

    Args:
        text: as in `"0.001:1:50"`.
        name: how messages call it.

    Raises:
        InputError: there are not three numbers; not 0 < LO < HI, unless N is 1; N is not from 1 to 10,000.
    """
    parts = text.split(":")
    if len(parts) != 3:
        raise InputError(f"{name} must be LO:HI:N, as in 0.001:1:50, but it is {text!r}.")
    low, high = number(parts[0], f"LO of {name}"), number(parts[1], f"HI of {name}")
    count = number(parts[2], f"N of {name}")
    count = checked_count(int(count) if count == int(count) else count, f"N of {name}", MOST_RATES)
    if not low > 0:
        raise InputError(f"{name} must begin above 0, because its rates are spaced by a factor, but it is {text!r}.")
    if high < low or (high == low and count > 1):
        raise InputError(f"{name} must ascend from LO to HI, but {parts[1].strip()} is not above {parts[0].strip()}.")
    return np.geomspace(low, high, count)


def on_grid(curve: Rates, rates: ArrayLike) -> RateGrid:
    """What the given learning rates do.

    Args:
        curve: the answer of `rates`.
        rates: at least one learning rate, each above the one before, `(m,)`.

    Raises:
        InputError: there are none, they do not ascend, or one is negative or not finite.
    """
    asked = checked_vector(rates, name="The grid of learning rates")
    curve._checked(asked, 0)
    falls = np.flatnonzero(np.diff(asked) <= 0)
    if falls.size:
        at = int(falls[0])
        raise InputError(f"A grid of learning rates must ascend, but {asked[at + 1]:g} follows {asked[at]:g}; sort it.")
    return RateGrid(curve, asked)


@dataclass(frozen=True, eq=False, repr=False)
class RateGrid(Result):
    """The losses of some learning rates, and the best of them for every number of steps.

    Attributes:
        curve: the answer for all learning rates.
        rates: those asked about, ascending, `(m,)`.
    """

    curve: Rates = field(repr=False)
    rates: Array

    @property
    def steps(self) -> int:
        """The largest number of steps."""
        return self.curve.steps

    @cached_property
    def _log10_losses(self) -> Array:
        """After 1, 2, ... steps, `(m, steps)`."""
        losses: Array = self.curve._log_loss(self.rates, np.arange(1, self.steps + 1)) / np.log(10)
        return losses

    def best_rate(self, step: ArrayLike) -> Any:
        """Of the rates of the grid the one with the least loss after `step` steps, of the shape of `step`.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        steps = self._within(step)
        return scalar(self.rates[self._log10_losses.argmin(axis=0)][steps - 1])

    def best_loss(self, step: ArrayLike) -> Any:
        """The loss after `step` steps at `best_rate(step)`, of the shape of `step`.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        with np.errstate(over="ignore"):
            return scalar(10.0 ** self._log10_losses.min(axis=0)[self._within(step) - 1])

    def _within(self, step: ArrayLike) -> NDArray[np.int64]:
        steps = self.curve._checked_steps(step, least=1)
        if steps.size and steps.max() > self.steps:
            raise InputError(
                f"Steps run from 1 to {self.steps} here, but got {steps.max()}; ask rates() for more steps."
            )
        return steps

    def _decades(self) -> list[int]:
        """1, 10, 100, ... and the last step."""
        return sorted({10**power for power in range(len(str(self.steps)))} | {self.steps})

    def table(self) -> Table:
        """The loss of each rate after 1, 10, 100, ... steps and at the end; some rates are left out of long grids."""
        limit, decades = self.curve.stability_rate, self._decades()
        shown = np.unique(np.linspace(0, len(self.rates) - 1, min(len(self.rates), _SHOWN_ROWS)).round().astype(int))
        losses = np.asarray(self.curve._loss(self.rates[shown], decades))
        rows: list[tuple[Cell, ...]] = [
            (float(rate), float(rate / limit), *(float(loss) for loss in of_one))
            for rate, of_one in zip(self.rates[shown], losses, strict=True)
        ]
        best, of_all = ((one.best_rate(self.steps), one.best_loss(self.steps)) for one in (self, self.curve))
        reached = f"after {self.steps:,} steps: {best[0]:.6g}, with loss {best[1]:.6g}"
        notes = [f"Best of these rates {reached}; of all rates {of_all[0]:.6g}, with loss {of_all[1]:.6g}."]
        if len(shown) < len(self.rates):
            notes.append(f"{len(shown)} of the {len(self.rates):,} rates are shown.")
        columns = ("rate", "x stability limit", *(f"loss after {step:,}" for step in decades))
        return Table(f"{len(self.rates):,} learning rates asked about", columns, rows, tuple(notes))

    def figure(self) -> go.Figure:
        """The surface over the grid, the best of its rates for each step, and the stability limit if it lies there."""
        limit = self.curve.stability_rate
        every = self.curve._pictured_steps()
        relative = self._log10_losses[:, every - 1].T - np.log10(self.curve.initial_loss)
        shares, best = self.rates / limit, np.asarray(self.best_rate(every)) / limit
        title = "The loss for the learning rates asked about"
        figure = step_surface_figure(title, shares, every, relative, best)
        if shares[0] <= 1 <= shares[-1]:
            figure.add_scatter(x=[1, 1], y=[1, self.steps], mode="lines", name="stability limit", line=LIMIT)
        return figure

    def course_figure(self) -> go.Figure:
        """The loss after each step for some of the rates."""
        every = self.curve._pictured_steps()
        chosen = np.unique(np.linspace(0, len(self.rates) - 1, _SHOWN_COURSES).round().astype(int))
        courses = [Course(f"rate {self.rates[at]:.4g}", self.curve._loss(self.rates[at], every)) for at in chosen]
        return course_figure("The loss at some of the learning rates", every, courses)

    def figures(self) -> list[go.Figure]:
        """The surface, and the course of some rates."""
        return [self.figure(), self.course_figure()]

    def to_dict(self) -> dict[str, Any]:
        """Keys `rates`, `steps` (1, 10, ...), `loss` (a row for each rate), `best_rate` and `best_loss` by step."""
        every, decades = np.arange(1, self.steps + 1), self._decades()
        return {
            "rates": self.rates,
            "steps": decades,
            "loss": self.curve._loss(self.rates, decades),
            "best_rate": dict(zip(every.tolist(), self.best_rate(every).tolist(), strict=True)),
            "best_loss": dict(zip(every.tolist(), self.best_loss(every).tolist(), strict=True)),
        }

"""Why per-coordinate rates are wanted all the same: columns on different scales make one rate slow for all (F1.7).

>>> from thalweg.least_squares import LeastSquares
>>> stretched = LeastSquares([[100.0, 0.0], [0.0, 1.0]], [100.0, 1.0])
>>> steps_of_gradient_descent(stretched, 1e-4, 0.01)
19560
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.data import standardised
from thalweg.errors import InputError
from thalweg.implicit_bias.trajectories import Trajectory, prepared
from thalweg.least_squares import LeastSquares
from thalweg.report import Cell, Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

METHODS = ("gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "preconditioned")

# Times the default rate. That of the gradient's kin is half the stability limit; the others' is a guess at the scale.
_GRADIENT_RATES = (1.0, 1.5, 1.9)
_OTHER_RATES = tuple(10.0 ** np.arange(-2, 4))
_MOST_STEPS = 10**18


@dataclass(frozen=True)
class Reached:
    """The fastest of the tried rates of one method.

    Attributes:
        name: of the method.
        rate: its constant rate; that of the lowest loss where none reached the loss.
        steps: after which the loss was reached, up to 1%; None where the budget was too small.
        lowest: the lowest loss on the way.
    """

    name: str
    rate: float
    steps: int | None
    lowest: float


@dataclass(frozen=True, eq=False, repr=False)
class StepsToLoss(Result):
    """Steps to a given loss with the columns as they are, and with every column standardised.

    Attributes:
        loss: the loss to reach.
        budget: the steps that every run was given.
        raw: one entry for each method, columns as they are.
        scaled: the same with standardised columns.
        conditions: the condition numbers of the Hessian, raw and standardised.
        gradient_descent: the exact number of steps of gradient descent at its entry's rate, by formula; None where the
            least loss is higher.
    """

    loss: float
    budget: int
    raw: tuple[Reached, ...]
    scaled: tuple[Reached, ...]
    conditions: tuple[float, float]
    gradient_descent: tuple[int | None, int | None]

    def table(self) -> Table:
        """One row for each method."""
        rows: list[list[Cell]] = []
        for raw, scaled in zip(self.raw, self.scaled, strict=True):
            rows.append([raw.name, self._steps(raw), raw.rate, self._steps(scaled), scaled.rate])
        exact = " and ".join("never" if steps is None else f"{steps:,}" for steps in self.gradient_descent)
        notes = [
            "The fastest of some constant rates for each method, from w0 = 0.",
            f"Condition number of the Hessian: {self.conditions[0]:.3g}, standardised {self.conditions[1]:.3g}.",
            f"Gradient descent by formula, however long it takes: {exact} steps.",
        ]
        columns = ("optimizer", "steps", "rate", "steps, standardised", "rate, standardised")
        return Table(f"Steps to a loss of {self.loss:g}", columns, rows, notes)

    def _steps(self, reached: Reached) -> str:
        return f"more than {self.budget:,}" if reached.steps is None else f"{reached.steps:,}"

    def to_dict(self) -> dict[str, Any]:
        """Keys `loss`, `budget`, `raw` and `standardised`.

        The last two have `condition`, `gradient_descent_by_formula` and `optimizers`: `name`, `rate`, `steps` (null
        where the budget was too small) and `lowest`, the lowest loss on the way.
        """
        kinds = {}
        for name, found, condition, exact in zip(
            ("raw", "standardised"), (self.raw, self.scaled), self.conditions, self.gradient_descent, strict=True
        ):
            kinds[name] = {"condition": condition, "gradient_descent_by_formula": exact, "optimizers": found}
        return {"loss": self.loss, "budget": self.budget, **kinds}

    def figure(self) -> go.Figure:
        """The steps of each method side by side; a pale bar as high as the budget where that was too small."""
        import plotly.graph_objects as go

        figure = go.Figure()
        kinds = (("columns as they are", self.raw, "#D55E00"), ("standardised", self.scaled, "#0072B2"))
        for name, found, colour in kinds:
            figure.add_bar(
                x=[html.escape(one.name) for one in found],
                y=[self.budget if one.steps is None else max(one.steps, 1) for one in found],
                text=[self._steps(one) for one in found],
                textfont={"color": ["#2b2f36" if one.steps is None else "white" for one in found]},
                name=name,
                marker={"color": colour, "opacity": [0.3 if one.steps is None else 1 for one in found]},
            )
        figure.update_layout(
            title=f"Steps to a loss of {self.loss:g}",
            template="plotly_white",
            yaxis={"title": "steps", "type": "log", "range": [0, float(np.log10(2 * self.budget))]},
        )
        return figure


def steps_to_loss(
    problem: LeastSquares,
    loss: float,
    *,
    optimizers: Sequence[str] = METHODS,
    steps: int = 5000,
    progress: Callable[[float], None] | None = None,
) -> StepsToLoss:
    """How many full-batch steps each method needs to a loss, as the columns are and standardised.

    Each method runs at several constant rates and the fastest counts, so that no guess of a rate decides; all in one
    compiled run. Gradient descent's number is also computed by formula, as it may be far beyond any run.

    Args:
        problem: dense, with columns that are not constant; its l2 must be 0.
        loss: the loss to reach.
        optimizers: known names.
        steps: the budget of every run.
        progress: called with the share of the work done, 0 to 1.

    Raises:
        InputError: a name is unknown, a number out of its range, or a column constant.
    """
    from thalweg.implicit_bias.compiled import run_together

    if not (np.isfinite(loss) and loss > 0):
        raise InputError(f"The loss to reach must be a finite number above 0, but it is {loss}.")
    if problem.l2 > 0:
        raise InputError(f"Steps are counted on the loss without a penalty, but l2 is {problem.l2:g}.")
    problem = problem.stored("a count of steps")
    dense = problem.X.toarray() if hasattr(problem.X, "toarray") else np.asarray(problem.X, dtype=np.float64)
    columns = [str(column + 1) for column in range(problem.d)]
    problems = (problem, LeastSquares(standardised(dense, columns), problem.t))
    found: list[tuple[Reached, ...]] = []
    exact: list[int | None] = []
    for position, one in enumerate(problems):
        runs = []
        for name in optimizers:
            ready = prepared(one, name)
            factors = _GRADIENT_RATES if ready.rule.stability_limit(1.0) is not None else _OTHER_RATES
            assert ready.rate is not None, "named optimizers have rates"
            runs += [dataclasses.replace(ready, rate=ready.rate * factor, final_rate=1.0) for factor in factors]

        def report(step: int, before: int = position) -> None:
            if progress is not None:
                progress((before + step / steps) / len(problems))

        trajectories = list(run_together(one, runs, steps=steps, progress=report))
        found.append(tuple(_fastest(name, trajectories, loss) for name in optimizers))
        rates = [reached.rate for reached in found[-1] if reached.name == "gd"] or [one.stability_rate / 2]
        exact.append(steps_of_gradient_descent(one, rates[0], loss))
    conditions = [float((one.singular_values[0] / one.singular_values[-1]) ** 2) for one in problems]
    return StepsToLoss(loss, steps, found[0], found[1], (conditions[0], conditions[1]), (exact[0], exact[1]))


def _fastest(name: str, trajectories: Sequence[Trajectory], loss: float) -> Reached:
    tried = []
    for run in trajectories:
        if run.optimizer.name == name and run.optimizer.rate is not None:
            below = np.flatnonzero(run.losses <= loss)
            steps = int(run.loss_steps[below[0]]) if below.size else None
            tried.append(Reached(name, run.optimizer.rate, steps, float(np.nanmin(run.losses))))
    return min(tried, key=lambda one: (np.inf if one.steps is None else one.steps, one.lowest))


def steps_of_gradient_descent(problem: LeastSquares, rate: float, loss: float) -> int | None:
    """The first step k from w0 = 0 at which `L_k = L* + (1/n) sum_i (u_i^T t)^2 (1 - 2 rate s_i^2 / n)^(2k) <= loss`.

    s_i and u_i are the singular values of X and their left vectors, L* is the least loss (fact F2.7). None where the
    loss is never reached, or not within 10^18 steps.

    Args:
        problem: with l2 = 0.
        rate: below the stability limit, so that the loss falls with every step.
        loss: the loss to reach.
    """
    dense = problem.X.toarray() if hasattr(problem.X, "toarray") else np.asarray(problem.X, dtype=np.float64)
    U, s, _ = np.linalg.svd(dense, full_matrices=False)
    rank = len(problem.singular_values)
    parts = (U[:, :rank].T @ problem.t) ** 2 / problem.n
    factors = np.abs(1 - 2 * rate * s[:rank] ** 2 / problem.n)
    least = problem.loss(problem.minimum_norm_solution())

    def at(k: int) -> float:
        return least + float(parts @ factors ** (2.0 * k))

    if at(0) <= loss:
        return 0
    if at(_MOST_STEPS) > loss:
        return None
    low, high = 0, _MOST_STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) <= loss else (middle, high)
    return high

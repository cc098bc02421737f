"""Where does the optimizer end up? Literal runs, and a verdict on each with the number that proves it.

>>> from thalweg.least_squares import LeastSquares
>>> answer = limits(LeastSquares([[1.0, 2.0]], [3.0]), ["gd", "adagrad"])
>>> for outcome in answer.outcomes:
...     print(outcome.w.round(6).tolist(), outcome.verdict)
[0.6, 1.2] minimum-norm solution
[1.0, 1.0] left the row space
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from thalweg.errors import InputError
from thalweg.implicit_bias.closed_form import ClosedForm, closed_form, has_one_minimiser
from thalweg.implicit_bias.trajectories import (
    Gradient,
    Optimizer,
    Trajectory,
    curvature,
    interpolates,
    prepared,
    run,
)
from thalweg.least_squares import LeastSquares, Vector
from thalweg.report import Cell, Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

DEFAULT_OPTIMIZERS = ("gd", "sgd", "momentum", "adagrad")
DEFAULT_STEPS = 20_000

_EPS = float(np.finfo(np.float64).eps)
_INSIDE = 30.0  # LAPACK's threshold for "nothing but rounding" in its own tests
_MOST_WEIGHTS_PRINTED = 1000


class Verdict(StrEnum):
    """What can be said of where a run ended."""

    ALREADY = "the start is already a solution"
    MINIMUM_NORM = "minimum-norm solution"
    NEAREST = "nearest solution to the start"
    LEFT = "left the row space"
    UNIQUE = "unique solution"
    NO_INTERPOLATION = "least squares without interpolation"
    STILL_INSIDE = "in the row space, not converged"
    STILL_OUTSIDE = "left the row space, not converged"
    NOT_CONVERGED = "not converged"
    DIVERGED = "diverged"


@dataclass(frozen=True, eq=False)
class Outcome:
    """One run and what is said of it.

    Attributes:
        trajectory: the run.
        verdict: where it ended.
        row_space_ratio: the distance of `w - w0` from the row space of X, divided by its norm, rounding (machine
            epsilon) and the larger of n and d: below 30 there is nothing but rounding in it, as in LAPACK's test
            `dqrt14`. None where X has rank d and the row space is everything, and where nothing moved or diverged.
        norm_ratio: `||w - w0||` divided by that of the nearest minimiser: 1 is the shortest way. None where the
            start is a minimiser, or the run diverged.
        distance_to_nearest: `||w - w_nearest||` from the minimiser nearest to the start; None where it diverged.
        distance_to_minimum_norm: the same from the minimiser of least norm; equal where the start is zero.
        closed_form: the limit that a formula predicts, where one is known.
        distance_to_closed_form: `||w - w_formula||`.
        stability_limit: the rate above which the run diverges for certain with the full batch; with smaller batches
            the rate below which no step moves away from a common solution. None where there is no such rate.
    """

    trajectory: Trajectory
    verdict: Verdict
    row_space_ratio: float | None
    norm_ratio: float | None
    distance_to_nearest: float | None
    distance_to_minimum_norm: float | None
    closed_form: ClosedForm | None
    distance_to_closed_form: float | None
    stability_limit: float | None

    @property
    def w(self) -> Vector:
        """The last weights, `(d,)`."""
        return self.trajectory.w

    @property
    def name(self) -> str:
        """The name of the optimizer."""
        return self.trajectory.optimizer.name

    def settings(self) -> dict[str, Any]:
        """Everything the run depended on, by name."""
        return {**self.trajectory.optimizer.settings(), "seed": self.trajectory.seed}


def limits(
    problem: LeastSquares,
    optimizers: Sequence[str | Optimizer] | None = None,
    seeds: int = 1,
    steps: int = DEFAULT_STEPS,
    *,
    batch: int | None = None,
    start: ArrayLike | None = None,
    rate: float | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Limits:
    """Run optimizers literally, one step after the other, and say where each ends up.

    For a consistent X w = t, gradient descent and its kin stay in w0 + the row space of X, and so end at the solution
    nearest to w0, `w0 + X^+ (t - X w0)`; methods that scale coordinates by their own history leave it and end at
    another (facts F1.1 to F1.6).

    Args:
        problem: what to minimise; small, since every step is a step of Python.
        optimizers: names, as `thalweg.implicit_bias.trajectories.names()` lists them, or `Optimizer`s with settings
            of their own; None for gd, sgd, momentum and adagrad.
        seeds: how many runs of each optimizer that draws batches at random.
        steps: the budget of steps for each run; runs that have arrived end earlier.
        batch: the number of examples in a step, for all named optimizers but `gd` and `sgd`; None for all.
        start: the first weights w0, `(d,)`; zeros for None.
        rate: the learning rate of all named optimizers; None for a default that does not diverge: half the stability
            limit for the kin of gradient descent, and the way to the nearest solution, spread over the coordinates,
            for the others.
        seed: of the first run's random batches; the next runs count on from it.
        progress: called with the share of the work done, 0 to 1.

    Raises:
        InputError: an optimizer is unknown, or a number or w0 is out of its range.
    """
    found = list(
        outcomes(
            problem,
            optimizers,
            seeds,
            steps,
            batch=batch,
            start=start,
            rate=rate,
            seed=seed,
            progress=progress,
        )
    )
    return Limits(problem, problem.start(start), tuple(found))


def outcomes(
    problem: LeastSquares,
    optimizers: Sequence[str | Optimizer] | None = None,
    seeds: int = 1,
    steps: int = DEFAULT_STEPS,
    *,
    batch: int | None = None,
    start: ArrayLike | None = None,
    rate: float | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Outcome]:
    """The outcomes of `limits`, each as soon as its run has ended, so that an interrupted caller keeps what is done."""
    for name, number, least in (("steps", steps, 1), ("seeds", seeds, 1), ("seed", seed, 0)):
        if number != int(number) or number < least:
            raise InputError(f"{name} must be an integer of at least {least}, but it is {number}.")
    chosen = DEFAULT_OPTIMIZERS if optimizers is None else optimizers
    if not chosen:
        raise InputError("There is no optimizer to run; name at least one.")
    ready = [prepared(problem, optimizer, start=start, rate=rate, batch=batch) for optimizer in chosen]
    runs = [(one, seed + k) for one in ready for k in range(seeds if one.batch is not None else 1)]
    for position, (optimizer, its_seed) in enumerate(runs):

        def report(step: int, before: int = position) -> None:
            if progress is not None:
                progress((before + step / steps) / len(runs))

        yield judged(problem, run(problem, optimizer, steps=steps, start=start, seed=its_seed, progress=report))
        report(steps)


def judged(problem: LeastSquares, trajectory: Trajectory) -> Outcome:
    """The verdict on a run, and the numbers it rests on.

    A run counts as converged when what separates it from the minimiser nearest to where it is, is below the square
    root of machine epsilon of the way it has come: half of all digits agree, far more than the verdicts need.
    """
    optimizer, w0, w = trajectory.optimizer, trajectory.w0, trajectory.w
    full_batch = optimizer.batch is None
    formula = closed_form(problem, optimizer, w0)
    known = optimizer.rule.stability_limit(curvature(problem, optimizer))
    above_limit = full_batch and known is not None and optimizer.rate is not None and optimizer.rate > known
    stability_limit = known if full_batch or isinstance(optimizer.rule, Gradient) else None
    if trajectory.ended == "overflow" or (above_limit and trajectory.loss > trajectory.losses[0]):
        return Outcome(trajectory, Verdict.DIVERGED, None, None, None, None, formula, None, stability_limit)

    nearest = problem.nearest_solution(w0)
    moved = float(np.linalg.norm(w - w0))
    needed = float(np.linalg.norm(nearest - w0))
    one_minimiser = has_one_minimiser(problem)
    ratio = None
    if moved > 0 and not one_minimiser:
        ratio = problem.row_space_distance(w - w0) / (moved * _EPS * max(problem.n, problem.d))
    left_to_go = float(np.linalg.norm(problem.nearest_solution(w) - w))
    converged = left_to_go <= math.sqrt(_EPS) * max(moved, needed)
    return Outcome(
        trajectory=trajectory,
        verdict=_verdict(problem, trajectory, converged, ratio),
        row_space_ratio=ratio,
        norm_ratio=moved / needed if needed > 0 else None,
        distance_to_nearest=float(np.linalg.norm(w - nearest)),
        distance_to_minimum_norm=float(np.linalg.norm(w - problem.minimum_norm_solution())),
        closed_form=formula,
        distance_to_closed_form=None if formula is None else float(np.linalg.norm(w - formula.w)),
        stability_limit=stability_limit,
    )


def _verdict(problem: LeastSquares, trajectory: Trajectory, converged: bool, ratio: float | None) -> Verdict:
    if trajectory.steps == 0:
        return Verdict.ALREADY
    if has_one_minimiser(problem):
        if not converged:
            return Verdict.NOT_CONVERGED
        return Verdict.UNIQUE if problem.l2 > 0 or interpolates(problem) else Verdict.NO_INTERPOLATION
    inside = ratio is None or ratio < _INSIDE
    if not converged:
        return Verdict.STILL_INSIDE if inside else Verdict.STILL_OUTSIDE
    if not inside:
        return Verdict.LEFT
    return Verdict.NEAREST if trajectory.w0.any() else Verdict.MINIMUM_NORM


@dataclass(frozen=True, eq=False)
class Limits(Result):
    """Where each optimizer ended up.

    Attributes:
        problem: what was minimised.
        start: the first weights w0, `(d,)`.
        outcomes: one for each run, in the order asked for.
    """

    problem: LeastSquares
    start: Vector
    outcomes: tuple[Outcome, ...]

    @cached_property
    def nearest(self) -> Vector:
        """The minimiser nearest to the start, `(d,)`; of least norm where the start is zero."""
        return self.problem.nearest_solution(self.start)

    def table(self) -> Table:
        """One row for each run: where it landed, the numbers, the verdict."""
        problem, several_seeds = self.problem, len({outcome.name for outcome in self.outcomes}) < len(self.outcomes)
        shows_weights = problem.d <= 3
        columns = ["optimizer", *["seed"] * several_seeds, *["lands at"] * shows_weights]
        columns += ["loss", "row-space ratio", "norm ratio", "distance from w*", "steps", "verdict"]
        rows: list[list[Cell]] = []
        for outcome in self.outcomes:
            run = outcome.trajectory
            row: list[Cell] = [outcome.name, *[run.seed] * several_seeds, *[_point(run.w)] * shows_weights]
            row += [run.loss, outcome.row_space_ratio, outcome.norm_ratio, outcome.distance_to_nearest]
            rows.append([*row, run.steps, outcome.verdict.value])
        size = f"{_counted(problem.n, 'example')} x {_counted(problem.d, 'feature')}"
        title = f"Where each optimizer ends up: {size}, rank {problem.rank:,}"
        return Table(title, columns, rows, self._notes())

    def _notes(self) -> list[str]:
        which = "nearest to the start" if self.start.any() else "of least norm"
        if has_one_minimiser(self.problem):
            kind = "the only minimiser of the loss"
        elif interpolates(self.problem):
            kind = f"the solution {which}"
        else:
            kind = f"the minimiser {which}; no weights fit every example"
        place = (
            f" = {_point(self.nearest)}" if self.problem.d <= 3 else f", of norm {np.linalg.norm(self.nearest):.6g},"
        )
        notes = [f"w*{place} is {kind}."]
        if any(outcome.row_space_ratio is not None for outcome in self.outcomes):
            notes.append(
                "Row-space ratio: the part of w - w0 outside the row space of X, in units of rounding; "
                "below 30 there is only rounding in it."
            )
        return notes + [note for outcome in self.outcomes for note in self._remarks(outcome)]

    def _remarks(self, outcome: Outcome) -> Iterator[str]:
        """What a reader of the table could not guess about one run."""
        optimizer, limit = outcome.trajectory.optimizer, outcome.stability_limit
        if limit is not None and optimizer.rate is not None and optimizer.rate > limit:
            consequence = "it diverges in the long run" if optimizer.batch is None else "its steps can move away"
            rate = f"its rate {optimizer.rate:.6g} is above the stability limit {limit:.6g}"
            yield f"{outcome.name}: {rate}: {consequence}."
        elif outcome.verdict in (Verdict.STILL_INSIDE, Verdict.STILL_OUTSIDE, Verdict.NOT_CONVERGED):
            if optimizer.batch is not None and not interpolates(self.problem):
                yield f"{outcome.name}: no weights fit every example, so small batches at a constant rate keep moving."
            else:
                yield f"{outcome.name}: not converged after {outcome.trajectory.steps:,} steps; allow more."
        stayed = outcome.verdict in (Verdict.MINIMUM_NORM, Verdict.NEAREST)
        if stayed and not optimizer.rule.keeps_row_space:
            yield f"{outcome.name}: scales every coordinate, but stays in the row space here (exception of fact F1.6)."

    def settings_table(self) -> Table:
        """How each run was made, and what a formula says of it."""
        rows: list[list[Cell]] = [
            [
                outcome.name,
                outcome.trajectory.optimizer.rate,
                outcome.stability_limit,
                _settings_text(outcome.trajectory.optimizer),
                outcome.closed_form.name if outcome.closed_form else "none known",
                outcome.distance_to_closed_form,
            ]
            for outcome in self.outcomes
        ]
        columns = ("optimizer", "rate", "stability limit", "settings", "limit by formula", "distance from it")
        return Table("How they were run", columns, rows)

    def tables(self) -> list[Table]:
        """Where each run ended, and how it was made."""
        return [self.table(), self.settings_table()]

    def to_dict(self) -> dict[str, Any]:
        """Keys `n`, `d`, `rank`, `start`, `minimum_norm`, `nearest` and `optimizers`, one entry for each run.

        An entry has `name`, `verdict`, `loss`, `steps`, `norm_ratio`, `row_space_ratio`, `distance_to_minimum_norm`,
        `distance_to_nearest`, `limit` (the last weights), `closed_form` (`name` and `distance`, or null),
        `stability_limit` and `settings`. Weights are null where there are more than 1000.
        """
        problem = self.problem

        def weights(w: Vector) -> Vector | None:
            return w if problem.d <= _MOST_WEIGHTS_PRINTED else None

        entries = []
        for outcome in self.outcomes:
            formula = outcome.closed_form
            settings = outcome.settings()
            if "P" in settings:
                settings["P"] = weights(settings["P"])
            entries.append(
                {
                    "name": outcome.name,
                    "verdict": outcome.verdict.value,
                    "loss": outcome.trajectory.loss,
                    "steps": outcome.trajectory.steps,
                    "norm_ratio": outcome.norm_ratio,
                    "row_space_ratio": outcome.row_space_ratio,
                    "distance_to_minimum_norm": outcome.distance_to_minimum_norm,
                    "distance_to_nearest": outcome.distance_to_nearest,
                    "limit": weights(outcome.w),
                    "closed_form": formula and {"name": formula.name, "distance": outcome.distance_to_closed_form},
                    "stability_limit": outcome.stability_limit,
                    "settings": settings,
                }
            )
        return {
            "n": problem.n,
            "d": problem.d,
            "rank": problem.rank,
            "start": weights(self.start),
            "minimum_norm": weights(problem.minimum_norm_solution()),
            "nearest": weights(self.nearest),
            "optimizers": entries,
        }

    def figure(self) -> go.Figure:
        """For two features the plane itself; otherwise how far each run went, and how far out of the row space."""
        from thalweg.implicit_bias.picture import numbers, plane

        return plane(self) if self.problem.d == 2 else numbers(self)

    def figures(self) -> list[go.Figure]:
        """The main figure, and the losses on the way."""
        from thalweg.implicit_bias.picture import losses

        return [self.figure(), losses(self)]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _point(w: Vector) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in w) + ")"


def _settings_text(optimizer: Optimizer) -> str:
    settings = optimizer.settings()
    parts = []
    if optimizer.batch is not None:
        order = "drawn from all" if optimizer.replacement else "in a new order each pass"
        parts.append(f"batch {optimizer.batch}, {order}")
    if optimizer.final_rate != 1:
        parts.append(f"rate falls to {optimizer.final_rate:g} of it")
    shared = ("rate", "final_rate", "batch", "replacement", "P")
    parts += [f"{name} {value:g}" for name, value in settings.items() if name not in shared]
    return "; ".join(parts)

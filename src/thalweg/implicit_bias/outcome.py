"""The verdict on one run, and the numbers that prove it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from thalweg.implicit_bias.closed_form import ClosedForm, closed_form, has_one_minimiser, known_limits
from thalweg.implicit_bias.rules import Gradient
from thalweg.implicit_bias.trajectories import Trajectory, curvature, interpolates, precision
from thalweg.least_squares import LeastSquares, Vector

_INSIDE = 30.0  # LAPACK's threshold for "nothing but rounding" in its own tests


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
        row_space_ratio: the distance of `w - w0` from the row space of X, divided by the norm of `w - w0` or of w0,
            whichever is larger, the machine epsilon (of X or of the run, whichever is larger) and the larger of n and
            d: below 30 there is nothing but rounding in it, as in LAPACK's test `dqrt14`. What rounding can have moved
            over a long run counts with the norm. None where X has rank d and the row space is everything, and where
            nothing moved or all diverged.
        norm_ratio: `||w - w0||` divided by that of the nearest minimiser: 1 is the shortest way. None where the
            start is a minimiser, or the run diverged.
        distance_to_nearest: `||w - w_nearest||` from the minimiser nearest to the start; None where it diverged.
        distance_to_minimum_norm: the same from the minimiser of least norm; equal where the start is zero.
        closed_form: the limit that a formula predicts, where one is known; elsewhere the first of those known that the
            run has reached all the same, if any.
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
        run = self.trajectory
        return {**run.optimizer.settings(), "seed": run.seed, "precision": run.precision}


def judged(problem: LeastSquares, trajectory: Trajectory) -> Outcome:
    """The verdict on a run, and the numbers it rests on.

    A run counts as converged when what separates it from the minimiser nearest to where it is, is below the square
    root of machine epsilon of the way it has come: half of all digits agree, far more than the verdicts need.
    """
    optimizer, w0, w = trajectory.optimizer, trajectory.w0, trajectory.w
    full_batch = optimizer.batch is None
    formula = closed_form(problem, optimizer, w0)
    if formula is None and trajectory.ended != "overflow":
        formula = _reached(problem, trajectory)
    known = optimizer.rule.stability_limit(curvature(problem, optimizer))
    above_limit = full_batch and known is not None and optimizer.rate is not None and optimizer.rate > known
    stability_limit = known if full_batch or isinstance(optimizer.rule, Gradient) else None
    if trajectory.ended == "overflow" or (above_limit and trajectory.loss > trajectory.losses[0]):
        return Outcome(trajectory, Verdict.DIVERGED, None, None, None, None, formula, None, stability_limit)

    nearest = problem.nearest_solution(w0)
    moved = float(np.linalg.norm(w - w0))
    needed = float(np.linalg.norm(nearest - w0))
    size, longest = max(problem.n, problem.d), max(moved, float(np.linalg.norm(w0)))
    ratio = None
    if moved > 0 and not has_one_minimiser(problem):
        eps = max(precision(problem), trajectory.eps)
        scale = longest + _drift(problem, trajectory) + _moved_by_rounding(problem, trajectory)
        ratio = float(problem.row_space_distance(w - w0) / (eps * size * scale))
    left_to_go = float(np.linalg.norm(problem.nearest_solution(w) - w))
    converged = left_to_go <= max(math.sqrt(trajectory.eps) * max(moved, needed), trajectory.eps * size * longest)
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


def _reached(problem: LeastSquares, trajectory: Trajectory) -> ClosedForm | None:
    """The first of the known limits that a run has come to as near as a verdict asks for; None for none of them."""
    w0, w = trajectory.w0, trajectory.w
    near = math.sqrt(trajectory.eps) * float(np.linalg.norm(w - w0))
    reached = (known for known in known_limits(problem, w0) if float(np.linalg.norm(w - known.w)) <= near)
    return next(reached, None)


def _drift(problem: LeastSquares, trajectory: Trajectory) -> float:
    """What the rounding of the weights can have added up to over a run, as a length that counts with the way.

    Every step rounds each weight by up to half a unit, often the same way for long, so that slow runs drift. The length
    is such that a drift of half a unit of the longest weights in every step makes a ratio of 30. Rules that scale
    coordinates go further in a few steps than a run drifts, so none is counted for them.
    """
    if trajectory.optimizer.rule.keeps_row_space is False:
        return 0.0
    longest = max(float(np.linalg.norm(w)) for w in (trajectory.w0, trajectory.w))
    return trajectory.steps * longest / (2 * _INSIDE * max(problem.n, problem.d))


def _moved_by_rounding(problem: LeastSquares, trajectory: Trajectory) -> float:
    """How far relative errors of size 1 in X can have moved the weights over the run, beyond the way that they went.

    Where weights fit every example the residual, which such errors multiply, dies out, and this is 0. Where it ends at
    r the gradient of every step has an error of about `(2/n) ||X|| ||r||`, in whatever direction.
    """
    if interpolates(problem):
        return 0.0
    optimizer = trajectory.optimizer
    steepest = curvature(problem, optimizer)
    largest, smallest = problem.singular_values[[0, -1]]
    gain = optimizer.rule.error_gain(optimizer.rate or 0.0, steepest, 2 * smallest**2 / problem.n)
    error = steepest * float(np.linalg.norm(problem.residual(problem.minimum_norm_solution()))) / largest
    return float(trajectory.steps * gain * error)


def _verdict(problem: LeastSquares, trajectory: Trajectory, converged: bool, ratio: float | None) -> Verdict:
    if trajectory.steps == 0 and trajectory.ended == "settled":
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

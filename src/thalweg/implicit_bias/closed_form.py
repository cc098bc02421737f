"""Where runs end, as formulas: the limits that are known without running anything.

>>> from thalweg.least_squares import LeastSquares
>>> problem = LeastSquares([[1.0, 2.0]], [3.0])
>>> sign_solution(problem).tolist()
[1.0, 1.0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from thalweg.implicit_bias.rules import (
    AdaGrad,
    Adam,
    AdamW,
    Exponentiated,
    Lion,
    OptaxAdaGrad,
    OptaxTransformation,
    Preconditioned,
    RMSProp,
    Sign,
)
from thalweg.implicit_bias.trajectories import Optimizer, interpolates
from thalweg.least_squares import LeastSquares, Vector

_MOST_NEWTON_STEPS, _NEWTON_DONE = 100, 1e-14
_WATCHED = 1e-8  # the share of the height that a Newton step gains where it might still go too far


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A limit that a formula gives.

    Attributes:
        name: what the limit is.
        w: the weights there, `(d,)`.
    """

    name: str
    w: Vector


def closed_form(problem: LeastSquares, optimizer: Optimizer, start: ArrayLike | None = None) -> ClosedForm | None:
    """The limit of an optimizer where a formula for it is known; None elsewhere.

    Where it assumes something of the optimizer, it assumes what a result should be compared with: a rate at which the
    run converges, and an epsilon that tends to 0.

    Args:
        problem: what is minimised.
        optimizer: how.
        start: the first weights, `(d,)`; zeros for None.
    """
    rule, small_batches = optimizer.rule, optimizer.batch is not None and optimizer.batch < problem.n
    w0 = problem.start(start)
    if isinstance(rule, OptaxTransformation):
        return None
    if small_batches and not interpolates(problem):
        return None  # the batches have no solution in common, so a constant rate has no limit
    if isinstance(rule, AdamW | Lion) and (w0.any() or _binds(problem, rule.weight_decay)):
        return None  # the decay has a say in where they end
    if has_one_minimiser(problem):
        return ClosedForm("only minimiser", problem.minimum_norm_solution())
    if isinstance(rule, Preconditioned):
        return ClosedForm("nearest in the P^-1 norm", preconditioned_solution(problem, rule, w0))
    if isinstance(rule, Exponentiated):
        return ClosedForm("nearest in KL divergence", exponentiated_solution(problem, rule, w0))
    if rule.keeps_row_space:
        name = "nearest solution to the start" if w0.any() else "minimum-norm solution"
        return ClosedForm(name, problem.nearest_solution(w0))
    forgets_lengths = isinstance(rule, Sign | RMSProp | Adam | Lion) or (
        isinstance(rule, AdaGrad) and not isinstance(rule, OptaxAdaGrad) and rule.accumulator == 0
    )
    if forgets_lengths and not small_batches:
        along_signs = sign_solution(problem, w0)
        if along_signs is not None:
            return ClosedForm("equal steps per coordinate", along_signs)
    return None


def _binds(problem: LeastSquares, weight_decay: float) -> bool:
    """Whether decay keeps steps of bounded coordinates from the solutions: they never get beyond 1 / weight_decay.

    Source: S. Xie, Z. Li, "Implicit Bias of AdamW: l-infinity Norm Constrained Optimization" (2024), theorem 1.1.
    """
    largest = max(
        float(np.abs(w).max()) for w in (problem.minimum_norm_solution(), sign_solution(problem)) if w is not None
    )
    return weight_decay * largest >= 1


def known_limits(problem: LeastSquares, start: ArrayLike | None = None) -> list[ClosedForm]:
    """The limits by formula that a run may turn out to have reached, whatever its optimizer."""
    w0 = problem.start(start)
    if has_one_minimiser(problem):
        return [ClosedForm("only minimiser", problem.minimum_norm_solution())]
    name = "nearest solution to the start" if w0.any() else "minimum-norm solution"
    known = [ClosedForm(name, problem.nearest_solution(w0))]
    along_signs = sign_solution(problem, w0)
    if along_signs is not None:
        known.append(ClosedForm("equal steps per coordinate", along_signs))
    return known


def has_one_minimiser(problem: LeastSquares) -> bool:
    """Whether the loss has a single minimiser: X of rank d, or l2 > 0."""
    return problem.l2 > 0 or problem.rank == problem.d


def preconditioned_solution(problem: LeastSquares, rule: Preconditioned, start: ArrayLike | None = None) -> Vector:
    """Of all minimisers the nearest to w0 in the norm `sqrt(v^T P^-1 v)`, `(d,)` (fact F1.6).

    With `P = C C^T` the steps in `u = C^-1 w` are those of plain gradient descent on `X C`, so that the limit is
    `w0 + C (X C)^+ (t - X w0)`; for X of full row rank `w0 + P X^T (X P X^T)^-1 (t - X w0)`.
    """
    w0, C = problem.start(start), rule.factor()
    limit: Vector = w0 + C @ LeastSquares(problem.X @ C, -problem.residual(w0)).minimum_norm_solution()
    return limit


def exponentiated_solution(problem: LeastSquares, rule: Exponentiated, start: ArrayLike | None = None) -> Vector:
    """Of all minimisers the nearest to w0 in the Kullback-Leibler divergence of `w+` and `w-` from theirs, `(d,)`.

    Steps move `theta = arsinh(w / scale)` in the row space of X, so that with an orthonormal basis V of it the limit is
    `scale sinh(theta_0 + V m)` for the m at which V^T of it is that of a minimiser: there the convex function
    `scale sum(cosh(theta_0 + V m)) - m^T V^T w*` is least, which Newton's method finds.
    """
    theta, Vt = np.arcsinh(problem.start(start) / rule.scale), problem.row_space
    wanted = Vt @ problem.minimum_norm_solution() / rule.scale
    m = np.zeros(len(Vt))

    def height(m: Vector) -> float:
        with np.errstate(over="ignore"):
            return float(np.cosh(theta + m @ Vt).sum() - m @ wanted)

    for _ in range(_MOST_NEWTON_STEPS):
        at = theta + m @ Vt
        away = Vt @ np.sinh(at) - wanted
        step = np.linalg.solve((Vt * np.cosh(at)) @ Vt.T, away)
        gain, share = float(away @ step), 1.0
        # Once the gain is lost in the rounding of the height, Newton's steps need no watching.
        while gain > _WATCHED * abs(height(m)) and not height(m - share * step) <= height(m) - share / 4 * gain:
            share /= 2
        m = m - share * step
        if np.linalg.norm(step) <= _NEWTON_DONE * (1 + np.linalg.norm(m)):
            break
    limit: Vector = rule.scale * np.sinh(theta + m @ Vt)
    return limit


def sign_solution(problem: LeastSquares, start: ArrayLike | None = None) -> Vector | None:
    """Where equal steps in every coordinate lead, `(d,)`, where the gradient never changes its signs; None elsewhere.

    Let `u = t - X w0` and `s = sign(X^T u)`. If `X s = c u` for a number c, then steps along s keep the residual
    parallel to u, so that every method whose steps forget the lengths of the gradient's coordinates (AdaGrad from an
    empty accumulator, RMSProp, Adam, the sign method) stays on the line `w0 + r s` and ends at `w0 + s / c`. One
    example always meets the condition: there `s / c = (t - x w0) sign(x) / ||x||_1`.

    Source: A. C. Wilson et al., "The Marginal Value of Adaptive Gradient Methods in Machine Learning" (2017),
    lemma 3.1, for w0 = 0; its proof holds from any start.
    """
    w0 = problem.start(start)
    u = -problem.residual(w0)
    gradient = problem.X.T @ u
    rounding = 30 * max(problem.n, problem.d) * np.finfo(np.float64).eps
    s = np.where(np.abs(gradient) <= rounding * (abs(problem.X).T @ np.abs(u)), 0.0, np.sign(gradient))
    along = problem.X @ s
    c = float(along @ u) / float(u @ u) if u.any() else 0.0
    if c <= 0 or np.linalg.norm(along - c * u) > rounding * np.linalg.norm(along):
        return None
    solution: Vector = w0 + s / c
    return solution

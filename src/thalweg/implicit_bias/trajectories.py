"""Literal runs: each optimizer as its update rule, one step after the other, in NumPy.

A `Rule` turns a gradient into a direction; an `Optimizer` is a rule with the rate, the batches and the schedule it is
run with; `run` runs it. Nothing is compiled or fused, so that what a run shows is what the formula does.

    >>> from thalweg.least_squares import LeastSquares
    >>> problem = LeastSquares([[1.0, 2.0]], [3.0])
    >>> for name in ("gd", "adagrad"):
    ...     print(name, run(problem, prepared(problem, name)).w.round(9).tolist())
    gd [0.6, 1.2]
    adagrad [1.0, 1.0]
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.arrays import checked_count
from thalweg.errors import InputError, unknown_name
from thalweg.implicit_bias.rules import (
    AdaGrad,
    Adam,
    AdamW,
    Exponentiated,
    Gradient,
    HeavyBall,
    Lion,
    Nesterov,
    Normalised,
    OptaxAdaGrad,
    OptaxTransformation,
    Preconditioned,
    RMSProp,
    Rule,
    Scale,
    Sign,
)
from thalweg.least_squares import LeastSquares, Vector

_EPS = float(np.finfo(np.float64).eps)
_DRAWN_AT_ONCE = 100  # batches
_STANDSTILL = 10  # looks without a change that count as an end


Precision: TypeAlias = Literal["float64", "float32"]
End: TypeAlias = Literal["settled", "budget", "overflow", "interrupted"]


@dataclass(frozen=True)
class Optimizer:
    """A rule and how it is run.

    Args:
        name: what tables call it.
        rule: the update rule with its settings.
        rate: the learning rate of the first step; None for the rule's default on the problem at hand, and for an Optax
            transformation, which has its own.
        final_rate: the last step's rate as a share of the first's, approached geometrically over the budget of
            steps. 1 is a constant rate; the methods whose steps do not shrink with the gradient need less.
        batch: how many examples a step sees; None for all.
        replacement: whether every batch is drawn from all examples; otherwise each pass over the data visits every
            example once, in a new random order.
    """

    name: str
    rule: Rule
    rate: float | None = None
    final_rate: float = 1.0
    batch: int | None = None
    replacement: bool = False

    def settings(self) -> dict[str, Any]:
        """Everything a result depends on, by name."""
        return {
            "rate": self.rate,
            "final_rate": self.final_rate,
            "batch": self.batch,
            "replacement": self.replacement,
            **self.rule.settings(),
        }


# Where a rate falls, it falls as far as the weights should be exact, and no faster than the rule can forget.
OPTIMIZERS = {
    "gd": Optimizer("gd", Gradient()),
    "sgd": Optimizer("sgd", Gradient(), batch=1),
    "minibatch": Optimizer("minibatch", Gradient()),
    "minibatch-replacement": Optimizer("minibatch-replacement", Gradient(), replacement=True),
    "momentum": Optimizer("momentum", HeavyBall()),
    "nesterov": Optimizer("nesterov", Nesterov()),
    "adagrad": Optimizer("adagrad", AdaGrad()),
    "optax-adagrad": Optimizer("optax-adagrad", OptaxAdaGrad()),
    "rmsprop": Optimizer("rmsprop", RMSProp(), final_rate=1e-12),
    "adam": Optimizer("adam", Adam(), final_rate=1e-8),
    "adamw": Optimizer("adamw", AdamW(), final_rate=1e-8),
    "sign": Optimizer("sign", Sign(), final_rate=1e-12),
    "lion": Optimizer("lion", Lion(), final_rate=1e-12),
    "normalised": Optimizer("normalised", Normalised(), final_rate=1e-12),
}


def names() -> list[str]:
    """The names of all known optimizers."""
    return [*OPTIMIZERS, "preconditioned", "exponentiated"]


def prepared(
    problem: LeastSquares,
    optimizer: str | Optimizer,
    *,
    start: ArrayLike | None = None,
    rate: float | None = None,
    batch: int | None = None,
    momentum: float | None = None,
) -> Optimizer:
    """An optimizer with everything chosen that the problem chooses: its rate and the size of its batches.

    Args:
        problem: the problem it will be run on.
        optimizer: a known name, or an `Optimizer`, whose own settings stand. `"preconditioned"` divides every
            coordinate by its column's mean square, the diagonal of the Hessian (Jacobi's choice); `"exponentiated"` has
            the way to the nearest minimiser, spread evenly over the coordinates, as its scale.
        start: the first weights, `(d,)`; zeros for None.
        rate: the learning rate in place of the default.
        batch: the number of examples in a step for all but `gd` and `sgd`; None for all examples, and for a quarter
            of them where the name says `minibatch`.
        momentum: that of the names `momentum` and `nesterov`, at least 0 and below 1; None for their default.

    Raises:
        InputError: the name is unknown, or a number is out of its range.
    """
    if isinstance(optimizer, str):
        optimizer = _named(problem, optimizer, start, rate, batch, momentum)
    if optimizer.batch is not None and not 1 <= optimizer.batch <= problem.n:
        raise InputError(f"A batch must hold 1 to {problem.n} examples, but {optimizer.name} has {optimizer.batch}.")
    if isinstance(optimizer.rule, Preconditioned) and len(optimizer.rule.P) != problem.d:
        raise InputError(f"P must have {problem.d} rows, one per column of X, but has {len(optimizer.rule.P)}.")
    if isinstance(optimizer.rule, OptaxTransformation):
        return optimizer
    if optimizer.rate is None:
        farthest = float(np.abs(problem.start(start)).max())
        full_batch = optimizer.batch is None
        scale = Scale(curvature(problem, optimizer), _distance(problem, start), problem.d, full_batch, farthest)
        return dataclasses.replace(optimizer, rate=optimizer.rule.default_rate(scale))
    if not (_is_number(optimizer.rate) and np.isfinite(optimizer.rate) and optimizer.rate > 0):
        raise InputError(
            f"A learning rate must be a finite number above 0, but {optimizer.name} has {optimizer.rate!r}."
        )
    return optimizer


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _distance(problem: LeastSquares, start: ArrayLike | None) -> float:
    """How far the nearest minimiser is from the start; 1 where the start is one."""
    w0 = problem.start(start)
    return float(np.linalg.norm(problem.nearest_solution(w0) - w0)) or 1.0


def _named(
    problem: LeastSquares,
    name: str,
    start: ArrayLike | None,
    rate: float | None,
    batch: int | None,
    momentum: float | None,
) -> Optimizer:
    if name == "preconditioned":
        mean_squares = squares(problem.X).sum(axis=0) / problem.n + problem.l2
        optimizer = Optimizer(name, Preconditioned(1 / np.where(mean_squares > 0, mean_squares, 1.0)))
    elif name == "exponentiated":
        optimizer = Optimizer(name, Exponentiated(_distance(problem, start) / math.sqrt(problem.d)))
    elif name in OPTIMIZERS:
        optimizer = OPTIMIZERS[name]
    else:
        raise unknown_name("optimizer", name, names())
    if momentum is not None and not (_is_number(momentum) and 0 <= momentum < 1):
        raise InputError(f"The momentum must be at least 0 and below 1, but it is {momentum!r}.")
    if momentum is not None and isinstance(optimizer.rule, HeavyBall):
        optimizer = dataclasses.replace(optimizer, rule=dataclasses.replace(optimizer.rule, momentum=momentum))
    if batch is not None:
        batch = checked_count(batch, "batch")
    elif name.startswith("minibatch"):
        batch = max(1, problem.n // 4)
    return dataclasses.replace(optimizer, rate=rate, batch=optimizer.batch if name in ("gd", "sgd") else batch)


def squares(X: Any) -> Any:
    """The squares of the values of X, dense or sparse, in float64."""
    wide = X.astype(np.float64, copy=False)
    return wide * wide


def curvature(problem: LeastSquares, optimizer: Optimizer) -> float:
    """The largest eigenvalue of the Hessian that a step of the optimizer can meet.

    Exact for the full batch. For smaller batches the least of two bounds: that of all examples put into one batch,
    and that of the longest row; below 2 / this bound no step of plain SGD moves away from a common solution.
    """
    X, largest_l2 = problem.X, problem.l2
    if isinstance(optimizer.rule, Preconditioned):
        C = optimizer.rule.factor()
        X, largest_l2 = X @ C, problem.l2 * float(np.linalg.norm(C, 2) ** 2)
        whole = float(np.linalg.norm(X, 2) ** 2)
    else:
        whole = (1 / problem.stability_rate - problem.l2) * problem.n
    if optimizer.batch is None:
        return 2 * (whole / problem.n + largest_l2)
    smallest = optimizer.batch if optimizer.replacement else problem.n % optimizer.batch or optimizer.batch
    longest_row = float(np.max(squares(X).sum(axis=1)))
    return 2 * (min(whole / smallest, longest_row) + largest_l2)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One run.

    Attributes:
        optimizer: as it was run, its rate chosen.
        seed: of the random batches; None where there were none.
        w0: the first weights, `(d,)`.
        w: the last weights, `(d,)`.
        steps: how many steps were taken.
        ended: why: `"settled"`, what is left is rounding; `"budget"`, no step was left; `"overflow"`, the loss is not
            a finite number any more; `"interrupted"`, somebody pressed Ctrl-C.
        loss_steps: the steps at which the loss was noted, `(k,)`: dense at first, then one in a hundred.
        losses: the loss at them, `(k,)`.
        path: for d = 2 the weights at them, `(k, 2)`.
        precision: the arithmetic that it was run in.
    """

    optimizer: Optimizer
    seed: int | None
    w0: Vector
    w: Vector
    steps: int
    ended: End
    loss_steps: NDArray[np.int64]
    losses: Vector
    path: NDArray[np.float64] | None
    precision: Precision = "float64"

    @property
    def eps(self) -> float:
        """The machine epsilon of the arithmetic that it was run in."""
        return float(np.finfo(self.precision).eps)

    @property
    def loss(self) -> float:
        """The last loss."""
        return float(self.losses[-1])


def run(
    problem: LeastSquares,
    optimizer: Optimizer,
    *,
    steps: int = 20_000,
    start: ArrayLike | None = None,
    seed: int = 0,
    precision: Precision = "float64",
    progress: Callable[[int], None] | None = None,
) -> Trajectory:
    """Run an optimizer until what is left of the residual is rounding, or the budget of steps ends.

    Args:
        problem: what to minimise.
        optimizer: a prepared one, with a rate.
        steps: the budget, at least 1.
        start: the first weights, `(d,)`; zeros for None.
        seed: of the random batches.
        precision: of weights, data and state; the losses on the way are float64.
        progress: called with the number of steps done, from time to time.
    """
    assert optimizer.rate is not None, "an optimizer is prepared before it is run"
    rule, decay = optimizer.rule, optimizer.final_rate ** (1 / steps)
    settled = Settled(problem, optimizer, float(np.finfo(precision).eps))
    w0 = problem.start(start)
    # Numbers of Python take on the precision of the arrays that they are multiplied by.
    w, state = w0.astype(precision), tuple(np.asarray(part, precision) for part in rule.begin(problem.d))
    gradient = problem.gradient if precision == "float64" else _single_gradient(problem)
    drawn = batches(problem.n, optimizer, np.random.default_rng(seed))
    check_every = 1 if optimizer.batch is None else -(-problem.n // optimizer.batch)
    notes: list[tuple[int, float, Vector]] = []
    ended: End = "budget"
    step = 0
    overflown = False
    with np.errstate(over="ignore", invalid="ignore"):
        while True:
            at = w.astype(np.float64, copy=False)
            if step % check_every == 0:
                residual = problem.residual(at)
                overflown = not math.isfinite(residual @ residual)
                if overflown or settled(at, residual):
                    ended = "overflow" if overflown else "settled"
            last = ended != "budget" or step == steps
            if last or not notes or step - notes[-1][0] >= step / 100:
                notes.append((step, math.inf if overflown else problem.loss(at), at))
                if progress is not None:
                    progress(step)
            if last:
                break
            after, state = rule.step(w, gradient(w, next(drawn)), state, float(optimizer.rate) * decay**step)
            w = after.astype(precision, copy=False)
            step += 1
    return Trajectory(
        optimizer=optimizer,
        seed=None if optimizer.batch is None else seed,
        w0=w0,
        w=at,
        steps=step,
        ended=ended,
        loss_steps=np.array([note[0] for note in notes]),
        losses=np.array([note[1] for note in notes]),
        path=np.array([note[2] for note in notes]) if problem.d == 2 else None,
        precision=precision,
    )


def _single_gradient(problem: LeastSquares) -> Callable[[Any, NDArray[np.intp] | None], Any]:
    """The gradient of a problem in float32 throughout, as `LeastSquares.gradient` is in float64."""
    X, t = problem.X.astype(np.float32), problem.t.astype(np.float32)

    def gradient(w: Any, rows: NDArray[np.intp] | None) -> Any:
        X_B, t_B = (X, t) if rows is None else (X[rows], t[rows])
        return X_B.T @ (X_B @ w - t_B) * (2 / len(t_B)) + 2 * problem.l2 * w

    return gradient


def drawn_batches(
    n: int, size: int, replacement: bool, generator: np.random.Generator, at_once: int = _DRAWN_AT_ONCE
) -> Iterator[NDArray[np.intp]]:
    """The rows of random batches without end, in blocks `(batches, size)`; -1 fills up the last batch of a pass.

    The batches do not depend on `at_once`, about how many of them a block holds.
    """
    while True:
        if replacement:
            yield generator.integers(n, size=(at_once, size))
        else:
            passes = -(-at_once * size // n)
            orders = generator.permuted(np.tile(np.arange(n), (passes, 1)), axis=1)
            yield np.pad(orders, ((0, 0), (0, -n % size)), constant_values=-1).reshape(-1, size)


def batches(n: int, optimizer: Optimizer, generator: np.random.Generator) -> Iterator[NDArray[np.intp] | None]:
    """The rows of every step, without end; None stands for all of them."""
    if optimizer.batch is None:
        yield from itertools.repeat(None)
    else:
        for block in drawn_batches(n, optimizer.batch, optimizer.replacement, generator):
            yield from (rows[rows >= 0] for rows in block)


class Settled:
    """Whether runs have arrived: the residual, or where no weights fit all examples the gradient, is rounding.

    It has to be so at two looks in a row, because a run with velocity may just be passing. A run at a constant rate
    has also arrived when it has changed no weight for several looks, where it might just be turning.

    Args:
        problem: what the runs minimise.
        optimizer: how.
        eps: the machine epsilon of their arithmetic.
    """

    def __init__(self, problem: LeastSquares, optimizer: Optimizer, eps: float = _EPS) -> None:
        self.problem = problem
        self.interpolates = interpolates(problem)
        # Small batches never arrive where they have no solution in common, though some pass may happen to move nothing.
        self.judged = self.interpolates or optimizer.batch is None
        self.constant_rate = optimizer.final_rate == 1 and not isinstance(optimizer.rule, OptaxTransformation)
        self.eps = eps
        self.norm_X = math.sqrt(squares(problem.X).sum())
        self.norm_t = float(np.linalg.norm(problem.t))
        self.before: Vector | None = None
        self.was_rounding: Any = True
        self.standstill: Any = 0

    def __call__(self, w: Vector, residual: Vector) -> Any:
        """Look at the weights of one run or of several, `(..., d)`, and their residuals, `(..., n)`."""
        if not self.judged:
            return np.zeros(w.shape[:-1], dtype=bool)
        if self.constant_rate and self.before is not None:
            self.standstill = (self.standstill + 1) * (w == self.before).all(axis=-1)
        is_rounding = self._is_rounding(w, residual)
        arrived = (self.standstill == _STANDSTILL) | (is_rounding & self.was_rounding)
        self.before, self.was_rounding = w, is_rounding
        return arrived

    def _is_rounding(self, w: Vector, residual: Vector) -> Any:
        norm_w = _norms(w)
        rounding = self.eps * (self.norm_X * norm_w + self.norm_t)
        if self.interpolates:
            return _norms(residual) <= rounding
        ridge = self.problem.n * self.problem.l2
        half_gradient = residual @ self.problem.X + ridge * w
        return _norms(half_gradient) <= self.norm_X * rounding + self.eps * ridge * norm_w


def _norms(v: Vector) -> Any:
    """The norms along the last axis."""
    return np.sqrt(np.vecdot(v, v))


def interpolates(problem: LeastSquares) -> bool:
    """Whether some weights fit every example, and the loss is made of nothing else.

    Judged at the minimum-norm solution by LAPACK's rule (`dqrt17`): the residual in units of size x rounding is below
    30 where there is nothing but rounding in it.
    """
    if problem.l2 > 0:
        return False
    w = problem.minimum_norm_solution()
    residual = problem.residual(w)
    norm_X = math.sqrt(squares(problem.X).sum())
    scale = norm_X * float(np.linalg.norm(w)) + float(np.linalg.norm(problem.t))
    return float(np.linalg.norm(residual)) <= 30 * max(problem.n, problem.d) * precision(problem) * scale


def precision(problem: LeastSquares) -> float:
    """The machine epsilon of X, in which its rank is judged; what is computed from it is float64 all the same."""
    return float(np.finfo(problem.X.dtype).eps)

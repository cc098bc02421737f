"""Literal runs: each optimizer as its update rule, one step after the other, in float64.

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
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import InputError, unknown_name
from thalweg.least_squares import LeastSquares, Vector

State: TypeAlias = tuple[Any, ...]

_EPS = float(np.finfo(np.float64).eps)
_STANDSTILL = 10  # looks without a change that count as an end


class Scale(NamedTuple):
    """What a rule may take its default rate from.

    Attributes:
        curvature: the largest eigenvalue of the Hessian of any batch, or a bound on it.
        distance: how far the nearest minimiser is from the start; 1 where the start is one.
        d: the number of weights.
        full_batch: whether every step sees every example.
    """

    curvature: float
    distance: float
    d: int
    full_batch: bool


@dataclass(frozen=True)
class Rule:
    """How gradients become directions: `w <- w - rate * direction`, from a state that starts as zeros.

    Its fields are its settings. `keeps_row_space` says whether every direction is a combination of the gradients
    seen so far, so that the run cannot leave `w0 +` the row space of X.
    """

    keeps_row_space: ClassVar[bool] = True

    def begin(self, d: int) -> State:
        """The state before the first step."""
        return ()

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """The direction of the next step `(d,)`, and the state after it."""
        raise NotImplementedError

    def stability_limit(self, curvature: float) -> float | None:
        """The constant rate above which full-batch steps diverge; None where there is no such rate."""
        return None

    def default_rate(self, scale: Scale) -> float:
        """A rate that does not diverge and that scaling X or t does not change the meaning of."""
        raise NotImplementedError


@dataclass(frozen=True)
class Gradient(Rule):
    """The gradient itself: gradient descent, and SGD where batches are smaller."""

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g`."""
        return gradient, state

    def stability_limit(self, curvature: float) -> float:
        """`2 / lambda_max`."""
        return 2 / curvature

    def default_rate(self, scale: Scale) -> float:
        """Half the stability limit."""
        return 1 / scale.curvature


@dataclass(frozen=True)
class Preconditioned(Gradient):
    """The gradient through a fixed positive definite matrix: the solution is the nearest one in the `P^-1` norm.

    Args:
        P: the matrix, `(d, d)`, or its diagonal, `(d,)`.

    Raises:
        InputError: P is not symmetric positive definite.
    """

    P: NDArray[np.float64]
    keeps_row_space: ClassVar[bool] = False

    def __post_init__(self) -> None:
        P = np.asarray(self.P, dtype=np.float64)
        object.__setattr__(self, "P", P)
        symmetric = P.ndim == 1 or (P.ndim == 2 and P.shape[0] == P.shape[1] and np.array_equal(P, P.T))
        if (
            not (symmetric and P.size and np.isfinite(P).all())
            or np.min(P if P.ndim == 1 else np.linalg.eigvalsh(P)) <= 0
        ):
            raise InputError("P must be a symmetric positive definite matrix, or the diagonal of one, all positive.")

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`P g`."""
        return self.P @ gradient if self.P.ndim == 2 else self.P * gradient, state

    def factor(self) -> NDArray[np.float64]:
        """`C (d, d)` with `P = C C^T`: in `u = C^-1 w` the steps are those of plain gradient descent."""
        return np.asarray(
            np.linalg.cholesky(self.P) if self.P.ndim == 2 else np.diag(np.sqrt(self.P)), dtype=np.float64
        )


@dataclass(frozen=True)
class Normalised(Rule):
    """The gradient's direction without its length: steps as long as the rate says, which therefore has to fall."""

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g / ||g||`."""
        length = np.linalg.norm(gradient)
        return gradient / length if length > 0 else gradient, state

    def default_rate(self, scale: Scale) -> float:
        """A tenth of the way to the nearest minimiser."""
        return scale.distance / 10


@dataclass(frozen=True)
class HeavyBall(Rule):
    """Momentum: `v <- momentum v + g`, direction `v` (fact F1.4, whose velocity is `-rate v`)."""

    momentum: float = 0.9

    def begin(self, d: int) -> State:
        """`v = 0`."""
        return (np.zeros(d),)

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`v`."""
        (v,) = state
        v = self.momentum * v + gradient
        return v, (v,)

    def stability_limit(self, curvature: float) -> float:
        """`2 (1 + momentum) / lambda_max`."""
        return 2 * (1 + self.momentum) / curvature

    def default_rate(self, scale: Scale) -> float:
        """That of plain gradient descent; on small batches less, as the velocity adds up many of their steps."""
        return (1 if scale.full_batch else 1 - self.momentum) / scale.curvature


@dataclass(frozen=True)
class Nesterov(HeavyBall):
    """Nesterov's momentum: `v <- momentum v + g`, direction `g + momentum v`.

    The weights are those at which the gradient is taken, `w + momentum s` in the textbook's notation, as in PyTorch
    and Optax; both have the same limit.
    """

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g + momentum v`."""
        v, after = super().direction(gradient, state)
        return gradient + self.momentum * v, after

    def stability_limit(self, curvature: float) -> float:
        """`2 (1 + momentum) / ((1 + 2 momentum) lambda_max)`."""
        return super().stability_limit(curvature) / (1 + 2 * self.momentum)


@dataclass(frozen=True)
class _PerCoordinate(Rule):
    """A rule that scales every coordinate by its own history, and so leaves the row space (facts F1.5, F1.6)."""

    keeps_row_space: ClassVar[bool] = False

    def default_rate(self, scale: Scale) -> float:
        """A tenth of the way to the nearest minimiser, spread evenly over the coordinates."""
        return scale.distance / math.sqrt(scale.d) / 10


@dataclass(frozen=True)
class Sign(_PerCoordinate):
    """The signs of the gradient."""

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`sign(g)`."""
        return np.sign(gradient), state


@dataclass(frozen=True)
class AdaGrad(_PerCoordinate):
    """The textbook's AdaGrad: `G <- G + g^2`, direction `g / (sqrt(G) + epsilon)`, from `G = accumulator`.

    Source: J. Duchi, E. Hazan, Y. Singer (2011); epsilon is PyTorch's default.
    """

    epsilon: float = 1e-10
    accumulator: float = 0.0

    def begin(self, d: int) -> State:
        """`G`."""
        return (np.full(d, self.accumulator),)

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g / (sqrt(G) + epsilon)`."""
        (G,) = state
        G = G + gradient * gradient
        return gradient / (np.sqrt(G) + self.epsilon), (G,)

    def default_rate(self, scale: Scale) -> float:
        """The way to the nearest minimiser, spread evenly over the coordinates: the first step is as long as it."""
        return scale.distance / math.sqrt(scale.d)


@dataclass(frozen=True)
class OptaxAdaGrad(AdaGrad):
    """Optax's AdaGrad, which differs in its defaults and in where epsilon stands: direction `g / sqrt(G + epsilon)`.

    The accumulator of 0.1 remembers a gradient that never was, so the limit is another one.
    """

    epsilon: float = 1e-7
    accumulator: float = 0.1

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g / sqrt(G + epsilon)`."""
        (G,) = state
        G = G + gradient * gradient
        return gradient / np.sqrt(G + self.epsilon), (G,)


@dataclass(frozen=True)
class RMSProp(_PerCoordinate):
    """`G <- decay G + (1 - decay) g^2`, direction `g / (sqrt(G) + epsilon)`."""

    decay: float = 0.9
    epsilon: float = 1e-8

    def begin(self, d: int) -> State:
        """`G = 0`."""
        return (np.zeros(d),)

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g / (sqrt(G) + epsilon)`."""
        (G,) = state
        G = self.decay * G + (1 - self.decay) * gradient * gradient
        return gradient / (np.sqrt(G) + self.epsilon), (G,)


@dataclass(frozen=True)
class Adam(_PerCoordinate):
    """`m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`, both corrected for their start; `m / (sqrt(v) + epsilon)`.

    Source: D. P. Kingma, J. Ba (2015), algorithm 1.
    """

    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8

    def begin(self, d: int) -> State:
        """`m = v = 0`, and the number of steps done."""
        return np.zeros(d), np.zeros(d), 0

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`m_hat / (sqrt(v_hat) + epsilon)`."""
        m, v, count = state
        count += 1
        m = self.b1 * m + (1 - self.b1) * gradient
        v = self.b2 * v + (1 - self.b2) * gradient * gradient
        m_hat = m / (1 - self.b1**count)
        v_hat = v / (1 - self.b2**count)
        return m_hat / (np.sqrt(v_hat) + self.epsilon), (m, v, count)


@dataclass(frozen=True)
class Optimizer:
    """A rule and how it is run.

    Args:
        name: what tables call it.
        rule: the update rule with its settings.
        rate: the learning rate of the first step; None for the rule's default on the problem at hand.
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
            **{field.name: getattr(self.rule, field.name) for field in dataclasses.fields(self.rule)},
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
    "sign": Optimizer("sign", Sign(), final_rate=1e-12),
    "normalised": Optimizer("normalised", Normalised(), final_rate=1e-12),
}


def names() -> list[str]:
    """The names of all known optimizers."""
    return [*OPTIMIZERS, "preconditioned"]


def prepared(
    problem: LeastSquares,
    optimizer: str | Optimizer,
    *,
    start: ArrayLike | None = None,
    rate: float | None = None,
    batch: int | None = None,
) -> Optimizer:
    """An optimizer with everything chosen that the problem chooses: its rate and the size of its batches.

    Args:
        problem: the problem it will be run on.
        optimizer: a known name, or an `Optimizer`, whose own settings stand. `"preconditioned"` divides every
            coordinate by its column's mean square, the diagonal of the Hessian (Jacobi's choice).
        start: the first weights, `(d,)`; zeros for None.
        rate: the learning rate in place of the default.
        batch: the number of examples in a step for all but `gd` and `sgd`; None for all examples, and for a quarter
            of them where the name says `minibatch`.

    Raises:
        InputError: the name is unknown, or a number is out of its range.
    """
    if isinstance(optimizer, str):
        optimizer = _named(problem, optimizer, rate, batch)
    if optimizer.batch is not None and not 1 <= optimizer.batch <= problem.n:
        raise InputError(f"A batch must hold 1 to {problem.n} examples, but {optimizer.name} has {optimizer.batch}.")
    if isinstance(optimizer.rule, Preconditioned) and len(optimizer.rule.P) != problem.d:
        raise InputError(f"P must have {problem.d} rows, one per column of X, but has {len(optimizer.rule.P)}.")
    if optimizer.rate is None:
        w0 = problem.start(start)
        distance = float(np.linalg.norm(problem.nearest_solution(w0) - w0)) or 1.0
        scale = Scale(curvature(problem, optimizer), distance, problem.d, optimizer.batch is None)
        return dataclasses.replace(optimizer, rate=optimizer.rule.default_rate(scale))
    if not (np.isfinite(optimizer.rate) and optimizer.rate > 0):
        raise InputError(f"A learning rate must be a finite number above 0, but {optimizer.name} has {optimizer.rate}.")
    return optimizer


def _named(problem: LeastSquares, name: str, rate: float | None, batch: int | None) -> Optimizer:
    if name == "preconditioned":
        mean_squares = squares(problem.X).sum(axis=0) / problem.n + problem.l2
        optimizer = Optimizer(name, Preconditioned(1 / np.where(mean_squares > 0, mean_squares, 1.0)))
    elif name in OPTIMIZERS:
        optimizer = OPTIMIZERS[name]
    else:
        raise unknown_name("optimizer", name, names())
    if name.startswith("minibatch"):
        batch = batch or max(1, problem.n // 4)
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
            a finite number any more.
        loss_steps: the steps at which the loss was noted, `(k,)`: dense at first, then one in a hundred.
        losses: the loss at them, `(k,)`.
        path: for d = 2 the weights at them, `(k, 2)`.
    """

    optimizer: Optimizer
    seed: int | None
    w0: Vector
    w: Vector
    steps: int
    ended: Literal["settled", "budget", "overflow"]
    loss_steps: NDArray[np.int64]
    losses: Vector
    path: NDArray[np.float64] | None

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
    progress: Callable[[int], None] | None = None,
) -> Trajectory:
    """Run an optimizer until what is left of the residual is rounding, or the budget of steps ends.

    Args:
        problem: what to minimise.
        optimizer: a prepared one, with a rate.
        steps: the budget, at least 1.
        start: the first weights, `(d,)`; zeros for None.
        seed: of the random batches.
        progress: called with the number of steps done, from time to time.
    """
    assert optimizer.rate is not None, "an optimizer is prepared before it is run"
    rule, decay = optimizer.rule, optimizer.final_rate ** (1 / steps)
    settled = _Settled(problem, optimizer)
    w0 = problem.start(start)
    w, state = w0.copy(), rule.begin(problem.d)
    batches = _batches(problem.n, optimizer, np.random.default_rng(seed))
    check_every = 1 if optimizer.batch is None else -(-problem.n // optimizer.batch)
    notes: list[tuple[int, float, Vector]] = []
    ended: Literal["settled", "budget", "overflow"] = "budget"
    step = 0
    with np.errstate(over="ignore", invalid="ignore"):
        while True:
            if step % check_every == 0:
                residual = problem.residual(w)
                overflown = not math.isfinite(residual @ residual)
                if overflown or settled(w, residual):
                    ended = "overflow" if overflown else "settled"
            last = ended != "budget" or step == steps
            if last or not notes or step - notes[-1][0] >= step / 100:
                notes.append((step, problem.loss(w), w))
                if progress is not None:
                    progress(step)
            if last:
                break
            direction, state = rule.direction(problem.gradient(w, next(batches)), state)
            w = w - optimizer.rate * decay**step * direction
            step += 1
    return Trajectory(
        optimizer=optimizer,
        seed=None if optimizer.batch is None else seed,
        w0=w0,
        w=w,
        steps=step,
        ended=ended,
        loss_steps=np.array([note[0] for note in notes]),
        losses=np.array([note[1] for note in notes]),
        path=np.array([note[2] for note in notes]) if problem.d == 2 else None,
    )


def _batches(n: int, optimizer: Optimizer, generator: np.random.Generator) -> Iterator[NDArray[np.intp] | None]:
    """The rows of every step, without end; None stands for all of them."""
    size = optimizer.batch
    while True:
        if size is None:
            yield None
        elif optimizer.replacement:
            yield generator.integers(n, size=size)
        else:
            order = generator.permutation(n)
            yield from (order[first : first + size] for first in range(0, n, size))


class _Settled:
    """Whether a run has arrived: the residual, or where no weights fit all examples the gradient, is rounding.

    It has to be so at two looks in a row, because a run with velocity may just be passing. A run at a constant rate
    has also arrived when it has changed no weight for several looks, where it might just be turning.
    """

    def __init__(self, problem: LeastSquares, optimizer: Optimizer) -> None:
        self.problem = problem
        self.interpolates = interpolates(problem)
        # Small batches keep moving where they have no solution in common, so that only their standstill is an end.
        self.judged = self.interpolates or optimizer.batch is None
        self.constant_rate = optimizer.final_rate == 1
        self.norm_X = math.sqrt(squares(problem.X).sum())
        self.norm_t = float(np.linalg.norm(problem.t))
        self.before: Vector | None = None
        self.was_rounding = True
        self.standstill = 0

    def __call__(self, w: Vector, residual: Vector) -> bool:
        unchanged = self.constant_rate and self.before is not None and np.array_equal(w, self.before)
        self.standstill = self.standstill + 1 if unchanged else 0
        is_rounding = self.judged and self._is_rounding(w, residual)
        arrived = self.standstill == _STANDSTILL or (is_rounding and self.was_rounding)
        self.before, self.was_rounding = w, is_rounding
        return arrived

    def _is_rounding(self, w: Vector, residual: Vector) -> bool:
        norm_w = math.sqrt(w @ w)
        rounding = _EPS * (self.norm_X * norm_w + self.norm_t)
        if self.interpolates:
            return math.sqrt(residual @ residual) <= rounding
        X, ridge = self.problem.X, self.problem.n * self.problem.l2
        half_gradient = X.T @ residual + ridge * w
        return math.sqrt(half_gradient @ half_gradient) <= self.norm_X * rounding + _EPS * ridge * norm_w


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
    return float(np.linalg.norm(residual)) <= 30 * max(problem.n, problem.d) * _EPS * scale

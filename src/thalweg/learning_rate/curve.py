"""Every learning rate of gradient descent on least squares, from one run over the data.

`rates` runs Golub-Kahan bidiagonalisation once and answers for every learning rate and every number of steps: the exact
loss, its derivatives, the best rate for each step. See `thalweg.quadrature` for why one run is enough.

    >>> import thalweg as tw
    >>> curve = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), steps=10)
    >>> curve.loss(0.25, [0, 1, 2])                # the loss after 0, 1 and 2 steps at learning rate 0.25
    array([1.        , 0.28125   , 0.15820313])
    >>> round(curve.best_rate(1), 12), round(curve.stability_rate, 12)
    (0.294117647059, 0.5)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.arrays import checked_count
from thalweg.errors import InputError
from thalweg.least_squares import LeastSquares
from thalweg.quadrature import Measure, measure
from thalweg.report import Result, Table, counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thalweg.learning_rate.generalisation import Generalisation
    from thalweg.learning_rate.momentum import MomentumRates
    from thalweg.learning_rate.path import Path
    from thalweg.learning_rate.schedule import Schedule
    from thalweg.learning_rate.stochastic import StochasticRates

Array = NDArray[np.float64]

MOST_STEPS = 10_000  # finding the nodes of a run takes memory as the square, time as the cube of its steps
_SHOWN_STEPS = 300  # pictures of longer runs leave steps out
_SHOWN_RATES = 200  # the resolution of the surface's picture
_SHOWN_LOSS = 0.5  # in decades above the first loss: all that is worse looks alike in the picture
_MOST_NEWTON_STEPS = 200
_GRID_ENTRIES = 1 << 20  # how many (rate, node) pairs are looked at in one go
_FAINT = 1e-26  # a share of the squared residual below this is rounding as much as data
_DOUBT = (
    "Above the stability limit a loss here grows from a direction in which the residual is too small to know to all "
    "digits; a literal run may differ."
)
_SHARE = 1e-9  # how much of a loss may grow from such a share before we say so


def rates(
    problem: LeastSquares,
    steps: int = 100,
    *,
    start: ArrayLike | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rates:
    """The exact loss of gradient descent for every learning rate and every number of steps up to `steps`.

    The cost is that of one plain gradient-descent run: `steps` products with X and with X^T.

    Args:
        problem: the least-squares problem; with `l2 > 0` the surface has the floor and the null-space part of F2.9.
        steps: the largest number of steps T asked about, at least 1.
        start: the first weights w0, `(d,)`; zeros by default.
        progress: called with the number of products done, 1 to `steps`.

    Raises:
        InputError: steps is not a whole number from 1 to 10,000; start is not finite or not of length d; the start is
            a minimiser already, its residual or its gradient zero, so that every learning rate is optimal.
    """
    if not isinstance(problem, LeastSquares):
        kind = type(problem).__name__
        raise InputError(f"rates needs a LeastSquares problem, but got a {kind}; pass tw.LeastSquares(data.X, data.t).")
    steps = checked_count(steps, "steps", MOST_STEPS)
    w0 = problem.start(start)
    residual, shift = first_residual(problem, w0)
    if not residual.any():
        raise InputError("The first residual X w0 - t is zero: the loss is at its minimum and every rate is optimal.")
    seen = measure(problem.X, residual, steps, shift=shift, progress=progress)
    if not (seen.weights @ seen.nodes) > 0:
        raise InputError("The gradient at the start is zero: the loss is at its minimum and every rate is optimal.")
    return Rates(problem=problem, steps=steps, measure=seen, start=w0)


def first_residual(problem: LeastSquares, w0: Array) -> tuple[Array, float]:
    """The first residual, and the shift c that stands for rows `c I` below X: n times the loss is its squared length.

    A ridge term is more rows of X: `n L(w) = ||[X; c I] w - [t; 0]||^2` with `c^2 = n l2`.
    """
    residual, shift = problem.residual(w0), float(np.sqrt(problem.n * problem.l2))
    return np.concatenate([residual, shift * w0]) if shift else residual, shift


@dataclass(frozen=True, eq=False, repr=False)
class Rates(Result):
    """The answer of `rates`: the surface of the loss over (learning rate, step), and what is best on it.

    Attributes:
        problem: the problem asked about.
        steps: T, the largest number of steps the surface is exact for.
        measure: the nodes and weights that the surface is a sum over.
        start: the first weights w0, `(d,)`.
    """

    problem: LeastSquares = field(repr=False)
    steps: int
    measure: Measure = field(repr=False)
    start: Array = field(repr=False)

    @property
    def n(self) -> int:
        """The number of examples."""
        return self.problem.n

    @property
    def d(self) -> int:
        """The number of features."""
        return self.problem.d

    @property
    def initial_loss(self) -> float:
        """The loss before the first step."""
        return float(self.measure.weights.sum() / self.n)

    @property
    def stability_rate(self) -> float:
        """`2 / lambda_max` of the Hessian, converged to rounding: larger constant rates diverge in the long run."""
        return self.problem.stability_rate

    @cached_property
    def _curvatures(self) -> Array:
        """The Hessian's eigenvalue h of each node: a step multiplies that part of the residual by `1 - rate h`."""
        curvatures = self.measure.nodes * (2 / self.n)
        # The zero node comes out as a few units of rounding, and so does each copy of it.
        curvatures[curvatures <= 8 * np.finfo(np.float64).eps * curvatures[-1]] = 0.0
        return curvatures

    def loss(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The loss after `step` steps at constant learning rate `rate`, exact to rounding.

        Source: fact F2.7, `L_T = (1/n) a^T (I - S)^(2T) a`, integrated by Golub-Kahan quadrature.

        Args:
            rate: learning rates, any shape, at least 0.
            step: numbers of steps, any shape, 0 to `steps`.

        Returns:
            The outer grid, of shape `rate.shape + step.shape`; a float for two scalars; inf where float64 overflows.

        Raises:
            InputError: a rate is negative or not finite; a step is out of range or not an integer.

        Warns:
            RuntimeWarning: a loss grows from a direction that the residual hardly touches.
        """
        with np.errstate(over="ignore"):
            return _scalar(10.0 ** self._log10_loss(rate, step, warn=True))

    def log10_loss(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The decimal logarithm of `loss`, which never overflows; -inf where the loss is exactly zero.

        Raises:
            InputError: as for `loss`.

        Warns:
            RuntimeWarning: a loss grows from a direction that the residual hardly touches.
        """
        return _scalar(self._log10_loss(rate, step, warn=True))

    def _log10_loss(self, rate: ArrayLike, step: ArrayLike, *, warn: bool = False) -> Array:
        grid_rates, grid_steps = self._checked(rate, step)
        logarithm, _, doubtful = self._power_sum(grid_rates, 2 * grid_steps, self.measure.weights / self.n)
        if warn and doubtful:
            warnings.warn(_DOUBT, RuntimeWarning, stacklevel=3)
        decimal: Array = logarithm / np.log(10)
        return decimal

    def _loss(self, rate: ArrayLike, step: ArrayLike) -> Array:
        with np.errstate(over="ignore"):
            losses: Array = 10.0 ** self._log10_loss(rate, step)
        return losses

    def derivative(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """`dL_t / d rate` on the outer grid of `loss` (fact F2.8); +-inf where float64 overflows.

        Raises:
            InputError: as for `loss`.
        """
        grid_rates, grid_steps = self._checked(rate, step)
        coefficients = self.measure.weights / self.n * self._curvatures
        return self._signed(grid_rates, 2 * grid_steps - 1, coefficients, -2.0 * grid_steps)

    def second_derivative(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """`d2L_t / d rate^2 >= 0` on the outer grid of `loss` (fact F2.8); inf where float64 overflows.

        Raises:
            InputError: as for `loss`.
        """
        grid_rates, grid_steps = self._checked(rate, step)
        coefficients = self.measure.weights / self.n * self._curvatures**2
        return self._signed(grid_rates, 2 * grid_steps - 2, coefficients, 2.0 * grid_steps * (2 * grid_steps - 1))

    def best_rate(self, step: ArrayLike) -> Any:
        """The constant learning rate with the least loss after `step` steps, of the shape of `step`.

        It may lie far above `stability_rate` for small steps: few steps cannot diverge far. Where a whole interval of
        rates is best, which takes a loss that rounding cannot tell from its floor, one of them is returned.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        checked = self._checked_steps(step, least=1)
        distinct, inverse = np.unique(checked, return_inverse=True)
        missing = np.array([one for one in distinct.tolist() if one not in self._best], dtype=np.int64)
        rows = max(1, _GRID_ENTRIES // len(self.measure.nodes))
        for first in range(0, len(missing), rows):
            part = missing[first : first + rows]
            self._best.update(zip(part.tolist(), self._minimise(part).tolist(), strict=True))
        best = np.array([self._best[one] for one in distinct.tolist()], dtype=np.float64)
        return _scalar(best[inverse].reshape(checked.shape))

    def best_loss(self, step: ArrayLike) -> Any:
        """The loss after `step` steps at `best_rate(step)`, of the shape of `step`; it need not fall with the step.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        checked = self._checked_steps(step, least=1)
        best = np.asarray(self.best_rate(checked))
        losses = [float(self._loss(rate, one)) for rate, one in zip(best.flat, checked.flat, strict=True)]
        return _scalar(np.array(losses, dtype=np.float64).reshape(checked.shape))

    def best_schedule(self, steps: int | None = None, peak: float | None = None) -> Array:
        """A learning rate for each of `steps` steps, `(steps,)`, in the order to use them; see `schedule_details`.

        Raises:
            InputError: as for `schedule_details`.
        """
        return self.schedule_details(steps, peak).rates

    def schedule_details(
        self, steps: int | None = None, peak: float | None = None, *, momentum: bool = False, precision: str = "float64"
    ) -> Schedule:
        """The best schedule with its predicted loss and peak: see `thalweg.learning_rate.schedule.best_schedule`.

        Raises:
            InputError: steps is not an integer from 1 to `steps`; peak < 1; the precision is unknown.
        """
        from thalweg.learning_rate.schedule import best_schedule

        return best_schedule(self, steps, peak, momentum=momentum, precision=precision)

    @cached_property
    def _best(self) -> dict[int, float]:
        """The best rates found so far, by step."""
        return {}

    def _minimise(self, steps: NDArray[np.int64]) -> Array:
        """The minimiser for each of `steps` `(m,)`, by safeguarded Newton.

        The 2t-th root of the loss, `M(rate) = (sum_k weight_k |1 - rate h_k|^(2t))^(1/(2t))`, is a norm of an affine
        function: convex and, unlike the loss itself, hardly more curved for many steps than for one. Its minimiser
        lies between the rates `1/h` of the largest and the smallest node.
        """
        seen = (self._curvatures > 0) & (self.measure.weights > 0)
        largest = float(self._curvatures[-1])
        # In units of the largest no square of a curvature or a rate overflows.
        h, log_weight = self._curvatures[seen] / largest, np.log(self.measure.weights[seen])
        low: Array = np.full(len(steps), 1 / h[-1])
        high: Array = np.full(len(steps), 1 / h[0])
        power = 2 * steps - 2
        rate: Array = np.sqrt(low * high)
        for _ in range(_MOST_NEWTON_STEPS):
            base = 1 - rate[:, None] * h
            exponent = log_weight + power[:, None] * np.log(np.maximum(np.abs(base), np.finfo(np.float64).tiny))
            # Terms relative to the largest: their sums overflow for no rate and no step, and only ratios are needed.
            terms = np.exp(exponent - exponent.max(axis=1, keepdims=True))
            value = np.sum(terms * base**2, axis=1)
            slope = np.sum(terms * base * h, axis=1)
            curvature = terms @ h**2
            low, high = np.where(slope > 0, rate, low), np.where(slope <= 0, rate, high)
            with np.errstate(divide="ignore", invalid="ignore"):
                proposal = rate + slope / ((power + 1) * (curvature - slope**2 / value))
            inside = (proposal > low) & (proposal < high)
            following: Array = np.where(inside, proposal, np.sqrt(low * high))
            moved = np.abs(following - rate)
            rate = following
            if np.all(moved <= 2 * np.finfo(np.float64).eps * rate):
                break
        best: Array = rate / largest
        return best

    def momentum(self, kind: str = "heavy-ball") -> MomentumRates:
        """The surface over (learning rate, momentum), from the same run: `"heavy-ball"` or `"nesterov"`.

        Raises:
            InputError: there is no such kind.
        """
        from thalweg.learning_rate.momentum import MomentumRates

        return MomentumRates(self, kind)

    def sgd(
        self, batch: ArrayLike | None = None, *, replacement: bool = False, exact: bool | None = None
    ) -> StochasticRates:
        """What stochastic gradient descent can be expected to do: see `thalweg.learning_rate.stochastic.stochastic`.

        Raises:
            InputError: a batch size is not an integer, less than 1, or more than can be drawn without replacement.
        """
        from thalweg.learning_rate.stochastic import stochastic

        return stochastic(self, batch, replacement=replacement, exact=exact)

    def norm(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The norm of the weights `||w_t||` on the outer grid of `loss`; inf where float64 overflows.

        From w0 = 0 it costs no more products with X; from other starts it takes one more run, once.

        Raises:
            InputError: as for `loss`.
        """
        rates, steps = self._checked(rate, step)
        norms = self._path.norms(np.repeat(rates.ravel(), steps.size), np.tile(steps.ravel(), rates.size))
        return _scalar(norms.reshape(rates.shape + steps.shape))

    @cached_property
    def _path(self) -> Path:
        from thalweg.learning_rate.path import path, path_from_zero

        if not self.start.any():
            return path_from_zero(self.measure, self.n)
        return path(self.problem, self.start, self.steps, np.empty((0, self.d)))[0]

    def generalisation(self, X: ArrayLike, t: ArrayLike) -> Generalisation:
        """The loss on test data X, `(m, d)`, and t, `(m,)`: see `thalweg.learning_rate.generalisation.generalisation`.

        Raises:
            InputError: the test data are not finite, not numeric, empty, or not of d features.
        """
        from thalweg.learning_rate.generalisation import generalisation

        return generalisation(self, X, t)

    def _checked_steps(self, step: ArrayLike, least: int) -> NDArray[np.int64]:
        asked = np.asarray(step)
        if asked.dtype.kind not in "iu" and not (asked.dtype.kind == "f" and np.all(asked == np.floor(asked))):
            raise InputError(f"A step must be an integer, but got {step!r}.")
        most = None if self.measure.exhausted else self.steps
        if asked.size and (asked.min() < least or (most is not None and asked.max() > most)):
            raise InputError(
                f"Steps run from {least} to {self.steps} here, but got {asked.min()} to {asked.max()}; "
                "ask rates() for more steps."
            )
        return asked.astype(np.int64)

    def _checked(self, rate: ArrayLike, step: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
        asked = np.asarray(rate)
        if asked.dtype.kind not in "iuf":
            raise InputError(f"A learning rate must be a number, but got {rate!r}.")
        bad = ~(np.isfinite(asked) & (asked >= 0))
        if bad.any():
            raise InputError(f"A learning rate must be finite and at least 0, but got {asked[bad].flat[0]}.")
        return asked.astype(np.float64), self._checked_steps(step, least=0)

    def _power_sum(self, rate: Array, power: NDArray[np.int64], coefficients: Array) -> tuple[Array, Array, bool]:
        """`sum_k coefficients_k (1 - rate h_k)^power` on the outer grid: logarithm of the magnitude, sign, and a doubt.

        Negative powers stand for terms that a derivative has brought to zero and give zero. The doubt is whether a sum
        grows from a coefficient too small to know.
        """
        used = coefficients > 0
        h, c = self._curvatures[used], coefficients[used]
        faint = np.where(c < _FAINT * c.sum(), c, 0.0)
        distinct, position = np.unique(np.maximum(power.ravel(), 0), return_inverse=True)
        total = np.empty((rate.size, distinct.size))
        largest = np.empty((rate.size, 1))
        doubtful = False
        rows = max(1, _GRID_ENTRIES // len(h))
        for first in range(0, rate.size, rows):
            part = slice(first, first + rows)
            base = 1 - rate.reshape(-1, 1)[part] * h
            # Powers relative to the largest never overflow; what underflows is lost beside that one.
            largest[part] = np.abs(base).max(axis=1, keepdims=True)
            relative = base / np.where(largest[part] > 0, largest[part], 1.0)
            reached, terms, ahead = 0, np.ones_like(relative), {0: np.ones_like(relative)}
            for column, exponent in enumerate(distinct.tolist()):
                gap = exponent - reached
                if gap not in ahead:
                    ahead = {gap: relative**gap}
                terms, reached = terms * ahead[gap], exponent
                total[part, column] = terms @ c
                if faint.any():
                    doubtful |= bool(np.any((terms @ faint > _SHARE * total[part, column]) & (largest[part, 0] > 1)))
        with np.errstate(divide="ignore"):
            logarithm = np.log(np.abs(total)) + _times(distinct, largest)
        sign = np.where(power.ravel() < 0, 0.0, np.sign(total)[:, position])
        shape = rate.shape + power.shape
        return logarithm[:, position].reshape(shape), sign.reshape(shape), doubtful

    def _signed(self, rate: Array, power: NDArray[np.int64], coefficients: Array, factor: NDArray[Any]) -> Any:
        logarithm, sign, _ = self._power_sum(rate, power, coefficients)
        with np.errstate(over="ignore"):
            return _scalar(np.where(sign == 0, 0.0, factor * sign * np.exp(np.where(sign == 0, 0.0, logarithm))))

    def shown_steps(self) -> list[int]:
        """The steps that tables and pictures pick: 1, 2, 5, 10, 20, 50, ... and the last."""
        picked = [lead * 10**exponent for exponent in range(len(str(self.steps))) for lead in (1, 2, 5)]
        return [step for step in picked if step < self.steps] + [self.steps]

    def _pictured_steps(self) -> NDArray[np.int64]:
        if self.steps <= _SHOWN_STEPS:
            return np.arange(1, self.steps + 1)
        return np.unique(np.geomspace(1, self.steps, _SHOWN_STEPS).round().astype(np.int64))

    def table(self) -> Table:
        """The best constant rate for some numbers of steps, beside the stability limit and half of it."""
        steps = self.shown_steps()
        limit = self.stability_rate
        best, losses = self.best_rate(steps), self.best_loss(steps)
        half = self._loss(limit / 2, steps)
        rows = [
            (step, float(rate), float(rate / limit), float(loss), float(at_half))
            for step, rate, loss, at_half in zip(steps, best, losses, half, strict=True)
        ]
        return Table(
            f"Best constant learning rate, {counted(self.n, 'example')} x {counted(self.d, 'feature')}",
            ("steps", "best rate", "x stability limit", "loss", "loss at half the limit"),
            rows,
            notes=(f"Loss before training {self.initial_loss:.6g}; stability limit 2/lambda_max = {limit:.6g}.",),
        )

    def figure(self) -> go.Figure:
        """The surface: the loss over learning rate and step, the best rate for each step, the stability limit."""
        import plotly.graph_objects as go

        limit = self.stability_rate
        every = self._pictured_steps()
        best = np.asarray(self.best_rate(every)) / limit
        shown = np.geomspace(0.02, max(2.0, 1.1 * float(best.max())), _SHOWN_RATES)
        relative = self._log10_loss(shown * limit, every).T - np.log10(self.initial_loss)
        figure = go.Figure(
            go.Heatmap(
                x=shown,
                y=every,
                z=np.clip(relative, relative.min(), _SHOWN_LOSS),
                colorscale="Viridis",
                reversescale=True,
                colorbar={"title": {"text": "log10 of loss / first loss", "side": "right"}},
                hovertemplate="%{x:.3g} x stability limit<br>step %{y}<br>log10 %{z:.3f}<extra></extra>",
            )
        )
        figure.add_scatter(
            x=best, y=every, mode="lines", name="best rate for each step", line={"color": "#d62728", "width": 3}
        )
        figure.add_scatter(
            x=[1.0, 1.0],
            y=[1, self.steps],
            mode="lines",
            name="stability limit 2/lambda_max",
            line={"color": "black", "dash": "dash"},
        )
        figure.update_layout(
            title="The loss for every learning rate and every step, from one run",
            template="plotly_white",
            xaxis={"title": "learning rate / stability limit", "type": "log", "dtick": 1},
            yaxis={"title": "steps", "type": "log", "dtick": 1},
            legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
        )
        return figure

    def best_figure(self) -> go.Figure:
        """What the best constant rate reaches after each step, beside half and nine tenths of the stability limit."""
        import plotly.graph_objects as go

        every = self._pictured_steps()
        figure = go.Figure()
        figure.add_scatter(x=every, y=self.best_loss(every), name="best constant rate for that step", mode="lines")
        for share in (0.5, 0.9):
            losses = self._loss(share * self.stability_rate, every)
            figure.add_scatter(x=every, y=losses, name=f"{share:g} x stability limit", mode="lines", line_dash="dot")
        figure.update_layout(
            title="The loss that a constant learning rate can reach",
            template="plotly_white",
            xaxis={"title": "steps", "type": "log"},
            yaxis={"title": "loss", "type": "log"},
        )
        return figure

    def figures(self) -> list[go.Figure]:
        """The surface, and the loss that the best rates reach."""
        return [self.figure(), self.best_figure()]

    def to_dict(self) -> dict[str, Any]:
        """Keys `n`, `d`, `steps`, `initial_loss`, `stability_rate`, and `best_rate` and `best_loss` by step."""
        every = np.arange(1, self.steps + 1)
        return {
            "n": self.n,
            "d": self.d,
            "steps": self.steps,
            "initial_loss": self.initial_loss,
            "stability_rate": self.stability_rate,
            "best_rate": dict(zip(every.tolist(), self.best_rate(every).tolist(), strict=True)),
            "best_loss": dict(zip(every.tolist(), self.best_loss(every).tolist(), strict=True)),
        }


def _times(power: NDArray[np.int64], magnitude: Array | float) -> Array:
    """`power log(magnitude)`, with `0 log(0) = 0`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(power == 0, 0.0, power * np.log(magnitude))


def _scalar(values: Array) -> Any:
    return values if values.ndim else float(values)

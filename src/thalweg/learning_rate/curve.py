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
from thalweg.learning_rate.constant_rates import for_constant_rates
from thalweg.learning_rate.pictures import LIMIT, Course, course_figure, step_surface_figure
from thalweg.learning_rate.spectrum import Spectrum, spectrum_of
from thalweg.learning_rate.surface import PowerSums, best_rates, power_sums, scalar
from thalweg.least_squares import LeastSquares
from thalweg.operators import DOUBLE
from thalweg.quadrature import Measure, Run, shifted
from thalweg.report import Result, Table, counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thalweg.learning_rate.generalisation import Generalisation
    from thalweg.learning_rate.grid import RateGrid
    from thalweg.learning_rate.momentum import MomentumRates
    from thalweg.learning_rate.path import Path
    from thalweg.learning_rate.schedule import Schedule
    from thalweg.learning_rate.stochastic import StochasticRates

Array = NDArray[np.float64]

MOST_STEPS = 10_000  # finding the nodes of a run takes memory as the square of its steps: 1.5 GB for so many
_SHOWN_STEPS = 300  # pictures of longer runs leave steps out
_SHOWN_RATES = 200  # the resolution of the surface's picture
_SMALLEST_SQUARE = 1e-280  # of the first residual: its parts, far smaller than it, must have squares too
_DOUBT = (
    "Above the stability limit a loss here grows from a direction in which the residual is too small to know to all "
    "digits; a literal run may differ."
)


def rates(
    problem: LeastSquares,
    steps: int = 100,
    *,
    start: ArrayLike | None = None,
    whole: bool = False,
    progress: Callable[[int], None] | None = None,
    keep_interrupted: bool = False,
) -> Rates:
    """The exact loss of gradient descent for every learning rate and every number of steps up to `steps`.

    The cost is at most that of one plain gradient-descent run: `steps` products with X and with X^T. For many steps it
    is less, such as 194 products with each for 1,000 steps; see `thalweg.learning_rate.constant_rates`.

    Args:
        problem: the least-squares problem; with `l2 > 0` the surface has the floor and the null-space part of F2.9.
        steps: the largest number of steps T asked about, at least 1.
        start: the first weights w0, `(d,)`; zeros by default.
        whole: whether to make all of the products now. Schedules and momentum need them, and make them if they must.
        progress: called with the number of products done, 1 to `steps`; with `steps` where the rest is not needed.
        keep_interrupted: whether Ctrl-C, once a step is done, ends the run early with the answer for the steps done,
            which `Rates.steps` counts, instead of a KeyboardInterrupt.

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
    if not residual @ residual > _SMALLEST_SQUARE:
        raise InputError(
            f"The first residual X w0 - t holds nothing larger than {np.abs(residual).max():g}, whose square is lost "
            "in float64; rescale t."
        )
    run = Run(problem.operator, residual, shift)
    seen = for_constant_rates(
        run, steps, problem.operator.size, whole=whole, progress=progress, keep_interrupted=keep_interrupted
    )
    if not (seen.weights @ seen.nodes) > 0:
        raise InputError("The gradient at the start is zero: the loss is at its minimum and every rate is optimal.")
    return Rates(problem=problem, steps=seen.steps, measure=seen, start=w0, run=run)


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
        run: the run over the data, which goes on where schedules or momentum need more of it.
        added: c^2 for a penalty that is not in the run: it stands for rows `c I` below X.
    """

    problem: LeastSquares = field(repr=False)
    steps: int
    measure: Measure = field(repr=False)
    start: Array = field(repr=False)
    run: Run = field(repr=False)
    added: float = field(repr=False, default=0.0)

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
    def spectrum(self) -> Spectrum:
        """The Hessian's eigenvalues as the run sees them, and the loss along each: enough for every constant rate."""
        return spectrum_of(self.measure, self.n)

    @cached_property
    def whole_spectrum(self) -> Spectrum:
        """The same from as many products as steps: what `steps` steps of any method make of the residual."""
        return self._of_whole_run(finely=False)

    @cached_property
    def fine_spectrum(self) -> Spectrum:
        """The whole spectrum with small eigenvalues to the last digits of their roots, which momentum needs."""
        return self._of_whole_run(finely=True)

    def _of_whole_run(self, finely: bool) -> Spectrum:
        self.run.go_on(self.steps)
        return spectrum_of(shifted(self.run.measure(finely=finely), self.added), self.n)

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
        return scalar(self._loss(rate, step, warn=True))

    def log10_loss(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The decimal logarithm of `loss`, which never overflows; -inf where the loss is exactly zero.

        Raises:
            InputError: as for `loss`.

        Warns:
            RuntimeWarning: a loss grows from a direction that the residual hardly touches.
        """
        return scalar(self._log_loss(rate, step, warn=True) / np.log(10))

    def _log_loss(self, rate: ArrayLike, step: ArrayLike, *, warn: bool = False) -> Array:
        grid_rates, grid_steps = self._checked(rate, step)
        logarithm, _, doubtful = self._sums(grid_rates, 2 * grid_steps, self.spectrum.losses)
        if warn and doubtful:
            warnings.warn(_DOUBT, RuntimeWarning, stacklevel=4)
        return logarithm

    def _loss(self, rate: ArrayLike, step: ArrayLike, *, warn: bool = False) -> Array:
        with np.errstate(over="ignore"):
            losses: Array = np.exp(self._log_loss(rate, step, warn=warn))
        return losses

    def derivative(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """`dL_t / d rate` on the outer grid of `loss` (fact F2.8); +-inf where float64 overflows.

        Raises:
            InputError: as for `loss`.
        """
        grid_rates, grid_steps = self._checked(rate, step)
        coefficients = self.spectrum.losses * self.spectrum.curvatures
        return self._signed(grid_rates, 2 * grid_steps - 1, coefficients, -2.0 * grid_steps)

    def second_derivative(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """`d2L_t / d rate^2 >= 0` on the outer grid of `loss` (fact F2.8); inf where float64 overflows.

        Raises:
            InputError: as for `loss`.
        """
        grid_rates, grid_steps = self._checked(rate, step)
        coefficients = self.spectrum.losses * self.spectrum.curvatures**2
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
        self._best.update(zip(missing.tolist(), best_rates(self.spectrum, missing).tolist(), strict=True))
        best = np.array([self._best[one] for one in distinct.tolist()], dtype=np.float64)
        return scalar(best[inverse].reshape(checked.shape))

    def best_loss(self, step: ArrayLike) -> Any:
        """The loss after `step` steps at `best_rate(step)`, of the shape of `step`; it need not fall with the step.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        checked = self._checked_steps(step, least=1)
        best = np.asarray(self.best_rate(checked))
        losses = [float(self._loss(rate, one)) for rate, one in zip(best.flat, checked.flat, strict=True)]
        return scalar(np.array(losses, dtype=np.float64).reshape(checked.shape))

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

    def with_l2(self, l2: float) -> Rates:
        """The answer for another weight of the squared norm, from the same run.

        Along a direction of X with singular value s, `c I` below X makes `s^2 + c^2` of the node `s^2`; of a residual
        that is zero on those rows it leaves the share `s^2 / (s^2 + c^2)` there, and the rest where no rate moves it.

        Raises:
            InputError: l2 is negative or not finite; the run had a penalty already, or did not start from zero.
        """
        if self.problem.l2 or self.start.any():
            raise InputError(
                "Another l2 comes from the same run only where that had none and started from zero; call rates again."
            )
        problem = self.problem.with_l2(l2)
        added = self.n * problem.l2
        return Rates(problem, self.steps, shifted(self.measure, added), self.start, self.run, added)

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
        return scalar(norms.reshape(rates.shape + steps.shape))

    @cached_property
    def _path(self) -> Path:
        from thalweg.learning_rate.path import path, path_from_zero

        if not self.start.any():
            return path_from_zero(self.measure, self.n)
        return path(self.problem, self.start, self.steps, None)[0]

    def generalisation(self, X: ArrayLike, t: ArrayLike) -> Generalisation:
        """The loss on test data X, `(m, d)`, and t, `(m,)`: see `thalweg.learning_rate.generalisation.generalisation`.

        Raises:
            InputError: the test data are not finite, not numeric, empty, or not of d features.
        """
        from thalweg.learning_rate.generalisation import generalisation

        return generalisation(self, X, t)

    def on_grid(self, rates: ArrayLike) -> RateGrid:
        """What some learning rates do, `(m,)`, ascending: see `thalweg.learning_rate.grid.on_grid`.

        Raises:
            InputError: there are none, they do not ascend, or one is negative or not finite.
        """
        from thalweg.learning_rate.grid import on_grid

        return on_grid(self, rates)

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

    def _sums(self, rate: Array, power: NDArray[np.int64], coefficients: Array) -> PowerSums:
        """`sum_k coefficients_k (1 - rate h_k)^power` on the outer grid of rate and power."""
        logarithm, sign, doubtful = power_sums(self.spectrum.curvatures, coefficients, rate.ravel(), power.ravel())
        shape = rate.shape + power.shape
        return PowerSums(logarithm.reshape(shape), sign.reshape(shape), doubtful)

    def _signed(self, rate: Array, power: NDArray[np.int64], coefficients: Array, factor: NDArray[Any]) -> Any:
        logarithm, sign, _ = self._sums(rate, power, coefficients)
        with np.errstate(over="ignore"):
            return scalar(np.where(sign == 0, 0.0, factor * sign * np.exp(np.where(sign == 0, 0.0, logarithm))))

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
            notes=(
                f"Loss before training {self.initial_loss:.6g}; stability limit 2/lambda_max = {limit:.6g}.",
                *([self._less_exact()] if self.problem.operator.epsilon > DOUBLE else []),
            ),
        )

    def _less_exact(self) -> str:
        return (
            "X is multiplied in lower precision than float64 here, so that all of this is less exact: each product is "
            f"off by about {self.problem.operator.epsilon:.1g} of itself."
        )

    def figure(self) -> go.Figure:
        """The surface: the loss over learning rate and step, the best rate for each step, the stability limit."""
        limit = self.stability_rate
        every = self._pictured_steps()
        best = np.asarray(self.best_rate(every)) / limit
        shares = np.geomspace(0.02, max(2.0, 1.1 * float(best.max())), _SHOWN_RATES)
        relative = self._log_loss(shares * limit, every).T / np.log(10) - np.log10(self.initial_loss)
        title = "The loss for every learning rate and every step, from one run"
        figure = step_surface_figure(title, shares, every, relative, best)
        figure.add_scatter(
            x=[1.0, 1.0], y=[1, self.steps], mode="lines", name="stability limit 2/lambda_max", line=LIMIT
        )
        return figure

    def best_figure(self) -> go.Figure:
        """What the best constant rate reaches after each step, beside half and nine tenths of the stability limit."""
        every = self._pictured_steps()
        courses = [Course("best constant rate for that step", self.best_loss(every))]
        for share in (0.5, 0.9):
            losses = self._loss(share * self.stability_rate, every)
            courses.append(Course(f"{share:g} x stability limit", losses, "dot"))
        return course_figure("The loss that a constant learning rate can reach", every, courses)

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

"""What gradient descent on least squares does to test data, for every learning rate and step; when to stop early.

The Golub-Kahan run of `rates` spans the weights too (`thalweg.learning_rate.path`). In one more such run every right
vector meets the test data once, which gives the test loss of every rate and step. It keeps the m x T products of m test
examples with the T right vectors, not the vectors themselves.

    >>> import thalweg as tw
    >>> curve = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), steps=10)
    >>> test = curve.generalisation([[1.0, 0.0], [0.0, 1.0]], [0.4, 0.6])
    >>> test.loss(0.1, [0, 5, 10])                  # learning rate 0.1, after 0, 5 and 10 steps
    array([0.26      , 0.0200..., 0.0060...])
    >>> stop = test.early_stopping()                # the best of all rates and all numbers of steps
    >>> round(stop.rate, 4), stop.step, round(stop.loss, 7)
    (0.3637, 2, 1.77e-05)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.arrays import checked_vector
from thalweg.errors import InputError
from thalweg.learning_rate.curve import Rates
from thalweg.learning_rate.minima import nearest_minima
from thalweg.learning_rate.path import Path, path
from thalweg.learning_rate.pictures import mark, step_surface_figure
from thalweg.learning_rate.surface import scalar
from thalweg.operators import checked_operator
from thalweg.report import Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_SCANNED = 240  # learning rates looked at for the best one of each step
_MINIMA = 4  # of those, refined; the test loss had at most three on the data sets we tried
_SHOWN_RATES = 200  # the resolution of the surface's picture


class Stop(NamedTuple):
    """A learning rate and a number of steps, and the test loss they reach."""

    rate: float
    step: int
    loss: float


def generalisation(curve: Rates, X: Any, t: ArrayLike) -> Generalisation:
    """The loss on test data for every learning rate and every number of steps up to `curve.steps`.

    The cost is that of one more gradient-descent run, with one product of the test data in each step.

    Args:
        curve: the answer for the training data.
        X: the test examples as rows, `(m, d)`, in any form that `LeastSquares` takes.
        t: their targets, `(m,)`.

    Raises:
        InputError: the test data are not finite, not numeric, empty, of different lengths, or not of d features.
    """
    examples = checked_operator(X, name="the test X")
    targets = checked_vector(t, name="the test t", length=examples.shape[0], per="row of the test X")
    problem = curve.problem
    if examples.shape[1] != problem.d:
        raise InputError(f"The test data have {examples.shape[1]} features, but the training data have {problem.d}.")
    way, changes = path(problem, curve.start, curve.steps, examples)
    first = examples.matvec(curve.start) - targets
    moves = np.column_stack([first, changes]) / np.sqrt(len(targets))
    return Generalisation(curve=curve, m=len(targets), path=way, moves=_as_long(moves))


def _as_long(matrix: Array) -> Array:
    """A matrix of as few rows as possible that makes every vector as long as the given one does."""
    triangle = np.asarray(np.linalg.qr(matrix, mode="r"))
    _, s, Vt = np.linalg.svd(triangle, full_matrices=False)
    kept = s > _EPS * s[0]
    shorter: Array = s[kept, None] * Vt[kept]
    return shorter


@dataclass(frozen=True, eq=False, repr=False)
class Generalisation(Result):
    """The test loss for every learning rate and number of steps.

    Attributes:
        curve: the answer for the training data.
        m: the number of test examples.
        path: how the weights move.
        moves: the matrix whose product with `(1, g)` has the test loss as its squared length, for the g of `Path`.
    """

    curve: Rates = field(repr=False)
    m: int
    path: Path = field(repr=False)
    moves: Array = field(repr=False)

    @property
    def steps(self) -> int:
        """The largest number of steps the surface is exact for."""
        return self.curve.steps

    def loss(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The test loss `(1/m) ||X w - t||^2` after `step` steps at constant learning rate `rate`, exact to rounding.

        Args:
            rate: learning rates, any shape, at least 0.
            step: numbers of steps, any shape, 0 to `steps`.

        Returns:
            The outer grid, of shape `rate.shape + step.shape`; a float for two scalars; inf where float64 overflows.

        Raises:
            InputError: a rate is negative or not finite; a step is out of range or not an integer.
        """
        with np.errstate(over="ignore"):
            return scalar(10.0 ** np.asarray(self.log10_loss(rate, step)))

    def log10_loss(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The decimal logarithm of `loss`, which never overflows; -inf where the loss is exactly zero.

        Raises:
            InputError: as for `loss`.
        """
        rates, steps = self.curve._checked(rate, step)
        logarithm = self._log10_losses(np.repeat(rates.ravel(), steps.size), np.tile(steps.ravel(), rates.size))
        return scalar(logarithm.reshape(rates.shape + steps.shape))

    def best_rate(self, step: ArrayLike) -> Any:
        """The constant learning rate with the least test loss after `step` steps, of the shape of `step`.

        Known to about 1e-6 of itself. The test loss can have several minima, some above the stability limit; they are
        looked for on a grid of all rates that can matter.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        steps = self.curve._checked_steps(step, least=1)
        return scalar(self._search(steps.ravel()).reshape(steps.shape))

    def best_loss(self, step: ArrayLike) -> Any:
        """The test loss after `step` steps at `best_rate(step)`, of the shape of `step`.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        steps = self.curve._checked_steps(step, least=1)
        flat = steps.ravel()
        return scalar(10.0 ** self._log10_losses(self._search(flat), flat).reshape(steps.shape))

    def early_stopping(self) -> Stop:
        """Of all learning rates and all numbers of steps from 0 to `steps` those with the least test loss.

        With small rates only their product with the number of steps matters, so that others are often almost as good.
        """
        losses = 10.0 ** self._log10_losses(self._best_rates, np.arange(1, self.steps + 1))
        first = float(self.loss(0.0, 0))
        if not losses.min() < first:
            return Stop(0.0, 0, first)
        best = int(losses.argmin())
        return Stop(float(self._best_rates[best]), best + 1, float(losses[best]))

    @cached_property
    def _best_rates(self) -> Array:
        return self._search(np.arange(1, self.steps + 1))

    def _log10_losses(self, rate: Array, step: NDArray[np.int64]) -> Array:
        """The decimal logarithm of the test loss at points of rate and step, `(p,)` each."""
        logarithm = np.empty(len(rate))
        for part, one, moved, growth in self.path.moved(rate, step):
            residual = np.column_stack([one, moved]) @ self.moves.T
            with np.errstate(divide="ignore"):
                logarithm[part] = (np.log(np.sum(residual**2, axis=1)) + 2 * growth) / np.log(10)
        return logarithm

    def _search(self, steps: NDArray[np.int64]) -> Array:
        """The best rate for each of `steps`, `(s,)`: of the deepest minima on a grid, refined, the deepest."""
        steepest, flattest = self.path.curvatures[-1], self.path.curvatures[self.path.curvatures > 0][0]
        lowest = np.log(0.01 / (steps * steepest))
        scanned = np.linspace(lowest, np.full(len(steps), np.log(2 / flattest)), _SCANNED, axis=1)
        seen = self._log10_losses(np.exp(scanned).ravel(), np.repeat(steps, _SCANNED)).reshape(scanned.shape)
        padded = np.pad(seen, ((0, 0), (1, 1)), constant_values=np.inf)
        is_minimum = (seen <= padded[:, :-2]) & (seen <= padded[:, 2:])
        deepest = np.argsort(np.where(is_minimum, seen, np.inf), axis=1)[:, :_MINIMA]
        several = np.repeat(steps, _MINIMA)

        def log_loss(entries: NDArray[np.intp], log_rate: Array) -> Array:
            return self._log10_losses(np.exp(log_rate), several[entries])

        start = np.take_along_axis(scanned, deepest, axis=1).ravel()
        rates = np.exp(nearest_minima(log_loss, start, coarsest=0.02, finest=1e-4))
        losses = self._log10_losses(rates, several).reshape(-1, _MINIMA)
        best: Array = rates.reshape(-1, _MINIMA)[np.arange(len(steps)), losses.argmin(axis=1)]
        return best

    def table(self) -> Table:
        """The best rate for the test data for some numbers of steps, beside what the best for training does there."""
        steps = self.curve.shown_steps()
        rates, losses = self.best_rate(steps), self.best_loss(steps)
        training = self.curve.best_rate(steps)
        rows = [
            (step, float(rate), float(loss), self.curve.norm(rate, step), float(plain), self.loss(plain, step))
            for step, rate, loss, plain in zip(steps, rates, losses, training, strict=True)
        ]
        stop = self.early_stopping()
        return Table(
            f"Learning rates for {self.m:,} test examples, trained on {self.curve.n:,} of {self.curve.d:,} features",
            ("steps", "best rate", "test loss", "norm of weights", "best rate in training", "its test loss"),
            rows,
            notes=(f"Least test loss {stop.loss:.6g} after {stop.step:,} steps at rate {stop.rate:.6g}.",),
        )

    def figure(self) -> go.Figure:
        """The surface: the test loss over learning rate and step, the best rate for each step, where to stop."""
        limit, stop = self.curve.stability_rate, self.early_stopping()
        every = np.arange(1, self.steps + 1)
        best = self._best_rates / limit
        shares = np.geomspace(0.002, max(2.0, 1.1 * float(best.max())), _SHOWN_RATES)
        relative = np.asarray(self.log10_loss(shares * limit, every)).T - np.log10(self.loss(0.0, 0))
        title = "The test loss for every learning rate and every step"
        figure = step_surface_figure(title, shares, every, relative, best, of="test loss")
        if stop.step:
            mark(figure, "least test loss", stop.rate / limit, stop.step, color="black")
        return figure

    def to_dict(self) -> dict[str, Any]:
        """Keys `m`, `steps`, `early_stopping` (`rate`, `step`, `loss`), and `best_rate` and `best_loss` by step."""
        every = np.arange(1, self.steps + 1)
        losses = 10.0 ** self._log10_losses(self._best_rates, every)
        return {
            "m": self.m,
            "steps": self.steps,
            "early_stopping": self.early_stopping()._asdict(),
            "best_rate": dict(zip(every.tolist(), self._best_rates.tolist(), strict=True)),
            "best_loss": dict(zip(every.tolist(), losses.tolist(), strict=True)),
        }

"""What gradient descent on least squares does to test data and to the norm of the weights, for every rate and step.

The Golub-Kahan run of `rates` also spans the weights: after t steps they are `w0 + V y`, with V the right vectors of
the run and y the same gradient descent on the small bidiagonal matrix B, started from zero,

    y = -||a|| g(B^T B) B^T e_1,        g(s) = (1 - (1 - 2 rate s / n)^t) / s.

So one more run, in which every right vector meets the test data once, gives the test loss of every rate and step. It
keeps the m x T products of m test examples with the T right vectors, not the vectors themselves.

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

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.arrays import checked_matrix, checked_vector
from thalweg.errors import InputError
from thalweg.learning_rate.curve import Rates, _scalar, first_residual
from thalweg.learning_rate.minima import nearest_minima
from thalweg.quadrature import bidiagonalise
from thalweg.report import Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_SCANNED = 240  # learning rates looked at for the best one of each step
_MINIMA = 4  # of those, refined; the test loss had at most three on the data sets we tried
_SHOWN_RATES = 200  # the resolution of the surface's picture
_SHOWN_LOSS = 0.5  # in decades above the first loss: all that is worse looks alike in the picture
_TOGETHER = 1 << 14  # (point, node) entries looked at in one go, so that they stay in the cache
_NEGLIGIBLE = 1e-18  # of the largest amount: such nodes are copies of others


class Stop(NamedTuple):
    """A learning rate and a number of steps, and the test loss they reach."""

    rate: float
    step: int
    loss: float


def generalisation(curve: Rates, X: ArrayLike, t: ArrayLike) -> Generalisation:
    """The loss on test data for every learning rate and every number of steps up to `curve.steps`.

    The cost is that of one more gradient-descent run, with one product of the test data in each step.

    Args:
        curve: the answer for the training data.
        X: the test examples as rows, `(m, d)`.
        t: their targets, `(m,)`.

    Raises:
        InputError: the test data are not finite, not numeric, empty, of different lengths, or not of d features.
    """
    examples = checked_matrix(X, name="the test X")
    targets = checked_vector(t, name="the test t", length=examples.shape[0], per="row of the test X")
    problem = curve.problem
    if examples.shape[1] != problem.d:
        raise InputError(f"The test data have {examples.shape[1]} features, but the training data have {problem.d}.")
    residual, shift = first_residual(problem, curve.start)
    diagonal, below, predictions, along_start = [], [], [], []
    for step in bidiagonalise(problem.X, residual, shift):
        diagonal.append(step.diagonal)
        below.append(step.below)
        predictions.append(np.asarray(examples @ step.right, dtype=np.float64))
        along_start.append(float(step.right @ curve.start))
        if len(diagonal) == curve.steps:
            break
    k = len(diagonal)
    B = np.zeros((k + 1, k))
    B[range(k), range(k)] = diagonal
    B[range(1, k + 1), range(k)] = below
    nodes, vectors = np.linalg.eigh(B.T @ B)
    amounts = -np.linalg.norm(residual) * (vectors.T @ B[0])
    kept = np.abs(amounts) > _NEGLIGIBLE * np.abs(amounts).max()
    vectors, lengths = vectors[:, kept], 2 / problem.n * amounts[kept]
    first = np.asarray(examples @ curve.start, dtype=np.float64) - targets
    moves = np.column_stack([first, np.stack(predictions, axis=1) @ vectors * lengths]) / np.sqrt(len(targets))
    return Generalisation(
        curve=curve,
        m=len(targets),
        curvatures=2 / problem.n * np.maximum(nodes[kept], 0.0),
        moves=_as_long(moves),
        lengths=lengths,
        along_start=np.array(along_start) @ vectors,
    )


def _as_long(matrix: Array) -> Array:
    """A matrix of as few rows as possible that makes every vector as long as the given one does."""
    triangle = np.asarray(np.linalg.qr(matrix, mode="r"))
    _, s, Vt = np.linalg.svd(triangle, full_matrices=False)
    kept = s > _EPS * s[0]
    shorter: Array = s[kept, None] * Vt[kept]
    return shorter


@dataclass(frozen=True, eq=False, repr=False)
class Generalisation(Result):
    """The test loss and the norm of the weights for every learning rate and number of steps.

    Attributes:
        curve: the answer for the training data.
        m: the number of test examples.
        curvatures: the Hessian's eigenvalues as the run sees them, `(k,)`.
        moves: the matrix, of k + 1 columns, whose product with `(1, g)` has the test loss as its squared length, where
            g is `(1 - (1 - rate h)^t) / h` for each curvature h.
        lengths: what times g the weights have moved along each direction, `(k,)`.
        along_start: the first weights along each direction, `(k,)`.
    """

    curve: Rates = field(repr=False)
    m: int
    curvatures: Array = field(repr=False)
    moves: Array = field(repr=False)
    lengths: Array = field(repr=False)
    along_start: Array = field(repr=False)

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
            return _scalar(10.0 ** np.asarray(self.log10_loss(rate, step)))

    def log10_loss(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The decimal logarithm of `loss`, which never overflows; -inf where the loss is exactly zero.

        Raises:
            InputError: as for `loss`.
        """
        return self._on_grid(rate, step, self._log10_losses)

    def norm(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The norm of the weights after `step` steps, on the outer grid of `loss`; inf where float64 overflows.

        Raises:
            InputError: as for `loss`.
        """
        return self._on_grid(rate, step, self._norms)

    def best_rate(self, step: ArrayLike) -> Any:
        """The constant learning rate with the least test loss after `step` steps, of the shape of `step`.

        Known to about 1e-6 of itself. The test loss can have several minima, some above the stability limit; they are
        looked for on a grid of all rates that can matter.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        steps = self.curve._checked_steps(step, least=1)
        return _scalar(self._search(steps.ravel()).reshape(steps.shape))

    def best_loss(self, step: ArrayLike) -> Any:
        """The test loss after `step` steps at `best_rate(step)`, of the shape of `step`.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        steps = self.curve._checked_steps(step, least=1)
        flat = steps.ravel()
        return _scalar(10.0 ** self._log10_losses(self._search(flat), flat).reshape(steps.shape))

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

    def _on_grid(self, rate: ArrayLike, step: ArrayLike, values: Callable[[Array, NDArray[np.int64]], Array]) -> Any:
        rates, steps = self.curve._checked(rate, step)
        at = values(np.repeat(rates.ravel(), steps.size), np.tile(steps.ravel(), rates.size))
        return _scalar(at.reshape(rates.shape + steps.shape))

    def _log10_losses(self, rate: Array, step: NDArray[np.int64]) -> Array:
        """The decimal logarithm of the test loss at points of rate and step, `(p,)` each."""
        logarithm = np.empty(len(rate))
        for part, one, moved, growth in self._moved(rate, step):
            residual = np.column_stack([one, moved]) @ self.moves.T
            with np.errstate(divide="ignore"):
                logarithm[part] = (np.log(np.sum(residual**2, axis=1)) + 2 * growth) / np.log(10)
        return logarithm

    def _norms(self, rate: Array, step: NDArray[np.int64]) -> Array:
        norms = np.empty(len(rate))
        start = self.curve.start
        for part, one, moved, growth in self._moved(rate, step):
            along = moved * self.lengths
            square = one**2 * (start @ start) + 2 * one * (along @ self.along_start) + np.sum(along**2, axis=1)
            with np.errstate(over="ignore"):
                norms[part] = np.sqrt(np.maximum(square, 0.0)) * np.exp(growth)
        return norms

    def _moved(self, rate: Array, step: NDArray[np.int64]) -> Iterator[tuple[slice, Array, Array, Array]]:
        """For blocks of points: their place, 1 and `g = (1 - (1 - rate h)^t) / h`, both over e^growth, and the growth.

        The growth is t times the logarithm of the largest factor of a step, or 0 where no factor is above 1. From
        `g_(a+b) = g_a (1 - rate h)^b + g_b` follows g for any number of steps by doubling, without the cancellation of
        the formula.
        """
        h = self.curvatures
        together = max(1, _TOGETHER // len(h))
        for first in range(0, len(rate), together):
            part = slice(first, first + together)
            factor = 1 - rate[part, None] * h
            largest = np.maximum(np.abs(factor).max(axis=1, keepdims=True), 1.0)
            unit = 1 / largest
            power, gained = factor * unit, np.broadcast_to(rate[part, None] * unit, factor.shape)
            one, moved = np.ones_like(unit), np.zeros_like(factor)
            for bit in range(int(step[part].max(initial=0)).bit_length()):
                taken = np.flatnonzero(step[part] >> bit & 1)
                moved[taken] = moved[taken] * power[taken] + gained[taken] * one[taken]
                one[taken] *= unit[taken]
                gained, power, unit = gained * (power + unit), power**2, unit**2
            yield part, one[:, 0], moved, step[part] * np.log(largest[:, 0])

    def _search(self, steps: NDArray[np.int64]) -> Array:
        """The best rate for each of `steps`, `(s,)`: of the deepest minima on a grid, refined, the deepest."""
        steepest, flattest = self.curvatures[-1], self.curvatures[self.curvatures > 0][0]
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
            (step, float(rate), float(loss), self.norm(rate, step), float(plain), self.loss(plain, step))
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
        import plotly.graph_objects as go

        limit, stop = self.curve.stability_rate, self.early_stopping()
        every = np.arange(1, self.steps + 1)
        best = self._best_rates / limit
        shown = np.geomspace(0.002, max(2.0, 1.1 * float(best.max())), _SHOWN_RATES)
        relative = np.asarray(self.log10_loss(shown * limit, every)).T - np.log10(self.loss(0.0, 0))
        figure = go.Figure(
            go.Heatmap(
                x=shown,
                y=every,
                z=np.clip(relative, relative.min(), _SHOWN_LOSS),
                colorscale="Viridis",
                reversescale=True,
                colorbar={"title": {"text": "log10 of test loss / first test loss", "side": "right"}},
                hovertemplate="%{x:.3g} x stability limit<br>step %{y}<br>log10 %{z:.3f}<extra></extra>",
            )
        )
        figure.add_scatter(
            x=best, y=every, mode="lines", name="best rate for each step", line={"color": "#d62728", "width": 3}
        )
        if stop.step:
            figure.add_scatter(
                x=[stop.rate / limit],
                y=[stop.step],
                mode="markers",
                name="least test loss",
                marker={"color": "black", "size": 12, "symbol": "x"},
            )
        figure.update_layout(
            title="The test loss for every learning rate and every step",
            template="plotly_white",
            xaxis={"title": "learning rate / stability limit", "type": "log", "dtick": 1},
            yaxis={"title": "steps", "type": "log", "dtick": 1},
            legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
        )
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

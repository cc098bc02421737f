"""Stochastic gradient descent on least squares: expected loss, best learning rate and stability for any batch size.

Each step draws b examples afresh, with or without replacement, and follows the gradient of their mean loss. The
expected loss after t steps follows from a recursion of the second moment of the residual
(`thalweg.learning_rate.second_moment`), exactly and for every batch size. Where that would take too long
(`thalweg.learning_rate.stochastic.affordable`) a closure that needs only the spectrum takes its place
(`thalweg.learning_rate.closure`), and literal runs beside it say how far it can be trusted.

Going through shuffled data in epochs, as data loaders do, is another process: there an example is not seen twice before
all have been seen once, which makes the noise of later steps in an epoch depend on earlier ones.

    >>> import thalweg as tw
    >>> curve = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 1.0, 0.0]), steps=10)
    >>> sgd = curve.sgd(batch=[1, 2, 3])
    >>> sgd.stability_rate                          # of mean squares; that of all three examples is 2/lambda_max
    array([0.2..., 0.4..., 0.5...])
    >>> sgd.loss(0.1, 10)                           # the expected loss after 10 steps at learning rate 0.1
    array([0.4098..., 0.3520..., 0.3359...])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import InputError
from thalweg.learning_rate.closure import Closure, closure
from thalweg.learning_rate.coordinates import coordinates
from thalweg.learning_rate.curve import Rates
from thalweg.learning_rate.minima import nearest_minima
from thalweg.learning_rate.second_moment import SecondMoment, step_cost
from thalweg.learning_rate.surface import scalar
from thalweg.report import Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

Array = NDArray[np.float64]

_MOST_WORK = 2000 * 2001**2  # multiplications a step: 2000 examples with as many features or more
_MOST_ENTRIES = 40_000_000  # of the decomposition, 320 MB
_SCANNED = 100  # learning rates that the closure looks at for each batch size
_LEAST_SCANNED = 1e-3  # of them, in units of the stability limit
_RUNS = 16  # literal runs beside an approximation


class Model(Protocol):
    """The exact recursion or the closure."""

    def losses(self, rate: Array, spread: Array, steps: int) -> Array:
        """The expected loss after 0 to `steps` steps, `(p, steps + 1)`, for p pairs of learning rate and spread."""

    def stability_rate(self, spread: float) -> float:
        """The learning rate from which on the expected loss grows for ever."""


def stochastic(
    curve: Rates, batch: int | ArrayLike | None = None, *, replacement: bool = False, exact: bool | None = None
) -> StochasticRates:
    """What stochastic gradient descent with batches of these sizes can be expected to do.

    Args:
        curve: the answer for batches of everything, which knows the problem, the start and the number of steps.
        batch: how many examples a step sees, one size or several; None for 1, 4, 16, ... and all.
        replacement: whether an example can be drawn twice for the same batch.
        exact: whether to use the exact recursion; None for where it is `affordable`.

    Raises:
        InputError: a batch size is not an integer, less than 1, or more than the examples there are to draw without
            replacement; the closure cannot be used (see `thalweg.learning_rate.closure.closure`); the exact recursion
            was asked for of a Dask array or an operator of too many entries to fetch.
    """
    problem, start = curve.problem, curve.start
    sizes = _checked_batch(_default_batches(problem.n) if batch is None else batch, problem.n, replacement)
    if problem.operator.has_entries and affordable(problem.n, problem.d) if exact is None else exact:
        at = coordinates(problem, start, rows=True)
        return StochasticRates(curve, sizes, replacement, guide=Closure(at), exactly=SecondMoment(at))
    return StochasticRates(curve, sizes, replacement, guide=closure(problem, start, curve.measure))


def affordable(n: int, d: int) -> bool:
    """Whether the exact recursion takes no longer than for 2000 examples: always up to these, and for few features."""
    rank = min(n, d)
    return step_cost(n, rank) <= _MOST_WORK and n * (rank + 1) <= _MOST_ENTRIES


@dataclass(frozen=True, eq=False, repr=False)
class StochasticRates(Result):
    """The expected loss of stochastic gradient descent for every learning rate, number of steps and batch size.

    Where several batch sizes were asked for, every answer has a first axis for them.

    Attributes:
        curve: the answer for batches of everything.
        batch: the batch sizes asked about, of the shape they were given in.
        replacement: whether an example can be drawn twice for the same batch.
        guide: the closure, which leads the search for the best rate.
        exactly: the exact recursion; None where it would take too long and the closure gives the answers.
    """

    curve: Rates = field(repr=False)
    batch: NDArray[np.int64]
    replacement: bool
    guide: Closure = field(repr=False)
    exactly: SecondMoment | None = field(repr=False, default=None)

    @property
    def exact(self) -> bool:
        """Whether the answers are exact; otherwise they are mostly within a few per cent for the loss, but can miss the
        stability limit by far where single examples stand out.
        """
        return self.exactly is not None

    @property
    def _model(self) -> Model:
        return self.exactly or self.guide

    @property
    def steps(self) -> int:
        """The largest number of steps that tables and pictures look at."""
        return self.curve.steps

    @cached_property
    def spread(self) -> Array:
        """What the noise of a batch is of that of a single example, of the shape of `batch`: 1/b with replacement,
        (n - b) / (b (n - 1)) without."""
        n, b = self.curve.n, self.batch
        return 1 / b if self.replacement else (n - b) / (b * max(n - 1, 1))

    def loss(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The expected loss after `step` steps at constant learning rate `rate`.

        Source: fact F2.9 with noise; the derivation stands in `thalweg.learning_rate.second_moment`.

        Args:
            rate: learning rates, any shape, at least 0.
            step: numbers of steps, any shape, 0 to `steps`.

        Returns:
            The outer grid, of shape `batch.shape + rate.shape + step.shape`; a float for three scalars; inf where
            float64 overflows.

        Raises:
            InputError: a rate is negative or not finite; a step is out of range or not an integer.
        """
        rates, steps = self.curve._checked(rate, step)
        shape = self.batch.shape + rates.shape + steps.shape
        if not np.prod(shape):
            return np.empty(shape)
        spread, every = (values.ravel() for values in np.meshgrid(self.spread, rates, indexing="ij"))
        losses = self._model.losses(every, spread, int(steps.max()))
        return scalar(losses[:, steps.ravel()].reshape(shape))

    @cached_property
    def stability_rate(self) -> Any:
        """The mean-square stability limit, of the shape of `batch`: the expected loss diverges at larger rates.

        Batches of everything have 2/lambda_max; with less, the noise that the loss itself makes lowers it.
        """
        return scalar(np.array([self._model.stability_rate(f) for f in self.spread.flat]).reshape(self.batch.shape))

    def best_rate(self, step: ArrayLike) -> Any:
        """The constant learning rate with the least expected loss after `step` steps, `batch.shape + step.shape`.

        Known to about 1e-4 of itself, and the loss so to about 1e-8. The minimum is looked for over all rates with the
        closure, and followed with the exact recursion from there.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        return self._best(step, index=0)

    def best_loss(self, step: ArrayLike) -> Any:
        """The expected loss after `step` steps at `best_rate(step)`, of shape `batch.shape + step.shape`.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        return self._best(step, index=1)

    def _best(self, step: ArrayLike, index: int) -> Any:
        steps = self.curve._checked_steps(step, least=1)
        columns = [self._found(one)[index] for one in steps.ravel().tolist()]
        shape = self.batch.shape + steps.shape
        return scalar(np.stack(columns, axis=1).reshape(shape) if columns else np.empty(shape))

    def _found(self, step: int) -> tuple[Array, Array]:
        """The best rates after one number of steps and their losses, one for each batch size, found once."""
        if step not in self._bests:
            self._bests[step] = self._search(step)
        return self._bests[step]

    @cached_property
    def _bests(self) -> dict[int, tuple[Array, Array]]:
        return {}

    def _search(self, step: int) -> tuple[Array, Array]:
        plain = float(self.curve.best_rate(step))
        rate = np.full(self.batch.size, plain)
        loss = np.full(self.batch.size, self.curve.best_loss(step))
        noisy = np.flatnonzero(self.spread)
        if len(noisy):
            spread = self.spread.flat[noisy]
            lowest = [_LEAST_SCANNED * self.guide.stability_rate(f) for f in spread]
            scanned = np.linspace(np.log(lowest), np.log(2 * max(plain, self.curve.stability_rate)), _SCANNED, axis=1)
            seen = self.guide.losses(np.exp(scanned).ravel(), np.repeat(spread, _SCANNED), step)[:, -1]
            log_rate = scanned[np.arange(len(noisy)), seen.reshape(scanned.shape).argmin(axis=1)]
            for model in (self.guide, self.exactly):
                if model is not None:
                    log_rate = nearest_minima(_log_loss(model, spread, step), log_rate, finest=2e-3)
            rate[noisy] = np.exp(log_rate)
            loss[noisy] = self._model.losses(rate[noisy], spread, step)[:, -1]
        return rate, loss

    def literal_runs(self, rate: ArrayLike, step: int, count: int = 16, seed: int = 0) -> Array:
        """The losses that literal runs end with, `batch.shape + (count,)`, to hold beside the expected loss.

        Args:
            rate: one learning rate, or one for each batch size.
            step: the number of steps.
            count: how many runs for each batch size, with batches of their own.
            seed: of the batches.

        Raises:
            InputError: X is a Dask array or an operator of too many entries to fetch.
        """
        problem, generator = self.curve.problem, np.random.default_rng(seed)
        losses = np.empty((self.batch.size, count))
        rates = np.broadcast_to(np.asarray(rate, dtype=np.float64), self.batch.shape).ravel()
        for place, (size, one) in enumerate(zip(self.batch.ravel().tolist(), rates.tolist(), strict=True)):
            for run in range(count):
                w = self.curve.start.copy()
                for _ in range(step):
                    rows = generator.choice(problem.n, size, replace=self.replacement)
                    w -= one * problem.gradient(w, rows)
                losses[place, run] = problem.loss(w)
        return losses.reshape(*self.batch.shape, count)

    def table(self) -> Table:
        """For each batch size the stability limit, the best rate for all the steps, and the loss to expect."""
        limit, rate, loss = (
            np.ravel(values) for values in (self.stability_rate, self.best_rate(self.steps), self.best_loss(self.steps))
        )
        full = self.curve.stability_rate
        columns = ["batch size", "stability limit", "x that of all", "best rate", "expected loss"]
        rows = [
            list(row)
            for row in zip(
                self.batch.ravel().tolist(), *(c.tolist() for c in (limit, limit / full, rate, loss)), strict=True
            )
        ]
        notes = [f"Batches are drawn {'with' if self.replacement else 'without'} replacement, afresh for every step."]
        if not self.exact and not self.curve.problem.operator.has_entries:
            notes.append(
                "Approximate, and not checked by literal runs, because the rows of X cannot be fetched; the stability "
                "limit is an estimate and too high where single examples stand out."
            )
        elif not self.exact:
            runs = np.atleast_2d(self._checks)
            columns += [f"mean of {runs.shape[-1]} literal runs", "its standard error"]
            for row, losses in zip(rows, runs.reshape(len(rows), -1), strict=True):
                row += [float(losses.mean()), float(losses.std(ddof=1) / np.sqrt(losses.size))]
            notes.append(
                "Approximate: the exact recursion would take too long here. The loss was checked by literal runs; the "
                "stability limit is an estimate and too high where single examples stand out."
            )
        examples = f"{self.curve.n:,} examples x {self.curve.d:,} features"
        return Table(f"{self.steps:,} steps of stochastic gradient descent, {examples}", columns, rows, notes)

    @cached_property
    def _checks(self) -> Array:
        return self.literal_runs(self.best_rate(self.steps), self.steps, _RUNS)

    def figure(self) -> go.Figure:
        """The best rate for all the steps and the stability limit, over the batch size."""
        import plotly.graph_objects as go

        sizes = self.batch.ravel()
        order = np.argsort(sizes)
        figure = go.Figure()
        for name, values, dash in (
            (f"best rate for {self.steps:,} steps", self.best_rate(self.steps), "solid"),
            ("stability limit", self.stability_rate, "dash"),
        ):
            figure.add_scatter(
                x=sizes[order], y=np.ravel(values)[order], name=name, mode="lines+markers", line_dash=dash
            )
        figure.update_layout(
            title="Learning rates of stochastic gradient descent",
            template="plotly_white",
            xaxis={"title": "batch size", "type": "log"},
            yaxis={"title": "learning rate", "type": "log"},
        )
        return figure

    def loss_figure(self) -> go.Figure:
        """The expected loss after each step, for each batch size at its best rate for all the steps."""
        import plotly.graph_objects as go

        rate = np.ravel(self.best_rate(self.steps))
        losses = self._model.losses(rate, self.spread.ravel(), self.steps)
        figure = go.Figure()
        for size, course in zip(self.batch.ravel().tolist(), losses, strict=True):
            figure.add_scatter(x=np.arange(self.steps + 1), y=course, name=f"batch size {size:,}", mode="lines")
        figure.update_layout(
            title=f"The loss to expect, at the best rate for {self.steps:,} steps",
            template="plotly_white",
            xaxis={"title": "step"},
            yaxis={"title": "expected loss", "type": "log"},
        )
        return figure

    def figures(self) -> list[go.Figure]:
        """The rates, and the losses they lead to."""
        return [self.figure(), self.loss_figure()]

    def to_dict(self) -> dict[str, Any]:
        """Keys `n`, `d`, `steps`, `replacement`, `exact`; `stability_rate`, `best_rate`, `best_loss` by batch size."""
        sizes = self.batch.ravel().tolist()
        by_size = {
            name: dict(zip(sizes, np.ravel(values).tolist(), strict=True))
            for name, values in (
                ("stability_rate", self.stability_rate),
                ("best_rate", self.best_rate(self.steps)),
                ("best_loss", self.best_loss(self.steps)),
            )
        }
        return {
            "n": self.curve.n,
            "d": self.curve.d,
            "steps": self.steps,
            "replacement": self.replacement,
            "exact": self.exact,
            **by_size,
        }


def _log_loss(model: Model, spread: Array, step: int) -> Callable[[NDArray[np.intp], Array], Array]:
    """The logarithm of the loss after `step` steps over that of the rate, for chosen entries of `spread`."""
    return lambda entries, log_rate: np.log(model.losses(np.exp(log_rate), spread[entries], step)[:, -1])


def _default_batches(n: int) -> list[int]:
    sizes = [4**power for power in range(n.bit_length()) if 4**power < n]
    return [*sizes, n]


def _checked_batch(batch: ArrayLike, n: int, replacement: bool) -> NDArray[np.int64]:
    sizes = np.asarray(batch)
    if sizes.dtype.kind not in "iu" or not sizes.size:
        raise InputError(f"A batch size must be an integer, but got {batch!r}.")
    if sizes.min() < 1:
        raise InputError(f"A batch size must be at least 1, but got {sizes.min()}.")
    if not replacement and sizes.max() > n:
        raise InputError(
            f"A batch of {sizes.max():,} cannot be drawn from {n:,} examples without replacement; ask for at most "
            f"{n:,}, or for replacement=True."
        )
    return sizes.astype(np.int64)

"""Learning rates of a network: what its linearisation predicts, beside what literal gradient steps measure.

A network near some weights is a least-squares problem (see `thalweg.learning_rate.gauss_newton`), and of those we know
every learning rate from one run. How long that stays true is the network's own affair, so nothing here is only
predicted. A forecast opens the question, from the network linearised at the weights as they are; for five steps and
more it is made again in the middle of the run that it proposed. Literal runs then decide: the rate recommended for
each number of steps is the best of them, and what the network, linearised anew every five steps of that run, says of it
stands beside.

    >>> import jax.numpy as jnp, optax
    >>> from thalweg.learning_rate.gauss_newton import network_of
    >>> from thalweg.training import Training
    >>> network = network_of(Training(
    ...     loss=lambda w, batch, hyper: jnp.mean((jnp.tanh(w) - batch) ** 2),
    ...     init=lambda key: jnp.zeros(()),
    ...     batches=lambda key: jnp.full((1, 4), 0.1),
    ...     optimizer=lambda hyper: optax.sgd(0.1),
    ...     predict=lambda w, batch, hyper: jnp.tanh(w),
    ...     criterion=lambda outputs, batch: jnp.mean((outputs - batch) ** 2),
    ... ))
    >>> answer = forecast(network, steps=1)
    >>> round(answer.best_rate(1), 6), round(answer.measured(1) / answer.predicted(1), 3)
    (0.5, 1.0)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.arrays import checked_count
from thalweg.errors import InputError
from thalweg.learning_rate.gauss_newton import Network
from thalweg.learning_rate.lanczos import largest_eigenvalue
from thalweg.learning_rate.linearised import Linearisation, linearised
from thalweg.learning_rate.measured import MOST_RUNS, Runs
from thalweg.report import Result, Table, counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

Vector = NDArray[np.float64]

MOST_STEPS = 1000
_FRESH = 5  # a linearisation serves fewer steps than this, or this many with its middle in the middle
_ROUNDS = 2  # of proposing a rate and linearising in the middle of its run
_TRUSTED = 0.2  # how far a prediction may be from the measured decrease, as a share of it, to be trusted
_SHOWN_RATES = 120
_SHOWN_STEPS = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500)


class Forecast(NamedTuple):
    """What was predicted before any step for some number of steps, and what literal steps made of it.

    Attributes:
        rate: the best learning rate, as predicted.
        predicted: the decrease of the loss that was predicted for it.
        measured: the decrease that literal steps at this rate reached; -inf where they diverged.
    """

    rate: float
    predicted: float
    measured: float


def forecast(
    network: Network,
    steps: int = 5,
    *,
    progress: Callable[[int], None] | None = None,
    keep_interrupted: bool = False,
) -> NetworkRates:
    """The best constant learning rates of a network for 1, ..., `steps` steps of gradient descent.

    Args:
        network: the network with its data.
        steps: the largest number of steps asked about, at least 1.
        progress: called with the percentage of the work that is done.
        keep_interrupted: whether Ctrl-C, once a literal run has lowered the loss, ends the search for better rates
            with the answer so far, which `NetworkRates.interrupted` tells, instead of a KeyboardInterrupt.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, and there was nothing to keep.
        InputError: steps is not a whole number from 1 to 1000; the loss or its gradient is not finite at the start;
            the gradient is zero, or no learning rate lowers the loss by more than rounding.
    """
    steps = checked_count(steps, "steps", MOST_STEPS)
    done = _percent(progress)
    loss, gradient = network.loss_and_gradient(network.start)
    _check_start(loss, gradient)
    w = network.start
    done(1)
    stability = {
        "gauss_newton": _limit(partial(network.gauss_newton, w), network),
        "hessian": _limit(partial(network.hessian, w), network),
    }
    done(15)
    first = linearised(network, w, steps)
    shown = [step for step in _SHOWN_STEPS if step < steps] + [steps]
    proposed = _proposed(network, first, shown, loss, gradient)
    done(40)
    runs = Runs(
        lambda rate: network.descend(w, rate, np.zeros(steps + 1)).losses,
        steps,
        lambda number: done(40 + 40 * min(number, MOST_RUNS) // MOST_RUNS),
    )
    interrupted = False
    try:
        runs.search([rate for rate, _ in proposed.values()], shown)
    except KeyboardInterrupt:
        if not (keep_interrupted and runs.any_lowers):
            raise
        interrupted = True
    best = [runs.best(step) for step in range(1, steps + 1)]
    found = [place for place in best if place is not None]
    if not found:
        raise InputError(
            f"No learning rate lowers the loss, {loss:.6g}, by more than the rounding of {network.kind}: "
            "it is at a minimum."
        )
    # A number of steps after which nothing lowers the loss gets the rate that serves the fewest steps before it.
    places = [place if place is not None else found[-1] for place in best]
    rates, losses = runs.rates, runs.losses
    done(80)
    predicted = _predicted(network, rates[places], lambda share: done(80 + int(20 * share)))
    forecasts = {
        step: Forecast(rate, said, float(losses[0, 0] - runs.run(rate)[step]))
        for step, (rate, said) in proposed.items()
    }
    done(100)
    return NetworkRates(
        parameters=len(w),
        examples=network.examples,
        kind=network.kind,
        steps=steps,
        initial_loss=float(losses[0, 0]),
        stability=stability,
        model=first,
        forecasts=forecasts,
        best=rates[places],
        decreases=np.array([losses[0, 0] - losses[place, step] for step, place in enumerate(places, start=1)]),
        predictions=predicted,
        trust=_trusted(first, rates, losses),
        rates=rates,
        losses=losses,
        interrupted=interrupted,
    )


def _percent(progress: Callable[[int], None] | None) -> Callable[[int], None]:
    return progress if progress is not None else lambda done: None


def _check_start(loss: float, gradient: Vector) -> None:
    if not np.isfinite(loss):
        raise InputError(f"The loss at the first weights is {loss}; learning rates need a finite one.")
    bad = np.flatnonzero(~np.isfinite(gradient))
    if bad.size:
        raise InputError(
            f"The gradient at the first weights is not finite: {bad.size} of its {gradient.size} values are "
            f"{gradient[bad[0]]} or the like."
        )
    if not gradient.any():
        raise InputError(
            f"The gradient at the first weights is zero, and the loss {loss:.6g}: it is at a minimum, or another "
            "stationary point, and no learning rate changes it."
        )


def _limit(product: Callable[[Vector], Vector], network: Network) -> float | None:
    """`2 / lambda_max`, or None where no curvature is positive."""
    largest = largest_eigenvalue(product, len(network.start), network.precision)
    return 2 / largest if largest > 0 else None


def _proposed(
    network: Network, first: Linearisation, shown: Sequence[int], loss: float, gradient: Vector
) -> dict[int, tuple[float, float]]:
    """The rate that the linearised network proposes for each number of steps, and the decrease that it predicts."""
    rates = {step: first.best_rate(step) for step in shown}
    if not np.isfinite(rates[1 if 1 in rates else shown[0]]):
        # No curvature to go by: the step that would bring a straight line down to zero.
        rates = dict.fromkeys(shown, max(abs(loss), network.precision) / float(gradient @ gradient))
    proposed = _proposed_for_few(network, [step for step in shown if step < _FRESH], rates)
    for step in (step for step in shown if step >= _FRESH):
        rate, middle = rates[step], network.start
        for _ in range(_ROUNDS):
            reached = network.descend(network.start, rate, _middle(step)).mixture
            if not np.isfinite(reached).all():
                break
            better = linearised(network, reached, step, network.start).best_rate(step)
            if not np.isfinite(better):
                break
            rate, middle = better, reached
        proposed[step] = rate, _fall(network.descend_linearised(middle, network.start, rate, step), loss)
    return proposed


def _proposed_for_few(network: Network, few: Sequence[int], rates: dict[int, float]) -> dict[int, tuple[float, float]]:
    """The proposals for a few steps: the best runs on the network linearised at its first weights.

    Its criterion is as it is there, and not the parabola that the first rates come from.
    """
    if not few:
        return {}
    w = network.start
    runs = Runs(lambda rate: network.descend_linearised(w, w, rate, few[-1]), few[-1])
    runs.search([rates[step] for step in few], few)
    proposed = {}
    for step in few:
        place = runs.best(step)
        rate = rates[step] if place is None else float(runs.rates[place])
        losses = runs.run(rate)
        proposed[step] = rate, _fall(losses[: step + 1], losses[0])
    return proposed


def _fall(losses: Vector, first: float) -> float:
    """How far below `first` the last of the losses is; -inf where they diverged."""
    return float(first - losses[-1]) if np.isfinite(losses[-1]) else -np.inf


def _middle(steps: int) -> Vector:
    """How to mix the weights after 0, 1, ..., `steps` steps to be half-way through them."""
    mix = np.zeros(steps + 1)
    mix[steps // 2] += 0.5
    mix[(steps + 1) // 2] += 0.5
    return mix


def _predicted(network: Network, rates: Vector, progress: Callable[[float], None]) -> Vector:
    """The decrease that the network predicts for each number of steps t = 1, 2, ... at the t-th of the rates.

    The run is cut into pieces of five steps and what is left; each piece is predicted by the network linearised in
    its middle, from where the literal run stands at its beginning.
    """
    predicted = np.empty(len(rates))
    distinct = np.unique(rates)
    for number, rate in enumerate(distinct.tolist()):
        asked = (np.flatnonzero(rates == rate) + 1).tolist()
        w, so_far = network.start, 0.0
        for begin in range(0, asked[-1], _FRESH):
            for end in asked:
                if begin < end < begin + _FRESH:
                    predicted[end - 1] = so_far + _piece(network, w, rate, end - begin)
            if begin + _FRESH <= asked[-1]:
                so_far += _piece(network, w, rate, _FRESH)
                w = _at(network, w, rate, _FRESH)
                predicted[[end - 1 for end in asked if end == begin + _FRESH]] = so_far
        progress((number + 1) / len(distinct))
    return predicted


def _piece(network: Network, w: Vector, rate: float, length: int) -> float:
    """The decrease of the loss in `length` steps from w that the network linearised in their middle predicts.

    Where the linearised run ends above its beginning it has curved away from the network's, and the steps are halved.
    """
    run = network.descend(w, rate, _middle(length))
    fall = _fall(network.descend_linearised(run.mixture, w, rate, length), float(run.losses[0]))
    if fall > 0 or length == 1:
        return fall
    half = length // 2
    return _piece(network, w, rate, half) + _piece(network, _at(network, w, rate, half), rate, length - half)


def _at(network: Network, w: Vector, rate: float, steps: int) -> Vector:
    """The weights after that many literal steps from w."""
    return network.descend(w, rate, np.zeros(steps + 1)).last


def _trusted(model: Linearisation, rates: Vector, losses: NDArray[np.float64]) -> Vector:
    """For each number of steps the largest measured rate up to which the first linearisation is near the truth."""
    steps = np.arange(1, losses.shape[1])
    measured = losses[:, :1] - losses[:, 1:]
    off = np.abs(np.asarray(model.decrease(rates, steps)) - measured)
    near = off <= _TRUSTED * np.abs(measured)
    upto = np.cumprod(near, axis=0).sum(axis=0)
    return np.where(upto > 0, rates[np.maximum(upto, 1) - 1], 0.0)


@dataclass(frozen=True, eq=False, repr=False)
class NetworkRates(Result):
    """The answer of `rates` for a network: the best learning rates, predicted and measured.

    Attributes:
        parameters: how many numbers train.
        examples: how many examples make up the loss.
        kind: the network's arithmetic: `float32`. Products are no more exact than that, so rates and decreases have
            about as many digits; only the small eigenvalue problems between them are solved in float64.
        steps: T, the largest number of steps asked about.
        initial_loss: the loss before the first step.
        stability: `2 / lambda_max` of the `"hessian"` and of the `"gauss_newton"` matrix at the first weights; None
            where no curvature is positive.
        model: the network linearised at its first weights, exact as such for T steps.
        forecasts: by number of steps, for some: what was predicted before any step, and what became of it.
        best: the best learning rate of those measured for 1, ..., T steps, `(T,)`.
        decreases: how far it lowers the loss, measured, `(T,)`.
        predictions: how far the network linearised along that run says it does, `(T,)`.
        trust: for 1, ..., T steps the largest measured rate up to which the first linearisation is within a fifth of
            the measured decrease, `(T,)`; 0 where it is so nowhere.
        rates: the learning rates of the literal runs, `(m,)`.
        losses: their losses after 0, ..., T steps, `(m, T + 1)`; inf where they diverged.
        interrupted: whether Ctrl-C ended the search, so that there may be better rates than those measured.
    """

    parameters: int
    examples: int
    kind: str
    steps: int
    initial_loss: float
    stability: dict[str, float | None]
    model: Linearisation = field(repr=False)
    forecasts: dict[int, Forecast]
    best: Vector = field(repr=False)
    decreases: Vector = field(repr=False)
    predictions: Vector = field(repr=False)
    trust: Vector = field(repr=False)
    rates: Vector = field(repr=False)
    losses: NDArray[np.float64] = field(repr=False)
    interrupted: bool = False

    def best_rate(self, step: ArrayLike) -> Any:
        """The recommended learning rate for `step` steps, the best of those measured, of the shape of `step`.

        Raises:
            InputError: a step is not an integer from 1 to `steps`.
        """
        return self._at(self.best, step)

    def best_loss(self, step: ArrayLike) -> Any:
        """The loss that literal steps at `best_rate(step)` reached.

        Raises:
            InputError: as for `best_rate`.
        """
        return self._at(self.initial_loss - self.decreases, step)

    def measured(self, step: ArrayLike) -> Any:
        """How far literal steps at `best_rate(step)` lowered the loss.

        Raises:
            InputError: as for `best_rate`.
        """
        return self._at(self.decreases, step)

    def predicted(self, step: ArrayLike) -> Any:
        """How far the network, linearised every five steps along the run at `best_rate(step)`, says they do.

        Raises:
            InputError: as for `best_rate`.
        """
        return self._at(self.predictions, step)

    def trust_rate(self, step: ArrayLike) -> Any:
        """Up to which rate the linearisation at the first weights can be trusted for `step` steps.

        Raises:
            InputError: as for `best_rate`.
        """
        return self._at(self.trust, step)

    def loss(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """The loss that the linearisation at the first weights predicts, on the outer grid of `rate` and `step`.

        Raises:
            InputError: a step is not an integer from 0 to `steps`; a rate is negative or not finite.
        """
        asked = np.asarray(rate, dtype=np.float64)
        if not (np.isfinite(asked) & (asked >= 0)).all():
            raise InputError(f"A learning rate must be finite and at least 0, but got {rate!r}.")
        return self.initial_loss - self.model.decrease(asked, self._checked(step, 0))

    @property
    def stability_rate(self) -> float | None:
        """`2 / lambda_max` of the Gauss-Newton matrix at the first weights."""
        return self.stability["gauss_newton"]

    def _checked(self, step: ArrayLike, least: int) -> NDArray[np.int64]:
        asked = np.asarray(step)
        if asked.dtype.kind not in "iu":
            raise InputError(f"A step must be an integer, but got {step!r}.")
        if asked.size and (asked.min() < least or asked.max() > self.steps):
            raise InputError(
                f"Steps run from {least} to {self.steps} here, but got {asked.min()} to {asked.max()}; "
                "ask rates() for more steps."
            )
        return asked.astype(np.int64)

    def _at(self, values: Vector, step: ArrayLike) -> Any:
        picked = values[self._checked(step, 1) - 1]
        return picked if picked.ndim else float(picked)

    def _shown(self) -> list[int]:
        return sorted(self.forecasts)

    def table(self) -> Table:
        """The best rate for some numbers of steps, with predicted and measured decrease of the loss."""
        rows = [
            (
                step,
                self.best_rate(step),
                self.best_loss(step),
                self.measured(step),
                self.predicted(step),
                self.trust_rate(step),
            )
            for step in self._shown()
        ]
        limits = ", ".join(
            f"{name} {'none' if limit is None else f'{limit:.6g}'}"
            for name, limit in (
                ("Hessian", self.stability["hessian"]),
                ("Gauss-Newton", self.stability["gauss_newton"]),
            )
        )
        return Table(
            f"Best constant learning rate of a network, {counted(self.parameters, 'parameter')}, "
            f"{counted(self.examples, 'example')}",
            ("steps", "best rate", "loss", "measured decrease", "predicted decrease", "linear up to rate"),
            rows,
            notes=(
                f"Loss before training {self.initial_loss:.6g}; 2/lambda_max: {limits}.",
                f"Measured in {counted(len(self.rates), 'literal run')}, {self.kind}.",
                *(["Interrupted: the search was not finished, and there may be better rates."] * self.interrupted),
            ),
        )

    def forecast_table(self) -> Table:
        """What was predicted before any step, and what literal steps made of it."""
        rows = [
            (step, said.rate, said.predicted, said.measured if np.isfinite(said.measured) else None)
            for step, said in sorted(self.forecasts.items())
        ]
        return Table(
            "The forecast before the runs",
            ("steps", "rate", "predicted decrease", "measured decrease"),
            rows,
            notes=("An empty cell: the run diverged.",) if any(row[-1] is None for row in rows) else (),
        )

    def tables(self) -> list[Table]:
        """The best rates, and the forecast before the runs."""
        return [self.table(), self.forecast_table()]

    def figure(self) -> go.Figure:
        """The loss over the learning rate: literal runs as dots, the linearisation at the first weights as lines."""
        import plotly.graph_objects as go
        from plotly.colors import qualitative

        figure = go.Figure()
        shown = np.geomspace(self.rates[0], self.rates[-1], _SHOWN_RATES)
        for number, step in enumerate(self._shown()):
            colour = qualitative.Plotly[number % len(qualitative.Plotly)]
            said = np.asarray(self.loss(shown, step))
            name = counted(step, "step")
            figure.add_scatter(
                x=self.rates,
                y=_within(self.losses[:, step], self.initial_loss),
                mode="markers",
                name=name,
                marker={"color": colour},
            )
            figure.add_scatter(
                x=shown,
                y=_within(said, self.initial_loss),
                mode="lines",
                name=f"{name}, linearised",
                line={"color": colour},
            )
        for name, limit in self.stability.items():
            if limit is not None:
                label = f"2/lambda_max, {name.replace('_', '-')}"
                figure.add_vline(x=limit, line_dash="dash", annotation_text=label, annotation_textangle=-90)
        figure.update_layout(
            title="The loss after a few steps at a constant learning rate, measured (dots) and linearised (lines)",
            template="plotly_white",
            xaxis={"title": "learning rate", "type": "log"},
            yaxis={"title": "loss"},
        )
        return figure

    def to_dict(self) -> dict[str, Any]:
        """Keys `n`, `d`, `steps`, `arithmetic`, `initial_loss`, `stability_rate` (both), `runs` and `interrupted`.

        By step: `best_rate`, `best_loss`, `measured` and `predicted` (decreases of the loss), `trust_rate`; and for
        some steps `forecast`, each with `rate`, `predicted` and `measured`.
        """

        def by_step(values: Vector) -> dict[int, float]:
            return dict(enumerate(values.tolist(), start=1))

        return {
            "n": self.examples,
            "d": self.parameters,
            "steps": self.steps,
            "arithmetic": self.kind,
            "initial_loss": self.initial_loss,
            "stability_rate": dict(self.stability),
            "runs": len(self.rates),
            "interrupted": self.interrupted,
            "best_rate": by_step(self.best),
            "best_loss": by_step(self.initial_loss - self.decreases),
            "measured": by_step(self.decreases),
            "predicted": by_step(self.predictions),
            "trust_rate": by_step(self.trust),
            "forecast": {step: said._asdict() for step, said in self.forecasts.items()},
        }


def _within(losses: Vector, first: float) -> list[float | None]:
    """The losses that a picture shows; nothing above one and a half times the first."""
    return [float(loss) if loss <= 1.5 * abs(first) else None for loss in losses]

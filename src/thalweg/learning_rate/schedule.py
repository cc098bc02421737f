"""A learning rate for every step: the best schedule for a data set, its promise, and its way into Optax and PyTorch.

    >>> import thalweg as tw
    >>> curve = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), steps=2)
    >>> curve.best_schedule().round(12).tolist()          # one step for each of the two curvatures
    [0.25, 1.0]
    >>> round(curve.best_loss(2), 4)                      # what the best constant rate leaves
    0.102

How the rates are found, and why they survive rounding, is told in `thalweg.learning_rate.stable_steps`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError, unknown_name
from thalweg.learning_rate.stable_steps import Conditions, best_plan, lsqr_losses, simulate
from thalweg.report import Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thalweg.learning_rate.curve import Rates

Array = NDArray[np.float64]

_PRECISIONS = {"float64": float(np.finfo(np.float64).eps), "float32": float(np.finfo(np.float32).eps)}


def best_schedule(
    curve: Rates,
    steps: int | None = None,
    peak: float | None = None,
    *,
    momentum: bool = False,
    precision: str = "float64",
) -> Schedule:
    """The learning rates for `steps` steps with the least last loss that rounding lets a run reach.

    Args:
        curve: the answer of `rates`.
        steps: the number of steps T, 1 to `curve.steps`; all of them by default.
        peak: the largest loss allowed on the way, as a multiple of the first loss, at least 1. By default it is 1: no
            loss on the way is above the first, and a larger cap buys hardly anything.
        momentum: whether each step also adds a multiple of the step before it, as heavy-ball momentum does: the
            conjugate-gradient recurrence with its coefficients frozen.
        precision: the floats the run will be made in, `float64` or `float32`.

    Returns:
        The schedule. Where none is predicted to be better than the best constant rate for as many steps, it is that
        constant rate, and says so.

    Raises:
        InputError: steps is not an integer from 1 to `curve.steps`; peak < 1; the precision is none of the two.
    """
    count = curve.steps if steps is None else steps
    if np.ndim(count):
        raise InputError(f"A schedule is for one number of steps, but got {steps!r}.")
    constant_rate = float(curve.best_rate(count))
    count = int(count)
    cap = 1.0 if peak is None else peak
    if not cap >= 1:
        raise InputError(f"peak must be at least 1, the first loss itself, but it is {cap!r}.")
    if precision not in _PRECISIONS:
        raise unknown_name("precision", precision, _PRECISIONS)

    spectrum = curve.whole_spectrum
    first = float(spectrum.losses.sum())
    conditions = Conditions(
        peak=cap * first,
        rounding=_PRECISIONS[precision],
        scale=max(first, float(curve.problem.t @ curve.problem.t) / curve.n),
        examples=curve.n,
        momentum=momentum,
    )
    constant = np.full(count, constant_rate), np.zeros(count)
    constant_losses = simulate(spectrum, *constant, conditions._replace(rounding=0.0)).losses
    ideal = lsqr_losses(spectrum, count)
    plan = best_plan(spectrum, count, conditions, float(ideal[-1]))
    if plan is None or not plan.losses[-1] < constant_losses[-1]:
        plan = simulate(spectrum, *constant, conditions)._replace(
            how="the best constant rate, because no other schedule within the cap on the peak ends lower"
        )
    return Schedule(
        rates=plan.rates,
        momenta=plan.momenta,
        losses=plan.losses,
        ideal_losses=ideal,
        constant_rate=constant_rate,
        constant_losses=constant_losses,
        how=plan.how,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Schedule(Result):
    """A learning rate for every step, what the run will reach, and what it is measured against.

    Step t is `w <- w - rates[t] grad L(w)`; with momentum it also adds `momenta[t]` times the step before it.

    Attributes:
        rates: `(T,)`, in the order in which they must be used: another order may explode.
        momenta: `(T,)`, zeros for plain gradient descent.
        losses: `(T + 1,)`, the predicted loss before the first and after every step, rounding included.
        ideal_losses: `(T + 1,)`, what LSQR reaches after as many steps: no schedule can be better.
        constant_rate: the best constant rate for T steps.
        constant_losses: `(T + 1,)`, the losses at that rate.
        how: how the schedule was chosen, in words.
    """

    rates: Array
    momenta: Array
    losses: Array
    ideal_losses: Array
    constant_rate: float
    constant_losses: Array
    how: str

    @property
    def steps(self) -> int:
        """The number of steps T."""
        return len(self.rates)

    @property
    def loss(self) -> float:
        """The predicted loss after the last step."""
        return float(self.losses[-1])

    @property
    def ideal_loss(self) -> float:
        """The loss that LSQR reaches after T steps."""
        return float(self.ideal_losses[-1])

    @property
    def constant_loss(self) -> float:
        """The loss after T steps at the best constant rate for them."""
        return float(self.constant_losses[-1])

    @property
    def peak(self) -> float:
        """The largest predicted loss on the way, as a multiple of the first."""
        return float(self.losses.max() / self.losses[0])

    def as_function(self) -> Callable[[int], float]:
        """The rate as a function of the step, counted from 0; after the last step it is 0, and training stands still.

        Raises:
            InputError: the schedule has momentum, which a function for rates alone would lose.
        """
        table = self._rates_and_then_zero()
        last = self.steps
        return lambda step: float(table[min(int(step), last)])

    def to_lambda_lr(self, base_rate: float = 1.0) -> Callable[[int], float]:
        """What `torch.optim.lr_scheduler.LambdaLR` multiplies the optimizer's `lr` by, given that lr.

        `LambdaLR(torch.optim.SGD(parameters, lr=base_rate), schedule.to_lambda_lr(base_rate))`.

        Args:
            base_rate: the optimizer's `lr`, positive.

        Raises:
            InputError: the schedule has momentum; base_rate is not a positive number.
        """
        if not (np.isfinite(base_rate) and base_rate > 0):
            raise InputError(f"base_rate must be a positive number, but it is {base_rate!r}.")
        rate = self.as_function()
        return lambda step: rate(step) / base_rate

    def to_optax(self) -> Callable[[Any], Any]:
        """The rate as an Optax schedule, from traced counts too: `optax.sgd(schedule.to_optax())`.

        Raises:
            InputError: the schedule has momentum.
        """
        import jax.numpy as jnp

        table, last = self._rates_and_then_zero(), self.steps
        return lambda count: jnp.asarray(table)[jnp.minimum(count, last)]

    def _rates_and_then_zero(self) -> Array:
        if self.momenta.any():
            raise InputError(
                "This schedule has momentum, which a function for rates alone would lose; use its arrays rates and "
                "momenta in the update, or ask for a schedule without momentum."
            )
        return np.append(self.rates, 0.0)

    def table(self) -> Table:
        """Every step: its rate, its momentum where there is any, and the loss after it beside ideal and constant."""
        with_momentum = bool(self.momenta.any())
        columns = (
            "step",
            "rate",
            *(["momentum"] if with_momentum else []),
            "loss",
            "ideal loss",
            "constant rate's loss",
        )
        rows = [
            (
                step + 1,
                float(self.rates[step]),
                *([float(self.momenta[step])] if with_momentum else []),
                *(float(losses[step + 1]) for losses in (self.losses, self.ideal_losses, self.constant_losses)),
            )
            for step in range(self.steps)
        ]
        notes = (
            f"Last loss {self.loss:.6g} predicted, LSQR {self.ideal_loss:.6g}, constant rate {self.constant_loss:.6g}.",
            f"Largest loss on the way: {self.peak:.4g} x the first. Chosen: {self.how}.",
        )
        return Table(f"The best {self.steps}-step schedule", columns, rows, notes)

    def figure(self) -> go.Figure:
        """The rate of every step, and below it the predicted loss beside the ideal and the best constant rate's."""
        from plotly.subplots import make_subplots

        every = np.arange(self.steps + 1)
        figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
        figure.add_bar(x=every[1:], y=self.rates, name="rate", row=1, col=1)
        figure.add_hline(y=self.constant_rate, line_dash="dot", row=1, col=1, annotation_text="best constant rate")
        for name, losses, dash in (
            ("predicted loss", self.losses, "solid"),
            ("LSQR, the ideal", self.ideal_losses, "dash"),
            ("best constant rate", self.constant_losses, "dot"),
        ):
            figure.add_scatter(x=every, y=losses, name=name, mode="lines", line_dash=dash, row=2, col=1)
        if self.momenta.any():
            figure.add_scatter(x=every[1:], y=self.momenta, name="momentum", mode="markers", row=1, col=1)
        figure.update_yaxes(title="rate", type="log", row=1, col=1)
        figure.update_yaxes(title="loss", type="log", row=2, col=1)
        figure.update_xaxes(title="step", row=2, col=1)
        figure.update_layout(title=f"The best {self.steps}-step schedule", template="plotly_white")
        return figure

    def to_dict(self) -> dict[str, Any]:
        """Keys `schedule`, `schedule_loss`, `ideal_loss`, `constant_loss`, `peak`, `how`, and any `momentum`."""
        answer = {
            "schedule": self.rates.tolist(),
            "schedule_loss": self.loss,
            "ideal_loss": self.ideal_loss,
            "constant_loss": self.constant_loss,
            "peak": self.peak,
            "how": self.how,
        }
        if self.momenta.any():
            answer["momentum"] = self.momenta.tolist()
        return answer

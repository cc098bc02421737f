"""Gradient descent with momentum on least squares: every (learning rate, momentum) pair from the one run of `rates`.

With velocity s, first 0, heavy-ball momentum (Polyak, 1964) and Nesterov's (1983, with a constant momentum) are

    heavy-ball   s <- momentum s - rate gradient(w),                w <- w + s
    nesterov     s <- momentum s - rate gradient(w + momentum s),   w <- w + s

The part of the residual along a direction of curvature h then obeys a recurrence of its own, so that after t steps it
has been multiplied by a polynomial of degree t in h. The nodes and weights of `thalweg.quadrature` integrate the square
of every such polynomial exactly: no further product with the data is needed, whatever the rate and the momentum.

PyTorch's and Optax's `nesterov=True` keep `w + momentum s`, the point at which the gradient is taken, as their weights;
here, as in the literature, the loss is that of w.

    >>> import thalweg as tw
    >>> curve = tw.rates(tw.LeastSquares([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), steps=10)
    >>> heavy_ball = curve.momentum()
    >>> heavy_ball.loss(0.5, [0.0, 0.2], 10)        # learning rate 0.5 without and with momentum, after 10 steps
    array([5.00...e-01, 5.47...e-07])
    >>> best = heavy_ball.best(10)
    >>> best.loss < 1e-6 * curve.best_loss(10)
    True
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import InputError, unknown_name
from thalweg.learning_rate.best_pair import best_pair
from thalweg.learning_rate.curve import Rates
from thalweg.learning_rate.pictures import LIMIT, Course, course_figure, mark, surface_figure
from thalweg.learning_rate.recurrence import log_losses
from thalweg.learning_rate.spectrum import NO_CURVATURE
from thalweg.learning_rate.surface import scalar
from thalweg.quadrature import measure
from thalweg.report import Result, Table, counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

Array = NDArray[np.float64]

KINDS = ("heavy-ball", "nesterov")

_SHOWN_RATES = 120  # the resolution of the surface's picture
_SHOWN_MOMENTA = 100
_NEGLIGIBLE = 1e-30  # a share of the loss below this does not steer the search for the best pair
_LARGEST = 1e50  # of momentum and of rate x curvature, so that their products stay in float64


class Pair(NamedTuple):
    """A learning rate, a momentum, and the loss they reach."""

    rate: float
    momentum: float
    loss: float


@dataclass(frozen=True, eq=False, repr=False)
class MomentumRates(Result):
    """The loss over (learning rate, momentum) after every number of steps, and the best pair on that surface.

    Attributes:
        curve: the answer for plain gradient descent that it stands on.
        kind: `"heavy-ball"` or `"nesterov"`.

    Raises:
        InputError: there is no such kind.
    """

    curve: Rates = field(repr=False)
    kind: str = "heavy-ball"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("kind of momentum", self.kind, KINDS)

    @property
    def steps(self) -> int:
        """The largest number of steps the surface is exact for."""
        return self.curve.steps

    def loss(self, rate: ArrayLike, momentum: ArrayLike, step: ArrayLike) -> Any:
        """The loss after `step` steps from rest at constant learning rate and momentum, exact to rounding.

        Args:
            rate: learning rates, any shape, at least 0.
            momentum: momenta, any shape; usually 0 to 1, but any finite number is taken.
            step: numbers of steps, any shape, 0 to `steps`.

        Returns:
            The outer grid, of shape `rate.shape + momentum.shape + step.shape`; a float for three scalars; inf where
            float64 overflows.

        Raises:
            InputError: a rate is negative or not finite; a momentum is not finite; a step is out of range or not an
                integer; a rate or momentum is beyond 1e50 in units of what float64 can multiply.

        Warns:
            RuntimeWarning: a loss rests on a direction that the residual hardly touches (see `thalweg.quadrature`).
        """
        with np.errstate(over="ignore"):
            return scalar(10.0 ** np.asarray(self.log10_loss(rate, momentum, step)))

    def log10_loss(self, rate: ArrayLike, momentum: ArrayLike, step: ArrayLike) -> Any:
        """The decimal logarithm of `loss`, which never overflows; -inf where the loss is exactly zero.

        Raises:
            InputError: as for `loss`.

        Warns:
            RuntimeWarning: as for `loss`.
        """
        rates, steps = self.curve._checked(rate, step)
        momenta = _checked_momentum(momentum)
        curvatures, weights = self._nodes()
        if rates.size and rates.max() > _LARGEST / curvatures[-1]:
            raise InputError(f"A learning rate of {rates.max():g} is too large for this curvature; give a smaller one.")
        distinct, position = np.unique(steps.ravel(), return_inverse=True)
        pairs = np.meshgrid(rates.ravel(), momenta.ravel(), indexing="ij")
        logarithm, doubtful = log_losses(
            self.kind, curvatures, weights, pairs[0].ravel(), pairs[1].ravel(), distinct.tolist()
        )
        if doubtful:
            warnings.warn(
                "Beyond the stability edge the loss here grows from a direction in which the residual is too small "
                "to know to all digits; a literal run may differ.",
                RuntimeWarning,
                stacklevel=3,
            )
        shape = rates.shape + momenta.shape + steps.shape
        return scalar(logarithm[:, position].reshape(shape) / np.log(10))

    def stability_rate(self, momentum: ArrayLike) -> Any:
        """The learning rate above which the method diverges in the long run, of the shape of `momentum`.

        `2 (1 + momentum) / lambda_max` for heavy-ball, `2 (1 + momentum) / ((1 + 2 momentum) lambda_max)` for Nesterov
        momentum, for the Hessian's largest eigenvalue: where a root of the recurrence reaches -1.

        Raises:
            InputError: a momentum is not in [0, 1): at 1 and above nothing settles, whatever the rate.
        """
        momenta = _checked_momentum(momentum)
        if momenta.size and not (momenta.min() >= 0 and momenta.max() < 1):
            raise InputError(f"A stability edge needs a momentum of at least 0 and below 1, but got {momentum!r}.")
        edge = (1 + momenta) * self.curve.stability_rate
        return scalar(edge / (1 + 2 * momenta) if self.kind == "nesterov" else edge)

    def best(self, step: int, momentum: tuple[float, float] = (0.0, 1.0)) -> Pair:
        """The learning rate and momentum with the least loss after `step` steps, and that loss.

        The loss has many narrow local minima, mostly for heavy-ball momentum, one for every half turn that the steepest
        direction may take in `step` steps; they are enumerated, refined by Newton's method, and compared. The pair is
        never worse than the best constant rate without momentum where `momentum` allows 0. A step or two can profit
        from momentum above 1, if asked.

        Args:
            step: the number of steps, 1 to `steps`.
            momentum: the smallest and largest momentum allowed.

        Raises:
            InputError: the step is out of range or not an integer; the interval is empty or not finite.
        """
        steps = self.curve._checked_steps(step, least=1)
        ends = _checked_momentum(momentum)
        if steps.ndim or ends.shape != (2,) or ends[0] > ends[1]:
            raise InputError(f"Ask for one step and a momentum interval (low, high), not {step!r} and {momentum!r}.")
        curvatures, weights = self._nodes()
        unit = float(curvatures[-1])  # in units of the largest no rate overflows
        few = _few_nodes(curvatures / unit, weights, int(steps))
        plain = float(self.curve.best_rate(steps) * unit)
        rate, chosen = best_pair(self.kind, *few, int(steps), (float(ends[0]), float(ends[1])), plain)
        return Pair(rate / unit, chosen, float(self.loss(rate / unit, chosen, steps)))

    def _nodes(self) -> tuple[Array, Array]:
        """The Hessian's eigenvalues of the nodes that carry weight, ascending, and the loss each carries at first."""
        curvatures, losses = self.curve.fine_spectrum
        return curvatures[losses > 0], losses[losses > 0]

    @cached_property
    def _shown(self) -> list[tuple[int, Pair]]:
        return [(step, self.best(step)) for step in self.curve.shown_steps()]

    def table(self) -> Table:
        """The best pair for some numbers of steps, beside the best constant rate without momentum."""
        rows = []
        for step, best in self._shown:
            edge = float(self.stability_rate(best.momentum)) if best.momentum < 1 else None
            plain = float(self.curve.best_loss(step))
            rows.append((step, best.rate, best.momentum, edge and best.rate / edge, best.loss, plain))
        return Table(
            f"Best learning rate and momentum ({self.kind}), "
            f"{counted(self.curve.n, 'example')} x {counted(self.curve.d, 'feature')}",
            ("steps", "best rate", "best momentum", "x stability edge", "loss", "loss without momentum"),
            rows,
            notes=(f"Loss before training {self.curve.initial_loss:.6g}; momentum from 0 to 1.",),
        )

    def figure(self) -> go.Figure:
        """The surface after all the steps: the loss over learning rate and momentum, the best pair, the edge."""
        limit = self.curve.stability_rate
        step, best = self._shown[-1]
        shares = np.geomspace(0.01, max(4.5, 1.2 * best.rate / limit), _SHOWN_RATES)
        momenta = np.linspace(0, 1, _SHOWN_MOMENTA)
        relative = np.asarray(self.log10_loss(shares * limit, momenta, step)).T - np.log10(self.curve.initial_loss)
        figure = surface_figure(
            f"The loss after {step:,} steps for every learning rate and momentum ({self.kind})",
            shares,
            momenta,
            relative,
            of="loss",
            hover="rate %{x:.3g} x 2/lambda_max<br>momentum %{y:.3f}",
            xaxis="learning rate x lambda_max / 2",
            yaxis={"title": "momentum"},
        )
        edge = np.asarray(self.stability_rate(momenta[:-1])) / limit
        figure.add_scatter(x=edge, y=momenta[:-1], mode="lines", name="stability edge", line=LIMIT)
        mark(figure, "best pair", best.rate / limit, best.momentum)
        return figure

    def best_figure(self) -> go.Figure:
        """What the best pair reaches after some numbers of steps, beside the best constant rate without momentum."""
        shown = [step for step, _ in self._shown]
        courses = [
            Course(f"best pair, {self.kind}", [best.loss for _, best in self._shown]),
            Course("best rate without momentum", self.curve.best_loss(shown), "dot"),
        ]
        return course_figure("The loss that a constant learning rate and momentum can reach", shown, courses)

    def figures(self) -> list[go.Figure]:
        """The surface, and the loss that the best pairs reach."""
        return [self.figure(), self.best_figure()]

    def to_dict(self) -> dict[str, Any]:
        """Keys `kind`, `n`, `d`, `steps`, `initial_loss`, and `best_rate`, `best_momentum`, `best_loss` by step."""
        return {
            "kind": self.kind,
            "n": self.curve.n,
            "d": self.curve.d,
            "steps": self.steps,
            "initial_loss": self.curve.initial_loss,
            "best_rate": {step: best.rate for step, best in self._shown},
            "best_momentum": {step: best.momentum for step, best in self._shown},
            "best_loss": {step: best.loss for step, best in self._shown},
        }


def _few_nodes(curvatures: Array, weights: Array, step: int) -> tuple[Array, Array]:
    """Fewer nodes that serve a search for the best pair after `step` steps as well: `step` of them are always enough.

    What has no curvature adds the same to every loss, and beside it the last digits of the rest would be lost. What has
    next to no weight is mostly copies of other nodes.
    """
    kept = (curvatures > 0) & (weights > _NEGLIGIBLE * weights.sum())
    curvatures, weights = curvatures[kept], weights[kept] / weights[kept].sum()
    if len(curvatures) <= step:
        return curvatures, weights
    from scipy.sparse import diags_array

    seen = measure(diags_array(np.sqrt(curvatures)), np.sqrt(weights), step)
    curved = (seen.nodes > NO_CURVATURE) & (seen.weights > 0)
    return seen.nodes[curved], seen.weights[curved]


def _checked_momentum(momentum: ArrayLike) -> Array:
    asked = np.asarray(momentum)
    if asked.dtype.kind not in "iuf":
        raise InputError(f"A momentum must be a number, but got {momentum!r}.")
    bad = ~(np.abs(asked) <= _LARGEST)
    if bad.any():
        raise InputError(f"A momentum must be finite and at most {_LARGEST:g} in size, but got {asked[bad].flat[0]}.")
    return asked.astype(np.float64)

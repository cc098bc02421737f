"""What gradient descent does to a network linearised at some weights: the exact answer for the quadratic model there.

With gradient g and Gauss-Newton matrix G at the weights, t steps at learning rate eta lower the quadratic model by

    D_t(eta) = sum_k weight_k (1 - (1 - eta h_k)^(2t)) / (2 h_k),

where h_k and weight_k are the spectrum of G as g sees it. T products with G give all of that exactly for t <= T.

    >>> model = Linearisation(np.array([2.0]), np.array([16.0]))    # the loss (w - 2)^2 at w = 0
    >>> model.decrease(0.5, 1), model.best_rate(1)
    (4.0, 0.5)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.learning_rate.gauss_newton import Network
from thalweg.learning_rate.lanczos import spectrum_seen_from

Vector = NDArray[np.float64]

_MOST_HALVINGS = 200


class Linearisation(NamedTuple):
    """The curvatures of a quadratic model as its first gradient sees them.

    Attributes:
        curvatures: h, `(m,)`, eigenvalues of the model's Hessian.
        weights: the squared length of the gradient along each, `(m,)`.
    """

    curvatures: Vector
    weights: Vector

    def decrease(self, rate: ArrayLike, step: ArrayLike) -> Any:
        """How far the loss falls below that of the start, on the outer grid of `rate` and `step`; -inf on overflow."""
        rates, steps = np.asarray(rate, dtype=np.float64), np.asarray(step)
        h, power = self.curvatures, 2 * steps.reshape(-1)[None, :, None]
        x = rates.reshape(-1)[:, None, None] * h
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            near = -np.expm1(power * np.log1p(-np.where(np.abs(x) < 0.5, x, 0.0)))
            gone = np.where(np.abs(x) < 0.5, near, 1 - (1 - x) ** power)  # 1 - (1 - x)^power, without cancellation
            terms = np.where(h != 0, gone / np.where(h != 0, 2 * h, 1.0), rates.reshape(-1)[:, None, None] * power / 2)
            values = terms @ self.weights
        shaped = np.nan_to_num(values, nan=-np.inf, neginf=-np.inf, posinf=np.inf).reshape(rates.shape + steps.shape)
        return shaped if shaped.ndim else float(shaped)

    def best_rate(self, step: int) -> float:
        """The rate that lowers the model most after `step` steps; nan where no curvature is positive.

        The derivative of D_t is `t sum_k weight_k (1 - eta h_k)^(2t - 1)`, which falls with eta for h >= 0; curvatures
        that are negative, by rounding or because the criterion is not convex, count as 0.
        """
        h, power = np.maximum(self.curvatures, 0.0), 2 * step - 1
        if not (self.weights @ h > 0):
            return float("nan")

        def rises(rate: float) -> bool:
            base = 1 - rate * h
            largest = np.abs(base).max()
            return bool(largest == 0 or self.weights @ (base / largest) ** power > 0)

        low = 1 / float(h.max())
        high = 2 * low
        while rises(high):
            low, high = high, 2 * high
        for _ in range(_MOST_HALVINGS):
            middle = (low + high) / 2
            if not low < middle < high:
                break
            low, high = (middle, high) if rises(middle) else (low, middle)
        return (low + high) / 2


def linearised(network: Network, w: Vector, steps: int, begin: Vector | None = None) -> Linearisation:
    """The network linearised at w, as gradient descent of at most `steps` steps sees it.

    Args:
        network: the network.
        w: where to linearise, `(d,)`.
        steps: how many steps the answer is to be exact for: as many products with G.
        begin: where the steps begin, `(d,)`; w for None.
    """
    _, gradient = network.loss_and_gradient(w)
    if begin is not None:
        gradient = gradient + network.gauss_newton(w, begin - w)
    return Linearisation(*spectrum_seen_from(lambda v: network.gauss_newton(w, v), gradient, steps, network.precision))

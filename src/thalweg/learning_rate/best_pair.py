"""The best (learning rate, momentum) pair on the surface of `thalweg.learning_rate.momentum`.

The loss after t steps is a sum of squares, one for each node, of polynomials in the rate and the momentum. It has many
local minima. With heavy-ball momentum the steepest direction oscillates, and where its part of the residual passes
through zero just at step t a narrow curved valley runs through the (rate, momentum) plane, with local minima of its
own: up to t valleys. So the search starts from the local minima of a coarse grid over all rates that can matter, from
those along each valley, and from the best rate without momentum, and refines all of them by Newton's method with exact
derivatives; a step is tried both straight and along the valley that it starts in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.learning_rate.recurrence import log_losses, powers

Array = NDArray[np.float64]

_RATES_A_DECADE = 12
_MOMENTA = 33  # evenly spaced, and as many again that crowd towards 1
_VALLEYS = 64  # counted from the stability edge; the optimum was in the 15th at most on the data sets we tried
_STARTS = 24  # from the grid, and from the valleys
_NEWTON_STEPS = 60
_DAMPING = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
_SETTLED = 1e-13  # an improvement of the logarithm below this is rounding


class _Expansion(NamedTuple):
    """The loss around a point, divided by its value there: gradient `(p, 2)` and two Hessians `(p, 2, 2)`."""

    gradient: Array
    gauss_newton: Array
    hessian: Array


class _Surface(NamedTuple):
    """The loss after `step` steps as a function of log rate and momentum."""

    kind: str
    curvatures: Array
    weights: Array
    step: int

    def logarithm(self, log_rate: Array, momentum: Array) -> Array:
        """The natural logarithm of the loss at points of any one shape."""
        values, _ = log_losses(
            self.kind, self.curvatures, self.weights, np.exp(log_rate).ravel(), momentum.ravel(), [self.step]
        )
        return values.reshape(log_rate.shape)

    def expansion(self, log_rate: Array, momentum: Array) -> _Expansion:
        (after,) = powers(self.kind, self.curvatures, np.exp(log_rate), momentum, [self.step], derivatives=True)
        f, fa, fb, faa, fab, fbb = after.factor * np.sqrt(self.weights)

        def mean(*entries: tuple[Array, Array]) -> Array:
            means: Array = np.stack([2 * np.sum(left * right, axis=1) for left, right in entries], axis=1) / loss
            return means

        loss = np.maximum(np.sum(f**2, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        slopes = mean((fa, fa), (fa, fb), (fa, fb), (fb, fb)).reshape(-1, 2, 2)
        bends = mean((f, faa), (f, fab), (f, fab), (f, fbb)).reshape(-1, 2, 2)
        return _Expansion(mean((f, fa), (f, fb)), slopes, slopes + bends)


def best_pair(
    kind: str, curvatures: Array, weights: Array, step: int, interval: tuple[float, float], plain: float
) -> tuple[float, float]:
    """The learning rate and momentum that minimise `sum_k weights_k factor_k^2` after `step` steps.

    Args:
        kind: `"heavy-ball"` or `"nesterov"`.
        curvatures: the Hessian's eigenvalues, `(m,)`, positive and ascending.
        weights: what the loss starts from along each, `(m,)`, positive.
        step: the number of steps, at least 1.
        interval: the smallest and largest momentum allowed.
        plain: the best rate without momentum.
    """
    low, high = interval
    least = min(max(0.0, low), high)
    if step == 1:  # the first step starts from rest, so that the momentum changes nothing
        return plain, least
    surface = _Surface(kind, curvatures, weights, step)
    momenta = _momenta(low, high)
    starts = [(np.array([np.log(plain)]), np.array([least])), _from_grid(surface, momenta)]
    if kind == "heavy-ball" and high > 0:
        starts.append(_from_valleys(surface, momenta[momenta > 0]))
    log_rate, momentum = (np.concatenate(values) for values in zip(*starts, strict=True))
    log_rate, momentum, value = _refined(surface, log_rate, momentum, interval)
    best = int(value.argmin())
    return float(np.exp(log_rate[best])), float(momentum[best])


def _momenta(low: float, high: float) -> Array:
    even = np.linspace(low, high, _MOMENTA)
    crowding = 1 - np.geomspace(1e-3, 1, _MOMENTA)
    return np.unique(np.concatenate([even, crowding[(crowding > low) & (crowding < high)]]))


def _from_grid(surface: _Surface, momenta: Array) -> tuple[Array, Array]:
    """The best local minima on a grid from rates too small to move to those that diverge in every direction."""
    steepest, flattest = surface.curvatures[-1], surface.curvatures[0]
    lowest, highest = 0.1 / (surface.step**2 * steepest), 2 * (1 + max(1.0, momenta[-1])) / flattest
    count = int(np.ceil(_RATES_A_DECADE * np.log10(highest / lowest)))
    log_rates, grid = np.meshgrid(np.linspace(np.log(lowest), np.log(highest), count), momenta, indexing="ij")
    value = surface.logarithm(log_rates, grid)
    padded = np.pad(value, 1, constant_values=np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return _best_of(value, value <= around.min(axis=(2, 3)), log_rates, grid)


def _from_valleys(surface: _Surface, momenta: Array) -> tuple[Array, Array]:
    """The best local minima along each curve on which the steepest direction's part is zero after the last step.

    With `1 + momentum - x = 2 sqrt(momentum) cos(angle)` that part is, but for a factor that has no zeros,
    `cos(t angle) + (cos(angle) - sqrt(momentum)) sin(t angle) / sin(angle)`.
    """
    step, root = surface.step, np.sqrt(momenta)
    turns = np.arange(1, min(step, _VALLEYS) + 1)[:, None]
    angle = np.broadcast_to(np.pi * (1 - (turns - 0.5) / step), (len(turns), len(root)))
    for _ in range(30):  # contracts: the arc tangent, divided by t, hardly depends on the angle
        angle = np.pi * (1 - turns / step) + np.arctan2(np.sin(angle), root - np.cos(angle)) / step
    log_rates = np.log((1 + momenta - 2 * root * np.cos(angle)) / surface.curvatures[-1])
    grid = np.broadcast_to(momenta, log_rates.shape)
    value = surface.logarithm(log_rates, grid)
    padded = np.pad(value, ((0, 0), (1, 1)), constant_values=np.inf)
    return _best_of(value, (value <= padded[:, :-2]) & (value <= padded[:, 2:]), log_rates, grid)


def _best_of(value: Array, chosen: NDArray[np.bool_], log_rates: Array, momenta: Array) -> tuple[Array, Array]:
    order = np.argsort(value[chosen])[:_STARTS]
    return log_rates[chosen][order], momenta[chosen][order]


def _refined(
    surface: _Surface, log_rate: Array, momentum: Array, interval: tuple[float, float]
) -> tuple[Array, Array, Array]:
    """Every start, `(p,)`, moved to the bottom near it by Newton steps, each the best of many candidates."""
    log_rate, momentum = log_rate.copy(), momentum.copy()
    value = surface.logarithm(log_rate, momentum)
    moving = np.flatnonzero(value > -np.inf)
    for _ in range(_NEWTON_STEPS):
        if not len(moving):
            break
        here = log_rate[moving], momentum[moving]
        step = _steps(surface.expansion(*here), surface.step)
        log_rates, momenta = here[0] + step[0], np.clip(here[1] + step[1], *interval)
        if surface.kind == "heavy-ball":
            bent = _along_valley(surface.curvatures[-1], here, (log_rates, momenta))
            log_rates, momenta = np.concatenate([log_rates, bent]), np.concatenate([momenta, momenta])
        values = surface.logarithm(log_rates, momenta)
        best = values.argmin(axis=0), np.arange(len(moving))
        gain = value[moving] - values[best]
        better = gain > 0
        moved = moving[better]
        log_rate[moved], momentum[moved], value[moved] = (new[best][better] for new in (log_rates, momenta, values))
        moving = moving[(gain > _SETTLED) & (gain < np.inf)]
    return log_rate, momentum, value


def _steps(expansion: _Expansion, steps: int) -> tuple[Array, Array]:
    """Newton steps in log rate and in momentum, `(candidates, p)` each, for several models and dampings.

    The models are the loss by Gauss and Newton, the loss, and its 2t-th root, which is far less curved where the loss
    falls like the 2t-th power of something. The last candidate of each model leaves the momentum alone, for pairs that
    have met an end of the interval.
    """
    gradient, gauss_newton, hessian = expansion
    outer = gradient[:, :, None] * gradient[:, None, :]
    scale = gauss_newton[:, [0, 1], [0, 1]]
    candidates = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for model in (gauss_newton, hessian, hessian - (1 - 1 / (2 * steps)) * outer):
            for damping in _DAMPING:
                a, b, c = (
                    model[:, 0, 0] + damping * scale[:, 0],
                    model[:, 0, 1],
                    model[:, 1, 1] + damping * scale[:, 1],
                )
                towards = np.stack([b * gradient[:, 1] - c * gradient[:, 0], b * gradient[:, 0] - a * gradient[:, 1]])
                candidates.append(towards / (a * c - b**2))
            candidates.append(np.stack([-gradient[:, 0] / model[:, 0, 0], np.zeros(len(gradient))]))
    step = np.nan_to_num(np.stack(candidates, axis=1), posinf=0.0, neginf=0.0)
    return np.clip(step[0], -1, 1), np.clip(step[1], -0.5, 0.5)


def _along_valley(steepest: float, here: tuple[Array, Array], there: tuple[Array, Array]) -> Array:
    """The log rates that bend the steps from `here` to `there` so that a step along a valley stays in it.

    Along a valley the angle of the steepest direction is constant (see `_from_valleys`): it is changed by what the
    step does to it to first order, and the rate follows. Where that direction does not oscillate the step stays
    straight.
    """
    (log_rate, momentum), (new_log_rate, new_momentum) = here, there
    with np.errstate(divide="ignore", invalid="ignore"):
        x, root = np.exp(log_rate) * steepest, np.sqrt(momentum)
        cosine = (1 + momentum - x) / (2 * root)
        change = new_momentum - momentum
        slope = (change - x * (new_log_rate - log_rate) - cosine * change / root) / (2 * root)
        angle = np.arccos(cosine) - slope / np.sqrt(1 - cosine**2)
        bent = np.log((1 + new_momentum - 2 * np.sqrt(new_momentum) * np.cos(angle)) / steepest)
    return np.where(np.isfinite(bent), bent, new_log_rate)

"""The surface of the loss over (learning rate, step) as sums over a spectrum, and where it is lowest.

After t steps at a rate the loss is `sum_k losses_k (1 - rate h_k)^(2t)`; its derivatives are such sums too. All of them
for every step cost hardly more than a product of matrices: with `e = a + b` for few a and few b,

    sum_k c_k x_k^e = sum_k (c_k x_k^a) (x_k^b),

so that T powers of every node follow from some `2 sqrt(T)` of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.learning_rate.spectrum import Spectrum

Array = NDArray[np.float64]

FAINT = 1e-26  # a share of the squared residual below this is rounding as much as data
SHARE = 1e-9  # how much of a loss may grow from such a share before we say so

_MOST_NEWTON_STEPS = 200
_TOGETHER = 1 << 17  # powers of nodes held in one go: more would not stay in the cache, fewer would take more calls
_SPARE_PRODUCTS = 4  # how many times the sums asked for a product of matrices may hold
_NEWTON_ENTRIES = 1 << 20  # (step, node) pairs looked at in one go


class PowerSums(NamedTuple):
    """Sums `sum_k c_k (1 - rate h_k)^power`, `(rates, powers)`.

    Attributes:
        logarithm: the natural logarithm of their magnitudes, -inf for zero.
        sign: -1, 0 or 1.
        doubtful: whether one that grows rests on a coefficient too small to know.
    """

    logarithm: Array
    sign: Array
    doubtful: bool


def power_sums(curvatures: Array, coefficients: Array, rate: Array, power: NDArray[np.int64]) -> PowerSums:
    """`sum_k coefficients_k (1 - rate h_k)^power` for all of `rate`, `(r,)`, and `power`, `(p,)`; never overflows.

    The curvatures ascend. Negative powers stand for terms that a derivative has brought to zero and give zero.
    """
    used = coefficients > 0
    h, c = curvatures[used], coefficients[used]
    distinct, position = np.unique(np.maximum(power, 0), return_inverse=True)
    chosen = _Split(distinct)
    total = np.empty((rate.size, distinct.size))
    largest = np.empty((rate.size, 1))
    faint = c < FAINT * c.sum()
    doubtful = False
    together = max(1, _TOGETHER // (len(h) * chosen.held))
    room = np.empty((chosen.held, min(together, rate.size), len(h)))
    for first in range(0, rate.size, together):
        part = slice(first, first + together)
        relative = rate[part, None] * h
        np.subtract(1.0, relative, out=relative)
        # A linear function of h, and h ascends: the largest magnitude is at an end.
        largest[part] = np.maximum(np.abs(relative[:, :1]), np.abs(relative[:, -1:]))
        # Powers relative to the largest never overflow; what underflows is lost beside that one.
        relative /= np.where(largest[part] > 0, largest[part], 1.0)
        total[part] = chosen.sums(relative, c, room)
        grows = largest[part, 0] > 1
        if faint.any() and grows.any():
            of_the_faint = chosen.sums(relative[np.ix_(grows, faint)], c[faint])
            doubtful |= bool(np.any(of_the_faint > SHARE * total[part][grows]))
    with np.errstate(divide="ignore"):
        logarithm = np.log(np.abs(total)) + _times(distinct, largest)
    sign = np.where(power < 0, 0.0, np.sign(total)[:, position])
    return PowerSums(logarithm[:, position], sign, doubtful)


class _Split:
    """Ascending distinct powers as sums of a large and a small one, where few of each make them all."""

    def __init__(self, powers: NDArray[np.int64]) -> None:
        self._powers = powers.tolist()
        highest = max(self._powers, default=0)
        self._unit = math.gcd(*self._powers) or 1  # 2 where the powers are those of losses
        self._small = max(1, math.isqrt(highest // self._unit))
        self._width = self._small * self._unit
        self._large = highest // self._width + 1
        self._place = powers // self._width, powers % self._width // self._unit
        self._pays = self._large * self._small <= _SPARE_PRODUCTS * len(powers)
        self.held = self._large + self._small if self._pays else len(powers)

    def sums(self, x: Array, c: Array, room: Array | None = None) -> Array:
        """`sum_k c_k x_k^power` for rows of x and all powers, `(rows, powers)`.

        `room`, at least `(held, *x.shape)`, is for the powers; what is made anew each time the system clears each time.
        """
        held = np.empty((self.held, *x.shape)) if room is None else room[:, : len(x)]
        if not self._pays:
            return (_ascending(x, self._powers, held) @ c).T
        unit, large, small = _power(x, self._unit), held[: self._large], held[self._large :]
        _geometric(_power(unit, self._small), c, large)
        _geometric(unit, 1.0, small)
        # For each row a product of (large powers, nodes) and (nodes, small powers), read where they lie.
        return (large.transpose(1, 0, 2) @ small.transpose(1, 2, 0))[:, *self._place]


def _geometric(x: Array, first: Array | float, held: Array) -> None:
    """Fill `held` with `first x^k` for k = 0, 1, ..., by doubling how many there are."""
    held[0] = first
    done, count = 1, len(held)
    while done < count:
        more = min(done, count - done)
        np.multiply(held[:more], x, out=held[done : done + more])
        done += more
        if done < count:
            x = x * x


def _ascending(x: Array, powers: Sequence[int], held: Array) -> Array:
    """Fill `held` with ascending powers of x, each from the one before."""
    reached, terms = 0, np.ones_like(x)
    for place, power in enumerate(powers):
        if power > reached:
            terms = terms * _power(x, power - reached)
        reached, held[place] = power, terms
    return held


def _power(x: Array, exponent: int) -> Array:
    """`x^exponent` for a whole exponent of at least 1, by squaring: much faster than NumPy's, which is for any real."""
    result = x
    for bit in f"{exponent:b}"[1:]:
        result = result * result
        if bit == "1":
            result = result * x
    return result


def best_rates(spectrum: Spectrum, steps: NDArray[np.int64]) -> Array:
    """The rate with the least loss after each of `steps`, `(m,)`, by safeguarded Newton.

    The 2t-th root of the loss, `M(rate) = (sum_k losses_k |1 - rate h_k|^(2t))^(1/(2t))`, is a norm of an affine
    function: convex and, unlike the loss itself, hardly more curved for many steps than for one. Its minimiser lies
    between the rates `1/h` of the largest and the smallest node.
    """
    together = max(1, _NEWTON_ENTRIES // len(spectrum.curvatures))
    parts = [_minimisers(spectrum, steps[first : first + together]) for first in range(0, len(steps), together)]
    return np.concatenate(parts) if parts else np.empty(0)


def _minimisers(spectrum: Spectrum, steps: NDArray[np.int64]) -> Array:
    seen = (spectrum.curvatures > 0) & (spectrum.losses > 0)
    largest = float(spectrum.curvatures[-1])
    # In units of the largest no square of a curvature or a rate overflows.
    h, log_weight = spectrum.curvatures[seen] / largest, np.log(spectrum.losses[seen])
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


def _times(power: NDArray[np.int64], magnitude: Array) -> Array:
    """`power log(magnitude)`, with `0 log(0) = 0`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(power == 0, 0.0, power * np.log(magnitude))


def scalar(values: NDArray[Any]) -> Any:
    """An array of no dimensions as the number in it; all others as they are."""
    return values if values.ndim else values.item()

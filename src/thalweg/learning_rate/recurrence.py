"""What momentum does to the residual in t steps: a recurrence for each direction, raised to the power t at once.

`thalweg.learning_rate.momentum` says which methods; here are their polynomials in the curvature, with derivatives by
the logarithm of the rate and by the momentum where asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.learning_rate.surface import FAINT, SHARE

Array = NDArray[np.float64]

_BLOCK_ENTRIES = 1 << 14  # (pair, node) entries looked at in one go, so that they stay in the cache


class Powers(NamedTuple):
    """What t steps do to the part of the residual along each node, for some (rate, momentum) pairs.

    Attributes:
        factor: `(k, pairs, nodes)`: the residual's factor divided by `exp(t log_scale)`; k is 1, or 6 with derivatives
            (see `product`).
        log_scale: `(pairs, 1)`, the logarithm of the largest growth a step over the nodes.
    """

    factor: Array
    log_scale: Array


def product(f: Array, g: Array) -> Array:
    """The product of two functions of (log rate, momentum), each given by its value alone or with derivatives.

    The first axis holds the value, or the value, the first derivatives by log rate and by momentum, and the second
    derivatives by log rate twice, by both, and by momentum twice.
    """
    if len(f) == 1:
        return f * g
    f0, fa, fb, faa, fab, fbb = f
    g0, ga, gb, gaa, gab, gbb = g
    return np.stack(
        [
            f0 * g0,
            fa * g0 + f0 * ga,
            fb * g0 + f0 * gb,
            faa * g0 + 2 * fa * ga + f0 * gaa,
            fab * g0 + fa * gb + fb * ga + f0 * gab,
            fbb * g0 + 2 * fb * gb + f0 * gbb,
        ]
    )


def powers(
    kind: str, curvatures: Array, rate: Array, momentum: Array, steps: Sequence[int], *, derivatives: bool = False
) -> Iterator[Powers]:
    """The effect of each of the ascending `steps` on the residual, for pairs of `rate` and `momentum`, `(pairs,)` each.

    With x = rate h, one step takes the residual's part r and the velocity's part s to `M (r, s)`, where
    `M = [[1 - x, c], [-x, c]]` and c is the momentum, for Nesterov times `1 - x`. By the theorem of Cayley and Hamilton
    every power is `M^t = [[r, c u], [-x u, r - (1 - x - c) u]]`, so that two numbers stand for a matrix and powers come
    from repeated squaring. All nodes of a pair are scaled by the largest spectral radius among them, which keeps every
    power within float64; what underflows is lost beside the largest.
    """
    shape = (6 if derivatives else 1, len(rate), len(curvatures))
    x, c = np.zeros(shape), np.zeros(shape)
    x[0] = rate[:, None] * curvatures
    c[0] = momentum[:, None]
    if derivatives:
        x[[1, 3]] = x[0]
        c[2] = 1.0
    a = -x
    a[0] += 1
    if kind == "nesterov":
        c = product(c, a)
    half = (a[0] + c[0]) / 2
    discriminant = half**2 - c[0]
    radius = np.where(discriminant < 0, np.sqrt(np.abs(c[0])), np.abs(half) + np.sqrt(np.maximum(discriminant, 0))).max(
        axis=1, keepdims=True
    )
    radius[radius == 0] = 1.0
    a, c, x = a / radius, c / radius, x / radius
    xc, difference = product(x, c), a - c
    one = np.zeros(shape)
    one[0] = 1.0
    identity = (one, np.zeros(shape))

    def after(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        (r, u), (p, v) = first, second
        return product(r, p) - product(xc, product(u, v)), product(u, p) + product(v, r - product(difference, u))

    def power(exponent: int) -> tuple[Array, Array]:
        if exponent == 0:
            return identity
        result = (a, one)
        for bit in f"{exponent:b}"[1:]:
            result = after(result, result)
            if bit == "1":
                result = after(result, (a, one))
        return result

    log_scale = np.log(radius)
    state, reached, gap, leap = identity, 0, 0, identity
    for step in steps:
        if step - reached != gap:
            gap = step - reached
            leap = power(gap)
        state, reached = after(state, leap), step
        yield Powers(state[0], log_scale)


def log_losses(
    kind: str, curvatures: Array, weights: Array, rate: Array, momentum: Array, steps: Sequence[int]
) -> tuple[Array, bool]:
    """The natural logarithms of `sum_k weights_k factor_k^2` after each of the ascending steps, `(pairs, len(steps))`.

    Returns:
        The logarithms, -inf where the sum is zero; and whether one that grows rests on a weight too small to know.
    """
    logarithm = np.empty((len(rate), len(steps)))
    faint = np.where(weights < FAINT * weights.sum(), weights, 0.0)
    doubtful = False
    block = max(1, _BLOCK_ENTRIES // len(curvatures))
    for first in range(0, len(rate), block):
        part = slice(first, first + block)
        for column, (factor, log_scale) in enumerate(powers(kind, curvatures, rate[part], momentum[part], steps)):
            square = factor[0] ** 2
            total = square @ weights
            with np.errstate(divide="ignore"):
                logarithm[part, column] = np.log(total) + 2 * steps[column] * log_scale[:, 0]
            if faint.any():
                doubtful |= bool(np.any((square @ faint > SHARE * total) & (log_scale[:, 0] > 0)))
    return logarithm, doubtful

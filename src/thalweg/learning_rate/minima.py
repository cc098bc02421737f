"""Minima of many smooth functions of one variable at once, from starts near them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NARROWING = 0.25
_MOST_ROUNDS = 60


def nearest_minima(
    function: Callable[[NDArray[np.intp], Array], Array], start: Array, *, coarsest: float = 0.1, finest: float
) -> Array:
    """A minimum of each of m functions, `(m,)`, near its start.

    Three points move together until the middle one is the lowest, then close in on the vertex of the parabola through
    their values. The vertex of the finest parabola is off by about the square of its width.

    Args:
        function: the values, `(p,)`, of the functions of the given numbers, `(p,)`, at the given points, `(p,)`.
        start: where to begin, `(m,)`.
        coarsest: the spacing of the first three points.
        finest: the spacing below which to stop.
    """
    centre, spacing = start.copy(), np.full(len(start), coarsest)
    for _ in range(_MOST_ROUNDS):
        active = np.flatnonzero(spacing > finest)
        if not len(active):
            break
        points = centre[active, None] + spacing[active, None] * np.array([-1.0, 0.0, 1.0])
        with np.errstate(divide="ignore", invalid="ignore"):
            left, middle, right = function(np.repeat(active, 3), points.ravel()).reshape(-1, 3).T
            inside = (middle <= left) & (middle <= right)
            vertex = np.nan_to_num((left - right) / (2 * (left - 2 * middle + right)))
        centre[active] += np.where(inside, vertex, np.where(left < right, -1.0, 1.0)) * spacing[active]
        spacing[active] *= np.where(inside, _NARROWING, 2.0)
    return centre

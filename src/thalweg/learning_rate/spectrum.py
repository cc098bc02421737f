"""A measure in the units of the loss, which is what everything about learning rates is a sum over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.quadrature import Measure

Array = NDArray[np.float64]

NO_CURVATURE = 8 * float(np.finfo(np.float64).eps)  # in units of the largest curvature: a zero, but for rounding


class Spectrum(NamedTuple):
    """Eigenvalues h of the Hessian, `(m,)`, and how much loss lies along each.

    A step of gradient descent multiplies the part of the residual along an eigenvalue by `1 - rate h`.
    """

    curvatures: Array
    losses: Array


def spectrum_of(seen: Measure, n: int) -> Spectrum:
    """The spectrum of a measure of n examples, ascending."""
    curvatures = seen.nodes * (2 / n)
    # The zero node comes out as a few units of rounding, and so does each copy of it.
    curvatures[curvatures <= NO_CURVATURE * curvatures[-1]] = 0.0
    return Spectrum(curvatures, seen.weights / n)

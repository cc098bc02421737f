"""From a kernel over several channels to one pattern in space, and how strongly each channel enters.

A unit of a first layer weighs every tap of every channel: `(channels, height, width)`. Most are nearly a product, one
pattern in space times one weight for each channel, and the best product is the first singular pair of the table
`(channels, height * width)`. Its share of the kernel's energy says how good it is. Weights for red, green and blue are
compared with the three directions that people name: grey (all alike), red against green, and blue against yellow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thalweg.network.kernels.families import Array

_COLOURS = {
    "grey": np.array([1.0, 1.0, 1.0]) / np.sqrt(3),
    "red against green": np.array([1.0, -1.0, 0.0]) / np.sqrt(2),
    "blue against yellow": np.array([-1.0, -1.0, 2.0]) / np.sqrt(6),
}
_ALMOST_NONE = 0.1
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Mixture:
    """How the channels enter a kernel.

    Args:
        weights: one for each channel, of unit energy.
        share: the share of the kernel's energy that is the pattern times these weights.
        colour: the nearest of "grey", "red against green" and "blue against yellow", for three channels, which are
            taken for red, green and blue; else None.
        purity: the share of the weights' energy that this colour is.
    """

    weights: tuple[float, ...]
    share: float
    colour: str | None
    purity: float | None


def split(kernel: Array) -> tuple[Array, Mixture | None]:
    """The pattern in space `(height, width)`, with the kernel's energy in it, and the mixture of channels.

    The sign is such that a grey image enters positively; where grey hardly enters, that the strongest channel does, the
    first of those that are as strong up to rounding.

    Args:
        kernel: `(channels, height, width)`; with one channel it is the pattern already.
    """
    if len(kernel) == 1:
        return kernel[0], None
    scale = float(np.abs(kernel).max()) or 1.0
    table = kernel.reshape(len(kernel), -1) / scale
    left, values, right = np.linalg.svd(table, full_matrices=False)
    weights, energy = left[:, 0], float((values**2).sum())
    grey = float(weights.sum()) ** 2 / len(weights)
    strength = np.abs(weights)
    strongest = np.flatnonzero(strength > (1 - _ROUNDING) * strength.max())[0]
    leading = weights.sum() if grey > _ALMOST_NONE else weights[strongest]
    sign = -1.0 if leading < 0 else 1.0
    colour, purity = _nearest(weights) if len(weights) == 3 else (None, None)
    share = float(values[0]) ** 2 / energy if energy else 1.0
    pattern: Array = sign * values[0] * scale * right[0].reshape(kernel.shape[1:])
    return pattern, Mixture(tuple((sign * weights).tolist()), share, colour, purity)


def _nearest(weights: Array) -> tuple[str, float]:
    shares = {name: float(axis @ weights) ** 2 for name, axis in _COLOURS.items()}
    best = max(shares, key=lambda name: shares[name])
    return best, shares[best]

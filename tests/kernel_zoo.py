"""Kernels of every label, written as textbooks do, at sizes from 2 to 11; nothing of ours is asked to make them."""

from __future__ import annotations

from math import comb
from typing import NamedTuple

import numpy as np

ANGLES = range(0, 360, 45)
LAPLACIANS = {
    4: np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], float),
    8: np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], float),
}
_DERIVATIVES = {3: [-1, 0, 1], 5: [-1, -2, 0, 2, 1], 7: [-1, -4, -5, 0, 5, 4, 1]}


class Animal(NamedTuple):
    name: str
    label: str
    angle: float | None
    kernel: np.ndarray


def embedded(kernel, size):
    return np.pad(kernel, (size - len(kernel)) // 2)


def steered(smoothing, slope, angle):
    """The kernels for steps to the right and for steps upwards, mixed: how all four families are turned."""
    right = np.outer(smoothing, slope)
    return np.cos(np.radians(angle)) * right + np.sin(np.radians(angle)) * np.rot90(right)


def gaussian(size, width):
    place = np.arange(size) - (size - 1) / 2
    window = np.exp(-(place**2) / (2 * width**2))
    return np.outer(window, window) / window.sum() ** 2


def gabor(size, wavelength, angle, phase, aspect):
    """Stripes along an angle under a window of one octave, as in Daugman (1985)."""
    rows, columns = np.indices((size, size))
    x, y = columns - (size - 1) / 2, (size - 1) / 2 - rows
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = c * x + s * y, c * y - s * x
    width = 0.56 * wavelength
    window = np.exp(-(across**2 + (aspect * along) ** 2) / (2 * width**2))
    return window * np.cos(2 * np.pi * across / wavelength + np.radians(phase))


def edges(size):
    """Sobel, Prewitt, Scharr and Roberts at eight angles, as far as a size has them."""
    families = {}
    if size == 2:
        families["roberts"] = ([1, 1], [-1, 1])
    else:
        families["prewitt"] = (np.ones(size), np.arange(size) - (size - 1) / 2)
        binomial = [comb(size - 1, place) for place in range(size)]
        slope = _DERIVATIVES.get(size, np.convolve([comb(size - 3, place) for place in range(size - 2)], [-1, 0, 1]))
        families["sobel"] = (binomial, slope)
    if size == 3:
        families["scharr"] = ([3, 10, 3], [-1, 0, 1])
    return [
        Animal(name, "oriented edge", angle, steered(smoothing, slope, angle))
        for name, (smoothing, slope) in families.items()
        for angle in ANGLES
    ]


def zoo(size):
    """Every kernel that `size` x `size` taps can show; Laplacians and sharpening are 3 x 3, zeros around them."""
    if size == 2:
        return [*edges(2), Animal("box", "blur", None, np.ones((2, 2)) / 4)]
    tap = embedded(np.ones((1, 1)), size)
    animals = [
        *edges(size),
        *(
            Animal(f"{sign}laplacian {centre}", "unoriented edge", None, float(f"{sign}1") * embedded(kernel, size))
            for centre, kernel in LAPLACIANS.items()
            for sign in ("", "-")
        ),
        *(
            Animal(f"sharpen {centre + 1}", "sharpen", None, tap + embedded(kernel, size))
            for centre, kernel in LAPLACIANS.items()
        ),
        Animal("gaussian", "blur", None, gaussian(size, size / 5)),
        Animal("box", "blur", None, np.ones((size, size)) / size**2),
        Animal("identity", "identity", None, tap),
        Animal("line", "line", 0, embedded(np.array([[-1, -1, -1], [2, 2, 2], [-1, -1, -1]], float), size)),
    ]
    if size >= 7:
        animals += [
            Animal(f"gabor, phase {phase}", "Gabor-like", angle, gabor(size, size / 2, angle, phase, 0.5))
            for phase in (0, 45, 90)
            for angle in np.arange(0, 180, 22.5)
        ]
    return animals


def noisy(kernel, generator, decibels=10.0):
    """`kernel` plus white Gaussian noise on every tap, whose expected energy is 10^(-decibels / 10) of the kernel's."""
    deviation = np.sqrt((kernel**2).mean() / 10 ** (decibels / 10))
    return kernel + deviation * generator.standard_normal(kernel.shape)


def degrees_apart(one, other, turn):
    """How far two directions lie apart that are the same after `turn` degrees."""
    return abs((one - other + turn / 2) % turn - turn / 2)

"""Kernels known by name, with parameters: `sobel:angle=45`, `gabor:size=15,wavelength=6,angle=30`.

Those that have a direction point to it as `families` counts directions. Sobel, Prewitt, Scharr and Roberts are turned
by mixing: cos(angle) times the kernel that answers to steps to the right, plus sin(angle) times the one for steps
upwards; a Gabor wave is computed anew for its angle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from thalweg.errors import InputError, unknown_name
from thalweg.network.correlation import MAX_SIDE
from thalweg.network.kernels.families import Array, Plane, balanced, binomial, derivative, mixed, wave

_LEAST_WIDTH = 0.1


def named_kernel(text: str) -> Array:
    """The kernel that `name` or `name:parameter=value,...` stands for.

    Raises:
        InputError: there is no such name or parameter, or a value that it cannot have.
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    if name.lower() not in NAMED:
        raise unknown_name("filter", name, NAMED)
    make, defaults = NAMED[name.lower()]
    given: dict[str, Any] = dict(defaults)
    for item in rest.split(",") if rest else []:
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in defaults:
            raise (
                unknown_name(f"parameter of {name!r}", key, defaults)
                if defaults
                else InputError(f"The filter {name!r} has no parameters, but got {item!r}.")
            )
        given[key] = _value(name, key, value, defaults[key])
    return make(**given)


def _value(name: str, key: str, text: str, default: float) -> float:
    whole = isinstance(default, int)
    try:
        value = int(text) if whole and re.fullmatch(r"[+-]?\d{1,9}", text) else math.nan if whole else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        kind = "a whole number" if whole else "a finite number"
        raise InputError(f"In {name!r}, {key} must be {kind}, as in '{name}:{key}={default:g}'; got {text!r}.")
    return value


def _require(name: str, key: str, value: float, holds: bool, wanted: str) -> None:
    if not holds:
        raise InputError(f"In {name!r}, {key} must be {wanted}, but it is {value:g}.")


def _check_size(name: str, size: int, least: int = 1) -> None:
    _require(name, "size", size, least <= size <= MAX_SIDE, f"from {least} to {MAX_SIDE}")


def _check_width(name: str, sigma: float, *, zero: bool) -> None:
    wanted = f"at least {_LEAST_WIDTH}{' (0 leaves the choice to thalweg)' if zero else ''}"
    _require(name, "sigma", sigma, sigma >= _LEAST_WIDTH or (zero and sigma == 0), wanted)


def _steered(smoothing: Array, slope: Array, angle: float) -> Array:
    turned = mixed(np.outer(smoothing, slope), np.outer(slope[::-1], smoothing), angle)
    return np.where(np.abs(turned) < 1e-12 * np.abs(turned).max(), 0.0, turned)  # cos(90 deg) is not quite 0


def _sobel(size: int, angle: float) -> Array:
    _check_size("sobel", size, 2)
    return _steered(binomial(size), derivative(size), angle)


def _prewitt(size: int, angle: float) -> Array:
    _check_size("prewitt", size, 2)
    ramp = np.arange(size, dtype=np.float64) - (size - 1) / 2
    return _steered(np.ones(size), ramp, angle)


def _scharr(angle: float) -> Array:
    return _steered(np.array([3.0, 10.0, 3.0]), np.array([-1.0, 0.0, 1.0]), angle)


def _roberts(angle: float) -> Array:
    return _steered(np.ones(2), np.array([-1.0, 1.0]), angle) / math.sqrt(2)


def _laplacian(centre: int, sigma: float, size: int) -> Array:
    _require("laplacian", "centre", centre, centre in (4, 8), "4 or 8")
    _check_width("laplacian", sigma, zero=True)
    _check_size("laplacian", size, 3)
    plane = Plane(size, size)
    if sigma == 0:
        if plane.tap is None:
            raise InputError(f"In 'laplacian', size must be odd where sigma is 0, but it is {size}.")
        return plane.laplacians(plane.tap)[0 if centre == 4 else 1]
    return balanced((2 - plane.squared_radius / sigma**2) * plane.gaussian(sigma) / sigma**2)


def _gaussian(size: int, sigma: float) -> Array:
    _check_size("gaussian", size)
    _check_width("gaussian", sigma, zero=False)
    window = Plane(size, size).gaussian(sigma)
    return np.asarray(window / window.sum())


def _box(size: int) -> Array:
    _check_size("box", size)
    return np.full((size, size), 1 / size**2)


def _sharpen(centre: int) -> Array:
    _require("sharpen", "centre", centre, centre in (5, 9), "5 or 9")
    plane = Plane(3, 3)
    assert plane.tap is not None
    return plane.tap + plane.laplacians(plane.tap)[0 if centre == 5 else 1]


def _identity(size: int) -> Array:
    _check_size("identity", size)
    tap = Plane(size, size).tap
    if tap is None:
        raise InputError(f"In 'identity', size must be odd, so that there is a middle tap, but it is {size}.")
    return tap


def _gabor(size: int, wavelength: float, angle: float, sigma: float, phase: float, aspect: float) -> Array:
    _check_size("gabor", size, 2)
    _require("gabor", "wavelength", wavelength, wavelength >= 2, "at least 2, two pixels for a wave")
    _check_width("gabor", sigma, zero=True)
    _require("gabor", "aspect", aspect, aspect > 0, "above 0")
    width = sigma or 0.56 * wavelength
    return wave(Plane(size, size), wavelength, width, width / aspect, phase, angle)


NAMED: dict[str, tuple[Callable[..., Array], dict[str, float]]] = {
    "sobel": (_sobel, {"size": 3, "angle": 0.0}),
    "prewitt": (_prewitt, {"size": 3, "angle": 0.0}),
    "scharr": (_scharr, {"angle": 0.0}),
    "roberts": (_roberts, {"angle": 135.0}),
    "laplacian": (_laplacian, {"centre": 4, "sigma": 0.0, "size": 3}),
    "gaussian": (_gaussian, {"size": 5, "sigma": 1.0}),
    "box": (_box, {"size": 3}),
    "sharpen": (_sharpen, {"centre": 5}),
    "identity": (_identity, {"size": 3}),
    "gabor": (_gabor, {"size": 11, "wavelength": 5.0, "angle": 0.0, "sigma": 0.0, "phase": 0.0, "aspect": 0.5}),
}
"""For each name what makes it and its parameters; a Gabor's `sigma` of 0 stands for 0.56 wavelengths, one octave."""

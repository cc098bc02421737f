"""What filters of each label look like: families of kernels, each defined by which waves it passes.

Every family is a low-pass window, a factor in frequency that says what is taken from it, and parameters:

* blur: the window itself;
* oriented edge: its first derivative along a direction (a factor i f), so that flat areas and waves across vanish;
* line: its second derivative across a direction (a factor -f^2 on one axis);
* unoriented edge: its second derivative in all directions, the Laplacian (a factor |f|^2, the same for all directions);
* sharpen: every wave once, and the fine ones once more: a tap in the middle plus a multiple of the above, or of what
  a blur leaves out;
* Gabor-like: a band of waves around one frequency, of any phase: a wave of several stripes under a window;
* identity: every wave alike: one tap in the middle.

The windows are Gaussians of many widths, round and long, and boxes; derivatives are taken on paper where a window is
wide and as differences of neighbouring taps where it is a single tap, which gives the kernels of textbooks (Sobel,
Prewitt, Scharr, Roberts, Laplacians with centre 4 and 8) as members of the same families.

Directions are counted anticlockwise from "to the right", with rows counted downwards: that of an edge points to the
side for which the answer rises (0 to 360), that of a line or a wave runs along its stripes (0 to 180). The middle of
a kernel is the middle of its table; with an even side that lies between two taps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LABELS = ("identity", "blur", "sharpen", "oriented edge", "unoriented edge", "line", "Gabor-like", "other")
MAX_SIDE = 32
"""The longest side for which a bank is made."""
_COARSE = 15
"""The step between directions in a bank, in degrees."""
_SHARP = 0.3  # the width of a Gaussian that is a single tap
_LEAST_FOR_WAVES = 5  # fewer taps cannot show the three stripes that make a wave of an edge or a line


@dataclass(frozen=True, eq=False)
class Family:
    """Kernels of one label that differ by their direction only.

    Args:
        label: one of `LABELS`.
        weight: how likely a kernel of this label is one of these, before anything is known.
        turn: after how many degrees a kernel is itself again: 360, 180, or 0 where it has no direction.
        make: the kernel for a direction in degrees, of any scale.
        axes: the kernels of unit energy for 0 and 90 degrees, at right angles to each other, where all others are mixed
            of them.
    """

    label: str
    weight: float
    turn: int
    make: Callable[[float], Array]
    axes: tuple[Array, Array] | None = None


@dataclass(frozen=True)
class Bank:
    """Members of every family for one shape of kernel.

    Args:
        families: the families.
        templates: `(members, taps)`, each of unit energy.
        family: `(members,)`, which family each member belongs to.
        label: `(members,)`, which of `LABELS` it has.
        log_weight: `(members,)`, the logarithm of its share of its label, whose shares sum to 1 (those of
            "other" to less).
    """

    families: tuple[Family, ...]
    templates: Array
    family: NDArray[np.intp]
    label: NDArray[np.intp]
    log_weight: Array


@functools.lru_cache(maxsize=16)
def bank(height: int, width: int) -> Bank:
    """The members of all families with `height` x `width` taps, directions `_COARSE` degrees apart."""
    plane = Plane(height, width)
    families = [family for make in _MAKERS for family in make(plane)]
    rows, numbers, weights = [], [], []
    for number, family in enumerate(families):
        angles = plane.directions(family.turn, _COARSE)
        for angle in angles:
            rows.append(unit(family.make(angle)).ravel())
            numbers.append(number)
            weights.append(family.weight / len(angles))
    own = np.array(numbers)
    label = np.array([LABELS.index(family.label) for family in families])[own]
    weight = np.array(weights)
    total = np.bincount(label, weight, len(LABELS))
    total[LABELS.index("other")] = 1  # its families are part of what it holds
    return Bank(tuple(families), np.array(rows), own, label, np.log(weight / total[label]))


def unit(kernel: Array) -> Array:
    """`kernel` scaled to energy 1; zeros stay zeros."""
    largest = float(np.abs(kernel).max(initial=0))
    if not largest:
        return kernel
    kernel = kernel / largest  # squares of very large or small taps would leave the range of floats
    return kernel / float(np.linalg.norm(kernel))


class Plane:
    """Where the taps of a kernel lie, and the windows that fit on them.

    Args:
        height: the number of rows.
        width: the number of columns.

    Attributes:
        x: how far each tap lies to the right of the middle.
        y: how far above it.
        widths: standard deviations of Gaussians that fit the kernel, a factor of 1.2 apart up to 1 and 1.4 from there.
        tap: the kernel of a single 1 in the middle; None where no tap is there.
        flat: whether there is one row or one column only.
    """

    def __init__(self, height: int, width: int) -> None:
        rows, columns = np.indices((height, width)).astype(np.float64)
        self.x = columns - (width - 1) / 2
        self.y = (height - 1) / 2 - rows
        self.side = max(height, width)
        self.flat = min(height, width) == 1
        self.squared_radius = self.x**2 + self.y**2
        steps = [0, 0.25, 0.5, 0.75, 1, *(step / 2 for step in range(3, 16))]
        self.widths = [0.5 * 2**step for step in steps if 2**step <= max(2, self.side / 1.4)]
        self.tap = np.where(self.squared_radius == 0, 1.0, 0.0) if height % 2 and width % 2 else None
        self._shape = (height, width)

    def turned(self, angle: float) -> tuple[Array, Array]:
        """How far each tap lies along a direction in degrees, and at right angles to it."""
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        return c * self.x + s * self.y, c * self.y - s * self.x

    def directions(self, turn: int, step: float) -> Array:
        """Directions in degrees over one turn; in a single row or column only those that it can show."""
        if turn == 0:
            return np.zeros(1)
        if self.flat:  # an edge along the row or column, a line across it
            first = 0 if (self._shape[0] == 1) == (turn == 360) else 90
            return np.arange(first, turn, 180, dtype=np.float64)
        return np.arange(0, turn, step, dtype=np.float64)

    def gaussian(self, width: float) -> Array:
        """A round Gaussian."""
        return np.exp(-self.squared_radius / (2 * width**2))

    def oval(self, angle: float, along: float, across: float) -> Array:
        """A Gaussian with one width along a direction and one across it."""
        u, v = self.turned(angle)
        window: Array = np.exp(-((u / along) ** 2) / 2 - (v / across) ** 2 / 2)
        return window

    def boxes(self) -> list[Array]:
        """The squares of equal taps around the middle, and the whole table."""
        distance = np.maximum(np.abs(self.x), np.abs(self.y))
        squares = [
            np.where(distance <= side / 2, 1.0, 0.0) for side in range(2, self.side) if (self.side - side) % 2 == 0
        ]
        return [*(square for square in squares if np.count_nonzero(square) > 1), np.ones(self._shape)]

    def differences(self) -> list[tuple[Array, Array]]:
        """Differences of neighbouring taps along x and y, smoothed by binomial weights, or by Scharr's 3 10 3."""
        pairs = []
        smoothings = [binomial(taps) for taps in range(2, min(self._shape) + 1)] + [np.array([3.0, 10.0, 3.0])]
        for smoothing in smoothings:
            taps = len(smoothing)
            margins = [side - taps for side in self._shape]
            if min(margins) < 0 or any(margin % 2 for margin in margins):
                continue
            slope = derivative(taps)
            around = [(margin // 2, margin // 2) for margin in margins]
            pairs.append((np.pad(np.outer(smoothing, slope), around), np.pad(np.outer(slope[::-1], smoothing), around)))
        return pairs

    def blurs(self) -> list[Array]:
        """Round low-pass windows, which sum to 1."""
        windows = [self.gaussian(width) for width in self.widths] + self.boxes()
        return [window / window.sum() for window in windows]

    def laplacians(self, window: Array) -> list[Array]:
        """The window minus its neighbours: four, eight, and both with the weights 4 and 1 that favour no direction."""
        padded = np.pad(window, 1)
        height, width = self._shape

        def neighbours(places: list[tuple[int, int]]) -> Array:
            return sum(
                (padded[1 + i : 1 + i + height, 1 + j : 1 + j + width] for i, j in places), np.zeros(self._shape)
            )

        cross: Array = 4 * window - neighbours([(0, 1), (0, -1), (1, 0), (-1, 0)])
        corners: Array = 4 * window - neighbours([(1, 1), (1, -1), (-1, 1), (-1, -1)])
        return [cross, cross + corners, 4 * cross + corners]


def binomial(taps: int) -> Array:
    """The weights 1 1, 1 2 1, 1 3 3 1, ..."""
    return np.array([math.comb(taps - 1, place) for place in range(taps)], dtype=np.float64)


def derivative(taps: int) -> Array:
    """The difference of neighbouring taps, -1 1 or -1 0 1, smoothed by binomial weights where there are more."""
    return np.array([-1.0, 1.0]) if taps == 2 else np.convolve(binomial(taps - 2), [-1.0, 0.0, 1.0])


def balanced(kernel: Array) -> Array:
    """`kernel` shifted so that flat areas come out as 0."""
    return kernel - float(kernel.mean())


def _fixed(label: str, weight: float, kernel: Array) -> Family:
    return Family(label, weight, 0, lambda angle: kernel)


def _identity(plane: Plane) -> Iterator[Family]:
    if plane.tap is not None:
        yield _fixed("identity", 1, plane.tap)
        yield _fixed("other", 0.03, -plane.tap)


def _blurs(plane: Plane) -> Iterator[Family]:
    windows = [window for window in plane.blurs() if np.count_nonzero(window) > 1]
    for window in windows:
        yield _fixed("blur", 1 / len(windows), window)
        yield _fixed("other", 0.1 / len(windows), -window)
    ovals = [(along, across) for along in plane.widths for across in (_SHARP, *plane.widths) if along >= 2 * across]
    for along, across in ovals:
        yield Family("blur", 0.3 / len(ovals), 180, partial(plane.oval, along=along, across=across))


def _sharpeners(plane: Plane) -> Iterator[Family]:
    if plane.tap is None or plane.side == 1:
        return
    details = [plane.tap - blur for blur in plane.blurs() if blur.max() < 0.9]
    if not plane.flat:
        classic = plane.laplacians(plane.tap)[:2]
        details += [0.5 * laplacian for laplacian in classic]
        for laplacian in classic:
            yield _fixed("sharpen", 1 / 4, plane.tap + laplacian)
    for detail in details:
        for strength in (1, 2):
            yield _fixed("sharpen", 1 / (4 * len(details)), plane.tap + strength * detail)


def _rings(plane: Plane) -> Iterator[Family]:
    if plane.flat or plane.side < 3:
        return
    classic = [] if plane.tap is None else plane.laplacians(plane.tap)
    for laplacian, weight in zip(classic, (0.25, 0.35, 0.05), strict=False):
        yield _fixed("unoriented edge", weight, laplacian)
        yield _fixed("unoriented edge", weight / 2, -laplacian)
    widths = [width * finer for width in plane.widths for finer in (1, 2**0.25) if 4 * width * finer <= plane.side]
    for width in widths:
        wide = balanced((2 * width**2 - plane.squared_radius) * plane.gaussian(width))
        for sign in (1, -1):
            yield _fixed("unoriented edge", 0.1 / len(widths), sign * wide)


def _edges(plane: Plane) -> Iterator[Family]:
    if plane.side < 2:
        return
    # Turned: the derivative of an oval, along its axis.
    ovals = [(across, along) for across in plane.widths for along in plane.widths if 1 / 4 <= along / across <= 4]
    for across, along in ovals:
        make = partial(_turned_edge, plane, across, along)
        yield Family("oriented edge", 0.6 / len(ovals), 360, make)
    # Steered: a mixture of the derivatives along the two axes of the table, as kernels of textbooks are.
    windows = [*plane.boxes(), *map(plane.gaussian, plane.widths)]
    slopes: tuple[Callable[[Array], Array], ...] = (np.positive, np.sign)
    pairs = [(window * slope(plane.x), window * slope(plane.y)) for window in windows for slope in slopes]
    pairs += plane.differences()
    for right, up in pairs:
        axes = unit(right), unit(up)
        yield Family("oriented edge", 0.4 / len(pairs), 360, partial(mixed, *axes), axes)


def _turned_edge(plane: Plane, across: float, along: float, angle: float) -> Array:
    return plane.turned(angle)[0] * plane.oval(angle, across, along)


def mixed(right: Array, up: Array, angle: float) -> Array:
    """The kernel that answers to steps to the right and the one for steps upwards, mixed for a direction in degrees."""
    return math.cos(math.radians(angle)) * right + math.sin(math.radians(angle)) * up


def _lines(plane: Plane) -> Iterator[Family]:
    if plane.side < 3:
        return
    shapes = [
        (across, along)
        for across in (_SHARP, *plane.widths)
        for along in (*plane.widths, np.inf)
        if along > 1.9 * across and 3 * across <= plane.side
    ]
    for across, along in shapes:
        for make in (_smooth_line, _sharp_line):
            for sign in (1, -1):
                yield Family("line", 0.7 / (4 * len(shapes)), 180, partial(make, plane, sign, across, along))
    bars = [
        (width, length) for width in range(1, plane.side // 3 + 1) for length in range(3 * width, plane.side + 1, 2)
    ]
    for width, length in bars:
        for sign in (1, -1):
            yield Family("line", 0.3 / (2 * len(bars)), 180, partial(_bar, plane, sign, width, length))


def _smooth_line(plane: Plane, sign: int, across: float, along: float, angle: float) -> Array:
    """The second difference, over neighbours a pixel away, of a window across, under a window along."""
    u, v = plane.turned(angle)
    before, here, after = (np.exp(-(((v + step) / across) ** 2) / 2) for step in (-1, 0, 1))
    return sign * balanced((2 * here - before - after) * np.exp(-((u / along) ** 2) / 2))


def _sharp_line(plane: Plane, sign: int, across: float, along: float, angle: float) -> Array:
    """A line that fades to both sides over `across`, at least a pixel, on even ground."""
    u, v = plane.turned(angle)
    return sign * balanced(np.maximum(0, 1 - np.abs(v) / max(1, across)) * np.exp(-((u / along) ** 2) / 2))


def _bar(plane: Plane, sign: int, width: float, length: float, angle: float) -> Array:
    """A bar between two others of half its height and the other sign, all of one width and length: -1 2 -1, turned."""
    u, v = plane.turned(angle)
    before, here, after = (np.maximum(0, 1 - np.abs(v / width + step)) for step in (-1, 0, 1))
    return sign * balanced((2 * here - before - after) * np.clip((length + 1) / 2 - np.abs(u), 0, 1))


def _waves(plane: Plane) -> Iterator[Family]:
    least = min(plane.x.shape)
    if least < _LEAST_FOR_WAVES:
        return
    periods = [period for period in (2.5 * 1.2**step for step in range(30)) if period <= least / 1.2]
    shapes = [
        (period, width, length)
        for period in periods
        for width in (0.45, 0.56, 0.8, 1.2, np.inf)
        for length in ((1, 2) if width < np.inf else (1,))
    ]
    for period, width, length in shapes:
        for phase in range(0, 360, 45):
            make = partial(wave, plane, period, width * period, length * width * period, phase)
            yield Family("Gabor-like", 1 / (8 * len(shapes)), 180, make)


def wave(plane: Plane, period: float, across: float, along: float, phase: float, angle: float) -> Array:
    """A Gabor wave: stripes along a direction in degrees, under an oval window of the two widths."""
    stripes: Array = np.cos(2 * np.pi * plane.turned(angle)[1] / period + math.radians(phase))
    return plane.oval(angle, along, across) * stripes


_MAKERS: tuple[Callable[[Plane], Iterator[Family]], ...] = (
    _identity,
    _blurs,
    _sharpeners,
    _rings,
    _edges,
    _lines,
    _waves,
)

"""Maps made larger or smaller: which extents come out, and which positions each of them is made of.

The rules of ONNX (`coordinate_transformation_mode`, `nearest_mode`) are followed position by position. Where a window
says the same for every position, that window is the answer; elsewhere, as for factors that are not whole, a pattern of
positions that repeats.
"""

from __future__ import annotations

import math
from fractions import Fraction

from thalweg.network.graph import Resampling, written
from thalweg.network.intervals import MAX_PERIOD
from thalweg.network.readers.arrays import Slide
from thalweg.network.readers.onnx.file import checked
from thalweg.network.readers.onnx.operations import Call

MAX_FOLLOWED = 16_384
"""Of how many positions along an axis each is looked at."""

_WIDEST = 4
"""How many positions away a unit may lie from those that it is made of: more than any interpolation reaches."""
_PLACES = frozenset(
    {"asymmetric", "align_corners", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "tf_half_pixel_for_nn"}
)
_REACH = {"nearest": 0, "linear": 1, "bilinear": 1, "trilinear": 1, "cubic": 2}


class Resizing:
    """One operation that resizes.

    Args:
        call: the operation.
        before: the extents of its input.

    Attributes:
        extents: those of its output.
    """

    def __init__(self, call: Call, before: tuple[int, ...]) -> None:
        self._call = call
        self._before = before
        node = call.node
        early = node.operator == "Upsample" or call.opset < 11
        self._mode = node.text("mode", "nearest")
        self._place = node.text("coordinate_transformation_mode", "half_pixel") if not early else "asymmetric"
        self._round = node.text("nearest_mode", "round_prefer_floor") if not early else "floor"
        self._antialias = node.integer("antialias", 0) == 1
        self._axes = call.axes(node.integers("axes") or range(len(before)), len(before))
        self._scales = [Fraction(1)] * len(before)
        self.extents = checked(self._extents(early), call.name)

    def _extents(self, early: bool) -> tuple[int, ...]:
        call, extents = self._call, list(self._before)
        sizes = 3 if not early else None
        if sizes is not None and call.has(sizes) and call.value(sizes).shape != (0,):
            return self._of_sizes(call.integers(sizes))
        factors = call.node.reals("scales")
        if factors is None:
            place = 1 if early else 2
            if not call.has(place):
                call.fail("has neither scales nor sizes")
            numbers = call.numbers(place)
            factors = tuple(float(number) for number in numbers.reshape(-1)[: len(extents) + 1])
        if len(factors) != len(self._axes) or not all(math.isfinite(each) and each > 0 for each in factors):
            call.fail(f"has scales {list(factors)[:8]} for {len(self._axes)} axes")
        for axis, factor in zip(self._axes, factors, strict=True):
            self._scales[axis] = Fraction(factor)
            extents[axis] = math.floor(self._before[axis] * self._scales[axis])
        return tuple(extents)

    def _of_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        call, extents = self._call, list(self._before)
        if len(sizes) != len(self._axes) or min(sizes) < 0 or 0 in self._before:
            call.fail(f"cannot turn {written(self._before)} into sizes {list(sizes)[:8]}")
        policy = call.node.text("keep_aspect_ratio_policy", "stretch")
        scales = [Fraction(size, self._before[axis]) for axis, size in zip(self._axes, sizes, strict=True)]
        if policy != "stretch":
            scale = min(scales) if policy == "not_larger" else max(scales)
            sizes = tuple(math.floor(scale * self._before[axis] + Fraction(1, 2)) for axis in self._axes)
            scales = [scale] * len(scales)
        for axis, size, scale in zip(self._axes, sizes, scales, strict=True):
            extents[axis], self._scales[axis] = size, scale
        return tuple(extents)

    def slide(self, axis: int) -> Slide | None:
        """The window that makes one axis what it becomes; None where no window does."""
        before, after = self._before[axis], self.extents[axis]
        known = self._mode in _REACH and self._place in _PLACES
        if not known or not 0 < after <= MAX_FOLLOWED or (after != before and max(before, after) % min(before, after)):
            return None
        taps = [self._taps(axis, unit) for unit in range(after)]
        for slide in (self._larger(axis), self._smaller(axis)):
            if slide is not None and all(
                _says_the_same(_seen(slide, unit), ends, before) for unit, ends in enumerate(taps)
            ):
                return slide
        return None

    def resampling(self, axis: int) -> Resampling | None:
        """What makes one axis what it becomes where no window does; None where that is not known."""
        before, after = self._before[axis], self.extents[axis]
        if self._mode not in _REACH or self._place not in _PLACES or not 0 < after <= MAX_FOLLOWED:
            return None
        corners = self._place == "align_corners"
        ratio = Fraction(before - 1, max(1, after - 1)) if corners else 1 / self._scales[axis]
        found = Resampling.of(lambda unit: self._taps(axis, unit), ratio.limit_denominator(MAX_PERIOD))
        return found if all(found.at(unit) == self._taps(axis, unit) for unit in range(after)) else None

    def _taps(self, axis: int, unit: int) -> tuple[int, int]:
        """The first and the last position that a unit is made of, whether they exist or not."""
        place, reach = self._source(axis, unit), _REACH[self._mode]
        if reach and place.denominator == 1 and not self._antialias:
            return int(place), int(place)
        if not reach:
            nearest = self._rounded(place)
            return nearest, nearest
        width = Fraction(reach)
        if self._antialias and self._scales[axis] < 1:
            width /= self._scales[axis]
        return math.floor(place - width) + 1, math.ceil(place + width) - 1

    def _source(self, axis: int, unit: int) -> Fraction:
        scale, before, after = self._scales[axis], self._before[axis], self.extents[axis]
        half = Fraction(1, 2)
        match self._place:
            case "asymmetric":
                return unit / scale
            case "align_corners":
                return Fraction(unit * (before - 1), after - 1) if after > 1 else Fraction(0)
            case "tf_half_pixel_for_nn":
                return (unit + half) / scale
            case "pytorch_half_pixel":
                return (unit + half) / scale - half if after > 1 else Fraction(0)
            case "half_pixel_symmetric":
                middle = Fraction(before, 2) * (1 - after / (scale * before))
                return middle + (unit + half) / scale - half
        return (unit + half) / scale - half

    def _rounded(self, place: Fraction) -> int:
        match self._round:
            case "floor":
                return math.floor(place)
            case "ceil":
                return math.ceil(place)
            case "round_prefer_ceil":
                return math.floor(place + Fraction(1, 2))
        return math.ceil(place - Fraction(1, 2))

    def _larger(self, axis: int) -> Slide | None:
        """A transposed window, read off a position in the middle, as if the map went on beyond its ends."""
        before, after = self._before[axis], self.extents[axis]
        if after % before:
            return None
        factor, middle = after // before, before // 2
        near = range((middle - _WIDEST) * factor, (middle + _WIDEST) * factor)
        reached = [unit for unit in near if self._taps(axis, unit)[0] <= middle <= self._taps(axis, unit)[1]]
        if not reached:
            return None
        kernel, low = len(reached), middle * factor - reached[0]
        high = (before - 1) * factor + kernel - low - after
        return Slide((kernel,), (factor,), (1,), (low,), (high,), transposed=True)

    def _smaller(self, axis: int) -> Slide | None:
        """An ordinary window, read off a unit in the middle."""
        before, after = self._before[axis], self.extents[axis]
        if before % after:
            return None
        stride, middle = before // after, after // 2
        first, last = self._taps(axis, middle)
        kernel, low = last - first + 1, middle * stride - first
        high = (after - 1) * stride + kernel - low - before
        return Slide((kernel,), (stride,), (1,), (low,), (high,))


def _seen(slide: Slide, unit: int) -> tuple[int, int]:
    """The first and the last position behind a unit of a window over one axis."""
    kernel, stride, low = slide.kernel[0], slide.stride[0], slide.low[0]
    if not slide.transposed:
        return unit * stride - low, unit * stride - low + kernel - 1
    return -(-(unit + low - kernel + 1) // stride), (unit + low) // stride


def _says_the_same(seen: tuple[int, int], taps: tuple[int, int], extent: int) -> bool:
    """Whether a window sees what the taps of a unit stand for; where it sees nothing, the end is repeated."""
    return seen[0] < extent and seen[1] >= 0 and _clipped(seen, extent) == _clipped(taps, extent)


def _clipped(ends: tuple[int, int], extent: int) -> tuple[int, int]:
    """The same among the positions that exist, the nearest of which stands for those outside."""
    first, last = ends
    return min(max(first, 0), extent - 1), min(max(last, 0), extent - 1)

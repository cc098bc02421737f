"""The positions that resized or adaptively pooled units are made of, whether these exist or not."""

from __future__ import annotations

import math
from fractions import Fraction

from thalweg.network.graph import Resampling

HALF = Fraction(1, 2)


def adaptive(before: int, after: int) -> Resampling:
    """Windows from floor(i n / m) to before ceil((i + 1) n / m)."""
    ratio = Fraction(before, after)
    return Resampling.of(lambda unit: (math.floor(unit * ratio), math.ceil((unit + 1) * ratio) - 1), ratio)


def nearest(ratio: Fraction, shift: Fraction) -> Resampling:
    """The position at floor((i + shift) ratio)."""
    return Resampling.of(lambda unit: (math.floor((unit + shift) * ratio),) * 2, ratio)


def linear(ratio: Fraction, offset: Fraction) -> Resampling:
    """The positions around i ratio + offset, or the one there."""
    return Resampling.of(lambda unit: (math.floor(unit * ratio + offset), math.ceil(unit * ratio + offset)), ratio)


def cubic(ratio: Fraction, offset: Fraction) -> Resampling:
    """Two positions on each side of i ratio + offset, or the one there."""

    def taps(unit: int) -> tuple[int, int]:
        place = unit * ratio + offset
        below = math.floor(place)
        return (below, below) if place == below else (below - 1, below + 2)

    return Resampling.of(taps, ratio)


def within(ratio: Fraction, width: Fraction) -> Resampling:
    """The positions less than a width from the middle of each unit, or the one there where the width spreads none."""

    def taps(unit: int) -> tuple[int, int]:
        place = (unit + HALF) * ratio - HALF
        if place.denominator == 1 and width.denominator == 1:
            return int(place), int(place)
        return math.floor(place - width) + 1, math.ceil(place + width) - 1

    return Resampling.of(taps, ratio)

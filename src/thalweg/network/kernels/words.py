"""Why a kernel has its label, in words and numbers."""

from __future__ import annotations

import numpy as np

from thalweg.network.correlation import frequency_response
from thalweg.network.kernels.families import Array, unit
from thalweg.network.kernels.judging import UNEXPLAINED, Judgement

WAVES = 64
"""The frequencies along each axis at which a response is looked at."""
_WORTH_SAYING = 0.1


def reason(kernel: Array, judgement: Judgement) -> str:
    """One sentence: what the kernel is like, how much so, which waves it passes, and what else it may be.

    Args:
        kernel: `(height, width)`, not all zero.
        judgement: what it was judged to be.
    """
    facts = [_likeness(kernel, judgement), _waves(kernel)]
    others = sorted(
        ((score, label) for label, score in judgement.scores.items() if label != judgement.label), reverse=True
    )
    doubts = [f"{label} ({score:.0%})" for score, label in others if score >= _WORTH_SAYING]
    if doubts:
        facts.append(f"may also be {' or '.join(doubts)}")
    return "; ".join(facts)


def _likeness(kernel: Array, judgement: Judgement) -> str:
    much, direction = f"{judgement.explained:.0%}", judgement.direction
    match judgement.label:
        case "identity":
            return f"{much} of its energy is the middle tap: every pixel passes by itself"
        case "blur":
            return f"{much} a smooth window: neighbours are averaged"
        case "sharpen":
            return f"{much} the pixel itself plus what a blur leaves out of it"
        case "unoriented edge":
            return f"{much} a Laplacian: edges of every direction remain"
    if direction is None:
        return _strange(kernel, judgement)
    angle = f"{direction.angle:.4g} deg"
    away = abs(direction.angle - direction.measured)
    if 0.05 < away < 359.95:
        angle += f" (measured {direction.measured:.1f} +- {direction.spread:.1f})"
    match judgement.label:
        case "oriented edge":
            return f"{much} a step that brightens towards {angle}"
        case "line":
            sign = "bright" if _middle(kernel) > 0 else "dark"
            return f"{much} a {sign} line along {angle}"
    return f"{much} a fading wave with stripes along {angle}"


def _strange(kernel: Array, judgement: Judgement) -> str:
    energy = unit(kernel) ** 2
    largest = float(energy.max())
    if largest > 1 - UNEXPLAINED:
        row, column = np.unravel_index(int(np.argmax(energy)), kernel.shape)
        if (2 * row + 1, 2 * column + 1) != kernel.shape:
            return f"{largest:.0%} of its energy is one tap beside the middle: it shifts"
        return f"{largest:.0%} of its energy is the middle tap, which is negative: it inverts"
    if judgement.explained > 1 - UNEXPLAINED:
        return f"{judgement.explained:.0%} a smooth window, but negative: neighbours are averaged and inverted"
    return "no identity, blur, sharpening, edge, line or wave is like it"


def _middle(kernel: Array) -> float:
    """The sum of the taps about the middle: one, or two where a side is even."""
    rows, columns = ((side - 1) // 2 for side in kernel.shape)
    return float(kernel[rows : kernel.shape[0] - rows, columns : kernel.shape[1] - columns].sum())


def _waves(kernel: Array) -> str:
    response = frequency_response(kernel, WAVES)
    flat = float(kernel.sum())
    down, across = np.unravel_index(int(np.argmax(response)), response.shape)
    frequency = float(np.hypot(np.fft.fftfreq(WAVES)[down], np.fft.fftfreq(WAVES)[across]))
    flat_areas = f"flat areas come out times {flat if abs(flat) > 1e-9 * response.max() else 0.0:.3g}"
    if response.min() > (1 - 1e-9) * response.max():
        return f"{flat_areas}, and so does every wave"
    if frequency == 0:
        return f"{flat_areas}, more than any wave"
    return f"{flat_areas}, waves of {1 / frequency:.1f} pixels most strongly, times {response.max():.3g}"

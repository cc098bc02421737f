"""Which label a kernel has, how sure that is, and which way it points.

A kernel is taken as a member of some family (see `families`), of any positive scale, plus white Gaussian noise whose
share s of the energy is one of `NOISE`. A member that leaves a share r of the kernel's energy over has the likelihood
s^(-N / 2) exp(-N r / (2 s)) for N taps, and a label's score is its probability: the mean likelihood of its members and
of the noise, over the sum for all labels. "other" holds kernels whose energy lies in one tap beside the middle, blurs
and identities turned negative, and everything of which no family explains about two thirds.

Direction. Taps with noise cannot tell a direction better than about sqrt(r / N) radians (the Cramer-Rao bound for a
kernel that turns by mixing two others of its energy): 6 degrees for 3 x 3 taps when a tenth of the energy is noise.
What helps is to know what people draw. We believe at first that 99 of 100 kernels point to a multiple of 45 degrees,
and correct that belief by all kernels that are judged together; a kernel gets such a multiple where that is more
probable than any other direction, and its direction as measured otherwise. Both are told.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.network.kernels.families import LABELS, MAX_SIDE, Array, Bank, Family, Plane, bank, unit

NOISE = (1e-6, 1e-5, 1e-4, 0.03, 0.1, 0.3)
"""The shares of energy that may be noise, all as likely: that of rounding to two to four digits, or one that shows."""
UNEXPLAINED = 0.35
"""The share of energy that the best family leaves over in kernels that are like no family."""
_DOUBT = -4.0  # the logarithm of how likely such a kernel is beside those of one label
_DRAWN, _BELIEF = 0.99, 20.0  # the share of directions that are multiples of 45, and how many kernels that counts for
_ROUNDS = 20
_REFINED = 6  # the families whose directions are looked at degree by degree


@dataclass(frozen=True)
class Direction:
    """Which way a kernel points, in degrees.

    Args:
        angle: the most probable direction, given that most kernels point to multiples of 45 degrees.
        measured: the best direction by the kernel's taps alone.
        spread: the standard deviation that noise leaves to `measured`, added up over whole degrees.
    """

    angle: float
    measured: float
    spread: float


@dataclass(frozen=True)
class Judgement:
    """What a kernel is.

    Args:
        label: the most probable of `LABELS`.
        scores: the probability of each.
        explained: the share of the kernel's energy that the best member of the label accounts for.
        direction: for the labels that have one.
    """

    label: str
    scores: dict[str, float]
    explained: float
    direction: Direction | None


def judge(kernels: Sequence[Array]) -> list[Judgement]:
    """Judge kernels `(height, width)` that belong together.

    Args:
        kernels: finite numbers, at least one of them not zero, used for cross-correlation.
    """
    courses = [_Course(prepared(kernel)) for kernel in kernels]
    share = _share_of_multiples([course for course in courses if course.turn])
    return [
        Judgement(course.label, course.scores, course.explained, course.direction(share) if course.turn else None)
        for course in courses
    ]


def prepared(kernel: Array) -> Array:
    """`kernel` without the borders that are zero on both sides, sums of 2 x 2 taps where it is still too long."""
    while kernel.any() and len(kernel) > 2 and not kernel[[0, -1]].any():
        kernel = kernel[1:-1]
    while kernel.any() and kernel.shape[1] > 2 and not kernel[:, [0, -1]].any():
        kernel = kernel[:, 1:-1]
    while max(kernel.shape) > MAX_SIDE:
        even = np.pad(kernel, [(0, side % 2) for side in kernel.shape])
        kernel = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return kernel


def log_likelihood(left: Array, taps: int) -> Array:
    """How likely a kernel of `taps` taps is that leaves the share `left` of its energy to noise, up to a constant."""
    levels = [-taps / 2 * (np.log(share) + left / share) for share in NOISE]
    return np.asarray(np.logaddexp.reduce(levels, axis=0))


@functools.lru_cache(maxsize=32)
def _every_degree(family: Family) -> Array:
    """The members for 0, 1, ..., 359 degrees, `(360, taps)`, each of unit energy."""
    return np.array([unit(family.make(float(angle))).ravel() for angle in range(360)])


class _Course:
    """One kernel against the bank: its scores, and how its likelihood changes with the direction."""

    def __init__(self, kernel: Array) -> None:
        self._kernel = unit(kernel)
        self._plane = Plane(*kernel.shape)
        members = bank(*kernel.shape)
        fit = members.templates @ self._kernel.ravel()
        evidence = self._log_likelihood(fit) + members.log_weight
        self.scores = self._scores(members, evidence)
        self.label = max(self.scores, key=lambda label: self.scores[label])
        own = members.label == LABELS.index(self.label)
        best = int(np.argmax(np.where(own, evidence, -np.inf)))
        self.explained = float(fit[best]) ** 2 if own.any() else 0.0
        self.turn = {"oriented edge": 360, "line": 180, "Gabor-like": 180}.get(self.label, 0)
        if self.turn:
            self._look_around(*self._nearest_family(members, np.where(own, evidence, -np.inf)))

    def _log_likelihood(self, fit: Array) -> Array:
        """Of members by their cosine with the kernel; a member of the other sign explains nothing."""
        return log_likelihood(1 - np.clip(fit, 0, 1) ** 2, self._kernel.size)

    def _scores(self, members: Bank, evidence: Array) -> dict[str, float]:
        taps = self._kernel.ravel()
        shifted = taps[self._plane.squared_radius.ravel() >= 1] if self._plane.tap is not None else taps[:0]
        strangers = [_DOUBT + float(log_likelihood(np.array(UNEXPLAINED), taps.size))]
        if shifted.size:
            strangers += [self._log_likelihood(np.abs(shifted)).max() - np.log(2 * taps.size)]
        logs = np.full(len(LABELS), -np.inf)
        for number, label in enumerate(LABELS):
            own = evidence[members.label == number]
            logs[number] = np.logaddexp.reduce([*own, *(strangers if label == "other" else [])], initial=-np.inf)
        weights = np.exp(logs - logs.max())
        return dict(zip(LABELS, (weights / weights.sum()).tolist(), strict=True))

    def _nearest_family(self, members: Bank, evidence: Array) -> tuple[Family, float]:
        """The family with the best member in any direction, and that direction, which no bank holds exactly.

        Mixtures of two kernels are worked out; of the others the likeliest few are looked at degree by degree.
        """
        found: list[tuple[float, float, Family]] = []
        looked_at = 0
        # Rounded, so that of families that fit alike the same one is chosen however the kernel is turned.
        likeliest = np.maximum.reduceat(evidence, np.flatnonzero(np.diff(members.family, prepend=-1))).round(6)
        for number in np.argsort(-likeliest, kind="stable"):
            family = members.families[number]
            if family.label != self.label:
                continue
            if family.axes is not None:
                right, up = (float((axis * self._kernel).sum()) for axis in family.axes)
                found.append((math.hypot(right, up), math.degrees(math.atan2(up, right)), family))
            elif looked_at < _REFINED:
                looked_at += 1
                found.append((*self._peak(family), family))
        _, angle, family = max(found, key=lambda each: round(each[0], 13))
        return family, angle

    def _fits(self, family: Family) -> Array:
        """The cosine with the family's kernel for every direction of one turn that is looked at."""
        if self._plane.flat:
            angles = self._plane.directions(family.turn, 1)
            return np.array([self._fit(family, angle) for angle in angles])
        return _every_degree(family) @ self._kernel.ravel()

    def _fit(self, family: Family, angle: float) -> float:
        return float((unit(family.make(angle)) * self._kernel).sum())

    def _peak(self, family: Family) -> tuple[float, float]:
        """The best fit in any direction, and that direction: where a parabola through whole degrees peaks."""
        fits = self._fits(family)
        best = int(np.argmax(fits))
        if self._plane.flat:
            return float(fits[best]), float(self._plane.directions(family.turn, 1)[best])
        before, here, after = (float(fits[(best + step) % 360]) for step in (-1, 0, 1))
        bend = before + after - 2 * here
        angle = best - (after - before) / (2 * bend) if bend < 0 else float(best)
        return self._fit(family, angle), angle

    def _look_around(self, family: Family, best: float) -> None:
        """The direction as measured, and the likelihood of every whole degree up to a factor."""
        self._measured = best
        self._angles = self._plane.directions(self.turn, 1)
        fits = self._fits(family)
        if len(fits) == 2 * len(self._angles):  # half a turn leaves the stripes of a wave as they are, not its phase
            fits = np.maximum(*np.split(fits, 2))
        logs = self._log_likelihood(fits)
        self._likelihood = np.exp(logs - logs.max())

    def odds(self) -> float:
        """How much more probable the kernel is if it points to a multiple of 45 degrees than to any direction."""
        multiples = self._angles % 45 == 0
        return float(self._likelihood[multiples].mean() / self._likelihood.mean())

    def direction(self, share: float) -> Direction:
        """The most probable direction where `share` of all directions are multiples of 45 degrees."""
        away = (self._angles - self._measured + self.turn / 2) % self.turn - self.turn / 2
        spread = float(np.sqrt((self._likelihood * away**2).sum() / self._likelihood.sum()))
        measured = round(self._measured, 6) % self.turn
        angle = measured
        if share * self.odds() > 1 - share:
            multiples = self._angles % 45 == 0
            angle = float(self._angles[np.argmax(np.where(multiples, self._likelihood, -1))])
        return Direction(angle, measured, spread)


def _share_of_multiples(courses: Sequence[_Course]) -> float:
    """The share of kernels that point to multiples of 45 degrees: the belief, corrected by those that are there."""
    odds: NDArray[np.float64] = np.array([course.odds() for course in courses])
    share = _DRAWN
    for _ in range(_ROUNDS if len(odds) else 0):  # expectation and maximisation
        multiple = share * odds / (share * odds + 1 - share)
        share = (float(multiple.sum()) + _DRAWN * _BELIEF) / (len(odds) + _BELIEF)
    return share

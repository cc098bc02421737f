"""Gradient-descent runs at a few learning rates, chosen so that the best one for every number of steps is among them.

The runs begin around the rates that a forecast proposes, go on upwards until they no longer lower the loss and
downwards while lower is better, and close in on the best rate for some steps. A rate counts as best only if its
neighbours lower the loss too: what a single lucky rate reaches among rates that diverge is not to be recommended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

MOST_RUNS = 60
_NEARLY = 0.97  # of the largest decrease, and
_SIMILAR = 0.25  # of the least loss above it, make a valley nearly as deep
_FINEST = 2**0.125  # neighbours of the best rate are no further away than this


class Runs:
    """Losses of runs, by learning rate.

    Args:
        descend: the losses after 0, 1, ..., T steps, `(T + 1,)`, at a learning rate.
        steps: T, the length of every run.
        progress: called with the number of runs done after each.
    """

    def __init__(
        self, descend: Callable[[float], Vector], steps: int, progress: Callable[[int], None] | None = None
    ) -> None:
        self._descend, self._steps, self._progress = descend, steps, progress
        self._found: dict[float, Vector] = {}

    def run(self, rate: float) -> Vector:
        """The losses after 0, 1, ..., T steps, `(T + 1,)`; inf where the run has diverged."""
        if rate not in self._found:
            losses = self._descend(rate)
            self._found[rate] = np.where(np.isfinite(losses), losses, np.inf)
            if self._progress is not None:
                self._progress(len(self._found))
        return self._found[rate]

    @property
    def rates(self) -> Vector:
        """The learning rates that were run, `(m,)`, ascending."""
        return np.array(sorted(self._found))

    @property
    def losses(self) -> Vector:
        """Their losses, `(m, T + 1)`."""
        return np.array([self._found[rate] for rate in sorted(self._found)])

    @property
    def any_lowers(self) -> bool:
        """Whether one of them lowers the loss after some number of steps."""
        return bool(self._found) and bool(self._lowering().any())

    @property
    def full(self) -> bool:
        """Whether enough has been run."""
        return len(self._found) >= MOST_RUNS

    def best(self, step: int) -> int | None:
        """Which of the rates is best after `step` steps; None where none lowers the loss.

        Where the loss over the rate has several valleys, the first one that is nearly as deep as the deepest: a far
        one is often that of a network whose units have died, which no longer learns.
        """
        losses = self.losses[:, step]
        first = self.losses[0, 0]
        lowers = losses < first
        sheltered = lowers & np.append(lowers[1:], True) & np.insert(lowers[:-1], 0, True)
        allowed = sheltered if sheltered.any() else lowers
        deepest = _least(losses, allowed)
        if deepest is None:
            return None
        least = losses[deepest]
        before, after = np.insert(losses[:-1], 0, np.inf), np.append(losses[1:], np.inf)
        near = (first - losses >= _NEARLY * (first - least)) & (losses - least <= _SIMILAR * abs(least))
        valley = allowed & (losses <= before) & (losses <= after)
        return int(np.flatnonzero((near & valley) | (losses == least) & allowed)[0])

    def search(self, proposed: Sequence[float], steps: Sequence[int]) -> None:
        """Run what is needed to know the best rate for the steps asked about.

        Args:
            proposed: learning rates near which the best ones should lie.
            steps: the numbers of steps whose best rates to close in on; every run answers for all others as well.
        """
        for rate in dict.fromkeys(proposed):
            self.run(rate)
        self._bracket()
        for step in steps:
            while not self.full and (between := self._between(step)):
                for rate in between:
                    self.run(rate)

    def _bracket(self) -> None:
        """Fill gaps of more than 2, and go on at both ends while there may be more to find."""
        for low, high in pairwise(self.rates):
            parts = int(np.ceil(np.log2(high / low) - 1e-9))
            for rate in np.geomspace(low, high, parts + 1)[1:-1]:
                self.run(float(rate))
        while not self.full and self._lowering()[-2:].any():
            self.run(2 * float(self.rates[-1]))
        while not self.full and (self._bests() == 0).any():
            self.run(float(self.rates[0]) / 2)

    def _lowering(self) -> NDArray[np.bool_]:
        """For each rate, whether it lowers the loss after some number of steps."""
        losses = self.losses
        return np.asarray((losses[:, 1:] < losses[:, :1]).any(axis=1))

    def _bests(self) -> NDArray[np.intp]:
        """The best rate's index for each number of steps; the lowest rate where none lowers the loss."""
        return np.array([self.best(step) or 0 for step in range(1, self._steps + 1)])

    def _between(self, step: int) -> list[float]:
        """The rates half-way from the best ones to their neighbours, where these are not near enough.

        The lowest of all counts among them, sheltered or not: a nearer neighbour may show that it is.
        """
        rates, losses = self.rates, self.losses
        places = {self.best(step), _least(losses[:, step], losses[:, step] < losses[:, 0])} - {None}
        pairs = {(low, low + 1) for place in places if place is not None for low in (place - 1, place)}
        inside = [(rates[low], rates[high]) for low, high in sorted(pairs) if low >= 0 and high < len(rates)]
        return [float(np.sqrt(low * high)) for low, high in inside if high > _FINEST * 1.001 * low]


def _least(values: Vector, allowed: NDArray[np.bool_]) -> int | None:
    """Where the least of the values allowed is; None where none is."""
    return int(np.argmin(np.where(allowed, values, np.inf))) if allowed.any() else None

"""What the ledger of facts is made of: a fact, a wrong version of it, a worked step; and the search that refutes.

A counterexample is never typed in, except that of F3.2's misprint. It is the first one that a search over small
integers meets, in the order of size: fewest numbers first, then the smallest ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Wrong:
    """A version of a fact that is wrong, and the smallest case that shows it."""

    claim: str
    counterexample: str


@dataclass(frozen=True)
class Step:
    """One line of a worked fact: what is computed and what comes out."""

    what: str
    value: str


@dataclass(frozen=True)
class Fact:
    """One fact of the ledger.

    Args:
        id: its number, such as "F2.8".
        claim: the fact in one sentence.
        computed: the numbers that the textbook's functions gave here and now.
        error: the largest difference from an independent check; relative where the numbers are large.
        holds: the error is below 1e-10, and every comparison that the claim makes came out true.
        wrong: versions of it that are wrong.
        steps: how the numbers come about, line by line.
    """

    id: str
    claim: str
    computed: str
    error: float
    holds: bool
    wrong: tuple[Wrong, ...]
    steps: tuple[Step, ...]


def fact(
    number: str,
    claim: str,
    computed: str,
    error: float,
    *,
    comparisons: Iterable[bool] = (),
    wrong: Sequence[Wrong] = (),
    steps: Sequence[tuple[str, object]] = (),
) -> Fact:
    """A fact, which holds if its error is small and all its comparisons are true; the values of steps are shown."""
    holds = bool(error < TOLERANCE) and all(comparisons)
    worked = tuple(Step(what, value if isinstance(value, str) else show(value)) for what, value in steps)
    return Fact(number, claim, computed, float(error), holds, tuple(wrong), worked)


def largest_difference(*pairs: tuple[Any, Any]) -> float:
    """The largest absolute difference between two values of a pair, relative to the second where that exceeds 1."""
    differences = []
    for computed, check in pairs:
        computed, check = np.asarray(computed, dtype=float), np.asarray(check, dtype=float)
        assert computed.shape == check.shape, f"shapes {computed.shape} and {check.shape} cannot be compared"
        differences.append(np.max(np.abs(computed - check) / np.maximum(1, np.abs(check))))
    return float(max(differences))


def show(value: object) -> str:
    """A number, truth value or array as one writes it by hand: 2, 0.25, 1/3, yes, [1, 2]."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Fraction | int | str):
        return str(value)
    if isinstance(value, np.ndarray | list | tuple):
        return "[" + ", ".join(show(item) for item in value) + "]"
    number = round(float(value), 12) + 0  # type: ignore[arg-type]  # adding 0 turns -0 into 0
    fraction = Fraction(number).limit_denominator(12)
    if number != round(number, 4) and abs(number - fraction) < 1e-11:
        return str(fraction)
    return f"{number:.10g}"


class Problem(NamedTuple):
    """A least-squares problem in small integers."""

    X: Array
    t: Array
    w0: Array

    def __str__(self) -> str:
        """The problem as one would write it down."""
        return f"X = {show(self.X)}, t = {show(self.t)}, w0 = {show(self.w0)}"


def integer_arrays(shape: tuple[int, ...], bound: int) -> Iterator[Array]:
    """Every array of whole numbers from -bound to bound, the smallest first, positive before negative."""
    entries = product(range(-bound, bound + 1), repeat=int(np.prod(shape)))
    for values in sorted(entries, key=lambda row: (sum(map(abs, row)), [-value for value in row])):
        yield np.array(values, dtype=float).reshape(shape)


def small_problems(n: int, d: int, bound: int) -> Iterator[Problem]:
    """Every problem with n rows, d columns and whole numbers up to `bound`, the smallest first."""
    for entries in integer_arrays((n * d + n + d,), bound):
        yield Problem(entries[: n * d].reshape(n, d), entries[n * d : n * d + n], entries[n * d + n :])


Cases: TypeAlias = Iterator[tuple[str, Any, Any]]


def refute(claim: str, cases: Cases) -> Wrong:
    """The wrong claim with the first case in which it gives something else than the truth.

    Args:
        claim: what is wrong, in one sentence.
        cases: for every case, the smallest first, its description, what the claim gives and what is true.
    """
    for description, given, truth in cases:
        if largest_difference((given, truth)) > TOLERANCE:
            return Wrong(claim, f"{description}: the wrong version gives {show(given)}, the truth is {show(truth)}")
    raise AssertionError(f"no counterexample among the cases tried: {claim}")

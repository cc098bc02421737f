"""The points at which a reader's formula is tried: what is given, what each symbol means there, and how to draw them.

A `Setting` is a situation that facts speak about; a `Case` is one point of it. Random cases decide whether a formula
is right; small cases, in increasing order, are searched for a counterexample that can be checked by hand. Everything
is a fraction: even the random "reals" are decimals with one digit, so that equal means equal.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from thalweg.textbook.checking.formula import Kind
from thalweg.textbook.checking.rational import Array, exact

Sizes: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class Symbol:
    """One symbol of a setting.

    Args:
        kind: number, vector or matrix.
        meaning: what it stands for, as a noun phrase.
        value: computes it from what is given; None for what is given itself.
    """

    kind: Kind
    meaning: str
    value: Callable[[Case], Any] | None = None


@dataclass(frozen=True)
class Choice:
    """A given number or matrix that is not filled with free entries, such as a rate.

    Args:
        small: the values tried in a counterexample, the nicest first.
        draw: a random value.
    """

    small: Callable[[Sizes], Sequence[Any]]
    draw: Callable[[random.Random, Sizes], Any]


@dataclass(frozen=True)
class Setting:
    """A situation that facts speak about.

    Args:
        sizes: whole numbers from 1, each with the largest used in a counterexample and in a random case.
        arrays: the given arrays, each with its shape in names of sizes.
        choices: the given numbers.
        symbols: every symbol a formula may use, given ones included.
        admits_sizes: whether the facts speak about these sizes.
        admits: whether they speak about this case; degenerate ones, where nothing moves, are left out.
        loss: what `L(w)` is, where a formula may call it.
    """

    sizes: Mapping[str, tuple[int, int]]
    arrays: Mapping[str, tuple[str, ...]]
    choices: Mapping[str, Choice]
    symbols: Mapping[str, Symbol]
    admits_sizes: Callable[[Sizes], bool] = lambda sizes: True
    admits: Callable[[Case], bool] = lambda case: True
    loss: Callable[[Case, Array], Fraction] | None = None

    def case(self, sizes: Sizes, **given: Any) -> Case:
        """The point with these sizes and these given arrays and numbers."""
        values = {name: exact(value) if np.ndim(value) else Fraction(value) for name, value in given.items()}
        return Case(self, sizes, values)

    def all_sizes(self, *, small: bool) -> list[dict[str, int]]:
        """Every combination of sizes, those with the least work by hand first."""
        ranges = [range(1, limits[0 if small else 1] + 1) for limits in self.sizes.values()]
        combinations = [dict(zip(self.sizes, numbers, strict=True)) for numbers in itertools.product(*ranges)]
        admitted = [sizes for sizes in combinations if self.admits_sizes(sizes)]
        return sorted(admitted, key=lambda sizes: (math.prod(sizes.values()), *sizes.values()))

    def random_case(self, rng: random.Random, sizes: Sizes, *, decimals: bool) -> Case:
        """An admitted case: integers within +-3, or decimals with one digit within +-2."""
        while True:
            given: dict[str, Any] = {}
            for name, shape in self.arrays.items():
                entries = [_random_entry(rng, decimals) for _ in range(_count(shape, sizes))]
                given[name] = exact(entries).reshape([sizes[axis] for axis in shape])
            for name, choice in self.choices.items():
                given[name] = choice.draw(rng, sizes) if decimals else rng.choice(choice.small(sizes))
            case = Case(self, sizes, given)
            if self.admits(case):
                return case

    def small_cases(self, sizes: Sizes) -> Iterator[Case]:
        """Admitted cases with whole entries within +-2, the smallest and least negative first."""
        counts = [_count(shape, sizes) for shape in self.arrays.values()]
        choices = [choice.small(sizes) for choice in self.choices.values()]
        for numbers in _whole_vectors(sum(counts)):
            given: dict[str, Any] = {}
            rest = list(numbers)
            for (name, shape), count in zip(self.arrays.items(), counts, strict=True):
                given[name] = exact(rest[:count]).reshape([sizes[axis] for axis in shape])
                rest = rest[count:]
            for chosen in itertools.product(*choices):
                case = Case(self, sizes, {**given, **dict(zip(self.choices, chosen, strict=True))})
                if self.admits(case):
                    yield case


def _random_entry(rng: random.Random, decimals: bool) -> Fraction:
    return Fraction(rng.randint(-20, 20), 10) if decimals else Fraction(rng.randint(-3, 3))


def _count(shape: tuple[str, ...], sizes: Sizes) -> int:
    return math.prod(sizes[axis] for axis in shape)


def _whole_vectors(length: int) -> Iterator[tuple[int, ...]]:
    """Vectors of whole numbers within +-2: by largest entry, then by sum of absolute values, positive ones first."""
    for largest in (1, 2):
        for total in range(length * largest + 1):
            for sizes in _compositions(length, total, largest):
                if length and max(sizes) < largest and largest > 1:
                    continue  # met already
                places = [place for place, size in enumerate(sizes) if size]
                for negative in range(len(places) + 1):
                    for flipped in itertools.combinations(places, negative):
                        yield tuple(-size if place in flipped else size for place, size in enumerate(sizes))
        if not length:
            return


def _compositions(length: int, total: int, largest: int) -> Iterator[tuple[int, ...]]:
    if length == 0:
        if total == 0:
            yield ()
        return
    for first in range(min(total, largest), -1, -1):
        if total - first <= (length - 1) * largest:
            for rest in _compositions(length - 1, total - first, largest):
                yield (first, *rest)


@dataclass(frozen=True, eq=False)
class Case:
    """One point of a setting: sizes, and a value for everything given."""

    setting: Setting
    sizes: Sizes
    given: Mapping[str, Any]
    _derived: dict[str, Any] = field(default_factory=dict, repr=False)

    def __call__(self, name: str) -> Any:
        """The value of a symbol, or for `"L"` the loss as a function of the weights."""
        if name == "L" and self.setting.loss is not None:
            return partial(self.setting.loss, self)
        if name in self.given:
            return self.given[name]
        if name in self.sizes:
            return Fraction(self.sizes[name])
        if name not in self._derived:
            compute = self.setting.symbols[name].value
            assert compute is not None, f"{name} is not given"
            self._derived[name] = compute(self)
        return self._derived[name]

    @property
    def volume(self) -> int:
        """The product of its sizes: how much work it is by hand."""
        return math.prod(self.sizes.values())

    def with_given(self, **changed: Any) -> Case:
        """The same case with some of what is given changed."""
        return Case(self.setting, self.sizes, {**self.given, **changed})

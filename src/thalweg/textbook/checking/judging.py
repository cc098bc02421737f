"""Whether a formula equals a quantity: the comparison at many points, and the search for the smallest where it fails.

A formula is right when it agrees at every random point where it has a value, and has one at every point that is not
special. Division by zero or a singular matrix at some whole-number points is no error; a formula that has no value at
a point drawn from a continuum, or at most of the points, is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from thalweg.textbook.checking.cases import Case, Setting, Sizes
from thalweg.textbook.checking.evaluation import (
    Identity,
    MisfitError,
    NoValueError,
    UndefinedError,
    Value,
    describe,
    evaluate,
)
from thalweg.textbook.checking.formula import Node
from thalweg.textbook.checking.rational import is_exact
from thalweg.textbook.checking.targets import Quantity

SAMPLES = 40
_SMALL_POINTS = 600  # looked at per combination of sizes, in search of a counterexample
_SMALL_SIZES = 3  # combinations of sizes searched

# For formulas that leave the rationals (roots, exp, log): what rounding may do, relative to the value itself and to
# the largest number met on the way to it.
_RELATIVE, _ROUNDING = 1e-9, 1e-12


@dataclass(frozen=True, eq=False)
class Sample:
    """A point and the right value there.

    Args:
        case: the point.
        truth: the right value.
        generic: whether the point was drawn from a continuum, so that no accident explains a missing value.
    """

    case: Case
    truth: Value
    generic: bool


@dataclass(frozen=True, eq=False)
class Outcome:
    """A formula's fate at one sample.

    Args:
        sample: the point.
        value: what the formula gives, None where it has no value.
        fault: why it has none, or why its value is not of the right shape.
        agrees: whether it equals the truth.
        work: multiplications spent.
    """

    sample: Sample
    value: Value | None
    fault: NoValueError | None
    agrees: bool
    work: int = 0

    @property
    def counts_against(self) -> bool:
        """Whether it shows the formula to be wrong: another value, another shape, or none without an excuse."""
        excused = isinstance(self.fault, UndefinedError) and not self.sample.generic
        return not self.agrees and not excused


def random_samples(
    quantity: Quantity,
    count: int = SAMPLES,
    *,
    sizes: Sequence[Sizes] | None = None,
    changed: Callable[[Case], Case] = lambda case: case,
    only_generic: bool = False,
) -> Iterator[Sample]:
    """Random points of a quantity's setting with the truth at each, whole numbers and decimals in turn.

    Args:
        quantity: what is computed.
        count: how many; fewer where the truth is not defined.
        sizes: the sizes to draw from, all that the setting admits if None.
        changed: applied to every point, to impose a condition on it.
        only_generic: whether to draw decimals only.
    """
    rng = random.Random(0)
    setting = quantity.setting
    combinations = list(setting.all_sizes(small=False) if sizes is None else sizes)
    rng.shuffle(combinations)
    for number in range(count if combinations else 0):
        decimals = _is_continuous(setting) and (only_generic or number % 2 == 0)
        case = changed(setting.random_case(rng, combinations[number % len(combinations)], decimals=decimals))
        truth = quantity.truth(case)
        if truth is not None:
            yield Sample(case, truth, decimals)


def _is_continuous(setting: Setting) -> bool:
    return bool(setting.arrays)


def compare(root: Node, sample: Sample) -> Outcome:
    """Evaluate a formula at a sample and hold it against the truth there."""
    try:
        evaluated = evaluate(root, sample.case)
    except NoValueError as fault:
        return Outcome(sample, None, fault, agrees=False)
    value = evaluated.value
    if _shape(value) != _shape(sample.truth):
        misfit = MisfitError(f"{describe(value)} where {describe(sample.truth)} is asked for")
        return Outcome(sample, value, misfit, agrees=False, work=evaluated.work)
    agrees = _equal(value, sample.truth, evaluated.magnitude)
    return Outcome(sample, value, None, agrees, evaluated.work)


def _shape(value: Value) -> tuple[int, ...] | None:
    if isinstance(value, Identity):
        return None
    return value.shape if isinstance(value, np.ndarray) else ()


def _equal(value: Value, truth: Value, magnitude: float) -> bool:
    yours, right = np.asarray(value, dtype=object), np.asarray(truth, dtype=object)
    if is_exact(yours):
        return bool(np.all(yours == right))
    yours, right = yours.astype(float), right.astype(float)
    scale = max(np.max(np.abs(yours)), np.max(np.abs(right)))
    return bool(np.max(np.abs(yours - right)) <= _RELATIVE * scale + _ROUNDING * magnitude)


def is_right(root: Node, samples: Iterable[Sample]) -> bool:
    """Whether no sample counts against a formula and at least half of them speak for it."""
    agreed = met = 0
    for sample in samples:
        outcome = compare(root, sample)
        if outcome.counts_against:
            return False
        agreed, met = agreed + outcome.agrees, met + 1
    return 2 * agreed >= met


def smallest_failure(root: Node, quantity: Quantity, samples: Sequence[Sample]) -> Outcome:
    """The counterexample that is easiest to check by hand, for a formula known to be wrong.

    Sizes in which two random points show no failure are passed over: there the formula is right. Sizes whose shapes do
    not fit come first, because that is what a person has to mend first. Within a combination of sizes the points
    come in the order of `Setting.small_cases`.

    Args:
        root: the formula.
        quantity: what it should be.
        samples: random points, one of which shows the formula to be wrong; the answer if no small point does.
    """
    failing = []
    for sizes in quantity.setting.all_sizes(small=True):
        probes = random_samples(quantity, 2, sizes=[sizes], only_generic=True)
        outcomes = [outcome for outcome in (compare(root, probe) for probe in probes) if outcome.counts_against]
        if outcomes:
            failing.append((sizes, outcomes[0].fault))
    failing.sort(key=lambda found: not isinstance(found[1], MisfitError))
    for sizes, fault in failing[:_SMALL_SIZES]:
        for outcome in _small_outcomes(root, quantity, sizes):
            if not outcome.agrees and (outcome.fault is None or isinstance(outcome.fault, type(fault))):
                return outcome
    by_size = sorted(samples, key=lambda sample: (sample.generic, sample.case.volume))
    return next(outcome for outcome in (compare(root, sample) for sample in by_size) if not outcome.agrees)


def _small_outcomes(root: Node, quantity: Quantity, sizes: Sizes) -> Iterator[Outcome]:
    for number, case in enumerate(quantity.setting.small_cases(sizes)):
        if number == _SMALL_POINTS:
            return
        truth = quantity.truth(case)
        if truth is not None:
            yield compare(root, Sample(case, truth, generic=False))


def ratio(outcome: Outcome) -> Fraction | float | None:
    """The number r with `value = r * truth`; None where there is none or the truth is zero."""
    if outcome.value is None or outcome.fault is not None:
        return None
    yours, right = (np.asarray(value, dtype=object).ravel() for value in (outcome.value, outcome.sample.truth))
    if not np.any(right != 0):
        return None
    largest = int(np.argmax(np.abs(right)))
    factor: Fraction | float = yours[largest] / right[largest]
    return factor if _equal(yours, factor * right, 0.0) else None

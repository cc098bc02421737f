"""What is off with a wrong formula: a factor, a sign, an exponent, a transpose; or where it does hold, such as T = 1.

Nothing here is a guess: every sentence was tried on the same random points that decide whether a formula is right. A
factor is named when the formula is exactly that multiple of the truth at all of them, an edit when the edited formula
is right at all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from thalweg.errors import InputError
from thalweg.textbook.checking.cases import Case, Setting, Sizes
from thalweg.textbook.checking.edits import edits
from thalweg.textbook.checking.evaluation import MisfitError, Number, evaluate
from thalweg.textbook.checking.formula import Node, Vocabulary, parse, symbols_in, walk
from thalweg.textbook.checking.judging import Outcome, Sample, compare, is_right, random_samples, ratio
from thalweg.textbook.checking.targets import Quantity, Target


@dataclass
class Budget:
    """How much may still be tried: the number of multiplications left, roughly."""

    left: int = 120_000

    def allows(self, work: int) -> bool:
        """Spend some of it, and say whether there was enough."""
        self.left -= work
        return self.left >= 0


@dataclass(frozen=True)
class Diagnosis:
    """What is off.

    Args:
        text: the sentences for the reader.
        closeness: how near the formula came to the quantity: 3 for one edit or a constant factor away, 2 for a factor
            that follows the symbols, 1 where it holds only under a condition, 0 where only a trouble is known.
    """

    text: str
    closeness: int


def diagnose(root: Node, name: str, target: Target, samples: Sequence[Sample], budget: Budget) -> Diagnosis | None:
    """Say what is off with a formula that is known to be wrong, where it can be told.

    Args:
        root: the formula.
        name: which of the fact's quantities it should be.
        target: the fact.
        samples: the points that showed it to be wrong.
        budget: what may be tried; a formula that is dear to evaluate gets no diagnosis.
    """
    quantity = target.quantities[name]
    outcomes: list[Outcome] = []
    for sample in samples:
        outcomes.append(compare(root, sample))
        if not budget.allows(outcomes[-1].work):
            return None
    trouble = _trouble(outcomes)
    exact = _another_quantity(root, name, target) or _factor(outcomes, target.vocabulary(name))
    if exact:
        return exact
    edit = _edit(root, outcomes, target.vocabulary(name), budget)
    where = _holds_where(root, quantity)
    sentences = [sentence for sentence in (trouble, where, edit) if sentence]
    return Diagnosis(" ".join(sentences), 3 if edit else 1 if where else 0) if sentences else None


_OTHER_SHAPE, _NO_FIT, _NO_VALUE = "It gives", "The shapes do not fit", "It does not always have a value"


def tells_of_a_fault(diagnosis: str) -> bool:
    """Whether a diagnosis begins with why the formula has no value, or one of the wrong shape."""
    return diagnosis.startswith((_OTHER_SHAPE, _NO_FIT, _NO_VALUE))


def _trouble(outcomes: Sequence[Outcome]) -> str | None:
    """Why the formula has no value, or one of the wrong shape, if that is what is wrong."""
    against = [outcome for outcome in outcomes if outcome.counts_against and outcome.fault is not None]
    for outcome in sorted(against, key=lambda one: (not isinstance(one.fault, MisfitError), one.sample.case.volume)):
        if outcome.value is not None:
            return f"{_OTHER_SHAPE} {outcome.fault}."
        return f"{_NO_FIT if isinstance(outcome.fault, MisfitError) else _NO_VALUE}: {outcome.fault}."
    return None


def _another_quantity(root: Node, name: str, target: Target) -> Diagnosis | None:
    kind = target.quantities[name].kind
    for other_name, other in target.quantities.items():
        candidate = other_name != name and other.kind == kind and speaks_of(other.setting, root)
        if candidate and is_right(root, random_samples(other, 20)):
            return Diagnosis(f"It is right for {other_name}, {other.meaning}, not for {name}.", 3)
    return None


def speaks_of(setting: Setting, root: Node) -> bool:
    """Whether every symbol of a formula means something in a setting."""
    calls_loss = any(part.operator == "call" and part.value == "L" for part in walk(root))
    return symbols_in(root) <= set(setting.symbols) and (setting.loss is not None or not calls_loss)


# A factor: the formula is a fixed multiple of the truth, or one that follows T, n, eta, ...

_FACTORS = (
    "T",
    "2*T - 1",
    "n",
    "d",
    "b",
    "eta",
    "lam",
    "delta",
    "k",
    "c_in",
    "c_out",
    "height",
    "width",
    "stride",
    "dilation",
    "layers",
)
_LARGEST_CONSTANT = 1000


def _factor(outcomes: Sequence[Outcome], vocabulary: Vocabulary) -> Diagnosis | None:
    if any(outcome.counts_against and outcome.fault is not None for outcome in outcomes):
        return None
    sound = [outcome for outcome in outcomes if outcome.fault is None]
    judged = [outcome for outcome in sound if np.any(outcome.sample.truth != 0)]
    zeros = [outcome for outcome in sound if not np.any(outcome.sample.truth != 0)]
    if not all(outcome.agrees for outcome in zeros):  # no multiple of zero is anything else
        return None
    ratios = [ratio(outcome) for outcome in judged]
    found = [factor for factor in ratios if factor]
    if len(found) < len(ratios) or len(found) < 8:
        return None
    fitted = _monomial([outcome.sample.case for outcome in judged], found, vocabulary)
    if fitted is None:
        return None
    constant, powers = fitted
    if constant == -1 and not powers:
        return Diagnosis("The sign is wrong: your formula is minus the truth.", 3)
    inverse = _monomial_text(1 / constant, {name: -power for name, power in powers.items()})
    text = f"Your formula is {_monomial_text(constant, powers)} times the truth: multiply it by {inverse}."
    return Diagnosis(text, 2 if powers else 3)


def _monomial(
    cases: Sequence[Case], ratios: Sequence[Number], vocabulary: Vocabulary
) -> tuple[Fraction, dict[str, int]] | None:
    """The constant c and the whole powers p with ratio = c * T^p1 * n^p2 * ... in every case, if there are any."""
    given = {name for name, symbol in cases[0].setting.symbols.items() if symbol.value is None}
    names = [name for name in _FACTORS if set(re.findall(r"[a-zA-Z]\w*", name)) <= given]
    values = {name: [_number_at(parse(name, vocabulary).root, case) for case in cases] for name in names}
    varying = {name: column for name, column in values.items() if len(set(column)) > 1 and min(column) > 0}
    logarithms = [[math.log(entry) for entry in column] for column in varying.values()]
    matrix = np.array([[1.0] * len(cases), *logarithms]).T
    solution = np.linalg.lstsq(matrix, np.log([abs(float(factor)) for factor in ratios]), rcond=None)[0]
    powers = {name: round(power) for name, power in zip(varying, solution[1:], strict=True) if round(power)}
    rests = [
        factor / math.prod(varying[name][number] ** power for name, power in powers.items())
        for number, factor in enumerate(ratios)
    ]
    constant = Fraction(rests[0]).limit_denominator(_LARGEST_CONSTANT)
    if constant == 0 or abs(constant.numerator) > _LARGEST_CONSTANT:
        return None
    if constant == 1 and not powers:  # as near to the truth as a factor can be told
        return None
    close = all(_equal(rest, constant) for rest in rests)
    return (constant, powers) if close else None


def _equal(number: Number, constant: Fraction) -> bool:
    """Exactly, unless the number has been rounded on the way."""
    return math.isclose(number, constant, rel_tol=1e-9) if isinstance(number, float) else number == constant


def _number_at(node: Node, case: Case) -> Fraction:
    value = evaluate(node, case).value
    assert isinstance(value, Fraction)
    return value


def _monomial_text(constant: Fraction, powers: Mapping[str, int]) -> str:
    def product(parts: Mapping[str, int], number: int) -> tuple[str, int]:
        factors = [
            (f"({name})" if " " in name else name) + (f"**{power}" if power > 1 else "")
            for name, power in parts.items()
        ]
        if number != 1 or not factors:
            factors.insert(0, str(number))
        return "*".join(factors), len(factors)

    above, _ = product({name: power for name, power in powers.items() if power > 0}, constant.numerator)
    below, count = product({name: -power for name, power in powers.items() if power < 0}, constant.denominator)
    if below == "1":
        return above
    return f"{above}/{below}" if count == 1 else f"{above}/({below})"


def _edit(root: Node, outcomes: Sequence[Outcome], vocabulary: Vocabulary, budget: Budget) -> str | None:
    """The first single edit that makes the formula right."""
    revealing = sorted(outcomes, key=lambda one: (not one.counts_against, not one.sample.generic, one.work))
    samples = [outcome.sample for outcome in revealing]
    setting = samples[0].case.setting
    # where lam is not given it is 0, and an edit that puts it in only takes something out
    offered = {name for name, symbol in setting.symbols.items() if name != "lam" or symbol.value is None}
    nodes = sum(1 for _ in walk(root))
    work = max(revealing[0].work, nodes, nodes**2 // 20)  # the kind of every part is found afresh at every place
    for edit in edits(root, vocabulary, offered):
        if not budget.allows(work):
            return None
        try:
            if is_right(edit.root, samples):
                return edit.describe()
        except InputError:  # the edit asks for too much work
            continue
    return None


# Where it holds.


@dataclass(frozen=True)
class _Condition:
    words: str
    sizes: Callable[[Sizes], bool] = lambda sizes: True
    changed: Callable[[Case], Case] = lambda case: case
    speaks_of: tuple[str, ...] = ()


def _one(size: str) -> _Condition:
    return _Condition(f"{size} = 1", sizes=lambda sizes: sizes[size] == 1, speaks_of=(size,))


_CONDITIONS = (
    _one("T"),  # the wider conditions before those they contain
    _Condition("d >= n", sizes=lambda sizes: sizes["d"] >= sizes["n"], speaks_of=("n", "d")),
    _Condition("n >= d", sizes=lambda sizes: sizes["n"] >= sizes["d"], speaks_of=("n", "d")),
    _one("n"),
    _one("d"),
    _one("b"),
    _Condition("w0 = 0", changed=lambda case: case.with_given(w0=0 * case("w0")), speaks_of=("w0",)),
    _Condition("2*eta/n = 1", changed=lambda case: case.with_given(eta=case("n") / 2), speaks_of=("n", "eta")),
    # k = 1 last: there the receptive field is 1 whatever the others are
    *(_one(size) for size in ("stride", "dilation", "layers", "k")),
)


def _holds_where(root: Node, quantity: Quantity) -> str | None:
    setting = quantity.setting
    given = {*setting.sizes, *setting.arrays, *setting.choices}
    for condition in _CONDITIONS:
        if not given.issuperset(condition.speaks_of):
            continue
        sizes = [combination for combination in setting.all_sizes(small=False) if condition.sizes(combination)]
        samples = random_samples(quantity, 8, sizes=sizes, changed=condition.changed, only_generic=True)
        if sizes and all(compare(root, sample).agrees for sample in samples):
            return f"It is right where {condition.words}, but not in general."
    return None

"""A reader's own formula against the truth.

    >>> answer = check("F2.5", "dL1 = -(2/n)**2 * a.T @ (I + S) @ K @ a")
    >>> answer.correct
    False
    >>> print(answer.counterexample.text)
    With X = [[1]], t = [1], w0 = [0], eta = 1/2 and so n = 1, a = [-1], S = [[1]], K = [[1]], your formula gives -8; \
the truth is 0.
    >>> print(answer.diagnosis)
    A sign is wrong: it is right with I - S in place of I + S at column 26.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import InputError
from thalweg.report import Cell, Result, Table
from thalweg.textbook.checking.cases import Case
from thalweg.textbook.checking.diagnosis import Budget, Diagnosis, diagnose, speaks_of, tells_of_a_fault
from thalweg.textbook.checking.evaluation import Value, show
from thalweg.textbook.checking.formula import Formula, Node, kind_of, parse, walk
from thalweg.textbook.checking.judging import (
    Outcome,
    Sample,
    compare,
    is_right,
    random_samples,
    smallest_failure,
)
from thalweg.textbook.checking.targets import TARGETS, Quantity, Target

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False)
class Example:
    """One point, what the formula gives there and what is true there.

    Args:
        sizes: the sizes of the point, such as n and d.
        inputs: everything that was chosen at the point, also what neither the formula nor the truth depends on.
        given: the values that define it.
        derived: the values of the formula's other symbols.
        yours: what the formula gives, None where it has no value.
        truth: the right value.
        fault: why the formula has no value, or one of the wrong shape.
    """

    sizes: Mapping[str, int] = field(repr=False)
    inputs: Mapping[str, Any] = field(repr=False)
    given: Mapping[str, Value]
    derived: Mapping[str, Value]
    yours: Value | None
    truth: Value
    fault: str | None

    @property
    def text(self) -> str:
        """The example in one sentence."""
        given, derived = (
            ", ".join(f"{name} = {show(value)}" for name, value in values.items())
            for values in (self.given, self.derived)
        )
        return (
            f"With {given}{f' and so {derived}' if derived else ''}, {self.verdict}; the truth is {show(self.truth)}."
        )

    @property
    def verdict(self) -> str:
        """What the formula gives, as a clause."""
        if self.yours is None:
            return f"your formula has no value, for {self.fault}"
        return f"your formula gives {show(self.yours)}" + (f", {self.fault}" if self.fault else "")

    def to_dict(self) -> dict[str, Any]:
        """Numbers are numbers where they are whole or rounded, and text such as "3/4" where they are fractions."""
        return {
            "symbols": {name: _plain(value) for name, value in {**self.given, **self.derived}.items()},
            "yours": None if self.yours is None else _plain(self.yours),
            "truth": _plain(self.truth),
            "text": self.text,
        }


def _plain(value: Value) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, Fraction) and value.denominator == 1:
        return int(value)
    return value if isinstance(value, float) else show(value)


@dataclass(frozen=True, eq=False, repr=False)
class Check(Result):
    """The verdict on a reader's formula.

    Args:
        id: the fact.
        quantity: which of the fact's quantities the formula was held against.
        formula: the formula as given, without blanks around it.
        correct: whether it is right.
        example: a point where it can be seen: the smallest counterexample found, or one where both agree.
        diagnosis: what is off with a wrong formula, where a right one has no value; None where there is nothing to say.
        compared: the number of random points at which the formula was compared, at most.
    """

    id: str
    quantity: str
    formula: str
    correct: bool
    example: Example
    diagnosis: str | None
    compared: int

    @property
    def counterexample(self) -> Example | None:
        """The smallest point found where the formula is wrong; None if it is right."""
        return None if self.correct else self.example

    def table(self) -> Table:
        """The verdict, and the example symbol by symbol."""
        target = TARGETS[self.id].quantities[self.quantity]
        values = {**self.example.given, **self.example.derived}
        rows: list[tuple[Cell, ...]] = [("formula", self.formula)]
        rows += [(name, show(value)) for name, value in values.items()]
        yours = "no value" if self.example.yours is None else show(self.example.yours)
        rows += [("your formula gives", yours), ("the truth", show(self.example.truth))]
        points = f"Compared at {self.compared} random points, whole numbers and decimals."
        notes = [self.diagnosis] if self.diagnosis else []
        if self.correct:
            notes.append(points)
        elif self.example.fault and not tells_of_a_fault(self.diagnosis or ""):
            notes.append(f"At this point {self.example.verdict}.")
        verdict = "right" if self.correct else "wrong"
        return Table(f"{self.id}: {verdict} for {self.quantity}, {target.meaning}", ("", "value"), rows, notes)

    def figure(self) -> go.Figure:
        """The formula's value and the truth, over the learning rate if they depend on it, with the example's data."""
        import plotly.graph_objects as go

        target = TARGETS[self.id].quantities[self.quantity]
        root = parse(self.formula, TARGETS[self.id].vocabulary()).root
        swept = "eta" in target.needs
        case = Case(target.setting, self.example.sizes, self.example.inputs)
        cases = _rates(case) if swept else [case]
        outcomes = [compare(root, Sample(case, truth, generic=False)) for case, truth in _with_truth(target, cases)]
        figure = go.Figure()
        for label, values, dash in (
            ("the truth", [_entries(outcome.sample.truth) for outcome in outcomes], "solid"),
            ("your formula", [_entries(outcome.value, outcome.sample.truth) for outcome in outcomes], "dash"),
        ):
            for entry in range(len(values[0])):
                name = label if len(values[0]) == 1 else f"{label}, entry {entry + 1}"
                heights = [value[entry] for value in values]
                if swept:
                    rates = [float(outcome.sample.case("eta")) for outcome in outcomes]
                    figure.add_scatter(x=rates, y=heights, name=name, mode="lines", line={"dash": dash, "width": 3})
                else:
                    figure.add_bar(x=[f"entry {entry + 1}"], y=heights, name=name)
        verdict = "right" if self.correct else "wrong"
        figure.update_layout(title=f"{self.id}: {verdict} for {self.quantity}", yaxis_title=self.quantity)
        if swept:
            figure.update_layout(xaxis_title="learning rate eta")
        return figure

    def to_dict(self) -> dict[str, Any]:
        """The verdict; "counterexample" holds "symbols", "yours", "truth" and "text", or is null.

        In it numbers are numbers where they are whole or rounded, and text such as "3/4" where they are fractions.
        """
        return {
            "id": self.id,
            "quantity": self.quantity,
            "formula": self.formula,
            "correct": self.correct,
            "counterexample": self.counterexample and self.counterexample.to_dict(),
            "diagnosis": self.diagnosis,
        }


def check(id: str, formula: str) -> Check:  # noqa: A002 - the name under which the ledger prints it
    """Hold a reader's own formula for a fact against the truth.

    The formula is read by a whitelist and evaluated in fractions at 40 random points, small whole numbers and decimals
    of one digit, with n and d from 1 to 4 and T from 1 to 5; the truth at each is computed from first principles, by
    literal steps. A wrong formula gets the smallest counterexample that was found, by hand-sized numbers, and where it
    can be told what is off with it.

    Symbols (each fact knows those that make sense for it): `X` (n x d), `t` (n), `w0` (d), `eta`, `T`, `n`, `d`,
    `a` = X w0 - t, `K` = X X^T, `S` = (2 eta/n) K, `I` (of the size that fits), `h` = 2 eta/n, `lam`,
    `H` = 2 (X^T X/n + lam I), `g` (the gradient at w0), `w_lam` (the minimiser), `e` = w0 - w_lam, `L(w)` (the loss);
    in F1.1 the batch `X_B`, `t_B`, `b` and the weights `w`; in F1.2 and F1.4 the batches `Xi`, `ti`, `Xj`, `tj`, `Xk`,
    `tk` and the momentum `delta`; in F1.6 the preconditioner `P`; in F3.2 `k`, `c_in`, `c_out`, `height`, `width`; in
    F3.3 `k`, `stride`, `dilation`, `layers`. `η`, `λ` and `δ` may be written for `eta`, `lam` and `delta`.

    Operations: `+ - * / @`, `**` for powers of numbers, `.T`, brackets, `inv`, `pinv`, `solve(M, v)`, `mpow(M, k)`,
    `norm` (Euclidean; Frobenius for a matrix), `dot`, `outer`, `trace`, `diag(v)`, `eye(n)`, `sum(v)`, `sqrt`, `exp`,
    `log`, `abs`, `sign`, and sums as in `sum(mpow(I - S, k) @ a for k in range(T))`. Vectors are neither rows nor
    columns: `a @ K @ a` and `a.T @ K @ a` are the same number.

    Args:
        id: the fact, such as `"F2.8"`.
        formula: one expression, which may carry the name of the quantity it stands for: `"dL = ..."`. Without a name it
            is right if it equals any quantity of the fact.

    Returns:
        The verdict, with an example and, for a wrong formula, a diagnosis where there is one.

    Raises:
        InputError: there is no formula to check for that fact, or the formula is no text, cannot be read, names an
            unknown symbol or asks for an operation that NumPy would carry out entry by entry; shapes that do not fit
            are no such error, they make the formula wrong.
    """
    target = _target(id)
    if not isinstance(formula, str):
        raise InputError(f"A formula is text, such as 'w0 - eta*g', and this is of type {type(formula).__name__}.")
    formula = formula.strip()
    parsed = parse(formula, target.vocabulary())
    candidates = _candidates(parsed, target)
    points = {name: _points(target.id, name) for name in candidates}
    for name, quantity in candidates.items():
        if is_right(parsed.root, points[name]):
            outcomes = [compare(parsed.root, sample) for sample in points[name]]
            example = _example(_agreement(outcomes), quantity, parsed.root)
            return Check(target.id, name, formula, True, example, _gaps(outcomes), len(outcomes))
    name, diagnosis = _likeliest(parsed.root, candidates, target, points)
    failure = smallest_failure(parsed.root, candidates[name], points[name])
    example = _example(failure, candidates[name], parsed.root)
    return Check(target.id, name, formula, False, example, diagnosis.text if diagnosis else None, len(points[name]))


@functools.cache
def _points(fact: str, quantity: str) -> tuple[Sample, ...]:
    """The points that decide; kept, because a reader tries more than one formula for a fact."""
    return tuple(random_samples(TARGETS[fact].quantities[quantity]))


def _target(name: str) -> Target:
    if not isinstance(name, str):
        raise InputError(f"The id of a fact is text, such as 'F2.8', and this is of type {type(name).__name__}.")
    by_lower_case = {known.lower(): target for known, target in TARGETS.items()}
    target = by_lower_case.get(name.strip().lower())
    if target is None:
        raise InputError(
            f"There is no formula to check for {name!r}; the facts that have one are {', '.join(TARGETS)}."
        )
    return target


def _candidates(formula: Formula, target: Target) -> dict[str, Quantity]:
    """The quantities that a formula may stand for."""
    if formula.quantity is None:
        return {
            name: quantity for name, quantity in target.quantities.items() if speaks_of(quantity.setting, formula.root)
        }
    quantity = target.quantities[formula.quantity]
    if not speaks_of(quantity.setting, formula.root):
        known = ", ".join(quantity.setting.symbols)
        raise InputError(f"{formula.quantity} of {target.id} is {quantity.meaning}; write it in {known}.")
    return {formula.quantity: quantity}


def _likeliest(
    root: Node, candidates: Mapping[str, Quantity], target: Target, points: Mapping[str, tuple[Sample, ...]]
) -> tuple[str, Diagnosis | None]:
    """The quantity a wrong formula was probably meant for: one it can be mended for, or else of its kind."""
    kind = kind_of(root, target.vocabulary())
    alike = [name for name, quantity in candidates.items() if quantity.kind == kind] or list(candidates)
    budget = Budget()
    found = [(name, diagnose(root, name, target, points[name], budget)) for name in alike]
    return max(found, key=lambda each: -1 if each[1] is None else each[1].closeness)


def _agreement(outcomes: list[Outcome]) -> Outcome:
    """A point where a right formula and the truth can be seen to agree, small if possible."""
    agreeing = [outcome for outcome in outcomes if outcome.agrees]
    return min(agreeing, key=lambda one: (one.sample.generic, one.sample.case.volume))


def _gaps(outcomes: list[Outcome]) -> str | None:
    fault = next((outcome.fault for outcome in outcomes if outcome.fault is not None), None)
    return f"It has no value at some points: {fault}." if fault else None


def _example(outcome: Outcome, quantity: Quantity, root: Node) -> Example:
    case = outcome.sample.case
    used = [str(part.value) for part in walk(root) if part.operator == "symbol" and part.value != "I"]
    derived = [name for name in dict.fromkeys(used) if name in case.setting.symbols and name not in quantity.needs]
    return Example(
        case.sizes,
        case.given,
        {name: case(name) for name in quantity.needs},
        {name: case(name) for name in derived},
        outcome.value,
        outcome.sample.truth,
        None if outcome.fault is None else str(outcome.fault),
    )


def _rates(case: Case, count: int = 60) -> list[Case]:
    """The case at learning rates from 0 to twice its own."""
    return [case.with_given(eta=2 * case("eta") * number / count) for number in range(count + 1)]


def _with_truth(quantity: Quantity, cases: list[Case]) -> list[tuple[Case, Value]]:
    truths = [(case, quantity.truth(case)) for case in cases]
    return [(case, truth) for case, truth in truths if truth is not None]


def _entries(value: Value | None, like: Value | None = None) -> list[float | None]:
    """The numbers in a value; as many gaps as another value has where there is none, or one of another shape."""
    numbers = np.asarray(value, dtype=object).ravel()
    wanted = np.asarray(value if like is None else like, dtype=object).ravel()
    if value is None or len(numbers) != len(wanted):
        return [None] * len(wanted)
    return [float(number) for number in numbers]

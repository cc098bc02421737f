"""The ledger: every fact of the handbook computed, checked and held against its wrong versions.

>>> answer = facts("F3.2")
>>> answer.facts[0].computed
'1,957,988 neurons, 52,444,644 parameters, 999,407,616 connections'
>>> print(answer.facts[0].wrong[0].claim)
the last layer, FC-100, has 105,200 parameters
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError, unknown_name
from thalweg.report import Result, Table
from thalweg.textbook import ledger_convolution, ledger_implicit_bias, ledger_learning_rate, ledger_unrolled
from thalweg.textbook.ledger import TOLERANCE, Fact, Step, Wrong

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["FACTS", "Fact", "Facts", "Step", "Wrong", "facts"]

FACTS: dict[str, Callable[[], Fact]] = {
    **ledger_implicit_bias.FACTS,
    **ledger_unrolled.FACTS,
    **ledger_learning_rate.FACTS,
    **ledger_convolution.FACTS,
}


@dataclass(frozen=True, repr=False)
class Facts(Result):
    """Facts of the ledger, in the handbook's order: all of them, or one worked step by step."""

    facts: tuple[Fact, ...]

    def table(self) -> Table:
        """One row for every fact: what it claims, what was computed, how far a check is from it, right or wrong."""
        rows = [
            (fact.id, fact.claim, fact.computed, fact.error, "right" if fact.holds else "WRONG") for fact in self.facts
        ]
        return Table(
            "The facts, computed and checked", ("id", "claim", "computed", "error", "verdict"), rows, (self.verdict(),)
        )

    def verdict(self) -> str:
        """One sentence on how many facts hold, and which do not."""
        failing = [fact.id for fact in self.facts if not fact.holds]
        if failing:
            return f"DO NOT HOLD: {', '.join(failing)} of {len(self.facts)} facts."
        what = "The fact holds" if len(self.facts) == 1 else f"All {len(self.facts)} facts hold"
        return f"{what}: each error, against an independent check, is below {TOLERANCE:.0e}."

    def wrong_table(self) -> Table:
        """One row for every wrong version, with the smallest counterexample that a search found."""
        rows = [(fact.id, wrong.claim, wrong.counterexample) for fact in self.facts for wrong in fact.wrong]
        return Table("Wrong versions, and the smallest case that refutes each", ("id", "claim", "counterexample"), rows)

    def steps_table(self) -> Table:
        """The facts line by line: what is computed and what comes out."""
        rows = [(step.what, step.value) for fact in self.facts for step in fact.steps]
        return Table("Step by step", ("what", "value"), rows)

    def tables(self) -> list[Table]:
        """The facts; for one alone also its steps; and the wrong versions, where there are any."""
        tables = [self.table(), *([self.steps_table()] if len(self.facts) == 1 else []), self.wrong_table()]
        return [table for table in tables if table.rows]

    def figure(self) -> go.Figure:
        """For one fact its own picture, where it has one; otherwise the error of every fact against what is allowed."""
        from thalweg.textbook import pictures

        if len(self.facts) == 1 and (draw := pictures.PICTURES.get(self.facts[0].id)) is not None:
            return draw()
        return pictures.errors(self.facts)

    def to_dict(self) -> dict[str, Any]:
        """`facts`: a list of `id`, `claim`, `computed`, `holds`, `error`, `steps` and `wrong`."""
        return {
            "facts": [
                {
                    "id": fact.id,
                    "claim": fact.claim,
                    "computed": fact.computed,
                    "holds": fact.holds,
                    "error": fact.error,
                    "steps": [asdict(step) for step in fact.steps],
                    "wrong": [asdict(wrong) for wrong in fact.wrong],
                }
                for fact in self.facts
            ]
        }


def facts(id: str | None = None) -> Facts:  # noqa: A002  # the id of a fact is what it is called everywhere
    """Compute the facts of the handbook here and now, each with its error against an independent check.

    Args:
        id: one fact's number, in upper or lower case, such as `"F1.5w"`; all facts when left out.

    Returns:
        The facts, their worked steps and the wrong versions with a counterexample each.

    Raises:
        InputError: there is no fact of that number.
    """
    if id is None:
        return Facts(tuple(compute() for compute in FACTS.values()))
    if not isinstance(id, str):
        raise InputError(f"The id of a fact is text, such as 'F2.8', and this is of type {type(id).__name__}.")
    by_lower_case = {known.lower(): compute for known, compute in FACTS.items()}
    if id.lower() not in by_lower_case:
        raise unknown_name("fact", id, FACTS)
    return Facts((by_lower_case[id.lower()](),))

"""One call of a layer, and what is taken hold of of its result while the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from thalweg.errors import InputError
from thalweg.network.graph import Graph, written

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One call of a layer in a run.

    Args:
        name: the path of the layer.
        number: which call of that layer, from 0.
        calls: how many the network makes.
        parts: the names of other layers that are parts of it, without its own in front.
        shape: of its result, without the batch.
        unit: where the unit is in that.
    """

    name: str
    number: int
    calls: int
    parts: frozenset[str]
    shape: tuple[int, ...]
    unit: tuple[int | slice, ...]

    @classmethod
    def of(cls, graph: Graph, place: int, unit: tuple[int | slice, ...]) -> Call:
        """The call that an operation of a graph is, and a unit in it."""
        operation = graph.operations[place]
        name = operation.name
        same = [number for number, each in enumerate(graph.operations) if each.name == name]
        inside = f"{name}."
        parts = frozenset(each.name.removeprefix(inside) for each in graph.operations if each.name.startswith(inside))
        return cls(name, same.index(place), len(same), parts, operation.output.shape, unit)

    def place_in(self, shape: tuple[int, ...] | None, number: int) -> tuple[int | slice, ...] | None:
        """Where the unit is in the result of a call of the layer; None where it is another call's.

        Args:
            shape: of the result, the batch included unless there is none; None for what is no array.
            number: which call it is, from 0.

        Raises:
            InputError: it has not the shape of the layer's result.
        """
        if number != self.number:
            return None
        if shape == self.shape:  # of examples one after the other, of which there is one
            return self.unit
        wanted = (1, *self.shape)
        if shape != wanted:
            told = "no single array" if shape is None else f"an array of {written(shape)}"
            raise InputError(
                f"{self.name!r} gives {told} where {written(wanted)} (batch included) are expected, so that the unit "
                "cannot be found in it; ask about another layer."
            )
        return (0, *self.unit)

    def own(self, units: Sequence[T | None]) -> T:
        """The unit, once all calls of the layer have left theirs: None each but for the one that has the unit.

        Raises:
            InputError: there were not as many calls as layers of that name.
        """
        if len(units) != self.calls:
            raise InputError(
                f"{self.name!r} was called {len(units)} times and stands for {self.calls} layers of that name, so that "
                "they cannot be told apart; ask about another layer."
            )
        unit = units[self.number]
        assert unit is not None, "taken when the call came"
        return unit

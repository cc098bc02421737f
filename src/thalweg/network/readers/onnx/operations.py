"""What an operation of a file is given, and the table of those that are known.

Each family of operations has a file of its own, whose functions put themselves into the table with `handles`. Such a
function gets a `Call` and returns what the operation makes. Where its shape cannot be known it raises
`UnfollowedError`, and the operation is named as unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

from thalweg.errors import InputError
from thalweg.network.graph import written
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.masks import Mask
from thalweg.network.readers.onnx.file import MAX_RANK, checked
from thalweg.network.readers.onnx.node import Node
from thalweg.network.readers.onnx.values import Value
from thalweg.network.readers.recorder import Recorder

if TYPE_CHECKING:
    from thalweg.network.readers.onnx.file import Numbers
    from thalweg.network.readers.onnx.run import Run, Scope

MICROSOFT = "com.microsoft"


class UnfollowedError(Exception):
    """What an operation makes cannot be said from the file alone."""


@dataclass(slots=True)
class Call:
    """One operation at work.

    Args:
        node: as it stands in the file.
        inputs: what goes in; None for what is left out.
        recorder: writes down what computes.
        opset: the version of its set of operations.
        name: what people call it.
        module: the path of the module that does it.
        run: the whole network.
        scope: the names that it may use.
    """

    node: Node
    inputs: tuple[Value | None, ...]
    recorder: Recorder
    opset: int
    name: str
    module: str
    run: Run
    scope: Scope

    def fail(self, reason: str) -> NoReturn:
        """Refuse the network because of this operation."""
        raise InputError(f"{self.name!r} {reason}.")

    def has(self, place: int) -> bool:
        """Whether an input is given."""
        return place < len(self.inputs) and self.inputs[place] is not None

    def value(self, place: int) -> Value:
        """An input."""
        value = self.inputs[place] if place < len(self.inputs) else None
        if value is None:
            self.fail(f"needs an input number {place + 1}")
        if value.items is not None:
            self.fail("is given a sequence where it needs an array")
        return value

    def array(self, place: int) -> Array:
        """An input as the recorder knows it."""
        return self.value(place).array

    def weight(self, place: int) -> Array | None:
        """An input that holds parameters, whatever their type; None where it is not given."""
        if not self.has(place):
            return None
        value = self.value(place)
        if not value.array.is_constant:
            raise UnfollowedError
        if not value.array.weights and value.origin:
            return self.recorder.weight(value.origin, value.shape)
        return value.array

    def weights(self, *places: int) -> list[Array]:
        """Several of them, those that are given."""
        found = (self.weight(place) for place in places)
        return [each for each in found if each is not None]

    def numbers(self, place: int) -> Numbers:
        """The numbers of an input."""
        numbers = self.value(place).numbers()
        if numbers is None:
            raise UnfollowedError
        return numbers

    def integers(self, place: int) -> tuple[int, ...]:
        """The whole numbers of an input, which is a list or one number."""
        numbers = self.numbers(place)
        if numbers.dtype.kind not in "ib" or numbers.ndim > 1 or numbers.size > 4 * MAX_RANK:
            self.fail(f"needs a list of whole numbers as its input number {place + 1}")
        return tuple(int(number) for number in numbers.reshape(-1))

    def mask(self, place: int, how: Callable[[Numbers | None], Mask]) -> Mask | None:
        """What an input hides, added, multiplied with or chosen by; None where it holds parameters, or one number."""
        value = self.value(place)
        if math.prod(value.shape) < 2:
            return None
        if value.array.weights:  # learned, unless all heads have the same for every query
            return Mask(None) if len(value.shape) > 1 and math.prod(value.shape[:-2]) == 1 < value.shape[-2] else None
        return value.masks(how)

    def integers_of(self, attribute: str, place: int) -> tuple[int, ...] | None:
        """Whole numbers that early files give as an attribute and later ones as an input; None where neither does."""
        if self.node.has(attribute):
            return self.node.integers(attribute)
        return self.integers(place) if self.has(place) else None

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < rank:
            self.fail(f"works along axis {axis}, but there are {rank} axes")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Axes counted from the front, each once."""
        found = tuple(self.axis(axis, rank) for axis in axes)
        if len(set(found)) < len(found):
            self.fail("names an axis twice")
        return found

    def common(self, *shapes: Sequence[int]) -> tuple[int, ...]:
        """The shape that arrays are repeated to together, as NumPy does."""
        rank = max(len(shape) for shape in shapes)
        wanted = [1] * rank
        for shape in shapes:
            for axis, extent in enumerate(shape, rank - len(shape)):
                if extent != 1:
                    if wanted[axis] not in (1, extent):
                        self.fail(
                            f"joins shapes that do not match: {' and '.join(written(tuple(shape)) for shape in shapes)}"
                        )
                    wanted[axis] = extent
        return tuple(wanted)

    def part(self, x: Array, axis: int, start: int, stop: int, step: int = 1) -> Array:
        """Some indices of one axis; none leave nothing that depends on an input."""
        if not range(start, stop, step):
            return self.recorder.constant((*x.shape[:axis], 0, *x.shape[axis + 1 :]))
        return self.recorder.slice(x, axis, start, stop, step, self.name, self.module)

    def constant(self, shape: Sequence[int]) -> Value:
        """Numbers that depend on no input and are no weights."""
        return Value(self.recorder.constant(checked(tuple(shape), self.name)))

    def wants(self, place: int) -> bool:
        """Whether an output has a name, so that somebody may ask for it."""
        return place < len(self.node.outputs) and bool(self.node.outputs[place])


Made = Value | Sequence[Value | None]
Handler = Callable[[Call], Made]
_Given = TypeVar("_Given", bound=Handler)

HANDLERS: dict[tuple[str, str], Handler] = {}
"""What is known: by domain and operator."""


def handles(*operators: str, domain: str = "") -> Callable[[_Given], _Given]:
    """Puts a function into the table, for some operators of a domain."""

    def into(handler: _Given) -> _Given:
        HANDLERS.update(dict.fromkeys([(domain, operator) for operator in operators], handler))
        return handler

    return into

"""A value on its way through the file: an array of the recorder, and its numbers where shapes may be made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thalweg.network.readers.arrays import Array
from thalweg.network.readers.masks import Mask

if TYPE_CHECKING:
    from thalweg.network.readers.onnx.file import Numbers


@dataclass(slots=True, eq=False)
class Value:
    """What a name in the file stands for.

    Args:
        array: its shape, where its positions are, and which weights it was computed from.
        known: its numbers, where it has few that depend on no input; or a function that reads them once.
        origin: the name of the tensor in the file that it is, where it is one.
        generated: whether an exporter put it there, so that nobody need have learned it.
        lost: whether nothing is known of it, not even its shape.
        items: its members, where it is a sequence.
        nan_of: of which tensor it says whether its values are numbers at all.
    """

    array: Array
    known: Numbers | Callable[[], Numbers | None] | None = None
    origin: str = ""
    generated: bool = False
    lost: bool = False
    items: tuple[Value, ...] | None = None
    nan_of: int | None = None
    _masks: dict[Callable[[Numbers | None], Mask], Mask] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""
        return self.array.shape

    def numbers(self) -> Numbers | None:
        """Its numbers, where they are known."""
        if callable(self.known):
            self.known = self.known()
        return self.known

    def is_uniform(self) -> bool:
        """Whether all its numbers are known to be the same."""
        numbers = self.numbers()
        return numbers is not None and numbers.size > 0 and bool((numbers == numbers.flat[0]).all())

    def masks(self, how: Callable[[Numbers | None], Mask]) -> Mask:
        """What its numbers hide when they are added, multiplied with, or chosen by, worked out once."""
        if how not in self._masks:
            self._masks[how] = how(self.numbers())
        return self._masks[how]

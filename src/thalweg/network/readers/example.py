"""The inputs with which a PyTorch module is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.network.readers.lazy_torch import torch

Shape = tuple[int, ...]
Rows = tuple[int, ...] | tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Example:
    """The inputs of a run.

    Args:
        shapes: their extents, without the batch.
        dtypes: the kinds of their elements; None for that of the weights.
        names: of the inputs, where they are not given by their place.
        mask: the name under which the module takes a mask of the tokens that count, where it has one.
        masked: the place of the input that the mask is for.
        notes: what had to be decided, in sentences.
        numbers: further inputs whose numbers are known, such as how many rows and columns of patches an image has: the
            name of each, and what one example adds to it.
        in_a_row: whether the module takes examples one after the other along the first axis of its inputs, instead of
            a batch of them.
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[torch.dtype | None, ...] = ()
    names: tuple[str, ...] = ()
    mask: str = ""
    masked: int = 0
    notes: tuple[str, ...] = ()
    numbers: tuple[tuple[str, Rows], ...] = ()
    in_a_row: bool = False

    def run(self, module: torch.nn.Module, tensors: Sequence[torch.Tensor], **others: torch.Tensor) -> Any:
        """What the module makes of these inputs, which have a batch in front, and of others by name."""
        for name, rows in self.numbers:
            others[name] = torch.tensor(rows * len(tensors[0]))
        given = [each.flatten(0, 1) if self.in_a_row else each for each in tensors]
        if self.names:
            return module(**dict(zip(self.names, given, strict=True)), **others)
        return module(*given, **others)

    def each(self, dtype: torch.dtype) -> Iterator[tuple[Shape, torch.dtype]]:
        """Every shape and the kind of its elements."""
        for place, shape in enumerate(self.shapes):
            own = self.dtypes[place] if place < len(self.dtypes) else None
            yield shape, own or dtype

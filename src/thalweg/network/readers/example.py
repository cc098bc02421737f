"""The inputs with which a PyTorch module is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thalweg.network.readers.lazy_torch import torch

Shape = tuple[int, ...]


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
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[torch.dtype | None, ...] = ()
    names: tuple[str, ...] = ()
    mask: str = ""
    masked: int = 0
    notes: tuple[str, ...] = ()

    def each(self, dtype: torch.dtype) -> Iterator[tuple[Shape, torch.dtype]]:
        """Every shape and the kind of its elements."""
        for place, shape in enumerate(self.shapes):
            own = self.dtypes[place] if place < len(self.dtypes) else None
            yield shape, own or dtype

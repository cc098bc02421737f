"""Numbers that are known while a PyTorch module runs without data: those that depend on neither inputs nor weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.network.readers.arrays import Array
from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.torch_routing import Choice

MARK = "_thalweg"
"""The attribute under which a tensor of the run has its `Traced`."""

FEW = frozenset({"arange", "zeros", "ones", "full", "scalar_tensor", "empty"})
"""Operations that make constants from nothing."""

_UNWRITTEN = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"})
"""Operations that make constants whose numbers come later; until then we take them for 0."""


@dataclass(slots=True)
class Traced:
    """What a tensor of the run is.

    Args:
        array: what the recorder knows of it.
        value: its numbers, where they are known.
        base: the tensor that it is a view of.
        choice: how often its numbers name or let through what, where a network has chosen by data.
    """

    array: Array
    value: torch.Tensor | None = None
    base: torch.Tensor | None = None
    choice: Choice | None = None


def is_real(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds its numbers itself."""
    mark: Traced | None = getattr(tensor, MARK, None)
    return not tensor.is_meta and (mark is None or mark.value is tensor)


def value_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """The numbers of a tensor of the run, where they are known."""
    mark: Traced | None = getattr(tensor, MARK, None)
    value = mark.value if mark is not None else tensor
    return None if value is None or value.is_meta else value


def worked_out(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation makes of known numbers; None where some are not known, or it does not run."""

    def known(x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            mark = getattr(x, MARK, None)
            if mark is None and not x.is_meta:
                return x
            if mark is None or mark.value is None:
                raise LookupError
            return mark.value
        if isinstance(x, torch.device):
            return torch.device("cpu")
        return type(x)(known(each) for each in x) if type(x) in (list, tuple) else x

    try:
        known_kwargs = {key: "cpu" if key == "device" else known(each) for key, each in kwargs.items()}
        made = func(*known(args), **known_kwargs)
    except Exception:
        return None
    return made.zero_() if func.overloadpacket.__name__ in _UNWRITTEN else made


def without_numbers(x: Any) -> Any:
    """Tensors of the same shapes without data."""
    if isinstance(x, torch.Tensor):
        return torch.empty_like(x, device="meta")
    return type(x)(without_numbers(each) for each in x) if type(x) in (list, tuple) else x


def masks_as_places(indices: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None] | None:
    """An index in which the places that masks let through stand for them; None where the numbers of one are unknown."""
    found: list[torch.Tensor | None] = []
    for each in indices:
        if each is None or each.dtype is not torch.bool:
            found.append(each)
            continue
        value = value_of(each)
        if value is None:
            return None
        found += [place.to("meta") for place in value.nonzero().unbind(1)]
    return found


def places_of(marks: Sequence[Traced], array: Array) -> list[int] | None:
    """The places that an index of whole numbers names, or a mask lets through, where they are known.

    `array` is that of one of the marks.
    """
    value = next((mark.value for mark in marks if mark.array is array), None)
    if value is None or value.is_meta or value.dtype not in (torch.int64, torch.int32, torch.bool):
        return None
    places: list[int] = (value.nonzero() if value.dtype is torch.bool else value).flatten().tolist()
    return places

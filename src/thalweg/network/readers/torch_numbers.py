"""Numbers that are known while a PyTorch module runs without data: those that depend on neither inputs nor weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.network.readers.arrays import Array
from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.masks import LOW
from thalweg.network.readers.torch_copy import MOST_VALUES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thalweg.network.readers.torch_routing import Choice

MARK = "_thalweg"
"""The attribute under which a tensor of the run has its `Traced`."""

FEW = frozenset({"arange", "zeros", "ones", "full", "scalar_tensor", "empty"})
"""Operations that make constants from nothing."""

_FILLS = {"zeros_like": 0, "zeros": 0, "ones_like": 1, "ones": 1}
"""What constants of a shape are filled with."""

_VIEWS = frozenset({"expand", "expand_as", "select", "slice", "squeeze", "unsqueeze", "permute", "transpose", "alias"})
"""Operations that show numbers without moving them."""

_ONE_BY_ONE = frozenset({"to", "_to_copy", "clone", "contiguous", "__and__", "__or__", "where"})
"""Operations on one number at a time that PyTorch does not mark as such."""

_SHOWN = _VIEWS | {
    "to", "_to_copy", "view", "view_as", "_unsafe_view", "reshape", "reshape_as", "clone", "contiguous", "unflatten",
    "flatten",
}  # fmt: skip
"""Operations that give the same numbers, perhaps in another shape, or elsewhere."""

_UNWRITTEN = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"})
"""Operations that make constants whose numbers come later; until then we take them for 0."""


@dataclass(slots=True)
class Traced:
    """What a tensor of the run is.

    Args:
        array: what the recorder knows of it.
        value: its numbers, where they are known.
        base: the tensor that it is a view of.
        since: which of the versions of that one it shows.
        version: how often it was written into.
        low: where what was made of weights is low enough to hide scores, whatever they hold.
        kept: where it is not 0, whatever they hold; None where it may be anything anywhere.
        choice: how often its numbers name or let through what, where a network has chosen by data.
    """

    array: Array
    value: torch.Tensor | None = None
    base: torch.Tensor | None = None
    since: int = 0
    version: int = 0
    low: torch.Tensor | None = None
    kept: torch.Tensor | None = None
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


def only_number(x: Any) -> float | None:
    """The number that fills a tensor, or a number itself; None where there are several, or none is known."""
    if not isinstance(x, torch.Tensor):
        return x if isinstance(x, int | float) else None
    value = value_of(x)
    if value is None or not value.numel():
        return None
    few = _one_of_each(value)
    first = few.flatten()[0]
    return first.item() if few.numel() <= MOST_VALUES and bool((few == first).all()) else None


def worked_out(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation makes of known numbers; None where some are not known, or it does not run."""
    try:
        made = func(*_known(args), **_known_by_name(kwargs))
    except Exception:
        return None
    return made.zero_() if func.overloadpacket.__name__ in _UNWRITTEN else made


def worked_out_thinly(func: Any, args: Any, kwargs: Any, shape: Sequence[int]) -> torch.Tensor | None:
    """What an operation makes of known numbers where these are very many, but the same all along most axes.

    They are worked out once along these axes, as for a mask that lets everything through.

    Args:
        func: the operation.
        args: its arguments.
        kwargs: those with names.
        shape: of the result.
    """
    operation = func.overloadpacket.__name__
    try:
        known, named = _known(args), _known_by_name(kwargs)
        if operation in _VIEWS:
            made = func(*known, **named)
        elif torch.Tag.pointwise in func.tags or operation in _ONE_BY_ONE:
            spread = [each.broadcast_to(shape) for each in [*known, *named.values()] if _is_array(each)]
            varied = [axis for axis in range(len(shape)) if not all(_is_still(each, axis) for each in spread)]
            if not spread or math.prod(shape[axis] for axis in varied) > MOST_VALUES:
                return None
            thin = tuple([slice(None) if axis in varied else slice(1) for axis in range(len(shape))])
            known = [each.broadcast_to(shape)[thin] if _is_array(each) else each for each in known]
            named = {key: each.broadcast_to(shape)[thin] if _is_array(each) else each for key, each in named.items()}
            made = func(*known, **named).expand(shape)
        else:
            return None
    except Exception:
        return None
    return made if _one_of_each(made).numel() <= MOST_VALUES else None


def filled_with(operation: str, given: Mapping[str, Any], blank: torch.Tensor) -> torch.Tensor | None:
    """The numbers of a constant that has the shape of another tensor, kept once; None where they are not the same.

    Args:
        operation: what makes it, such as `ones_like`.
        given: its arguments by ATen's names.
        blank: the result without numbers.
    """
    number = given.get("fill_value") if "full" in operation else _FILLS.get(operation.rpartition("new_")[2])
    if not isinstance(number, int | float):
        return None
    return torch.full((), number, dtype=blank.dtype).expand(blank.shape)


def make_room(tensor: torch.Tensor) -> None:
    """Before a tensor is written into: a place of its own for each number, where those that are the same share one.

    So it is for what the tensor is a view of, up to what would be too many; the numbers of that are known no longer.
    """
    chain: list[tuple[torch.Tensor, Traced, torch.Tensor]] = []
    view: torch.Tensor | None = tensor
    while view is not None and (mark := getattr(view, MARK, None)) is not None and mark.value is not None:
        chain.append((view, mark, mark.value))
        view = mark.base
    if not any(0 in value.stride() for _, _, value in chain):
        return
    few = [each for each in chain if each[0].numel() <= MOST_VALUES]
    whole, _, value = few[-1]
    numbers = torch.empty_strided(whole.shape, whole.stride(), dtype=whole.dtype).copy_(value)
    for _, mark, _ in chain:
        mark.value = None
    for part, mark, _ in few:
        behind = part.storage_offset() - whole.storage_offset()
        mark.value = numbers.as_strided(part.shape, part.stride(), behind)


def _known(x: Any) -> Any:
    """An argument with the numbers of tensors in their place."""
    if isinstance(x, torch.Tensor):
        mark = getattr(x, MARK, None)
        if mark is None and not x.is_meta:
            return x
        if mark is None or mark.value is None:
            raise LookupError
        return mark.value
    if isinstance(x, torch.device):
        return torch.device("cpu")
    return type(x)(_known(each) for each in x) if type(x) in (list, tuple) else x


def _known_by_name(kwargs: Any) -> dict[str, Any]:
    return {key: "cpu" if key == "device" else _known(each) for key, each in kwargs.items()}


def _is_array(x: Any) -> bool:
    """Whether it is a tensor with axes; one number alone does not decide the type of a result."""
    return isinstance(x, torch.Tensor) and x.dim() > 0


def _is_still(x: torch.Tensor, axis: int) -> bool:
    """Whether numbers are the same all along an axis."""
    few = _one_of_each(x)
    return few.numel() <= MOST_VALUES and bool((few == few.narrow(axis, 0, 1)).all())


def _one_of_each(x: torch.Tensor) -> torch.Tensor:
    """The numbers that are stored, without their repetitions along axes."""
    return x[tuple([slice(None) if stride else slice(1) for stride in x.stride()])]


def without_numbers(x: Any) -> Any:
    """Tensors of the same shapes without data."""
    if isinstance(x, torch.Tensor):
        return torch.empty_like(x, device="meta")
    return type(x)(without_numbers(each) for each in x) if type(x) in (list, tuple) else x


def numbers_of(marks: Sequence[Traced], array: Array) -> NDArray[Any] | None:
    """The numbers of a constant, where they are known; along axes on which they repeat, once.

    Of what was made of weights it is only known where it hides scores; 0 stands elsewhere.

    Args:
        marks: those of the arguments of an operation.
        array: that of one of them.
    """
    mark = next((mark for mark in marks if mark.array is array), None)
    if mark is None:
        return None
    value = mark.value if mark.low is None else torch.zeros(()).masked_fill(mark.low, -torch.inf)
    if value is None or value.is_meta or not value.numel():
        return None
    few = _one_of_each(value)
    numbers: NDArray[Any] = (few.float() if few.is_floating_point() else few).numpy()
    return numbers


def low_in(func: Any, args: Any, kwargs: Any) -> torch.Tensor | None:
    """Where what is made of weights and known numbers hides scores, as truth values; None where that is not known."""
    operation = func.overloadpacket.__name__.rstrip("_")
    try:
        if operation in ("add", "sub") and kwargs.get("alpha", 1) == 1:
            one, other = _low(args[0]), _low(args[1], negative=operation == "sub")
            return one if other is None else other if one is None else one | other
        if operation == "masked_fill" and _low(args[2]) is not None:
            one, other = _low(args[0]), value_of(args[1])
            return one if other is None else other if one is None else one | other
        if operation == "where" and (chosen := value_of(args[0])) is not None:
            cases = [torch.tensor(False) if low is None else low for low in map(_low, args[1:])]
            made = torch.where(chosen, *cases)
            return made if bool(made.any()) else None
        if operation in _SHOWN and (low := _low(args[0])) is not None:
            moved: torch.Tensor = low if operation in ("to", "_to_copy") else func(low, *args[1:], **kwargs)
            return moved
    except (RuntimeError, IndexError, TypeError):
        return None
    return None


def _low(x: Any, negative: bool = False) -> torch.Tensor | None:
    """Where an argument is known to hide scores, once it is added or subtracted."""
    if not isinstance(x, torch.Tensor):
        return torch.tensor(True) if x <= LOW and not negative else None
    mark: Traced | None = getattr(x, MARK, None)
    if mark is not None and mark.low is not None:
        return None if negative else mark.low
    value = value_of(x)
    if value is None or value.dtype is torch.bool:
        return None
    low = (-value if negative else value) <= LOW
    return low if bool(low.any()) else None


def places_of(marks: Sequence[Traced], array: Array) -> list[int] | None:
    """The places that an index of whole numbers names, or a mask lets through, where they are known.

    `array` is that of one of the marks.
    """
    value = next((mark.value for mark in marks if mark.array is array), None)
    if value is None or value.is_meta or value.dtype not in (torch.int64, torch.int32, torch.bool):
        return None
    places: list[int] = (value.nonzero() if value.dtype is torch.bool else value).flatten().tolist()
    return places


def kept_of(marks: Sequence[Traced], array: Array) -> NDArray[Any] | None:
    """Where what depends on no input is not 0, as truth values; None where it may be anything anywhere."""
    mark = next((mark for mark in marks if mark.array is array), None)
    if mark is None:
        return None
    kept = mark.kept if mark.value is None or mark.value.is_meta else mark.value != 0
    return None if kept is None else kept.numpy()


def kept_in(func: Any, args: Any, kwargs: Any, shape: Sequence[int]) -> torch.Tensor | None:
    """Where what is made of weights and known numbers is not 0, as truth values; None where that is not known.

    Args:
        func: the operation.
        args: its arguments.
        kwargs: those with names.
        shape: of the result.
    """
    operation = func.overloadpacket.__name__.rstrip("_")
    made: torch.Tensor | None = None
    try:
        if operation == "mul":
            made = _both(_kept(args[0]), _kept(args[1]))
        elif operation == "masked_fill" and args[2] == 0:
            hidden = value_of(args[1])
            made = _kept(args[0]) if hidden is None else _both(_kept(args[0]), ~hidden)
        elif operation == "where" and len(args) == 3 and (chosen := value_of(args[0])) is not None:
            made = torch.where(chosen, *[torch.tensor(True) if kept is None else kept for kept in map(_kept, args[1:])])
        elif operation in ("tril", "triu") and math.prod(shape) <= MOST_VALUES:
            kept = _kept(args[0])
            made = func(torch.ones(shape, dtype=torch.bool) if kept is None else kept, *args[1:])
        elif operation in _SHOWN and (kept := _kept(args[0])) is not None:
            made = kept if operation in ("to", "_to_copy") else func(kept, *args[1:], **kwargs)
        return None if made is None or bool(made.all()) else made.expand(shape)
    except (RuntimeError, IndexError, TypeError):
        return None


def _kept(x: Any) -> torch.Tensor | None:
    """Where an argument is not 0; None where it may be anything."""
    if not isinstance(x, torch.Tensor):
        return None if x else torch.tensor(False)
    mark: Traced | None = getattr(x, MARK, None)
    if mark is not None and mark.kept is not None:
        return mark.kept
    value = value_of(x)
    return None if value is None else value != 0


def _both(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    return other if one is None else one if other is None else one & other

"""How often a PyTorch network chooses what, where each of several is as likely as any other: tokens among experts.

A router names the best few of n experts for each token. Which ones depends on the data, but in all there are as many
choices as tokens times those few; a network without data is read as if each expert were named equally often. From the
numbers that `topk` or `argmax` gives we follow the masks that are made of them, up to where places are taken by a mask
or choices are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.torch_numbers import only_number, value_of


@dataclass(frozen=True, slots=True)
class Named:
    """Whole numbers, each of 0 to `out_of` - 1 equally often."""

    out_of: int


@dataclass(frozen=True, slots=True)
class Marked:
    """Numbers of which a share is not 0, everywhere alike.

    Args:
        share: how many are not.
        ones: whether those are 1, or true.
    """

    share: Fraction
    ones: bool = True


Choice: TypeAlias = Named | Marked


class Supposed:
    """What had to be supposed in a run where data decides.

    Attributes:
        broken_off: why the rest was not run, in a sentence.
    """

    def __init__(self) -> None:
        self._all: dict[str, None] = {}
        self._even: dict[str, None] = {}
        self.broken_off = ""

    def all_of(self, name: str) -> None:
        """That an operation chooses all that it can."""
        self._all[name] = None

    def evenly(self, name: str) -> None:
        """That an operation chooses as much of each of several."""
        self._even[name] = None

    @property
    def notes(self) -> tuple[str, ...]:
        """In sentences."""
        found = []
        if self._all:
            found.append(
                f"How many values {_told(self._all)} lets through depends on the data; all are taken to pass, "
                "so what is counted behind it is the most that there can be."
            )
        if self._even:
            found.append(
                f"Which experts, or the like, are chosen depends on the data; each is taken to be chosen equally often "
                f"({_told(self._even)})."
            )
        return (*found, self.broken_off) if self.broken_off else tuple(found)


def _told(names: Iterable[str]) -> str:
    """The first of some operations by name, and how many others there are."""
    first, *others = names
    return f"{first!r} and {len(others):,} more" if others else repr(first)


ROUTERS = frozenset({"topk", "argmax", "argmin", "sort", "argsort", "max", "min"})
"""Operations that name some of several, in the last of their results."""

_KEPT = frozenset(
    {
        "view", "_unsafe_view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "permute",
        "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "numpy_T", "mT", "unsqueeze", "squeeze",
        "expand", "expand_as", "broadcast_to", "repeat", "tile", "select", "slice", "narrow", "index", "index_select",
        "gather", "split", "split_with_sizes", "chunk", "unbind", "roll", "flip", "clone", "contiguous", "to",
        "_to_copy", "type_as", "alias", "detach",
    }
)  # fmt: skip
"""Operations that take values as they are; a mask stays one in any type of numbers."""

_JOINED = frozenset({"cat", "concat", "concatenate", "stack"})
_NOT = frozenset({"logical_not", "bitwise_not", "invert"})
_BOTH = frozenset({"mul", "logical_and", "bitwise_and", "and"})


def choices(
    operation: str, given: Mapping[str, Any], known: Sequence[Choice | None], results: int
) -> Sequence[Choice | None]:
    """What an operation makes of choices, for each of its results.

    Args:
        operation: its name in ATen, without the sign of in-place variants.
        given: its arguments by ATen's names.
        known: what is known of the tensors among them.
        results: how many it has.
    """
    if operation in ROUTERS:
        x, dim = given["self"], given.get("dim", -1 if operation in ("topk", "sort", "argsort") else None)
        return [None] * (results - 1) + [Named(x.shape[dim]) if isinstance(dim, int) and x.dim() else None]
    if operation in _KEPT or (operation in _JOINED and len(set(known)) == 1):
        return [known[0]] * results
    return [_mask(operation, given, known)] * results


def _mask(operation: str, given: Mapping[str, Any], known: Sequence[Choice | None]) -> Marked | None:
    """The mask that an operation makes of numbers that name something, or of other masks."""
    first = known[0]
    shares = [each.share for each in known if isinstance(each, Marked)]
    out_of = [each.out_of for each in known if isinstance(each, Named)]
    if operation in _NOT and isinstance(first, Marked) and given["self"].dtype is torch.bool:
        return Marked(1 - first.share)
    if operation in _BOTH:
        ones = all(_holds_ones(x, choice) for x, choice in _with_choices((given["self"], given["other"]), known))
        return Marked(min(shares), ones) if shares and not out_of else None
    if operation in ("gt", "ne") and isinstance(first, Marked):
        other = given["other"]
        return Marked(first.share) if not isinstance(other, torch.Tensor) and other == 0 else None
    if operation in ("any", "sum") and isinstance(first, Marked):  # none of them twice in one place
        return Marked(min(Fraction(1), first.share * _together(given)), first.ones or operation == "any")
    if operation in ("eq", "one_hot") and len(out_of) == 1:
        return Marked(Fraction(1, *out_of))
    if operation == "scatter" and isinstance(index := known[1], Named):
        whole, few = (given[name].shape[given["dim"]] for name in ("self", "index"))
        return _scattered(given, Fraction(few, whole)) if whole == index.out_of else None
    return None


def _with_choices(given: Sequence[Any], known: Sequence[Choice | None]) -> Iterator[tuple[Any, Choice | None]]:
    """Arguments with what is known of those that are tensors."""
    left = iter(known)
    for x in given:
        yield x, next(left) if isinstance(x, torch.Tensor) else None


def _holds_ones(x: Any, choice: Choice | None) -> bool:
    """Whether what is not 0 in a tensor, or a number, is 1 or true."""
    if isinstance(x, torch.Tensor) and x.dtype is torch.bool:
        return True
    return choice.ones if isinstance(choice, Marked) else x is True or only_number(x) == 1


def _scattered(given: Mapping[str, Any], share: Fraction) -> Marked | None:
    """The mask in which a share of the places was written into."""
    around, written = only_number(given["self"]), only_number(given.get("value", given.get("src")))
    if around == 0 and written != 0:
        return Marked(share, written == 1)
    return Marked(1 - share) if around == 1 and written == 0 else None


def counted(operation: str, given: Mapping[str, Any], choice: Choice | None) -> list[torch.Tensor]:
    """The results, with their numbers, of an operation that counts choices or lists them; none for any other.

    Args:
        operation: its name in ATen.
        given: its arguments by ATen's names.
        choice: what is known of the first.
    """
    if operation == "bincount" and isinstance(choice, Named):
        found = _counts(given["self"], choice)
        return [torch.cat([found, found.new_zeros(max(0, given.get("minlength", 0) - choice.out_of))])]
    if operation == "_unique2" and isinstance(choice, Named) and not given.get("return_inverse"):
        return [torch.arange(choice.out_of), torch.empty(0), _counts(given["self"], choice)]
    if operation not in ("sum", "any", "count_nonzero") or not isinstance(choice, Marked):
        return []
    x, over = given["self"], _over(given)
    many = choice.share * _together(given)
    if many < 1 or (operation == "sum" and (x.is_floating_point() or not choice.ones)):
        return []
    shape = [1 if axis in over else n for axis, n in enumerate(x.shape) if axis not in over or given.get("keepdim")]
    found = _even(many, math.prod(shape)).reshape(shape)
    return [found > 0 if operation == "any" else found]


def let_through(
    func: Any, operation: str, args: Sequence[Any], choice_of: Callable[[torch.Tensor], Choice | None]
) -> tuple[Any, bool]:
    """What an operation gives that takes the places a mask lets through, without data; None for any other.

    Args:
        func: the operation.
        operation: its name in ATen.
        args: its arguments.
        choice_of: what is known of a tensor.

    Returns:
        what it gives, and whether how many places there are had to be supposed.
    """
    is_supposed = False

    def places(mask: torch.Tensor) -> list[torch.Tensor]:
        nonlocal is_supposed
        value, choice = value_of(mask), choice_of(mask)
        if value is not None:
            return [place.to("meta") for place in value.nonzero().unbind(1)]
        if not isinstance(choice, Marked):
            return []
        is_supposed = True
        many = math.ceil(mask.numel() * choice.share)
        return [torch.empty(many, dtype=torch.int64, device="meta") for _ in range(mask.dim())]

    if operation == "where" and len(args) == 1:
        return places(args[0]) or None, is_supposed
    if operation in ("nonzero", "argwhere"):
        found = places(args[0])
        return torch.stack(found, 1) if found else None, is_supposed
    if operation != "index":
        return None, False
    indices: list[torch.Tensor | None] = []
    for each in args[1]:
        if each is None or each.dtype is not torch.bool:
            indices.append(each)
        elif found := places(each):
            indices += found
        else:
            return None, False
    return func(args[0], indices), is_supposed


def _counts(x: torch.Tensor, choice: Named) -> torch.Tensor:
    """How often each is named."""
    return _even(Fraction(x.numel(), choice.out_of), choice.out_of)


def _even(many: Fraction, count: int) -> torch.Tensor:
    """So many each, in whole numbers that have the same sum."""
    return torch.tensor([math.floor(many * (place + 1)) - math.floor(many * place) for place in range(count)])


def _together(given: Mapping[str, Any]) -> int:
    """How many values each result is made of."""
    return math.prod(given["self"].shape[axis] for axis in _over(given))


def _over(given: Mapping[str, Any]) -> set[int]:
    """The axes that are put together."""
    rank, dim = given["self"].dim(), given.get("dim")
    axes = range(rank) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    return {axis % max(1, rank) for axis in axes}

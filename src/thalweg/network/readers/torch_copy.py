"""Copies of a PyTorch module: one on the meta device, without its weights, and one that can be run with them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from thalweg.errors import InputError
from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.masks import LOW, MOST

MOST_VALUES = MOST
"""Constants of up to so many elements keep their values."""


@dataclass
class Copied:
    """A module that shares no tensor with the one it was copied from.

    Args:
        module: the copy.
        names: its parameters, each once, under the first of its names.
        aliases: all names of those that have several.
    """

    module: torch.nn.Module
    names: dict[str, torch.Tensor]
    aliases: dict[str, list[str]] = field(default_factory=dict)


class Kept:
    """What the parts of a module hold, to see later whether a run has put something else there.

    Args:
        module: all of it.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        aside = set(torch.nn.Module().__dict__) - {"_buffers", "_parameters", "_modules"}  # hooks
        self._names = [(each.__dict__, dict(each.__dict__)) for each in module.modules()]
        self._lists = [
            (held, list(_items(held)))
            for _, names in self._names
            for name, held in names.items()
            if type(held) in (list, dict) and name not in aside
        ]

    @property
    def is_changed(self) -> bool:
        """Whether one of them holds another object, itself, among its buffers, or in a list or dictionary."""
        return any(
            len(now) != len(then) or any(one is not other for one, other in zip(now, then, strict=True))
            for now, then in [
                *((_items(now), list(_items(then))) for now, then in self._names),
                *((_items(now), then) for now, then in self._lists),
            ]
        )


def _items(held: Any) -> Collection[Any]:
    return held.values() if isinstance(held, dict) else held


def copied(model: torch.nn.Module) -> Copied:
    """A copy on the meta device, in evaluation mode.

    Raises:
        InputError: the module cannot be copied.
    """
    made = _copied(model, _without_values)
    names: dict[str, torch.Tensor] = dict(made.named_parameters())
    first = {id(tensor): name for name, tensor in names.items()}
    aliases: dict[str, list[str]] = {}
    for name, tensor in made.named_parameters(remove_duplicate=False):
        aliases.setdefault(first[id(tensor)], []).append(name)
    return Copied(made, names, aliases)


def twin(model: torch.nn.Module) -> torch.nn.Module:
    """A copy in evaluation mode that computes the same: its weights are those of the original, without gradients.

    What a run may write into, buffers and tensors kept elsewhere, it has for itself.

    Raises:
        InputError: the module cannot be copied.
    """
    return _copied(model, _with_values)


def _copied(model: torch.nn.Module, replaced: Callable[[torch.Tensor], torch.Tensor]) -> torch.nn.Module:
    """A copy in evaluation mode with other tensors in the place of its own."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers, module.__dict__):
            for tensor in held.values():
                if isinstance(tensor, torch.Tensor) and id(tensor) not in memo:
                    memo[id(tensor)] = replaced(tensor)
    try:
        made = copy.deepcopy(model, memo)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"The module cannot be copied ({type(error).__name__}: {reason}), and its own weights are left alone; "
            "give a function that builds it, as module:function."
        ) from error
    return made.eval()


def _with_values(tensor: torch.Tensor) -> torch.Tensor:
    if not isinstance(tensor, torch.nn.Parameter):
        return tensor.detach().clone()
    own = tensor.detach().clone() if tensor.is_inference() else tensor.detach()  # those take part in no gradient
    return torch.nn.Parameter(own, requires_grad=False)


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    if torch.nn.parameter.is_lazy(tensor):
        with torch.inference_mode():  # in which it will get its shape
            lazy: torch.Tensor = type(tensor)(device="meta", dtype=tensor.dtype)
        return lazy
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(_alike(tensor.detach()), requires_grad=tensor.requires_grad)
    if tensor.device.type == "cpu" and tensor.numel() <= MOST_VALUES:
        own = tensor.detach()
        if not tensor.is_floating_point() or _is_mask(own):
            return own.clone()  # indices and the like, which may decide where values come from
    return _alike(tensor.detach())


def _is_mask(numbers: torch.Tensor) -> bool:
    """Whether real numbers tell only what is kept and what is hidden."""
    if numbers.dim() == 0 or not bool(numbers.any()):  # zeros may yet become anything
        return False
    if numbers.dim() == 1 and bool(numbers.all()):  # as the variances of a normalisation are at first
        return False
    return bool(((numbers == 0) | (numbers == 1) | (numbers <= LOW)).all())


def _alike(tensor: torch.Tensor) -> torch.Tensor:
    if type(tensor) is torch.Tensor and tensor.is_contiguous():  # the short way
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return torch.empty_like(tensor, device="meta")

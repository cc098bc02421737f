"""The arguments and results of one operation of PyTorch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.torch_copy import MOST_VALUES


def held(func: Any, outputs: list[torch.Tensor], marks: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The outputs as the network holds them: what was written in place is the argument it was written into.

    PyTorch gives an alias of it back here, which the network never sees.
    """
    if not (func._schema.is_mutable and marks):
        return outputs
    given = by_name(func, args, kwargs)
    into = iter(tensors_in([given[name] for name in written_by(func) if name in given], {}))
    own = [each.alias_info is not None and each.alias_info.is_write for each in func._schema.returns]
    return [next(into, output) if written else output for written, output in itertools.zip_longest(own, outputs)][
        : len(outputs)
    ]


def written_by(func: Any) -> list[str]:
    """The arguments that an operation writes into."""
    arguments = func._schema.arguments
    return [each.name for each in arguments if each.alias_info is not None and each.alias_info.is_write]


def is_written(func: Any, name: str) -> bool:
    """Whether an operation writes into an argument."""
    return bool(func._schema.is_mutable) and name in written_by(func)


def by_name(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an operation by ATen's names."""
    return {**{argument.name: each for argument, each in zip(func._schema.arguments, args, strict=False)}, **kwargs}


def wanted_device(args: Any, kwargs: Any) -> str:
    """The kind of device that something is moved to, where it is."""
    found = next((each for each in (*args, *kwargs.values()) if isinstance(each, torch.device)), None)
    return "" if found is None else str(found.type)


def is_small(args: Any) -> bool:
    """Whether what is made from these numbers and extents has few elements."""
    extents = [math.prod(each) if type(each) in (list, tuple) else each for each in args]
    return all(isinstance(each, int | float) and 0 <= each <= MOST_VALUES for each in extents)


def on_meta(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Named arguments with the device, where there is one, on meta."""
    return {**kwargs, "device": "meta"} if kwargs.get("device") is not None else kwargs


def tensors_in(args: Any, kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors among arguments, also those in lists."""
    found = []
    for each in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(each, torch.Tensor):
            found.append(each)
        elif type(each) in (list, tuple):
            found += [one for one in each if isinstance(one, torch.Tensor)]
    return found


def all_on_meta(args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    """The same arguments with every tensor and every device on meta; None where they are already."""
    moved = False

    def meta(x: Any) -> Any:
        nonlocal moved
        if isinstance(x, torch.Tensor) and not x.is_meta:
            moved = True
            return torch.empty_like(x, device="meta")
        if isinstance(x, torch.device) and x.type != "meta":
            moved = True
            return torch.device("meta")
        return type(x)(meta(each) for each in x) if type(x) in (list, tuple) else x

    found = meta(args), {key: meta(each) for key, each in kwargs.items()}
    return found if moved else None

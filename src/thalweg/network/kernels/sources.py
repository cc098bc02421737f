"""From whatever a person has to a list of kernels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.data.inline import is_inline, is_number
from thalweg.errors import InputError, unknown_name
from thalweg.network.correlation import MAX_SIDE
from thalweg.network.images import table_of_numbers, written_rows
from thalweg.network.kernels.colour import Mixture, split
from thalweg.network.kernels.families import Array
from thalweg.network.kernels.first_layer import channels_first, is_readable, load_kernels, suffixes
from thalweg.network.kernels.named import NAMED, named_kernel

MAX_KERNELS = 4096
"""The most kernels that are looked at together."""


@dataclass(frozen=True)
class Kernel:
    """One kernel as a pattern in space.

    Args:
        name: what it is called.
        taps: `(height, width)`.
        mixture: how its channels enter, where it has several.
        stored: `(channels, height, width)`, as it was given.
    """

    name: str
    taps: Array
    mixture: Mixture | None
    stored: Array


def load_kernels_from(source: object, layer: str | None) -> tuple[str, list[Kernel]]:
    """What the kernels are called together, and each of them.

    Args:
        source: see `thalweg.network.filters.filters`.
        layer: the name of an array, where `source` is a file.

    Raises:
        InputError: `source` is no kernel; the message says why.
    """
    title, found = _found(source, layer)
    if not found:
        raise InputError("There are no kernels; give an array, a list of arrays, a name, a file or rows of numbers.")
    if len(found) > MAX_KERNELS:
        raise InputError(f"{title} holds {len(found):,} kernels, more than the {MAX_KERNELS:,} that are looked at.")
    return title, [_kernel(name, values) for name, values in found]


def _found(source: object, layer: str | None) -> tuple[str, list[tuple[str, Any]]]:
    if isinstance(source, str | os.PathLike):
        if isinstance(source, os.PathLike) or is_readable(Path(source)):
            path = Path(source)
            if not is_readable(path):
                raise _not_readable(path)
            name, values = load_kernels(path, layer)
            return f"{path.name}: {name}", _several(name, values)
        if layer is not None:
            raise InputError("Only a file has layers to choose from; leave `layer` out.")
        name = "; ".join(" ".join(row.split()) for row in written_rows(source))
        return name, [(name, _from_text(source))]
    if layer is not None:
        raise InputError("Only a file has layers to choose from; leave `layer` out.")
    if isinstance(source, Sequence) and any(isinstance(each, str) or np.ndim(each) >= 2 for each in source):
        found: list[tuple[str, Any]] = []
        for number, each in enumerate(source):
            found += [(each, _from_text(each))] if isinstance(each, str) else _several(f"kernel {number}", each)
        return f"{len(found)} kernels", found
    found = _several("kernel", source)
    return "kernel" if len(found) == 1 else f"{len(found):,} kernels", found


def _from_text(text: str) -> Array:
    first = text.replace(",", " ").replace(";", " ").split()[:1]
    if (is_inline(text) or (first and is_number(first[0]))) and "=" not in text:
        return table_of_numbers(text, "The kernel")
    if text.strip().partition(":")[0].strip().lower() in NAMED:
        return named_kernel(text.strip())
    if "=" in text and is_inline(text):
        raise InputError(f"{text.strip()!r} is no kernel: it has a '='; write rows as in '0 -1 0; -1 4 -1; 0 -1 0'.")
    if ":" in text and "=" not in text:
        raise InputError(
            f"{text.strip()!r} is no filter; where it names a model, save its weights, as with "
            "torch.save(model.state_dict(), 'weights.pt'), and name that file."
        )
    path = Path(text)
    if path.suffix or os.sep in text:
        raise _not_readable(path)
    raise unknown_name("filter", text.strip().partition(":")[0], NAMED)


def _not_readable(path: Path) -> InputError:
    try:
        exists = path.exists()
    except (OSError, ValueError):  # a text too long, or with a zero character
        exists = False
    if exists:
        return InputError(f"Cannot read {str(path)!r}: its name does not end in one of {suffixes()}.")
    return InputError(f"There is no file {str(path)!r}, nor a filter of that name (known: {', '.join(NAMED)}).")


def _several(name: str, values: Any) -> list[tuple[str, Any]]:
    """Kernels of an array: one of `(height, width)`, or many of one or several channels."""
    try:
        table = _numbers(values)
    except (TypeError, ValueError):
        raise InputError(f"{name!r} is no table of real numbers.") from None
    if table.ndim == 2:
        return [(name, table)]
    if table.ndim not in (3, 4):
        raise InputError(
            f"{name!r} must have two axes (height, width), three (kernels, height, width) or four (outputs, channels, "
            f"height, width), but its shape is {table.shape}."
        )
    if table.ndim == 4:
        table = channels_first(table)
    return [(f"{name}[{number}]", each) for number, each in enumerate(table)]


def _numbers(values: Any) -> Array:
    if hasattr(values, "detach"):  # a torch tensor that may be part of a graph or on a device
        values = values.detach().cpu()
    raw = np.asarray(values)
    if raw.dtype.kind == "c":
        raise TypeError
    return raw.astype(np.float64)


def _kernel(name: str, values: Any) -> Kernel:
    stored = np.asarray(values, dtype=np.float64)
    stored = stored[None] if stored.ndim == 2 else stored
    if not stored.size:
        raise InputError(f"{name!r} is empty: its shape is {np.shape(values)}.")
    if max(stored.shape[1:]) > MAX_SIDE:
        height, width = stored.shape[1:]
        raise InputError(f"{name!r} has {height} x {width} taps; a kernel may have {MAX_SIDE} along a side.")
    if not np.isfinite(stored).all():
        bad = stored[~np.isfinite(stored)][0]
        raise InputError(f"{name!r} must hold finite numbers, but it holds {bad}.")
    taps, mixture = split(stored)
    return Kernel(name, taps, mixture, stored)

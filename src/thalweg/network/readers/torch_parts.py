"""What a PyTorch network writes into a view of a tensor or into what it is a view of, and what the other holds then."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.recorder import Recorder

Held: TypeAlias = "tuple[torch.Tensor, Array]"
"""A tensor, and what the recorder knows of it."""


def written_into(recorder: Recorder, whole: Held, view: Held, name: str, module: str) -> Array:
    """What a tensor holds once a view of it was written into.

    Args:
        recorder: where it is written down.
        whole: the tensor, and what it held before.
        view: the view, and what was written.
        name: what the row is called, where there is one.
        module: the path of the module that does it.
    """
    (base, before), (part, values) = whole, view
    indices = _indices(part, base)
    if indices is not None:
        axis, places = indices
        if len(values.shape) < len(before.shape):
            shape = (*values.shape[:axis], 1, *values.shape[axis:])
            values = replace(values, shape=shape, axes=(*values.axes[:axis], (), *values.axes[axis:]))
        if places.step == 1:
            return _replaced(recorder, before, values, axis, places.start, name, module)
        if not any(ax.has_positions(each.axes[axis]) for each in (before, values)):  # channels in whatever order
            return _replaced(recorder, before, values, axis, 0, name, module)
    elif (order := _order(part, base)) is not None:
        return recorder.permute(values, order)
    elif _is_in_another_shape(part, base):
        return recorder.reshape(values, before.shape, name, module)
    return recorder.gather([before, values], before.shape, name=name, module=module)


def shown_by(recorder: Recorder, whole: Held, view: torch.Tensor, name: str, module: str) -> Array:
    """What a view of a tensor holds once that was written into.

    Args:
        recorder: where it is written down.
        whole: the tensor, and what it holds.
        view: the view.
        name: what the row is called, where there is one.
        module: the path of the module that does it.
    """
    base, held = whole
    shape = tuple(view.shape)
    indices = _indices(view, base)
    if indices is not None:
        axis, places = indices
        part = recorder.slice(held, axis, places.start, places.stop, places.step, name, module)
        return recorder.reshape(part, shape, name, module)
    if (order := _order(view, base)) is not None:
        return recorder.permute(held, [order.index(axis) for axis in range(len(order))])
    if _is_in_another_shape(view, base):
        return recorder.reshape(held, shape, name, module)
    return recorder.gather([held], shape, name=name, module=module)


def _replaced(recorder: Recorder, before: Array, values: Array, axis: int, start: int, name: str, module: str) -> Array:
    """An array in which other values stand from some index of an axis on."""
    behind = start + values.shape[axis]
    pieces = [values]
    if start > 0:
        pieces.insert(0, recorder.slice(before, axis, 0, start, name=name, module=module))
    if behind < before.shape[axis]:
        pieces.append(recorder.slice(before, axis, behind, before.shape[axis], name=name, module=module))
    return recorder.concatenate(pieces, axis, name, module)


def _indices(view: torch.Tensor, base: torch.Tensor) -> tuple[int, range] | None:
    """The axis and those of its indices that a view holds, maybe all; None where it is another kind of view."""
    behind = view.storage_offset() - base.storage_offset()
    for axis, (extent, stride) in enumerate(zip(base.shape, base.stride(), strict=True)):
        around = _layout(base, axis)
        if stride and view.dim() == base.dim() - 1 and _layout(view) == around:
            count, step = 1, 1
        elif stride and view.dim() == base.dim() and _layout(view, axis) == around:
            count, step = view.shape[axis], view.stride(axis) // stride or 1
        else:
            continue
        start, rest = divmod(behind, stride)
        if rest == 0 and start >= 0 and start + (count - 1) * step < extent:
            return axis, range(start, start + count * step, step)
    return None


def _order(view: torch.Tensor, base: torch.Tensor) -> list[int] | None:
    """The axes of a view in the order that the tensor has them; None where it holds other indices."""
    if view.storage_offset() != base.storage_offset():
        return None
    left = dict(enumerate(_layout(view)))
    order = []
    for pair in _layout(base):
        axis = next((axis for axis, own in left.items() if own == pair), None)
        if axis is None:
            return None
        order.append(axis)
        del left[axis]
    return None if left else order


def _is_in_another_shape(view: torch.Tensor, base: torch.Tensor) -> bool:
    """Whether a view holds all of a tensor, row by row."""
    try:
        alike = base.view(view.shape)
    except RuntimeError:
        return False
    return _layout(alike) == _layout(view) and view.storage_offset() == base.storage_offset()


def _layout(x: torch.Tensor, but: int | None = None) -> list[tuple[int, int]]:
    """The extents and strides of all axes but one; the stride does not matter where an axis has one index."""
    layout = enumerate(zip(x.shape, x.stride(), strict=True))
    return [(extent, stride if extent > 1 else 0) for axis, (extent, stride) in layout if axis != but]

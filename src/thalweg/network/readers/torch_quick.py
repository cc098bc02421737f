"""What some operations of PyTorch make on the meta device, without asking it.

PyTorch works shapes out in Python for many operations, in a millisecond or two for each; a large network has thousands.
These are the usual ones whose result is plain to see; each says None where it is not, and PyTorch is asked then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.network.readers.lazy_torch import torch


def _whole(x: torch.Tensor, shape: Any = None) -> torch.Tensor:
    """Like x, row after row."""
    return torch.empty(x.shape if shape is None else shape, dtype=x.dtype, device="meta")


def _alike(x: torch.Tensor) -> torch.Tensor:
    """Like x, also in the order of its axes in memory."""
    return _whole(x) if x.is_contiguous() else torch.empty_like(x)


def _like_first(args: Any, kwargs: Any) -> torch.Tensor | None:
    x = args[0]
    return _alike(x) if x.is_floating_point() else None


def _like_both(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, y = args[:2]
    if kwargs or not x.is_floating_point():
        return None
    if not isinstance(y, torch.Tensor):
        return _alike(x) if isinstance(y, float | int) else None
    if x.device != y.device or x.dtype != y.dtype:
        return None
    if x.is_contiguous() and (y.shape == x.shape or _spreads(y.shape, x.shape)):
        return _whole(x)
    return _whole(y) if y.is_contiguous() and _spreads(x.shape, y.shape) else None


def _spreads(shape: Any, wanted: Any) -> bool:
    """Whether what has a shape is repeated to another without growing it."""
    return len(shape) <= len(wanted) and all(
        n in (1, extent) for n, extent in zip(reversed(shape), reversed(wanted), strict=False)
    )


def _of_mean(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, dims = args[0], args[1] if len(args) > 1 else None
    keep = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    if not dims or not x.is_floating_point() or set(kwargs) - {"keepdim"} or not isinstance(dims, list | tuple):
        return None
    rank = x.dim()
    if any(not -rank <= dim < rank for dim in dims):
        return None
    over = {dim % rank for dim in dims}
    if len(over) < len(dims):
        return None
    return _whole(x, [1 if axis in over else n for axis, n in enumerate(x.shape) if keep or axis not in over])


def _like_itself(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, y = args[0], args[1] if len(args) > 1 else None
    fits = y is None or not isinstance(y, torch.Tensor) or (y.shape == x.shape and y.dtype == x.dtype)
    return x if fits and not kwargs else None


def _of_linear(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, weight = args[:2]
    if x.shape[-1:] != weight.shape[-1:] or x.dtype != weight.dtype or weight.dim() != 2:
        return None
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device="meta")


def _of_convolution(args: Any, kwargs: Any) -> torch.Tensor | None:
    if kwargs:
        return None
    given: tuple[Any, ...] = (*args, *(None, 1, 0, 1, 1)[len(args) - 2 :])
    x, weight, bias, stride, padding, dilation, groups = given
    kernel = weight.shape[2:]
    n = len(kernel)
    if x.dim() != n + 2 or isinstance(padding, str) or not (x.is_contiguous() and weight.is_contiguous()):
        return None
    channels = weight.shape[0]
    fits = x.dtype == weight.dtype and x.shape[1] == weight.shape[1] * groups and channels % groups == 0
    if not fits or (bias is not None and (bias.dtype != x.dtype or tuple(bias.shape) != (channels,))):
        return None
    each = [_axes(number, n) for number in (stride, padding, dilation)]
    if min(each[0]) < 1 or min(each[1]) < 0 or min(each[2]) < 1:
        return None
    spans = [d * (k - 1) + 1 for d, k in zip(each[2], kernel, strict=True)]
    extents = [
        (extent + 2 * low - span) // step + 1 if extent + 2 * low >= span else 0
        for extent, low, span, step in zip(x.shape[2:], each[1], spans, each[0], strict=True)
    ]
    return _whole(x, (x.shape[0], channels, *extents)) if min(extents) > 0 else None


def _of_max_pool(args: Any, kwargs: Any) -> torch.Tensor | None:
    given: tuple[Any, ...] = (*args, *((), 0, 1, False)[len(args) - 2 :])
    x, kernel, stride, padding, dilation, ceil = given
    return None if kwargs or ceil else _of_windows(x, kernel, stride, padding, dilation)


def _of_average_pool(args: Any, kwargs: Any) -> torch.Tensor | None:
    given: tuple[Any, ...] = (*args, *((), 0, False)[len(args) - 2 :])
    x, kernel, stride, padding, ceil = given[:5]
    return None if kwargs or ceil else _of_windows(x, kernel, stride, padding, 1)


def _of_windows(x: torch.Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any) -> torch.Tensor | None:
    sizes = [_axes(number, 2) for number in (kernel, stride or kernel, padding, dilation)]
    if x.dim() != 4 or not x.is_contiguous() or not x.is_floating_point():
        return None
    extents = []
    for extent, size, step, low, spread in zip(x.shape[2:], *sizes, strict=True):
        room = extent + 2 * low - (spread * (size - 1) + 1)
        if min(size, step, spread) < 1 or not 0 <= 2 * low <= size or room < 0:
            return None
        extents.append(room // step + 1)
    return _whole(x, (*x.shape[:2], *extents))


def _of_concatenation(args: Any, kwargs: Any) -> torch.Tensor | None:
    tensors, dim = args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0)
    first = tensors[0]
    if not all(each.is_contiguous() and each.is_meta and each.dtype == first.dtype for each in tensors):
        return None
    if not -first.dim() <= dim < first.dim():
        return None
    axis, rank = dim % first.dim(), first.dim()
    around = [[n for place, n in enumerate(each.shape) if place != axis] for each in tensors]
    if any(each.dim() != rank for each in tensors) or any(each != around[0] for each in around):
        return None
    shape = list(first.shape)
    shape[axis] = sum(each.shape[axis] for each in tensors)
    return _whole(first, shape)


def _of_adaptive_pool(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, extents = args[:2]
    if kwargs or x.dim() != 4 or not x.is_contiguous() or len(extents) != 2 or min(extents) < 1:
        return None
    return _whole(x, (*x.shape[:2], *extents))


def _axes(number: Any, count: int) -> tuple[int, ...]:
    """One number for each axis."""
    if isinstance(number, int):
        return (number,) * count
    return tuple(number) * (count if len(number) == 1 else 1)


def _of_grouped(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, weight = args[:2]
    if x.dim() != 2 or weight.dim() != 3 or x.shape[1] != weight.shape[1]:
        return None
    return torch.empty((x.shape[0], weight.shape[2]), dtype=x.dtype, device="meta")


def _of_attention(args: Any, kwargs: Any) -> torch.Tensor | None:
    q, k, v = args[:3]
    fits = k.shape[-2] == v.shape[-2] and q.shape[-1] == k.shape[-1] and q.shape[:-3] == k.shape[:-3] == v.shape[:-3]
    same = q.shape[-3:-2] == k.shape[-3:-2] == v.shape[-3:-2] or kwargs.get("enable_gqa")
    mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
    if not (fits and same and q.dtype == k.dtype == v.dtype):
        return None
    if mask is not None and not _spreads(mask.shape, (*q.shape[:-1], k.shape[-2])):
        return None
    return torch.empty((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device="meta")


def _of_batch_norm(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, channels = args[0], args[0].shape[1:2]
    fits = all(each is None or tuple(each.shape) == tuple(channels) for each in args[1:5])
    return _alike(x) if fits and x.is_floating_point() else None


def _of_layer_norm(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, shape = args[:2]
    fits = list(x.shape[len(x.shape) - len(shape) :]) == list(shape) and x.is_floating_point()
    return _whole(x) if fits else None


QUICK: Mapping[str, Any] = {
    **dict.fromkeys(
        ("relu", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "rsqrt", "neg", "cos", "sin"),
        _like_first,
    ),
    **dict.fromkeys(("relu_", "silu_", "hardswish_", "sigmoid_", "add_", "mul_"), _like_itself),
    **dict.fromkeys(("add", "mul", "sub"), _like_both),
    "pow": _like_both,
    "mean": _of_mean,
    "linear": _of_linear,
    "_grouped_mm": _of_grouped,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _of_convolution),
    "max_pool2d": _of_max_pool,
    "avg_pool2d": _of_average_pool,
    "cat": _of_concatenation,
    "adaptive_avg_pool2d": _of_adaptive_pool,
    "scaled_dot_product_attention": _of_attention,
    "batch_norm": _of_batch_norm,
    "layer_norm": _of_layer_norm,
}
"""For an operation, what makes its result from its arguments."""

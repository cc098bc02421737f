"""What some operations of PyTorch make on the meta device, without asking it.

PyTorch works shapes out in Python for many operations, in a millisecond or two for each; a large network has thousands.
These are the usual ones whose result is plain to see; each says None where it is not, and PyTorch is asked then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

_META = torch.device("meta")


def _like_first(args: Any, kwargs: Any) -> torch.Tensor | None:
    x = args[0]
    return torch.empty_like(x) if x.is_floating_point() else None


def _like_first_whole(args: Any, kwargs: Any) -> torch.Tensor | None:
    """Normalisations make a row of its own for every value."""
    x = args[0]
    return torch.empty_like(x, memory_format=torch.contiguous_format) if x.is_floating_point() else None


def _like_both(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, y = args[:2]
    if kwargs or not isinstance(y, torch.Tensor):
        return torch.empty_like(x) if isinstance(y, float | int) and not kwargs and x.is_floating_point() else None
    if x.device != y.device or x.dtype != y.dtype or x.shape != y.shape or x.stride() != y.stride():
        return None
    return torch.empty_like(x)


def _like_itself(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, y = args[0], args[1] if len(args) > 1 else None
    fits = y is None or not isinstance(y, torch.Tensor) or (y.shape == x.shape and y.dtype == x.dtype)
    return x if fits and not kwargs else None


def _of_linear(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, weight = args[:2]
    if x.shape[-1:] != weight.shape[-1:] or x.dtype != weight.dtype or weight.dim() != 2:
        return None
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device=_META)


def _of_grouped(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, weight = args[:2]
    if x.dim() != 2 or weight.dim() != 3 or x.shape[1] != weight.shape[1]:
        return None
    return torch.empty((x.shape[0], weight.shape[2]), dtype=x.dtype, device=_META)


def _of_attention(args: Any, kwargs: Any) -> torch.Tensor | None:
    q, k, v = args[:3]
    fits = k.shape[-2] == v.shape[-2] and q.shape[-1] == k.shape[-1] and q.shape[:-3] == k.shape[:-3] == v.shape[:-3]
    same = q.shape[-3:-2] == k.shape[-3:-2] == v.shape[-3:-2] or kwargs.get("enable_gqa")
    mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
    if not (fits and same and q.dtype == k.dtype == v.dtype) or (mask is not None and not _spreads(mask, q, k)):
        return None
    return torch.empty((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device=_META)


def _spreads(mask: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> bool:
    scores = (*q.shape[:-1], k.shape[-2])
    return len(mask.shape) <= len(scores) and all(
        n in (1, wanted) for n, wanted in zip(reversed(mask.shape), reversed(scores), strict=False)
    )


def _of_batch_norm(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, channels = args[0], args[0].shape[1:2]
    fits = all(each is None or tuple(each.shape) == tuple(channels) for each in args[1:5])
    return torch.empty_like(x) if fits and x.is_floating_point() else None


def _of_layer_norm(args: Any, kwargs: Any) -> torch.Tensor | None:
    x, shape = args[:2]
    return _like_first_whole(args, kwargs) if list(x.shape[len(x.shape) - len(shape) :]) == list(shape) else None


QUICK: Mapping[str, Any] = {
    **dict.fromkeys(
        ("relu", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "rsqrt", "neg"), _like_first
    ),
    **dict.fromkeys(("relu_", "silu_", "hardswish_", "sigmoid_", "add_", "mul_"), _like_itself),
    **dict.fromkeys(("add", "mul", "sub"), _like_both),
    "pow": _like_both,
    "linear": _of_linear,
    "_grouped_mm": _of_grouped,
    "scaled_dot_product_attention": _of_attention,
    "batch_norm": _of_batch_norm,
    "layer_norm": _of_layer_norm,
}
"""For an operation, what makes its result from its arguments."""

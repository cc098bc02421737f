"""Self-attention in PyTorch whose masks are applied in every way that people write."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

WIDTH = 4


def causal(n):
    return torch.ones(n, n, dtype=torch.bool).tril()


def band(n, before, after):
    distance = torch.arange(n)[:, None] - torch.arange(n)
    return (distance <= before) & (distance >= -after)


def blocks(n, size):
    return torch.arange(n)[:, None] // size == torch.arange(n) // size


class Attention(nn.Module):
    """Self-attention of two heads over tokens `(batch, tokens, channels)`, its mask applied in one of many ways."""

    def __init__(self, way, mask):
        super().__init__()
        self.way = way
        self.project = nn.Linear(WIDTH, 3 * WIDTH)
        low = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        held = {"float buffer": mask.double(), "low buffer": low, "filled with -1e9": ~mask}.get(way, mask)
        self.register_buffer("mask", held)

    def forward(self, x):
        q, k, v = (each.unflatten(2, (2, -1)).transpose(1, 2) for each in self.project(x).chunk(3, 2))
        return self.mixed(q, k, v).transpose(1, 2).flatten(2)

    def mixed(self, q, k, v):
        mask, way = self.mask, self.way
        if way == "fused":
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        if way == "fused, as causal":
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = q @ k.transpose(2, 3) / 2
        if way == "linear":
            return (scores * mask) @ v
        if way == "linear triangle":
            return scores.tril() @ v
        if way == "low buffer":
            scores = scores + mask
        elif way == "low numbers made on the way":
            scores = scores + (~mask).to(scores.dtype) * -1e9
        elif way == "float buffer":
            scores = scores.masked_fill(mask == 0, float("-inf"))
        elif way == "filled with -1e9":
            scores = scores.masked_fill(mask, -1e9)
        elif way == "chosen":
            scores = torch.where(mask, scores.tanh(), torch.finfo(scores.dtype).min)
        elif way == "filled with 0":  # which hides scores, but not what they weigh
            scores = scores.masked_fill(~mask, 0)
        elif way == "sink":
            scores = torch.cat([scores.masked_fill(~mask, -torch.inf), torch.zeros_like(scores[..., :1])], 3)
            return functional.dropout(scores.softmax(3), 0.1, training=False)[..., :-1] @ v
        return scores.softmax(3) @ v


WAYS = [
    "fused", "fused, as causal", "linear", "linear triangle", "low buffer", "low numbers made on the way",
    "float buffer", "filled with -1e9", "chosen", "filled with 0", "sink",
]  # fmt: skip

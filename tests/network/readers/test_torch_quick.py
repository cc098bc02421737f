"""What is made without asking PyTorch is what PyTorch makes, or is left to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from thalweg.network.readers.torch_quick import QUICK  # noqa: E402

SMALL = st.integers(1, 4)
EXTENTS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def meta(shape, dtype=torch.float32):
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


@st.composite
def laid_out(draw, shape=None, dtypes=(torch.float32, torch.float16, torch.int64)):
    """A tensor with its axes in any order in memory, or repeated."""
    shape = draw(EXTENTS) if shape is None else shape
    order = draw(st.permutations(range(len(shape)))) if draw(st.booleans()) else list(range(len(shape)))
    held = [shape[axis] for axis in order]
    back = [order.index(axis) for axis in range(len(shape))]
    made = meta(held, draw(st.sampled_from(dtypes))).permute(back)
    return made.expand(3, *made.shape) if draw(st.integers(0, 9)) == 0 else made


@st.composite
def elementwise(draw):
    return draw(st.sampled_from(["relu", "gelu", "silu", "sigmoid", "tanh", "neg", "rsqrt", "cos"])), (
        draw(laid_out()),
    )


@st.composite
def pairs(draw):
    x = draw(laid_out())
    shape = [n if draw(st.integers(0, 3)) else draw(st.sampled_from([1, n, 2])) for n in x.shape]
    y = draw(st.one_of(laid_out(shape[draw(st.integers(0, len(shape) - 1)) :]), st.sampled_from([2, 0.5])))
    both = (y, x) if isinstance(y, torch.Tensor) and draw(st.booleans()) else (x, y)
    return draw(st.sampled_from(["add", "mul", "sub", "pow"])), both


@st.composite
def means(draw):
    x = draw(laid_out())
    dims = draw(st.lists(st.integers(-x.dim(), x.dim() - 1), min_size=1, max_size=2))
    return "mean", (x, dims, draw(st.booleans()))


@st.composite
def convolutions(draw):
    axes, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2]))
    channels, made = groups * draw(SMALL), groups * draw(SMALL)
    kernel = [draw(st.integers(1, 4)) for _ in range(axes)]
    x = meta([draw(SMALL), channels + draw(st.sampled_from([0] * 9 + [1])), *(draw(st.integers(1, 9)) for _ in kernel)])
    weight = meta([made, channels // groups, *kernel])
    bias = draw(st.sampled_from([None, meta([made]), meta([made + 1])]))
    numbers = [[draw(st.integers(low, 3)) for _ in range(axes)] for low in (1, 0, 1)]
    return f"conv{axes}d", (x, weight, bias, *numbers, groups)


@st.composite
def layers(draw):
    what = draw(st.sampled_from(["linear", "layer_norm", "batch_norm", "adaptive_avg_pool2d"]))
    x = draw(laid_out([draw(st.integers(1, 5)) for _ in range(4)], (torch.float32,)))
    width = x.shape[-1] + draw(st.sampled_from([0, 0, 0, 1]))
    if what == "linear":
        return what, (x, meta([draw(SMALL), width]), None)
    if what == "layer_norm":
        return what, (x, [width], meta([width]), meta([width]))
    if what == "batch_norm":
        channels = x.shape[1] + draw(st.sampled_from([0, 0, 0, 1]))
        return what, (x, *(meta([channels]) for _ in range(4)), False, 0.1, 1e-5, False)
    return what, (x, [draw(SMALL), draw(SMALL)])


@st.composite
def attentions(draw):
    batch, heads, tokens, keys, depth, width = (draw(SMALL) for _ in range(6))
    odd = draw(st.sampled_from([0, 0, 0, 1]))
    q, k = meta([batch, heads, tokens, depth]), meta([batch, heads, keys, depth + odd])
    v = meta([batch, heads, keys, width])
    mask = draw(st.sampled_from([None, meta([tokens, keys]), meta([batch, 1, 1, keys]), meta([tokens + 1, keys])]))
    return "scaled_dot_product_attention", (q, k, v, mask)


@st.composite
def pools(draw):
    x = draw(laid_out([draw(st.integers(1, 9)) for _ in range(4)], (torch.float32,)))
    kernel, stride = [draw(st.integers(1, 4)), draw(st.integers(1, 4))], draw(st.sampled_from([[], [2, 1], [3]]))
    padding, ceil = [draw(st.integers(0, 2)), draw(st.integers(0, 2))], draw(st.booleans())
    if draw(st.booleans()):
        return "avg_pool2d", (x, kernel, stride, padding, ceil)
    return "max_pool2d", (x, kernel, stride, padding, [draw(st.integers(1, 2))], ceil)


@st.composite
def concatenations(draw):
    shape = draw(EXTENTS)
    parts = [draw(laid_out(shape, (torch.float32,))) for _ in range(draw(st.integers(1, 3)))]
    parts.append(meta([*shape[:-1], draw(SMALL)]))
    return "cat", (parts, draw(st.integers(-len(shape), len(shape) - 1)))


EVERY = (elementwise(), pairs(), means(), convolutions(), layers(), attentions(), pools(), concatenations())


@given(st.one_of(*EVERY))
def test_quick_results_are_those_of_pytorch(case):
    operation, arguments = case
    quick = None if isinstance(arguments[0], int | float) else QUICK[operation](arguments, {})
    if quick is None:  # PyTorch is asked
        return
    with torch.inference_mode():
        slow = getattr(torch.ops.aten, operation)(*arguments)
    assert quick.shape == slow.shape
    assert quick.dtype == slow.dtype
    assert quick.device == slow.device
    assert quick.is_contiguous() == slow.is_contiguous() or 1 in slow.shape


def test_usual_layers_are_quick():
    x = meta([1, 4, 8, 8])
    weight, vector = meta([6, 4, 3, 3]), meta([4])
    assert QUICK["conv2d"]((x, weight, None, [2, 2], [1, 1]), {}).shape == (1, 6, 4, 4)
    assert QUICK["batch_norm"]((x, vector, vector, vector, vector, False), {}).shape == x.shape
    assert QUICK["linear"]((meta([1, 5, 4]), meta([7, 4])), {}).shape == (1, 5, 7)
    assert QUICK["conv2d"]((x, meta([6, 5, 3, 3])), {}) is None
    assert QUICK["add"]((x, vector), {}) is None

"""What PyTorch's operations do, for the `Recorder`: one rule for each name of ATen, or for several that do the same.

An operation without a rule is taken apart into simpler ones where PyTorch can do that, is elementwise where PyTorch
says so, and is unknown otherwise (`torch_run`). Here are the rules of what computes without a window, and the whole
table.

    >>> from thalweg.network.readers.recorder import Recorder
    >>> recorder = Recorder()
    >>> call = Call(recorder, "flatten", ((1, 12),), "flatten", "")
    >>> RULES["flatten"](call, recorder.input((1, 3, 4)), 1).shape
    (1, 12)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from thalweg.network.graph import Kind
from thalweg.network.readers import torch_moves as _moves
from thalweg.network.readers import torch_windows as _windows
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.torch_masks import mask_of, of_scores, turns
from thalweg.network.readers.torch_rules import (
    RULES,
    Answer,
    Call,
    dims_of,
    last_axes,
    present,
    rule,
    shuffled,
    units_into,
)

__all__ = ["ELEMENTWISE", "RULES", "Call", "elementwise"]

_ENTERED = (_moves, _windows)  # which fill the table when they are imported


# Normalisations and shares.


@rule("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def _batch_norm(call: Call, x: Array, weight: Array | None, bias: Array | None, *_: Any, **__: Any) -> Answer:
    return call.recorder.normalise(x, (), present(weight, bias), **call.named(weight))


@rule("instance_norm")
def _instance_norm(call: Call, x: Array, weight: Array | None, bias: Array | None, *_: Any, **__: Any) -> Answer:
    return call.recorder.normalise(x, range(2, len(x.shape)), present(weight, bias), **call.named(weight))


@rule("group_norm")
def _group_norm(
    call: Call, x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, *_: Any, **__: Any
) -> Answer:
    return call.recorder.normalise(x, range(1, len(x.shape)), present(weight, bias), **call.named(weight))


@rule("native_group_norm")
def _native_group_norm(call: Call, x: Array, weight: Array | None, bias: Array | None, *_: Any) -> Answer:
    return call.recorder.normalise(x, range(1, len(x.shape)), present(weight, bias), **call.named(weight))


@rule("layer_norm", "rms_norm", "native_layer_norm", "_fused_rms_norm")
def _layer_norm(
    call: Call, x: Array, normalized_shape: Sequence[int], weight: Array | None = None, bias: Array | None = None,
    *_: Any, **__: Any,
) -> Answer:  # fmt: skip
    weights = present(weight, bias if isinstance(bias, Array) else None)
    return call.recorder.normalise(x, last_axes(x, len(normalized_shape)), weights, **call.named(weight))


@rule(
    "softmax", "log_softmax", "_softmax", "_log_softmax", "_safe_softmax", "argsort", "renorm",
)  # fmt: skip
def _softmax(call: Call, x: Array, dim: Any = -1, *_: Any, **__: Any) -> Answer:
    if not isinstance(dim, int) or not x.shape:
        return None
    along = call.recorder.softmax if call.operation in _SHARES else call.recorder.along
    return along(x, dim % len(x.shape), **call.named())


_SHARES = frozenset({"softmax", "_softmax", "_safe_softmax"})


@rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
def _cumulative(call: Call, x: Array, dim: Any = -1, *_: Any, **__: Any) -> Answer:
    if not isinstance(dim, int) or not x.shape:
        return None
    made = call.recorder.accumulate(x, dim % len(x.shape), **call.named())
    return [made] * len(call.shapes)


# Sums and extremes.


@rule("mean", "amax", "max", "nanmean")
def _pool(call: Call, x: Array, dim: Any = None, *_: Any, **__: Any) -> Answer:
    if isinstance(dim, Array):
        return call.recorder.elementwise([x, dim], **call.named())
    return _reduced(call, x, dim, pool=True)


@rule(
    "sum", "prod", "amin", "min", "var", "std", "var_mean", "std_mean", "logsumexp", "any", "all", "argmax", "argmin",
    "median", "nanmedian", "nansum", "count_nonzero", "mode", "aminmax", "dist",
)  # fmt: skip
def _sum(call: Call, x: Array, dim: Any = None, *_: Any, **__: Any) -> Answer:
    if isinstance(dim, Array):
        return call.recorder.elementwise([x, dim], **call.named())
    return _reduced(call, x, dim)


_PLAIN = frozenset({"mean", "nanmean", "sum", "nansum", "amax", "max", "amin", "min"})
"""The sums, means and extremes."""


@rule("norm", "linalg_vector_norm")
def _norm(call: Call, x: Array, ord: Any = 2, dim: Any = None, *_: Any, **__: Any) -> Answer:  # noqa: A002
    return _reduced(call, x, dim)


def _reduced(call: Call, x: Array, dim: Any, pool: bool = False) -> Sequence[Array]:
    over = dims_of(x, None if isinstance(dim, bool) else dim)
    keep = len(call.shape) == len(x.shape)
    made = call.recorder.reduce(x, over, keep=keep, pool=pool, plain=call.operation in _PLAIN, **call.named())
    return [made] * len(call.shapes)


@rule(
    "mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "multi_margin_loss", "nll_loss_forward",
    "nll_loss2d_forward", "binary_cross_entropy", "binary_cross_entropy_with_logits",
)  # fmt: skip
def _loss(call: Call, x: Array, target: Array, *_: Any, **__: Any) -> Answer:
    """How far values are from what they should be: each of them, each row of classes, or all together."""

    def put_together(each: Array) -> Array:
        rank = len(each.shape)
        over = range(rank) if not call.shape else [1] if rank > len(call.shape) else []
        return call.recorder.reduce(each, over, **call.named()) if over else each

    made = call.recorder.elementwise([put_together(x), put_together(target)], **call.named())
    return [made, *(call.recorder.constant(shape) for shape in call.shapes[1:])]


# Matrix products.


@rule("linear")
def _linear_layer(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Answer:
    x = units_into(call, x, weight)
    last = len(x.shape) - 1
    made = call.recorder.product(
        x, weight, ((last,), (len(weight.shape) - 1,)), bias=bias, hides=bool(weight.weights) and _hides(call, weight),
        **call.named(weight if weight.weights else bias),
    )  # fmt: skip
    return made if bias is None or bias.is_constant else _plus(call, made, bias)


def _plus(call: Call, x: Array, y: Array) -> Array:
    return call.recorder.elementwise([x, y], Kind.ADD, name=f"{call.name}.add", module=call.module)


@rule("addmm", "addmv", "baddbmm", "addbmm")
def _add_product(call: Call, bias: Array, x: Array, y: Array, *, beta: float = 1, alpha: float = 1) -> Answer:
    if call.operation == "addbmm":
        return None
    made = _times(call, x, y, bias if bias.is_constant else None)
    if bias.is_constant and bias.weights:
        return made
    mask = of_scores(bias, call.numbers, beta)
    return call.recorder.elementwise([made, bias], Kind.ADD, f"{call.name}.add", call.module, mask=mask)


@rule("mm", "bmm", "matmul", "mv", "dot", "vdot", "inner")
def _product(call: Call, x: Array, y: Array) -> Answer:
    if call.operation == "inner":
        return None
    return _times(call, x, y)


@rule("cdist", "_cdist_forward", "_euclidean_dist")
def _distances(call: Call, x: Array, y: Array, *_: Any, **__: Any) -> Answer:
    """Of each row to each of the other array's, as of features to the words of a codebook."""
    order = [*range(len(y.shape) - 2), len(y.shape) - 1, len(y.shape) - 2]
    return _times(call, x, call.recorder.permute(y, order))


@rule("linalg_solve_triangular")
def _substitution(
    call: Call, x: Array, y: Array, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Answer:
    """Forward or backward: each row takes those before it, and a division unless the diagonal is 1."""
    rows, size = x.shape[-1], math.prod(call.shape)
    macs = size // rows * (rows * (rows - 1) // 2) + (0 if unitriangular else size)
    return _times(call, x, y, macs=macs) if left else _times(call, y, x, macs=macs)


def _times(call: Call, x: Array, y: Array, bias: Array | None = None, macs: int | None = None) -> Array:
    """`x @ y`, as NumPy and PyTorch define it for any number of axes."""
    weight = next((each for each in (y, x) if each.is_constant and each.weights), bias)
    named = call.named(weight)
    hides = any(_hides(call, each) for each in (x, y))
    rows, columns = len(x.shape), len(y.shape)
    contracted = ((rows - 1,), (max(0, columns - 2),))
    if min(rows, columns) < 2 or columns == 2:
        if columns > 2:  # a vector from the left: its place among the results is the last but one, which is gone
            contracted = ((0,), (columns - 2,))
        return call.recorder.product(x, y, contracted, bias=bias, macs=macs, hides=hides, **named)
    if rows < columns:
        x = call.recorder.reshape(x, (1,) * (columns - rows) + x.shape, **named)
    elif columns < rows:
        y = call.recorder.reshape(y, (1,) * (rows - columns) + y.shape, **named)
    together = tuple(range(len(x.shape) - 2))
    contracted = ((len(x.shape) - 1,), (len(x.shape) - 2,))
    return call.recorder.product(x, y, contracted, (together, together), bias=bias, macs=macs, hides=hides, **named)


def _hides(call: Call, table: Array) -> bool:
    """Whether a factor is a table of numbers that may hold zeros, or of weights of which a mask leaves some."""
    if not table.is_constant or table.weights:
        return table.is_constant and call.kept(table) is not None
    numbers = call.numbers(table)
    return numbers is None or not numbers.all()


@rule("bilinear")
def _bilinear(call: Call, x: Array, y: Array, weight: Array, bias: Array | None = None) -> Answer:
    """A layer on all products of two vectors."""
    one = call.recorder.reshape(x, (*x.shape, 1))
    other = call.recorder.reshape(y, (*y.shape[:-1], 1, y.shape[-1]))
    pairs = call.recorder.elementwise([one, other], Kind.MULTIPLY, name=f"{call.name}.mul", module=call.module)
    last = len(pairs.shape) - 1
    return call.recorder.product(pairs, weight, ((last - 1, last), (1, 2)), bias=bias, **call.named(weight))


@rule("_grouped_mm", "grouped_mm")
def _grouped_product(call: Call, x: Array, weight: Array, *_: Any, **__: Any) -> Answer:
    """Each row of x times one of several matrices, as experts have them."""
    if len(x.shape) != 2 or len(weight.shape) != 3:
        return None
    one = replace(weight, shape=weight.shape[1:], axes=weight.axes[1:])
    return call.recorder.product(x, one, ((1,), (0,)), **call.named(weight))


@rule("scaled_dot_product_attention")
def _attention(
    call: Call, query: Array, key: Array, value: Array, attn_mask: Array | None = None, dropout_p: float = 0,
    is_causal: bool = False, **_: Any,
) -> Answer:  # fmt: skip
    mask = None if attn_mask is None else of_scores(attn_mask, call.numbers)
    return call.recorder.attention(query, key, value, bias=attn_mask, mask=mask, causal=is_causal, **call.named())


@rule("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu")
def _flash_attention(
    call: Call, query: Array, key: Array, value: Array, dropout_p: float = 0, is_causal: bool = False, *_: Any,
    attn_mask: Array | None = None, **__: Any,
) -> Answer:  # fmt: skip
    return _attention(call, query, key, value, attn_mask, dropout_p, is_causal)


@rule("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention")
def _efficient_attention(
    call: Call, query: Array, key: Array, value: Array, attn_bias: Array | None, compute_log_sumexp: bool,
    dropout_p: float = 0, is_causal: bool = False, *_: Any, **__: Any,
) -> Answer:  # fmt: skip
    return _attention(call, query, key, value, attn_bias, dropout_p, is_causal)


# Layers with tables and with memory.


@rule("embedding")
def _embedding(call: Call, weight: Array, indices: Array, *_: Any, **__: Any) -> Answer:
    if not weight.is_constant:
        return shuffled(call, weight, (0,), [] if indices.is_constant else [indices])
    return call.recorder.embedding(indices, weight, **call.named(weight))


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(call: Call, weight: Array, indices: Array, *_: Any, **__: Any) -> Answer:
    return call.recorder.embedding_bag(indices, weight, call.shape, **call.named(weight))


def _recurrent(
    call: Call, x: Array, state: Sequence[Array], params: Sequence[Array], bidirectional: bool, batch_first: bool
) -> Answer:
    if not any(each.weights for each in params):
        return None
    time = 1 if batch_first and len(x.shape) == 3 else 0
    examples = 1 - time if len(x.shape) == 3 else None
    steps = x.shape[time] * (x.shape[1 - time] if len(x.shape) == 3 else 1)
    macs = steps * sum(math.prod(each.shape) for each in params if len(each.shape) == 2)
    reverse = None if bidirectional else False
    made = call.recorder.recurrent(
        x, time, call.shape, macs, params, **call.named(), reverse=reverse, states=state, examples=examples
    )
    at = None if examples is None else (examples, 1)
    return [made, *(call.recorder.state(made, time, shape, at) for shape in call.shapes[1:])]


@rule("lstm")
def _lstm(
    call: Call, x: Array, hx: Sequence[Array], params: Any, has_biases: Any, num_layers: int = 1, dropout: float = 0,
    train: bool = False, bidirectional: bool = False, batch_first: bool = False,
) -> Answer:  # fmt: skip
    if isinstance(hx, Array):  # packed sequences
        return None
    return _recurrent(call, x, hx, params, bidirectional, batch_first)


@rule("gru", "rnn_tanh", "rnn_relu")
def _gru(
    call: Call, x: Array, hx: Array, params: Any, has_biases: Any, num_layers: int = 1, dropout: float = 0,
    train: bool = False, bidirectional: bool = False, batch_first: bool = False,
) -> Answer:  # fmt: skip
    if isinstance(params, Array):  # packed sequences
        return None
    return _recurrent(call, x, [hx], params, bidirectional, batch_first)


# One value at a time.


@rule("glu")
def _glu(call: Call, x: Array, dim: int = -1) -> Answer:
    (axis,) = dims_of(x, dim)
    half = x.shape[axis] // 2
    parts = [call.recorder.slice(x, axis, start, start + half, **call.named()) for start in (0, half)]
    return call.recorder.elementwise(parts, Kind.ACTIVATION, **call.named())


@rule("prelu", "_prelu_kernel")
def _prelu(call: Call, x: Array, weight: Array) -> Answer:
    return call.recorder.elementwise([x], Kind.ACTIVATION, weights=[weight], **call.named(weight))


@rule("bucketize", "searchsorted")
def _bucketize(call: Call, *arrays: Any, **__: Any) -> Answer:
    return call.recorder.elementwise([each for each in arrays if isinstance(each, Array)], **call.named())


_KINDS = {
    "add": Kind.ADD,
    "sub": Kind.ADD,
    "rsub": Kind.ADD,
    "mul": Kind.MULTIPLY,
    "div": Kind.MULTIPLY,
    "true_divide": Kind.MULTIPLY,
}

ELEMENTWISE = frozenset(
    {
        "hardswish", "hardsigmoid", "rrelu", "rrelu_with_noise", "log_sigmoid", "log_sigmoid_forward", "softplus",
        "leaky_relu", "elu", "celu", "selu", "softshrink", "hardshrink", "hardtanh", "relu6", "mish", "threshold",
        "clamp", "masked_fill", "isnan", "isinf", "isfinite", "cross", "tril", "triu", "isin",
        "fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine", "linalg_cross", "lerp", "float_power",
        "floor_divide",
    }
)  # fmt: skip
"""Operations on one value at a time that PyTorch does not mark as such."""


def elementwise(call: Call, *arguments: Any, **named: Any) -> Answer:
    """The rule of every operation that works on the values in one place."""
    parts = [each for each in (*arguments, *named.values()) if isinstance(each, Array)]
    kind = _KINDS.get(call.operation, Kind.ACTIVATION)
    if not parts:
        return None
    alpha = named.get("alpha", 1)
    mask, round_ = mask_of(call.operation, arguments, call.numbers, alpha), turns(call.operation, arguments, alpha)
    return call.recorder.elementwise(parts, kind, **call.named(), mask=mask, turns=round_)


@rule("where")
def _where(call: Call, x: Array, *others: Any) -> Answer:
    cases = [each for each in others if isinstance(each, Array) and not each.is_constant]
    if len(cases) == 2 and x.is_constant:
        known = call.numbers(x)
        return call.recorder.choose(None if known is None else known != 0, cases[0], cases[1], **call.named())
    if others:
        return elementwise(call, x, *others)
    return [call.recorder.gather([x], call.shape, **call.named())] * len(call.shapes)  # the places of a mask

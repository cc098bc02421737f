"""PyTorch's LSTM on a CPU as it runs with data, for rehearsals where tensors hold none.

With data each layer in each direction is one call of oneDNN, which keeps a workspace for the way back: most of what
such a layer keeps. Where tensors hold no data PyTorch takes other ways, and gives the workspace no bytes. Here the
layers are called as with data, and the workspace gets its size. That depends on the processor and grows along a
straight line with the number of steps, in whole pages, so two short runs with data foretell it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_PAGE = 4096
_LENGTHS = (4, 16, 64, 256)  # of the longer of two short runs; the longer, the less a page more or less matters
_MOST_PRODUCTS = 1_000_000_000  # multiply-accumulates in a short run: less than a tenth of a second
_LSTM = 2  # oneDNN's number for this kind of recurrent layer


def as_with_data(module: Any) -> AbstractContextManager[object]:
    """While this runs, the LSTMs of a module on a CPU run as they do with data."""
    import torch

    if not any(isinstance(each, torch.nn.LSTM) for each in module.modules()):
        return nullcontext()
    made: AbstractContextManager[object] = _mode_class()()
    return made


@functools.cache
def _mode_class() -> Any:
    """The class of function modes, which needs PyTorch to be defined."""
    from torch.overrides import TorchFunctionMode

    base: Any = TorchFunctionMode

    class Mode(base):  # type: ignore[misc]
        """Replaces calls of LSTMs that PyTorch gives to oneDNN."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__name__", "") == "lstm" and len(args) == 9 and _is_for_onednn(*args[:3]):
                return _lstm(*args)
            return func(*args, **(kwargs or {}))

    return Mode


def _is_for_onednn(x: Any, state: Any, weights: Any) -> bool:
    """Whether PyTorch gives it to oneDNN: `use_mkldnn` in its `RNN.cpp`."""
    import torch

    onednn = torch.backends.mkldnn
    if not isinstance(weights, Sequence) or not (onednn.is_available() and onednn.enabled):  # packed sequences
        return False
    kinds = {torch.float32} | ({torch.bfloat16} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else set())
    alike = all(each.device.type == "cpu" and each.dtype in kinds for each in (x, *state, *weights))
    return alike and state[0].shape[-1] == state[1].shape[-1]


def _lstm(
    x: Any, state: Any, weights: Sequence[Any], biases: bool, layers: int, dropout: float, train: bool,
    both_ways: bool, batch_first: bool,
) -> Any:  # fmt: skip
    """What `mkldnn_rnn` of `RNN.cpp` does, layer by layer."""
    import torch

    x = (x.transpose(0, 1) if batch_first else x).contiguous()
    directions, each = 2 if both_ways else 1, 4 if biases else 2
    last: list[list[Any]] = [[], []]
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            own = list(weights[number * each : (number + 1) * each])
            if not biases:
                own += [torch.zeros_like(weight) for weight in own]
            hidden, cell = (part[number].unsqueeze(0).contiguous() for part in state)
            size = hidden.shape[-1]
            output, *ends = _layer(
                x, own, hidden, cell, (direction == 1, [], _LSTM, size, 1, biases, False, False, train)
            )
            outputs.append(output)
            for kept, end in zip(last, ends, strict=True):
                kept.append(end)
        x = torch.cat(outputs, -1) if both_ways else outputs[0]
        if dropout and train and layer < layers - 1:
            x = torch.nn.functional.dropout(x, dropout)
    ends = [torch.cat(kept) for kept in last]
    return x.transpose(0, 1) if batch_first else x, *ends


def _layer(x: Any, weights: Sequence[Any], hidden: Any, cell: Any, options: tuple[Any, ...]) -> list[Any]:
    import torch

    output, hidden, cell, _ = torch.ops.aten.mkldnn_rnn_layer(x, *weights, hidden, cell, *options)
    return [output, hidden, cell]


def with_workspace(arguments: Sequence[Any], made: Any) -> Any:
    """The results of oneDNN's layer, with the workspace in its true size where it keeps one.

    Args:
        arguments: what it was called with.
        made: its results.
    """
    if not arguments[-1]:  # not trained
        return made
    x, weight = arguments[:2]
    size = _workspace_bytes(*x.shape, weight.shape[0] // 4, x.dtype)
    return (*made[:3], made[3].new_empty(size))


@functools.lru_cache(maxsize=256)
def _workspace_bytes(steps: int, batch: int, features: int, hidden: int, dtype: Any) -> int:
    """The bytes that one layer keeps in one direction."""
    products = batch * 4 * hidden * (features + hidden)
    longer = max((each for each in _LENGTHS if each * products <= _MOST_PRODUCTS), default=_LENGTHS[0])
    if steps <= longer:
        return _measured_bytes(steps, batch, features, hidden, dtype)
    first, second = (_measured_bytes(each, batch, features, hidden, dtype) for each in (longer // 2, longer))
    foretold = second + (second - first) * (steps - longer) // (longer - longer // 2)
    return -(-foretold // _PAGE) * _PAGE


def _measured_bytes(steps: int, batch: int, features: int, hidden: int, dtype: Any) -> int:
    import torch
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes(), unset_fake_temporarily(), torch.enable_grad():
        x, state = (torch.zeros(shape, dtype=dtype) for shape in ((steps, batch, features), (1, batch, hidden)))
        rows = 4 * hidden
        weights = [torch.zeros(shape, dtype=dtype) for shape in ((rows, features), (rows, hidden), (rows,), (rows,))]
        weights[0].requires_grad_()
        options: tuple[Any, ...] = (False, [], _LSTM, hidden, 1, True, False, False, True)
        made = torch.ops.aten.mkldnn_rnn_layer(x, *weights, state, state, *options)
    size: int = made[3].untyped_storage().nbytes()
    return size

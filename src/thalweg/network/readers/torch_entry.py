"""What the input of a PyTorch module must be, as the first layers of a run show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.lazy_torch import torch

Shape: TypeAlias = tuple[int, ...]

_CHANNELS_FIRST = frozenset(
    {
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution",
        "batch_norm", "group_norm", "instance_norm", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d",
        "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices",
    }
)  # fmt: skip
_CHANNELS_LAST = frozenset(
    {
        "cdist", "linear", "layer_norm", "rms_norm", "lstm", "gru", "rnn_tanh", "rnn_relu", "matmul", "mm", "bmm",
        "scaled_dot_product_attention",
    }
)  # fmt: skip
_IDS = {
    "embedding": 1, "embedding_bag": 1, "one_hot": 0, "gather": 2, "index_select": 2, "take_along_dim": 1, "scatter": 2,
    "scatter_add": 2, "nll_loss": 1, "nll_loss2d": 1, "nll_loss_nd": 1, "nll_loss_forward": 1, "cross_entropy_loss": 1,
}  # fmt: skip
"""Operations that look something up, and where their whole numbers stand."""


@dataclass(frozen=True)
class Entry:
    """One input of the network, the batch included.

    Args:
        shape: its extents.
        dtype: of its elements.
        positions: which axes are positions.
        channel: which axis holds the channels.
        batch: which axis is the batch.
    """

    shape: Shape
    dtype: torch.dtype
    positions: tuple[int, ...] = ()
    channel: int | None = None
    batch: int = 0


class OtherEntryError(Exception):
    """The run has shown that its input must be another: integers, other axes of positions, another batch axis."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(str(changes))
        self.changes = changes


def check_ids(operation: str, args: Sequence[Any], place_of: Callable[[torch.Tensor], int | None]) -> None:
    """Ids that are looked up are integers.

    Args:
        operation: its name in ATen.
        args: its arguments.
        place_of: which input a tensor is, None where it is none.

    Raises:
        OtherEntryError: those of an input are none.
    """
    place = _IDS.get(operation)
    given = args[1] if operation == "index" else [] if place is None or len(args) <= place else [args[place]]
    if operation == "cross_entropy_loss" and args[0].shape == args[1].shape:
        return  # it takes probabilities as well
    for x in given:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            continue
        number = place_of(x)
        if number is None and operation.startswith("embedding"):  # of the first, which was padded or the like
            number = 0
        if number is not None:
            raise OtherEntryError(number=number, dtype=torch.int64)


def check_batch(x: torch.Tensor) -> None:
    """The batch of what goes into a module that has it in the middle.

    Raises:
        OtherEntryError: it came first, as it does in all inputs until one is known to take it elsewhere.
    """
    if x.dim() == 3 and x.shape[0] == 1 and x.shape[1] > 1:
        raise OtherEntryError(number=0, batch=1)


def settle(operation: str, arrays: Sequence[Any], own: Sequence[int]) -> None:
    """Learn from the first layer which axes of the input are positions.

    Args:
        operation: its name in ATen.
        arrays: its arguments.
        own: the axes of the input that are taken for positions so far.

    Raises:
        OtherEntryError: it is such a layer, and says which.
    """
    x = arrays[1] if operation in ("embedding", "embedding_bag", "addmm") and len(arrays) > 1 else arrays[0]
    if not isinstance(x, Array) or x.is_constant or not ax.has_positions(tuple(ax.atoms_of(x.axes))):
        return
    rank = len(x.shape)
    if operation in _CHANNELS_FIRST and rank > 2:
        windows = next((int(each) for each in operation if each.isdigit()), rank - 2)
        over, channel = range(rank - windows, rank), rank - windows - 1
    elif operation in _CHANNELS_LAST and rank > 1:
        over, channel = range(rank - 1), rank - 1
    elif operation in ("embedding", "embedding_bag"):
        over, channel = range(rank), -1
    else:
        return
    places = [_whole(x.axes[axis], own) for axis in over]
    if operation in _CHANNELS_FIRST and None in places:  # an axis with one position is not to be told from others
        raise OtherEntryError(number=0, positions=None, channel=None)
    channels = None if channel < 0 else _whole(x.axes[channel], own)
    if operation in _CHANNELS_LAST and channels is None:  # of everything at once: its axes stay untold
        raise OtherEntryError(number=0, positions=None, channel=None)
    found = tuple(place for place in places if place is not None)
    gone = {*own} - {*found, channels}
    if gone and operation not in _CHANNELS_FIRST:  # it takes one step of several, or what was made of all of them
        found = tuple(sorted(gone.union(found)))
    raise OtherEntryError(number=0, positions=found, channel=channels)


def _whole(axis: ax.Axis, own: Sequence[int]) -> int | None:
    """The axis of the input that an axis of an array is."""
    place = axis[0].axis if len(axis) == 1 else None
    return None if place is None or place == ax.LOST else own[place]

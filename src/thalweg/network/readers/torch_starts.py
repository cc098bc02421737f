"""Runs until what goes in is right.

The first run takes every axis of the input but the batch for an axis of positions, unless it is known which ones are,
and its elements for those of the weights. The first layer shows what it really needs (`OtherEntryError`), and the run
starts again with that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from thalweg.errors import InputError
from thalweg.network.graph import Graph
from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.recorder import Recorder
from thalweg.network.readers.torch_copy import Copied
from thalweg.network.readers.torch_entry import Entry, OtherEntryError
from thalweg.network.readers.torch_modes import listening
from thalweg.network.readers.torch_run import DependsOnDataError, Run

Shape = tuple[int, ...]

_MOST_STARTS = 8

Network = Callable[[Run, Sequence[Any]], None]
"""Runs on these inputs; what runs is told to the `Run`."""


def written_down(
    network: Network, copied: Copied, entries: tuple[Entry, ...], notes: Sequence[str] = (), whole: bool = False
) -> Graph:
    """What a network does on these inputs, or on those that its run shows to be right.

    Raises:
        DependsOnDataError: what it does depends on data, from its first layer on; with `whole`, anywhere.
    """
    settled = bool(entries[0].positions)
    for _ in range(_MOST_STARTS):
        try:
            return _once(network, copied, entries, settled, notes, whole)
        except OtherEntryError as other:
            changes = dict(other.changes)
            number: int = changes.pop("number")
            old = entries[number]
            if "batch" in changes:
                changes["shape"] = _with_batch(old, changes["batch"])
            if "positions" in changes:
                settled = True
                if changes["positions"] is None:
                    changes["positions"], changes["channel"] = _usual(old)
            entries = (*entries[:number], replace(old, **changes), *entries[number + 1 :])
    raise InputError("What the input of the network must be cannot be found out; give it another shape.")


def several(shape: Sequence[Any]) -> tuple[Shape, ...]:
    """One shape for each input."""
    many = len(shape) > 0 and not isinstance(shape[0], int)
    return tuple([tuple(each) for each in shape]) if many else (tuple(shape),)


def _once(
    network: Network, copied: Copied, entries: Sequence[Entry], settled: bool, notes: Sequence[str], whole: bool
) -> Graph:
    recorder = Recorder()
    run = Run(recorder, settled)
    run.know(copied.names, copied.aliases)
    tensors = [run.enter(entry, settled) for entry in entries]
    try:
        with torch.inference_mode(), listening(run):
            network(run, tensors)
    except DependsOnDataError as error:
        if whole or not recorder.identities():
            raise
        run.break_off(error)
    if not settled:  # no layer has shown which axes are positions
        positions, channel = _usual(entries[0])
        raise OtherEntryError(number=0, positions=positions, channel=channel)
    run.leave_rest(copied)
    graph = recorder.graph((*notes, *run.notes))
    axes = tuple(entry.batch for entry in entries)
    return replace(graph, batch_axes=axes) if any(axes) else graph


def _usual(entry: Entry) -> tuple[tuple[int, ...], int | None]:
    """Where positions and channels are in images and the like: channels first."""
    rank = len(entry.shape)
    return (tuple(range(2, rank)), 1) if rank > 2 else ((), None)


def _with_batch(entry: Entry, axis: int) -> Shape:
    rest = [extent for place, extent in enumerate(entry.shape) if place != entry.batch]
    return (*rest[:axis], 1, *rest[axis:])

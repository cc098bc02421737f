"""Runs until what goes in is right.

The first run takes every axis of the input but the batch for an axis of positions, unless it is known which ones are,
and its elements for those of the weights. The first layer shows what it really needs (`OtherEntryError`), and the run
starts again with that: on the same copy of the network, unless the run has changed what that keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from thalweg.errors import InputError
from thalweg.network.graph import Graph
from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.recorder import Recorder
from thalweg.network.readers.torch_copy import Copied, Kept
from thalweg.network.readers.torch_entry import Entry, OtherEntryError
from thalweg.network.readers.torch_modes import listening
from thalweg.network.readers.torch_run import DependsOnDataError, Run

Shape = tuple[int, ...]

_MOST_STARTS = 8

Network: TypeAlias = "Callable[[Run, torch.nn.Module, Sequence[Any]], None]"
"""Runs a copy on these inputs; what runs is told to the `Run`."""


def written_down(
    network: Network,
    copy: Callable[[], Copied],
    entries: tuple[Entry, ...],
    notes: Sequence[str] = (),
    whole: bool = False,
) -> Graph:
    """What a network does on these inputs, or on those that its run shows to be right.

    Args:
        network: runs it.
        copy: makes a copy of it.
        entries: its inputs.
        notes: what had to be decided before, in sentences.
        whole: whether all of it must be read.

    Raises:
        DependsOnDataError: what it does depends on data, from its first layer on; with `whole`, anywhere.
    """
    settled = bool(entries[0].positions)
    copied = copy()
    batch_first: tuple[Entry, ...] | None = None  # the inputs before a module asked for another batch axis
    asks = True
    for _ in range(_MOST_STARTS):
        run, kept = Run(Recorder(), settled, asks), Kept(copied.module)
        try:
            return _once(network, copied, run, entries, notes, whole)
        except OtherEntryError as other:
            changes = dict(other.changes)
            number: int = changes.pop("number")
            if "batch" in changes:
                batch_first, asks = entries, False
                entries = tuple(_with_batch(each, changes["batch"]) for each in entries)
            else:
                if "positions" in changes:
                    settled = True
                    if changes["positions"] is None:
                        changes["positions"], changes["channel"] = _usual(entries[number])
                entries = (*entries[:number], replace(entries[number], **changes), *entries[number + 1 :])
        except InputError:
            if batch_first is None:
                raise
            # The batch does come first, and a module far from the input takes it for steps.
            entries, batch_first = batch_first, None
        if run.has_overwritten or kept.is_changed:
            copied = copy()
    raise InputError("What the input of the network must be cannot be found out; give it another shape.")


def several(shape: Sequence[Any]) -> tuple[Shape, ...]:
    """One shape for each input."""
    many = len(shape) > 0 and not isinstance(shape[0], int)
    return tuple([tuple(each) for each in shape]) if many else (tuple(shape),)


def _once(
    network: Network, copied: Copied, run: Run, entries: Sequence[Entry], notes: Sequence[str], whole: bool
) -> Graph:
    run.know(copied.names, copied.aliases)
    tensors = [run.enter(entry) for entry in entries]
    try:
        with torch.inference_mode(), listening(run):
            network(run, copied.module, tensors)
    except DependsOnDataError as error:
        if whole or not run.recorder.identities():
            raise
        run.break_off(error)
    if not run.is_settled:  # no layer has shown which axes are positions
        positions, channel = _usual(entries[0])
        raise OtherEntryError(number=0, positions=positions, channel=channel)
    run.leave_rest(copied)
    graph = run.recorder.graph((*notes, *run.notes))
    axes = tuple(entry.batch for entry in entries)
    return replace(graph, batch_axes=axes) if any(axes) else graph


def _usual(entry: Entry) -> tuple[tuple[int, ...], int | None]:
    """Where positions and channels are in images and the like: channels first."""
    rank = len(entry.shape)
    return (tuple(range(2, rank)), 1) if rank > 2 else ((), None)


def _with_batch(entry: Entry, axis: int) -> Entry:
    """The same input with its batch on another axis, where it has another."""
    rest = [place for place in range(len(entry.shape)) if place != entry.batch]
    order = (*rest[:axis], entry.batch, *rest[axis:])
    return replace(
        entry,
        shape=tuple([entry.shape[place] for place in order]),
        batch=order.index(entry.batch),
        positions=tuple([order.index(place) for place in entry.positions]),
        channel=None if entry.channel is None else order.index(entry.channel),
    )

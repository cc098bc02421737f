"""Where the positions of a network's input are in an array, through every reshape and permutation.

Frameworks merge, split and reorder axes: a map of 14 x 14 positions becomes a sequence of 196 tokens, channels become
heads, positions fall into windows or move into the channels. Each axis of an array is therefore a product of `Atom`s,
the outermost first, and each atom is a piece of one spatial axis of the network's input or of the features. Reshaping
splits and merges atoms, a permutation reorders them, and at every point it can be said which positions an index means.

    >>> image = (features(64), position(0, 14), position(1, 14))         # channels first
    >>> tokens = reshaped(image, (64, 196))
    >>> [axis[0].axis for axis in (tokens[0], tokens[1])], len(tokens[1])
    ([None, 0], 2)
    >>> reshaped(tokens, (64, 2, 7, 14))[1]                              # the upper and the lower half
    (Atom(extent=2, axis=0, step=7, flat=()),)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.network.readers.arrays import Scores

LOST = -1
"""The axis of positions along no single spatial axis: they can no longer be told apart, or are those of flat maps."""


@dataclass(frozen=True, slots=True)
class Atom:
    """A piece of an axis that holds one thing.

    Args:
        extent: how many indices it has, more than one.
        axis: the spatial axis of the network's input that its indices move along; None for features; `LOST` where
            that is not known.
        step: how many positions of the map neighbouring indices are apart; 1 for the innermost piece of an axis, and
            for features, but 0 for copies of one.
        flat: for several maps that stand flattened one after the other, as in a class token and the tokens behind it:
            what each holds, whole; the axis is `LOST` then.
        of_keys: whether these are features of which each belongs to a key, or a few of many.
        hides: whether a mask hides some of these, and it can no longer be told which.
        scores: what scores of queries and keys they are, where that can be told.
    """

    extent: int
    axis: int | None = None
    step: int = 1
    flat: tuple[Axis, ...] = ()
    of_keys: bool = field(default=False, repr=False)
    hides: bool = field(default=False, repr=False)
    scores: Scores | None = field(default=None, repr=False)

    def split(self, outer: int) -> tuple[Atom, Atom]:
        """Two atoms, the first with `outer` indices, which must divide the extent."""
        inner = self.extent // outer
        apart = self.step if self.axis is None else self.step * inner
        return (
            Atom(outer, self.axis, apart, (), self.of_keys, self.hides),
            Atom(inner, self.axis, self.step, (), self.of_keys, self.hides),
        )


Axis = tuple[Atom, ...]
Axes = tuple[Axis, ...]


def features(extent: int) -> Axis:
    """An axis of channels or the like."""
    return (Atom(extent),) if extent > 1 else ()


def copies(extent: int) -> Axis:
    """An axis along which everything is the same."""
    return (Atom(extent, step=0),) if extent > 1 else ()


def position(axis: int, extent: int) -> Axis:
    """An axis that is a whole spatial axis."""
    return (Atom(extent, axis),) if extent > 1 else ()


def lost(extent: int) -> Axis:
    """An axis along which positions can no longer be told apart."""
    return (Atom(extent, LOST),) if extent > 1 else ()


def joined(several: Iterable[Axis]) -> Axis:
    """An axis on which flat maps stand one after the other; those that are several already keep theirs."""
    flat = [each for axis in several for each in (axis[0].flat if axis and axis[0].flat else (axis,))]
    if len(flat) == 1:
        return flat[0]
    return (Atom(sum(extent_of(axis) for axis in flat), LOST, flat=tuple(flat)),)


def merged(atoms: Iterable[Atom]) -> Axis:
    """The same axis in as few atoms as possible: neighbours that continue each other become one."""
    kept: list[Atom] = []
    for atom in atoms:
        if kept and _continues(kept[-1], atom):
            step = max(kept[-1].step, atom.step) if atom.axis is None else atom.step
            kept[-1] = Atom(kept[-1].extent * atom.extent, atom.axis, step)
        elif atom.extent > 1:
            kept.append(atom)
    return tuple(kept)


def _continues(outer: Atom, inner: Atom) -> bool:
    if outer.axis != inner.axis or outer.of_keys or inner.of_keys:
        return False
    return outer.axis in (None, LOST) or outer.step == inner.step * inner.extent


def reshaped(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """The axes of the same array in another shape of as many values, row by row; None where atoms would be cut."""
    left = [atom for axis in axes for atom in axis]
    left.reverse()
    answer = []
    for extent in shape:
        taken: list[Atom] = []
        while extent > 1:
            atom = left.pop()
            if extent % atom.extent == 0:
                taken.append(atom)
                extent //= atom.extent
            elif atom.extent % extent == 0:
                outer, inner = atom.split(extent)
                taken.append(outer)
                left.append(inner)
                extent = 1
            else:
                return None
        answer.append(merged(taken))
    return tuple(answer)


def grid(axes: Axes, count: int) -> tuple[int, ...]:
    """How many positions an array has along each of `count` spatial axes."""
    extents = [1] * count
    for atom in atoms_of(axes):
        if atom.axis is not None and atom.axis != LOST:
            extents[atom.axis] *= atom.extent
    return tuple(extents)


def atoms_of(axes: Iterable[Axis]) -> list[Atom]:
    """All atoms, the outermost axis first."""
    return [atom for axis in axes for atom in axis]


def extent_of(axis: Axis) -> int:
    """The number of indices of an axis."""
    return math.prod(atom.extent for atom in axis)


def has_positions(axis: Axis) -> bool:
    """Whether an index along this axis says something about a position, known or lost."""
    return any(atom.axis is not None for atom in axis)


def has_features(axis: Axis) -> bool:
    """Whether values differ along this axis, and not by their positions."""
    return any(atom.axis is None and atom.step for atom in axis)


def scores_of(axis: Axis) -> Scores | None:
    """The scores of which an axis holds one for each key; None where it holds anything else."""
    return axis[0].scores if len(axis) == 1 else None


def keys(extent: int, scores: Scores | None = None, hides: bool = False) -> Axis:
    """An axis of features of which each belongs to a key."""
    return (Atom(extent, of_keys=True, hides=hides, scores=scores),) if extent > 1 else ()


def some_of(axis: Axis, extent: int) -> Axis:
    """An axis of so many features of another one, in any order, or of these and others."""
    return keys(extent, hides=hides(axis)) if holds_keys(axis) else features(extent)


def hides(axis: Axis) -> bool:
    """Whether a mask hides some features of an axis."""
    return any(atom.hides or (atom.scores is not None and atom.scores.kept is not None) for atom in axis)


def holds_keys(axis: Axis) -> bool:
    """Whether some features of an axis belong to keys."""
    return any(atom.of_keys for atom in axis)


def untold(axes: Axes) -> Axes:
    """The same axes, of whose scores it can no longer be told what they are."""
    return tuple(some_of(axis, axis[0].extent) if scores_of(axis) else axis for axis in axes)


def coarsened(axes: Axes, axis: int, block: int) -> Axes:
    """The axes of a map whose positions along one spatial axis became blocks of `block`, the blocks' insides gone."""
    return tuple(
        merged(
            Atom(atom.extent, axis, atom.step // block) if atom.axis == axis else atom
            for atom in each
            if atom.axis != axis or atom.step >= block
        )
        for each in axes
    )

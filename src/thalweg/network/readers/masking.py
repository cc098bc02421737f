"""What masks hide of arrays: positions of a map, and of the scores that queries give keys.

Scores are a product of two arrays with positions. That of the keys becomes features, one for each key, which remember
what they are scores of (`axes.Atom.scores`); a mask says which of them are kept, until they weigh values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from thalweg.network.fields import MAX_TERMS
from thalweg.network.graph import Kept, Kind, Weight
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array, Scores, Shape, with_axis
from thalweg.network.readers.axes import Axes
from thalweg.network.readers.masks import LOW, Mask, Rows, along, fits, rectangles
from thalweg.network.readers.moves import Moves

_OF_MASKS = frozenset({Kind.ADD, Kind.ACTIVATION})
"""What masks that depend on data are applied by."""


@dataclass(frozen=True, slots=True)
class _AtKeys:
    """Where the scores are in an array: the axis of the queries, and that of the keys."""

    rows: int
    columns: int
    scores: Scores


def scored(axes: Axes, columns: int, scores: Scores) -> Axes:
    """The axes with other scores in the place of those that one holds."""
    return with_axis(axes, columns, (replace(axes[columns][0], scores=scores),))


class Masking(Moves):
    """Follows what masks leave through what is written down."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = Rows()

    def blanks(self, x: Array, mask: Mask) -> bool:
        """Whether a mask leaves only some of the positions of an array."""
        return self._left(x, mask) != ()

    def _masked(
        self, x: Array, mask: Mask, kind: Kind, weights: tuple[Weight, ...], name: str, module: str
    ) -> Array | None:
        """What a mask leaves of an array; None where it leaves all."""
        at, name = self._of_keys(x.axes), name or kind.value
        if mask.kept is not None and not fits(mask.kept, x.shape):
            mask = replace(mask, kept=None)
        if at is None and any(map(ax.holds_keys, x.axes)):  # it cannot be told of which queries
            if mask.kept is not None and mask.kept.all():
                return None
            return self._make(kind, [x], x.shape, x.axes, name, module, weights=weights, masked=True)
        if at is None:
            kept = self._left(x, mask)
            if kept is None:
                return self._make(kind, [x], x.shape, x.axes, name, module, weights=weights, masked=True)
            if any(() in each.along for each in kept):
                return self.constant(x.shape, weights)
            return self._make(kind, [x], x.shape, x.axes, name, module, weights=weights, kept=kept) if kept else None
        left = self._narrowed(at, mask, x.shape)
        if left is None:
            return self._make(kind, [x], x.shape, x.axes, name, module, weights=weights, masked=True)
        if left is at.scores:
            return None
        axes = scored(x.axes, at.columns, left)
        if not mask.replaces:  # they are still there, until a softmax makes nothing of them
            if weights:
                return self._make(kind, [x], x.shape, axes, name, module, weights=weights, keeps=True)
            return replace(x, axes=axes)
        return self._of_scores(kind, x, left, axes, name, module)

    def _left(self, x: Array, mask: Mask) -> tuple[Kept, ...] | None:
        """Which positions of an array a mask leaves; an empty tuple for all, None where they cannot be told."""
        import numpy as np

        places = [axis for axis, held in enumerate(x.axes) if ax.has_positions(held)]
        if mask.kept is None or not mask.replaces or not places:
            return ()
        behind = len(x.shape) - mask.kept.ndim
        if mask.is_table and any(n > 1 and axis + behind not in places for axis, n in enumerate(mask.kept.shape)):
            return ()
        kept = along(mask.kept, x.shape, places)
        if kept.all():
            return ()
        atoms = ax.atoms_of(x.axes[axis] for axis in places)
        order = [
            place
            for axis in range(self._axes)
            for _, place in sorted((-atom.step, place) for place, atom in enumerate(atoms) if atom.axis == axis)
        ]
        others = [place for place, atom in enumerate(atoms) if atom.axis is None]
        if len(order) + len(others) < len(atoms):
            return None
        parted = kept.reshape([atom.extent for atom in atoms]).transpose([*order, *others])
        merged = parted.reshape(*ax.grid(x.axes, self._axes), -1)
        found = rectangles(np.logical_or.reduce(merged, -1))
        return tuple(found) if len(found) <= MAX_TERMS else None

    def finite(self, x: Array, name: str = "", module: str = "") -> Array:
        """The same numbers, with large ones for those without end: an activation where that may show what is hidden.

        Of a row that is all hidden by low numbers with an end, nothing is hidden.
        """
        at = self._of_keys(x.axes)
        if at is None or at.scores.kept is None or at.scores.blank == 0:
            return x
        return self._make(Kind.ACTIVATION, [x], x.shape, x.axes, name, module)

    def _of_keys(self, axes: Axes) -> _AtKeys | None:
        """Where an array holds scores, whole; None where it holds none."""
        for columns, held in enumerate(axes):
            scores = ax.scores_of(held)
            if scores is not None and ax.extent_of(held) == scores.many:
                rows = [axis for axis, each in enumerate(axes) if each == ax.position(scores.place, scores.many)]
                return _AtKeys(rows[0], columns, scores) if rows else None
        return None

    def _narrowed(self, at: _AtKeys, mask: Mask, shape: Shape) -> Scores | None:
        """Scores of which a mask hides more, the same where it hides none; None where what it hides is not told."""
        if mask.kept is None:
            return None
        kept, scores = self._rows.behind(mask, shape, (at.rows, at.columns)), at.scores
        if kept is None:
            return scores
        if scores.kept is None or mask.blank <= LOW < scores.blank:  # of which it hides what it is to hide itself
            return replace(scores, kept=kept, blank=mask.blank)
        if scores.blank > LOW and scores.blank == mask.blank:
            return replace(scores, kept=self._rows.once(kept & scores.kept))
        if max(scores.blank, mask.blank) > LOW:
            return None
        both = self._rows.under((scores.kept, scores.blank), mask, kept)
        return replace(scores, kept=both, blank=max(scores.blank, mask.blank))

    def _of_scores(self, kind: Kind, x: Array, scores: Scores, axes: Axes, name: str, module: str) -> Array:
        """A function of scores of which those that are not kept are hidden."""
        if scores.shared:  # each is made of all that were left before
            return self._make(kind, [x], x.shape, axes, name, module, keeps=True)
        assert scores.kept is not None
        span = replace(self._rows.span(scores.kept), here=(1,), along=(2,))
        units = [x, scores.queries, scores.keys]
        return self._make(kind, units, x.shape, axes, name, module, across=(scores.place,), span=span, keeps=True)

    @staticmethod
    def _shared(axes: Axes) -> Axes:
        """The axes behind a function of all scores that a query has, where none is hidden."""
        for columns, held in enumerate(axes):
            scores = ax.scores_of(held)
            if scores is not None and scores.kept is None:
                return scored(axes, columns, replace(scores, shared=True))
        return axes

    def _as_scores(self, axes: Axes, kind: Kind, parts: Sequence[Array], turns: bool) -> tuple[Axes, bool]:
        """The axes behind a function of each value, and whether what it, or a mask before it, hides is lost with them.

        What masks have hidden in scores is still so, or it can no longer be told what they are.

        Args:
            axes: those of the values.
            kind: what the function is.
            parts: its arguments that depend on an input.
            turns: whether it turns them round, as where they are subtracted.
        """
        held = [axis for each in parts for axis in each.axes if ax.holds_keys(axis)]
        if not held:
            return axes, False
        scores = next(filter(None, map(ax.scores_of, held)), None)
        if len(parts) > 1 or scores is None:
            return ax.untold(axes), len(parts) > 1 and kind in _OF_MASKS
        # A low number may be made larger, or turned into a high one, by a factor.
        stays = scores.blank <= LOW if kind is Kind.ADD else scores.blank == 0 and kind is Kind.MULTIPLY
        if scores.kept is None or (stays and not turns) or kind is Kind.DROPOUT:
            return axes, False
        return ax.untold(axes), True

"""Products of arrays, attention, and functions of all values along an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from thalweg.network.graph import Kind, Span, Work
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array, Scores, together, with_axis
from thalweg.network.readers.axes import Axes, Axis
from thalweg.network.readers.masking import Masking, scored
from thalweg.network.readers.masks import ALL, LOW, Mask, fits, towards, triangle


class Products(Masking):
    """Writes down what puts values from different places together without a window."""

    def softmax(self, x: Array, axis: int, name: str = "softmax", module: str = "") -> Array:
        """Shares of a whole along one axis."""
        scores = ax.scores_of(x.axes[axis])
        if scores is not None and scores.blank <= LOW and scores.kept is not None:
            shares = scored(x.axes, axis, replace(scores, blank=0, shared=True))
            return self._of_scores(Kind.ACTIVATION, x, scores, shares, name or "softmax", module)
        if scores is not None and scores.kept is not None:  # numbers weigh something again where they were hidden
            axes, unsure = with_axis(x.axes, axis, ax.keys(x.shape[axis])), math.isinf(scores.blank)
            return self._make(Kind.ACTIVATION, [x], x.shape, axes, name, module, masked=unsure)
        return self.along(x, axis, name, module)

    def along(self, x: Array, axis: int, name: str = "", module: str = "") -> Array:
        """A function of all values along one axis that gives as many, such as their order."""
        if x.is_constant:
            return x
        x, across = self._mixed(x, x.axes[axis], keep=True)
        axes = self._shared(x.axes) if ax.scores_of(x.axes[axis]) else x.axes
        return self._make(Kind.ACTIVATION, [x], x.shape, axes, name, module, across=across, keeps=axes is not x.axes)

    def accumulate(self, x: Array, axis: int, reverse: bool = False, name: str = "cumsum", module: str = "") -> Array:
        """Sums, or products, of all values up to each along one axis, or from each on."""
        if x.is_constant:
            return x
        told = self._whole_axis(x, axis) is not None
        x, across = self._mixed(x, x.axes[axis], keep=True)
        return self._make(
            Kind.ACTIVATION, [x], x.shape, x.axes, name, module, across=across,
            span=towards(reverse) if told else None, masked=not told and ax.has_positions(x.axes[axis]),
        )  # fmt: skip

    def product(
        self,
        x: Array,
        y: Array,
        contracted: tuple[Sequence[int], Sequence[int]],
        batch: tuple[Sequence[int], Sequence[int]] = ((), ()),
        *,
        bias: Array | None = None,
        macs: int | None = None,
        hides: bool = False,
        name: str = "",
        module: str = "",
    ) -> Array:
        """A sum of products over the contracted axes, by itself for every index of the batch axes.

        The axes of the result are the batch axes, then the others of x, then the others of y (XLA's `dot_general`).
        With weights on one side it is a linear layer, else a matrix product of units.

        Args:
            x: one factor.
            y: the other.
            contracted: the axes of x and of y that are summed over, in pairs.
            batch: the axes of x and of y that go together, in pairs.
            bias: added to a linear layer.
            macs: its multiply-accumulates, where they are fewer because one factor is known to hold zeros.
            hides: whether one factor holds numbers some of which are 0, or may be.
            name: what people call it.
            module: the path of the module that does it.
        """
        free = [
            [axis for axis in range(len(each.shape)) if axis not in (*contracted[side], *batch[side])]
            for side, each in enumerate((x, y))
        ]
        shape = tuple(
            [max(x.shape[a], y.shape[b]) for a, b in zip(*batch, strict=True)]
            + [x.shape[axis] for axis in free[0]]
            + [y.shape[axis] for axis in free[1]]
        )
        used = together([x, y] + ([] if bias is None else [bias]))
        if x.is_constant and y.is_constant:
            return self.constant(shape, used)
        depth = math.prod(x.shape[axis] for axis in contracted[0])
        macs = math.prod(shape) * depth if macs is None else macs
        others = [y.axes[b] for a, b in zip(*batch, strict=True) if not ax.has_positions(x.axes[a])]
        x = self._apart(x, others, name, module, (*batch[0], *contracted[0]))
        sides: list[Array] = []
        across: set[int] = set()
        spread: set[int] = set()  # the factors of which each unit sees all positions
        for side, each in enumerate((x, y)):
            mixed, everywhere = self._mixed(each, ax.atoms_of(each.axes[axis] for axis in contracted[side]))
            sides.append(mixed)
            across.update(everywhere)
            spread.update([side] if everywhere else [])
        front = [
            sides[0].axes[a] if ax.has_positions(sides[0].axes[a]) or sides[1].is_constant else sides[1].axes[b]
            for a, b in zip(*batch, strict=True)
        ] + [sides[0].axes[axis] for axis in free[0]]
        taken = {atom.axis for atom in ax.atoms_of(front)} - {None}
        twice = [axis for axis in free[1] if any(atom.axis in taken for atom in sides[1].axes[axis])]
        again = [atom for atom in ax.atoms_of(sides[1].axes[axis] for axis in twice) if atom.axis is not None]
        back = [self._keyed(x, y, axis, front) if axis in twice else sides[1].axes[axis] for axis in free[1]]
        # Positions of both factors: those of y become channels, each of which sees its own place.
        sides[1], everywhere = self._mixed(sides[1], again)
        across.update(everywhere)
        spread.update([1] if everywhere else [])
        linear = x.is_constant or y.is_constant
        axes, lost = self._inherited((*front, *back), (x, y), linear, bias is not None)
        units = [
            self._repeated(each, ax.grid(axes, self._axes), tuple(across)) for each in sides if not each.is_constant
        ]
        kind = Kind.MATMUL if len(units) == 2 else Kind.LINEAR
        summed = [each.axes[axis] for each, over in zip((x, y), contracted, strict=True) for axis in over]
        lost |= hides and any(map(ax.has_positions, summed))
        lost |= any(ax.hides(axis) and not ax.scores_of(axis) for axis in summed)
        span, masked = (None, False) if linear else self._weighed((x, y), contracted, axes)
        masked |= lost
        if span is None and not linear and across:
            along = tuple([side for side in (0, 1) if side in spread])
            span = replace(ALL, here=tuple([side for side in (0, 1) if side not in spread]), along=along)
        return self._make(
            kind, units, shape, axes, name or kind.value, module,
            weights=used, across=tuple(sorted(across)), span=span, masked=masked, keeps=True,
            work=Work(macs, macs, macs),
        )  # fmt: skip

    @staticmethod
    def _inherited(axes: Axes, factors: tuple[Array, Array], linear: bool, biased: bool) -> tuple[Axes, bool]:
        """The axes of a product without the scores that are lost in it, and whether a mask is lost with them.

        Args:
            axes: those of the product.
            factors: what is multiplied.
            linear: whether weights mix what stands in the same place, as those of a layer over heads.
            biased: whether it adds something, so that what was 0 is so no more.
        """
        before = {id(axis) for each in factors for axis in each.axes}
        answer, lost = [], False
        for axis in axes:
            scores = ax.scores_of(axis) if id(axis) in before else None
            if scores is None or (linear and (scores.kept is None or (scores.blank == 0 and not biased))):
                answer.append(axis)
                continue
            answer.append(ax.some_of(axis, ax.extent_of(axis)))
            lost |= scores.kept is not None
        return tuple(answer), lost

    def _keyed(self, x: Array, y: Array, axis: int, front: Sequence[Axis]) -> Axis:
        """An axis of features, one for each position of y, where the result has the positions of x elsewhere."""
        place, extent = self._whole_axis(y, axis), y.shape[axis]
        if place is None or ax.position(place, extent) not in front:
            return ax.keys(extent)
        return ax.keys(extent, Scores(x, y, axis, place))

    def _weighed(
        self, sides: tuple[Array, Array], contracted: tuple[Sequence[int], Sequence[int]], axes: Sequence[Axis]
    ) -> tuple[Span | None, bool]:
        """How far a sum sees whose weights are scores that a mask hides in part, and whether that cannot be told."""
        for side, (weights, values) in enumerate((sides, sides[::-1])):
            held = [ax.scores_of(weights.axes[axis]) for axis in contracted[side]]
            scores = next(filter(None, held), None)
            if scores is None or scores.kept is None:
                continue
            if scores.blank != 0:  # which weighs what it should hide
                return None, scores.blank <= LOW or math.isinf(scores.blank)
            wanted = [self._whole_axis(values, axis) for axis in contracted[1 - side]]
            if wanted != [scores.place] or ax.position(scores.place, scores.many) not in axes:
                return None, True
            return replace(self._rows.span(scores.kept), here=(side,), along=(1 - side,)), False
        return None, False

    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        name: str = "attention",
        module: str = "",
        bias: Array | None = None,
        mask: Mask | None = None,
        causal: bool = False,
    ) -> Array:
        """Scaled dot-product attention: `(..., queries, depth)`, `(..., keys, depth)` and `(..., keys, width)`.

        Queries may have more heads (an axis before the last two) than keys and values, in groups. A bias on the scores
        may have weights of its own, such as those of relative positions.

        Args:
            q: the queries.
            k: the keys.
            v: the values.
            name: what people call it.
            module: the path of the module that does it.
            bias: added to the scores.
            mask: what it hides of the scores, `(..., queries, keys)`.
            causal: whether a query sees the keys up to its own place only.
        """
        rank = max(len(each.shape) for each in (q, k, v))
        q, k, v = (self.expand(each, (1,) * (rank - len(each.shape)) + each.shape) for each in (q, k, v))
        front = [self._leading(axis, (q, k, v)) for axis in range(rank - 2)]
        q = self._apart(q, [held for axis, (_, held) in enumerate(front) if held != q.axes[axis]], name, module)
        shape = (*(extent for extent, _ in front), q.shape[-2], v.shape[-1])
        macs = math.prod(shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        units = [q]
        across: set[int] = set()
        for each in (k, v):
            mixed, everywhere = self._mixed(each, each.axes[-2])
            across.update(everywhere)
            units.append(mixed)
        axes = (*(axis for _, axis in front), q.axes[-2], ax.features(shape[-1]))
        grid = ax.grid(axes, self._axes)
        units = [self._repeated(each, grid, tuple(across)) for each in units if not each.is_constant]
        used = together([q, k, v, *([] if bias is None else [bias])])
        told = across and not q.is_constant
        span, masked = self._attended(q, k, mask, causal) if ax.has_positions(k.axes[-2]) else (ALL, False)
        return self._make(
            Kind.ATTENTION, units, shape, axes, name, module, weights=used, across=tuple(sorted(across)),
            span=replace(span, here=(0,), along=tuple(range(1, len(units)))) if told else None,
            masked=masked, work=Work(macs, macs, macs),
        )  # fmt: skip

    def _apart(self, x: Array, others: Sequence[Axis], name: str, module: str, but: Iterable[int] = ()) -> Array:
        """An array whose positions are not those of a partner along other axes: where both are, neither is followed."""
        theirs = {atom.axis for atom in ax.atoms_of(others)} - {None}
        aside = set(but)
        lost = [axis for axis, held in enumerate(x.axes) if axis not in aside and theirs & {each.axis for each in held}]
        return self.gather([x], x.shape, lost, name=name, module=module) if lost and not x.is_constant else x

    @staticmethod
    def _leading(axis: int, factors: Sequence[Array]) -> tuple[int, Axis]:
        """The extent and what stands along an axis before queries and keys: of the first factor that tells it."""
        extent = next((each.shape[axis] for each in factors if each.shape[axis] > 1), 1)
        held = [each.axes[axis] for each in factors if each.shape[axis] == extent]
        return extent, next((each for each in held if ax.has_positions(each)), held[0])

    def _attended(self, q: Array, k: Array, mask: Mask | None, causal: bool) -> tuple[Span, bool]:
        """Which keys queries see, and whether a mask hides some that cannot be told."""
        if mask is None and not causal:
            return ALL, False
        shape, rows = (*q.shape[:-1], k.shape[-2]), len(q.shape) - 2
        kept = None
        if mask is not None:
            if mask.kept is None or not fits(mask.kept, shape):
                return ALL, True
            kept = self._rows.behind(mask, shape, (rows, rows + 1))
            if kept is None and not causal:
                return ALL, False
        place = self._whole_axis(q, rows)
        if place is None or place != self._whole_axis(k, rows) or shape[rows] != shape[rows + 1]:
            return ALL, True
        if kept is None:
            return towards(reverse=False), False
        if causal:
            kept = self._rows.once(kept & triangle(kept.shape, 0, upper=False))
        return self._rows.span(kept), False

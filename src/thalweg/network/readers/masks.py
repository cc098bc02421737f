"""What masks of known numbers hide: neighbours of a band, such as what comes later, or whole positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.network.graph import Chosen, Kept, Resampling, Span

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOW = -1e4
"""Of a score as low as this nothing is left by a softmax."""


ALL = Span(None, None)
"""What nothing is hidden of."""


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """What is done to values by place: some are hidden.

    Args:
        kept: which are not, in a shape that is repeated as NumPy does; None where that is not known.
        blank: the number that the others become: at the most, where all are low; infinity where they are several or not
            known.
        replaces: whether nothing is left of them, as where they are multiplied by 0; not where a low number is added.
        is_table: whether the others become larger or smaller by different numbers, as in a table of sines.
    """

    kept: NDArray[Any] | None
    blank: float = 0
    replaces: bool = True
    is_table: bool = False


def hides_scores(numbers: NDArray[Any]) -> bool:
    """Whether real numbers of several axes are all 0 or so low that they hide scores, which nobody learns."""
    import numpy as np

    def only(some: NDArray[Any]) -> bool:
        return bool(((some == 0) | (some <= LOW)).all())

    return numbers.ndim > 1 and only(numbers.ravel()[:16]) and only(numbers) and bool(np.any(numbers <= LOW))


def of_sum(numbers: NDArray[Any] | None) -> Mask:
    """The mask that is added."""
    import numpy as np

    if numbers is None:
        return Mask(None, LOW, replaces=False)
    kept = numbers > LOW
    endless = numbers.size and np.isneginf(numbers.min()) and not (~kept & np.isfinite(numbers)).any()
    return Mask(kept, -math.inf if endless else LOW, replaces=False)


def of_difference(numbers: NDArray[Any] | None) -> Mask:
    """The mask that is subtracted."""
    return of_sum(None if numbers is None else -numbers)


def of_bias(numbers: NDArray[Any] | None) -> Mask:
    """The mask that is added to scores, or truth values that stand for it."""
    if numbers is None or numbers.dtype != bool:
        return of_sum(numbers)
    return Mask(numbers.copy(), -math.inf, replaces=False)  # they may be written into later


def of_choice(chosen: NDArray[Any] | None, number: NDArray[Any] | float | None) -> Mask:
    """The mask that leaves what it chooses and puts a number, or several, in the place of everything else."""
    import numpy as np

    kept = None if chosen is None else chosen.astype(bool)
    if number is None or not np.size(number):
        return Mask(kept, math.inf)
    largest = float(np.max(number))
    return Mask(kept, largest if largest <= LOW or np.all(number == largest) else math.inf)


def of_product(numbers: NDArray[Any] | None) -> Mask:
    """The mask that is multiplied with."""
    if numbers is None:
        return Mask(None)
    kept = numbers != 0
    if kept.all():
        return Mask(kept)
    return Mask(kept, is_table=_vary(numbers.ravel()[-16:]) or _vary(numbers[kept]))  # mostly the few say it


def _vary(numbers: NDArray[Any]) -> bool:
    """Whether numbers have several sizes, but for 0."""
    sizes = {abs(float(number)) for number in numbers[:16]} - {0.0}
    return len(sizes) > 1 or (len(numbers) > 16 and bool((abs(numbers[numbers != 0]) != max(sizes, default=0)).any()))


MOST = 1 << 22
"""For how many scores a mask is worked out: those of 2,048 tokens."""


def of_triangle(shape: Sequence[int], diagonal: int, upper: bool) -> Mask:
    """The mask that leaves a triangle of matrices of this shape."""
    return Mask(triangle(shape, diagonal, upper) if math.prod(shape) <= MOST else None)


def triangle(shape: Sequence[int], diagonal: int, upper: bool) -> NDArray[Any]:
    """The triangle that is kept of matrices: below and on a diagonal, or above and on it."""
    import numpy as np

    whole = np.ones(shape, bool)
    kept: NDArray[Any] = np.triu(whole, diagonal) if upper else np.tril(whole, diagonal)
    return kept


def along(kept: NDArray[Any], shape: Sequence[int], axes: Sequence[int]) -> NDArray[Any]:
    """Which indices of some axes, in their order, keep anything of what is repeated to a shape."""
    import numpy as np

    once = repeated_once(kept)
    lined = once.reshape((1,) * (len(shape) - kept.ndim) + once.shape)
    others = [axis for axis in range(len(shape)) if axis not in axes]
    turned = lined.transpose([*axes, *others])
    few = turned.reshape(*turned.shape[: len(axes)], -1)
    any_of = few[..., 0] if few.shape[-1] == 1 else few.any(-1)
    whole: NDArray[Any] = np.broadcast_to(any_of, [shape[axis] for axis in axes])
    return whole


def left_along(kept: NDArray[Any] | None, axes: Sequence[int]) -> NDArray[Any] | None:
    """Which indices of some axes keep anything; None where that is all, or none at all."""
    import numpy as np

    if kept is None:
        return None
    others = tuple([axis for axis in range(kept.ndim) if axis not in axes])
    lines = np.transpose(kept, [*others, *axes]).reshape(-1, *(kept.shape[axis] for axis in axes))
    left: NDArray[Any] = np.logical_or.reduce(lines, 0)
    return left if left.any() and not left.all() else None


def fits(kept: NDArray[Any], shape: Sequence[int]) -> bool:
    """Whether truth values can be repeated to a shape."""
    ends = zip(kept.shape[::-1], shape[::-1], strict=False)
    return kept.ndim <= len(shape) and all(own in (1, extent) for own, extent in ends)


def repeated_once(numbers: NDArray[Any]) -> NDArray[Any]:
    """The numbers without their repetitions along axes on which all share one place."""
    return numbers[tuple([slice(None) if stride else slice(1) for stride in numbers.strides])]


def rectangles(kept: NDArray[Any]) -> list[Kept]:
    """The positions that are kept of a grid, as all that stretches along its axes make together."""
    import numpy as np

    if kept.all() or not kept.any():
        return [Kept((None if kept.any() else (),) * kept.ndim)]
    if kept.ndim == 1:
        return [Kept((_runs(np.flatnonzero(kept)),))]
    patterns: dict[bytes, list[int]] = {}
    for place, row in enumerate(kept):
        if row.any():
            patterns.setdefault(np.packbits(row).tobytes(), []).append(place)
    found = []
    for places in patterns.values():
        runs = None if len(places) == len(kept) else _runs(np.array(places))
        found += [Kept((runs, *each.along)) for each in rectangles(kept[places[0]])]
    return found


def _runs(places: NDArray[Any]) -> tuple[tuple[int, int], ...]:
    """Where neighbours among rising places begin and end."""
    import numpy as np

    gaps = np.flatnonzero(np.diff(places) > 1)
    begins, ends = places[[0, *(gaps + 1)]], places[[*gaps, -1]] + 1
    return tuple(zip(begins.tolist(), ends.tolist(), strict=True))


class Rows:
    """Which keys queries see behind masks, each told once: a network has the same mask in all its layers."""

    def __init__(self) -> None:
        self._masks: dict[tuple[int, Sequence[int], Sequence[int]], tuple[Mask, NDArray[Any]]] = {}
        self._kept: dict[tuple[Sequence[int], bytes], NDArray[Any]] = {}
        self._spans: dict[int, Span] = {}

    def behind(self, mask: Mask, shape: Sequence[int], axes: Sequence[int]) -> NDArray[Any] | None:
        """What a mask of known numbers leaves along two axes of what has a shape; None where it leaves all.

        A softmax makes equal shares of a row that is all hidden by a finite number, which hides nothing then.
        """
        assert mask.kept is not None
        key = (id(mask), shape, axes)
        if key not in self._masks:
            kept, columns = repeated_once(mask.kept), axes[1] - len(shape)
            if -math.inf < mask.blank <= LOW and kept.ndim + columns >= 0:
                kept = kept | ~kept.any(columns, keepdims=True)  # of each head
            self._masks[key] = (mask, self.once(along(kept, shape, axes)))
        kept = self._masks[key][1]
        return None if kept.all() else kept

    def under(self, before: tuple[NDArray[Any], float], mask: Mask, kept: NDArray[Any]) -> NDArray[Any]:
        """What a mask leaves of scores of which another has left some, where both put, or add, low numbers.

        A row of which nothing is left is shared by those of its scores that are finite.

        Args:
            before: what the other has left, and its number.
            mask: the mask.
            kept: what it leaves, of as many rows and columns.
        """
        import numpy as np

        both: NDArray[Any] = before[0] & kept
        finite = before[0] if before[1] == -math.inf else np.ones_like(kept)
        if mask.replaces:
            finite = np.where(kept, finite, mask.blank > -math.inf)
        elif mask.blank == -math.inf:
            finite = finite & kept
        return self.once(both | (~both.any(1, keepdims=True) & finite))

    def once(self, kept: NDArray[Any]) -> NDArray[Any]:
        """The first array of the same truth values."""
        import numpy as np

        return self._kept.setdefault((kept.shape, np.packbits(kept).tobytes()), kept)

    def span(self, kept: NDArray[Any]) -> Span:
        """What each row of a square sees, as `span_of` says it; of an array that `once` has given."""
        if id(kept) not in self._spans:
            self._spans[id(kept)] = span_of(kept)
        return self._spans[id(kept)]


def span_of(kept: NDArray[Any]) -> Span:
    """What each row of a square sees of its columns: as far on both sides of the diagonal, where all see as far."""
    import numpy as np

    units, extent = np.arange(len(kept)), len(kept)
    first, last = kept.argmax(1), extent - 1 - kept[:, ::-1].argmax(1)
    if (kept.sum(1) != last - first + 1).any():  # with gaps
        seeing = kept.any(1)
        runs = None if seeing.all() else _runs(np.flatnonzero(seeing)) if seeing.any() else ()
        return Span(0, 0, chosen=Chosen(kept, runs))
    before, after = int((units - first).max()), int((last - units).max())
    if (first != np.maximum(units - before, 0)).any() or (last != np.minimum(units + after, extent - 1)).any():
        return Span(0, 0, chosen=_repeated(first, last) or Chosen(kept))
    if before == extent - 1 and after == 0:
        return towards(reverse=False)
    if after == extent - 1 and before == 0:
        return towards(reverse=True)
    return Span(before, after)


def _repeated(first: NDArray[Any], last: NDArray[Any]) -> Resampling | None:
    """What rows see from a first column to a last, where that is alike in every block; None where it is not."""
    for block in range(2, len(first) // 2 + 1):
        if len(first) % block == 0 and all((end[block:] == end[:-block] + block).all() for end in (first, last)):
            return Resampling(tuple(first[:block].tolist()), tuple(last[:block].tolist()), block)
    return None


def towards(reverse: bool) -> Span:
    """All up to the own position, or all from it on."""
    return Span(0, None) if reverse else Span(None, 0)

"""The values of a run, and the windows that slide over them, as readers hand them to a recorder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.network.graph import Border, Weight, Window
from thalweg.network.readers.axes import Axes, Axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """A value of the run.

    Args:
        shape: its extents, as the framework sees them.
        axes: what each axis holds.
        id: the number of the tensor it is, or is a view of; None for what is computed from weights and constants alone.
        weights: the weights that a constant was computed from.
    """

    shape: Shape
    axes: Axes
    id: int | None = None
    weights: tuple[Weight, ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether it depends on no input."""
        return self.id is None


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the scores are made of that each query gives each key, and what masks hide of them.

    Args:
        queries: the array of the queries.
        keys: that of the keys.
        axis: the axis of the keys along which they are counted.
        place: the spatial axis along which both have their positions.
        kept: which keys a query sees, `(queries, keys)`; None for all.
        blank: the number that stands where it sees none: 0, or less than `LOW`, of which a softmax makes 0.
        shared: whether each is made of all that a query has, as behind a softmax.
    """

    queries: Array
    keys: Array
    axis: int
    place: int
    kept: NDArray[Any] | None = None
    blank: float = 0
    shared: bool = False

    @property
    def many(self) -> int:
        """The number of keys."""
        return self.keys.shape[self.axis]


@dataclass(frozen=True, slots=True)
class Slide:
    """A window over some axes of an array: one number per axis in each field, as in `Window`."""

    kernel: Shape
    stride: Shape = ()
    dilation: Shape = ()
    low: Shape = ()
    high: Shape = ()
    transposed: bool = False
    output_padding: Shape = ()
    ceil: bool = False
    border: Border = Border.ZEROS

    def __post_init__(self) -> None:
        axes = len(self.kernel)
        for name, value in (("stride", 1), ("dilation", 1), ("low", 0), ("high", 0), ("output_padding", 0)):
            if not getattr(self, name):
                object.__setattr__(self, name, (value,) * axes)

    def window(self, places: Sequence[int], count: int) -> Window:
        """The same window over `count` spatial axes, of which it moves along those at `places`."""

        def over(values: Shape, elsewhere: int) -> Shape:
            spread = [elsewhere] * count
            for place, value in zip(places, values, strict=True):
                spread[place] = value
            return tuple(spread)

        return Window(
            over(self.kernel, 1),
            over(self.stride, 1),
            over(self.dilation, 1),
            over(self.low, 0),
            over(self.high, 0),
            self.transposed,
            over(self.output_padding, 0),
            self.ceil,
            self.border,
        )


def together(parts: Iterable[Array]) -> tuple[Weight, ...]:
    """The weights that several arrays stand for or were computed from, each once."""
    return tuple({weight.identity: weight for part in parts for weight in part.weights if part.is_constant}.values())


def with_axis(axes: Axes, place: int, axis: Axis) -> Axes:
    """The axes with another one in a place."""
    return (*axes[:place], axis, *axes[place + 1 :])

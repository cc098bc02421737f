"""What a rule for an operation of PyTorch is given, and the table that rules are entered in.

A rule gets a `Call` and the operation's own arguments, under ATen's names, with an `Array` in the place of every
tensor; it returns the array that comes out, or several, or None where it does not know. No rule imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.recorder import Recorder

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]
Answer = Array | Sequence[Array] | None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation.

    Args:
        recorder: what it is written down in.
        operation: its name in ATen, without the sign of in-place variants.
        shapes: of what PyTorch makes.
        name: what its row is called, where it is not a layer with weights.
        module: the path of the module that holds it.
        layer: what a layer with weights is called, and the path of the module that holds it.
        numbers: those of a constant, where they are known; along axes on which they repeat, once.
        places: what an index of whole numbers that depends on no input names; None where that is not known.
    """

    recorder: Recorder
    operation: str
    shapes: tuple[Shape, ...]
    name: str
    module: str
    layer: Callable[[Array], tuple[str, str]] | None = None
    numbers: Callable[[Array], NDArray[Any] | None] = lambda _: None
    places: Callable[[Array], list[int] | None] = lambda _: None
    kept: Callable[[Array], NDArray[Any] | None] = lambda _: None

    @property
    def shape(self) -> Shape:
        """The shape of the first result."""
        return self.shapes[0]

    def named(self, weight: Array | None = None) -> dict[str, Any]:
        """The name and the module of the row, as the recorder wants them."""
        if weight is None or self.layer is None or not (weight.is_constant and weight.weights):
            return {"name": self.name, "module": self.module}
        name, module = self.layer(weight)
        return {"name": name or self.name, "module": module}


Rule = Callable[..., Answer]

RULES: dict[str, Rule] = {}
"""The rule of every operation that has one."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of these operations."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def each_axis(value: int | Sequence[int], count: int) -> Shape:
    """One number per axis."""
    if isinstance(value, int):
        return (value,) * count
    return tuple(value) * (count if len(value) == 1 else 1)


def present(*arrays: Array | None) -> list[Array]:
    """Those of several arrays that are there."""
    return [each for each in arrays if each is not None]


def last_axes(x: Array, count: int) -> tuple[int, ...]:
    """The last axes of an array."""
    return tuple(range(len(x.shape) - count, len(x.shape)))


def dims_of(x: Array, dim: int | Sequence[int] | None) -> tuple[int, ...]:
    """Axes counted from the front; all of them for none."""
    if dim is None or dim == [] or dim == ():
        return tuple(range(len(x.shape)))
    return tuple(each % max(1, len(x.shape)) for each in ([dim] if isinstance(dim, int) else dim))


def shuffled(call: Call, x: Array, axes: Sequence[int], others: Sequence[Array] = ()) -> Array:
    """Values in another order along some axes: where no positions are among them, nothing to follow is lost."""
    same = len(call.shape) == len(x.shape)
    if same and not others and not any(ax.has_positions(x.axes[axis]) for axis in axes):
        held = tuple(ax.features(n) if axis in axes else x.axes[axis] for axis, n in enumerate(call.shape))
        return replace(x, shape=call.shape, axes=held)
    return call.recorder.gather([x, *others], call.shape, axes if same else None, **call.named())


def units_into(call: Call, x: Array, weight: Array) -> Array:
    """What goes into a layer, also where it is the same for every example."""
    if not (x.is_constant and weight.is_constant and weight.weights):
        return x
    return call.recorder.source(x, f"{call.name}.input", call.module)

"""One call of a layer of Keras 3: what it is told, and where it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.network.graph import Kind
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.recorder import Recorder

Shape = tuple[int, ...]


@dataclass
class Call:
    """One call of a layer.

    Args:
        walk: what follows the graph.
        layer: the layer, or an operation of `keras.ops`.
        arguments: the positional ones, with arrays of the run in place of tensors.
        options: those by name.
        name: what the layer is called.
        module: the path of the model that holds it.
    """

    walk: Any
    layer: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    name: str
    module: str

    @property
    def recorder(self) -> Recorder:
        """Where it is written down."""
        recorder = self.walk.recorder
        assert isinstance(recorder, Recorder)
        return recorder

    @property
    def path(self) -> str:
        """The name with those of the models around it."""
        return f"{self.module}.{self.name}" if self.module else self.name

    @property
    def arrays(self) -> list[Array]:
        """The arrays among the arguments, in order."""
        held = self.walk.keras.tree.flatten([self.arguments, self.options])
        return [each for each in held if isinstance(each, Array)]

    @property
    def x(self) -> Array:
        """The first of them."""
        return self.arrays[0]

    def weight(self, variable: Any) -> Array:
        """A variable of Keras as an array of parameters."""
        identity = f"{getattr(variable, 'path', variable.name)}#{id(variable)}"
        return self.recorder.weight(identity, tuple(variable.shape), bool(variable.trainable))

    def weights(self, of: Any = None) -> list[Array]:
        """The parameters of the layer, or of another one."""
        return [self.weight(each) for each in getattr(self.layer if of is None else of, "weights", ())]

    def operands(self) -> list[Array]:
        """The arguments that are arrays, variables or numbers, all as arrays."""
        held = self.walk.keras.tree.flatten([self.arguments, self.options])
        return [self._operand(each) for each in held if hasattr(each, "shape") or type(each) in (int, float)]

    def _operand(self, held: Any) -> Array:
        if isinstance(held, Array):
            return held
        if hasattr(held, "trainable"):
            return self.weight(held)
        return self.recorder.constant(tuple(getattr(held, "shape", ())))

    def named(self) -> dict[str, Any]:
        """What the recorder is told of every operation."""
        return {"name": self.path, "module": self.module}

    def part(self, name: str) -> dict[str, Any]:
        """The same for a part of the layer."""
        return {"name": f"{self.path}.{name}", "module": self.path}

    def activated(self, x: Array, activation: Any = None) -> Array:
        """The array after the activation function of the layer."""
        function = getattr(self.layer, "activation", None) if activation is None else activation
        name = str(getattr(function, "__name__", None) or getattr(function, "name", type(function).__name__))
        if function is None or name == "linear":
            return x
        return self.function(x, name, self.part(name))

    def function(self, x: Array, name: str, named: Mapping[str, Any], axis: int = -1) -> Array:
        """The array after the activation function of a name."""
        if "softmax" in name:
            return self.recorder.softmax(x, axis % len(x.shape), **named)
        return self.recorder.elementwise([x], Kind.ACTIVATION, **named)

    def places(self, x: Array) -> tuple[tuple[int, ...], int]:
        """The axes of positions and of channels."""
        if getattr(self.layer, "data_format", None) == "channels_first":
            return tuple(range(2, len(x.shape))), 1
        return tuple(range(1, len(x.shape) - 1)), len(x.shape) - 1


def per_axis(value: Any, axes: int) -> Shape:
    """One number for every axis, of one for all or of one for each."""
    return (value,) * axes if isinstance(value, int) else tuple(value)

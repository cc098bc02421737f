"""One node of the file, its attributes read with their type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from thalweg.errors import InputError
from thalweg.network.readers.onnx.file import shortened

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 5, 6, 7, 8  # AttributeProto's types


def operators(names: str) -> frozenset[str]:
    """Operators, from their names with blanks between them."""
    return frozenset(names.split())


class Node:
    """A node, with typed attributes.

    Args:
        proto: as it stands in the file.
        given: the attributes of the function that it stands in, which its own may refer to.

    Attributes:
        operator: what it does, `Conv` for instance.
        domain: who defined that; empty for ONNX itself.
    """

    __slots__ = ("_attributes", "domain", "inputs", "operator", "outputs", "proto")

    def __init__(self, proto: NodeProto, given: Mapping[str, AttributeProto]) -> None:
        self.proto = proto
        self.operator = proto.op_type
        self.domain = "" if proto.domain == "ai.onnx" else proto.domain
        self.inputs: Sequence[str] = proto.input
        self.outputs: Sequence[str] = proto.output
        self._attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            found = given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if found is not None:
                self._attributes[attribute.name] = found

    @property
    def title(self) -> str:
        """What to call it in a message."""
        return shortened(self.proto.name or self.operator)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """All that are given."""
        return self._attributes

    def has(self, name: str) -> bool:
        """Whether an attribute is given."""
        return name in self._attributes

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        value: int = self._typed(name, _INT, "i", default, "a whole number")
        return value

    def real(self, name: str, default: float) -> float:
        """A number."""
        value: float = self._typed(name, _FLOAT, "f", default, "a number")
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of whole numbers, None where it is not given."""
        value = self._typed(name, _INTS, "ints", None, "a list of whole numbers")
        return None if value is None else tuple(value)

    def reals(self, name: str) -> tuple[float, ...] | None:
        """A list of numbers, None where it is not given."""
        value = self._typed(name, _FLOATS, "floats", None, "a list of numbers")
        return None if value is None else tuple(value)

    def text(self, name: str, default: str) -> str:
        """A word."""
        value: bytes = self._typed(name, _STRING, "s", default.encode(), "a text")
        return value.decode("utf-8", "replace")

    def tensor(self, name: str) -> TensorProto | None:
        """A tensor."""
        value: TensorProto | None = self._typed(name, _TENSOR, "t", None, "a tensor")
        return value

    def graph(self, name: str) -> GraphProto:
        """A graph of its own."""
        value: GraphProto | None = self._typed(name, _GRAPH, "g", None, "a graph")
        if value is None:
            raise InputError(f"{self.title!r} has no {name!r}.")
        return value

    def _typed(self, name: str, kind: int, field: str, default: Any, what: str) -> Any:
        attribute = self._attributes.get(name)
        if attribute is None:
            return default
        # Early files leave the type out; then the field that is set says it.
        if attribute.type != kind and (attribute.type or not self._is_set(attribute, field)):
            self._refuse(name, what)
        return getattr(attribute, field)

    @staticmethod
    def _is_set(attribute: Any, field: str) -> bool:
        return bool(getattr(attribute, field)) if field.endswith("s") and field != "s" else attribute.HasField(field)

    def _refuse(self, name: str, what: str) -> NoReturn:
        raise InputError(f"The attribute {shortened(name)!r} of {self.title!r} is not {what}.")

"""One layer of a network: what it makes, what it costs, what its units see."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

_NOT_IN_JSON = ("phases", "module")


@dataclass(frozen=True, slots=True)
class LayerSize:
    """One layer: what it makes, what it costs, what its units see.

    Receptive fields are unclipped: as if the image went on for ever, so that no unit stands at a border. A unit is a
    position with all its channels.

    Args:
        name: as in the spec, or its label there.
        kind: what it does.
        output: the extents of its output.
        neurons: its units; 0 for what is not a layer of neurons; None, as all counts,
            for an operation of unknown kind.
        parameters: its weights and biases, where they are used first; known of unknown operations, too, if any are.
        connections: input connections of its units, without biases.
        connections_inside: those that do not fall on zero padding.
        macs: multiply-accumulates for one example.
        receptive_field: for every spatial axis of the input how many positions a unit sees, from the first to the
            last, the most where that depends on the unit; None where it cannot be followed.
        stride: how far its units lie apart on the input; None on an axis where that varies, or all see the same.
        first: the lowest position that its first unit sees, negative in the padding.
        phases: where the receptive field depends on the unit: those of units 0, 1, 2, ..., repeating; else None.
        module: the path of the module that holds it, where there is one.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    neurons: int | None
    parameters: int | None
    connections: int | None
    connections_inside: int | None
    macs: int | None
    receptive_field: tuple[int, ...] | None
    stride: tuple[int | None, ...] | None
    first: tuple[int | None, ...] | None
    phases: tuple[tuple[int, ...] | None, ...] | None
    module: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The layer under stable keys: its attributes, but for phases and module."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _NOT_IN_JSON}

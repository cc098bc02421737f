"""Branches and loops: followed where the file itself says which way, and how often.

A loop is counted as often as it runs. Where that depends on the input, it is unknown, by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thalweg.network.readers.arrays import Array
from thalweg.network.readers.onnx.operations import Call, UnfollowedError, handles
from thalweg.network.readers.onnx.values import Value

if TYPE_CHECKING:
    from onnx import GraphProto

MOST_ROUNDS = 1000
"""How often a loop may run to be followed, in as far as there is time."""


@handles("If")
def _branch(call: Call) -> Sequence[Value]:
    condition = call.numbers(0).reshape(-1)
    if condition.size != 1:
        call.fail("needs one condition")
    branch = call.node.graph("then_branch" if condition[0] else "else_branch")
    return call.run.inside(branch, {}, call.scope)


@handles("Loop")
def _loop(call: Call) -> Sequence[Value | None]:
    import numpy as np

    body = call.node.graph("body")
    names = [info.name for info in body.input]
    states = [_given(call, place) for place in range(2, len(call.inputs))]
    if len(names) != 2 + len(states) or len(body.output) < 1 + len(states):
        call.fail("has a body that does not go with its inputs")
    rounds = _rounds(call, body)
    collected: list[list[Array]] = [[] for _ in body.output[1 + len(states) :]]
    for number in range(rounds):
        index = Value(call.recorder.constant(()), np.array(number, np.int64))
        going = Value(call.recorder.constant(()), np.array(True))
        made = call.run.inside(body, dict(zip(names, [index, going, *states], strict=True)), call.scope)
        states = list(made[1 : 1 + len(states)])
        for kept, value in zip(collected, made[1 + len(states) :], strict=True):
            kept.append(_array(value))
    return [*states, *(_stacked(call, each, 0) for each in collected)]


def _rounds(call: Call, body: GraphProto) -> int:
    """How often a loop runs; only a count that is known, and a condition that stays true, say so."""
    if call.has(1):
        condition = call.numbers(1).reshape(-1)
        if condition.size != 1:
            call.fail("needs one condition")
        if not condition[0]:
            return 0
    if not call.has(0) or not _goes_on(body):
        raise UnfollowedError
    (count,) = call.integers(0) or (0,)
    _check_time(call, body, count)
    return max(0, count)


def _check_time(call: Call, body: GraphProto, rounds: int) -> None:
    if rounds > MOST_ROUNDS or not call.run.has_time_for(rounds * len(body.node)):
        raise UnfollowedError


def _goes_on(body: GraphProto) -> bool:
    """Whether the condition that a body hands on is its own, or always true."""
    makers = {name: node for node in body.node for name in node.output}
    constants = {tensor.name: tensor for tensor in body.initializer}
    name = body.output[0].name
    for _ in range(len(body.node) + 1):
        if len(body.input) > 1 and name == body.input[1].name:
            return True
        if name in constants:
            return _true(constants[name].raw_data, constants[name].int32_data)
        node = makers.get(name)
        if node is None or node.op_type not in ("Identity", "Cast", "Constant") or node.domain:
            return False
        if node.op_type == "Constant":
            return len(node.attribute) == 1 and _true(node.attribute[0].t.raw_data, node.attribute[0].t.int32_data)
        if len(node.input) != 1:
            return False
        name = node.input[0]
    return False


def _true(content: bytes, numbers: Sequence[int]) -> bool:
    return content == b"\x01" or list(numbers) == [1]


@handles("Scan")
def _scan(call: Call) -> Sequence[Value | None]:
    if call.opset < 9:
        raise UnfollowedError
    body = call.node.graph("body")
    names = [info.name for info in body.input]
    count = call.node.integer("num_scan_inputs", 0)
    held = len(call.inputs) - count
    if count < 1 or held < 0 or len(names) != len(call.inputs) or len(body.output) < held:
        call.fail("has a body that does not go with its inputs")
    sources = [call.array(place) for place in range(held, len(call.inputs))]
    axes = [
        call.axis(axis, len(x.shape)) for axis, x in zip(_numbers(call, "scan_input_axes", count), sources, strict=True)
    ]
    lengths = {x.shape[axis] for axis, x in zip(axes, sources, strict=True)}
    if len(lengths) != 1:
        call.fail("goes along axes of different extents")
    rounds = lengths.pop()
    _check_time(call, body, rounds)
    backwards = _numbers(call, "scan_input_directions", count)
    states = [_given(call, place) for place in range(held)]
    collected: list[list[Array]] = [[] for _ in body.output[held:]]
    for number in range(rounds):
        now = [
            Value(_member(call, x, axis, rounds - 1 - number if back else number))
            for x, axis, back in zip(sources, axes, backwards, strict=True)
        ]
        made = call.run.inside(body, dict(zip(names, [*states, *now], strict=True)), call.scope)
        states = list(made[:held])
        for kept, value in zip(collected, made[held:], strict=True):
            kept.append(_array(value))
    ends, turned = (_numbers(call, f"scan_output_{what}", len(collected)) for what in ("axes", "directions"))
    collected = [each[::-1] if back else each for each, back in zip(collected, turned, strict=True)]
    return [*states, *(_stacked(call, each, axis) for each, axis in zip(collected, ends, strict=True))]


def _numbers(call: Call, attribute: str, count: int) -> tuple[int, ...]:
    numbers = call.node.integers(attribute) or (0,) * count
    if len(numbers) != count:
        call.fail(f"has {len(numbers)} {attribute} for {count}")
    return numbers


def _given(call: Call, place: int) -> Value:
    value = call.inputs[place]
    if value is None:
        call.fail(f"needs an input number {place + 1}")
    return value


def _array(value: Value) -> Array:
    if value.lost or value.items is not None:
        raise UnfollowedError
    return value.array


def _member(call: Call, x: Array, axis: int, place: int) -> Array:
    part = call.part(x, axis, place, place + 1)
    return call.recorder.reshape(part, (*x.shape[:axis], *x.shape[axis + 1 :]), call.name, call.module)


def _stacked(call: Call, parts: Sequence[Array], axis: int) -> Value:
    """What every round made, along a new axis."""
    if not parts or len({part.shape for part in parts}) > 1:
        raise UnfollowedError
    axis = call.axis(axis, len(parts[0].shape) + 1)
    shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    lined = [call.recorder.reshape(part, shape, call.name, call.module) for part in parts]
    return Value(call.recorder.concatenate(lined, axis, call.name, call.module))

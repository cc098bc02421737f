"""A model's bytes without its weights: the wire format of protocol buffers, as far as that takes.

A message is a row of fields: a number and a type, then the value, which for messages, texts and arrays begins with its
length. Fields that hold the numbers of a large tensor are stepped over in the file, so that a network of any size is
read in little memory.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

MAX_KEPT = 1 << 18
"""The longest field of numbers that is kept, in bytes."""
MAX_DEPTH = 100

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5

# The fields of onnx.proto that lead to numbers, by message.
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {},
}
_NUMBERS = frozenset({4, 5, 7, 9, 10, 11})  # TensorProto's float_data, int32_data, int64_data, raw_data, ...


def without_weights(stream: BinaryIO, size: int) -> bytes:
    """What a file of `size` bytes holds, but for the numbers of large tensors.

    Raises:
        ValueError: it is damaged.
    """
    return bytes(_message(stream, size, "model", 0))


def _message(stream: BinaryIO, size: int, kind: str, depth: int) -> bytearray:
    """A message of `size` bytes, from where the stream stands."""
    kept, end, inside = bytearray(), stream.tell() + size, _INSIDE[kind]
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    while (left := end - stream.tell()) > 0:
        tag, head = _varint(stream)
        if tag & 7 != _LENGTH:
            kept += head + _plain(stream, tag & 7)
            continue
        length, told = _varint(stream)
        if length > left:
            raise ValueError("a field is longer than what holds it")
        if length > MAX_KEPT and tag >> 3 in inside:
            part = _message(stream, length, inside[tag >> 3], depth + 1)
            kept += head + _written(len(part)) + part
        elif length > MAX_KEPT and kind == "tensor" and tag >> 3 in _NUMBERS:
            stream.seek(length, 1)
        else:
            kept += head + told + _exactly(stream, length)
    if left < 0:
        raise ValueError("a field is longer than what holds it")
    return kept


def _plain(stream: BinaryIO, kind: int) -> bytes:
    """The bytes of a value that is no array."""
    if kind == _VARINT:
        return _varint(stream)[1]
    if kind in (_EIGHT_BYTES, _FOUR_BYTES):
        return _exactly(stream, 8 if kind == _EIGHT_BYTES else 4)
    raise ValueError("a type that is not known")


def _varint(stream: BinaryIO) -> tuple[int, bytes]:
    """A whole number in seven bits a byte, and its bytes."""
    value, read = 0, b""
    while len(read) < 10:
        byte = _exactly(stream, 1)
        value |= (byte[0] & 127) << 7 * len(read)
        read += byte
        if byte[0] < 128:
            return value, read
    raise ValueError("a number that does not end")


def _written(value: int) -> bytes:
    """A whole number in seven bits a byte."""
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    content.append(value)
    return bytes(content)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise ValueError("the file ends too early")
    return content

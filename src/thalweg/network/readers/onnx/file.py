"""The file: bytes to a model, and the numbers of its small tensors.

Nothing in a file is believed before it is looked at: it may be damaged or made to do harm. Weights are not read. Only
tensors of a few numbers are, because reshape targets and the like are among them; where those are kept in a file of
their own, they are read from it, if it is an ordinary file in the model's own folder.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.errors import InputError, missing_package
from thalweg.network.readers.masks import LOW
from thalweg.network.readers.onnx.wire import without_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

    Numbers = NDArray[np.generic]

MAX_NUMBERS = 65_536
"""How many values a tensor may have whose numbers are looked at."""
MAX_RANK = 64
"""The most axes that an array may have (NumPy's limit too)."""
MAX_EXTENT = 1 << 48
"""The largest extent that is believed."""

_REAL = frozenset({1, 10, 11, 16})  # TensorProto's types
EXTERNAL = 1  # TensorProto.EXTERNAL
_WIDEST = 16  # bytes of a number


def load(path: Path) -> ModelProto:
    """The model that a file holds, without the data that it keeps elsewhere.

    Raises:
        InputError: it cannot be read, is empty, damaged, or not an ONNX file.
        MissingPackageError: the package onnx is not installed.
    """
    try:
        from google.protobuf.message import DecodeError
        from onnx import ModelProto
    except ImportError:
        raise missing_package("onnx", "reading ONNX files", "onnx") from None
    name = str(path)[:200]
    model = ModelProto()
    content = _content(path, name)
    try:
        model.ParseFromString(content)
    except (DecodeError, UnicodeDecodeError):
        raise InputError(f"{name!r} is damaged, or not an ONNX file.") from None
    if not model.HasField("graph") or not model.graph.node:
        raise InputError(f"{name!r} holds no network: it is damaged, or not an ONNX file.")
    # The parser hands out names that are no text as bytes, which would surprise whoever reads on.
    if not all(isinstance(each, str) for each in _texts(model)):
        raise InputError(f"{name!r} is damaged: a name in it is not text.")
    return model


def _content(path: Path, name: str) -> bytes:
    """What the file holds, but for the numbers of large tensors."""
    try:
        with path.open("rb") as stream:
            told = os.fstat(stream.fileno())
            if not stat.S_ISREG(told.st_mode):
                raise InputError(f"Cannot read {name!r}: it is not an ordinary file.")
            content = without_weights(stream, told.st_size)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"Cannot read {name!r}: {error.strerror or error}.") from None
    except ValueError:
        raise InputError(f"{name!r} is damaged, or not an ONNX file.") from None
    if not content:
        raise InputError(f"{name!r} is empty; it should hold a network in ONNX format.")
    return content


def _texts(model: ModelProto) -> Iterator[str]:
    """Every name in a model."""
    yield from _texts_of_graph(model.graph)
    for imported in model.opset_import:
        yield imported.domain
    for function in model.functions:
        yield from (function.name, function.domain, function.overload, *function.input, *function.output)
        for imported in function.opset_import:
            yield imported.domain
        for node in function.node:
            yield from _texts_of_node(node)
        for attribute in function.attribute_proto:
            yield from _texts_of_attribute(attribute)


def _texts_of_graph(graph: GraphProto) -> Iterator[str]:
    for info in (*graph.input, *graph.output, *graph.value_info):
        yield info.name
        for extent in info.type.tensor_type.shape.dim:
            yield extent.dim_param
        for entry in info.metadata_props:
            yield from (entry.key, entry.value)
    for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
        yield from _texts_of_tensor(tensor)
    for node in graph.node:
        yield from _texts_of_node(node)


def _texts_of_tensor(tensor: TensorProto) -> Iterator[str]:
    yield tensor.name
    for entry in tensor.external_data:
        yield from (entry.key, entry.value)


def _texts_of_node(node: NodeProto) -> Iterator[str]:
    yield from (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
    for entry in node.metadata_props:
        yield from (entry.key, entry.value)
    for attribute in node.attribute:
        yield from _texts_of_attribute(attribute)


def _texts_of_attribute(attribute: AttributeProto) -> Iterator[str]:
    yield from (attribute.name, attribute.ref_attr_name)
    if attribute.HasField("t"):
        yield from _texts_of_tensor(attribute.t)
    if attribute.HasField("g"):
        yield from _texts_of_graph(attribute.g)


def extents_of(tensor: TensorProto) -> tuple[int, ...]:
    """The extents of a tensor in the file.

    Raises:
        InputError: they are negative, out of range, or too many.
    """
    return checked(tuple(tensor.dims), tensor.name)


def checked(extents: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The same extents, where an array can have them.

    Raises:
        InputError: they are negative, out of range, or too many.
    """
    if len(extents) > MAX_RANK:
        raise InputError(f"{shortened(name)!r} has {len(extents)} axes; at most {MAX_RANK} are read.")
    for extent in extents:
        if not 0 <= extent <= MAX_EXTENT:
            raise InputError(f"{shortened(name)!r} has an extent of {extent}, which is out of range.")
    return extents


def shortened(name: str) -> str:
    """A name, cut where nobody would read on."""
    return name if len(name) <= 200 else f"{name[:197]}..."


def numbers_of(tensor: TensorProto, folder: Path) -> Numbers | None:
    """The numbers of a small tensor; None where there are too many, or they are no numbers or not to be had.

    Args:
        tensor: as it stands in the file.
        folder: the model's own, the only one from which further files are read.

    Raises:
        InputError: it is damaged.
    """
    from onnx import numpy_helper

    if math.prod(extents_of(tensor)) > MAX_NUMBERS or tensor.data_type == tensor.STRING:
        return None
    if tensor.data_location == EXTERNAL:
        content = _external(tensor, folder)
        if content is None:
            return None
        copied = type(tensor)()
        copied.CopyFrom(tensor)
        copied.ClearField("external_data")
        copied.data_location = tensor.DEFAULT
        copied.raw_data = content
        tensor = copied
    try:
        return _plain(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, OverflowError, NotImplementedError):
        raise InputError(f"The tensor {shortened(tensor.name)!r} is damaged.") from None


def is_mask(tensor: TensorProto, folder: Path) -> bool:
    """Whether a tensor of squares, or of a row, has numbers so low that they hide scores, which nobody learns.

    Args:
        tensor: as it stands in the file.
        folder: the model's own.
    """
    import numpy as np

    extents = tuple(tensor.dims)
    if tensor.data_type not in _REAL or len(extents) < 2 or extents[-1] < 2:
        return False
    if extents[-2] != extents[-1] and math.prod(extents[:-1]) != 1:
        return False
    numbers = numbers_of(tensor, folder)
    return numbers is not None and bool(np.less_equal(numbers, LOW).any())


def uniform(tensor: TensorProto) -> bool:
    """Whether all numbers of a tensor in the file itself are known to be the same, as weights often are at first."""
    content: bytes = tensor.raw_data
    count = math.prod(extents_of(tensor))
    if content and count and len(content) % count == 0:
        return content == content[: len(content) // count] * count
    values = tensor.float_data or tensor.double_data
    return len(values) == count > 0 and len(set(values)) == 1


def _plain(numbers: Numbers) -> Numbers:
    """Numbers of any width as int64, float64 or bool."""
    import numpy as np

    kind = numbers.dtype.kind
    if kind == "b":
        return numbers
    return numbers.astype(np.int64 if kind in "iu" else np.float64)


def _external(tensor: TensorProto, folder: Path) -> bytes | None:
    """The bytes of a small tensor that are kept in another file; None where they are not to be had.

    Only an ordinary file inside the model's folder is opened, which no link may lead out of.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, offset, length = entries.get("location", ""), entries.get("offset", "0"), entries.get("length", "")
    if not (offset.isdecimal() and len(offset) < 20 and (length or "0").isdecimal() and len(length) < 20):
        raise InputError(f"The tensor {shortened(tensor.name)!r} is damaged.")
    size = int(length) if length else -1
    if not location or size > MAX_NUMBERS * _WIDEST:
        return None
    try:
        inside = folder.resolve()
        target = inside / location
        if Path(location).is_absolute() or not target.resolve().is_relative_to(inside):
            return None
        handle = os.open(target, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            stream.seek(int(offset))
            return stream.read(size if size >= 0 else MAX_NUMBERS * _WIDEST)
    except (OSError, ValueError, OverflowError):
        return None

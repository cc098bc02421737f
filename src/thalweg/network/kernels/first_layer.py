"""The kernels that a file holds: the first layer of a network, or kernels by themselves.

ONNX files say which convolution comes first. Files of named arrays (safetensors, `.npz`, PyTorch states) do not: of the
arrays with four axes we take the first whose windows are wider than one tap and that takes three channels, the colours
of an image; where there is none, the first with wider windows, else the first. PyTorch keeps the order of the modules,
and the names of the others are sorted as people would. Whoever knows better names the array.

Four axes are (outputs, channels, height, width), as in PyTorch and ONNX, or (height, width, channels, outputs), as in
Keras and Flax, which are told apart by which two sides are equal and short.

No file is believed: pickled objects are never loaded (PyTorch's `weights_only`, NumPy's `allow_pickle=False`), and
sizes are looked at before anything is read.
"""

from __future__ import annotations

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.errors import InputError, ThalwegError, missing_package, unknown_name
from thalweg.network.kernels.families import Array

MAX_NUMBERS = 50_000_000
"""The most numbers in one array of kernels; those of AlexNet are 23,232."""


@dataclass(frozen=True)
class Stored:
    """One array of a file, not yet read.

    Args:
        name: its name there.
        shape: its extents.
        read: reads it.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Any]


def is_readable(path: Path) -> bool:
    """Whether a file of this name is one that `load_kernels` reads."""
    return path.suffix.lower() in _READERS


def suffixes() -> str:
    """The suffixes that can be read, in words."""
    return ", ".join(_READERS)


def load_kernels(path: Path, layer: str | None) -> tuple[str, Array]:
    """The kernels of a file.

    Args:
        path: a file whose suffix is one of `suffixes()`.
        layer: the name of an array, or of a node of an ONNX file; None for the first layer.

    Returns:
        The array's name, and kernels as `(outputs, channels, height, width)` or, from `.npy` and `.npz`, also as
        `(height, width)` or `(kernels, height, width)`.

    Raises:
        InputError: the file cannot be read, or holds no such array.
        MissingPackageError: the package that reads this format is not installed.
    """
    suffix = path.suffix.lower()
    with _reading(path):
        stored = _READERS[suffix](path)
        chosen = _chosen(path, stored, layer)
        if math.prod(chosen.shape) > MAX_NUMBERS:
            raise InputError(
                f"{str(path)!r}: {chosen.name!r} holds {math.prod(chosen.shape):,} numbers, more than the "
                f"{MAX_NUMBERS:,} that are looked at; name another array."
            )
        values = np.asarray(chosen.read())
        if values.dtype.kind not in "biuf" and values.dtype.name not in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            raise InputError(f"{str(path)!r}: {chosen.name!r} holds values of type {values.dtype}, not real numbers.")
        return chosen.name, channels_first(values.astype(np.float64))


def channels_first(values: Array) -> Array:
    """Kernels of four axes as `(outputs, channels, height, width)`, whichever way round they are stored."""
    return values.transpose(3, 2, 0, 1) if _is_channels_last(values.shape) else values


def _is_channels_last(shape: tuple[int, ...]) -> bool:
    if len(shape) != 4 or shape[0] != shape[1]:
        return False
    return shape[2] != shape[3] and shape[0] <= min(shape[3], 64)


def _chosen(path: Path, stored: list[Stored], layer: str | None) -> Stored:
    if layer is not None:
        for each in stored:
            if each.name == layer:
                return each
        raise unknown_name(f"array in {path.name!r}", layer, [each.name for each in stored] or ["none"])
    layers = [each for each in stored if len(each.shape) == 4 and 0 not in each.shape]
    if not layers and path.suffix.lower() in (".npy", ".npz"):
        layers = [each for each in stored if len(each.shape) in (2, 3)]
    if not layers:
        if not stored and path.suffix.lower() == ".onnx":
            raise InputError(
                f"{str(path)!r} holds no convolution with its weights, whose kernels could be looked at; name a file "
                "of a network that has one."
            )
        found = ", ".join(f"{each.name!r} of shape {each.shape}" for each in stored[:4]) or "nothing"
        more = f" and {len(stored) - 4} more" if len(stored) > 4 else ""
        raise InputError(f"{str(path)!r} holds no kernels, which have four axes; it holds {found}{more}.")
    return min(layers, key=_rank)  # the first of those that rank lowest


def _rank(stored: Stored) -> tuple[bool, bool]:
    if len(stored.shape) != 4:
        return False, False
    shape: tuple[int, ...] = stored.shape
    if _is_channels_last(shape):
        return max(shape[0], shape[1]) == 1, shape[2] != 3
    return max(shape[2], shape[3]) == 1, shape[1] != 3


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside a reader into one sentence about the file."""
    try:
        with warnings.catch_warnings():  # what libraries say about a damaged file is no news beside our sentence
            warnings.simplefilter("ignore")
            yield
    except ThalwegError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"There is no file {str(path)!r}; check the path.") from error
    except MemoryError as error:
        raise InputError(f"Cannot read {str(path)!r}: it does not fit into memory.") from error
    except Exception as error:  # the libraries that parse files raise nearly anything on a damaged one
        said = re.sub(r"\x1b\[[0-9;]*m", "", next(iter(str(error).splitlines()), ""))
        # One word, such as the key that a table lacks, tells nobody anything.
        reason = getattr(error, "strerror", None) or (said if " " in said else "it is damaged, or of another format")
        raise InputError(
            f"Cannot read {str(path)!r} as {path.suffix.lower()}: {str(reason)[:200].rstrip('. ')}."
        ) from error


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts conv2 before conv10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() and len(part) < 20 else (1, 0, part) for part in parts]


def _npy(path: Path) -> list[Stored]:
    values = np.lib.format.open_memmap(path, mode="r")
    return [Stored(path.stem, values.shape, lambda: values)]


def _npz(path: Path) -> list[Stored]:
    stored = []
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.namelist(), key=_natural):
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else _header_2_0
                shape = tuple(read_header(stream)[0])
            stored.append(Stored(member.removesuffix(".npy"), shape, partial(_npz_member, path, member)))
    return stored


def _header_2_0(stream: Any) -> Any:
    return np.lib.format.read_array_header_2_0(stream)


def _npz_member(path: Path, member: str) -> Any:
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _safetensors(path: Path) -> list[Stored]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise missing_package("safetensors", "reading safetensors files", "safetensors") from error

    def read(name: str) -> Any:
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor(name)

    with safe_open(path, framework="numpy") as file:
        names = sorted(file.keys(), key=_natural)
        return [Stored(name, tuple(file.get_slice(name).get_shape()), partial(read, name)) for name in names]


def _onnx(path: Path) -> list[Stored]:
    try:
        import onnx
        from onnx import external_data_helper, numpy_helper
    except ImportError as error:
        raise missing_package("onnx", "reading ONNX files", "onnx") from error

    if not path.exists():
        raise FileNotFoundError(path)
    model = onnx.load(str(path), load_external_data=False)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        for each in node.attribute if node.op_type == "Constant" else ():
            if each.name == "value":
                weights[node.output[0]] = each.t

    def read(tensor: Any) -> Any:
        if external_data_helper.uses_external_data(tensor):  # refuses places outside the file's own folder
            external_data_helper.load_external_data_for_tensor(tensor, str(path.resolve().parent))
        return numpy_helper.to_array(tensor)

    stored = []
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in weights:
            tensor = weights[node.input[1]]
            stored.append(Stored(tensor.name or node.name, tuple(tensor.dims), partial(read, tensor)))
    return stored


def _torch(path: Path) -> list[Stored]:
    try:
        import torch
    except ImportError as error:
        raise missing_package("torch", "reading PyTorch states", "torch") from error

    if not path.exists():
        raise FileNotFoundError(path)

    def read(tensor: Any) -> Any:
        return tensor.detach().to(torch.float64).numpy()

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        more = re.search(r"GLOBAL ([\w.]{1,100})|TorchScript", str(error))
        if more is None:
            raise
        raise InputError(
            f"Cannot read {str(path)!r}: it holds more than weights ({more[1] or more[0]}), which is never loaded, as "
            "that can run any code; save the weights alone, with torch.save(model.state_dict(), 'weights.pt'), and "
            "name that file."
        ) from error
    tensors = dict(_tensors(state, "", torch.Tensor))
    return [Stored(name, tuple(tensor.shape), partial(read, tensor)) for name, tensor in tensors.items()]


def _tensors(state: Any, path: str, kind: type) -> Iterator[tuple[str, Any]]:
    """Every tensor of nested mappings and sequences, named by the keys that lead to it, in order."""
    if isinstance(state, kind):
        yield path or "tensor", state
    elif isinstance(state, Mapping | list | tuple):
        for key, value in state.items() if isinstance(state, Mapping) else enumerate(state):
            yield from _tensors(value, f"{path}.{key}" if path else str(key), kind)


_READERS: dict[str, Callable[[Path], list[Stored]]] = {
    ".onnx": _onnx,
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".npy": _npy,
    ".pt": _torch,
    ".pth": _torch,
    ".bin": _torch,
}

"""Programs that `torch.export` made, and the `.pt2` files that hold them.

`torch.export.load` unpickles weights and constants that a file says are pickled (`weights_only=False`, and
`pickle.loads` for constants that are no tensors), so a hostile file runs what it likes. Here nothing is unpickled: of
the archive only the graph is read, which is JSON, and its operations are run on the meta device. Only operations of
PyTorch's own (`aten`) are called, with arguments of the kinds that the format has; any other is unknown by name.
"""

from __future__ import annotations

import io
import json
import math
import operator
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from thalweg.errors import InputError, missing_package
from thalweg.network.graph import Graph, written

Shape = tuple[int, ...]

_MOST_BYTES = 512 << 20

_GRAPHS = re.compile(r"(?:.*/)?(?:models/[^/]+|serialized_exported_program)\.json")


def read(path: Path, shape: Sequence[Any] | None = None) -> Graph:
    """The network in a `.pt2` file.

    Raises:
        InputError: it is no such file, is damaged, or was exported for another input.
        MissingPackageError: PyTorch is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise missing_package("torch", "reading a file of torch.export", "torch") from error
    try:
        with path.open("rb") as stream:
            return _read_archive(stream, repr(str(path)), shape)
    except OSError as error:
        raise InputError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error


def read_program(program: Any, shape: Sequence[Any] | None = None) -> Graph:
    """The network that an `ExportedProgram` is."""
    import torch

    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return _read_archive(buffer, "The exported program", shape)


def _read_archive(stream: BinaryIO, name: str, shape: Sequence[Any] | None) -> Graph:
    program = _graph_of(stream, name)
    try:
        return _Program(program, name).read(shape)
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{name} is damaged or of a version that is not known: {type(error).__name__}: {reason}"
        ) from error


def _graph_of(stream: BinaryIO, name: str) -> Mapping[str, Any]:
    """The JSON of the first graph in the archive."""
    try:
        with zipfile.ZipFile(stream) as archive:
            found = next((each for each in archive.infolist() if _GRAPHS.fullmatch(each.filename)), None)
            if found is None:
                raise InputError(f"{name} holds no exported program; save one with torch.export.save.")
            if found.file_size > _MOST_BYTES:
                raise InputError(f"{name} holds a graph of {found.file_size:,} bytes, which is too large.")
            with archive.open(found) as file:
                program = json.loads(file.read(_MOST_BYTES))
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and json have many
        raise InputError(f"{name} is damaged: {str(error).strip() or type(error).__name__}.") from error
    if not isinstance(program, dict):
        raise InputError(f"{name} is damaged: its graph is no object.")
    return program


class _Program:
    """A graph of the format of `torch._export.serde.schema`, as plain JSON."""

    def __init__(self, program: Mapping[str, Any], name: str) -> None:
        module = program["graph_module"]
        self.name = name
        self.graph: Mapping[str, Any] = module["graph"]
        self.specs: Sequence[Mapping[str, Any]] = module["signature"]["input_specs"]
        self.values: Mapping[str, Any] = self.graph["tensor_values"]
        self.symbols: dict[str, int] = {}

    def read(self, shape: Sequence[Any] | None) -> Graph:
        import torch

        from thalweg.network.readers.torch_copy import Copied
        from thalweg.network.readers.torch_entry import Entry
        from thalweg.network.readers.torch_starts import several, written_down

        names: dict[str, torch.Tensor] = {}
        holders: dict[str, Any] = {}
        inputs: list[str] = []
        given = None if shape is None else several(shape)
        for spec in self.specs:
            ((kind, what),) = spec.items()
            if kind == "user_input" and "as_tensor" in what["arg"]:
                inputs.append(what["arg"]["as_tensor"]["name"])
                self._bind(inputs[-1], None if given is None or len(given) < len(inputs) else given[len(inputs) - 1])
            elif kind == "user_input":
                continue
            elif kind in ("parameter", "buffer", "tensor_constant"):
                holders[what["arg"]["name"]] = (kind, what)
            else:
                raise InputError(f"{self.name} takes an input of kind {kind!r}, which cannot be read.")
        if given is not None and len(given) != len(inputs):
            raise InputError(f"{self.name} takes {len(inputs)} inputs, not {len(given)}.")
        for arg, (kind, what) in holders.items():
            meta = self.values[arg]
            tensor = torch.empty(self._sizes(meta), dtype=_dtype(meta["dtype"]), device="meta")
            if kind == "parameter":
                tensor = torch.nn.Parameter(tensor, requires_grad=bool(meta.get("requires_grad", True)))
                names[what["parameter_name"]] = tensor
            holders[arg] = tensor
        entries = tuple(Entry(self._sizes(self.values[each]), _dtype(self.values[each]["dtype"])) for each in inputs)

        def call(run: Any, _: Any, tensors: Sequence[Any]) -> None:
            self._execute(run, self.graph, {**holders, **dict(zip(inputs, tensors, strict=True))})

        return written_down(call, lambda: Copied(torch.nn.Module(), names), entries)

    # Shapes.

    def _bind(self, name: str, given: Shape | None) -> None:
        """Give the symbols in the shape of an input their values: the batch is one, the rest as wanted."""
        sizes = self.values[name]["sizes"]
        if not sizes:
            return
        if "as_int" in sizes[0] and sizes[0]["as_int"] != 1:
            raise InputError(
                f"{self.name} was exported for a batch of {sizes[0]['as_int']}, which is fixed; export it with an "
                "example of one, or with a dynamic batch."
            )
        if given is not None and len(given) != len(sizes) - 1:
            fixed = written(tuple(self._size(each) for each in sizes[1:]))
            raise InputError(f"{self.name} takes an input like {fixed}, not {written(given)}.")
        for axis, size in enumerate(sizes):
            wanted = 1 if axis == 0 else None if given is None else given[axis - 1]
            if "as_int" in size:
                if wanted not in (None, size["as_int"]):
                    fixed = written(tuple(self._size(each) for each in sizes[1:]))
                    raise InputError(f"{self.name} was exported for an input of {fixed} and takes no other.")
            elif wanted is not None:
                self.symbols[size["as_expr"]["expr_str"]] = wanted

    def _sizes(self, meta: Mapping[str, Any]) -> Shape:
        return tuple([self._size(each) for each in meta["sizes"]])

    def _size(self, size: Mapping[str, Any]) -> int:
        if "as_int" in size:
            return int(size["as_int"])
        expression = size["as_expr"]
        hint = expression.get("hint") or {}
        return self.symbols.get(expression["expr_str"], int(hint.get("as_int", 1)))

    # The run.

    def _execute(self, run: Any, graph: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        for node in graph["nodes"]:
            run.stand_in(*_place(node.get("metadata", {}).get("nn_module_stack", "")))
            arguments = [(each["name"], self._argument(each["arg"], values)) for each in node["inputs"]]
            result = self._call(run, node["target"], arguments, node)
            _bind_outputs(node["outputs"], result, values)
        return values

    def _call(self, run: Any, target: str, arguments: Sequence[tuple[str, Any]], node: Mapping[str, Any]) -> Any:
        function = _function(target)
        if function is None:
            metas = [self.values[each["as_tensor"]["name"]] for each in node["outputs"] if "as_tensor" in each]
            made = [(self._sizes(meta), _dtype(meta["dtype"])) for meta in metas]
            return run.unknown([each for _, each in arguments], made, target.removeprefix("torch.ops."))
        schema = getattr(function, "_schema", None)
        if schema is None:
            return function(*(value for _, value in arguments))
        order = [each.name for each in schema.arguments if not each.kwarg_only]
        given = dict(arguments)
        positional = []
        for each in schema.arguments:
            if each.kwarg_only:
                continue
            if each.name in given:
                positional.append(given[each.name])
            elif any(name in given for name in order[len(positional) :]):
                positional.append(each.default_value)
            else:
                break
        named = {name: value for name, value in given.items() if name not in order}
        return function(*positional, **named)

    def _argument(self, arg: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        ((kind, value),) = arg.items()
        if kind in ("as_tensor", "as_optional_tensor"):
            return None if "as_none" in value else values[value.get("name") or value["as_tensor"]["name"]]
        if kind == "as_tensors":
            return [values[each["name"]] for each in value]
        if kind == "as_optional_tensors":
            return [self._argument(each, values) for each in value]
        if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
            return self._symbol(value, values)
        if kind in ("as_sym_ints", "as_sym_floats"):
            return [self._symbol(each, values) for each in value]
        if kind in _PLAIN:
            return value
        if kind in _COUNTED:
            return _COUNTED[kind](value)
        if kind == "as_none":
            return None
        if kind == "as_device":
            import torch

            return torch.device("meta")
        raise InputError(f"{self.name} has an argument of kind {kind!r}, which cannot be read.")

    def _symbol(self, value: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        ((kind, what),) = value.items()
        return values[what] if kind == "as_name" else what


_PLAIN = frozenset({"as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string", "as_strings"})

_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
    "pow": operator.pow,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
"""What shapes are worked out with."""


def _function(target: str) -> Callable[..., Any] | None:
    """What a node calls, where it is one of PyTorch's own operations or arithmetic on shapes."""
    import torch

    module, _, name = target.rpartition(".")
    if module in ("_operator", "operator"):
        return _ARITHMETIC.get(name)
    if module in ("math", "torch") and name in ("ceil", "floor", "trunc", "sym_max", "sym_min"):
        return {"sym_max": max, "sym_min": min}.get(name) or getattr(math, name)
    match = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)
    if match is None:
        return None
    function = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
    schema = getattr(function, "_schema", None)
    if schema is None:
        return None
    takes_tensors = any("Tensor" in str(each.type) for each in schema.arguments)
    return function if takes_tensors or match[1] in _MAKERS else None


_MAKERS = frozenset(
    {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "scalar_tensor", "tril_indices", "zeros"}
)
"""What makes tensors from nothing; others that take no tensor reach outside, such as `from_file`."""


def _place(stack: str) -> tuple[str, bool]:
    """The path of the module that a node belongs to, and whether it is one of PyTorch's own layers."""
    last = stack.rpartition(";")[2].split(",")
    path = re.sub(r"@\d+", "", last[1]) if len(last) > 2 else ""
    if path.startswith("L['self']"):
        path = path.removeprefix("L['self']").lstrip(".")
    return path, len(last) > 2 and last[-1].startswith("torch.nn.modules.") and "Container" not in last[-1]


def _bind_outputs(outputs: Sequence[Mapping[str, Any]], result: Any, values: dict[str, Any]) -> None:
    results = list(result) if isinstance(result, tuple | list) else [result]
    if len(outputs) == 1 and "as_tensors" in outputs[0]:
        values.update((each["name"], one) for each, one in zip(outputs[0]["as_tensors"], results, strict=True))
        return
    for output, one in zip(outputs, results, strict=False):
        ((kind, what),) = output.items()
        if kind in ("as_tensor", "as_optional_tensor") and "name" in what:
            values[what["name"]] = one
        elif kind.startswith("as_sym_") and "as_name" in what:
            values[what["as_name"]] = one


def _dtype(number: int) -> Any:
    import torch

    names = (
        "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex32", "complex64",
        "complex128", "bool", "bfloat16",
    )  # fmt: skip
    return getattr(torch, names[number - 1]) if 1 <= number <= len(names) else torch.float32


def _memory_format(number: int) -> Any:
    import torch

    return {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}.get(
        number, torch.preserve_format
    )


def _layout(number: int) -> Any:
    import torch

    return torch.strided


_COUNTED: Mapping[str, Callable[[int], Any]] = {
    "as_scalar_type": _dtype,
    "as_memory_format": _memory_format,
    "as_layout": _layout,
}
"""What the format gives as a number of a list."""

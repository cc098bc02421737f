"""A file's operations, one after the other: names to values, subgraphs, functions, and what is unknown."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.graph import Graph, Weight, written
from thalweg.network.readers.masks import repeated_once
from thalweg.network.readers.onnx import contributed, control, movement, pointwise, products, recurrent, windows
from thalweg.network.readers.onnx.file import (
    MAX_EXTENT,
    MAX_RANK,
    checked,
    extents_of,
    is_mask,
    load,
    numbers_of,
    shortened,
    uniform,
)
from thalweg.network.readers.onnx.folding import MAX_WORKED_OUT, folded
from thalweg.network.readers.onnx.inputs import Sources, sources
from thalweg.network.readers.onnx.names import QUIET, Names
from thalweg.network.readers.onnx.node import Node
from thalweg.network.readers.onnx.operations import HANDLERS, Call, UnfollowedError
from thalweg.network.readers.onnx.parameters import Parameters
from thalweg.network.readers.onnx.values import Value
from thalweg.network.readers.recorder import Recorder

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto

FAMILIES = (contributed, control, movement, pointwise, products, recurrent, windows)
"""Where the operations are; importing them fills the table."""

MAX_DEPTH = 32
"""How deep subgraphs and functions may stand in each other."""
MAX_REPEATED = 10_000
"""How many operations of subgraphs and functions are followed, each as often as it is done."""
OLDEST = 7
"""The first version of ONNX's operations that is read."""

_LEARNED = frozenset({1, 10, 11, 16, 14, 15, 17, 18, 19, 20, 23})  # TensorProto's types: real and complex numbers
_COARSE = frozenset({2, 3, 21, 22, 25, 26})  # whole numbers of 8 bits or less, as weights are quantised to
_GRAPH, _GRAPHS = 5, 10  # AttributeProto's types
_GENERATED = re.compile(r"val_\d+")


def read(path: Path, shape: Sequence[Any] | None) -> Graph:
    """The network that an ONNX file holds.

    Args:
        path: the file; what it keeps elsewhere need not be there.
        shape: the extents of its first input, in its own order of axes, without the batch; several of them for several
            inputs; None where the file says them.

    Raises:
        InputError: it is no such file, it is damaged, or the operations do not fit together; the message says which.
        MissingPackageError: the package onnx is not installed.
    """
    through = run(load(path), path.parent, shape)
    return through.recorder.graph(through.notes)


def run(model: ModelProto, folder: Path, shape: Sequence[Any] | None) -> Run:
    """A whole network, followed from its inputs to its outputs."""
    given = () if shape is None else (tuple(shape),)
    if shape and all(isinstance(each, tuple) for each in shape):
        given = tuple(shape)
    through = Run(model, folder, sources(model.graph, given))
    through.whole()
    return through


_WORKED_OUT_IN_ALL = 4 * MAX_WORKED_OUT
"""After so many numbers nothing more is worked out."""


class Scope:
    """The names that an operation may use: those of its own graph, then those of the graphs around it."""

    def __init__(self, around: Scope | None = None) -> None:
        self.values: dict[str, Value] = {}
        self._around = around
        self.depth: int = around.depth + 1 if around else 0

    def find(self, name: str) -> Value | None:
        """What a name stands for."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope._around
        return None

    def name(self, name: str, value: Value) -> None:
        """Let a name stand for a value, which it does not yet."""
        if name in self.values:
            raise InputError(f"The file is damaged: the value {shortened(name)!r} is made twice.")
        self.values[name] = value


class Run:
    """One network on its way.

    Args:
        model: the file.
        folder: where it lies.
        inputs: what goes in.

    Attributes:
        recorder: what was written down.
        scope: every value by its name.
        batch: for how many examples the file was written, where it is read with one; else 0.
        notes: what had to be decided, in sentences.
    """

    def __init__(self, model: ModelProto, folder: Path, inputs: Sources) -> None:
        self.recorder = Recorder()
        self.scope = Scope()
        self.batch, self.notes = inputs.batch, inputs.notes
        self._graph = model.graph
        self._folder = folder
        self._inputs = inputs
        self._opsets = _versions(model.opset_import)
        self._functions = {(each.domain, each.name, each.overload): each for each in model.functions}
        self._names = Names(model.graph)
        self._declared = _declared(model.graph, inputs.names) if inputs.as_declared else {}
        self._parameters = Parameters(model.graph, folder)
        self._repeated = 0
        self._worked_out = 0

    def whole(self) -> None:
        """Follow the network from its inputs to its outputs."""
        for source in self._inputs.each:
            layout = source.layout
            if 0 in source.shape:
                if source is self._inputs.each[0]:
                    raise InputError(f"The input {written(source.shape)} is empty; every extent must be at least 1.")
                made = self.recorder.constant(source.shape)  # nothing, such as what is past at the beginning
            else:
                made = self.recorder.input(source.shape, layout.positions, layout.channel)
            self.scope.name(source.name, Value(made))
        for name in self._inputs.others:
            self.scope.name(name, Value(self.recorder.constant(()), lost=True))
        self._tensors(self._graph, self.scope)
        if not self._graph.output:
            raise InputError("The network has no output, so there is nothing to measure.")
        for node in _used(self._graph):
            self._step(node, self.scope, {}, self._opsets)
        for output in self._graph.output:
            if self.scope.find(output.name) is None:
                raise InputError(f"The file is damaged: nothing makes its output {shortened(output.name)!r}.")

    def inside(self, graph: GraphProto, given: Mapping[str, Value], around: Scope) -> list[Value]:
        """What the outputs of a subgraph are, with its inputs as given."""
        scope = self._deeper(around, around)
        for name, value in given.items():
            scope.name(name, value)
        self._tensors(graph, scope)
        self._steps(graph.node, scope, {}, self._opsets)
        return [self._found(output.name, scope) for output in graph.output]

    def has_time_for(self, operations: int) -> bool:
        """Whether so many more operations of a subgraph may be followed."""
        return self._repeated + operations <= MAX_REPEATED

    def _deeper(self, scope: Scope, around: Scope | None) -> Scope:
        if scope.depth >= MAX_DEPTH:
            raise InputError(f"Subgraphs and functions stand in each other more than {MAX_DEPTH} deep.")
        deeper = Scope(around)
        deeper.depth = scope.depth + 1
        return deeper

    def _steps(
        self,
        nodes: Sequence[NodeProto],
        scope: Scope,
        attributes: Mapping[str, AttributeProto],
        opsets: Mapping[str, int],
    ) -> None:
        self._repeated += len(nodes)
        if self._repeated > MAX_REPEATED:
            raise InputError(f"Subgraphs and functions do more than {MAX_REPEATED:,} operations.")
        for node in nodes:
            self._step(node, scope, attributes, opsets)

    def _found(self, name: str, scope: Scope) -> Value:
        value = scope.find(name)
        if value is None:
            raise InputError(
                f"The file is damaged: the value {shortened(name)!r} is used, but nothing before makes it."
            )
        return value

    # Numbers in the file.

    def _tensors(self, graph: GraphProto, scope: Scope) -> None:
        """The tensors that a graph holds."""
        for tensor in graph.initializer:
            scope.name(tensor.name, self._tensor(tensor, tensor.name, _GENERATED.fullmatch(tensor.name) is not None))
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            scope.name(name, Value(self.recorder.weight(name, checked(tuple(sparse.dims), name))))

    def _tensor(self, tensor: TensorProto, name: str, generated: bool, plain: bool = False) -> Value:
        """A tensor of the file: a weight, if it is an array of numbers that may have been learned."""
        shape, kind = extents_of(tensor), tensor.data_type
        learned = (kind in _LEARNED and len(shape) > 0) or (kind in _COARSE and len(shape) > 1)
        plain = plain or name in self._parameters.not_learned
        if learned and not plain and not is_mask(tensor, self._folder):
            array = self.recorder.weight(name, shape)
        else:
            array = self.recorder.constant(shape)
        return Value(array, functools.partial(numbers_of, tensor, self._folder), name, generated)

    def _constant(self, node: Node) -> Value:
        import numpy as np

        name = node.outputs[0] if node.outputs else ""
        tensor = node.tensor("value")
        if tensor is not None:
            return self._tensor(tensor, name, generated=True, plain=uniform(tensor))
        for attribute, kind in (("value_int", np.int64), ("value_float", np.float64)):
            if node.has(attribute):
                number = node.integer(attribute, 0) if kind is np.int64 else node.real(attribute, 0.0)
                return Value(self.recorder.constant(()), np.array(number, kind))
        for attribute, kind in (("value_ints", np.int64), ("value_floats", np.float64)):
            values = node.integers(attribute) if kind is np.int64 else node.reals(attribute)
            if values is not None:
                return Value(self.recorder.constant((len(values),)), np.array(values, kind))
        raise UnfollowedError

    # One operation.

    def _step(
        self,
        proto: NodeProto,
        scope: Scope,
        attributes: Mapping[str, AttributeProto],
        opsets: Mapping[str, int],
    ) -> None:
        node = Node(proto, attributes)
        inputs = tuple(self._own(self._found(name, scope), proto) if name else None for name in node.inputs)
        used = [weight for value in inputs if value is not None for weight in value.array.weights]
        name, module = self._names.of(proto, used)
        call = Call(node, inputs, self.recorder, opsets.get(node.domain, OLDEST), name, module, self, scope)
        try:
            made = self._made(call, opsets)
        except UnfollowedError:
            made = self._unknown(call)
        for place, output in enumerate(node.outputs):
            if output:
                value = made[place] if place < len(made) else None
                if value is None:  # nobody knows it; who uses it will be unknown
                    value = Value(self.recorder.constant(()), lost=True)
                scope.name(output, self._as_declared(call, output, value) if scope is self.scope else value)

    def _own(self, value: Value, node: NodeProto) -> Value:
        """A tensor under the name of the node's own parameter, where the two were only written once."""
        name = self._parameters.own_name(node, value.origin) if value.origin and value.array.weights else None
        if name is None or not value.is_uniform():
            return value
        return replace(value, array=self.recorder.weight(name, value.shape), origin=name)

    def _made(self, call: Call, opsets: Mapping[str, int]) -> Sequence[Value | None]:
        node = call.node
        function = self._functions.get((node.proto.domain, node.operator, node.proto.overload))
        if function is not None:
            return self._called(function, call)
        if node.operator == "Constant" and not node.domain:
            return [self._constant(node)]
        if any(value is not None and value.lost for value in call.inputs):
            raise UnfollowedError
        numbers = self._folded(call)
        if numbers is not None:
            return [numbers]
        handler = HANDLERS.get((node.domain, node.operator))
        if handler is None:
            raise UnfollowedError
        made = handler(call)
        return [made] if isinstance(made, Value) else made

    def _folded(self, call: Call) -> Value | None:
        """The result of plain arithmetic on known numbers."""
        if not call.inputs or not all(value is None or value.array.is_constant for value in call.inputs):
            return None
        known = [None if value is None else value.numbers() for value in call.inputs]
        if any(value is not None and numbers is None for value, numbers in zip(call.inputs, known, strict=True)):
            return None
        if self._worked_out > _WORKED_OUT_IN_ALL:
            return None
        numbers = folded(call.node, known, call.opset)
        if numbers is None:
            return None
        self._worked_out += repeated_once(numbers).size
        weights: Iterable[Weight] = ()
        if numbers.dtype.kind == "f":
            weights = {
                weight.identity: weight for value in call.inputs if value is not None for weight in value.array.weights
            }.values()
        return Value(self.recorder.constant(numbers.shape, tuple(weights)), numbers)

    def _called(self, function: FunctionProto, call: Call) -> list[Value]:
        """A function of the file, done in place."""
        scope = self._deeper(call.scope, None)
        for place, name in enumerate(function.input):
            value = call.inputs[place] if place < len(call.inputs) else None
            if value is not None:
                scope.name(name, value)
        attributes = {each.name: each for each in function.attribute_proto}
        attributes.update(call.node.attributes)
        self._steps(function.node, scope, attributes, _versions(function.opset_import))
        return [self._found(name, scope) for name in function.output]

    # What is not known.

    def _unknown(self, call: Call) -> list[Value | None]:
        """An operation whose result cannot be said: named, unless it only moves what is lost already."""
        given = [value for value in call.inputs if value is not None]
        lost = next((value for value in given if value.lost), None)
        if lost is not None and call.node.operator in QUIET and not call.node.domain:
            return [lost] * len(call.node.outputs)
        units, made = [value.array for value in given], []
        for output in call.node.outputs:
            shape = self._declared.get(output, (None,))
            known = tuple(extent for extent in shape if extent is not None)
            whole = len(known) == len(shape) and 0 not in known
            array = self.recorder.unknown(units, known if whole else (), call.name, call.module)
            made.append(Value(array, lost=not whole))
        return list(made)

    def _as_declared(self, call: Call, output: str, value: Value) -> Value:
        """The value, if its shape is the one that the file gives for it; else the operation is named as unknown."""
        shape = self._declared.get(output)
        if shape is None or value.lost or value.items is not None or value.array.is_constant:
            return value
        same = len(shape) == len(value.shape) and all(
            given in (None, extent) for given, extent in zip(shape, value.shape, strict=True)
        )
        if same:
            return value
        return Value(self.recorder.unknown([value.array], (), call.name, call.module), lost=True)


def _used(graph: GraphProto) -> list[NodeProto]:
    """The nodes on which an output depends, in order; nobody does the others."""
    needed, used = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            used.append(node)
            needed.update(_names_in(node))
    return used[::-1]


def _names_in(node: NodeProto) -> Iterator[str]:
    """The names that a node uses, those in its subgraphs too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type in (_GRAPH, _GRAPHS) else ():
            yield from (output.name for output in graph.output)
            for inner in graph.node:
                yield from _names_in(inner)


def _versions(imports: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    versions = {"" if each.domain == "ai.onnx" else each.domain: each.version for each in imports}
    if versions.get("", OLDEST) < OLDEST:
        raise InputError(
            f"The file is written in version {versions['']} of ONNX's operations; those from version {OLDEST} on are "
            "read (onnx.version_converter makes them of older ones)."
        )
    return versions


def _declared(graph: GraphProto, names: Mapping[str, int]) -> dict[str, tuple[int | None, ...]]:
    """The shapes that the file gives for its values, open extents as they were taken."""
    found = {}
    for info in (*graph.value_info, *graph.output):
        kind = info.type.tensor_type
        if (
            info.type.WhichOneof("value") == "tensor_type"
            and kind.HasField("shape")
            and len(kind.shape.dim) <= MAX_RANK
        ):
            found[info.name] = tuple(
                names.get(extent.dim_param) if extent.WhichOneof("value") != "dim_value" else extent.dim_value
                for extent in kind.shape.dim
            )
    return {
        name: tuple(n if n is not None and 0 <= n <= MAX_EXTENT else None for n in shape)
        for name, shape in found.items()
    }

"""Networks of Keras 3, read layer by layer from the graph that Keras keeps of them, under any of its backends.

A model is a `keras.Model` (functional, sequential or a class of one's own), a layer, or a `.keras` file. Functional
and sequential models say their input themselves; `input` takes its place, in the model's own order of axes. A shared
layer is one row for each call, its weights counted once. What Keras reports as parameters is counted, moving averages
of batch normalisations too, as frozen.

A layer that is not in the table of `thalweg.network.readers.keras_layers` is entered: its `call` runs on symbolic
tensors, and what it calls is read. Where that is not possible, and for operations of `keras.ops` that the table does
not have, the JAX backend shows what they compute (`thalweg.network.readers.jax`); with other backends they are named
and not known. Nothing is computed, and weights that do not exist yet are not allocated: a model that is built under
`keras.StatelessScope(initialize_variables=False)` is read as well as any other. A model that is not built yet is built
by being called, as it would be at its first use.

Of a `.keras` file only its configuration is read, never its weights, and nothing in it runs: layers that hold code
(`Lambda`) and classes that are not Keras's own are refused by name.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.errors import InputError, missing_package
from thalweg.network.graph import Graph, Weight, written
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.failures import failed
from thalweg.network.readers.keras_call import Call
from thalweg.network.readers.keras_layers import LAYERS, OPERATIONS
from thalweg.network.readers.recorder import Recorder

Shape = tuple[int, ...]

MAX_CONFIG = 64 << 20
"""Bytes of the configuration in a `.keras` file."""
_STYLES = re.compile(r"\x1b\[[0-9;]*m")
_AROUND = ("Exception encountered when calling", "Could not automatically infer the output shape")
_OWN = ("keras", "builtins")
_RUNS = frozenset({"Lambda", "__lambda__", "function", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer"})
"""What a configuration may not name: it holds code, or loads it from elsewhere."""


def knows(model: object) -> bool:
    """Whether it is a layer or a model of Keras."""
    layer = getattr(sys.modules["keras"], "Layer", None)
    return layer is not None and isinstance(model, layer)


def read(model: Any, shape: Shape | None) -> Graph:
    """The graph of a model, a layer or a `.keras` file.

    Raises:
        InputError: its input is not known, or a layer does not fit it; or the file cannot be read safely.
        MissingPackageError: Keras is not installed.
    """
    keras = _keras()
    if isinstance(model, Path):
        model = _from_file(model, keras)
    function, inputs = _graph_of(model, shape, keras)
    recorder = Recorder()
    walk = _Walk(recorder, keras)
    first = all(getattr(each, "data_format", None) != "channels_first" for each in _all_layers(model))
    arrays = [_entered(recorder, each, first) for each in inputs]
    walk.run(function, arrays, "")
    recorder.unused(_unused(walk, model))
    return recorder.graph()


def _unused(walk: _Walk, model: Any) -> list[tuple[str, str, Weight]]:
    """The weights of a model that its calls did not use, with the name and the module of their row."""
    seen, whole, found = walk.recorder.identities(), Call(walk, model, (), {}, "", ""), []
    for variable in getattr(model, "weights", ()):
        (weight,) = whole.weight(variable).weights
        if weight.identity not in seen:
            name = str(variable.path).rpartition("/")[0].replace("/", ".") or str(model.name)
            found.append((name, name.rpartition(".")[0], weight))
    return found


def _keras() -> Any:
    """Keras, imported with a backend that is installed where nobody has chosen one."""
    if "keras" in sys.modules:
        return sys.modules["keras"]
    chosen = "KERAS_BACKEND" in os.environ or importlib.util.find_spec("tensorflow") is not None
    try:
        if chosen:
            return importlib.import_module("keras")
        os.environ["KERAS_BACKEND"] = "jax"
        try:
            return importlib.import_module("keras")
        finally:
            del os.environ["KERAS_BACKEND"]
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "keras", "reading Keras models", "keras") from error


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Where models of Keras are made without allocating their weights."""
    with _keras().StatelessScope(initialize_variables=False):
        yield


# What goes in.


def _graph_of(model: Any, shape: Shape | None, keras: Any) -> tuple[Any, list[tuple[Shape, str]]]:
    """The graph that Keras keeps of a model, and the shapes and types of its inputs for a batch of one."""
    function = model
    if not isinstance(model, keras.Function):
        inner = getattr(model, "_functional", None)  # what a sequential model that is built consists of
        function = inner if isinstance(inner, keras.Function) else None
    if function is None:
        if shape is None:
            raise InputError(
                f"The Keras model {model.name!r} does not say what its input is; give its extents without the batch, "
                "such as '224x224x3'."
            )
        return _entered_with(model, shape, keras)
    ids = {
        id(symbol)
        for operation in function.operations
        if isinstance(operation, keras.layers.Embedding)
        for node in operation._inbound_nodes
        for symbol in node.input_tensors
    }
    own = [(tuple(each.shape[1:]), "int32" if id(each) in ids else str(each.dtype)) for each in function.inputs]
    if shape is not None:
        if len(own) > 1 or len(own[0][0]) != len(shape):
            asked = " and ".join(_told(each) for each, _ in own)
            raise InputError(f"The Keras model {model.name!r} takes inputs of {asked}, not one of {written(shape)}.")
        own = [(shape, own[0][1])]
    for extents, _ in own:
        if any(extent is None for extent in extents):
            raise InputError(
                f"The Keras model {model.name!r} takes inputs of {_told(extents)}; say what is open there."
            )
    return function, [((1, *extents), kind) for extents, kind in own]


def _told(extents: Sequence[int | None]) -> str:
    return " x ".join("?" if extent is None else f"{extent}" for extent in extents)


def _entered_with(model: Any, shape: Shape, keras: Any) -> tuple[Any, list[tuple[Shape, str]]]:
    """The graph of a model that keeps none, by a call on symbolic tensors; whole numbers where it refuses others."""
    failures = []
    for kind in ("float32", "int32"):
        symbol = keras.KerasTensor((1, *shape), dtype=kind)
        try:
            with _whole_errors(keras):
                if not model.built:
                    model(symbol)
                return _called(model, [symbol], {}, keras), [((1, *shape), kind)]
        except Exception as error:
            failures.append(error)
    what = f"Calling the Keras model {model.name!r}"
    raise failed(what, shape, failures[0], _reason(failures[0]))


@contextlib.contextmanager
def _whole_errors(keras: Any) -> Iterator[None]:
    """Where errors keep the frames of Keras's own layers, which say which layer failed."""
    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if filtered:
            keras.config.enable_traceback_filtering()


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without what Keras says around it."""
    lines = [_STYLES.sub("", line).strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(_AROUND)]
    return (said or ["it does not say why"])[0][:300]


def _called(layer: Any, arguments: Sequence[Any], options: Mapping[str, Any], keras: Any) -> Any:
    """The graph of what a layer calls, from symbolic tensors in its arguments; the layer stays as it was."""
    inside = [each for each in _all_layers(layer) if each is not layer]
    nodes = [(each, len(each._inbound_nodes), len(each._outbound_nodes)) for each in inside]
    try:
        with keras.StatelessScope(initialize_variables=False):
            outputs = layer.call(*arguments, **options)
        given = [x for x in keras.tree.flatten([arguments, dict(options)]) if isinstance(x, keras.KerasTensor)]
        return keras.Function(given, outputs)
    finally:
        for each, before, behind in nodes:
            del each._inbound_nodes[before:]
            del each._outbound_nodes[behind:]


def _all_layers(model: Any) -> list[Any]:
    return list(model._flatten_layers()) if hasattr(model, "_flatten_layers") else []


def _entered(recorder: Recorder, given: tuple[Shape, str], channels_last: bool) -> Array:
    shape, kind = given
    axes = range(1, len(shape))
    if "int" in kind or kind == "string":
        return recorder.input(shape, tuple(axes))
    channel = len(shape) - 1 if channels_last else 1
    return recorder.input(shape, tuple([axis for axis in axes if axis != channel]), channel)


# The walk.


class _Walk:
    """Writes the calls of a graph down, in the order in which Keras runs them."""

    def __init__(self, recorder: Recorder, keras: Any) -> None:
        self.recorder = recorder
        self.keras = keras

    def run(self, function: Any, inputs: Sequence[Array], module: str) -> list[Any]:
        """The results of a graph."""
        values = {id(symbol): array for symbol, array in zip(function.inputs, inputs, strict=True)}
        # Keras knows the shapes of its own inputs; for others it is asked again at every layer.
        usual = all(_fits(array.shape, symbol) for symbol, array in zip(function.inputs, inputs, strict=True))

        def filled(held: Any) -> Any:
            return values[id(held)] if isinstance(held, self.keras.KerasTensor) else held

        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                given = self.keras.tree.map_structure(filled, (node.arguments.args, dict(node.arguments.kwargs)))
                call = Call(self, node.operation, given[0], given[1], node.operation.name, module)
                made = self.call(call, list(node.outputs) if usual else self._specified(call))
                values.update((id(symbol), each) for symbol, each in zip(node.outputs, made, strict=True))
        return [values[id(each)] for each in function.outputs]

    def call(self, call: Call, symbols: Sequence[Any]) -> list[Any]:
        """The results of one layer or operation, whose shapes are those of some symbolic tensors."""
        known = _handler(call.layer, self.keras)
        if known is not None:
            mark = self.recorder.mark()
            made = self.keras.tree.flatten(known(call))
            if len(made) == len(symbols):
                return [self._checked(call, each, symbol) for each, symbol in zip(made, symbols, strict=True)]
            self.recorder.forget(mark)
        elif (inner := self._entered(call)) is not None:
            return inner
        return self._computed(call, symbols)

    def _specified(self, call: Call) -> list[Any]:
        """What Keras says that a layer makes."""
        arguments, options = self._symbolic(call)
        try:
            if isinstance(call.layer, self.keras.Layer):  # which says what its weights take only where it is called
                call.layer._assert_input_compatibility([*arguments, *options.values()][0])
            return list(self.keras.tree.flatten(call.layer.compute_output_spec(*arguments, **options)))
        except Exception as error:
            extents = " and ".join(written(each.shape[1:]) for each in call.arrays)
            reason = _reason(error).rstrip(".")
            raise InputError(f"The layer {call.path!r} does not fit its input of {extents}: {reason}.") from error

    def _symbolic(self, call: Call) -> Any:
        def symbol(held: Any) -> Any:
            return self.keras.KerasTensor(held.shape) if isinstance(held, Array) else held

        return self.keras.tree.map_structure(symbol, (call.arguments, call.options))

    def inside(self, layer: Any, x: Array, call: Call) -> Array:
        """What a layer that another one holds makes of an array."""
        own = Call(self, layer, (x,), {}, layer.name, call.path)
        (made,) = self.call(own, self._specified(own))
        assert isinstance(made, Array)
        return made

    def _checked(self, call: Call, made: Array, symbol: Any) -> Array:
        """The result, named and not known where its shape is not what Keras says."""
        if _fits(made.shape, symbol):
            return made
        shape = tuple([extent or 1 for extent in symbol.shape])
        return self.recorder.unknown([made], shape, call.path, call.module)

    def _unknown(self, call: Call, symbols: Sequence[Any]) -> list[Array]:
        parts = call.arrays or [self.recorder.constant(())]
        weights = call.weights()
        shapes = [tuple([extent or 1 for extent in symbol.shape]) for symbol in symbols]
        return [self.recorder.unknown(parts, shape, call.path, call.module, weights) for shape in shapes]

    def _entered(self, call: Call) -> list[Any] | None:
        """The results of a model or a layer that calls others; None for one that does not, or cannot be entered."""
        layer = call.layer
        alone = len(_all_layers(layer)) < 2
        if not isinstance(layer, self.keras.Layer) or (alone and self.keras.backend.backend() == "jax"):
            return None
        for graph in (layer, getattr(layer, "_functional", None)):
            if isinstance(graph, self.keras.Function) and len(call.arrays) == len(graph.inputs):
                return self.run(graph, call.arrays, call.path)
        arguments, options = self._symbolic(call)
        try:
            function = _called(layer, arguments, options, self.keras)
        except Exception:  # a layer may do anything; then what it computes is asked of the backend
            return None
        mark = self.recorder.mark()
        made = self.run(function, call.arrays, call.path)
        seen = self.recorder.identities() if alone else set()
        if alone and any(one.identity not in seen for each in call.weights() for one in each.weights):
            self.recorder.forget(mark)  # some were computed with before any tensor was there, out of sight
            return None
        return made

    def _computed(self, call: Call, symbols: Sequence[Any]) -> list[Any]:
        """The results of what the JAX backend can show."""
        if self.keras.backend.backend() != "jax":
            return self._unknown(call, symbols)
        from thalweg.network.readers.keras_through_jax import results

        made = results(call)
        return self._unknown(call, symbols) if made is None or len(made) != len(symbols) else made


def _fits(shape: Shape, symbol: Any) -> bool:
    """Whether a shape is that of a symbolic tensor, but for the batch and what that leaves open."""
    own = tuple(symbol.shape)
    return len(own) == len(shape) and all(
        told in (None, extent) for told, extent in zip(own[1:], shape[1:], strict=True)
    )


def _handler(operation: Any, keras: Any) -> Callable[[Call], Any] | None:
    """The row of the table for a layer or an operation of Keras's own, or a subclass that computes the same."""
    table = LAYERS if isinstance(operation, keras.Layer) else OPERATIONS
    for kind in type(operation).__mro__:
        if kind.__module__.partition(".")[0] == "keras" and kind.__name__ in table:
            return table[kind.__name__] if type(operation).call is getattr(kind, "call", None) else None
    return None


# Files.


def _from_file(path: Path, keras: Any) -> Any:
    config = _harmless_config(path)

    def make() -> Any:
        with keras.StatelessScope(initialize_variables=False):
            return keras.saving.deserialize_keras_object(config, safe_mode=True)

    return _made_from(path, make, keras)


def with_weights(path: Path) -> Any:
    """The model of a `.keras` file, with its weights; nothing in the file runs.

    Raises: as for `read`.
    """
    keras = _keras()
    _harmless_config(path)
    return _made_from(path, lambda: keras.saving.load_model(path, compile=False, safe_mode=True), keras)


def _made_from(path: Path, make: Callable[[], Any], keras: Any) -> Any:
    try:
        model = make()
    except Exception as error:
        raise InputError(
            f"What {str(path)!r} holds makes no Keras model ({type(error).__name__}): {_reason(error)}"
        ) from error
    if not isinstance(model, keras.Layer):
        raise InputError(f"The configuration in {str(path)!r} makes no Keras model.")
    return model


def _harmless_config(path: Path) -> dict[str, Any]:
    """The configuration of a file in which nothing is code."""
    config = _config_of(path)
    _check_harmless(config, path)
    return config


def _config_of(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as stream:
            text = stream.read(MAX_CONFIG + 1)
    except KeyError:
        raise InputError(f"There is no config.json in {str(path)!r}, so it is not a .keras file.") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"Cannot read {str(path)!r} as a .keras file: {reason}.") from error
    if len(text) > MAX_CONFIG:
        raise InputError(f"The configuration in {str(path)!r} is larger than {MAX_CONFIG >> 20} MB.")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"The configuration in {str(path)!r} is not JSON.") from None
    if not isinstance(config, dict) or "class_name" not in config:
        raise InputError(f"The configuration in {str(path)!r} describes no model.")
    config.pop("compile_config", None)
    return config


def _check_harmless(config: Any, path: Path) -> None:
    """Refuse whatever is not a class of Keras itself; nothing has been imported for it yet."""
    waiting = [config]
    while waiting:
        held = waiting.pop()
        if isinstance(held, list):
            waiting += held
        elif isinstance(held, dict):
            name, module = held.get("class_name"), held.get("module")
            if name is not None:
                own = module is None or (isinstance(module, str) and module.partition(".")[0] in _OWN)
                registered = held.get("registered_name")
                foreign = isinstance(registered, str) and ">" in registered
                if name in _RUNS or not own or foreign:
                    where = f"{module}.{name}" if isinstance(module, str) else f"{name}"
                    raise InputError(
                        f"{str(path)!r} holds {where!r}, which is code, or a class that is not Keras's own; nothing of "
                        "it was run: build the model in Python and pass that."
                    )
            waiting += held.values()

"""The derivatives of one unit of a Keras model by its input, for one input after the other, under any backend.

The model runs as it does after training. Meanwhile its layers say when they are called, so that the result of the
layer can be taken hold of, before its activation function where that is a layer of its own in our tables. Whatever the
model would change in itself is left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.given_inputs import examples
from thalweg.network.graph import Graph
from thalweg.network.layer_call import Call

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def gradients(
    model: Any, graph: Graph, call: Call, given: Any, samples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """The derivatives of a unit, summed over its channels, by the first input, in the shape of that input.

    Args:
        model: the model or layer, which stays as it is.
        graph: what was read of it.
        call: the layer, and the unit in it.
        given: a batch for every input, or the batch of the only one; None for standard normal numbers.
        samples: how many random inputs.
        seed: of the random inputs.

    Raises:
        InputError: as for `thalweg.network.measured_field.measured_field`.
    """
    import keras
    import numpy as np

    if any(variable._value is None for variable in model.variables):
        raise InputError("The Keras model holds no weights; build it with weights, or give the file that holds them.")
    kind = "float64" if model.compute_dtype == "float64" else "float32"
    looked_up = graph.looked_up
    kinds = ["int32" if each.id in looked_up else kind for each in graph.given]
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise InputError(f"Keras's backend {backend!r} makes no derivatives; choose 'jax', 'tensorflow' or 'torch'.")

    def unit(inputs: list[Any]) -> Any:
        """The unit's value, summed over its channels."""
        units: list[Any] = []
        with keras.StatelessScope(), _watched(model, call, units):
            model(inputs if len(inputs) > 1 else inputs[0], training=False)
        return call.own(units)

    for example in examples(given, graph.given, looked_up, samples, seed):
        inputs = [keras.ops.convert_to_tensor(x, each) for x, each in zip(example, kinds, strict=True)]
        yield np.asarray(_BACKENDS[backend](unit, inputs), np.float64)[0]


def _by_jax(unit: Callable[[list[Any]], Any], inputs: list[Any]) -> Any:
    import jax

    return jax.grad(lambda x: unit([x, *inputs[1:]]))(inputs[0])


def _by_torch(unit: Callable[[list[Any]], Any], inputs: list[Any]) -> Any:
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        x = inputs[0].detach().clone().requires_grad_()
        value = unit([x, *inputs[1:]])
        found = torch.autograd.grad(value, x, allow_unused=True)[0] if value.requires_grad else None
    return (torch.zeros_like(x) if found is None else found).detach().cpu()


def _by_tensorflow(unit: Callable[[list[Any]], Any], inputs: list[Any]) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs[0])
        value = unit(inputs)
    return tape.gradient(value, inputs[0], unconnected_gradients="zero")


_BACKENDS = {"jax": _by_jax, "torch": _by_torch, "tensorflow": _by_tensorflow}


@contextlib.contextmanager
def _watched(model: Any, call: Call, units: list[Any]) -> Iterator[None]:
    """While this runs, the unit is added to `units`, and None for every other call of the layer."""
    import keras

    path: list[str] = []

    def take(result: Any) -> None:
        place = call.place_in(tuple(result.shape) if hasattr(result, "shape") else None, len(units))
        units.append(None if place is None else keras.ops.sum(result[place]))

    def run(layer: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            path.append(layer.name)
            try:
                result = function(*arguments, **options)
                if ".".join(path) == call.name and not call.parts:
                    take(result)
            finally:
                path.pop()
            return result

        return watched

    def activate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = getattr(function, "__name__", getattr(function, "name", ""))

        def watched(x: Any, *arguments: Any, **options: Any) -> Any:
            layer = ".".join(path)
            if layer == call.name and name in call.parts:
                take(x)
            result = function(x, *arguments, **options)
            if f"{layer}.{name}" == call.name:
                take(result)
            return result

        return watched

    with contextlib.ExitStack() as replaced:
        for layer in _called(model):
            replaced.enter_context(_replaced(layer, "call", run(layer, layer.call)))
            if callable(getattr(layer, "activation", None)):
                replaced.enter_context(_replaced(layer, "activation", activate(layer.activation)))
        yield


def _called(model: Any) -> list[Any]:
    """All layers within a model and all operations of its graphs, each once."""
    import keras

    found: dict[int, Any] = {}
    for layer in model._flatten_layers():
        graph = layer if isinstance(layer, keras.Function) else getattr(layer, "_functional", None)
        found |= {id(each): each for each in (layer, *getattr(graph, "operations", ()))}
    return [each for each in found.values() if each is not model and each is not getattr(model, "_functional", None)]


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """While this runs, an attribute of one object is another, whatever its class does when one is set."""
    own = vars(owner)
    before = {name: own[name]} if name in own else {}
    object.__setattr__(owner, name, value)
    try:
        yield
    finally:
        object.__delattr__(owner, name)
        for each in before.values():
            object.__setattr__(owner, name, each)

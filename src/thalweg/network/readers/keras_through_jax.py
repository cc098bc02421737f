"""What a layer of Keras computes under its JAX backend, where the table of layers does not have it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from thalweg.network.graph import Weight
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.jax import described
from thalweg.network.readers.jax_numbers import held
from thalweg.network.readers.jax_values import Fixed, Pointwise, Value
from thalweg.network.readers.jaxpr import Walk
from thalweg.network.readers.keras_call import Call


class _Inside(Walk):
    """A walk whose every row is called like the layer that is looked into."""

    def __init__(self, call: Call) -> None:
        super().__init__(call.recorder, lambda array: Fixed(call.recorder.constant(array.shape), held(array)))
        self._of = call

    def called(self, weights: Iterable[Weight], scope: str, what: str) -> tuple[str, str]:
        """The path of the layer and of the model that holds it."""
        return self._of.path, self._of.module


def results(call: Call) -> list[Array] | None:
    """The results of a layer or an operation, written down from its jaxpr; None where it cannot be traced."""
    import jax

    keras, layer = call.walk.keras, call.layer
    parts = keras.tree.flatten([call.arguments, call.options])
    places = [place for place, each in enumerate(parts) if isinstance(each, Array) or hasattr(each, "trainable")]
    variables = list(getattr(layer, "variables", ()))
    weights = {id(each) for each in getattr(layer, "weights", ())}

    def computed(units: Sequence[Any], state: Sequence[Any]) -> list[Any]:
        filled = list(parts)
        for place, unit in zip(places, units, strict=True):
            filled[place] = unit
        arguments, options = keras.tree.pack_sequence_as([call.arguments, call.options], filled)
        mapping = list(zip(variables, state, strict=True))
        with keras.StatelessScope(mapping, initialize_variables=False):
            return list(keras.tree.flatten(layer.call(*arguments, **options)))

    given = [parts[place] for place in places]
    try:
        closed = jax.make_jaxpr(computed)(
            [described(tuple(each.shape), getattr(each, "dtype", "float32")) for each in given],
            [described(tuple(each.shape), each.dtype) for each in variables],
        )
    except Exception:  # a layer may do anything: then it is not known
        return None
    walk = _Inside(call)
    entered: list[Value] = []
    for each in given:
        if isinstance(each, Array) and not each.is_constant:
            entered.append(Pointwise(each))
        else:
            entered.append(Fixed(each if isinstance(each, Array) else call.weight(each)))
    for each in variables:
        known = id(each) in weights
        entered.append(Fixed(call.weight(each) if known else call.recorder.constant(tuple(each.shape))))
    return [walk.ledger.array(each) for each in walk.run(closed, entered)]

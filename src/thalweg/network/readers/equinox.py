"""Networks of Equinox: modules that are called on one example, channels first, without a batch.

A model is a module, also an abstract one from `equinox.filter_eval_shape`, or `(module, state)` for one with layers
that keep a state, such as `equinox.nn.BatchNorm`. It is mapped over a batch of one (with the axis name `batch`) and
switched to inference; an argument `key` gets a key of random numbers. Every floating array in the module is a weight;
what lies in the state is none. Names are the paths of the weights in the module.

Positions are the axes that the first window moves along; where there is none they come last in an image or a volume
and first in a sequence.
"""

from __future__ import annotations

import inspect
from typing import Any

from thalweg.network.graph import Graph
from thalweg.network.readers.jax import Program, channels_last, path, traced
from thalweg.network.readers.jax_layout import Layout

Shape = tuple[int, ...]


def knows(model: object) -> bool:
    """Whether it is a module of Equinox, perhaps with its state."""
    import equinox as eqx

    alone = model[0] if isinstance(model, tuple) and len(model) == 2 else model
    return isinstance(alone, eqx.Module) and callable(alone)


def read(model: Any, shape: Shape | None) -> Graph:
    """The graph of a module.

    Raises:
        InputError: there is no input shape, or the module fails on it.
    """
    return traced(program(model, shape), shape)


def program(model: Any, shape: Shape | None) -> Program:
    """The program that a module is; its shape plays no part."""
    import equinox as eqx
    import jax

    module, state = model if isinstance(model, tuple) else (model, None)
    module = eqx.nn.inference_mode(module)
    takes = inspect.signature(type(module).__call__).parameters
    needs_key = "key" in takes and takes["key"].default is not None

    def call(parameters: Any, x: Any) -> Any:
        own, kept = parameters
        options = {"key": jax.random.key(0)} if needs_key else {}

        def one(example: Any) -> Any:
            answer = own(example, **options) if kept is None else own(example, kept, **options)[0]
            return [each for each in jax.tree_util.tree_leaves(answer) if eqx.is_array(each)]

        return jax.vmap(one, axis_name="batch")(x)

    def name_of(where: Any) -> str | None:
        which, *rest = where
        return path(rest) if which.idx == 0 else None

    return Program(call, (module, state), name_of, layout=_layout)


def _layout(shape: Shape, whole: bool) -> Layout:
    if whole or len(shape) < 3:
        return channels_last(shape, whole)
    return Layout(tuple(range(2, len(shape) + 1)), 1)

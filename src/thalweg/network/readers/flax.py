"""Networks of Flax: Linen modules, which describe, and NNX modules, which hold their weights.

* Linen: a module, or a bound one, or `(module, variables)`. The shapes of the variables come from `module.init`,
  traced; the collection `params` is what is counted, others such as `batch_stats` are state.
* NNX: a module, also an abstract one from `nnx.eval_shape`. Variables of type `nnx.Param` are counted.

Both are called on a batch of one, channels last, as after training: arguments named `train`, `training` or
`is_training` are False, and `deterministic`, `use_running_average` and `inference` are True.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from thalweg.network.graph import Graph
from thalweg.network.readers.failures import failed
from thalweg.network.readers.jax import Program, described, path, traced

Shape = tuple[int, ...]

AFTER_TRAINING = {
    "train": False, "training": False, "is_training": False, "deterministic": True, "use_running_average": True,
    "inference": True,
}  # fmt: skip


def knows(model: object) -> bool:
    """Whether it is a module of Flax, or a Linen module with its variables."""
    from flax import linen, nnx

    alone = model[0] if isinstance(model, tuple) and len(model) == 2 else model
    return isinstance(alone, linen.Module) or isinstance(model, nnx.Module)


def read(model: Any, shape: Shape | None) -> Graph:
    """The graph of a module.

    Raises:
        InputError: there is no input shape, or the module fails on it.
    """
    return traced(program(model, shape), shape)


def program(model: Any, shape: Shape | None) -> Program:
    """The program that a module is on an input of that shape.

    Raises:
        InputError: the module cannot be initialised with it.
    """
    from flax import nnx

    return _of_nnx(model) if isinstance(model, nnx.Module) else _of_linen(model, shape)


def _of_linen(model: Any, shape: Shape | None) -> Program:
    module, variables = model if isinstance(model, tuple) else (model, None)
    if variables is None and module.scope is not None:
        module, variables = module.unbind()
    options = options_of(type(module).__call__)
    if variables is None:
        variables = _initial(module, options, shape)

    def call(parameters: Any, x: Any) -> Any:
        return module.apply(parameters, x, **options)

    def name_of(where: Sequence[Any]) -> str | None:
        name = path(where)
        collection, _, rest = name.partition(".")
        return rest if collection == "params" else None

    return Program(call, variables, name_of, within=module.name or type(module).__name__)


def _initial(module: Any, options: dict[str, bool], shape: Shape | None) -> Any:
    """The shapes of a module's variables."""
    import jax
    import jax.numpy as jnp

    if shape is None:
        return {}
    key = jax.eval_shape(lambda: jax.random.key(0))
    failures = []
    for kind in (jnp.float32, jnp.int32):
        try:
            return jax.eval_shape(
                lambda key, x: module.init({"params": key, "dropout": key}, x, **options),
                key,
                described((1, *shape), kind),
            )
        except Exception as error:
            failures.append(error)
    raise failed("Initialising the module", shape, failures[0])


def _of_nnx(model: Any) -> Program:
    from flax import nnx

    graph, *values = nnx.split(model, nnx.Param, ...)
    options = options_of(type(model).__call__)

    def call(values: Any, x: Any) -> Any:
        module = nnx.merge(graph, *values)
        module.eval()
        return module(x, **options)

    def name_of(where: Sequence[Any]) -> str | None:
        which, *rest = where
        name = path(rest).removesuffix(".value")
        return name if which.idx == 0 else None

    return Program(call, tuple(values), name_of)


def options_of(call: Callable[..., Any]) -> dict[str, bool]:
    """The arguments that make a module behave as after training, among those that it has."""
    known = inspect.signature(call).parameters
    return {name: value for name, value in AFTER_TRAINING.items() if name in known}

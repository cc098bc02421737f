"""Networks written in JAX, read from the program that JAX makes of them: nothing runs and no weight is allocated.

A model is one of

* `(function, parameters)`: a function of parameters and an input, with the parameters as any pytree of arrays, or of
  `jax.ShapeDtypeStruct` where they do not exist (`jax.eval_shape(init, key)` gives them);
* `functools.partial(function, parameters)`: the same;
* a function of one input that closes over its weights: every floating array that it holds, scalars aside, is a weight.
  The same object is the same weight, and it is called by the name of the variable that holds it.

A function is called on a batch of one, `(1, *input)`; where that fails, it is taken for a function of one example. The
input is floating, and where a function does not take it, of whole numbers, such as the ids of tokens. Its positions are
the axes that the first convolution or pooling window moves along; where there is none, its channels come last, and ids
of tokens have positions alone. Weights are floating arrays; arrays of whole numbers are not counted.

    >>> import jax, jax.numpy as jnp
    >>> def network(parameters, images):
    ...     seen = jax.lax.conv_general_dilated(images, parameters["conv"]["kernel"], (1, 1), "SAME",
    ...                                         dimension_numbers=("NHWC", "HWIO", "NHWC"))
    ...     return jax.nn.relu(seen + parameters["conv"]["bias"]).mean((1, 2)) @ parameters["head"]
    >>> shaped = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    >>> weights = {"conv": {"kernel": shaped(3, 3, 3, 8), "bias": shaped(8)}, "head": shaped(8, 10)}
    >>> [(step.name, step.output.shape) for step in read((network, weights), (32, 32, 3)).operations]
    [('conv', (32, 32, 8)), ('relu', (32, 32, 8)), ('mean', (8,)), ('head', (10,))]
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thalweg.errors import InputError
from thalweg.network.graph import Graph, written
from thalweg.network.readers.failures import failed
from thalweg.network.readers.jax_layout import Layout, layout_of
from thalweg.network.readers.jax_numbers import held
from thalweg.network.readers.jax_values import Fixed, Pointwise
from thalweg.network.readers.jaxpr import Walk
from thalweg.network.readers.masks import hides_scores
from thalweg.network.readers.recorder import Recorder

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """A function of parameters and one input, as any JAX framework gives it.

    Args:
        call: it; takes the parameters and the input, with a batch in front.
        parameters: a pytree; leaves that are no arrays go to `call` as they are.
        name_of: the name of the weight at a path of that pytree; None where the array there is none.
        trainable: whether the weight of a name is.
        layout: where positions and channels are, for an input in which no window tells.
        held: names of weights that the program holds itself, by identity (`_identity`); None where those are none.
        within: the name of the module around everything.
    """

    call: Callable[[Any, Any], Any]
    parameters: Any
    name_of: Callable[[Sequence[Any]], str | None]
    trainable: Callable[[str], bool] = lambda name: True
    layout: Callable[[Shape, bool], Layout] = field(default=lambda shape, whole: channels_last(shape, whole))
    held: Mapping[int, str] | None = None
    within: str = ""


def knows(model: object) -> bool:
    """Whether it is a function, or a function with its parameters."""
    return callable(model) or (isinstance(model, tuple) and len(model) == 2 and callable(model[0]))


def read(model: Any, shape: Shape | None) -> Graph:
    """The graph of a function, called as the text above says.

    Raises:
        InputError: there is no input shape, or the function fails on it.
    """
    return traced(program(model, shape), shape)


def program(model: Any, shape: Shape | None) -> Program:
    """The program that a function is; its shape plays no part."""
    if isinstance(model, tuple):
        function, parameters = model
        call, known = function, None
    elif isinstance(model, functools.partial) and model.args:
        call, parameters, known = _with_arguments(model), (model.args, model.keywords), None
        parameters = parameters if len(model.args) > 1 or model.keywords else model.args[0]
        call = call if len(model.args) > 1 or model.keywords else model.func
    else:
        call, parameters, known = lambda _, x: model(x), (), closed_over(model)
    return Program(call, parameters, path, held=known)


def _with_arguments(model: functools.partial[Any]) -> Callable[[Any, Any], Any]:
    return lambda parameters, x: model.func(*parameters[0], x, **parameters[1])


@dataclass(frozen=True)
class Traced:
    """A program on an input.

    Args:
        graph: the network that it is.
        jaxpr: it; takes the arrays among the parameters, and the input.
        parameters: these arrays.
        walk: through it, which tells where in it the tensors of the graph are made.
    """

    graph: Graph
    jaxpr: Any
    parameters: tuple[Any, ...]
    walk: Walk


def traced(program: Program, shape: Shape | None) -> Graph:
    """The graph of a program on an input of that shape, without the batch.

    Raises: as for `followed`.
    """
    return followed(program, shape).graph


def followed(program: Program, shape: Shape | None) -> Traced:
    """A program on an input of that shape, without the batch: its graph, and where in it everything is made.

    Raises:
        InputError: there is no input shape, or the program fails on it.
    """
    import jax

    if shape is None:
        raise InputError(
            "A JAX model does not say what its input is; give its extents without the batch, such as '224x224x3'."
        )
    if not shape or min(shape) < 1:
        raise InputError(f"The input {written(shape)} is empty; every extent must be at least 1.")
    leaves, structure = jax.tree_util.tree_flatten_with_path(program.parameters)
    arrays = [place for place, (_, leaf) in enumerate(leaves) if _is_array(leaf)]

    def call(given: Sequence[Any], x: Any) -> Any:
        own = [leaf for _, leaf in leaves]
        for place, value in zip(arrays, given, strict=True):
            own[place] = value
        results = program.call(jax.tree_util.tree_unflatten(structure, own), x)
        return [each for each in jax.tree_util.tree_leaves(results) if _is_array(each)]

    given = [described(leaves[place][1].shape, leaves[place][1].dtype) for place in arrays]
    closed, whole = _made(call, given, shape)
    recorder = Recorder()
    known: dict[int, str] = {}
    values: list[Fixed] = []
    for place in arrays:
        where, leaf = leaves[place]
        values.append(_parameter(recorder, program, where, leaf, known))

    def constant(array: Any) -> Fixed:
        name = None if program.held is None else program.held.get(_identity(array))
        if program.held is None or not _is_floating(array) or math.prod(array.shape) == 1:
            return Fixed(recorder.constant(array.shape), held(array))
        numbers = held(array) if name is None else None
        if numbers is not None and hides_scores(numbers):
            return Fixed(recorder.constant(array.shape), numbers)
        name = name or known.setdefault(_identity(array), f"weights.{len(known)}")
        return Fixed(recorder.weight(name, array.shape))

    layout = layout_of(closed, len(arrays), program.layout(shape, whole))
    entered = recorder.input((1, *shape), layout.positions, layout.channel)
    walk = Walk(recorder, constant, program.within, _crowded(values), layout.channels_first)
    made = walk.run(closed, [*values, Pointwise(entered)])
    if made and all(0 in each.shape for each in made):
        raise InputError(f"The model has no units left: its output would be {written(made[0].shape[1:])}.")
    for each in made:
        walk.ledger.array(each)
    seen = recorder.identities() | walk.stacks
    held_by = {one.identity: one for each in values for one in each.weights}
    recorder.unused([(*walk.called([one], "", ""), one) for name, one in held_by.items() if name not in seen])
    arguments = tuple([leaves[place][1] for place in arrays])
    return Traced(recorder.graph(), closed, arguments, walk)


def _parameter(recorder: Recorder, program: Program, where: Sequence[Any], leaf: Any, known: dict[int, str]) -> Fixed:
    """A leaf of the parameters: a weight, the one of another place again, or numbers."""
    name = program.name_of(where) if _is_floating(leaf) else None
    if name is None:
        return Fixed(recorder.constant(leaf.shape), held(leaf) if hasattr(leaf, "__array__") else None)
    if hasattr(leaf, "__array__"):  # without values, two equal descriptions may be one object by chance
        name = known.setdefault(_identity(leaf), name)
    return Fixed(recorder.weight(name, tuple(leaf.shape), program.trainable(name)))


def _crowded(values: Sequence[Fixed]) -> set[str]:
    """The places in the parameters that hold several matrices or kernels, and so the weights of several layers."""
    held: dict[str, list[Shape]] = {}
    for weight in (one for each in values for one in each.weights):
        wide = tuple([extent for extent in weight.shape if extent > 1])
        if len(wide) > 1:
            held.setdefault(weight.identity.rpartition(".")[0], []).append(wide)
    return {
        parent
        for parent, shapes in held.items()
        if sum(not any(_is_bias(shape, other) for other in shapes) for shape in shapes) > 1
    }


def _is_bias(shape: Shape, of: Shape) -> bool:
    """Whether an array has some of the axes of another, as the bias of several heads has."""
    left = iter(of)
    return len(shape) < len(of) and all(extent in left for extent in shape)


def _made(call: Callable[..., Any], given: Sequence[Any], shape: Shape) -> tuple[Any, bool]:
    """The program, and whether its input is of whole numbers."""
    import jax
    import jax.numpy as jnp

    def by_itself(given: Sequence[Any], x: Any) -> Any:
        return jax.vmap(call, in_axes=(None, 0))(given, x)

    failures = []
    for function in (call, by_itself):
        for kind in (jnp.float32, jnp.int32):
            try:
                closed = jax.make_jaxpr(function)(given, described((1, *shape), kind))
            except Exception as error:
                failures.append(error)
            else:
                return closed, kind is jnp.int32
    raise failed("Tracing the model", shape, failures[0])


def described(shape: Shape, kind: Any) -> Any:
    """An array without values."""
    import jax

    return jax.ShapeDtypeStruct(shape, kind)  # type: ignore[no-untyped-call]


def channels_last(shape: Shape, whole: bool) -> Layout:
    """Positions first; whole numbers are ids, which have no channels."""
    if whole:
        return Layout(tuple(range(1, len(shape) + 1)), None)
    return Layout(tuple(range(1, len(shape))), len(shape))


def path(where: Iterable[Any]) -> str:
    """A place in a pytree as people write it.

    >>> import jax
    >>> tree = {"body": [{"kernel": 1.0}]}
    >>> [path(where) for where, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    ['body.0.kernel']
    """
    names = [getattr(each, "key", getattr(each, "name", getattr(each, "idx", each))) for each in where]
    return ".".join(map(str, names)) or "weight"


def closed_over(function: Any) -> dict[int, str]:
    """The names of the arrays that a function finds in variables around it, by identity."""
    import jax

    function = inspect.unwrap(function)
    owner = getattr(function, "__self__", None)
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function):
        owner, function = function, type(function).__call__
    variables = {} if owner is None else dict(getattr(owner, "__dict__", {}))
    if inspect.isfunction(function):
        around = inspect.getclosurevars(function)
        variables |= {**around.globals, **around.nonlocals}
    names: dict[int, str] = {}
    for where, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        if _is_array(leaf):
            names.setdefault(_identity(leaf), path(where))
    return names


def _identity(array: Any) -> int:
    """A number that tells arrays apart; JAX wraps arrays of NumPy, which are told apart by where they lie."""
    place = getattr(array, "__array_interface__", None)
    return id(array) if place is None else int(place["data"][0])


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _is_floating(leaf: Any) -> bool:
    import jax.numpy as jnp

    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))

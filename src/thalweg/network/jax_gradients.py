"""The derivatives of one unit of a JAX network by its input, for one input after the other.

The program that JAX makes of the network is run up to the equation that makes the unit, with the weights that the
network holds, and differentiated there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.given_inputs import examples
from thalweg.network.graph import Graph, Kind, written
from thalweg.network.readers.jax import Program, Traced, followed
from thalweg.network.readers.jaxpr import Address, called_by

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_MEANS = (Kind.AVERAGE_POOL, Kind.GLOBAL_POOL)


def gradients(
    program: Program, graph: Graph, place: int, unit: tuple[int | slice, ...], given: Any, samples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """The derivatives of a unit, summed over its channels, by the input, in the shape of that input.

    Args:
        program: the network, with its weights.
        graph: what was read of it.
        place: the operation that the unit belongs to.
        unit: where it is in the result of that, without the batch.
        given: a batch of inputs; None for standard normal numbers.
        samples: how many random inputs.
        seed: of the random inputs.

    Raises:
        InputError: as for `thalweg.network.measured_field.measured_field`.
    """
    import jax
    import numpy as np

    inputs = examples(given, graph.given, frozenset(), samples, seed)
    found = followed(program, graph.inputs[0].shape)
    if any(isinstance(each, jax.ShapeDtypeStruct) for each in found.parameters):
        raise InputError("The network holds no weights; give it with its parameters, as in (module, variables).")
    operation = graph.operations[place]
    wanted = (1, *operation.output.shape)
    fitting = [
        address
        for address in found.walk.addresses().get(operation.output.id, ())
        if _shape_at(found.jaxpr.jaxpr, address) == wanted
    ]
    if not fitting:
        raise InputError(
            f"Where the program makes {operation.name!r} as an array of {written(wanted)} (batch included) cannot be "
            "told; ask about another layer."
        )
    # A mean is first a sum; a number as a factor of anything else belongs to what comes next.
    address = fitting[-1 if operation.kind in _MEANS else 0]
    kind = found.jaxpr.in_avals[-1].dtype
    derivatives = _derivatives(found, address, unit)
    for (x,) in inputs:
        yield np.asarray(derivatives(found.parameters, x.astype(kind))[0], np.float64)


def _derivatives(found: Traced, address: Address, unit: tuple[int | slice, ...]) -> Any:
    """A function of the parameters and an input that gives the derivatives of the unit."""
    import jax

    def value(parameters: Sequence[Any], x: Any) -> Any:
        return _made_at(found.jaxpr.jaxpr, found.jaxpr.consts, [*parameters, x], address)[(0, *unit)].sum()

    return jax.jit(jax.grad(value, argnums=1))


def _made_at(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any], address: Address) -> Any:
    """The value that a program makes at an address, with these arguments."""
    number, *rest = address
    equation = jaxpr.eqns[number]
    if len(rest) == 1:
        (made,) = _run(jaxpr, number + 1, [equation.outvars[rest[0]]], constants, arguments)
        return made
    inputs = _run(jaxpr, number, equation.invars, constants, arguments)
    if equation.primitive.name == "scan":
        return _made_in_turn(equation.params, inputs, rest)
    body = called_by(equation.params)
    return _made_at(getattr(body, "jaxpr", body), getattr(body, "consts", ()), inputs, tuple(rest))


def _shape_at(jaxpr: Any, address: Address) -> tuple[int, ...] | None:
    """The shape of what is made at an address; None inside of a choice, which nobody can enter here."""
    number, *rest = address
    equation = jaxpr.eqns[number]
    if len(rest) == 1:
        return tuple(equation.outvars[rest[0]].aval.shape)
    if equation.primitive.name == "cond":
        return None
    body = called_by(equation.params)
    inner = rest[1:] if equation.primitive.name == "scan" else rest
    return _shape_at(getattr(body, "jaxpr", body), tuple(inner))


def _made_in_turn(parameters: Any, inputs: Sequence[Any], address: Sequence[int]) -> Any:
    """The value at an address in one turn of a loop, after the turns before."""
    turn, *rest = address
    body, constants, carries = parameters["jaxpr"], parameters["num_consts"], parameters["num_carry"]
    first, carried, stacks = inputs[:constants], inputs[constants : constants + carries], inputs[constants + carries :]
    turns = range(parameters["length"])
    for each in reversed(turns) if parameters["reverse"] else turns:
        arguments = [*first, *carried, *(stack[each] for stack in stacks)]
        if each == turn:
            return _made_at(body.jaxpr, body.consts, arguments, tuple(rest))
        carried = _run(body.jaxpr, len(body.jaxpr.eqns), body.jaxpr.outvars[:carries], body.consts, arguments)
    raise AssertionError("an address names a turn that the loop has")


def _run(jaxpr: Any, equations: int, wanted: Sequence[Any], constants: Sequence[Any], arguments: Sequence[Any]) -> Any:
    """The wanted values, after the first equations of a program."""
    from jax.core import eval_jaxpr

    part = jaxpr.replace(
        eqns=jaxpr.eqns[:equations], outvars=list(wanted), debug_info=jaxpr.debug_info._replace(result_paths=None)
    )
    return eval_jaxpr(part, constants, *arguments)

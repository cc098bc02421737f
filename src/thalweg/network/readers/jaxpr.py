"""A JAX program walked through, equation by equation, on shapes alone.

`Walk` follows a jaxpr: functions that are called inside (`jit`, `custom_jvp`, `remat`, ...) are entered, what nobody
uses is left out, and every equation goes to the table of `thalweg.network.readers.jax_operations`. What is computed
from numbers alone is computed here too, while it stays small, so that indices and interpolation weights are known.

* A `scan` that runs over the input is a recurrent layer: one row, whose work is that of one step times their number.
  One that does not, such as a loop over layers whose weights are stacked, is unrolled: one row for each layer call.
* A `cond` takes the branch that its index names, where that is known. Where it is not, as in a `while` loop, the work
  is not known either: it is named, and the totals are incomplete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from thalweg.network.counts import count
from thalweg.network.graph import Kind, Weight
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.jax_numbers import held
from thalweg.network.readers.jax_operations import OPERATIONS, Step, of_numbers, whole
from thalweg.network.readers.jax_values import PLAIN, POINTWISE, Fixed, Ledger, Pointwise, Statistic, Value
from thalweg.network.readers.recorder import Recorder

Shape = tuple[int, ...]

Address = tuple[int, ...]
"""Where a value is made: the number of an equation, of one in the function that it calls, ..., and of the result.

After the number of a loop stands that of the turn.
"""

MAX_UNROLLED = 100_000
"""Equations that the loops of one program are unrolled into."""

_BODIES = ("call_jaxpr", "fun_jaxpr", "jaxpr", "call")
_CALLS = frozenset(
    {
        "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call",
        "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin", "custom_vmap_call", "composite",
    }
)  # fmt: skip
_AROUND = re.compile(r"^\w+\((.*)\)$")
_BASE = "eqx.nn.Pool"  # what stands inside all pools
_SEVERAL = 3
"""So many weights are those of a whole cell, not of one layer in it."""
_INSIDE = ("matmul", "softmax")
_WHOLE = ("avg_pool", "max_pool", "normalisation", "scale and shift")
_NOT_NAMES = re.compile(r"<lambda>|^_where$|^_\w+$|->|,")


class Walk:
    """Writes a program down.

    Args:
        recorder: where to.
        constant: what an array that the program holds is: a weight, or numbers.
        within: the name of the module that stands around everything, which names leave out.
        crowded: places that hold the weights of several layers, so that each is called by its weights' own name.
        channels_first: whether channels come before positions in the network, also where a layer turns them round for
            itself.
    """

    def __init__(
        self,
        recorder: Recorder,
        constant: Callable[[Any], Fixed],
        within: str = "",
        crowded: Iterable[str] = (),
        channels_first: bool = False,
    ) -> None:
        self.recorder = recorder
        self.ledger = Ledger(recorder, self.called)
        self._constant = constant
        self._within = within
        self._crowded = set(crowded)
        self.channels_first = channels_first
        self._unrolled = 0
        self.stacks: set[str] = set()
        """The arrays of weights of which loops took one for each turn."""
        self._trail: Address = ()
        self._made: list[tuple[Value, Address]] = []

    # Names.

    def called(self, weights: Iterable[Weight], scope: str, what: str) -> tuple[str, str]:
        """The name of an operation and the module that holds it: where its weights lie, or the names around it."""
        paths = [weight.identity.split(".") for weight in weights]
        if paths:
            path = _shared(paths)
            if not path or (len(paths) < _SEVERAL and ".".join(path) in self._crowded):
                path = paths[0]
            return ".".join(path), ".".join(path[:-1])
        names = [name for part in scope.split("/") if (name := _inside(part)) and not _NOT_NAMES.search(name)]
        if names and names[0] == self._within:
            names = names[1:]
        if names and "." in names[-1]:  # the class of a layer of Equinox, whose place is not known
            kind = next((name for name in reversed(names) if name != _BASE), names[-1]).rpartition(".")[2]
            return (kind if what in _WHOLE else f"{kind}.{what}" if what in _INSIDE else what), ""
        return ".".join([*names, what]), ".".join(names)

    def addresses(self) -> dict[int, list[Address]]:
        """Where in the program each array of the recorder, by its id, was made, and made again but for a number."""
        found: dict[int, list[Address]] = {}
        for value, address in self._made:
            array = _array_of(value)
            if array is not None and array.id is not None:
                found.setdefault(array.id, []).append(address)
        return found

    # The walk.

    def run(self, jaxpr: Any, arguments: Sequence[Value], scope: str = "", wanted: Sequence[bool] = ()) -> list[Value]:
        """The results of a closed or open jaxpr.

        Args:
            jaxpr: it.
            arguments: what goes in.
            scope: the names around it.
            wanted: which results somebody uses; empty for all.
        """
        constants = [self._constant(each) for each in getattr(jaxpr, "consts", ())]
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        values: dict[Any, Value] = dict(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))
        live = _used(jaxpr, wanted or [True] * len(jaxpr.outvars))
        trail = self._trail
        for number, (equation, used) in enumerate(zip(jaxpr.eqns, live, strict=True)):
            if not any(used):
                continue
            self._trail = (*trail, number)
            inputs = tuple([self._value(each, values) for each in equation.invars])
            own = str(equation.source_info.name_stack)
            step = Step(
                equation.primitive.name,
                equation.params,
                inputs,
                tuple([whole(each.aval.shape) for each in equation.outvars]),
                _is_real(equation),
                "/".join(name for name in (scope, own) if name),
            )
            results = self._checked(step, self._step(step, used))
            values.update(zip(equation.outvars, results, strict=True))
            self._made += [(each, (*trail, number, place)) for place, each in enumerate(results)]
        self._trail = trail
        return [self._value(each, values) for each in jaxpr.outvars]

    def _value(self, atom: Any, values: Mapping[Any, Value]) -> Value:
        if hasattr(atom, "val"):
            return Fixed(self.recorder.constant(whole(atom.aval.shape)), held(atom.val))
        # What nobody uses was not computed.
        return values.get(atom) or Fixed(self.recorder.constant(atom.aval.shape))

    def _step(self, step: Step, used: Sequence[bool]) -> Sequence[Value]:
        if step.function in _CALLS:
            return self._call(step, used)
        if all(isinstance(each, Fixed) for each in step.inputs):
            return of_numbers(self, step)
        if step.function == "scan":
            return self._scan(step, used)
        if step.function == "cond":
            return self._cond(step)
        operation = OPERATIONS.get(step.function)
        return self.unknown(step) if operation is None else operation(self, step)

    def _checked(self, step: Step, results: Sequence[Value]) -> list[Value]:
        """The results, replaced by unknown ones where their shape is not what JAX says.

        What no input is left in, as where a mask hides all of it, is numbers like any others.
        """
        fitting = [
            made if made.shape == shape else self.unknown(replace(step, inputs=(made,), shapes=(shape,)))[0]
            for made, shape in zip(results, step.shapes, strict=True)
        ]
        return [Fixed(made.root) if isinstance(made, Pointwise) and made.root.is_constant else made for made in fitting]

    def unknown(self, step: Step, what: str = "") -> list[Value]:
        """The results of what is not known by name."""
        parts = [self.ledger.array(each) for each in step.inputs]
        name, module = self.called((), step.scope, what or step.function)
        return [
            Pointwise(self.recorder.unknown(parts, shape, name, module), step.scope)
            if any(not each.is_constant for each in parts)
            else Fixed(self.recorder.constant(shape))
            for shape in step.shapes
        ]

    def _call(self, step: Step, used: Sequence[bool]) -> Sequence[Value]:
        body = called_by(step.parameters)
        name = _name_of(step, body)
        units = [each for each in step.inputs if not isinstance(each, Fixed)]
        scores = len(units) == 1 and isinstance(units[0], Pointwise) and any(map(ax.scores_of, units[0].root.axes))
        if name and not scores and len(units) == 1 and step.shapes == (units[0].shape,) and _is_pointwise(body):
            weights = tuple([one for each in step.inputs if isinstance(each, Fixed) for one in each.weights])
            if isinstance(units[0], Pointwise):
                return [self.ledger.named(name, units[0], step.scope, weights)]
        return self.run(body, step.inputs, step.scope, used)

    def _cond(self, step: Step) -> Sequence[Value]:
        branches, which = step.parameters["branches"], step.inputs[0]
        if not isinstance(which, Fixed) or which.numbers is None:
            return self.unknown(step)
        index = min(max(int(which.numbers), 0), len(branches) - 1)
        return self.run(branches[index], step.inputs[1:], step.scope)

    # Loops.

    def _scan(self, step: Step, used: Sequence[bool]) -> Sequence[Value]:
        parameters = step.parameters
        constants, carries = parameters["num_consts"], parameters["num_carry"]
        over = step.inputs[constants + carries :]
        if any(not isinstance(each, Fixed) for each in over):
            return self._recurrent(step, constants, carries, used)
        self._unrolled += parameters["length"] * _length(parameters["jaxpr"])
        if self._unrolled > MAX_UNROLLED:
            return self.unknown(step, f"scan of {parameters['length']} steps")
        turns = range(parameters["length"])
        carried, rows = list(step.inputs[constants : constants + carries]), []
        trail = self._trail
        for turn in reversed(turns) if parameters["reverse"] else turns:
            layer = [self._layer(each, turn) for each in over]
            self._trail = (*trail, turn)
            results = self.run(parameters["jaxpr"], [*step.inputs[:constants], *carried, *layer], step.scope)
            carried = results[:carries]
            rows.append(results[carries:])
        if parameters["reverse"]:
            rows.reverse()
        stacked = [
            self._stacked([row[place] for row in rows], shape, step)
            if used[carries + place]
            else Fixed(self.recorder.constant(shape))
            for place, shape in enumerate(step.shapes[carries:])
        ]
        return [*carried, *stacked]

    def _layer(self, stack: Value, turn: int) -> Fixed:
        """One of the arrays that were stacked for a loop; one of weights is an array of weights by itself."""
        assert isinstance(stack, Fixed)
        shape = stack.shape[1:]
        if len(stack.weights) == 1 and stack.weights[0].shape == stack.shape:
            whole = stack.weights[0]
            self.stacks.add(whole.identity)
            parent, dot, name = whole.identity.rpartition(".")
            identity = f"{parent}.{turn}.{name}" if dot else f"{name}.{turn}"
            if parent in self._crowded:
                self._crowded.add(f"{parent}.{turn}")
            return Fixed(self.recorder.weight(identity, shape, whole.trainable))
        numbers = None if stack.numbers is None else stack.numbers[turn]
        return Fixed(self.recorder.constant(shape, stack.weights), numbers)

    def _stacked(self, rows: Sequence[Value], shape: Shape, step: Step) -> Value:
        if all(isinstance(each, Fixed) for each in rows):
            return Fixed(self.recorder.constant(shape))
        name, module = self.called((), step.scope, "stack")
        parts = [self.recorder.reshape(self.ledger.array(each), (1, *each.shape)) for each in rows]
        return Pointwise(self.recorder.concatenate(parts, 0, name, module), step.scope)

    def _recurrent(self, step: Step, constants: int, carries: int, used: Sequence[bool]) -> Sequence[Value]:
        """A scan over the input: its work is that of one step, written down apart, times their number."""
        body, length = step.parameters["jaxpr"], step.parameters["length"]
        over = step.inputs[constants + carries :]
        parts = [self.ledger.array(each) for each in over]
        units = [each for each in parts if not each.is_constant]
        along = [each for each in units if len(each.axes[0]) <= 1]
        others = [self.ledger.array(each) for each in step.inputs[: constants + carries]]
        if (
            len(units) != 1
            or not along
            or any(ax.has_positions(axis) for axis in units[0].axes[1:])
            or any(not each.is_constant and ax.has_positions(axis) for each in others for axis in each.axes)
        ):
            return self.unknown(step, "scan over several axes of positions")
        apart = Recorder()
        inner = Walk(apart, self._constant, self._within, self._crowded)
        arguments: list[Value] = []
        for place, (value, array) in enumerate(zip(step.inputs, [*others, *parts], strict=True)):
            shape = array.shape[1:] if place >= constants + carries else array.shape
            stays = isinstance(value, Fixed) and not constants <= place < constants + carries
            arguments.append(Fixed(apart.constant(shape, array.weights)) if stays else Pointwise(apart.input(shape)))
        for each in inner.run(body, arguments, step.scope):
            inner.ledger.array(each)
        operations = apart.graph().operations
        if unknown := next((each.name for each in operations if each.kind is Kind.UNKNOWN), None):
            return self.unknown(step, f"scan of {unknown}")
        work = count(apart.graph())
        weights = [weight for each in operations for weight in each.weights]
        wanted = [place for place, each in enumerate(used) if each]
        shown = next((place for place in reversed(wanted) if place >= carries), wanted[0])
        shape = step.shapes[shown]
        name, module = self.called(weights, step.scope, "scan")
        macs = length * sum(each.macs for each in work)
        layer = self.recorder.recurrent(
            units[0], 0, shape, macs, [self.recorder.constant((), weights)], name, module,
            reverse=bool(step.parameters["reverse"]), states=others, steps=shown >= carries,
        )  # fmt: skip
        return [
            Pointwise(self._result(layer, place, shown, carries, own, (name, module)), step.scope)
            if need
            else Fixed(self.recorder.constant(own))
            for place, (own, need) in enumerate(zip(step.shapes, used, strict=True))
        ]

    def _result(
        self, layer: Array, place: int, shown: int, carries: int, shape: Shape, named: tuple[str, str]
    ) -> Array:
        """One of the results of a recurrent layer: the one that is its row, its last state, or other steps."""
        if place == shown or layer.is_constant:
            return layer
        return self.recorder.state(layer, 0, shape) if place < carries else self.recorder.steps(layer, shape, *named)


def called_by(parameters: Mapping[str, Any]) -> Any:
    """The jaxpr of the function that an equation calls."""
    return next(parameters[key] for key in _BODIES if key in parameters)


def _array_of(value: Value) -> Array | None:
    """The array of the recorder that a value is, if it was written down."""
    if isinstance(value, Fixed):
        return None
    if isinstance(value, Statistic):
        return None if value.written is None else _array_of(value.written)
    return value.root if value.is_root else value.written


def _is_real(equation: Any) -> bool:
    kinds = [getattr(getattr(each.aval, "dtype", None), "kind", "V") for each in equation.invars]
    return not kinds or any(kind not in "biu" for kind in kinds if kind != "V")


def _used(jaxpr: Any, wanted: Sequence[bool]) -> list[list[bool]]:
    """Which results of every equation somebody uses."""
    needed = {each for each, want in zip(jaxpr.outvars, wanted, strict=True) if want and not hasattr(each, "val")}
    found = []
    for equation in reversed(jaxpr.eqns):
        used = [each in needed for each in equation.outvars]
        if any(used):
            needed.update(each for each in equation.invars if not hasattr(each, "val"))
        found.append(used)
    found.reverse()
    return found


def _name_of(step: Step, body: Any) -> str:
    """The name of the function that is called, where it is one that people know."""
    name = str(step.parameters.get("name") or "")
    equations = getattr(body, "jaxpr", body).eqns
    if not name and len(equations) == 1:  # a function with a rule of its own around one that is compiled
        name = str(equations[0].params.get("name") or "")
    return "" if _NOT_NAMES.search(name) else name


def _is_pointwise(body: Any) -> bool:
    """Whether a jaxpr only computes value by value, with real numbers, and does something at all."""
    equations = list(_inner(body))
    return any(each.primitive.name not in PLAIN for each in equations) and all(
        each.primitive.name in POINTWISE or each.primitive.name in ("broadcast_in_dim", "iota") for each in equations
    )


def _inner(body: Any) -> Iterable[Any]:
    for equation in getattr(body, "jaxpr", body).eqns:
        if equation.primitive.name in _CALLS:
            yield from _inner(called_by(equation.params))
        else:
            yield equation


def _length(body: Any) -> int:
    return sum(1 for _ in _inner(body))


def _shared(paths: Sequence[Sequence[str]]) -> list[str]:
    """The names with which all paths begin, without the last name of any."""
    shared = []
    for names in zip(*(path[:-1] for path in paths), strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return shared


def _inside(name: str) -> str:
    """A name without the transformations around it, such as `vmap(...)`."""
    while found := _AROUND.match(name):
        name = found.group(1)
    return name

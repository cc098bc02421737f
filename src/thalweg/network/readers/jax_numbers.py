"""Arithmetic of the small constants in a JAX program: indices, masks and tables of interpolation, in NumPy.

Nothing is compiled for them, and what is large or made with other functions stays unknown.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thalweg.network.readers.masks import MOST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[Any]

Shape = tuple[int, ...]

MAX_KNOWN = MOST
"""The most numbers of a constant that are kept."""


def held(value: object) -> Numbers | None:
    """The numbers of an array or a scalar, None where they are many or of another kind, such as random keys."""
    import numpy as np

    if isinstance(value, bool | int | float):
        return np.asarray(value)
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    small = math.prod(getattr(value, "shape", ())) <= MAX_KNOWN
    return np.asarray(value) if small and kind in tuple("biuf") else None


def computed(
    function: str, parameters: Mapping[str, Any], shape: Shape, numbers: Sequence[Numbers | None]
) -> Numbers | None:
    """What an equation makes of known numbers; None where they are not all known, or the function is not.

    Args:
        function: the name of its primitive.
        parameters: those of the primitive.
        shape: of the result.
        numbers: its arguments.
    """
    import numpy as np

    known = [each for each in numbers if each is not None]
    apply = _functions().get(function)
    shown = function == "broadcast_in_dim"  # without a place for each number
    if apply is None or len(known) < len(numbers) or (math.prod(shape) > MAX_KNOWN and not shown):
        return None
    with np.errstate(all="ignore"):
        made = np.asarray(apply(parameters, shape, *known))
    return made if made.shape == shape else None


def left_in(
    function: str,
    parameters: Mapping[str, Any],
    shape: Shape,
    numbers: Sequence[Numbers | None],
    kept: Sequence[Numbers | None],
) -> Numbers | None:
    """Where what an equation makes of weights and known numbers is not 0, as truth values; None where it may be any.

    Args:
        function: the name of its primitive.
        parameters: those of the primitive.
        shape: of the result.
        numbers: its arguments, None for weights.
        kept: where these are not 0; None where they may be anything.
    """
    import numpy as np

    told = [left if each is None else each != 0 for each, left in zip(numbers, kept, strict=True)]
    if function == "select_n":
        told[0] = numbers[0]
    if all(each is None for each in told) or function not in _KEEPS or math.prod(shape) > MAX_KNOWN:
        return None
    whole = [np.ones((), bool) if each is None else each for each in told]
    if function == "mul":
        made: Numbers = np.broadcast_to(whole[0] & whole[1], shape)
    elif told[0] is None:  # what is chosen by weights
        return None
    else:
        made = _functions()[function](parameters, shape, *whole)
    return None if made.all() else made


_KEEPS = frozenset({"broadcast_in_dim", "mul", "reshape", "select_n", "slice", "squeeze", "transpose"})
"""Of 0 they make 0."""


@functools.cache
def _functions() -> Mapping[str, Callable[..., Any]]:
    import numpy as np

    alike: dict[str, Callable[..., Any]] = {
        "abs": np.abs, "add": np.add, "and": np.bitwise_and, "ceil": np.ceil, "copy": np.asarray, "cos": np.cos,
        "eq": np.equal, "exp": np.exp, "floor": np.floor, "ge": np.greater_equal, "gt": np.greater,
        "le": np.less_equal, "log": np.log, "lt": np.less, "max": np.maximum, "min": np.minimum, "mul": np.multiply,
        "ne": np.not_equal, "neg": np.negative, "not": np.invert, "or": np.bitwise_or, "pow": np.power,
        "rem": np.fmod, "round": np.round, "sign": np.sign, "sin": np.sin, "sqrt": np.sqrt, "square": np.square,
        "stop_gradient": np.asarray, "sub": np.subtract,
    }  # fmt: skip

    def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda parameters, shape, *numbers: function(*numbers)

    return {
        **{name: plainly(function) for name, function in alike.items()},
        "broadcast_in_dim": _broadcast,
        "clamp": lambda parameters, shape, low, x, high: np.clip(x, low, high),
        "concatenate": lambda parameters, shape, *x: np.concatenate(x, parameters["dimension"]),
        "convert_element_type": lambda parameters, shape, x: x.astype(parameters["new_dtype"]),
        "div": _quotient,
        "integer_pow": lambda parameters, shape, x: x ** parameters["y"],
        "iota": _counted,
        "reduce_sum": lambda parameters, shape, x: x.sum(tuple([int(axis) for axis in parameters["axes"]])),
        "reshape": lambda parameters, shape, x: x.reshape(shape),
        "select_n": _selected,
        "slice": _slice,
        "squeeze": lambda parameters, shape, x: x.reshape(shape),
        "transpose": lambda parameters, shape, x: x.transpose(parameters["permutation"]),
    }


def _broadcast(parameters: Mapping[str, Any], shape: Shape, x: Numbers) -> Numbers:
    import numpy as np

    between = [1] * len(shape)
    for place, extent in zip(parameters["broadcast_dimensions"], x.shape, strict=True):
        between[place] = extent
    return np.broadcast_to(x.reshape(between), shape)


def _quotient(parameters: Mapping[str, Any], shape: Shape, x: Numbers, y: Numbers) -> Numbers:
    import numpy as np

    exact: Numbers = np.divide(x, y)
    return exact if x.dtype.kind == "f" else np.trunc(exact).astype(x.dtype)


def _counted(parameters: Mapping[str, Any], shape: Shape) -> Numbers:
    import numpy as np

    axis = parameters["dimension"]
    line = np.arange(shape[axis]).astype(parameters["dtype"])
    return np.broadcast_to(line.reshape([-1 if place == axis else 1 for place in range(len(shape))]), shape)


def _selected(parameters: Mapping[str, Any], shape: Shape, which: Numbers, *cases: Numbers) -> Numbers:
    import numpy as np

    chosen: Numbers = np.choose(np.broadcast_to(which.astype(int), shape), [np.broadcast_to(x, shape) for x in cases])
    return chosen


def _slice(parameters: Mapping[str, Any], shape: Shape, x: Numbers) -> Numbers:
    starts, stops = parameters["start_indices"], parameters["limit_indices"]
    strides = parameters["strides"] or (1,) * x.ndim
    return x[tuple([slice(*each) for each in zip(starts, stops, strides, strict=True)])]

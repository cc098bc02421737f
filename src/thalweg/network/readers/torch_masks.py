"""What PyTorch's operations hide: masks that fill, choose, add low numbers or multiply with 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from thalweg.network.readers.arrays import Array
from thalweg.network.readers.masks import LOW, Mask, of_bias, of_choice, of_product, of_sum, of_triangle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = Callable[[Array], NDArray[Any] | None]


def mask_of(operation: str, arguments: Sequence[Any], numbers: Numbers, alpha: float = 1) -> Mask | None:
    """What an operation hides of the only argument that depends on an input; None where it is no mask.

    Args:
        operation: its name in ATen.
        arguments: its arguments.
        numbers: what is known of those that depend on no input.
        alpha: by what the second one of a sum or a difference is multiplied.
    """
    if operation in ("add", "sub"):
        return _added(arguments, numbers, alpha if operation == "add" else -alpha)
    return _MASKS.get(operation, _unfollowed)(arguments, numbers)


def turns(operation: str, arguments: Sequence[Any], alpha: float = 1) -> bool:
    """Whether an operation makes high numbers of low ones, or others of 0: in a subtrahend, or a divisor."""
    last = isinstance(arguments[-1], Array) and not arguments[-1].is_constant
    if operation == "add":
        return alpha <= 0
    if operation == "rsub":
        return isinstance(arguments[0], Array) and not arguments[0].is_constant
    return operation in ("sub", "div", "true_divide") and len(arguments) > 1 and last


def of_scores(bias: Array, numbers: Numbers, factor: float = 1) -> Mask | None:
    """What is hidden of scores by what is added to them, or by truth values that stand for it."""
    known = numbers(bias) if bias.is_constant else None
    if (bias.is_constant and bias.weights and known is None) or factor == 0:  # learned, or not added at all
        return None
    return of_bias(known if known is None or factor == 1 else known * factor)


def _unfollowed(arguments: Sequence[Any], numbers: Numbers) -> Mask | None:
    """That of a table in an operation that is not known to hide: of nothing, unless it holds 0 or something large."""
    tables = [each for each in arguments if isinstance(each, Array) and each.is_constant and not each.weights]
    known = [numbers(each) for each in tables if math.prod(each.shape) > 1]
    plain = all(each is not None and ((each != 0) & (abs(each) < -LOW)).all() for each in known)
    return None if plain else Mask(None)


def _filled(arguments: Sequence[Any], numbers: Numbers) -> Mask | None:
    x, mask, value = arguments[:3]
    if x.is_constant or not mask.is_constant:
        return None
    hidden = numbers(mask)
    return of_choice(None if hidden is None else hidden == 0, _number(value, numbers))


def _chosen(arguments: Sequence[Any], numbers: Numbers) -> Mask | None:
    if len(arguments) != 3 or not arguments[0].is_constant:
        return None
    condition, *cases = arguments
    units = [isinstance(each, Array) and not each.is_constant for each in cases]
    if sum(units) != 1:
        return None
    first = numbers(condition)
    chosen = None if first is None else first != 0 if units[0] else first == 0
    return of_choice(chosen, _number(cases[units[0]], numbers))


def _added(arguments: Sequence[Any], numbers: Numbers, factor: float = 1) -> Mask | None:
    other = _partner(arguments, numbers)
    known = None if other is None else numbers(other)
    if known is None or other is arguments[0]:
        return None if other is None else of_sum(known)
    return of_sum(known * factor)


def _multiplied(arguments: Sequence[Any], numbers: Numbers) -> Mask | None:
    other = _partner(arguments)
    return None if other is None else of_product(numbers(other))


def _partner(arguments: Sequence[Any], numbers: Numbers = lambda _: None) -> Array | None:
    """The argument that holds numbers, several, and not learned unless it is known where a mask hides them."""
    constants = [each for each in arguments[:2] if isinstance(each, Array) and each.is_constant]
    if len(constants) != 1 or math.prod(constants[0].shape) < 2:
        return None
    return None if constants[0].weights and numbers(constants[0]) is None else constants[0]


def _number(value: Any, numbers: Numbers) -> NDArray[Any] | float | None:
    """What stands where values are hidden, where that is known."""
    if not isinstance(value, Array):
        return float(value)
    return numbers(value) if value.is_constant else None


def _triangle(upper: bool) -> Callable[[Sequence[Any], Numbers], Mask]:
    def of(arguments: Sequence[Any], numbers: Numbers) -> Mask:
        x, diagonal = arguments[0], arguments[1] if len(arguments) > 1 else 0
        return of_triangle(x.shape[-2:], diagonal, upper)

    return of


_MASKS: dict[str, Callable[[Sequence[Any], Numbers], Mask | None]] = {
    "masked_fill": _filled,
    "where": _chosen,
    "mul": _multiplied,
    "tril": _triangle(upper=False),
    "triu": _triangle(upper=True),
}

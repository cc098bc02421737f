"""Batches of inputs that a user gives, checked before a network runs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.graph import written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def numbers_of(given: Any) -> NDArray[np.float64]:
    """A batch as a new array of float64.

    Raises:
        InputError: it is no array of numbers.
    """
    import numpy as np

    try:
        return np.array(given, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("The inputs must be an array of numbers, the batch first.") from error


def check_batch(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Nothing where this is the shape of a batch of at least one input of the wanted shape.

    Raises:
        InputError: it is not.
    """
    if not shape or shape[1:] != wanted or not shape[0]:
        told = written(shape) or "a single number"
        raise InputError(f"The inputs must be a batch of {written(wanted)} each, not {told}.")

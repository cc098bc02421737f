"""Inputs for a network that runs: batches that a user gives, checked before, or random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from thalweg.errors import InputError
from thalweg.network.graph import Tensor, written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


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


def batches_of(given: Any, takes: Sequence[Tensor], read: Callable[[Any], T]) -> list[T]:
    """A batch for every input of a network, all of the same length.

    Args:
        given: a batch for every input, or the batch of the only one.
        takes: the inputs.
        read: makes an array of a batch.

    Raises:
        InputError: they do not fit the inputs, or `read` refuses one.
    """
    parts = list(given) if len(takes) > 1 and isinstance(given, tuple | list) else [given]
    if len(parts) != len(takes):
        raise InputError(f"The network takes {len(takes)} inputs; give a sequence of as many batches.")
    batches: list[Any] = []
    for part, tensor in zip(parts, takes, strict=True):
        batch: Any = read(part)
        _check(tuple(batch.shape), tensor.shape)
        batches.append(batch)
    if len({len(each) for each in batches}) > 1:
        raise InputError("The batches of the inputs differ in length.")
    return batches


def examples(
    given: Any, takes: Sequence[Tensor], looked_up: frozenset[int], samples: int, seed: int
) -> Iterator[list[NDArray[np.float64]]]:
    """One example after the other, as a batch of one for every input.

    Args:
        given: as for `batches_of`; None for standard normal numbers, and zeros for inputs that are looked up.
        takes: the inputs.
        looked_up: the ids of those that are the numbers of rows in a table.
        samples: how many random examples.
        seed: of the random examples.

    Raises:
        InputError: as for `batches_of`, with the first example.
    """
    import numpy as np

    batches = None if given is None else batches_of(given, takes, numbers_of)
    draw = np.random.default_rng(seed)
    for number in range(samples if batches is None else len(batches[0])):
        if batches is not None:
            yield [batch[number : number + 1] for batch in batches]
        else:
            shapes = [(each.id in looked_up, (1, *each.shape)) for each in takes]
            yield [np.zeros(shape) if rows else draw.standard_normal(shape) for rows, shape in shapes]


def _check(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if not shape or shape[1:] != wanted or not shape[0]:
        told = written(shape) or "a single number"
        raise InputError(f"The inputs must be a batch of {written(wanted)} each, not {told}.")

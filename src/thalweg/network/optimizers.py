"""What optimizers remember of every parameter from one step to the next.

A state that has the shape of the parameter costs as much as the parameter. Adafactor keeps one number for each row and
each column of a matrix instead (N. Shazeer and M. Stern, "Adafactor", 2018). Each entry says what PyTorch's
`torch.optim` allocates, step counters of four bytes apart; Lion is not among those and follows X. Chen et al.,
"Symbolic discovery of optimization algorithms", 2023, algorithm 2.

>>> state_size("adam", (3, 4)), state_size("sgd", (3, 4)), state_size("adafactor", (3, 4))
(24, 0, 7)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from thalweg.errors import InputError, unknown_name

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One way to update parameters.

    Args:
        name: what people call it.
        copies: how many numbers it keeps for each parameter.
        keeps: what they are.
        torch: its class in `torch.optim`; empty where there is none.
        options: what that class is given.
        counts: whether PyTorch also keeps a counter of steps for each array.
        factored: whether matrices are kept as their rows and columns.
    """

    name: str
    copies: int
    keeps: str
    torch: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    counts: bool = False
    factored: bool = False


_ALL = (
    Optimizer("sgd", 0, "nothing", "SGD"),
    Optimizer("momentum", 1, "the velocity", "SGD", {"momentum": 0.9}),
    Optimizer("nesterov", 1, "the velocity", "SGD", {"momentum": 0.9, "nesterov": True}),
    Optimizer("adagrad", 1, "the sum of squared gradients", "Adagrad", counts=True),
    Optimizer("rmsprop", 1, "the mean of squared gradients", "RMSprop", counts=True),
    Optimizer("adadelta", 2, "the means of squared gradients and of squared steps", "Adadelta", counts=True),
    Optimizer("adam", 2, "the means of gradients and of their squares", "Adam", counts=True),
    Optimizer("adamw", 2, "the means of gradients and of their squares", "AdamW", counts=True),
    Optimizer("amsgrad", 3, "those of Adam and the largest of the second", "Adam", {"amsgrad": True}, counts=True),
    Optimizer("adamax", 2, "the mean of gradients and the largest of them", "Adamax", counts=True),
    Optimizer("nadam", 2, "the means of gradients and of their squares", "NAdam", counts=True),
    Optimizer("radam", 2, "the means of gradients and of their squares", "RAdam", counts=True),
    Optimizer("lion", 1, "the mean of gradients"),
    Optimizer("adafactor", 1, "means of squared gradients by row and by column", "Adafactor", counts=True,
              factored=True),
)  # fmt: skip

OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType({each.name: each for each in _ALL})
"""Every optimizer whose memory is known, by name."""


def optimizer_named(name: str) -> Optimizer:
    """The optimizer of that name, whatever its capitals.

    Raises:
        InputError: there is none.
    """
    if not isinstance(name, str):
        raise InputError(f"An optimizer is given by its name, such as 'adam', not by {name!r}.")
    found = OPTIMIZERS.get(name.strip().lower())
    if found is None:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    return found


def state_size(name: str, shape: Shape) -> int:
    """How many numbers an optimizer keeps for one array of parameters."""
    optimizer = optimizer_named(name)
    if optimizer.factored and len(shape) > 1:
        *front, rows, columns = shape
        return optimizer.copies * math.prod(front) * (rows + columns)
    return optimizer.copies * math.prod(shape)

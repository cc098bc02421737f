"""What a task is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thalweg.errors import InputError
from thalweg.training import Training


@dataclass(frozen=True, eq=False)
class Task:
    """A training run together with what it is for.

    Args:
        training: the run, as a function of its hyperparameters.
        hyper: the hyperparameters it starts from, any pytree of floats.
        objective: `params -> scalar`, what the run should make small, such as the loss on validation examples; with
            `has_state` `(params, state) -> scalar`.
        test: the same on examples that nobody chose anything by; None where there are none.

    Raises:
        InputError: training is no Training, or objective or test is not callable.
    """

    training: Training
    hyper: Any
    objective: Callable[..., Any]
    test: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.training, Training):
            raise InputError(f"A Task's training must be a tw.Training, but it is a {type(self.training).__name__}.")
        for name in ("objective", "test"):
            value = getattr(self, name)
            if not (callable(value) or (name == "test" and value is None)):
                raise InputError(f"A Task's {name} must be a function, but it is a {type(value).__name__}.")

"""One step of training as a sequence of moments, each with the bytes that are held then.

A step runs forward, keeping activations for the way back; backward, where activations go and gradients come; and
updates the weights. The most that is held at any one moment is what a machine needs: less than the sum of all parts,
because the gradients come while the activations go.

    >>> Setup.of(batch=32, dtype="BF16", optimizer="AdamW")
    Setup(batch=32, dtype='bfloat16', optimizer='adamw', checkpointing=False, device='cpu')
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from thalweg.errors import InputError, unknown_name
from thalweg.network.optimizers import optimizer_named

FORWARD, BACKWARD, UPDATE, INFERENCE = "forward pass", "backward pass", "update", "inference"
PHASES = (FORWARD, BACKWARD, UPDATE)

MAX_BATCH = 1 << 40
"""No batch is larger: a trillion examples are more than there are."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Which numbers a network is trained in.

    Args:
        weight: bytes of a weight, of its gradient and of each number the optimizer keeps for it.
        unit: bytes of an activation.
        weights_in: the name of the type of weights.
        computed_in: the name of the type that layers compute in, where that is another one.
    """

    weight: int
    unit: int
    weights_in: str
    computed_in: str | None = None

    @property
    def mixed(self) -> bool:
        """Whether layers compute with copies of their weights in another type."""
        return self.computed_in is not None


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        "float32": Precision(4, 4, "float32"),
        "float64": Precision(8, 8, "float64"),
        "bfloat16": Precision(2, 2, "bfloat16"),
        "float16": Precision(2, 2, "float16"),
        "mixed-bfloat16": Precision(4, 2, "float32", "bfloat16"),
        "mixed-float16": Precision(4, 2, "float32", "float16"),
    }
)
"""Every type by name. In the plain ones all numbers are of that type; in the mixed ones weights, their gradients and
the optimizer's numbers are float32, and layers compute with half-precision copies (PyTorch's autocast)."""

DEVICES = ("cpu", "cuda")

_ALSO = {
    "fp32": "float32", "f32": "float32", "fp64": "float64", "f64": "float64", "double": "float64",
    "bf16": "bfloat16", "fp16": "float16", "f16": "float16", "half": "float16",
    "mixed": "mixed-bfloat16", "mixed-bf16": "mixed-bfloat16", "mixed-fp16": "mixed-float16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setup:
    """How a network is trained.

    Args:
        batch: how many examples a step sees.
        dtype: a name in `PRECISIONS`.
        optimizer: a name in `thalweg.network.optimizers.OPTIMIZERS`.
        checkpointing: whether activations are computed again on the way back instead of kept; for PyTorch modules also
            the paths of those that are.
        device: `"cpu"`, or `"cuda"`, where optimizers update all arrays together and need more room for it.
    """

    batch: int = 1
    dtype: str = "float32"
    optimizer: str = "adam"
    checkpointing: bool | tuple[str, ...] = False
    device: str = "cpu"

    @property
    def precision(self) -> Precision:
        """The numbers it is trained in."""
        return PRECISIONS[self.dtype]

    @classmethod
    def of(
        cls,
        batch: int = 1,
        dtype: str = "float32",
        optimizer: str = "adam",
        checkpointing: bool | Sequence[str] = False,
        device: str = "cpu",
    ) -> Setup:
        """A setup of what a person gave.

        Raises:
            InputError: the batch is not a positive whole number, or a name is not known.
        """
        try:
            examples = operator.index(batch)
        except TypeError:
            raise InputError(f"The batch must be a whole number of examples, not {batch!r}.") from None
        if not 1 <= examples <= MAX_BATCH:
            raise InputError(f"A batch of {examples:,} cannot be trained; give 1 to {MAX_BATCH:,} examples.")
        if not isinstance(dtype, str):
            raise InputError(f"A type of numbers is given by its name, such as 'float32', not by {dtype!r}.")
        name = dtype.strip().lower()
        name = _ALSO.get(name, name)
        if name not in PRECISIONS:
            raise unknown_name("type of numbers", dtype, PRECISIONS)
        if not isinstance(checkpointing, bool):
            checkpointing = (checkpointing,) if isinstance(checkpointing, str) else tuple(checkpointing)
        place = device.strip().lower() if isinstance(device, str) else device
        if place not in DEVICES:
            raise unknown_name("device", str(device), DEVICES)
        return cls(examples, name, optimizer_named(optimizer).name, checkpointing, place)


@dataclass(frozen=True, slots=True)
class Moment:
    """What is held at one moment, besides the weights and what the optimizer remembers.

    Args:
        phase: of the step: one of `PHASES`, or `INFERENCE`.
        gradients: bytes of the weights' gradients that exist by then.
        others: bytes of activations, their gradients, inputs and working space.
    """

    phase: str
    gradients: int
    others: int

    @property
    def held(self) -> int:
        """Both together."""
        return self.gradients + self.others


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """The memory of one training step, or of a forward pass without one.

    Args:
        weights: bytes of parameters and of other arrays of the network, such as running means.
        gradients: bytes of the gradients of all weights that are trained.
        state: bytes of what the optimizer remembers.
        saved: bytes of activations that are kept from the forward pass for the backward pass, each array once.
        moments: what is held as the step goes on; at least one.
    """

    weights: int
    gradients: int
    state: int
    saved: int
    moments: tuple[Moment, ...]

    @property
    def peak(self) -> int:
        """The most bytes held at one moment."""
        return max(self.held)

    @property
    def held(self) -> tuple[int, ...]:
        """The bytes held at every moment."""
        return tuple([self.weights + self.state + each.held for each in self.moments])

    def worst(self, phase: str) -> Moment:
        """The moment of a phase at which the most is held."""
        return max((each for each in self.moments if each.phase == phase), key=lambda each: each.held)

"""Update rules: how each optimizer turns a gradient into the direction of its next step.

Each rule is written once, for whatever arrays it is given: NumPy's in literal runs, JAX's in compiled ones.

>>> import numpy as np
>>> AdaGrad(epsilon=0).direction(np.array([-6.0, -12.0]), (np.zeros(2),))[0].tolist()
[-1.0, -1.0]
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError
from thalweg.least_squares import Vector

State: TypeAlias = tuple[Any, ...]


class Scale(NamedTuple):
    """What a rule may take its default rate from.

    Attributes:
        curvature: the largest eigenvalue of the Hessian of any batch, or a bound on it.
        distance: how far the nearest minimiser is from the start; 1 where the start is one.
        d: the number of weights.
        full_batch: whether every step sees every example.
        farthest: the largest weight of the start, without its sign.
    """

    curvature: float
    distance: float
    d: int
    full_batch: bool
    farthest: float = 0.0


def _namespace(array: Any) -> Any:
    """NumPy or JAX's NumPy, whichever made the array."""
    return array.__array_namespace__()


@dataclass(frozen=True)
class Rule:
    """How gradients become steps: `w <- w - rate * direction`, where a rule says nothing else.

    Its fields are its settings. `keeps_row_space` says whether every direction is a combination of the gradients
    seen so far, so that the run cannot leave `w0 +` the row space of X; None where that is not known. `state_names`
    names the vectors of its state, in order.
    """

    keeps_row_space: ClassVar[bool | None] = True
    state_names: ClassVar[tuple[str, ...]] = ()

    def begin(self, d: int) -> State:
        """The state before the first step."""
        return ()

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """The direction of the next step `(d,)`, and the state after it."""
        raise NotImplementedError

    def direction_at(self, w: Vector, gradient: Vector, state: State) -> tuple[Vector, State]:
        """The direction of the next step from the weights w; most rules look at the gradient only."""
        return self.direction(gradient, state)

    def step(self, w: Vector, gradient: Vector, state: State, rate: Any) -> tuple[Vector, State]:
        """The weights and the state after a step."""
        direction, after = self.direction_at(w, gradient, state)
        return w - rate * direction, after

    def settings(self) -> dict[str, Any]:
        """What the rule depends on, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def stability_limit(self, curvature: float) -> float | None:
        """The constant rate above which full-batch steps diverge; None where there is no such rate."""
        return None

    def default_rate(self, scale: Scale) -> float:
        """A rate that does not diverge and that scaling X or t does not change the meaning of."""
        raise NotImplementedError

    def error_gain(self, rate: float, curvature: float, flattest: float) -> float:
        """About how far an error of length 1 in one gradient moves the weights in the end.

        Args:
            rate: the learning rate.
            curvature: the largest eigenvalue of the Hessian.
            flattest: the smallest one that is not zero.
        """
        return 1 / curvature  # methods that choose their own scale settle near the edge of stability


@dataclass(frozen=True)
class Gradient(Rule):
    """The gradient itself: gradient descent, and SGD where batches are smaller."""

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g`."""
        return gradient, state

    def stability_limit(self, curvature: float) -> float:
        """`2 / lambda_max`."""
        return 2 / curvature

    def default_rate(self, scale: Scale) -> float:
        """Half the stability limit."""
        return 1 / scale.curvature

    def error_gain(self, rate: float, curvature: float, flattest: float) -> float:
        """The rate."""
        return rate


@dataclass(frozen=True)
class Preconditioned(Gradient):
    """The gradient through a fixed positive definite matrix: the solution is the nearest one in the `P^-1` norm.

    Args:
        P: the matrix, `(d, d)`, or its diagonal, `(d,)`.

    Raises:
        InputError: P is not symmetric positive definite.
    """

    P: NDArray[np.float64]
    keeps_row_space: ClassVar[bool] = False

    def __post_init__(self) -> None:
        P = np.asarray(self.P, dtype=np.float64)
        object.__setattr__(self, "P", P)
        symmetric = P.ndim == 1 or (P.ndim == 2 and P.shape[0] == P.shape[1] and np.array_equal(P, P.T))
        if (
            not (symmetric and P.size and np.isfinite(P).all())
            or np.min(P if P.ndim == 1 else np.linalg.eigvalsh(P)) <= 0
        ):
            raise InputError("P must be a symmetric positive definite matrix, or the diagonal of one, all positive.")

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`P g`."""
        return self.P @ gradient if self.P.ndim == 2 else self.P * gradient, state

    def factor(self) -> NDArray[np.float64]:
        """`C (d, d)` with `P = C C^T`: in `u = C^-1 w` the steps are those of plain gradient descent."""
        return np.asarray(
            np.linalg.cholesky(self.P) if self.P.ndim == 2 else np.diag(np.sqrt(self.P)), dtype=np.float64
        )


@dataclass(frozen=True)
class Normalised(Rule):
    """The gradient's direction without its length: steps as long as the rate says, which therefore has to fall."""

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g / ||g||`."""
        xp = _namespace(gradient)
        length = xp.sqrt(gradient @ gradient)
        return gradient / xp.where(length > 0, length, 1.0), state

    def default_rate(self, scale: Scale) -> float:
        """A tenth of the way to the nearest minimiser."""
        return scale.distance / 10

    def error_gain(self, rate: float, curvature: float, flattest: float) -> float:
        """The inverse of the smallest curvature: errors count relative to a gradient of about `flattest x rate`."""
        return 1 / flattest


@dataclass(frozen=True)
class HeavyBall(Rule):
    """Momentum: `v <- momentum v + g`, direction `v` (fact F1.4, whose velocity is `-rate v`)."""

    momentum: float = 0.9
    state_names: ClassVar[tuple[str, ...]] = ("v",)

    def begin(self, d: int) -> State:
        """`v = 0`."""
        return (np.zeros(d),)

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`v`."""
        (v,) = state
        v = self.momentum * v + gradient
        return v, (v,)

    def stability_limit(self, curvature: float) -> float:
        """`2 (1 + momentum) / lambda_max`."""
        return 2 * (1 + self.momentum) / curvature

    def default_rate(self, scale: Scale) -> float:
        """That of plain gradient descent; on small batches less, as the velocity adds up many of their steps."""
        return (1 if scale.full_batch else 1 - self.momentum) / scale.curvature

    def error_gain(self, rate: float, curvature: float, flattest: float) -> float:
        """The rate of all the steps that a velocity carries an error on."""
        return rate / (1 - self.momentum)


@dataclass(frozen=True)
class Nesterov(HeavyBall):
    """Nesterov's momentum: `v <- momentum v + g`, direction `g + momentum v`.

    The weights are those at which the gradient is taken, `w + momentum s` in the textbook's notation, as in PyTorch
    and Optax; both have the same limit.
    """

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g + momentum v`."""
        v, after = super().direction(gradient, state)
        return gradient + self.momentum * v, after

    def stability_limit(self, curvature: float) -> float:
        """`2 (1 + momentum) / ((1 + 2 momentum) lambda_max)`."""
        return super().stability_limit(curvature) / (1 + 2 * self.momentum)


@dataclass(frozen=True)
class _PerCoordinate(Rule):
    """A rule that scales every coordinate by its own history, and so leaves the row space (facts F1.5, F1.6)."""

    keeps_row_space: ClassVar[bool] = False

    def default_rate(self, scale: Scale) -> float:
        """A tenth of the way to the nearest minimiser, spread evenly over the coordinates."""
        return scale.distance / math.sqrt(scale.d) / 10


@dataclass(frozen=True)
class Sign(_PerCoordinate):
    """The signs of the gradient."""

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`sign(g)`."""
        return _namespace(gradient).sign(gradient), state


@dataclass(frozen=True)
class AdaGrad(_PerCoordinate):
    """The textbook's AdaGrad: `G <- G + g^2`, direction `g / (sqrt(G) + epsilon)`, from `G = accumulator`.

    Source: J. Duchi, E. Hazan, Y. Singer (2011); epsilon is PyTorch's default.
    """

    epsilon: float = 1e-10
    accumulator: float = 0.0
    state_names: ClassVar[tuple[str, ...]] = ("G",)

    def begin(self, d: int) -> State:
        """`G`."""
        return (np.full(d, self.accumulator),)

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g / (sqrt(G) + epsilon)`."""
        (G,) = state
        G = G + gradient * gradient
        return gradient / (_namespace(G).sqrt(G) + self.epsilon), (G,)

    def default_rate(self, scale: Scale) -> float:
        """The way to the nearest minimiser, spread evenly over the coordinates: the first step is as long as it."""
        return scale.distance / math.sqrt(scale.d)


@dataclass(frozen=True)
class OptaxAdaGrad(AdaGrad):
    """Optax's AdaGrad, which differs in its defaults and in where epsilon stands: direction `g / sqrt(G + epsilon)`.

    The accumulator of 0.1 remembers a gradient that never was, so the limit is another one.
    """

    epsilon: float = 1e-7
    accumulator: float = 0.1

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g / sqrt(G + epsilon)`."""
        (G,) = state
        G = G + gradient * gradient
        return gradient / _namespace(G).sqrt(G + self.epsilon), (G,)


@dataclass(frozen=True)
class RMSProp(_PerCoordinate):
    """`G <- decay G + (1 - decay) g^2`, direction `g / (sqrt(G) + epsilon)`."""

    decay: float = 0.9
    epsilon: float = 1e-8
    state_names: ClassVar[tuple[str, ...]] = ("G",)

    def begin(self, d: int) -> State:
        """`G = 0`."""
        return (np.zeros(d),)

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`g / (sqrt(G) + epsilon)`."""
        (G,) = state
        G = self.decay * G + (1 - self.decay) * gradient * gradient
        return gradient / (_namespace(G).sqrt(G) + self.epsilon), (G,)


@dataclass(frozen=True)
class Adam(_PerCoordinate):
    """`m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`, both corrected for their start; `m / (sqrt(v) + epsilon)`.

    Source: D. P. Kingma, J. Ba (2015), algorithm 1.
    """

    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    state_names: ClassVar[tuple[str, ...]] = ("m", "v")

    def begin(self, d: int) -> State:
        """`m = v = 0`, and the powers of b1 and b2, which are cheaper to carry along than to compute."""
        return np.zeros(d), np.zeros(d), 1.0, 1.0

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`m_hat / (sqrt(v_hat) + epsilon)`."""
        m, v, b1_power, b2_power = state
        b1_power, b2_power = b1_power * self.b1, b2_power * self.b2
        m = self.b1 * m + (1 - self.b1) * gradient
        v = self.b2 * v + (1 - self.b2) * gradient * gradient
        m_hat = m / (1 - b1_power)
        v_hat = v / (1 - b2_power)
        return m_hat / (_namespace(v_hat).sqrt(v_hat) + self.epsilon), (m, v, b1_power, b2_power)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam, and apart from it `weight_decay w` in every direction; the decay is Optax's default.

    Source: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.
    """

    weight_decay: float = 1e-4

    def direction_at(self, w: Vector, gradient: Vector, state: State) -> tuple[Vector, State]:
        """Adam's direction `+ weight_decay w`."""
        direction, after = self.direction(gradient, state)
        return direction + self.weight_decay * w, after

    def default_rate(self, scale: Scale) -> float:
        """As for the other methods per coordinate, but no more than a tenth of the weights decays in a step."""
        rate = super().default_rate(scale)
        return min(rate, 0.1 / self.weight_decay) if self.weight_decay > 0 else rate


@dataclass(frozen=True)
class Lion(_PerCoordinate):
    """The sign of `b1 m + (1 - b1) g`, then `m <- b2 m + (1 - b2) g`; and `weight_decay w`; defaults are Optax's.

    Source: X. Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), program 1.
    """

    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 1e-3
    state_names: ClassVar[tuple[str, ...]] = ("m",)

    def begin(self, d: int) -> State:
        """`m = 0`."""
        return (np.zeros(d),)

    def direction(self, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`sign(b1 m + (1 - b1) g)`."""
        (m,) = state
        direction = _namespace(gradient).sign(self.b1 * m + (1 - self.b1) * gradient)
        return direction, (self.b2 * m + (1 - self.b2) * gradient,)

    def direction_at(self, w: Vector, gradient: Vector, state: State) -> tuple[Vector, State]:
        """`sign(b1 m + (1 - b1) g) + weight_decay w`."""
        direction, after = self.direction(gradient, state)
        return direction + self.weight_decay * w, after

    def default_rate(self, scale: Scale) -> float:
        """As for the other methods per coordinate, but no more than a tenth of the weights decays in a step."""
        rate = super().default_rate(scale)
        return min(rate, 0.1 / self.weight_decay) if self.weight_decay > 0 else rate


@dataclass(frozen=True)
class Exponentiated(Rule):
    """The exponentiated gradient: `w = w+ - w-`, both positive, `w+ <- w+ exp(-rate g)` and `w- <- w- exp(rate g)`.

    The product `w+ w-` of a coordinate stays what it is at the start, `(scale / 2)^2`. Weights far above the scale move
    in proportion to themselves, those far below it as by gradient descent.

    Source: J. Kivinen, M. K. Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear Predictors" (1997);
    the form in w alone, U. Ghai, E. Hazan, Y. Singer, "Exponentiated Gradient Meets Gradient Descent" (2020).
    """

    scale: float = 1.0
    keeps_row_space: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"The scale of exponentiated gradients must be a number above 0, but it is {self.scale}.")

    def step(self, w: Vector, gradient: Vector, state: State, rate: Any) -> tuple[Vector, State]:
        """`scale sinh(arsinh(w / scale) - rate g)`, which is the difference of the two products."""
        xp = _namespace(gradient)
        return self.scale * xp.sinh(xp.asinh(w / self.scale) - rate * gradient), state

    def default_rate(self, scale: Scale) -> float:
        """Half the stability limit, if all weights went twice as far as the nearest minimiser is."""
        return 1 / (scale.curvature * math.hypot(scale.farthest + 2 * scale.distance, self.scale))


@dataclass(frozen=True)
class OptaxTransformation(Rule):
    """Any Optax transformation, as it is: its rate and its schedule are its own.

    Args:
        transformation: an `optax.GradientTransformation`.
    """

    transformation: Any
    keeps_row_space: ClassVar[bool | None] = None

    def begin(self, d: int) -> State:
        """The transformation's own state, in JAX's default precision."""
        import jax.numpy as jnp

        return (self.transformation.init(jnp.zeros(d)),)

    def change_on(self, w: Vector, gradient: Vector, state: State, loss: Callable[[Any], Any]) -> tuple[Vector, State]:
        """What it adds to the weights; one that searches along a line, as L-BFGS does, asks for the loss."""
        import optax

        update = optax.with_extra_args_support(self.transformation).update
        change, after = update(gradient, state[0], w, value=loss(w), grad=gradient, value_fn=loss)
        return change, (after,)

    def settings(self) -> dict[str, Any]:
        """That it is the caller's own."""
        return {"transformation": "as given"}

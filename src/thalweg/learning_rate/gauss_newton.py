"""What a network looks like near some weights: its loss, gradient, Gauss-Newton and Hessian products, literal steps.

Linearising the outputs z(w) at weights w and keeping the criterion's own curvature Q = d^2 criterion / dz^2 turns a
network into weighted least squares, whose Hessian is the Gauss-Newton matrix

    G = J^T Q J,    J = dz / dw,

known here by its products: J v by forward mode, Q times that by forward over reverse mode on the criterion alone, and
J^T of that by reverse mode. What the loss has beyond the criterion of the outputs, such as a penalty on the weights,
adds its own Hessian. For Q >= 0 and such penalties G >= 0, whatever the Hessian.

Source: N. N. Schraudolph, "Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent" (2002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from thalweg.arrays import checked_count
from thalweg.errors import InputError
from thalweg.training import Parts, Training, join

Vector = NDArray[np.float64]

BATCHES = 10  # of a training make up the loss, where nobody says how many
_SAME = 100  # how many roundings apart two computations of the same loss may be


class Descent(NamedTuple):
    """Literal gradient steps.

    Attributes:
        losses: after 0, 1, ..., steps steps, `(steps + 1,)`; nan or inf where the run has diverged.
        mixture: the weights of the run, added up as asked, `(d,)`.
        last: the weights after the last step, `(d,)`.
    """

    losses: Vector
    mixture: Vector
    last: Vector


class Network(Protocol):
    """A network with its data: vectors on the host in float64, arithmetic in the network's own type on its device.

    Attributes:
        start: the trained parameters as one vector, `(d,)`.
        examples: how many examples make up the loss.
        precision: the relative rounding of the network's arithmetic.
        kind: the network's arithmetic in words: `float32`.
    """

    @property
    def start(self) -> Vector: ...  # noqa: D102
    @property
    def examples(self) -> int: ...  # noqa: D102
    @property
    def precision(self) -> float: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102

    def loss_and_gradient(self, w: Vector) -> tuple[float, Vector]:
        """The loss at w, and its gradient `(d,)`."""

    def gauss_newton(self, w: Vector, v: Vector) -> Vector:
        """`G v` at w."""

    def hessian(self, w: Vector, v: Vector) -> Vector:
        """`H v` at w."""

    def descend(self, w: Vector, rate: float, mix: Vector) -> Descent:
        """Literal gradient steps, in the network's arithmetic.

        Args:
            w: where to begin, `(d,)`.
            rate: the learning rate.
            mix: `(steps + 1,)`, how much of the weights after 0, 1, ..., steps steps to add up.
        """

    def descend_linearised(self, at: Vector, w: Vector, rate: float, steps: int) -> Vector:
        """The losses after 0, 1, ..., `steps` steps from w on the network whose outputs are linearised `at` weights.

        The criterion, and what the loss has beyond it, are as they are.
        """


def network_of(training: Training, hyper: Any = None, key: Any = None, batches: int | None = None) -> TrainingNetwork:
    """The network of a training at its first weights, with the mean loss over the first of its batches.

    Args:
        training: the training, with `predict` and `criterion`; its optimizer plays no part.
        hyper: the hyperparameters that its loss reads.
        key: of the start and the batches; `jax.random.key(0)` for None.
        batches: how many make up the loss, from the first on; all, but no more than ten, for None.

    Raises:
        InputError: predict or criterion is missing; there are fewer batches; what they return does not fit together.
    """
    import jax
    import jax.numpy as jnp

    missing = [name for name in ("predict", "criterion") if getattr(training, name) is None]
    if missing:
        raise InputError(
            f"Learning rates of a network need its outputs and what is made of them, but the Training has no "
            f"{' and no '.join(missing)}; give it predict=lambda params, batch, hyper: outputs and "
            "criterion=lambda outputs, batch: scalar."
        )
    parts, carried, drawn = training.prepare(key)
    count = checked_count(min(BATCHES, drawn.steps) if batches is None else batches, "batches", drawn.steps)
    made = [training.batch(drawn, t) for t in range(count)]
    data = jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)
    return TrainingNetwork(training, parts, carried, data, hyper)


class TrainingNetwork:
    """The network of a `Training`, by JAX.

    Args:
        training: the training, with `predict` and `criterion`.
        parts: its parameters, taken apart.
        carried: the loss's own state, which stays as it is; None without `has_state`.
        data: batches, stacked along a first axis; the loss is the mean of theirs.
        hyper: the hyperparameters.
    """

    def __init__(self, training: Training, parts: Parts, carried: Any, data: Any, hyper: Any) -> None:
        import jax

        finfo: Any = jax.numpy.finfo  # which knows bfloat16
        self.training, self.parts = training, parts
        leaves, self._structure = jax.tree.flatten(parts.trained)
        self._shapes = [leaf.shape for leaf in leaves]
        self._types = [np.dtype(leaf.dtype) for leaf in leaves]
        self.precision = max(float(finfo(dtype).eps) for dtype in self._types)
        self.kind = " and ".join(sorted({dtype.name for dtype in self._types}))
        self.start = _host(leaves)
        first = jax.tree.leaves(data)[0]
        self.examples = int(np.prod(first.shape[:2]))
        # Arguments of the compiled functions, in this order after the parameters.
        self._rest = (parts.arrays, carried, data, hyper)
        self._check()
        self._compile(self._has_remainder())

    def loss_and_gradient(self, w: Vector) -> tuple[float, Vector]:
        """The loss at w, and its gradient `(d,)`."""
        loss, gradient = self._loss_and_gradient(self._device(w), *self._rest)
        return float(loss), self._host(gradient)

    def gauss_newton(self, w: Vector, v: Vector) -> Vector:
        """`G v` at w."""
        return self._host(self._gauss_newton(self._device(w), self._device(v), *self._rest))

    def hessian(self, w: Vector, v: Vector) -> Vector:
        """`H v` at w."""
        return self._host(self._hessian(self._device(w), self._device(v), *self._rest))

    def descend(self, w: Vector, rate: float, mix: Vector) -> Descent:
        """Literal gradient steps: see `Network.descend`."""
        at, mixture, losses, rate = self._device(w), np.zeros_like(w), [], self._rate(rate)
        for share in mix:
            if share:
                mixture += share * self._host(at)
            last = at
            loss, at = self._step(at, rate, *self._rest)
            losses.append(loss)
        return Descent(np.array(losses, dtype=np.float64), mixture, self._host(last))

    def descend_linearised(self, at: Vector, w: Vector, rate: float, steps: int) -> Vector:
        """The losses of steps on the linearised network: see `Network.descend_linearised`."""
        centre, there, losses, rate = self._device(at), self._device(w), [], self._rate(rate)
        for _ in range(steps + 1):
            loss, there = self._linearised_step(centre, there, rate, *self._rest)
            losses.append(loss)
        return np.array(losses, dtype=np.float64)

    def _device(self, w: Vector) -> Any:
        """A vector on the host as parameters, each of its own type."""
        import jax

        parts = np.split(w, np.cumsum([int(np.prod(shape)) for shape in self._shapes])[:-1])
        leaves = [
            part.reshape(shape).astype(dtype)
            for part, shape, dtype in zip(parts, self._shapes, self._types, strict=True)
        ]
        return jax.tree.unflatten(self._structure, leaves)

    def _rate(self, rate: float) -> Any:
        """A learning rate in the network's most precise arithmetic; inf where that overflows."""
        with np.errstate(over="ignore"):
            return np.asarray(rate, np.result_type(*(dtype for dtype in self._types if dtype.kind == "f"), np.float32))

    def _host(self, tree: Any) -> Vector:
        import jax

        return _host(jax.tree.leaves(tree))

    def _params(self, trained: Any, arrays: Any) -> Any:
        return join(Parts(trained, arrays, self.parts.static))

    def _outputs(self, trained: Any, arrays: Any, carried: Any, batch: Any, hyper: Any) -> Any:
        assert self.training.predict is not None
        state = (carried,) if self.training.has_state else ()
        return self.training.predict(self._params(trained, arrays), *state, batch, hyper)

    def _loss(self, trained: Any, arrays: Any, carried: Any, data: Any, hyper: Any) -> Any:
        """The mean of the training's own loss over the batches."""
        import jax

        def of(batch: Any) -> Any:
            return self.training.value(Parts(trained, arrays, self.parts.static), carried, batch, hyper)[0]

        return jax.vmap(of)(data).mean()

    def _all_outputs(self, trained: Any, arrays: Any, carried: Any, data: Any, hyper: Any) -> Any:
        import jax

        return jax.vmap(lambda batch: self._outputs(trained, arrays, carried, batch, hyper))(data)

    def _criterion(self, outputs: Any, data: Any) -> Any:
        """The mean of the criterion over the batches."""
        import jax

        criterion = self.training.criterion
        assert criterion is not None
        return jax.vmap(criterion)(outputs, data).mean()

    def _remainder(self, trained: Any, *rest: Any) -> Any:
        """What the loss has beyond the criterion of the outputs."""
        return self._loss(trained, *rest) - self._criterion(self._all_outputs(trained, *rest), rest[2])

    def _check(self) -> None:
        """Refuse a criterion that gives no real number."""
        import jax
        import jax.numpy as jnp

        criterion = self.training.criterion
        assert criterion is not None

        def of_one(trained: Any, arrays: Any, carried: Any, data: Any, hyper: Any) -> Any:
            batch = jax.tree.map(lambda leaf: leaf[0], data)
            return criterion(self._outputs(trained, arrays, carried, batch, hyper), batch)

        found = jax.eval_shape(of_one, self.parts.trained, *self._rest)
        if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
            raise InputError(
                "criterion(outputs, batch) must return one real number, but it returned a "
                f"{type(found).__name__} of shape {getattr(found, 'shape', None)}."
            )

    def _has_remainder(self) -> bool:
        """Whether the loss differs from the criterion of the outputs by more than rounding, or its gradient does."""
        import jax

        @jax.jit
        def sizes(trained: Any, *rest: Any) -> Any:
            def norm(tree: Any) -> Any:
                return sum(abs(leaf).sum() for leaf in jax.tree.leaves(tree))

            value, gradient = jax.value_and_grad(self._loss)(trained, *rest)
            beyond, slope = jax.value_and_grad(self._remainder)(trained, *rest)
            return abs(value), abs(beyond), norm(gradient), norm(slope)

        value, beyond, gradient, slope = (float(size) for size in sizes(self.parts.trained, *self._rest))
        few = _SAME * self.precision
        return beyond > few * value or slope > few * gradient

    def _compile(self, has_remainder: bool) -> None:
        import jax
        import jax.numpy as jnp

        @jax.jit
        def gauss_newton(trained: Any, v: Any, *rest: Any) -> Any:
            def outputs_at(w: Any) -> Any:
                return self._all_outputs(w, *rest)

            outputs, pull = jax.vjp(outputs_at, trained)
            Jv = jax.jvp(outputs_at, (trained,), (v,))[1]
            QJv = jax.jvp(jax.grad(lambda z: self._criterion(z, rest[2])), (outputs,), (Jv,))[1]
            (product,) = pull(QJv)
            if not has_remainder:
                return product
            own = jax.jvp(jax.grad(lambda w: self._remainder(w, *rest)), (trained,), (v,))[1]
            return jax.tree.map(jnp.add, product, own)

        @jax.jit
        def hessian(trained: Any, v: Any, *rest: Any) -> Any:
            return jax.jvp(jax.grad(lambda w: self._loss(w, *rest)), (trained,), (v,))[1]

        def moved(w: Any, rate: Any, gradient: Any) -> Any:
            return jax.tree.map(lambda x, g: (x - rate * g).astype(x.dtype), w, gradient)

        # Steps are compiled one by one: XLA runs convolutions inside its loops several times slower on CPUs.
        @jax.jit
        def step(w: Any, rate: Any, *rest: Any) -> Any:
            loss, gradient = jax.value_and_grad(self._loss)(w, *rest)
            return loss, moved(w, rate, gradient)

        @jax.jit
        def linearised_step(at: Any, w: Any, rate: Any, *rest: Any) -> Any:
            def outputs_at(trained: Any) -> Any:
                return self._all_outputs(trained, *rest)

            outputs, pull = jax.vjp(outputs_at, at)
            away = jax.jvp(outputs_at, (at,), (jax.tree.map(jnp.subtract, w, at),))[1]
            there = jax.tree.map(jnp.add, outputs, away)
            loss, slope = jax.value_and_grad(lambda z: self._criterion(z, rest[2]))(there)
            (gradient,) = pull(slope)
            if has_remainder:
                beyond, own = jax.value_and_grad(self._remainder)(w, *rest)
                loss, gradient = loss + beyond, jax.tree.map(jnp.add, gradient, own)
            return loss, moved(w, rate, gradient)

        self._loss_and_gradient: Callable[..., Any] = jax.jit(jax.value_and_grad(self._loss))
        self._gauss_newton: Callable[..., Any] = gauss_newton
        self._hessian: Callable[..., Any] = hessian
        self._step: Callable[..., Any] = step
        self._linearised_step: Callable[..., Any] = linearised_step


def _host(leaves: Sequence[Any]) -> Vector:
    return np.concatenate([np.asarray(leaf).astype(np.float64).ravel() for leaf in leaves])

"""A training run as a function: what it minimises, from where, on which batches, by which rule.

A `Training` holds no numbers. Given hyperparameters and a key it becomes a state and a step,

    state_0 = start(hyper, key),    state_{t+1} = step(state_t, batch_t, hyper),

both pure, so that a run can be compiled, repeated for many seeds, linearised, and differentiated through.

    >>> import jax.numpy as jnp, optax
    >>> training = Training(
    ...     loss=lambda w, batch, hyper: jnp.mean((batch @ w - 3.0) ** 2),
    ...     init=lambda key: jnp.zeros(2),
    ...     batches=lambda key: jnp.tile(jnp.array([[1.0, 2.0]]), (20, 1, 1)),
    ...     optimizer=lambda hyper: optax.sgd(hyper["rate"]),
    ... )
    >>> run = training.run({"rate": 0.08})
    >>> run.params.round(3).tolist(), run.losses.shape
    ([0.6000000238418579, 1.2000000476837158], (20,))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from thalweg.arrays import checked_count
from thalweg.errors import InputError

Tree = Any  # a pytree: arrays in any nesting of tuples, lists, dictionaries and registered classes


@dataclass(frozen=True, eq=False)
class Stream:
    """Batches that the host reads, one for each step, inside a compiled run.

    Args:
        read: `t -> batch`, the batch of step t = 0, 1, ... as a pytree of NumPy arrays, of the same shapes and types
            at every step. Asked twice for the same step it must give the same batch: whoever differentiates through a
            run goes back.
    """

    read: Callable[[int], Tree]


class Batches(NamedTuple):
    """The batches of one run.

    Attributes:
        steps: T, how many there are.
        stacked: all of them, a pytree whose leaves begin with an axis of length T; None where they are made one at a
            time.
        key: the key that batches made inside the step are made from; None otherwise.
    """

    steps: int
    stacked: Tree
    key: Any


class Parts(NamedTuple):
    """Parameters taken apart by what happens to them.

    Attributes:
        trained: the floating leaves; None in place of every other.
        arrays: the leaves that are arrays of another type; None in place of every other.
        static: the leaves that are no arrays, and how all of them hang together.
    """

    trained: Tree
    arrays: Tree
    static: Static


class State(NamedTuple):
    """What a step changes.

    Attributes:
        trained: the floating leaves of the parameters; None in place of every other.
        carried: the loss's own state, such as running means; None without `has_state`.
        optimizer: the state of the Optax transformation.
    """

    trained: Tree
    carried: Tree
    optimizer: Tree


class Run(NamedTuple):
    """Where a run ended.

    Attributes:
        params: the last parameters, put together again.
        carried: the loss's own last state; None without `has_state`.
        losses: `(T,)`, the loss on each step's batch before that step.
    """

    params: Tree
    carried: Tree
    losses: Any


class Static:
    """Leaves that are no arrays, with the structure they belong to; equal ones share a compilation."""

    def __init__(self, structure: Any, leaves: tuple[Any, ...]) -> None:
        self.structure, self.leaves = structure, leaves

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Static)
            and self.structure == other.structure
            and all(map(_equal, self.leaves, other.leaves))
        )

    def __hash__(self) -> int:
        return hash(self.structure)


@dataclass(frozen=True, eq=False)
class Training:
    """A training run, as a function of hyperparameters.

    Only floating leaves of the parameters train; other leaves (integers, flags, functions) stay as they are.

    Args:
        loss: `(params, batch, hyper) -> scalar`, differentiable by JAX; with `has_state`
            `(params, state, batch, hyper) -> (scalar, state)`.
        init: `key -> params`, a pytree; with `has_state` `key -> (params, state)`.
        batches: `key -> batches`, a pytree whose leaves all begin with an axis of length T; or, with `steps=T`,
            `(key, t) -> batch`, made inside the compiled step; or, with `steps=T`, a `Stream` from the host.
        optimizer: `hyper -> ` an Optax transformation. A rate per step is an array that it reads:
            `optax.sgd(lambda count: hyper["rate"][count])`.
        steps: T, where the batches do not say it.
        has_state: whether the loss carries a state of its own from step to step.
        predict: `(params, batch, hyper) -> outputs`, with `has_state` `(params, state, batch, hyper) -> outputs`; what
            learning rates of networks need, with `criterion`.
        criterion: `(outputs, batch) -> scalar`, how far the outputs are off.

    Raises:
        InputError: one of these is not callable; `steps` is missing, or not a whole number of at least 1.
    """

    loss: Callable[..., Any]
    init: Callable[[Any], Tree]
    batches: Callable[..., Tree] | Stream
    optimizer: Callable[[Any], Any]
    _: KW_ONLY
    steps: int | None = None
    has_state: bool = False
    predict: Callable[..., Tree] | None = None
    criterion: Callable[[Tree, Tree], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "init", "optimizer"):
            _check_callable(name, getattr(self, name))
        for name in ("predict", "criterion"):
            if getattr(self, name) is not None:
                _check_callable(name, getattr(self, name))
        if not isinstance(self.batches, Stream):
            _check_callable("batches", self.batches)
        if self.steps is not None:
            object.__setattr__(self, "steps", checked_count(self.steps, "steps"))
        if self._made_inside and self.steps is None:
            what = "a Stream" if isinstance(self.batches, Stream) else "batches(key, t)"
            raise InputError(f"With {what} the number of steps is not known; give Training steps=T.")

    @cached_property
    def _made_inside(self) -> bool:
        """Whether each batch is made by itself, and not all of them at once."""
        if isinstance(self.batches, Stream):
            return True
        try:
            signature = inspect.signature(self.batches)
        except ValueError:  # a builtin without a signature
            return self.steps is not None
        if _takes(signature, 1):
            return False
        if not _takes(signature, 2):
            raise InputError(f"batches must be a function of (key) or of (key, t), but it takes {signature}.")
        return True

    def draw(self, key: Any) -> Batches:
        """The batches of a run, or what makes them.

        Raises:
            InputError: the leaves do not begin with the same axis, there is no batch, or one holds what is not finite.
        """
        if self._made_inside:
            assert self.steps is not None, "refused when the Training was made"
            return Batches(self.steps, None, None if isinstance(self.batches, Stream) else key)
        assert not isinstance(self.batches, Stream)
        stacked = self.batches(key)
        return Batches(_checked_steps(stacked, self.steps), _as_arrays(stacked), None)

    def batch(self, batches: Batches, t: Any) -> Tree:
        """The batch of step t, which may be traced."""
        import jax

        if batches.stacked is not None:
            return jax.tree.map(lambda leaf: leaf[t], batches.stacked)
        if isinstance(self.batches, Stream):
            return self._read(t)
        return self.batches(batches.key, t)

    @cached_property
    def _first_read(self) -> Tree:
        """The first batch of the stream, whose shapes and types all others share."""
        import jax

        assert isinstance(self.batches, Stream)
        return jax.tree.map(np.asarray, self.batches.read(0))

    def _read(self, t: Any) -> Tree:
        import jax

        assert isinstance(self.batches, Stream)
        read, first = self.batches.read, self._first_read
        shapes = jax.eval_shape(_as_arrays, first)

        def on_the_host(step: Any) -> Tree:
            batch = jax.tree.map(np.asarray, read(int(step)))
            _check_alike(batch, first, int(step))
            return jax.tree.map(lambda leaf, shape: leaf.astype(shape.dtype), batch, shapes)

        return jax.pure_callback(on_the_host, shapes, t, vmap_method="sequential")

    def initial(self, key: Any) -> tuple[Parts, Tree]:
        """The first parameters, taken apart, and the loss's own first state.

        Raises:
            InputError: no leaf is floating; a parameter is not finite; with `has_state`, init gives no pair.
        """
        made = self.init(key)
        if self.has_state:
            if not (isinstance(made, tuple) and len(made) == 2):
                raise InputError(
                    f"With has_state=True, init(key) must return (params, state), but it returned {_kind(made)}."
                )
            params, carried = made
        else:
            params, carried = made, None
        _check_finite(params, "init(key)")
        return split(params), _as_arrays(carried)

    def transformation(self, hyper: Any) -> Any:
        """The Optax transformation for these hyperparameters.

        Raises:
            InputError: optimizer(hyper) is none.
        """
        made = self.optimizer(hyper)
        if not (hasattr(made, "init") and hasattr(made, "update")):
            raise InputError(
                f"optimizer(hyper) must return an Optax transformation, but it returned {_kind(made)}; "
                "for example: lambda hyper: optax.sgd(hyper['rate'])."
            )
        return made

    def start(self, parts: Parts, carried: Tree, hyper: Any) -> State:
        """The state before the first step."""
        return State(parts.trained, carried, self.transformation(hyper).init(parts.trained))

    def value(self, parts: Parts, carried: Tree, batch: Tree, hyper: Any) -> tuple[Any, Tree]:
        """The loss on a batch, a scalar, and the loss's own next state.

        Raises:
            InputError: the loss is not a real scalar; with `has_state`, the loss gives no pair or changes its state's
                shape.
        """
        params = join(parts)
        if not self.has_state:
            return _checked_scalar(self.loss(params, batch, hyper), "loss(params, batch, hyper)"), None
        made = self.loss(params, carried, batch, hyper)
        if not (isinstance(made, tuple) and len(made) == 2):
            raise InputError(
                "With has_state=True, loss(params, state, batch, hyper) must return (scalar, state), but it returned "
                f"{_kind(made)}."
            )
        value, after = made[0], _as_arrays(made[1])
        _check_same_shape(carried, after)
        return _checked_scalar(value, "the loss"), after

    def gradient(self, parts: Parts, carried: Tree, batch: Tree, hyper: Any) -> tuple[tuple[Any, Tree], Tree]:
        """The loss on a batch with the loss's own next state, and the gradient for the trained leaves."""
        import jax

        def of(trained: Tree) -> tuple[Any, Tree]:
            return self.value(parts._replace(trained=trained), carried, batch, hyper)

        return jax.value_and_grad(of, has_aux=True)(parts.trained)

    def step(
        self, state: State, parts: Parts, batch: Tree, hyper: Any, gradient: Callable[..., Any] | None = None
    ) -> tuple[State, Any]:
        """One step of the optimizer: the state after it, and the loss before it.

        Args:
            state: the state before the step.
            parts: the parameters taken apart; the leaves that do not train are taken from here.
            batch: the step's batch.
            hyper: the hyperparameters, a pytree.
            gradient: in place of `self.gradient`, for those who differentiate through it by rules of their own.
        """
        import optax

        of = self.gradient if gradient is None else gradient
        (loss, carried), slope = of(parts._replace(trained=state.trained), state.carried, batch, hyper)
        updates, optimizer = self.transformation(hyper).update(slope, state.optimizer, state.trained)
        return State(optax.apply_updates(state.trained, updates), carried, optimizer), loss

    def run(self, hyper: Any = None, key: Any = None) -> Run:
        """Run to the end, compiled; it may itself be traced.

        Args:
            hyper: the hyperparameters, a pytree of floats.
            key: of the start and the batches; `jax.random.key(0)` for None.

        Raises:
            InputError: the parts of the training do not fit together; the message says which.
        """
        parts, carried, batches = self.prepare(key)
        last, losses = self._compiled(
            parts.static, batches.steps, parts.trained, parts.arrays, carried, batches.stacked, batches.key, hyper
        )
        return Run(join(parts._replace(trained=last.trained)), last.carried, losses)

    def prepare(self, key: Any = None) -> tuple[Parts, Tree, Batches]:
        """The first parameters, the loss's own first state, and the batches, from the two halves of one key."""
        import jax

        first, second = jax.random.split(jax.random.key(0) if key is None else key)
        parts, carried = self.initial(first)
        return parts, carried, self.draw(second)

    @cached_property
    def _compiled(self) -> Callable[..., tuple[State, Any]]:
        import jax
        import jax.numpy as jnp

        # Parameters and data are arguments: what a compiled function closes over, XLA would fold for seconds.
        def whole(
            static: Static, steps: int, trained: Any, arrays: Any, carried: Any, stacked: Any, key: Any, hyper: Any
        ) -> tuple[State, Any]:
            parts, batches = Parts(trained, arrays, static), Batches(steps, stacked, key)
            return jax.lax.scan(
                lambda state, t: self.step(state, parts, self.batch(batches, t), hyper),
                self.start(parts, carried, hyper),
                jnp.arange(steps),
            )

        return jax.jit(whole, static_argnums=(0, 1))


def split(params: Tree) -> Parts:
    """Parameters taken apart into the leaves that train, other arrays, and what is no array.

    Raises:
        InputError: no leaf trains.
    """
    import jax

    leaves, structure = jax.tree.flatten(params)
    of_kind = [_leaf_kind(leaf) for leaf in leaves]
    if "trained" not in of_kind:
        raise InputError(
            f"There is nothing to train: none of the {len(leaves)} leaves of the parameters is floating; "
            "for example, write 0.0 in place of 0."
        )

    def only(kind: str) -> Tree:
        kept = [_as_array(leaf) if k == kind else None for leaf, k in zip(leaves, of_kind, strict=True)]
        return jax.tree.unflatten(structure, kept)

    others = tuple(leaf if kind == "static" else None for leaf, kind in zip(leaves, of_kind, strict=True))
    return Parts(only("trained"), only("array"), Static(structure, others))


def join(parts: Parts) -> Tree:
    """The parameters put together again."""
    import jax

    structure, static = parts.static.structure, parts.static.leaves
    trained, arrays = structure.flatten_up_to(parts.trained), structure.flatten_up_to(parts.arrays)
    leaves = [
        next((part for part in place if part is not None), None) for place in zip(trained, arrays, static, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def _leaf_kind(leaf: Any) -> str:
    """`trained` for what is floating, `array` for other arrays, `static` for the rest."""
    import jax
    import jax.numpy as jnp

    if type(leaf) is float:  # a class of numbers derived from it says by that that it is something else
        return "trained"
    if isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return "trained" if jnp.issubdtype(leaf.dtype, jnp.floating) else "array"
    return "static"


def _equal(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # a leaf whose comparison cannot be a truth value is equal to itself only
        return False


def _kind(value: Any) -> str:
    """How messages call a value: its type, and its shape where it has one."""
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else "")


def _check_callable(name: str, value: Any) -> None:
    if not callable(value):
        raise InputError(f"A Training's {name} must be a function, but it is {_kind(value)}.")


def _named_leaves(tree: Tree) -> list[tuple[str, Any]]:
    """The leaves with their places, `['x'][0]`; nothing for a tree that is a leaf itself."""
    import jax

    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _as_array(leaf: Any) -> Any:
    """A JAX array whose type is its own: a Python number's would change with what it meets."""
    import jax.numpy as jnp

    return jnp.asarray(leaf, jnp.result_type(leaf)) if _leaf_kind(leaf) == "trained" else jnp.asarray(leaf)


def _as_arrays(tree: Tree) -> Tree:
    import jax

    return jax.tree.map(_as_array, tree)


def _takes(signature: inspect.Signature, count: int) -> bool:
    """Whether a function can be called with so many arguments by position."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _checked_steps(stacked: Tree, steps: int | None) -> int:
    """The length of the first axis, which all leaves must share."""
    leaves = _named_leaves(stacked)
    if not leaves:
        raise InputError("batches(key) returned no arrays; return a pytree whose leaves begin with an axis of steps.")
    lengths: dict[int, str] = {}
    for place, leaf in leaves:
        shape = np.shape(leaf)
        if not shape:
            raise InputError(
                f"batches(key){place} is a single number, but must begin with an axis of length T, one batch for each "
                "step; for batches made one at a time write batches(key, t) and give steps=T."
            )
        lengths.setdefault(int(shape[0]), place)
    if len(lengths) > 1:
        said = " and ".join(f"{length} in batches(key){place}" for length, place in lengths.items())
        raise InputError(f"The leaves of batches(key) must share their first axis, the steps, but it is {said}.")
    (length,) = lengths
    if length == 0:
        raise InputError("batches(key) holds no batch: its first axis, the steps, has length 0.")
    if steps is not None and steps != length:
        raise InputError(f"steps is {steps}, but batches(key) holds {length} batches; leave steps out.")
    for place, leaf in leaves:
        if 0 in np.shape(leaf):
            raise InputError(f"batches(key){place} is empty: its shape is {np.shape(leaf)}.")
    _check_finite(stacked, "batches(key)")
    return length


def _check_finite(tree: Tree, name: str) -> None:
    """Refuse floating values that are not finite, as far as they are known: traced values are not."""
    import jax
    import jax.numpy as jnp

    for place, leaf in _named_leaves(tree):
        if isinstance(leaf, jax.core.Tracer) or _leaf_kind(leaf) != "trained":
            continue
        finite = jnp.isfinite(jnp.asarray(leaf))
        if not bool(finite.all()):
            index = [int(i) for i in np.argwhere(~np.asarray(finite))[0]]
            raise InputError(f"{name}{place}{index or ''} is not finite.")


def _checked_scalar(value: Any, name: str) -> Any:
    import jax.numpy as jnp

    if np.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise InputError(
            f"{name} must return one real number, but it returned {_kind(value)}"
            f"{'; take its mean, for example' if np.shape(value) else ''}."
        )
    return value


def _check_same_shape(before: Tree, after: Tree) -> None:
    """Refuse a state that a step would give another form."""
    import jax

    one: Any = jax.tree.structure(before)
    other: Any = jax.tree.structure(after)
    if one != other:
        raise InputError(f"The loss must return its state in the form it was given, {one}, but returned {other}.")
    for (place, was), (_, now) in zip(_named_leaves(before), _named_leaves(after), strict=True):
        if np.shape(was) != np.shape(now) or was.dtype != now.dtype:
            raise InputError(
                f"The loss must return its state in the form it was given, but state{place} was {was.dtype}"
                f"{list(np.shape(was))} and became {now.dtype}{list(np.shape(now))}."
            )


def _check_alike(batch: Tree, first: Tree, step: int) -> None:
    """Refuse a batch of a stream that differs in form from its first."""
    import jax

    one: Any = jax.tree.structure(first)
    other: Any = jax.tree.structure(batch)
    if one != other:
        raise InputError(f"Batch {step} of the stream has the form {other}, but batch 0 has {one}.")
    for (place, was), (_, now) in zip(_named_leaves(first), _named_leaves(batch), strict=True):
        if was.shape != now.shape:
            raise InputError(f"Batch {step} of the stream{place} has shape {now.shape}, but batch 0 has {was.shape}.")

"""A `Training` of an Equinox or Flax module: what is a parameter, what a state, and how the module is called.

For example, with `images` of shape (steps, examples, 64) and `labels` of shape (steps, examples):

    training = tw.from_equinox(
        lambda key: eqx.nn.MLP(64, 10, 128, 1, key=key),
        lambda outputs, batch: optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1]).mean(),
        lambda key: (images, labels),
        lambda hyper: optax.sgd(hyper["rate"]),
    )
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thalweg.errors import InputError, missing_package
from thalweg.training import Stream, Training


def from_equinox(
    model: Any,
    criterion: Callable[[Any, Any], Any],
    batches: Callable[..., Any] | Stream,
    optimizer: Callable[[Any], Any],
    *,
    call: Callable[..., Any] | None = None,
    steps: int | None = None,
    has_state: bool = False,
) -> Training:
    """The training of an Equinox module; as Equinox has it, its floating arrays train and Python numbers do not.

    Args:
        model: `key -> module`, with `has_state` `key -> (module, state)`, as from `eqx.nn.make_with_state`; or a
            module, which is then the start for every key.
        criterion: `(outputs, batch) -> scalar`.
        batches: as for `Training`.
        optimizer: as for `Training`.
        call: `(module, batch) -> outputs`; by default the module on each of the examples `batch[0]`. With `has_state`
            `(module, state, batch) -> (outputs, state)`; by default the same with the axis named `"batch"`.
        steps: as for `Training`.
        has_state: whether the module carries a state, such as that of batch normalisation.

    Raises:
        InputError: the model is neither a module nor a function; as for `Training`.
        MissingPackageError: Equinox is not installed.
    """
    try:
        import equinox as eqx
    except ImportError as error:
        raise missing_package("equinox", "training an Equinox module", "equinox") from error
    import jax

    if not (isinstance(model, eqx.Module) or callable(model)):
        raise InputError(f"from_equinox needs a module, or a function key -> module, but got a {type(model).__name__}.")

    def init(key: Any) -> Any:
        made = model if isinstance(model, eqx.Module) else model(key)
        if not has_state:
            return _numbers_kept(made)
        if not (isinstance(made, tuple) and len(made) == 2):
            raise InputError(
                "With has_state=True, model(key) must return (module, state), as eqx.nn.make_with_state does."
            )
        return _numbers_kept(made[0]), made[1]

    def default(module: Any, *given: Any) -> Any:
        if has_state:
            state, batch = given
            return jax.vmap(module, in_axes=(0, None), out_axes=(0, None), axis_name="batch")(batch[0], state)
        return jax.vmap(module)(given[0][0])

    run = default if call is None else call
    return _training(lambda params, *given: run(_numbers_back(params), *given), criterion, init, batches, optimizer,
                     steps, has_state)  # fmt: skip


def from_flax(
    model: Any,
    criterion: Callable[[Any, Any], Any],
    batches: Callable[..., Any] | Stream,
    optimizer: Callable[[Any], Any],
    *,
    call: Callable[..., Any] | None = None,
    steps: int | None = None,
) -> Training:
    """The training of a Flax module, of either of its two kinds.

    Args:
        model: a Linen module, whose parameters are made with the inputs of the first batch; or a function
            `rngs -> module` that makes an NNX module. Linen's collections beside `params`, and what an NNX module
            holds beside `nnx.Param`, is the state that the loss carries from step to step.
        criterion: `(outputs, batch) -> scalar`.
        batches: as for `Training`; drawn once here, so that a Linen module sees the form of its inputs.
        optimizer: as for `Training`.
        call: `(module, batch) -> outputs` for NNX; for Linen `(module, variables, batch) -> outputs`, with a state
            `-> (outputs, changed collections)`, as from `module.apply(..., mutable=[...])`. By default the module on
            `batch[0]`.
        steps: as for `Training`.

    Raises:
        InputError: the model is neither kind; as for `Training`.
        MissingPackageError: Flax is not installed.
    """
    try:
        from flax import linen, nnx
    except ImportError as error:
        raise missing_package("flax", "training a Flax module", "flax") from error

    if isinstance(model, linen.Module):
        return _from_linen(model, criterion, batches, optimizer, call, steps)
    if isinstance(model, nnx.Module):
        raise InputError("from_flax needs a function that makes the NNX module, such as lambda rngs: Net(rngs=rngs).")
    if not callable(model):
        raise InputError(
            f"from_flax needs a Linen module, or a function rngs -> NNX module, but got a {type(model).__name__}."
        )
    return _from_nnx(model, criterion, batches, optimizer, call, steps)


def _from_linen(model: Any, criterion: Any, batches: Any, optimizer: Any, call: Any, steps: int | None) -> Training:
    import jax

    first = Training(criterion, criterion, batches, optimizer, steps=steps)
    inputs = first.batch(first.draw(jax.random.key(0)), 0)
    example = jax.tree.leaves(inputs)[0] if call is not None else inputs[0]
    states = sorted(set(jax.eval_shape(model.init, jax.random.key(0), example)) - {"params"})

    def init(key: Any) -> Any:
        variables = dict(model.init(key, example))
        params = variables.pop("params", {})
        return (params, variables) if states else params

    def run(params: Any, *given: Any) -> Any:
        *state, batch = given
        variables = {"params": params, **(state[0] if state else {})}
        if call is not None:
            return call(model, variables, batch)
        return model.apply(variables, batch[0], mutable=states) if states else model.apply(variables, batch[0])

    return _training(run, criterion, init, batches, optimizer, steps, bool(states))


def _from_nnx(model: Any, criterion: Any, batches: Any, optimizer: Any, call: Any, steps: int | None) -> Training:
    import jax
    from flax import nnx

    def split(module: Any) -> Any:
        return nnx.split(module, nnx.Param, ...)

    has_state = bool(jax.tree.leaves(split(nnx.eval_shape(lambda: model(nnx.Rngs(0))))[2]))

    def init(key: Any) -> Any:
        graph, params, state = split(model(nnx.Rngs(key)))
        return ((graph, params), state) if has_state else (graph, params)

    def run(held: Any, *given: Any) -> Any:
        *state, batch = given
        module = nnx.merge(*held, *state, copy=True)  # whose own variables it may change
        outputs = module(batch[0]) if call is None else call(module, batch)
        return (outputs, split(module)[2]) if has_state else outputs

    return _training(run, criterion, init, batches, optimizer, steps, has_state)


def _training(
    run: Callable[..., Any],
    criterion: Callable[[Any, Any], Any],
    init: Callable[[Any], Any],
    batches: Callable[..., Any] | Stream,
    optimizer: Callable[[Any], Any],
    steps: int | None,
    has_state: bool,
) -> Training:
    """The training whose outputs are `run(params, batch)`, with a state `run(params, state, batch)[0]`."""

    def loss(params: Any, batch: Any, hyper: Any) -> Any:
        return criterion(run(params, batch), batch)

    def loss_with_state(params: Any, state: Any, batch: Any, hyper: Any) -> Any:
        outputs, after = run(params, state, batch)
        return criterion(outputs, batch), after

    return Training(
        loss_with_state if has_state else loss,
        init,
        batches,
        optimizer,
        steps=steps,
        has_state=has_state,
        predict=(lambda params, state, batch, hyper: run(params, state, batch)[0])
        if has_state
        else (lambda params, batch, hyper: run(params, batch)),
        criterion=criterion,
    )


class _Number(float):
    """A Python number among a module's leaves, which does not train."""


def _numbers_kept(module: Any) -> Any:
    import jax

    return jax.tree.map(lambda leaf: _Number(leaf) if type(leaf) is float else leaf, module)


def _numbers_back(params: Any) -> Any:
    import jax

    return jax.tree.map(lambda leaf: float(leaf) if isinstance(leaf, _Number) else leaf, params)

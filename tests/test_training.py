"""Training runs: the compiled run is the loop one would write, in every form of batches, and mistakes are named."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.training import Batches, Stream, Training, join, split

STEPS = 12
X = np.random.default_rng(0).standard_normal((STEPS, 5, 3)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((STEPS, 5)).astype(np.float32)


def loss(params, batch, hyper):
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2) + hyper["decay"] * jnp.sum(params["w"] ** 2)


def init(key):
    return {"w": jax.random.normal(key, (3,)), "b": 0.5}


def optimizer(hyper):
    return optax.sgd(hyper["rate"], momentum=hyper["momentum"])


HYPER = {"rate": 0.05, "momentum": 0.9, "decay": 0.01}


def training(**changes):
    parts = {"loss": loss, "init": init, "batches": lambda key: (X, Y), "optimizer": optimizer}
    return Training(**(parts | changes))


def by_hand(hyper, steps=STEPS):
    """Momentum SGD in float64, with the gradient of the loss written out."""
    start = init(jax.random.split(jax.random.key(0))[0])
    w, b = np.asarray(start["w"], np.float64), start["b"]
    v, c, losses = np.zeros(3), 0.0, []
    for t in range(steps):
        residual = X[t] @ w + b - Y[t]
        losses.append(np.mean(residual**2) + hyper["decay"] * w @ w)
        rate = np.broadcast_to(hyper["rate"], STEPS)[t]
        v = hyper["momentum"] * v + 2 * X[t].T @ residual / 5 + 2 * hyper["decay"] * w
        c = hyper["momentum"] * c + 2 * residual.mean()
        w, b = w - rate * v, b - rate * c
    return w, b, np.array(losses)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batches": lambda key, t: (jnp.asarray(X)[t], jnp.asarray(Y)[t]), "steps": STEPS},
        {"batches": Stream(lambda t: (X[t], Y[t].astype(np.float64))), "steps": STEPS},
    ],
    ids=["stacked", "made inside", "stream"],
)
def test_a_run_is_the_loop_one_would_write(changes):
    run = training(**changes).run(HYPER)
    w, b, losses = by_hand(HYPER)
    np.testing.assert_allclose(run.params["w"], w, rtol=2e-5)
    np.testing.assert_allclose(run.params["b"], b, rtol=2e-5)
    np.testing.assert_allclose(run.losses, losses, rtol=2e-5)


def test_a_rate_for_every_step_is_an_array_that_the_optimizer_reads():
    rates = np.linspace(0.1, 0.01, STEPS)
    scheduled = training(optimizer=lambda h: optax.sgd(lambda count: h["rate"][count], momentum=h["momentum"]))
    run = scheduled.run(HYPER | {"rate": jnp.asarray(rates)})
    np.testing.assert_allclose(run.params["w"], by_hand(HYPER | {"rate": rates})[0], rtol=2e-5)


def test_the_optimizer_sees_the_parameters_of_its_step():
    decayed = training(
        optimizer=lambda h: optax.chain(optax.add_decayed_weights(2 * h["decay"]), optax.sgd(h["rate"], h["momentum"])),
        init=lambda key: init(key) | {"b": jnp.zeros(())},
        loss=lambda params, batch, hyper: loss(params | {"b": 0.0}, batch, hyper | {"decay": 0.0}),
    )
    in_the_loss = training(
        init=lambda key: init(key) | {"b": jnp.zeros(())},
        loss=lambda params, batch, hyper: loss(params | {"b": 0.0}, batch, hyper),
    )
    np.testing.assert_allclose(decayed.run(HYPER).params["w"], in_the_loss.run(HYPER).params["w"], rtol=1e-5)


def test_a_run_can_be_differentiated_and_repeated():
    with jax.enable_x64(True):
        ours = training(init=lambda key: {"w": jnp.ones(3), "b": jnp.zeros(())})

        def last(rate):
            return ours.run(HYPER | {"rate": rate}).losses[-1]

        step = 1e-6
        slope = (last(0.05 + step) - last(0.05 - step)) / (2 * step)
        assert float(jax.grad(last)(0.05)) == pytest.approx(float(slope), rel=1e-7)
        together = jax.vmap(last)(jnp.array([0.01, 0.05]))
        np.testing.assert_allclose(together, [last(0.01), last(0.05)], rtol=1e-12)


def test_seeds_change_the_start_and_the_batches():
    drawn = training(
        batches=lambda key: (X + jax.random.normal(key, X.shape), Y), init=lambda key: init(jax.random.key(7))
    )
    one, same, other = (np.asarray(drawn.run(HYPER, jax.random.key(seed)).params["w"]) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()
    starts = [training().prepare(jax.random.key(seed))[0].trained["w"] for seed in (0, 1)]
    assert (starts[0] != starts[1]).any()


def test_a_training_is_compiled_once():
    traced = []

    def counting(params, batch, hyper):
        traced.append(1)
        return loss(params, batch, hyper)

    ours = training(loss=counting, init=lambda key: init(key) | {"name": "layer", "counts": np.arange(3)})
    ours.run(HYPER)
    first = len(traced)
    ours.run(HYPER | {"rate": 0.01}, jax.random.key(3))
    assert len(traced) == first > 0


def test_only_floating_leaves_train():
    def made(key):
        return init(key) | {"index": np.array([2, 0, 1]), "flag": True, "act": jnp.tanh, "none": None, "number": 3}

    def uses(params, batch, hyper):
        assert params["flag"] is True
        assert params["number"] == 3
        return loss(params | {"w": params["act"](params["w"])[params["index"]]}, batch, hyper)

    run = training(loss=uses, init=made).run(HYPER)
    assert run.params["act"] is jnp.tanh
    assert run.params["index"].tolist() == [2, 0, 1]
    assert run.params["none"] is None
    assert (np.asarray(run.params["w"]) != np.asarray(made(jax.random.split(jax.random.key(0))[0])["w"])).all()


def test_the_loss_may_carry_a_state():
    def running(params, state, batch, hyper):
        return loss(params, batch, hyper), {"mean": 0.9 * state["mean"] + 0.1 * batch[1].mean(), "count": 1}

    run = training(loss=running, init=lambda key: (init(key), {"mean": 0.0, "count": 0}), has_state=True).run(HYPER)
    mean = 0.0
    for t in range(STEPS):
        mean = 0.9 * mean + 0.1 * Y[t].mean()
    assert float(run.carried["mean"]) == pytest.approx(mean, rel=1e-5)
    assert int(run.carried["count"]) == 1
    np.testing.assert_allclose(run.params["w"], by_hand(HYPER)[0], rtol=2e-5)


LEAVES = st.one_of(
    st.floats(allow_nan=False, width=32), st.integers(), st.booleans(), st.none(), st.text(max_size=3),
    st.just(np.arange(3)), st.just(np.ones((2, 2), np.float32)), st.just(jnp.tanh),
)  # fmt: skip


@settings(max_examples=50)
@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner)))
def test_taking_parameters_apart_loses_nothing(params):
    params = [params, 1.0]
    parts = split(params)
    again = join(parts)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    for was, now in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        assert now is was or np.array_equal(np.float32(was) if isinstance(was, float) else was, now)
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(parts.trained))


def test_any_step_can_be_asked_for_its_batch():
    ours = training()
    batches = ours.draw(jax.random.key(0))
    assert batches.steps == STEPS
    assert (np.asarray(ours.batch(batches, 5)[0]) == X[5]).all()
    inside = training(batches=lambda key, t: jax.random.fold_in(key, t), steps=3)
    assert isinstance(inside.draw(jax.random.key(0)), Batches)


def stateful(loss_of):
    return training(loss=loss_of, init=lambda key: (init(key), jnp.zeros(2)), has_state=True)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: training(loss=3), "A Training's loss must be a function, but it is a int."),
        (lambda: training(predict=np.ones(2)), "A Training's predict must be a function, but it is a ndarray of shape"),
        (lambda: training(batches=X), "A Training's batches must be a function"),
        (lambda: training(batches=lambda: X), "batches must be a function of (key) or of (key, t), but it takes ()."),
        (lambda: training(batches=lambda key, t: X), "give Training steps=T"),
        (lambda: training(batches=Stream(lambda t: X)), "With a Stream the number of steps is not known"),
        (lambda: training(steps=0), "steps must be at least 1, but it is 0"),
        (lambda: training(steps=2.5), "steps must be a whole number, but it is 2.5"),
        (lambda: training(steps=5).run(HYPER), "steps is 5, but batches(key) holds 12 batches; leave steps out."),
        (
            lambda: training(batches=lambda key: {"x": X, "y": Y[:11]}).run(HYPER),
            "the steps, but it is 12 in batches(key)['x'] and 11 in batches(key)['y']",
        ),
        (lambda: training(batches=lambda key: (X, 3.0)).run(HYPER), "batches(key)[1] is a single number"),
        (lambda: training(batches=lambda key: ()).run(HYPER), "batches(key) returned no arrays"),
        (lambda: training(batches=lambda key: (X[:0], Y[:0])).run(HYPER), "the steps, has length 0"),
        (lambda: training(batches=lambda key: (X[:, :0], Y[:, :0])).run(HYPER), "batches(key)[0] is empty"),
        (lambda: training(batches=lambda key: (X, Y * np.inf)).run(HYPER), "batches(key)[1][0, 0] is not finite"),
        (lambda: training(init=lambda key: {"w": jnp.zeros(3) / 0, "b": 0.0}).run(HYPER), "init(key)['w'][0] is not"),
        (lambda: training(init=lambda key: {"w": 3}).run(HYPER), "none of the 1 leaves of the parameters is floating"),
        (
            lambda: training(loss=lambda p, b, h: b[0] @ p["w"]).run(HYPER),
            "loss(params, batch, hyper) must return one real number, but it returned a JVPTracer of shape (5,)",
        ),
        (lambda: training(loss=lambda p, b, h: jnp.int32(1)).run(HYPER), "must return one real number"),
        (lambda: training(optimizer=lambda hyper: hyper["rate"]).run(HYPER), "must return an Optax transformation"),
        (lambda: training(has_state=True).run(HYPER), "init(key) must return (params, state), but it returned a dict"),
        (lambda: stateful(lambda p, s, b, h: loss(p, b, h)).run(HYPER), "must return (scalar, state)"),
        (
            lambda: stateful(lambda p, s, b, h: (loss(p, b, h), s[:1])).run(HYPER),
            "was float32[2] and became",
        ),
        (lambda: stateful(lambda p, s, b, h: (loss(p, b, h), (s,))).run(HYPER), "in the form it was given"),
    ],
)
def test_a_mistake_is_named(make, sentence):
    with pytest.raises(InputError) as refused:
        make()
    said = str(refused.value).replace("LinearizeTracer", "JVPTracer")
    assert sentence in said
    assert "\n" not in said


def test_a_stream_whose_batches_change_form_is_named():
    ours = training(batches=Stream(lambda t: (X[t][: 5 - t // 3], Y[t][: 5 - t // 3])), steps=STEPS)
    with pytest.raises(Exception, match=r"Batch 3 of the stream\[0\] has shape \(4, 3\), but batch 0 has \(5, 3\)"):
        jax.block_until_ready(ours.run(HYPER))

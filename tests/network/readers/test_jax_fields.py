"""Receptive fields of random JAX networks against their gradients in float64, every unit of the last map."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thalweg as tw
from jax_random import random_network, seen

QUICK, LONG = 25, 200


def check(seed):
    function, parameters, shape = random_network(seed)
    answer = tw.size((function, parameters), shape)
    assert answer.complete
    truth = seen(function, parameters, shape)
    place = max(number for number, each in enumerate(answer.layers) if each.name == "last")
    for unit, interval in truth.items():
        assert answer.unit(place, unit).clipped == interval, (seed, unit)
    return len(truth)


@pytest.mark.parametrize("seed", [*range(QUICK), 54])  # 54: copies in threes, then blocks of two
def test_fields_are_where_the_gradient_is(seed):
    assert check(seed) > 0


@pytest.mark.long
def test_fields_of_many_networks_are_where_the_gradient_is():
    assert sum(check(seed) for seed in range(1_000, 1_000 + LONG)) > 10_000


def test_the_networks_hold_what_they_should():
    functions = [random_network(seed)[0] for seed in range(QUICK)]
    kinds = {step[0] for function in functions for step in function.__closure__[0].cell_contents}
    assert kinds >= {"conv", "branch", "up", "pool", "pad", "crop", "repeat", "blocks", "stride"}


@pytest.mark.parametrize("order", [[6, 5, 4, 3, 2, 1, 0], [3, 0, 0, 5, 6], None])
def test_places_in_a_known_order_are_followed(order):
    """Read backwards for None, which is an operation of its own."""

    def function(x):
        return x[:, ::-1] if order is None else x[:, jnp.array(order)]

    answer = tw.size(function, (7, 2))
    places = order or [*range(7)][::-1]
    assert [answer.unit(-1, (unit,)).clipped for unit in range(len(places))] == [((each, each),) for each in places]


def test_class_tokens_and_the_map_behind_them_are_followed():
    def function(x):
        tokens = jnp.concatenate([jnp.zeros((1, 2, 3)), x.reshape(1, -1, 3), jnp.ones((1, 1, 3))], 1)
        tokens = jax.nn.relu(tokens)
        back = tokens[:, 2:22].reshape(x.shape)
        pooled = jax.lax.reduce_window(back, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return jnp.concatenate([tokens, pooled.reshape(1, -1, 3)], 1)

    answer = tw.size(function, (4, 5, 3))
    assert answer.lost == ()
    for unit in range(2 + 20 + 1 + 4):
        if unit in (0, 1, 22):
            wanted = None
        elif unit < 22:
            row, column = divmod(unit - 2, 5)
            wanted = ((row, row), (column, column))
        else:
            row, column = divmod(unit - 23, 2)
            wanted = ((2 * row, 2 * row + 1), (2 * column, 2 * column + 1))
        assert answer.unit(-1, (unit,)).clipped == wanted


@pytest.mark.parametrize("method", ["linear", "cubic", "lanczos3", "nearest"])
@pytest.mark.parametrize(("before", "after"), [(7, 10), (9, 4), (5, 13), (11, 7)])
def test_maps_resized_by_any_ratio_are_followed(method, before, after):
    def function(x):
        return jax.image.resize(x, (*x.shape[:-2], after, x.shape[-1]), method)

    answer = tw.size(function, (before, 2))
    derivatives = jax.jacobian(function)(jnp.zeros((before, 2)))[:, 0, :, 0]
    for unit in range(after):
        (seen,) = np.nonzero(np.abs(derivatives[unit]) > 1e-6)
        assert answer.unit(-1, (unit,)).clipped == ((seen[0], seen[-1]),)

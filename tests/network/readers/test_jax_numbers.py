"""Arithmetic of small constants against JAX itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thalweg.network.readers.jax_numbers import MAX_KNOWN, computed, held


def result(jaxpr, values=()):
    """What a jaxpr without inputs makes, equation by equation; None where one is not known."""
    known = dict(zip(jaxpr.invars, values, strict=True))
    for equation in jaxpr.eqns:
        numbers = [held(each.val) if hasattr(each, "val") else known.get(each) for each in equation.invars]
        inner = equation.params.get("jaxpr")
        if inner is not None:
            made = result(inner.jaxpr, numbers)
        else:
            shape = tuple(equation.outvars[0].aval.shape)
            made = computed(equation.primitive.name, equation.params, shape, numbers)
        known[equation.outvars[0]] = made
    last = jaxpr.outvars[0]
    return held(last.val) if hasattr(last, "val") else known[last]


def masks():
    row, column = jnp.arange(6)[:, None], jnp.arange(5)[None]
    band = (row >= column) & (row - column < 3) | (row == 5) & ~(column > 2)
    return jnp.where(band, jnp.exp(-jnp.abs(row - column) / 2.0), 0.0)


def indices():
    grid = jnp.concatenate([jnp.arange(4), 7 - jnp.arange(3)])
    windows = jnp.clip(grid[:, None] - grid[None] + 6, 0, 12) * 13 + (grid % 4)[None] // 2
    return jnp.sign(windows.T[1:5:2] - 9).reshape(2, -1)


def angles():
    rates = 10_000.0 ** (-jnp.arange(3.0) / 3)
    turns = jnp.outer(jnp.floor(jnp.arange(5) * 0.7), rates)
    return jnp.sin(turns).sum(0) - jnp.sqrt(jnp.maximum(jnp.cos(turns), 0)).sum(0) ** 3 + jnp.log(rates)


@pytest.mark.parametrize("make", [masks, indices, angles])
def test_constants_are_what_jax_makes_of_them(make):
    ours, theirs = result(jax.make_jaxpr(make)().jaxpr), make()
    assert ours is not None
    assert ours.shape == theirs.shape
    assert np.allclose(ours, theirs, rtol=1e-5)


def test_what_is_large_or_another_kind_of_value_stays_unknown():
    assert held(np.zeros(MAX_KNOWN + 1)) is None
    assert held(jax.random.key(0)) is None
    assert computed("iota", {"dimension": 0, "dtype": "int32"}, (MAX_KNOWN + 1,), []) is None
    assert computed("erf", {}, (), [np.ones(())]) is None

"""Random networks in JAX: windows, transposed windows, pads, crops, branches, repeats and moves between axes."""

from __future__ import annotations

import random

import jax
import jax.numpy as jnp

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def random_network(seed):
    """A function of parameters and a batch, its parameters (all one), and the extents of its input."""
    rng = random.Random(seed)
    axes = rng.choice([1, 1, 2, 2, 2, 3])
    extents = tuple(rng.randint(*{1: (20, 40), 2: (9, 14), 3: (6, 8)}[axes]) for _ in range(axes))
    channels = rng.choice([1, 2, 4])
    shape, steps, parameters = (*extents, channels), [], {}
    now = shape

    def note(step, name=None, *weights):
        """Keep a step if it leaves a map of a size that can be looked at."""
        nonlocal now
        if name is not None:
            parameters[name] = jnp.ones(weights)
        steps.append(step)
        try:
            made = jax.eval_shape(lambda x: _run(steps, parameters, x), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
        except (TypeError, ValueError):
            made = None
        if made is None or min(made.shape[1:-1]) < 2 or made.size > 3_000:
            steps.pop()
            parameters.pop(name, None)
            return
        now = made.shape[1:]

    for number in range(rng.randint(2, 6)):
        kind = rng.choice(["conv", "conv", "conv", "up", "pool", "pad", "crop", "branch", "repeat", "blocks", "stride"])
        kernel = tuple(rng.randint(1, 4) for _ in range(axes))
        stride = tuple(rng.choice([1, 1, 2, 3]) for _ in range(axes))
        dilation = tuple(rng.choice([1, 1, 2]) for _ in range(axes))
        width = rng.choice([2, 4])
        padding = rng.choice(["SAME", "VALID", tuple((rng.randint(0, 2), rng.randint(0, 2)) for _ in range(axes))])
        name = f"w{number}"
        if kind in ("conv", "branch"):
            groups = rng.choice([1, 1, 2]) if now[-1] % 2 == 0 else 1
            options = {"padding": padding, "dilation": dilation, "groups": groups}
            weights = (*kernel, now[-1] // groups, width)
            if kind == "branch":
                options |= {"padding": "SAME", "groups": 1, "joined": rng.choice(["add", "concat"])}
                stride, weights = (1,) * axes, (*kernel, now[-1], now[-1])
            note((kind, name, {"stride": stride, **options}), name, *weights)
        elif kind == "up":
            note(
                (kind, name, {"stride": stride, "padding": rng.choice(["SAME", "VALID"])}),
                name,
                *kernel,
                now[-1],
                width,
            )
        elif kind == "pool":
            note((kind, "", {"kernel": kernel, "stride": stride, "padding": rng.choice(["SAME", "VALID"])}))
        elif kind in ("pad", "crop"):
            note((kind, "", {"edges": tuple((rng.randint(0, 2), rng.randint(0, 2)) for _ in range(axes))}))
        elif kind == "repeat":
            note((kind, "", {"times": rng.randint(2, 3), "axis": rng.randint(1, axes)}))
        elif kind == "blocks":
            note((kind, name, {"axis": rng.randint(1, axes), "block": 2}), name, *kernel, 2 * now[-1], width)
        elif kind == "stride":
            note((kind, "", {"stride": stride, "first": rng.randint(0, 1)}))
    note(("conv", "last", {"stride": (1,) * axes, "padding": "SAME", "dilation": (1,) * axes, "groups": 1}), "last",
         *(1,) * axes, now[-1], 1)  # fmt: skip
    return (lambda weights, x: _run(steps, weights, x)), parameters, shape


def _run(steps, parameters, x):
    for step in steps:
        x = _step(step, parameters, x)
    return x


def _step(step, parameters, x):
    kind, name, given = step
    layout = LAYOUTS[x.ndim - 2]
    if kind in ("conv", "branch"):
        y = jax.lax.conv_general_dilated(
            x, parameters[name], given["stride"], given["padding"], rhs_dilation=given["dilation"],
            dimension_numbers=layout, feature_group_count=given["groups"],
        )  # fmt: skip
        if kind == "conv":
            return y
        return x + y if given["joined"] == "add" else jnp.concatenate([y, x], -1)
    if kind == "up":
        return jax.lax.conv_transpose(x, parameters[name], given["stride"], given["padding"], dimension_numbers=layout)
    if kind == "pool":
        window, stride = (1, *given["kernel"], 1), (1, *given["stride"], 1)
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, stride, given["padding"]) / 4
    if kind == "pad":
        return jnp.pad(x, ((0, 0), *given["edges"], (0, 0)))
    if kind == "crop":
        cuts = [slice(low, n - high) for (low, high), n in zip(given["edges"], x.shape[1:], strict=False)]
        return x[(slice(None), *cuts)]
    if kind == "repeat":
        return jnp.repeat(x, given["times"], given["axis"])
    if kind == "blocks":  # positions become channels
        axis, block = given["axis"], given["block"]
        if x.shape[axis] % block:
            raise ValueError("the blocks do not fit")
        split = x.reshape(*x.shape[:axis], x.shape[axis] // block, block, *x.shape[axis + 1 :])
        moved = jnp.moveaxis(split, axis + 1, -2)
        moved = moved.reshape(*moved.shape[:-2], -1)
        ones = (1,) * (x.ndim - 2)
        return jax.lax.conv_general_dilated(moved, parameters[name], ones, "SAME", dimension_numbers=layout)
    return x[(slice(None), *(slice(given["first"], None, step) for step in given["stride"]))]


def seen(function, parameters, shape):
    """For every unit of the last map the first and last position, along each axis, with a non-zero gradient."""
    import numpy as np

    with jax.enable_x64(True):
        weights = jax.tree.map(lambda each: jnp.ones(each.shape, jnp.float64), parameters)

        def summed(x):
            return function(weights, x[None])[0].sum(-1)

        gradient = np.asarray(jax.jit(jax.jacrev(summed))(jnp.ones(shape, jnp.float64))) != 0
    axes = len(shape) - 1
    answer = {}
    for unit in np.ndindex(*gradient.shape[:axes]):
        places = np.nonzero(gradient[unit])[:axes]
        answer[unit] = tuple((int(each.min()), int(each.max())) for each in places) if len(places[0]) else None
    return answer

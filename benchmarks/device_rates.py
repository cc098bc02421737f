"""`rates` where X lives on an accelerator, beside NumPy on the same data: the same digits, and how long they take.

    PYTHONPATH=src python benchmarks/device_rates.py --rows 20000 --columns 5000

For NumPy, PyTorch and JAX, as far as they are installed, and X in float64 and float32: the time of one run and of a
plain gradient-descent run of as many steps on the same device, the largest relative difference of the surface from that
of NumPy, and that of the stability limit. Needs NumPy, SciPy and thalweg's sources, and PyTorch or JAX. Where there is
no accelerator they run on the CPU, and the table says so. The process fails where a difference is above 1e-10.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from importlib.util import find_spec

import numpy as np

from thalweg.learning_rate.curve import rates
from thalweg.least_squares import LeastSquares
from thalweg.report import Table

ALLOWED = 1e-10


def seconds(run, repeats=3):
    """The median of some runs, after one that is not counted."""
    clocks = []
    for counted in range(repeats + 1):
        began = time.perf_counter()
        run()
        if counted:
            clocks.append(time.perf_counter() - began)
    return statistics.median(clocks)


def on_numpy(X):
    def plain(t, c, steps):
        w = np.zeros(X.shape[1], X.dtype)
        for _ in range(steps):
            w -= c * (X.T @ (X @ w - t.astype(X.dtype)))

    return X, "the CPU", plain


def on_torch(X):
    import torch

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    there = torch.tensor(X, device=device)
    name = (
        torch.cuda.get_device_name() if device == "cuda" else "the CPU: no accelerator" if device == "cpu" else device
    )

    def plain(t, c, steps):
        w, goal = torch.zeros(X.shape[1], dtype=there.dtype, device=device), torch.tensor(t, device=device).to(there)
        for _ in range(steps):
            w -= c * (there.T @ (there @ w - goal))
        w.cpu()

    return there, name, plain


def on_jax(X):
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        there = jax.device_put(X)
    device = next(iter(there.devices()))
    name = "the CPU: no accelerator" if device.platform == "cpu" else device.device_kind

    @jax.jit
    def step(X, t, c, w):
        return w - c * ((X @ w - t) @ X)

    def plain(t, c, steps):
        with jax.enable_x64(True):
            w, goal = jnp.zeros(X.shape[1], X.dtype), jnp.asarray(t.astype(X.dtype))
            for _ in range(steps):
                w = step(there, goal, X.dtype.type(c), w)
            w.block_until_ready()

    return there, name, plain


PLACES = {"numpy": on_numpy, "torch": on_torch, "jax": on_jax}


def rows(places, X, t, steps):
    for dtype in (np.float64, np.float32):
        values = X.astype(dtype)
        truth = rates(LeastSquares(values, t), steps)
        grid = np.linspace(0.01, 1.1, 200) * truth.stability_rate
        every = np.arange(1, steps + 1)
        exact = truth.loss(grid, every)
        for name in places:
            there, device, plain = PLACES[name](values)
            problem = LeastSquares(there, t)
            ours = rates(problem, steps)
            yield (
                name,
                device,
                np.dtype(dtype).name,
                seconds(lambda p=problem: rates(p, steps)),
                seconds(lambda run=plain, limit=truth.stability_rate: run(t, limit / len(t), steps)),
                float(np.max(np.abs(ours.loss(grid, every) / exact - 1))),
                abs(ours.stability_rate / truth.stability_rate - 1),
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--columns", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=100)
    asked = parser.parse_args()
    generator = np.random.default_rng(0)
    X, t = generator.standard_normal((asked.rows, asked.columns)), generator.standard_normal(asked.rows)
    places = [name for name in PLACES if find_spec(name) is not None]
    found = list(rows(places, X, t, asked.steps))
    columns = ("X in", "on", "precision", "one run, s", "plain run, s", "surface, off by", "stability limit, off by")
    print(Table(f"{asked.steps} steps over {asked.rows:,} x {asked.columns:,}", columns, found).to_text())
    if max(max(row[-2:]) for row in found) > ALLOWED:
        sys.exit(f"A difference is above {ALLOWED:g}.")


if __name__ == "__main__":
    main()

"""What the surface for every learning rate costs beside one plain gradient-descent run over the same data.

T = 100 steps, 200 learning rates, every step: 20,000 exact losses; medians of interleaved runs. The plain run is
`w -= c * (X.T @ (X @ w - t))`, which reads X twice a step. "Two products" is X behind `matvec` and `rmatvec`, which
reads it twice too; "fused" is the array itself, whose rows are read from memory once a step, block by block, so that
the second product finds them in the cache. That matters where X is larger than the caches, and the more so the more of
the memory's speed the processor can use: the large array is also run with a thread of BLAS for each core.

The second table is the time of a run for more steps and for fewer rows: it is in proportion to both.
"""

from __future__ import annotations

import os

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator
from threadpoolctl import threadpool_limits

import thalweg as tw
from harness import interleaved_medians
from thalweg.report import Table

STEPS = 100


def plain_run(X, t, rate):
    c, w = 2 * rate / len(t), np.zeros(X.shape[1])
    for _ in range(STEPS):
        w -= c * (X.T @ (X @ w - t))
    return w


def surface(problem, limit):
    grid = np.linspace(0.01, 1.1, 200) * limit
    return tw.rates(problem, STEPS).loss(grid, np.arange(1, STEPS + 1))


def dense(n, d):
    return np.random.default_rng(0).standard_normal((n, d))


def thin(n, d, entries):
    generator = np.random.default_rng(0)
    rows, columns = generator.integers(n, size=entries), generator.integers(d, size=entries)
    return sparse.csr_array((generator.standard_normal(entries), (rows, columns)), shape=(n, d))


def targets(X):
    return np.random.default_rng(1).standard_normal(X.shape[0])


def cost(name, X, given, threads, repeats):
    t = targets(X)
    problem = tw.LeastSquares(given, t)
    with threadpool_limits(threads):
        limit = problem.stability_rate
        times = interleaved_medians(
            {
                "plain": lambda: plain_run(X, t, limit / 2),
                "surface": lambda: surface(problem, limit),
                "run": lambda: tw.rates(problem, STEPS),
            },
            repeats,
        )
    plain = times["plain"]
    return name, threads, plain, times["surface"] / plain, times["run"] / plain


def costs():
    large = dense(2000, 5000)
    cores = os.cpu_count() or 1
    yield cost("dense 200 x 500", dense(200, 500), dense(200, 500), 1, 25)
    yield cost("dense 1797 x 64", dense(1797, 64), dense(1797, 64), 1, 25)
    yield cost("dense 2000 x 5000, two products", large, aslinearoperator(large), 1, 5)
    yield cost("dense 2000 x 5000, fused", large, large, 1, 5)
    if cores > 1:
        yield cost("dense 2000 x 5000, fused", large, large, cores, 5)
    large = thin(20_000, 50_000, 1_000_000)
    yield cost("sparse 20,000 x 50,000, 1e6 entries", large, large, 1, 7)


def growth():
    X = dense(2000, 2000)
    runs = {"as it is": (X, STEPS), "half the rows": (X[:1000], STEPS), "twice the steps": (X, 2 * STEPS)}
    runs |= {"four times the steps": (X, 4 * STEPS)}
    problems = {name: (tw.LeastSquares(values, targets(values)), steps) for name, (values, steps) in runs.items()}
    contestants = {name: lambda p=p, steps=steps: tw.rates(p, steps) for name, (p, steps) in problems.items()}
    times = interleaved_medians(contestants, repeats=5)
    for name, seconds in times.items():
        yield name, seconds, seconds / times["as it is"]


def main():
    columns = ("data", "BLAS threads", "one plain run, s", "surface / plain", "of it the run")
    print(Table(f"All learning rates beside one plain run of {STEPS} steps", columns, list(costs())).to_text())
    columns = ("dense 2000 x 2000", "one run, s", "of the first")
    print(Table(f"How a run of {STEPS} steps grows", columns, list(growth())).to_text())


if __name__ == "__main__":
    main()

"""What the surface for every learning rate costs beside one plain gradient-descent run over the same data.

T = 100 steps, 200 learning rates, every step: 20,000 exact losses; medians of interleaved runs. The plain run is
`w -= c * (X.T @ (X @ w - t))`, which reads X twice a step. "Two products" is X behind `matvec` and `rmatvec`, which
reads it twice too; "fused" is the array itself, whose rows are read from memory once a step, block by block, so that
the second product finds them in the cache. That matters where X is larger than the caches, and the more so the more of
the memory's speed the processor can use: the large array is also run with a thread of BLAS for each core. "Whole" is
the run with as many products as steps, which schedules and momentum need; where products are dear, the surface alone
makes fewer of them (`thalweg.learning_rate.constant_rates`).

The second table is the time of a run for more steps and for fewer rows: in proportion to the rows, and for many steps
to the square root of their number.
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
                "whole run": lambda: tw.rates(problem, STEPS, whole=True),
            },
            repeats,
        )
    plain = times["plain"]
    products = tw.rates(problem, STEPS).run.done
    return name, threads, plain, times["surface"] / plain, products, times["whole run"] / plain


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
    runs = [(X[:1000], 100), *((X, steps) for steps in (100, 200, 400, 1000, 4000))]
    problems = [(tw.LeastSquares(values, targets(values)), steps) for values, steps in runs]
    contestants = {place: lambda p=p, steps=steps: tw.rates(p, steps) for place, (p, steps) in enumerate(problems)}
    plain = {"plain": lambda: plain_run(X, problems[1][0].t, 1e-3)}
    times = interleaved_medians(contestants | plain, repeats=5)
    for place, (problem, steps) in enumerate(problems):
        literal = times["plain"] * steps / STEPS * problem.n / len(X)
        products = tw.rates(problem, steps).run.done
        yield problem.n, steps, products, times[place], times[place] / times[1], times[place] / literal


def main():
    columns = ("data", "BLAS threads", "one plain run, s", "surface / plain", "products", "whole run / plain")
    print(Table(f"All learning rates beside one plain run of {STEPS} steps", columns, list(costs())).to_text())
    columns = ("rows of 2000 columns", "steps", "products", "the run, s", "of 100 steps", "of as many plain steps")
    print(Table(f"How a run of {STEPS} steps grows", columns, list(growth())).to_text())


if __name__ == "__main__":
    main()

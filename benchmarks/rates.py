"""What the surface for every learning rate costs beside one plain gradient-descent run over the same data.

T = 100 steps, 200 learning rates, every step: 20,000 exact losses; medians of interleaved runs.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

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


def cases():
    generator = np.random.default_rng(0)
    for n, d in ((200, 500), (2000, 5000), (1797, 64)):
        yield f"dense {n} x {d}", generator.standard_normal((n, d))
    entries = generator.standard_normal(1_000_000)
    rows, columns = generator.integers(20_000, size=1_000_000), generator.integers(50_000, size=1_000_000)
    yield "sparse 20,000 x 50,000, 1e6 entries", sparse.csr_array((entries, (rows, columns)), shape=(20_000, 50_000))


def main():
    rows = []
    for name, X in cases():
        t = np.random.default_rng(1).standard_normal(X.shape[0])
        problem = tw.LeastSquares(X, t)
        limit = problem.stability_rate
        times = interleaved_medians(
            {
                "plain": lambda X=X, t=t, limit=limit: plain_run(X, t, limit / 2),
                "surface": lambda problem=problem, limit=limit: surface(problem, limit),
                "run": lambda problem=problem: tw.rates(problem, STEPS),
            },
            repeats=5,
        )
        plain = times["plain"]
        rows.append((name, plain, times["surface"] / plain, times["run"] / plain, 200.0))
    columns = ("data", "one plain run, s", "surface / plain", "of it the run", "200 runs / plain")
    print(Table(f"All learning rates beside one plain run of {STEPS} steps", columns, rows).to_text())


if __name__ == "__main__":
    main()

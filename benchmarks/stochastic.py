"""What the exact second moment of stochastic gradient descent costs, and how far the closure is from it.

The first table times one step of the recursion, the stability limit, and the best rate for 100 steps, for single
examples; the second compares the closure with the exact answers at the exact best rate for 100 steps, and both with
literal runs where the exact recursion would take too long.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import thalweg as tw
from thalweg.learning_rate.closure import Closure
from thalweg.learning_rate.coordinates import coordinates
from thalweg.learning_rate.second_moment import SecondMoment
from thalweg.report import Table

DATA = ("digits", "diabetes", "breast_cancer", "gaussian:n=200,d=500,seed=0,noise=1")


def clock(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def costs():
    generator = np.random.default_rng(0)
    cases = [(name, *(lambda data: (data.X, data.t))(tw.load(name))) for name in DATA]
    cases.append(("100,000 x 20", generator.standard_normal((100_000, 20)), generator.standard_normal(100_000)))
    if "--full" in sys.argv:
        cases.append(("2000 x 2500", generator.standard_normal((2000, 2500)), generator.standard_normal(2000)))
    for name, X, t in cases:
        problem = tw.LeastSquares(X, t)
        held = []
        made = clock(lambda p=problem, h=held: h.append(SecondMoment(coordinates(p, np.zeros(p.d), rows=True))))
        (moment,) = held
        limit = clock(lambda m=moment: m.stability_rate(1.0))
        step = clock(lambda m=moment: m.losses(np.array([1e-6]), np.ones(1), 10)) / 10
        best = None
        if name != "2000 x 2500":
            best = clock(lambda p=problem: tw.rates(p, 100).sgd(1).best_rate(100))
        yield name, made, step, limit, best


def distances():
    for name in DATA:
        data = tw.load(name)
        curve = tw.rates(tw.LeastSquares(data.X, data.t), 100)
        exact = curve.sgd([1, 8, 64])
        near = Closure(coordinates(curve.problem, curve.start, rows=False))
        for size, spread, rate, loss, limit in zip(
            exact.batch, exact.spread, exact.best_rate(100), exact.best_loss(100), exact.stability_rate, strict=True
        ):
            ours = near.losses(np.array([rate]), np.array([spread]), 100)[0, -1]
            yield name, int(size), ours / loss - 1, near.stability_rate(spread) / limit - 1


def main():
    columns = ("data", "preparation, s", "one step, s", "stability limit, s", "best rate for 100 steps, s")
    print(Table("The exact second moment, batches of one", columns, list(costs())).to_text())
    columns = ("data", "batch size", "loss at the best rate, off by", "stability limit, off by")
    print(Table("The closure beside the exact recursion", columns, list(distances())).to_text())


if __name__ == "__main__":
    main()

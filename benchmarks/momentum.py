"""What the momentum surface and its best pair cost, beside the one run they stand on.

A surface is 100 learning rates x 100 momenta after T steps, from nodes that `tw.rates` has found already.
"""

from __future__ import annotations

import numpy as np

import thalweg as tw
from harness import interleaved_medians
from thalweg.report import Table


def main():
    rows = []
    for name in ("digits", "gaussian:n=200,d=500,seed=0,noise=1"):
        data = tw.load(name)
        problem = tw.LeastSquares(data.X, data.t)
        for steps in (100, 1000):
            curve = tw.rates(problem, steps)
            grid, momenta = np.geomspace(0.02, 2.2, 100) * curve.stability_rate, np.linspace(0, 1, 100)
            for kind in ("heavy-ball", "nesterov"):
                surface = curve.momentum(kind)
                times = interleaved_medians(
                    {
                        "run": lambda problem=problem, steps=steps: tw.rates(problem, steps),
                        "surface": lambda s=surface, g=grid, m=momenta, t=steps: s.log10_loss(g, m, t),
                        "best": lambda s=surface, t=steps: s.best(t),
                    },
                    repeats=3,
                )
                rows.append((name, steps, kind, times["run"], times["surface"], times["best"]))
    columns = ("data", "steps", "kind", "one run, s", "surface of 10,000 pairs, s", "best pair, s")
    print(Table("Momentum: every pair after T steps, and the best", columns, rows).to_text())


if __name__ == "__main__":
    main()

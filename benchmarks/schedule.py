"""What the best schedule reaches when it is run as written, and what choosing it costs.

Every number is that of a literal float64 run, `w <- w - rate (2/n) X^T (X w - t)`, relative to what SciPy's LSQR
reaches after as many steps. The target is 1.01 up to 20 steps and 1.25 at 50, predicted within 5%, with no loss on the
way above the first; clocks are medians of interleaved runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.sparse.linalg import lsqr

import thalweg as tw
from harness import interleaved_medians
from thalweg.report import Table

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from oracles import FIVE_DATA_SETS, least_squares_data


def literal_losses(X, t, schedule):
    n, w, step, losses = len(t), np.zeros(X.shape[1]), 0.0, []
    for rate, momentum in zip(schedule.rates, schedule.momenta, strict=True):
        residual = X @ w - t
        losses.append(residual @ residual / n)
        step = momentum * step - rate * (2 / n) * (X.T @ residual)
        w = w + step
    return np.array([*losses, np.mean((X @ w - t) ** 2)])


def row(name, steps):
    X, t = least_squares_data(name)
    problem = tw.LeastSquares(X, t)
    curve = tw.rates(problem, steps)
    ideal = np.mean((X @ lsqr(X, t, atol=0, btol=0, conlim=0, iter_lim=steps)[0] - t) ** 2)
    plain, with_momentum = curve.schedule_details(), curve.schedule_details(momentum=True)
    losses = literal_losses(X, t, plain)
    times = interleaved_medians(
        {"run": lambda: tw.rates(problem, steps), "choose": lambda: curve.schedule_details()}, repeats=5
    )
    return (
        name,
        steps,
        losses[-1] / ideal,
        plain.loss / losses[-1] - 1,
        losses.max() / losses[0],
        literal_losses(X, t, with_momentum)[-1] / ideal,
        plain.constant_loss / ideal,
        1e3 * times["run"],
        1e3 * times["choose"],
    )


def main():
    columns = (
        *("data", "steps", "schedule / LSQR", "predicted / run - 1", "peak", "with momentum / LSQR"),
        *("constant / LSQR", "the run, ms", "choosing, ms"),
    )
    rows = [row(name, steps) for name in FIVE_DATA_SETS for steps in (1, 5, 10, 20, 50)]
    print(Table("The best schedules, run literally", columns, rows).to_text())


if __name__ == "__main__":
    main()

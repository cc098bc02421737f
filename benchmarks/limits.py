"""How long many optimizers and many seeds take in one compiled run.

13 optimizers x 32 seeds x 20,000 steps on 20 x 100 data, batches of 5, from a cold start.
"""

from __future__ import annotations

import time

import numpy as np

import thalweg as tw
from thalweg.implicit_bias.compiled import run_together
from thalweg.implicit_bias.trajectories import prepared
from thalweg.report import Table

OPTIMIZERS = ("sgd", "minibatch", "minibatch-replacement", "momentum", "nesterov", "adagrad", "optax-adagrad")
OPTIMIZERS += ("rmsprop", "adam", "adamw", "sign", "lion", "normalised")
SEEDS, STEPS, BATCH = 32, 20_000, 5


def problem():
    generator = np.random.default_rng(0)
    # With a penalty, so that no run arrives early and every one of the steps is taken.
    return tw.LeastSquares(generator.standard_normal((20, 100)), generator.standard_normal(20), l2=1e-3)


def timed(steps):
    """Wall-clock and processor seconds until the first steps are done, which is mostly compiling, and until the end."""
    data = problem()
    runs = [prepared(data, name, batch=BATCH) for name in OPTIMIZERS]
    began, processor = time.perf_counter(), time.process_time()
    first = []

    def progress(step):
        if step > 0 and not first:
            first.extend((time.perf_counter() - began, time.process_time() - processor))

    found = list(run_together(data, runs, range(SEEDS), steps=steps, progress=progress))
    assert sum(run.steps for run in found) == len(runs) * SEEDS * steps
    return first, (time.perf_counter() - began, time.process_time() - processor)


def main():
    (compile_wall, compile_cpu), (wall, cpu) = timed(STEPS)
    taken = len(OPTIMIZERS) * SEEDS * STEPS
    rows = [
        ("import and compile", compile_wall, compile_cpu, None),
        ("run", wall - compile_wall, cpu - compile_cpu, (wall - compile_wall) / taken * 1e6),
    ]
    title = f"{len(OPTIMIZERS)} optimizers x {SEEDS} seeds x {STEPS:,} steps, 20 x 100, batches of {BATCH}"
    print(Table(title, ("part", "wall clock, s", "processor, s", "a step, us"), rows).to_text())


if __name__ == "__main__":
    main()

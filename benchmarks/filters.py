"""How often `filters` is right about kernels in noise of 10 dB, beside what any method can reach.

Noise: white and Gaussian on every tap, its expected energy a tenth of the kernel's. Three columns are ours: labels
right, angles within 5 degrees (the most probable angle, given that most kernels point to multiples of 45), and angles
as measured by the taps alone.

Two are bounds. "knows the zoo": the label of the kernel, out of exactly those tried here, that lies nearest to the
noisy one, both scaled to energy 1: a judge who knows all that can be shown to him, and the noise. "unbiased": the
share within 5 degrees of an estimate with the Cramer-Rao deviation of a steered edge, sqrt(0.1 / taps) radians; no
estimate that does not favour some angles does better.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import norm

from thalweg.network.kernels.judging import judge
from thalweg.report import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from kernel_zoo import degrees_apart, noisy, zoo


def turn_of(animal):
    return 360 if animal.label == "oriented edge" else 180


def nearest_label(kernel, animals, units):
    return animals[int(np.argmax(units @ kernel.ravel()))].label


def rates(size, seeds, decibels):
    """For each name the rates of ours and of the judge who knows the zoo."""
    animals = zoo(size)
    units = np.array([(each.kernel / np.linalg.norm(each.kernel)).ravel() for each in animals])
    generator = np.random.default_rng(size)
    found = {}
    for animal in animals:
        for _ in range(seeds):
            kernel = noisy(animal.kernel, generator, decibels)
            (judged,) = judge([kernel])
            right = judged.label == animal.label
            row = [right, nearest_label(kernel, animals, units) == animal.label]
            if animal.angle is not None:
                angles = (judged.direction.angle, judged.direction.measured) if right and judged.direction else ()
                row += [degrees_apart(angle, animal.angle, turn_of(animal)) <= 5 for angle in angles] or [False, False]
            found.setdefault(animal.name, []).append(row)
    return {name: np.mean(rows, axis=0) for name, rows in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many times each kernel is tried")
    parser.add_argument("--decibels", type=float, default=10.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 3, 5, 7, 9, 11])
    given = parser.parse_args()
    began = time.perf_counter()
    for size in given.sizes:
        rows = []
        for name, means in rates(size, given.seeds, given.decibels).items():
            angles = [f"{rate:.1%}" for rate in means[2:]] or ["", ""]
            rows.append((name, f"{means[0]:.1%}", f"{means[1]:.1%}", *angles))
        deviation = np.degrees(np.sqrt(10 ** (-given.decibels / 10)) / size)
        bound = 2 * norm.cdf(5 / deviation) - 1
        columns = ("kernel", "label right", "label, knows the zoo", "angle within 5 deg", "as measured")
        note = f"angle of an edge, unbiased: deviation {deviation:.1f} deg, {bound:.1%} within 5 deg at best"
        print(Table(f"{size} x {size} taps at {given.decibels:g} dB", columns, rows, (note,)).to_text(), "\n")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()

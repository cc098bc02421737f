"""How often `filters` is right about kernels in noise of 10 dB, beside what any method can reach.

Noise: white and Gaussian on every tap, its expected energy a tenth of the kernel's. Three columns are ours: labels
right, angles within 5 degrees (the most probable angle, given that most kernels point to multiples of 45), and angles
as measured by the taps alone.

Two are bounds. "knows the zoo": the label of the kernel, out of exactly those tried here, that lies nearest to the
noisy one, both scaled to energy 1: a judge who knows all that can be shown to him, and the noise. "unbiased": the
share within 5 degrees of an estimate with the Cramer-Rao deviation of a steered edge, sqrt(0.1 / taps) radians; no
estimate that does not favour some angles does better.

"knows unsharp masks too" is no bound. It is the most probable label for a judge who knows the zoo and the noise, but
must reckon with unsharp masks, which are not tried here. Before he sees a kernel he holds all labels for equally
likely, masks for half of all sharpening, and otherwise all kernels of one label for equally likely.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.stats import norm

from thalweg.network.kernels.judging import judge
from thalweg.report import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from kernel_zoo import LAPLACIANS, Animal, degrees_apart, embedded, gaussian, noisy, zoo


def turn_of(animal):
    return 360 if animal.label == "oriented edge" else 180


def unsharp_masks(size):
    """A tap plus once or twice what a blur takes from it, and the zoo's sharpening at half its strength."""
    if size == 2:
        return []
    tap = embedded(np.ones((1, 1)), size)
    blurs = [gaussian(size, width) for width in (0.5, 0.7, 1, 1.4)]
    blurs += [embedded(np.ones((side, side)) / side**2, size) for side in (3, 5) if side <= size]
    details = [strength * (tap - blur) for blur in blurs for strength in (1, 2)]
    details += [embedded(laplacian, size) / 2 for laplacian in LAPLACIANS.values()]
    return [Animal("unsharp mask", "sharpen", None, tap + detail) for detail in details]


def unit_rows(animals):
    return np.array([(each.kernel / np.linalg.norm(each.kernel)).ravel() for each in animals])


def nearest_label(kernel, animals, units):
    return animals[int(np.argmax(units @ kernel.ravel()))].label


class KnowsMasksToo:
    """A judge who adds up how probable all kernels of a label are, those of the zoo and unsharp masks."""

    def __init__(self, size, decibels):
        animals, masks = zoo(size), unsharp_masks(size)
        alike = Counter(each.label for each in animals)
        priors = [(0.5 if each.label == "sharpen" else 1) / alike[each.label] for each in animals]
        priors += [0.5 / len(masks) for _ in masks]
        self._log_priors = np.log(priors)
        self._units = unit_rows([*animals, *masks])
        labels = np.array([each.label for each in (*animals, *masks)])
        self._members = {label: np.flatnonzero(labels == label) for label in alike}
        self._noise = 1 / (1 + 10 ** (decibels / 10))  # its share of the energy of a noisy kernel

    def label(self, kernel):
        fits = self._units @ kernel.ravel() / np.linalg.norm(kernel)
        left = 1 - np.maximum(fits, 0) ** 2
        logs = self._log_priors - kernel.size * left / (2 * self._noise)
        return max(self._members, key=lambda label: np.logaddexp.reduce(logs[self._members[label]]))


def rates(size, seeds, decibels, beginnings):
    """For each name that begins so the rates of ours and of the judges who know the zoo and masks too."""
    animals = zoo(size)
    units = unit_rows(animals)
    knows_masks_too = KnowsMasksToo(size, decibels)
    generator = np.random.default_rng(size)
    found = {}
    for animal in animals:
        if not animal.name.startswith(beginnings):
            continue
        for _ in range(seeds):
            kernel = noisy(animal.kernel, generator, decibels)
            (judged,) = judge([kernel])
            labels = judged.label, nearest_label(kernel, animals, units), knows_masks_too.label(kernel)
            row = [label == animal.label for label in labels]
            if animal.angle is not None:
                angles = (judged.direction.angle, judged.direction.measured) if row[0] and judged.direction else ()
                row += [degrees_apart(angle, animal.angle, turn_of(animal)) <= 5 for angle in angles] or [False, False]
            found.setdefault(animal.name, []).append(row)
    return {name: np.mean(rows, axis=0) for name, rows in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many times each kernel is tried")
    parser.add_argument("--decibels", type=float, default=10.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 3, 5, 7, 9, 11])
    parser.add_argument("--kernels", nargs="+", default=[""], help="only those whose names begin with one of these")
    given = parser.parse_args()
    began = time.perf_counter()
    for size in given.sizes:
        rows = []
        for name, means in rates(size, given.seeds, given.decibels, tuple(given.kernels)).items():
            angles = [f"{rate:.1%}" for rate in means[3:]] or ["", ""]
            rows.append((name, *(f"{rate:.1%}" for rate in means[:3]), *angles))
        if not rows:
            continue
        deviation = np.degrees(np.sqrt(10 ** (-given.decibels / 10)) / size)
        bound = 2 * norm.cdf(5 / deviation) - 1
        judges = ("label right", "label, knows the zoo", "knows unsharp masks too")
        columns = ("kernel", *judges, "angle within 5 deg", "as measured")
        note = f"angle of an edge, unbiased: deviation {deviation:.1f} deg, {bound:.1%} within 5 deg at best"
        print(Table(f"{size} x {size} taps at {given.decibels:g} dB", columns, rows, (note,)).to_text(), "\n")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()

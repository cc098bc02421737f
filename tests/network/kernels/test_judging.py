"""Labels and directions: clean, in noise, and the laws that turning, scaling, negating and padding obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from kernel_zoo import LAPLACIANS, Animal, degrees_apart, edges, gabor, noisy, steered, zoo
from thalweg.network.kernels.families import LABELS
from thalweg.network.kernels.judging import judge, prepared

SIZES = (2, 3, 5, 7, 9, 11)


def turn_of(label):
    return 360 if label == "oriented edge" else 180


@pytest.mark.parametrize("size", SIZES)
def test_clean_kernels_are_what_textbooks_call_them(size):
    for animal in zoo(size):
        (judged,) = judge([animal.kernel])
        assert judged.label == animal.label, animal.name
        if animal.angle is None:
            assert judged.direction is None
        else:
            assert degrees_apart(judged.direction.angle, animal.angle, turn_of(animal.label)) < 0.7, animal.name


@pytest.mark.parametrize("angle", [3, 22.5, 30, 44, 61.8, 100, 200, 359])
def test_a_clean_edge_keeps_a_direction_that_is_no_multiple_of_45(angle):
    for smoothing, slope in (
        ([1, 2, 1], [-1, 0, 1]),
        ([1, 1, 1], [-1, 0, 1]),
        ([3, 10, 3], [-1, 0, 1]),
        ([1, 1], [-1, 1]),
    ):
        direction = judge([steered(smoothing, slope, angle)])[0].direction
        assert degrees_apart(direction.angle, angle, 360) < 0.1
        assert direction.spread < 0.6


def rates(animals, seeds, seed):
    """The shares of labels right, and of angles within 5 degrees, of noisy kernels."""
    generator = np.random.default_rng(seed)
    labels, angles = [], []
    for animal in animals:
        for _ in range(seeds):
            (judged,) = judge([noisy(animal.kernel, generator)])
            labels.append(judged.label == animal.label)
            if animal.angle is not None:
                right = labels[-1] and judged.direction is not None
                angles.append(right and degrees_apart(judged.direction.angle, animal.angle, turn_of(animal.label)) <= 5)
    return np.mean(labels), np.mean(angles) if angles else None


# At 10 dB no method tells sharpening from a Laplacian (the kernels differ by less than the noise; see
# benchmarks/filters.py, which puts our rates beside the bound); everything else must be right.
def is_distinct(animal):
    return animal.label != "sharpen" and animal.name not in ("laplacian 4", "laplacian 8", "identity")


@pytest.mark.parametrize("size", SIZES)
def test_labels_and_angles_hold_at_ten_decibels(size):
    animals = [animal for animal in zoo(size) if is_distinct(animal) and animal.label != "line"]
    labels, angles = rates(animals, 4, seed=size)
    assert labels > 0.96
    assert angles > 0.93


@pytest.mark.parametrize(("centre", "most"), [(4, 0.66), (8, 0.57)])
def test_nobody_tells_sharpening_from_laplacians_at_ten_decibels(centre, most):
    """Known kernels, known noise, two to choose from: right with probability Phi(d / 2 sigma), d their distance.

    Their scale is not known, so both have energy 1, and the noise a tenth of it, spread over nine taps.
    """
    laplacian = LAPLACIANS[centre] / np.linalg.norm(LAPLACIANS[centre])
    sharpened = LAPLACIANS[centre] + np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    sharpened = sharpened / np.linalg.norm(sharpened)
    deviation = np.sqrt(0.1 / 9)
    right = norm.cdf(np.linalg.norm(laplacian - sharpened) / (2 * deviation))
    assert right < most
    generator = np.random.default_rng(0)
    drawn = laplacian + deviation * generator.standard_normal((100_000, 3, 3))
    nearer = ((drawn - laplacian) ** 2).sum((1, 2)) < ((drawn - sharpened) ** 2).sum((1, 2))
    assert nearer.mean() == pytest.approx(right, abs=0.006)  # four deviations


def test_sharpening_and_laplacians_are_told_apart_about_as_well_as_can_be():
    animals = [animal for animal in zoo(3) if animal.name in ("laplacian 4", "laplacian 8", "sharpen 5", "sharpen 9")]
    labels, _ = rates(animals, 60, seed=0)
    assert labels > 0.5  # of four that can only be guessed at, in two pairs
    # What is lost is told: the other label is named as nearly as likely.
    (judged,) = judge([noisy(LAPLACIANS[8], np.random.default_rng(1))])
    assert judged.scores["sharpen"] + judged.scores["unoriented edge"] > 0.8


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES)
def test_labels_and_angles_hold_at_ten_decibels_over_many_seeds(size):
    animals = [animal for animal in zoo(size) if is_distinct(animal) and animal.label != "line"]
    labels, angles = rates(animals, 100, seed=size)
    assert labels > 0.98
    assert angles > 0.96


def test_many_noisy_edges_that_point_anywhere_are_not_all_moved_to_multiples_of_45():
    generator = np.random.default_rng(0)
    angles = generator.uniform(0, 360, 300)
    kernels = [noisy(steered([1, 4, 6, 4, 1], [-1, -2, 0, 2, 1], angle), generator) for angle in angles]
    together = np.mean([judged.direction.angle % 45 == 0 for judged in judge(kernels)])
    alone = np.mean([judge([kernel])[0].direction.angle % 45 == 0 for kernel in kernels])
    assert together < 0.35
    assert alone > 0.4


def test_pure_noise_is_other():
    generator = np.random.default_rng(0)
    for size in (5, 7, 9):
        assert {judge([generator.standard_normal((size, size))])[0].label for _ in range(20)} == {"other"}


def test_a_shift_and_what_inverts_are_other():
    shift = np.zeros((3, 3))
    shift[1, 2] = 1
    for kernel in (shift, -shift, [[-1.0]], -np.ones((3, 3)), np.pad([[-1.0]], 1)):
        assert judge([np.asarray(kernel)])[0].label == "other"


def test_scores_are_probabilities():
    for judged in judge([animal.kernel for animal in zoo(5)]):
        assert tuple(judged.scores) == LABELS
        assert sum(judged.scores.values()) == pytest.approx(1)
        assert min(judged.scores.values()) >= 0
        assert judged.scores[judged.label] == max(judged.scores.values())


animals = st.sampled_from([animal for size in (2, 3, 5, 7) for animal in zoo(size)])


@given(animals, st.integers(0, 2**32 - 1), st.sampled_from([10.0, 20.0, 60.0]))
@settings(max_examples=60)
def test_turning_a_kernel_by_90_degrees_turns_its_direction_and_keeps_its_label(animal, seed, decibels):
    kernel = noisy(animal.kernel, np.random.default_rng(seed), decibels)
    before, after = judge([kernel])[0], judge([np.rot90(kernel)])[0]
    first, second = sorted(before.scores.values())[-2:]
    assume(second - first > 1e-6)
    assert after.label == before.label
    np.testing.assert_allclose(list(after.scores.values()), list(before.scores.values()), atol=1e-6)
    if before.direction is not None:
        turn = turn_of(before.label)
        assert degrees_apart(after.direction.angle, before.direction.angle + 90, turn) < 0.02
        assert degrees_apart(after.direction.measured, before.direction.measured + 90, turn) < 0.02


@given(animals, st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
@settings(max_examples=40)
def test_scaling_changes_nothing(animal, seed, factor):
    kernel = noisy(animal.kernel, np.random.default_rng(seed))
    before, after = judge([kernel])[0], judge([factor * kernel])[0]
    np.testing.assert_allclose(list(after.scores.values()), list(before.scores.values()), atol=1e-6)
    if before.direction is not None and after.label == before.label:
        assert degrees_apart(after.direction.angle, before.direction.angle, 180) < 0.02


@pytest.mark.parametrize("factor", [1e-320, 1e-200, 1e200, 1e307])
def test_no_scale_is_too_small_or_too_large(factor):
    judged = judge([np.sign(steered([1, 1, 1], [-1, 0, 1], 0)) * factor])[0]
    assert (judged.label, judged.direction.angle) == ("oriented edge", 0)


@given(st.sampled_from([animal for size in (2, 3, 5, 7) for animal in edges(size)]), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_negating_an_edge_turns_it_by_half_a_turn(animal, seed):
    kernel = noisy(animal.kernel, np.random.default_rng(seed), 20)
    before, after = judge([kernel])[0], judge([-kernel])[0]
    assert before.label == after.label == "oriented edge"
    assert degrees_apart(after.direction.angle, before.direction.angle + 180, 360) < 0.02


@given(arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(-9, 9)), st.integers(1, 3))
@settings(max_examples=40)
def test_zeros_around_a_kernel_change_nothing(kernel, margin):
    assume(kernel.any())
    before, after = judge([kernel])[0], judge([np.pad(kernel, margin)])[0]
    assert after == before


def test_long_kernels_are_looked_at_in_sums_of_neighbours():
    kernel = gabor(61, 20, 30, 0, 1)
    assert prepared(kernel).shape == (31, 31)
    assert prepared(kernel).sum() == pytest.approx(kernel.sum())
    judged = judge([kernel])[0]
    assert judged.label == "Gabor-like"
    assert degrees_apart(judged.direction.angle, 30, 180) < 1


def test_kernels_judged_together_come_back_in_order():
    kernels = [Animal("", "", None, animal.kernel) for animal in zoo(3)]
    labels = [judged.label for judged in judge([each.kernel for each in kernels])]
    assert labels == [animal.label for animal in zoo(3)]

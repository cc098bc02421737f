"""The families of kernels: what defines each, told by its frequency response and its moments."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.network.correlation import correlate, frequency_response
from thalweg.network.kernels.families import LABELS, MAX_SIDE, Plane, bank, wave

SHAPES = [(1, 1), (1, 5), (5, 1), (2, 2), (3, 3), (4, 6), (7, 7), (8, 8)]


def members(label, shape):
    found = bank(*shape)
    return found.templates[found.label == LABELS.index(label)].reshape(-1, *shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_members_have_unit_energy_and_the_shares_of_a_label_sum_to_one(shape):
    found = bank(*shape)
    np.testing.assert_allclose((found.templates**2).sum(axis=1), 1, atol=1e-12)
    for number, label in enumerate(LABELS):
        own = found.label == number
        if own.any() and label != "other":
            assert np.exp(found.log_weight[own]).sum() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (7, 7)])
def test_flat_areas_pass_a_blur_more_strongly_than_any_wave(shape):
    for kernel in members("blur", shape):
        response = frequency_response(kernel, 64)
        assert response[0, 0] > 0
        assert response[0, 0] == pytest.approx(response.max())


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (4, 6), (7, 7)])
def test_flat_areas_vanish_behind_edges_lines_and_laplacians(shape):
    for label in ("oriented edge", "line"):
        assert np.abs(members(label, shape).sum(axis=(1, 2))).max(initial=0) < 1e-12
    wide = members("unoriented edge", shape).sum(axis=(1, 2))
    assert np.abs(wide).max(initial=0) < 1e-12


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (5, 5), (4, 6)])
def test_an_edge_answers_most_to_a_ramp_that_rises_where_it_points(shape):
    plane = Plane(*shape)
    found = bank(*shape)
    for number, family in enumerate(found.families):
        if family.label != "oriented edge" or shape[0] != shape[1]:
            continue
        for angle in (0, 45, 90, 210):
            kernel = family.make(angle)
            slopes = np.radians(np.arange(360))
            answers = [(kernel * (np.cos(slope) * plane.x + np.sin(slope) * plane.y)).sum() for slope in slopes]
            away = (np.argmax(answers) - angle + 180) % 360 - 180
            assert abs(away) <= (1 if angle % 45 == 0 else 12), (number, angle)


def test_an_edge_to_the_right_brightens_the_answer_where_the_image_brightens_to_the_right():
    step = np.zeros((9, 9))
    step[:, 5:] = 1
    for family in bank(3, 3).families:
        if family.label == "oriented edge":
            assert correlate(step, family.make(0))[4, 4] > 0
            assert correlate(step.T[::-1], family.make(90))[4, 4] > 0  # bright above


def test_sharpening_passes_flat_areas_and_fine_waves_more_strongly():
    for kernel in members("sharpen", (3, 3)):
        response = frequency_response(kernel, 64)
        assert kernel.sum() > 0
        assert response.max() > 1.2 * response[0, 0]


def test_a_wave_passes_its_own_period_across_its_stripes():
    kernel = wave(Plane(15, 15), 5, 3, 3, 0, 30)
    response = frequency_response(kernel, 64)
    down, across = np.unravel_index(np.argmax(response), response.shape)
    fx, fy = np.fft.fftfreq(64)[across], -np.fft.fftfreq(64)[down]
    assert 1 / np.hypot(fx, fy) == pytest.approx(5, abs=0.3)
    assert (np.degrees(np.arctan2(fy, fx)) - 90) % 180 == pytest.approx(30, abs=4)


def test_in_a_single_row_only_the_row_is_a_direction():
    plane = Plane(1, 5)
    assert plane.directions(360, 15).tolist() == [0, 180]
    assert plane.directions(180, 15).tolist() == [90]
    column = Plane(5, 1)
    assert column.directions(360, 15).tolist() == [90, 270]
    assert column.directions(180, 15).tolist() == [0]


def test_the_kernels_of_textbooks_are_members():
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    for label, kernel in (
        ("oriented edge", sobel),
        ("oriented edge", np.array([[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]])),
        ("unoriented edge", np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])),
        ("unoriented edge", np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])),
        ("sharpen", np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])),
        ("line", np.array([[-1, -1, -1], [2, 2, 2], [-1, -1, -1]])),
        ("blur", np.ones((3, 3))),
    ):
        fits = members(label, (3, 3)).reshape(-1, 9) @ kernel.ravel() / np.linalg.norm(kernel)
        assert fits.max() == pytest.approx(1, abs=1e-9), label


def test_a_bank_of_the_largest_kernels_fits_into_memory():
    assert bank(MAX_SIDE, MAX_SIDE).templates.nbytes < 3e8

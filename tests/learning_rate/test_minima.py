"""Minima of many functions at once, each near its own start."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.learning_rate.minima import nearest_minima


def test_parabolas_are_solved_exactly_from_afar_and_from_near():
    centres = np.array([3.0, -7.0, 0.01])
    found = nearest_minima(lambda entries, x: (x - centres[entries]) ** 2, np.zeros(3), finest=1e-3)
    np.testing.assert_allclose(found, centres, atol=1e-9)


def test_other_functions_are_off_by_about_the_square_of_the_finest_spacing():
    for finest in (1e-2, 1e-3):
        found = nearest_minima(lambda _, x: np.exp(x) - 2 * x, np.zeros(1), finest=finest)
        assert found[0] == pytest.approx(np.log(2), abs=2 * finest**2)


def test_of_two_minima_the_nearer_is_found():
    def double_well(_, x):
        return (x**2 - 1) ** 2 + 0.3 * x

    found = nearest_minima(double_well, np.array([0.8, -0.8]), coarsest=0.05, finest=1e-4)
    assert found == pytest.approx([0.9601499, -1.0356], abs=1e-3)


def test_a_constant_stays_where_it_is():
    assert nearest_minima(lambda _, x: np.zeros_like(x), np.array([0.5]), finest=1e-3) == pytest.approx([0.5])

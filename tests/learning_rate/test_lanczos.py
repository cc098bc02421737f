"""Spectra from products: integrals of polynomials exact, the largest eigenvalue converged."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.learning_rate.lanczos import largest_eigenvalue, spectrum_seen_from

EPS = float(np.finfo(np.float64).eps)


def symmetric(seed, size, eigenvalues=None):
    generator = np.random.default_rng(seed)
    Q = np.linalg.qr(generator.standard_normal((size, size)))[0]
    values = generator.standard_normal(size) if eigenvalues is None else eigenvalues
    return (Q * values) @ Q.T


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_polynomials_below_twice_the_steps_are_integrated_exactly(steps):
    A = symmetric(0, 12)
    v = np.random.default_rng(1).standard_normal(12)
    nodes, weights = spectrum_seen_from(lambda x: A @ x, v, steps, EPS)
    assert len(nodes) == steps
    for power in range(2 * steps):
        assert weights @ nodes**power == pytest.approx(v @ np.linalg.matrix_power(A, power) @ v, rel=1e-10, abs=1e-10)
    power = 2 * steps
    assert weights @ nodes**power != pytest.approx(v @ np.linalg.matrix_power(A, power) @ v, rel=1e-6)


def test_an_exhausted_space_ends_early():
    A = symmetric(2, 9, np.repeat([1.0, 2.0, 5.0], 3))
    nodes, _ = spectrum_seen_from(lambda x: A @ x, np.ones(9), 8, 1e-12)
    np.testing.assert_allclose(nodes, [1, 2, 5], rtol=1e-12)


def test_copies_of_an_eigenvalue_share_its_weight():
    eigenvalues = np.append(np.linspace(0, 1, 99), 50.0)
    A = symmetric(3, 100, eigenvalues)
    v = np.random.default_rng(4).standard_normal(100)
    nodes, weights = spectrum_seen_from(lambda x: A @ x, v, 80, EPS)
    assert (nodes > 49).sum() >= 2, "no copies came in, so this proves nothing"
    vectors = np.linalg.eigh(A)[1]
    assert weights[nodes > 49].sum() == pytest.approx((vectors[:, -1] @ v) ** 2, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, -40.0])
def test_the_largest_eigenvalue_is_the_algebraic_one(shift):
    A = symmetric(5, 80, np.append(np.linspace(-30, 3, 79), 3.5) + shift)
    assert largest_eigenvalue(lambda x: A @ x, 80, EPS) == pytest.approx(3.5 + shift, rel=1e-9)


def test_noise_in_single_precision_costs_no_more_than_its_size():
    A = symmetric(6, 200, np.linspace(0, 1, 200) ** 3)
    single = A.astype(np.float32)
    found = largest_eigenvalue(lambda x: (single @ x.astype(np.float32)).astype(float), 200, 2**-23)
    assert found == pytest.approx(1, rel=1e-4)


def test_a_zero_operator_has_a_zero_eigenvalue():
    assert largest_eigenvalue(lambda x: 0 * x, 5, EPS) == 0

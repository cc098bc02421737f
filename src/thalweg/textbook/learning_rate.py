"""The best constant learning rates of least squares: facts F2.4 to F2.9 as one would write them on a board.

L(w) = (1/n) ||X w - t||^2 + lam ||w||^2, with lam = 0 unless said; a = X w0 - t, K = X X^T and S = (2 eta / n) K.

    >>> import numpy as np
    >>> X, t, w0 = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([3.0, 2.0]), np.zeros(2)
    >>> eta = best_one_step_rate(X, t, w0)
    >>> round(eta, 6), round(loss_after(X, t, w0, eta, 1), 6)
    (0.171765, 0.230588)
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.linalg import matrix_power
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

# The loss --------------------------------------------------------------------------------------------------------


def loss(X: Array, t: Array, lam: float, w: Array) -> Any:
    """F2.4: L(w) = (1/n) ||X w - t||^2 + lam ||w||^2."""
    r = X @ w - t
    return r @ r / len(t) + lam * w @ w


def gradient(X: Array, t: Array, lam: float, w: Array) -> Array:
    """F2.4: the gradient of L, (2/n) X^T (X w - t) + 2 lam w."""
    return 2 * X.T @ (X @ w - t) / len(t) + 2 * lam * w


def hessian(X: Array, lam: float) -> Array:
    """F2.9: the Hessian of L, H = 2 (X^T X / n + lam I)."""
    return 2 * (X.T @ X / len(X) + lam * np.eye(X.shape[1]))


# F2.4 to F2.6: one step ------------------------------------------------------------------------------------------


def residual(X: Array, t: Array, w: Array) -> Array:
    """F2.4: a = X w - t."""
    return X @ w - t


def gram(X: Array) -> Array:
    """F2.4: K = X X^T."""
    return X @ X.T


def scaled_gram(X: Array, eta: float) -> Array:
    """F2.4: S = (2 eta / n) K."""
    return 2 * eta / len(X) * gram(X)


def one_step_weights(X: Array, t: Array, w0: Array, eta: float) -> Array:
    """F2.4: w1 = w0 - (2 eta/n) X^T a."""
    return w0 - 2 * eta / len(t) * X.T @ residual(X, t, w0)


def one_step_loss(X: Array, t: Array, w0: Array, eta: float) -> float:
    """F2.4: L_1(eta) = (1/n) ||a - S a||^2."""
    a, S = residual(X, t, w0), scaled_gram(X, eta)
    return float((a - S @ a) @ (a - S @ a) / len(t))


def one_step_slope(X: Array, t: Array, w0: Array, eta: float) -> float:
    """F2.5: dL_1/d eta = -(2/n)^2 a^T (I - S) K a."""
    a, K, S = residual(X, t, w0), gram(X), scaled_gram(X, eta)
    return float(-((2 / len(t)) ** 2) * a @ (np.eye(len(t)) - S) @ K @ a)


def one_step_curvature(X: Array, t: Array, w0: Array) -> float:
    """F2.5: d2L_1/d eta2 = (2/n)^3 a^T K K a, for every eta."""
    a, K = residual(X, t, w0), gram(X)
    return float((2 / len(t)) ** 3 * a @ K @ K @ a)


def best_one_step_rate(X: Array, t: Array, w0: Array) -> float:
    """F2.6: eta* = (n/2) (a^T K a) / (a^T K K a)."""
    a, K = residual(X, t, w0), gram(X)
    return float(len(t) / 2 * (a @ K @ a) / (a @ K @ K @ a))


def best_rate_along_gradient(g: Array, H: Array) -> float:
    """F2.6: the same rate from the gradient and the Hessian at w0, g^T g / g^T H g; holds for lam > 0 too (F2.9)."""
    return float(g @ g / (g @ H @ g))


# F2.7, F2.8: T steps ---------------------------------------------------------------------------------------------


def descend(X: Array, t: Array, w0: Array, eta: Any, steps: int, lam: float = 0.0) -> Array:
    """F2.7: the run itself, w <- w - eta grad L(w), to w_T."""
    w = w0
    for _ in range(steps):
        w = w - eta * gradient(X, t, lam, w)
    return w


def residual_after(X: Array, t: Array, w0: Array, eta: float, steps: int) -> Array:
    """F2.7: the residual of w_T, (I - S)^T a."""
    I, S = np.eye(len(t)), scaled_gram(X, eta)
    r: Array = matrix_power(I - S, steps) @ residual(X, t, w0)
    return r


def weights_after(X: Array, t: Array, w0: Array, eta: float, steps: int) -> Array:
    """F2.7: w_T = w0 - (2 eta/n) X^T sum_(k<T) (I - S)^k a."""
    total = sum((residual_after(X, t, w0, eta, k) for k in range(steps)), np.zeros(len(t)))
    return w0 - 2 * eta / len(t) * X.T @ total


def loss_after(X: Array, t: Array, w0: Array, eta: float, steps: int) -> float:
    """F2.7: L_T(eta) = (1/n) ||(I - S)^T a||^2."""
    r = residual_after(X, t, w0, eta, steps)
    return float(r @ r / len(t))


def loss_after_as_product(X: Array, t: Array, w0: Array, eta: float, steps: int) -> float:
    """F2.7: L_T(eta) = (1/n) a^T (I - S)^(2T) a."""
    return float(residual(X, t, w0) @ residual_after(X, t, w0, eta, 2 * steps) / len(t))


def two_step_weights(X: Array, t: Array, w0: Array, eta: float) -> Array:
    """F2.7: w2 = w0 - (2 eta/n) X^T (2I - S) a."""
    I, S = np.eye(len(t)), scaled_gram(X, eta)
    return w0 - 2 * eta / len(t) * X.T @ (2 * I - S) @ residual(X, t, w0)


def three_step_weights(X: Array, t: Array, w0: Array, eta: float) -> Array:
    """F2.7: w3 = w0 - (2 eta/n) X^T (3I - 3S + S^2) a."""
    I, S = np.eye(len(t)), scaled_gram(X, eta)
    return w0 - 2 * eta / len(t) * X.T @ (3 * I - 3 * S + S @ S) @ residual(X, t, w0)


def wrong_weights_after(X: Array, t: Array, w0: Array, eta: float, steps: int) -> Array:
    """F2.7, WRONG: w_T = w0 - (2 eta/n) X^T S^(T-1) a, from collapsing a + (a - S a) to S a; right for T = 1 only."""
    collapsed = matrix_power(scaled_gram(X, eta), steps - 1) @ residual(X, t, w0)
    return w0 - 2 * eta / len(t) * X.T @ collapsed


def wrong_loss_after(X: Array, t: Array, w0: Array, eta: float, steps: int) -> float:
    """F2.7, WRONG: L_T = (1/n) ||a - S^T a||^2 takes the power of S, not of I - S; right for T = 1 only."""
    a, S = residual(X, t, w0), scaled_gram(X, eta)
    r = a - matrix_power(S, steps) @ a
    return float(r @ r / len(t))


def slope_after(X: Array, t: Array, w0: Array, eta: float, steps: int) -> float:
    """F2.8: dL_T/d eta = -(4T/n^2) a^T (I - S)^(2T-1) K a."""
    a, K, n = residual(X, t, w0), gram(X), len(t)
    return float(-4 * steps / n**2 * a @ matrix_power(np.eye(n) - scaled_gram(X, eta), 2 * steps - 1) @ K @ a)


def curvature_after(X: Array, t: Array, w0: Array, eta: float, steps: int) -> float:
    """F2.8: d2L_T/d eta2 = (8T(2T-1)/n^3) a^T (I - S)^(2T-2) K K a, never negative: L_T is convex in eta."""
    a, K, n = residual(X, t, w0), gram(X), len(t)
    power = matrix_power(np.eye(n) - scaled_gram(X, eta), 2 * steps - 2)
    return float(8 * steps * (2 * steps - 1) / n**3 * a @ power @ K @ K @ a)


def wrong_claim_strictly_convex(X: Array, t: Array, w0: Array) -> bool:
    """F2.8, WRONG: d2L_T/d eta2 > 0 at every eta where K a is not 0; for T >= 2 it can be 0 at the minimiser."""
    return bool((gram(X) @ residual(X, t, w0)).any())


def best_rate(X: Array, t: Array, w0: Array, steps: int) -> float:
    """F2.8: the rate of least L_T, where its slope changes sign: an interval around it, halved until it cannot be."""
    low, high = 0.0, best_one_step_rate(X, t, w0)
    while slope_after(X, t, w0, high, steps) < 0:
        high = high + high
    while low < (middle := (low + high) / 2) < high:
        if slope_after(X, t, w0, middle, steps) < 0:
            low = middle
        else:
            high = middle
    return high


# F2.9: with weight decay -----------------------------------------------------------------------------------------


def ridge_minimiser(X: Array, t: Array, lam: float) -> Array:
    """F2.9: w_lam = (X^T X / n + lam I)^-1 X^T t / n, for lam > 0."""
    return np.linalg.inv(X.T @ X / len(t) + lam * np.eye(X.shape[1])) @ X.T @ t / len(t)


def ridge_loss_after(X: Array, t: Array, w0: Array, eta: float, steps: int, lam: float) -> float:
    """F2.9: L_T(eta) = L(w_lam) + (1/2) e^T H (I - eta H)^(2T) e, with e = w0 - w_lam."""
    H, w_lam = hessian(X, lam), ridge_minimiser(X, t, lam)
    e = w0 - w_lam
    power = matrix_power(np.eye(len(w0)) - eta * H, 2 * steps)
    return float(loss(X, t, lam, w_lam) + e @ H @ power @ e / 2)


def null_space_loss(X: Array, w0: Array, eta: float, steps: int, lam: float) -> float:
    """F2.9: what the part of w0 in the null space of X adds to L_T: only the weight decay acts on it."""
    outside = w0 - np.linalg.pinv(X) @ X @ w0
    return float(lam * (1 - 2 * eta * lam) ** (2 * steps) * outside @ outside)


def wrong_ridge_loss_after(X: Array, t: Array, w0: Array, eta: float, steps: int, lam: float) -> float:
    """F2.9, WRONG: F2.7 with the eigenvalues of K shifted by n lam: no floor, and wrong even for n = d = 1."""
    n, a = len(t), residual(X, t, w0)
    shifted = gram(X) + n * lam * np.eye(n)
    r = matrix_power(np.eye(n) - 2 * eta / n * shifted, steps) @ a
    return float(r @ r / n)

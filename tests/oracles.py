"""What several tests compare against: data sets, and recursions in long double that nothing of ours has touched."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits


def standardised(values):
    return (values - values.mean(axis=0)) / values.std(axis=0)


def least_squares_data(name):
    """The five data sets that the surface is judged on, straight from their sources."""
    if name == "gaussian":
        generator = np.random.default_rng(0)
        return generator.standard_normal((200, 500)), generator.standard_normal(200)
    if name == "condition 1e6":
        generator = np.random.default_rng(1)
        left = np.linalg.qr(generator.standard_normal((150, 150)))[0]
        right = np.linalg.qr(generator.standard_normal((300, 150)))[0]
        return (left * np.logspace(0, -6, 150)) @ right.T, generator.standard_normal(150)
    if name == "digits":
        X, digit = load_digits(return_X_y=True)
        return X / 16, np.where(digit % 2 == 0, 1.0, -1.0)
    X, y = {"diabetes": load_diabetes, "breast_cancer": load_breast_cancer}[name](return_X_y=True)
    return standardised(X), standardised(y) if name == "diabetes" else 2.0 * y - 1


FIVE_DATA_SETS = ("gaussian", "condition 1e6", "digits", "diabetes", "breast_cancer")


def long_double_losses(X, t, rates, steps, l2=0.0, w0=None):
    """`(rates, steps + 1)` losses of gradient descent in 80-bit floats, one recursion for each rate.

    The recursion runs on the weights with `X^T X` or on the residual with `X X^T`, whichever is smaller.
    """
    X, t, rates = (np.asarray(values, dtype=np.longdouble) for values in (X, t, rates))
    n, d = X.shape
    start = np.zeros(d, np.longdouble) if w0 is None else np.asarray(w0, np.longdouble)
    losses = np.empty((len(rates), steps + 1), np.longdouble)
    if d <= n or l2:
        gram, moment = X.T @ X, X.T @ t
        w = np.repeat(start[:, None], len(rates), axis=1)
        for step in range(steps + 1):
            if n > 4 * d:  # the loss has a floor far above what cancels here, and this spares the product with X
                squares = np.sum(w * (gram @ w - 2 * moment[:, None]), axis=0) + t @ t
            else:
                squares = np.sum((X @ w - t[:, None]) ** 2, axis=0)
            losses[:, step] = squares / n + l2 * np.sum(w**2, axis=0)
            w = w - rates * (2 * (gram @ w - moment[:, None]) / n + 2 * l2 * w)
    else:
        gram = X @ X.T
        residual = np.repeat((X @ start - t)[:, None], len(rates), axis=1)
        for step in range(steps + 1):
            losses[:, step] = np.sum(residual**2, axis=0) / n
            residual = residual - 2 * rates / n * (gram @ residual)
    return losses

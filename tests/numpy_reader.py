"""A second opinion on `check`: NumPy's own floats for the formula, and closed forms or plain float loops for the truth.

It shares nothing with `thalweg.textbook.checking`. It reads the JSON that a person reads and evaluates the formula's
text with `eval`, which tests may do with formulas of their own.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np


def to_float(value: Any) -> Any:
    """A value of the JSON as a float or an array of floats: "3/4" is 0.75."""
    if isinstance(value, list):
        return np.array([to_float(entry) for entry in value])
    return float(Fraction(value))


class _Identity:
    """c times the identity, of the size of the matrix it is joined to."""

    __array_ufunc__ = None  # NumPy hands the operation over to us

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __mul__(self, factor: float) -> _Identity:
        return _Identity(self.scale * factor)

    __rmul__ = __mul__

    def __truediv__(self, factor: float) -> _Identity:
        return _Identity(self.scale / factor)

    def __neg__(self) -> _Identity:
        return _Identity(-self.scale)

    def __add__(self, matrix: Any) -> Any:
        if isinstance(matrix, _Identity):
            return _Identity(self.scale + matrix.scale)
        rows, columns = matrix.shape
        if rows != columns:
            raise ValueError("not square")
        return self.scale * np.eye(rows) + matrix

    __radd__ = __add__

    def __sub__(self, matrix: Any) -> Any:
        return self + (-1) * matrix

    def __rsub__(self, matrix: Any) -> Any:
        return matrix + (-self)

    def __matmul__(self, other: Any) -> Any:
        return self.scale * other

    __rmatmul__ = __matmul__


def loss(symbols: dict[str, Any], w: Any) -> Any:
    X, t, lam = symbols["X"], symbols["t"], symbols.get("lam", 0.0)
    residual = X @ w - t
    return residual @ residual / len(t) + lam * (w @ w)


def gradient(symbols: dict[str, Any], w: Any) -> Any:
    X, t, lam = symbols["X"], symbols["t"], symbols.get("lam", 0.0)
    return 2 / len(t) * X.T @ (X @ w - t) + 2 * lam * w


def descend(symbols: dict[str, Any], steps: int, eta: Any) -> Any:
    w = symbols["w0"]
    for _ in range(steps):
        w = w - eta * gradient(symbols, w)
    return w


def yours(formula: str, symbols: dict[str, Any]) -> Any:
    """What NumPy makes of a formula's text."""
    text = formula.split("=")[-1]  # without the name it may carry
    names: dict[str, Any] = {
        "inv": np.linalg.inv,
        "pinv": np.linalg.pinv,
        "solve": np.linalg.solve,
        "mpow": _matrix_power,
        "norm": np.linalg.norm,
        "outer": np.outer,
        "dot": np.dot,
        "trace": np.trace,
        "L": lambda w: loss(symbols, w),
        "I": _Identity(),
        "range": lambda *bounds: range(*(round(bound) for bound in bounds)),
        "sum": lambda terms: _total(list(terms), symbols),
        **symbols,
    }
    for greek, name in {"η": "eta", "λ": "lam", "δ": "delta"}.items():
        text = text.replace(greek, name)
    return eval(text.strip(), {"__builtins__": {}, **names})


def _matrix_power(matrix: Any, power: float) -> Any:
    if isinstance(matrix, _Identity):
        return _Identity(matrix.scale ** round(power))
    return np.linalg.matrix_power(matrix, round(power))


def _total(terms: list[Any], symbols: dict[str, Any]) -> Any:
    """The sum; of no terms, the zero that the formulas of the tests mean there: as long as the residual."""
    return sum(terms[1:], terms[0]) if terms else np.zeros_like(symbols["a"])


def truth(fact: str, quantity: str, symbols: dict[str, Any]) -> Any:
    """The right value in floats, by closed forms where they are short and by loops and complex steps elsewhere."""
    match fact, quantity:
        case "F1.1", _:
            return 2 / len(symbols["t_B"]) * symbols["X_B"].T @ (symbols["X_B"] @ symbols["w"] - symbols["t_B"])
        case (("F1.2" | "F1.4"), _):
            weights, velocity = 0.0, 0.0
            for batch in {"w1": "i", "w2": "ij", "s2": "ij", "w3": "ijk"}[quantity]:
                X, t = symbols[f"X{batch}"], symbols[f"t{batch}"]
                weights = np.zeros(X.shape[1]) + weights
                velocity = symbols.get("delta", 0.0) * velocity - X.T @ (X @ weights - t)
                weights = weights + velocity
            return velocity if quantity == "s2" else weights
        case "F1.3", "w_star":
            return np.linalg.pinv(symbols["X"]) @ symbols["t"]
        case "F1.3", _:
            X, t, w0 = symbols["X"], symbols["t"], symbols["w0"]
            return w0 + np.linalg.pinv(X) @ (t - X @ w0)
        case "F1.6", _:
            X, t, w0, P = symbols["X"], symbols["t"], symbols["w0"], symbols["P"]
            return w0 + P @ X.T @ np.linalg.inv(X @ P @ X.T) @ (t - X @ w0)
        case _, "w1" | "w2" | "w3":
            return descend(symbols, int(quantity[1]), symbols["eta"])
        case _, "w_T":
            return descend(symbols, round(symbols["T"]), symbols["eta"])
        case _, "residual":
            return symbols["X"] @ descend(symbols, round(symbols["T"]), symbols["eta"]) - symbols["t"]
        case _, "L1" | "L_T":
            return loss(symbols, descend(symbols, round(symbols.get("T", 1)), symbols["eta"]))
        case _, "dL" | "dL1":
            return _slope(symbols, symbols["eta"])
        case _, "d2L" | "d2L1":
            step = 1e-5
            return (_slope(symbols, symbols["eta"] + step) - _slope(symbols, symbols["eta"] - step)) / (2 * step)
        case _, "best_rate":
            g = gradient(symbols, symbols["w0"])
            return g @ g / (g @ (gradient(symbols, symbols["w0"] + g) - g))
        case _, "w_lam":
            X, t, lam = symbols["X"], symbols["t"], symbols["lam"]
            return np.linalg.solve(X.T @ X + len(t) * lam * np.eye(X.shape[1]), X.T @ t)
        case "F3.2", _:
            k, c_in, c_out, pixels = (
                symbols["k"],
                symbols["c_in"],
                symbols["c_out"],
                symbols["height"] * symbols["width"],
            )
            return {
                "neurons": pixels * c_out,
                "parameters": c_out * (k**2 * c_in + 1),
                "connections": pixels * c_out * k**2 * c_in,
            }[quantity]
        case "F3.3", _:
            field, jump = 1.0, 1.0
            for _ in range(round(symbols["layers"])):
                field += (symbols["k"] - 1) * symbols["dilation"] * jump
                jump *= symbols["stride"]
            return field
    raise AssertionError(f"no truth for {quantity} of {fact}")


def _slope(symbols: dict[str, Any], eta: float) -> float:
    """The derivative of the loss in eta by a complex step, exact to rounding for a polynomial."""
    tiny = 1e-30
    return float(np.imag(loss(symbols, descend(symbols, round(symbols.get("T", 1)), eta + 1j * tiny))) / tiny)

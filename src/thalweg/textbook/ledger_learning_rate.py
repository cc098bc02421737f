"""The ledger's facts F2.4 to F2.9: computed by the textbook, checked by exact polynomials, wrong versions refuted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from thalweg.textbook import learning_rate as book
from thalweg.textbook.ledger import (
    TOLERANCE,
    Array,
    Cases,
    Fact,
    Problem,
    fact,
    largest_difference,
    refute,
    small_problems,
)

X = np.array([[1.0, 2, 0, -1], [0, 1, 1, 2], [2, 0, 1, 1]])
T = np.array([3.0, -1, 2])
W0 = np.array([1.0, 0, -1, 2])
ETA = Fraction(1, 10)

Polynomial = list[Fraction]  # coefficients, the constant first


def exact_weights(X: Array, t: Array, w0: Array, lam: Fraction, steps: int) -> list[Polynomial]:
    """Every weight of w_T as a polynomial in eta, from the run itself in exact fractions."""
    rows = [[Fraction(x) for x in row] for row in X.tolist()]
    n, columns = len(rows), range(X.shape[1])
    w = [[Fraction(value)] for value in w0.tolist()]
    for _ in range(steps):
        g: list[Polynomial] = [[] for _ in columns]
        for power in range(len(w[0])):
            residuals = [sum((row[j] * w[j][power] for j in columns), Fraction(0)) for row in rows]
            if power == 0:
                residuals = [r - Fraction(value) for r, value in zip(residuals, t.tolist(), strict=True)]
            for j in columns:
                g[j].append(
                    2 * sum((rows[i][j] * residuals[i] for i in range(n)), Fraction(0)) / n + 2 * lam * w[j][power]
                )
        # w - eta g: the gradient's coefficients move up by one power.
        w = [[a - b for a, b in zip([*w[j], Fraction(0)], [Fraction(0), *g[j]], strict=True)] for j in columns]
    return w


def exact_loss(X: Array, t: Array, w0: Array, lam: Fraction, steps: int) -> Polynomial:
    """L_T as a polynomial in eta."""
    w = exact_weights(X, t, w0, lam, steps)
    total = [Fraction(0)] * (2 * len(w[0]) - 1)

    def add_square(p: Polynomial, weight: Fraction) -> None:
        for i, a in enumerate(p):
            for j, b in enumerate(p):
                total[i + j] += weight * a * b

    for row, target in zip(X.tolist(), t.tolist(), strict=True):
        residual = [
            sum((Fraction(x) * p[k] for x, p in zip(row, w, strict=True)), Fraction(0)) for k in range(len(w[0]))
        ]
        residual[0] -= Fraction(target)
        add_square(residual, Fraction(1, len(t)))
    for p in w:
        add_square(p, lam)
    return total


def derivative(p: Polynomial) -> Polynomial:
    """The derivative of a polynomial."""
    return [power * coefficient for power, coefficient in enumerate(p)][1:]


def value(p: Polynomial, x: Fraction) -> Fraction:
    """The polynomial's value."""
    return sum((coefficient * x**power for power, coefficient in enumerate(p)), Fraction(0))


PLAIN = Fraction(0)
ONE_STEP = exact_loss(X, T, W0, PLAIN, 1)


def f2_4() -> Fact:
    """F2.4: one step."""
    eta = float(ETA)
    w1 = book.one_step_weights(X, T, W0, eta)
    loss = book.one_step_loss(X, T, W0, eta)
    return fact(
        "F2.4",
        "One step: w1 = w0 - (2 eta/n) X^T a and L1(eta) = (1/n) ||a - S a||^2",
        f"L1(0.1) = {loss:.6f}",
        largest_difference(
            (w1, [value(p, ETA) for p in exact_weights(X, T, W0, PLAIN, 1)]),
            (loss, value(ONE_STEP, ETA)),
        ),
        steps=[
            ("a = X w0 - t", book.residual(X, T, W0)),
            ("K = X X^T", book.gram(X)),
            ("S = (2 eta/n) K, eta = 0.1", book.scaled_gram(X, eta)),
            ("w1", w1),
            ("L1", loss),
            ("L1 from w1 itself, exactly", value(ONE_STEP, ETA)),
        ],
    )


def f2_5() -> Fact:
    """F2.5: its derivatives."""
    slope, curvature = book.one_step_slope(X, T, W0, float(ETA)), book.one_step_curvature(X, T, W0)
    flat = np.array([[1.0, 0], [0, 0]])  # a = (0, -1): K a = 0
    return fact(
        "F2.5",
        "dL1/d eta = -(2/n)^2 a^T (I - S) K a; d2L1/d eta2 = (2/n)^3 a^T K K a >= 0, > 0 unless K a = 0: convex",
        f"at eta = 0.1: {slope:.6f}, {curvature:.6f}",
        largest_difference(
            (slope, value(derivative(ONE_STEP), ETA)),
            (curvature, value(derivative(derivative(ONE_STEP)), ETA)),
            (book.one_step_curvature(flat, np.array([0.0, 1]), np.zeros(2)), 0),
        ),
        comparisons=[curvature > 0],
        steps=[
            ("dL1/d eta at 0.1", slope),
            ("the same from the exact polynomial", value(derivative(ONE_STEP), ETA)),
            ("d2L1/d eta2", curvature),
            ("the same from the exact polynomial", value(derivative(derivative(ONE_STEP)), ETA)),
        ],
    )


def f2_6() -> Fact:
    """F2.6: the best rate of one step."""
    rate = book.best_one_step_rate(X, T, W0)
    g, H = book.gradient(X, T, 0.0, W0), book.hessian(X, 0.0)
    along_gradient = book.best_rate_along_gradient(g, H)
    vertex = -ONE_STEP[1] / (2 * ONE_STEP[2])
    stable = 2 / np.linalg.eigvalsh(H)[-1]
    return fact(
        "F2.6",
        "The best one-step rate is (n/2) (a^T K a)/(a^T K K a) = g^T g / g^T H g",
        f"eta* = {rate:.6f}",
        largest_difference((rate, vertex), (along_gradient, vertex)),
        steps=[
            ("(n/2) (a^T K a)/(a^T K K a)", rate),
            ("g^T g / g^T H g", along_gradient),
            ("vertex of the parabola L1(eta), exactly", str(vertex)),
            ("for comparison, the stability limit 2/lambda_max(H)", float(stable)),
        ],
    )


def _tried(n: int, d: int, etas: Sequence[Fraction], counts: Sequence[int]) -> Iterator[tuple[Problem, Fraction, int]]:
    """Small problems with X and the residual at w0 not zero, each with every rate and number of steps."""
    for problem in small_problems(n, d, 2):
        if problem.X.any() and (problem.X @ problem.w0 - problem.t).any():
            for eta, steps in product(etas, counts):
                yield problem, eta, steps


HALF = Fraction(1, 2)
RATES = (Fraction(1), HALF, Fraction(2))


def f2_7() -> Fact:
    """F2.7: T steps."""
    eta, steps = float(ETA), 5
    pairs: list[tuple[Any, Any]] = [
        (book.two_step_weights(X, T, W0, eta), [value(p, ETA) for p in exact_weights(X, T, W0, PLAIN, 2)]),
        (book.three_step_weights(X, T, W0, eta), [value(p, ETA) for p in exact_weights(X, T, W0, PLAIN, 3)]),
    ]
    for count in (1, 2, 5, 8):
        loss = value(exact_loss(X, T, W0, PLAIN, count), ETA)
        w = [value(p, ETA) for p in exact_weights(X, T, W0, PLAIN, count)]
        residual = X @ np.array([float(x) for x in w]) - T
        pairs += [
            (book.weights_after(X, T, W0, eta, count), w),
            (book.residual_after(X, T, W0, eta, count), residual),
            (book.loss_after(X, T, W0, eta, count), loss),
            (book.loss_after_as_product(X, T, W0, eta, count), loss),
        ]

    def weights(count: int) -> Cases:
        for (X, t, w0), eta, _ in _tried(1, 1, RATES, [count]):
            truth = book.descend(X, t, w0, float(eta), count)
            case = f"w{count} for {Problem(X, t, w0)}, eta = {eta}"
            yield case, book.wrong_weights_after(X, t, w0, float(eta), count), truth

    def losses() -> Cases:
        for (X, t, w0), eta, count in _tried(1, 1, RATES, [2, 3]):
            truth = book.loss(X, t, 0.0, book.descend(X, t, w0, float(eta), count))
            case = f"L{count} for {Problem(X, t, w0)}, eta = {eta}"
            yield case, book.wrong_loss_after(X, t, w0, float(eta), count), truth

    return fact(
        "F2.7",
        "T steps: the residual is (I - S)^T a, wT = w0 - (2 eta/n) X^T sum_(k<T) (I - S)^k a, and "
        "LT(eta) = (1/n) ||(I - S)^T a||^2 = (1/n) a^T (I - S)^(2T) a",
        f"L5(0.1) = {book.loss_after(X, T, W0, eta, steps):.6f}",
        largest_difference(*pairs),
        wrong=[
            refute("w2 = w0 - (2 eta/n) X^T S a, with S where 2I - S belongs", weights(2)),
            refute("w3 = w0 - (2 eta/n) X^T S^2 a, with S^2 where 3I - 3S + S^2 belongs", weights(3)),
            refute("LT = (1/n) ||a - S^T a||^2, true for T = 1 only", losses()),
        ],
        steps=[
            ("a", book.residual(X, T, W0)),
            ("w2 = w0 - (2 eta/n) X^T (2I - S) a, eta = 0.1", book.two_step_weights(X, T, W0, eta)),
            ("w3 = w0 - (2 eta/n) X^T (3I - 3S + S^2) a", book.three_step_weights(X, T, W0, eta)),
            ("residual of w5 = (I - S)^5 a", book.residual_after(X, T, W0, eta, steps)),
            ("L5", book.loss_after(X, T, W0, eta, steps)),
            ("L5 from the exact run", float(value(exact_loss(X, T, W0, PLAIN, steps), ETA))),
        ],
    )


def f2_8() -> Fact:
    """F2.8: its derivatives, and convexity."""
    counts = (1, 2, 4)
    polynomials = {count: exact_loss(X, T, W0, PLAIN, count) for count in counts}
    etas = [Fraction(k, 20) for k in range(-2, 13)]
    pairs = []
    for count, p in polynomials.items():
        for eta in etas:
            pairs += [
                (book.slope_after(X, T, W0, float(eta), count), value(derivative(p), eta)),
                (book.curvature_after(X, T, W0, float(eta), count), value(derivative(derivative(p)), eta)),
            ]
    rates = {count: book.best_rate(X, T, W0, count) for count in counts}
    # The exact slope changes sign between the rates 1e-12 below and above the best one.
    turns = [
        value(derivative(polynomials[count]), Fraction(rate - 1e-12))
        < 0
        < value(derivative(polynomials[count]), Fraction(rate + 1e-12))
        for count, rate in rates.items()
    ]

    def strict() -> Cases:
        for problem, eta, count in _tried(1, 1, RATES, [2, 3]):
            case = f"d2L{count}/d eta2 > 0 for {problem}, eta = {eta}"
            truth = value(derivative(derivative(exact_loss(*problem, PLAIN, count))), eta) > 0
            yield case, book.wrong_claim_strictly_convex(*problem), truth

    return fact(
        "F2.8",
        "dLT/d eta = -(4T/n^2) a^T (I - S)^(2T-1) K a and "
        "d2LT/d eta2 = (8T(2T-1)/n^3) a^T (I - S)^(2T-2) K K a >= 0: convex in eta for every T",
        "best rates: " + ", ".join(f"{rate:.6f} for T = {count}" for count, rate in rates.items()),
        largest_difference(*pairs),
        comparisons=[
            *turns,
            *(book.curvature_after(X, T, W0, float(eta), count) > -TOLERANCE for eta in etas for count in counts),
        ],
        wrong=[refute("d2LT/d eta2 > 0 strictly, wherever K a is not 0", strict())],
        steps=[
            *((f"dL{count}/d eta at 0.1", book.slope_after(X, T, W0, float(ETA), count)) for count in counts),
            *((f"d2L{count}/d eta2 at 0.1", book.curvature_after(X, T, W0, float(ETA), count)) for count in counts),
            *((f"rate at which dL{count}/d eta = 0", rate) for count, rate in rates.items()),
        ],
    )


def f2_9() -> Fact:
    """F2.9: with weight decay."""
    lam, counts = Fraction(1, 4), (1, 2, 5)
    pairs: list[tuple[Any, Any]] = []
    for count in counts:
        computed = book.ridge_loss_after(X, T, W0, float(ETA), count, float(lam))
        pairs.append((computed, value(exact_loss(X, T, W0, lam, count), ETA)))
    w_lam = book.ridge_minimiser(X, T, float(lam))
    floor = book.loss(X, T, float(lam), w_lam)
    # What remains without the null space's part is what the same run gives from the rest of w0.
    inside = np.linalg.pinv(X) @ X @ W0
    null = book.null_space_loss(X, W0, float(ETA), 2, float(lam))
    runs = [book.loss(X, T, 0.25, book.descend(X, T, start, 0.1, 2, 0.25)) for start in (W0, inside)]
    p = exact_loss(X, T, W0, lam, 1)
    rate = book.best_rate_along_gradient(book.gradient(X, T, float(lam), W0), book.hessian(X, float(lam)))
    pairs += [
        (book.gradient(X, T, float(lam), w_lam), np.zeros(4)),
        (null, runs[0] - runs[1]),
        (rate, -p[1] / (2 * p[2])),
        (book.loss(X, T, 0.25, book.descend(X, T, W0, 0.1, 3000, 0.25)), floor),
    ]

    def shifted() -> Cases:
        for problem, eta, count in _tried(1, 1, RATES, [1]):
            case = f"L{count} for {problem}, eta = {eta}, lam = 1"
            truth = value(exact_loss(*problem, Fraction(1), count), eta)
            yield case, book.wrong_ridge_loss_after(*problem, float(eta), count, 1.0), truth

    return fact(
        "F2.9",
        "With weight decay lam, H = 2 (X^T X/n + lam I) and e = w0 - w_lam: "
        "LT(eta) = L(w_lam) + (1/2) e^T H (I - eta H)^(2T) e; the best single step is g^T g / g^T H g",
        f"lam = 0.25: floor {floor:.6f}, best single step {rate:.6f}",
        largest_difference(*pairs),
        comparisons=[floor > 0.01, null > 0.01],
        wrong=[
            refute(
                "F2.7 with the eigenvalues of K shifted by n lam: (1/n) ||(I - (2 eta/n)(K + n lam I))^T a||^2",
                shifted(),
            )
        ],
        steps=[
            ("w_lam = (X^T X/n + lam I)^-1 X^T t/n, lam = 0.25", w_lam),
            ("floor L(w_lam)", floor),
            *((f"L{count}(0.1)", book.ridge_loss_after(X, T, W0, 0.1, count, 0.25)) for count in counts),
            ("the part of L2(0.1) in the null space of X", null),
            ("best single step g^T g / g^T H g", rate),
        ],
    )


FACTS: dict[str, Callable[[], Fact]] = {
    "F2.4": f2_4,
    "F2.5": f2_5,
    "F2.6": f2_6,
    "F2.7": f2_7,
    "F2.8": f2_8,
    "F2.9": f2_9,
}

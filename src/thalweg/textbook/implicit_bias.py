r"""Where an optimizer ends up: facts F1.1 to F1.7 as one would write them on a board.

X is n x d (rows are examples), t has length n and w has length d. The loss on a batch of b rows is
(1/b) ||X w - t||^2. A run is told by `batches`, one list of row numbers for every step, and every optimizer returns all
its iterates, w_0 to w_T, as the rows of one array.

    >>> import numpy as np
    >>> X, t = np.array([[1.0, 2.0]]), np.array([3.0])
    >>> gradient_descent(X, t, np.zeros(2), 0.05, every_row(X, 200))[-1].round(6)
    array([0.6, 1.2])
    >>> adagrad(X, t, np.zeros(2), 0.5, every_row(X, 200), eps=0)[-1].round(6)
    array([1., 1.])
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Batches: TypeAlias = Sequence[Sequence[int]]

# F1.1: every iterate stays in the span of the rows ---------------------------------------------------------------


def loss(X: Array, t: Array, w: Array) -> Any:
    """F1.1: the loss (1/n) ||X w - t||^2."""
    r = X @ w - t
    return r @ r / len(t)


def gradient(X: Array, t: Array, w: Array) -> Array:
    """F1.1: the gradient on a batch of b rows, (2/b) X^T (X w - t): a combination of the rows of X."""
    return 2 * X.T @ (X @ w - t) / len(t)


def every_row(X: Array, steps: int) -> Batches:
    """F1.1: the batches of gradient descent, all rows at every step."""
    return [list(range(len(X)))] * steps


def one_row_each(order: Sequence[int]) -> Batches:
    """F1.1: the batches of single-sample SGD, the row numbers of `order` in turn."""
    return [[row] for row in order]


def gradient_descent(X: Array, t: Array, w0: Array, eta: float, batches: Batches) -> Array:
    """F1.1: GD, SGD or mini-batch SGD, whichever the batches make it: w <- w - eta grad."""
    path = [w0]
    for rows in batches:
        w = path[-1]
        path.append(w - eta * gradient(X[rows], t[rows], w))
    return np.array(path)


def row_space_ratio(X: Array, v: Array) -> float:
    """F1.1: the share of v's length that lies outside the row space of X: 0 inside it, 1 at right angles to it."""
    outside = v - np.linalg.pinv(X) @ X @ v
    return float(np.linalg.norm(outside) / np.linalg.norm(v))


# F1.2: the run written out ---------------------------------------------------------------------------------------


def three_steps(Xi: Array, ti: Array, Xj: Array, tj: Array, Xk: Array, tk: Array) -> tuple[Array, Array, Array]:
    """F1.2: w1, w2 and w3 after batches i, j, k from w0 = 0 with 2 eta / b = 1."""
    I = np.eye(Xi.shape[1])
    w1 = Xi.T @ ti
    w2 = (I - Xj.T @ Xj) @ Xi.T @ ti + Xj.T @ tj
    w3 = (I - Xk.T @ Xk) @ (I - Xj.T @ Xj) @ Xi.T @ ti + (I - Xk.T @ Xk) @ Xj.T @ tj + Xk.T @ tk
    return w1, w2, w3


def wrong_third_weights_middle(Xi: Array, ti: Array, Xj: Array, tj: Array, Xk: Array, tk: Array) -> Array:
    """F1.2, WRONG: w3 whose middle term reads X_i, t_i where it must read X_j, t_j."""
    I = np.eye(Xi.shape[1])
    return (I - Xk.T @ Xk) @ (I - Xj.T @ Xj) @ Xi.T @ ti + (I - Xk.T @ Xk) @ Xi.T @ ti + Xk.T @ tk


def wrong_third_weights_start(Xi: Array, ti: Array, Xj: Array, tj: Array, Xk: Array, tk: Array) -> Array:
    """F1.2, WRONG: the third step taken from w1 where it must start from w2."""
    w1, _, _ = three_steps(Xi, ti, Xj, tj, Xk, tk)
    return w1 - Xk.T @ (Xk @ w1 - tk)


def coefficients(X: Array, batches: Batches, eta: float) -> list[Array]:
    """F1.2: the matrices C_p of w_T = sum_p C_p X_p^T t_p, one for each step p of the run from w0 = 0.

    C_p = (I - c X_T^T X_T) ... (I - c X_(p+1)^T X_(p+1)) c with c = 2 eta / b.
    """
    I = np.eye(X.shape[1])
    C: list[Array] = []
    for rows in batches:
        c = 2 * eta / len(rows)
        A = c * X[rows].T @ X[rows]
        C = [(I - A) @ earlier for earlier in C] + [c * I]
    return C


def momentum_coefficients(X: Array, batches: Batches, eta: float, delta: float) -> tuple[list[Array], list[Array]]:
    """F1.4: the matrices V_p, C_p of s_T = sum_p V_p X_p^T t_p and w_T = sum_p C_p X_p^T t_p, from w0 = s0 = 0."""
    I = np.eye(X.shape[1])
    V: list[Array] = []
    C: list[Array] = []
    for rows in batches:
        c = 2 * eta / len(rows)
        A = c * X[rows].T @ X[rows]
        V = [delta * v - A @ w for v, w in zip(V, C, strict=True)]
        C = [w + v for w, v in zip(C, V, strict=True)]
        V, C = [*V, c * I], [*C, c * I]
    return V, C


def sum_of_products(C: Sequence[Array], X: Array, t: Array, batches: Batches) -> Array:
    """F1.2: the value of an expansion, sum_p C_p X_p^T t_p."""
    total: Array = np.sum([Cp @ X[rows].T @ t[rows] for Cp, rows in zip(C, batches, strict=True)], axis=0)
    return total


def displacement(delta: Any, steps: int) -> Any:
    """F1.4: how far one unit of velocity carries the weights in some steps, 1 + delta + ... + delta^(steps-1)."""
    return sum(delta**power for power in range(steps))


def expansion_latex(names: Sequence[str], rate: str = "1", delta: str = "0") -> str:
    r"""F1.2, F1.4: w_T written out as LaTeX, from w0 = 0.

    Args:
        names: the batch of every step, in order: `"ijk"` or `["1", "2", "1"]`.
        rate: LaTeX for 2 eta / b; "1" is left out.
        delta: LaTeX for the momentum; "0" gives the plain run as products, anything else a sum over every chain of
            steps that passes the step p's gradient on to w_T (2^T terms).

    >>> expansion_latex("ij")
    'w_{2} = (I - X_{j}^\\top X_{j}) X_{i}^\\top t_{i} + X_{j}^\\top t_{j}'
    >>> expansion_latex("ij", delta=r"\delta")
    'w_{2} = ((1 + \\delta) I - X_{j}^\\top X_{j}) X_{i}^\\top t_{i} + X_{j}^\\top t_{j}'
    """
    c = "" if rate == "1" else f"{rate} "
    matrix = [f"{c}X_{{{name}}}^\\top X_{{{name}}}" for name in names]
    steps = range(len(names))
    terms = []
    for p in steps:
        source = f"{c}X_{{{names[p]}}}^\\top t_{{{names[p]}}}"
        later = steps[p + 1 :]
        if delta == "0":
            factors = [f"(I - {matrix[q]})" for q in reversed(later)]
        else:
            chains = [chain for length in range(len(names)) for chain in combinations(later, length)]
            total = "".join(_chain_latex([p, *chain], matrix, delta) for chain in chains)
            factors = [f"({total.removeprefix(' + ')})"] if later else []
        terms.append(" ".join([*factors, source]))
    return f"w_{{{len(names)}}} = " + " + ".join(terms)


def _chain_latex(chain: Sequence[int], matrix: Sequence[str], delta: str) -> str:
    """One signed term of `expansion_latex`: the steps of a chain, and the displacement between each and the next."""
    gaps = [after - before for before, after in zip(chain, [*chain[1:], len(matrix)], strict=True)]
    sums = [" + ".join(["1", delta, *(f"{delta}^{{{power}}}" for power in range(2, gap))][:gap]) for gap in gaps]
    factors = [f"({text})" for text in reversed(sums) if text != "1"]
    factors += [matrix[q] for q in reversed(chain[1:])] or ["I"]
    return (" + " if len(chain) % 2 else " - ") + " ".join(factors)


# F1.3: the limit -------------------------------------------------------------------------------------------------


def minimum_norm(X: Array, t: Array) -> Array:
    """F1.3: w* = X^T (X X^T)^-1 t, the shortest w with X w = t (X of full row rank)."""
    alpha = np.linalg.solve(X @ X.T, t)
    return X.T @ alpha


def nearest_solution(X: Array, t: Array, w0: Array) -> Array:
    """F1.3: w0 + X^+ (t - X w0), the solution nearest to w0, where every run in the row space ends."""
    return w0 + np.linalg.pinv(X) @ (t - X @ w0)


# F1.4: momentum --------------------------------------------------------------------------------------------------


def heavy_ball(X: Array, t: Array, w0: Array, eta: float, batches: Batches, delta: float) -> Array:
    """F1.4: momentum from s0 = 0: s <- delta s - eta grad, then w <- w + s."""
    path, s = [w0], np.zeros_like(w0)
    for rows in batches:
        w = path[-1]
        s = delta * s - eta * gradient(X[rows], t[rows], w)
        path.append(w + s)
    return np.array(path)


def nesterov(X: Array, t: Array, w0: Array, eta: float, batches: Batches, delta: float) -> Array:
    """F1.4: Nesterov's momentum: the gradient is taken at w + delta s, where the velocity is about to carry w."""
    path, s = [w0], np.zeros_like(w0)
    for rows in batches:
        w = path[-1]
        s = delta * s - eta * gradient(X[rows], t[rows], w + delta * s)
        path.append(w + s)
    return np.array(path)


def two_momentum_steps(Xi: Array, ti: Array, Xj: Array, tj: Array, delta: float) -> tuple[Array, Array]:
    """F1.4: s2 and w2 of heavy ball after batches i, j from w0 = s0 = 0 with 2 eta / b = 1."""
    I = np.eye(Xi.shape[1])
    s2 = (delta * I - Xj.T @ Xj) @ Xi.T @ ti + Xj.T @ tj
    w2 = ((1 + delta) * I - Xj.T @ Xj) @ Xi.T @ ti + Xj.T @ tj
    return s2, w2


def wrong_momentum_weights(Xi: Array, ti: Array, Xj: Array, tj: Array, delta: float) -> Array:
    """F1.4, WRONG: the velocity s2 put where the weights w2 belong, beside the plain run's weights."""
    s2, _ = two_momentum_steps(Xi, ti, Xj, tj, delta)
    return s2


# F1.5 to F1.7: scaling every coordinate by its own history -------------------------------------------------------


def adagrad(
    X: Array, t: Array, w0: Array, eta: float, batches: Batches, eps: float, G0: Any = 0.0, lagged: bool = False
) -> Array:
    """F1.5: AdaGrad, elementwise: G <- G + g*g, then w <- w - eta / (sqrt(G) + eps) * g.

    Args:
        X, t, w0, eta, batches: as for every optimizer here.
        eps: at 0 every coordinate needs a gradient that is not zero at the first step.
        G0: the accumulator's start, a number or one for each coordinate.
        lagged: F1.5w's recursion, which divides by the accumulator before it adds the new gradient.
    """
    path, G = [w0], np.full(len(w0), G0)
    for rows in batches:
        w = path[-1]
        g = gradient(X[rows], t[rows], w)
        divisor = np.sqrt(G if lagged else G + g * g) + eps
        G = G + g * g
        path.append(w - eta / divisor * g)
    return np.array(path)


def one_example_limit(x: Array, t: float, w: Array) -> Array:
    """F1.5: where steps of one size in every coordinate lead from w: onto x w = t along the signs of x."""
    length = float(np.sum(np.abs(x)))
    return w + (t - x @ w) / length * np.sign(x)


def worked_adagrad(eta: float, eps: float) -> tuple[Array, Array, Array, Array]:
    """F1.5w: the worked arithmetic for X = [1 2], t = 3, w0 = 0.

    Returns:
        The weights w1 after the plain first step, the accumulator there, the residual gradient (x w1 - t) x without its
        factor 2, and the step that the lagged recursion takes along it.
    """
    x, t = np.array([1.0, 2.0]), 3.0
    gradient0 = -2 * t * x
    w1 = -eta / (np.sqrt(0.0) + eps) * gradient0
    G = gradient0 * gradient0
    half_gradient = (x @ w1 - t) * x
    step = eta / (np.sqrt(G) + eps) * half_gradient
    return w1, G, half_gradient, step


def first_accumulator(X: Array, t: Array) -> Array:
    """F1.5w: AdaGrad's accumulator after the first gradient at w0 = 0: (2/n)^2 (X^T t)^2, elementwise."""
    return (2 / len(t)) ** 2 * (X.T @ t) ** 2


def wrong_first_accumulator(X: Array, t: Array, eta: float, eps: float) -> Array:
    """F1.5w, WRONG: (2 eta / (eps n))^2 (X^T t)^2 squares the step, not the gradient; the same only if eta = eps."""
    return (2 * eta / (eps * len(t))) ** 2 * (X.T @ t) ** 2


def rmsprop(X: Array, t: Array, w0: Array, eta: float, batches: Batches, rho: float, eps: float) -> Array:
    """F1.6: RMSProp, elementwise: G <- rho G + (1 - rho) g*g, then w <- w - eta / (sqrt(G) + eps) * g, from G0 = 0."""
    path, G = [w0], np.zeros(len(w0))
    for rows in batches:
        w = path[-1]
        g = gradient(X[rows], t[rows], w)
        G = rho * G + (1 - rho) * g * g
        path.append(w - eta / (np.sqrt(G) + eps) * g)
    return np.array(path)


def adam(X: Array, t: Array, w0: Array, eta: float, batches: Batches, beta1: float, beta2: float, eps: float) -> Array:
    """F1.6: Adam, elementwise: running means m of g and v of g*g, each divided by the weight it has seen so far."""
    path, m, v = [w0], np.zeros(len(w0)), np.zeros(len(w0))
    for step, rows in enumerate(batches, start=1):
        w = path[-1]
        g = gradient(X[rows], t[rows], w)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = m / (1 - beta1**step)
        v_hat = v / (1 - beta2**step)
        path.append(w - eta / (np.sqrt(v_hat) + eps) * m_hat)
    return np.array(path)


def preconditioned(X: Array, t: Array, w0: Array, eta: float, batches: Batches, P: Array) -> Array:
    """F1.6: steps through a fixed positive definite matrix: w <- w - eta P grad."""
    path = [w0]
    for rows in batches:
        w = path[-1]
        path.append(w - eta * P @ gradient(X[rows], t[rows], w))
    return np.array(path)


def nearest_solution_in_norm(X: Array, t: Array, w0: Array, P: Array) -> Array:
    """F1.6: w0 + P X^T (X P X^T)^-1 (t - X w0), the solution nearest to w0 in the P^-1 norm (X of full row rank)."""
    return w0 + P @ X.T @ np.linalg.solve(X @ P @ X.T, t - X @ w0)


def steps_to_loss(X: Array, t: Array, path: Array, target: float) -> int | None:
    """F1.7: the first step of a run at which the loss is at most `target`; None if it never is."""
    for step, w in enumerate(path):
        if loss(X, t, w) <= target:
            return step
    return None

"""The ledger's facts F1.1 to F1.7: computed by the textbook, checked by something else, wrong versions refuted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product

import numpy as np

from thalweg.textbook import implicit_bias as book
from thalweg.textbook.implicit_bias import Batches
from thalweg.textbook.ledger import Array, Cases, Fact, fact, integer_arrays, largest_difference, refute, show

# Three examples with five features: d > n, full row rank, small enough to follow by hand.
X = np.array([[1.0, 2, 0, -1, 1], [0, 1, 1, 2, -1], [2, 0, 1, 1, 0]])
T = np.array([3.0, -1, 2])
W0 = np.array([1.0, 0, -1, 2, 1])
ZERO = np.zeros(5)

LINE, TARGET = np.array([[1.0, 2.0]]), np.array([3.0])  # X = [1 2], t = 3
ONES = np.array([1.0, 1.0])


def null_space(X: Array) -> Array:
    """An orthonormal basis of the null space of X, as columns, from the singular value decomposition."""
    _, s, Vt = np.linalg.svd(X)
    return Vt[np.count_nonzero(s > s[0] * 1e-12) :].T


def outside(X: Array, vectors: Array) -> float:
    """The largest share of a vector's length (vectors are rows, none zero) that lies in the null space of X."""
    shares = np.linalg.norm(vectors @ null_space(X), axis=1) / np.linalg.norm(vectors, axis=1)
    return float(np.max(shares))


def exact_run(
    X: Array, t: Array, batches: Batches, eta: Fraction, delta: Fraction
) -> tuple[list[Fraction], list[Fraction]]:
    """Velocity and weights of heavy ball from zero, one number at a time, in exact fractions."""
    rows = [[Fraction(x) for x in row] for row in X.tolist()]
    targets = [Fraction(value) for value in t.tolist()]
    columns = range(X.shape[1])
    w, s = [Fraction(0) for _ in columns], [Fraction(0) for _ in columns]
    for batch in batches:
        residuals = {i: sum((rows[i][j] * w[j] for j in columns), -targets[i]) for i in batch}
        g = [2 * sum((rows[i][j] * residuals[i] for i in batch), Fraction(0)) / len(batch) for j in columns]
        s = [delta * s[j] - eta * g[j] for j in columns]
        w = [w[j] + s[j] for j in columns]
    return s, w


def f1_1() -> Fact:
    """F1.1: the gradient is a combination of rows."""
    errors = []
    for rows in ([0, 1, 2], [1], [0, 2]):
        # A step of 1e-30 along i leaves no rounding: the derivative is the imaginary part.
        derivative = [np.imag(book.loss(X[rows], T[rows], W0 + 1e-30j * axis)) / 1e-30 for axis in np.eye(5)]
        errors.append(largest_difference((book.gradient(X[rows], T[rows], W0), derivative)))
    runs = {
        "GD": book.every_row(X, 40),
        "SGD": book.one_row_each([0, 1, 2, 1] * 10),
        "mini-batch SGD": [[0, 1], [1, 2]] * 20,
    }
    shares = {name: outside(X, book.gradient_descent(X, T, ZERO, 0.05, run)[1:]) for name, run in runs.items()}
    started_elsewhere = outside(X, book.gradient_descent(X, T, W0, 0.05, runs["GD"])[1:])
    return fact(
        "F1.1",
        "The gradient on a batch is (2/b) X^T (X w - t), so from w0 = 0 GD, SGD and mini-batch SGD stay in the row "
        "space of X",
        f"at most {max(shares.values()):.1e} of any iterate lies outside the row space",
        max(*errors, *shares.values()),
        comparisons=[started_elsewhere > 0.1],
        steps=[
            ("gradient at w0 on the batch of all rows", book.gradient(X, T, W0)),
            *(
                (f"share of the iterates outside the row space, {name}", f"{share:.1e}")
                for name, share in shares.items()
            ),
            ("the same for GD from a w0 outside it", f"{started_elsewhere:.3f}"),
        ],
    )


def _three_batches(wrong: Callable[..., Array]) -> Cases:
    """A wrong third iterate: one or two rows of one number each, visited in any order, one at a time."""
    for n in (1, 2):
        for entries in integer_arrays((2 * n,), 2):
            X, t = entries[:n].reshape(n, 1), entries[n:]
            for order in product(range(n), repeat=3):
                parts = [part for row in order for part in (X[[row]], t[[row]])]
                truth = book.gradient_descent(X, t, np.zeros(1), 0.5, book.one_row_each(order))[-1]
                visits = ", ".join(str(row + 1) for row in order)
                case = f"w3 for X = {show(X)}, t = {show(t)}, w0 = [0], eta = 1/2, rows {visits} in turn"
                yield case, wrong(*parts), truth


def f1_2() -> Fact:
    """F1.2: the run from zero written out."""
    ijk = [(X[[row]], T[[row]]) for row in range(3)]
    flat = [part for pair in ijk for part in pair]
    half = Fraction(1, 2)
    steps = book.three_steps(*flat)
    pairs = [(steps[k], exact_run(X, T, book.one_row_each(range(k + 1)), half, Fraction(0))[1]) for k in range(3)]
    # Other lengths, orders, batch sizes, rates and momenta.
    for batches, eta, delta in (
        ([[0, 1], [2], [1, 2], [0, 1, 2], [1]], Fraction(1, 8), Fraction(0)),
        ([[2], [0], [0], [1], [2], [1]], Fraction(1, 4), Fraction(1, 2)),
    ):
        V, C = book.momentum_coefficients(X, batches, float(eta), float(delta))
        s, w = exact_run(X, T, batches, eta, delta)
        pairs += [(book.sum_of_products(V, X, T, batches), s), (book.sum_of_products(C, X, T, batches), w)]
        if not delta:
            pairs.append((book.sum_of_products(book.coefficients(X, batches, float(eta)), X, T, batches), w))
    return fact(
        "F1.2",
        "With 2 eta/b = 1 and w0 = 0, batches i, j, k give "
        "w3 = (I - Xk^T Xk)(I - Xj^T Xj) Xi^T ti + (I - Xk^T Xk) Xj^T tj + Xk^T tk",
        f"w3 = {show(steps[2])}",
        largest_difference(*pairs),
        wrong=[
            refute(
                "the middle term of w3 is (I - Xk^T Xk) Xi^T ti",
                _three_batches(book.wrong_third_weights_middle),
            ),
            refute(
                "the third step starts from w1: w3 = (I - Xk^T Xk) w1 + Xk^T tk",
                _three_batches(book.wrong_third_weights_start),
            ),
        ],
        steps=[
            ("w1 = Xi^T ti", steps[0]),
            ("w2 = (I - Xj^T Xj) Xi^T ti + Xj^T tj", steps[1]),
            ("w3 = (I - Xk^T Xk)(I - Xj^T Xj) Xi^T ti + (I - Xk^T Xk) Xj^T tj + Xk^T tk", steps[2]),
            ("the same as LaTeX", book.expansion_latex("ijk")),
            ("with momentum", book.expansion_latex("ijk", delta=r"\delta")),
        ],
    )


def f1_3() -> Fact:
    """F1.3: the limit."""
    shortest, nearest = book.minimum_norm(X, T), book.nearest_solution(X, T, W0)
    full = book.every_row(X, 600)
    from_zero, from_w0 = (book.gradient_descent(X, T, start, 0.25, full)[-1] for start in (ZERO, W0))
    lstsq = np.linalg.lstsq(X, T)[0]
    return fact(
        "F1.3",
        "From w0 = 0 the limit is the minimum-norm solution X^T (X X^T)^-1 t; from any w0 it is w0 + X^+ (t - X w0), "
        "the solution nearest to w0",
        f"w* = {show(shortest.round(4))}",
        largest_difference(
            (shortest, lstsq),
            (from_zero, shortest),
            (from_w0, nearest),
            (X @ nearest, T),
            # Nearest: the way there has no part along the solutions.
            (null_space(X).T @ (nearest - W0), np.zeros(2)),
        ),
        comparisons=[bool(np.linalg.norm(nearest - shortest) > 0.1)],
        steps=[
            ("alpha = (X X^T)^-1 t", np.linalg.solve(X @ X.T, T)),
            ("w* = X^T alpha", shortest),
            ("GD from 0 after 600 steps", from_zero),
            ("w0", W0),
            ("w0 + X^+ (t - X w0)", nearest),
            ("GD from w0 after 600 steps", from_w0),
        ],
    )


def f1_4() -> Fact:
    """F1.4: momentum."""
    delta = Fraction(1, 2)
    s2, w2 = book.two_momentum_steps(X[[0]], T[[0]], X[[1]], T[[1]], float(delta))
    exact_s2, exact_w2 = exact_run(X, T, [[0], [1]], Fraction(1, 2), delta)
    full, limit = book.every_row(X, 600), book.minimum_norm(X, T)
    heavy = book.heavy_ball(X, T, ZERO, 0.1, full, 0.6)
    nesterov = book.nesterov(X, T, ZERO, 0.1, full, 0.6)

    def velocities() -> Cases:
        for entries in integer_arrays((2,), 2):
            x, t = entries[:1].reshape(1, 1), entries[1:]
            truth = book.heavy_ball(x, t, np.zeros(1), 0.5, [[0], [0]], 0.5)[-1]
            case = f"w2 for X = {show(x)}, t = {show(t)}, w0 = s0 = [0], eta = 1/2, delta = 1/2"
            yield case, book.wrong_momentum_weights(x, t, x, t, 0.5), truth

    return fact(
        "F1.4",
        "Momentum with 2 eta/b = 1 gives s2 = (delta I - Xj^T Xj) Xi^T ti + Xj^T tj and "
        "w2 = ((1 + delta) I - Xj^T Xj) Xi^T ti + Xj^T tj; it stays in the row space, so the limit is still w*",
        f"w2 = {show(w2)}, limit {show(heavy[-1].round(4))}",
        max(
            largest_difference((s2, exact_s2), (w2, exact_w2), (heavy[-1], limit), (nesterov[-1], limit)),
            outside(X, heavy[1:]),
            outside(X, nesterov[1:]),
        ),
        wrong=[refute("the velocity s2 takes the place of the plain run's weights w2", velocities())],
        steps=[
            ("velocity s2, delta = 1/2", s2),
            ("weights w2 = s1 + s2", w2),
            ("the plain run's w2", book.gradient_descent(X, T, ZERO, 0.5, [[0], [1]])[-1]),
            ("w*", limit),
            ("heavy ball after 600 steps", heavy[-1]),
            ("Nesterov after 600 steps", nesterov[-1]),
        ],
    )


def _single_examples() -> Iterator[tuple[Array, Array]]:
    """X = [x1 x2] and t with whole numbers, none zero, the smallest first."""
    for entries in integer_arrays((3,), 2):
        if np.all(entries != 0):
            yield entries[1::-1].reshape(1, 2), entries[2:]


def _adagrad_limit(row: Array, target: Array) -> Array:
    limit: Array = book.adagrad(row, target, np.zeros(2), 0.5, book.every_row(row, 300), eps=0)[-1]
    return limit


def f1_5() -> Fact:
    """F1.5: AdaGrad leaves the row space."""
    full = book.every_row(LINE, 400)
    path = book.adagrad(LINE, TARGET, np.zeros(2), 0.5, full, eps=0)
    off = np.max(np.abs(book.adagrad(LINE, TARGET, np.zeros(2), 0.5, full, eps=1e-4)[-1] - ONES))
    shortest = book.minimum_norm(LINE, TARGET)

    def minimum_norms() -> Cases:
        for row, t in _single_examples():
            case = f"the limit for X = {show(row)}, t = {show(t)}, w0 = [0, 0], eps -> 0"
            yield case, book.minimum_norm(row, t), _adagrad_limit(row, t)

    return fact(
        "F1.5",
        "AdaGrad leaves the row space: for X = [1 2], t = 3 its first step is equal in both coordinates and it goes to "
        "(1, 1) as eps -> 0, while w* = (0.6, 1.2)",
        f"limit {show(path[-1])}; {off:.1e} off at eps = 1e-4",
        largest_difference(
            (path[-1], ONES),
            (path[1], [0.5, 0.5]),
            (shortest, [0.6, 1.2]),
            (book.one_example_limit(LINE[0], 3, 0 * ONES), ONES),
        ),
        comparisons=[4.5e-6 < off < 5.5e-6, book.row_space_ratio(LINE, path[1]) > 0.3],
        wrong=[refute("AdaGrad ends at the minimum-norm solution", minimum_norms())],
        steps=[
            ("w1, eta = 0.5, eps = 0", path[1]),
            ("its share outside the row space", book.row_space_ratio(LINE, path[1])),
            ("w400", path[-1]),
            ("the same with eps = 1e-4: distance from (1, 1)", f"{off:.2e}"),
            ("w*", shortest),
        ],
    )


def _lagged_limit(row: Array, t: Array) -> Array:
    """Where F1.5w's recursion leads from its w1 = -gradient and accumulator gradient^2, in steps without eps."""
    gradient0 = book.gradient(row, t, np.zeros(2))
    run = book.every_row(row, 1000)
    limit: Array = book.adagrad(row, t, -gradient0, 1.0, run, eps=0, G0=gradient0**2, lagged=True)[-1]
    return limit


def f1_5w() -> Fact:
    """F1.5w: the worked answer's arithmetic."""
    small = Fraction(1, 10_000)
    w1, G, half_gradient, step = book.worked_adagrad(float(small), float(small))
    exact_step = [small / (6 + small) * 27, small / (12 + small) * 54]
    heads_to = _lagged_limit(LINE, TARGET)

    def lagged_limits() -> Cases:
        for row, t in _single_examples():
            case = f"the limit for X = {show(row)}, t = {show(t)}, w0 = [0, 0], eta = eps -> 0"
            yield case, _lagged_limit(row, t), _adagrad_limit(row, t)

    def accumulators() -> Cases:
        for x, target, eta, eps in sorted(product(range(1, 4), repeat=4), key=sum):
            row, t = np.array([[float(x)]]), np.array([float(target)])
            case = f"G after the gradient at w0 = [0] for X = {show(row)}, t = {show(t)}, eta = {eta}, eps = {eps}"
            yield case, book.wrong_first_accumulator(row, t, eta, eps), book.gradient(row, t, np.zeros(1)) ** 2

    return fact(
        "F1.5w",
        "The worked recursion divides by the accumulator of the step before: w1 = (6, 12), then a step of "
        "(0.00044999, 0.00045000), which leaves the row space; run on, it heads to (-3, 3), not to (1, 1)",
        f"step ({step[0]:.8f}, {step[1]:.8f}), heads to {show(heads_to)}",
        largest_difference(
            (w1, [6, 12]),
            (G, [36, 144]),
            (half_gradient, [27, 54]),
            (step, exact_step),
            (heads_to, [-3, 3]),
            (heads_to, book.one_example_limit(LINE[0], 3, w1)),
            (book.first_accumulator(LINE, TARGET), G),
            (book.wrong_first_accumulator(LINE, TARGET, float(small), float(small)), G),
        ),
        comparisons=[
            f"{step[0]:.8f} {step[1]:.8f}" == "0.00044999 0.00045000",
            book.row_space_ratio(LINE, w1) < 1e-12,
            book.row_space_ratio(LINE, step) > 0.3,
        ],
        wrong=[
            refute(
                "the worked recursion, a step behind with its accumulator, goes where AdaGrad goes", lagged_limits()
            ),
            refute("the accumulator is (2 eta/(eps n))^2 (X^T t)^2, the step squared", accumulators()),
        ],
        steps=[
            ("gradient at w0 = 0: (2/n) X^T (X w0 - t)", book.gradient(LINE, TARGET, np.zeros(2))),
            ("w1 = w0 - eta/(sqrt(0) + eps) * gradient, eta = eps: a plain step, still a multiple of x = (1, 2)", w1),
            ("accumulator G = gradient^2 = (2/n)^2 (9, 36); (2 eta/(eps n))^2 (9, 36) agrees since eta = eps", G),
            ("residual x w1 - t", float(LINE[0] @ w1 - 3)),
            ("residual gradient without its factor 2", half_gradient),
            ("the ratio of its coordinates", float(half_gradient[1] / half_gradient[0])),
            ("step eta/(sqrt(G) + eps) * that", f"({step[0]:.8f}, {step[1]:.8f})"),
            ("the ratio of the step's coordinates: almost 1, so the row space is left", f"{step[1] / step[0]:.8f}"),
            ("run on from w1 (eta = 1, eps -> 0)", heads_to),
            ("AdaGrad itself, which adds the new gradient first", _adagrad_limit(LINE, TARGET)),
        ],
    )


def _adaptive_runs(X: Array, t: Array) -> dict[str, Array]:
    zero, batches = np.zeros(X.shape[1]), book.every_row(X, 30)
    return {
        "AdaGrad": book.adagrad(X, t, zero, 0.1, batches, eps=1e-8),
        "RMSProp": book.rmsprop(X, t, zero, 0.01, batches, rho=0.9, eps=1e-8),
        "Adam": book.adam(X, t, zero, 0.01, batches, beta1=0.9, beta2=0.999, eps=1e-8),
    }


def _one_example(d: int) -> Iterator[tuple[Array, Array]]:
    """One example of d features and its target, entries -1, 0 and 1, neither zero."""
    for entries in integer_arrays((d + 1,), 1):
        if entries[:d].any() and entries[d]:
            yield entries[:d].reshape(1, d), entries[d:]


def f1_6() -> Fact:
    """F1.6: scaling coordinates by their own history, and by something fixed."""
    P = np.diag([1.0, 2, 0.5, 1, 3]) + 0.25
    limit = book.nearest_solution_in_norm(X, T, W0, P)
    run = book.preconditioned(X, T, W0, 0.1, book.every_row(X, 1200), P)[-1]
    # Nearest in the P^-1 norm, by Lagrange's conditions: P^-1 (w - w0) = X^T alpha and X w = t.
    system = np.block([[np.linalg.inv(P), -X.T], [X, np.zeros((3, 3))]])
    lagrange = np.linalg.solve(system, np.concatenate([np.linalg.inv(P) @ W0, T]))[:5]

    leave = {name: outside(X, path[-1:]) for name, path in _adaptive_runs(X, T).items()}
    equal = np.array([[2.0, -2, 2, 2, -2]])
    stay = {name: outside(equal, path[1:]) for name, path in _adaptive_runs(equal, T[:1]).items()}
    rank_d = np.array([[1.0, 2], [0, 1], [1, 1]])
    full = book.adagrad(rank_d, T, np.zeros(2), 1.0, book.every_row(rank_d, 400), eps=1e-8)[-1]

    def always_leaving() -> Cases:
        for row, t in (case for d in (1, 2) for case in _one_example(d)):
            left = max(book.row_space_ratio(row, path[-1]) for path in _adaptive_runs(row, t).values()) > 1e-9
            yield f"the row space is left for X = {show(row)}, t = {show(t)}, w0 = {show(0 * row[0])}", True, left

    def always_staying() -> Cases:
        for n, d in ((2, 3), (3, 4)):
            # Signs of rows and columns change nothing, so the first row and column may be all 1.
            for signs in product((1.0, -1.0), repeat=(n - 1) * (d - 1)):
                X = np.ones((n, d))
                X[1:, 1:] = np.reshape(signs, (n - 1, d - 1))
                t = np.arange(1.0, n + 1)
                if np.linalg.matrix_rank(X) == n:
                    path = book.adagrad(X, t, np.zeros(d), 0.5, book.every_row(X, 5), eps=1e-8)
                    case = f"the row space is left for X = {show(X)}, t = {show(t)}, w0 = {show(0 * X[0])}"
                    yield case, False, outside(X, path[1:]) > 1e-9

    def preconditioners() -> Cases:
        for row, t in _one_example(2):
            for p, q in sorted(product((1.0, 2.0, 3.0), repeat=2), key=sum):
                P = np.diag([p, q])
                truth = book.preconditioned(row, t, np.zeros(2), 0.1, book.every_row(row, 200), P)[-1]
                case = f"the limit for X = {show(row)}, t = {show(t)}, w0 = [0, 0], P = diag({p:g}, {q:g})"
                yield case, book.minimum_norm(row, t), truth

    return fact(
        "F1.6",
        "RMSProp and Adam leave the row space too, except for one example with all |x_j| equal or X of rank d; a fixed "
        "preconditioner P goes to w0 + P X^T (X P X^T)^-1 (t - X w0), the solution nearest in the P^-1 norm",
        f"limit with P: {show(limit.round(4))}",
        max(
            largest_difference((limit, lagrange), (run, limit), (full, np.linalg.lstsq(rank_d, T)[0])),
            *stay.values(),
        ),
        comparisons=[share > 0.05 for share in leave.values()],
        wrong=[
            refute("every method that scales coordinates by their own history leaves the row space", always_leaving()),
            refute(
                "the row space is never left where all entries of X have one size, for several examples too",
                always_staying(),
            ),
            refute("a fixed preconditioner ends at the minimum-norm solution", preconditioners()),
        ],
        steps=[
            *((f"share of w30 outside the row space, {name}", f"{share:.3f}") for name, share in leave.items()),
            *((f"the same where all |x_j| are equal, {name}", f"{share:.1e}") for name, share in stay.items()),
            ("AdaGrad's limit where X has rank d", full),
            ("closed form with P", limit),
            ("1200 steps through P", run),
        ],
    )


def _runs_on_bad_scales(X: Array, t: Array, rate: float, steps: dict[str, int]) -> dict[str, Array]:
    """Every optimizer's path for its number of steps; the adaptive ones' rates were found by trial."""
    zero = np.zeros(X.shape[1])
    batches = {name: book.every_row(X, count) for name, count in steps.items()}
    return {
        "GD": book.gradient_descent(X, t, zero, rate, batches["GD"]),
        "momentum": book.heavy_ball(X, t, zero, rate, batches["momentum"], 0.9),
        "AdaGrad": book.adagrad(X, t, zero, 3e-3, batches["AdaGrad"], eps=1e-8),
        "RMSProp": book.rmsprop(X, t, zero, 1e-4, batches["RMSProp"], rho=0.9, eps=1e-8),
        "Adam": book.adam(X, t, zero, 3e-3, batches["Adam"], beta1=0.9, beta2=0.999, eps=1e-8),
    }


def _steps_to_loss(X: Array, t: Array, path: Array, target: float) -> int:
    steps = book.steps_to_loss(X, t, path, target)
    assert steps is not None, f"the run does not reach the loss {target} in {len(path) - 1} steps"
    return steps


def _steps_by_eigenvalues(X: Array, t: Array, rate: float, target: float) -> int:
    """How many steps of GD from 0 bring the loss down to `target`, from the eigenvalues of its Hessian alone."""
    h, V = np.linalg.eigh(2 * X.T @ X / len(t))
    best = np.linalg.pinv(X) @ t
    floor, e = book.loss(X, t, best), V.T @ best
    low, high = 0, 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        if floor + np.sum(h * e**2 * (1 - rate * h) ** (2 * middle)) / 2 <= target:
            high = middle
        else:
            low = middle
    return high


def f1_7() -> Fact:
    """F1.7: columns on very different scales."""
    # Loaded here because scikit-learn takes longer to import than every other fact to compute.
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    X, t, target = data.data, 2.0 * data.target - 1, 0.52
    n, d = X.shape
    h = np.linalg.eigvalsh(2 * X.T @ X / n)
    rate = 1.9 / h[-1]

    # X = QR: d rows in place of n give the same gradients, and a loss that is less by a constant.
    Q, R = np.linalg.qr(X)
    small_X, small_t = np.sqrt(d / n) * R, np.sqrt(d / n) * (Q.T @ t)
    constant = (t @ t - (Q.T @ t) @ (Q.T @ t)) / n
    enough = {"GD": 5000, "momentum": 1000, "AdaGrad": 1000, "RMSProp": 1000, "Adam": 1000}
    checks = {
        name: _steps_to_loss(small_X, small_t, path, target - constant)
        for name, path in _runs_on_bad_scales(small_X, small_t, rate, enough).items()
    }
    counts = {
        name: _steps_to_loss(X, t, path, target) for name, path in _runs_on_bad_scales(X, t, rate, checks).items()
    }

    scaled, centred = (X - X.mean(axis=0)) / X.std(axis=0), t - t.mean()
    scaled_rate = 1.9 / np.linalg.eigvalsh(2 * scaled.T @ scaled / n)[-1]
    scaled_path = book.gradient_descent(scaled, centred, np.zeros(d), scaled_rate, book.every_row(scaled, 100))
    return fact(
        "F1.7",
        "Columns on very different scales make one rate slow for all: on breast_cancer's raw columns momentum and the "
        "adaptive methods reach a loss of 0.52 in far fewer steps than GD",
        "steps: " + ", ".join(f"{name} {count}" for name, count in counts.items()),
        abs(counts["GD"] - _steps_by_eigenvalues(X, t, rate, target))
        + sum(abs(counts[name] - checks[name]) for name in counts),
        comparisons=[5 * counts[name] < counts["GD"] for name in counts if name != "GD"],
        steps=[
            ("condition number of X^T X", f"{h[-1] / h[0]:.2e}"),
            ("GD's and momentum's rate, 1.9 / lambda_max", f"{rate:.2e}"),
            *((f"steps to loss {target}, {name}", str(count)) for name, count in counts.items()),
            ("the same by the eigenvalues alone, GD", _steps_by_eigenvalues(X, t, rate, target)),
            ("GD on standardised columns and target", _steps_to_loss(scaled, centred, scaled_path, target)),
        ],
    )


FACTS: dict[str, Callable[[], Fact]] = {
    "F1.1": f1_1,
    "F1.2": f1_2,
    "F1.3": f1_3,
    "F1.4": f1_4,
    "F1.5": f1_5,
    "F1.5w": f1_5w,
    "F1.6": f1_6,
    "F1.7": f1_7,
}

"""What a reader's formula is held against: for every fact with a formula, its symbols and its right values.

The right values are computed from first principles and never from the fact's own formula: T literal steps of gradient
descent, derivatives from the polynomial in eta that those steps carry along, minimisers as the point where the literal
gradient vanishes, counts by counting.

    >>> quantity = TARGETS["F2.4"].quantities["L1"]
    >>> case = quantity.setting.case({"n": 1, "d": 1}, X=[[1]], t=[3], w0=[0], eta=1)
    >>> quantity.truth(case)  # w1 = 0 - 2 (0 - 3) = 6, so the loss is (6 - 3)^2
    Fraction(9, 1)
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from thalweg.textbook.checking.cases import Case, Choice, Setting, Sizes, Symbol
from thalweg.textbook.checking.evaluation import Identity, Value
from thalweg.textbook.checking.formula import FUNCTIONS, Function, Kind, Vocabulary
from thalweg.textbook.checking.rational import Array, exact, identity, pseudo_inverse, rank, solve


@dataclass(frozen=True)
class Quantity:
    """One thing a fact gives a formula for.

    Args:
        kind: number, vector or matrix.
        meaning: what it is, as a noun phrase.
        setting: where it is computed.
        needs: what of the given it depends on, in the order a person would state it.
        truth: its right value, None where it is not defined.
    """

    kind: Kind
    meaning: str
    setting: Setting
    needs: tuple[str, ...]
    truth: Callable[[Case], Value | None]


@dataclass(frozen=True)
class Target:
    """A fact with a formula: its id and its quantities by name."""

    id: str
    quantities: Mapping[str, Quantity]

    def vocabulary(self, quantity: str | None = None) -> Vocabulary:
        """What a formula about one of the quantities, or about any of them, may say."""
        settings = [self.quantities[name].setting for name in ([quantity] if quantity else self.quantities)]
        kinds = {name: symbol.kind for setting in settings for name, symbol in setting.symbols.items()}
        functions = dict(FUNCTIONS)
        if any(setting.loss for setting in settings):
            functions["L"] = Function((("vector",),), "number")
        return Vocabulary(self.id, kinds, tuple(self.quantities), functions)


# Gradient descent, literally: the loss is (1/n) ||X w - t||^2 + lam ||w||^2.


def _gradient(case: Case, w: Array) -> Array:
    X, t, n, lam = case("X"), case("t"), case("n"), case("lam")
    return 2 / n * (X.T @ (X @ w - t)) + 2 * lam * w  # type: ignore[no-any-return]


def _loss(case: Case, w: Array) -> Fraction:
    residual = case("X") @ w - case("t")
    return residual @ residual / case("n") + case("lam") * (w @ w)  # type: ignore[no-any-return]


def _descend(case: Case, steps: int) -> Array:
    w = case("w0")
    for _ in range(steps):
        w = w - case("eta") * _gradient(case, w)
    return w  # type: ignore[no-any-return]


def _loss_polynomial(case: Case, steps: int) -> list[Fraction]:
    """The coefficients of eta^0, eta^1, ... in the loss after some steps of gradient descent, lam being 0.

    The weights are a polynomial in eta with vectors for coefficients; each step applies the gradient to it.
    """
    X, t, n = case("X"), case("t"), case("n")
    w = [case("w0")]
    for _ in range(steps):
        residual = [X @ power for power in w]
        residual[0] = residual[0] - t
        gradient = [2 / n * (X.T @ power) for power in residual]
        w = [(w[power] if power < len(w) else 0) - (gradient[power - 1] if power else 0) for power in range(len(w) + 1)]
    residual = [X @ power for power in w]
    residual[0] = residual[0] - t
    loss = [Fraction(0)] * (2 * len(residual) - 1)
    for (i, left), (j, right) in itertools.product(enumerate(residual), repeat=2):
        loss[i + j] += left @ right / n
    return loss


def _derivative(case: Case, steps: int, order: int) -> Fraction:
    coefficients = _loss_polynomial(case, steps)
    for _ in range(order):
        coefficients = [power * coefficient for power, coefficient in enumerate(coefficients)][1:]
    return sum((c * case("eta") ** power for power, c in enumerate(coefficients)), Fraction(0))


def _best_rate(case: Case) -> Fraction | None:
    """The vertex of the parabola that the loss after one step is in eta, from its values at 0, 1 and 2."""
    w0, gradient = case("w0"), _gradient(case, case("w0"))
    at_0, at_1, at_2 = (_loss(case, w0 - rate * gradient) for rate in (0, 1, 2))
    curvature = at_0 - 2 * at_1 + at_2
    return (3 * at_0 - 4 * at_1 + at_2) / (2 * curvature) if curvature else None


def _minimiser(case: Case) -> Array:
    """Where the literal gradient vanishes: it is affine, so probing it once per coordinate tells everything.

    With lam = 0 and fewer rows than columns there are many such points; this is the one of least norm.
    """
    d = case.sizes["d"]
    at_zero = _gradient(case, exact([0] * d))
    columns = [_gradient(case, unit) - at_zero for unit in identity(d)]
    return pseudo_inverse(np.array(columns, dtype=object).T) @ -at_zero


def _nearest_solution(case: Case, start: Array, metric: Array) -> Array:
    """The w with X w = t that minimises (w - start)^T metric (w - start), from the conditions of Lagrange."""
    X, t = case("X"), case("t")
    n, d = X.shape
    conditions = np.vstack([np.hstack([metric, X.T]), np.hstack([X, exact(np.zeros((n, n), dtype=int))])])
    return solve(conditions, np.concatenate([metric @ start, t]))[:d]


def _batch_run(case: Case, steps: int) -> tuple[Array, Array]:
    """The velocity and the weights after some steps from zero on batches i, j, k in turn; momentum only if given."""
    s = w = exact([0] * case.sizes["d"])
    delta = case.given.get("delta", Fraction(0))
    for batch in "ijk"[:steps]:
        X, t = case(f"X{batch}"), case(f"t{batch}")
        s = delta * s - case("eta") * (2 / case("b")) * (X.T @ (X @ w - t))
        w = w + s
    return s, w


def _batch_gradient(case: Case) -> Array:
    """Central differences of the loss on the batch, which are exact because that loss is quadratic."""

    def loss(w: Array) -> Fraction:
        residual = case("X_B") @ w - case("t_B")
        return residual @ residual / case("b")  # type: ignore[no-any-return]

    w = case("w")
    return np.array([(loss(w + unit) - loss(w - unit)) / 2 for unit in identity(case.sizes["d"])], dtype=object)


# Convolutional layers, counted one by one.


def _count_layer(case: Case, what: str) -> Fraction:
    k, c_in, c_out, height, width = (range(case.sizes[name]) for name in ("k", "c_in", "c_out", "height", "width"))
    units = list(itertools.product(height, width, c_out))
    taps = list(itertools.product(k, k, c_in))
    match what:
        case "neurons":
            return Fraction(len(units))
        case "connections":
            return Fraction(sum(1 for _ in units for _ in taps))
    weights = {(tap, channel) for _, _, channel in units for tap in taps}
    biases = {channel for _, _, channel in units}
    return Fraction(len(weights) + len(biases))


def _receptive_field(case: Case) -> Fraction:
    """How many input positions lie between the first and the last one that unit 0 of the last layer sees."""
    seen = {0}
    for _ in range(case.sizes["layers"]):
        seen = {
            unit * case.sizes["stride"] + tap * case.sizes["dilation"]
            for unit in seen
            for tap in range(case.sizes["k"])
        }
    return Fraction(max(seen) - min(seen) + 1)


# The settings.


def _twentieths(low: int, high: int) -> Callable[[random.Random, Sizes], Fraction]:
    return lambda rng, sizes: Fraction(rng.randint(low, high), 20)


def _nice_rates(sizes: Sizes) -> list[Fraction]:
    nicest = Fraction(sizes["n"], 2)  # makes 2 eta / n = 1, so that S = K
    return [nicest, *(rate for rate in (Fraction(1), Fraction(1, 2), Fraction(2)) if rate != nicest)]


def _positive_definite(rng: random.Random, sizes: Sizes) -> Array:
    d = sizes["d"]
    root = exact([Fraction(rng.randint(-10, 10), 10) for _ in range(d * d)]).reshape(d, d)
    return root @ root.T + identity(d) / 2


def _small_positive_definite(sizes: Sizes) -> list[Array]:
    d = sizes["d"]
    ramp = exact(np.diag(range(1, d + 1)))
    return [ramp, identity(d) + exact(np.ones((d, d), dtype=int)), identity(d)]


_ETA = Choice(_nice_rates, _twentieths(1, 30))
_LAM = Choice(lambda sizes: [Fraction(1), Fraction(1, 2), Fraction(2)], _twentieths(1, 30))
_DELTA = Choice(lambda sizes: [Fraction(1, 2), Fraction(2), Fraction(1)], _twentieths(1, 19))
_P = Choice(_small_positive_definite, _positive_definite)

_N = Symbol("number", "the number of rows of X")
_D = Symbol("number", "the number of columns of X")
_I = Symbol("matrix", "the identity of the size that fits", lambda case: Identity(Fraction(1)))

_LEAST_SQUARES: dict[str, Symbol] = {
    "X": Symbol("matrix", "the data, n x d, one example a row"),
    "t": Symbol("vector", "the targets, length n"),
    "w0": Symbol("vector", "the first weights, length d"),
    "n": _N,
    "d": _D,
    "a": Symbol("vector", "the first residual X w0 - t, length n", lambda case: case("X") @ case("w0") - case("t")),
    "K": Symbol("matrix", "X X^T, n x n", lambda case: case("X") @ case("X").T),
    "I": _I,
}
_DESCENT: dict[str, Symbol] = {
    **_LEAST_SQUARES,
    "eta": Symbol("number", "the learning rate"),
    "h": Symbol("number", "2 eta / n", lambda case: 2 * case("eta") / case("n")),
    "S": Symbol("matrix", "(2 eta / n) K, n x n", lambda case: case("h") * case("K")),
    "lam": Symbol("number", "the weight of ||w||^2 in the loss, 0 but in F2.9", lambda case: Fraction(0)),
    "g": Symbol("vector", "the gradient of the loss at w0, length d", lambda case: _gradient(case, case("w0"))),
    "H": Symbol(
        "matrix",
        "the Hessian 2 (X^T X / n + lam I), d x d",
        lambda case: 2 * (case("X").T @ case("X") / case("n") + case("lam") * identity(case.sizes["d"])),
    ),
    "w_lam": Symbol("vector", "the minimiser of the loss, of least norm if lam = 0; length d", _minimiser),
    "e": Symbol("vector", "w0 - w_lam, length d", lambda case: case("w0") - case("w_lam")),
}
_STEPS = {**_DESCENT, "T": Symbol("number", "the number of steps")}
_ARRAYS = {"X": ("n", "d"), "t": ("n",), "w0": ("d",)}
_PAIR = {"n": (2, 4), "d": (2, 4)}


def _moves(case: Case) -> bool:
    return bool(np.any(case("X") != 0) and np.any(case("a") != 0))


def _full_row_rank(case: Case) -> bool:
    return rank(case("X")) == case.sizes["n"] and _moves(case)


def _starts(case: Case) -> bool:
    return bool(np.any(case("Xi") != 0) and np.any(case("ti") != 0))


ONE_STEP = Setting(_PAIR, _ARRAYS, {"eta": _ETA}, _DESCENT, admits=_moves, loss=_loss)
STEPS = Setting({**_PAIR, "T": (3, 5)}, _ARRAYS, {"eta": _ETA}, _STEPS, admits=_moves, loss=_loss)
RIDGE = Setting(STEPS.sizes, _ARRAYS, {"eta": _ETA, "lam": _LAM}, _STEPS, admits=_moves, loss=_loss)
INTERPOLATION = Setting(
    _PAIR,
    _ARRAYS,
    {"eta": _ETA},
    {name: symbol for name, symbol in _DESCENT.items() if name not in ("w_lam", "e")},
    admits_sizes=lambda sizes: sizes["d"] > sizes["n"],
    admits=_full_row_rank,
)
PRECONDITIONED = Setting(
    _PAIR,
    _ARRAYS,
    {"P": _P},
    {**_LEAST_SQUARES, "P": Symbol("matrix", "the preconditioner, d x d, symmetric positive definite")},
    admits_sizes=INTERPOLATION.admits_sizes,
    admits=_full_row_rank,
)
BATCH = Setting(
    {"b": (2, 3), "n": (3, 4), "d": (2, 4)},
    {"X": ("n", "d"), "t": ("n",), "w": ("d",)},
    {},
    {
        "X_B": Symbol("matrix", "the rows of the batch, b x d", lambda case: case("X")[: case.sizes["b"]]),
        "t_B": Symbol("vector", "the targets of the batch, length b", lambda case: case("t")[: case.sizes["b"]]),
        "w": Symbol("vector", "the weights, length d"),
        "b": Symbol("number", "the number of rows in a batch"),
        "X": _LEAST_SQUARES["X"],
        "t": _LEAST_SQUARES["t"],
        "n": _N,
        "d": _D,
        "I": _I,
    },
    admits_sizes=lambda sizes: sizes["b"] < sizes["n"],
    admits=lambda case: bool(np.any(case("X_B") != 0)),
)
_BATCHES: dict[str, Symbol] = {
    **{f"X{batch}": Symbol("matrix", f"the rows of batch {batch}, b x d") for batch in "ijk"},
    **{f"t{batch}": Symbol("vector", f"the targets of batch {batch}, length b") for batch in "ijk"},
    "b": Symbol("number", "the number of rows in a batch"),
    "d": _D,
    "I": _I,
    "eta": Symbol("number", "the learning rate, such that 2 eta / b = 1", lambda case: case("b") / 2),
}
_BATCH_ARRAYS: dict[str, tuple[str, ...]] = {
    **{f"X{batch}": ("b", "d") for batch in "ijk"},
    **{f"t{batch}": ("b",) for batch in "ijk"},
}
_BATCH_SIZES = {"b": (2, 3), "d": (2, 4)}
PLAIN_BATCHES = Setting(
    _BATCH_SIZES,
    _BATCH_ARRAYS,
    {},
    _BATCHES,
    admits=_starts,
)
MOMENTUM_BATCHES = Setting(
    _BATCH_SIZES,
    {name: shape for name, shape in _BATCH_ARRAYS.items() if not name.endswith("k")},
    {"delta": _DELTA},
    {
        **{name: symbol for name, symbol in _BATCHES.items() if not name.endswith("k")},
        "delta": Symbol("number", "the momentum"),
    },
    admits=_starts,
)
LAYER = Setting(
    {"k": (3, 5), "c_in": (3, 4), "c_out": (3, 4), "height": (2, 5), "width": (2, 5)},
    {},
    {},
    {
        "k": Symbol("number", "the width of the square kernel"),
        "c_in": Symbol("number", "the channels that enter"),
        "c_out": Symbol("number", "the channels that leave"),
        "height": Symbol("number", "the rows of the image, which zero padding keeps"),
        "width": Symbol("number", "its columns"),
    },
)
STACK = Setting(
    {"k": (3, 5), "stride": (3, 3), "dilation": (3, 3), "layers": (3, 4)},
    {},
    {},
    {
        "k": Symbol("number", "the width of every layer's kernel"),
        "stride": Symbol("number", "the stride of every layer"),
        "dilation": Symbol("number", "the dilation of every layer"),
        "layers": Symbol("number", "the number of layers"),
    },
)

_RUN = ("X", "t", "w0", "eta")
_FIRST_TWO = ("Xi", "ti", "Xj", "tj")
_ALL_THREE = (*_FIRST_TWO, "Xk", "tk")
_LAYER = tuple(LAYER.sizes)


def _after(steps: int | None = None) -> Callable[[Case], Array]:
    """The weights after some literal steps, T if not said."""
    return lambda case: _descend(case, steps or case.sizes["T"])


def _with_T(meaning: str, kind: Kind, compute: Callable[[Case], Value | None]) -> Quantity:
    return Quantity(kind, meaning, STEPS, (*_RUN, "T"), compute)


def _one_step(meaning: str, kind: Kind, compute: Callable[[Case], Value | None]) -> Quantity:
    return Quantity(kind, meaning, ONE_STEP, _RUN, compute)


def _ridge(meaning: str, kind: Kind, needs: tuple[str, ...], compute: Callable[[Case], Value | None]) -> Quantity:
    return Quantity(kind, meaning, RIDGE, needs, compute)


_FACTS: dict[str, dict[str, Quantity]] = {
    "F1.1": {
        "gradient": Quantity(
            "vector", "the gradient of the loss on the batch", BATCH, ("X_B", "t_B", "w"), _batch_gradient
        )
    },
    "F1.2": {
        "w1": Quantity(
            "vector", "the weights after one step", PLAIN_BATCHES, ("Xi", "ti"), lambda case: _batch_run(case, 1)[1]
        ),
        "w2": Quantity(
            "vector", "the weights after two steps", PLAIN_BATCHES, _FIRST_TWO, lambda case: _batch_run(case, 2)[1]
        ),
        "w3": Quantity(
            "vector", "the weights after three steps", PLAIN_BATCHES, _ALL_THREE, lambda case: _batch_run(case, 3)[1]
        ),
    },
    "F1.3": {
        "w_star": Quantity(
            "vector",
            "the limit of gradient descent from 0",
            INTERPOLATION,
            ("X", "t"),
            lambda case: _nearest_solution(case, 0 * case("w0"), identity(case.sizes["d"])),
        ),
        "limit": Quantity(
            "vector",
            "the limit of gradient descent from w0",
            INTERPOLATION,
            ("X", "t", "w0"),
            lambda case: _nearest_solution(case, case("w0"), identity(case.sizes["d"])),
        ),
    },
    "F1.4": {
        "s2": Quantity(
            "vector",
            "the velocity after two steps",
            MOMENTUM_BATCHES,
            (*_FIRST_TWO, "delta"),
            lambda case: _batch_run(case, 2)[0],
        ),
        "w2": Quantity(
            "vector",
            "the weights after two steps",
            MOMENTUM_BATCHES,
            (*_FIRST_TWO, "delta"),
            lambda case: _batch_run(case, 2)[1],
        ),
    },
    "F1.6": {
        "limit": Quantity(
            "vector",
            "the limit of preconditioned gradient descent from w0",
            PRECONDITIONED,
            ("X", "t", "w0", "P"),
            lambda case: _nearest_solution(case, case("w0"), solve(case("P"), identity(case.sizes["d"]))),
        )
    },
    "F2.4": {
        "w1": _one_step("the weights after one step", "vector", _after(1)),
        "L1": _one_step("the loss after one step", "number", lambda case: _loss(case, _descend(case, 1))),
    },
    "F2.5": {
        "dL1": _one_step(
            "the derivative in eta of the loss after one step", "number", lambda case: _derivative(case, 1, 1)
        ),
        "d2L1": _one_step(
            "the second derivative in eta of the loss after one step", "number", lambda case: _derivative(case, 1, 2)
        ),
    },
    "F2.6": {"best_rate": Quantity("number", "the best rate for one step", ONE_STEP, ("X", "t", "w0"), _best_rate)},
    "F2.7": {
        "residual": _with_T(
            "the residual after T steps", "vector", lambda case: case("X") @ _after()(case) - case("t")
        ),
        "w_T": _with_T("the weights after T steps", "vector", _after()),
        "L_T": _with_T("the loss after T steps", "number", lambda case: _loss(case, _after()(case))),
        "w2": _one_step("the weights after two steps", "vector", _after(2)),
        "w3": _one_step("the weights after three steps", "vector", _after(3)),
    },
    "F2.8": {
        "dL": _with_T(
            "the derivative in eta of the loss after T steps",
            "number",
            lambda case: _derivative(case, case.sizes["T"], 1),
        ),
        "d2L": _with_T(
            "the second derivative in eta of the loss after T steps",
            "number",
            lambda case: _derivative(case, case.sizes["T"], 2),
        ),
    },
    "F2.9": {
        "L_T": _ridge(
            "the loss after T steps", "number", (*_RUN, "lam", "T"), lambda case: _loss(case, _after()(case))
        ),
        "w_T": _ridge("the weights after T steps", "vector", (*_RUN, "lam", "T"), _after()),
        "w_lam": _ridge("the minimiser of the loss", "vector", ("X", "t", "lam"), _minimiser),
        "best_rate": _ridge("the best rate for one step", "number", ("X", "t", "w0", "lam"), _best_rate),
    },
    "F3.2": {
        what: Quantity("number", meaning, LAYER, _LAYER, lambda case, what=what: _count_layer(case, what))  # type: ignore[misc]
        for what, meaning in {
            "neurons": "the neurons of a convolutional layer",
            "parameters": "its parameters, biases included",
            "connections": "its input connections without biases, those to the padding included",
        }.items()
    },
    "F3.3": {
        "receptive_field": Quantity(
            "number", "the receptive field of a stack of equal layers", STACK, tuple(STACK.sizes), _receptive_field
        )
    },
}
TARGETS: Mapping[str, Target] = {name: Target(name, quantities) for name, quantities in _FACTS.items()}

r"""The first steps of a run written out: which combination of the rows every w_k is (facts F1.2 and F1.4).

>>> from thalweg.least_squares import LeastSquares
>>> problem = LeastSquares([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]], [3.0, 2.0])
>>> print(expand(problem, "i,j").weights[-1].latex)
w_{2} = (I - X_{j}^\top X_{j}) X_{i}^\top t_{i} + X_{j}^\top t_{j}
>>> print(expand(problem, "i,j", momentum="delta").weights[-1].latex)
w_{2} = ((1 + \delta) I - X_{j}^\top X_{j}) X_{i}^\top t_{i} + X_{j}^\top t_{j}
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError
from thalweg.implicit_bias.rules import HeavyBall
from thalweg.least_squares import LeastSquares, Vector
from thalweg.report import Cell, Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_STEPS, _MOST_WITH_MOMENTUM = 100, 10  # with momentum every step doubles the number of terms
_SYMBOLS_STAND_FOR = 0.3  # when an expansion with symbols is checked by a run, which needs numbers
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*|\d+")


@dataclass(frozen=True, eq=False)
class Expanded:
    """One vector of a run, as a sum of coefficients times `X_p^T t_p`.

    Attributes:
        step: after how many steps.
        latex: the whole equation.
        coefficients: by batch, SymPy expressions in which the noncommutative symbol `A_p` stands for `X_p^T X_p` and a
            number for so many times the identity.
        sizes: how many rows each batch of the run holds.
        value: what it comes to on the data, `(d,)`.
        difference: how far that is from the literal run's vector, relative to the longest vector so far.
    """

    step: int
    latex: str
    coefficients: dict[str, Any]
    sizes: dict[str, int]
    value: Vector
    difference: float

    @cached_property
    def expression(self) -> Any:
        """The same as one SymPy matrix expression in the `X_p` and `t_p`."""
        return _matrix_expression(self.coefficients, self.sizes, len(self.value))


@dataclass(frozen=True, eq=False, repr=False)
class Expansion(Result):
    """The first steps of gradient descent on given batches, with or without momentum, from w0 = s0 = 0.

    Attributes:
        order: the names of the batches, one for each step.
        rows: the rows of X that each name stands for where the expansion was checked.
        scale: `2 eta / b`, a number or a symbol.
        momentum: a number or a symbol.
        weights: w_1, ..., w_T.
        velocities: s_1, ..., s_T; none without momentum.
        shares: the length of each batch's part of w_k, `(T, batches)`.
    """

    order: tuple[str, ...]
    rows: dict[str, NDArray[np.intp]]
    scale: Any
    momentum: Any
    weights: tuple[Expanded, ...]
    velocities: tuple[Expanded, ...]
    shares: NDArray[np.float64]

    def table(self) -> Table:
        """One row for every vector: its equation, and how far it is from the literal run."""
        vectors = [*self.velocities, *self.weights]
        rows: list[list[Cell]] = [[one.latex, one.difference] for one in sorted(vectors, key=lambda one: one.step)]
        notes = [f"2 eta / b = {self.scale}; w0 = 0. Every coefficient acts on combinations of rows, and gives one."]
        if self.velocities:
            notes.append(f"s_k is the velocity, with momentum {self.momentum}; compare weights with weights.")
        notes.append(
            "Difference: from the literal run of the same batches, "
            + "; ".join(f"{name} = rows {', '.join(map(str, rows))}" for name, rows in self.rows.items())
            + " of X, from 0."
        )
        return Table(
            f"The first steps written out: batches {', '.join(self.order)}", ("LaTeX", "difference"), rows, notes
        )

    def to_dict(self) -> dict[str, Any]:
        """Keys `order`, `rows`, `scale` (2 eta / b), `momentum`, `weights`, `velocities`.

        The last two are lists of `step`, `latex`, `coefficients` (by batch, SymPy's text; `A_p` is `X_p^T X_p`),
        `value` and `difference`.
        """

        def entries(vectors: Sequence[Expanded]) -> list[dict[str, Any]]:
            return [
                {
                    "step": one.step,
                    "latex": one.latex,
                    "coefficients": {name: str(coefficient) for name, coefficient in one.coefficients.items()},
                    "value": one.value,
                    "difference": one.difference,
                }
                for one in vectors
            ]

        return {
            "order": self.order,
            "rows": self.rows,
            "scale": str(self.scale),
            "momentum": str(self.momentum),
            "weights": entries(self.weights),
            "velocities": entries(self.velocities),
        }

    def figure(self) -> go.Figure:
        """How long each batch's part of the weights is, step by step."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for column, name in enumerate(self.rows):
            figure.add_bar(x=list(range(1, len(self.order) + 1)), y=self.shares[:, column], name=html.escape(name))
        figure.update_layout(
            title="What each batch has put into the weights",
            template="plotly_white",
            xaxis={"title": "step", "dtick": 1},
            yaxis={"title": "length of its part"},
        )
        return figure


def expand(
    problem: LeastSquares,
    order: str | Sequence[str],
    *,
    batch: int = 1,
    rate: float | str | None = None,
    momentum: float | str = 0,
) -> Expansion:
    """Write out the first steps of gradient descent on batches, collected by `X_p^T t_p`, and check them.

    `s <- momentum s - eta grad`, `w <- w + s` from zeros; without momentum the coefficients stay products,
    `(I - c X_k^T X_k) ... c` with `c = 2 eta / b`; with it they are sums over every chain of steps, whose number
    doubles with each step. Every vector is compared with the literal run of the same batches when it is made.

    Args:
        problem: the data on which the expansion is checked; its l2 must be 0.
        order: the names of the batches in turn, `"i,j,k"` or `["1", "2", "1"]`. A number m stands for the m-th `batch`
            rows of X, from 1; other names take the batches in the order in which they come up, over again where there
            are not enough.
        batch: how many rows a batch holds.
        rate: eta; None for `b / 2`, so that `2 eta / b = 1`; a name makes `2 eta / b` a symbol of that name.
        momentum: a number, or a name for a symbol.

    Raises:
        InputError: a name, a number or the order cannot be used, or there are more than 100 steps, 10 with momentum.
    """
    import sympy

    names = _names(order)
    problem = problem.stored("an expansion")
    if problem.l2 > 0:
        raise InputError(f"An expansion is of the loss without a penalty, but l2 is {problem.l2:g}.")
    if not 1 <= batch <= problem.n:
        raise InputError(f"A batch must hold 1 to {problem.n} examples, but it is to hold {batch}.")
    rows = _rows(problem.n, names, batch)
    scale = sympy.Integer(1) if rate is None else _quantity("rate", rate)
    if rate is not None and scale.is_number:
        scale = 2 * scale / batch
    delta = _quantity("momentum", momentum)
    most, with_momentum = (_MOST_STEPS, "") if delta == 0 else (_MOST_WITH_MOMENTUM, " with momentum")
    if len(names) > most:
        raise InputError(f"At most {most} steps can be written out{with_momentum}, but the order has {len(names)}.")
    numbers = dict.fromkeys(scale.free_symbols | delta.free_symbols, _SYMBOLS_STAND_FOR)

    A = {name: _gram(name) for name in rows}
    V: dict[str, Any] = dict.fromkeys(rows, sympy.Integer(0))
    C: dict[str, Any] = dict.fromkeys(rows, sympy.Integer(0))
    literal = _literal(problem, [rows[name] for name in names], scale.subs(numbers), delta.subs(numbers))
    velocities: list[Expanded] = []
    weights: list[Expanded] = []
    shares = []
    longest = 0.0
    for step, (name, (s, w)) in enumerate(zip(names, literal, strict=True), start=1):
        if delta == 0:
            C = {p: (1 - scale * A[name]) * coefficient for p, coefficient in C.items()}
            C[name] += scale
        else:
            V = {p: _collected(delta * V[p] - scale * A[name] * C[p]) for p in rows}
            V[name] += scale
            C = {p: _collected(C[p] + V[p]) for p in rows}
        longest = max(longest, float(np.linalg.norm(s)), float(np.linalg.norm(w)))
        for kind, coefficients, run in (("s", V, s), ("w", C, w)):
            if kind == "s" and delta == 0:
                continue
            parts = {p: _applied(coefficients[p], problem, rows, A, numbers, p) for p in rows}
            value = np.sum(list(parts.values()), axis=0)
            (velocities if kind == "s" else weights).append(
                Expanded(
                    step=step,
                    latex=_equation(kind, step, coefficients, A),
                    coefficients={p: c for p, c in coefficients.items() if c != 0},
                    sizes={p: len(of_batch) for p, of_batch in rows.items()},
                    value=value,
                    difference=float(np.linalg.norm(value - run)) / (longest or 1.0),
                )
            )
        shares.append([float(np.linalg.norm(part)) for part in parts.values()])
    return Expansion(tuple(names), rows, scale, delta, tuple(weights), tuple(velocities), np.array(shares))


def _names(order: str | Sequence[str]) -> list[str]:
    names = [name.strip() for name in (order.split(",") if isinstance(order, str) else map(str, order))]
    for name in names:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"A batch must be named by letters and digits, as in 'i,j,k' or '1,2,1', but got {name!r}."
            )
    return names


def _gram(name: str) -> Any:
    """The symbol that stands for `X_p^T X_p`."""
    import sympy

    return sympy.Symbol(f"A_{name}", commutative=False)


def _rows(n: int, names: Sequence[str], batch: int) -> dict[str, NDArray[np.intp]]:
    """The rows that each name stands for."""
    whole = n // batch
    rows: dict[str, NDArray[np.intp]] = {}
    for name in names:
        if name.isdigit() and not 1 <= int(name) <= whole:
            raise InputError(
                f"There are {whole} batches of {batch}, numbered from 1, but the order names batch {name}."
            )
        number = int(name) - 1 if name.isdigit() else len(rows) % whole
        rows.setdefault(name, np.arange(number * batch, (number + 1) * batch))
    return rows


def _quantity(what: str, value: float | str) -> Any:
    """A number, exactly as it was written, or a symbol."""
    import sympy

    text = str(value).strip()
    if re.fullmatch(r"[A-Za-z]+", text) and text.lower() not in ("nan", "inf", "infinity"):
        return sympy.Symbol(text)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not (np.isfinite(number) and (number >= 0 if what == "momentum" else number > 0)):
        least = "of at least 0" if what == "momentum" else "above 0"
        raise InputError(f"The {what} of an expansion must be a finite number {least} or a name, but it is {text!r}.")
    return sympy.Rational(text)


def _literal(
    problem: LeastSquares, batches: Sequence[NDArray[np.intp]], scale: Any, delta: Any
) -> list[tuple[Vector, Vector]]:
    """The velocities and weights of the run itself, step by step."""
    rate = float(scale) * len(batches[0]) / 2
    rule = HeavyBall(float(delta))
    w, state = np.zeros(problem.d), rule.begin(problem.d)
    found = []
    for rows in batches:
        direction, state = rule.direction(problem.gradient(w, rows), state)
        w = w - rate * direction
        found.append((-rate * direction, w))
    return found


def _collected(expression: Any) -> Any:
    """A sum with one term for every product of matrices, its coefficient in ascending powers."""
    import sympy

    terms: dict[tuple[Any, ...], Any] = {}
    for term in sympy.Add.make_args(sympy.expand(expression)):
        numbers, matrices = term.args_cnc()
        terms[tuple(matrices)] = terms.get(tuple(matrices), 0) + sympy.Mul(*numbers)
    return sympy.Add(*(sympy.Mul(number, *matrices) for matrices, number in terms.items()))


def _applied(
    coefficient: Any, problem: LeastSquares, rows: dict[str, Any], A: dict[str, Any], numbers: dict[Any, float], p: str
) -> Vector:
    """The value of one coefficient times `X_p^T t_p`, by products of matrices and vectors alone."""
    X, t = problem.X, problem.t
    grams = {A[name]: X[rows[name]] for name in rows}

    def apply(expression: Any, v: Vector) -> Vector:
        if expression.is_commutative:
            return float(expression.subs(numbers)) * v
        if expression.is_Add:
            total: Vector = np.sum([apply(term, v) for term in expression.args], axis=0)
            return total
        if expression.is_Mul:
            for factor in reversed(expression.args):
                v = apply(factor, v)
            return v
        if expression.is_Pow:
            for _ in range(int(expression.exp)):
                v = apply(expression.base, v)
            return v
        product: Vector = grams[expression].T @ (grams[expression] @ v)
        return product

    return apply(coefficient, np.asarray(X[rows[p]].T @ t[rows[p]], dtype=np.float64))


def _matrix_expression(coefficients: dict[str, Any], sizes: dict[str, int], d: int) -> Any:
    import sympy

    X = {name: sympy.MatrixSymbol(f"X_{name}", size, d) for name, size in sizes.items()}
    grams = {_gram(name): X[name].T * X[name] for name in sizes}
    identity = sympy.Identity(d)

    def matrix(expression: Any) -> Any:
        if expression.is_commutative:
            return expression * identity
        if expression.is_Add:
            return sympy.MatAdd(*map(matrix, expression.args))
        if expression.is_Mul:
            factors, matrices = expression.args_cnc()
            return sympy.MatMul(*factors, *map(matrix, matrices))
        if expression.is_Pow:
            return sympy.MatPow(matrix(expression.base), expression.exp)
        return grams[expression]

    terms = [
        matrix(coefficient) * X[name].T * sympy.MatrixSymbol(f"t_{name}", sizes[name], 1)
        for name, coefficient in coefficients.items()
    ]
    return sympy.MatAdd(*terms).doit(deep=False)


def _equation(kind: str, step: int, coefficients: dict[str, Any], A: dict[str, Any]) -> str:
    """The whole equation as LaTeX."""
    matrices = {symbol: rf"X_{{{name}}}^\top X_{{{name}}}" for name, symbol in A.items()}
    terms = []
    for name, coefficient in coefficients.items():
        if coefficient != 0:
            text = _latex(coefficient, matrices)
            text = f"({text}) " if coefficient.is_Add and not coefficient.is_commutative else _factor(coefficient, text)
            terms.append(rf"{text}X_{{{name}}}^\top t_{{{name}}}")
    return f"{kind}_{{{step}}} = " + " + ".join(terms)


def _factor(coefficient: Any, text: str) -> str:
    """A coefficient in front of `X_p^T t_p`: nothing for 1, brackets around a sum of numbers."""
    if coefficient == 1:
        return ""
    return f"({text}) " if coefficient.is_Add else f"{text} "


def _latex(expression: Any, matrices: dict[Any, str]) -> str:
    import sympy

    if expression.is_commutative:
        return str(sympy.latex(expression, order="rev-lex"))
    if expression.is_Add:
        number = sympy.Add(*(term for term in expression.args if term.is_commutative))
        others = sorted(
            (term for term in expression.args if not term.is_commutative),
            key=lambda term: (_degree(term), sympy.default_sort_key(term)),
        )
        identity = [f"{_factor(number, _latex(number, matrices))}I"] if number != 0 else []
        text = " + ".join([*identity, *(_latex(term, matrices) for term in others)])
        return text.replace("+ -", "- ")
    if expression.is_Mul:
        numbers, factors = expression.args_cnc()
        number = sympy.Mul(*numbers)
        sign = "-" if number.could_extract_minus_sign() else ""
        number = -number if sign else number
        text = sign + _factor(number, _latex(number, matrices))
        return text + " ".join(_bracketed(factor, matrices) for factor in factors)
    if expression.is_Pow:
        return " ".join([_bracketed(expression.base, matrices)] * int(expression.exp))
    return matrices[expression]


def _bracketed(factor: Any, matrices: dict[Any, str]) -> str:
    text = _latex(factor, matrices)
    return f"({text})" if factor.is_Add else text


def _degree(term: Any) -> int:
    """How many matrices a term multiplies."""
    return sum(int(factor.exp) if factor.is_Pow else 1 for factor in term.args_cnc()[1])

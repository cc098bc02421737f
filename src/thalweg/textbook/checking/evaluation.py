"""What a formula is worth at one point: exact arithmetic in fractions for as long as the formula allows it.

Numbers are fractions, vectors 1-D and matrices 2-D arrays of them; roots, `exp` and `log` turn into floats unless
the root is rational. Shapes that do not fit and values that do not exist are `NoValueError`s, which `check` catches:
they make a formula wrong, not unreadable.

    >>> from thalweg.textbook.checking.formula import Vocabulary, parse
    >>> from thalweg.textbook.checking.rational import exact
    >>> values = {"S": exact([[2, 0], [0, 1]]), "a": exact([1, 1]), "I": Identity(Fraction(1)), "n": Fraction(2)}
    >>> words = Vocabulary("F2.4", {"S": "matrix", "a": "vector", "I": "matrix", "n": "number"}, ("L1",))
    >>> evaluate(parse("(1/n) * a @ mpow(I - S, 2) @ a", words).root, values.__getitem__).value
    Fraction(1, 2)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from thalweg.errors import InputError
from thalweg.textbook.checking.formula import Node, to_text
from thalweg.textbook.checking.rational import Array, identity, inverse, is_exact, pseudo_inverse, solve

MAX_WORK = 15_000  # multiplications of numbers in one evaluation, roughly
MAX_POWER = 200  # of exponents and of a sum's range
MAX_EYE = 16
_EXACT_BITS = 2048  # beyond this a fraction is rounded to a float


@dataclass(frozen=True)
class Identity:
    """A multiple of the identity matrix whose size follows from what it meets."""

    scale: Fraction | float


Number: TypeAlias = Fraction | float
Value: TypeAlias = Fraction | float | Array | Identity
Lookup: TypeAlias = Callable[[str], Any]


class NoValueError(Exception):
    """A formula that was understood has no value here; the message is a clause that says which part and why."""


class MisfitError(NoValueError):
    """The shapes of two operands do not fit each other."""


class UndefinedError(NoValueError):
    """A division by zero, the inverse of a singular matrix, the root of a negative number, an overflow."""


@dataclass(frozen=True)
class Evaluated:
    """A formula's value at one point.

    Args:
        value: the number, vector, matrix or multiple of the identity.
        magnitude: the largest float met on the way, 0.0 when all was exact: what rounding errors are relative to.
        work: the number of multiplications spent, roughly.
    """

    value: Value
    magnitude: float
    work: int


def evaluate(node: Node, lookup: Lookup) -> Evaluated:
    """Compute a formula's value.

    Args:
        node: a tree made by `thalweg.textbook.checking.formula.parse`, or an edited copy of one.
        lookup: gives the value of a symbol, and for `"L"` the loss as a function of a vector.

    Raises:
        MisfitError: shapes do not fit.
        UndefinedError: the formula has no finite value here.
        InputError: it asks for more work than a formula of this kind can need.
    """
    evaluator = _Evaluator(lookup)
    with np.errstate(all="ignore"):  # what is not finite is met by name, not by a warning
        value = evaluator.value(node)
    return Evaluated(value, evaluator.magnitude, evaluator.work)


def describe(value: Value) -> str:
    """What a value is, in words: "a vector of length 2"."""
    if isinstance(value, Identity):
        return "a multiple of the identity"
    if not isinstance(value, np.ndarray):
        return "a number"
    if value.ndim == 1:
        return f"a vector of length {value.shape[0]}"
    return f"a {value.shape[0]} x {value.shape[1]} matrix"


class _Evaluator:
    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.variables: dict[str, Fraction] = {}
        self.magnitude = 0.0
        self.work = 0

    def value(self, node: Node) -> Value:
        self._spend(1)
        try:
            return self._tamed(self._raw(node), node)
        except OverflowError:
            raise UndefinedError(f"{_quoted(node)} is too large") from None

    def _raw(self, node: Node) -> Value:
        match node.operator:
            case "number":
                assert isinstance(node.value, Fraction)
                return node.value
            case "symbol":
                name = str(node.value)
                return self.variables[name] if name in self.variables else self.lookup(name)
            case "negative":
                return _scaled(Fraction(-1), self.value(node.children[0]))
            case "transpose":
                value = self.value(node.children[0])
                return value.T if isinstance(value, np.ndarray) else value
            case "sum":
                return self._series(node)
            case "call":
                return self._call(node)
            case "**":
                return self._power(node)
        left, right = (self.value(child) for child in node.children)
        match node.operator:
            case "*":
                return self._times(node, left, right)
            case "/":
                return self._over(node, left, right)
            case "@":
                return self._product(node, left, right)
        return self._plus(node, left, right if node.operator == "+" else _scaled(Fraction(-1), right))

    def _spend(self, multiplications: int) -> None:
        self.work += multiplications
        if self.work > MAX_WORK:
            raise InputError(
                f"The formula takes more than {MAX_WORK:,} multiplications at one point; write shorter sums and powers."
            )

    def _tamed(self, value: Value, node: Node) -> Value:
        """Round what has grown too long to be exact, refuse what is not finite, and remember how large floats were."""
        if isinstance(value, np.ndarray):
            if is_exact(value) and max(map(_bits, value.flat)) <= _EXACT_BITS:
                return value
            return np.array([self._tamed(entry, node) for entry in value.flat], dtype=object).reshape(value.shape)
        if isinstance(value, Identity):
            return Identity(self._tame_number(value.scale, node))
        return self._tame_number(value, node)

    def _tame_number(self, number: Number, node: Node) -> Number:
        if isinstance(number, Fraction) and _bits(number) <= _EXACT_BITS:
            return number
        number = float(number)
        if not math.isfinite(number):
            raise UndefinedError(f"{_quoted(node)} is not a finite number")
        self.magnitude = max(self.magnitude, abs(number))
        return number

    def _plus(self, node: Node, left: Value, right: Value) -> Value:
        if _is_number(left) and _is_number(right):
            return left + right
        if isinstance(left, Identity) and isinstance(right, Identity):
            return Identity(left.scale + right.scale)
        if isinstance(left, Identity):
            left, right = right, left  # addition commutes, and the array knows the size
        if isinstance(right, Identity) and isinstance(left, np.ndarray) and left.ndim == 2:
            if left.shape[0] != left.shape[1]:
                raise MisfitError(f"{_quoted(node)} adds the identity to {describe(left)}, which is not square")
            return left + right.scale * identity(left.shape[0])
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray) and left.shape == right.shape:
            return left + right
        first, second = (describe(self.value(child)) for child in node.children)
        raise MisfitError(f"{_quoted(node)} joins {first} and {second} by '{node.operator}'")

    def _times(self, node: Node, left: Value, right: Value) -> Value:
        if not _is_number(left):
            left, right = right, left
        if not _is_number(left):
            raise MisfitError(f"{_quoted(node)} multiplies {describe(right)} and {describe(left)} by '*'")
        return _scaled(left, right)

    def _over(self, node: Node, left: Value, right: Value) -> Value:
        if not _is_number(right):
            raise MisfitError(f"{_quoted(node)} divides by {describe(right)}")
        if right == 0:
            raise UndefinedError(f"{_quoted(node)} divides by zero")
        return _scaled(1 / right, left)

    def _product(self, node: Node, left: Value, right: Value) -> Value:
        if _is_number(left) or _is_number(right):
            raise MisfitError(f"{_quoted(node)} joins {describe(left)} and {describe(right)} by '@'")
        if isinstance(left, Identity):
            return _scaled(left.scale, right)
        if isinstance(right, Identity):
            return _scaled(right.scale, left)
        assert isinstance(left, np.ndarray)
        assert isinstance(right, np.ndarray)
        if left.shape[-1] != right.shape[0]:
            raise MisfitError(f"{_quoted(node)} multiplies {describe(left)} by {describe(right)}")
        return self._matmul(left, right)  # type: ignore[no-any-return]

    def _matmul(self, left: Array, right: Array) -> Any:
        self._spend(left.size * (right.shape[1] if right.ndim == 2 else 1))
        return left @ right

    def _power(self, node: Node) -> Value:
        base_node, exponent_node = node.children
        exponent = self._number(exponent_node)
        if isinstance(exponent, float):
            return self._float_power(node, self._number(base_node), exponent)
        if abs(exponent) > MAX_POWER:
            raise InputError(
                f"'**' at column {node.column}: the exponent is {exponent}; powers up to {MAX_POWER} are computed."
            )
        if exponent.denominator == 1 and exponent % 2 == 0 and base_node.value in ("norm", "sqrt"):
            # norm(v)**2 is rational although norm(v) is not
            base, exponent = self._square_of_root(base_node), exponent / 2
        else:
            base = self._number(base_node)
        if exponent.denominator == 2:
            base, exponent = self._root(base, node), exponent * 2
        if exponent.denominator != 1:
            return self._float_power(node, base, float(exponent))
        if base == 0 and exponent < 0:
            raise UndefinedError(f"{_quoted(node)} divides by zero")
        if isinstance(base, Fraction) and _bits(base) * abs(exponent) > 2 * _EXACT_BITS:
            base = float(base)
        return base ** int(exponent)

    def _float_power(self, node: Node, base: Number, exponent: float) -> float:
        if base < 0 or (base == 0 and exponent < 0):
            raise UndefinedError(f"{_quoted(node)} has no real value, for the base is {float(base):.6g}")
        return math.pow(base, exponent)

    def _number(self, node: Node) -> Number:
        value = self.value(node)
        if isinstance(value, Fraction | float):
            return value
        raise MisfitError(f"{_quoted(node)} is {describe(value)} where a number is needed")

    def _whole(self, node: Node, use: str) -> int:
        number = self._number(node)
        if int(number) != number:
            raise UndefinedError(f"{use} needs a whole number, and {_quoted(node)} is {number}")
        if _size(number) > MAX_POWER:
            raise InputError(f"{use} at column {node.column} is asked for {int(number)}; it goes up to {MAX_POWER}.")
        return int(number)

    def _matrix(self, node: Node, use: str) -> Array | Identity:
        value = self.value(node)
        if isinstance(value, Identity) or (isinstance(value, np.ndarray) and value.ndim == 2):
            return value
        raise MisfitError(f"{use} needs a matrix, and {_quoted(node)} is {describe(value)}")

    def _square(self, node: Node, use: str) -> Array | Identity:
        matrix = self._matrix(node, use)
        if isinstance(matrix, np.ndarray) and matrix.shape[0] != matrix.shape[1]:
            raise MisfitError(f"{use} needs a square matrix, and {_quoted(node)} is {describe(matrix)}")
        return matrix

    def _array(self, node: Node, use: str) -> Array:
        value = self.value(node)
        if isinstance(value, np.ndarray):
            return value
        if isinstance(value, Identity):
            raise MisfitError(f"the size of I in {use}(...) cannot be told; write eye(n) or eye(d)")
        raise MisfitError(f"{use} needs a vector or a matrix, and {_quoted(node)} is a number")

    def _vector(self, node: Node, use: str) -> Array:
        array = self._array(node, use)
        if array.ndim != 1:
            raise MisfitError(f"{use} needs a vector, and {_quoted(node)} is {describe(array)}")
        return array

    def _series(self, node: Node) -> Value:
        term, *bounds = node.children
        limits = [self._whole(bound, "range") for bound in bounds]
        if len(limits) == 3 and limits[2] == 0:
            raise UndefinedError("range cannot count in steps of 0")
        indices = range(*limits)
        if len(indices) == 0:
            # nothing added up is zero, and only a term can tell of what shape
            return _scaled(Fraction(0), self._term(term, node, indices.start))
        total = self._term(term, node, indices[0])
        for index in indices[1:]:
            total = self._plus(Node("+", (term, term)), total, self._term(term, node, index))
        return total

    def _term(self, term: Node, node: Node, index: int) -> Value:
        self.variables[str(node.value)] = Fraction(index)
        return self.value(term)

    def _call(self, node: Node) -> Value:
        name, arguments = str(node.value), node.children
        match name:
            case "inv" | "pinv":
                return self._inverse(arguments[0], name)
            case "mpow":
                return self._matrix_power(node)
            case "solve":
                return self._solve(node)
            case "trace":
                square = self._square(arguments[0], name)
                return np.trace(square) if isinstance(square, np.ndarray) else self._array(arguments[0], name)
            case "eye":
                size = self._whole(arguments[0], name)
                if not 1 <= size <= MAX_EYE:
                    raise UndefinedError(f"eye needs a size from 1 to {MAX_EYE}, and {_quoted(arguments[0])} is {size}")
                return identity(size)
            case "diag":
                vector = self._vector(arguments[0], name)
                return identity(len(vector)) * vector
            case "outer":
                left, right = (self._vector(argument, name) for argument in arguments)
                self._spend(left.size * right.size)
                return np.outer(left, right)
            case "dot":
                left, right = (self._vector(argument, name) for argument in arguments)
                if left.shape != right.shape:
                    raise MisfitError(f"{_quoted(node)} multiplies {describe(left)} by {describe(right)}")
                return self._matmul(left, right)  # type: ignore[no-any-return]
            case "norm":
                return self._root(self._square_of_root(node), node)
            case "sum":
                return sum(self._array(arguments[0], name).flat, Fraction(0))
            case "sqrt":
                return self._root(self._number(arguments[0]), node)
            case "exp":
                return math.exp(self._number(arguments[0]))
            case "log":
                number = self._number(arguments[0])
                if number <= 0:
                    raise UndefinedError(f"{_quoted(node)} is the logarithm of a number that is not positive")
                return math.log(number)
            case "abs" | "sign":
                return self._entrywise(node)
            case "L":
                return self._loss(arguments[0])
        raise AssertionError(f"no function {name}")

    def _square_of_root(self, node: Node) -> Number:
        """The number whose root a call of `norm` or `sqrt` takes."""
        if node.value == "sqrt":
            return self._number(node.children[0])
        flat = self._array(node.children[0], "norm").ravel()
        return self._matmul(flat, flat)  # type: ignore[no-any-return]

    def _root(self, number: Number, node: Node) -> Number:
        if number < 0:
            raise UndefinedError(f"{_quoted(node)} is the root of a negative number")
        if isinstance(number, Fraction):
            top, bottom = math.isqrt(number.numerator), math.isqrt(number.denominator)
            if top * top == number.numerator and bottom * bottom == number.denominator:
                return Fraction(top, bottom)
        return math.sqrt(number)

    def _inverse(self, node: Node, name: str) -> Value:
        matrix = self._square(node, "inv") if name == "inv" else self._matrix(node, "pinv")
        if isinstance(matrix, Identity):
            if matrix.scale == 0:
                raise UndefinedError(f"{name} is asked for the inverse of zero")
            return Identity(1 / matrix.scale)
        self._spend(4 * matrix.size * max(matrix.shape))
        if not is_exact(matrix):
            floats = matrix.astype(float)
            if name == "inv" and np.linalg.cond(floats) > 1e12:
                raise UndefinedError(f"{_quoted(node)} has no inverse")
            return (np.linalg.inv(floats) if name == "inv" else np.linalg.pinv(floats)).astype(object)
        try:
            return inverse(matrix) if name == "inv" else pseudo_inverse(matrix)
        except ZeroDivisionError:
            raise UndefinedError(f"{_quoted(node)} has no inverse") from None

    def _solve(self, node: Node) -> Value:
        matrix_node, right_node = node.children
        matrix, right = self._square(matrix_node, "solve"), self.value(right_node)
        if isinstance(matrix, np.ndarray) and isinstance(right, np.ndarray) and is_exact(matrix) and is_exact(right):
            if matrix.shape[0] != right.shape[0]:
                raise MisfitError(f"{_quoted(node)} joins {describe(matrix)} and {describe(right)}")
            self._spend(4 * matrix.size * max(right.shape))
            try:
                return solve(matrix, right)
            except ZeroDivisionError:
                raise UndefinedError(f"{_quoted(matrix_node)} has no inverse") from None
        return self._product(node, self._inverse(matrix_node, "inv"), right)

    def _matrix_power(self, node: Node) -> Value:
        matrix_node, exponent_node = node.children
        exponent = self._whole(exponent_node, "mpow")
        matrix = self._square(matrix_node, "mpow")
        if exponent < 0:
            matrix, exponent = self._inverse(matrix_node, "inv"), -exponent  # type: ignore[assignment]
        if isinstance(matrix, Identity):
            return Identity(matrix.scale**exponent)
        power = identity(matrix.shape[0])
        for bit in f"{exponent:b}":
            power = self._matmul(power, power)
            if bit == "1":
                power = self._matmul(power, matrix)
            power = self._tamed(power, node)  # type: ignore[assignment]
        return power

    def _entrywise(self, node: Node) -> Value:
        value = self.value(node.children[0])
        function: Callable[[Number], Number] = _size if node.value == "abs" else _sign
        if isinstance(value, np.ndarray):
            return np.array([function(entry) for entry in value.flat], dtype=object).reshape(value.shape)
        if isinstance(value, Identity):
            return Identity(function(value.scale))
        return function(value)

    def _loss(self, node: Node) -> Value:
        vector, w0 = self._vector(node, "L"), self.lookup("w0")
        if vector.shape != w0.shape:
            raise MisfitError(f"L takes weights, {describe(w0)} here, and {_quoted(node)} is {describe(vector)}")
        self._spend(2 * self.lookup("X").size)
        return self.lookup("L")(vector)  # type: ignore[no-any-return]


def _is_number(value: Value) -> TypeGuard[Fraction | float]:
    return isinstance(value, Fraction | float)


def _scaled(factor: Number, value: Value) -> Value:
    if isinstance(value, Identity):
        return Identity(factor * value.scale)
    return factor * value


def _size(number: Number) -> Number:
    return number if number >= 0 else -number


def _sign(number: Number) -> Fraction:
    return Fraction((number > 0) - (number < 0))


def _bits(number: Number) -> int:
    if isinstance(number, Fraction):
        return number.numerator.bit_length() + number.denominator.bit_length()
    return 0


def _quoted(node: Node) -> str:
    text = to_text(node)
    place = f" (column {node.column})" if node.column else ""
    return (text if len(text) <= 60 else f"{text[:57]}...") + place


def show(value: Value) -> str:
    """A value as a person would write it: fractions as 3/4, vectors and matrices in square brackets."""
    if isinstance(value, Identity):
        return f"{show(value.scale)}*I"
    if isinstance(value, np.ndarray):
        return f"[{', '.join(show(entry) for entry in value)}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

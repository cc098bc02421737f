"""Reading a formula that a person typed, and nothing else: a whitelist, never `eval`.

A formula is one expression in numbers, a fact's symbols, `+ - * / @ **`, `.T`, brackets and a few functions. `parse`
turns it into a tree of `Node`s and refuses everything that is not on that list, with the column and what to write
instead. Python's own parser does the reading, its tree is copied node by node, and nothing of it is ever compiled.

    >>> words = Vocabulary("F2.4", {"a": "vector", "S": "matrix", "n": "number"}, ("L1",))
    >>> formula = parse("L1 = (1/n) * norm(a - S@a)**2", words)
    >>> formula.quantity, to_text(formula.root)
    ('L1', '1/n*norm(a - S @ a)**2')
    >>> parse("a^2", words)
    Traceback (most recent call last):
    ...
    thalweg.errors.InputError: '^' at column 2: write ** for a power of a number, mpow(M, k) for a power of a matrix, \
.T for a transpose.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, TypeAlias

from thalweg.errors import InputError

Kind: TypeAlias = Literal["number", "vector", "matrix"]

MAX_LENGTH = 2000  # characters
MAX_DEPTH = 60  # of brackets and operators within one another
MAX_NODES = 500  # numbers, symbols and operations
LARGEST_NUMBER = Fraction(10) ** 30

ALIASES = {"η": "eta", "λ": "lam", "δ": "delta"}
_ARRAY: tuple[Kind, ...] = ("vector", "matrix")


@dataclass(frozen=True)
class Function:
    """What a function takes and gives.

    Args:
        takes: for each argument the kinds it may have.
        gives: the kind of the value; None for the kind of the last argument.
    """

    takes: tuple[tuple[Kind, ...], ...]
    gives: Kind | None


FUNCTIONS: Mapping[str, Function] = {
    "inv": Function((("matrix",),), "matrix"),
    "pinv": Function((("matrix",),), "matrix"),
    "mpow": Function((("matrix",), ("number",)), "matrix"),
    "solve": Function((("matrix",), _ARRAY), None),
    "trace": Function((("matrix",),), "number"),
    "eye": Function((("number",),), "matrix"),
    "diag": Function((("vector",),), "matrix"),
    "outer": Function((("vector",), ("vector",)), "matrix"),
    "dot": Function((("vector",), ("vector",)), "number"),
    "norm": Function((_ARRAY,), "number"),
    "sum": Function((_ARRAY,), "number"),
    "sqrt": Function((("number",),), "number"),
    "exp": Function((("number",),), "number"),
    "log": Function((("number",),), "number"),
    "abs": Function((("number", "vector", "matrix"),), None),
    "sign": Function((("number", "vector", "matrix"),), None),
}


@dataclass(frozen=True)
class Vocabulary:
    """What a formula about one fact may say.

    Args:
        fact: the fact's id, for the messages.
        kinds: for each symbol whether it is a number, a vector or a matrix.
        quantities: the names a formula may carry on the left of `=`.
        functions: the functions it may call.
    """

    fact: str
    kinds: Mapping[str, Kind]
    quantities: Sequence[str]
    functions: Mapping[str, Function] = field(default_factory=lambda: FUNCTIONS)


@dataclass(frozen=True)
class Node:
    """One number, symbol or operation of a formula.

    Args:
        operator: "number", "symbol", "negative", "transpose", "call", "sum" or the sign of a binary operation. The
            children of a "sum" are the term and the one to three arguments of its `range`.
        children: the operands, left to right.
        value: the number; the name of the symbol, of the function or of the sum's variable.
        column: where it stands in the text, from 1; for an operation where its sign stands.
        start: where the text of an operation begins, 0 for everything else.
    """

    operator: str
    children: tuple[Node, ...] = ()
    value: Fraction | str | None = None
    column: int = field(default=0, compare=False)
    start: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Formula:
    """A formula that was understood: the quantity it names, if any, and its tree."""

    quantity: str | None
    root: Node


def parse(text: str, vocabulary: Vocabulary) -> Formula:
    """Read a formula, with or without a name: `"-2 * a.T @ a"` or `"dL = -2 * a.T @ a"`.

    Args:
        text: the formula, at most 2000 characters.
        vocabulary: the symbols, functions and quantities that it may name.

    Raises:
        InputError: it is not a formula, names something unknown, or holds an operation that NumPy would carry out
            entry by entry; the message says at which column and what to write instead.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"The formula has {len(text)} characters; write one with at most {MAX_LENGTH}.")
    text = re.sub(r"\s", " ", text)
    quantity, start = _split_name(text, vocabulary)
    if not text[start:].strip():
        raise InputError(f"There is no formula to check; write one for {_vocabulary_in_words(vocabulary)}.")
    _refuse_other_notations(text, start)
    root = _Reader(text, start, vocabulary).read()
    kind_of(root, vocabulary)
    return Formula(quantity, root)


def _vocabulary_in_words(vocabulary: Vocabulary) -> str:
    return (
        f"{' or '.join(vocabulary.quantities)} in the symbols of {vocabulary.fact}: {', '.join(vocabulary.kinds)}; "
        f"functions: {', '.join(vocabulary.functions)}"
    )


def _split_name(text: str, vocabulary: Vocabulary) -> tuple[str | None, int]:
    named = re.match(r"\s*([^\W\d]\w*)\s*=(?!=)", text)
    if named is None:
        return None, 0
    name = _quantity_named(named[1], vocabulary.quantities)
    if name is None:
        raise InputError(
            f"{vocabulary.fact} has no quantity named {named[1]!r}; write {' or '.join(vocabulary.quantities)} before "
            "the '=', or leave out the name."
        )
    return name, named.end()


_LEDGER_NAMES = {"dlt": "dl", "d2lt": "d2l"}  # F2.8's dLT/d eta and d2LT/d eta2, folded


def _quantity_named(name: str, quantities: Sequence[str]) -> str | None:
    """The quantity of that name, or else the only one whose name differs in underscores and case alone."""

    def folded(name: str) -> str:
        bare = name.replace("_", "").lower()
        return _LEDGER_NAMES.get(bare, bare)

    alike = [name] if name in quantities else [known for known in quantities if folded(known) == folded(name)]
    return alike[0] if len(alike) == 1 else None


_TRANSPOSE = "write .T for a transpose"
_ONE_EXPRESSION = "a formula is one expression; a name may stand before it, as in 'L1 = ...'"
_INSTEAD = {
    "^": "write ** for a power of a number, mpow(M, k) for a power of a matrix, .T for a transpose",
    **dict.fromkeys("'’′ᵀ⊤", _TRANSPOSE),
    **dict.fromkeys("−–—", "write - for a minus sign"),
    **dict.fromkeys("×·⋅∙", "write * for a product with a number, @ for a product of matrices"),
    **dict.fromkeys("²³", "write **2 or **3 after a number, mpow(M, 2) or mpow(M, 3) for a matrix"),
    **dict.fromkeys("[]{}", "write round brackets; entries and lists are not part of a formula"),
    **dict.fromkeys("|‖", "write abs(...) for a number, norm(...) for a vector"),
    **dict.fromkeys("∑Σ", "write sum(... for k in range(T))"),
    **dict.fromkeys("\\$", "LaTeX is not read; write it as in (1/n) * a.T @ mpow(I - S, 2*T) @ a"),
    **dict.fromkeys("=<>!", _ONE_EXPRESSION),
    "√": "write sqrt(...)",
    "÷": "write / for a quotient",
}
_STRANGER = re.compile(r"[^A-Za-z0-9_ηλδ.,()+\-*/@ ]")
# The group is atomic, (?>...), so that "1e9" is not taken apart into 1 times e9.
_JUXTAPOSED = re.compile(r"(?<![\w.])((?>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)) *(?=[^\W\d]|_|\()(?!for\b)")


def _refuse_other_notations(text: str, start: int) -> None:
    """Catch what people write on a board or in another language before Python's parser words it worse."""
    stranger = _STRANGER.search(text, start)
    if stranger:
        sign = stranger[0]
        advice = _INSTEAD.get(sign, "it is not part of a formula; leave it out")
        raise _error(repr(sign), stranger.start() + 1, advice)
    for pattern, sign, advice in (
        (r"\blambda\b", "'lambda'", "the word is taken in Python; write lam"),
        (r"//", "'//'", "write / for a quotient"),
    ):
        found = re.compile(pattern).search(text, start)
        if found:
            raise _error(sign, found.start() + 1, advice)
    juxtaposed = _JUXTAPOSED.search(text, start)
    if juxtaposed:
        raise _error(
            f"The number {juxtaposed[1]}",
            juxtaposed.start() + 1,
            "a product needs its sign; write * after it",
        )


def _error(what: str, column: int, advice: str) -> InputError:
    return InputError(f"{what} at column {column}: {advice}.")


_OPERATORS: Mapping[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.MatMult: "@",
    ast.Pow: "**",
}


class _Reader:
    """Copies Python's tree of an expression into ours, refusing whatever is not on the list."""

    def __init__(self, text: str, start: int, vocabulary: Vocabulary) -> None:
        self.offset = start + len(text[start:]) - len(text[start:].lstrip())
        self.text = text[self.offset :].rstrip()
        self.vocabulary = vocabulary
        self.variables: list[str] = []

    def read(self) -> Node:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns of "1if"; whatever it accepts is judged below
                tree = ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            column = min(error.offset or len(self.text) + 1, len(self.text) + 1)
            raise _error(
                "The formula cannot be read",
                self.offset + column,
                f"{error.msg.split('.')[0]}; close every bracket and write * or @ between factors",
            ) from None
        except (ValueError, RecursionError, MemoryError):
            raise self._too_deep() from None
        self._check_size(tree)
        return self._node(tree)

    def _too_deep(self) -> InputError:
        return InputError(
            f"The formula is nested too deeply; write one with at most {MAX_DEPTH} operations within one another."
        )

    def _check_size(self, tree: ast.AST) -> None:
        level, nodes = [tree], 0
        for _ in range(2 * MAX_DEPTH):  # Python's tree has up to two levels for one of ours
            nodes += len(level)
            level = [child for parent in level for child in ast.iter_child_nodes(parent)]
            if nodes > 4 * MAX_NODES:
                raise InputError(f"The formula is too long; write one with at most {MAX_NODES} numbers and operations.")
            if not level:
                return
        raise self._too_deep()

    def _column(self, tree: ast.expr) -> int:
        return self._characters(tree.col_offset) + 1

    def _characters(self, offset: int) -> int:
        """Python counts columns in bytes, people in characters."""
        return self.offset + len(self.text.encode()[:offset].decode())

    def _source(self, tree: ast.expr) -> str:
        return ast.get_source_segment(self.text, tree) or ""

    def _node(self, tree: ast.expr) -> Node:
        column = self._column(tree)
        match tree:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._number(value, column)
            case ast.Name(id=name):
                return self._symbol(name, column)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Node("negative", (self._node(operand),), column=column)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._node(operand)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
                sign = _OPERATORS[type(operator)]
                place = self._sign_column(sign, left, right)
                return Node(sign, (self._node(left), self._node(right)), column=place, start=column)
            case ast.Attribute(value=inner, attr="T"):
                return Node("transpose", (self._node(inner),), column=column)
            case ast.Attribute(attr=name):
                instead = f"; write {name}(...)" if name in self.vocabulary.functions else ""
                raise _error(f"'.{name}'", column, f"the only name that may follow a dot is T, the transpose{instead}")
            case ast.Call(func=ast.Name(id="sum"), args=[ast.GeneratorExp() as series], keywords=[]):
                return self._sum(series, column)
            case ast.Call(func=function, args=arguments, keywords=[]):
                return self._call(function, arguments, column)
            case ast.GeneratorExp():
                raise _error("'for'", column, "a sum is written sum(... for k in range(T))")
        raise _error(f"{self._source(tree)!r}", column, f"this is not part of a formula; {_ONE_EXPRESSION}")

    def _number(self, value: int | float, column: int) -> Node:
        size = abs(value)
        if size and not 1 / LARGEST_NUMBER <= size <= LARGEST_NUMBER:
            raise _error("The number", column, "it is too large or too small to compute with; write it in symbols")
        return Node("number", value=Fraction(repr(value)), column=column)  # repr: 0.1 means one tenth

    def _symbol(self, name: str, column: int) -> Node:
        name = ALIASES.get(name, name)
        if name in self.variables or name in self.vocabulary.kinds:
            return Node("symbol", value=name, column=column)
        if name in self.vocabulary.functions:
            raise _error(repr(name), column, f"this is a function; write {name}(...)")
        raise self._unknown("symbol", name, column)

    def _unknown(self, what: str, name: str, column: int) -> InputError:
        known = {"symbol": [*self.vocabulary.kinds, *self.variables], "function": list(self.vocabulary.functions)}[what]
        same_letters = [other for other in known if other.lower() == name.lower()]
        near = same_letters or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        fact = self.vocabulary.fact
        return _error(repr(name), column, f"{fact} has no such {what}{hint}; it has {', '.join(known)}")

    def _sign_column(self, sign: str, left: ast.expr, right: ast.expr) -> int:
        end, begin = left.end_col_offset or 0, right.col_offset
        between = self.text.encode()[end:begin].decode()
        return self._characters(end) + between.find(sign) + 1

    def _call(self, function: ast.expr, arguments: list[ast.expr], column: int) -> Node:
        if not isinstance(function, ast.Name):
            if isinstance(function, ast.Attribute) and function.attr != "T":
                raise _error(
                    repr(self._source(function)),
                    column,
                    f"functions are called by their bare name; write one of {', '.join(self.vocabulary.functions)}",
                )
            after = self.text.encode().index(b"(", function.end_col_offset)
            raise _error("The bracket", self._characters(after) + 1, "a product needs its sign; write * or @ before it")
        name = ALIASES.get(function.id, function.id)
        if name not in self.vocabulary.functions:
            if name in self.vocabulary.kinds or name in self.variables:
                raise _error(repr(name), column, "this is a symbol, not a function; write * or @ before the bracket")
            raise self._unknown("function", name, column)
        wanted = len(self.vocabulary.functions[name].takes)
        if len(arguments) != wanted:
            raise _error(repr(name), column, f"it takes {wanted} argument{'s'[: wanted - 1]}, not {len(arguments)}")
        return Node("call", tuple(self._node(argument) for argument in arguments), name, column)

    def _sum(self, series: ast.GeneratorExp, column: int) -> Node:
        match series.generators:
            case [
                ast.comprehension(
                    target=ast.Name(id=variable),
                    iter=ast.Call(func=ast.Name(id="range"), args=bounds, keywords=[]),
                    ifs=[],
                    is_async=0,
                )
            ] if 1 <= len(bounds) <= 3:
                pass
            case _:
                raise _error("The sum", column, "it runs over one range, as in sum(mpow(S, k) @ a for k in range(T))")
        variable = ALIASES.get(variable, variable)
        if variable in (*self.vocabulary.kinds, *self.vocabulary.functions, *self.variables):
            raise _error("The sum", column, f"{variable!r} means something else already; count with another letter")
        limits = tuple(self._node(bound) for bound in bounds)
        self.variables.append(variable)
        term = self._node(series.elt)
        self.variables.pop()
        return Node("sum", (term, *limits), variable, column)


def kind_of(node: Node, vocabulary: Vocabulary) -> Kind | None:
    """Whether a formula gives a number, a vector or a matrix; None where its operands can never fit each other.

    Raises:
        InputError: it asks for an operation that NumPy would carry out entry by entry, or that means nothing.
    """
    return _Kinds(vocabulary).of(node)


class _Kinds:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self.kinds: dict[str, Kind] = dict(vocabulary.kinds)
        self.functions = vocabulary.functions

    def of(self, node: Node) -> Kind | None:
        match node.operator:
            case "number":
                return "number"
            case "symbol":
                return self.kinds[str(node.value)]
            case "negative":
                return self.of(node.children[0])
            case "transpose":
                return self._transpose(node)
            case "sum":
                return self._sum(node)
            case "call":
                return self._call(node)
        left, right = (self.of(child) for child in node.children)
        if left is None or right is None:
            return None
        match node.operator:
            case "*":
                return self._times(node, left, right)
            case "/":
                return self._over(node, left, right)
            case "**":
                return self._power(node, left, right)
            case "@":
                return self._product(node, left, right)
        return left if left == right else None

    def _transpose(self, node: Node) -> Kind | None:
        kind = self.of(node.children[0])
        if kind == "number":
            raise _error(f"'{to_text(node)}'", node.column, "a number has no transpose; leave out the .T")
        return kind

    def _sum(self, node: Node) -> Kind | None:
        term, *bounds = node.children
        for bound in bounds:
            self._expect(bound, ("number",), "range")
        self.kinds[str(node.value)] = "number"
        return self.of(term)

    def _call(self, node: Node) -> Kind | None:
        function = self.functions[str(node.value)]
        found = [
            self._expect(child, allowed, str(node.value))
            for child, allowed in zip(node.children, function.takes, strict=True)
        ]
        return function.gives or found[-1]

    def _expect(self, node: Node, allowed: tuple[Kind, ...], function: str) -> Kind | None:
        kind = self.of(node)
        if kind is not None and kind not in allowed:
            raise _error(
                f"'{to_text(node)}'",
                node.column,
                f"{function} takes a {' or a '.join(allowed)} here, and this is a {kind}"
                + ("; write ** for a power of a number" if function == "mpow" and kind == "number" else ""),
            )
        return kind

    def _times(self, node: Node, left: Kind, right: Kind) -> Kind:
        if "number" not in (left, right):
            other = (
                "@ for the product, dot(v, w) for the inner product of two vectors"
                if left == right == "vector"
                else "@ for the product"
            )
            raise _error(
                "'*'",
                node.column,
                f"it would multiply a {left} and a {right} entry by entry; write {other}",
            )
        return right if left == "number" else left

    def _over(self, node: Node, left: Kind, right: Kind) -> Kind:
        if right == "matrix":
            raise _error("'/'", node.column, "nothing can be divided by a matrix; write @ inv(...)")
        if right == "vector":
            raise _error("'/'", node.column, "nothing can be divided by a vector; divide by a number, such as norm(v)")
        return left

    def _power(self, node: Node, left: Kind, right: Kind) -> Kind:
        if left == "matrix":
            raise _error(
                "'**'",
                node.column,
                "it would raise each entry of a matrix; write mpow(M, k) for a power of a matrix, inv(M) for the "
                "inverse, M.T for a transpose",
            )
        if left == "vector":
            raise _error(
                "'**'", node.column, "it would raise each entry of a vector; write norm(v)**2 for its squared length"
            )
        if right != "number":
            raise _error("'**'", node.column, f"the exponent must be a number, and this is a {right}")
        return "number"

    def _product(self, node: Node, left: Kind, right: Kind) -> Kind | None:
        first, second = node.children
        if left == right == "vector" and second.operator == "transpose" and first.operator != "transpose":
            raise _error(
                "'@'",
                node.column,
                "a column times a row is a matrix, but vectors here are neither; write outer(v, w) for the matrix, "
                "v @ w for the number",
            )
        if "number" in (left, right):
            return None
        if left == right:
            return "number" if left == "vector" else "matrix"
        return "vector"


def symbols_in(node: Node) -> set[str]:
    """The symbols a formula uses, without the variables of its sums."""
    parts = list(walk(node))
    variables = {str(part.value) for part in parts if part.operator == "sum"}
    return {str(part.value) for part in parts if part.operator == "symbol"} - variables


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, in reading order of their first sign."""
    yield node
    for child in node.children:
        yield from walk(child)


_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "@": 2, "negative": 3, "**": 4}
_ATOM = 5


def to_text(node: Node) -> str:
    """The formula as a person would type it; `parse` reads it back to the same tree."""
    match node.operator:
        case "number":
            return _number_text(node)
        case "symbol":
            return str(node.value)
        case "negative":
            return "-" + _inside(node.children[0], 3)
        case "transpose":
            return _inside(node.children[0], _ATOM) + ".T"
        case "call":
            return f"{node.value}({', '.join(to_text(child) for child in node.children)})"
        case "sum":
            term, *bounds = node.children
            return f"sum({to_text(term)} for {node.value} in range({', '.join(to_text(bound) for bound in bounds)}))"
    left, right = node.children
    strength = _STRENGTH[node.operator]
    if node.operator == "**":  # binds to the right, and more tightly than a minus sign before it
        return f"{_inside(left, strength + 1)}**{_inside(right, strength)}"
    simple = all(child.operator in ("number", "symbol", "*", "/", "**") for child in node.children)
    sign = node.operator if node.operator in "*/" and simple else f" {node.operator} "
    return f"{_inside(left, strength)}{sign}{_inside(right, strength + 1)}"


def _number_text(node: Node) -> str:
    number = Fraction(node.value or 0)
    return str(number.numerator) if number.denominator == 1 else repr(float(number))


def _inside(node: Node, strength: int) -> str:
    text = to_text(node)
    return text if _STRENGTH.get(node.operator, _ATOM) >= strength else f"({text})"

"""The slips people make in a formula, undone one at a time: every formula that is one edit away from a given one.

>>> from thalweg.textbook.checking.formula import Vocabulary, parse
>>> words = Vocabulary("F2.4", {"X": "matrix", "a": "vector"}, ("w1",))
>>> slip = parse("X @ a", words).root
>>> [edit.describe() for edit in edits(slip, words) if edit.slip == "A transpose is wrong"]
['A transpose is wrong: it is right with X.T in place of X at column 1.']
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from thalweg.errors import InputError
from thalweg.textbook.checking.formula import Kind, Node, Vocabulary, kind_of, parse, symbols_in, to_text, walk

_LONGEST_QUOTE = 40
_FORGOTTEN_TERMS = (
    *("w0", "a", "t", "w_lam", "delta*Xi.T @ ti"),
    *("L(w_lam)", "lam*norm(w0)**2", "norm(a)**2/n", "1", "c_out"),
)


@dataclass(frozen=True)
class Edit:
    """One change to a formula.

    Args:
        slip: what kind of slip it undoes, as a sentence: "A sign is wrong".
        root: the whole formula after the change.
        old: the part that was replaced.
        new: what stands there now.
    """

    slip: str
    root: Node
    old: Node
    new: Node

    def describe(self) -> str:
        """What a reader is told if the change makes the formula right."""
        old, new = to_text(self.old), to_text(self.new)
        if self.new is self.root or len(old) > _LONGEST_QUOTE:
            return f"{self.slip}: it is right as {to_text(self.root)}."
        return f"{self.slip}: it is right with {new} in place of {old} at column {self.old.start or self.old.column}."


def edits(root: Node, vocabulary: Vocabulary, offered: Container[str] | None = None) -> Iterator[Edit]:
    """Every formula one edit away, the likeliest slips first.

    Args:
        root: the formula.
        vocabulary: what it may say.
        offered: the symbols that an edit may put in, all of the vocabulary if None.
    """
    words = _Words(root, vocabulary, vocabulary.kinds if offered is None else offered)
    for slip, alternatives in _SLIPS.items():
        for old, rebuilt in _places(root):
            for new in alternatives(old, words):
                if new != old:
                    yield Edit(slip, rebuilt(new), old, new)
    for term in words.terms(kind_of(root, vocabulary)):
        for sign in "+-":
            new = Node(sign, (root, term), column=root.column)
            yield Edit("A term is missing", new, root, new)


def _places(node: Node) -> Iterator[tuple[Node, Callable[[Node], Node]]]:
    """Every part of a formula, with the function that gives the whole formula when something else stands there."""
    yield node, lambda new: new
    for index, child in enumerate(node.children):
        for part, rebuilt in _places(child):

            def whole(new: Node, index: int = index, rebuilt: Callable[[Node], Node] = rebuilt) -> Node:
                return replace(node, children=(*node.children[:index], rebuilt(new), *node.children[index + 1 :]))

            yield part, whole


class _Words:
    """What may be put into a formula."""

    def __init__(self, root: Node, vocabulary: Vocabulary, offered: Container[str]) -> None:
        variables: dict[str, Kind] = {str(part.value): "number" for part in walk(root) if part.operator == "sum"}
        self.vocabulary = replace(vocabulary, kinds={**vocabulary.kinds, **variables})
        self.symbols: dict[str, Kind] = {name: kind for name, kind in vocabulary.kinds.items() if name in offered}

    def kind(self, node: Node) -> Kind | None:
        return kind_of(node, self.vocabulary)

    def of_kind(self, kind: Kind) -> list[Node]:
        return [_symbol(name) for name, other in self.symbols.items() if other == kind]

    def matrices(self) -> Iterator[Node]:
        for matrix in self.of_kind("matrix"):
            if matrix.value != "I":
                yield matrix
                yield Node("transpose", (matrix,))
        if "S" in self.symbols and "I" in self.symbols:
            yield Node("-", (_symbol("I"), _symbol("S")))

    def factors(self) -> Iterator[Node]:
        yield from (_number(2), Node("/", (_number(1), _number(2))))
        for symbol in self.of_kind("number"):
            yield symbol
            yield Node("/", (_number(1), symbol))

    def terms(self, kind: Kind | None) -> Iterator[Node]:
        """What is often forgotten at the end of a formula."""
        for text in _FORGOTTEN_TERMS:
            try:
                term = parse(text, self.vocabulary).root
            except InputError:  # this fact has no such symbol
                continue
            if self.kind(term) == kind:
                yield term


def _number(value: int | Fraction) -> Node:
    if value < 0:
        return Node("negative", (_number(-value),))
    return Node("number", value=Fraction(value))


def _symbol(name: str) -> Node:
    return Node("symbol", value=name)


def _signs(node: Node, words: _Words) -> Iterator[Node]:
    if node.operator in ("+", "-"):
        yield replace(node, operator="-" if node.operator == "+" else "+")
    if node.operator == "negative":
        yield node.children[0]


def _transposes(node: Node, words: _Words) -> Iterator[Node]:
    if node.operator == "symbol" and words.kind(node) == "matrix" and node.value != "I":
        yield Node("transpose", (node,))
    if node.operator == "transpose":
        yield node.children[0]


def _exponents(node: Node, words: _Words) -> Iterator[Node]:
    if node.operator == "**" or node.value == "mpow":
        base, exponent = node.children
        double = _times(2, exponent)
        for other in (
            _plus(exponent, -1),
            _plus(exponent, 1),
            double,
            _times(Fraction(1, 2), exponent),
            _plus(double, -1),
            _plus(double, -2),
        ):
            yield replace(node, children=(base, other))
    if node.value == "norm":
        yield Node("**", (node, _number(2)))


def _steps(node: Node, words: _Words) -> Iterator[Node]:
    if node.operator == "symbol" and node.value == "T":
        yield from (_times(2, node), _plus(node, 1), _plus(node, -1))
    if node.operator == "sum":
        term, *bounds = node.children
        for shift in (1, -1):
            yield replace(node, children=(*node.children[:-1], _plus(node.children[-1], shift)))
        if len(bounds) == 1:
            yield replace(node, children=(term, _number(1), _plus(bounds[0], 1)))
            yield replace(node, children=(term, _number(1), bounds[0]))
        if len(bounds) == 2:
            yield replace(node, children=(term, _plus(bounds[0], -1), bounds[1]))


def _symbols(node: Node, words: _Words) -> Iterator[Node]:
    if node.operator == "symbol" and node.value in words.symbols:
        yield from (other for other in words.of_kind(words.symbols[str(node.value)]) if other != node)


def _batches(node: Node, words: _Words) -> Iterator[Node]:
    """A whole product taken from another batch: Xi.T @ ti where Xj.T @ tj should be."""
    if node.operator == "@":
        for old, new in itertools.permutations("ijk", 2):
            names = {f"X{old}": f"X{new}", f"t{old}": f"t{new}"}
            if names.keys() <= symbols_in(node) and set(names.values()) <= words.symbols.keys():
                yield _renamed(node, names)


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    children = tuple(_renamed(child, names) for child in node.children)
    value = names.get(node.value, node.value) if isinstance(node.value, str) else node.value
    return replace(node, children=children, value=value)


def _identities(node: Node, words: _Words) -> Iterator[Node]:
    if node.operator in ("+", "-"):
        kinds = [words.kind(child) for child in node.children]
        for index, child in enumerate(node.children):
            if kinds[index] == "number" and kinds[1 - index] == "matrix" and "I" in words.symbols:
                scaled = _symbol("I") if child == _number(1) else Node("*", (child, _symbol("I")))
                yield replace(node, children=(*node.children[:index], scaled, *node.children[index + 1 :]))


def _inverses(node: Node, words: _Words) -> Iterator[Node]:
    if node.value == "inv":
        yield replace(node, value="pinv")


def _matrix_factors(node: Node, words: _Words) -> Iterator[Node]:
    if node.operator == "@":
        left, right = node.children
        for matrix in words.matrices():
            yield replace(node, children=(Node("@", (left, matrix)), right))
    kind = words.kind(node) if node.operator in ("symbol", "transpose") else None
    if kind == "vector":
        for matrix in words.matrices():
            yield Node("@", (matrix, node), column=node.column)
    if kind == "matrix" and node.value != "I":
        for matrix in words.matrices():
            yield Node("@", (matrix, node), column=node.column)
        for vector in words.of_kind("vector"):
            yield Node("@", (node, vector), column=node.column)
        if "I" in words.symbols:
            yield Node("-", (_symbol("I"), node), column=node.column)
            yield Node("-", (Node("*", (_number(2), _symbol("I"))), node), column=node.column)


def _number_factors(node: Node, words: _Words) -> Iterator[Node]:
    if node.operator in ("+", "-"):
        for index, child in enumerate(node.children):
            for factor in words.factors():
                scaled = Node("*", (factor, child))
                yield replace(node, children=(*node.children[:index], scaled, *node.children[index + 1 :]))


def _superfluous(node: Node, words: _Words) -> Iterator[Node]:
    if node.operator in ("+", "@", "*"):
        yield from node.children
    if node.operator in ("-", "/"):
        yield node.children[0]
    if node.operator == "-":
        yield Node("negative", (node.children[1],), column=node.column)


def _numbers(node: Node, words: _Words) -> Iterator[Node]:
    if isinstance(node.value, Fraction):
        for other in (node.value + 1, node.value - 1, node.value * 2, node.value / 2, -node.value):
            yield _number(other)


_SLIPS: Mapping[str, Callable[[Node, _Words], Iterator[Node]]] = {
    "A number stands where a matrix should": _identities,
    "A transpose is wrong": _transposes,
    "An inverse does not exist": _inverses,
    "A sign is wrong": _signs,
    "An exponent is wrong": _exponents,
    "The number of steps is wrong": _steps,
    "Something is superfluous": _superfluous,
    "A symbol is wrong": _symbols,
    "A batch is wrong": _batches,
    "A number is wrong": _numbers,
    "A matrix is missing": _matrix_factors,
    "A factor is missing": _number_factors,
}


def _plus(node: Node, number: int) -> Node:
    """`node + number`, folded into a number that is already there: (2*T - 1) + 1 is 2*T."""
    if isinstance(node.value, Fraction):
        return _number(node.value + number)
    if node.operator in ("+", "-") and isinstance(node.children[1].value, Fraction):
        last = node.children[1].value
        return _plus(node.children[0], int(last if node.operator == "+" else -last) + number)
    if number == 0:
        return node
    return Node("+" if number > 0 else "-", (node, _number(abs(number))), column=node.column)


def _times(factor: int | Fraction, node: Node) -> Node:
    """`factor * node`, folded into a number that is already there: 1/2 of 2*T is T."""
    if isinstance(node.value, Fraction):
        return _number(node.value * factor)
    if node.operator == "*" and isinstance(node.children[0].value, Fraction):
        product = node.children[0].value * factor
        return node.children[1] if product == 1 else Node("*", (_number(product), node.children[1]), column=node.column)
    return Node("*", (_number(factor), node), column=node.column)

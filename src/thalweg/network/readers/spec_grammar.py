"""The grammar of spec text: characters to words to statements; `thalweg.network.readers.spec` says what they mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from thalweg.errors import InputError

MAX_CHARACTERS = 200_000
MAX_DEPTH = 50
MAX_NUMBER = 1_000_000_000

Size: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a size (`64`, `3x1`), a decimal number, a sign (its kind is the sign), or the end of a statement."""

    kind: str
    text: str
    line: int
    column: int
    start: int


@dataclass(frozen=True, slots=True)
class Form:
    """What may follow the name of a layer.

    Args:
        size: what its size is called in messages; empty where it has none.
        size_needed: whether it cannot go without.
        channels: whether `-64` must follow ("needed"), may follow ("allowed") or must not ("").
        stride: whether `/2` may follow.
        options: the words that may follow.
        example: how it is written, for messages.
    """

    size: str = ""
    size_needed: bool = False
    channels: str = ""
    stride: bool = False
    options: frozenset[str] = frozenset()
    example: str = ""


PADDING = frozenset({"same", "valid", "pad"})
_WEIGHTS = frozenset({"nobias", "frozen", "share"})
_SLIDING = PADDING | {"dilation"}
_POOL = Form("window", stride=True, options=_SLIDING | {"ceil"})
_PLAIN = Form()
_PLAIN_WITH_NUMBER = Form("number")
_NORM = Form(options=frozenset({"frozen"}))

FORMS = {
    "conv": Form("window", True, "needed", True, _SLIDING | _WEIGHTS | {"groups"}, "conv3-64"),
    "depthwise": Form("window", True, "allowed", True, _SLIDING | _WEIGHTS, "depthwise3"),
    "convt": Form("window", True, "needed", True, _SLIDING | _WEIGHTS | {"groups", "outpad"}, "convt2-64/2"),
    "fc": Form(channels="needed", options=_WEIGHTS, example="FC-100"),
    "maxpool": _POOL,
    "avgpool": _POOL,
    "globalavgpool": _PLAIN,
    "globalmaxpool": _PLAIN,
    "upsample": Form("factor", True, options=frozenset({"nearest", "bilinear"}), example="upsample2"),
    "bn": _NORM,
    "layernorm": _NORM,
    "instancenorm": _NORM,
    "groupnorm": Form("number", True, options=frozenset({"frozen"}), example="groupnorm 32"),
    "lrn": _PLAIN_WITH_NUMBER,
    "dropout": _PLAIN_WITH_NUMBER,
    "flatten": _PLAIN,
    "reshape": Form("shape", True, example="reshape 7x7x64"),
    "crop": Form("width", True, example="crop 1"),
    "pad": Form("width", True, example="pad 1"),
}
ACTIVATIONS = ("relu", "leakyrelu", "elu", "gelu", "silu", "sigmoid", "tanh", "softmax")
FORMS.update(dict.fromkeys(ACTIVATIONS, _PLAIN_WITH_NUMBER))
MERGING = ("add", "multiply", "concat")
ALIASES = {
    "dwconv": "depthwise",
    "deconv": "convt",
    "upconv": "convt",
    "linear": "fc",
    "dense": "fc",
    "gap": "globalavgpool",
    "gmp": "globalmaxpool",
    "batchnorm": "bn",
    "cat": "concat",
    "mul": "multiply",
}
_LEAST_VALUES = {"dilation": 1, "groups": 1, "outpad": 0}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as written.

    Args:
        at: where it begins.
        name: its name in full, in small letters.
        text: what was typed, up to the options.
        size: the number or numbers after the name.
        size_after: those after a comma: the widths at the far ends.
        channels: the number after `-`.
        stride: the numbers after `/`.
        padding: `same`, `valid`, or the widths before and after.
        options: the other options with their values; empty for those without.
        share: the label of the layer whose weights it uses.
        branches: the labels that it joins.
    """

    at: Token
    name: str
    text: str = ""
    size: Size | None = None
    size_after: Size | None = None
    channels: int | None = None
    stride: Size | None = None
    padding: str | tuple[Size, Size] | None = None
    options: dict[str, Size] = field(default_factory=dict)
    share: Token | None = None
    branches: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """A layer, a group of statements, or nothing; its label; and how often it is done."""

    what: Layer | tuple[Statement, ...] | None
    label: Token | None = None
    times: int = 1


def parse(text: str) -> tuple[Size | None, tuple[Statement, ...]]:
    """The extents of the input, None where the text does not give them, and the statements.

    Raises:
        InputError: the text does not follow the grammar; the message says line, column and what was expected.
    """
    return _Parser(text).spec()


def parse_shape(text: str) -> Size:
    """Extents such as `112x112x3` or `112 x 112 x 3`.

    Raises:
        InputError: it is something else.
    """
    parser = _Parser(text)
    shape = parser.shape()
    if not parser.at_end():
        raise InputError(f"{_short(text)} is not a shape; expected extents such as '112x112x3'.")
    return shape


def fail(at: Token, message: str) -> NoReturn:
    """Refuse the text, with the place."""
    raise InputError(f"line {at.line}, column {at.column}: {message}")


def nearest(text: str, known: Iterable[str], aliases: Iterable[str] = ()) -> str:
    """The end of a sentence: what may have been meant, or else what is known."""
    names = list(known)
    near = difflib.get_close_matches(text[:40].lower(), [*names, *aliases], n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(names[:40])}."


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


_TOKEN = re.compile(
    r"(?P<blank>[ \t\r\f\v]+|\#[^\n]*)"
    r"|(?P<end>[;\n])"
    r"|(?P<decimal>[0-9]+\.[0-9]+)"
    r"|(?P<size>[0-9]+(?:x[0-9]+)*)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<sign>[-/:(),])",
    re.IGNORECASE,
)
_SIZE_AT_END = re.compile(r"[0-9]+(?:x[0-9]+)*$", re.IGNORECASE)
_REPEAT = re.compile(r"x[0-9]*", re.IGNORECASE)


def _tokens(text: str) -> list[Token]:
    tokens, position, line, line_start = [], 0, 1, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        column = position - line_start + 1
        if match is None:
            sign = Token("", text[position], line, column, position)
            fail(sign, f"{text[position]!r} has no meaning here; expected a layer such as 'conv3-64' or 'maxpool'.")
        kind, content = str(match.lastgroup), match.group()
        if kind != "blank":
            tokens.append(Token(content if kind == "sign" else kind, content, line, column, position))
        position = match.end()
        if content == "\n":
            line, line_start = line + 1, position
    tokens.append(Token("end", "", line, position - line_start + 1, position))
    return tokens


def begins_with_a_layer(text: str) -> bool:
    """Whether the first word of a text is that of a layer, or one of the others that a spec may begin with."""
    letters = re.match(r"[^\W\d]*", text.strip())
    word = letters[0].lower() if letters else ""
    return ALIASES.get(word, word) in {*FORMS, *MERGING, "from", "input"}


class _Parser:
    """Recursive descent over the tokens: one method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARACTERS:
            raise InputError(f"The spec has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read.")
        self._text = text.replace("×", "x")
        self._tokens = _tokens(self._text)
        self._position = 0
        self._depth = 0
        self._labels: dict[str, Token] = {}

    # The tokens ahead.

    @property
    def _next(self) -> Token:
        return self._tokens[self._position]

    def at_end(self) -> bool:
        return self._position == len(self._tokens) - 1

    def _take(self) -> Token:
        token = self._next
        if not self.at_end():
            self._position += 1
        return token

    def _skip_ends(self) -> None:
        while self._next.kind == "end" and not self.at_end():
            self._take()

    def _found(self) -> str:
        if self.at_end():
            return "the end of the spec"
        return "the end of the line" if self._next.text == "\n" else _short(self._next.text)

    # Statements.

    def spec(self) -> tuple[Size | None, tuple[Statement, ...]]:
        self._skip_ends()
        shape = None
        if self._next.text.lower() == "input":
            self._take()
            shape = self.shape()
            self._end("';' or a new line")
        statements = self._statements()
        if not self.at_end():
            fail(self._next, "there is no '(' that this ')' would close.")
        if not statements:
            fail(self._next, "expected a layer, such as 'conv3-64' or 'maxpool'; the spec has none.")
        return shape, statements

    def shape(self) -> Size:
        shape = self._size("the extents of the input, such as '112x112x3'")
        while self._next.text.lower() == "x":
            self._take()
            shape += self._size("one more extent")
        return shape

    def _end(self, expected: str) -> None:
        if self._next.kind not in ("end", ")"):
            fail(self._next, f"{_short(self._next.text)} is not understood here; expected {expected}.")

    def _statements(self) -> tuple[Statement, ...]:
        statements = []
        self._skip_ends()
        while not self.at_end() and self._next.kind != ")":
            statements.append(self._statement())
            self._skip_ends()
        return tuple(statements)

    def _statement(self) -> Statement:
        label = self._label()
        if label and self._next.kind in ("end", ")"):
            return Statement(None, label)
        what = self._group() if self._next.kind == "(" else self._layer()
        times = self._times()
        self._end("';' or a new line")
        return Statement(what, label, times)

    def _label(self) -> Token | None:
        token = self._next
        if token.kind != "word" or self._tokens[self._position + 1].kind != ":":
            return None
        self._take()
        self._take()
        name = token.text.lower()
        if name == "input" or _REPEAT.fullmatch(name):
            fail(token, f"{token.text!r} cannot be a label, because it means something else; choose another name.")
        if name in self._labels:
            first = self._labels[name]
            fail(token, f"the label {_short(token.text)} stands already on line {first.line}, column {first.column}.")
        self._labels[name] = token
        return token

    def _group(self) -> tuple[Statement, ...]:
        opening = self._take()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            fail(opening, f"parentheses stand inside each other more than {MAX_DEPTH} deep.")
        statements = self._statements()
        if self._next.kind != ")":
            fail(self._next, f"expected ')' for the '(' on line {opening.line}, column {opening.column}.")
        self._take()
        self._depth -= 1
        return statements

    def _times(self) -> int:
        token = self._next
        if token.kind != "word" or not _REPEAT.fullmatch(token.text):
            return 1
        self._take()
        return _number(token, token.text[1:], 1) if len(token.text) > 1 else self._one_number("how often, as in 'x2'")

    # Layers.

    def _layer(self) -> Layer:
        token = self._next
        if token.kind != "word":
            fail(token, f"expected a layer, such as 'conv3-64' or 'maxpool', not {self._found()}.")
        if token.text.lower() == "input":
            fail(token, "the input is given once, at the beginning.")
        self._take()
        word, digits = _split(token.text)
        name = ALIASES.get(word.lower(), word.lower())
        if name in MERGING or name == "from":
            return self._branches(token, name)
        if name not in FORMS:
            known = ["input", *FORMS, *MERGING, "from"]
            fail(token, f"{_short(word)} is not a layer; {nearest(word, known, ALIASES)}")
        form = FORMS[name]
        size = self._size_of_layer(token, name, form, digits)
        size_after = self._widths_after() if form.size == "width" else None
        channels = self._channels(token, form, digits)
        stride = self._stride(form, name)
        head = Layer(token, name, self._typed_since(token), size, size_after, channels, stride)
        return self._with_options(head, form)

    def _typed_since(self, token: Token) -> str:
        return " ".join(self._text[token.start : self._next.start].split("#")[0].split())

    def _branches(self, token: Token, name: str) -> Layer:
        labels = []
        while self._next.kind == "word":
            labels.append(self._take())
        if not labels:
            fail(self._next, f"expected the label of a branch, as in '{name} a', not {self._found()}.")
        if name == "from" and len(labels) > 1:
            fail(labels[1], "'from' goes on from one label; expected ';' or a new line.")
        return Layer(token, name, self._typed_since(token), branches=tuple(labels))

    def _size_of_layer(self, token: Token, name: str, form: Form, digits: str) -> Size | None:
        if digits and not form.size:
            word = token.text[: -len(digits)]
            fail(token, f"{name!r} has no size; write {f'{word}-{digits}' if form.channels else word!r}.")
        least = 0 if form.size == "width" else 1
        if digits:
            return _size(token, digits, least)
        if form.size and self._next.kind == "size":
            return self._size(form.size, least)
        if form.size == "number" and self._next.kind == "decimal":
            self._take()
        elif form.size_needed:
            fail(self._next, f"expected the {form.size} of {name!r}, as in '{form.example}', not {self._found()}.")
        return None

    def _widths_after(self) -> Size | None:
        if self._next.kind != ",":
            return None
        self._take()
        return self._size("the width at the end", least=0)

    def _channels(self, token: Token, form: Form, digits: str) -> int | None:
        if self._next.kind == "-":
            if not form.channels:
                fail(self._next, f"{token.text!r} keeps its channels; expected ';' or a new line.")
            self._take()
            return self._one_number("the number of channels", hint="; to repeat a layer, leave a blank before the 'x'")
        if form.channels == "needed":
            fail(self._next, f"expected '-' and a number of channels, as in '{form.example}', not {self._found()}.")
        return None

    def _stride(self, form: Form, name: str) -> Size | None:
        if self._next.kind != "/":
            return None
        if not form.stride:
            fail(self._next, f"{name!r} has no stride; expected ';' or a new line.")
        self._take()
        return self._size("a stride")

    def _with_options(self, layer: Layer, form: Form) -> Layer:
        padding: str | tuple[Size, Size] | None = None
        share: Token | None = None
        options: dict[str, Size] = {}
        while self._next.kind == "word" and not _REPEAT.fullmatch(self._next.text):
            token = self._take()
            word, digits = _split(token.text)
            option = word.lower()
            if option not in form.options:
                hint = nearest(word, sorted(form.options)) if form.options else "expected ';' or a new line."
                if form.stride and option == "stride":
                    hint = "a stride is written '/2', before the options."
                fail(token, f"{_short(word)} is not an option of {layer.text!r}; {hint}")
            if option in options or (option in PADDING and padding) or (option == "share" and share):
                fail(
                    token,
                    f"{layer.text!r} has been given {'its padding' if option in PADDING else repr(option)} twice.",
                )
            if digits and option != "pad" and option not in _LEAST_VALUES:
                fail(token, f"{option!r} takes no number.")
            if option == "pad":
                low = _size(token, digits, 0) if digits else self._size("the padding", least=0)
                padding = (low, self._widths_after() or low)
            elif option in PADDING:
                padding = option
            elif option == "share":
                if self._next.kind != "word":
                    fail(self._next, f"expected the label of the layer whose weights are shared, not {self._found()}.")
                share = self._take()
            elif option in _LEAST_VALUES:
                least = _LEAST_VALUES[option]
                options[option] = _size(token, digits, least) if digits else self._size(f"the {option}", least)
            else:
                options[option] = ()
        return Layer(
            layer.at, layer.name, layer.text, layer.size, layer.size_after, layer.channels, layer.stride,
            padding, options, share,
        )  # fmt: skip

    # Numbers.

    def _size(self, what: str, least: int = 1) -> Size:
        if self._next.kind != "size":
            fail(self._next, f"expected {what}, not {self._found()}.")
        token = self._take()
        return _size(token, token.text, least)

    def _one_number(self, what: str, hint: str = "") -> int:
        token = self._next
        size = self._size(what)
        if len(size) > 1:
            fail(token, f"expected {what}, one number, not {_short(token.text)}{hint}.")
        return size[0]


def _split(word: str) -> tuple[str, str]:
    """A word and the size at its end: `conv3x1` is `conv` and `3x1`."""
    match = _SIZE_AT_END.search(word)
    return (word[: match.start()], match.group()) if match and match.start() else (word, "")


def _size(at: Token, text: str, least: int = 1) -> Size:
    return tuple(_number(at, digits, least) for digits in text.lower().split("x"))


def _number(at: Token, digits: str, least: int) -> int:
    # Its length is looked at first, because Python refuses to read integers of thousands of digits.
    number = int(digits) if len(digits) <= 20 else MAX_NUMBER + 1
    if not least <= number <= MAX_NUMBER:
        fail(at, f"{_short(digits)} is out of range; expected a number from {least} to {MAX_NUMBER:,}.")
    return number

"""Rows written out, features = target: `"1 2 = 3; 0 1 = 2"`."""

from __future__ import annotations

import math
import re

from thalweg.data.dataset import Dataset, pair
from thalweg.errors import InputError


def is_inline(text: str) -> bool:
    """Whether a text is meant as rows: it is made of what rows are made of, or begins with a number and has a `=`."""
    if re.fullmatch(r"[\d\s.;=,eE+-]*\d[\d\s.;=,eE+-]*", text):
        return True
    first = re.match(r"[\s;,]*([^\s;,=]*)", text)
    return "=" in text and first is not None and (first[1] == "" or is_number(first[1]))


def load_inline(text: str) -> Dataset:
    """Read rows such as `"1 2 = 3; 0 1 = 2"`; what cannot be read is refused with its row."""
    rows = text.strip().rstrip(";").split(";")
    X: list[list[float]] = []
    t: list[float] = []
    for number, row in enumerate(rows, start=1):
        features, equals, target = row.partition("=")
        if not equals:
            raise InputError(
                f"Row {number} ({row.strip()!r}) has no '='; write its features, '=' and its target, as in '1 2 = 3'."
            )
        X.append(numbers(features, f"Row {number}"))
        targets = numbers(target, f"Row {number}")
        if not X[-1]:
            raise InputError(f"Row {number} ({row.strip()!r}) has no features before its '='.")
        if len(targets) != 1:
            raise InputError(f"Row {number} ({row.strip()!r}) has {len(targets)} values after its '='; it needs one.")
        t += targets
        if len(X[-1]) != len(X[0]):
            raise InputError(f"Row {number} ({row.strip()!r}) has {len(X[-1])} features where row 1 has {len(X[0])}.")
    return pair("; ".join(" ".join(row.split()) for row in rows), X, t)


def numbers(text: str, name: str) -> list[float]:
    """Numbers written out, separated by spaces or commas, as in `"1, -2.5 3e4"`; `name` is what messages call them."""
    found = []
    for word in text.replace(",", " ").split():
        if not is_number(word):
            raise InputError(f"{name}: {word!r} is not a number.")
        if not is_finite(word):
            raise InputError(f"{name}: {word!r} is not a finite number.")
        found.append(float(word))
    return found


def number(text: str, name: str) -> float:
    """The only number of a text; `name` is what messages call it."""
    found = numbers(text, name)
    if len(found) != 1:
        raise InputError(f"{name} must be one number, but it is {text!r}.")
    return found[0]


def is_number(text: str) -> bool:
    """Whether Python reads `text` as a number, infinities and nan included."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_finite(number: str) -> bool:
    """Whether a text that `is_number` stands for a finite one."""
    return math.isfinite(float(number))

"""How messages speak of columns."""

from __future__ import annotations

from collections.abc import Sequence


def list_columns(names: Sequence[str]) -> str:
    """`column 'a'`, or `columns 'a', 'b'`; ten names at most."""
    shown = ", ".join(repr(name) for name in names[:10])
    return f"column{'s' * (len(names) > 1)} {shown}{' and others' * (len(names) > 10)}"


def them(names: Sequence[str]) -> str:
    """The pronoun for one column or several."""
    return "them" if len(names) > 1 else "it"

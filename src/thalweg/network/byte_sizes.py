"""Amounts of memory, as people write and read them.

>>> parse_bytes("24GiB")
25769803776
>>> written_bytes(25769803776)
'24 GiB'
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from fractions import Fraction

from thalweg.errors import InputError

_BINARY = ("KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("KB", "MB", "GB", "TB", "PB")
MAX_BYTES = 1 << 60
"""No amount is larger, so that products with sizes of arrays stay whole numbers everywhere."""
UNITS: Mapping[str, int] = {
    "B": 1,
    "bytes": 1,
    **{unit: 1024**power for power, unit in enumerate(_BINARY, start=1)},
    **{unit: 1000**power for power, unit in enumerate(_DECIMAL, start=1)},
}
"""Bytes in each unit: 1 GiB is 1024 MiB, what GPUs are sold by; 1 GB is 1000 MB."""

_AMOUNT = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([A-Za-z]\w*|)\s*", re.ASCII)


def parse_bytes(amount: str | int) -> int:
    """An amount of memory in bytes.

    Args:
        amount: a whole number of bytes, or a text such as `"24GiB"`, `"1.5 GB"`, `"80 gib"` or `"65536"`.

    Raises:
        InputError: it is neither, its unit is not known, or it is less than one byte or more than 1024 PiB.
    """
    if isinstance(amount, str):
        number = _parsed(amount)
    else:
        try:
            number = operator.index(amount)
        except TypeError:
            raise InputError(f"{amount!r} is not an amount of memory; write one such as '24GiB'.") from None
        if number < 1:
            raise InputError(f"{number:,} bytes is not an amount of memory; give at least one byte.")
    if number > MAX_BYTES:
        raise InputError(f"{amount!r} is more memory than there is; give at most 1024 PiB.")
    return number


def _parsed(text: str) -> int:
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise InputError(f"{text[:60]!r} is not an amount of memory; write one such as '24GiB'.")
    number, unit = found.groups()
    factors = {name.lower(): factor for name, factor in UNITS.items()}
    if (unit or "bytes").lower() not in factors:
        raise InputError(f"{unit!r} in {text[:60]!r} is not a unit of memory; known: {', '.join(UNITS)}.")
    whole: int = math.floor(Fraction(number) * factors[(unit or "bytes").lower()])
    if whole < 1:
        raise InputError(f"{text[:60]!r} is less than one byte of memory; write an amount such as '24GiB'.")
    return whole


def written_bytes(count: int) -> str:
    """A number of bytes to three digits or more, in the largest unit of which there is at least one when it is rounded.

    >>> [written_bytes(count) for count in (0, 1023, 1536, 102_228_128, 2**30 - 1, 10**15)]
    ['0 B', '1,023 B', '1.5 KiB', '97.5 MiB', '1 GiB', '909 TiB']
    """
    power = max(0, min(len(_BINARY), (abs(count).bit_length() - 1) // 10))
    if power == 0:
        return f"{count:,} B"
    if power < len(_BINARY) and round(abs(count) / 1024**power) == 1024:
        power += 1
    value = count / 1024**power
    digits = f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
    return f"{digits} {_BINARY[power - 1]}"

"""Amounts of memory in words and back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.network.byte_sizes import parse_bytes, written_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("24GiB", 24 * 2**30),
        (" 1.5 GB ", 1_500_000_000),
        ("80 gib", 80 * 2**30),
        ("512KiB", 2**19),
        ("10 MB", 10**7),
        ("65536", 65536),
        ("7 bytes", 7),
        (4096, 4096),
        ("0.1GiB", 107_374_182),
    ],
)
def test_amounts_are_read_exactly(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("amount", "sentence"),
    [
        ("24 gigs", "'gigs' in '24 gigs' is not a unit of memory; known: B, bytes, KiB, MiB, GiB"),
        ("lots", "'lots' is not an amount of memory; write one such as '24GiB'."),
        ("-3GiB", "'-3GiB' is not an amount of memory"),
        ("1e9", "'e9' in '1e9' is not a unit of memory"),
        ("", "'' is not an amount of memory"),
        ("0GiB", "'0GiB' is less than one byte of memory"),
        ("9" * 30 + "GiB", "is not an amount of memory"),
        ("nan", "'nan' is not an amount"),
        (0, "0 bytes is not an amount of memory; give at least one byte."),
        (2.5, "2.5 is not an amount of memory"),
        (None, "None is not an amount of memory"),
        ("2000PiB", "'2000PiB' is more memory than there is; give at most 1024 PiB."),
    ],
)
def test_what_is_no_amount_gets_one_sentence(amount, sentence):
    with pytest.raises(InputError) as caught:
        parse_bytes(amount)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers(0, 2**60))
@example(2**50 - 2**30)
@example(1023 * 2**30 + 2**29)
@example(int(999.6 * 2**20))
def test_what_is_written_reads_as_about_the_same(count):
    text = written_bytes(count)
    if count:
        assert parse_bytes(text.replace(",", "")) == pytest.approx(count, rel=0.006)
    number, unit = text.split()
    assert float(number.replace(",", "")) < 1024 + (unit == "PiB")
